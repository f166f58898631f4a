//! Does everything that was told outlive the process, and the power?

use std::panic::{AssertUnwindSafe, catch_unwind};

use backlog::testing::SimDisk;

use super::stage::{GROUP, Left, Stage, looks_and_changes_nothing};
use super::table::Point;
use crate::ledger::End;
use crate::script::{Setup, Trouble};
use crate::step::Step;

/// Stops the disk after each operation that the point's step makes, and checks what `left` makes of
/// it: the disk that the next process finds, one or more.
fn after_each_operation(point: Point, end: End, left: impl Fn(&SimDisk) -> Vec<SimDisk>) {
    for synced in [true, false] {
        let setup = Setup { segment_bytes: 8 << 10, ..Setup::default() };
        let mut rehearsal = Stage::with(point, setup, Trouble::None, synced);
        let before = rehearsal.run.ops();
        assert!(rehearsal.act().is_none());
        let after = rehearsal.run.ops();
        assert!(after > before, "nothing happens there");
        for op in before..=after {
            let mut stage = Stage::with(point, setup, Trouble::StopAfter(op), synced);
            let _ = stage.act();
            for (index, disk) in left(&stage.run.disk).into_iter().enumerate() {
                let checked = stage.run.ledger.check(&disk, &stage.run.options(), end);
                checked.unwrap_or_else(|broken| panic!("{point:?}, operation {op}, end {index}: {broken}"));
            }
        }
        if !matches!(point, Point::Ack | Point::Switch) {
            break;
        }
    }
}

/// Cuts an opening short after each operation: the next one finds what this one would have found.
fn in_each_opening(left: &Left, ends: impl Fn(&SimDisk) -> Vec<SimDisk>) {
    let calm = left.check(&left.copy());
    let rehearsal = left.copy();
    drop(left.open(&rehearsal).unwrap());
    for op in 0..=rehearsal.ops() {
        let disk = left.copy();
        disk.stop_after(op);
        drop(left.open(&disk));
        for next in ends(&disk) {
            assert_eq!(left.check(&next), calm, "cut short after operation {op}");
        }
    }
}

/// Cuts the birth of a queue short: the next opening is the birth of it, or finds it.
fn in_each_birth(ends: impl Fn(&SimDisk) -> Vec<SimDisk>) {
    let open = |disk: &SimDisk| {
        backlog::Options::new("jobs").segment_bytes(8 << 10).sim_disk(disk).threads(false).open()
    };
    let rehearsal = SimDisk::new(3);
    drop(open(&rehearsal).unwrap());
    for op in 0..=rehearsal.ops() {
        let disk = SimDisk::new(3);
        disk.stop_after(op);
        drop(open(&disk));
        for next in ends(&disk) {
            let queue = open(&next).unwrap_or_else(|error| panic!("operation {op}: {error}"));
            queue.push("born").unwrap();
            queue.close().unwrap();
            let queue = open(&next.crash(0)).unwrap();
            assert_eq!(queue.consumer().unwrap().try_recv().unwrap().unwrap().payload(), b"born");
        }
    }
}

pub(crate) fn a_killed_process(point: Point) {
    let end = |disk: &SimDisk| vec![disk.kill()];
    match point {
        Point::Open => {
            in_each_opening(&Left::torn(), end);
            in_each_birth(end);
        }
        Point::Inspect => looks_and_changes_nothing(&Left::new().disk.kill()),
        _ => after_each_operation(point, End::Killed, end),
    }
}

/// A panic is the caller's: nothing of the call is there, and everybody else goes on.
fn a_panic_in_a_caller(point: Point) {
    let mut stage = Stage::at(point);
    let queue = stage.run.queue().unwrap().clone();

    let batch = catch_unwind(AssertUnwindSafe(|| {
        queue.push_batch(
            (0..5).map(|number| if number < 3 { "part of a batch" } else { panic!("of a caller") }),
        )
    }));
    let handler = catch_unwind(AssertUnwindSafe(|| {
        let job = queue.group(GROUP).unwrap().consumer().recv().unwrap();
        assert!(job.payload().is_empty(), "of a handler");
    }));

    assert!(batch.is_err() && handler.is_err());
    let next = stage.act();
    assert!(next.is_none(), "{next:?}");
    stage.crashes();
    stage.killed();
}

pub(crate) fn a_power_cut(point: Point) {
    let ends = |disk: &SimDisk| [0, 1, 3, 4, 5, 6].map(|seed| disk.crash(seed)).to_vec();
    match point {
        Point::Open => {
            in_each_opening(&Left::torn(), ends);
            in_each_birth(ends);
        }
        Point::Inspect => {
            for seed in 0..10 {
                looks_and_changes_nothing(&Left::torn().disk.crash(seed));
            }
        }
        _ => after_each_operation(point, End::PowerCut, ends),
    }
}

/// Names and content reach the disk apart.
pub(crate) fn lost_names(point: Point) {
    let ends = |disk: &SimDisk| vec![disk.crash_apart(true, false), disk.crash_apart(false, true)];
    match point {
        Point::Open => {
            in_each_opening(&Left::torn(), ends);
            in_each_birth(ends);
        }
        Point::Inspect => {
            let mut stage = Stage::at(Point::Roll);
            assert!(stage.act().is_none());
            ends(&stage.run.disk).iter().for_each(looks_and_changes_nothing);
        }
        _ => after_each_operation(point, End::PowerCut, ends),
    }
}

/// A group comes and goes: a crash between any two operations leaves it whole or not there.
#[test]
fn a_group_whose_names_are_lost_is_there_whole_or_not_at_all() {
    let steps = [
        Step::Create { group: "new", synced: true },
        Step::Receive { group: "new", count: 1 },
        Step::Remove { group: "new" },
    ];
    let whole = Stage::at(Point::Append).run.ops();
    let mut rehearsal = Stage::at(Point::Append);
    steps.iter().for_each(|&step| assert!(rehearsal.step(step).is_none()));
    let setup = Setup { segment_bytes: 8 << 10, ..Setup::default() };
    for op in whole..=rehearsal.run.ops() {
        let mut stage = Stage::with(Point::Append, setup, Trouble::StopAfter(op), true);
        for step in steps {
            let _ = stage.step(step);
            if stage.run.stopped() {
                break;
            }
        }
        for names in [true, false] {
            let disk = stage.run.disk.crash_apart(!names, names);
            let checked = stage.run.ledger.check(&disk, &stage.run.options(), End::PowerCut);
            checked.unwrap_or_else(|broken| panic!("operation {op}, names kept: {names}: {broken}"));
        }
    }
}

pub(crate) fn killed_or_panicked(point: Point) {
    a_killed_process(point);
    a_panic_in_a_caller(point);
}
