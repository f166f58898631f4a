//! Does what is ready go first, or a message that was not met yet, or one that this receiver alone may have?
//! Pure.

use super::decide::Next;
use super::lines::{PLAIN, Turn, rank_of};
use super::state::State;

impl State {
    /// Tells whether what is `next` has to wait for a message of a high `priority` that was not met yet. One
    /// that is passed over, since it is to be alone, keeps nobody waiting.
    pub(crate) fn goes_before(&self, priority: u8, next: Next) -> bool {
        self.turn_of(next).is_none_or(|(rank, _)| rank > rank_of(priority))
    }

    /// Returns the next message of an ordering key for a receive that has `out` of its messages.
    pub(crate) fn next_of(&self, key: u64, out: usize) -> Option<Turn> {
        self.exceptions.next_of(key, out)
    }

    /// Chooses between what is `next` and a message that the receiver alone may have.
    pub(crate) fn next_or(&self, next: Next, own: Turn) -> Next {
        let is_first = self.turn_of(next).is_none_or(|turn| own < turn);
        match next {
            Next::Fresh { .. } if own.0 > PLAIN && is_first => Next::Fresh { or: Some(own.1) },
            Next::Fresh { .. } if own.0 > PLAIN => next,
            Next::Fresh { .. } | Next::Raised { .. } => Next::Again(own.1),
            Next::Again(_) if is_first => Next::Again(own.1),
            Next::Again(_) | Next::Nothing { .. } => next,
        }
    }

    fn turn_of(&self, next: Next) -> Option<Turn> {
        let (Next::Again(offset) | Next::Fresh { or: Some(offset) }) = next else { return None };
        let (plain, alone) = self.exceptions.first_ready();
        [plain, alone].into_iter().flatten().find(|&(_, first)| first == offset)
    }
}
