//! Which dedup keys are still taken by messages whose segments are gone?
//!
//! A key is in its message and in the side file of its segment. When the segment goes before the window is over, its
//! side file stays: on stable storage before the slot that says so, and until the window is over.

use super::dedup::is_dedup;
use super::{Engine, lock};
use crate::error::{Error, Result};
use crate::format::index::Row;
use crate::format::keep::KeptRow;
use crate::format::manifest::SegmentRow;
use crate::format::names;
use crate::format::record::Tag;
use crate::log::kept;
use crate::manifest::Found;
use crate::plant::{Plant, planted};
use crate::storage::Storage;

impl Engine {
    /// Makes the side files durable of segments that are about to go, where a dedup key in them may still be
    /// taken; returns what the slot is to say of them. Where that cannot be done the segment stays for now.
    pub(super) fn keep_keys(&self, going: &mut Vec<SegmentRow>) -> Vec<KeptRow> {
        let (window, now) = (self.window(), self.clock.wall());
        let mut kept = Vec::new();
        let taken = |row: &SegmentRow| {
            row.about.tags & Tag::DedupKey.bit() != 0
                && window.count > 0
                && !window.is_over(row.about.last, now)
        };
        if planted(Plant::KeysForgotten) {
            return kept;
        }
        going.retain(|row| {
            let stays = taken(row);
            let saved = !stays || self.save_side_file(row.number).is_ok();
            if stays && saved {
                let (number, length, last, salt) = (row.number, row.length, row.about.last, row.salt);
                kept.push(KeptRow { number, length, last, salt });
            }
            saved
        });
        kept
    }

    fn save_side_file(&self, number: u64) -> Result<()> {
        let set = self.log.set();
        let Some(segment) = set.iter().find(|segment| segment.number == number) else { return Ok(()) };
        self.log.save_side_file(segment)
    }

    /// Removes side files whose keys are all free by now; returns how many.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub(super) fn forget_keys(&self) -> Result<usize> {
        let (window, now) = (self.window(), self.clock.wall());
        let over = |row: &KeptRow| window.is_over(row.last, now);
        let numbers: Vec<u64> = self
            .manifest
            .look(|slot| slot.kept.iter().filter(|row| over(row)).map(|row| row.number).collect());
        if numbers.is_empty() {
            return Ok(0);
        }
        self.manifest.update(|slot| slot.kept.retain(|row| !numbers.contains(&row.number)))?;
        for &number in &numbers {
            // The manifest does not name it: should this fail, the next opening sweeps it.
            let _ = self.storage.remove(&names::index(number));
        }
        Ok(numbers.len())
    }

    /// Reads the dedup keys of messages whose segments are gone.
    ///
    /// # Errors
    /// [`Error::Damaged`], once for each file that has gone bad: its keys are free from then on.
    pub(super) fn kept_keys(&self) -> Result<Vec<Row>> {
        let kept = self.manifest.look(|slot| slot.kept.clone());
        let mut rows = Vec::new();
        for row in kept {
            if lock(&self.space).lost_keys.contains(&row.number) {
                continue;
            }
            match self.log.kept_rows(&row) {
                Ok(read) => rows.extend(read.into_iter().filter(is_dedup)),
                Err(error) => {
                    if matches!(error, Error::Damaged { .. }) {
                        lock(&self.space).lost_keys.push(row.number);
                    }
                    return Err(error);
                }
            }
        }
        Ok(rows)
    }
}

/// Checks that the side files are there that the manifest names.
///
/// # Errors
/// [`Error::Refused`] for one that is missing or another one, or when the disk refuses.
pub(super) fn check_kept(storage: &dyn Storage, found: &Found) -> Result<()> {
    found.slot.kept.iter().try_for_each(|row| kept::check(storage, found.queue, row))
}
