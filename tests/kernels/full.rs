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
