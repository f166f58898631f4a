//! What a second hostile reader tried on a group: what is decided while somebody switches halves, who
//! is woken, what is counted, and what is kept for acks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use backlog::testing::{Aim, Call, ManualClock, SimDisk};
use backlog::{Delivery, Durability, Error, Group, GroupOptions, Offset, Options, Queue, Start};

use crate::harness::{World, drain, on_both_disks};
use crate::watch;

const SECOND: Duration = Duration::from_secs(1);

fn offset(number: u64) -> Offset {
    Offset::new(number).unwrap()
}

/// Leaves the others a while, counted in turns and not by a clock.
fn turns(count: u32) {
    (0..count).for_each(|_| thread::yield_now());
}

/// A receiver switches halves, as the first entry of an opening makes it; meanwhile somebody else begins
/// `other`, and waits for the same switch. Returns what the receiver got, and what the other did.
fn while_halves_are_switched<R: Send>(
    disk: &SimDisk,
    queue: &Queue,
    group: &Group,
    other: impl FnOnce() -> R + Send,
) -> (Vec<Delivery>, R) {
    let (stalls, goes_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let hook = (stalls.clone(), goes_on.clone());
    disk.before_syncs(Some(Arc::new(move || {
        if !hook.0.swap(true, Ordering::SeqCst) {
            while !hook.1.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
    })));
    let worker = group.consumer();
    thread::scope(|scope| {
        let receiving = scope.spawn(move || worker.recv_batch(9, Duration::ZERO).unwrap());
        while !stalls.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let other = scope.spawn(other);
        turns(300);
        queue.push_batch(["new", "new", "new"]).unwrap();
        goes_on.store(true, Ordering::SeqCst);
        (receiving.join().unwrap(), other.join().unwrap())
    })
}

fn a_group_not_yet_written(round: u64) -> (SimDisk, Queue, Group) {
    let disk = SimDisk::new(round);
    let queue = Options::new("jobs").sim_disk(&disk).threads(false).open().unwrap();
    queue.push("old").unwrap();
    let group = queue.create_group("g", GroupOptions::new()).unwrap();
    (disk, queue, group)
}

/// A seek took the number that fences old loans, and then let go of the lock to make room for its entry:
/// loans that were made meanwhile were not fenced, and two loans of one message could both be acked.
#[test]
fn issue_5_a_seek_fences_the_loans_that_are_made_while_it_makes_room() {
    for round in 0..100 {
        let _watched = watch::over(format!("a seek beside a switch, round {round}"));
        let (disk, queue, group) = a_group_not_yet_written(round);

        let (first, _) =
            while_halves_are_switched(&disk, &queue, &group, || group.seek(Start::Beginning).unwrap());

        let second = group.consumer().recv_batch(9, Duration::ZERO).unwrap();
        for late in first {
            if second.iter().any(|job| job.offset() == late.offset()) {
                let answer = late.ack();
                assert!(matches!(answer, Err(Error::LeaseLost { .. })), "round {round}: {answer:?}");
            }
        }
        for answer in queue.ack_all(second).unwrap() {
            answer.unwrap();
        }
    }
}

/// A purge counted before it let go of the lock, and subtracted what was lent meanwhile: a panic, or a
/// number beyond all reason.
#[test]
fn issue_5_a_purge_counts_what_it_ends_and_not_what_is_lent_meanwhile() {
    for round in 0..100 {
        let _watched = watch::over(format!("a purge beside a switch, round {round}"));
        let (disk, queue, group) = a_group_not_yet_written(round);

        let (jobs, purged) = while_halves_are_switched(&disk, &queue, &group, || group.purge().unwrap());

        assert!(purged <= 4, "round {round}: {purged}");
        let (open, stats) = (4 - purged, group.stats());
        assert_eq!(stats.ready + stats.on_loan, open, "round {round}: {stats:?}");
        drop(jobs);
    }
}

/// Nobody else gets anything while a message is out that killed two holders. Its ack woke nobody: who
/// waited waited on, with messages there.
#[test]
fn issue_5_receivers_are_woken_when_the_message_that_is_out_alone_is_acked() {
    for round in 0..20 {
        let _watched = watch::over(format!("the ack of a message that is out alone, round {round}"));
        let world = World::simulated();
        let mut queue = world.open();
        queue.push_batch(["poison", "next"]).unwrap();
        let mut lost = Vec::new();
        for _ in 0..2 {
            lost.push(queue.consumer().unwrap().try_recv().unwrap().unwrap());
            queue = world.open_after_kill();
        }
        let worker = queue.consumer().unwrap();
        let alone = worker.try_recv().unwrap().unwrap();
        assert_eq!((alone.payload(), alone.attempt()), (&b"poison"[..], 3));

        thread::scope(|scope| {
            let receiving = scope.spawn(|| worker.recv().unwrap().payload().to_vec());
            turns(100 * round);
            alone.ack().unwrap();
            assert_eq!(receiving.join().unwrap(), b"next");
        });
        drop(lost);
    }
}

/// A loan over bytes gone bad ended, and nobody was woken: a pool that works until all is done had a
/// thread that waited for that loan for ever.
#[test]
fn issue_5_a_pool_ends_when_its_last_loan_is_over_bytes_gone_bad() {
    for round in 0..20 {
        let _watched = watch::over(format!("the last loan is over bytes gone bad, round {round}"));
        let disk = SimDisk::new(round);
        let queue = Options::new("jobs").sim_disk(&disk).threads(false).open().unwrap();
        queue.push(vec![7; 1000]).unwrap();
        let segment = disk.files().into_iter().find(|name| name.ends_with(".seg")).unwrap();
        disk.flip(&segment, (4096 + 500) * 8);
        // It is read once more before it is given up: the others come to wait meanwhile.
        disk.before(Aim::at(Call::Read, segment).lasting(), Arc::new(|| turns(200)));

        let pool = queue.consumer().unwrap().pool(3).until_idle();
        let report = pool.spawn(|_| Ok::<(), Error>(())).unwrap().join().unwrap();

        assert_eq!((report.acked, report.damaged.len()), (0, 1), "round {round}");
    }
}

/// Discards ahead of the head grew the snapshot into the room that was kept for settling loans: on a
/// full disk, acks said `Full`.
#[test]
fn issue_5_discards_on_a_full_disk_leave_the_room_that_is_kept_for_acks() {
    const LOANS: usize = 400;
    let (disk, clock) = (SimDisk::new(1), ManualClock::new(1_700_000_000_000));
    let queue = Options::new("jobs").sim_disk(&disk).manual_clock(&clock).threads(false).open().unwrap();
    queue.push_batch((0..12_000).map(|_| "x")).unwrap();
    let group = queue.create_group("g", GroupOptions::new()).unwrap();
    let jobs = group.consumer().with_lease(1000 * SECOND).recv_batch(LOANS, Duration::ZERO).unwrap();
    assert_eq!(jobs.len(), LOANS);
    disk.budget(Some(0));

    let every_other: Vec<_> = (LOANS as u64..12_000).step_by(2).map(offset).collect();
    let refused = every_other.chunks(50).any(|some| {
        let answer = group.discard(some.iter().copied());
        assert!(matches!(answer, Ok(50) | Err(Error::Full { .. })), "{answer:?}");
        answer.is_err()
    });

    assert!(refused, "there is no room for so many");
    for _ in 0..10 {
        // Each is an entry.
        jobs.iter().for_each(|job| job.extend(500 * SECOND).unwrap());
    }
    for (index, job) in jobs.into_iter().enumerate() {
        if index % 2 == 0 { job.ack().unwrap() } else { job.nack("").unwrap() }
    }
}

on_both_disks! {
    fn issue_5_what_was_discarded_before_its_turn_is_not_counted_as_ready(world: &World) {
        let queue = world.open();
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        queue.push_batch(["0", "1", "2", "3", "4", "5"]).unwrap();

        assert_eq!(group.discard([3, 5].map(offset)).unwrap(), 2);

        assert_eq!(group.stats().ready, 4);
        let worker = group.consumer();
        let first = worker.try_recv().unwrap().unwrap();
        assert_eq!(group.stats().ready, 3);
        first.ack().unwrap();
        let queue = world.open_after_kill();
        let group = queue.group("g").unwrap();
        assert_eq!(group.stats().ready, 3);
        assert_eq!(group.purge().unwrap(), 3);
        assert_eq!(group.stats().ready, 0);
        assert_eq!(drain(&group.consumer()), [""; 0]);
    }

    fn issue_5_what_is_due_counts_as_ready_though_nobody_asked_for_it(world: &World) {
        let queue = world.open();
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        queue.push("a").unwrap();
        group.consumer().try_recv().unwrap().unwrap().nack_after(SECOND, "later").unwrap();
        assert_eq!((group.stats().ready, group.stats().delayed), (0, 1));

        world.advance(2 * SECOND);

        assert_eq!((group.stats().ready, group.stats().delayed), (1, 0));
    }
}

/// After a failed sync of the log readers are shown what is durable. A message that was pushed buffered, handed out
/// and given back was looked for, not found, and taken for damaged: a dead letter, though the disk may have it.
#[test]
fn issue_6_what_comes_again_and_was_never_synced_is_no_dead_letter_when_a_sync_has_failed() {
    let disk = SimDisk::new(1);
    let open = |disk: &SimDisk| Options::new("jobs").sim_disk(disk).threads(false).open().unwrap();
    let queue = open(&disk);
    let group = queue.create_group("g", GroupOptions::new().ack_durability(Durability::Synced)).unwrap();
    queue.with_durability(Durability::Buffered).push("told").unwrap();
    group.consumer().recv().unwrap().release().unwrap();
    disk.break_syncs(true);
    assert!(queue.sync().is_err());
    disk.break_syncs(false);

    let told = group.consumer().try_recv();

    assert!(matches!(told, Err(Error::Poisoned { .. })), "{told:?}");
    assert_eq!(group.dead(), []);
    let _ = queue.close();
    // Whether or not the disk has it: whatever it has comes.
    for seed in [0, 1, 3, 4] {
        let queue = open(&disk.crash(seed));
        let group = queue.group("g").unwrap();
        assert_eq!(group.dead(), [], "{seed}");
        assert_eq!(group.consumer().try_recv().unwrap().is_some(), queue.stats().messages == 1, "{seed}");
    }
}

/// What the cache has forgotten of messages that were pushed buffered was taken for damage by whoever read it first.
#[test]
fn issue_6_what_was_never_synced_and_reads_badly_is_no_damage() {
    // Of the header nothing is left, or the record alone is bad.
    for before in [32, 0] {
        let disk = SimDisk::new(1);
        let queue = Options::new("jobs").sim_disk(&disk).threads(false).open().unwrap();
        let group = queue.create_group("g", GroupOptions::new().ack_durability(Durability::Synced)).unwrap();
        let worker = group.consumer();
        queue.push("synced").unwrap();
        worker.recv().unwrap().ack().unwrap();
        let offset = queue.with_durability(Durability::Buffered).push("told").unwrap();
        let segment = "log/000000001.seg";
        let written = disk.read_file(segment).unwrap();
        let at = written.windows(4).position(|part| part == b"told").unwrap();
        let mut forgotten = written.clone();
        forgotten[at - before..at + 4].fill(0);
        disk.write_file(segment, &forgotten);

        let told = worker.try_recv();

        assert!(matches!(told, Err(Error::Io { .. })), "{told:?}");
        assert_eq!((group.dead(), group.stats().ready), (vec![], 1));
        // It reads well once more, or is synced as it is: then it is promised, and damage is damage.
        if before > 0 {
            disk.write_file(segment, &written);
            let job = worker.recv().unwrap();
            assert_eq!((job.offset(), job.payload()), (offset, &b"told"[..]));
        } else {
            queue.sync().unwrap();
            assert!(matches!(worker.try_recv(), Err(Error::Damaged { .. })));
            assert_eq!(group.dead().len(), 1);
        }
    }
}
