//! What does a queue do on a real file system whose device answers EIO, and what is there when the
//! device is well again?

use std::ops::Range;

use backlog::{Durability, Error};

use crate::ledger::{Found, NEVER};
use crate::recorder::Recorder;
use crate::volume::{Kind, home, needs, say, seeds};
use crate::workload::{STRICT, Workload, options};

/// From some write or flush of the device on, some fail; then it is well again, the file system is
/// mounted anew, and the queue opened. Returns what failed on the device and in the queue.
fn fail(kind: Kind, seed: usize, which: Range<usize>) -> (usize, usize, Found) {
    let home = home();
    let recorder = Recorder::new(kind, home.path());
    let mounted = recorder.mount();
    recorder.record().begin();
    let folder = mounted.path("jobs");
    let mut workload = Workload::new(&folder, seed as u64, || recorder.position());
    for _ in 0..30 {
        workload.step();
    }
    assert!(workload.errors.is_empty(), "{:?}", workload.errors);

    recorder.record().fail(which.clone());
    for _ in 0..150 {
        workload.step();
    }
    for error in &workload.errors {
        use Error::{Closed, Full, InDoubt, Io, NoSuchGroup, Poisoned};
        let typed = matches!(
            error,
            Io { .. } | Poisoned { .. } | InDoubt { .. } | Full { .. } | Closed | NoSuchGroup { .. }
        );
        assert!(typed, "seed {seed}, {which:?}: {error:?}");
    }
    let errors = workload.errors.len();
    let (ledger, queue) = workload.end();
    // What a poisoned queue says of its end is in the other suites.
    let _ = queue.close();
    drop(queue);
    let failed = recorder.record().failed;
    recorder.record().fail(0..0);
    drop(mounted);

    let mounted = recorder.mount();
    let queue = options(&mounted.path("jobs")).create(false).open();
    let queue = queue.unwrap_or_else(|error| panic!("seed {seed}, {which:?}: P6: {error}"));
    let found = ledger.check(&queue, Some(NEVER));
    (failed, errors, found.unwrap_or_else(|why| panic!("seed {seed}, {which:?}: {why}")))
}

fn failing(kind: Kind, count: usize) {
    let (mut failed, mut errors, mut sum) = (0, 0, Found::default());
    for seed in 0..count {
        let from = seed * 7 % 120;
        // One, a few, and for ever.
        let which = from..from + [1, 1, 5, 100_000][seed % 4];
        let (below, above, found) = fail(kind, seed, which);
        failed += below;
        errors += above;
        sum.promised += found.promised;
        sum.acked += found.acked;
    }
    assert!(failed > count / 2 && errors > count / 2, "hardly anything has failed: {failed}, {errors}");
    say(&format!(
        "{}: {count} runs; {failed} writes and flushes of the device answered EIO, {errors} calls failed, each typed; {} acknowledged pushes and {} acks all held",
        kind.name(),
        sum.promised,
        sum.acked
    ));
}

#[test]
#[ignore = "needs root, loop devices and FUSE"]
fn eio_below_ext4_is_typed_and_nothing_acknowledged_is_lost() {
    needs!(Kind::Ext4.tool());
    failing(Kind::Ext4, seeds(40));
}

#[test]
#[ignore = "needs root, loop devices and FUSE"]
fn eio_below_xfs_is_typed_and_nothing_acknowledged_is_lost() {
    needs!(Kind::Xfs.tool());
    failing(Kind::Xfs, seeds(20));
}

/// One write-back, or one flush of the device fails: no push is acknowledged after that, whatever the
/// kernel says of the next sync; what is durable can still be received.
#[test]
#[ignore = "needs root, loop devices and FUSE"]
fn after_one_failed_sync_no_push_is_acknowledged_until_reopened() {
    needs!(Kind::Ext4.tool());
    // A sync of the log is a write and a flush.
    for which in 0..2 {
        one_failed_sync(which);
    }
}

fn one_failed_sync(which: usize) {
    let home = home();
    let recorder = Recorder::new(Kind::Ext4, home.path());
    let mounted = recorder.mount();
    // Nobody else writes to the device: no thread of the queue, no journal that is behind.
    let alone = options(&mounted.path("jobs")).threads(false);
    let mut workload = Workload::with(alone, 3, || 0);
    for _ in 0..20 {
        workload.push(1, Durability::Synced);
    }
    rustix::fs::sync();

    recorder.record().fail(which..which + 1);
    for _ in 0..20 {
        workload.push(1, Durability::Synced);
    }

    assert_eq!(recorder.record().failed, 1);
    assert_eq!(workload.errors.len(), 20);
    assert!(workload.errors.iter().all(|error| matches!(error, Error::Poisoned { .. })));
    workload.errors.clear();
    for _ in 0..4 {
        workload.settle(STRICT);
    }
    assert!(workload.errors.is_empty() && workload.ledger.acknowledged().1 > 4, "{:?}", workload.errors);
    drop(workload.queue);
    drop(mounted);
    let mounted = recorder.mount();
    let queue = options(&mounted.path("jobs")).create(false).open().unwrap();
    assert_eq!(workload.ledger.check(&queue, None).unwrap().promised, 20);
}
