//! Do clocks that jump decide anything but when?

use std::sync::Arc;
use std::time::Duration;

use backlog::testing::{Aim, ManualClock};

use super::stage::*;
use super::table::Point;
use crate::step::Step;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

/// A clock that is set wrong: to the year 1970, to 2100, and to 2262, where a kernel's clock of 64 bits
/// of nanoseconds ends.
const WRONG: [u64; 3] = [1, 130 * 365 * 24 * 3600 * 1000, i64::MAX.unsigned_abs() / 1_000_000];

/// What happens to the clocks of a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Jump {
    /// The wall clock is set.
    Wall(u64),
    /// The machine was asleep for thirty years: both clocks tell so.
    Both,
}

pub(crate) const JUMPS: [Jump; 4] =
    [Jump::Wall(WRONG[0]), Jump::Wall(WRONG[1]), Jump::Wall(WRONG[2]), Jump::Both];

impl Jump {
    pub(crate) fn happens_to(self, clock: &ManualClock) {
        match self {
            Self::Wall(wall) => clock.set_wall(wall),
            Self::Both => clock.advance(30 * YEAR),
        }
    }
}

pub(crate) fn a_jump(point: Point) {
    match point {
        Point::Open => {
            openings_after_a_jump();
            a_jump_hastens_or_defers_and_loses_nothing();
        }
        Point::Inspect => {
            let left = Left::new();
            for wall in WRONG {
                let options = left.options.clone().sim_disk(&left.disk).manual_clock(&ManualClock::new(wall));
                let before = all(&left.disk);
                let seen = options.inspect().unwrap();
                assert_eq!(seen.messages, inspect(&left.disk).unwrap().messages);
                assert_eq!(options.verify().unwrap(), verify(&left.disk).unwrap());
                assert_eq!((all(&left.disk), left.disk.ops()), (before, 0));
            }
        }
        Point::Copy | Point::Delete => super::upkeep::a_jump(point),
        _ => {
            let mut rehearsal = Stage::at(point);
            rehearsal.run.disk.record();
            assert!(rehearsal.act().is_none());
            let calls = rehearsal.run.disk.made();
            assert!(!calls.is_empty(), "nothing happens there");
            for jump in JUMPS {
                for index in 0..calls.len() {
                    // In the middle of it, and back again before what comes next.
                    let stage = Stage::at(point);
                    jumps_before(&stage, aim_at(&calls, index), jump);
                    stage.meets(Then::Same);
                }
                let mut stage = Stage::at(point);
                jump.happens_to(&stage.run.clock);
                assert!(stage.act().is_none(), "{jump:?}");
                stage.run.clock.set_wall(5);
                assert!(stage.act().is_none(), "{jump:?}");
                stage.goes_on(OTHER);
                stage.meets(Then::Same);
            }
        }
    }
}

fn jumps_before(stage: &Stage, aim: Aim, jump: Jump) {
    let clock = stage.run.clock.clone();
    stage.run.disk.before(aim, Arc::new(move || jump.happens_to(&clock)));
}

/// What an opening finds does not depend on what time it is, or was.
fn openings_after_a_jump() {
    for left in [Left::new(), Left::torn(), Left::unfinished()] {
        let calm = left.check(&left.copy());
        for wall in WRONG {
            let disk = left.copy();
            let options = left.options.clone().sim_disk(&disk).manual_clock(&ManualClock::new(wall));
            let queue = options.clone().threads(false).open().unwrap();
            assert!(queue.recovery().damaged.is_empty() && queue.recovery().lost.is_empty());
            queue.close().unwrap();
            assert_eq!(left.check(&disk.crash(0)), calm, "opened at {wall}");
        }
    }
}

/// A message that waits to be tried again: in this process by the other clock, which does not jump;
/// in the next one by the wall clock, which may make it come at once or within a year, but come.
fn a_jump_hastens_or_defers_and_loses_nothing() {
    for wall in WRONG {
        let mut stage = Stage::at(Point::Append);
        assert!(stage.step(Step::Nack { group: GROUP }).is_none());
        let queue = stage.run.queue().unwrap();
        let consumer = queue.group(GROUP).unwrap().consumer();
        let job = consumer.try_recv().unwrap().unwrap();
        let (offset, payload) = (job.offset(), job.payload().to_vec());
        job.nack_after(HOUR, "later").unwrap();

        stage.run.clock.set_wall(wall);

        // Older ones, whose time had come, and newer ones; not that one.
        let early: Vec<_> = std::iter::from_fn(|| consumer.try_recv().unwrap()).collect();
        assert!(early.iter().all(|job| job.offset() != offset), "hastened by a jump to {wall}");
        assert!(early.is_sorted_by_key(|job| job.offset()));
        drop(early);
        let disk = stage.run.disk.kill();
        let clock = ManualClock::new(wall);
        let options = stage.run.options().sim_disk(&disk).manual_clock(&clock).threads(false);
        let next = options.open().unwrap();
        let consumer = next.group(GROUP).unwrap().consumer();
        let comes = |when: &str| {
            let jobs = std::iter::from_fn(|| consumer.try_recv().unwrap());
            let mut jobs = jobs.filter(|job| job.offset() == offset && job.payload() == payload);
            jobs.next().unwrap_or_else(|| panic!("it does not come {when}: {:?}", next.stats())).release()
        };
        if wall == 1 {
            clock.advance(YEAR);
            comes("within a year").unwrap();
        } else {
            comes("at once").unwrap();
        }
        next.close().unwrap();
        let clock = ManualClock::new(10_000_000);
        let options = stage.run.options().sim_disk(&disk.crash(0)).manual_clock(&clock).threads(false);
        let last = options.open().unwrap();
        clock.advance(YEAR);
        let jobs = last.group(GROUP).unwrap().consumer().recv_batch(10, Duration::ZERO).unwrap();
        let offsets: Vec<u64> = jobs.iter().map(|job| job.offset().get()).collect();
        let stats = last.stats();
        assert_eq!(offsets, [1, 2, 3, 4], "all but the one that was acked, in their order: {wall} {stats:?}");
    }
}
