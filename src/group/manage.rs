//! How is a group changed by somebody who holds no loan? Revived, discarded, purged, moved, paused.
//!
//! Everything here is durable before it returns: the entry is appended like any other, and then the
//! halves are switched, so that the change is in a synced snapshot. Where there is no room for a
//! switch, the entries are synced instead.

use super::ahead::Ahead;
use super::aside;
use super::live::{Live, Locked};
use super::receive;
use super::rule::{Dead, MessageState};
use super::state::Counts;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, SLOT_BYTES};
use crate::format::snapshot::Policy;
use crate::log::reader::Cursor;
use crate::wake::Wake;

/// How many entries are appended between two looks at the room there is.
const AT_ONCE: usize = 256;
/// What changes one message of a row splits the row: two exceptions more, or one and a range.
pub(super) const SPLIT: u64 = 2;

impl Live {
    /// Makes dead letters ready again, with their counters at zero; returns how many there were. With
    /// no offsets: all that have not gone bad.
    pub(crate) fn revive(&self, offsets: Option<&[u64]>) -> Result<u64> {
        let mut guard = self.enter()?;
        let mut revived = 0;
        for &offset in offsets.unwrap_or_default() {
            guard = self.with_room_for(guard, 1, SPLIT)?;
            let entry = guard.state.revive(offset, self.now());
            revived += u64::from(entry.is_some());
            self.record(&mut guard, entry.as_slice())?;
        }
        let mut next = offsets.is_none().then_some(0);
        while let Some(from) = next {
            let count = guard.state.revive_all(from, AT_ONCE, self.now()).len();
            guard = self.with_room_for(guard, count, 0)?;
            let entries = guard.state.revive_all(from, count, self.now());
            let before = guard.state.stats().dead;
            self.record(&mut guard, &entries)?;
            revived += before - guard.state.stats().dead;
            next = entries.last().map(|last| last.offset + 1);
        }
        self.keep(guard)?;
        Ok(revived)
    }

    /// Makes messages done without a delivery, wherever they are: on loan, delayed, dead, not yet
    /// met. Returns how many were not done before.
    pub(crate) fn discard(&self, offsets: &[u64]) -> Result<u64> {
        let mut cursor = Cursor::new(self.log.clone());
        let mut guard = self.enter()?;
        let mut discarded = 0;
        for &offset in offsets {
            guard = self.with_room_for(guard, 1, SPLIT)?;
            // What was met is a message; ahead of the head there are gaps, which count as none.
            let mut there = offset < guard.state.head();
            if !there {
                drop(guard);
                there = receive::stored(&mut cursor, offset)?.is_some();
                guard = self.with_room_for(self.enter()?, 1, SPLIT)?;
            }
            if there && let Some(entry) = guard.state.discard(offset, self.now()) {
                self.record(&mut guard, &[entry])?;
                discarded += 1;
            }
        }
        self.keep(guard)?;
        Ok(discarded)
    }

    /// Makes all below `end` done, of which `messages` lie before it in the log.
    pub(crate) fn purge(&self, end: u64, messages: u64) -> Result<u64> {
        let mut guard = self.with_room_for(self.enter()?, 1, 0)?;
        let purged = self.record_purge(&mut guard, end, messages)?;
        self.keep(guard)?;
        Ok(purged)
    }

    /// Appends and applies that all below `end` is done; returns how many messages were not.
    pub(super) fn record_purge(&self, guard: &mut Locked<'_>, end: u64, messages: u64) -> Result<u64> {
        let before = guard.state.stats();
        let ahead = messages.saturating_sub(before.passed);
        let entry = guard.state.purge(end, ahead, self.now());
        self.record(guard, entry.as_slice())?;
        let after = guard.state.stats();
        // Those discarded ahead of the head were done already.
        let done = before.ahead - after.ahead;
        Ok((open_messages(&before) + ahead).saturating_sub(open_messages(&after) + done))
    }

    /// Goes on reading at an offset with so many messages before it. All loans are lost, and what
    /// the group knew of single messages is forgotten.
    pub(crate) fn seek(&self, offset: u64, messages: u64) -> Result<()> {
        let mut guard = self.with_room_for(self.enter()?, 1, 0)?;
        // No batch with an ack is on its way: whatever is in the log by now was before this.
        let entry = guard.state.seek(offset, messages, self.log.next(), self.now());
        self.record(&mut guard, &[entry])?;
        look_anew(&mut guard);
        self.keep(guard)
    }

    /// Makes messages ready again that are done and still stored; returns how many. Nothing is given up
    /// meanwhile, and no batch with an ack is on its way.
    pub(crate) fn undelete(&self, offsets: &[u64]) -> Result<u64> {
        let mut cursor = Cursor::new(self.log.clone());
        let guard = self.enter()?;
        let need = guard.kept(0);
        // Its snapshot has the acks of all batches: an opening that finds the entries behind it, and the batches
        // in the log, must not make done once more what they tell of.
        let mut guard = self.switch(guard, need)?;
        let mut undeleted = 0;
        for &offset in offsets {
            if guard.state.done_until(offset).is_none() {
                continue;
            }
            drop(guard);
            let found = receive::stored(&mut cursor, offset)?;
            guard = self.with_room_for(self.enter()?, 1, SPLIT)?;
            let Some(message) = found else { continue };
            let special = aside::told(&message, self.log.queue, self.now());
            if let Some(entry) = guard.state.undelete(offset, &special) {
                self.record(&mut guard, &[entry])?;
                // Reading may have passed over it, ahead of the head.
                look_anew(&mut guard);
                undeleted += 1;
            }
        }
        self.keep(guard)?;
        Ok(undeleted)
    }

    /// Gives up what is not done of stretches that the log is to lose, also where no reading has come to; returns
    /// how many offsets that were. The state is in a synced snapshot then, with the acks of all batches.
    pub(crate) fn strike(&self, ranges: &[(u64, u64)]) -> Result<u64> {
        let mut guard = self.with_room_for(self.enter()?, 1, 0)?;
        let before = guard.state.stats().dead;
        for &(first, end) in ranges {
            let pieces = guard.state.pieces(first, end);
            guard = self.with_room_for(guard, 1, pieces + SPLIT)?;
            let entry = guard.state.strike(first, end, self.now());
            self.record(&mut guard, &[entry])?;
        }
        look_anew(&mut guard);
        let struck = guard.state.stats().dead - before;
        let need = guard.kept(0);
        drop(self.switch(guard, need)?);
        self.wake();
        Ok(struck)
    }

    /// Lends nothing until then (milliseconds since 1970), or with all ones until somebody
    /// says so; `None` goes on.
    pub(crate) fn pause(&self, until: Option<u64>) -> Result<()> {
        let mut guard = self.enter()?;
        let before = guard.state.paused(self.now());
        guard.state.set_paused(until, self.now());
        let kept = self.switch_or(guard, |guard| guard.state.put_back(before));
        self.wake();
        kept
    }

    /// Returns until when nothing is lent: milliseconds since 1970, or all ones.
    pub(crate) fn paused(&self) -> Option<u64> {
        let now = self.now();
        self.look(|state| state.paused(now).map(|pause| pause.until))
    }

    /// Changes how the group treats failures, and which kinds of messages it takes.
    pub(crate) fn set_policy(&self, policy: Policy, kinds: Vec<String>) -> Result<()> {
        let mut guard = self.enter()?;
        let before = (guard.state.policy(), guard.state.kinds().to_vec());
        guard.state.set_policy(policy);
        guard.state.set_kinds(kinds);
        self.switch_or(guard, |guard| {
            guard.state.set_policy(before.0);
            guard.state.set_kinds(before.1);
        })
    }

    /// Gives every loan back, uncounted; returns how many there were.
    pub(crate) fn release_all(&self) -> Result<u64> {
        let mut guard = self.enter()?;
        let mut loans = 0;
        loop {
            let count = guard.state.release_timed(AT_ONCE).len();
            let last = count < AT_ONCE;
            let held = guard.state.release_held(self.now()).len();
            guard = self.with_room_for(guard, count + held.max(1), 0)?;
            let timed = guard.state.release_timed(count);
            let before = guard.state.on_loan();
            self.record(&mut guard, &timed)?;
            if last {
                let held = guard.state.release_held(self.now());
                self.record(&mut guard, &held)?;
            }
            loans += before - guard.state.on_loan();
            if last {
                break;
            }
        }
        self.keep(guard)?;
        Ok(loans)
    }

    /// Lists the dead letters, in offset order.
    pub(crate) fn dead(&self) -> Vec<Dead> {
        self.look(|state| state.dead())
    }

    /// Tells where a message is.
    pub(crate) fn state_of(&self, offset: u64) -> MessageState {
        let now = self.now();
        self.look(|state| state.place_of(offset, now))
    }

    /// Lists the rows of messages that are there, in offset order; `next` is where the log ends.
    pub(crate) fn rows(&self, place: MessageState, next: u64) -> Vec<(u64, u64)> {
        let now = self.now();
        self.look(|state| state.rows(place, next, now))
    }

    /// Returns once so many entries fit, and what the state grows by beside that: so much as settling
    /// `grows` loans would make it grow.
    ///
    /// To be called before something is decided: on its way it lets go of the lock, and what was
    /// decided before would not hold any more. A seek would not fence the loans that were made
    /// meanwhile.
    pub(super) fn with_room_for<'a>(
        &'a self,
        guard: Locked<'a>,
        entries: usize,
        grows: u64,
    ) -> Result<Locked<'a>> {
        // A range takes two slots, and an own mark comes in front.
        self.with_room(guard, (2 * entries as u64 + 1) * SLOT_BYTES, grows)
    }

    /// Appends and applies entries, for which there is room.
    pub(super) fn record(&self, guard: &mut Locked<'_>, entries: &[Entry]) -> Result<()> {
        let now = self.now();
        entries.iter().try_for_each(|entry| self.put(guard, entry, now))
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
        self.wake();
        self.log.room.ring();
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

/// Forgets what was read ahead of the state: where it goes on may be another place now.
fn look_anew(guard: &mut Locked<'_>) {
    guard.seeks += 1;
    guard.skipped = 0;
    guard.ahead = guard.ahead.take().map(|_| Ahead::default());
    guard.stash = None;
    guard.fetched = None;
}

/// Counts the messages that were met and are not done.
fn open_messages(counts: &Counts) -> u64 {
    counts.on_loan + counts.ready_again + counts.delayed + counts.dead
}
