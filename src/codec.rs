//! How do structures become bytes? The one door to serde's formats: our own structures, and the
//! payloads of users.
//!
//! bincode is pinned to 1.3.3 and unmaintained (RUSTSEC-2025-0141, see `docs/DEPENDENCIES.md`): it
//! is reached through these functions only, with every option spelled out and a limit, and only
//! with bytes whose checksum was good.

use bincode::Options as _;
pub(crate) use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};
use crate::offset::Offset;

/// The most bytes that one structure may take: a length in hostile bytes cannot ask for more.
const LIMIT: u64 = 1 << 30;

fn options() -> impl bincode::Options {
    bincode::DefaultOptions::new()
        .with_little_endian()
        .with_fixint_encoding()
        .with_limit(LIMIT)
        .reject_trailing_bytes()
}

/// Encodes one of our own structures.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    options().serialize(value).expect("plain structures below 1 GiB always encode")
}

/// Decodes; the error says what did not fit.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    options().deserialize(bytes).map_err(|error| error.to_string())
}

/// How a payload was made of a value. The numbers are those in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Encoding {
    /// As JSON.
    Json = 1,
    /// As bincode 1.3 does it: little-endian, numbers in their full width.
    Bincode = 2,
}

impl Encoding {
    pub(crate) fn of(number: u8) -> Option<Self> {
        [Self::Json, Self::Bincode].into_iter().find(|&one| one as u8 == number)
    }
}

/// Makes JSON of somebody's value.
#[cfg(feature = "json")]
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Encode { problem: error.to_string() })
}

/// Makes bincode of somebody's value.
pub(crate) fn to_bincode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    options().serialize(value).map_err(|error| Error::Encode { problem: error.to_string() })
}

/// Makes somebody's value of a payload again; the error says what did not fit.
pub(crate) fn from_payload<T: DeserializeOwned>(encoding: Encoding, payload: &[u8]) -> Result<T, String> {
    match encoding {
        #[cfg(feature = "json")]
        Encoding::Json => serde_json::from_slice(payload).map_err(|error| error.to_string()),
        #[cfg(not(feature = "json"))]
        Encoding::Json => Err("this program was built without the feature \"json\"".into()),
        Encoding::Bincode => decode(payload),
    }
}

impl Serialize for Offset {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.get())
    }
}

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(from)?;
        Self::new(number).ok_or_else(|| serde::de::Error::custom("an offset of 2^48 or more"))
    }
}

/// Bytes as one piece: serde takes a list of them number by number.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        from.deserialize_byte_buf(Visitor)
    }
}
