//! Are the promises kept by a disk that stays broken, or full?

use backlog::testing::{Fault, SimDisk};
use backlog::{Durability, Error, GroupOptions, Options};

use crate::crash::seeds;
use crate::ledger::{End, Verdict};
use crate::script::{Run, Trouble};
use crate::step::Step;
use crate::watch;
use crate::workloads::{self, Workload};

/// Runs a workload whose disk changes before step `from`; checks what a power cut leaves.
fn from_step(workload: &Workload, from: usize, change: fn(&SimDisk)) -> Verdict<Run> {
    let mut run = Run::new(workload.setup, Trouble::None);
    for (index, &step) in workload.steps.iter().enumerate() {
        if index == from {
            change(&run.disk);
        }
        run.step(step)?;
    }
    for seed in 0..seeds(4) {
        let disk = run.disk.crash(seed);
        let checked = run.ledger.check(&disk, &run.options(), End::PowerCut);
        checked.map_err(|broken| format!("seed {seed}: {broken}"))?;
    }
    Ok(run)
}

fn from_every_step(workload: &Workload, change: fn(&SimDisk), then: fn(Run) -> Verdict) {
    for from in 0..workload.steps.len() {
        let state = format!("{}, from step {from} on", workload.name);
        let _watched = watch::over(&state);
        let outcome = from_step(workload, from, change).and_then(then);
        outcome.unwrap_or_else(|broken| panic!("{state}: {broken}"));
    }
}

#[test]
fn a_disk_whose_syncs_fail_for_ever_loses_nothing_acknowledged() {
    for workload in [workloads::everything(), workloads::rolls(), workloads::unmapped()] {
        from_every_step(&workload, |disk| disk.break_syncs(true), |_| Ok(()));
    }
}

/// Makes room and pushes: without reopening, if the queue is open.
fn goes_on_with_room(mut run: Run) -> Verdict {
    run.disk.budget(None);
    run.disk.full_at_sync(false);
    let Some(queue) = run.queue().cloned() else { return Ok(()) };
    queue.push("there is room again").map_err(|error| format!("with room again: {error}"))?;
    drop(queue);
    run.close();
    Ok(())
}

#[test]
fn a_full_disk_loses_nothing_and_goes_on_when_there_is_room() {
    for workload in [workloads::everything(), workloads::rolls(), workloads::unmapped()] {
        from_every_step(&workload, |disk| disk.budget(Some(0)), goes_on_with_room);
        from_every_step(&workload, |disk| disk.budget(Some(10_000)), goes_on_with_room);
    }
}

#[test]
fn acks_go_on_when_pushes_find_the_disk_full() {
    for level in [Durability::Synced, Durability::Buffered] {
        let disk = SimDisk::new(1);
        let queue =
            Options::new("jobs").sim_disk(&disk).segment_bytes(8 << 10).threads(false).open().unwrap();
        let group = queue.create_group("g", GroupOptions::new().ack_durability(level)).unwrap();
        queue.push_batch((0..50).map(|number| number.to_string())).unwrap();
        let jobs = group.consumer().recv_batch(25, std::time::Duration::ZERO).unwrap();
        disk.budget(Some(0));

        let refused = (0..100).find_map(|_| queue.push([7; 500].as_slice()).err()).unwrap();

        assert!(refused.is_full(), "{refused}");
        jobs.into_iter().for_each(|job| job.ack().unwrap());
        for _ in 0..25 {
            group.consumer().try_recv().unwrap().unwrap().ack().unwrap();
        }
        disk.budget(None);
        queue.push("there is room again").unwrap();
        queue.close().unwrap();
    }
}

#[test]
fn a_message_that_only_the_full_disk_kept_out_is_pushed_later_by_the_same_call() {
    let mut run = Run::new(workloads::rolls().setup, Trouble::None);
    run.step(Step::Create { group: "g", synced: true }).unwrap();
    run.disk.budget(Some(0));
    for _ in 0..20 {
        run.step(Step::Push { synced: true, length: 900 }).unwrap();
    }
    assert!(run.failed);
    run.disk.budget(None);
    run.failed = false;

    for _ in 0..20 {
        run.step(Step::Push { synced: true, length: 900 }).unwrap();
    }

    assert!(!run.failed);
    run.ledger.check(&run.disk.crash(0), &run.options(), End::PowerCut).unwrap();
}

/// A group's file was poisoned after a buffered ack had been told. `sync` skipped the group and said
/// that all was on stable storage; a power cut brought the message back.
#[test]
fn issue_3_a_sync_does_not_pass_over_a_poisoned_group() {
    let disk = SimDisk::new(1);
    disk.no_mappings(true);
    let queue = Options::new("jobs").sim_disk(&disk).threads(false).open().unwrap();
    let consumer = queue.consumer().unwrap();
    queue.push_batch(["a", "b"]).unwrap();
    let (first, second) = (consumer.recv().unwrap(), consumer.recv().unwrap());
    first.ack().unwrap();
    disk.fail(disk.ops() + 1, Fault::Io);
    second.ack().unwrap_err();

    let synced = queue.sync();

    synced.expect_err("the first ack is on no stable storage");
}

/// A group's creation failed and was in doubt; its removal then said that there is no such group. The
/// next opening found it: the slot that names it had reached the disk.
#[test]
fn issue_4_a_group_whose_creation_is_in_doubt_is_not_said_to_be_gone() {
    let mut doubts = 0;
    for op in 1..40 {
        let disk = SimDisk::new(1);
        let queue = Options::new("jobs").sim_disk(&disk).threads(false).open().unwrap();
        disk.fail(disk.ops() + op, Fault::Short);
        let Err(Error::Poisoned { .. }) = queue.create_group("g", GroupOptions::new()) else { continue };

        let removed = queue.remove_group("g");

        assert!(matches!(removed, Err(Error::Poisoned { .. })), "operation {op}: {removed:?}");
        doubts += 1;
    }
    assert!(doubts > 0, "no failure of a creation is in doubt");
}

/// Where a write of an entry finds no room (btrfs), the group is not to be trusted until it is opened
/// again. Its ack said `Full`, which promises that the same call works again; it never did.
#[test]
fn issue_4_an_ack_that_finds_no_room_says_that_the_queue_is_to_be_opened_again() {
    let disk = SimDisk::new(1);
    disk.no_mappings(true);
    let queue = Options::new("jobs").sim_disk(&disk).threads(false).open().unwrap();
    queue.push_batch(["a", "b"]).unwrap();
    let consumer = queue.consumer().unwrap();
    let (first, second) = (consumer.recv().unwrap(), consumer.recv().unwrap());
    disk.fail(disk.ops() + 1, Fault::Full);

    let answers = [first.ack(), second.ack(), consumer.try_recv().map(drop)];

    for answer in answers {
        assert!(matches!(answer, Err(backlog::Error::Poisoned { .. })), "{answer:?}");
    }
    queue.close().unwrap_err();
    let queue = Options::new("jobs").sim_disk(&disk.kill()).threads(false).open().unwrap();
    assert_eq!(queue.consumer().unwrap().recv().unwrap().payload(), b"a");
}
