//! What does a guest have on its way, and on loan?

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::answer::Slot;
use crate::engine::origin::LogEnd;
use crate::engine::request::{Held, Reply, Request, Which};
use crate::error::{Error, Result};
use crate::format::entry::HELD;
use crate::storage::Lock;

/// Bytes of requests that are not answered: who has more to say waits.
const MOST_IN_FLIGHT: usize = 8 << 20;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) next_call: u64,
    pub(super) next_sequence: u64,
    /// Those that were not answered.
    pub(super) calls: BTreeMap<u64, Arc<Open>>,
    pub(super) in_flight: usize,
    /// Numbers of pushes that were not answered, and where the log ended, as it was known when they were made.
    pub(super) unheard: BTreeMap<u64, LogEnd>,
    /// Where the log ends, as the last answer said.
    pub(super) end: LogEnd,
    /// Messages on loan here, for as long as their holder lives.
    pub(super) held: BTreeMap<(u64, Held), String>,
    pub(super) connected: bool,
    /// The process of the owner.
    pub(super) owner: u32,
    /// Those that name loans of this process, the newest last.
    pub(super) holders: Vec<(u32, Box<dyn Lock>)>,
    /// No more calls.
    pub(super) closing: bool,
    pub(super) closed: bool,
    /// Why no owner could be found.
    pub(super) failed: Option<Error>,
}

/// A call that was not answered.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) request: Request,
    pub(super) sequence: Option<u64>,
    /// Of a receive that has one, when its time is over.
    pub(super) until: Option<Duration>,
    pub(super) bytes: usize,
    pub(super) slot: Arc<Slot>,
}

impl Open {
    /// Returns the group that it receives of, if that is what it does.
    pub(super) fn receives(&self) -> Option<&Which> {
        if let Request::Receive { group, .. } = &self.request { Some(group) } else { None }
    }

    /// Returns what is asked of the next owner: it waits for what is left of the time.
    pub(super) fn again(&self, now: Duration) -> Cow<'_, Request> {
        let mut again = Cow::Borrowed(&self.request);
        if let Some(until) = self.until
            && let Request::Receive { wait, .. } = again.to_mut()
        {
            *wait = Some(until.saturating_sub(now));
        }
        again
    }
}

impl State {
    /// Tells whether nothing else is on its way than receives.
    pub(super) fn only_receives(&self) -> bool {
        self.calls.values().all(|open| open.receives().is_some())
    }

    /// Tells whether so much more may be on its way; anything, where nothing is.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.in_flight == 0 || self.in_flight + bytes <= MOST_IN_FLIGHT
    }

    pub(super) fn check(&self) -> Result<()> {
        match &self.failed {
            _ if self.closing => Err(Error::Closed),
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Returns the number below which all pushes were answered.
    pub(super) fn heard(&self) -> u64 {
        self.unheard.keys().next().copied().unwrap_or(self.next_sequence)
    }

    /// Keeps account of what is on loan here.
    pub(super) fn note_loans(&mut self, open: &Open, reply: &Reply) {
        let over = |reply: &Reply| !matches!(reply, Reply::Failed(_)) || reply.is_lease_lost();
        match (&open.request, reply) {
            (Request::Receive { group, .. }, Reply::Lent(lent)) => {
                // One that is timed ends without us, and may be settled elsewhere: nobody has to be told who holds it.
                let held = lent.iter().filter(|one| one.lease == HELD);
                let loans = held.map(|one| (one.message.offset(), one.delivery));
                let key = |loan| ((group.incarnation, loan), group.name.clone());
                self.held.extend(loans.map(key));
            }
            (Request::Settle { group, loan, .. } | Request::AckWith { group, loan, .. }, reply)
                if over(reply) =>
            {
                self.held.remove(&(group.incarnation, *loan));
            }
            (Request::AckAll { group, loans }, Reply::Acked(_)) => {
                for loan in loans {
                    self.held.remove(&(group.incarnation, *loan));
                }
            }
            _ => {}
        }
    }
}
