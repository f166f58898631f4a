//! What can be chosen for a group, and what can be done with one?

use std::sync::Arc;
use std::time::Duration;

use super::stats::{GroupStats, group_stats};
use crate::consumer::Consumer;
use crate::engine::{From, Handle, NewGroup};
use crate::format::snapshot::Policy;
use crate::group::live::Live;
use crate::offset::Offset;
use crate::options::Durability;

/// The group that appears with its first consumer.
pub(super) const DEFAULT: &str = "default";

/// A group: a durable reading position whose consumers compete.
#[derive(Clone, Debug)]
pub struct Group {
    handle: Arc<Handle>,
    live: Arc<Live>,
}

impl Group {
    pub(super) fn new(handle: Arc<Handle>, live: Arc<Live>) -> Self {
        Self { handle, live }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.live.name
    }

    /// Returns a consumer; it competes with all others of the group.
    #[must_use]
    pub fn consumer(&self) -> Consumer {
        Consumer::new(self.handle.clone(), self.live.clone())
    }

    /// Counts the group's messages. Reads nothing from the disk.
    #[must_use]
    pub fn stats(&self) -> GroupStats {
        group_stats(self.handle.engine(), &self.live)
    }
}

/// What a new group is like. Stored with the group, so that every program and the CLI use the same.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    start: Start,
    policy: Policy,
}

/// Where a new group starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the earliest message that some other group has not done; without another group, at the
    /// beginning.
    #[default]
    Undone,
    /// At the first message that is stored.
    Beginning,
    /// Behind the last message that is stored.
    End,
    /// At a message, or the next one there is.
    At(Offset),
}

/// When a message that failed comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    first: Duration,
    cap: Duration,
    jitter: u32,
}

impl Retry {
    /// Waits `first` after the first failure, twice as long after each further one, `cap` at most.
    /// Each wait is varied by ± 20 %.
    #[must_use]
    pub const fn exponential(first: Duration, cap: Duration) -> Self {
        Self { first, cap, jitter: 200 }
    }

    /// Varies each wait by up to so many thousandths, up and down (1,000 at most).
    #[must_use]
    pub const fn jitter(mut self, thousandths: u32) -> Self {
        self.jitter = if thousandths > 1000 { 1000 } else { thousandths };
        self
    }
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self { start: Start::default(), policy: crate::group::state::DEFAULT_POLICY }
    }
}

impl GroupOptions {
    /// Starts with the defaults: 20 failures, 5 losses, retries after 1 s doubling to 1 h, buffered
    /// acks, starting at the earliest message that is not done.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where the group starts.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Sets after how many failures (nacks) a message goes to the dead letters (1 to 255).
    #[must_use]
    pub fn max_failures(mut self, failures: u8) -> Self {
        self.policy.max_failures = failures.max(1);
        self
    }

    /// Sets after how many losses (a holder died) a message goes to the dead letters (1 to 255).
    #[must_use]
    pub fn max_losses(mut self, losses: u8) -> Self {
        self.policy.max_losses = losses.max(1);
        self
    }

    /// Sets when a message that failed comes again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.policy.retry_first = millis(retry.first);
        self.policy.retry_cap = millis(retry.cap);
        self.policy.retry_jitter = retry.jitter;
        self
    }

    /// Sets when an ack counts as done (default: [`Durability::Buffered`]: after a power cut, a
    /// message acked in the last second may come again).
    #[must_use]
    pub fn ack_durability(mut self, durability: Durability) -> Self {
        self.policy.synced = durability == Durability::Synced;
        self
    }

    pub(super) fn new_group(&self) -> NewGroup {
        let from = match self.start {
            Start::Undone => From::Undone,
            Start::Beginning => From::Beginning,
            Start::End => From::End,
            Start::At(offset) => From::Offset(offset.get()),
        };
        NewGroup { policy: self.policy, from }
    }
}
