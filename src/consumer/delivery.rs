//! What is a message on loan, and how is it settled?

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::codec::{self, DeserializeOwned, Encoding};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::record::{self, Tag};
use crate::group::live::Live;
use crate::group::settle::{End, Settle};
use crate::header::HeaderValue;
use crate::log::reader::Message;
use crate::offset::Offset;

/// A message on loan. Settle it with [`ack`](Delivery::ack), [`nack`](Delivery::nack),
/// [`reject`](Delivery::reject) or [`release`](Delivery::release).
///
/// It is owned and `Send`, and outlives its consumer: many can be in flight, across threads. Dropped
/// without being settled it is a nack: it comes again by the group's retry policy. When the process
/// dies, it comes again at the next opening, and counts as a loss.
#[must_use = "dropping a delivery unsettled is a nack: the message comes again; call ack, nack, reject or release"]
pub struct Delivery {
    engine: Arc<Engine>,
    group: Arc<Live>,
    message: Message,
    attributes: Range<usize>,
    payload: Range<usize>,
    loan: Settle,
    attempt: u32,
    settled: bool,
}

impl Delivery {
    pub(crate) fn new(
        engine: Arc<Engine>,
        group: Arc<Live>,
        (message, (attributes, payload)): (Message, (Range<usize>, Range<usize>)),
        loan: Settle,
        attempt: u32,
    ) -> Self {
        Self { engine, group, message, attributes, payload, loan, attempt, settled: false }
    }

    /// Returns the payload: a private copy that passed its checksum.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.message.bytes(&self.payload)
    }

    /// Copies the payload out, to be kept after the delivery is settled. Also for a small payload
    /// that is held for long: a delivery keeps the block alive that it was read into (256 KiB).
    #[must_use]
    pub fn to_payload(&self) -> Payload {
        Payload(self.payload().into())
    }

    /// Makes the value again that [`Message::json`](crate::Message::json) or
    /// [`Message::bincode`](crate::Message::bincode) was given: the message says which it was.
    ///
    /// ```
    /// # fn main() -> backlog::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let queue = backlog::Queue::open(folder.path().join("jobs"))?;
    /// queue.push(backlog::Message::bincode(&("cat.jpg", 640, 480))?)?;
    ///
    /// let job = queue.consumer()?.recv()?;
    /// match job.decode::<(String, u32, u32)>() {
    ///     Ok((name, width, height)) => job.ack()?, // resize it
    ///     Err(why) => job.reject(why)?,            // it will not fit the next time either
    /// }
    /// # queue.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Decode`] when the payload is not such a value, or was pushed as plain bytes. The
    /// delivery can still be settled in any way.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        let decoded = match self.encoding() {
            Some(encoding) => codec::from_payload(encoding, self.payload())
                .map_err(|problem| format!("as {encoding:?} it does not fit: {problem}")),
            None => Err("it was pushed as plain bytes".into()),
        };
        decoded.map_err(|problem| Error::Decode {
            offset: self.offset(),
            kind: self.kind().map(str::to_owned),
            problem,
        })
    }

    /// Returns how the payload was made of a value; `None` for plain bytes.
    #[must_use]
    pub fn encoding(&self) -> Option<Encoding> {
        Encoding::of(*self.attribute(Tag::Encoding)?.first()?)
    }

    /// Returns what kind of message it is, if that was said.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        std::str::from_utf8(self.attribute(Tag::Kind)?).ok()
    }

    /// Returns the value of the first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<HeaderValue<'_>> {
        self.headers().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Goes through the headers in the order in which they were given.
    pub fn headers(&self) -> impl Iterator<Item = (&str, HeaderValue<'_>)> {
        let headers = record::each(self.message.bytes(&self.attributes));
        headers.filter(|&(tag, _)| tag == Tag::Header as u8).filter_map(|(_, header)| {
            let (name, kind, value) = record::split_header(header)?;
            Some((name, HeaderValue::of(kind, value)))
        })
    }

    fn attribute(&self, tag: Tag) -> Option<&[u8]> {
        record::find(self.message.bytes(&self.attributes), tag)
    }

    /// Returns the message's offset.
    #[must_use]
    pub fn offset(&self) -> Offset {
        Offset::known(self.loan.offset)
    }

    /// Returns which try this is, 1 for the first. It tells, and fences nothing.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the name of the group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group.name
    }

    /// Returns when the message was pushed, by the wall clock of then.
    #[must_use]
    pub fn pushed_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.message.time)
    }

    /// Returns a name for the message that is the same at every delivery and unique in the world:
    /// queue id and offset. A handler that uses it as a key is idempotent.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:032x}-{}", self.engine.queue, self.loan.offset)
    }

    /// Marks the message as done.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] if the loan was over already, [`Error::Closed`], [`Error::NoSuchGroup`],
    /// [`Error::Poisoned`]: the message may come again.
    pub fn ack(mut self) -> Result<()> {
        self.settled = true;
        self.group.ack(self.loan)
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

    fn end(mut self, end: End<'_>) -> Result<()> {
        self.settled = true;
        self.group.end(self.loan, end, true)
    }

    pub(crate) fn loan(&self) -> Settle {
        self.loan
    }

    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.group
    }

    /// Says that the loan was settled by other means.
    pub(crate) fn forget(mut self) {
        self.settled = true;
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
        let _ = self.group.end(self.loan, End::Nack { reason, after: None }, false);
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("group", &self.group.name)
            .field("offset", &self.loan.offset)
            .field("attempt", &self.attempt)
            .field("bytes", &self.payload.len())
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
    while let Some(group) = left.first().map(|(_, delivery)| delivery.live().clone()) {
        let (mine, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(_, delivery)| Arc::ptr_eq(delivery.live(), &group));
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
