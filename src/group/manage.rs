//! How is a group changed by somebody who holds no loan? Revived, discarded, purged, moved, paused.
//!
//! Everything here is durable before it returns: the entry is appended like any other, and then the
//! halves are switched, so that the change is in a synced snapshot. Where there is no room for a
//! switch, the entries are synced instead.

use super::live::{Live, Locked};
use super::receive;
use super::rule::{Dead, Place};
use super::state::{Counts, Now};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, MAX_SLOTS, SLOT_BYTES};
use crate::format::snapshot::Policy;
use crate::log::reader::Cursor;

/// How many entries are appended between two looks at the room there is.
const AT_ONCE: usize = 256;

impl Live {
    /// Makes dead letters ready again, with their counters at zero; returns how many there were. With
    /// no offsets: all that have not gone bad.
    pub(crate) fn revive(&self, offsets: Option<&[u64]>) -> Result<u64> {
        let guard = self.enter()?;
        let now = self.now();
        let entries = match offsets {
            None => guard.state.revive_all(now),
            Some(offsets) => offsets.iter().filter_map(|&offset| guard.state.revive(offset, now)).collect(),
        };
        let before = guard.state.stats().dead;
        let guard = self.record(guard, &entries, now)?;
        let revived = before - guard.state.stats().dead;
        self.keep(guard)?;
        Ok(revived)
    }

    /// Makes messages done without a delivery, wherever they are: on loan, delayed, dead, not yet
    /// met. Returns how many were not done before.
    pub(crate) fn discard(&self, offsets: &[u64]) -> Result<u64> {
        let mut cursor = Cursor::new(self.log.clone());
        let mut guard = self.enter()?;
        let mut discarded = 0;
        let now = self.now();
        for &offset in offsets {
            // What was met is a message; ahead of the head there are gaps, which count as none.
            if offset >= guard.state.stats().head {
                drop(guard);
                let there = receive::is_there(&mut cursor, offset)?;
                guard = self.enter()?;
                if !there {
                    continue;
                }
            }
            if let Some(entry) = guard.state.discard(offset, now) {
                guard = self.record(guard, &[entry], now)?;
                discarded += 1;
            }
        }
        self.keep(guard)?;
        Ok(discarded)
    }

    /// Makes all below `end` done, of which `messages` lie before it in the log.
    pub(crate) fn purge(&self, end: u64, messages: u64) -> Result<u64> {
        let guard = self.enter()?;
        let now = self.now();
        let before = open_messages(&guard.state.stats());
        let ahead = messages.saturating_sub(guard.state.stats().passed);
        let entry = guard.state.purge(end, ahead, now);
        let guard = self.record(guard, entry.as_slice(), now)?;
        let after = open_messages(&guard.state.stats());
        self.keep(guard)?;
        Ok(before + ahead - after)
    }

    /// Goes on reading at an offset with so many messages before it. All loans are lost, and what
    /// the group knew of single messages is forgotten.
    pub(crate) fn seek(&self, offset: u64, messages: u64) -> Result<()> {
        let guard = self.enter()?;
        let now = self.now();
        let entry = guard.state.seek(offset, messages, now);
        let mut guard = self.record(guard, &[entry], now)?;
        guard.seeks += 1;
        guard.stash = None;
        guard.fetched = None;
        self.keep(guard)
    }

    /// Lends nothing until then (milliseconds since 1970), or with all ones until somebody
    /// says so; `None` goes on.
    pub(crate) fn pause(&self, until: Option<u64>) -> Result<()> {
        let mut guard = self.enter()?;
        let before = guard.state.paused(self.now());
        guard.state.set_paused(until, self.now());
        let kept = self.switch_or(guard, |guard| guard.state.put_back(before));
        self.commit.wake_changed();
        kept
    }

    /// Returns until when nothing is lent: milliseconds since 1970, or all ones.
    pub(crate) fn paused(&self) -> Option<u64> {
        let now = self.now();
        self.look(|state| state.paused(now).map(|pause| pause.until))
    }

    /// Changes how the group treats failures.
    pub(crate) fn set_policy(&self, policy: Policy) -> Result<()> {
        let mut guard = self.enter()?;
        let before = guard.state.policy();
        guard.state.set_policy(policy);
        self.switch_or(guard, |guard| guard.state.set_policy(before))
    }

    /// Gives every loan back, uncounted; returns how many there were.
    pub(crate) fn release_all(&self) -> Result<u64> {
        let guard = self.enter()?;
        let now = self.now();
        let loans = guard.state.on_loan();
        let entries = guard.state.release_all(now);
        let guard = self.record(guard, &entries, now)?;
        self.keep(guard)?;
        Ok(loans)
    }

    /// Lists the dead letters, in offset order.
    pub(crate) fn dead(&self) -> Vec<Dead> {
        self.look(|state| state.dead())
    }

    /// Tells where a message is.
    pub(crate) fn state_of(&self, offset: u64) -> Place {
        let now = self.now();
        self.look(|state| state.place_of(offset, now))
    }

    /// Lists the rows of messages that are there, in offset order; `next` is where the log ends.
    pub(crate) fn rows(&self, place: Place, next: u64) -> Vec<(u64, u64)> {
        let now = self.now();
        self.look(|state| state.rows(place, next, now))
    }

    /// Appends and applies entries.
    fn record<'a>(&'a self, mut guard: Locked<'a>, entries: &[Entry], now: Now) -> Result<Locked<'a>> {
        for some in entries.chunks(AT_ONCE) {
            let slots: usize = some.iter().map(Entry::slots).sum();
            debug_assert!(slots <= some.len() * MAX_SLOTS);
            guard = self.with_room(guard, (slots as u64 + 1) * SLOT_BYTES, 0)?;
            for entry in some {
                self.put(&mut guard, entry, now)?;
            }
        }
        Ok(guard)
    }

    /// Makes what was recorded durable, and wakes those whom it concerns.
    fn keep(&self, guard: Locked<'_>) -> Result<()> {
        let need = guard.kept(0);
        let kept = match self.switch(guard, need) {
            Ok(_) => Ok(()),
            // The entries are in the old half: they hold as well, once they are synced.
            Err(Error::Full { .. }) => self.settle_down(self.enter()?, true),
            Err(error) => Err(error),
        };
        self.commit.wake_changed();
        kept
    }

    /// Switches halves; if there is no room for that, takes back what no entry tells.
    fn switch_or(&self, guard: Locked<'_>, back: impl FnOnce(&mut Locked<'_>)) -> Result<()> {
        let need = guard.kept(0);
        match self.switch(guard, need) {
            Ok(_) => Ok(()),
            Err(error) => {
                back(&mut self.enter()?);
                Err(error)
            }
        }
    }
}

/// Counts the messages that were met and are not done.
fn open_messages(counts: &Counts) -> u64 {
    counts.on_loan + counts.ready_again + counts.delayed + counts.dead
}
