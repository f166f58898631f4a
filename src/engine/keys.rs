//! Which messages have a key, wherever they are?

use std::sync::Arc;

use super::Engine;
use crate::error::Result;
use crate::format::index;
use crate::format::record::Tag;
use crate::group::live::Live;
use crate::group::state::State;

impl Engine {
    /// Makes the messages that have a dedup or unique key done in every group, on loan or not; returns
    /// how many were not done in some group.
    ///
    /// # Errors
    /// The first failure; the other messages and groups are done all the same.
    pub(crate) fn discard_key(&self, key: &[u8]) -> Result<u64> {
        self.check_open()?;
        let mut discarded = 0;
        let mut outcome = Ok(());
        for offset in self.offsets_of(key, self.least_floor())? {
            match self.discard(offset) {
                Ok(groups) => discarded += u64::from(groups > 0),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome.map(|()| discarded)
    }

    /// As [`Engine::discard_key`], in one group.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn discard_key_in(&self, group: &Arc<Live>, key: &[u8]) -> Result<u64> {
        self.check_open()?;
        let offsets = self.offsets_of(key, group.look(State::floor))?;
        self.discard_in(group, &offsets)
    }

    /// Finds the messages from an offset on that have a key of either kind. By its hash: that two keys
    /// meet in 128 bits is less likely than any fault that is looked for here.
    fn offsets_of(&self, key: &[u8], from: u64) -> Result<Vec<u64>> {
        let hashes = [Tag::DedupKey, Tag::Unique].map(|kind| index::hash(self.queue, kind, key));
        loop {
            let left = self.log.left();
            let offsets = self.offsets_in_log(&hashes, from)?;
            // What was copied meanwhile may have been looked for where it no longer is.
            if left == self.log.left() {
                return Ok(offsets);
            }
        }
    }

    fn offsets_in_log(&self, hashes: &[u128], from: u64) -> Result<Vec<u64>> {
        let set = self.log.set();
        let mut offsets = Vec::new();
        for (number, segment) in set.iter().enumerate() {
            let end = set.get(number + 1).map_or(u64::MAX, |next| next.base);
            if end <= from || segment.tags() & Tag::DedupKey.bit() == 0 {
                continue;
            }
            let first = self.log.first_row(segment, from)?;
            self.log.each_row(segment, first, |row| {
                if hashes.contains(&row.dedup) {
                    offsets.push(row.offset);
                }
            })?;
        }
        Ok(offsets)
    }

    /// Finds which of the dedup keys that are wanted some message has that was pushed at a time or later.
    #[cfg(feature = "schedules")]
    pub(super) fn hashes_since(&self, since: u64, wanted: &dyn Fn(u128) -> bool) -> Result<Vec<u128>> {
        loop {
            let left = self.log.left();
            let kept = self.kept_keys()?;
            let mut found = self.hashes_in_log(since, wanted)?;
            found.extend(kept.iter().map(|row| row.dedup).filter(|&hash| wanted(hash)));
            if left == self.log.left() {
                return Ok(found);
            }
        }
    }

    #[cfg(feature = "schedules")]
    fn hashes_in_log(&self, since: u64, wanted: &dyn Fn(u128) -> bool) -> Result<Vec<u128>> {
        let slot = self.manifest.slot();
        let mut found = Vec::new();
        for segment in self.log.set().iter().rev() {
            let older = slot.sealed(segment.number).is_some_and(|row| row.about.last < since);
            if older || segment.tags() & Tag::DedupKey.bit() == 0 {
                continue;
            }
            self.log.each_row(segment, 0, |row| {
                if wanted(row.dedup) {
                    found.push(row.dedup);
                }
            })?;
        }
        Ok(found)
    }
}
