//! Where in a half does what lie, and how does its header page say so? Pure.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::format::header::{self, Features, Fields, Header};
use crate::format::manifest::GroupRow;
use crate::format::{Malformed, PAGE_POSITION, entry, round_up, snapshot};

/// The least room for entries.
pub(super) const LEAST_ROOM: u64 = 64 << 10;
/// Halves are as long as a multiple of this, and entries begin at one: mappings need it.
pub(super) const PAGE: u64 = PAGE_POSITION;

/// The parts of a half, as its header tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) generation: u64,
    /// Bytes of the snapshot, before it is cut into sectors.
    pub(super) snapshot: u64,
    /// Position of the first entry.
    pub(super) entries: u64,
    /// Bytes that were written; the file may be longer.
    pub(super) length: u64,
}

impl Shape {
    /// Lays out a half that has nothing but its header page.
    pub(super) const fn empty(length: u64) -> Self {
        Self { generation: 0, snapshot: 0, entries: PAGE, length }
    }

    /// Reads the shape from a header; `None` if that is no half's.
    pub(super) fn of(header: &Header) -> Option<Self> {
        match header.fields {
            Fields::Half { generation, snapshot, entries, length, .. } => {
                Some(Self { generation, snapshot, entries, length })
            }
            Fields::Manifest { .. } | Fields::Segment { .. } => None,
        }
    }

    /// Returns the bytes of the snapshot as it lies in sectors; `None` if the parts do not fit into
    /// each other, or into a file of that length. Lengths are acted on after this only.
    pub(super) fn packed(&self, file_len: u64) -> Option<u64> {
        if self.length > file_len || self.snapshot == 0 || self.snapshot > self.length {
            return None;
        }
        let packed = snapshot::packed_len(self.snapshot);
        let fits = PAGE + packed <= self.entries
            && self.entries <= self.length
            && self.entries.is_multiple_of(entry::SLOT_BYTES);
        fits.then_some(packed)
    }
}

/// Returns where entries begin behind a snapshot of so many bytes.
pub(super) const fn entries_at(snapshot_bytes: u64) -> u64 {
    round_up(PAGE + snapshot::packed_len(snapshot_bytes), PAGE)
}

/// Returns how long a half is to be for a snapshot, with `want` bytes of entries behind it.
pub(super) fn length_for(snapshot_bytes: u64, want: u64) -> u64 {
    let room = want.max(2 * snapshot::packed_len(snapshot_bytes)).max(LEAST_ROOM);
    // A wish beyond all files is cut to one that fails as a full disk does, instead of overflowing.
    round_up(entries_at(snapshot_bytes).saturating_add(room).min(1 << 62), PAGE)
}

/// Which group of which queue a half belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) queue: u128,
    pub(super) name: String,
    pub(super) incarnation: u64,
}

impl Owner {
    pub(super) fn of(queue: u128, row: &GroupRow) -> Self {
        Self { queue, name: row.name.clone(), incarnation: row.incarnation }
    }

    /// Makes the header of a half.
    pub(super) fn header(&self, salt: u32, created: u64, shape: Shape) -> Header {
        let Shape { generation, snapshot, entries, length } = shape;
        let (group, incarnation) = (self.name.clone(), self.incarnation);
        let fields = Fields::Half { group, incarnation, generation, snapshot, entries, length };
        Header { queue: self.queue, salt, created, features: Features::default(), fields }
    }

    /// Says what is foreign about a header; `None` if nothing is.
    pub(super) fn foreign(&self, header: &Header) -> Option<String> {
        let Fields::Half { group, incarnation, .. } = &header.fields else {
            return Some("is no half of an offset file".into());
        };
        if header.queue != self.queue {
            let (expected, found) = (self.queue, header.queue);
            return Some(format!(
                "belongs to another queue: expected id {expected:032x}, found {found:032x}"
            ));
        }
        if *group != self.name {
            return Some(format!("belongs to the group {group:?}"));
        }
        let expected = self.incarnation;
        (*incarnation != expected).then(|| {
            format!(
                "belongs to an earlier group of the same name: expected incarnation {expected:016x}, found {incarnation:016x}"
            )
        })
    }
}

/// Encodes a header page, with both sectors that say what supersedes the half.
pub(super) fn page(header: &Header, superseded: Option<u64>) -> Vec<u8> {
    let mut page = header.encode();
    if let Some(by) = superseded {
        for at in header::SUPERSEDED {
            let sector = header::encode_superseded(header.salt, at, by);
            page[at..at + sector.len()].copy_from_slice(&sector);
        }
    }
    page
}

/// Turns bytes that were not accepted into the error that names their file.
pub(super) fn not_accepted(path: PathBuf, position: u64, malformed: Malformed) -> Error {
    match malformed {
        Malformed::Foreign(problem) => Error::Refused { path, problem: format!("is foreign: {problem}") },
        Malformed::Newer(problem) => Error::Version { path, problem },
        Malformed::Damaged(problem) => Error::Damaged { path, position, offsets: None, problem },
    }
}

/// Converts a length that was checked against a file to one in memory.
pub(super) fn in_memory(length: u64) -> Result<usize> {
    usize::try_from(length).map_err(|_| Error::Invalid {
        what: format!("{length} bytes are more than this machine can address"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    #[test]
    fn parts_that_do_not_fit_into_each_other_are_not_acted_on() {
        let packed = snapshot::packed_len(1000);
        let sound = Shape { generation: 1, snapshot: 1000, entries: 8 * KIB, length: 72 * KIB };
        assert_eq!(sound.packed(72 * KIB), Some(packed));
        assert_eq!(sound.packed(73 * KIB), Some(packed));
        // No room for entries is room for none.
        assert_eq!(Shape { length: 8 * KIB, ..sound }.packed(8 * KIB), Some(packed));
        // Entries may begin right behind the snapshot.
        assert_eq!(Shape { entries: PAGE + packed, ..sound }.packed(72 * KIB), Some(packed));

        for wrong in [
            Shape { snapshot: 0, ..sound },
            Shape { snapshot: 5 * KIB, ..sound },
            Shape { snapshot: u64::MAX, ..sound },
            Shape { entries: PAGE + packed - entry::SLOT_BYTES, ..sound },
            Shape { entries: 8 * KIB + 8, ..sound },
            Shape { entries: 76 * KIB, ..sound },
        ] {
            assert_eq!(wrong.packed(72 * KIB), None, "{wrong:?}");
        }
        assert_eq!(sound.packed(72 * KIB - 1), None);
    }

    #[test]
    fn a_half_has_room_for_what_is_wished_and_for_entries_of_twice_its_snapshot() {
        for snapshot in [1, 400, 100 * KIB, 10_000 * KIB] {
            for want in [0, 1, 64 * KIB, 300 * KIB] {
                let room = length_for(snapshot, want) - entries_at(snapshot);
                let least = want.max(LEAST_ROOM).max(2 * snapshot);
                assert!(room >= least && room <= least + least / 50 + 2 * PAGE, "{snapshot} {want}: {room}");
            }
        }
        // A wish beyond all files fails as a full disk does.
        assert!(length_for(1, u64::MAX) >= 1 << 62);
    }
}
