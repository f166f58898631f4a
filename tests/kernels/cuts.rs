//! Does a power cut at any write of a real file system lose, invent or repeat anything?

use std::time::Instant;

use crate::dice::Dice;
use crate::ledger::Found;
use crate::recorder::{Event, Recorder};
use crate::volume::{Kind, home, needs, say, seeds};
use crate::workload::{Workload, options};

const STEPS: usize = 400;

/// Records a workload, cuts the power so many times, and checks what is left each time.
fn cut(kind: Kind, cuts: usize) {
    let home = home();
    let recorder = Recorder::new(kind, home.path());
    let mounted = recorder.mount();
    recorder.record().begin();
    let mut workload = Workload::new(&mounted.path("jobs"), 7, || recorder.position());
    let from = recorder.position();
    for _ in 0..STEPS {
        workload.step();
    }
    assert!(workload.errors.is_empty(), "{:?}", workload.errors);
    let Workload { ledger, queue, .. } = workload;
    // Behind the last answer nothing more is written: what is not synced by then is lost.
    let to = recorder.position();
    drop(queue);
    drop(mounted);
    let (mut flushes, mut bytes) = (0, 0);
    for event in &recorder.record().events {
        match event {
            Event::Flush => flushes += 1,
            Event::Write { bytes: written, .. } => bytes += written.len(),
        }
    }
    let (pushes, acks) = ledger.acknowledged();
    say(&format!(
        "{}: {STEPS} steps, {pushes} pushes and {acks} acks acknowledged; {to} events, {flushes} flushes, {} KiB",
        kind.name(),
        bytes >> 10
    ));

    let began = Instant::now();
    let mut sum = Found::default();
    let mut torn = 0;
    for seed in 0..cuts {
        let at = from as usize + Dice(seed as u64).below((to - from) as usize + 1);
        let mounted = recorder.mount_after_cut(at, seed as u64);
        let queue = options(&mounted.path("jobs")).create(false).open();
        let queue =
            queue.unwrap_or_else(|error| panic!("{} seed {seed}, cut {at}: P6: {error}", kind.name()));
        torn += usize::from(queue.recovery().has_findings());
        let found = ledger
            .check(&queue, Some(at as u64))
            .unwrap_or_else(|why| panic!("{} seed {seed}, cut {at}: {why}", kind.name()));
        queue.close().unwrap();
        sum.messages += found.messages;
        sum.promised += found.promised;
        sum.acked += found.acked;
    }
    let each = began.elapsed().as_secs_f64() / cuts.max(1) as f64;
    say(&format!(
        "{}: {cuts} power cuts, {each:.2} s each; {} messages found, {} of them promised; {} acks held; {torn} openings reported a torn tail; nothing lost, invented or repeated",
        kind.name(),
        sum.messages,
        sum.promised,
        sum.acked
    ));
}

#[test]
#[ignore = "needs root, loop devices and FUSE"]
fn ext4_keeps_every_promise_at_a_power_cut_at_any_write() {
    needs!(Kind::Ext4.tool());
    cut(Kind::Ext4, seeds(300));
}

#[test]
#[ignore = "needs root, loop devices and FUSE"]
fn xfs_keeps_every_promise_at_a_power_cut_at_any_write() {
    needs!(Kind::Xfs.tool());
    cut(Kind::Xfs, seeds(200));
}

#[test]
#[ignore = "needs root, loop devices and FUSE"]
fn btrfs_keeps_every_promise_at_a_power_cut_at_any_write() {
    needs!(Kind::Btrfs.tool());
    cut(Kind::Btrfs, seeds(200));
}
