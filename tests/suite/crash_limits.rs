//! Is nothing lost but the oldest when messages are discarded for room, wherever that stops or fails?

use backlog::testing::{Fault, ManualClock, SimDisk};
use backlog::{Durability, Error, GroupOptions, Options, Queue, WhenFull};

use crate::watch;

/// All that is unsynced lost, all kept, mixtures.
const SEEDS: [u64; 4] = [0, 1, 3, 5];
const GROUPS: [(&str, Durability); 2] = [("synced", Durability::Synced), ("buffered", Durability::Buffered)];
/// Pushed before anything is to be discarded, and with it.
const BEFORE: u64 = 40;
const AFTER: u64 = 3;

/// What limits the queue.
#[derive(Clone, Copy, Debug)]
enum Limit {
    Messages,
    Bytes,
}

fn options(disk: &SimDisk, clock: &ManualClock) -> Options {
    Options::new("jobs").sim_disk(disk).manual_clock(clock).threads(false).segment_bytes(8192)
}

/// A queue that is about full, of which two groups have done three messages each.
fn prepared(limit: Limit) -> (SimDisk, ManualClock, Queue) {
    let (disk, clock) = (SimDisk::new(1), ManualClock::new(1_700_000_000_000));
    let options = options(&disk, &clock).when_full(WhenFull::DiscardOldest);
    let queue = match limit {
        Limit::Messages => options.max_messages(BEFORE - 3),
        Limit::Bytes => options.max_bytes(64 << 10),
    };
    let queue = queue.open().unwrap();
    for (name, durability) in GROUPS {
        queue.create_group(name, GroupOptions::new().ack_durability(durability)).unwrap();
    }
    for number in 0..BEFORE {
        if number == 3 {
            for (name, _) in GROUPS {
                let worker = queue.group(name).unwrap().consumer();
                (0..3).for_each(|_| worker.recv().unwrap().ack().unwrap());
            }
        }
        queue.push(format!("{number:01000}")).unwrap();
    }
    queue.sync().unwrap();
    (disk, clock, queue)
}

/// Pushes what makes the oldest go; returns how many pushes were promised.
fn push(queue: &Queue) -> Result<u64, Error> {
    for number in 0..AFTER {
        // Long enough that both limits are felt.
        let name = BEFORE + number;
        queue.push(format!("{name:04000}"))?;
    }
    Ok(AFTER)
}

/// What must hold after any end: each group has the newest messages, in a row up to what was promised, and
/// no message that it acked durably.
fn check(disk: &SimDisk, clock: &ManualClock, promised: u64) -> Result<(), String> {
    let clock = ManualClock::new(clock.shows());
    let queue = options(disk, &clock).open().map_err(|error| format!("the opening failed: {error}"))?;
    let found = queue.recovery();
    if !found.damaged.is_empty() || !found.lost.is_empty() || !found.refused_groups.is_empty() {
        return Err(format!("found {found:?}"));
    }
    queue.push("last").map_err(|error| format!("a push failed: {error}"))?;
    for (name, _) in GROUPS {
        let worker = queue.group(name).unwrap().consumer();
        let mut came = Vec::new();
        while let Some(job) = worker.try_recv().map_err(|error| format!("receive in {name}: {error}"))? {
            came.push(String::from_utf8(job.payload().to_vec()).unwrap());
            job.ack().unwrap();
        }
        if came.pop().as_deref() != Some("last") {
            return Err(format!("{name} misses the last"));
        }
        let came: Vec<u64> = came.iter().map(|text| text.parse().unwrap()).collect();
        if came.windows(2).any(|pair| pair[0] + 1 != pair[1]) || came.first().is_some_and(|&first| first < 3)
        {
            return Err(format!("{name} gets {came:?}"));
        }
        if came.last().is_none_or(|&last| last + 1 < BEFORE + promised) {
            return Err(format!("{name} gets {came:?}, and {promised} more were promised"));
        }
    }
    queue.close().map_err(|error| format!("the close failed: {error}"))
}

fn ops(limit: Limit) -> (u64, u64) {
    let (disk, _, queue) = prepared(limit);
    let first = disk.ops();
    assert_eq!(push(&queue).unwrap(), AFTER);
    assert!(queue.stats().discarded_for_room >= AFTER, "{limit:?}: {:?}", queue.stats());
    (first, disk.ops())
}

#[test]
fn discarding_for_room_loses_nothing_but_the_oldest_at_a_crash_after_every_operation() {
    for limit in [Limit::Messages, Limit::Bytes] {
        let (first, last) = ops(limit);
        let mut states = 0;
        for op in first..=last {
            let _watched = watch::over(format!("discarding, {limit:?}, crash after operation {op}"));
            let (disk, clock, queue) = prepared(limit);
            disk.stop_after(op);
            let mut promised = 0;
            for number in 0..AFTER {
                let name = BEFORE + number;
                if queue.push(format!("{name:04000}")).is_err() {
                    break;
                }
                promised += 1;
            }
            for seed in SEEDS {
                check(&disk.crash(seed), &clock, promised)
                    .unwrap_or_else(|broken| panic!("{limit:?}, op {op}, seed {seed}: {broken}"));
                states += 1;
            }
            check(&disk.kill(), &clock, promised)
                .unwrap_or_else(|broken| panic!("{limit:?}, op {op}, killed: {broken}"));
            states += 1;
        }
        println!("discarding, {limit:?}: {states} crash states");
        assert!(states > 20, "{states}");
    }
}

#[test]
fn discarding_for_room_loses_nothing_but_the_oldest_when_any_operation_of_it_fails() {
    for limit in [Limit::Messages, Limit::Bytes] {
        let (first, last) = ops(limit);
        for op in first + 1..=last {
            for fault in [Fault::Io, Fault::Full, Fault::SyncLost] {
                let _watched = watch::over(format!("discarding, {limit:?}, {fault:?} at operation {op}"));
                let (disk, clock, queue) = prepared(limit);
                disk.fail(op, fault);
                let failed = push(&queue).is_err();
                let _ = queue.close();
                drop(queue);
                let promised = if failed { 0 } else { AFTER };
                check(&disk.crash(0), &clock, promised)
                    .unwrap_or_else(|broken| panic!("{limit:?}, {fault:?} at {op}: {broken}"));
            }
        }
    }
}
