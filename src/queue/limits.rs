//! How much does a queue keep and take?

use std::time::Duration;

use crate::engine::when_full;
use crate::format::keep;
use crate::options::WhenFull;

/// The limits that are stored with a queue; `None`: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// See [`Options::max_bytes`](crate::Options::max_bytes).
    pub max_bytes: Option<u64>,
    /// See [`Options::max_messages`](crate::Options::max_messages).
    pub max_messages: Option<u64>,
    /// See [`Options::when_full`](crate::Options::when_full).
    pub when_full: WhenFull,
    /// See [`Options::min_free_bytes`](crate::Options::min_free_bytes).
    pub min_free_bytes: Option<u64>,
    /// See [`Options::retain_for`](crate::Options::retain_for).
    pub retain_for: Option<Duration>,
    /// See [`Options::retain_bytes`](crate::Options::retain_bytes).
    pub retain_bytes: Option<u64>,
}

impl Limits {
    pub(super) fn of(stored: &keep::Limits) -> Self {
        let set = |limit: u64| (limit != 0).then_some(limit);
        Self {
            max_bytes: set(stored.max_bytes),
            max_messages: set(stored.max_messages),
            when_full: when_full(stored),
            min_free_bytes: set(stored.min_free),
            retain_for: set(stored.retain_for).map(Duration::from_millis),
            retain_bytes: set(stored.retain_bytes),
        }
    }
}
