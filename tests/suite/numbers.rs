//! Does any number in a file, under a good checksum, panic anything?
//!
//! Each number of each file in turn is set to the edges of what it can be, all checksums are made right,
//! and the queue is looked at, verified, opened, drained, pushed to, closed and opened once more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use backlog::testing::{ManualClock, SimDisk, bytes};
use backlog::{Durability, GroupOptions, Options, Queue};

use crate::watch;

const LIMIT: u64 = 1 << 48;
/// Bytes that the disk has room for: a file that is told to be of any length is not made so.
const ROOM: u64 = 64 << 20;
const MANIFEST: &str = "MANIFEST";
/// Bytes of a header page.
const PAGE: usize = 4096;

fn options(disk: &SimDisk) -> Options {
    let clock = ManualClock::new(1_700_000_000_000);
    Options::new("jobs").sim_disk(disk).manual_clock(&clock).threads(false).segment_bytes(8192)
}

/// A queue with two segments and a group with a past, closed or killed.
fn queue(closed: bool) -> SimDisk {
    let disk = SimDisk::new(1);
    let queue = options(&disk).open().unwrap();
    let group = GroupOptions::new().ack_durability(Durability::Synced);
    let consumer = queue.create_group("group", group).unwrap().consumer();
    for number in 0..8_u8 {
        queue.push_batch([vec![number; 900], vec![number; 9]]).unwrap();
    }
    let mut jobs = consumer.recv_batch(6, Duration::ZERO).unwrap();
    jobs.pop().unwrap().ack().unwrap();
    jobs.pop().unwrap().reject("no").unwrap();
    jobs.pop().unwrap().nack("not yet").unwrap();
    jobs.pop().unwrap().release().unwrap();
    if closed {
        drop(jobs);
        queue.close().unwrap();
        return disk;
    }
    let killed = disk.kill();
    drop((jobs, queue));
    killed
}

/// Where numbers stand in a file: places that say the same, and how many bytes each has.
fn numbers(name: &str, bytes: &[u8]) -> Vec<(Vec<usize>, usize)> {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let in_header = |at: usize| (vec![at, at + 2048], 8);
    let mut all: Vec<_> = (56..96).step_by(8).map(in_header).collect();
    if name == MANIFEST {
        // Both copies of both slots: so it is the one that holds, whichever that is.
        let slot = number(56);
        let copies = |at: usize| (0..4).map(|copy| PAGE + copy * slot + at).collect();
        all.extend((8..320).step_by(4).map(|at| (copies(at), 8)));
    } else if name.ends_with(".offsets") {
        let entries = number(80);
        all.extend((0..200).step_by(4).map(|at| (vec![PAGE + at], 8)));
        all.extend((0..512).step_by(2).map(|at| (vec![entries + at], 6)));
    } else {
        all.extend((0..80).chain(2000..2080).step_by(2).map(|at| (vec![PAGE + at], 6)));
    }
    all.retain(|(places, _)| places.iter().all(|at| at + 8 <= bytes.len()));
    all
}

/// Goes through the life of a queue; what it says does not matter, that it comes back does.
fn live(disk: &SimDisk) {
    let _ = options(disk).inspect();
    let _ = options(disk).verify();
    for _ in 0..2 {
        let Ok(queue) = options(disk).open() else { continue };
        let _ = queue.recovery().has_findings();
        work(&queue);
        let _ = queue.stats();
        let _ = queue.close();
    }
    let _ = options(disk).verify();
}

fn work(queue: &Queue) {
    for _ in 0..3 {
        let _ = queue.push_batch([vec![1; 1500], vec![2; 1500]]);
        let _ = queue.run_duties();
    }
    for name in queue.groups() {
        let Ok(group) = queue.group(&name) else { continue };
        for _ in 0..40 {
            match group.consumer().recv_batch(5, Duration::ZERO) {
                Ok(jobs) if jobs.is_empty() => break,
                Ok(jobs) => drop(queue.ack_all(jobs)),
                Err(_) => {}
            }
        }
    }
    let _ = queue.create_group("another", GroupOptions::new());
}

/// A slot whose next offset was 2⁴⁸ ended `verify` in a panic. Every other number of every file is set
/// to its edges here too.
#[test]
fn issue_4_no_number_from_the_disk_panics_anything() {
    let mut panicked = Vec::new();
    for closed in [true, false] {
        let old = queue(closed);
        for name in old.files().into_iter().filter(|name| name != "LOCK") {
            let before = old.read_file(&name).unwrap();
            for (places, length) in numbers(&name, &before) {
                for value in [0, 1 << 36, LIMIT - 1, LIMIT, LIMIT + 1, u64::MAX / 2, 1 << 63, u64::MAX] {
                    let mut after = before.clone();
                    for at in &places {
                        after[*at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
                    }
                    bytes::forge(&name, &mut after);
                    let disk = old.crash(1);
                    disk.write_file(&name, &after);
                    disk.budget(Some(ROOM));
                    let case = format!("{name} at {places:?}: {value:#x}, closed: {closed}");
                    let _watched = watch::over(case.clone());
                    if catch_unwind(AssertUnwindSafe(|| live(&disk))).is_err() {
                        panicked.push(case);
                    }
                }
            }
        }
    }
    assert!(panicked.is_empty(), "{} cases panic: {panicked:#?}", panicked.len());
}
