//! Does a call that the disk refuses say so, leave nothing behind, and let the rest go on?

use backlog::Error;
use backlog::testing::{Aim, Call, Fault, Made};

use super::stage::*;
use super::table::Point;
use super::upkeep;
use crate::step::Step;

const SPACE: [Fault; 2] = [Fault::Errno(ENOSPC), Fault::Errno(EDQUOT)];
/// What a disk without room refuses of background work.
const TAKES_ROOM: [Call; 3] = [Call::Create, Call::Allocate, Call::Write];
const LIMIT: [Fault; 1] = [Fault::Errno(EFBIG)];

/// The next segment is named by a slot that was synced: what comes now is a push like any other.
fn rolled(before: &[Made]) -> bool {
    before.iter().any(|made| on_manifest(made) && made.call == Call::Sync)
}

/// What comes of a write or a name that there is no room for.
fn without_room(made: &Made, before: &[Made]) -> Option<Then> {
    match made.call {
        Call::Create | Call::Allocate if on_log(made) => Some(Then::E),
        Call::Write if on_log(made) => Some(Then::E),
        // It is not known which slot holds: whoever asks next must open again.
        Call::Write if on_manifest(made) => Some(Then::X),
        Call::Write if on_group(made) => Some(settled_or_switched(before, Then::E)),
        _ => None,
    }
}

/// The first write of a switch is the snapshot, which nothing relies on yet. After the page that
/// follows it, and for an entry, it is not known what the file holds.
fn settled_or_switched(before: &[Made], unused: Then) -> Then {
    let snapshot = !before.iter().any(|made| on_group(made) && made.call == Call::Write);
    let switching = before.iter().any(|made| on_group(made) && made.call == Call::Len);
    if snapshot && switching { unused } else { Then::Q }
}

pub(crate) fn no_room(point: Point) {
    match point {
        Point::Sync => {
            each(point, &SPACE, |made, _| (made.call == Call::Sync && on_log(made)).then_some(Then::X))
        }
        Point::Open => a_full_disk_opens_and_takes_acks(),
        Point::Inspect => {
            let left = Left::new();
            left.disk.budget(Some(0));
            looks_and_changes_nothing(&left.disk);
        }
        Point::Copy | Point::Delete => {
            upkeep::each(point, &SPACE, |made| upkeep::of(made, &TAKES_ROOM));
        }
        _ => each(point, &SPACE, without_room),
    }
}

fn a_full_disk_opens_and_takes_acks() {
    let left = Left::new();
    let disk = left.copy();
    disk.budget(Some(0));

    let queue = left.open(&disk).unwrap();

    let consumer = queue.group(GROUP).unwrap().consumer();
    while let Some(job) = consumer.try_recv().unwrap() {
        job.ack().unwrap();
    }
    let refused = (0..100).find_map(|_| queue.push([7; 900].as_slice()).err()).expect("a full disk");
    assert!(refused.is_full(), "{refused}");
    queue.close().unwrap();
    let queue = left.open(&disk.crash(0)).unwrap();
    assert!(
        queue
            .group(GROUP)
            .unwrap()
            .consumer()
            .try_recv()
            .unwrap()
            .is_none_or(|job| job.payload() == [7; 900])
    );
}

pub(crate) fn cut_short_by_a_full_disk(point: Point) {
    match point {
        Point::Open => makes_good_or_tries_again(&[Fault::Short]),
        Point::Copy | Point::Delete => {
            upkeep::each(point, &[Fault::Short], |made| upkeep::of(made, &[Call::Write]));
        }
        _ => each(point, &[Fault::Short], |made, before| {
            without_room(made, before).filter(|_| made.call == Call::Write)
        }),
    }
}

/// What an opening makes good is made good by the next one, if it cannot be now.
fn makes_good_or_tries_again(faults: &[Fault]) {
    let left = Left::unfinished();
    left.each_opening(faults, |made| (made.call == Call::Write).then_some(true));
}

pub(crate) fn interrupted(point: Point) {
    let faults = [Fault::Brief, Fault::Errno(EINTR)];
    let moved = |made: &Made| is(made, &[Call::Read, Call::Write]);
    match point {
        Point::Open => {
            Left::new().each_opening(&faults, |made| moved(made).then_some(false));
            Left::unfinished().each_opening(&faults, |made| moved(made).then_some(false));
        }
        Point::Inspect => {
            let left = Left::new();
            for &fault in &faults {
                let disk = left.copy();
                disk.aim(Aim::at(Call::Read, "log/").lasting(), Fault::Brief);
                disk.aim(Aim::at(Call::Read, ""), fault);
                looks_and_changes_nothing(&disk);
            }
        }
        // A sync has nothing that could be done by half; that a signal makes it anew is for the disk.
        Point::Sync => {
            each(point, &[Fault::Brief], |made, _| (made.call == Call::Sync).then_some(Then::Same))
        }
        _ => each(point, &faults, |made, _| moved(made).then_some(Then::Same)),
    }
}

pub(crate) fn too_large_for_the_limit(point: Point) {
    match point {
        Point::Open => makes_good_or_tries_again(&LIMIT),
        Point::Copy | Point::Delete => upkeep::each(point, &LIMIT, |made| upkeep::of(made, &TAKES_ROOM)),
        _ => each(point, &LIMIT, without_room),
    }
    if matches!(point, Point::Append | Point::Batch) {
        // As `RLIMIT_FSIZE` does it: what fits is written first.
        let stage = Stage::at(point);
        stage.run.disk.aim(Aim::at(Call::Write, "log/"), Fault::Brief);
        stage.run.disk.aim(Aim::at(Call::Write, "log/"), Fault::Errno(EFBIG));
        stage.meets(Then::E);
    }
}

pub(crate) fn a_broken_write(point: Point) {
    let expected = |made: &Made, before: &[Made]| match made.call {
        Call::Create | Call::Write if on_log(made) => Some(Then::E),
        Call::Write if on_manifest(made) => Some(Then::X),
        Call::Write if on_group(made) => Some(settled_or_switched(before, Then::Q)),
        _ => None,
    };
    match point {
        Point::Open => makes_good_or_tries_again(&[Fault::Io]),
        Point::Copy | Point::Delete => {
            upkeep::each(point, &[Fault::Io], |made| upkeep::of(made, &upkeep::CHANGES));
        }
        _ => each(point, &[Fault::Io], expected),
    }
    if matches!(point, Point::Append | Point::Batch) {
        // The zeroing fails too, or its sync: nobody knows what is there.
        for (call, fault) in [(Call::Write, Fault::Io), (Call::Sync, Fault::SyncLost)] {
            let stage = Stage::at(point);
            stage.run.disk.aim(Aim::at(Call::Write, "log/"), Fault::Io);
            stage.run.disk.aim(Aim::at(call, "log/"), fault);
            stage.meets(Then::X);
        }
    }
}

pub(crate) fn a_broken_sync(point: Point) {
    let faults = [Fault::Io, Fault::SyncLost];
    let expected = |made: &Made, before: &[Made]| match made.call {
        Call::Sync if made.name == "log/000000002.seg" && !rolled(before) => Some(Then::E),
        Call::Sync if on_log(made) || on_manifest(made) => Some(Then::X),
        Call::Sync if on_group(made) => Some(Then::Q),
        _ => None,
    };
    match point {
        Point::Open => {
            Left::new().each_opening(&faults, |made| (made.call == Call::Sync).then_some(true));
            Left::unfinished().each_opening(&faults, |made| (made.call == Call::Sync).then_some(true));
        }
        Point::Copy | Point::Delete => {
            upkeep::each(point, &faults, |made| upkeep::of(made, &[Call::Sync]).filter(|_| !on_group(made)))
        }
        _ => each(point, &faults, expected),
    }
    if point == Point::Sync {
        every_waiter_hears_of_a_failed_sync();
    }
}

/// Sixteen threads wait for one sync that fails, and then for nothing: each of them is told.
fn every_waiter_hears_of_a_failed_sync() {
    let stage = Stage::at(Point::Sync);
    let queue = stage.run.queue().unwrap();
    stage.run.disk.break_syncs(true);

    let tickets: Vec<_> = (0..16).map(|number| queue.push_deferred(format!("{number}")).unwrap()).collect();
    let told = std::thread::scope(|scope| {
        let waiters: Vec<_> = tickets.into_iter().map(|ticket| scope.spawn(|| ticket.wait())).collect();
        waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect::<Vec<_>>()
    });

    assert!(told.iter().all(|told| matches!(told, Err(Error::Poisoned { .. }))), "{told:?}");
    // The disk says "ok" again: the queue does not believe it.
    stage.run.disk.heal();
    assert!(matches!(queue.push("later"), Err(Error::Poisoned { .. })));
}

pub(crate) fn a_broken_folder(point: Point) {
    let faults = [Fault::Io, Fault::SyncLost];
    match point {
        Point::Open => {
            Left::new().each_opening(&faults, |made| (made.call == Call::SyncDir).then_some(true));
            a_birth_is_refused_and_made_again(&[Call::SyncDir], &faults);
        }
        Point::Copy | Point::Delete => {
            upkeep::each(point, &faults, |made| upkeep::of(made, &[Call::SyncDir]));
        }
        _ => each(point, &faults, |made, _| (made.call == Call::SyncDir).then_some(Then::E)),
    }
}

/// A birth that the disk refuses leaves no queue, and no obstacle to the next one.
fn a_birth_is_refused_and_made_again(calls: &[Call], faults: &[Fault]) {
    let options = || backlog::Options::new("jobs").segment_bytes(8 << 10).threads(false);
    let rehearsal = backlog::testing::SimDisk::new(3);
    rehearsal.record();
    drop(options().sim_disk(&rehearsal).open().unwrap());
    let made = rehearsal.made();
    for index in (0..made.len()).filter(|&index| is(&made[index], calls)) {
        for &fault in faults {
            let disk = backlog::testing::SimDisk::new(3);
            disk.aim(aim_at(&made, index), fault);
            options().sim_disk(&disk).open().expect_err("a birth that says nothing of its fault");
            for disk in [disk.kill(), disk.crash(0), disk.crash(4)] {
                let queue = options().sim_disk(&disk).open().unwrap();
                queue.push("born").unwrap();
                assert_eq!(queue.consumer().unwrap().recv().unwrap().payload(), b"born");
            }
        }
    }
}

pub(crate) fn a_broken_read(point: Point) {
    let faults = [Fault::ReadIo, Fault::Errno(EIO)];
    match point {
        Point::Open => Left::new().each_opening(&faults, |made| (made.call == Call::Read).then_some(true)),
        Point::Copy => upkeep::each(point, &faults, |made| upkeep::of(made, &[Call::Read])),
        _ => Left::new().each_look(&faults, |made| made.call == Call::Read),
    }
}

pub(crate) fn no_descriptors(point: Point) {
    let faults = [Fault::Errno(EMFILE), Fault::Errno(ENFILE)];
    let opens = [Call::Open, Call::Create, Call::List, Call::SyncDir, Call::Lock];
    match point {
        Point::Open => Left::new().each_opening(&faults, |made| is(made, &opens).then_some(true)),
        Point::Inspect => Left::new().each_look(&faults, |made| is(made, &opens)),
        Point::Roll => each(point, &faults, |made, _| is(made, &opens).then_some(Then::E)),
        Point::Copy | Point::Delete => upkeep::each(point, &faults, |made| upkeep::of(made, &opens)),
        _ => {
            // Lasting: not one descriptor is needed there.
            let stage = Stage::at(point);
            for call in opens.into_iter().filter(|&call| (point, call) != (Point::Switch, Call::Open)) {
                stage.run.disk.aim(Aim::at(call, "").lasting(), faults[0]);
            }
            stage.meets(Then::Same);
        }
    }
}

pub(crate) fn no_memory(point: Point) {
    let faults = [Fault::Errno(ENOMEM)];
    let moved = [Call::Open, Call::List, Call::Read, Call::Lock];
    match point {
        Point::Open => {
            Left::new().each_opening(&faults, |made| is(made, &moved).then_some(true));
            without_mappings(Point::Switch);
        }
        Point::Inspect => Left::new().each_look(&faults, |made| is(made, &moved)),
        Point::Copy | Point::Delete => {
            let moved = [&moved[..], &upkeep::CHANGES].concat();
            upkeep::each(point, &faults, |made| upkeep::of(made, &moved));
        }
        _ => each(point, &faults, |made, before| match made.call {
            Call::Create | Call::Write if on_log(made) => Some(Then::E),
            Call::Write if on_manifest(made) => Some(Then::X),
            Call::Write if on_group(made) => Some(settled_or_switched(before, Then::Q)),
            _ => None,
        }),
    }
    if matches!(point, Point::Ack | Point::Switch) {
        without_mappings(point);
    }
}

/// A mapping is for speed: without one entries are written, and as safe.
fn without_mappings(point: Point) {
    let setup = crate::script::Setup { segment_bytes: 8 << 10, ..Default::default() };
    let mut stage = Stage::with(Point::Switch, setup, crate::script::Trouble::None, false);
    stage.run.disk.aim(Aim::at(Call::Map, "").lasting(), Fault::Errno(ENOMEM));
    stage.run.disk.record();
    assert!(stage.act().is_none());
    let acked = stage.step(Step::Ack { group: GROUP, count: 1 });
    let made = stage.run.disk.made();

    assert!(acked.is_none(), "{point:?}: {acked:?}");
    assert!(
        made.iter().any(|made| made.call == Call::Map) && !made.iter().any(|made| made.call == Call::Store)
    );
    stage.killed();
}

/// A disk that takes no more writes, as after `mount -o remount,ro`.
fn read_only(disk: &backlog::testing::SimDisk, number: i32) {
    let writes = [
        Call::Create,
        Call::MakeDir,
        Call::RemoveDir,
        Call::Rename,
        Call::Remove,
        Call::Write,
        Call::SetLen,
        Call::Allocate,
        Call::Map,
    ];
    for call in writes {
        disk.aim(Aim::at(call, "").lasting(), Fault::Errno(number));
    }
}

pub(crate) fn not_allowed(point: Point) {
    for number in [EROFS, EACCES, EPERM] {
        match point {
            Point::Open => {
                let left = Left::new();
                let disk = left.copy();
                // What is opened for writing is refused at once there.
                disk.aim(Aim::at(Call::Lock, "LOCK"), Fault::Errno(number));
                assert!(matches!(left.open(&disk), Err(Error::Io { .. })));
                assert_eq!(all(&disk), all(&left.disk));
                left.check(&disk);
                left.each_opening(&[Fault::Errno(number)], |made| {
                    (made.call == Call::Open || made.call == Call::Lock).then_some(true)
                });
            }
            Point::Inspect => {
                let left = Left::new();
                read_only(&left.disk, number);
                looks_and_changes_nothing(&left.disk);
                assert!(inspect(&left.disk).unwrap().messages > 0);
                assert!(verify(&left.disk).is_ok());
            }
            Point::Sync => each(point, &[Fault::Errno(number)], |made, _| {
                (made.call == Call::Sync && on_log(made)).then_some(Then::X)
            }),
            Point::Roll => {
                let stage = Stage::at(point);
                read_only(&stage.run.disk, number);
                stage.meets(Then::E);
            }
            Point::Ack | Point::Switch => {
                let stage = Stage::at(point);
                read_only(&stage.run.disk, number);
                stage.meets(Then::Q);
            }
            Point::Copy | Point::Delete => {
                let opened = [&upkeep::CHANGES[..], &[Call::Open]].concat();
                upkeep::each(point, &[Fault::Errno(number)], |made| upkeep::of(made, &opened));
            }
            _ => {
                // One write that is refused is taken back; where nothing can be written it cannot be.
                each(point, &[Fault::Errno(number)], |made, _| {
                    (made.call == Call::Write && on_log(made)).then_some(Then::E)
                });
                let stage = Stage::at(point);
                read_only(&stage.run.disk, number);
                stage.meets(Then::X);
            }
        }
    }
}

/// Blocks that cannot be had ahead are no reason not to go on; a full disk is.
pub(crate) fn no_blocks_ahead(point: Point) {
    for number in [EOPNOTSUPP, EIO] {
        if point == Point::Open {
            // A queue is born there.
            let disk = backlog::testing::SimDisk::new(3);
            disk.aim(Aim::at(Call::Allocate, "").lasting(), Fault::Errno(number));
            let queue = backlog::Options::new("jobs").sim_disk(&disk).threads(false).open().unwrap();
            queue.push("born").unwrap();
            assert_eq!(queue.consumer().unwrap().recv().unwrap().payload(), b"born");
            continue;
        }
        let stage = Stage::at(point);
        stage.run.disk.aim(Aim::at(Call::Allocate, "").lasting(), Fault::Errno(number));
        stage.meets(Then::Same);
    }
    if point == Point::Roll {
        // A full disk is another matter.
        each(point, &SPACE, |made, _| (made.call == Call::Allocate).then_some(Then::E));
    }
}
