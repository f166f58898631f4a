//! What does somebody hold who works on messages?

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::engine::{Engine, Handle};
use crate::error::{Error, Result};
use crate::group::live::Live;
use crate::group::receive::{Ask, Loan};
use crate::group::settle::{End, Settle};
use crate::options::Durability;

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
    handle: Arc<Handle>,
    source: Arc<Source>,
    /// Milliseconds, if not as the group's policy says.
    lease: Option<u32>,
}

/// Where deliveries come from, and where what comes of them goes. It keeps no queue open: a delivery
/// that lives on is not to.
#[derive(Debug)]
struct Source {
    engine: Arc<Engine>,
    group: Arc<Live>,
    /// How safe outputs are, and the acks with them.
    durability: Durability,
}

impl Consumer {
    pub(crate) fn new(handle: Arc<Handle>, group: Arc<Live>, durability: Durability) -> Self {
        let engine = handle.engine().clone();
        Self { handle, source: Arc::new(Source { engine, group, durability }), lease: None }
    }

    /// Returns the name of the group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.source.group.name
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
        Ok(self.receive(&Ask::one(self.engine().deadline(timeout)))?.pop())
    }

    /// Lends up to `max` messages, recorded together: all that are deliverable now, or, if there are
    /// none, those that come first within `wait`. Empty when the time is over.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    pub fn recv_batch(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        self.receive(&Ask { most: max, ..Ask::one(self.engine().deadline(wait)) })
    }

    /// Iterates over messages as they come; ends when the queue is closed.
    ///
    /// An error is an item; the iteration may go on behind it.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { consumer: self }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        self.handle.engine()
    }

    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.source.group
    }

    pub(crate) fn receive(&self, ask: &Ask<'_>) -> Result<Vec<Delivery>> {
        let ask = &Ask { lease: self.lease, ..*ask };
        loop {
            let loans = self.source.group.receive(ask)?;
            if let Some(answer) = self.hand_out(loans, true) {
                return answer;
            }
        }
    }

    /// Hands out those of the loans whose records are good; `None` if there were some, and none is.
    fn hand_out(&self, loans: Vec<Loan>, may_wait: bool) -> Option<Result<Vec<Delivery>>> {
        let none = loans.is_empty();
        let mut deliveries = Vec::with_capacity(loans.len());
        let mut failed = Ok(());
        for loan in loans {
            // Outside every lock: this is where the payload's checksum is computed.
            match self.check(loan, may_wait) {
                Ok(delivery) => deliveries.extend(delivery),
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        if none || !deliveries.is_empty() {
            // What is good is handed out; whoever asks next meets the error.
            return Some(Ok(deliveries));
        }
        failed.err().map(Err)
    }

    /// Hands a loan out if its record passes its checksum; else it is among the dead letters, and
    /// the next receive says so.
    fn check(&self, loan: Loan, may_wait: bool) -> Result<Option<Delivery>> {
        let Loan { mut message, delivery, attempt, lease } = loan;
        let settle = Settle { offset: message.offset, delivery, place: message.place.pair() };
        let good = message.check(&self.engine().log).inspect_err(|_| {
            // Nobody holds it, and it may be good: the next try reads it anew. Should even this fail,
            // the group is stopped, and the next opening returns the loan.
            let _ = self.source.group.end(settle, End::Release, false);
        })?;
        let content = if good { Content::new(self.engine().queue, message) } else { Err(message) };
        match content {
            Ok(content) => Ok(Some(Delivery::new(self.source.clone(), content, settle, attempt, lease))),
            Err(message) => {
                let (group, report) = (&self.source.group, message.damaged(&self.engine().log));
                if may_wait {
                    group.bury(settle, report)?;
                } else {
                    // Should it not last, whoever gets the message next comes to the same.
                    drop(group.bury_begin(settle, report)?);
                }
                Ok(None)
            }
        }
    }
}

impl Ask<'_> {
    fn one(until: Option<Duration>) -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Self { most: 1, lease: None, until, drain: false, idle_ends: false, stop: &NEVER }
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
