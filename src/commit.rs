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
//!
//! Who may not block leaves a waker instead, under the lock under which he looked: for a change, or for
//! the end of a group. He never leads, so nobody has to lead in his place when he is gone; all who left
//! one are woken each time, so none of them has to pass it on. A waker may be anybody's code: it is
//! taken out under the lock, and called when that is free.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Duration;

use super::clock::{self, Clock};
use super::plant::{Plant, planted};
use super::sync::{Condvar, Mutex, MutexGuard, PoisonError, yield_now};
use super::wake::Wake;

/// What a leader does. `S` is what is shared under the lock.
pub(crate) trait Worker<S>: Send {
    /// What one group of waiters wants done.
    type Group;

    /// Tells whether a leader is to let others join before it gathers; asked again after each yield. It
    /// says no in the end, whoever comes.
    fn is_patient(&mut self, shared: &S) -> bool;

    /// Takes everything that waits. The lock is held.
    fn gather(&mut self, shared: &mut S) -> Self::Group;

    /// Does the work. No lock is held; what it found out stays in the group.
    fn run(&mut self, group: &mut Self::Group);

    /// Makes the outcome visible and answers the waiters. The lock is held. After a panic in
    /// [`Worker::run`] it is called with `panicked`, and leaves a worker that refuses.
    fn publish(&mut self, shared: &mut S, group: &mut Self::Group, panicked: bool);

    /// Tells those who are not waiting in [`Commit::until`]. No lock is held.
    fn announce(group: Self::Group);

    /// Tells, after each group, whether those who wait for a change are to hear of its end: it is over for
    /// them too.
    fn ends_all(_shared: &S) -> bool {
        false
    }
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
    /// The wakers that were left, in that order, by what they are for.
    left: [BTreeMap<u64, Waker>; 2],
    next_waker: u64,
}

/// What somebody leaves a waker for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// [`Commit::wake_changed`].
    Change,
    /// The end of a group.
    End,
}

/// A waker that was left.
#[derive(Debug)]
#[must_use = "it is there until it is called or taken back"]
pub(crate) struct Left(For, u64);

/// The lock on the shared state.
#[derive(Debug)]
pub(crate) struct Guard<'a, S, W> {
    lock: MutexGuard<'a, Inner<S, W>>,
    /// Behind the lock, since fields go in this order: called when it is free.
    woken: Woken,
    /// A waker that was taken back: with it may go a task, and whatever that holds.
    gone: Option<Waker>,
}

/// Wakers to be called.
#[derive(Debug, Default)]
struct Woken(Vec<Waker>);

impl Drop for Woken {
    fn drop(&mut self) {
        for waker in self.0.drain(..) {
            // A panic there is the affair of whoever left it: it poisons nothing here, and the others are woken.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

impl<S, W> Deref for Guard<'_, S, W> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.lock.shared
    }
}

impl<S, W> DerefMut for Guard<'_, S, W> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.lock.shared
    }
}

impl<'a, S, W> Guard<'a, S, W> {
    fn new(lock: MutexGuard<'a, Inner<S, W>>) -> Self {
        Self { lock, woken: Woken::default(), gone: None }
    }

    /// Returns the number of the group that what is added now belongs to.
    pub(crate) fn group(&self) -> u64 {
        self.lock.gathering
    }

    /// Tells whether somebody who leads now would let others join first.
    pub(crate) fn is_patient(&mut self) -> bool
    where
        W: Worker<S>,
    {
        let Inner { worker, shared, .. } = &mut *self.lock;
        worker.as_mut().is_some_and(|worker| worker.is_patient(shared))
    }

    /// Tells whether nobody leads.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock.worker.is_some()
    }

    /// Leaves a waker. The caller has looked under this lock and found nothing: whatever changes from here on
    /// does so under it, and finds the waker.
    pub(crate) fn leave(&mut self, what: For, waker: &Waker) -> Left {
        let number = self.lock.next_waker;
        self.lock.next_waker += 1;
        self.lock.left[what as usize].insert(number, waker.clone());
        Left(what, number)
    }

    /// Takes a waker back, if it was not called yet.
    pub(crate) fn take_back(&mut self, left: Left) {
        self.gone = self.lock.left[left.0 as usize].remove(&left.1);
    }

    fn wake(&mut self, what: For) {
        if !self.lock.left[what as usize].is_empty() {
            self.woken.0.extend(std::mem::take(&mut self.lock.left[what as usize]).into_values());
        }
    }
}

impl<S, W: Worker<S>> Commit<S, W> {
    pub(crate) fn new(shared: S, worker: W) -> Self {
        let inner = Inner {
            shared,
            worker: Some(worker),
            gathering: 0,
            over: 0,
            waiting: [0; 2],
            followers: 0,
            left: [BTreeMap::new(), BTreeMap::new()],
            next_waker: 0,
        };
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
        Guard::new(self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls the wakers that are to be called, if there are some, and takes the lock anew: who was about to
    /// wait looks again first. Waiting gives the lock back too, but has it again before they were called.
    fn call_woken<'a>(&'a self, guard: Guard<'a, S, W>) -> (Guard<'a, S, W>, bool) {
        if guard.woken.0.is_empty() && guard.gone.is_none() {
            return (guard, false);
        }
        drop(guard);
        (self.lock(), true)
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
            if guard.lock.over > group {
                group = guard.group();
            }
            let (back, called) = self.call_woken(guard);
            guard = back;
            if called {
                continue;
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
            let (back, called) = self.call_woken(guard);
            guard = back;
            if called {
                continue;
            }
            guard.lock.followers += 1;
            guard = Guard::new(clock::wait(clock, &self.followed, guard.lock, Some(until)));
            guard.lock.followers -= 1;
        }
    }

    /// Does one group's work with the worker that is there. The caller saw that it is.
    pub(crate) fn lead<'a>(&'a self, mut guard: Guard<'a, S, W>) -> Guard<'a, S, W> {
        let Some(worker) = guard.lock.worker.take() else { return guard };
        let mut lead = Lead { commit: self, worker: Some(worker), group: None, waited: guard.lock.waiting };
        while lead.worker.as_mut().is_some_and(|worker| worker.is_patient(&guard)) {
            drop(guard);
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
            if let Some(worker) = guard.lock.worker.take() {
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
        match self.call_woken(guard) {
            (guard, true) => guard,
            (guard, false) => Guard::new(clock::wait(clock, &self.changed, guard.lock, until)),
        }
    }

    /// Wakes those in [`Commit::wait_changed`], and those who left a waker for that. Under the lock, so that
    /// nobody is between looking and waiting.
    pub(crate) fn wake_changed(&self, guard: &mut Guard<'_, S, W>) {
        guard.wake(For::Change);
        self.changed.notify_all();
    }

    /// Wakes everyone, to look again.
    pub(crate) fn wake_all(&self, guard: &mut Guard<'_, S, W>) {
        self.wake_changed(guard);
        guard.wake(For::End);
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
        guard.lock.waiting[parity(group)] += 1;
        let mut lock = wait(self.turn(group), guard.lock);
        lock.waiting[parity(group)] -= 1;
        Guard::new(lock)
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
        let mut guard = self.lock();
        self.wake_all(&mut guard);
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
            let number = guard.lock.gathering;
            guard.lock.gathering += 1;
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
            guard.lock.over = number + 1;
            (number, group)
        });
        // Read under the lock that gives the worker back: read earlier, the wrong group woke.
        let next = if planted(Plant::GroupReadEarly) { guard.group() - 1 } else { guard.group() };
        guard.lock.worker = Some(worker);
        let waiting = if planted(Plant::CountsReadEarly) { self.waited } else { guard.lock.waiting };
        let followed = guard.lock.followers > 0 && !planted(Plant::FollowersForgotten);
        if !planted(Plant::WakersForgotten) {
            guard.wake(For::End);
        }
        if W::ends_all(&guard) {
            self.commit.wake_changed(&mut guard);
        }
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
            self.commit.lock().lock.worker = self.worker.take();
            return;
        }
        if let Some(group) = self.hand_back(true) {
            W::announce(group);
        }
    }
}
