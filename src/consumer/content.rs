//! What does a message hold, besides its place in a group?

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::codec::{self, DeserializeOwned, Encoding};
use crate::error::{Error, Result};
use crate::format::record::{self, Tag};
use crate::format::snapshot::{HIGHEST, NORMAL};
use crate::header::HeaderValue;
use crate::log::reader::Message;
use crate::offset::Offset;

/// A message as it was pushed: payload, kind, headers. What was read is a private copy that passed
/// its checksum.
///
/// A [`Delivery`](crate::Delivery) and a [`Peek`](crate::Peek) can be used as one.
pub struct Content {
    queue: u128,
    message: Message,
    attributes: Range<usize>,
    payload: Range<usize>,
}

impl Content {
    /// Wraps a message whose record passed its checksum; gives it back if the record does not parse.
    pub(crate) fn new(queue: u128, message: Message) -> std::result::Result<Self, Message> {
        match message.parts() {
            Some((attributes, payload)) => Ok(Self { queue, message, attributes, payload }),
            None => Err(message),
        }
    }

    /// Returns the payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.message.bytes(&self.payload)
    }

    /// Returns the message's offset.
    #[must_use]
    pub fn offset(&self) -> Offset {
        Offset::known(self.message.offset)
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
        format!("{:032x}-{}", self.queue, self.message.offset)
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

    /// Returns the dedup or unique key that it was pushed with.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.attribute(Tag::DedupKey)
    }

    /// Tells whether that key is a [unique](crate::Message::unique_key) one.
    #[must_use]
    pub fn has_unique_key(&self) -> bool {
        self.attribute(Tag::Unique).is_some_and(|value| value == [1])
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

    /// Returns from when on the message could be handed out, if that was said.
    #[must_use]
    pub fn due(&self) -> Option<SystemTime> {
        self.moment(Tag::Due)
    }

    /// Returns when the message ends if it was not handed out before, if that was said.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.moment(Tag::Expiry)
    }

    /// Returns the message's priority: 0 to 9, 4 if none was said.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.attribute(Tag::Priority)
            .and_then(|value| value.first())
            .map_or(NORMAL, |&first| first.min(HIGHEST))
    }

    /// Returns the key whose messages are handled one after the other, if that was said.
    #[must_use]
    pub fn ordering_key(&self) -> Option<&[u8]> {
        self.attribute(Tag::OrderingKey)
    }

    fn moment(&self, tag: Tag) -> Option<SystemTime> {
        let millis = record::millis_of(self.attribute(tag)?);
        UNIX_EPOCH.checked_add(Duration::from_millis(millis))
    }

    /// Returns the identity of the queue.
    pub(crate) fn queue(&self) -> u128 {
        self.queue
    }

    fn attribute(&self, tag: Tag) -> Option<&[u8]> {
        record::find(self.message.bytes(&self.attributes), tag)
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content")
            .field("offset", &self.message.offset)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}
