//! Where does the answer to a guest's call appear?

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::guest::Guest;
use crate::clock::{self, Clock};
use crate::engine::request::{Reply, Which};
use crate::error::Result;
use crate::group::receive::NEVER;

/// Where the answer to one call appears.
#[derive(Debug, Default)]
pub(super) struct Slot {
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct State {
    answer: Option<Reply>,
    taken: bool,
    abandoned: bool,
    /// Whoever waits is to look at something else.
    rung: bool,
    waker: Option<Waker>,
}

impl Slot {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers; the first answer stands. Returns one that nobody will take.
    pub(super) fn answer(&self, reply: Reply) -> Option<Reply> {
        let mut state = self.lock();
        if state.abandoned || state.taken || state.answer.is_some() {
            return Some(reply);
        }
        state.answer = Some(reply);
        let waker = state.waker.take();
        drop(state);
        self.answered.notify_all();
        if let Some(waker) = waker {
            // It may be anybody's code, and this thread goes on with other people's answers.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        None
    }

    pub(super) fn is_answered(&self) -> bool {
        let state = self.lock();
        state.answer.is_some() || state.taken
    }

    /// Wakes whoever waits, to look again.
    pub(super) fn ring(&self) {
        self.lock().rung = true;
        self.answered.notify_all();
    }

    /// Blocks until it is answered or rung, `until` has come, or `stopped`; who stops it rings.
    pub(super) fn wait(&self, clock: &dyn Clock, until: Option<Duration>, stopped: impl Fn() -> bool) {
        let mut state = self.lock();
        while state.answer.is_none() && !std::mem::take(&mut state.rung) {
            if stopped() || until.is_some_and(|until| clock.now() >= until) {
                return;
            }
            state = clock::wait(clock, &self.answered, state, until);
        }
    }

    /// Takes the answer. One that tells of a push or an ack stays: a ticket may be asked again.
    fn take(state: &mut State) -> Option<Reply> {
        let answer = match &state.answer {
            Some(told @ (Reply::Done | Reply::Offsets { .. } | Reply::Failed(_))) => told.clone(),
            _ => state.answer.take()?,
        };
        state.taken = true;
        Some(answer)
    }

    /// Notes that nobody waits any more; returns an answer that nobody has taken.
    fn abandon(&self) -> Option<Reply> {
        let mut state = self.lock();
        state.abandoned = true;
        Self::take(&mut state)
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }
}

/// A call that was made. Dropped before its answer was taken, nobody waits for that any more.
#[derive(Debug)]
pub(crate) struct Calling {
    guest: Arc<Guest>,
    id: u64,
    slot: Arc<Slot>,
    /// Of a receive, the group.
    receives: Option<Which>,
    /// It was polled, so the thread is to read.
    polled: AtomicBool,
}

impl Calling {
    pub(super) fn new(guest: Arc<Guest>, id: u64, slot: Arc<Slot>, receives: Option<Which>) -> Self {
        Self { guest, id, slot, receives, polled: AtomicBool::new(false) }
    }

    /// Blocks until the answer is there; `None` when `until` has come first.
    pub(crate) fn wait(&self, until: Option<Duration>) -> Option<Result<Reply>> {
        self.wait_unless(until, &NEVER)
    }

    /// Does the same; `None` too once `stop` is set, and whoever sets it wakes the guest.
    pub(crate) fn wait_unless(&self, until: Option<Duration>, stop: &AtomicBool) -> Option<Result<Reply>> {
        if let Err(error) = self.guest.check_process() {
            return Some(Err(error));
        }
        let stopped = || stop.load(Ordering::Acquire);
        loop {
            if let Some(answer) = Slot::take(&mut self.slot.lock()) {
                return Some(Ok(answer));
            }
            if stopped() || until.is_some_and(|until| self.guest.clock.now() >= until) {
                return None;
            }
            self.guest.read_or_wait(self.id, &self.slot, until, stopped);
        }
    }

    /// Looks for the answer, and leaves a waker.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Reply>> {
        if let Err(error) = self.guest.check_process() {
            return Poll::Ready(Err(error));
        }
        let mut state = self.slot.lock();
        if let Some(answer) = Slot::take(&mut state) {
            return Poll::Ready(Ok(answer));
        }
        // Whoever answers from here on finds it.
        let before = state.waker.replace(context.waker().clone());
        drop(state);
        // With it may go a task, and whatever that holds.
        drop(before);
        if !self.polled.swap(true, Ordering::Relaxed) {
            self.guest.desk.need();
        }
        Poll::Pending
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        // In a fork no lock is taken.
        if self.guest.check_process().is_err() {
            return;
        }
        if *self.polled.get_mut() {
            self.guest.desk.no_need();
        }
        if self.slot.lock().taken {
            return;
        }
        match self.slot.abandon() {
            None => self.guest.cancel(self.id),
            Some(Reply::Lent(lent)) => {
                for (group, lent) in self.receives.iter().cycle().zip(lent) {
                    self.guest.give_back(group.clone(), (lent.message.offset(), lent.delivery));
                }
            }
            Some(_) => {}
        }
    }
}
