//! What can be pushed?

use std::borrow::Cow;

use crate::format::batch::Record;

/// A message to be pushed: bytes, borrowed where possible.
///
/// Anything that is bytes or text turns into one: `&str`, `String`, `&[u8]`, `&[u8; N]`, `Vec<u8>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    payload: Cow<'a, [u8]>,
}

impl<'a> Message<'a> {
    /// Makes a message of bytes. Empty ones are messages too.
    pub fn new(payload: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { payload: payload.into() }
    }

    /// Returns the bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(crate) fn record(&self) -> Record<'_> {
        Record { attributes: &[], payload: &self.payload, tags: 0 }
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(payload: &'a [u8]) -> Self {
        Self { payload: Cow::Borrowed(payload) }
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Message<'a> {
    fn from(payload: &'a [u8; N]) -> Self {
        Self { payload: Cow::Borrowed(payload) }
    }
}

impl<'a> From<&'a Vec<u8>> for Message<'a> {
    fn from(payload: &'a Vec<u8>) -> Self {
        Self { payload: Cow::Borrowed(payload) }
    }
}

impl From<Vec<u8>> for Message<'_> {
    fn from(payload: Vec<u8>) -> Self {
        Self { payload: Cow::Owned(payload) }
    }
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(payload: &'a str) -> Self {
        Self { payload: Cow::Borrowed(payload.as_bytes()) }
    }
}

impl<'a> From<&'a String> for Message<'a> {
    fn from(payload: &'a String) -> Self {
        Self { payload: Cow::Borrowed(payload.as_bytes()) }
    }
}

impl From<String> for Message<'_> {
    fn from(payload: String) -> Self {
        Self { payload: Cow::Owned(payload.into_bytes()) }
    }
}

impl<'a> From<&'a Message<'_>> for Message<'a> {
    fn from(message: &'a Message<'_>) -> Self {
        Self { payload: Cow::Borrowed(&message.payload) }
    }
}
