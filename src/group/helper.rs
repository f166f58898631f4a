//! Who does what takes a disk, or a time, for those who may not block?
//!
//! A thread, one for each queue, from the first need on: it makes room for loans, writes and syncs what
//! others settled and do not wait for in a thread, and wakes groups at the times that their tasks wait
//! for. Without threads the same is done by [`Helper::run`], whoever calls it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::live::Live;
use crate::clock::Clock;
use crate::error::Result;
use crate::wake::{Bell, Wake};

/// What was settled and nobody waits for is synced after so long.
const UNWAITED: Duration = Duration::from_millis(10);

/// The answer to a wish for room.
pub(super) type Room = Arc<OnceLock<Result<()>>>;

/// What is to be done for those who may not block, and the thread that does it.
#[derive(Debug)]
pub(crate) struct Helper {
    clock: Arc<dyn Clock>,
    threads: bool,
    jobs: Mutex<Jobs>,
    bell: Arc<Bell>,
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Jobs {
    /// By the address of the group, which is nobody else's as long as the job is there.
    groups: BTreeMap<usize, Job>,
    running: bool,
}

/// What a group needs.
#[derive(Debug, Default)]
struct Job {
    live: Weak<Live>,
    /// Room for so many loans.
    room: Option<(u64, Room)>,
    settle: Settle,
    /// When its tasks are to look again.
    alarm: Option<Duration>,
}

/// Are entries to be written, and synced if that was promised?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Settle {
    #[default]
    No,
    /// Together with what comes meanwhile.
    Soon,
    Now,
}

impl Helper {
    pub(crate) fn new(clock: Arc<dyn Clock>, threads: bool) -> Arc<Self> {
        let bell = Arc::new(Bell::default());
        let waker: Weak<dyn Wake> = Arc::downgrade(&bell) as _;
        clock.on_advance(waker);
        let (jobs, stopped) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { clock, threads, jobs, bell, stopped })
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Asks for room and numbers for so many loans. Once there is an answer, the group is woken.
    pub(super) fn make_room(self: &Arc<Self>, live: &Arc<Live>, loans: u64) -> Room {
        let mut jobs = self.jobs();
        let (most, room) = jobs.of(live).room.get_or_insert_with(|| (0, Room::default()));
        *most = loans.max(*most);
        let room = room.clone();
        self.ring(jobs);
        room
    }

    /// Asks that what a group has appended is written, and synced where that was promised: at once, or soon.
    /// Tells whether there is a thread that does it.
    pub(super) fn settle(self: &Arc<Self>, live: &Arc<Live>, at_once: bool) -> bool {
        let mut jobs = self.jobs();
        let job = jobs.of(live);
        job.settle = job.settle.max(if at_once { Settle::Now } else { Settle::Soon });
        self.ring(jobs)
    }

    /// Asks that a group is woken at that time, if not earlier.
    pub(super) fn alarm(self: &Arc<Self>, live: &Arc<Live>, at: Option<Duration>) {
        let Some(at) = at else { return };
        let mut jobs = self.jobs();
        let job = jobs.of(live);
        if job.alarm.is_some_and(|alarm| alarm <= at) {
            return;
        }
        job.alarm = Some(at);
        self.ring(jobs);
    }

    /// Does what is to be done by now.
    pub(crate) fn run(&self) {
        let jobs = self.jobs().take(self.clock.now());
        let jobs: Vec<(Arc<Live>, Job)> =
            jobs.into_iter().filter_map(|job| Some((job.live.upgrade()?, job))).collect();
        // First: it takes no disk.
        for (live, _) in jobs.iter().filter(|(_, job)| job.alarm.is_some()) {
            live.wake();
        }
        for (live, job) in jobs {
            if job.settle != Settle::No {
                live.settle_for_others();
            }
            if let Some((loans, room)) = job.room {
                // Answered once, by whoever took the wish.
                let _ = room.set(live.make_room(loans));
                live.wake();
            }
        }
    }

    /// Ends the thread, for good.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.bell.wake();
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the thread look at the jobs, and starts it if need be; tells whether there is one.
    fn ring(self: &Arc<Self>, mut jobs: MutexGuard<'_, Jobs>) -> bool {
        if !self.threads || self.stopped.load(Ordering::Acquire) {
            return false;
        }
        if !jobs.running {
            let helper = self.clone();
            let thread = thread::Builder::new().name("backlog-polled".into());
            jobs.running = thread.spawn(move || Running(helper).help()).is_ok();
        }
        let running = jobs.running;
        drop(jobs);
        if running {
            self.bell.wake();
        } else {
            // The system gives no thread: better to block now than to have somebody wait for ever. For times
            // the background thread looks in.
            self.run();
        }
        running
    }

    /// Returns how long the thread may wait; `None`: until it is rung for.
    fn patience(&self) -> Option<Duration> {
        let first = self.jobs().groups.values().filter_map(|job| job.alarm).min();
        first.and_then(|first| self.clock.patience(first))
    }

    /// Tells whether all there is to do by now had better wait for more of the kind.
    fn may_wait(&self) -> bool {
        let now = self.clock.now();
        let urgent = |job: &Job| {
            job.room.is_some() || job.settle == Settle::Now || job.alarm.is_some_and(|alarm| alarm <= now)
        };
        let jobs = self.jobs();
        jobs.groups.values().any(|job| job.settle == Settle::Soon) && !jobs.groups.values().any(urgent)
    }
}

impl Jobs {
    fn of(&mut self, live: &Arc<Live>) -> &mut Job {
        let job = self.groups.entry(Arc::as_ptr(live).addr()).or_default();
        if job.live.strong_count() == 0 {
            job.live = Arc::downgrade(live);
        }
        job
    }

    /// Takes what is to be done by now: alarms only if their time has come.
    fn take(&mut self, now: Duration) -> Vec<Job> {
        let due = self.groups.values_mut().map(|job| {
            let alarm = job.alarm.take_if(|alarm| *alarm <= now);
            let settle = std::mem::take(&mut job.settle);
            Job { live: job.live.clone(), room: job.room.take(), settle, alarm }
        });
        let due = due.collect();
        self.groups.retain(|_, job| job.alarm.is_some() && job.live.strong_count() > 0);
        due
    }
}

/// A helper in its thread. Should that end by a panic, the next need starts another.
struct Running(Arc<Helper>);

impl Running {
    fn help(&self) {
        let helper = &self.0;
        let mut heard = 0;
        while !helper.stopped.load(Ordering::Acquire) {
            // A job that comes after the look at the alarms rings, and the count tells.
            heard = helper.bell.wait(heard, helper.patience());
            if helper.may_wait() {
                // While it waits here, more comes together; who cannot wait rings.
                heard = helper.bell.wait(heard, Some(UNWAITED));
            }
            helper.run();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.jobs().running = false;
    }
}
