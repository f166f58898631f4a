//! What is known of one message in one group? For those who look. Pure.

use super::exceptions::{Exception, Life};
use super::rule::MessageState;
use super::state::{Now, State};
use crate::format::entry::HELD;

/// Where a message stands, and how it came there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: MessageState,
    pub(crate) failures: u8,
    pub(crate) losses: u8,
    /// When it is due, in milliseconds since 1970.
    pub(crate) due: Option<u64>,
    /// Of one on loan; a loan that is no exception has no number here: the entries tell.
    pub(crate) loan: Option<Loan>,
    /// Of one that was given up: the reason, and since when, in milliseconds since 1970.
    pub(crate) dead: Option<(u32, u64)>,
    /// The number of a loan that ran out and may still be acked.
    pub(crate) late: Option<u64>,
    pub(crate) error: Option<Box<str>>,
}

/// A loan that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loan {
    pub(crate) delivery: u64,
    /// Milliseconds since 1970.
    pub(crate) since: u64,
    /// Milliseconds; `None`: it ends with its holder.
    pub(crate) lease: Option<u32>,
}

impl State {
    /// Tells all that is known of a message, whether or not the log has it.
    pub(crate) fn standing(&self, offset: u64, now: Now) -> Standing {
        let state = self.place_of(offset, now);
        let due = self.exceptions.waiting_within(offset, offset + 1).next().and_then(|_| self.due_of(offset));
        let mut standing =
            Standing { state, failures: 0, losses: 0, due, loan: None, dead: None, late: None, error: None };
        if let Some((start, one)) = self.exceptions.at(offset) {
            standing.of(one, offset - start);
        }
        standing
    }

    fn due_of(&self, offset: u64) -> Option<u64> {
        let stored = self.exceptions.waiting();
        stored.iter().find(|row| row.offset() == offset).map(|row| row.due()).filter(|&due| due > 0)
    }
}

impl Standing {
    fn of(&mut self, one: &Exception, index: u64) {
        (self.failures, self.losses) = (one.failures, one.losses);
        self.late = (one.late != 0).then(|| one.late.wrapping_add(index));
        self.error.clone_from(&one.error);
        match one.life {
            Life::Ready => {}
            Life::Delayed { due, .. } => self.due = Some(due),
            Life::Lent { delivery, lease, since, .. } => {
                let lease = (lease != HELD).then_some(lease);
                self.loan = Some(Loan { delivery: delivery.wrapping_add(index), since, lease });
            }
            Life::Dead { reason, since } => self.dead = Some((reason, since)),
        }
    }
}
