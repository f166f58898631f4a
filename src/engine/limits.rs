//! What is kept, and how much may come? Stored with the queue, so that every program goes by the same.

use super::{Engine, lock};
use crate::error::{Error, Result};
use crate::format::keep::Limits;
use crate::options::{Wanted, Window};

impl Engine {
    /// Returns the limits that hold.
    pub(super) fn limits(&self) -> Limits {
        *lock(&self.limits)
    }

    /// Returns how long a dedup key is taken.
    pub(super) fn window(&self) -> Window {
        window(&self.limits())
    }

    /// Stores what this opening wants changed.
    ///
    /// # Errors
    /// When the manifest cannot be written. Where it would have to grow and there is no room, they hold for
    /// this opening all the same: a full disk is no reason not to open.
    pub(super) fn adopt_limits(&self) -> Result<()> {
        let limits = self.limits();
        if limits == self.manifest.look(|slot| slot.limits) {
            return Ok(());
        }
        match self.manifest.update(|slot| slot.limits = limits) {
            Err(Error::Full { .. }) => Ok(()),
            other => other,
        }
    }
}

/// Returns the limits that hold where these are stored and those are wanted.
pub(super) fn changed(stored: Limits, wanted: &Wanted) -> Limits {
    // With neither it would be the usual window.
    let dedup =
        wanted.dedup.map(|window| (window.count as u64, window.millis.max(u64::from(window.count == 0))));
    let (dedup_count, dedup_for) = dedup.unwrap_or((stored.dedup_count, stored.dedup_for));
    Limits {
        dedup_count,
        dedup_for,
        retain_for: wanted.retain_for.unwrap_or(stored.retain_for),
        retain_bytes: wanted.retain_bytes.unwrap_or(stored.retain_bytes),
        ..stored
    }
}

/// Returns how long a dedup key is taken.
pub(super) fn window(limits: &Limits) -> Window {
    if (limits.dedup_count, limits.dedup_for) == (0, 0) {
        return Window::USUAL;
    }
    Window { count: usize::try_from(limits.dedup_count).unwrap_or(usize::MAX), millis: limits.dedup_for }
}
