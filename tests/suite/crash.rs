//! Are the promises kept whatever operation the crash or the fault comes at?
//!
//! Each workload runs once to count its operations, then once for each of them with the crash or
//! the fault there. `BACKLOG_SEEDS=100` tries more crashes at each, and `BACKLOG_STATE=rolls:17:3`
//! runs one state: workload, operation, seed.

use std::time::Instant;

use backlog::testing::Fault;

use crate::ledger::{End, Verdict};
use crate::script::{Run, Trouble};
use crate::watch;
use crate::workloads::{self, Workload};

/// How many seeds are tried for each operation.
pub(crate) fn seeds(usual: u64) -> u64 {
    std::env::var("BACKLOG_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// The one state that is wanted: workload, operation, seed.
fn wanted() -> Option<(String, u64, u64)> {
    let text = std::env::var("BACKLOG_STATE").ok()?;
    let mut parts = text.split(':');
    Some((parts.next()?.into(), parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Runs a workload without trouble, and returns how many operations and reads it takes.
pub(crate) fn count(workload: &Workload) -> Verdict<(u64, u64)> {
    let _watched = watch::over(format!("{}, no trouble", workload.name));
    let mut run = Run::new(workload.setup, Trouble::None);
    for &step in &workload.steps {
        run.step(step).map_err(|broken| format!("{}, no trouble, {step:?}: {broken}", workload.name))?;
        if run.failed {
            return Err(format!("{}: {step:?} failed without trouble", workload.name));
        }
    }
    let counts = (run.ops(), run.reads());
    run.close();
    run.ledger.check(&run.disk.crash(0), &run.options(), End::PowerCut)?;
    Ok(counts)
}

/// Crashes after each operation; returns how many states were checked.
pub(crate) fn crash_everywhere(workload: &Workload, most: u64, usual: u64) -> Verdict<u64> {
    let (total, _) = count(workload)?;
    let stride = if wanted().is_some() { 1 } else { total.div_ceil(most).max(1) };
    let mut states = 0;
    for op in (1..=total).step_by(usize::try_from(stride).unwrap_or(1)) {
        for seed in 0..seeds(usual) {
            if wanted().is_some_and(|state| state != (workload.name.to_owned(), op, seed)) {
                continue;
            }
            let state = format!("BACKLOG_STATE={}:{op}:{seed}", workload.name);
            let _watched = watch::over(&state);
            states += crash_at(workload, op, seed).map_err(|broken| format!("{state}: {broken}"))?;
        }
    }
    Ok(states)
}

/// Runs a workload up to an operation, and no step further.
pub(crate) fn stopped_at(workload: &Workload, op: u64) -> Verdict<Run> {
    let mut run = Run::new(workload.setup, Trouble::StopAfter(op));
    for &step in &workload.steps {
        run.step(step)?;
        if run.stopped() {
            break;
        }
    }
    Ok(run)
}

/// Seed 0 loses all that is unsynced, 1 keeps it, 2 kills the process only, others mix.
pub(crate) fn crash_at(workload: &Workload, op: u64, seed: u64) -> Verdict<u64> {
    let mut run = stopped_at(workload, op)?;
    let end = if seed == 2 { End::Killed } else { End::PowerCut };
    // The stopped disk hears nothing of what the closing does.
    run.close();
    let disk = if seed == 2 { run.disk.kill() } else { run.disk.crash(seed) };
    let found = run.ledger.check(&disk.crash(1), &run.options(), end)?;
    match seed {
        0 => run.ledger.acks_follow(&found)?,
        2 => return Ok(1),
        _ => {}
    }
    // P6: an opening that was cut short, at any operation, changes nothing.
    let cut = disk.crash(1);
    cut.stop_after(1 + (op * 7 + seed * 13) % 12);
    drop(run.options().sim_disk(&cut).threads(false).open());
    let again = run.ledger.check(&cut.crash(seed + 1), &run.options(), end)?;
    if again == found { Ok(2) } else { Err(format!("P6: first {found:?}, then {again:?}")) }
}

/// Fails each operation, and each read, in each way; returns how many states were checked.
pub(crate) fn fail_everywhere(workload: &Workload, most: u64) -> Verdict<u64> {
    let mut states = 0;
    let most = if wanted().is_some() { u64::MAX } else { most };
    for (op, trouble) in troubles(workload, most)? {
        if wanted().is_some_and(|(name, at, _)| (&name[..], at) != (workload.name, op)) {
            continue;
        }
        let state = format!("BACKLOG_STATE={}:{op}:0 {trouble:?}", workload.name);
        let _watched = watch::over(&state);
        states += fail_at(workload, trouble).map_err(|broken| format!("{state}: {broken}"))?;
    }
    Ok(states)
}

/// Returns the failures to be tried, each with its number.
pub(crate) fn troubles(workload: &Workload, most: u64) -> Verdict<Vec<(u64, Trouble)>> {
    let (ops, reads) = count(workload)?;
    let mut troubles = Vec::new();
    for op in (1..=ops).step_by(usize::try_from(ops.div_ceil(most)).unwrap_or(1).max(1)) {
        let faults = [Fault::Io, Fault::Full, Fault::Short, Fault::SyncLost];
        troubles.extend(faults.map(|fault| (op, Trouble::Fail(op, fault))));
    }
    for read in (1..=reads).step_by(usize::try_from(reads.div_ceil(most)).unwrap_or(1).max(1)) {
        troubles.extend([Fault::ReadIo, Fault::Short].map(|fault| (read, Trouble::FailRead(read, fault))));
    }
    Ok(troubles)
}

pub(crate) fn fail_at(workload: &Workload, trouble: Trouble) -> Verdict<u64> {
    let mut run = Run::new(workload.setup, trouble);
    let mut states = 0;
    for &step in &workload.steps {
        let before = run.failed;
        run.step(step).map_err(|broken| format!("{step:?}: {broken}"))?;
        if run.failed && !before {
            // The power goes right after the call that failed.
            for seed in [0, 1, 3] {
                let disk = run.disk.crash(seed);
                let checked = run.ledger.check(&disk, &run.options(), End::PowerCut);
                checked.map_err(|broken| format!("after {step:?}, seed {seed}: {broken}"))?;
                states += 1;
            }
        }
    }
    run.close();
    for seed in [0, 4] {
        let checked = run.ledger.check(&run.disk.crash(seed), &run.options(), End::PowerCut);
        checked.map_err(|broken| format!("at the end, seed {seed}: {broken}"))?;
        states += 1;
    }
    Ok(states)
}

/// Tries so many operations at the most, spread evenly, for crashes and for faults.
pub(crate) fn survives(workload: &Workload, seeds: u64, crashes: u64, faults: u64) {
    let begun = Instant::now();
    let crashed = crash_everywhere(workload, crashes, seeds).unwrap_or_else(|broken| panic!("{broken}"));
    let failed = fail_everywhere(workload, faults).unwrap_or_else(|broken| panic!("{broken}"));
    println!("{}: {crashed} crashes and {failed} faults in {:?}", workload.name, begun.elapsed());
}

#[test]
fn everything_survives_a_crash_after_every_operation() {
    survives(&workloads::everything(), 6, 1000, 1);
}

#[test]
fn everything_survives_a_failure_of_every_operation() {
    let workload = workloads::everything();
    let states = fail_everywhere(&workload, 250).unwrap_or_else(|broken| panic!("{broken}"));
    println!("{}: {states} faults", workload.name);
}

#[test]
fn without_mappings_everything_survives_too() {
    survives(&workloads::unmapped(), 4, 1000, 80);
}

#[test]
fn priorities_and_keys_survive_a_crash_and_a_failure_of_every_operation() {
    survives(&workloads::priorities(), 4, 1000, 60);
}

#[test]
fn rolls_survive_a_crash_and_a_failure_of_every_operation() {
    survives(&workloads::rolls(), 6, 1000, 150);
}

#[test]
fn openings_survive_a_crash_and_a_failure_of_every_operation() {
    survives(&workloads::reopenings(), 4, 1000, 40);
}

#[test]
fn lazy_syncs_survive_a_crash_and_a_failure_of_every_operation() {
    survives(&workloads::lazily(), 4, 1000, 40);
}

#[test]
fn what_an_opening_finds_after_a_failure_and_a_kill_survives_all_that_comes() {
    survives(&workloads::kills(), 3, 80, 15);
}

#[test]
fn entries_survive_a_crash_and_a_failure_wherever_sectors_end() {
    survives(&workloads::holes(false), 2, 60, 8);
    survives(&workloads::holes(true), 2, 40, 4);
    survives(&workloads::one_by_one(), 4, 60, 4);
}

#[test]
fn half_switches_survive_a_crash_and_a_failure_of_every_operation() {
    survives(&workloads::switches(true), 3, 60, 30);
    survives(&workloads::switches(false), 3, 60, 30);
}
