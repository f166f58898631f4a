//! Which offsets of a stretch are not done? Pure.

use super::state::State;

impl State {
    /// Returns what of `first..end` is not done, in order. Ahead of the head these may be offsets without a message.
    pub(crate) fn pending_within(&self, first: u64, end: u64) -> Vec<(u64, u64)> {
        let first = first.max(self.floor);
        if first < end { self.done.gaps(first, end) } else { Vec::new() }
    }
}
