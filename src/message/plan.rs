//! What are the messages of a schedule made of?
//!
//! All but what differs from tick to tick is encoded once, so that a guest can hand it to the owner.

use super::{Attributes, Message, Ready, When};
use crate::codec::{Bytes, Deserialize, Serialize};
use crate::error::Result;
use crate::format::record::{self, Tag};
use crate::header::HeaderValue;

/// A message, but for its key and its times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    attributes: Bytes,
    payload: Bytes,
    tags: u64,
    due: Option<Moment>,
    expiry: Option<Moment>,
}

/// Milliseconds: from the push on, or since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Moment {
    In(u64),
    At(u64),
}

impl Moment {
    fn of(when: When) -> Self {
        match when {
            When::In(_) => Self::In(when.millis(0)),
            When::At(_) => Self::At(when.millis(0)),
        }
    }

    fn millis(self, now: u64) -> u64 {
        match self {
            Self::In(time) => now.saturating_add(time),
            Self::At(moment) => moment,
        }
    }
}

impl Message<'_> {
    /// Encodes what all messages of a schedule have in common.
    ///
    /// # Errors
    /// As [`Message::ready`].
    pub(crate) fn plan(&self) -> Result<Plan> {
        let mut bare = Message::from(self);
        let (mut due, mut expiry) = (None, None);
        if let Some(attributes) = &mut bare.attributes {
            due = attributes.due.take().map(Moment::of);
            expiry = attributes.expiry.take().map(Moment::of);
            // Each tick has its own.
            **attributes = Attributes { key: None, ..(**attributes).clone() };
        }
        let Ready { attributes, tags, payload } = bare.ready(|| 0)?;
        Ok(Plan { attributes: Bytes(attributes), payload: Bytes(payload.to_vec()), tags, due, expiry })
    }
}

impl Plan {
    /// Makes a message with further headers and a dedup key, at a time of the wall clock: attributes, payload, tags.
    ///
    /// # Errors
    /// [`crate::Error::TooLarge`].
    pub(crate) fn message(
        &self,
        headers: &[(&str, HeaderValue<'_>)],
        key: &[u8],
        wall: u64,
    ) -> Result<(Vec<u8>, Vec<u8>, u64)> {
        let mut ready =
            Ready { attributes: self.attributes.0.clone(), tags: self.tags, payload: &self.payload.0 };
        for (tag, moment) in [(Tag::Due, self.due), (Tag::Expiry, self.expiry)] {
            if let Some(moment) = moment {
                ready.put(tag, &record::millis(moment.millis(wall)))?;
            }
        }
        for (name, value) in headers {
            let (kind, bytes) = value.parts();
            ready.put(Tag::Header, &record::header(name, kind, &bytes))?;
        }
        ready.put(Tag::DedupKey, key)?;
        Ok((ready.attributes, self.payload.0.clone(), ready.tags))
    }
}
