//! Which segments does nobody need any more, and how do they go?
//!
//! 1. what every group has done in them is on stable storage, and so are the dedup keys in them that may be taken
//! 2. the manifest's slot names them no more, synced
//! 3. readers are shown the set without them
//! 4. one becomes the next segment, the other files are removed
//!
//! Stopped before 2 they are still there; after it the next opening sweeps what is left of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Engine, lock};
use crate::compact::plan::{self, Fact, SPARSE};
use crate::error::Result;
use crate::format::batch::settles_bit;
use crate::format::manifest::{NO_SETTLES, SegmentRow, Slot};
use crate::format::names;
use crate::group::live::Live;
use crate::group::state::State;
use crate::log::{Segment, roll};
use crate::plant::{Plant, planted};

/// Between two looks at how much is live lies so long while nothing becomes done, and while something does.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_SOON: Duration = Duration::from_millis(100);
/// Of its time the background thread spends one part in so many on looking.
const LOOKING: u32 = 20;
/// What becomes done so fast that in so long nothing would be left is not worth copying.
const SOON_DONE: Duration = Duration::from_secs(4);

/// What was seen of the segments.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// How often some group may have been moved back to what was done.
    moved_back: u64,
    looked: BTreeMap<u64, Looked>,
    at: Option<Duration>,
    /// How long the look took.
    took: Duration,
    /// What all groups had appended then, and which segment was active; at how many looks in a row that was the
    /// same.
    appended: (u64, u64),
    same: u32,
    /// What all groups had appended when the background thread looked last.
    acted: u64,
    /// A copy did not find room.
    pub(super) crowded: bool,
    /// Kept side files that have gone bad: somebody was told.
    pub(super) lost_keys: Vec<u64>,
}

/// What was seen of a sealed segment at the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looked {
    /// How many of its offsets some group has not done.
    pending: u64,
    /// When that was compared, and what it was then.
    compared: Option<(Duration, u64)>,
    /// They were not becoming done so fast that they would soon be.
    calm: bool,
    /// How many were pending when its bytes were measured, and how many bytes these took.
    measured: Option<(u64, u64)>,
    /// It has gone bad where somebody needs it: it stays as it is.
    damaged: bool,
}

impl Looked {
    /// Notes how many are pending now.
    fn look(&mut self, pending: u64, now: Duration) {
        self.pending = pending;
        let Some((then, before)) = self.compared else {
            self.compared = Some((now, pending));
            return;
        };
        let passed = now.saturating_sub(then);
        // Over a moment nothing can be told.
        if passed >= LOOK_SOON {
            let done = u128::from(before.saturating_sub(pending));
            self.calm = done * SOON_DONE.as_millis() < u128::from(before.max(1)) * passed.as_millis();
            self.compared = Some((now, pending));
        }
    }

    /// Estimates the live bytes of a segment.
    fn live(&self, row: &SegmentRow, messages: u64) -> u64 {
        let bytes = plan::batch_bytes(row);
        match self.measured {
            Some((pending, live)) => plan::share(live, self.pending, pending),
            None => plan::share(bytes, self.pending, messages),
        }
    }
}

impl Engine {
    /// Notes that a group may be moved back to what was done. `changing_groups` is held.
    pub(super) fn moved_back(&self) {
        lock(&self.space).moved_back += 1;
    }

    /// Returns how often that was.
    pub(super) fn times_moved_back(&self) -> u64 {
        lock(&self.space).moved_back
    }

    /// Gives up segments whose messages are done in every group and need not be kept; returns how many.
    ///
    /// # Errors
    /// When the disk refuses. What was given up by then is gone.
    pub(super) fn free_done(&self) -> Result<usize> {
        self.free_for(0)
    }

    /// Does the same, and keeps nothing before so many bytes are free.
    ///
    /// # Errors
    /// As [`Engine::free_done`].
    pub(super) fn free_for(&self, room: u64) -> Result<usize> {
        // Nobody moves back to where they lie, and no group begins there, meanwhile.
        let _changing = lock(&self.changing_groups);
        if self.check_open().is_err() {
            return Ok(0);
        }
        let slot = self.manifest.slot();
        let groups = self.all_groups();
        // With no group nothing is done; of one whose files are damaged nobody knows what is.
        if groups.is_empty() || !self.groups().refused.is_empty() {
            return Ok(0);
        }
        let mut done = self.unpinned(&slot);
        for group in &groups {
            group.look(|state| done.retain(|(row, _)| is_done(state, row)));
        }
        let mut freed = 0;
        done.retain(|(row, released)| {
            let goes = *released || freed < room;
            freed += if goes { row.length } else { 0 };
            goes
        });
        let mut candidates: Vec<SegmentRow> = done.into_iter().map(|(row, _)| row).collect();
        if candidates.is_empty() {
            return self.forget_keys();
        }
        for group in &groups {
            group.synced_look(|state| candidates.retain(|row| is_done(state, row)))?;
        }
        let kept = self.keep_keys(&mut candidates);
        let numbers: Vec<u64> = candidates.iter().map(|row| row.number).collect();
        if planted(Plant::FreedBeforeSlot) {
            numbers.iter().for_each(|&number| self.remove_segment(number, true));
        }
        if numbers.is_empty() {
            return self.forget_keys();
        }
        self.manifest.update(|slot| {
            plan::replace(&mut slot.segments, &numbers, None);
            slot.kept.extend_from_slice(&kept);
        })?;
        self.leave(&numbers, None);
        Ok(numbers.len() + self.forget_keys()?)
    }

    /// Lists the sealed segments that are not kept for the acks in them; of each it is told whether what is done
    /// there need not be kept for a while either.
    fn unpinned(&self, slot: &Slot) -> Vec<(SegmentRow, bool)> {
        let rows = self.sealed_with_dead(slot);
        let released = plan::released(&rows, &self.limits(), self.clock.wall());
        let end = self.pinned_from(slot);
        rows.into_iter().zip(released).take(end).map(|((row, _), released)| (row, released)).collect()
    }

    /// Returns the index of the first segment that is kept for what is in it, done or not: for acks, or for pushes that
    /// a guest may send again.
    pub(super) fn pinned_from(&self, slot: &Slot) -> usize {
        let all = slot.segments.len();
        let unheard = self.kept_from().map_or(all, |from| {
            slot.segments.iter().position(|row| row.length == 0 || row.end > from).unwrap_or(all)
        });
        pinned_by_settles(slot).unwrap_or(all).min(unheard)
    }

    /// Lists the sealed segments with the bytes of them that are done in every group, as far as is known.
    fn sealed_with_dead(&self, slot: &Slot) -> Vec<(SegmentRow, u64)> {
        let floor = self.least_floor();
        let space = lock(&self.space);
        let row = |pair: &[SegmentRow]| {
            let (row, next) = (pair[0], pair[1]);
            let bytes = plan::batch_bytes(&row);
            let messages = next.messages_before - row.messages_before;
            let live = match space.looked.get(&row.number) {
                _ if row.end <= floor => 0,
                Some(looked) => looked.live(&row, messages).min(bytes),
                None => bytes,
            };
            (row, bytes - live)
        };
        slot.segments.windows(2).map(row).collect()
    }

    /// Shows readers the set without segments that the slot names no more, with a copy in their place if there
    /// is one; then their files go.
    pub(super) fn leave(&self, numbers: &[u64], copy: Option<Arc<Segment>>) {
        let (rows, kept) = self.manifest.look(|slot| (slot.segments.clone(), slot.kept.clone()));
        let left = self.log.replace(numbers, copy, &rows);
        for group in self.all_groups() {
            group.leave(numbers);
        }
        {
            let mut space = lock(&self.space);
            space.looked.retain(|number, _| !numbers.contains(number));
        }
        for segment in left {
            let keys = kept.iter().any(|row| row.number == segment.number);
            // Where nobody else has it, nobody can read what is written over it.
            let unread = Arc::strong_count(&segment) == 1;
            if !(unread && self.recycle(&segment, !keys)) {
                self.remove_segment(segment.number, !keys);
            }
        }
    }

    /// Makes the file of a segment that left the log the next one, if that fits; tells whether it did.
    fn recycle(&self, segment: &Segment, index: bool) -> bool {
        let set = self.log.set();
        let Some(active) = set.last() else { return false };
        // A copy may have a higher number than the active segment. With the header of another, or with half of one,
        // it would look after a crash like messages of which the manifest has lost track.
        if segment.number > active.number {
            return false;
        }
        let capacity = roll::next_capacity(active.capacity, self.log.room.segment_bytes());
        let (old, now) = ((segment.number, segment.salt), self.clock.wall());
        // A failure took the file with it: another is made when one is needed.
        let recycled = self.spare.recycle(&*self.storage, self.queue, old, capacity, now);
        let is_gone = recycled.as_ref().map_or(true, |&recycled| recycled);
        if is_gone && index {
            let _ = self.storage.remove(&names::index(segment.number));
        }
        is_gone
    }

    /// Removes files that the manifest does not name. Should it fail, the next opening sweeps them.
    fn remove_segment(&self, number: u64, index: bool) {
        if index {
            let _ = self.storage.remove(&names::index(number));
        }
        let _ = self.storage.remove(&names::segment(number));
    }

    /// Looks how much of each sealed segment is live, now and then; returns what is known, in offset order.
    ///
    /// # Errors
    /// When a segment must be read, and the disk refuses.
    pub(super) fn facts(&self) -> Result<Option<Vec<Fact>>> {
        let groups = self.all_groups();
        if groups.is_empty() || !self.groups().refused.is_empty() {
            return Ok(None);
        }
        let now = self.clock.now();
        let haste = lock(&self.idle).haste;
        let active = self.log.set().last().map_or(0, |active| active.number);
        let appended = (groups.iter().map(|group| group.appended()).sum(), active);
        {
            let mut space = lock(&self.space);
            let busy = space.appended != appended;
            let pause = if busy { (space.took * LOOKING).clamp(LOOK_SOON, LOOK) } else { LOOK };
            if !haste && space.at.is_some_and(|at| now.saturating_sub(at) < pause) {
                return Ok(None);
            }
            let same = space.at.is_some() && space.appended == appended;
            space.same = if same { space.same + 1 } else { 0 };
            (space.at, space.appended) = (Some(now), appended);
            // What the last two looks have not found is not there now either, unless time tells.
            if !haste && space.same > 2 && self.limits().retain_for == 0 {
                return Ok(None);
            }
        }
        let slot = self.manifest.slot();
        let unpinned = self.unpinned(&slot);
        let free = |number: u64| unpinned.iter().any(|(row, released)| *released && row.number == number);
        let mut facts = Vec::new();
        for pair in slot.segments.windows(2) {
            let messages = pair[1].messages_before - pair[0].messages_before;
            let fact = self.fact(&groups, &pair[0], messages, (now, haste))?;
            facts.push(Fact { settled: fact.settled && free(fact.number), ..fact });
        }
        lock(&self.space).took = self.clock.now().saturating_sub(now);
        Ok(Some(facts))
    }

    fn fact(
        &self,
        groups: &[Arc<Live>],
        row: &SegmentRow,
        messages: u64,
        (now, haste): (Duration, bool),
    ) -> Result<Fact> {
        let bytes = plan::batch_bytes(row);
        let fact = Fact { number: row.number, bytes, live: bytes, settled: false };
        // Where some group has still to go through it, all of it is live.
        if groups.iter().any(|group| group.look(|state| state.head() <= row.base)) {
            return Ok(fact);
        }
        let live = pending(groups, row);
        let pending = count(&live);
        let mut looked = {
            let mut space = lock(&self.space);
            let looked = space.looked.entry(row.number).or_default();
            looked.look(pending, now);
            looked.calm |= haste;
            *looked
        };
        let estimate = looked.live(row, messages);
        let unknown = looked.measured.is_none_or(|(then, _)| pending < then / 4 * 3);
        let between = estimate * 2 * SPARSE >= bytes && pending < messages;
        if looked.calm && unknown && between && !looked.damaged {
            looked.measured = Some((pending, self.measure(row, &live)?));
            lock(&self.space).looked.insert(row.number, looked);
        }
        let live = looked.live(row, messages).min(bytes);
        Ok(Fact { live, settled: looked.calm && !looked.damaged, ..fact })
    }

    fn measure(&self, row: &SegmentRow, live: &[(u64, u64)]) -> Result<u64> {
        let set = self.log.set();
        let Some(segment) = set.iter().find(|segment| segment.number == row.number) else { return Ok(0) };
        crate::compact::copy::measure(&self.log, segment, live)
    }

    /// Tells whether messages have become done, as it seems, since this was asked last, and there are segments
    /// that could go.
    pub(super) fn is_draining(&self) -> bool {
        let acted = self.all_groups().iter().map(|group| group.appended()).sum();
        let before = std::mem::replace(&mut lock(&self.space).acted, acted);
        before != acted && self.log.set().len() > 1
    }

    /// Has the segments looked at anew, soon.
    pub(super) fn look_again(&self) {
        let mut space = lock(&self.space);
        (space.at, space.same) = (None, 0);
    }

    /// Notes what came of an attempt to rewrite segments that was not worth it, or failed.
    pub(super) fn note_refused(&self, numbers: &[u64], damaged: bool) {
        let rows = self.manifest.look(|slot| slot.segments.clone());
        let mut space = lock(&self.space);
        for row in rows.iter().filter(|row| numbers.contains(&row.number)) {
            if let Some(looked) = space.looked.get_mut(&row.number) {
                looked.damaged |= damaged;
                looked.measured = Some((looked.pending, plan::batch_bytes(row)));
            }
        }
    }
}

fn is_done(state: &State, row: &SegmentRow) -> bool {
    row.base == row.end || state.done_until(row.base).is_some_and(|end| row.end <= end)
}

/// Returns the offsets of a segment that some group has not done, in order.
pub(super) fn pending(groups: &[Arc<Live>], row: &SegmentRow) -> Vec<(u64, u64)> {
    let of = |group: &Arc<Live>| group.look(|state| state.pending_within(row.base, row.end));
    union(groups.iter().map(of))
}

/// Counts the offsets in ranges.
pub(super) fn count(ranges: &[(u64, u64)]) -> u64 {
    ranges.iter().map(|(first, end)| end - first).sum()
}

/// Puts ranges together, each list in order.
pub(super) fn union(lists: impl Iterator<Item = Vec<(u64, u64)>>) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = Vec::new();
    let mut count = 0;
    for mut list in lists {
        count += 1;
        all.append(&mut list);
    }
    if count < 2 {
        return all;
    }
    all.sort_unstable();
    let mut union: Vec<(u64, u64)> = Vec::with_capacity(all.len());
    for (first, end) in all {
        match union.last_mut() {
            Some(last) if first <= last.1 => last.1 = last.1.max(end),
            _ => union.push((first, end)),
        }
    }
    union
}

/// Returns the index of the first segment that some group's acks may still have to be read from.
fn pinned_by_settles(slot: &Slot) -> Option<usize> {
    let wanted = slot.groups.iter().filter(|group| group.settles_from != NO_SETTLES);
    let from = wanted.map(|group| slot.index_of(group.settles_from).unwrap_or(0)).min()?;
    let has_settles = |row: &SegmentRow| row.about.tags & settles_bit(true) != 0;
    slot.segments[from..].iter().position(has_settles).map(|index| from + index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::{About, GroupRow};

    #[test]
    fn a_segment_that_will_soon_be_done_is_not_calm() {
        let at = Duration::from_millis;
        let after = |passed: u64, pending: u64| {
            let mut looked = Looked::default();
            looked.look(1000, at(0));
            looked.look(pending, at(passed));
            looked.calm
        };

        assert_eq!((after(1000, 1000), after(1000, 751), after(1000, 750)), (true, true, false));
        assert_eq!((after(100, 976), after(100, 975)), (true, false));
        assert!(!after(99, 1000), "too soon to tell");
        assert!(after(100, 1200), "some came back");
        let mut nothing = Looked::default();
        nothing.look(0, at(0));
        nothing.look(0, at(100));
        assert!(nothing.calm);
    }

    #[test]
    fn what_one_of_several_groups_has_not_done_is_pending() {
        let lists = [vec![(1, 3), (5, 6)], vec![(2, 4), (6, 7)], vec![]];
        assert_eq!(union(lists.into_iter()), [(1, 4), (5, 7)]);
        assert_eq!(union([vec![(1, 3)]].into_iter()), [(1, 3)]);
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
        let row = |number: u64| SegmentRow { number, about: About::default(), ..SegmentRow::default() };
        let segments = (1..=4).map(row).collect();
        let mut slot = Slot { segments, groups: vec![group(2), group(3)], ..Slot::default() };
        assert_eq!(pinned_by_settles(&slot), None);

        slot.segments[0].about.tags = settles_bit(true);
        assert_eq!(pinned_by_settles(&slot), None);
        slot.segments[2].about.tags = settles_bit(true);
        assert_eq!(pinned_by_settles(&slot), Some(2));
    }
}
