//! How does a loan end?

use std::sync::Arc;
use std::time::Duration;

use super::live::{Live, Locked};
use super::written::Written;
use crate::error::{Error, Result};
use crate::format::entry::SLOT_BYTES;
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
        let guard = self.put_ack(loan)?;
        self.settle_down(guard, self.syncs_acks())
    }

    /// Begins to: it is recorded and applied when this returns, and not yet sure to last.
    ///
    /// # Errors
    /// As [`Live::ack`].
    pub(crate) fn ack_begin(self: &Arc<Self>, loan: Settle) -> Result<Written> {
        let guard = self.put_ack(loan)?;
        Ok(self.begun(guard, self.syncs_acks()))
    }

    fn syncs_acks(&self) -> bool {
        self.synced && !planted(Plant::AckBeforeSync)
    }

    fn put_ack(&self, loan: Settle) -> Result<Locked<'_>> {
        let mut guard = self.with_settling_room(self.enter()?, SLOT_BYTES)?;
        let now = self.now();
        let entry = guard.state.ack(loan.offset, loan.delivery)?;
        let wakes = guard.watchers > 0 || (guard.sleepers > 0 && guard.state.waits_for_loans());
        self.put(&mut guard, &entry, now)?;
        if wakes {
            self.commit.wake_changed(&mut guard);
        }
        Ok(guard)
    }

    /// Marks messages as done, in one group of entries; the answers are in their order.
    ///
    /// # Errors
    /// As [`Live::ack`], of the whole.
    pub(crate) fn ack_all(&self, loans: &[Settle]) -> Result<Vec<Result<()>>> {
        let (guard, answers) = self.put_acks(loans)?;
        self.settle_down(guard, self.synced)?;
        Ok(answers)
    }

    /// Begins to, as [`Live::ack_begin`].
    ///
    /// # Errors
    /// As [`Live::ack_all`].
    pub(crate) fn ack_all_begin(self: &Arc<Self>, loans: &[Settle]) -> Result<(Written, Vec<Result<()>>)> {
        let (guard, answers) = self.put_acks(loans)?;
        Ok((self.begun(guard, self.synced), answers))
    }

    fn put_acks(&self, loans: &[Settle]) -> Result<(Locked<'_>, Vec<Result<()>>)> {
        let bytes = 2 * SLOT_BYTES * loans.len() as u64;
        let mut guard = self.with_settling_room(self.enter()?, bytes)?;
        let now = self.now();
        let pairs: Vec<_> = loans.iter().map(|loan| (loan.offset, loan.delivery)).collect();
        let acked = guard.state.ack_many(&pairs);
        for entry in &acked.entries {
            self.put(&mut guard, entry, now)?;
        }
        if guard.sleepers > 0 {
            self.commit.wake_changed(&mut guard);
        }
        let lost = |loan: &Settle| Error::lease_lost(loan.offset);
        let answers = loans.iter().zip(&acked.held);
        Ok((guard, answers.map(|(loan, &held)| if held { Ok(()) } else { Err(lost(loan)) }).collect()))
    }

    /// Ends a loan otherwise. Without `wait` it is recorded with the next entry that somebody waits
    /// for.
    ///
    /// # Errors
    /// As [`Live::ack`].
    pub(crate) fn end(&self, loan: Settle, end: End<'_>, wait: bool) -> Result<()> {
        let guard = self.put_end(loan, end)?;
        if wait { self.settle_down(guard, self.synced) } else { Ok(()) }
    }

    /// Begins to, as [`Live::ack_begin`].
    ///
    /// # Errors
    /// As [`Live::ack`].
    pub(crate) fn end_begin(self: &Arc<Self>, loan: Settle, end: End<'_>) -> Result<Written> {
        let guard = self.put_end(loan, end)?;
        Ok(self.begun(guard, self.synced))
    }

    fn put_end(&self, loan: Settle, end: End<'_>) -> Result<Locked<'_>> {
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
            self.commit.wake_changed(&mut guard);
        }
        Ok(guard)
    }

    /// Lets a timed loan end so many milliseconds from now. One that is held needs it not: it stays.
    ///
    /// # Errors
    /// As [`Live::ack`].
    pub(crate) fn extend(&self, loan: Settle, lease: u32) -> Result<()> {
        match self.put_extend(loan, lease)? {
            (guard, true) => self.settle_down(guard, self.synced),
            (_, false) => Ok(()),
        }
    }

    /// Begins to, as [`Live::ack_begin`].
    ///
    /// # Errors
    /// As [`Live::ack`].
    pub(crate) fn extend_begin(self: &Arc<Self>, loan: Settle, lease: u32) -> Result<Written> {
        let (guard, extended) = self.put_extend(loan, lease)?;
        Ok(self.begun(guard, self.synced && extended))
    }

    /// Tells whether the loan needed it.
    fn put_extend(&self, loan: Settle, lease: u32) -> Result<(Locked<'_>, bool)> {
        let mut guard = self.with_settling_room(self.enter()?, SLOT_BYTES)?;
        let now = self.now();
        let entry = guard.state.extend(loan.offset, loan.delivery, lease, now)?;
        if guard.state.is_held(loan.offset) {
            return Ok((guard, false));
        }
        self.put(&mut guard, &entry, now)?;
        if guard.sleepers > 0 {
            // Who sleeps until it ends sleeps too long if it ends earlier.
            self.commit.wake_changed(&mut guard);
        }
        Ok((guard, true))
    }

    /// Gives up a message on loan that does not pass its checksum; the next receiver is told.
    ///
    /// # Errors
    /// As [`Live::ack`].
    pub(crate) fn bury(&self, loan: Settle, report: Error) -> Result<()> {
        let guard = self.put_burial(loan, report)?;
        // Whose loan is over has nothing to say: whoever got the message meanwhile comes to it too.
        self.settle_down(guard, false)
    }

    /// Begins to, as [`Live::ack_begin`].
    ///
    /// # Errors
    /// As [`Live::ack`].
    pub(crate) fn bury_begin(self: &Arc<Self>, loan: Settle, report: Error) -> Result<Written> {
        let guard = self.put_burial(loan, report)?;
        Ok(self.begun(guard, false))
    }

    fn put_burial(&self, loan: Settle, report: Error) -> Result<Locked<'_>> {
        let mut guard = self.with_settling_room(self.enter()?, 2 * SLOT_BYTES)?;
        let Settle { offset, delivery, .. } = loan;
        if guard.state.holds(offset, delivery) {
            let now = self.now();
            let entry = guard.state.damaged(offset, offset + 1, 0, now);
            self.put(&mut guard, &entry, now)?;
            Self::report(&mut guard, report);
            if guard.sleepers > 0 {
                // One loan less.
                self.commit.wake_changed(&mut guard);
            }
        }
        Ok(guard)
    }
}
