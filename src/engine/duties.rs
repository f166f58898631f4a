//! What does an open queue do by itself?
//!
//! One background thread that a process shares among its queues fills the next segment and syncs
//! what was left unsynced for a second. The committer leads for deferred pushes (`engine::leading`), so that no fill
//! sits in a push. What tasks need of a group is done by a third (`group::helper`).
//! Every duty is a method too, so that a test runs without threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use super::{Engine, lock};
use crate::clock::{Clock, SystemClock, millis};
use crate::error::Result;
use crate::log::roll;
use crate::log::writer::Wish;
use crate::plant::{Plant, planted};
use crate::storage::PerProcess;
use crate::wake::{Bell, Wake};

/// After so long without a push or an ack, what is unsynced is synced.
pub(super) const IDLE: Duration = Duration::from_secs(1);
/// While messages become done, space is given back so often.
const DRAINING: Duration = Duration::from_millis(100);

/// What the log looked like when it was last looked at.
#[derive(Debug)]
pub(super) struct Idle {
    seen: (u64, u64),
    since: Duration,
    /// All of it is durable, and the manifest says so.
    settled: bool,
    /// What lies behind the ends of sealed segments was cut off since.
    trimmed: bool,
    /// Somebody wants everything back that can be: nothing waits for a while to pass.
    pub(super) haste: bool,
}

impl Idle {
    pub(super) fn new(now: Duration) -> Self {
        Self { seen: (0, 0), since: now, settled: false, trimmed: false, haste: false }
    }
}

impl Idle {
    /// Returns since when the log looks so.
    pub(super) fn since(&self) -> Duration {
        self.since
    }

    pub(super) fn is_of(&self, seen: (u64, u64)) -> bool {
        self.seen == seen
    }

    /// Tells whether that was done already, and notes that it is done now.
    pub(super) fn has_trimmed(&mut self) -> bool {
        std::mem::replace(&mut self.trimmed, true)
    }
}

impl Engine {
    /// Does what is due; returns after how long to come again at the latest.
    ///
    /// # Errors
    /// The first failure; the other duties are done all the same.
    pub(crate) fn run_duties(&self) -> Result<Option<Duration>> {
        if self.check_open().is_err() {
            return Ok(None);
        }
        self.helper.run();
        // First: a file that is drained becomes the next segment, and none need be filled.
        let freed = self.free_done();
        let filled = self.make_ahead();
        let synced = self.sync_idle().and(self.rest());
        #[cfg(feature = "schedules")]
        let synced = synced.and(self.push_ticks());
        self.log.write_side_files();
        let told = self.tell_settles();
        let pause = self.rewrite();
        let shrunk = self.shrink_idle();
        let ended = self.look_after_holders();
        let more = filled?;
        synced.and(told)?;
        freed.and(shrunk).and(ended)?;
        let pause = pause?;
        Ok(Some(if more { Duration::ZERO } else { pause.unwrap_or(IDLE) }))
    }

    /// Does all that is due, also what other threads do for those who wait without one.
    ///
    /// # Errors
    /// As [`Engine::run_duties`].
    pub(crate) fn run_all_duties(&self) -> Result<()> {
        self.log.check_process()?;
        self.lead_for_deferred();
        while self.run_duties()?.is_some_and(|wait| wait < IDLE) {}
        Ok(())
    }

    /// Does one step of making the next segment, if it lags behind; tells whether it still does.
    fn make_ahead(&self) -> Result<bool> {
        let set = self.log.set();
        let Some(active) = set.last().filter(|_| !self.is_at_rest() && !self.is_crowded()) else {
            return Ok(false);
        };
        let (used, _) = active.end();
        let capacity = active.capacity;
        let next = roll::next_capacity(capacity, self.log.room.segment_bytes());
        // Begins when a quarter is used and is done when three quarters are.
        let ahead = u128::from((used * 4).saturating_sub(capacity));
        let wanted = u128::from(next) * ahead / u128::from(2 * capacity.max(1));
        let wanted = u64::try_from(wanted).unwrap_or(next).min(next);
        let there = self.spare.filled();
        if wanted == 0 || there.is_some_and(|there| there >= wanted) {
            return Ok(false);
        }
        self.spare.step(&*self.storage, self.queue, next, self.clock.wall())
    }

    /// Syncs the log and the groups when nothing has happened for a while, and notes the mark.
    fn sync_idle(&self) -> Result<()> {
        let now = self.clock.now();
        let seen = (self.log.next(), self.log.messages());
        let due = {
            let mut idle = lock(&self.idle);
            if idle.seen != seen {
                *idle = Idle { seen, haste: idle.haste, ..Idle::new(now) };
            }
            let due = now.saturating_sub(idle.since) >= IDLE;
            due && !std::mem::replace(&mut idle.settled, due)
        };
        if due && self.log.failure().is_none() {
            if planted(Plant::SyncedByTwo) {
                let past_the_writer = self.log.set().last().map(|active| active.open(&*self.storage));
                let _ = past_the_writer.transpose()?.map(|file| file.sync());
            } else {
                self.ask(Wish::Sync { mark: true })?;
            }
        }
        for group in self.all_groups() {
            // Should it fail, whoever acks next is told; the log has the acks.
            let _ = group.record_settled();
            if group.is_idle_for(IDLE) {
                group.sync_lazily()?;
            }
        }
        Ok(())
    }

    /// Gives back what the files of idle groups have grown to.
    fn shrink_idle(&self) -> Result<()> {
        let haste = lock(&self.idle).haste;
        self.all_groups().iter().map(|group| group.shrink_idle(haste)).fold(Ok(()), Result::and)
    }
}

/// What the background thread of this process works on, while a queue is open.
#[derive(Debug, Default)]
struct Background {
    queues: Mutex<Vec<Weak<Engine>>>,
    bell: Arc<Bell>,
}

impl Background {
    fn of_this_process() -> &'static Self {
        static BACKGROUND: PerProcess<Background> = PerProcess::new();
        BACKGROUND.get(Self::default)
    }
}

/// When is it a queue's turn? Others do not make it do anything, or a thousand queues would have their
/// duties looked at for each step of one that is busy.
#[derive(Debug)]
pub(super) struct Asks {
    asked: AtomicBool,
    /// Milliseconds of the background thread's clock, at which it is looked after at the latest.
    due: AtomicU64,
    /// That of the background thread, where there is one.
    bell: Option<Arc<Bell>>,
}

impl Asks {
    pub(super) fn new(threads: bool) -> Self {
        let bell = threads.then(|| Background::of_this_process().bell.clone());
        Self { asked: AtomicBool::new(true), due: AtomicU64::new(0), bell }
    }

    /// Tells whether it is its turn, and has its wish taken.
    fn is_due(&self, now: Duration) -> bool {
        self.asked.swap(false, Ordering::AcqRel) || self.due.load(Ordering::Relaxed) <= millis(now)
    }

    fn again_at(&self, due: Duration) {
        self.due.store(millis(due), Ordering::Relaxed);
    }

    fn due(&self) -> Duration {
        Duration::from_millis(self.due.load(Ordering::Relaxed))
    }
}

impl Wake for Asks {
    fn wake(&self) {
        let Some(bell) = &self.bell else { return };
        // Before the bell, or who hears that would find nothing to do.
        self.asked.store(true, Ordering::Release);
        bell.wake();
    }
}

/// Has the background thread look after a queue, starting it if need be.
pub(super) fn look_after(engine: &Arc<Engine>) {
    let background = Background::of_this_process();
    let mut queues = lock(&background.queues);
    let running = !queues.is_empty();
    queues.push(Arc::downgrade(engine));
    if !running {
        let thread = thread::Builder::new().name("backlog-duties".into());
        // Without it the next segment is made when it is needed, and idle bytes are synced at close.
        if thread.spawn(|| run_background(background)).is_err() {
            queues.clear();
        }
    }
    drop(queues);
    background.bell.wake();
}

fn run_background(background: &Background) {
    let mut heard = 0;
    let clock = SystemClock::new();
    loop {
        let queues: Vec<Arc<Engine>> = {
            let mut queues = lock(&background.queues);
            queues.retain(|queue| queue.upgrade().is_some_and(|queue| queue.check_open().is_ok()));
            if queues.is_empty() {
                return;
            }
            queues.iter().filter_map(Weak::upgrade).collect()
        };
        let now = clock.now();
        for queue in queues.iter().filter(|queue| queue.asks.is_due(now)) {
            // A failure is told to whoever pushes or acks next; the duty comes again.
            let next = queue.run_duties().ok().flatten().filter(|&next| next < IDLE);
            let usual = if queue.is_draining() { DRAINING } else { IDLE };
            queue.asks.again_at(now + next.unwrap_or(usual));
        }
        let next = queues.iter().map(|queue| queue.asks.due()).min();
        let wait = next.unwrap_or_default().min(now + IDLE).saturating_sub(clock.now());
        drop(queues);
        if wait > Duration::ZERO {
            heard = background.bell.wait(heard, Some(wait));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_has_its_turn_when_it_asks_or_its_time_has_come_and_not_when_another_asks() {
        let (busy, idle) = (Asks::new(true), Asks::new(true));
        let at = Duration::from_millis;
        assert!(busy.is_due(at(5)) && idle.is_due(at(5)), "each has one turn at first");
        busy.again_at(at(1005));
        idle.again_at(at(1005));

        busy.wake();

        assert_eq!((busy.is_due(at(10)), idle.is_due(at(10))), (true, false));
        assert_eq!((busy.is_due(at(10)), idle.is_due(at(10))), (false, false));
        assert!(idle.is_due(at(1005)));
        assert_eq!(idle.due(), at(1005));
    }
}
