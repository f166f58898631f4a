//! What can be pushed?

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock;
use crate::codec::{self, Encoding, Serialize};
use crate::error::{Error, Result};
use crate::format::batch::Record;
use crate::format::index::MAX_KEY;
use crate::format::record::{self, MAX_HEADER_NAME, MAX_KIND, Tag};
use crate::format::snapshot::{HIGHEST, NORMAL};
use crate::header::HeaderValue;

#[cfg(feature = "schedules")]
mod plan;
#[cfg(feature = "schedules")]
pub(crate) use plan::Plan;

/// A message to be pushed: bytes, borrowed where possible, and what is to be known about them.
///
/// Anything that is bytes or text turns into one: `&str`, `String`, `&[u8]`, `&[u8; N]`, `Vec<u8>`.
///
/// ```
/// # fn main() -> backlog::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let queue = backlog::Queue::open(folder.path().join("jobs"))?;
/// use backlog::Message;
///
/// queue.push("resize cat.jpg")?;
/// queue.push(Message::new("resize dog.jpg").kind("resize/1").header("trace", "a1"))?;
/// # queue.close()
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Message<'a> {
    payload: Cow<'a, [u8]>,
    attributes: Option<Box<Attributes<'a>>>,
}

/// What is to be known about a payload; most messages have none of it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Attributes<'a> {
    kind: Option<Cow<'a, str>>,
    encoding: Option<Encoding>,
    headers: Vec<(Cow<'a, str>, HeaderValue<'a>)>,
    due: Option<When>,
    expiry: Option<When>,
    priority: Option<u8>,
    ordering_key: Option<Vec<u8>>,
    /// And whether it is a unique key.
    key: Option<(Vec<u8>, bool)>,
}

/// A moment, or a time from the push on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    At(SystemTime),
    In(Duration),
}

impl When {
    /// Returns milliseconds since 1970; `now` is what the wall clock shows.
    fn millis(self, now: u64) -> u64 {
        match self {
            Self::At(time) => clock::millis(time.duration_since(UNIX_EPOCH).unwrap_or_default()),
            Self::In(time) => now.saturating_add(clock::millis(time)),
        }
    }
}

/// A message as it goes into a batch.
#[derive(Debug)]
pub(crate) struct Ready<'a> {
    attributes: Vec<u8>,
    tags: u64,
    payload: &'a [u8],
}

impl Ready<'_> {
    pub(crate) fn record(&self) -> Record<'_> {
        Record { attributes: &self.attributes, payload: self.payload, tags: self.tags }
    }

    fn put(&mut self, tag: Tag, value: &[u8]) -> Result<()> {
        self.tags |= tag.bit();
        if record::put(&mut self.attributes, tag, value) {
            return Ok(());
        }
        let (length, limit) = (value.len() as u64, u64::from(record::MAX_VALUE));
        Err(Error::TooLarge { what: "an attribute".into(), length, limit })
    }
}

/// Encodes messages and hands their records on; `wall` tells milliseconds since 1970.
///
/// # Errors
/// As [`Message::ready`], and what `to` says.
pub(crate) fn with_records<R>(
    messages: &[Message<'_>],
    wall: impl Fn() -> u64,
    to: impl FnOnce(&[Record<'_>]) -> Result<R>,
) -> Result<R> {
    let ready = messages.iter().map(|message| message.ready(&wall)).collect::<Result<Vec<_>>>()?;
    to(&ready.iter().map(Ready::record).collect::<Vec<_>>())
}

impl<'a> Message<'a> {
    /// Makes a message of bytes or text. Empty ones are messages too.
    pub fn new(payload: impl Into<Self>) -> Self {
        payload.into()
    }

    /// Returns the bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Makes a message of a value as JSON; [`decode`](crate::Content::decode) gives the
    /// value back. Fields may be added, removed (with `#[serde(default)]`) and reordered between the
    /// program that pushes and the one that receives.
    ///
    /// # Errors
    /// [`Error::Encode`] when the value cannot be JSON, such as a map whose keys are no text.
    #[cfg(feature = "json")]
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Message<'static>> {
        codec::to_json(value).map(|payload| Message::encoded(payload, Encoding::Json))
    }

    /// Makes a message of a value in bincode: compact, and for the very same type on both sides. A
    /// type with other fields, or in another order, can decode without an error and mean something
    /// else: give such types a [`kind`](Message::kind) with a version, or use JSON.
    ///
    /// # Errors
    /// [`Error::Encode`] when the value cannot be bincode, such as a sequence of unknown length.
    pub fn bincode<T: Serialize + ?Sized>(value: &T) -> Result<Message<'static>> {
        codec::to_bincode(value).map(|payload| Message::encoded(payload, Encoding::Bincode))
    }

    /// Says that the payload was made of a value in that way by somebody else, so that
    /// [`decode`](crate::Content::decode) undoes it: for one who takes messages from one queue to another.
    #[must_use]
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.attributes().encoding = Some(encoding);
        self
    }

    fn encoded(payload: Vec<u8>, encoding: Encoding) -> Message<'static> {
        let mut message = Message::from(payload);
        message.attributes().encoding = Some(encoding);
        message
    }

    /// Says what kind of message it is, for handlers to tell them apart: `email/2`, a name and the
    /// version of what the payload looks like. 255 bytes at most.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<Cow<'a, str>>) -> Self {
        self.attributes().kind = Some(kind.into());
        self
    }

    /// Adds a header: a name (1 to 255 bytes) and a value: text, a number, a truth value or bytes.
    /// The queue looks at none of them. A name may occur more than once.
    #[must_use]
    pub fn header(mut self, name: impl Into<Cow<'a, str>>, value: impl Into<HeaderValue<'a>>) -> Self {
        self.attributes().headers.push((name.into(), value.into()));
        self
    }

    /// Lets the message be handed out only so long after it was pushed. It takes its place by offset
    /// then: before everything that was pushed later.
    ///
    /// The time is kept as a moment of the wall clock; while a process has the queue open, a clock that
    /// cannot jump decides. A clock that was set wrong delays or hastens a message by a year at the
    /// most, and loses none.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.attributes().due = Some(When::In(delay));
        self
    }

    /// Lets the message be handed out from that moment on; see [`Message::delay`]. A moment that is more
    /// than a year away comes a year after the process began to wait for it, unless the queue is opened
    /// anew meanwhile.
    #[must_use]
    pub fn at(mut self, moment: SystemTime) -> Self {
        self.attributes().due = Some(When::At(moment));
        self
    }

    /// Ends the message if it is to be handed out, for the first time or once more, later than so long
    /// after its push: each group then makes it a dead letter, or discards it
    /// ([`GroupOptions::discard_expired`](crate::GroupOptions::discard_expired)). One that is revived ends
    /// again.
    #[must_use]
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.attributes().expiry = Some(When::In(time));
        self
    }

    /// Ends the message if it is to be handed out later than that moment; see [`Message::expires_in`].
    #[must_use]
    pub fn expires_at(mut self, moment: SystemTime) -> Self {
        self.attributes().expiry = Some(When::At(moment));
        self
    }

    /// Lets messages of higher priority go first: 0 to 9, where 4 is that of a message that names none.
    /// Within one, messages come in the order of their offsets, as all do.
    ///
    /// The highest is always handed out first, so a queue that never runs out of higher ones never comes
    /// to the lower.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.attributes().priority = Some(priority);
        self
    }

    /// Lets the messages of a key be handled one after the other, in the order in which they were pushed:
    /// in each group they belong to one receive at a time. A [`recv_batch`](crate::Consumer::recv_batch)
    /// may take several of them, in order; no other receive gets any before those are settled or given
    /// back. One that failed is waited for; one that is a dead letter, or discarded, is passed. 1 to 255
    /// bytes: the number of an account, the name of a file.
    ///
    /// Priorities do not break the order of a key. Messages whose turn has not come are kept in mind: when
    /// 65,536 wait in a group, nothing else is read before one of them is handed out, but for messages of a
    /// higher priority than the normal one.
    #[must_use]
    pub fn ordering_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.attributes().ordering_key = Some(key.as_ref().to_vec());
        self
    }

    /// Gives the message a key by which it is told from others: a push with a key that is taken stores
    /// nothing, waits for the message that has it, and returns that one's offset. It shares its outcome:
    /// a failure too, and then the key is free. 1 to 255 bytes.
    ///
    /// The key is taken while the message is on its way, and as long as it is in the
    /// [window](crate::Options::dedup_window), done or not: crashes and restarts change nothing. A batch of
    /// several with a key that is taken is refused as a whole ([`Error::Duplicate`]). Keys are compared by
    /// a 128-bit hash keyed by the queue. A message has one key: the last that was given.
    ///
    /// ```
    /// # fn main() -> backlog::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let queue = backlog::Queue::open(folder.path().join("jobs"))?;
    /// use backlog::Message;
    ///
    /// let first = queue.push(Message::new("welcome ann").dedup_key("signup-7"))?;
    /// let again = queue.push(Message::new("welcome ann").dedup_key("signup-7"))?; // a retry
    /// assert_eq!(first, again);
    /// assert_eq!(queue.stats().messages, 1);
    /// # queue.close()
    /// # }
    /// ```
    #[must_use]
    pub fn dedup_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.attributes().key = Some((key.as_ref().to_vec(), false));
        self
    }

    /// Gives the message a key of which there is one at a time: a push with a key that is taken ends as
    /// with [`Message::dedup_key`].
    ///
    /// The key is taken until the message is done in every group (acked, discarded, purged), however long
    /// that takes; delayed, on loan, or a dead letter, it is not done. With no group, nothing is. Dedup keys
    /// and unique keys never meet. A message has one key: the last that was given.
    ///
    /// ```
    /// # fn main() -> backlog::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let queue = backlog::Queue::open(folder.path().join("jobs"))?;
    /// use backlog::Message;
    ///
    /// let worker = queue.consumer()?;
    /// let reindex = || Message::new("reindex shop").unique_key("reindex-shop");
    /// let first = queue.push(reindex())?;
    /// assert_eq!(queue.push(reindex())?, first); // it waits already
    ///
    /// worker.recv()?.ack()?;
    /// assert_ne!(queue.push(reindex())?, first);
    /// # queue.close()
    /// # }
    /// ```
    #[must_use]
    pub fn unique_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.attributes().key = Some((key.as_ref().to_vec(), true));
        self
    }

    fn attributes(&mut self) -> &mut Attributes<'a> {
        self.attributes.get_or_insert_default()
    }

    /// Encodes what is to be known about the payload; `wall` tells milliseconds since 1970.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be one, [`Error::TooLarge`].
    pub(crate) fn ready(&self, wall: impl Fn() -> u64) -> Result<Ready<'_>> {
        let mut ready = Ready { attributes: Vec::new(), tags: 0, payload: &self.payload };
        let Some(attributes) = &self.attributes else { return Ok(ready) };
        for (tag, when) in [(Tag::Due, attributes.due), (Tag::Expiry, attributes.expiry)] {
            if let Some(when) = when {
                ready.put(tag, &record::millis(when.millis(wall())))?;
            }
        }
        if let Some(priority) = attributes.priority.filter(|&priority| priority != NORMAL) {
            if priority > HIGHEST {
                let what =
                    format!("a priority of {priority}: 0 to {HIGHEST} are allowed, {NORMAL} is normal");
                return Err(Error::Invalid { what });
            }
            ready.put(Tag::Priority, &[priority])?;
        }
        if let Some(key) = &attributes.ordering_key {
            check_key(key)?;
            ready.put(Tag::OrderingKey, key)?;
        }
        if let Some((key, unique)) = &attributes.key {
            check_key(key)?;
            ready.put(Tag::DedupKey, key)?;
            if *unique {
                ready.put(Tag::Unique, &[1])?;
            }
        }
        if let Some(kind) = &attributes.kind {
            if kind.is_empty() || kind.len() > MAX_KIND {
                let what = format!("a kind of {} bytes: 1 to {MAX_KIND} are allowed", kind.len());
                return Err(Error::Invalid { what });
            }
            ready.put(Tag::Kind, kind.as_bytes())?;
        }
        if let Some(encoding) = attributes.encoding {
            ready.put(Tag::Encoding, &[encoding as u8])?;
        }
        for (name, value) in &attributes.headers {
            if name.is_empty() || name.len() > MAX_HEADER_NAME {
                let what =
                    format!("a header's name of {} bytes: 1 to {MAX_HEADER_NAME} are allowed", name.len());
                return Err(Error::Invalid { what });
            }
            let (kind, bytes) = value.parts();
            ready.put(Tag::Header, &record::header(name, kind, &bytes))?;
        }
        Ok(ready)
    }
}

/// Refuses what cannot be a key.
///
/// # Errors
/// [`Error::Invalid`].
pub(crate) fn check_key(key: &[u8]) -> Result<()> {
    if (1..=MAX_KEY).contains(&key.len()) {
        return Ok(());
    }
    let what = format!("a key of {} bytes: 1 to {} are allowed", key.len(), MAX_KEY);
    Err(Error::Invalid { what })
}

impl<'a> From<Cow<'a, [u8]>> for Message<'a> {
    fn from(payload: Cow<'a, [u8]>) -> Self {
        Self { payload, attributes: None }
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(payload: &'a [u8]) -> Self {
        Self::from(Cow::from(payload))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Message<'a> {
    fn from(payload: &'a [u8; N]) -> Self {
        Self::from(&payload[..])
    }
}

impl<'a> From<&'a Vec<u8>> for Message<'a> {
    fn from(payload: &'a Vec<u8>) -> Self {
        Self::from(&payload[..])
    }
}

impl From<Vec<u8>> for Message<'_> {
    fn from(payload: Vec<u8>) -> Self {
        Self::from(Cow::from(payload))
    }
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(payload: &'a str) -> Self {
        Self::from(payload.as_bytes())
    }
}

impl<'a> From<&'a String> for Message<'a> {
    fn from(payload: &'a String) -> Self {
        Self::from(payload.as_bytes())
    }
}

impl From<String> for Message<'_> {
    fn from(payload: String) -> Self {
        Self::from(payload.into_bytes())
    }
}

impl<'a> From<&'a Message<'_>> for Message<'a> {
    fn from(message: &'a Message<'_>) -> Self {
        // The attributes are few and short, and copied; the payload is borrowed.
        Self { payload: Cow::Borrowed(&message.payload), attributes: message.attributes.clone() }
    }
}
