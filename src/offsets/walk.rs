//! Which entries of a half count? Pure.

use crate::format::entry::{Entry, Kind, SLOT, SLOT_BYTES};

/// The entries of a half.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Walk {
    pub(super) entries: Vec<Entry>,
    /// Bytes behind the walk's end up to the last entry that was written; 0 if none was. They were
    /// never known durable, and are set aside.
    pub(super) torn: u64,
}

/// An entry that was known durable and does not count any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) position: u64,
    /// Everything below it was known durable.
    pub(super) bound: u64,
}

/// Walks over the entries that begin at `start`, to the first that does not count, and looks behind
/// it for proof that there was one.
pub(super) fn walk(bytes: &[u8], salt: u32, start: u64) -> Result<Walk, Hole> {
    let mut entries = Vec::new();
    let (mut at, mut bound) = (0, 0);
    while let Some((entry, length)) = decode(bytes, salt, start, at) {
        bound = bound.max(marked(&entry));
        entries.push(entry);
        at += length;
    }
    let position = start + at as u64;
    let mut last = position;
    while at + SLOT <= bytes.len() {
        let Some((entry, length)) = decode(bytes, salt, start, at) else {
            at += SLOT;
            continue;
        };
        bound = bound.max(marked(&entry));
        at += length;
        last = start + at as u64;
    }
    if bound > position {
        return Err(Hole { position, bound });
    }
    Ok(Walk { entries, torn: last - position })
}

/// Makes the entry that says that everything before a position was durable.
pub(super) fn mark(durable: u64) -> Entry {
    Entry::new(Kind::OwnMark, durable / SLOT_BYTES)
}

/// Returns up to where an entry says that everything was durable.
fn marked(entry: &Entry) -> u64 {
    if entry.kind == Kind::OwnMark { entry.offset * SLOT_BYTES } else { 0 }
}

fn decode(bytes: &[u8], salt: u32, start: u64, at: usize) -> Option<(Entry, usize)> {
    Entry::decode(bytes.get(at..)?, salt, start + at as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::More;

    const START: u64 = 8192;

    fn entries() -> Vec<Entry> {
        let long = More::Text("x".repeat(100).into());
        let mut entries: Vec<_> = (0..6).map(|offset| Entry::new(Kind::Done, offset)).collect();
        entries[2].more = long;
        entries
    }

    fn lay(entries: &[Entry], room: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in entries {
            entry.encode(7, START + bytes.len() as u64, &mut bytes);
        }
        bytes.resize(bytes.len() + room, 0);
        bytes
    }

    #[test]
    fn entries_are_found_up_to_the_first_empty_slot() {
        let bytes = lay(&entries(), 4096);

        assert_eq!(walk(&bytes, 7, START), Ok(Walk { entries: entries(), torn: 0 }));
        assert_eq!(walk(&bytes, 8, START), Ok(Walk { entries: vec![], torn: 0 }));
    }

    #[test]
    fn a_full_half_ends_with_its_last_slot() {
        let bytes = lay(&entries(), 0);

        assert_eq!(walk(&bytes, 7, START), Ok(Walk { entries: entries(), torn: 0 }));
        assert_eq!(
            walk(&bytes[..bytes.len() - 1], 7, START),
            Ok(Walk { entries: entries()[..5].to_vec(), torn: 0 })
        );
        assert_eq!(walk(&[], 7, START), Ok(Walk { entries: vec![], torn: 0 }));
    }

    #[test]
    fn a_hole_above_every_mark_is_torn_and_one_below_is_damage() {
        for marked in 0..6 {
            let mut all = entries();
            all.push(mark(START + marked * SLOT_BYTES));
            let mut bytes = lay(&all, 512);
            bytes[2 * SLOT + 9] ^= 1;

            let found = walk(&bytes, 7, START);

            let position = START + 2 * SLOT_BYTES;
            if marked <= 2 {
                let torn = Walk { entries: entries()[..2].to_vec(), torn: (5 + 3 + 1) * SLOT_BYTES };
                assert_eq!(found, Ok(torn), "{marked}");
            } else {
                let bound = START + marked * SLOT_BYTES;
                assert_eq!(found, Err(Hole { position, bound }), "{marked}");
            }
        }
    }

    #[test]
    fn a_mark_of_more_than_there_is_is_damage() {
        let mut all = entries();
        all.insert(1, mark(START + 100 * SLOT_BYTES));
        let bytes = lay(&all, 512);

        let found = walk(&bytes, 7, START);

        let position = START + (7 + 4) * SLOT_BYTES;
        assert_eq!(found, Err(Hole { position, bound: START + 100 * SLOT_BYTES }));
    }
}
