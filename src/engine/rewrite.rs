//! How do sparse segments become one that is not?
//!
//! 1. what every group has done in them is on stable storage; the rest is copied, step by step (`compact/copy`)
//! 2. the copy, its header and its name are on stable storage
//! 3. the manifest's slot names it in place of its sources, synced
//! 4. readers are shown the set with it, groups are told where their messages lie
//! 5. the sources go, as segments do that are done (`engine/space`)
//!
//! Between 1 and 3 messages may become done, which are copied in vain; where a group was moved back meanwhile the
//! copy is thrown away. Stopped before 3 the copy is a leftover, after it the sources are.

use std::sync::Arc;
use std::time::Duration;

use super::space::union;
use super::{Engine, lock};
use crate::compact::copy::{Copied, Copying, Progress};
use crate::compact::plan;
use crate::error::{Error, Result};
use crate::format::manifest::SegmentRow;
use crate::format::{PAGE_POSITION, names};
use crate::log::Segment;
use crate::plant::{Plant, planted};

/// Of the time of the background thread, and of the disk's, copying takes one part in so many.
const SHARE: u32 = 4;
const LEAST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A copy that is being made.
#[derive(Debug)]
pub(crate) struct Rewriting {
    copying: Copying,
    numbers: Vec<u64>,
    /// How often groups had been moved back before it was asked what is done.
    moved_back: u64,
}

impl Engine {
    /// Does one step of rewriting sparse segments; returns after how long the next one should come, if there is
    /// more to do.
    ///
    /// # Errors
    /// When the disk refuses: the copy is given up, and its sources stay as they are.
    pub(super) fn rewrite(&self) -> Result<Option<Duration>> {
        let begun = self.clock.now();
        let stepped = self.step_or_begin();
        if matches!(stepped, Err(Error::Full { .. })) {
            // The copy gives back more than it takes: it comes before a segment that nobody writes to yet.
            self.give_way(true);
        }
        let more = stepped?;
        if !more {
            self.give_way(false);
        }
        let pause = (self.clock.now().saturating_sub(begun) * (SHARE - 1)).clamp(LEAST_PAUSE, LONGEST_PAUSE);
        Ok(more.then_some(pause))
    }

    /// Leaves the room of the segment made ahead to copies, or takes it again.
    fn give_way(&self, crowded: bool) {
        lock(&self.space).crowded = crowded;
        if crowded {
            self.spare.let_go(&*self.storage);
            self.look_again();
        }
    }

    /// Tells whether there is no room for a segment made ahead, since a copy needs it.
    pub(super) fn is_crowded(&self) -> bool {
        lock(&self.space).crowded
    }

    /// Tells whether there is more to do.
    fn step_or_begin(&self) -> Result<bool> {
        if self.log.failure().is_some() || self.manifest.check().is_err() {
            return Ok(false);
        }
        let mut held = lock(&self.copying);
        if self.check_open().is_err() {
            return Ok(false);
        }
        let Some(rewriting) = held.as_mut() else {
            drop(held);
            return self.begin_rewriting();
        };
        let stepped = rewriting.copying.step();
        if matches!(stepped, Ok(Progress::More)) {
            return Ok(true);
        }
        let taken = held.take();
        drop(held);
        let Some(rewriting) = taken else { return Ok(false) };
        let numbers = rewriting.numbers.clone();
        match stepped {
            Ok(Progress::Done) => self.end_rewriting(rewriting)?,
            Ok(Progress::Dense | Progress::More) => {
                rewriting.copying.discard();
                self.note_refused(&numbers, false);
            }
            Ok(Progress::Damaged(number)) => {
                rewriting.copying.discard();
                // Its neighbours are copied without it.
                self.note_refused(&[number], true);
            }
            Err(error) => {
                rewriting.copying.discard();
                return Err(error);
            }
        }
        self.look_again();
        Ok(true)
    }

    /// Chooses segments and begins; tells whether it did.
    fn begin_rewriting(&self) -> Result<bool> {
        let Some(facts) = self.facts()? else { return Ok(false) };
        let numbers = plan::rewrite(&facts, self.log.room.segment_bytes());
        if numbers.is_empty() {
            return Ok(false);
        }
        // Before it is asked what is done: whoever moves back later is seen at the end.
        let moved_back = self.times_moved_back();
        let set = self.log.set();
        let sources: Vec<Arc<Segment>> =
            set.iter().filter(|segment| numbers.contains(&segment.number)).cloned().collect();
        let ends = sources.first().map(|first| first.base).zip(sources.last().and_then(|last| last.past()));
        let Some((base, end)) = ends.filter(|_| sources.len() == numbers.len()) else { return Ok(false) };
        let mut lists = Vec::new();
        for group in self.all_groups() {
            lists.push(group.synced_look(|state| state.pending_within(base, end))?);
        }
        let bytes: u64 =
            facts.iter().filter(|fact| numbers.contains(&fact.number)).map(|fact| fact.bytes).sum();
        let most = PAGE_POSITION + bytes / 2;
        let number = (self.spare.draw_number(), self.clock.wall());
        let full = self.log.room.segment_bytes();
        // Whoever closes takes it after saying so: no file is made in a folder that another has by then.
        let mut held = lock(&self.copying);
        if held.is_some() || self.check_open().is_err() {
            return Ok(false);
        }
        let copying = Copying::begin(&self.log, sources, union(lists.into_iter()), number, (most, full))?;
        *held = Some(Rewriting { copying, numbers, moved_back });
        Ok(true)
    }

    /// Lets a copy that is whole take the place of its sources.
    fn end_rewriting(&self, rewriting: Rewriting) -> Result<()> {
        let _changing = lock(&self.changing_groups);
        if self.check_open().is_err() {
            // Whoever has the folder now sweeps it: this process removes nothing there any more.
            return Ok(());
        }
        let Rewriting { copying, numbers, moved_back } = rewriting;
        let slot = self.manifest.slot();
        let pinned = self.pinned_from(&slot);
        let mut rows: Vec<SegmentRow> =
            slot.segments[..pinned].iter().filter(|row| numbers.contains(&row.number)).copied().collect();
        let moved = moved_back != self.times_moved_back() && !planted(Plant::MovedBackIgnored);
        let refused = !self.groups().refused.is_empty();
        if rows.len() < numbers.len() || moved || refused {
            copying.discard();
            return Ok(());
        }
        let kept = self.keep_keys(&mut rows);
        if rows.len() < numbers.len() {
            copying.discard();
            return Ok(());
        }
        if planted(Plant::SourcesGoFirst) {
            for &number in &numbers {
                let _ = self.storage.remove(&names::segment(number));
            }
        }
        let Copied { row, messages, rows, places } = copying.copied();
        // Without messages, those that were not done were offsets without one: nothing takes their place.
        let by = (messages > 0).then_some((row, messages));
        let updated = self.manifest.update(|slot| {
            plan::replace(&mut slot.segments, &numbers, by);
            slot.kept.extend_from_slice(&kept);
        });
        let unknown = matches!(updated, Err(Error::Poisoned { .. }));
        if by.is_none() || (updated.is_err() && !unknown) {
            let _ = self.storage.remove(&names::segment(row.number));
        }
        // Where it is not known whether the slot names the copy, its file stays: the next opening knows.
        updated?;
        if by.is_none() {
            self.leave(&numbers, None);
            return Ok(());
        }
        let segment = Arc::new(Segment::new(&row, row.length, 0));
        if segment.is_indexed() {
            segment.take_rows(rows);
            self.log.keep(segment.clone());
        }
        for group in self.all_groups() {
            group.moved(&numbers, row.number, &places);
        }
        self.leave(&numbers, Some(segment));
        Ok(())
    }

    /// Gives up a copy that is being made: the queue closes.
    pub(super) fn stop_rewriting(&self) {
        let taken = lock(&self.copying).take();
        if let Some(rewriting) = taken {
            rewriting.copying.discard();
        }
    }
}
