//! What is to be done with a message on loan?

use std::time::Duration;

use crate::group::settle::End;
use crate::message::Message;

/// What is to be done with a message on loan.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is done.
    Ack,
    /// It is done, and this came of it: acked and pushed whole or not at all, as
    /// [`Delivery::ack_with`](crate::Delivery::ack_with) says.
    AckWith(Vec<Message<'static>>),
    /// It failed, for that reason: again later, by the group's retry policy.
    Nack(String),
    /// It failed: again when the time is over.
    NackAfter(Duration, String),
    /// It is given up: to the dead letters now, with the reason.
    Reject(String),
    /// It goes back uncounted.
    Release,
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Ack
    }
}

impl Outcome {
    /// Returns how the loan ends, if not in an ack.
    pub(crate) fn end(&self) -> Option<End<'_>> {
        Some(match self {
            Self::Ack | Self::AckWith(_) => return None,
            Self::Nack(reason) => End::Nack { reason: Some(reason), after: None },
            Self::NackAfter(after, reason) => End::Nack { reason: Some(reason), after: Some(*after) },
            Self::Reject(reason) => End::Reject { reason },
            Self::Release => End::Release,
        })
    }
}
