//! What can be wanted of the writer?

use std::sync::Arc;

use super::super::keys::Keys;
use super::super::room::{Pass, Size};
use super::slot::Slot;
use crate::error::{Error, Result};
use crate::format::batch::Encoded;
use crate::format::index::Row;
use crate::offset::Offsets;

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
        /// Of its messages that have one; offsets are counted from the batch's first.
        rows: Box<[Row]>,
        synced: bool,
        pass: Pass,
    },
    /// An answer to all that was wished before it.
    Turn,
    /// The next segment, so that the active one can be given up; of so many bytes, if that is said.
    Roll { capacity: Option<u64> },
    /// Everything written before it on stable storage; with `mark`, and the manifest told so.
    Sync { mark: bool },
}

/// What waits for a leader.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) jobs: Vec<Job>,
    /// What these push.
    pub(super) offered: Size,
    /// What those push that somebody works on.
    pub(super) in_flight: Size,
    pub(crate) keys: Keys,
    /// Why nothing is written any more: closed, or poisoned.
    pub(crate) stopped: Option<Error>,
}

impl Waiting {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { keys, ..Self::default() }
    }

    pub(crate) fn add(&mut self, job: Job) {
        if let Wish::Push { batch, .. } = &job.wish {
            let Size { messages, bytes } = size_of(batch);
            self.offered.messages += messages;
            self.offered.bytes += bytes;
        }
        self.jobs.push(job);
    }

    /// Returns what is pushed by those who were not answered yet.
    pub(crate) fn unanswered(&self) -> Size {
        Size {
            messages: self.offered.messages + self.in_flight.messages,
            bytes: self.offered.bytes + self.in_flight.bytes,
        }
    }
}

/// Returns what a batch takes.
pub(crate) fn size_of(batch: &Encoded) -> Size {
    Size { messages: batch.messages().into(), bytes: batch.length() }
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
    pub(super) fn end_claim(&self) {
        if let Wish::Push { pass, .. } = &self.wish {
            pass.end();
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.wish {
            Wish::Push { batch, .. } => batch.bytes(),
            Wish::Turn | Wish::Roll { .. } | Wish::Sync { .. } => &[],
        }
    }
}
