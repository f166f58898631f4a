//! Does whoever needs nothing of a device that stalls go on, and everybody once it does?

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use backlog::testing::{Aim, Call, Made, ManualClock, SimDisk};
use backlog::{Error, Queue};

use super::stage::*;
use super::table::Point;
use crate::ledger::payload;
use crate::watch;

/// A device that stops in the middle of a call until it is told to go on.
pub(crate) struct Device {
    stalls: Mutex<Option<bool>>,
    changed: Condvar,
}

impl Device {
    pub(crate) fn stalling(disk: &SimDisk, at: Aim) -> Arc<Self> {
        let device = Arc::new(Self { stalls: Mutex::new(None), changed: Condvar::new() });
        let hook = device.clone();
        disk.before(at, Arc::new(move || hook.stall()));
        device
    }

    fn stall(&self) {
        let mut stalls = self.stalls.lock().unwrap();
        *stalls = Some(true);
        self.changed.notify_all();
        drop(self.changed.wait_while(stalls, |stalls| *stalls == Some(true)).unwrap());
    }

    /// Returns once somebody sits in the call.
    pub(crate) fn has_stalled(&self) {
        let stalls = self.stalls.lock().unwrap();
        drop(self.changed.wait_while(stalls, |stalls| stalls.is_none()).unwrap());
    }

    fn goes_on(&self) {
        *self.stalls.lock().unwrap() = Some(false);
        self.changed.notify_all();
    }
}

/// A test that panics while the device stalls would wait for ever for who sits in the call.
pub(crate) struct AtLast<'a>(pub(crate) &'a Device);

impl Drop for AtLast<'_> {
    fn drop(&mut self) {
        self.0.goes_on();
    }
}

/// Moves the clock until a call that has a deadline has returned, and returns its answer.
fn in_time<R: Send>(clock: &ManualClock, call: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| {
        let waiting = scope.spawn(call);
        while !waiting.is_finished() {
            clock.advance(Duration::from_secs(60));
            thread::yield_now();
        }
        waiting.join().unwrap()
    })
}

const SOON: Duration = Duration::from_secs(30);

pub(crate) fn a_stall(point: Point) {
    match point {
        Point::Open => an_opening_stalls(),
        Point::Inspect => one_who_looks_is_stalled(),
        Point::Copy | Point::Delete => super::upkeep::a_stall(point),
        _ => a_call_stalls(point),
    }
}

fn a_call_stalls(point: Point) {
    let mut rehearsal = Stage::at(point);
    rehearsal.run.disk.record();
    assert!(rehearsal.act().is_none());
    let calls = rehearsal.run.disk.made();
    assert!(!calls.is_empty(), "nothing happens there");
    let of_group = matches!(point, Point::Ack | Point::Switch);
    for (index, made) in calls.iter().enumerate() {
        let _watched = watch::over(format!("{point:?} stalls at {made:?}"));
        let mut stage = Stage::at(point);
        // Whoever comes meanwhile comes from another thread.
        stage.run.ledger.many_threads = true;
        let id = stage.run.ledger.begin(1, true)[0];
        let (queue, clock) = (stage.run.queue().unwrap().clone(), stage.run.clock.clone());
        let device = Device::stalling(&stage.run.disk, aim_at(&calls, index));

        let (error, pushed, other, received) = thread::scope(|scope| {
            let acting = scope.spawn(|| stage.act());
            let at_last = AtLast(&device);
            device.has_stalled();
            let other = the_other_group_goes_on(&queue);
            let ticket = queue.push_deferred(payload(id, 40)).unwrap();
            let told = in_time(&clock, || ticket.wait_timeout(SOON));
            // A loan is on record before it is handed out: one more of that group waits for the device.
            let receiving =
                of_group.then(|| scope.spawn(|| queue.group(GROUP).unwrap().consumer().recv_timeout(SOON)));
            if of_group {
                assert!(told.is_ok(), "the log's device does not stall: {told:?}");
            } else {
                assert!(matches!(told, Err(Error::Timeout { .. })), "{made:?}: {told:?}");
            }
            drop(at_last);
            let received = receiving.map(|receiving| in_time(&clock, || receiving.join().unwrap()));
            (acting.join().unwrap(), ticket.wait(), other, received)
        });

        assert!(error.is_none(), "{made:?}: {error:?}");
        assert!(pushed.is_ok(), "what took longer than somebody would wait is done all the same: {pushed:?}");
        stage.run.ledger.pushed(&[id], &pushed.map(|offset| vec![offset.get()])).unwrap();
        if let Some(job) = received.and_then(|received| received.unwrap()) {
            let received = stage.run.ledger.lent(GROUP, job.offset().get(), job.payload()).unwrap();
            stage.run.ledger.returned(GROUP, received);
            job.release().unwrap();
        }
        let other = stage.run.ledger.lent(OTHER, other.0, &other.1).unwrap();
        stage.run.ledger.settled(OTHER, other, true);
        assert!(stage.act().is_none(), "{made:?}: and so goes all that comes after it");
        stage.crashes();
        stage.killed();
    }
}

/// A message that is durable is lent and acked meanwhile; returns its offset and payload.
fn the_other_group_goes_on(queue: &Queue) -> (u64, Vec<u8>) {
    assert!(queue.stats().messages > 0);
    let job = queue.group(OTHER).unwrap().consumer().try_recv().unwrap().expect("one is ready");
    let what = (job.offset().get(), job.payload().to_vec());
    job.ack().unwrap();
    what
}

/// Whoever else wants the queue is told in time that it is taken, and the opening ends as ever.
fn an_opening_stalls() {
    let left = Left::unfinished();
    let calm = left.check(&left.copy());
    let rehearsal = left.copy();
    rehearsal.record();
    drop(left.open(&rehearsal).unwrap());
    let calls = rehearsal.made();
    let locked = calls.iter().position(|made| made.call == Call::Lock).expect("an opening locks");
    // What follows belongs to the close.
    let last = calls.iter().rposition(|made| made.call == Call::Read).expect("an opening reads");
    for (index, made) in calls.iter().enumerate().take(last + 1).skip(locked + 1) {
        let _watched = watch::over(format!("an opening stalls at {made:?}"));
        let disk = left.copy();
        let device = Device::stalling(&disk, aim_at(&calls, index));
        thread::scope(|scope| {
            let opening = scope.spawn(|| left.open(&disk).map(drop));
            let at_last = AtLast(&device);
            device.has_stalled();
            let clock = ManualClock::new(0);
            let options = left.options.clone().sim_disk(&disk).manual_clock(&clock).threads(false);
            let other = in_time(&clock, || options.lock_timeout(SOON).open().map(drop));
            assert!(matches!(other, Err(Error::Locked { .. })), "{made:?}: {other:?}");
            drop(at_last);
            opening.join().unwrap().unwrap();
        });
        assert_eq!(left.check(&disk.crash(1)), calm, "{made:?}");
    }
}

/// One who looks holds nothing that the owner waits for.
fn one_who_looks_is_stalled() {
    let rehearsal = Stage::at(Point::Append);
    rehearsal.run.disk.record();
    verify(&rehearsal.run.disk).unwrap();
    let calls: Vec<Made> = rehearsal.run.disk.made();
    for (index, made) in calls.iter().enumerate() {
        let _watched = watch::over(format!("one who looks is stalled at {made:?}"));
        let mut stage = Stage::at(Point::Append);
        let disk = stage.run.disk.clone();
        let device = Device::stalling(&disk, aim_at(&calls, index));
        let findings = thread::scope(|scope| {
            let looking = scope.spawn(|| verify(&disk));
            let at_last = AtLast(&device);
            device.has_stalled();
            assert!(stage.act().is_none(), "{made:?}");
            stage.goes_on(GROUP);
            drop(at_last);
            looking.join().unwrap().unwrap()
        });
        let bad = findings.iter().find(|finding| finding.kind != backlog::FindingKind::Torn);
        assert!(bad.is_none(), "{made:?}: {bad:?}");
        stage.killed();
    }
}
