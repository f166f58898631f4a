//! What do the files of a group take when its load is over?

use std::time::Duration;

use backlog::testing::{Fault, ManualClock, SimDisk};
use backlog::{Consumer, Delivery, Durability, GroupOptions, Options, Queue};

use crate::watch;

const SECOND: Duration = Duration::from_secs(1);
/// A header page, a page of snapshot, and room for entries.
const SMALL: usize = (8 + 64) << 10;
const GROUP: &str = "g";

fn options(disk: &SimDisk, clock: &ManualClock) -> Options {
    Options::new("jobs").sim_disk(disk).manual_clock(clock).threads(false)
}

fn world() -> (SimDisk, ManualClock) {
    (SimDisk::new(1), ManualClock::new(1_700_000_000_000))
}

fn halves(disk: &SimDisk) -> [usize; 2] {
    [0, 1].map(|half| disk.read_file(&format!("groups/{GROUP}/{half}.offsets")).unwrap().len())
}

fn group(queue: &Queue, level: Durability) -> Consumer {
    queue.create_group(GROUP, GroupOptions::new().ack_durability(level)).unwrap().consumer()
}

/// Lends and acks so many one by one, so that the halves grow; returns the loans that are kept: each of
/// those whose number is a multiple of `keep`.
fn work(queue: &Queue, consumer: &Consumer, messages: usize, keep: usize) -> Vec<Delivery> {
    queue.push_batch((0..messages).map(|_| "x")).unwrap();
    let jobs = consumer.recv_batch(messages, Duration::ZERO).unwrap();
    assert_eq!(jobs.len(), messages);
    let (mut kept, mut number) = (Vec::new(), 0);
    for job in jobs {
        if number % keep == 0 {
            kept.push(job)
        } else {
            job.ack().unwrap()
        }
        number += 1;
    }
    kept
}

fn idle(queue: &Queue, clock: &ManualClock) {
    for _ in 0..12 {
        clock.advance(SECOND);
        queue.run_duties().unwrap();
    }
}

#[test]
fn an_idle_group_takes_little_however_much_it_once_had() {
    for level in [Durability::Synced, Durability::Buffered] {
        let (disk, clock) = world();
        let queue = options(&disk, &clock).open().unwrap();
        let consumer = group(&queue, level);
        let kept = work(&queue, &consumer, 6_000, 2);
        assert!(halves(&disk).into_iter().max() > Some(4 * SMALL), "{:?}", halves(&disk));

        idle(&queue, &clock);

        // Half of them are out: there is room to settle each of them.
        let with_loans = halves(&disk);
        queue.ack_all(kept).unwrap();
        idle(&queue, &clock);
        assert_eq!(halves(&disk), [SMALL; 2], "{level:?}, with loans {with_loans:?}");
        let ops = disk.ops();
        idle(&queue, &clock);
        assert_eq!(disk.ops(), ops, "there is nothing more to give back");
        queue.push("y").unwrap();
        assert_eq!(consumer.recv().unwrap().payload(), b"y");
    }
}

#[test]
fn a_group_that_is_opened_with_long_files_and_does_nothing_gives_them_back_too() {
    let (disk, clock) = world();
    let queue = options(&disk, &clock).open().unwrap();
    let kept = work(&queue, &group(&queue, Durability::Buffered), 6_000, 2);
    queue.ack_all(kept).unwrap();
    queue.close().unwrap();
    assert!(halves(&disk).into_iter().min() > Some(2 * SMALL));

    let queue = options(&disk, &clock).open().unwrap();
    queue.run_duties().unwrap();
    assert!(halves(&disk).into_iter().min() > Some(2 * SMALL), "not before it was idle");
    idle(&queue, &clock);

    assert_eq!(halves(&disk), [SMALL; 2]);
    drop(queue);
    let queue = options(&disk.crash(0), &clock).open().unwrap();
    assert_eq!(queue.group(GROUP).unwrap().stats().ready, 0);
}

#[test]
fn after_it_gave_room_back_on_a_full_disk_every_loan_can_still_be_settled() {
    for (level, mappings) in
        [(Durability::Synced, true), (Durability::Buffered, true), (Durability::Buffered, false)]
    {
        let (disk, clock) = world();
        let queue = options(&disk, &clock).mappings(mappings).open().unwrap();
        let consumer = group(&queue, level);
        let kept = work(&queue, &consumer, 9_000, 5);
        queue.push_batch((0..4_000).map(|_| "y")).unwrap();
        let before = halves(&disk);
        disk.budget(Some(0));

        idle(&queue, &clock);

        assert!(halves(&disk).iter().sum::<usize>() < before.iter().sum::<usize>(), "{before:?}");
        disk.budget(Some(0));
        for (number, job) in kept.into_iter().enumerate() {
            match number % 4 {
                0 => job.nack("it said no").unwrap(),
                1 => job.reject("never").unwrap(),
                2 => job.ack().unwrap(),
                _ => job.release().unwrap(),
            }
        }
        for _ in 0..4_000 {
            consumer.try_recv().unwrap().unwrap().ack().unwrap();
        }
        let left = queue.group(GROUP).unwrap().stats();
        drop((consumer, queue));
        let queue = options(&disk.kill(), &clock).open().unwrap();
        let found = queue.group(GROUP).unwrap().stats();
        assert_eq!((found.ready, found.delayed, found.dead), (left.ready, left.delayed, left.dead));
        assert_eq!(found.dead, 450);
    }
}

/// A queue whose group has long halves and some of everything in it, idle for as long as it takes.
fn prepared(level: Durability) -> (SimDisk, ManualClock, Queue, Vec<Delivery>) {
    let (disk, clock) = world();
    let queue = options(&disk, &clock).open().unwrap();
    let consumer = group(&queue, level);
    let mut kept = work(&queue, &consumer, 3_000, 1_000);
    kept.pop().unwrap().reject("never").unwrap();
    queue.sync().unwrap();
    queue.run_duties().unwrap();
    clock.advance(SECOND);
    queue.run_duties().unwrap();
    clock.advance(10 * SECOND);
    (disk, clock, queue, kept)
}

/// All but three are done, one of those is dead; the two others come again, their loans having ended.
fn check(disk: &SimDisk, clock: &ManualClock) -> Result<(), String> {
    let queue = options(disk, clock).open().map_err(|error| format!("the opening failed: {error}"))?;
    let found = queue.recovery();
    if !found.damaged.is_empty() || !found.lost.is_empty() || !found.refused_groups.is_empty() {
        return Err(format!("found {found:?}"));
    }
    let group = queue.group(GROUP).map_err(|error| error.to_string())?;
    let (ready, dead) = (group.stats().ready, group.stats().dead);
    if (ready, dead) != (2, 1) {
        return Err(format!("{ready} are ready, {dead} dead"));
    }
    for expected in [0, 1_000] {
        let job = group.consumer().try_recv().map_err(|error| error.to_string())?.ok_or("nothing comes")?;
        if job.offset().get() != expected {
            return Err(format!("{} comes for {expected}", job.offset()));
        }
        job.ack().map_err(|error| error.to_string())?;
    }
    queue.close().map_err(|error| format!("the close failed: {error}"))
}

#[test]
fn giving_room_back_loses_nothing_at_a_crash_after_every_operation() {
    for level in [Durability::Synced, Durability::Buffered] {
        let (disk, clock, queue, _kept) = prepared(level);
        let first = disk.ops();
        queue.run_duties().unwrap();
        let last = disk.ops();
        assert_eq!(halves(&disk), [SMALL; 2]);
        assert!(last - first >= 10, "{}", last - first);
        check(&disk.crash(0), &clock).unwrap();
        for op in first..=last {
            let _watched = watch::over(format!("{level:?}, crash after operation {op}"));
            let (disk, clock, queue, kept) = prepared(level);
            disk.stop_after(op);
            let _ = queue.run_duties();
            for seed in 0..8 {
                check(&disk.crash(seed), &clock).unwrap_or_else(|e| panic!("{level:?} {op} {seed}: {e}"));
            }
            check(&disk.kill(), &clock).unwrap_or_else(|e| panic!("{level:?} {op}, killed: {e}"));
            drop((queue, kept));
        }
    }
}

#[test]
fn giving_room_back_loses_nothing_when_any_operation_of_it_fails() {
    for level in [Durability::Synced, Durability::Buffered] {
        let (disk, _, queue, _kept) = prepared(level);
        let first = disk.ops();
        queue.run_duties().unwrap();
        let last = disk.ops();
        for op in first + 1..=last {
            for fault in [Fault::Io, Fault::Full, Fault::Short, Fault::SyncLost] {
                let _watched = watch::over(format!("{level:?}, {fault:?} at operation {op}"));
                let (disk, clock, queue, mut kept) = prepared(level);
                disk.fail(op, fault);
                let _ = queue.run_duties();
                check(&disk.crash(0), &clock).unwrap_or_else(|e| panic!("{level:?} {fault:?} {op}: {e}"));
                check(&disk.kill(), &clock)
                    .unwrap_or_else(|e| panic!("{level:?} {fault:?} {op}, killed: {e}"));
                // It goes on, or says that the group is poisoned.
                let acked = kept.pop().unwrap().ack();
                assert!(!acked.as_ref().is_err_and(backlog::Error::is_full), "{fault:?} {op}: {acked:?}");
                idle_or_not(&queue, &clock);
                let acked = kept.pop().unwrap().ack();
                assert!(!acked.as_ref().is_err_and(backlog::Error::is_full), "{fault:?} {op}: {acked:?}");
                drop(queue);
                options(&disk.kill(), &clock).open().unwrap().close().unwrap();
            }
        }
    }
}

fn idle_or_not(queue: &Queue, clock: &ManualClock) {
    for _ in 0..12 {
        clock.advance(SECOND);
        let _ = queue.run_duties();
    }
}
