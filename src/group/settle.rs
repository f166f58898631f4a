//! How does a loan end?

use std::time::Duration;

use super::live::Live;
use crate::error::{Error, Result};
use crate::format::entry::SLOT_BYTES;
use crate::offset::Offset;
use crate::plant::{Plant, planted};

/// A loan to be settled: its message and its delivery number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settle {
    pub(crate) offset: u64,
    pub(crate) delivery: u64,
    /// Where the message lies, should it come again.
    pub(crate) place: (u64, u64),
}

/// How a loan ends, other than in an ack.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End<'a> {
    Nack { reason: Option<&'a str>, after: Option<Duration> },
    Reject { reason: &'a str },
    Release,
}

impl Live {
    /// Marks a message as done.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or when the group was stopped or poisoned.
    pub(crate) fn ack(&self, loan: Settle) -> Result<()> {
        let mut guard = self.with_settling_room(self.enter()?, SLOT_BYTES)?;
        let now = self.now();
        let entry = guard.state.ack(loan.offset, loan.delivery)?;
        self.put(&mut guard, &entry, now)?;
        if guard.watchers > 0 || (guard.sleepers > 0 && guard.state.has_lonely()) {
            self.commit.wake_changed();
        }
        self.settle_down(guard, self.synced && !planted(Plant::AckBeforeSync))
    }

    /// Marks messages as done, in one group of entries; the answers are in their order.
    ///
    /// # Errors
    /// As [`Live::ack`], of the whole.
    pub(crate) fn ack_all(&self, loans: &[Settle]) -> Result<Vec<Result<()>>> {
        let bytes = 2 * SLOT_BYTES * loans.len() as u64;
        let mut guard = self.with_settling_room(self.enter()?, bytes)?;
        let now = self.now();
        let pairs: Vec<_> = loans.iter().map(|loan| (loan.offset, loan.delivery)).collect();
        let acked = guard.state.ack_many(&pairs);
        for entry in &acked.entries {
            self.put(&mut guard, entry, now)?;
        }
        if guard.sleepers > 0 {
            self.commit.wake_changed();
        }
        self.settle_down(guard, self.synced)?;
        let lost = |loan: &Settle| Error::LeaseLost { offset: Offset::known(loan.offset) };
        let answers = loans.iter().zip(&acked.held);
        Ok(answers.map(|(loan, &held)| if held { Ok(()) } else { Err(lost(loan)) }).collect())
    }

    /// Ends a loan otherwise. Without `wait` it is recorded with the next entry that somebody waits
    /// for.
    ///
    /// # Errors
    /// As [`Live::ack`].
    pub(crate) fn end(&self, loan: Settle, end: End<'_>, wait: bool) -> Result<()> {
        let mut guard = self.with_settling_room(self.enter()?, SLOT_BYTES)?;
        let now = self.now();
        let text = guard.has_room_for_text();
        let Settle { offset, delivery, place } = loan;
        let entry = match end {
            End::Nack { reason, after } => {
                guard.state.nack(offset, delivery, reason.filter(|_| text), after, now)?
            }
            End::Reject { reason } => {
                guard.state.reject(offset, delivery, if text { reason } else { "" }, now)?
            }
            End::Release => guard.state.release(offset, delivery)?,
        };
        self.put(&mut guard, &entry, now)?;
        guard.state.set_place(offset, place);
        if guard.sleepers > 0 {
            self.commit.wake_changed();
        }
        if wait { self.settle_down(guard, self.synced) } else { Ok(()) }
    }

    /// Gives up a message on loan that does not pass its checksum; the next receiver is told.
    ///
    /// # Errors
    /// As [`Live::ack`].
    pub(crate) fn bury(&self, loan: Settle, report: Error) -> Result<()> {
        let mut guard = self.with_settling_room(self.enter()?, 2 * SLOT_BYTES)?;
        let Settle { offset, delivery, .. } = loan;
        if guard.state.holds(offset, delivery) {
            let now = self.now();
            let entry = guard.state.damaged(offset, offset + 1, 0, now);
            self.put(&mut guard, &entry, now)?;
            Self::report(&mut guard, report);
        }
        // Whose loan is over has nothing to say: whoever got the message meanwhile comes to it too.
        self.settle_down(guard, false)
    }
}
