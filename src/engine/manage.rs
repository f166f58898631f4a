//! How is a group moved along the log, and a loan settled by whoever has its receipt?

use std::sync::Arc;

use super::{Engine, From, lock};
use crate::error::{Error, Result};
use crate::format::batch::Record;
use crate::group::live::Live;
use crate::group::settle::{End, Settle};
use crate::offset::Offsets;
use crate::options::Durability;

/// Which loan, as a receipt says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) queue: u128,
    pub(crate) group: &'a str,
    pub(crate) incarnation: u64,
    pub(crate) offset: u64,
    pub(crate) delivery: u64,
}

impl Claim<'_> {
    /// Refuses the receipt of another queue.
    pub(crate) fn check(&self, ours: u128) -> Result<()> {
        if self.queue == ours {
            return Ok(());
        }
        let what = format!("the receipt is of another queue: {:032x}, and this is {ours:032x}", self.queue);
        Err(Error::Invalid { what })
    }
}

impl Engine {
    /// Lets a group go on reading elsewhere; returns the offset.
    ///
    /// # Errors
    /// When the log cannot be read there, or the disk refuses.
    pub(crate) fn seek(&self, group: &Live, to: From) -> Result<u64> {
        self.check_open()?;
        let _changing = lock(&self.changing_groups);
        self.moved_back();
        let _quiet = self.quiet(group)?;
        let reading = self.start_at(to)?;
        let moved = group.seek(reading.floor, reading.passed);
        self.look_at_room();
        moved?;
        Ok(reading.floor)
    }

    /// Makes all done for a group that the log has by now; returns how many messages that were.
    ///
    /// # Errors
    /// As [`Engine::seek`].
    pub(crate) fn purge(&self, group: &Live) -> Result<u64> {
        self.check_open()?;
        let _changing = lock(&self.changing_groups);
        let _quiet = self.quiet(group)?;
        let end = self.log.next();
        group.purge(end, self.messages_before(end)?)
    }

    /// Makes dead letters of a group ready again; all that have not gone bad, if none are named.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn revive(&self, group: &Live, offsets: Option<&[u64]>) -> Result<u64> {
        self.check_open()?;
        let _changing = lock(&self.changing_groups);
        group.revive(offsets)
    }

    /// Makes messages ready again that are done in a group and still stored; returns how many.
    ///
    /// # Errors
    /// As [`Engine::seek`].
    pub(crate) fn undelete(&self, group: &Live, offsets: &[u64]) -> Result<u64> {
        self.check_open()?;
        let _changing = lock(&self.changing_groups);
        // A copy that is being made leaves out what was done: it is given up.
        self.moved_back();
        let _quiet = self.quiet(group)?;
        let undeleted = group.undelete(offsets);
        self.look_at_room();
        undeleted
    }

    /// Makes a message done in every group; returns in how many it was not.
    ///
    /// # Errors
    /// The first failure; the other groups are done all the same.
    pub(crate) fn discard(&self, offset: u64) -> Result<u64> {
        self.check_open()?;
        let mut discarded = 0;
        let mut outcome = Ok(());
        for group in self.all_groups() {
            match self.discard_in(&group, &[offset]) {
                Ok(count) => discarded += count,
                // Removed meanwhile.
                Err(Error::NoSuchGroup { .. }) => {}
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome.map(|()| discarded)
    }

    /// Makes messages done in a group, wherever they are; returns how many were not.
    ///
    /// # Errors
    /// As [`Engine::seek`].
    pub(crate) fn discard_in(&self, group: &Live, offsets: &[u64]) -> Result<u64> {
        self.check_open()?;
        let _quiet = self.quiet(group)?;
        group.discard(offsets)
    }

    /// Gives every loan of a group back, uncounted; returns how many there were.
    ///
    /// # Errors
    /// As [`Engine::seek`].
    pub(crate) fn release_all(&self, group: &Live) -> Result<u64> {
        self.log.check_process()?;
        let _quiet = self.quiet(group)?;
        group.release_all()
    }

    /// Acks a loan and stores records as one batch.
    ///
    /// # Errors
    /// As [`Engine::settle`] and [`Engine::ack_with`].
    pub(crate) fn settle_with(
        &self,
        claim: &Claim<'_>,
        records: &[Record<'_>],
        durability: Durability,
    ) -> Result<Offsets> {
        let claimed = self.claimed(claim)?;
        self.ack_with(&[claimed], records, durability)
    }

    /// Ends a loan: in an ack, if nothing else is said.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], [`Error::NoSuchGroup`], or when the disk refuses.
    pub(crate) fn settle(&self, claim: &Claim<'_>, end: Option<End<'_>>) -> Result<()> {
        let (group, loan) = self.claimed(claim)?;
        match end {
            None => group.ack(loan),
            Some(end) => group.end(loan, end, true),
        }
    }

    /// Lets a timed loan end so many milliseconds from now.
    ///
    /// # Errors
    /// As [`Engine::settle`].
    pub(crate) fn extend(&self, claim: &Claim<'_>, lease: u32) -> Result<()> {
        let (group, loan) = self.claimed(claim)?;
        group.extend(loan, lease)
    }

    fn claimed(&self, claim: &Claim<'_>) -> Result<(Arc<Live>, Settle)> {
        self.check_open()?;
        claim.check(self.queue)?;
        let group = self.group(claim.group)?;
        if group.incarnation != claim.incarnation {
            return Err(Error::lease_lost(claim.offset));
        }
        // Where the message lies is not told: it is looked for, should it come again.
        Ok((group, Settle { offset: claim.offset, delivery: claim.delivery, place: (0, 0) }))
    }
}
