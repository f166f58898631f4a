//! What does somebody hold who works on messages?

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::group::receive::{Ask, Loan, NEVER};
use crate::options::Durability;
use crate::share::member::Member;
use crate::share::place::Handle;

mod content;
mod delivery;
mod outcome;
mod receipt;
mod tasks;
mod ticket;

pub use content::Content;
pub(crate) use delivery::ack_all;
pub(crate) use delivery::millis;
pub use delivery::{Delivery, Payload};
pub use outcome::Outcome;
pub use receipt::Receipt;
#[cfg(feature = "stream")]
pub use tasks::Messages;
pub use tasks::{RecvAsync, RecvBatchAsync};
pub use ticket::Ticket;

/// Receives the messages of one group. Clones compete: each message goes to one of them.
///
/// Nothing is taken ahead: a message is lent when it is received, and not before. Several threads
/// may use one consumer, or each a clone of its own.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Keeps the queue open.
    _handle: Arc<Handle>,
    source: Arc<Source>,
    /// Milliseconds, if not as the group's policy says.
    lease: Option<u32>,
}

/// Where deliveries come from, and where what comes of them goes. It keeps no queue open: a delivery
/// that lives on is not to.
#[derive(Debug)]
struct Source {
    group: Member,
    /// How safe outputs are, and the acks with them.
    durability: Durability,
}

impl Consumer {
    pub(crate) fn new(handle: Arc<Handle>, group: Member, durability: Durability) -> Self {
        Self { _handle: handle, source: Arc::new(Source { group, durability }), lease: None }
    }

    /// Returns the name of the group.
    #[must_use]
    pub fn group(&self) -> &str {
        self.source.group.name()
    }

    /// Returns a consumer whose loans end after so long, whether or not the process lives: then the
    /// message comes again, which counts as a failure. So a loan can be settled by another process, by
    /// its [receipt](Delivery::receipt), and a handler that hangs does not keep its message for ever.
    ///
    /// Without this, loans last as the group says ([`GroupOptions::lease`](crate::GroupOptions::lease)):
    /// unless told otherwise, until the process ends. 1 ms to 49 days.
    #[must_use]
    pub fn with_lease(&self, lease: Duration) -> Self {
        Self { lease: Some(millis(lease)), ..self.clone() }
    }

    /// Blocks until a message is deliverable, and lends it to the caller.
    ///
    /// # Errors
    /// [`Error::Closed`] once the queue is closed, [`Error::NoSuchGroup`] once the group is removed.
    /// [`Error::Damaged`], once for each stretch of damage that the group comes to: its messages are
    /// among the dead letters, and the next call goes on behind it. [`Error::Full`] when the loan
    /// cannot be recorded for lack of room. [`Error::Poisoned`] when everything durable was handed
    /// out and nothing can come any more.
    pub fn recv(&self) -> Result<Delivery> {
        loop {
            if let Some(delivery) = self.receive(&Ask::one(None))?.pop() {
                return Ok(delivery);
            }
        }
    }

    /// Lends a message if one is deliverable now; `None` if there is none.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    pub fn try_recv(&self) -> Result<Option<Delivery>> {
        Ok(self.receive(&Ask::one(Some(Duration::ZERO)))?.pop())
    }

    /// Blocks until a message is deliverable or the time is over; `None` in that case.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Delivery>> {
        Ok(self.receive(&Ask::one(self.member().deadline(timeout)))?.pop())
    }

    /// Lends up to `max` messages, recorded together: all that are deliverable now, or, if there are
    /// none, those that come first within `wait`. Empty when the time is over.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    pub fn recv_batch(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        self.receive(&Ask { most: max, ..Ask::one(self.member().deadline(wait)) })
    }

    /// Iterates over messages as they come; ends when the queue is closed.
    ///
    /// An error is an item; the iteration may go on behind it.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { consumer: self }
    }

    pub(crate) fn member(&self) -> &Member {
        &self.source.group
    }

    pub(crate) fn receive(&self, ask: &Ask<'_>) -> Result<Vec<Delivery>> {
        let loans = self.member().receive(&Ask { lease: self.lease, ..*ask })?;
        self.deliveries(loans)
    }

    /// Hands out loans whose records passed their checksum.
    fn deliveries(&self, loans: Vec<Loan>) -> Result<Vec<Delivery>> {
        let deliver = |loan: Loan| {
            let settle = loan.settle();
            let Loan { message, attempt, lease, .. } = loan;
            let content = Content::new(self.member().queue(), message).map_err(|message| Error::Invalid {
                what: format!("message {} is made as this version does not know", message.offset),
            })?;
            Ok(Delivery::new(self.source.clone(), content, settle, attempt, lease))
        };
        loans.into_iter().map(deliver).collect()
    }
}

impl Ask<'_> {
    fn one(until: Option<Duration>) -> Self {
        Self { holder: None, most: 1, lease: None, until, drain: false, idle_ends: false, stop: &NEVER }
    }
}

/// Messages as they come.
#[derive(Debug)]
pub struct Iter<'a> {
    consumer: &'a Consumer,
}

impl Iterator for Iter<'_> {
    type Item = Result<Delivery>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.consumer.recv() {
            Err(Error::Closed) => None,
            other => Some(other),
        }
    }
}

impl<'a> IntoIterator for &'a Consumer {
    type Item = Result<Delivery>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
