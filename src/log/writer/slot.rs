//! Where does the answer to one wish appear?

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use super::sync::{Mutex, OnceLock, PoisonError};
use crate::error::Result;
use crate::offset::Offsets;

/// Where the answer to one wish appears.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Who waits for it, and wishes for nothing else meanwhile; 0: nobody known.
    pub(super) source: u64,
    answer: OnceLock<Result<Offsets>>,
    waker: Mutex<Option<Waker>>,
}

impl Slot {
    /// Makes one for somebody who waits for it before he wishes for anything else.
    pub(crate) fn of(source: u64) -> Self {
        Self { source, ..Self::default() }
    }

    /// Makes one that this thread waits for.
    pub(crate) fn of_this_thread() -> Self {
        // Below what names others: those are 32 bits long, and have a bit set above.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        thread_local! {
            static THIS: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        // A thread that is about to end has no such value any more.
        Self::of(THIS.try_with(|source| *source).unwrap_or_default())
    }

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
