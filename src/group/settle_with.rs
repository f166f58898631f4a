//! How does a loan end whose ack travels in a batch of the log?
//!
//! 1. under the group's lock its number is checked, and it is set aside (see `settling`)
//! 2. the batch is pushed, no lock held; its sync is the sync of the ack
//! 3. once the batch is durable, the entry `done` is appended and applied like any other
//!
//! Nobody waits for 3: stopped before it, the next opening finds the ack in the log. Where the batch has
//! no effect the loan goes on; where nobody knows, the next opening does, and until then it stays aside.

use std::sync::Arc;

use super::live::{Live, Locked};
use super::settle::Settle;
use crate::error::{Error, Result};
use crate::format::entry::SLOT_BYTES;

/// The most entries that are appended between two looks at the room there is.
const AT_ONCE: usize = 64;

/// A loan whose ack is on its way in a batch. Dropped without an answer it is in doubt.
#[derive(Debug)]
#[must_use = "say what became of the batch"]
pub(crate) struct Settlement {
    live: Arc<Live>,
    offset: u64,
    answered: bool,
}

/// While it is there, no ack of the group is on its way in a batch, and none is begun.
#[derive(Debug)]
pub(crate) struct Hush<'a>(&'a Live);

impl Live {
    /// Sets a loan aside: its ack is about to be pushed in a batch.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or when the group was stopped or poisoned.
    pub(crate) fn begin_settling(self: &Arc<Self>, loan: Settle) -> Result<Settlement> {
        let mut guard = self.enter()?;
        while guard.stopped.is_none() && guard.hushed > 0 {
            guard = self.commit.wait_changed(guard, &*self.clock, None);
        }
        guard.check()?;
        // Read under the lock: whatever is pushed from now on ends behind it.
        let next = self.log.next();
        guard.state.begin_settling(loan.offset, loan.delivery, next)?;
        guard.state.set_place(loan.offset, loan.place);
        Ok(Settlement { live: self.clone(), offset: loan.offset, answered: false })
    }

    /// Records the acks whose batches are durable by now; returns how many wait for that.
    ///
    /// # Errors
    /// When there is no room, or the group was stopped or poisoned: the batches have the acks.
    pub(crate) fn record_settled(&self) -> Result<u64> {
        let guard = self.enter()?;
        self.record_durable(guard).map(|guard| guard.state.settling.answered())
    }

    pub(super) fn record_durable<'a>(&'a self, mut guard: Locked<'a>) -> Result<Locked<'a>> {
        loop {
            let durable = self.log.durable();
            if guard.state.settled_by(durable, 1).is_empty() {
                return Ok(guard);
            }
            // Making room may let go of the lock: what is recorded is looked up anew.
            guard = self.with_settling_room(guard, 2 * SLOT_BYTES * AT_ONCE as u64)?;
            let now = self.now();
            let wakes = guard.watchers > 0
                || guard.hushed > 0
                || (guard.sleepers > 0 && guard.state.waits_for_loans());
            for entry in guard.state.settled_by(durable, AT_ONCE) {
                guard.state.recorded(&entry);
                self.put(&mut guard, &entry, now)?;
            }
            if wakes {
                self.commit.wake_changed(&mut guard);
            }
        }
    }

    /// Waits until no batch is on its way that acks a loan of this group, and lets none be begun until
    /// the answer is dropped.
    ///
    /// # Errors
    /// When the group was stopped; or it is not known of some batch whether it is in the log: that is
    /// found out by the next opening.
    pub(crate) fn hush(&self) -> Result<Hush<'_>> {
        self.enter()?.hushed += 1;
        let hush = Hush(self);
        let mut guard = self.enter()?;
        let quiet = loop {
            if let Err(error) = guard.check() {
                break Err(error);
            }
            if let Some(error) = guard.state.settling.doubt() {
                break Err(error.clone());
            }
            if !guard.state.settling.is_in_flight() {
                break Ok(());
            }
            guard = self.commit.wait_changed(guard, &*self.clock, None);
        };
        // Before the hush goes, which takes the lock.
        drop(guard);
        quiet.map(|()| hush)
    }

    /// Tells how many acks are in batches and not recorded.
    pub(crate) fn unrecorded(&self) -> u64 {
        self.look(|state| state.settling.answered())
    }

    /// Waits until every batch that acks a loan of this group is answered. The log's end answers all.
    pub(super) fn wait_for_settling<'a>(&'a self, mut guard: Locked<'a>) -> Locked<'a> {
        while guard.state.settling.is_in_flight() && guard.broken.is_none() {
            guard.hushed += 1;
            guard = self.commit.wait_changed(guard, &*self.clock, None);
            guard.hushed -= 1;
        }
        guard
    }
}

impl Settlement {
    /// Says that the batch is in the log and ends there.
    pub(crate) fn stored(mut self, end: u64) {
        self.answer(|guard, offset| guard.state.settling.stored(offset, end));
        // The ack is in the log whatever comes of this: should it fail, the next ack, duty or opening
        // finds it there.
        let _ = self.live.record_settled();
        self.live.log.room.ring();
    }

    /// Says that the batch is not in the log, and never will be.
    pub(crate) fn took_no_effect(mut self) {
        self.answer(|guard, offset| guard.state.end_settling(offset));
    }

    /// Says that nobody knows whether the batch is in the log.
    pub(crate) fn in_doubt(mut self, why: &Error) {
        self.answer(|guard, offset| guard.state.settling.in_doubt(offset, why.clone()));
    }

    fn answer(&mut self, answer: impl FnOnce(&mut Locked<'_>, u64)) {
        self.answered = true;
        // In a fork there is nobody to tell.
        let Ok(mut guard) = self.live.enter() else { return };
        answer(&mut guard, self.offset);
        if guard.sleepers > 0 || guard.hushed > 0 {
            self.live.commit.wake_changed(&mut guard);
        }
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if !self.answered {
            let what = "a panic while an ack was pushed with its outputs".into();
            self.answer(|guard, offset| guard.state.settling.in_doubt(offset, Error::Invalid { what }));
        }
    }
}

impl Drop for Hush<'_> {
    fn drop(&mut self) {
        if let Ok(mut guard) = self.0.enter() {
            guard.hushed -= 1;
            self.0.commit.wake_changed(&mut guard);
        }
    }
}
