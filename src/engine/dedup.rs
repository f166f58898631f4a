//! What becomes of a push whose key is taken?
//!
//! It waits for the message that has the key and shares its answer; nothing is stored. Who pushes first
//! is decided under the lock of the group commit (`log/keys`). What stored messages say of keys is read
//! at the first push with a key, from the side files, and with no lock held.

use std::sync::Arc;

use super::Engine;
use crate::error::{Error, Result};
use crate::format::batch::Encoded;
use crate::format::index::Row;
use crate::format::record::Tag;
use crate::group::state::State;
use crate::log::Segment;
use crate::log::index::CHUNK;
use crate::log::keys::{self, First, Found, Keys};
use crate::log::room::Pass;
use crate::log::writer::{Job, Slot, Wish};
use crate::offset::{Offset, Offsets};

/// A push that waits, for itself or for the one that has its key.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) slot: Arc<Slot>,
    pub(super) group: u64,
    /// Whose answer is meant, once this one's turn has come.
    pub(super) first: Option<First>,
    /// Nothing waited before it.
    pub(super) alone: bool,
}

impl Handed {
    /// Returns the answer once it is there.
    pub(super) fn answer(&self) -> Option<Result<Offsets>> {
        let own = self.slot.answer()?;
        Some(match &self.first {
            None => own,
            Some(first) => own.and_then(|_| first.answer().unwrap_or(Err(Error::Closed))),
        })
    }
}

impl First {
    /// Returns the offset of the message that has the key, once that is known.
    fn answer(&self) -> Option<Result<Offsets>> {
        let one = |offset: u64| Offsets::new(offset, offset + 1);
        match self {
            Self::Stored(offset) => Some(Ok(one(*offset))),
            Self::InFlight { slot, index } => {
                let first = |offsets: Offsets| offsets.first().map_or(0, Offset::get);
                Some(slot.answer()?.map(|offsets| one(first(offsets) + index)))
            }
        }
    }
}

impl Engine {
    /// Hands a batch over of which some message has a key. One that is `whole` says more than its messages: it
    /// is not stored in part, and shares nobody's answer.
    ///
    /// # Errors
    /// [`Error::Duplicate`] for a batch of several one of whose keys is taken; when the side files must
    /// be read and the disk refuses; what stopped the queue.
    pub(super) fn hand_over(
        &self,
        batch: Encoded,
        rows: Box<[Row]>,
        (synced, pass): (bool, Pass),
        whole: bool,
    ) -> Result<Handed> {
        let several = whole || batch.messages() > 1;
        if let Some(row) = keys::twice(&rows) {
            return Err(duplicate(&rows[row], None));
        }
        let mut given_back: Option<(u128, u64)> = None;
        loop {
            let mut guard = self.commit.lock();
            if let Some(error) = &guard.stopped {
                return Err(error.clone());
            }
            if !guard.keys.is_loaded() {
                drop(guard);
                let stored = self.stored_keys()?;
                // Put together with no lock held: others push meanwhile.
                let mut loaded = Keys::new(self.window());
                loaded.load(&stored);
                self.commit.lock().keys.take_over(loaded, &stored);
                continue;
            }
            if let Some((hash, offset)) = given_back.take() {
                guard.keys.forget(hash, Some(offset));
            }
            let Some(found) = guard.keys.find(&rows, self.clock.wall()) else {
                let slot = Arc::new(Slot::default());
                guard.keys.take(&rows, &slot, synced);
                let sweep = guard.keys.begin_sweep();
                let alone = guard.jobs.is_empty();
                let wish = Wish::Push { batch, rows, synced, pass };
                guard.add(Job { wish, slot: slot.clone() });
                let group = guard.group();
                drop(guard);
                self.sweep_keys(sweep);
                return Ok(Handed { slot, group, first: None, alone });
            };
            let group = guard.group();
            drop(guard);
            if let Found { first: First::Stored(offset), unique: true, hash, .. } = found
                && !self.are_pending(&[offset])[0]
            {
                given_back = Some((hash, offset));
                continue;
            }
            if !several {
                return self.wait_behind(found, synced);
            }
            match self.outcome(&found.first, group) {
                Ok(offsets) => return Err(duplicate(&rows[found.row], offsets.first())),
                // It failed, and its key is free again: the batch is its own first.
                Err(error) => self.check_open().map_err(|_| error)?,
            }
        }
    }

    /// Leads or follows until a push is answered.
    pub(super) fn answer_of(&self, handed: &Handed) -> Result<Offsets> {
        let guard = self.commit.lock();
        let (_, answer) = self.commit.until(guard, handed.group, &*self.clock, None, |_| handed.answer());
        answer.unwrap_or(Err(Error::Timeout { owner: None }))
    }

    /// Waits for its turn behind the message that has the key: then that one is answered, and durable if
    /// this push wants so.
    fn wait_behind(&self, found: Found, synced: bool) -> Result<Handed> {
        let slot = Arc::new(Slot::default());
        let mut guard = self.commit.lock();
        let wish = if synced && !found.synced { Wish::Sync { mark: false } } else { Wish::Turn };
        let alone = guard.jobs.is_empty();
        let group = guard.group();
        if matches!((&wish, &found.first), (Wish::Turn, First::Stored(_))) {
            drop(guard);
            slot.answer_now(Ok(Offsets::new(0, 0)));
        } else if let Some(error) = &guard.stopped {
            return Err(error.clone());
        } else {
            guard.jobs.push(Job { wish, slot: slot.clone() });
        }
        Ok(Handed { slot, group, first: Some(found.first), alone })
    }

    /// Leads or follows until the message that has a key is answered.
    fn outcome(&self, first: &First, group: u64) -> Result<Offsets> {
        let guard = self.commit.lock();
        let (_, answer) = self.commit.until(guard, group, &*self.clock, None, |_| first.answer());
        answer.unwrap_or(Err(Error::Timeout { owner: None }))
    }

    /// Tells of each message whether it is not done in some group. With no group nothing is done, and of
    /// a group whose files are damaged nobody knows.
    fn are_pending(&self, offsets: &[u64]) -> Vec<bool> {
        let groups = self.all_groups();
        if groups.is_empty() || !self.groups().refused.is_empty() {
            return vec![true; offsets.len()];
        }
        let mut pending = vec![false; offsets.len()];
        for group in groups {
            group.look(|state| {
                for (pending, &offset) in pending.iter_mut().zip(offsets) {
                    *pending |= state.done_until(offset).is_none();
                }
            });
        }
        pending
    }

    /// Gives unique keys back whose messages are done.
    fn sweep_keys(&self, unique: Option<Vec<(u128, u64)>>) {
        let Some(unique) = unique else { return };
        let offsets: Vec<u64> = unique.iter().map(|&(_, offset)| offset).collect();
        let pending = self.are_pending(&offsets);
        let done: Vec<_> = unique.into_iter().zip(pending).filter(|(_, pending)| !pending).collect();
        let done: Vec<(u128, u64)> = done.into_iter().map(|(key, _)| key).collect();
        self.commit.lock().keys.swept(&done);
    }

    /// Finds the keys that stored messages have taken, the newest first: dedup keys in the window, unique
    /// keys of messages that are not done.
    fn stored_keys(&self) -> Result<Vec<Row>> {
        loop {
            let left = self.log.left();
            // Those first whose segments are gone: one that goes meanwhile is looked for again.
            let mut kept = self.kept_keys()?;
            let mut found = self.keys_in_log()?;
            if left != self.log.left() {
                continue;
            }
            if kept.is_empty() {
                return Ok(found);
            }
            let (window, now) = (self.window(), self.clock.wall());
            kept.retain(|row| !window.is_over(row.time, now));
            found.append(&mut kept);
            found.sort_unstable_by_key(|row| std::cmp::Reverse(row.offset));
            // A message that was copied stands in the copy's side file too.
            found.dedup_by_key(|row| row.offset);
            let mut counted = 0;
            found.retain(|row| {
                counted += usize::from(!row.unique);
                row.unique || counted <= window.count
            });
            return Ok(found);
        }
    }

    fn keys_in_log(&self) -> Result<Vec<Row>> {
        let set = self.log.set();
        let slot = self.manifest.slot();
        let floor = self.least_floor();
        let (window, now) = (self.window(), self.clock.wall());
        let mut left = window.count;
        let mut found = Vec::new();
        for (index, segment) in set.iter().enumerate().rev() {
            let recent = slot.sealed(segment.number).is_none_or(|row| !window.is_over(row.about.last, now));
            let end = set.get(index + 1).map_or(u64::MAX, |next| next.base);
            let unique = segment.tags() & Tag::Unique.bit() != 0 && end > floor;
            let keyed = segment.tags() & Tag::DedupKey.bit() != 0;
            if !keyed || !(unique || recent && left > 0) {
                continue;
            }
            self.each_row_backwards(segment, |rows| {
                let pending = self.pending_rows(rows);
                for (row, pending) in rows.iter().zip(pending).rev() {
                    if row.unique && pending {
                        found.push(*row);
                    } else if row.dedup != 0 && !row.unique && left > 0 {
                        left -= 1;
                        if !window.is_over(row.time, now) {
                            found.push(*row);
                        }
                    }
                }
                unique || left > 0
            })?;
        }
        Ok(found)
    }

    /// Tells of each row whether it has a unique key and its message is not done.
    fn pending_rows(&self, rows: &[Row]) -> Vec<bool> {
        if !rows.iter().any(|row| row.unique) {
            return vec![false; rows.len()];
        }
        let offsets: Vec<u64> = rows.iter().map(|row| row.offset).collect();
        self.are_pending(&offsets)
    }

    /// Shows the rows of a segment by the chunk, the last one first, as long as more are wanted.
    fn each_row_backwards(&self, segment: &Arc<Segment>, mut show: impl FnMut(&[Row]) -> bool) -> Result<()> {
        let chunk = CHUNK as u64;
        let mut end = self.log.summary(segment)?.rows;
        let mut rows = Vec::new();
        while end > 0 {
            let from = (end - 1) / chunk * chunk;
            rows.clear();
            self.log.rows(segment, from, &mut rows)?;
            rows.truncate(usize::try_from(end - from).unwrap_or(CHUNK));
            if !show(&rows) {
                return Ok(());
            }
            end = from;
        }
        Ok(())
    }

    /// Returns an offset below which all is done in every group.
    pub(super) fn least_floor(&self) -> u64 {
        if !self.groups().refused.is_empty() {
            return 0;
        }
        self.all_groups().iter().map(|group| group.look(State::floor)).min().unwrap_or(0)
    }
}

/// Tells whether a row is there for a dedup key.
pub(super) fn is_dedup(row: &Row) -> bool {
    row.dedup != 0 && !row.unique
}

/// Says that a message of a batch has a key that is taken; by another one of the batch, if no offset is
/// known.
fn duplicate(row: &Row, offset: Option<Offset>) -> Error {
    // Offsets of rows that are not stored are counted from the batch's first.
    Error::Duplicate { index: usize::try_from(row.offset).unwrap_or(usize::MAX), offset }
}
