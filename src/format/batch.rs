//! How does a batch lie in a segment?
//!
//! A header of 32 bytes, a body, zeros up to the next multiple of 8:
//!
//! ```text
//!      0 u32 checksum of bytes 4..32, seeded with the segment's salt and the batch's position
//!      4 u32 checksum of the record (one record) or of the record table (several), plain
//!      8 u32 bytes of the body, without padding
//!     12 u32 durable mark / 8: how far this segment was known durable when this was written
//!     16 u48 base offset · 22 u48 milliseconds since 1970 · 28 u24 records · 31 u8 flags
//!
//!   flags: 1 always · 2 records have attributes · 4 the first record settles loans
//!   body of one record: the record. Of several: (u32 length, u32 plain checksum) of each, then they.
//! ```
//!
//! A record that settles loans is no message, takes no offset and never has attributes. It has a
//! row of 24 bytes for each loan: u64 incarnation of the group, u64 offset, u64 delivery number.

use std::ops::Range;

use byteorder::{ByteOrder, LittleEndian};

use super::{ALIGNMENT, checksum, round_up, seeded, u32_at, u64_at};
use crate::offset::Offset;
use crate::plant::{Plant, planted};

/// Bytes of a batch's header.
pub(crate) const HEADER: usize = 32;
/// Bytes of a row of the record table.
pub(crate) const ROW: usize = 8;
/// Bytes of a row of the record that settles.
const SETTLE: usize = 24;
/// The most records that a batch can have.
pub(crate) const MAX_RECORDS: usize = (1 << 24) - 1;
/// The longest body.
pub(crate) const MAX_BODY: usize = 1 << 30;

const ALWAYS: u8 = 1;
pub(super) const ATTRIBUTES: u8 = 2;
const SETTLES: u8 = 4;

const _: () = assert!((HEADER as u64).is_multiple_of(ALIGNMENT));

/// What the header of a batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// Of the record (one record) or of the table (several).
    pub(crate) body_checksum: u32,
    /// Bytes, without padding.
    pub(crate) body: u32,
    /// A position in the segment.
    pub(crate) mark: u64,
    pub(crate) base: u64,
    /// Milliseconds since 1970.
    pub(crate) time: u64,
    pub(crate) records: u32,
    pub(crate) flags: u8,
}

impl BatchHeader {
    /// Encodes the header for one place in one segment.
    pub(crate) fn encode(&self, salt: u32, position: u64) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        LittleEndian::write_u32(&mut out[4..], self.body_checksum);
        LittleEndian::write_u32(&mut out[8..], self.body);
        let mark = u32::try_from(self.mark / ALIGNMENT).expect("a segment stays below 32 GiB");
        LittleEndian::write_u32(&mut out[12..], mark);
        LittleEndian::write_u48(&mut out[16..], self.base);
        LittleEndian::write_u48(&mut out[22..], self.time);
        LittleEndian::write_u24(&mut out[28..], self.records);
        out[31] = self.flags | ALWAYS;
        let sum = seeded(salt, position, &out[4..]);
        LittleEndian::write_u32(&mut out, sum);
        out
    }

    /// Decodes a header; `None` if these bytes are not one at this place. Cheap tests come first,
    /// since a scan asks at every eighth byte.
    pub(crate) fn decode(bytes: &[u8], salt: u32, position: u64) -> Option<Self> {
        let bytes: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        let flags = bytes[31];
        if flags & ALWAYS == 0 || flags & !(ALWAYS | ATTRIBUTES | SETTLES) != 0 {
            return None;
        }
        let header = Self::fields(bytes);
        let sound = header.mark <= position
            && header.records > 0
            && header.table() <= header.body as usize
            && header.body as usize <= MAX_BODY
            && header.end() <= Offset::LIMIT;
        let good = || u32_at(bytes, 0) == seeded(salt, position, &bytes[4..]);
        (sound && (good() || planted(Plant::LengthBelieved))).then_some(header)
    }

    /// Reads a header that has gone bad, or was half written, where a batch with a base from `bases`
    /// was to come: its base says so, or all but its base does. Its other fields are hearsay.
    pub(crate) fn remains(bytes: &[u8], salt: u32, position: u64, bases: &Range<u64>) -> Option<Self> {
        let bytes: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        // With every offset given none was to come, and none has a place in 48 bits.
        (bases.start < Offset::LIMIT).then_some(())?;
        let mut first = *bytes;
        LittleEndian::write_u48(&mut first[16..], bases.start);
        let said = Self::fields(bytes);
        // Zeros are no header, whatever the base.
        let by_base = bases.contains(&said.base) && (said.base > 0 || bytes[31] & ALWAYS != 0);
        if by_base { Some(said) } else { Self::decode(&first, salt, position) }
    }

    fn fields(bytes: &[u8; HEADER]) -> Self {
        Self {
            body_checksum: u32_at(bytes, 4),
            body: u32_at(bytes, 8),
            mark: u64::from(u32_at(bytes, 12)) * ALIGNMENT,
            base: LittleEndian::read_u48(&bytes[16..]),
            time: LittleEndian::read_u48(&bytes[22..]),
            records: LittleEndian::read_u24(&bytes[28..]),
            flags: bytes[31] & !ALWAYS,
        }
    }

    /// Returns the bytes from this batch to the next.
    pub(crate) const fn length(&self) -> u64 {
        round_up(HEADER as u64 + self.body as u64, ALIGNMENT)
    }

    /// Returns the bytes of the record table; 0 where one record needs none.
    pub(crate) const fn table(&self) -> usize {
        if self.records == 1 { 0 } else { self.records as usize * ROW }
    }

    /// Tells whether the first record settles loans.
    pub(crate) const fn settles(&self) -> bool {
        self.flags & SETTLES != 0
    }

    /// Tells whether each record begins with attributes; one that settles never does.
    pub(crate) const fn attributes(&self) -> bool {
        self.flags & ATTRIBUTES != 0
    }

    /// Returns how many messages there are: one less than records where the first settles.
    pub(crate) const fn messages(&self) -> u32 {
        if self.settles() { self.records - 1 } else { self.records }
    }

    /// Returns the offset behind the last message.
    pub(crate) const fn end(&self) -> u64 {
        self.base + self.messages() as u64
    }

    /// Checks the record table, given as the first [`Self::table`] bytes of the body: its checksum,
    /// and that the records fill the body.
    pub(crate) fn table_is_good(&self, table: &[u8]) -> bool {
        if self.records == 1 {
            return true;
        }
        let lengths: u64 = table.chunks_exact(ROW).map(|row| u64::from(u32_at(row, 0))).sum();
        table.len() == self.table()
            && checksum(table) == self.body_checksum
            && self.table() as u64 + lengths == u64::from(self.body)
    }

    /// Returns length and checksum of a record, from a table that is good.
    pub(crate) fn row(&self, table: &[u8], index: u32) -> (u32, u32) {
        if self.records == 1 {
            return (self.body, self.body_checksum);
        }
        let at = index as usize * ROW;
        (u32_at(table, at), u32_at(table, at + 4))
    }

    /// Checks all of a body: table and every record.
    pub(crate) fn body_is_good(&self, body: &[u8]) -> bool {
        if body.len() != self.body as usize || !self.table_is_good(&body[..self.table()]) {
            return false;
        }
        let (table, mut rest) = body.split_at(self.table());
        (0..self.records).all(|index| {
            let (length, sum) = self.row(table, index);
            let (record, behind) = rest.split_at(length as usize);
            rest = behind;
            checksum(record) == sum
        })
    }
}

/// Tells whether the bytes between a body and the next batch are zero.
pub(crate) fn padding_is_good(header: &BatchHeader, behind_body: &[u8]) -> bool {
    let padding = header.length() - HEADER as u64 - u64::from(header.body);
    behind_body.len() as u64 >= padding
        && behind_body.iter().take(8).take(usize::try_from(padding).unwrap_or(0)).all(|&b| b == 0)
}

/// One record, before it is encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// A list as `record` encodes it; empty if there are none.
    pub(crate) attributes: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// Which tags the list has: bit `t` for tag `t`.
    pub(crate) tags: u64,
}

/// A loan that a batch acks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settle {
    /// Of the group.
    pub(crate) incarnation: u64,
    pub(crate) offset: u64,
    pub(crate) delivery: u64,
}

/// A batch, encoded but for its header, for which room is left in front.
#[derive(Debug)]
pub(crate) struct Encoded {
    bytes: Vec<u8>,
    body: u32,
    body_checksum: u32,
    records: u32,
    flags: u8,
    /// Bit `t`: some record has an attribute with tag `t`; bit 0: the batch settles.
    pub(crate) tags: u64,
}

/// Where a batch goes, and what is known then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) salt: u32,
    pub(crate) position: u64,
    pub(crate) base: u64,
    pub(crate) time: u64,
    pub(crate) mark: u64,
}

impl Encoded {
    /// Encodes records and their checksums; `None` if they are more than a batch can have. At
    /// least one record is given.
    #[cfg(test)]
    pub(crate) fn new(records: &[Record<'_>]) -> Option<Self> {
        Self::with_settles(&[], records)
    }

    /// Encodes records behind one that settles loans. Either there are loans or records.
    pub(crate) fn with_settles(settles: &[Settle], records: &[Record<'_>]) -> Option<Self> {
        debug_assert!(!settles.is_empty() || !records.is_empty());
        let attributes = records.iter().any(|record| !record.attributes.is_empty());
        let length = |record: &Record<'_>| {
            record.payload.len() + if attributes { 4 + record.attributes.len() } else { 0 }
        };
        let count = records.len() + usize::from(!settles.is_empty());
        let table = if count == 1 { 0 } else { count.checked_mul(ROW)? };
        let body = records
            .iter()
            .try_fold(table, |sum, record| sum.checked_add(length(record)))
            .and_then(|sum| sum.checked_add(settles.len().checked_mul(SETTLE)?))
            .filter(|&body| body <= MAX_BODY && count <= MAX_RECORDS)?;
        let aligned = usize::try_from(round_up((HEADER + body) as u64, ALIGNMENT)).ok()?;
        let mut bytes = Vec::with_capacity(aligned);
        bytes.resize(HEADER + table, 0);
        let mut filler = Filler { bytes, table, row: HEADER, last: 0 };
        if !settles.is_empty() {
            filler.record(|out| put_settles(settles, out));
        }
        for record in records {
            filler.record(|out| put_record(attributes, record, out));
        }
        let Filler { mut bytes, last, .. } = filler;
        let body_checksum = if table > 0 { checksum(&bytes[HEADER..HEADER + table]) } else { last };
        bytes.resize(aligned, 0);
        Some(Self {
            bytes,
            body: known(body),
            body_checksum,
            records: known(count),
            flags: if attributes { ATTRIBUTES } else { 0 } | if settles.is_empty() { 0 } else { SETTLES },
            tags: records.iter().fold(settles_bit(!settles.is_empty()), |tags, record| tags | record.tags),
        })
    }

    /// Returns the bytes from this batch to the next.
    pub(crate) fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Returns how many offsets the batch takes.
    pub(crate) fn messages(&self) -> u32 {
        if self.flags & SETTLES == 0 { self.records } else { self.records - 1 }
    }

    /// Returns the batch as it lies on the disk, once it was stamped.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Fills the header in and returns the batch as it lies on the disk.
    pub(crate) fn stamp(&mut self, stamp: &Stamp) -> &[u8] {
        let header = BatchHeader {
            body_checksum: self.body_checksum,
            body: self.body,
            mark: stamp.mark,
            base: stamp.base,
            time: stamp.time,
            records: self.records,
            flags: self.flags,
        };
        self.bytes[..HEADER].copy_from_slice(&header.encode(stamp.salt, stamp.position));
        &self.bytes
    }
}

/// A batch while its records are put into it.
struct Filler {
    bytes: Vec<u8>,
    /// Bytes of the table; 0 where there is none.
    table: usize,
    /// Where the next row of the table goes.
    row: usize,
    /// Checksum of the last record.
    last: u32,
}

impl Filler {
    /// Puts a record behind those there are, and its length and checksum into the table.
    fn record(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        put(&mut self.bytes);
        self.last = checksum(&self.bytes[start..]);
        if self.table > 0 {
            let length = self.bytes.len() - start;
            LittleEndian::write_u32(&mut self.bytes[self.row..], known(length));
            LittleEndian::write_u32(&mut self.bytes[self.row + 4..], self.last);
            self.row += ROW;
        }
    }
}

/// Returns what a batch adds to a union of tags if it settles: bit 0, for no tag is 0.
pub(crate) const fn settles_bit(settles: bool) -> u64 {
    settles as u64
}

/// Narrows a length within a body, or a count of records: both were checked.
fn known(length: usize) -> u32 {
    u32::try_from(length).expect("a body stays below 1 GiB")
}

fn put_record(attributes: bool, record: &Record<'_>, out: &mut Vec<u8>) {
    if attributes {
        let mut length = [0; 4];
        LittleEndian::write_u32(&mut length, known(record.attributes.len()));
        out.extend_from_slice(&length);
        out.extend_from_slice(record.attributes);
    }
    out.extend_from_slice(record.payload);
}

fn put_settles(settles: &[Settle], out: &mut Vec<u8>) {
    for settle in settles {
        let mut row = [0; SETTLE];
        let words = [settle.incarnation, settle.offset, settle.delivery];
        LittleEndian::write_u64_into(&words, &mut row);
        out.extend_from_slice(&row);
    }
}

/// Cuts a good record that settles into its loans; `None` if it cannot be one.
pub(crate) fn settles(record: &[u8]) -> Option<Vec<Settle>> {
    if record.is_empty() || !record.len().is_multiple_of(SETTLE) {
        return None;
    }
    let row = |row: &[u8]| Settle {
        incarnation: u64_at(row, 0),
        offset: u64_at(row, 8),
        delivery: u64_at(row, 16),
    };
    let settles: Vec<Settle> = record.chunks_exact(SETTLE).map(row).collect();
    settles.iter().all(|settle| settle.offset < Offset::LIMIT).then_some(settles)
}

/// Cuts a good record into its attribute list and its payload; `None` if the list is longer than
/// the record.
pub(crate) fn split_record(attributes: bool, record: &[u8]) -> Option<(&[u8], &[u8])> {
    if !attributes {
        return Some((&[], record));
    }
    if record.len() < 4 {
        return None;
    }
    let length = usize::try_from(u32_at(record, 0)).ok()?;
    record[4..].split_at_checked(length)
}

/// Tells whether nothing was ever written here, as far as a header would reach.
#[cfg(test)]
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    super::is_zero(&bytes[..bytes.len().min(HEADER)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { salt: 7, position: 4096, base: 100, time: 1_700_000_000_000, mark: 4096 };

    fn plain(payload: &[u8]) -> Record<'_> {
        Record { attributes: &[], payload, tags: 0 }
    }

    #[test]
    fn a_batch_of_one_reads_back() {
        let mut encoded = Encoded::new(&[plain(b"hello")]).unwrap();

        let bytes = encoded.stamp(&STAMP).to_vec();
        let header = BatchHeader::decode(&bytes, 7, 4096).unwrap();

        assert_eq!((header.base, header.end(), header.records, header.mark), (100, 101, 1, 4096));
        assert_eq!((bytes.len(), header.length()), (40, 40));
        assert!(header.body_is_good(&bytes[HEADER..HEADER + 5]));
        assert!(padding_is_good(&header, &bytes[HEADER + 5..]));
    }

    #[test]
    fn every_flipped_bit_of_a_batch_is_noticed() {
        let mut encoded = Encoded::new(&[plain(b"one"), plain(b""), plain(b"three")]).unwrap();
        let bytes = encoded.stamp(&STAMP).to_vec();

        for bit in (0..bytes.len() * 8).step_by(crate::format::EVERY) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let good = BatchHeader::decode(&flipped, 7, 4096).is_some_and(|header| {
                let end = HEADER + header.body as usize;
                header.body_is_good(&flipped[HEADER..end]) && padding_is_good(&header, &flipped[end..])
            });
            assert!(!good, "bit {bit} went unnoticed");
        }
    }

    #[test]
    fn a_header_passes_neither_elsewhere_nor_under_another_salt() {
        let mut encoded = Encoded::new(&[plain(b"x")]).unwrap();
        let bytes = encoded.stamp(&STAMP).to_vec();

        for salt in (0..32).map(|bit| 7 ^ (1 << bit)) {
            assert_eq!(BatchHeader::decode(&bytes, salt, 4096), None);
        }
        for position in [4104, 8192, 1 << 30] {
            assert_eq!(BatchHeader::decode(&bytes, 7, position), None);
        }
    }

    #[test]
    fn a_record_that_settles_takes_no_offset_and_no_attributes() {
        let loan = Settle { incarnation: 9, offset: Offset::LIMIT - 1, delivery: u64::MAX };
        let record = Record { attributes: &[5, 1, 0, 0, b'k'], payload: b"out", tags: 1 << 5 };
        let mut alone = Encoded::with_settles(&[loan, loan], &[]).unwrap();
        let mut both = Encoded::with_settles(&[loan], &[record]).unwrap();

        let alone_header = BatchHeader::decode(alone.stamp(&STAMP), 7, 4096).unwrap();
        let both_header = BatchHeader::decode(both.stamp(&STAMP), 7, 4096).unwrap();

        assert_eq!((alone.messages(), alone_header.messages(), alone_header.end()), (0, 0, 100));
        assert_eq!(settles(&alone.bytes[HEADER..HEADER + 48]), Some(vec![loan, loan]));
        assert_eq!((both.messages(), both_header.messages(), both_header.end()), (1, 1, 101));
        assert!(both_header.settles() && both_header.attributes());
        let first = HEADER + 2 * ROW;
        assert_eq!(settles(&both.bytes[first..first + SETTLE]), Some(vec![loan]));
        let (list, payload) = split_record(true, &both.bytes[first + SETTLE..][..12]).unwrap();
        assert_eq!((list, payload), (record.attributes, record.payload));
    }

    #[test]
    fn bytes_that_cannot_settle_are_refused() {
        for record in [vec![], vec![0; 23], vec![0; 25], vec![0xff; 24]] {
            assert_eq!(settles(&record), None, "{record:?}");
        }
    }

    #[test]
    fn a_body_that_is_cut_short_is_refused_and_not_read_beyond() {
        let mut encoded = Encoded::new(&[plain(b"one"), plain(b"two")]).unwrap();
        let bytes = encoded.stamp(&STAMP).to_vec();
        let header = BatchHeader::decode(&bytes, 7, 4096).unwrap();
        let body = &bytes[HEADER..HEADER + header.body as usize];

        assert!(header.body_is_good(body));
        for length in 0..body.len() {
            assert!(!header.body_is_good(&body[..length]), "{length}");
            assert!(!header.table_is_good(&body[..length.min(header.table() - 1)]), "{length}");
        }
    }

    #[test]
    fn zeros_are_no_batch() {
        let zeros = [0; 64];

        assert!((0..1000).all(|salt| BatchHeader::decode(&zeros, salt, 4096).is_none()));
    }
}
