//! Is nothing lost when segments are given up, wherever that stops or fails?

use std::collections::BTreeSet;

use backlog::testing::{Fault, ManualClock, Plant, SimDisk, plant};
use backlog::{Durability, GroupOptions, Options, Queue, Start};

use crate::watch;

/// All that is unsynced lost, all kept, mixtures.
const SEEDS: [u64; 6] = [0, 1, 3, 4, 5, 6];
const MESSAGES: u64 = 40;
/// Of each group, those below are acked before segments are given up.
const DONE: [(&str, Durability, u64); 2] =
    [("synced", Durability::Synced, 33), ("buffered", Durability::Buffered, 24)];

fn options(disk: &SimDisk, clock: &ManualClock) -> Options {
    Options::new("jobs").sim_disk(disk).manual_clock(clock).threads(false).segment_bytes(8192)
}

/// A queue of many segments, of which two groups have done a part each.
fn prepared() -> (SimDisk, ManualClock, Queue) {
    let (disk, clock) = (SimDisk::new(1), ManualClock::new(1_700_000_000_000));
    let queue = options(&disk, &clock).open().unwrap();
    for (name, durability, _) in DONE {
        queue.create_group(name, GroupOptions::new().ack_durability(durability)).unwrap();
    }
    for number in 0..MESSAGES {
        queue.push(format!("{number:01000}")).unwrap();
    }
    for (name, _, done) in DONE {
        let jobs: Vec<_> = (0..done).map(|_| queue.group(name).unwrap().consumer().recv().unwrap()).collect();
        queue.ack_all(jobs).unwrap();
    }
    (disk, clock, queue)
}

fn numbers(queue: &Queue, group: &str) -> Result<Vec<u64>, String> {
    let consumer = queue.group(group).unwrap().consumer();
    let mut numbers = Vec::new();
    while let Some(job) = consumer.try_recv().map_err(|error| format!("receive in {group}: {error}"))? {
        numbers.push(std::str::from_utf8(job.payload()).unwrap().parse().unwrap());
        job.ack().unwrap();
    }
    Ok(numbers)
}

/// What must hold after any end: nobody misses a message, what was durably done comes no more, and the log
/// has lost its oldest segments or none.
fn check(disk: &SimDisk, clock: &ManualClock) -> Result<(), String> {
    let clock = ManualClock::new(clock.shows());
    let queue = options(disk, &clock).open().map_err(|error| format!("the opening failed: {error}"))?;
    let found = queue.recovery();
    if !found.damaged.is_empty() || !found.lost.is_empty() || !found.refused_groups.is_empty() {
        return Err(format!("found {found:?}"));
    }
    queue.create_group("whole", GroupOptions::new().start(Start::Beginning)).unwrap();
    let log = numbers(&queue, "whole")?;
    // One may have been pushed since.
    let end = log.last().map_or(0, |last| last + 1);
    if !(MESSAGES..=MESSAGES + 1).contains(&end) || log.windows(2).any(|pair| pair[0] + 1 != pair[1]) {
        return Err(format!("the log has {log:?}"));
    }
    for (name, durability, done) in DONE {
        let came: BTreeSet<u64> = numbers(&queue, name)?.into_iter().collect();
        if let Some(missed) = (done..end).find(|number| !came.contains(number)) {
            return Err(format!("{missed} does not come to {name}"));
        }
        if durability == Durability::Synced && came.iter().any(|&number| number < done) {
            return Err(format!("{name} gets {came:?} again"));
        }
        // Acks that were not durable may be gone; then their messages must be there.
        let first = came.first().copied().unwrap_or(end);
        if (first..end).any(|number| !came.contains(&number)) {
            return Err(format!("{name} misses some of {came:?}"));
        }
    }
    let offset = queue.push("fresh").map_err(|error| format!("a push failed: {error}"))?;
    if offset.get() < MESSAGES {
        return Err(format!("offset {offset} is given again"));
    }
    queue.close().map_err(|error| format!("the close failed: {error}"))
}

/// Stops the disk after each operation of giving up, and lets it crash in each way.
fn crash_everywhere() -> Result<u32, String> {
    let (disk, _, queue) = prepared();
    let first = disk.ops();
    queue.run_duties().unwrap();
    let last = disk.ops();
    let mut states = 0;
    for op in first..=last {
        let _watched = watch::over(format!("giving up, crash after operation {op}"));
        let (disk, clock, queue) = prepared();
        disk.stop_after(op);
        let _ = queue.run_duties();
        for seed in SEEDS {
            check(&disk.crash(seed), &clock).map_err(|broken| format!("op {op}, seed {seed}: {broken}"))?;
            states += 1;
        }
        check(&disk.kill(), &clock).map_err(|broken| format!("op {op}, killed: {broken}"))?;
        states += 1;
    }
    Ok(states)
}

#[test]
fn giving_up_segments_loses_nothing_at_a_crash_after_every_operation() {
    let states = crash_everywhere().unwrap_or_else(|broken| panic!("{broken}"));

    println!("giving up: {states} crash states");
    assert!(states > 100, "{states}");
}

#[test]
fn giving_up_segments_loses_nothing_when_any_operation_of_it_fails() {
    let (disk, _, queue) = prepared();
    let first = disk.ops();
    queue.run_duties().unwrap();
    let last = disk.ops();
    for op in first + 1..=last {
        for fault in [Fault::Io, Fault::Full, Fault::SyncLost] {
            let _watched = watch::over(format!("giving up, {fault:?} at operation {op}"));
            let (disk, clock, queue) = prepared();
            disk.fail(op, fault);
            let _ = queue.run_duties();
            // It goes on, or says why not; what is there then is whole, closed or killed.
            let _ = queue.push(format!("{MESSAGES:01000}"));
            let _ = queue.run_duties();
            check(&disk.kill(), &clock)
                .unwrap_or_else(|broken| panic!("{fault:?} at {op}, killed: {broken}"));
            let _ = queue.close();
            check(&disk.crash(0), &clock)
                .unwrap_or_else(|broken| panic!("{fault:?} at {op}, closed: {broken}"));
        }
    }
}

#[test]
fn segments_given_up_too_early_are_found() {
    for bug in [Plant::FreedOnUnsynced, Plant::FreedBeforeSlot] {
        let _planted = plant(bug);

        let found = crash_everywhere();

        println!("{bug:?}: {found:?}");
        assert!(found.is_err(), "{bug:?}");
    }
}
