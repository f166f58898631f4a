//! How does one thread tell another that there is something to do?

use std::fmt::Debug;
use std::time::Duration;

use super::sync::{Condvar, Mutex, PoisonError};

/// Something that can be woken from anywhere.
pub(crate) trait Wake: Debug + Send + Sync {
    /// Wakes whoever waits there, to look again. Never blocks for long.
    fn wake(&self);
}

/// A counter that can be waited on: rings are never missed, since the listener compares counts.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rings: Mutex<u64>,
    heard: Condvar,
}

impl Bell {
    /// Returns how often it rang.
    pub(crate) fn count(&self) -> u64 {
        *self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until it rang more often than `heard` or `patience` is over (`None`: no limit);
    /// returns the count.
    pub(crate) fn wait(&self, heard: u64, patience: Option<Duration>) -> u64 {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        match patience {
            None => {
                *self.heard.wait_while(rings, |rings| *rings == heard).unwrap_or_else(PoisonError::into_inner)
            }
            Some(patience) => {
                let (rings, _) = self
                    .heard
                    .wait_timeout_while(rings, patience, |rings| *rings == heard)
                    .unwrap_or_else(PoisonError::into_inner);
                *rings
            }
        }
    }
}

impl Wake for Bell {
    fn wake(&self) {
        *self.rings.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.heard.notify_all();
    }
}
