//! What does the owner know of a guest, and how much of it does it keep?

use std::collections::BTreeMap;
use std::task::Waker;

use super::frame::{Incoming, Outgoing};
use super::retry::Retry;
use super::unheard::Unheard;
use crate::engine::door::Later;
use crate::engine::origin::Repeated;

/// Bytes of a guest's requests that are not answered: of more, none is read.
const MOST_IN_FLIGHT: usize = 8 << 20;
/// Calls of a guest that are not answered.
const MOST_CALLS: usize = 64 << 10;
/// Bytes of answers that a guest has not taken: as long as there are more, none of its requests is read.
const MOST_OUTGOING: usize = 8 << 20;

/// A guest, as long as it is connected.
#[derive(Debug, Default)]
pub(super) struct Visitor {
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    /// It was let in, with this holder.
    pub(super) holder: Option<u32>,
    /// Holders of its earlier connections, by which it may have loans.
    pub(super) earlier: Vec<u32>,
    pub(super) greeting: bool,
    pub(super) producer: u32,
    /// Pushes that it sent again and that were stored before, by their number. None once it goes on: what it sends
    /// again comes first.
    pub(super) repeated: Repeated,
    pub(super) calls: BTreeMap<u64, Calling>,
    pub(super) in_flight: usize,
    pub(super) unheard: Unheard,
    /// Said good-bye: what it holds goes back uncounted.
    pub(super) leaves: bool,
    pub(super) over: bool,
}

pub(super) struct Calling {
    pub(super) later: Option<(Later, Waker)>,
    pub(super) bytes: usize,
    pub(super) retry: Option<Retry>,
}

impl std::fmt::Debug for Calling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calling").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Visitor {
    pub(super) fn has_room(&self) -> bool {
        self.in_flight < MOST_IN_FLIGHT
            && self.calls.len() < MOST_CALLS
            && self.outgoing.waiting().len() < MOST_OUTGOING
    }

    /// Returns about how many bytes it takes.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn weight(&self) -> usize {
        const CALL: usize = 256;
        const PAIR: usize = 16;
        self.incoming.weight()
            + self.outgoing.weight()
            + self.calls.values().map(|calling| calling.bytes + CALL).sum::<usize>()
            + (self.unheard.len() + self.repeated.len() + self.earlier.len()) * PAIR
    }
}
