//! What is kept, and how much may come? Stored with the queue, so that every program goes by the same.

use std::time::Duration;

use super::{Engine, lock};
use crate::clock;
use crate::error::{Error, Result};
use crate::format::keep::{self, Limits};
use crate::options::{Wanted, WhenFull, Window};

/// With a limit of bytes, segments have such a part of it at the most: what is done is given up by the
/// segment.
const PARTS: u64 = 8;
/// And so many bytes at the least: each has a header page.
const LEAST_SEGMENT: u64 = 16 << 10;

impl Engine {
    /// Returns the limits that hold.
    pub(crate) fn limits(&self) -> Limits {
        *lock(&self.limits)
    }

    /// Returns how long a dedup key is taken.
    pub(super) fn window(&self) -> Window {
        window(&self.limits())
    }

    /// Changes limits, goes by them, and stores them; an opening by what it wants. A dedup window that becomes wider
    /// takes in what is pushed from now on; older keys, as far as they are kept, with the next opening.
    ///
    /// # Errors
    /// When the manifest cannot be written. Where it would have to grow and there is no room, they hold for
    /// this opening all the same: a full disk is no reason not to open.
    pub(super) fn change_limits(&self, wanted: &Wanted) -> Result<()> {
        // Two who change them build on each other, and none does once the folder may be another's.
        let changing = lock(&self.changing_groups);
        self.check_open()?;
        let limits = changed(self.limits(), wanted);
        *lock(&self.limits) = limits;
        self.limit_room(&limits);
        self.spare.leave_free(limits.min_free);
        self.commit.lock().keys.set_window(window(&limits));
        let stored = if limits == self.manifest.look(|slot| slot.limits) {
            Ok(())
        } else {
            self.manifest.update(|slot| slot.limits = limits)
        };
        drop(changing);
        // There may be more room now.
        self.log.room.ring();
        match stored {
            Err(Error::Full { .. }) => Ok(()),
            other => other,
        }
    }
}

/// Returns how many bytes a full-grown segment has where these limits hold: it is not too long for them.
pub(super) fn fitted(segment_bytes: u64, limits: &Limits) -> u64 {
    match limits.max_bytes {
        0 => segment_bytes,
        most => segment_bytes.min((most / PARTS / 4096 * 4096).max(LEAST_SEGMENT)),
    }
}

/// Returns what becomes of a push that a limit leaves no room for.
pub(crate) fn when_full(limits: &Limits) -> WhenFull {
    match limits.when_full {
        keep::WhenFull::Refuse => WhenFull::Refuse,
        keep::WhenFull::Wait => WhenFull::Block(Duration::from_millis(limits.wait)),
        keep::WhenFull::DiscardOldest => WhenFull::DiscardOldest,
    }
}

/// Returns the limits that hold where these are stored and those are wanted.
pub(super) fn changed(stored: Limits, wanted: &Wanted) -> Limits {
    // With neither it would be the usual window.
    let dedup =
        wanted.dedup.map(|window| (window.count as u64, window.millis.max(u64::from(window.count == 0))));
    let (dedup_count, dedup_for) = dedup.unwrap_or((stored.dedup_count, stored.dedup_for));
    let (when_full, wait) = match wanted.when_full {
        None => (stored.when_full, stored.wait),
        Some(WhenFull::Refuse) => (keep::WhenFull::Refuse, 0),
        Some(WhenFull::Block(time)) => (keep::WhenFull::Wait, clock::millis(time)),
        Some(WhenFull::DiscardOldest) => (keep::WhenFull::DiscardOldest, 0),
    };
    Limits {
        dedup_count,
        dedup_for,
        retain_for: wanted.retain_for.unwrap_or(stored.retain_for),
        retain_bytes: wanted.retain_bytes.unwrap_or(stored.retain_bytes),
        max_bytes: wanted.max_bytes.unwrap_or(stored.max_bytes),
        max_messages: wanted.max_messages.unwrap_or(stored.max_messages),
        min_free: wanted.min_free.unwrap_or(stored.min_free),
        wait,
        when_full,
    }
}

/// Returns how long a dedup key is taken.
pub(super) fn window(limits: &Limits) -> Window {
    if (limits.dedup_count, limits.dedup_for) == (0, 0) {
        return Window::USUAL;
    }
    Window { count: usize::try_from(limits.dedup_count).unwrap_or(usize::MAX), millis: limits.dedup_for }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_a_part_of_what_the_log_may_have() {
        let fit = |stored: u64, wanted: Option<u64>| {
            let wanted = Wanted { max_bytes: wanted, ..Wanted::default() };
            let stored = Limits { max_bytes: stored, ..Limits::default() };
            fitted(1 << 20, &changed(stored, &wanted))
        };

        assert_eq!((fit(0, None), fit(1 << 40, None)), (1 << 20, 1 << 20));
        assert_eq!((fit(64 << 10, None), fit(1 << 40, Some(64 << 10))), (16 << 10, 16 << 10));
        assert_eq!((fit(1_000_000, None), fit(64 << 10, Some(0))), (122_880, 1 << 20));
    }

    #[test]
    fn what_is_not_said_stays_as_it_is_stored() {
        let stored = changed(
            Limits::default(),
            &Wanted { when_full: Some(WhenFull::Block(Duration::from_secs(2))), ..Wanted::default() },
        );
        let more = changed(stored, &Wanted { max_messages: Some(7), ..Wanted::default() });

        assert_eq!((more.max_messages, more.wait), (7, 2000));
        assert_eq!(when_full(&more), WhenFull::Block(Duration::from_secs(2)));
        let refuse = Wanted { when_full: Some(WhenFull::Refuse), max_messages: Some(0), ..Wanted::default() };
        assert_eq!(changed(more, &refuse), Limits::default());
    }
}
