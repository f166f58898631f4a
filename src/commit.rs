//! How do many threads share one write and one sync?
//!
//! Group commit by a leader, without a thread of its own (after LevelDB's `DBImpl::Write` and
//! okaywal's `synchronize_locked`): the first waiting thread takes the worker out of the state *by
//! value*, takes everything that waits, works with no lock held, publishes, and hands the worker
//! back. While it works the next group gathers by itself, so there is no delay to tune. Whoever
//! holds the worker owns what it owns; ownership is the lock.
//!
//! Threads wait on two condition variables by the parity of their group, so a finished group wakes
//! its own followers and one thread of the next group, who leads it.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::clock::{self, Clock};
use super::plant::{Plant, planted};
use super::sync::{Condvar, Mutex, MutexGuard, PoisonError, yield_now};
use super::wake::Wake;

/// What a leader does. `S` is what is shared under the lock.
pub(crate) trait Worker<S>: Send {
    /// What one group of waiters wants done.
    type Group;

    /// Tells whether a leader should let others join before it gathers.
    fn is_patient(&self, shared: &S) -> bool;

    /// Takes everything that waits. The lock is held.
    fn gather(&mut self, shared: &mut S) -> Self::Group;

    /// Does the work. No lock is held; what it found out stays in the group.
    fn run(&mut self, group: &mut Self::Group);

    /// Makes the outcome visible and answers the waiters. The lock is held. After a panic in
    /// [`Worker::run`] it is called with `panicked`, and leaves a worker that refuses.
    fn publish(&mut self, shared: &mut S, group: &mut Self::Group, panicked: bool);

    /// Tells those who are not waiting in [`Commit::until`]. No lock is held.
    fn announce(group: Self::Group);
}

/// Shared state, the worker, and those who wait for it.
#[derive(Debug)]
pub(crate) struct Commit<S, W> {
    inner: Mutex<Inner<S, W>>,
    turns: [Condvar; 2],
    /// For those who wait for something else than the end of a group.
    changed: Condvar,
    /// For those who wait for the end of a group, and never lead.
    followed: Condvar,
}

#[derive(Debug)]
struct Inner<S, W> {
    shared: S,
    /// `None` while somebody leads.
    worker: Option<W>,
    /// How many groups were gathered: the number of the group that gathers now.
    gathering: u64,
    /// The number behind the last group whose work is over.
    over: u64,
    /// How many threads wait, by the parity of their group: waking nobody is a system call too.
    waiting: [usize; 2],
    /// How many threads wait and never lead.
    followers: usize,
}

/// The lock on the shared state.
#[derive(Debug)]
pub(crate) struct Guard<'a, S, W>(MutexGuard<'a, Inner<S, W>>);

impl<S, W> Deref for Guard<'_, S, W> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0.shared
    }
}

impl<S, W> DerefMut for Guard<'_, S, W> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.0.shared
    }
}

impl<S, W> Guard<'_, S, W> {
    /// Returns the number of the group that what is added now belongs to.
    pub(crate) fn group(&self) -> u64 {
        self.0.gathering
    }

    /// Tells whether nobody leads.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.worker.is_some()
    }
}

impl<S, W: Worker<S>> Commit<S, W> {
    pub(crate) fn new(shared: S, worker: W) -> Self {
        let inner =
            Inner { shared, worker: Some(worker), gathering: 0, over: 0, waiting: [0; 2], followers: 0 };
        Self {
            inner: Mutex::new(inner),
            turns: [Condvar::new(), Condvar::new()],
            changed: Condvar::new(),
            followed: Condvar::new(),
        }
    }

    /// Locks the shared state. A panic of another thread left it sound: it is only changed in
    /// short steps, and a leader's panic is handled by its guard.
    pub(crate) fn lock(&self) -> Guard<'_, S, W> {
        Guard(self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leads or follows until `done` has an answer; `None` when `until` has come first.
    ///
    /// `group` is the number that [`Guard::group`] told when the caller's wish was added. A wish that
    /// the end of its group does not answer is to be made again by `done`.
    pub(crate) fn until<'a, R>(
        &'a self,
        mut guard: Guard<'a, S, W>,
        mut group: u64,
        clock: &dyn Clock,
        until: Option<Duration>,
        mut done: impl FnMut(&mut Guard<'a, S, W>) -> Option<R>,
    ) -> (Guard<'a, S, W>, Option<R>) {
        let mut waited = false;
        loop {
            if let Some(answer) = done(&mut guard) {
                // What was waited for came in another way than by the end of this group, such as the
                // failure of the one before.
                if waited && guard.group() == group {
                    self.pass_on(group);
                }
                return (guard, Some(answer));
            }
            if guard.is_idle() {
                guard = self.lead(guard);
                continue;
            }
            if until.is_some_and(|until| clock.now() >= until) {
                self.pass_on(group);
                return (guard, None);
            }
            // Its group is over and did not do it: the wish was made again, and belongs to the group that
            // gathers now. At the old group's turn nobody would be woken for it.
            if guard.0.over > group {
                group = guard.group();
            }
            waited = true;
            guard = self.wait_turn(guard, group, |turn, inner| clock::wait(clock, turn, inner, until));
        }
    }

    /// Follows until `done` has an answer; `None` when `until` has come first. Never leads, so that no
    /// slow disk holds it beyond that: the caller has seen to it that somebody else will.
    ///
    /// Not among those who wait for a turn: one of them is woken to lead.
    pub(crate) fn follow<'a, R>(
        &'a self,
        mut guard: Guard<'a, S, W>,
        clock: &dyn Clock,
        until: Duration,
        mut done: impl FnMut(&mut S) -> Option<R>,
    ) -> Option<R> {
        loop {
            if let Some(answer) = done(&mut guard) {
                return Some(answer);
            }
            if clock.now() >= until {
                return None;
            }
            guard.0.followers += 1;
            guard = Guard(clock::wait(clock, &self.followed, guard.0, Some(until)));
            guard.0.followers -= 1;
        }
    }

    /// Does one group's work with the worker that is there. The caller saw that it is.
    pub(crate) fn lead<'a>(&'a self, mut guard: Guard<'a, S, W>) -> Guard<'a, S, W> {
        let Some(worker) = guard.0.worker.take() else { return guard };
        let patient = worker.is_patient(&guard);
        let mut lead = Lead { commit: self, worker: Some(worker), group: None, waited: guard.0.waiting };
        if patient {
            drop(guard);
            // Threads that were woken together come one after the other: at 16 producers this one
            // yield is worth a quarter of the throughput.
            yield_now();
            guard = self.lock();
        }
        lead.gather(&mut guard);
        drop(guard);
        lead.run();
        lead.finish();
        self.lock()
    }

    /// Takes the worker for good, once nobody leads; `None` if it was taken before.
    ///
    /// `gone` tells, under the lock, that it was.
    pub(crate) fn retire(&self, gone: impl Fn(&S) -> bool) -> Option<W> {
        let mut guard = self.lock();
        loop {
            if gone(&guard) {
                return None;
            }
            if let Some(worker) = guard.0.worker.take() {
                return Some(worker);
            }
            let group = guard.group();
            guard = self.wait_turn(guard, group, |turn, inner| {
                turn.wait(inner).unwrap_or_else(PoisonError::into_inner)
            });
        }
    }

    /// Blocks until [`Commit::wake_changed`], or `until` may have come; may wake for nothing.
    pub(crate) fn wait_changed<'a>(
        &'a self,
        guard: Guard<'a, S, W>,
        clock: &dyn Clock,
        until: Option<Duration>,
    ) -> Guard<'a, S, W> {
        Guard(clock::wait(clock, &self.changed, guard.0, until))
    }

    /// Wakes those in [`Commit::wait_changed`].
    pub(crate) fn wake_changed(&self) {
        self.changed.notify_all();
    }

    /// Wakes everyone, to look again.
    pub(crate) fn wake_all(&self) {
        self.changed.notify_all();
        self.followed.notify_all();
        for turn in &self.turns {
            turn.notify_all();
        }
    }

    /// Wakes another one of a group that nobody has led: the wake-up that makes one of them lead may
    /// have come to a thread that has no need to.
    fn pass_on(&self, group: u64) {
        if planted(Plant::WakeupKept) {
            return;
        }
        self.turn(group).notify_one();
    }

    fn turn(&self, group: u64) -> &Condvar {
        &self.turns[parity(group)]
    }

    /// Waits for a group's turn, counted: counts change under the lock only, so whoever hands the
    /// worker back sees everyone who will not look at it again by himself.
    fn wait_turn<'a>(
        &'a self,
        mut guard: Guard<'a, S, W>,
        group: u64,
        wait: impl FnOnce(&'a Condvar, MutexGuard<'a, Inner<S, W>>) -> MutexGuard<'a, Inner<S, W>>,
    ) -> Guard<'a, S, W> {
        guard.0.waiting[parity(group)] += 1;
        let mut guard = wait(self.turn(group), guard.0);
        guard.waiting[parity(group)] -= 1;
        Guard(guard)
    }
}

fn parity(group: u64) -> usize {
    usize::from(!group.is_multiple_of(2))
}

impl<S, W> Wake for Commit<S, W>
where
    S: std::fmt::Debug + Send,
    W: std::fmt::Debug + Worker<S>,
{
    fn wake(&self) {
        // Under the lock, so that nobody is between looking and waiting.
        let _guard = self.lock();
        self.wake_all();
    }
}

/// The leader's hold on the worker: on every exit, a panic too, it hands the worker back and wakes
/// the followers.
struct Lead<'a, S, W: Worker<S>> {
    commit: &'a Commit<S, W>,
    worker: Option<W>,
    group: Option<(u64, W::Group)>,
    /// How many waited when it began: for a bug that a test plants.
    waited: [usize; 2],
}

impl<S, W: Worker<S>> Lead<'_, S, W> {
    fn gather(&mut self, guard: &mut Guard<'_, S, W>) {
        if let Some(worker) = &mut self.worker {
            let number = guard.0.gathering;
            guard.0.gathering += 1;
            self.group = Some((number, worker.gather(guard)));
        }
    }

    fn run(&mut self) {
        if let (Some(worker), Some((_, group))) = (&mut self.worker, &mut self.group) {
            worker.run(group);
        }
    }

    fn finish(mut self) {
        if let Some(group) = self.hand_back(false) {
            W::announce(group);
        }
    }

    /// Publishes, gives the worker back and wakes; returns what is to be announced.
    fn hand_back(&mut self, panicked: bool) -> Option<W::Group> {
        let mut worker = self.worker.take()?;
        let mut guard = self.commit.lock();
        let group = self.group.take().map(|(number, mut group)| {
            worker.publish(&mut guard, &mut group, panicked);
            guard.0.over = number + 1;
            (number, group)
        });
        // Read under the lock that gives the worker back: read earlier, the wrong group woke.
        let next = if planted(Plant::GroupReadEarly) { guard.group() - 1 } else { guard.group() };
        guard.0.worker = Some(worker);
        let waiting = if planted(Plant::CountsReadEarly) { self.waited } else { guard.0.waiting };
        let followed = guard.0.followers > 0 && !planted(Plant::FollowersForgotten);
        drop(guard);
        if followed {
            self.commit.followed.notify_all();
        }
        if let Some((number, _)) = &group
            && waiting[parity(*number)] > 0
        {
            self.commit.turn(*number).notify_all();
        }
        if waiting[parity(next)] > 0 {
            self.commit.turn(next).notify_one();
        }
        group.map(|(_, group)| group)
    }
}

impl<S, W: Worker<S>> Drop for Lead<'_, S, W> {
    fn drop(&mut self) {
        if planted(Plant::SilentLeader) && self.worker.is_some() {
            self.commit.lock().0.worker = self.worker.take();
            return;
        }
        if let Some(group) = self.hand_back(true) {
            W::announce(group);
        }
    }
}
