//! What is a message on loan, and how is it settled?

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Source;
use super::content::Content;
use super::outcome::Outcome;
use super::receipt::Receipt;
use super::ticket::Ticket;
use crate::error::{Error, Result};
use crate::format::entry::HELD;
use crate::group::settle::{End, Settle};
use crate::message::{self, Message};
use crate::offset::Offsets;
use crate::share::member::Member;

/// A message on loan. Settle it with [`ack`](Delivery::ack),
/// [`ack_with`](Delivery::ack_with), [`nack`](Delivery::nack), [`reject`](Delivery::reject) or [`release`](Delivery::release).
///
/// It is owned and `Send`, and outlives its consumer: many can be in flight, across threads. Dropped
/// without being settled it is a nack: it comes again by the group's retry policy. When the process
/// dies, it comes again at the next opening, and counts as a loss.
#[must_use = "dropping a delivery unsettled is a nack: the message comes again; call ack, nack, reject or release"]
pub struct Delivery {
    source: Arc<Source>,
    content: Content,
    loan: Settle,
    attempt: u32,
    /// Milliseconds; `None` if it is held.
    lease: Option<u32>,
    settled: bool,
}

/// Turns a time limit into what an entry can say: 1 ms to 49 days.
pub(crate) fn millis(lease: Duration) -> u32 {
    u32::try_from(lease.as_millis()).unwrap_or(u32::MAX).clamp(1, HELD - 1)
}

impl Delivery {
    pub(super) fn new(source: Arc<Source>, content: Content, loan: Settle, attempt: u32, lease: u32) -> Self {
        let lease = (lease != HELD).then_some(lease);
        Self { source, content, loan, attempt, lease, settled: false }
    }

    /// Copies the payload out, to be kept after the delivery is settled. Also for a small payload
    /// that is held for long: a delivery keeps the block alive that it was read into (256 KiB).
    #[must_use]
    pub fn to_payload(&self) -> Payload {
        Payload(self.payload().into())
    }

    /// Returns which try this is, 1 for the first. It tells, and fences nothing.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the name of the group.
    #[must_use]
    pub fn group(&self) -> &str {
        self.source.group.name()
    }

    /// Marks the message as done.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] if the loan was over already, [`Error::Closed`], [`Error::NoSuchGroup`],
    /// [`Error::Poisoned`]: the message may come again.
    pub fn ack(mut self) -> Result<()> {
        self.settled = true;
        self.source.group.ack(self.loan)
    }

    /// Marks the message as done and returns at once; the [`Ticket`] tells when the ack lasts as
    /// [`Delivery::ack`]'s does. So one task, or one thread, can have thousands of acks outstanding, which
    /// share their syncs. One that nobody waits for is synced within some 10 ms.
    ///
    /// From here on the loan is over: nobody else gets the message in this opening of the queue. Before the
    /// ticket has answered, a crash may bring it again. It waits for a sync only where the group's file has to
    /// switch halves to take the ack, which is rare: room for it was kept when the message was lent.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub fn ack_deferred(mut self) -> Result<Ticket<()>> {
        self.settled = true;
        self.source.group.ack_deferred(self.loan).map(Ticket::of_ack)
    }

    /// Marks the message as done and pushes what came of it, whole or not at all: after any crash either
    /// all of the outputs are there and the message is done, or none of them is and it comes again. So a
    /// step of a pipeline hands its work on exactly once.
    ///
    /// It is one batch, and no slower than its push: acked as durably as the outputs are pushed, which is
    /// how the queue handle pushes that the consumer comes from, whatever the group's acks are. Acked
    /// buffered, a message and its outputs are lost and found together. Without outputs this is
    /// [`ack`](Delivery::ack).
    ///
    /// Returns the offsets of the outputs.
    ///
    /// ```
    /// # fn main() -> backlog::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let queue = backlog::Queue::open(folder.path().join("jobs"))?;
    /// use backlog::Message;
    ///
    /// queue.push(Message::new("cat.jpg").kind("thumbnail/1"))?;
    ///
    /// let job = queue.consumer()?.recv()?;
    /// let mail = Message::new("cat.jpg is ready").kind("email/1");
    /// job.ack_with([mail])?;
    /// # assert_eq!(queue.consumer()?.recv()?.payload(), b"cat.jpg is ready");
    /// # queue.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::LeaseLost`] if the loan was over already. [`Error::Full`], [`Error::Io`],
    /// [`Error::TooLarge`], [`Error::Invalid`], [`Error::Exhausted`], [`Error::Duplicate`] (the key of an output
    /// is taken): nothing was stored, and the delivery ends as one that is dropped does: in a nack, with the
    /// error as its reason.
    /// [`Error::Closed`], [`Error::NoSuchGroup`]: nothing was stored. [`Error::Poisoned`] and
    /// [`Error::InDoubt`]: message and outputs may be stored or not, and nobody gets the message before
    /// the next opening, which knows.
    pub fn ack_with<'a, M>(self, outputs: impl IntoIterator<Item = M>) -> Result<Offsets>
    where
        M: Into<Message<'a>>,
    {
        let outputs: Vec<Message<'a>> = outputs.into_iter().map(Into::into).collect();
        self.ack_with_all(&outputs)
    }

    fn ack_with_all(mut self, outputs: &[Message<'_>]) -> Result<Offsets> {
        if outputs.is_empty() {
            return self.ack().map(|()| Offsets::new(0, 0));
        }
        let Source { group, durability } = &*self.source;
        let acked = message::with_records(
            outputs,
            || group.clock().wall(),
            |records| group.ack_with(self.loan, records, *durability),
        );
        if let Err(error) = &acked {
            let reason = error.to_string();
            // Refused where the loan is over, or nobody knows: then it is settled as far as it can be.
            let _ = group.end(self.loan, End::Nack { reason: Some(&reason), after: None }, false);
        }
        self.settled = true;
        acked
    }

    /// Counts a failure: the message comes again later, by the group's retry policy, or goes to the
    /// dead letters if it failed too often.
    ///
    /// The end of the reason, 1,024 bytes at most, is kept with the message.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub fn nack(self, reason: impl fmt::Display) -> Result<()> {
        self.end(End::Nack { reason: Some(&reason.to_string()), after: None })
    }

    /// Counts a failure: the message comes again when `after` is over.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub fn nack_after(self, after: Duration, reason: impl fmt::Display) -> Result<()> {
        self.end(End::Nack { reason: Some(&reason.to_string()), after: Some(after) })
    }

    /// Gives the message up: it goes to the dead letters now.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub fn reject(self, reason: impl fmt::Display) -> Result<()> {
        self.end(End::Reject { reason: &reason.to_string() })
    }

    /// Gives the message back uncounted: it is ready again at once.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub fn release(self) -> Result<()> {
        self.end(End::Release)
    }

    /// Settles it in one of these ways.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub fn settle(self, outcome: &Outcome) -> Result<()> {
        match outcome {
            Outcome::AckWith(outputs) => self.ack_with_all(outputs).map(drop),
            outcome => match outcome.end() {
                None => self.ack(),
                Some(end) => self.end(end),
            },
        }
    }

    /// Lets a loan with a time limit end so much later than now; one without needs it not, and stays.
    ///
    /// # Errors
    /// As [`Delivery::ack`]: a loan that has run out cannot be extended.
    pub fn extend(&self, lease: Duration) -> Result<()> {
        self.source.group.extend(self.loan, millis(lease))
    }

    /// Calls `work`, and extends the loan by its time limit again and again until that returns. A loan
    /// without a time limit needs it not.
    ///
    /// An extension that fails, since the loan is over or the queue closed, ends the extending and
    /// not the work: settling says so then.
    pub fn extend_while<R>(&self, work: impl FnOnce() -> R) -> R {
        match self.lease {
            None => work(),
            Some(lease) => self.source.group.extend_while(self.loan, lease, work),
        }
    }

    /// Returns the time limit that the loan was made with; `None` if it ends with its holder only.
    #[must_use]
    pub fn lease(&self) -> Option<Duration> {
        self.lease.map(|lease| Duration::from_millis(lease.into()))
    }

    /// Names this loan, for somebody else to settle it.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        Receipt {
            queue: self.queue(),
            group: self.source.group.name().to_owned(),
            incarnation: self.source.group.incarnation(),
            offset: self.loan.offset,
            delivery: self.loan.delivery,
        }
    }

    /// Gives the delivery up and leaves the loan as it is, to be settled by its receipt. A loan with a
    /// time limit runs out if nobody does; one without comes back when the queue is closed.
    #[must_use = "without its receipt nobody can settle the loan"]
    pub fn leave(self) -> Receipt {
        let receipt = self.receipt();
        self.forget();
        receipt
    }

    fn end(mut self, end: End<'_>) -> Result<()> {
        self.settled = true;
        self.source.group.end(self.loan, end, true)
    }

    pub(crate) fn loan(&self) -> Settle {
        self.loan
    }

    fn member(&self) -> &Member {
        &self.source.group
    }

    /// Says that the loan was settled by other means.
    pub(crate) fn forget(mut self) {
        self.settled = true;
    }
}

impl Deref for Delivery {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.content
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let reason = thread::panicking().then_some("its holder panicked");
        // Nobody is there to hear of a failure, and nothing is lost by one: a loan that is not
        // settled comes again at the next opening.
        let _ = self.source.group.end(self.loan, End::Nack { reason, after: None }, false);
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("group", &self.source.group.name())
            .field("offset", &self.loan.offset)
            .field("attempt", &self.attempt)
            .field("bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}

/// A payload of one's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Payload(Box<[u8]>);

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Payload> for Vec<u8> {
    fn from(payload: Payload) -> Self {
        payload.0.into_vec()
    }
}

/// Acknowledges many deliveries as one group commit for each group they belong to; the answers are
/// in their order.
///
/// # Errors
/// [`Error::Closed`], [`Error::NoSuchGroup`], [`Error::Poisoned`]: any of the messages may come
/// again. A loan that was over already is told in its own answer, as [`Error::LeaseLost`].
pub(crate) fn ack_all(deliveries: Vec<Delivery>) -> Result<Vec<Result<()>>> {
    let mut answers: Vec<Option<Result<()>>> = vec![None; deliveries.len()];
    let mut left: Vec<(usize, Delivery)> = deliveries.into_iter().enumerate().collect();
    while let Some(group) = left.first().map(|(_, delivery)| delivery.member().clone()) {
        let (mine, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(_, delivery)| delivery.member().is(&group));
        left = others;
        let loans: Vec<Settle> = mine.iter().map(|(_, delivery)| delivery.loan()).collect();
        let settled = group.ack_all(&loans);
        let indices: Vec<usize> = mine
            .into_iter()
            .map(|(index, delivery)| {
                delivery.forget();
                index
            })
            .collect();
        for (index, answer) in indices.into_iter().zip(settled?) {
            answers[index] = Some(answer);
        }
    }
    Ok(answers.into_iter().map(|answer| answer.unwrap_or(Err(Error::Closed))).collect())
}
