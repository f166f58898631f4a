//! Is a queue whose files have gone bad mended, with nothing lost but what cannot be read, and that told?

use std::collections::BTreeSet;
use std::time::Duration;

use backlog::testing::{Fault, ManualClock, SimDisk};
use backlog::{DeadReason, Durability, Error, GroupOptions, Offset, Options, Queue, RepairKind};

use crate::watch;

/// All that is unsynced lost, all kept, mixtures.
const SEEDS: [u64; 4] = [0, 1, 4, 5];
pub(crate) const MESSAGES: u64 = 30;
/// Pushed as one batch.
const BATCH: std::ops::Range<u64> = 18..21;
/// What `reader` has done, but for one that it rejected.
const DONE: std::ops::Range<u64> = 0..12;
const REJECTED: u64 = 4;
const SEGMENT: usize = 8192;

pub(crate) fn options(disk: &SimDisk) -> Options {
    let clock = ManualClock::new(1_700_000_000_000);
    Options::new("jobs").sim_disk(disk).manual_clock(&clock).threads(false).segment_bytes(SEGMENT as u64)
}

pub(crate) fn payload(number: u64) -> String {
    format!("{number:01000}")
}

/// A queue of many segments: one group has done a part, the other has read nothing.
pub(crate) fn prepared(closed: bool) -> SimDisk {
    let disk = SimDisk::new(1);
    let queue = options(&disk).open().unwrap();
    let synced = || GroupOptions::new().ack_durability(Durability::Synced).max_failures(7);
    let reader = queue.create_group("reader", synced()).unwrap().consumer();
    queue.create_group("fresh", synced()).unwrap();
    for number in (0..BATCH.start).chain([u64::MAX]).chain(BATCH.end..MESSAGES) {
        if number == u64::MAX {
            queue.push_batch(BATCH.map(payload)).unwrap();
        } else {
            queue.push(payload(number)).unwrap();
        }
    }
    for job in reader.recv_batch(12, Duration::ZERO).unwrap() {
        if job.offset().get() == REJECTED { job.reject("never").unwrap() } else { job.ack().unwrap() }
    }
    queue.sync().unwrap();
    if closed {
        queue.close().unwrap();
        return disk.crash(0);
    }
    disk.kill()
}

fn segments(disk: &SimDisk) -> Vec<String> {
    let mut names: Vec<_> = disk.files().into_iter().filter(|name| name.ends_with(".seg")).collect();
    names.retain(|name| name.starts_with("log/"));
    names.sort();
    names
}

/// Returns the segment that has a message, and where its payload begins.
fn place(disk: &SimDisk, number: u64) -> (String, usize) {
    let wanted = payload(number).into_bytes();
    let found = segments(disk).into_iter().find_map(|name| {
        let bytes = disk.read_file(&name)?;
        let at = bytes.windows(wanted.len()).position(|window| window == wanted)?;
        Some((name, at))
    });
    found.unwrap_or_else(|| panic!("message {number} is nowhere"))
}

/// Returns the messages in a segment.
fn messages_in(disk: &SimDisk, name: &str) -> Vec<u64> {
    (0..MESSAGES).filter(|&number| place(disk, number).0 == name).collect()
}

pub(crate) fn flip(disk: &SimDisk, number: u64, before: usize) {
    let (name, at) = place(disk, number);
    disk.flip(&name, ((at - before) * 8 + 3) as u64);
}

fn cut(disk: &SimDisk, name: &str, length: usize) {
    let bytes = disk.read_file(name).unwrap();
    disk.remove_file(name);
    disk.write_file(name, &bytes[..length]);
}

fn foreign() -> Vec<u8> {
    let other = SimDisk::new(77);
    let queue = options(&other).open().unwrap();
    queue.push("of another queue").unwrap();
    queue.close().unwrap();
    other.read_file(&segments(&other)[0]).unwrap()
}

/// What goes bad; returns the messages that cannot be read any more.
type Harm = fn(&SimDisk) -> Vec<u64>;

/// What goes bad of a group.
type Spoil = fn(&SimDisk);

const HARMS: [(&str, RepairKind, Harm); 12] = [
    ("a record of a sealed segment", RepairKind::Copy, |disk| {
        flip(disk, 15, 0);
        vec![15]
    }),
    ("one record of a batch", RepairKind::Copy, |disk| {
        flip(disk, BATCH.start + 1, 0);
        vec![BATCH.start + 1]
    }),
    ("the header of a batch", RepairKind::Copy, |disk| {
        let (name, at) = place(disk, BATCH.start);
        // The header and the table lie before it.
        disk.flip(&name, ((at - 3 * 8 - 20) * 8) as u64);
        BATCH.collect()
    }),
    ("records in several segments, done and not", RepairKind::Copy, |disk| {
        for number in [2, 7, 13, 22] {
            flip(disk, number, 0);
        }
        flip(disk, 25, 20);
        vec![2, 7, 13, 22, 25]
    }),
    ("a record of the active segment", RepairKind::Copy, |disk| {
        let last = segments(disk).pop().unwrap();
        let first = messages_in(disk, &last)[0];
        flip(disk, first, 0);
        vec![first]
    }),
    ("a segment that is missing", RepairKind::Replace, |disk| {
        let name = place(disk, 13).0;
        let lost = messages_in(disk, &name);
        disk.remove_file(&name);
        lost
    }),
    ("a segment that is cut short", RepairKind::Replace, |disk| {
        let (name, at) = place(disk, 16);
        let lost = messages_in(disk, &name).into_iter().filter(|&number| number >= 16).collect();
        cut(disk, &name, at + 500);
        lost
    }),
    ("both copies of a segment's header", RepairKind::Replace, |disk| {
        let name = place(disk, 13).0;
        disk.flip(&name, 99);
        disk.flip(&name, 2048 * 8 + 99);
        vec![]
    }),
    ("a foreign file in place of a segment", RepairKind::Replace, |disk| {
        let name = place(disk, 16).0;
        let lost = messages_in(disk, &name);
        disk.remove_file(&name);
        disk.write_file(&name, &foreign());
        lost
    }),
    ("the active segment is missing", RepairKind::Replace, |disk| {
        let name = segments(disk).pop().unwrap();
        let lost = messages_in(disk, &name);
        disk.remove_file(&name);
        lost
    }),
    ("the active segment is cut short", RepairKind::Replace, |disk| {
        let name = segments(disk).pop().unwrap();
        let mut lost = messages_in(disk, &name);
        let first = lost.remove(0);
        let at = place(disk, first).1;
        cut(disk, &name, at + 1100);
        lost
    }),
    ("both copies of the active segment's header", RepairKind::Replace, |disk| {
        let name = segments(disk).pop().unwrap();
        disk.flip(&name, 99);
        disk.flip(&name, 2048 * 8 + 99);
        vec![]
    }),
];

fn files(disk: &SimDisk) -> Vec<(String, Option<Vec<u8>>)> {
    let names = disk.files().into_iter().filter(|name| name != "LOCK");
    names.map(|name| (name.clone(), disk.read_file(&name))).collect()
}

pub(crate) fn drain(queue: &Queue, group: &str) -> Vec<u64> {
    let consumer = queue.group(group).unwrap().consumer();
    let mut numbers = Vec::new();
    while let Some(job) = consumer.try_recv().unwrap() {
        let number = std::str::from_utf8(job.payload()).unwrap().parse().unwrap();
        assert_eq!(job.payload(), payload(number).as_bytes());
        numbers.push(number);
        job.ack().unwrap();
    }
    numbers
}

pub(crate) fn dead(queue: &Queue, group: &str, reason: DeadReason) -> Vec<u64> {
    let letters = queue.group(group).unwrap().dead().into_iter().filter(|dead| dead.reason == reason);
    letters.flat_map(|dead| dead.offset.get()..dead.offset.get() + dead.length).collect()
}

/// What must hold after a repair.
fn check(disk: &SimDisk, lost: &[u64], closed: bool, told: &str) {
    assert_eq!(options(disk).verify().unwrap(), [], "{told}");
    assert_eq!(options(disk).verify_deep().unwrap(), [], "{told}");
    assert!(options(disk).plan_repair().unwrap().is_empty(), "{told}");
    let queue = options(disk).open().unwrap();
    assert!(!queue.recovery().has_findings(), "{told}: {:?}", queue.recovery());
    let lost: BTreeSet<u64> = lost.iter().copied().collect();
    let done = |number: &u64| DONE.contains(number) && *number != REJECTED;
    // Of what was pushed behind the last proof nobody knows that it was there.
    let unproven = |offset: &u64| closed || lost.contains(offset);
    let given_up: Vec<u64> = dead(&queue, "fresh", DeadReason::Damaged);
    assert!(given_up.iter().all(unproven), "{told}: {given_up:?}");
    if closed {
        assert_eq!(given_up, lost.iter().copied().collect::<Vec<_>>(), "{told}");
        let open: Vec<u64> = lost.iter().copied().filter(|number| !done(number)).collect();
        assert_eq!(dead(&queue, "reader", DeadReason::Damaged), open, "{told}");
    }
    let rejected = if lost.contains(&REJECTED) { vec![] } else { vec![REJECTED] };
    assert_eq!(dead(&queue, "reader", DeadReason::Rejected), rejected, "{told}");

    let offset = queue.push(payload(999)).unwrap();

    assert!(offset.get() >= MESSAGES, "{told}: {offset} was given before");
    let readable = (0..MESSAGES).chain([999]).filter(|number| !lost.contains(number));
    assert_eq!(drain(&queue, "fresh"), readable.clone().collect::<Vec<_>>(), "{told}");
    let wanted: Vec<u64> = readable.filter(|number| !DONE.contains(number)).collect();
    assert_eq!(drain(&queue, "reader"), wanted, "{told}");
    assert_eq!(queue.group("fresh").unwrap().stats().ready, 0, "{told}");
    queue.close().unwrap();
    assert_eq!(options(disk).verify().unwrap(), [], "{told}: later");
}

#[test]
fn what_can_be_read_is_delivered_after_a_repair_and_what_cannot_is_a_dead_letter() {
    for closed in [true, false] {
        for (name, kind, harm) in HARMS {
            let told = format!("{name}, closed: {closed}");
            let _watched = watch::over(told.clone());
            let disk = prepared(closed);
            let lost = harm(&disk);

            let plan = options(&disk).plan_repair().unwrap();

            assert!(plan.loses(), "{told}: {plan:?}");
            assert!(plan.steps.iter().any(|step| step.kind == kind), "{told}: {plan:?}");
            let before = files(&disk);
            let refused = options(&disk).repair(false);
            assert!(matches!(refused, Err(Error::WouldLose { .. })), "{told}: {refused:?}");
            assert_eq!(files(&disk), before, "{told}");
            let done = options(&disk).repair(true).unwrap_or_else(|error| panic!("{told}: {error}"));
            assert_eq!(done.plan, plan, "{told}");
            assert!(options(&disk).repair(false).unwrap().plan.is_empty(), "{told}");
            for path in &done.set_aside {
                let name = path.file_name().unwrap().to_str().unwrap();
                assert!(disk.files().contains(&format!("quarantine/{name}")), "{told}: {name}");
            }
            check(&disk, &lost, closed, &told);
        }
    }
}

#[test]
fn a_repair_that_is_cut_short_anywhere_is_done_again_and_ends_the_same() {
    let mut states = 0;
    for (name, _, harm) in HARMS {
        let disk = prepared(true);
        let lost = harm(&disk);
        let whole = disk.crash(1);
        let before = whole.ops();
        options(&whole).repair(true).unwrap();
        for op in before..=whole.ops() {
            for seed in SEEDS {
                let told = format!("{name}, operation {op}, seed {seed}");
                let _watched = watch::over(told.clone());
                let cut = disk.crash(1);
                cut.stop_after(op);
                let _ = options(&cut).repair(true);
                let left = cut.crash(seed);
                options(&left).repair(true).unwrap_or_else(|error| panic!("{told}: {error}"));
                check(&left, &lost, true, &told);
                states += 1;
            }
        }
    }
    assert!(states > 1000, "{states}");
}

#[test]
fn a_repair_in_which_any_operation_fails_is_done_again_and_ends_the_same() {
    for (name, _, harm) in HARMS {
        let disk = prepared(true);
        let lost = harm(&disk);
        let whole = disk.crash(1);
        let before = whole.ops();
        options(&whole).repair(true).unwrap();
        for op in before + 1..=whole.ops() {
            for fault in [Fault::Io, Fault::Full, Fault::SyncLost] {
                let told = format!("{name}, operation {op}, {fault:?}");
                let _watched = watch::over(told.clone());
                let failing = disk.crash(1);
                failing.fail(op, fault);
                let _ = options(&failing).repair(true);
                failing.heal();
                options(&failing).repair(true).unwrap_or_else(|error| panic!("{told}: {error}"));
                check(&failing, &lost, true, &told);
            }
        }
    }
}

/// A successor ended where the batch that was cut would have, and what lay behind that was missed by nobody.
#[test]
fn a_segment_that_is_cut_short_anywhere_loses_what_lay_behind_and_tells_of_it() {
    let whole = prepared(true);
    let (name, _) = place(&whole, 16);
    let messages = messages_in(&whole, &name);
    let length = whole.read_file(&name).unwrap().len();
    for end in (0..length).step_by(8).filter(|end| end % 64 == 0 || (5096..5144).contains(end)) {
        let disk = whole.crash(1);
        cut(&disk, &name, end);
        let readable = |number: u64| place(&whole, number).1 + 1000 <= end;
        let lost: Vec<u64> = messages.iter().copied().filter(|&number| !readable(number)).collect();
        if options(&disk).verify().unwrap().is_empty() {
            assert!(lost.is_empty(), "{end}: {lost:?}");
            continue;
        }

        options(&disk).repair(true).unwrap();

        check(&disk, &lost, true, &format!("cut at {end}"));
    }
}

#[test]
fn a_torn_tail_and_bad_copies_are_mended_without_leave_to_lose() {
    let torn = (2..200).find_map(|seed| {
        let disk = SimDisk::new(7);
        let queue = options(&disk).open().unwrap();
        queue.push(payload(0)).unwrap();
        let batch: Vec<String> = (1..4).map(payload).collect();
        queue.with_durability(Durability::Buffered).push_batch(&batch).unwrap();
        let crashed = disk.crash(seed);
        let torn = options(&crashed.crash(1)).open().unwrap().recovery().torn_bytes;
        (torn > 0).then_some(crashed)
    });
    let torn = torn.expect("a seed that tears the batch");
    let wounded = prepared(true);
    wounded.flip("MANIFEST", 99);
    wounded.flip("groups/fresh/0.offsets", 99);
    for (disk, kept) in [(torn, 1), (wounded, 0)] {
        let plan = options(&disk).plan_repair().unwrap();
        assert!(!plan.is_empty() && !plan.loses(), "{plan:?}");

        let done = options(&disk).repair(false).unwrap();

        assert_eq!(done.set_aside.len(), kept, "{done:?}");
        assert_eq!(options(&disk).verify().unwrap(), []);
        options(&disk).open().unwrap().push("goes on").unwrap();
    }
}

#[test]
fn a_group_whose_files_are_bad_begins_again_where_they_can_be_read() {
    let harms: [(&str, Spoil); 4] = [
        ("the snapshot of one half", |disk| disk.flip("groups/reader/0.offsets", (4096 + 40) * 8)),
        ("the snapshot of the other", |disk| disk.flip("groups/reader/1.offsets", (4096 + 40) * 8)),
        ("a half is missing", |disk| disk.remove_file("groups/reader/0.offsets")),
        ("both are missing", |disk| {
            disk.remove_file("groups/reader/0.offsets");
            disk.remove_file("groups/reader/1.offsets");
        }),
    ];
    for (name, harm) in harms {
        let disk = prepared(true);
        harm(&disk);
        let plan = options(&disk).plan_repair().unwrap();
        if plan.is_empty() {
            // The half that does not hold: nothing of it is needed.
            continue;
        }
        let whole = disk.crash(1);
        let before = whole.ops();
        options(&whole).repair(true).unwrap_or_else(|error| panic!("{name}: {error}"));
        for op in before..=whole.ops() {
            for seed in SEEDS {
                let told = format!("{name}, operation {op}, seed {seed}");
                let cut = disk.crash(1);
                cut.stop_after(op);
                let _ = options(&cut).repair(plan.loses());
                let left = cut.crash(seed);
                options(&left).repair(plan.loses()).unwrap_or_else(|error| panic!("{told}: {error}"));

                assert_eq!(options(&left).verify().unwrap(), [], "{told}");
                let queue = options(&left).open().unwrap();
                assert!(!queue.recovery().has_findings(), "{told}: {:?}", queue.recovery());
                assert_eq!(drain(&queue, "fresh"), (0..MESSAGES).collect::<Vec<_>>(), "{told}");
                let came = drain(&queue, "reader");
                let all: BTreeSet<u64> = came.iter().copied().collect();
                let missing = (DONE.end..MESSAGES).find(|number| !all.contains(number));
                assert_eq!(missing, None, "{told}: {came:?}");
            }
        }
    }
}

#[test]
fn what_no_repair_can_go_by_is_refused_with_what_to_do_instead() {
    let older = prepared(true);
    let manifest = older.read_file("MANIFEST").unwrap();
    let queue = options(&older).open().unwrap();
    for number in 0..9 {
        queue.push(payload(number)).unwrap();
    }
    queue.close().unwrap();
    older.write_file("MANIFEST", &manifest);
    let missing = prepared(true);
    missing.remove_file("MANIFEST");
    let bad = prepared(true);
    let length = bad.read_file("MANIFEST").unwrap().len();
    bad.write_file("MANIFEST", &vec![7; length]);

    for (name, disk) in [("older", older), ("missing", missing), ("bad", bad)] {
        let before = files(&disk);

        let planned = options(&disk).plan_repair();
        let repaired = options(&disk).repair(true);

        for error in [planned.unwrap_err(), repaired.unwrap_err()] {
            assert!(error.to_string().contains("backlog salvage"), "{name}: {error}");
        }
        assert_eq!(files(&disk), before, "{name}");
    }
}

#[test]
fn a_repair_waits_for_nobody_and_a_plan_needs_no_lock() {
    let disk = prepared(true);
    flip(&disk, 15, 0);
    let queue = options(&disk).open().unwrap();

    assert!(options(&disk).plan_repair().unwrap().loses());
    assert!(matches!(options(&disk).repair(true), Err(Error::Locked { .. })));

    assert_eq!(queue.push(payload(1)).unwrap(), Offset::new(MESSAGES).unwrap());
}

#[test]
fn a_full_disk_is_told_and_nothing_is_changed() {
    for (name, _, harm) in HARMS {
        let disk = prepared(true);
        let lost = harm(&disk);
        let before = options(&disk).verify().unwrap();
        disk.budget(Some(0));

        let repaired = options(&disk).repair(true);

        assert!(repaired.as_ref().is_err_and(Error::is_full), "{name}: {repaired:?}");
        assert_eq!(options(&disk).verify().unwrap(), before, "{name}");
        disk.budget(None);
        options(&disk).repair(true).unwrap();
        check(&disk, &lost, true, name);
    }
}
