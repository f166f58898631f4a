//! Where does an answer appear that somebody else reads?

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Duration;

use super::clock::{self, Clock};
use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Where the answer to one call appears.
#[derive(Debug)]
pub(super) struct Slot<A> {
    state: Mutex<State<A>>,
    answered: Condvar,
}

#[derive(Debug)]
struct State<A> {
    answer: Option<A>,
    taken: bool,
    abandoned: bool,
    /// Whoever waits is to look at something else.
    rung: bool,
    waker: Option<Waker>,
}

impl<A> Default for Slot<A> {
    fn default() -> Self {
        let state = State { answer: None, taken: false, abandoned: false, rung: false, waker: None };
        Self { state: Mutex::new(state), answered: Condvar::new() }
    }
}

impl<A> Slot<A> {
    fn lock(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers; the first answer stands. Returns one that nobody will take.
    pub(super) fn answer(&self, reply: A) -> Option<A> {
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

    /// Takes the answer.
    pub(super) fn take(&self) -> Option<A> {
        let mut state = self.lock();
        let answer = state.answer.take()?;
        state.taken = true;
        Some(answer)
    }

    /// Takes the answer, or leaves a waker: whoever answers from here on finds it.
    pub(super) fn take_or_leave(&self, waker: &Waker) -> Option<A> {
        let mut state = self.lock();
        match state.answer.take() {
            Some(answer) => {
                state.taken = true;
                Some(answer)
            }
            None => {
                let before = state.waker.replace(waker.clone());
                drop(state);
                // With it may go a task, and whatever that holds.
                drop(before);
                None
            }
        }
    }

    pub(super) fn is_taken(&self) -> bool {
        self.lock().taken
    }

    /// Notes that nobody waits any more; returns an answer that nobody has taken.
    pub(super) fn abandon(&self) -> Option<A> {
        let mut state = self.lock();
        state.abandoned = true;
        let answer = state.answer.take();
        state.taken |= answer.is_some();
        answer
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }
}
