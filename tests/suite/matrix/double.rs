//! Do the promises hold when one fault follows another?

use std::sync::{Arc, Mutex};

use backlog::testing::{Aim, Call, Fault, Made, SimDisk};
use backlog::{Error, Options};

use super::stage::*;
use super::table::Point;
use crate::ledger::{End, Ledger, number};
use crate::script::{Run, Setup, Trouble};
use crate::step::Step;

const PUSH: Step = Step::Push { synced: true, length: 100 };

fn setup() -> Setup {
    Setup { segment_bytes: 8 << 10, ..Setup::default() }
}

/// What an earlier process has left, and what is known of it.
struct Past {
    disk: SimDisk,
    ledger: Ledger,
}

impl Past {
    fn of(left: &Left) -> Self {
        Self { disk: left.copy(), ledger: left.ledger.clone() }.settled()
    }

    /// Goes on with it: opens, receives, acks and pushes; all of that belongs to the recovery, since
    /// it makes halves switch and sets torn bytes aside.
    fn go_on(&self, trouble: Trouble) -> Run {
        let mut run = Run::resumed(setup(), trouble, self.disk.crash(1), self.ledger.clone());
        let steps = [Step::Receive { group: GROUP, count: 1 }, PUSH, Step::Ack { group: GROUP, count: 1 }];
        for step in steps {
            run.step(step).unwrap_or_else(|broken| panic!("{step:?}: {broken}"));
        }
        run
    }

    /// Takes what an opening would find now for what is.
    fn settled(mut self) -> Self {
        let options = Options::new("simulated").segment_bytes(setup().segment_bytes);
        let found = self.ledger.check(&self.disk.crash(1), &options, End::PowerCut);
        self.ledger.resolve(&found.unwrap_or_else(|broken| panic!("{broken}")));
        self.ledger.deaf = false;
        self
    }
}

/// Cuts the power amid the recovery, and amid the recovery from that, and so on; returns how many
/// ends there were.
fn cut_again(past: &Past, depth: usize, way: &str) -> usize {
    let ops = past.go_on(Trouble::None).ops();
    assert!(ops > 10, "a recovery does something: {ops}");
    // Each operation at first; further down one of seven, another one each time.
    let (from, stride) = if depth == 0 { (0, 1) } else { (way.len() as u64 % 7, 7) };
    let mut ends = 0;
    for op in (from..=ops).step_by(stride) {
        let seeds: &[u64] = if depth == 0 { &[0, 1, 3, 4] } else { &[0, 5] };
        for &seed in seeds {
            let way = format!("{way} {op}:{seed}");
            let run = past.go_on(Trouble::StopAfter(op));
            let next = Past { disk: run.disk.crash(seed), ledger: run.ledger.clone() };
            let checked = next.ledger.check(&next.disk.crash(1), &run.options(), End::PowerCut);
            checked.unwrap_or_else(|broken| panic!("cut at{way}: {broken}"));
            ends += 1;
            if depth < 2 {
                ends += cut_again(&next.settled(), depth + 1, &way);
            }
        }
    }
    ends
}

#[test]
fn a_power_cut_in_the_recovery_from_a_power_cut_loses_nothing_three_deep() {
    for left in [Left::torn(), Left::unfinished()] {
        let ends = cut_again(&Past::of(&left), 0, "");
        println!("{ends} power cuts");
        assert!(ends > 1000, "{ends}");
    }
}

#[test]
fn a_full_disk_in_the_recovery_from_a_power_cut_takes_acks_and_goes_on_when_there_is_room() {
    for left in [Left::new(), Left::torn(), Left::unfinished()] {
        let past = Past::of(&left);
        let disk = past.disk.crash(1);
        disk.budget(Some(0));
        let mut stage =
            Stage { run: Run::resumed(setup(), Trouble::None, disk, past.ledger.clone()), act: vec![PUSH] };

        // It opens, lends and takes acks: that is how room comes back.
        let received = stage.step(Step::Receive { group: GROUP, count: 1 });
        let acked = stage.step(Step::Ack { group: GROUP, count: 1 });
        assert!(received.is_none() && acked.is_none(), "{received:?} {acked:?}");
        stage.crashes();
        let refused = (0..100).find_map(|_| stage.step(Step::Push { synced: true, length: 900 }));
        assert!(refused.as_ref().is_some_and(Error::is_full), "{refused:?}");
        stage.crashes();
        stage.run.disk.budget(None);

        // Without another opening.
        stage.meets(Then::Same);
    }
}

#[test]
fn a_full_disk_at_any_operation_of_a_recovery_from_a_power_cut_loses_nothing() {
    for left in [Left::new(), Left::torn(), Left::unfinished()] {
        let past = Past::of(&left);
        let ops = past.go_on(Trouble::None).ops();
        for op in 1..=ops {
            let run = past.go_on(Trouble::Fail(op, Fault::Full));
            for seed in [0, 1, 3] {
                let checked = run.ledger.check(&run.disk.crash(seed), &run.options(), End::PowerCut);
                checked.unwrap_or_else(|broken| panic!("full at {op}, then power cut {seed}: {broken}"));
            }
        }
    }
}

/// A roll that found no room, and then one that does.
fn rolls_again() -> Stage {
    let mut stage = Stage::at(Point::Roll);
    stage.run.disk.budget(Some(0));
    let refused = stage.act();
    assert!(refused.as_ref().is_some_and(Error::is_full), "{refused:?}");
    stage.run.disk.budget(None);
    stage
}

#[test]
fn a_failed_sync_in_a_roll_that_follows_a_full_disk_is_final() {
    let mut rehearsal = rolls_again();
    rehearsal.run.disk.record();
    assert!(rehearsal.act().is_none());
    let calls = rehearsal.run.disk.made();
    let is_new = |made: &Made| on_log(made) && made.name != "log/000000001.seg";
    let faults = [Fault::Io, Fault::SyncLost, Fault::Errno(ENOSPC)];
    let (mut refused, mut poisoned) = (0, 0);
    for (index, made) in calls.iter().enumerate() {
        let named = calls[..index].iter().any(|made| on_manifest(made) && made.call == Call::Sync);
        let then = match made.call {
            Call::Sync if is_new(made) && !named => Then::E,
            Call::Sync => Then::X,
            Call::SyncDir => Then::E,
            _ => continue,
        };
        for fault in faults {
            println!("{fault:?} at {made:?}: {then:?}");
            let stage = rolls_again();
            stage.run.disk.aim(aim_at(&calls, index), fault);
            stage.meets(then);
        }
        if then == Then::E { refused += 1 } else { poisoned += 1 }
    }
    assert!(refused == 2 && poisoned == 2, "{calls:?}");
    // With something unsynced in the old segment its sync is one of them.
    for fault in faults {
        let mut stage = rolls_again();
        assert!(stage.step(Step::Push { synced: false, length: 50 }).is_none());
        stage.run.disk.aim(Aim::at(Call::Sync, "log/000000001.seg"), fault);
        let error = stage.act();
        assert!(matches!(error, Some(Error::Poisoned { .. })), "{fault:?}: {error:?}");
        stage.run.ledger.buffered_is_in_doubt();
        stage.goes_on(OTHER);
        stage.crashes();
        stage.killed();
    }
}

/// Two consumers have loans; one acks, and the process is killed before the group is synced. What was
/// told stays, in doubt is the one ack and nothing else, and the other's loan is lost, not done.
#[test]
fn a_kill_between_an_ack_and_its_sync_costs_no_other_consumer_its_message() {
    for synced in [true, false] {
        let mut stage = Stage::with(Point::Ack, setup(), Trouble::None, synced);
        let queue = stage.run.queue().unwrap().clone();
        let second = queue.group(GROUP).unwrap().consumer();
        let job = second.try_recv().unwrap().unwrap();
        let theirs = stage.run.ledger.lent(GROUP, job.offset().get(), job.payload()).unwrap();
        let left: Arc<Mutex<Vec<SimDisk>>> = Arc::default();
        let (taken, disk) = (left.clone(), stage.run.disk.clone());
        stage.run.disk.before(
            Aim::at(Call::Sync, "groups/g/"),
            Arc::new(move || {
                let mut taken = taken.lock().unwrap();
                taken.extend([0, 1, 3, 4].map(|seed| disk.crash(seed)));
                taken.push(disk.kill());
            }),
        );

        let error = stage.act();
        // A buffered ack is told before any sync: the next one is where the process ends.
        let told = error.is_none();
        let synced_later = if synced { None } else { Some(queue.sync()) };

        assert_eq!(told, !synced, "{error:?}");
        assert!(synced_later.is_none_or(|told| told.is_err()));
        assert!(job.ack().is_err(), "the dead settle nothing");
        let taken = std::mem::take(&mut *left.lock().unwrap());
        assert_eq!(taken.len(), 5, "it was killed in between");
        stage.run.ledger.returned(GROUP, theirs);
        stage.run.ledger.process_ended();
        for (index, disk) in taken.iter().enumerate() {
            let end = if index == 4 { End::Killed } else { End::PowerCut };
            let checked = stage.run.ledger.check(&disk.crash(1), &stage.run.options(), end);
            checked.unwrap_or_else(|broken| panic!("synced {synced}, end {index}: {broken}"));
            let next = stage.run.options().sim_disk(disk).threads(false).open().unwrap();
            let consumer = next.group(GROUP).unwrap().consumer();
            let jobs: Vec<_> = std::iter::from_fn(|| consumer.try_recv().unwrap()).collect();
            let again = jobs.iter().find(|job| number(job.payload()) == Some(theirs));
            assert!(again.is_some_and(|job| job.attempt() >= 1), "the other's message comes again");
        }
    }
}

/// Two pushes of one group: the first is torn, the second whole. Neither was promised, and the log
/// ends at the first; nothing that is pushed into its place brings the second back.
#[test]
fn a_batch_behind_a_torn_one_of_its_group_never_comes() {
    const SEGMENT: &str = "log/000000001.seg";
    let deferred = Step::Deferred { count: 2, length: 1000 };
    let whole = {
        let mut stage = Stage::at(Point::Sync);
        stage.run.disk.record();
        assert!(stage.step(deferred).is_none());
        let writes = |made: &Made| on_log(made) && made.call == Call::Write;
        assert_eq!(stage.run.disk.made().iter().filter(|made| writes(made)).count(), 1, "one group");
        stage.run.disk.read_file(SEGMENT).unwrap()
    };
    let before = Stage::at(Point::Sync).run.ops();
    let mut stage = Stage::with(Point::Sync, setup(), Trouble::StopAfter(before + 1), true);
    assert!(stage.step(deferred).is_some(), "stopped between the write and the sync");
    let place = |id: usize| {
        let payload = crate::ledger::payload(id, 1000);
        let at = whole.windows(payload.len()).position(|part| part == payload).expect("it was written");
        // With its header in front.
        at - 32..at + payload.len()
    };
    let ids = stage.run.ledger.begin(1, true)[0];
    let (first, second) = (place(ids - 2), place(ids - 1));
    let torn = |disk: &SimDisk| {
        let there = disk.read_file(SEGMENT).unwrap();
        there[first.clone()] != whole[first.clone()] && there[second.clone()] == whole[second.clone()]
    };
    let seeds: Vec<u64> = (2..400).filter(|&seed| torn(&stage.run.disk.crash(seed))).collect();
    assert!(seeds.len() > 3, "{seeds:?}");
    for seed in seeds {
        let disk = stage.run.disk.crash(seed);
        let checked = stage.run.ledger.check(&disk.crash(1), &stage.run.options(), End::PowerCut);
        checked.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        let open = |disk: &SimDisk| stage.run.options().sim_disk(disk).threads(false).open().unwrap();
        let queue = open(&disk);
        assert!(queue.recovery().torn_bytes > 0, "seed {seed}: it is told");
        let told = queue.push(crate::ledger::payload(ids, 1000)).unwrap().get();
        // Its place is the torn one's, its length too.
        assert!(disk.read_file(SEGMENT).unwrap()[second.clone()] == whole[second.clone()], "seed {seed}");
        drop(queue);
        for next in [disk.kill(), disk.crash(0)] {
            let queue = open(&next);
            let consumer = queue.group(OTHER).unwrap().consumer();
            let jobs: Vec<_> = std::iter::from_fn(|| consumer.try_recv().unwrap()).collect();
            let came: Vec<_> = jobs.iter().filter_map(|job| number(job.payload())).collect();
            assert!(!came.contains(&(ids - 2)) && !came.contains(&(ids - 1)), "seed {seed}: {came:?}");
            let last = jobs.last().unwrap();
            assert_eq!((number(last.payload()), last.offset().get()), (Some(ids), told), "seed {seed}");
        }
    }
}

#[test]
fn a_flip_in_a_segment_while_it_is_rewritten_costs_that_message_alone() {
    super::upkeep_damage::a_flip(Point::Copy);
}
