//! How do structures become bytes? The one door to serde's formats.
//!
//! bincode is pinned to 1.3.3 and unmaintained (RUSTSEC-2025-0141, see `docs/DEPENDENCIES.md`): it
//! is reached through these two functions only, with every option spelled out and a limit, and only
//! with bytes whose checksum was good.

use bincode::Options as _;
use serde::{Serialize, de::DeserializeOwned};

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
