//! What does a queue do on a file system that is full, and when there is room again?

use std::collections::BTreeSet;
use std::time::Duration;

use backlog::{Durability, Error, GroupOptions, Queue};

use crate::dice::Dice;
use crate::ledger::{Found, NEVER};
use crate::volume::{Kind, Mounted, Volume, needs, say, seeds};
use crate::workload::{LOOSE, STRICT, Workload, options};

/// An error that says "no room", and nothing else.
fn is_full(error: &Error) -> bool {
    error.is_full() || matches!(error, Error::InDoubt { .. })
}

/// Pushes until there is no room; returns how many it took.
fn fill(workload: &mut Workload<'_>) -> usize {
    for pushed in 0..200_000 {
        workload.push(1, Durability::Synced);
        if let Some(error) = workload.errors.pop() {
            assert!(is_full(&error), "{error}");
            return pushed;
        }
    }
    panic!("it never was full");
}

/// What is in the folder, by `inspect` and `verify`, on a full disk.
fn look(mounted: &Mounted, queue: &Queue) {
    let folder = mounted.path("jobs");
    let seen = backlog::inspect(&folder).unwrap();
    assert_eq!((seen.messages, seen.refused.len()), (queue.stats().messages, 0));
    assert_eq!(backlog::verify(&folder, &mut |_| {}).unwrap(), []);
}

/// Fills the disk with messages alone, and goes through all that is to work then.
fn full(kind: Kind) {
    let volume = Volume::new(kind);
    let mounted = &volume.mounted;
    let mut workload = Workload::new(&mounted.path("jobs"), 1, || 0);
    // Somebody else takes most of it: pushing hundreds of MB proves nothing more.
    mounted.leave(12 << 20);

    let took = fill(&mut workload);
    // Acks of both levels and receiving go on, and none says "full".
    for _ in 0..100 {
        workload.settle(STRICT);
        workload.settle(LOOSE);
    }
    assert!(workload.errors.is_empty(), "{:?}", workload.errors);
    fill(&mut workload);
    look(mounted, &workload.queue);
    // So does closing and opening; and it is still full.
    for _ in 0..3 {
        workload.reopen();
        assert!(workload.errors.is_empty(), "{:?}", workload.errors);
        workload.settle(STRICT);
        workload.settle(LOOSE);
        fill(&mut workload);
        look(mounted, &workload.queue);
    }
    let free = mounted.free();
    mounted.relieve();
    // Without reopening.
    for _ in 0..50 {
        workload.push(1, Durability::Synced);
    }
    assert!(workload.errors.is_empty(), "{:?}", workload.errors);
    for _ in 0..3 {
        workload.reopen();
    }

    let (pushes, acks) = workload.ledger.acknowledged();
    let found = workload.ledger.check(&workload.queue, None).unwrap();
    assert!(found.promised > took && found.acked > 100, "{found:?}");
    say(&format!(
        "{}: full after {took} pushes ({free} bytes left); acks, receiving, looking and opening went on; {pushes} pushes and {acks} acks acknowledged, all held",
        kind.name()
    ));
}

/// Somebody else takes the room away at some moment, down to some number of bytes, and gives it back:
/// several times, around random steps.
fn level(mounted: &Mounted, seed: usize, levels: &mut BTreeSet<u64>) -> (usize, Found) {
    let mut dice = Dice(seed as u64);
    let folder = mounted.path("jobs");
    let _ = std::fs::remove_dir_all(&folder);
    let mut workload = Workload::new(&folder, seed as u64, || 0);
    let mut refused = 0;
    for _ in 0..4 {
        for _ in 0..dice.below(30) {
            workload.step();
        }
        assert!(workload.errors.is_empty(), "{:?}", workload.errors);
        // Nothing, a block, and so on up to several segments and halves.
        let most = [2, 20, 50, 200][dice.size(4)];
        let blocks = dice.below(most);
        levels.insert(blocks);
        mounted.leave(blocks * 4096);
        for _ in 0..20 + dice.below(30) {
            workload.step();
            for error in workload.errors.drain(..) {
                let closed = matches!(error, Error::Closed | Error::NoSuchGroup { .. });
                assert!(is_full(&error) || (closed && refused > 0), "seed {seed}: {error}");
                refused += 1;
            }
        }
        // What is on loan can be settled, whatever the level.
        for group in [STRICT, LOOSE] {
            workload.settle(group);
            let failed: Vec<_> = workload.errors.drain(..).filter(|error| !is_full(error)).collect();
            assert!(failed.is_empty(), "seed {seed}: {failed:?}");
        }
        let seen = backlog::verify(&folder, &mut |_| {}).unwrap();
        assert_eq!(seen, [], "seed {seed}");
        mounted.relieve();
        // Without reopening.
        workload.push(1, Durability::Synced);
        assert!(workload.errors.is_empty(), "seed {seed}: {:?}", workload.errors);
    }
    workload.reopen();
    let found = workload.ledger.check(&workload.queue, None);
    (refused, found.unwrap_or_else(|why| panic!("seed {seed}: {why}")))
}

fn levels(kind: Kind, count: usize) {
    let volume = Volume::new(kind);
    let (mut refused, mut sum) = (0, Found::default());
    let (mut met, mut fill) = (0, BTreeSet::new());
    for seed in 0..count {
        let (times, found) = level(&volume.mounted, seed, &mut fill);
        refused += times;
        met += usize::from(times > 0);
        sum.promised += found.promised;
        sum.acked += found.acked;
    }
    assert!(met > count / 2, "the disk was hardly ever full: {met} of {count}");
    say(&format!(
        "{}: {count} runs, {} fill levels; {refused} calls refused for lack of room (in {met} runs); {} acknowledged pushes and {} acks all held",
        kind.name(),
        fill.len(),
        sum.promised,
        sum.acked
    ));
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_full_ext4_refuses_pushes_and_all_else_goes_on() {
    needs!(Kind::Ext4.tool());
    full(Kind::Ext4);
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_full_xfs_refuses_pushes_and_all_else_goes_on() {
    needs!(Kind::Xfs.tool());
    full(Kind::Xfs);
}

#[test]
#[ignore = "needs root and loop devices"]
fn any_fill_level_of_ext4_at_any_moment_loses_nothing() {
    needs!(Kind::Ext4.tool());
    levels(Kind::Ext4, seeds(60));
}

#[test]
#[ignore = "needs root and loop devices"]
fn any_fill_level_of_xfs_at_any_moment_loses_nothing() {
    needs!(Kind::Xfs.tool());
    levels(Kind::Xfs, seeds(30));
}

/// btrfs writes each block anew, so that even an ack may find no room there (DESIGN §4): everything may
/// be refused, nothing may be lost.
#[test]
#[ignore = "needs root and loop devices"]
fn a_full_btrfs_may_refuse_everything_and_loses_nothing() {
    needs!(Kind::Btrfs.tool());
    let volume = Volume::new(Kind::Btrfs);
    let mounted = &volume.mounted;
    let mut workload = Workload::new(&mounted.path("jobs"), 1, || 0);
    for _ in 0..200 {
        workload.step();
    }
    assert!(workload.errors.is_empty(), "{:?}", workload.errors);
    mounted.leave(0);

    for _ in 0..20_000 {
        workload.push(1, Durability::Synced);
        workload.settle(STRICT);
        if workload.errors.len() > 20 {
            break;
        }
    }
    let refused = workload.errors.len();
    assert!(refused > 20, "it never was full");
    workload.errors.iter().for_each(|error| {
        assert!(is_full(error) || matches!(error, Error::Poisoned { .. }), "{error}");
    });
    mounted.relieve();
    workload.errors.clear();
    workload.reopen();
    let closed = std::mem::take(&mut workload.errors);
    assert!(closed.len() <= 1, "{closed:?}");

    let (pushes, acks) = workload.ledger.acknowledged();
    workload.ledger.check(&workload.queue, Some(NEVER)).unwrap();
    say(&format!("btrfs: {refused} calls refused; {pushes} pushes and {acks} acks acknowledged, all held"));
}

/// A birth on a full disk says "full", leaves nothing in the way, and works when there is room.
#[test]
#[ignore = "needs root and loop devices"]
fn a_queue_and_a_group_that_find_no_room_to_be_born_can_be_born_later() {
    needs!(Kind::Ext4.tool());
    let volume = Volume::new(Kind::Ext4);
    let mounted = &volume.mounted;
    for blocks in [0, 1, 2, 4, 8, 12, 16, 20, 24, 32, 48] {
        mounted.leave(blocks * 4096);
        let folder = mounted.path(&format!("jobs-{blocks}"));
        let born = options(&folder).open();
        if let Ok(queue) = born {
            let mut made = queue.create_group("g", GroupOptions::new()).map(drop);
            if let Err(error) = &made {
                assert!(error.is_full(), "{blocks}: {error}");
                assert!(queue.groups().is_empty());
                mounted.relieve();
                made = queue.create_group("g", GroupOptions::new()).map(drop);
                mounted.leave(0);
            }
            made.unwrap();
            queue.close().unwrap();
            mounted.relieve();
            continue;
        }
        assert!(born.as_ref().is_err_and(Error::is_full), "{blocks}: {born:?}");
        assert!(backlog::inspect(&folder).is_err());
        mounted.relieve();

        let queue = options(&folder).open().unwrap();
        queue.push("x").unwrap();
        let job = queue.consumer().unwrap().recv_timeout(Duration::ZERO).unwrap().unwrap();
        job.ack().unwrap();
        queue.close().unwrap();
    }
}

/// The same contract without anybody else's help: what is acked is freed, and pushes go on.
fn acks_make_room(kind: Kind) {
    let volume = Volume::new(kind);
    let mounted = &volume.mounted;
    let queue = options(&mounted.path("jobs")).retain_bytes(0).open().unwrap();
    let groups = [Durability::Synced, Durability::Buffered].map(|level| {
        let name = if level == Durability::Synced { STRICT } else { LOOSE };
        queue.create_group(name, GroupOptions::new().ack_durability(level)).unwrap()
    });
    mounted.leave(8 << 20);
    let (mut pushed, mut refused) = (0u64, 0);
    // Messages are large: halves that grow with the load would take much of so little room for small ones.
    for round in 0..6 {
        let before = pushed;
        let error = loop {
            match queue.push(pushed.to_le_bytes().repeat(1000)) {
                Ok(_) => pushed += 1,
                Err(error) => break error,
            }
        };
        assert!(error.is_full(), "{error}");
        assert!(pushed > before + 100, "round {round}: {} pushes", pushed - before);
        refused += 1;
        for group in &groups {
            let mut expected = before;
            while let Some(job) = group.consumer().try_recv().unwrap() {
                assert_eq!(job.payload()[..8], expected.to_le_bytes(), "round {round}");
                expected += 1;
                if expected % 7 > 0 {
                    job.ack().unwrap();
                    continue;
                }
                // Dead letters that stay would make the snapshot grow, until receiving says "full".
                let offset = job.offset();
                job.reject("never").unwrap();
                assert_eq!(group.discard([offset]).unwrap(), 1);
            }
            assert_eq!(expected, pushed);
        }
        look(mounted, &queue);
        // Making the next segment may find no room, and says so.
        let done = queue.run_duties();
        assert!(done.as_ref().map_or_else(is_full, |()| true), "{done:?}");
    }
    queue.close().unwrap();
    say(&format!("{}: {pushed} pushes of 8,000 bytes went through 8 MiB, full {refused} times", kind.name()));
}

/// A group has a range for each of 600,000 acks, and the disk is full: the other acks go on, over kills and
/// openings.
fn many_holes(kind: Kind) {
    const MESSAGES: usize = 1_200_000;
    let volume = Volume::of(kind, 512 << 20);
    let mounted = &volume.mounted;
    let folder = mounted.path("jobs");
    let options = options(&folder).durability(Durability::Buffered).segment_bytes(16 << 20).mappings(true);
    let queue = options.clone().open().unwrap();
    let group = queue.create_group(LOOSE, GroupOptions::new().ack_durability(Durability::Buffered)).unwrap();
    let mut out = Vec::new();
    for _ in 0..MESSAGES / 20_000 {
        queue.push_batch((0..20_000).map(|_| "x")).unwrap();
        for job in group.consumer().recv_batch(20_000, Duration::ZERO).unwrap() {
            if job.offset().get() % 2 == 0 { out.push(job) } else { job.ack().unwrap() }
        }
    }
    assert_eq!(out.len(), MESSAGES / 2);
    mounted.leave(0);
    while queue.push([7; 4000].as_slice()).is_ok() {}
    let messages = queue.stats().messages;

    let stay = out.split_off(MESSAGES / 2 - 1_000);
    let acked = out.len() as u64;
    out.into_iter().for_each(|job| job.ack().unwrap());
    stay.into_iter().for_each(|job| job.release().unwrap());
    queue.close().unwrap();

    let queue = options.open().unwrap();
    let group = queue.group(LOOSE).unwrap();
    let expected = messages - (MESSAGES as u64 / 2 + acked);
    assert_eq!(group.stats().ready, expected);
    let last = group.consumer().recv_batch(1_000, Duration::ZERO).unwrap();
    let halves = [0, 1].map(|half| folder.join(format!("groups/{LOOSE}/{half}.offsets")));
    let halves = halves.map(|half| half.metadata().unwrap().len());
    last.into_iter().for_each(|job| job.ack().unwrap());
    assert_eq!(group.stats().ready, expected - 1_000);
    queue.close().unwrap();
    say(&format!(
        "{}: 600,000 holes in halves of {halves:?} bytes, {acked} acks on the full disk",
        kind.name()
    ));
}

#[test]
#[ignore = "needs root and loop devices"]
fn what_is_acked_on_a_full_ext4_makes_room_for_pushes() {
    needs!(Kind::Ext4.tool());
    acks_make_room(Kind::Ext4);
}

#[test]
#[ignore = "needs root and loop devices"]
fn what_is_acked_on_a_full_xfs_makes_room_for_pushes() {
    needs!(Kind::Xfs.tool());
    acks_make_room(Kind::Xfs);
}

#[test]
#[ignore = "needs root and loop devices"]
fn many_holes_on_a_full_ext4_do_not_keep_acks_from_going_on() {
    needs!(Kind::Ext4.tool());
    many_holes(Kind::Ext4);
}
