//! Are the promises kept by steps in any order, reopening, kills and power cuts among them?
//!
//! `BACKLOG_SEEDS=10000` tries more runs, `BACKLOG_SEED=17` one.

use std::time::Instant;

use crate::choices::{fault, setup, step};
use crate::dice::Dice;
use crate::ledger::{End, Verdict};
use crate::script::{Run, Trouble};
use crate::step::Step;
use crate::watch;

fn run(seed: u64, trouble: impl FnOnce(&mut Dice) -> Trouble) -> Verdict {
    let mut dice = Dice(seed);
    let mut run = Run::new(setup(&mut dice), trouble(&mut dice));
    for group in ["synced", "buffered"] {
        run.step(Step::Create { group, synced: group == "synced" })?;
    }
    let steps = 20 + dice.below(100);
    for number in 0..steps {
        let step = step(&mut dice);
        run.step(step).map_err(|broken| format!("step {number}, {step:?}: {broken}"))?;
    }
    let disk = run.disk.crash(dice.below(100));
    run.ledger.check(&disk, &run.options(), End::PowerCut)?;
    run.close();
    let disk = run.disk.crash(dice.below(100));
    run.ledger.check(&disk, &run.options(), End::PowerCut).map(|_| ())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn all(usual: u64, trouble: impl Fn(&mut Dice) -> Trouble) {
    let begun = Instant::now();
    let seeds = match number("BACKLOG_SEED") {
        Some(one) => one..one + 1,
        None => 0..number("BACKLOG_SEEDS").unwrap_or(usual),
    };
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let _watched = watch::over(format!("BACKLOG_SEED={seed}"));
        run(seed, &trouble).unwrap_or_else(|broken| panic!("BACKLOG_SEED={seed}: {broken}"));
    }
    println!("{count} random runs in {:?}", begun.elapsed());
}

#[test]
fn random_steps_keep_every_promise() {
    all(150, |_| Trouble::None);
}

#[test]
fn random_steps_with_one_failure_keep_every_promise() {
    all(200, fault);
}
