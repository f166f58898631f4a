//! How do records come to lie in another segment, as they are?
//!
//! A run of neighbours from one batch becomes a batch: each record keeps its bytes and the checksum it was
//! born with, its offset, and the time it was pushed at. What is new is the header, and the table.

use byteorder::{ByteOrder, LittleEndian};

use super::batch::{ATTRIBUTES, BatchHeader, HEADER, ROW};
use super::{ALIGNMENT, PAGE_POSITION, checksum, round_up};

/// Neighbours that were in one batch.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// The offset of the first.
    pub(crate) base: u64,
    pub(crate) time: u64,
    /// Whether each begins with a list of attributes.
    pub(crate) attributes: bool,
    /// Length and checksum of each.
    rows: Vec<(u32, u32)>,
    records: Vec<u8>,
}

impl Run {
    /// Begins a run that has nothing yet.
    pub(crate) fn begin(base: u64, time: u64, attributes: bool) -> Self {
        Self { base, time, attributes, ..Self::default() }
    }

    /// Adds the record of the next offset, which was checked against its checksum.
    pub(crate) fn add(&mut self, record: &[u8], checksum: u32) {
        let length = u32::try_from(record.len()).expect("a body stays below 1 GiB");
        self.rows.push((length, checksum));
        self.records.extend_from_slice(record);
    }

    /// Returns the offset behind the last.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.rows.len() as u64
    }

    /// Returns the bytes of the records.
    pub(crate) fn bytes(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Encodes the batch for a place in a segment.
    pub(crate) fn encode(&self, salt: u32, position: u64) -> Vec<u8> {
        let several = self.rows.len() > 1;
        let mut body =
            Vec::with_capacity(self.records.len() + if several { self.rows.len() * ROW } else { 0 });
        for &(length, checksum) in self.rows.iter().filter(|_| several) {
            let mut row = [0; ROW];
            LittleEndian::write_u32(&mut row, length);
            LittleEndian::write_u32(&mut row[4..], checksum);
            body.extend_from_slice(&row);
        }
        let body_checksum = if several { checksum(&body) } else { self.rows.first().map_or(0, |row| row.1) };
        body.extend_from_slice(&self.records);
        // The source batch had all of these records and a body within the limits.
        let header = BatchHeader {
            body_checksum,
            body: u32::try_from(body.len()).expect("a body stays below 1 GiB"),
            mark: PAGE_POSITION,
            base: self.base,
            time: self.time,
            records: u32::try_from(self.rows.len()).expect("a batch has fewer than 2^24 records"),
            flags: if self.attributes { ATTRIBUTES } else { 0 },
        };
        let length = usize::try_from(round_up((HEADER + body.len()) as u64, ALIGNMENT)).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&header.encode(salt, position));
        bytes.append(&mut body);
        bytes.resize(length, 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::batch::{Encoded, Record, Stamp};

    /// As if just these had been pushed: a rewritten segment is read as any other.
    #[test]
    fn a_run_is_the_batch_that_these_messages_would_have_been() {
        for (count, attributes) in
            [(1, &b""[..]), (3, b""), (1, b"\x04\x01\x00\x00\x09"), (2, b"\x04\x01\x00\x00\x09")]
        {
            let records = vec![Record { attributes, payload: b"payload", tags: 0 }; count];
            let mut expected = Encoded::new(&records).unwrap();
            let stamp = Stamp { salt: 7, position: 4160, base: 50, time: 9, mark: PAGE_POSITION };
            let expected = expected.stamp(&stamp).to_vec();
            let mut run = Run::begin(50, 9, !attributes.is_empty());
            for _ in 0..count {
                let mut record = Vec::new();
                if !attributes.is_empty() {
                    record.extend_from_slice(&u32::try_from(attributes.len()).unwrap().to_le_bytes());
                    record.extend_from_slice(attributes);
                }
                record.extend_from_slice(b"payload");
                run.add(&record, checksum(&record));
            }

            assert_eq!(run.encode(7, 4160), expected, "{count} {attributes:?}");
            assert_eq!(run.end(), 50 + count as u64);
        }
    }
}
