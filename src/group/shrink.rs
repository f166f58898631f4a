//! When does an idle group give back the room that its files grew to?
//!
//! Under load the room for entries grows, and holes in the acks make snapshots long; nobody needs
//! either when the load is over. So a group without an entry for a while cuts the half that does not
//! hold, switches into it, and cuts the other. Each step stands for itself: who comes in between finds
//! two halves as they may be at any time, and loans find what was kept for them.

use std::sync::PoisonError;
use std::time::Duration;

use super::live::{LEAST_ROOM, Live, Locked, Shared};
use crate::error::{Error, Result};
use crate::format::entry::{MAX_SLOTS, SLOT_BYTES};
use crate::format::snapshot::packed_len;
use crate::format::{PAGE_POSITION, round_up};

/// After so long without an entry a group gives room back.
const QUIET: Duration = Duration::from_secs(10);

/// What is known about room to be given back.
#[derive(Debug, Default)]
pub(super) struct Shrinking {
    /// Somebody waits for the half that does not hold to be cut.
    pub(super) wanted: bool,
    pub(super) refused: Option<Error>,
    /// Bytes of the longer half when that was last looked at.
    pub(super) longest: u64,
    /// What had been appended when it was last tried: nothing is tried twice without need.
    tried: Option<u64>,
}

impl Live {
    /// Tells whether something is unsynced and nothing was appended for so long. Called now and then.
    pub(crate) fn is_idle_for(&self, time: Duration) -> bool {
        let quiet = self.is_quiet_for(time);
        let guard = self.commit.lock();
        quiet && guard.synced < guard.appended
    }

    /// Tells whether nothing was appended for so long. Called now and then.
    fn is_quiet_for(&self, time: Duration) -> bool {
        let appended = self.commit.lock().appended;
        let now = self.clock.now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.0 != appended {
            *idle = (appended, now);
        }
        now.saturating_sub(idle.1) >= time
    }

    /// Gives room of the files back, if nothing was appended for a while (in `haste`: now) and they are much longer
    /// than they need to be. Called now and then.
    ///
    /// # Errors
    /// When the disk refuses. Nothing is lost by it, and acks go on unless the group is poisoned.
    pub(crate) fn shrink_idle(&self, haste: bool) -> Result<()> {
        if !haste && !self.is_quiet_for(QUIET) {
            return Ok(());
        }
        let mut guard = self.commit.lock();
        let appended = guard.appended;
        if guard.stopped.is_some() || guard.shrink.tried.replace(appended) == Some(appended) {
            return Ok(());
        }
        guard = self.cut(guard)?;
        if guard.appended != appended || !guard.is_long(guard.shrink.longest) {
            return Ok(());
        }
        // The half in use is the long one. From here on room grows with the load, as at first.
        guard.room = LEAST_ROOM;
        let need = SLOT_BYTES + guard.kept(0);
        guard = self.switch(guard, need)?;
        guard.room = LEAST_ROOM;
        self.cut(guard).map(drop)
    }

    /// Has the half that does not hold cut to what is needed, if it is much longer.
    fn cut<'a>(&'a self, mut guard: Locked<'a>) -> Result<Locked<'a>> {
        guard.check()?;
        guard.shrink.wanted = true;
        guard.shrink.refused = None;
        let number = guard.group();
        let (guard, answer) = self.commit.until(guard, number, &*self.clock, None, |shared| {
            if let Some(error) = shared.broken.as_ref().or(shared.shrink.refused.as_ref()) {
                return Some(Err(error.clone()));
            }
            (!shared.shrink.wanted).then_some(Ok(()))
        });
        answer.unwrap_or(Ok(()))?;
        Ok(guard)
    }
}

impl Shared {
    /// Returns how long the halves have to be: for the largest snapshot that settling every loan can
    /// lead to, and the entries that say so, as [`Live::with_room`] keeps them; with some room beside.
    pub(super) fn needed_bytes(&self) -> u64 {
        let snapshot = packed_len(self.state.snapshot_bound(0, false));
        let text = MAX_SLOTS as u64 * SLOT_BYTES;
        let room = (self.kept(0) + text).max(2 * snapshot).max(LEAST_ROOM);
        round_up(round_up(PAGE_POSITION + snapshot, PAGE_POSITION) + room, PAGE_POSITION)
    }

    /// Tells whether a half is so long that it is worth a switch to have it short.
    pub(super) fn is_long(&self, length: u64) -> bool {
        let needed = self.needed_bytes();
        length >= needed + needed / 2
    }
}
