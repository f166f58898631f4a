//! Under which salt was a batch written, where nobody tells any more?
//!
//! The checksum of a batch's header begins with the salt and the position, and a CRC is linear: each bit of the salt
//! turns the same bits of the checksum over, whatever follows. So every header, a real one or not, fits exactly one
//! salt. One of them proves nothing; neighbours that fit the same one do, up to one in 2³².

use std::array::from_fn;

use super::batch::{BatchHeader, HEADER};
use super::{seeded, u32_at};

/// What each bit of a header's checksum says of the salt.
#[derive(Debug)]
pub(crate) struct Solver {
    inverse: [u32; 32],
}

impl Solver {
    pub(crate) fn new() -> Self {
        let zeros = [0; HEADER - 4];
        let none = seeded(0, 0, &zeros);
        // Which bits of the checksum a bit of the salt turns over, beside that bit.
        let mut rows: [(u32, u32); 32] = from_fn(|bit| (seeded(1 << bit, 0, &zeros) ^ none, 1 << bit));
        for bit in 0..32 {
            let pivot = (bit..32).find(|&row| rows[row].0 >> bit & 1 == 1);
            rows.swap(bit, pivot.expect("bits that go through a CRC can be told from what comes out"));
            let (turned, salt) = rows[bit];
            for (index, row) in rows.iter_mut().enumerate() {
                if index != bit && row.0 >> bit & 1 == 1 {
                    *row = (row.0 ^ turned, row.1 ^ salt);
                }
            }
        }
        Self { inverse: rows.map(|(_, salt)| salt) }
    }

    /// Reads a header, and the salt under which it is one; `None` if it is one under no salt.
    pub(crate) fn solve(&self, bytes: &[u8], position: u64) -> Option<(u32, BatchHeader)> {
        let bytes = bytes.get(..HEADER)?;
        let differs = u32_at(bytes, 0) ^ seeded(0, position, &bytes[4..]);
        let bits = (0..32).filter(|bit| differs >> bit & 1 == 1);
        let salt = bits.fold(0, |salt, bit| salt ^ self.inverse[bit]);
        BatchHeader::decode(bytes, salt, position).map(|header| (salt, header))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        let (base, time) = (41, 1_700_000_000_000);
        BatchHeader { body_checksum: 9, body: 100, mark: 4096, base, time, records: 3, flags: 2 }
    }

    #[test]
    fn the_salt_under_which_a_header_was_written_is_found_exactly() {
        let solver = Solver::new();
        for salt in [0, 1, 7, u32::MAX, 0xDEAD_BEEF].into_iter().chain((0..32).map(|bit| 1 << bit)) {
            for position in [4096, 4104, (1 << 35) - 8] {
                let bytes = header().encode(salt, position);

                assert_eq!(solver.solve(&bytes, position), Some((salt, header())), "{salt:x} {position}");
            }
        }
    }

    #[test]
    fn a_bad_bit_leads_to_another_salt_or_none() {
        let (solver, bytes) = (Solver::new(), header().encode(7, 4096));
        for bit in 0..8 * HEADER {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);

            assert_ne!(solver.solve(&bytes, 4096).map(|(salt, _)| salt), Some(7), "bit {bit}");
        }
        assert_eq!(solver.solve(&[0; HEADER], 4096), None);
        assert_eq!(solver.solve(&bytes[1..], 4096), None);
    }
}
