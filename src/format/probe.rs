//! What holds of every decoder, whatever the bytes? For fuzzers (feature `testing`).
//!
//! Each function takes bytes as a disk may give them and panics where a decoder breaks its word:
//! what is accepted encodes back to what was read, and names nothing outside of it. It returns
//! whether anything was accepted.

use super::batch::{self, BatchHeader};
use super::header::{self, COPIES, COPY, Fields, FileKind};
use super::manifest::{Slot, position};
use super::{PAGE_POSITION, names, record};
use crate::offset::Offset;

/// The salt of the segment that batches are taken to lie in.
pub(super) const SALT: u32 = 7;

/// Decodes a batch that begins at byte 4096 of a segment with salt 7.
///
/// # Panics
/// When what was decoded is not what lies there.
#[must_use]
pub fn batch(bytes: &[u8]) -> bool {
    let bases = 100..Offset::LIMIT;
    if let Some(remains) = BatchHeader::remains(bytes, SALT, PAGE_POSITION, &bases) {
        assert!(remains.mark / 8 <= u64::from(u32::MAX) && remains.records < 1 << 24);
    }
    let Some(header) = BatchHeader::decode(bytes, SALT, PAGE_POSITION) else { return false };
    assert_eq!(header.encode(SALT, PAGE_POSITION), bytes[..batch::HEADER], "{header:?}");
    assert!(header.end() <= Offset::LIMIT && header.messages() <= header.records);
    assert!(header.length() >= (batch::HEADER + header.body as usize) as u64);
    assert!(BatchHeader::decode(bytes, SALT + 1, PAGE_POSITION).is_none(), "another salt");
    assert!(BatchHeader::decode(bytes, SALT, PAGE_POSITION + 8).is_none(), "another position");

    let behind = &bytes[batch::HEADER..];
    let Some(body) = behind.get(..header.body as usize) else {
        assert!(!header.body_is_good(behind));
        return false;
    };
    let _ = batch::padding_is_good(&header, &behind[body.len()..]);
    if !header.body_is_good(body) {
        return false;
    }
    let (table, mut rest) = body.split_at(header.table());
    for index in 0..header.records {
        let (length, _) = header.row(table, index);
        let (bytes, behind) = rest.split_at(length as usize);
        rest = behind;
        if index == 0 && header.settles() {
            let settles = batch::settles(bytes).unwrap_or_default();
            assert!(settles.iter().all(|settle| settle.offset < Offset::LIMIT));
        } else if let Some((list, payload)) = batch::split_record(header.attributes(), bytes) {
            let head = if header.attributes() { 4 } else { 0 };
            assert_eq!(head + list.len() + payload.len(), bytes.len());
            let known = record::parse(list).unwrap_or_default();
            assert!(known.iter().map(|(_, value)| value.len() + 4).sum::<usize>() <= list.len());
        }
    }
    assert!(rest.is_empty(), "records fill the body");
    true
}

/// Decodes the header page of a segment.
///
/// # Panics
/// When what was decoded is not what lies there.
#[must_use]
pub fn segment_header(bytes: &[u8]) -> bool {
    page(FileKind::Segment, bytes).is_some()
}

/// Decodes a header page, and holds it against its bytes.
pub(crate) fn page(kind: FileKind, bytes: &[u8]) -> Option<header::Page> {
    let page = header::decode(kind, bytes).ok()?;
    let encoded = page.header.encode();
    let same = |at: &usize| bytes[*at..at + COPY] == encoded[*at..at + COPY];
    // With one copy bad, or of a switch that was cut short, the other is the one that counts.
    assert!(COPIES.iter().any(same), "neither copy is what was read: {page:?}");
    assert!(page.wounded || COPIES.iter().all(same), "{page:?}");
    assert_eq!(page.header.features.required, 0);
    let again = header::decode(kind, &encoded).expect("what was encoded decodes");
    assert_eq!((again.header, again.wounded, again.superseded), (page.header.clone(), false, None));
    if let Fields::Half { group, .. } = &page.header.fields {
        assert!(names::is_group(group));
    }
    Some(page)
}

/// Decodes a manifest: its header page and the four copies of slots behind it, of the length that
/// the page tells where there are so many bytes.
///
/// # Panics
/// When what was decoded is not what lies there.
#[must_use]
pub fn manifest(bytes: &[u8]) -> bool {
    let Some(page) = page(FileKind::Manifest, bytes) else { return false };
    let Fields::Manifest { slot: slot_bytes } = page.header.fields else {
        unreachable!("a page of another kind was refused");
    };
    let mut good = false;
    for (sequence, copy) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let at = position(sequence, copy, slot_bytes);
        let Some(lies) = lies(bytes, at, slot_bytes) else { continue };
        let Ok(slot) = Slot::decode(page.header.queue, at, lies) else { continue };
        check_slot(&slot, page.header.queue, slot_bytes);
        good = true;
    }
    good
}

fn check_slot(slot: &Slot, queue: u128, slot_bytes: u64) {
    let both = slot.encode(queue, slot_bytes).expect("what lay in a slot fits it");
    let (first, second) = both.split_at(both.len() / 2);
    for (copy, encoded) in [(0, first), (1, second)] {
        let at = position(slot.sequence, copy, slot_bytes);
        assert_eq!(Slot::decode(queue, at, encoded).as_ref(), Ok(slot));
    }
    assert!(slot.groups.iter().all(|row| names::is_group(&row.name)));
    assert!(slot.segments.iter().all(|row| row.base <= Offset::LIMIT));
    assert_eq!(slot.segments.last().map(|row| row.number), Some(slot.log.segment));
}

/// Returns a stretch of a file, as far as there are bytes.
fn lies(bytes: &[u8], at: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(at).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
}
