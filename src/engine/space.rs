//! Which segments does nobody need any more, and how do they go?
//!
//! Facts in, steps out (`plan`, pure), then a dull sequence carries them out:
//!
//! 1. what every group has done in them is on stable storage
//! 2. the manifest's slot names them no more, synced
//! 3. readers are shown the set without them
//! 4. the files are removed
//!
//! Stopped before 2 they are still there; after it the next opening sweeps what is left of them.

use std::sync::Arc;
use std::time::Duration;

use super::{Engine, lock};
use crate::clock::millis;
use crate::error::Result;
use crate::format::batch::settles_bit;
use crate::format::manifest::{NO_SETTLES, SegmentRow, Slot};
use crate::format::names;
use crate::group::live::Live;
use crate::group::state::State;
use crate::plant::{Plant, planted};

/// For how long, and how much of it, is kept of what is done in every group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Keep {
    time: Option<Duration>,
    bytes: Option<u64>,
}

impl Engine {
    /// Gives up the oldest segments whose messages are done in every group and need not be kept;
    /// returns how many.
    ///
    /// # Errors
    /// When the disk refuses. What was given up by then is gone.
    pub(super) fn free_done(&self) -> Result<usize> {
        let limits = self.limits();
        let keep = Keep {
            time: (limits.retain_for > 0).then(|| Duration::from_millis(limits.retain_for)),
            bytes: (limits.retain_bytes > 0).then_some(limits.retain_bytes),
        };
        // Nobody moves back to where they lie, and no group begins there, meanwhile.
        let _changing = lock(&self.changing_groups);
        let floor = |group: &Arc<Live>| group.look(State::floor);
        let floors: Vec<u64> = self.all_groups().iter().map(floor).collect();
        if self.freeable(&floors, keep).is_empty() {
            return Ok(0);
        }
        let synced = |group: &Arc<Live>| match planted(Plant::FreedOnUnsynced) {
            true => Ok(floor(group)),
            false => group.synced_floor(),
        };
        let floors = self.all_groups().iter().map(synced).collect::<Result<Vec<u64>>>()?;
        let numbers = self.freeable(&floors, keep);
        if planted(Plant::FreedBeforeSlot) {
            self.remove_segments(&numbers);
        }
        self.manifest.update(|slot| slot.segments.retain(|row| !numbers.contains(&row.number)))?;
        self.log.forget(&numbers);
        self.remove_segments(&numbers);
        Ok(numbers.len())
    }

    /// Lists the segments that can go, if the groups stand at these floors.
    fn freeable(&self, floors: &[u64], keep: Keep) -> Vec<u64> {
        // With no group nothing is done; of one whose files are damaged nobody knows what is.
        let Some(&floor) = floors.iter().min().filter(|_| self.groups().refused.is_empty()) else {
            return Vec::new();
        };
        let slot = self.manifest.slot();
        let end = pinned_by_settles(&slot).unwrap_or(slot.segments.len());
        plan(&slot.segments[..end], floor, keep, self.clock.wall())
    }

    /// Removes files that the manifest does not name. Should it fail, the next opening sweeps them.
    fn remove_segments(&self, numbers: &[u64]) {
        for &number in numbers {
            let _ = self.storage.remove(&names::index(number));
            let _ = self.storage.remove(&names::segment(number));
        }
    }
}

/// Returns the index of the first segment that some group's acks may still have to be read from.
fn pinned_by_settles(slot: &Slot) -> Option<usize> {
    let wanted = slot.groups.iter().filter(|group| group.settles_from != NO_SETTLES);
    let from = wanted.map(|group| slot.index_of(group.settles_from).unwrap_or(0)).min()?;
    let has_settles = |row: &SegmentRow| row.about.tags & settles_bit(true) != 0;
    slot.segments[from..].iter().position(has_settles).map(|index| from + index)
}

/// Chooses, of segments in offset order, those that can go: all done below `floor`, sealed, and too old or
/// too much. `wall` is what the wall clock shows.
fn plan(rows: &[SegmentRow], floor: u64, keep: Keep, wall: u64) -> Vec<u64> {
    let is_done = |pair: &[SegmentRow]| pair[0].length != 0 && pair[1].base <= floor;
    let done = rows.windows(2).take_while(|pair| is_done(pair)).count();
    let mut bytes: u64 = rows[..done].iter().map(|row| row.length).sum();
    let mut numbers = Vec::new();
    for row in &rows[..done] {
        let too_old = keep.time.is_some_and(|time| row.about.last.saturating_add(millis(time)) < wall);
        let too_much = keep.bytes.is_some_and(|most| bytes > most);
        if keep != Keep::default() && !too_old && !too_much {
            break;
        }
        bytes -= row.length;
        numbers.push(row.number);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::{About, GroupRow};

    /// Four segments of ten messages and a hundred bytes, pushed in the seconds 1 to 4; the last is active.
    fn rows() -> Vec<SegmentRow> {
        let row = |number: u64| SegmentRow {
            number,
            base: (number - 1) * 10,
            messages_before: (number - 1) * 10,
            length: if number < 4 { 100 } else { 0 },
            about: About { first: number * 1000 - 500, last: number * 1000, tags: 0 },
            ..SegmentRow::default()
        };
        (1..=4).map(row).collect()
    }

    fn bytes(most: u64) -> Keep {
        Keep { bytes: Some(most), time: None }
    }

    #[test]
    fn what_is_not_done_stays_whatever_is_to_be_kept() {
        for (floor, expected) in [(0, 0), (9, 0), (10, 1), (29, 2), (30, 3), (99, 3)] {
            assert_eq!(plan(&rows(), floor, bytes(0), 0).len(), expected, "{floor}");
        }
    }

    #[test]
    fn so_many_bytes_of_what_is_done_are_kept_the_newest() {
        for (most, expected) in [(300, vec![]), (299, vec![1]), (200, vec![1]), (100, vec![1, 2])] {
            assert_eq!(plan(&rows(), 99, bytes(most), 0), expected, "{most}");
        }
    }

    #[test]
    fn what_is_older_goes_and_either_limit_is_enough() {
        let keep = Keep { time: Some(Duration::from_secs(5)), bytes: None };

        assert!(plan(&rows(), 99, keep, 6_000).is_empty());
        assert_eq!(plan(&rows(), 99, keep, 7_001), [1, 2]);
        assert_eq!(plan(&rows(), 15, keep, 90_000), [1]);
        assert_eq!(plan(&rows(), 99, Keep { bytes: Some(100), ..keep }, 0), [1, 2]);
    }

    #[test]
    fn acks_that_travel_in_batches_keep_their_segments() {
        let group = |settles_from: u64| GroupRow {
            name: settles_from.to_string(),
            incarnation: 1,
            generation: 1,
            settles_from,
            mark: 0,
        };
        let mut slot = Slot { segments: rows(), groups: vec![group(2), group(3)], ..Slot::default() };
        assert_eq!(pinned_by_settles(&slot), None);

        slot.segments[0].about.tags = settles_bit(true);
        assert_eq!(pinned_by_settles(&slot), None);
        slot.segments[2].about.tags = settles_bit(true);
        assert_eq!(pinned_by_settles(&slot), Some(2));
    }
}
