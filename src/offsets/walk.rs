//! Which entries of a half count? Pure.

use crate::format::entry::{Entry, Kind, MAX_SLOTS, SLOT, SLOT_BYTES};
use crate::format::is_zero;

/// The entries of a half.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Walk {
    pub(super) entries: Vec<Entry>,
    /// The position behind the last of them.
    pub(super) end: u64,
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
/// it for proof that there was one; `told` is the proof that the manifest has.
pub(super) fn walk(bytes: &[u8], salt: u32, start: u64, told: u64) -> Result<Walk, Hole> {
    let mut entries = Vec::new();
    let mut at = 0;
    while let Some((entry, length)) = decode(bytes, salt, start, at) {
        entries.push(entry);
        at += length;
    }
    let position = start + at as u64;
    let (mut bound, mut last) = (told, position);
    while at + SLOT <= bytes.len() {
        let Some((entry, length)) = decode(bytes, salt, start, at) else {
            at += SLOT;
            continue;
        };
        if entry.kind == Kind::OwnMark {
            // No mark can know about what comes after it.
            bound = bound.max(marked(&entry).min(start + at as u64));
        }
        at += length;
        last = start + at as u64;
    }
    if bound > position {
        return Err(Hole { position, bound });
    }
    if last == position {
        last += hidden(bytes, salt, start, last - start);
    }
    Ok(Walk { entries, end: position, torn: last - position })
}

/// Returns the bytes of a last entry that one bad bit keeps from counting; 0 if there is none. An
/// entry of an earlier use of the half looks as good, but no single bit turns its salt into ours.
fn hidden(bytes: &[u8], salt: u32, start: u64, at: u64) -> u64 {
    let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
    let Some(first) = rest.get(..SLOT).filter(|first| !is_zero(first)) else { return 0 };
    let claimed = ((1 + usize::from(first[5])) * SLOT).min(rest.len());
    let mut entry = rest[..rest.len().min(MAX_SLOTS * SLOT)].to_vec();
    for bit in 0..claimed.min(entry.len()) * 8 {
        entry[bit / 8] ^= 1 << (bit % 8);
        if let Some((_, length)) = Entry::decode(&entry, salt, start + at) {
            return length as u64;
        }
        entry[bit / 8] ^= 1 << (bit % 8);
    }
    0
}

/// Makes the entry that says that everything before a position was durable.
pub(super) fn mark(durable: u64) -> Entry {
    Entry::new(Kind::OwnMark, durable / SLOT_BYTES)
}

fn marked(mark: &Entry) -> u64 {
    mark.offset * SLOT_BYTES
}

fn decode(bytes: &[u8], salt: u32, start: u64, at: usize) -> Option<(Entry, usize)> {
    Entry::decode(bytes.get(at..)?, salt, start + at as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::More;

    const START: u64 = 8192;
    /// Behind six entries, of which one takes five slots.
    const END: u64 = START + (5 + 5) * SLOT_BYTES;

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

        assert_eq!(walk(&bytes, 7, START, 0), Ok(Walk { entries: entries(), end: END, torn: 0 }));
        assert_eq!(walk(&bytes, 8, START, 0), Ok(Walk { entries: vec![], end: START, torn: 0 }));
    }

    #[test]
    fn a_full_half_ends_with_its_last_slot() {
        let bytes = lay(&entries(), 0);

        assert_eq!(walk(&bytes, 7, START, 0), Ok(Walk { entries: entries(), end: END, torn: 0 }));
        assert_eq!(
            walk(&bytes[..bytes.len() - 1], 7, START, 0),
            Ok(Walk { entries: entries()[..5].to_vec(), end: END - SLOT_BYTES, torn: 0 })
        );
        assert_eq!(walk(&[], 7, START, 0), Ok(Walk { entries: vec![], end: START, torn: 0 }));
    }

    #[test]
    fn a_hole_above_every_mark_is_torn_and_one_below_is_damage() {
        for marked in 0..6 {
            let mut all = entries();
            all.push(mark(START + marked * SLOT_BYTES));
            let mut bytes = lay(&all, 512);
            bytes[2 * SLOT + 9] ^= 1;

            let found = walk(&bytes, 7, START, 0);

            let position = START + 2 * SLOT_BYTES;
            if marked <= 2 {
                let torn = (5 + 3 + 1) * SLOT_BYTES;
                let torn = Walk { entries: entries()[..2].to_vec(), end: position, torn };
                assert_eq!(found, Ok(torn), "{marked}");
            } else {
                let bound = START + marked * SLOT_BYTES;
                assert_eq!(found, Err(Hole { position, bound }), "{marked}");
            }
        }
    }

    #[test]
    fn a_mark_that_boasts_is_believed_up_to_its_own_place() {
        let mut all = entries();
        all.insert(1, mark(u64::MAX >> 20));
        let mut bytes = lay(&all, 512);
        bytes[3 * SLOT + 9] ^= 1;

        let found = walk(&bytes, 7, START, 0).unwrap();

        assert_eq!(found.entries.len(), 3);
    }

    #[test]
    fn a_mark_behind_a_hole_proves_nothing_of_what_comes_after_it() {
        let mut all = entries();
        all.push(mark(u64::MAX >> 20));
        let mut bytes = lay(&all, 512);
        bytes[2 * SLOT + 9] ^= 1;

        let found = walk(&bytes, 7, START, 0);

        assert_eq!(found, Err(Hole { position: START + 2 * SLOT_BYTES, bound: END }));
    }

    #[test]
    fn a_last_entry_that_one_bad_bit_hides_was_there() {
        let short = entries()[..2].to_vec();
        for (all, slots) in [(short, 1), (entries()[..3].to_vec(), 5)] {
            let good = lay(&all, 16 * SLOT);
            let last = &good[..good.len() - 16 * SLOT];
            let (from, end) = (last.len() - slots * SLOT, last.len());
            for bit in from * 8..end * 8 {
                let mut bytes = good.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);

                let found = walk(&bytes, 7, START, 0).unwrap();

                assert_eq!(found.entries.len(), all.len() - 1, "bit {bit}");
                assert_eq!(
                    (found.end, found.torn),
                    (START + from as u64, (slots * SLOT) as u64),
                    "bit {bit}"
                );
            }
            // An entry under the salt of an earlier use is as good as none.
            let mut bytes = lay(&all[..all.len() - 1], 0);
            let (position, mut old) = (START + bytes.len() as u64, Vec::new());
            all[all.len() - 1].encode(8, position, &mut old);
            bytes.extend(old);
            let found = walk(&bytes, 7, START, 0).unwrap();
            assert_eq!((found.end, found.torn), (position, 0));
        }
    }

    #[test]
    fn a_hidden_entry_is_found_at_the_very_end_of_a_half() {
        let mut bytes = lay(&entries(), 0);
        let last = bytes.len() - SLOT;
        // It claims more slots than there are.
        bytes[last + 5] ^= 1 << 7;

        let found = walk(&bytes, 7, START, 0).unwrap();

        assert_eq!((found.entries.len(), found.torn), (5, SLOT_BYTES));
    }

    #[test]
    fn what_the_manifest_tells_is_proof_where_the_entries_themselves_have_none_left() {
        let mut bytes = lay(&entries(), 512);
        let last = END - SLOT_BYTES;
        bytes[5 * SLOT..].fill(0);

        let found = |told| walk(&bytes, 7, START, told).map(|walk| walk.end);

        for told in [0, START, START + 2 * SLOT_BYTES] {
            assert_eq!(found(told), Ok(START + 2 * SLOT_BYTES), "{told}");
        }
        assert_eq!(found(END), Err(Hole { position: START + 2 * SLOT_BYTES, bound: END }));
        assert_eq!(walk(&lay(&entries(), 512), 7, START, END).map(|walk| walk.end), Ok(END));
        assert!(last > START);
    }
}
