//! How is a queue brought to the point at which the fault hits, and what must be true afterwards?

use backlog::testing::{Aim, Call, Fault, Made, ManualClock, SimDisk};
use backlog::{Error, Finding, Inspection, Options, Result};

use super::table::Point;
use crate::ledger::{End, Found, Ledger};
use crate::script::{Run, Setup, Trouble};
use crate::step::Step;

/// The group in whose file the fault hits, and the one that must not notice.
pub(crate) const GROUP: &str = "g";
pub(crate) const OTHER: &str = "other";

pub(crate) const EPERM: i32 = 1;
pub(crate) const EINTR: i32 = 4;
pub(crate) const EIO: i32 = 5;
pub(crate) const ENOMEM: i32 = 12;
pub(crate) const EACCES: i32 = 13;
pub(crate) const ENFILE: i32 = 23;
pub(crate) const EMFILE: i32 = 24;
pub(crate) const EFBIG: i32 = 27;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EROFS: i32 = 30;
pub(crate) const EOPNOTSUPP: i32 = 95;
pub(crate) const EDQUOT: i32 = 122;

/// Crashes after which every promise is looked at: all that is unsynced lost, all kept, mixtures.
const SEEDS: [u64; 5] = [0, 1, 3, 4, 5];

/// What must come of a call that met the fault (`RELIABILITY.md` §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// A typed error, nothing of the call is ever seen, and the same call works again.
    E,
    /// The error says so, pushes are refused from then on, and what is durable goes on being lent.
    X,
    /// The group is refused from then on; pushes and the other group go on.
    Q,
    /// No effect.
    Same,
}

/// A queue at a point: these steps reach it.
pub(crate) struct Stage {
    pub(crate) run: Run,
    pub(crate) act: Vec<Step>,
}

const PUSH: Step = Step::Push { synced: true, length: 100 };

impl Stage {
    pub(crate) fn at(point: Point) -> Self {
        let setup = Setup { segment_bytes: 8 << 10, ..Setup::default() };
        Self::with(point, setup, Trouble::None, true)
    }

    /// On another disk, with trouble, or with a group whose acks are buffered.
    pub(crate) fn with(point: Point, setup: Setup, trouble: Trouble, synced: bool) -> Self {
        let mut run = Run::new(setup, trouble);
        if matches!(point, Point::Copy | Point::Delete) {
            return super::upkeep::stage(point, run, synced);
        }
        let act = match point {
            Point::Append => PUSH,
            Point::Batch => Step::Batch { synced: true, count: 5, length: 90 },
            Point::Sync => Step::Deferred { count: 4, length: 50 },
            Point::Roll => Step::Push { synced: true, length: 3500 },
            Point::Ack => Step::Ack { group: GROUP, count: 1 },
            Point::Switch => Step::Receive { group: GROUP, count: 2 },
            Point::Open | Point::Inspect => PUSH,
            Point::Copy | Point::Delete => unreachable!("has a stage of its own"),
        };
        let before = [
            Step::Create { group: GROUP, synced },
            Step::Create { group: OTHER, synced: true },
            PUSH,
            Step::Batch { synced: true, count: 4, length: 100 },
            Step::Receive { group: GROUP, count: 3 },
            Step::Ack { group: GROUP, count: 1 },
            Step::Receive { group: OTHER, count: 1 },
        ];
        before.into_iter().for_each(|step| run.step(step).unwrap());
        if point == Point::Switch {
            // Every opening switches before its first entry.
            run.step(Step::Reopen).unwrap();
        }
        assert!(!run.failed, "{:?}", run.error);
        Self { run, act: vec![act] }
    }

    /// Does one step; returns what it failed with.
    pub(crate) fn step(&mut self, step: Step) -> Option<Error> {
        self.run.error = None;
        self.run.step(step).unwrap_or_else(|broken| panic!("{step:?}: {broken}"));
        self.run.error.take()
    }

    /// Does what the point is about; returns the first failure.
    pub(crate) fn act(&mut self) -> Option<Error> {
        let errors: Vec<Error> = self.act.clone().into_iter().filter_map(|step| self.step(step)).collect();
        errors.into_iter().next()
    }

    /// Checks every promise after crashes from here; the queue goes on.
    pub(crate) fn crashes(&self) {
        for seed in SEEDS {
            let disk = self.run.disk.crash(seed);
            let checked = self.run.ledger.check(&disk, &self.run.options(), End::PowerCut);
            checked.unwrap_or_else(|broken| panic!("power cut, seed {seed}: {broken}"));
        }
    }

    /// Checks every promise after a kill.
    pub(crate) fn killed(self) {
        let disk = self.run.disk.kill();
        let checked = self.run.ledger.check(&disk, &self.run.options(), End::Killed);
        checked.unwrap_or_else(|broken| panic!("killed: {broken}"));
    }

    /// Does what the point is about, with the fault ordered, and checks what comes of it.
    pub(crate) fn meets(mut self, then: Then) {
        let error = self.act();
        match then {
            Then::Same => assert!(error.is_none(), "{error:?}"),
            Then::E => {
                let error = error.expect("the call says nothing of its fault");
                assert!(matches!(error, Error::Io { .. } | Error::Full { .. }), "{error:?}");
                self.crashes();
                self.run.disk.heal();
                let again = self.act();
                assert!(again.is_none(), "the same call, the cause being gone: {again:?}");
            }
            Then::X => {
                let error = error.expect("the call says nothing of its fault");
                assert!(matches!(error, Error::Poisoned { .. }), "{error:?}");
                self.run.disk.heal();
                let again = self.step(PUSH);
                assert!(matches!(again, Some(Error::Poisoned { .. })), "a push later: {again:?}");
                self.goes_on(OTHER);
            }
            Then::Q => {
                let error = error.expect("the call says nothing of its fault");
                assert!(matches!(error, Error::Poisoned { .. }), "{error:?}");
                self.run.disk.heal();
                let again = self.step(Step::Receive { group: GROUP, count: 1 });
                assert!(matches!(again, Some(Error::Poisoned { .. })), "a later loan: {again:?}");
                let pushed = self.step(PUSH);
                assert!(pushed.is_none(), "a push later: {pushed:?}");
                self.goes_on(OTHER);
            }
        }
        self.crashes();
        self.killed();
    }

    /// Delivery and acks of what is durable go on.
    pub(crate) fn goes_on(&mut self, group: &'static str) {
        for step in [Step::Receive { group, count: 1 }, Step::Ack { group, count: 1 }] {
            let error = self.step(step);
            assert!(error.is_none(), "{step:?}: {error:?}");
        }
    }
}

/// Lets each call go wrong that is made at a point and that `expected` has an opinion on, one at a
/// time and in each of the ways, and checks what comes of it.
///
/// `expected` is told what was called before in the same step.
pub(crate) fn each(point: Point, faults: &[Fault], expected: impl Fn(&Made, &[Made]) -> Option<Then>) {
    let mut rehearsal = Stage::at(point);
    rehearsal.run.disk.record();
    assert!(rehearsal.act().is_none());
    let calls = rehearsal.run.disk.made();
    let mut tried = 0;
    for (index, made) in calls.iter().enumerate() {
        let Some(then) = expected(made, &calls[..index]) else { continue };
        for &fault in faults {
            println!("{point:?}: {fault:?} at {made:?}: {then:?}");
            let stage = Stage::at(point);
            stage.run.disk.aim(aim_at(&calls, index), fault);
            stage.meets(then);
            tried += 1;
        }
    }
    assert!(tried > 0, "the fault met nothing: {calls:?}");
}

/// Aims at one of the calls that were recorded, when they are made again.
pub(crate) fn aim_at(calls: &[Made], index: usize) -> Aim {
    let made = &calls[index];
    let alike = |other: &&Made| (other.call, &other.name) == (made.call, &made.name);
    let before = calls[..index].iter().filter(alike).count();
    Aim::at(made.call, made.name.clone()).after(before as u64)
}

/// A disk as a dead process has left it, with an end that is not closed, and what must be on it.
pub(crate) struct Left {
    pub(crate) disk: SimDisk,
    pub(crate) ledger: Ledger,
    pub(crate) options: Options,
}

impl Left {
    /// Leaves a queue of two segments and two groups, killed in the middle of it.
    pub(crate) fn new() -> Self {
        let mut stage = Stage::at(Point::Roll);
        assert!(stage.act().is_none());
        for step in [PUSH, Step::Receive { group: GROUP, count: 2 }, Step::Ack { group: GROUP, count: 2 }] {
            assert!(stage.step(step).is_none());
        }
        let disk = stage.run.disk.crash(1);
        Self { disk, options: stage.run.options(), ledger: stage.run.ledger }
    }

    /// Leaves a queue whose log ends in a batch that reached the disk in part.
    pub(crate) fn torn() -> Self {
        let mut stage = Stage::at(Point::Append);
        assert!(stage.act().is_none());
        assert!(stage.step(Step::Batch { synced: false, count: 3, length: 600 }).is_none());
        let options = stage.run.options();
        let disk = (2..200).map(|seed| stage.run.disk.crash(seed)).find(|disk| {
            let queue = options.clone().sim_disk(&disk.crash(1)).threads(false).open().unwrap();
            queue.recovery().torn_bytes > 0
        });
        Self { disk: disk.expect("a seed that tears"), options, ledger: stage.run.ledger }
    }

    /// Leaves a group whose switch was cut short before the old half was marked: an opening has
    /// something to make good.
    pub(crate) fn unfinished() -> Self {
        let setup = Setup { segment_bytes: 8 << 10, ..Setup::default() };
        let first = Stage::at(Point::Switch).run.ops();
        for op in first.. {
            let mut stage = Stage::with(Point::Switch, setup, Trouble::StopAfter(op), true);
            let _ = stage.act();
            let disk = stage.run.disk.crash(1);
            let left = Self { disk, options: stage.run.options(), ledger: stage.run.ledger };
            let rehearsal = left.copy();
            rehearsal.record();
            let queue = left.open(&rehearsal).unwrap();
            let made = rehearsal.made();
            drop(queue);
            if made.iter().any(|made| made.call == Call::Write && on_group(made)) {
                return left;
            }
        }
        unreachable!("a switch marks the old half")
    }

    /// Returns a disk of its own with the same content.
    pub(crate) fn copy(&self) -> SimDisk {
        self.disk.crash(1)
    }

    pub(crate) fn open(&self, disk: &SimDisk) -> Result<backlog::Queue, Error> {
        self.options.clone().sim_disk(disk).threads(false).open()
    }

    /// Checks what an opening finds.
    pub(crate) fn check(&self, disk: &SimDisk) -> Found {
        let checked = self.ledger.check(disk, &self.options, End::PowerCut);
        checked.unwrap_or_else(|broken| panic!("{broken}"))
    }

    /// Lets each call of an opening go wrong that `refuses` has an opinion on: it refuses with an
    /// error and changes nothing, or (`false`) takes no notice. Once the cause is gone, the opening
    /// finds what it would have found without.
    ///
    /// What is looked at before the lock is taken is looked at again afterwards: it may be either.
    pub(crate) fn each_opening(&self, faults: &[Fault], refuses: impl Fn(&Made) -> Option<bool>) {
        let calm = self.check(&self.copy());
        let rehearsal = self.copy();
        rehearsal.record();
        let queue = self.open(&rehearsal).unwrap();
        let calls: Vec<Made> = rehearsal.made();
        drop(queue);
        let mut tried = 0;
        for (index, made) in calls.iter().enumerate() {
            let Some(refuses) = refuses(made) else { continue };
            let early = !calls[..index].iter().any(|made| made.call == Call::Lock);
            for &fault in faults {
                println!("open: {fault:?} at {made:?}: refuses {refuses}");
                let disk = self.copy();
                disk.aim(aim_at(&calls, index), fault);
                let opened = self.open(&disk);
                assert!(early || opened.is_err() == refuses, "{:?}", opened.err());
                if let Err(error) = &opened {
                    assert!(matches!(error, Error::Io { .. } | Error::Full { .. }), "{error:?}");
                    assert_eq!(log_and_manifest(&disk), log_and_manifest(&self.disk));
                }
                drop(opened);
                // Closed or refused: the cause being gone, all is found that was there.
                assert_eq!(self.check(&disk.crash(1)), calm);
                tried += 1;
            }
        }
        assert!(tried > 0, "the fault met nothing: {calls:?}");
    }

    /// Lets each call of one who looks go wrong that `meant` names: it is an error or a finding, and
    /// nothing is changed.
    pub(crate) fn each_look(&self, faults: &[Fault], meant: impl Fn(&Made) -> bool) {
        let before = all(&self.disk);
        let rehearsal = self.copy();
        rehearsal.record();
        let calm = verify(&rehearsal).unwrap();
        let calls: Vec<Made> = rehearsal.made();
        assert_eq!(rehearsal.ops(), 0, "looking is no operation: {calls:?}");
        let mut tried = 0;
        for (index, made) in calls.iter().enumerate().filter(|(_, made)| meant(made)) {
            for &fault in faults {
                let disk = self.copy();
                // Lasting: what fails once is looked at again.
                disk.aim(aim_at(&calls, index).lasting(), fault);
                let told = verify(&disk).map_or(true, |findings| findings.len() > calm.len());
                assert!(told, "{fault:?} at {made:?} is passed over in silence");
                disk.heal();
                assert_eq!(verify(&disk).unwrap(), calm, "looked at again");
                assert_eq!((all(&disk), disk.ops()), (before.clone(), 0), "looking changes nothing");
                tried += 1;
            }
        }
        assert!(tried > 0, "the fault met nothing: {calls:?}");
    }
}

/// All files but the lock's, whose text informs only.
pub(crate) fn all(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.files().into_iter().filter(|name| name != "LOCK");
    names.map(|name| (name.clone(), disk.read_file(&name).unwrap())).collect()
}

pub(crate) fn log_and_manifest(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    all(disk).into_iter().filter(|(name, _)| !name.starts_with("groups/")).collect()
}

/// The queue on a disk, for those who look: pauses take no time.
fn queue_on(disk: &SimDisk) -> Options {
    Options::new("jobs").sim_disk(disk).manual_clock(&ManualClock::new(0))
}

pub(crate) fn inspect(disk: &SimDisk) -> Result<Inspection> {
    queue_on(disk).inspect()
}

pub(crate) fn verify(disk: &SimDisk) -> Result<Vec<Finding>> {
    queue_on(disk).verify()
}

/// One who looks at the disk sees the queue and changes nothing.
pub(crate) fn looks_and_changes_nothing(disk: &SimDisk) {
    let (before, ops) = (all(disk), disk.ops());
    inspect(disk).unwrap();
    let findings = verify(disk).unwrap();
    let bad = findings.iter().find(|finding| finding.kind != backlog::FindingKind::Torn);
    assert!(bad.is_none(), "{bad:?}");
    assert_eq!((all(disk), disk.ops()), (before, ops));
}

/// Tells whether a call is on a segment.
pub(crate) fn on_log(made: &Made) -> bool {
    made.name.starts_with("log/")
}

pub(crate) fn on_manifest(made: &Made) -> bool {
    made.name == "MANIFEST"
}

pub(crate) fn on_group(made: &Made) -> bool {
    made.name.starts_with("groups/")
}

pub(crate) fn is(made: &Made, calls: &[Call]) -> bool {
    calls.contains(&made.call)
}
