//! Are the promises kept by steps in any order, reopening, kills and power cuts among them?
//!
//! `BACKLOG_SEEDS=10000` tries more runs, `BACKLOG_SEED=17` one.

use std::time::Instant;

use backlog::testing::Fault;

use crate::dice::Dice;
use crate::ledger::{End, Verdict};
use crate::script::{Run, SPY, Setup, Step, Trouble};
use crate::watch;

/// The next step, whatever it is.
fn draw(dice: &mut Dice) -> Step {
    let group = ["synced", "buffered", "other"][dice.size(3)];
    let synced = dice.below(2) == 0;
    let length = match dice.below(8) {
        0 => 0,
        1 => dice.size(20_000),
        _ => dice.size(900),
    };
    match dice.below(40) {
        0..10 => Step::Push { synced, length },
        10..13 => Step::Batch { synced, count: 1 + dice.size(9), length: length.min(2000) },
        13..15 => Step::Deferred { count: 1 + dice.size(5), length: length.min(2000) },
        15..20 => Step::Receive { group, count: 1 + dice.size(6) },
        20..24 => Step::Ack { group, count: 1 + dice.size(4) },
        24..26 => Step::AckAll { group },
        26 => Step::Nack { group },
        27 => Step::Reject { group },
        28 => Step::Release { group },
        29 => Step::Drop { group },
        30 => Step::Create { group, synced: group == "synced" },
        31 => {
            if dice.below(3) == 0 {
                Step::Remove { group }
            } else {
                Step::Create { group: SPY, synced: true }
            }
        }
        32 => Step::Sync,
        33 => Step::Duties,
        34 | 35 => Step::Advance { seconds: dice.below(30) },
        36 => Step::Reopen,
        37 => Step::Kill,
        _ => Step::PowerCut { seed: dice.below(1000) },
    }
}

fn run(seed: u64, trouble: impl FnOnce(&mut Dice) -> Trouble) -> Verdict {
    let mut dice = Dice(seed);
    let setup = Setup {
        segment_bytes: 4096 << (1 + dice.below(3)),
        no_mappings: dice.below(2) == 0,
        ..Setup::default()
    };
    let mut run = Run::new(setup, trouble(&mut dice));
    for group in ["synced", "buffered"] {
        run.step(Step::Create { group, synced: group == "synced" })?;
    }
    let steps = 20 + dice.below(100);
    for number in 0..steps {
        let step = draw(&mut dice);
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
    all(200, |dice| {
        let faults = [Fault::Io, Fault::Full, Fault::Short, Fault::SyncLost];
        Trouble::Fail(1 + dice.below(600), faults[dice.size(4)])
    });
}
