//! What holds of every half, whatever its bytes? For fuzzers (feature `testing`).

use super::shape::{PAGE, Shape, page};
use super::walk::{Hole, Walk, walk};
use crate::format::entry::{Entry, SLOT_BYTES};
use crate::format::header::{self, FileKind};
use crate::format::probe;
use crate::format::snapshot::{Snapshot, pack, unpack};

/// Decodes a half as an opening does, and panics where that breaks its word. Returns the snapshot
/// and the entries behind it; `None` if they would not be accepted.
pub(crate) fn half(bytes: &[u8]) -> Option<(Snapshot, Vec<Entry>)> {
    let read = probe::page(FileKind::Half, bytes)?;
    let encoded = page(&read.header, read.superseded);
    let again = header::decode(FileKind::Half, &encoded).expect("what was encoded decodes");
    assert_eq!((again.header, again.superseded), (read.header.clone(), read.superseded));

    let shape = Shape::of(&read.header)?;
    let packed = shape.packed(bytes.len() as u64)?;
    assert!(PAGE + packed <= shape.entries && shape.entries <= shape.length);
    assert!(shape.snapshot <= packed && shape.length <= bytes.len() as u64);
    let [page, sectors, first, length, count] =
        [PAGE, packed, shape.entries, shape.length, shape.snapshot].map(in_file);
    let sections = unpack(read.header.salt, &bytes[page..page + sectors], count)?;
    assert_eq!(unpack(read.header.salt, &pack(read.header.salt, &sections), count).as_ref(), Some(&sections));
    let snapshot = Snapshot::decode(&sections).ok()?;
    let encoded = snapshot.encode();
    assert_eq!(encoded.len(), sections.len(), "sections may stand in another order, and no more");
    assert_eq!(Snapshot::decode(&encoded).as_ref(), Ok(&snapshot));

    let salt = read.header.salt;
    match walk(&bytes[first..length], salt, shape.entries, 0) {
        Ok(walked) => {
            check_walk(&walked, &bytes[first..length], salt, shape.entries);
            Some((snapshot, walked.entries))
        }
        Err(Hole { position, bound }) => {
            assert!(shape.entries <= position && position < bound && bound <= shape.length);
            None
        }
    }
}

fn check_walk(walked: &Walk, bytes: &[u8], salt: u32, start: u64) {
    let mut at = 0;
    for entry in &walked.entries {
        let position = start + at as u64;
        let (decoded, length) = Entry::decode(&bytes[at..], salt, position).expect("a walk makes nothing up");
        assert_eq!(decoded, *entry);
        let mut encoded = Vec::new();
        entry.encode(salt, position, &mut encoded);
        assert!(encoded.len() <= length, "an entry takes what it needs, or zeros more");
        assert_eq!(encoded.len() as u64, entry.slots() as u64 * SLOT_BYTES);
        if encoded.len() == length {
            assert_eq!(encoded, bytes[at..at + length]);
        }
        assert_eq!(Entry::decode(&encoded, salt, position), Some((decoded, encoded.len())));
        at += length;
    }
    assert!(at as u64 + walked.torn <= bytes.len() as u64, "torn bytes lie in the file");
}

fn in_file(length: u64) -> usize {
    usize::try_from(length).expect("no longer than bytes that are there")
}
