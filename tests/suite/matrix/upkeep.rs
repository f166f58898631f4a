//! What comes of a fault while messages are copied together, or segments are given up?
//!
//! Nobody asked for that work: whoever pushes, receives and acks meanwhile must not notice, and it is done later.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use backlog::Error;
use backlog::testing::{Aim, Call, Fault, Made};

use super::clocks::JUMPS;
use super::stage::*;
use super::stall::{AtLast, Device};
use super::table::Point;
use crate::ledger::payload;
use crate::script::Run;
use crate::step::Step;
use crate::watch;

/// The group that works on meanwhile.
pub(crate) const WORKER: &str = "worker";

/// Two looks at what is live, a copy in two steps, and what comes of it.
const ROUNDS: usize = 6;

/// What must come of a fault that background work met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Later {
    /// It is given up, and done later.
    B,
    /// The manifest, or a group, is not to be relied on before the next opening; which does it.
    AfterOpening,
}

const PUSH: Step = Step::Push { synced: true, length: 30 };

/// Pushes, receives and acks go on while background work is done.
fn rounds() -> Vec<Step> {
    let round = [
        PUSH,
        Step::Receive { group: WORKER, count: 1 },
        Step::Ack { group: WORKER, count: 1 },
        Step::Duties,
        Step::Advance { seconds: 1 },
    ];
    std::iter::repeat_n(round, ROUNDS).flatten().collect()
}

/// Leaves three segments behind the active one: with a few small messages that are stuck in each, to be copied
/// together; or with nothing that anybody needs. One group's acks are buffered.
pub(crate) fn stage(point: Point, mut run: Run, synced: bool) -> Stage {
    let all = 100;
    let mut before = vec![
        Step::Create { group: GROUP, synced },
        Step::Create { group: OTHER, synced: false },
        Step::Create { group: WORKER, synced: true },
    ];
    for number in 0..14 {
        // Every second message is small. Some lie in the middle of a batch.
        match number % 3 {
            2 => before.push(Step::Batch { synced: true, count: 2, length: 30 }),
            _ => before.push(Step::Push { synced: true, length: 1200 }),
        }
        if number % 3 != 2 {
            before.push(Step::Push { synced: true, length: 10 });
        }
    }
    for group in [GROUP, OTHER, WORKER] {
        before.push(Step::Receive { group, count: all });
        match point {
            Point::Copy if group != WORKER => before.push(Step::AckAll { group }),
            _ => before.push(Step::Ack { group, count: all }),
        }
    }
    before.into_iter().for_each(|step| run.step(step).unwrap());
    assert!(!run.failed, "{:?}", run.error);
    Stage { run, act: rounds() }
}

/// Returns the names of the segments that there are.
pub(crate) fn segments(stage: &Stage) -> BTreeSet<String> {
    stage.run.disk.files().into_iter().filter(|name| name.ends_with(".seg")).collect()
}

/// Opens again; returns how many segments there are then, and whether files are there that none is made of.
fn opened_again(stage: &mut Stage) -> usize {
    // What failed before the close may be told by it.
    let _ = stage.step(Step::Reopen);
    let named = stage.run.queue().expect("it opens").stats().segments;
    assert_eq!(segments(stage).len(), named, "what is given up is gone: {:?}", segments(stage));
    named
}

/// Works on, and has background work done; `Err`s of that are told by it.
pub(crate) fn work(stage: &mut Stage) -> Vec<Error> {
    let mut told = Vec::new();
    for step in rounds() {
        match (step, stage.step(step)) {
            (Step::Duties, error) => told.extend(error),
            (_, error) => assert!(error.is_none(), "{step:?} notices: {error:?}"),
        }
    }
    told
}

/// Returns the calls of background work on the log, the manifest and on the groups that are not worked on.
fn calls(point: Point) -> (Vec<(Aim, Made)>, usize) {
    let mut rehearsal = Stage::at(point);
    let before = segments(&rehearsal);
    let active = before.last().unwrap().clone();
    assert!(before.len() > 3, "{before:?}");
    rehearsal.run.disk.record();
    assert!(rehearsal.act().is_none());
    let made = rehearsal.run.disk.made();
    let meant = |made: &Made| match made.name.as_str() {
        name if name.starts_with("log") => *name != *active,
        name => name == "MANIFEST" || name.starts_with("groups/other"),
    };
    let meant = (0..made.len()).filter(|&index| meant(&made[index]));
    let meant = meant.map(|index| (aim_at(&made, index), made[index].clone())).collect();
    // As many as after twice the time.
    assert!(rehearsal.act().is_none());
    let left = opened_again(&mut rehearsal);
    assert!(left < before.len(), "{point:?} does nothing: {before:?}");
    (meant, left)
}

/// Lets each call of background work go wrong that `expected` has an opinion on, in each of the ways.
pub(crate) fn each(point: Point, faults: &[Fault], expected: impl Fn(&Made) -> Option<Later>) {
    let (calls, left) = calls(point);
    let mut tried = 0;
    for (aim, made) in &calls {
        let Some(then) = expected(made) else { continue };
        for &fault in faults {
            println!("{point:?}: {fault:?} at {made:?}: {then:?}");
            let stage = Stage::at(point);
            stage.run.disk.aim(aim.clone(), fault);
            meets(stage, then, left);
            tried += 1;
        }
    }
    assert!(tried > 0, "the fault met nothing: {calls:?}");
}

/// Works on through the fault; once the cause is gone, the work is done, and `left` segments are left.
fn meets(mut stage: Stage, then: Later, left: usize) {
    let told = work(&mut stage);
    match then {
        Later::B => {
            let of_disk = |error: &Error| matches!(error, Error::Io { .. } | Error::Full { .. });
            assert!(told.iter().all(of_disk), "{told:?}");
        }
        Later::AfterOpening => {
            assert!(told.iter().any(|error| matches!(error, Error::Poisoned { .. })), "{told:?}");
        }
    }
    stage.crashes();
    stage.run.disk.heal();
    if then == Later::AfterOpening {
        opened_again(&mut stage);
    }
    let told = work(&mut stage);
    assert!(told.is_empty(), "later: {told:?}");
    stage.crashes();
    assert_eq!(opened_again(&mut stage), left, "it was not done later");
    stage.crashes();
    stage.killed();
}

/// Calls with which a file comes into being, or gets another content or name.
pub(crate) const CHANGES: [Call; 6] =
    [Call::Create, Call::Allocate, Call::Write, Call::Rename, Call::Remove, Call::SetLen];

/// What comes of one of these calls that fails.
pub(crate) fn of(made: &Made, calls: &[Call]) -> Option<Later> {
    if !calls.contains(&made.call) {
        return None;
    }
    // It is not known which slot holds, or which acks: whoever asks next must open again.
    let unknown = on_manifest(made) && is(made, &[Call::Write, Call::Sync]) || on_group(made);
    Some(if unknown { Later::AfterOpening } else { Later::B })
}

/// Background work frees what it can on a disk without room.
#[test]
fn frees_on_a_full_disk() {
    let (_, left) = calls(Point::Delete);
    let mut stage = Stage::at(Point::Delete);
    stage.run.disk.budget(Some(0));
    for _ in 0..2 {
        // That there is no room for a next segment is told.
        assert!(stage.step(Step::Duties).is_none_or(|error| error.is_full()));
        assert!(stage.step(Step::Advance { seconds: 1 }).is_none());
    }
    let there = stage.run.queue().unwrap().stats().segments;
    assert!(there <= left, "{there}, {left}");
    stage.crashes();
    stage.killed();
}

/// A device that stalls in background work holds up nobody who pushes, receives or acks.
pub(crate) fn a_stall(point: Point) {
    let (calls, _) = calls(point);
    for (aim, made) in calls.iter().filter(|(_, made)| !on_group(made)) {
        let _watched = watch::over(format!("{point:?} stalls at {made:?}"));
        let mut stage = Stage::at(point);
        stage.run.ledger.many_threads = true;
        let id = stage.run.ledger.begin(1, true)[0];
        let queue = stage.run.queue().unwrap().clone();
        let device = Device::stalling(&stage.run.disk, aim.clone());

        let (told, pushed, came) = thread::scope(|scope| {
            let working = scope.spawn(|| work(&mut stage));
            let at_last = AtLast(&device);
            device.has_stalled();
            let pushed = queue.push(payload(id, 30)).unwrap();
            let job = queue.group(WORKER).unwrap().consumer().try_recv().unwrap().expect("one is ready");
            let came = (job.offset().get(), job.payload().to_vec());
            job.ack().unwrap();
            assert!(queue.stats().messages > 0);
            drop(at_last);
            (working.join().unwrap(), pushed, came)
        });

        assert!(told.is_empty(), "{made:?}: {told:?}");
        stage.run.ledger.pushed(&[id], &Ok(vec![pushed.get()])).unwrap();
        let came = stage.run.ledger.lent(WORKER, came.0, &came.1).unwrap();
        stage.run.ledger.settled(WORKER, came, true);
        stage.crashes();
        stage.killed();
    }
}

/// Clocks that jump amid background work hasten or defer it.
pub(crate) fn a_jump(point: Point) {
    let (calls, left) = calls(point);
    for jump in JUMPS {
        for (aim, made) in &calls {
            let mut stage = Stage::at(point);
            let clock = stage.run.clock.clone();
            stage.run.disk.before(aim.clone(), Arc::new(move || jump.happens_to(&clock)));
            let mut told = work(&mut stage);
            told.extend(work(&mut stage));
            assert!(told.is_empty(), "{jump:?} at {made:?}: {told:?}");
            stage.crashes();
            assert!(opened_again(&mut stage) <= left, "{jump:?} at {made:?}");
            stage.killed();
        }
    }
}
