//! What does a queue at rest give back?
//!
//! When nothing was pushed for a while: the segment made ahead; the active segment, if little in it is live and a
//! small one will do for what comes next (a roll, as any other); of sealed segments what lies behind their end.

use std::time::Duration;

use super::space::{count, pending};
use super::{Engine, lock};
use crate::compact::plan::{self, SPARSE};
use crate::error::{Error, Result};
use crate::format::PAGE_POSITION;
use crate::format::manifest::SegmentRow;
use crate::format::names;
use crate::log::writer::Wish;
use crate::options::FIRST_SEGMENT;
use crate::storage::Access;

/// After so long without a push a queue is at rest.
const REST: Duration = Duration::from_secs(10);
/// So little behind the end of a sealed segment is not worth a change of the file.
const LITTLE: u64 = 64 << 10;

impl Engine {
    /// Tells whether nothing was pushed for a while.
    pub(super) fn is_at_rest(&self) -> bool {
        let idle = lock(&self.idle);
        if idle.haste {
            return true;
        }
        self.clock.now().saturating_sub(idle.since()) >= REST
            && idle.is_of((self.log.next(), self.log.messages()))
    }

    /// Gives back all that can be, now: what is done, what a queue at rest does not need, and what lies between in
    /// sparse segments.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn compact(&self) -> Result<()> {
        self.check_open()?;
        lock(&self.idle).haste = true;
        let done = self.compact_in_haste();
        lock(&self.idle).haste = false;
        done
    }

    fn compact_in_haste(&self) -> Result<()> {
        // What one turn frees, the next can copy together.
        let mut quiet = 0;
        while quiet < 3 {
            let before = self.manifest.look(|slot| slot.sequence);
            self.run_all_duties()?;
            let after = self.manifest.look(|slot| slot.sequence);
            quiet = if before == after { quiet + 1 } else { 0 };
        }
        Ok(())
    }

    /// Gives back what a queue at rest does not need.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn rest(&self) -> Result<()> {
        if !self.is_at_rest() || self.log.failure().is_some() {
            return Ok(());
        }
        self.spare.let_go(&*self.storage);
        let set = self.log.set();
        let Some(active) = set.last() else { return Ok(()) };
        let first = FIRST_SEGMENT.min(self.log.room.segment_bytes());
        if active.capacity > first && self.live_in_active() * SPARSE < active.capacity {
            match self.ask(Wish::Roll { capacity: Some(first) }) {
                // Then it stays as it is, and takes what it took.
                Ok(_) | Err(Error::Full { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if !lock(&self.idle).has_trimmed() {
            self.trim_sealed();
        }
        Ok(())
    }

    /// Estimates the bytes of the active segment that some group has still to do.
    fn live_in_active(&self) -> u64 {
        let set = self.log.set();
        let Some(active) = set.last() else { return 0 };
        let used = active.end().0.saturating_sub(PAGE_POSITION);
        let groups = self.all_groups();
        if groups.is_empty() || !self.groups().refused.is_empty() {
            return used;
        }
        let row = SegmentRow { base: active.base, end: self.log.next(), ..SegmentRow::default() };
        let count = count(&pending(&groups, &row));
        plan::share(used, count, self.log.messages().saturating_sub(active.messages_before()))
    }

    /// Cuts off what lies behind the end of sealed segments. Nothing was ever promised there, and it stays so
    /// whether or not a cut is on the disk.
    fn trim_sealed(&self) {
        // Nobody makes another segment of one meanwhile, in this process or once it has closed.
        let _changing = lock(&self.changing_groups);
        if self.check_open().is_err() {
            return;
        }
        for row in self.manifest.look(|slot| slot.segments.clone()) {
            if row.length == 0 {
                continue;
            }
            // Where that fails, a little room is not given back.
            let Ok(file) = self.storage.open(&names::segment(row.number), Access::Write) else { continue };
            if file.len().is_ok_and(|length| length > row.length + LITTLE) {
                let _ = file.set_len(row.length);
            }
        }
    }
}
