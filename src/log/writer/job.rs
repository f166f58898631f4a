//! What can be wanted of the writer?

use std::sync::Arc;

use super::super::keys::Keys;
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
    },
    /// An answer to all that was wished before it.
    Turn,
    /// The next segment, of so many bytes.
    Roll { capacity: u64 },
    /// Everything written before it on stable storage; with `mark`, and the manifest told so.
    Sync { mark: bool },
}

/// What waits for a leader.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) jobs: Vec<Job>,
    pub(crate) keys: Keys,
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
            Wish::Turn | Wish::Roll { .. } | Wish::Sync { .. } => &[],
        }
    }
}
