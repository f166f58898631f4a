//! What can a program do with a queue?

/// One thing that a program does with a queue. Whatever it takes comes from the oldest loans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Push {
        synced: bool,
        length: usize,
    },
    Batch {
        synced: bool,
        count: usize,
        length: usize,
    },
    /// Pushes that are handed over and waited for together.
    Deferred {
        count: usize,
        length: usize,
    },
    Receive {
        group: &'static str,
        count: usize,
    },
    Ack {
        group: &'static str,
        count: usize,
    },
    /// Acks every second of the loans, with one write.
    AckAll {
        group: &'static str,
    },
    /// Acks one together with pushes of what came of it.
    AckWith {
        group: &'static str,
        /// Outputs.
        count: usize,
    },
    /// Goes on at the beginning; all loans are dropped.
    Seek {
        group: &'static str,
    },
    Nack {
        group: &'static str,
    },
    /// Receives one and nacks it with many words, so often: entries, for a half to be full.
    Fill {
        group: &'static str,
        times: usize,
    },
    Reject {
        group: &'static str,
    },
    Release {
        group: &'static str,
    },
    /// Drops all loans.
    Drop {
        group: &'static str,
    },
    Create {
        group: &'static str,
        synced: bool,
    },
    Remove {
        group: &'static str,
    },
    Sync,
    Duties,
    Advance {
        seconds: u64,
    },
    /// Closes and opens.
    Reopen,
    Kill,
    PowerCut {
        seed: u64,
    },
}
