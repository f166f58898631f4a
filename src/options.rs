//! What can a user choose?

use std::time::Duration;

use crate::codec::{Deserialize, Serialize};

/// When a push or an ack counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// On stable storage before the call returns: survives a power cut.
    #[default]
    Synced,
    /// Handed to the kernel before the call returns: survives a killed process, not a power cut.
    Buffered,
}

/// What becomes of a push that a limit of the queue leaves no room for
/// ([`Options::max_messages`](crate::Options::max_messages), [`Options::max_bytes`](crate::Options::max_bytes)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WhenFull {
    /// It fails at once with [`Error::AtLimit`](crate::Error::AtLimit).
    #[default]
    Refuse,
    /// It waits until messages are done, for so long at the most; then it fails. What cannot wait
    /// ([`Queue::push_deferred`](crate::Queue::push_deferred), schedules,
    /// [`Delivery::ack_with`](crate::Delivery::ack_with)) fails at once.
    Block(Duration),
    /// The oldest messages are discarded that are not on loan, in every group that has too many. It fails
    /// only where that is not enough.
    DiscardOldest,
}

/// How long a dedup key is taken: both must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    /// By so many of the last messages that have one.
    pub(crate) count: usize,
    /// For so many milliseconds.
    pub(crate) millis: u64,
}

impl Window {
    /// What holds where nothing was said.
    pub(crate) const USUAL: Self = Self { count: 100_000, millis: 3_600_000 };

    /// Tells whether a message that was pushed then is too old by now. By the wall clock, for the
    /// window outlives the process; one of the future is not.
    pub(crate) const fn is_over(self, time: u64, now: u64) -> bool {
        time.saturating_add(self.millis) <= now
    }
}

/// Limits that are to be stored with the queue in place of those there are; `None`: as it is. Their meaning
/// is that of `format::keep::Limits`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) retain_for: Option<u64>,
    pub(crate) retain_bytes: Option<u64>,
    pub(crate) dedup: Option<Window>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_messages: Option<u64>,
    pub(crate) min_free: Option<u64>,
    pub(crate) when_full: Option<WhenFull>,
}

/// The sizes and times of a queue.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) create: bool,
    pub(crate) durability: Durability,
    /// Bytes of a full-grown segment, where the limits leave room for such.
    pub(crate) segment_bytes: u64,
    /// Bytes of the longest message.
    pub(crate) max_message_bytes: u64,
    pub(crate) lock_timeout: Duration,
    /// What of the limits that are stored with the queue is to be changed.
    pub(crate) limits: Wanted,
    /// Whether the queue may use threads of its own.
    pub(crate) threads: bool,
    /// Whether offset files may be mapped.
    pub(crate) mappings: bool,
    /// Whether the folder may be on a network file system.
    pub(crate) network: bool,
    /// Whether no other process is served.
    pub(crate) exclusive: bool,
}

/// The least that the bytes of the log can be limited to.
pub(crate) const LEAST_BYTES: u64 = 64 << 10;
/// Bytes of the smallest segment, the one that a queue is born with.
pub(crate) const FIRST_SEGMENT: u64 = 1 << 20;

impl Default for Settings {
    fn default() -> Self {
        Self {
            create: true,
            durability: Durability::Synced,
            segment_bytes: 64 << 20,
            max_message_bytes: 64 << 20,
            lock_timeout: Duration::ZERO,
            limits: Wanted::default(),
            threads: true,
            mappings: true,
            network: false,
            exclusive: false,
        }
    }
}
