//! How does a group treat failures, and does it lend at all? Pure.

use std::time::Duration;

use super::state::{Now, State};
use super::stored::LONGEST_WAIT;
use crate::format::entry::HELD;
use crate::format::snapshot::{Policy, RETRY_STEPS, UNTIL_RESUMED};

/// How a group treats failures if nobody says otherwise. A limit of 0 is none.
pub(crate) const DEFAULT_POLICY: Policy = Policy {
    max_failures: 20,
    max_losses: 5,
    retry_kind: retry::DOUBLE,
    retry_first: 1_000,
    retry_cap: 3_600_000,
    retry_steps: [0; RETRY_STEPS],
    retry_jitter: 200,
    synced: false,
    lease: 0,
    discard_expired: false,
};

/// How the waits between tries grow.
pub(crate) mod retry {
    /// Twice as long after each failure.
    pub(crate) const DOUBLE: u8 = 0;
    /// Longer by the first with each failure.
    pub(crate) const LINEAR: u8 = 1;
    /// As long as was listed.
    pub(crate) const STEPS: u8 = 2;
}

/// A group that lends nothing for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    /// As it is stored: milliseconds since 1970, or [`UNTIL_RESUMED`].
    pub(crate) until: u64,
    /// What counts while the process runs; `None`: until resumed.
    pub(crate) at: Option<Duration>,
}

impl State {
    /// Returns how long a loan lasts, in milliseconds, as an entry says it.
    pub(crate) fn lease(&self) -> u32 {
        if self.policy.lease == 0 { HELD } else { self.policy.lease }
    }

    /// Lends nothing until then, or until the pause is ended; `None` ends it. It is stored with the
    /// next snapshot.
    pub(crate) fn set_paused(&mut self, until: Option<u64>, now: Now) {
        self.paused = until.map(|until| Pause {
            until,
            at: (until != UNTIL_RESUMED).then(|| {
                let left = until.saturating_sub(now.wall).min(LONGEST_WAIT);
                now.mono.saturating_add(Duration::from_millis(left))
            }),
        });
    }

    /// Tells whether nothing is lent for now, and until when.
    pub(crate) fn paused(&self, now: Now) -> Option<Pause> {
        self.paused.filter(|pause| pause.at.is_none_or(|at| at > now.mono))
    }

    /// Takes back a pause, or the end of one, that could not be stored.
    pub(crate) fn put_back(&mut self, before: Option<Pause>) {
        self.paused = before;
    }
}
