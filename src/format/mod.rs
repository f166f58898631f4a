//! Which bytes lie on the disk? The one room for it: no file is opened here, no lock taken.
//!
//! `docs/FORMAT.md` is the prose of these modules; neither moves without the other. All integers
//! are little-endian and of fixed width. Zero is never a valid anything, so space that was reserved
//! and not yet written explains itself. A length is believed only after a checksum that covers it.
//!
//! The checksum is CRC-32 as zip and Ethernet have it (reflected, polynomial 04C11DB7), not CRC-32C.
//! Where it is *seeded*, salt (4 bytes) and position (8 bytes) are taken in front of the bytes: a
//! header copied to another place, or left by an earlier use of the file, does not pass. By
//! linearity of the CRC that is exact for the same place under another salt, not merely likely.

use byteorder::{ByteOrder, LittleEndian};

use crate::plant::{Plant, planted};

pub(crate) mod batch;
pub(crate) mod copied;
pub(crate) mod entry;
#[cfg(feature = "testing")]
pub(crate) mod forge;
#[cfg(test)]
mod golden;
pub(crate) mod header;
pub(crate) mod index;
pub(crate) mod keep;
pub(crate) mod manifest;
pub(crate) mod names;
#[cfg(feature = "testing")]
pub(crate) mod probe;
pub(crate) mod record;
pub(crate) mod salt;
pub(crate) mod section;
pub(crate) mod siphash;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;

/// The version of everything on disk. A change of bytes changes it.
pub(crate) const VERSION: u32 = 1;

/// Bytes of a header page, before the first batch, slot or snapshot.
pub(crate) const PAGE: usize = 4096;

/// [`PAGE`], as a position in a file.
pub(crate) const PAGE_POSITION: u64 = 4096;

/// Batches start at multiples of this, and positions are stored in units of it.
pub(crate) const ALIGNMENT: u64 = 8;

/// Bytes of the longest segment: a batch tells a position in it in 32 bits, by [`ALIGNMENT`].
pub(crate) const MAX_SEGMENT: u64 = 1 << 35;

/// Sequences and numbers of segments stay below: whoever counts on from one comes to no end.
pub(crate) const COUNT_LIMIT: u64 = 1 << 63;

/// Tests that flip each bit flip every so many-th under Miri, where a checksum takes very long.
#[cfg(test)]
const EVERY: usize = if cfg!(miri) { 499 } else { 1 };

/// Why bytes were not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// Not a file of ours, or of another queue, another group, another place.
    #[error("{0}")]
    Foreign(String),
    /// Written by a newer version, or with features that this one does not know.
    #[error("{0}")]
    Newer(String),
    /// Ours, and gone bad.
    #[error("{0}")]
    Damaged(String),
}

/// Computes the plain checksum.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Goes on with the checksum of bytes that come piece by piece; 0 is that of none.
pub(crate) fn checksum_on(sum: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(sum);
    hasher.update(bytes);
    hasher.finalize()
}

/// Computes the checksum seeded with a salt and a position.
pub(crate) fn seeded(salt: u32, position: u64, bytes: &[u8]) -> u32 {
    let mut seed = [0; 12];
    LittleEndian::write_u32(&mut seed[..4], salt);
    if !planted(Plant::PositionLeftOut) {
        LittleEndian::write_u64(&mut seed[4..], position);
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// Rounds up to the next multiple of a power of two.
pub(crate) const fn round_up(length: u64, multiple: u64) -> u64 {
    length.saturating_add(multiple - 1) & !(multiple - 1)
}

/// Tells whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// Reads the `u32` at a place that the caller knows to be there.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    LittleEndian::read_u32(&bytes[at..])
}

/// Reads the `u64` at a place that the caller knows to be there.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    LittleEndian::read_u64(&bytes[at..])
}
