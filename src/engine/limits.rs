//! What is kept, and how much may come? Stored with the queue, so that every program goes by the same.

use super::{Engine, lock};
use crate::error::{Error, Result};
use crate::format::keep::Limits;
use crate::options::Wanted;

impl Engine {
    /// Returns the limits that hold.
    pub(super) fn limits(&self) -> Limits {
        *lock(&self.limits)
    }

    /// Takes over what this opening wants changed, and stores it.
    ///
    /// # Errors
    /// When the manifest cannot be written. Where it would have to grow and there is no room, they hold for
    /// this opening all the same: a full disk is no reason not to open.
    pub(super) fn adopt_limits(&self) -> Result<()> {
        let stored = self.manifest.look(|slot| slot.limits);
        let limits = changed(stored, &self.settings.limits);
        *lock(&self.limits) = limits;
        if limits == stored {
            return Ok(());
        }
        match self.manifest.update(|slot| slot.limits = limits) {
            Err(Error::Full { .. }) => Ok(()),
            other => other,
        }
    }
}

fn changed(stored: Limits, wanted: &Wanted) -> Limits {
    Limits {
        retain_for: wanted.retain_for.unwrap_or(stored.retain_for),
        retain_bytes: wanted.retain_bytes.unwrap_or(stored.retain_bytes),
        ..stored
    }
}
