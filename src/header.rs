//! What can a header of a message say?

use std::borrow::Cow;

/// The value of a header: bytes that bear a type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum HeaderValue<'a> {
    /// Any bytes.
    Bytes(Cow<'a, [u8]>),
    /// Text.
    Text(Cow<'a, str>),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

const BYTES: u8 = 0;
const TEXT: u8 = 1;
const INT: u8 = 2;
const FLOAT: u8 = 3;
const BOOL: u8 = 4;

impl<'a> HeaderValue<'a> {
    /// Returns the text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Returns the type and the bytes that go into a record.
    pub(crate) fn parts(&self) -> (u8, Cow<'_, [u8]>) {
        match self {
            Self::Bytes(bytes) => (BYTES, Cow::Borrowed(bytes)),
            Self::Text(text) => (TEXT, Cow::Borrowed(text.as_bytes())),
            Self::Int(number) => (INT, Cow::Owned(number.to_le_bytes().to_vec())),
            Self::Float(number) => (FLOAT, Cow::Owned(number.to_bits().to_le_bytes().to_vec())),
            Self::Bool(yes) => (BOOL, Cow::Owned(vec![u8::from(*yes)])),
        }
    }

    /// Reads a value; what does not fit its type, or has one of a later version, is bytes.
    pub(crate) fn of(kind: u8, bytes: &'a [u8]) -> Self {
        let eight = || <[u8; 8]>::try_from(bytes).ok();
        let value = match kind {
            TEXT => std::str::from_utf8(bytes).ok().map(|text| Self::Text(Cow::Borrowed(text))),
            INT => eight().map(|bytes| Self::Int(i64::from_le_bytes(bytes))),
            FLOAT => eight().map(|bytes| Self::Float(f64::from_bits(u64::from_le_bytes(bytes)))),
            BOOL if bytes.len() == 1 && bytes[0] < 2 => Some(Self::Bool(bytes[0] == 1)),
            _ => None,
        };
        value.unwrap_or(Self::Bytes(Cow::Borrowed(bytes)))
    }
}

macro_rules! from {
    ($($of:ty => $variant:ident($value:ident) $into:expr;)*) => {
        $(impl<'a> From<$of> for HeaderValue<'a> {
            fn from($value: $of) -> Self {
                Self::$variant($into)
            }
        })*
    };
}

from! {
    &'a str => Text(text) Cow::Borrowed(text);
    &'a String => Text(text) Cow::Borrowed(text);
    String => Text(text) Cow::Owned(text);
    &'a [u8] => Bytes(bytes) Cow::Borrowed(bytes);
    Vec<u8> => Bytes(bytes) Cow::Owned(bytes);
    i64 => Int(number) number;
    i32 => Int(number) number.into();
    u32 => Int(number) number.into();
    f64 => Float(number) number;
    bool => Bool(yes) yes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_value_reads_back() {
        let values: [HeaderValue<'_>; 6] =
            ["a1".into(), 7.into(), (-1_i64).into(), 0.5.into(), true.into(), (&b"\xff\0"[..]).into()];
        for value in values {
            let (kind, bytes) = value.parts();

            assert_eq!(HeaderValue::of(kind, &bytes), value);
        }
    }

    #[test]
    fn a_value_that_does_not_fit_its_type_is_bytes() {
        for (kind, bytes) in
            [(TEXT, &b"\xff"[..]), (INT, b"1234567"), (FLOAT, b""), (BOOL, b"\x02"), (99, b"x")]
        {
            assert_eq!(HeaderValue::of(kind, bytes), HeaderValue::Bytes(bytes.into()));
        }
    }
}
