//! Are the promises kept by all short sequences of steps, whatever operation ends or fails in them?
//!
//! Every sequence of one, two and three steps, from each of a few beginnings: with a crash at every
//! operation of its last step (those of earlier steps are the last ones of shorter sequences), and
//! with a failure of every operation, and of every read (of three steps, in the last one). Crashes
//! after a failure are sampled by seed.
//!
//! `BACKLOG_SEQUENCES=3` takes sequences of so many steps in full; by default longer ones than two
//! are sampled. `BACKLOG_STATE=torn/0.22.5:14:1` runs one state again.

use std::time::Instant;

use backlog::testing::{Fault, Plant, plant};

use crate::beginnings::{BEGINNINGS, Beginning, STEPS};
use crate::dice::Dice;
use crate::ledger::{End, Ledger, Verdict};
use crate::script::{Left, Run, Trouble};
use crate::step::Step;
use crate::watch;

/// Steps, by their numbers in the alphabet.
type Sequence = Vec<usize>;

fn named(name: &str, sequence: &[usize]) -> String {
    let steps: Vec<String> = sequence.iter().map(usize::to_string).collect();
    format!("{name}/{}", steps.join("."))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// How one sequence goes without trouble.
struct Course {
    /// Operations and reads that were done when the steps begin, and after each.
    ops: Vec<u64>,
    reads: Vec<u64>,
    /// For each operation, the faults that make a difference to it.
    faults: Vec<(u64, &'static [Fault])>,
    run: Run,
}

/// Runs a sequence without trouble; `keep` tells at which ends of its last step it is to be kept.
fn course(beginning: &Beginning, sequence: &[usize], keep: Option<&[u64]>) -> Verdict<Course> {
    let mut run = beginning.begin(Trouble::None)?;
    let (mut ops, mut reads) = (vec![run.ops()], vec![run.reads()]);
    let mut faults = Vec::new();
    for (index, &step) in sequence.iter().enumerate() {
        if let Some(seeds) = keep.filter(|_| index + 1 == sequence.len()) {
            run.disk.keep_ends(seeds);
        }
        let (disk, before) = (run.disk.clone(), run.ops() - run.disk.ops());
        run.step(STEPS[step]).map_err(|broken| format!("{:?}: {broken}", STEPS[step]))?;
        if run.failed {
            return Err(format!("{:?} failed without trouble", STEPS[step]));
        }
        let last = before + disk.ops();
        faults.extend((ops[index] + 1..=last).map(|op| (op, disk.faults(op - before))));
        ops.push(run.ops());
        reads.push(run.reads());
    }
    Ok(Course { ops, reads, faults, run })
}

fn judge(ledger: &Ledger, left: &Left, run: &Run) -> Verdict {
    let end = if left.seed.is_some() { End::PowerCut } else { End::Killed };
    // A copy: an end may be looked at twice.
    ledger.check(&left.disk.kill(), &run.options(), end).map(|_| ())
}

/// Ends at every operation of the last step, and after it; returns how many states were checked.
fn crash_in_last(beginning: &Beginning, sequence: &[usize], only: Option<(u64, &str)>) -> Verdict<u64> {
    // Another mixture for each sequence.
    let mixed =
        3 + sequence.iter().fold(beginning.name.len() as u64, |sum, &step| sum * 31 + step as u64) % 997;
    let mut course = course(beginning, sequence, Some(&[0, 1, mixed]))?;
    let run = &mut course.run;
    let before = course.ops[sequence.len() - 1];
    let killed = sequence.last().is_some_and(|&last| STEPS[last] == Step::Kill);
    if run.ops() == before && run.ends.is_empty() && !killed {
        // Nothing was done: the states are those of the shorter sequence.
        return Ok(0);
    }
    let mut ends = std::mem::take(&mut run.ends);
    // The answer of the last call has been heard.
    let ledger = std::sync::Arc::new(run.ledger.clone());
    for seed in [Some(0), Some(1), Some(mixed), None] {
        let (op, ledger) = (run.ops(), ledger.clone());
        let disk = seed.map_or_else(|| run.disk.kill(), |seed| run.disk.crash(seed));
        ends.push(Left { op, seed, disk, ledger });
    }
    let mut states = 0;
    for left in &ends {
        let seed = left.seed.map_or("kill".to_owned(), |seed| seed.to_string());
        if only.is_some_and(|wanted| wanted != (left.op, &seed)) {
            continue;
        }
        let state = format!("BACKLOG_STATE={}:{}:{seed}", named(beginning.name, sequence), left.op);
        let _watched = watch::over(&state);
        judge(&left.ledger, left, run).map_err(|broken| format!("{state}: {broken}"))?;
        states += 1;
    }
    Ok(states)
}

/// The name of a fault, in a state.
fn word(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Fail(_, Fault::Io) => "io",
        Trouble::Fail(_, Fault::Full) => "full",
        Trouble::Fail(_, Fault::Short) => "short",
        Trouble::Fail(_, Fault::SyncLost) => "lost",
        Trouble::FailRead(_, Fault::Short) => "short-read",
        Trouble::FailRead(..) => "bad-read",
        _ => "none",
    }
}

/// Every failure that a sequence can meet in its steps.
fn troubles(course: &Course) -> Vec<(u64, Trouble)> {
    let mut troubles = Vec::new();
    for &(op, faults) in &course.faults {
        troubles.extend(faults.iter().map(|&fault| (op, Trouble::Fail(op, fault))));
    }
    // A read that fails changes nothing on the disk: of three steps, the last one's are enough.
    let steps = course.reads.len() - 1;
    let first = if steps < 3 { course.reads[0] } else { course.reads[steps - 1] };
    for read in first + 1..=course.reads[steps] {
        troubles.extend([Fault::ReadIo, Fault::Short].map(|fault| (read, Trouble::FailRead(read, fault))));
    }
    troubles
}

/// Fails every operation and every read; returns how many states were checked.
fn fail_anywhere(beginning: &Beginning, sequence: &[usize], only: Option<(u64, &str)>) -> Verdict<u64> {
    let mut states = 0;
    for (at, trouble) in troubles(&course(beginning, sequence, None)?) {
        if only.is_some_and(|wanted| wanted != (at, word(trouble))) {
            continue;
        }
        let state = format!("BACKLOG_STATE={}:{at}:{}", named(beginning.name, sequence), word(trouble));
        let _watched = watch::over(&state);
        states += fail(beginning, sequence, trouble).map_err(|broken| format!("{state}: {broken}"))?;
    }
    Ok(states)
}

fn fail(beginning: &Beginning, sequence: &[usize], trouble: Trouble) -> Verdict<u64> {
    let mut run = beginning.begin(trouble)?;
    let mut failed_before = false;
    for &step in sequence {
        failed_before = run.failed;
        run.step(STEPS[step]).map_err(|broken| format!("{:?}: {broken}", STEPS[step]))?;
    }
    // Where it failed earlier, what a crash right after that leaves is a shorter sequence's state.
    let seeds: &[u64] = if failed_before { &[3] } else { &[0, 1, 3] };
    for &seed in seeds {
        let checked = run.ledger.check(&run.disk.crash(seed), &run.options(), End::PowerCut);
        checked.map_err(|broken| format!("at the end, seed {seed}: {broken}"))?;
    }
    run.close();
    let checked = run.ledger.check(&run.disk.crash(0), &run.options(), End::PowerCut);
    checked.map_err(|broken| format!("closed, seed 0: {broken}"))?;
    Ok(seeds.len() as u64 + 1)
}

/// A failure, and then an end at any operation of what follows: one of them, drawn by the seed.
fn fail_and_crash(beginnings: &[Beginning], seed: u64) -> Verdict<u64> {
    let mut dice = Dice(seed);
    let mut draw = |count: usize| usize::try_from(dice.below(count.max(1) as u64)).unwrap_or(0);
    let beginning = &beginnings[draw(beginnings.len())];
    let sequence: Sequence = (0..3).map(|_| draw(STEPS.len())).collect();
    let troubles = troubles(&course(beginning, &sequence, None)?);
    if troubles.is_empty() {
        return Ok(0);
    }
    let (at, trouble) = troubles[draw(troubles.len())];
    let story = format!("{}, {at} {}", named(beginning.name, &sequence), word(trouble));
    let mut run = beginning.begin(trouble)?;
    run.disk.keep_ends(&[0, 1, 3 + seed]);
    for &step in &sequence {
        run.step(STEPS[step]).map_err(|broken| format!("{story}: {:?}: {broken}", STEPS[step]))?;
    }
    run.close();
    let ends = std::mem::take(&mut run.ends);
    let behind: Vec<&Left> =
        ends.iter().filter(|left| matches!(trouble, Trouble::FailRead(..)) || left.op >= at).collect();
    let most = 8.min(behind.len());
    for _ in 0..most {
        let left = behind[draw(behind.len())];
        // What a failed sync gave up is gone, though it was told as buffered.
        let mut ledger = (*left.ledger).clone();
        ledger.buffered_is_in_doubt();
        judge(&ledger, left, &run)
            .map_err(|broken| format!("{story}, end at {} {:?}: {broken}", left.op, left.seed))?;
    }
    Ok(most as u64)
}

/// Calls `each` with every sequence of one to `longest` steps, and a sample of those of three.
fn sequences(longest: u64, sample: u64, mut each: impl FnMut(&[usize])) {
    let count = STEPS.len();
    for length in 1..=u32::try_from(longest).unwrap_or(3) {
        for mut rest in 0..count.pow(length) {
            let mut sequence = Sequence::new();
            for _ in 0..length {
                sequence.push(rest % count);
                rest /= count;
            }
            each(&sequence);
        }
    }
    let mut dice = Dice(sample);
    for _ in 0..if longest < 3 { sample } else { 0 } {
        let step = |_| usize::try_from(dice.below(count as u64)).unwrap_or(0);
        each(&(0..3).map(step).collect::<Sequence>());
    }
}

type Check = fn(&Beginning, &[usize], Option<(u64, &str)>) -> Verdict<u64>;

/// Checks all sequences from one beginning, or the one state that is wanted.
fn all(beginning: &str, check: Check, longest: u64, sample: u64) {
    let beginning = BEGINNINGS.iter().find(|known| known.0 == beginning).unwrap().1().unwrap();
    if let Ok(state) = std::env::var("BACKLOG_STATE") {
        run_again(&beginning, check, &state);
        return;
    }
    let begun = Instant::now();
    let (mut count, mut states) = (0_u64, 0);
    let longest = number("BACKLOG_SEQUENCES").unwrap_or(longest);
    sequences(longest, sample * number("BACKLOG_TIMES").unwrap_or(1), |sequence| {
        count += 1;
        states += check(&beginning, sequence, None)
            .unwrap_or_else(|broken| panic!("{}: {broken}", named(beginning.name, sequence)));
    });
    println!("{}: {count} sequences, {states} states in {:?}", beginning.name, begun.elapsed());
}

fn run_again(beginning: &Beginning, check: Check, state: &str) {
    let mut parts = state.split(':');
    let (sequence, op, what) = (parts.next(), parts.next(), parts.next());
    let (Some(sequence), Some(op), Some(what)) = (sequence, op, what) else { return };
    let Some((name, steps)) = sequence.split_once('/').filter(|(name, _)| *name == beginning.name) else {
        return;
    };
    let steps: Sequence = steps.split('.').map(|step| step.parse().unwrap()).collect();
    let told: Vec<Step> = steps.iter().map(|&step| STEPS[step]).collect();
    eprintln!("{name}: {told:?}");
    let checked = check(beginning, &steps, Some((op.parse().unwrap(), what)));
    println!("{} states", checked.unwrap_or_else(|broken| panic!("{broken}")));
}

/// Two tests for each beginning: they run side by side.
macro_rules! from_each_beginning {
    ($($name:ident: $longest:literal, $sample:literal, $longest_failing:literal, $sample_failing:literal;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn short_sequences_survive_a_crash_at_every_operation() {
                all(stringify!($name), crash_in_last, $longest, $sample);
            }

            #[test]
            fn short_sequences_survive_a_failure_of_every_operation() {
                all(stringify!($name), fail_anywhere, $longest_failing, $sample_failing);
            }
        })*

        #[test]
        fn every_beginning_is_tried() {
            let tried = [$(stringify!($name)),*];
            assert_eq!(BEGINNINGS.map(|(name, _)| name), tried);
        }
    };
}

from_each_beginning! {
    fresh: 2, 100, 1, 40;
    used: 2, 100, 1, 40;
    killed: 2, 100, 1, 40;
    torn: 2, 100, 1, 40;
    rolling: 2, 100, 1, 40;
    switching: 1, 60, 1, 10;
}

#[test]
fn a_crash_after_a_failure_breaks_no_promise() {
    let beginnings: Vec<Beginning> = BEGINNINGS.iter().map(|(_, make)| make().unwrap()).collect();
    let begun = Instant::now();
    let seeds = match number("BACKLOG_SEED") {
        Some(one) => one..one + 1,
        None => 0..number("BACKLOG_SEEDS").unwrap_or(300),
    };
    let mut states = 0;
    for seed in seeds {
        let _watched = watch::over(format!("BACKLOG_SEED={seed}"));
        states += fail_and_crash(&beginnings, seed)
            .unwrap_or_else(|broken| panic!("BACKLOG_SEED={seed}: {broken}"));
    }
    println!("{states} states of a crash after a failure in {:?}", begun.elapsed());
}

/// Whether some sequence of up to two steps from there finds a planted bug.
fn finds(beginning: &str, check: Check, bug: Plant) -> Option<String> {
    let beginning = BEGINNINGS.iter().find(|known| known.0 == beginning)?.1().ok()?;
    let _planted = plant(bug);
    let mut found = None;
    sequences(2, 0, |sequence| {
        if found.is_none() {
            found = check(&beginning, sequence, None).err();
        }
    });
    found
}

#[test]
fn short_sequences_find_planted_bugs() {
    let answered = finds("used", crash_in_last, Plant::AnswerBeforeSync);
    let marked = finds("rolling", crash_in_last, Plant::MarkBeforeSync);
    let unzeroed = finds("used", fail_anywhere, Plant::NotZeroed);

    for (found, promise) in [(answered, "P1"), (marked, "P7"), (unzeroed, "had no effect")] {
        let found = found.expect("the planted bug is not found");
        println!("found: {found}");
        assert!(found.contains(promise), "not what the bug breaks: {found}");
    }
}
