//! Where does the answer to a guest's call appear?

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::guest::Guest;
use crate::clock;
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
            waker.wake();
        }
        None
    }

    /// Wakes whoever waits, to look again.
    pub(super) fn ring(&self) {
        // Under the lock, so that nobody is between looking and waiting.
        let state = self.lock();
        self.answered.notify_all();
        drop(state);
    }

    /// Takes the answer.
    fn take(state: &mut State) -> Option<Reply> {
        let answer = state.answer.take()?;
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
}

impl Calling {
    pub(super) fn new(guest: Arc<Guest>, id: u64, slot: Arc<Slot>, receives: Option<Which>) -> Self {
        Self { guest, id, slot, receives }
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
        let mut state = self.slot.lock();
        loop {
            if let Some(answer) = Slot::take(&mut state) {
                return Some(Ok(answer));
            }
            if stop.load(Ordering::Acquire) || until.is_some_and(|until| self.guest.clock.now() >= until) {
                return None;
            }
            state = clock::wait(&*self.guest.clock, &self.slot.answered, state, until);
        }
    }

    /// Looks for the answer, and leaves a waker.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Reply>> {
        if let Err(error) = self.guest.check_process() {
            return Poll::Ready(Err(error));
        }
        let mut state = self.slot.lock();
        match Slot::take(&mut state) {
            Some(answer) => Poll::Ready(Ok(answer)),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        if self.guest.check_process().is_err() || self.slot.lock().taken {
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
