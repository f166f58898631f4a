//! Where does the answer to one wish appear?

use std::task::Waker;

use super::sync::{Mutex, OnceLock, PoisonError};
use crate::error::Result;
use crate::offset::Offsets;

/// Where the answer to one wish appears.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    answer: OnceLock<Result<Offsets>>,
    waker: Mutex<Option<Waker>>,
}

impl Slot {
    pub(crate) fn answer(&self) -> Option<Result<Offsets>> {
        self.answer.get().cloned()
    }

    /// Answers without a leader: there is nothing to wait for.
    pub(crate) fn answer_now(&self, answer: Result<Offsets>) {
        self.settle(answer);
    }

    /// Leaves a waker, in place of an earlier one; the caller looks for an answer afterwards.
    pub(crate) fn leave(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    pub(super) fn settle(&self, answer: Result<Offsets>) {
        // The first answer stands; there is never a second.
        let _ = self.answer.set(answer);
    }

    /// Tells whether somebody has left a waker.
    pub(super) fn is_polled(&self) -> bool {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
