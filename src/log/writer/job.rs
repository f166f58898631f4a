//! What can be wanted of the writer, and where does the answer appear?

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use crate::error::{Error, Result};
use crate::format::batch::Encoded;
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

/// What somebody wants of the writer.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) wish: Wish,
    pub(crate) slot: Arc<Slot>,
}

#[derive(Debug)]
pub(crate) enum Wish {
    Push {
        batch: Encoded,
        synced: bool,
    },
    /// Everything written before it on stable storage; with `mark`, and the manifest told so.
    Sync {
        mark: bool,
    },
}

/// What waits for a leader.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) jobs: Vec<Job>,
    /// Why nothing is written any more: closed, or poisoned.
    pub(crate) stopped: Option<Error>,
}

/// One group of wishes, with the answers.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(super) jobs: Vec<Job>,
    pub(super) answers: Vec<Option<Result<Offsets>>>,
}

impl Group {
    /// Answers everybody who has no answer yet, and those whose "yes" has become untrue.
    pub(super) fn refuse(&mut self, error: &Error) {
        for answer in &mut self.answers {
            if !matches!(answer, Some(Err(_))) {
                *answer = Some(Err(error.clone()));
            }
        }
    }
}

impl Job {
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.wish {
            Wish::Push { batch, .. } => batch.bytes(),
            Wish::Sync { .. } => &[],
        }
    }
}
