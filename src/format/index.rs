//! How does the side file of a sealed segment lie on the disk?
//!
//! It is derived: whoever finds it missing, or not as it should be, makes it anew from the segment.
//! A header and rows in sectors of 512 bytes, each with its own checksum, seeded with the segment's
//! salt and the position:
//!
//! ```text
//!   sector 0     0 8 magic "backlogI" · 8 u32 version · 12 u32 salt of the segment · 16 u128 queue id
//!               32 u64 number of the segment · 40 u64 the segment's length: up to there it tells
//!               48 u64 rows · 56 10 × u64 rows of each priority, from 0 on · 136 zero · 508 u32 checksum
//!   others       0 10 rows of 48 bytes, fewer in the last · zero · 508 u32 checksum
//!
//!   row          0 u48 offset · 6 u32 position of its batch / 8 · 10 u48 time of its batch
//!               16 u48 due, 0: at once · 22 u8 priority · 23 u8 flags: 1 its key is a unique key
//!               24 u64 ordering key, 0: none · 32 u128 dedup or unique key, 0: none
//! ```
//!
//! A message has a row if it has a priority other than 4, a dedup or unique key, or an ordering key.
//! Keys stand as keyed hashes: [`hash`].

use byteorder::{ByteOrder, LittleEndian};

use super::record::{self, Tag};
use super::siphash::siphash;
use super::snapshot::{HIGHEST, NORMAL};
use super::{ALIGNMENT, VERSION, is_zero, seeded, u32_at, u64_at};
use crate::offset::Offset;
use crate::storage::SECTOR;

/// Bytes of a row.
const ROW: usize = 48;
/// Rows in a sector.
pub(crate) const SECTOR_ROWS: usize = 10;
const MAGIC: &[u8; 8] = b"backlogI";
const SUM: usize = SECTOR - 4;
const UNIQUE: u8 = 1;

/// How many priorities there are.
pub(crate) const PRIORITIES: usize = HIGHEST as usize + 1;
/// The tags of which one must be there, or a message has no row.
pub(crate) const INDEXED: u64 = Tag::Priority.bit() | Tag::DedupKey.bit() | Tag::OrderingKey.bit();
/// The tags that a record may have of which only that much is known that it has some.
pub(crate) const PERHAPS: u64 = INDEXED | Tag::Unique.bit();
/// Bytes of the longest key.
pub(crate) const MAX_KEY: usize = 255;

const _: () = assert!(SECTOR_ROWS * ROW <= SUM);

/// What is to be known of a message without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) offset: u64,
    /// Of its batch in its segment.
    pub(crate) position: u64,
    /// Milliseconds since 1970 of the push.
    pub(crate) time: u64,
    /// Milliseconds since 1970, below 2⁴⁸; 0: at once.
    pub(crate) due: u64,
    pub(crate) priority: u8,
    /// Its key is taken as long as the message is not done, and no longer.
    pub(crate) unique: bool,
    /// The hash of its ordering key; 0: it has none.
    pub(crate) ordering: u64,
    /// The hash of its dedup or unique key; 0: it has none.
    pub(crate) dedup: u128,
}

/// Hashes a key, of which `tag` says what kind it is: keys of two kinds never meet. Never 0.
pub(crate) fn hash(queue: u128, tag: Tag, key: &[u8]) -> u128 {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(tag as u8);
    bytes.extend_from_slice(key);
    siphash(queue, &bytes).max(1)
}

/// Hashes an ordering key to 64 bits; never 0.
pub(crate) fn ordering(queue: u128, key: &[u8]) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "any half of a keyed hash is one")]
    let low = hash(queue, Tag::OrderingKey, key) as u64;
    low.max(1)
}

impl Row {
    /// Makes the row of a record's attribute list; place and offset are the caller's to fill in.
    /// `None`: it has nothing that a row is for.
    pub(crate) fn of(queue: u128, list: &[u8]) -> Option<Self> {
        let mut row = Self { priority: NORMAL, ..Self::default() };
        let mut key = None;
        for (tag, value) in record::each(list) {
            match (tag, value) {
                (tag, &[priority]) if tag == Tag::Priority as u8 => {
                    row.priority = if usize::from(priority) < PRIORITIES { priority } else { NORMAL };
                }
                (tag, value) if tag == Tag::Due as u8 => {
                    row.due = record::millis_of(value).min(Offset::LIMIT - 1);
                }
                (tag, value) if tag == Tag::OrderingKey as u8 => row.ordering = ordering(queue, value),
                (tag, value) if tag == Tag::DedupKey as u8 => key = key.or(Some(value)),
                (tag, _) if tag == Tag::Unique as u8 => row.unique = true,
                _ => {}
            }
        }
        let kind = if row.unique { Tag::Unique } else { Tag::DedupKey };
        row.dedup = key.map_or(0, |key| hash(queue, kind, key));
        row.unique &= key.is_some();
        (row.priority != NORMAL || row.ordering != 0 || row.dedup != 0).then_some(row)
    }

    fn encode(&self, out: &mut [u8]) {
        LittleEndian::write_u48(out, self.offset);
        let position = u32::try_from(self.position / ALIGNMENT).expect("a segment stays below 32 GiB");
        LittleEndian::write_u32(&mut out[6..], position);
        LittleEndian::write_u48(&mut out[10..], self.time.min(Offset::LIMIT - 1));
        LittleEndian::write_u48(&mut out[16..], self.due);
        out[22] = self.priority;
        out[23] = if self.unique { UNIQUE } else { 0 };
        LittleEndian::write_u64(&mut out[24..], self.ordering);
        LittleEndian::write_u128(&mut out[32..], self.dedup);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let row = Self {
            offset: LittleEndian::read_u48(bytes),
            position: u64::from(u32_at(bytes, 6)) * ALIGNMENT,
            time: LittleEndian::read_u48(&bytes[10..]),
            due: LittleEndian::read_u48(&bytes[16..]),
            priority: bytes[22],
            unique: bytes[23] & UNIQUE != 0,
            ordering: u64_at(bytes, 24),
            dedup: LittleEndian::read_u128(&bytes[32..]),
        };
        let sound = usize::from(row.priority) < PRIORITIES && bytes[23] & !UNIQUE == 0;
        sound.then_some(row)
    }
}

/// What the first sector says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) queue: u128,
    pub(crate) number: u64,
    pub(crate) salt: u32,
    /// The length of the segment, all of which it tells of.
    pub(crate) covers: u64,
    pub(crate) rows: u64,
    pub(crate) priorities: [u64; PRIORITIES],
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; SECTOR] {
        let mut out = [0; SECTOR];
        out[..8].copy_from_slice(MAGIC);
        LittleEndian::write_u32(&mut out[8..], VERSION);
        LittleEndian::write_u32(&mut out[12..], self.salt);
        LittleEndian::write_u128(&mut out[16..], self.queue);
        LittleEndian::write_u64_into(&[self.number, self.covers, self.rows], &mut out[32..56]);
        LittleEndian::write_u64_into(&self.priorities, &mut out[56..136]);
        seal(out, self.salt, 0)
    }

    /// Decodes the first sector; `None` if it is not that of the segment that `salt` belongs to.
    pub(crate) fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        let bytes = sealed(bytes, salt, 0)?;
        if &bytes[..8] != MAGIC || u32_at(bytes, 8) != VERSION || !is_zero(&bytes[136..SUM]) {
            return None;
        }
        let mut priorities = [0; PRIORITIES];
        LittleEndian::read_u64_into(&bytes[56..136], &mut priorities);
        let head = Self {
            queue: LittleEndian::read_u128(&bytes[16..]),
            number: u64_at(bytes, 32),
            salt: u32_at(bytes, 12),
            covers: u64_at(bytes, 40),
            rows: u64_at(bytes, 48),
            priorities,
        };
        let sum = priorities.iter().try_fold(0u64, |sum, &count| sum.checked_add(count));
        (sum == Some(head.rows) && head.rows <= Offset::LIMIT).then_some(head)
    }

    /// Returns the bytes of the whole file.
    pub(crate) const fn file_bytes(&self) -> u64 {
        (1 + self.rows.div_ceil(SECTOR_ROWS as u64)) * SECTOR as u64
    }
}

/// Returns the position of the sector that a row lies in.
pub(crate) const fn position(row: u64) -> u64 {
    (1 + row / SECTOR_ROWS as u64) * SECTOR as u64
}

/// Encodes the rows of one sector, [`SECTOR_ROWS`] at most.
pub(crate) fn encode(rows: &[Row], salt: u32, position: u64) -> [u8; SECTOR] {
    let mut out = [0; SECTOR];
    for (row, out) in rows.iter().zip(out[..SUM].chunks_exact_mut(ROW)) {
        row.encode(out);
    }
    seal(out, salt, position)
}

/// Decodes one sector, in which `count` rows lie, onto `rows`; `None`, and nothing added, if these
/// bytes are not such a sector.
pub(crate) fn decode(
    bytes: &[u8],
    salt: u32,
    position: u64,
    count: usize,
    rows: &mut Vec<Row>,
) -> Option<()> {
    let bytes = sealed(bytes, salt, position)?;
    let count = count.min(SECTOR_ROWS);
    let before = rows.len();
    rows.extend(bytes[..count * ROW].chunks_exact(ROW).map_while(Row::decode));
    let grows = rows[before..].windows(2).all(|pair| pair[0].offset < pair[1].offset);
    if rows.len() == before + count && grows && is_zero(&bytes[count * ROW..SUM]) {
        return Some(());
    }
    rows.truncate(before);
    None
}

fn seal(mut sector: [u8; SECTOR], salt: u32, position: u64) -> [u8; SECTOR] {
    let sum = seeded(salt, position, &sector[..SUM]);
    LittleEndian::write_u32(&mut sector[SUM..], sum);
    sector
}

fn sealed(bytes: &[u8], salt: u32, position: u64) -> Option<&[u8; SECTOR]> {
    let bytes: &[u8; SECTOR] = bytes.try_into().ok()?;
    (u32_at(bytes, SUM) == seeded(salt, position, &bytes[..SUM])).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::EVERY;

    const SALT: u32 = 7;
    const QUEUE: u128 = 5 << 64 | 3;

    fn rows(count: u64) -> Vec<Row> {
        let row = |at: u64| Row {
            offset: 100 + 3 * at,
            position: 4096 + 64 * at,
            time: 1_700_000_000_000 + at,
            due: if at.is_multiple_of(2) { 0 } else { 1_800_000_000_000 },
            priority: u8::try_from(at % 10).unwrap(),
            unique: at.is_multiple_of(3),
            ordering: at * 77,
            dedup: u128::from(at) << 70 | 9,
        };
        (0..count).map(row).collect()
    }

    fn list(of: &[(Tag, &[u8])]) -> Vec<u8> {
        let mut list = Vec::new();
        assert!(of.iter().all(|(tag, value)| record::put(&mut list, *tag, value)));
        list
    }

    #[test]
    fn rows_read_back() {
        for count in 0..=SECTOR_ROWS {
            let written = rows(count as u64);

            let bytes = encode(&written, SALT, 512);
            let mut read = Vec::new();

            assert_eq!(decode(&bytes, SALT, 512, count, &mut read), Some(()));
            assert_eq!(read, written);
            let others = [(SALT + 1, 512, count), (SALT, 1024, count)];
            for (salt, position, count) in others {
                assert_eq!(decode(&bytes, salt, position, count, &mut read), None);
            }
            if count > 0 {
                assert_eq!(decode(&bytes, SALT, 512, count - 1, &mut read), None, "more than were told");
            }
        }
    }

    #[test]
    fn a_head_reads_back() {
        let head = Head {
            queue: QUEUE,
            number: 42,
            salt: SALT,
            covers: 8192,
            rows: 21,
            priorities: [1, 0, 0, 0, 20, 0, 0, 0, 0, 0],
        };

        assert_eq!(Head::decode(&head.encode(), SALT), Some(head));
        assert_eq!(Head::decode(&head.encode(), SALT + 1), None);
        assert_eq!((head.file_bytes(), position(9), position(10)), (4 * 512, 512, 1024));
        let untrue = Head { rows: 22, ..head };
        assert_eq!(Head::decode(&untrue.encode(), SALT), None, "counts that are not the rows'");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let head = Head { rows: 10, priorities: [1; 10], ..Head::default() }.encode();
        let sector = encode(&rows(10), 0, 512);

        for bit in (0..SECTOR * 8).step_by(EVERY) {
            let flip = |mut bytes: [u8; SECTOR]| {
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            };
            assert_eq!(Head::decode(&flip(head), 0), None, "bit {bit}");
            assert_eq!(decode(&flip(sector), 0, 512, 10, &mut Vec::new()), None, "bit {bit}");
        }
    }

    #[test]
    fn rows_out_of_order_are_no_rows() {
        let mut wrong = rows(3);
        wrong.swap(0, 1);
        let mut read = Vec::new();

        assert_eq!(decode(&encode(&wrong, SALT, 512), SALT, 512, 3, &mut read), None);
        assert_eq!(read, []);
    }

    #[test]
    fn a_message_has_a_row_for_a_priority_or_a_key_and_for_nothing_else() {
        let due = record::millis(9);
        let row = |of: &[(Tag, &[u8])]| Row::of(QUEUE, &list(of));

        assert_eq!(row(&[]), None);
        assert_eq!(row(&[(Tag::Due, &due), (Tag::Kind, b"x"), (Tag::Priority, &[4])]), None);
        assert_eq!(row(&[(Tag::Unique, &[1])]), None, "unique, but nothing to be that by");
        let urgent = row(&[(Tag::Due, &due), (Tag::Priority, &[9])]).unwrap();
        assert_eq!((urgent.priority, urgent.due, urgent.dedup, urgent.ordering), (9, 9, 0, 0));
        assert_eq!(row(&[(Tag::Priority, &[10])]), None, "no such priority");
        let keyed = row(&[(Tag::DedupKey, b"a"), (Tag::OrderingKey, b"a")]).unwrap();
        assert_eq!(keyed.dedup, hash(QUEUE, Tag::DedupKey, b"a"));
        assert_eq!((keyed.ordering, keyed.priority), (ordering(QUEUE, b"a"), NORMAL));
        assert!(!keyed.unique);
    }

    #[test]
    fn a_unique_key_is_another_than_the_same_dedup_key() {
        let dedup = Row::of(QUEUE, &list(&[(Tag::DedupKey, b"a")])).unwrap();
        let unique = Row::of(QUEUE, &list(&[(Tag::DedupKey, b"a"), (Tag::Unique, &[1])])).unwrap();

        assert!(unique.unique);
        assert_ne!(dedup.dedup, unique.dedup);
        assert_ne!(hash(QUEUE + 1, Tag::DedupKey, b"a"), dedup.dedup, "another queue, another hash");
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_are_no_index_and_nothing_panics(bytes: Vec<u8>, count in 0usize..20) {
            assert_eq!(Head::decode(&bytes, SALT), None);
            assert_eq!(decode(&bytes, SALT, 512, count, &mut Vec::new()), None);
            let _ = Row::of(QUEUE, &bytes);
        }

        #[test]
        fn sealed_bytes_never_panic(mut bytes in proptest::collection::vec(0u8.., 512), count in 0usize..20) {
            let mut sector = [0; SECTOR];
            sector.copy_from_slice(&bytes);
            bytes = seal(sector, SALT, 512).to_vec();
            let mut rows = Vec::new();
            if decode(&bytes, SALT, 512, count, &mut rows).is_some() {
                assert_eq!(encode(&rows, SALT, 512), bytes[..]);
            }
            let _ = Head::decode(&seal(sector, SALT, 0), SALT);
        }
    }
}
