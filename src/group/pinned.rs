//! Which message keeps a stretch of the log? Pure.

use super::rule::MessageState;
use super::state::{Now, State};

impl State {
    /// Returns the first of `first..end` that is not done, and where it is in its life. Ahead of the head
    /// it may be an offset without a message.
    pub(crate) fn first_pending(&self, first: u64, end: u64, now: Now) -> Option<(u64, MessageState)> {
        let first = first.max(self.floor);
        let open = self.done.end_of(first).unwrap_or(first);
        (open < end).then(|| (open, self.place_of(open, now)))
    }
}
