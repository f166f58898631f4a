//! Which loans do the batches of a segment settle? Looks at bytes, decides nothing.

use std::sync::Arc;

use super::recovery::Damage;
use super::scan::{self, Expected, Window};
use crate::format::batch::{self, BatchHeader, Settle};
use crate::format::manifest::SegmentRow;
use crate::format::{ALIGNMENT, PAGE_POSITION, checksum};
use crate::offset::Offset;
use crate::storage::File;

/// A loan that a batch acks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) settle: Settle,
    /// The offset behind the batch's last message.
    pub(crate) end: u64,
}

/// What was found in a segment.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) settled: Vec<Settled>,
    /// Promised bytes that have gone bad: acks may have lain there, and their messages come again.
    pub(crate) damages: Vec<Damage>,
}

/// Reads what settles in the batches of a segment, all of it promised up to `end`, that end behind the
/// offset `from`.
pub(crate) fn read(
    file: &Arc<dyn File>,
    row: &SegmentRow,
    end: u64,
    from: u64,
    found: &mut Found,
) -> std::io::Result<()> {
    let mut window = Window::new(file.clone());
    let (mut position, mut base) = (PAGE_POSITION, row.base);
    while position < end {
        let expected = Expected { salt: row.salt, base, reserved: Offset::LIMIT, limit: end };
        let Some(header) = scan::header(&mut window, position, &expected)? else {
            let next = scan::next_header(&mut window, position + ALIGNMENT, &expected)?;
            let (at, behind) = next.map_or((end, base), |(at, header)| (at, header.base));
            let length = at - position;
            found.damages.push(Damage { position, length, first: base, end: behind, header: true });
            (position, base) = (at, behind);
            continue;
        };
        if header.settles() && header.end() > from {
            match record(&mut window, position, &header)? {
                // Whatever else it names was no loan when the batch was pushed.
                Some(rows) => found.settled.extend(
                    rows.into_iter()
                        .filter(|settle| settle.offset < header.base)
                        .map(|settle| Settled { settle, end: header.end() }),
                ),
                None => found.damages.push(Damage {
                    position,
                    length: header.length(),
                    first: header.base,
                    end: header.end(),
                    header: false,
                }),
            }
        }
        base = header.end();
        position += header.length();
    }
    Ok(())
}

/// Reads the record that settles, of a batch whose header is good; `None` if it has gone bad.
fn record(window: &mut Window, position: u64, header: &BatchHeader) -> std::io::Result<Option<Vec<Settle>>> {
    // The header ends the batch within the stretch, so all of these lengths are of bytes that are there.
    let front = batch::HEADER + header.table();
    let bytes = window.get(position, front)?;
    let Some(table) = bytes.get(batch::HEADER..front).filter(|table| header.table_is_good(table)) else {
        return Ok(None);
    };
    let (length, sum) = header.row(table, 0);
    let whole = front + length as usize;
    let bytes = window.get(position, whole)?;
    let good = bytes.get(front..whole).filter(|record| checksum(record) == sum);
    Ok(good.and_then(batch::settles))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::batch::{Encoded, Record, Stamp};
    use crate::storage::sim::SimDisk;
    use crate::storage::{Access, Storage};

    const SALT: u32 = 7;

    fn loan(offset: u64) -> Settle {
        Settle { incarnation: 1, offset, delivery: 5 << 32 | offset }
    }

    /// Batches of one message each from offset 10 on, that settle these offsets; and where each begins.
    fn segment(settled: &[&[u64]]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut begins) = (vec![0; 4096], Vec::new());
        for (base, offsets) in (10..).zip(settled) {
            let loans: Vec<Settle> = offsets.iter().map(|&offset| loan(offset)).collect();
            let output = Record { attributes: &[], payload: b"output", tags: 0 };
            let mut batch = Encoded::with_settles(&loans, &[output]).unwrap();
            let position = bytes.len() as u64;
            begins.push(bytes.len());
            bytes.extend_from_slice(batch.stamp(&Stamp { salt: SALT, position, base, time: 1, mark: 0 }));
        }
        (bytes, begins)
    }

    /// Offsets with the ends of their batches, and damaged stretches.
    type Told = (Vec<(u64, u64)>, Vec<(u64, u64, bool)>);

    fn found(bytes: &[u8], from: u64) -> Told {
        let disk = SimDisk::new(1);
        disk.write_file("segment", bytes);
        let file = disk.open("segment", Access::Read).unwrap();
        let row = SegmentRow { base: 10, salt: SALT, ..SegmentRow::default() };
        let mut found = Found::default();
        read(&file, &row, bytes.len() as u64, from, &mut found).unwrap();
        let settled = found.settled.iter().map(|one| (one.settle.offset, one.end)).collect();
        (settled, found.damages.iter().map(|one| (one.first, one.end, one.header)).collect())
    }

    #[test]
    fn settles_are_those_of_the_batches_that_end_behind_an_offset() {
        let (bytes, _) = segment(&[&[3], &[], &[4, 5], &[6]]);

        assert_eq!(found(&bytes, 0), (vec![(3, 11), (4, 13), (5, 13), (6, 14)], vec![]));
        assert_eq!(found(&bytes, 11).0, [(4, 13), (5, 13), (6, 14)]);
        assert_eq!(found(&bytes, 13).0, [(6, 14)]);
        assert_eq!(found(&bytes, 14).0, []);
    }

    #[test]
    fn a_batch_settles_no_message_that_was_pushed_with_it_or_later() {
        let (bytes, _) = segment(&[&[9, 10, 99]]);

        assert_eq!(found(&bytes, 0), (vec![(9, 11)], vec![]));
    }

    #[test]
    fn every_flipped_bit_of_an_ack_is_damage_and_the_others_are_found() {
        let (bytes, begins) = segment(&[&[3], &[4], &[5]]);
        // The header, the table, and the record that settles.
        for bit in 0..8 * (32 + 16 + 24) {
            let mut bytes = bytes.clone();
            bytes[begins[1] + bit / 8] ^= 1 << (bit % 8);

            let (settled, damages) = found(&bytes, 0);

            let header = bit < 8 * 32;
            assert_eq!((settled, damages), (vec![(3, 11), (5, 13)], vec![(11, 12, header)]), "bit {bit}");
        }
    }

    #[test]
    fn damage_at_the_end_of_a_segment_ends_the_reading() {
        let (mut bytes, begins) = segment(&[&[3], &[4]]);
        bytes[begins[1]] ^= 1;

        assert_eq!(found(&bytes, 0), (vec![(3, 11)], vec![(11, 11, true)]));
    }
}
