//! What lies in a stretch of a segment? Looks at bytes, decides nothing.

use std::sync::Arc;

use crate::error::Result;
use crate::format::batch::{self, BatchHeader};
use crate::format::{ALIGNMENT, is_zero, record, round_up};
use crate::storage::{File, read_up_to};

/// Bytes read at a time.
const WINDOW: usize = 256 << 10;

/// A file, seen through a window that moves.
#[derive(Debug)]
pub(crate) struct Window {
    file: Arc<dyn File>,
    start: u64,
    bytes: Vec<u8>,
    /// The file has nothing behind these bytes.
    ends: bool,
}

impl Window {
    pub(crate) fn new(file: Arc<dyn File>) -> Self {
        Self { file, start: 0, bytes: Vec::new(), ends: false }
    }

    /// Returns `length` bytes from `position` on, or as many as the file has.
    ///
    /// The caller has compared `length` with what can be there: it is allocated.
    pub(crate) fn get(&mut self, position: u64, length: usize) -> std::io::Result<&[u8]> {
        // At the end of a file nothing is read again for what it does not have: a scan there would
        // read, and clear, a whole window for every eight bytes.
        let reaches = self.ends || position + length as u64 <= self.start + self.bytes.len() as u64;
        if position < self.start || !reaches {
            self.start = position;
            self.bytes.resize(length.max(WINDOW), 0);
            let got = read_up_to(&*self.file, &mut self.bytes, position)?;
            self.ends = got < self.bytes.len();
            self.bytes.truncate(got);
        }
        let from = usize::try_from(position - self.start).unwrap_or(usize::MAX).min(self.bytes.len());
        Ok(&self.bytes[from..self.bytes.len().min(from + length)])
    }
}

/// What is expected of a batch, beyond what its own bytes say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) salt: u32,
    /// The lowest base: a batch with a lower one was left by a write that failed or was torn.
    pub(crate) base: u64,
    /// No offset from here on was ever given.
    pub(crate) reserved: u64,
    /// The end of the stretch: no batch goes beyond it.
    pub(crate) limit: u64,
}

/// What was found at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    /// A batch, good in every byte.
    Good(BatchHeader),
    /// A good header, and a body that is not.
    BadBody(BatchHeader),
    /// No header that counts here.
    Nothing,
}

/// Looks at one position.
pub(crate) fn look(window: &mut Window, position: u64, expected: &Expected) -> std::io::Result<Here> {
    let Some(header) = header(window, position, expected)? else { return Ok(Here::Nothing) };
    let length = usize::try_from(header.length()).unwrap_or(usize::MAX);
    let bytes = window.get(position, length)?;
    let end = batch::HEADER + header.body as usize;
    let good = bytes.len() == length
        && header.body_is_good(&bytes[batch::HEADER..end])
        && batch::padding_is_good(&header, &bytes[end..]);
    Ok(if good { Here::Good(header) } else { Here::BadBody(header) })
}

/// Reads a header that counts at that position.
pub(crate) fn header(
    window: &mut Window,
    position: u64,
    expected: &Expected,
) -> std::io::Result<Option<BatchHeader>> {
    if position + batch::HEADER as u64 > expected.limit {
        return Ok(None);
    }
    let bytes = window.get(position, batch::HEADER)?;
    Ok(BatchHeader::decode(bytes, expected.salt, position).filter(|header| {
        header.base >= expected.base
            && header.end() <= expected.reserved
            && position + header.length() <= expected.limit
    }))
}

/// Reads what is left of a header that does not count, at a position where a batch was to come.
pub(crate) fn remains(
    window: &mut Window,
    position: u64,
    expected: &Expected,
) -> std::io::Result<Option<BatchHeader>> {
    let room = position + batch::HEADER as u64 <= expected.limit;
    if !room || header(window, position, expected)?.is_some() {
        return Ok(None);
    }
    let bytes = window.get(position, batch::HEADER)?;
    Ok(BatchHeader::remains(bytes, expected.salt, position, &(expected.base..expected.reserved)))
}

/// Returns the next position from `from` on at which a header counts, with it.
pub(crate) fn next_header(
    window: &mut Window,
    from: u64,
    expected: &Expected,
) -> std::io::Result<Option<(u64, BatchHeader)>> {
    const STEP: usize = 4096;
    const PASSED: u64 = 4096 - batch::HEADER as u64 + ALIGNMENT;
    let mut position = round_up(from, ALIGNMENT);
    while position + batch::HEADER as u64 <= expected.limit {
        // Most of what is scanned was never written: pass over it by the page.
        if window.get(position, STEP)?.len() == STEP && is_zero(window.get(position, STEP)?) {
            // Whatever begins in the last bytes of the page would have its flags behind it.
            position += PASSED;
            continue;
        }
        if let Some(header) = header(window, position, expected)? {
            return Ok(Some((position, header)));
        }
        position += ALIGNMENT;
    }
    Ok(None)
}

/// Returns the union of the tags of a good batch's attributes, with bit 0 if it settles.
pub(crate) fn tags(window: &mut Window, position: u64, header: &BatchHeader) -> std::io::Result<u64> {
    let mut tags = batch::settles_bit(header.settles());
    if !header.attributes() {
        return Ok(tags);
    }
    let length = batch::HEADER + header.body as usize;
    let body = &window.get(position, length)?[batch::HEADER..];
    let (table, mut rest) = body.split_at(header.table());
    for index in 0..header.records {
        let (length, _) = header.row(table, index);
        let (bytes, behind) = rest.split_at(length as usize);
        rest = behind;
        if index == 0 && header.settles() {
            continue;
        }
        let list = batch::split_record(true, bytes).map_or(&[][..], |(list, _)| list);
        for (tag, _) in record::parse(list).unwrap_or_default() {
            tags |= tag.bit();
        }
    }
    Ok(tags)
}

/// Shorthand for the engine's error.
pub(crate) fn read_error<T>(path: std::path::PathBuf, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|error| crate::error::Error::io("read", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::batch::{Encoded, Record, Settle, Stamp};
    use crate::format::record::Tag;
    use crate::storage::sim::SimDisk;
    use crate::storage::{Access, Storage};

    /// A scan over bytes that are no batch read the last page of a segment again for every eight of
    /// them, and cleared a quarter of a megabyte each time: two thirds of what an opening took.
    #[test]
    fn issue_4_a_scan_reads_the_end_of_a_file_once() {
        let disk = SimDisk::new(1);
        disk.write_file("segment", &[1; 8192]);
        let mut window = Window::new(disk.open("segment", Access::Read).unwrap());
        let expected = Expected { salt: 7, base: 1, reserved: 100, limit: 8192 };
        let before = disk.reads();

        let found = next_header(&mut window, 0, &expected).unwrap();

        assert_eq!(found, None);
        // The bytes, and that there are no more.
        assert!(disk.reads() - before <= 2, "{} reads", disk.reads() - before);
    }

    fn file(bytes: &[u8]) -> (SimDisk, Arc<dyn File>) {
        let disk = SimDisk::new(1);
        disk.write_file("segment", bytes);
        let file = disk.open("segment", Access::Read).unwrap();
        (disk, file)
    }

    fn expected(limit: usize) -> Expected {
        Expected { salt: 7, base: 1, reserved: 100, limit: limit as u64 }
    }

    fn lay(bytes: &mut [u8], at: usize, encoded: &mut Encoded) -> usize {
        let stamp = Stamp { salt: 7, position: at as u64, base: 1, time: 1, mark: 0 };
        let batch = encoded.stamp(&stamp);
        bytes[at..at + batch.len()].copy_from_slice(batch);
        batch.len()
    }

    fn plain(payload: &[u8]) -> Encoded {
        Encoded::new(&[Record { attributes: &[], payload, tags: 0 }]).unwrap()
    }

    #[test]
    fn a_window_shows_the_bytes_of_the_file_wherever_it_is_moved() {
        let bytes: Vec<u8> = (0..2 * WINDOW + 1000).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let (_disk, file) = file(&bytes);
        let mut window = Window::new(file);
        let places = [0, 8, WINDOW - 8, WINDOW, 5, WINDOW + 8, 2 * WINDOW - 40, 2 * WINDOW + 900, 2 * WINDOW];

        for &at in places.iter().chain(&[2 * WINDOW + 990, 2 * WINDOW + 1000, 3 * WINDOW, WINDOW, 0]) {
            for length in [8, 32, 100, WINDOW + 24] {
                let found = window.get(at as u64, length).unwrap();

                let there = &bytes[at.min(bytes.len())..(at + length).min(bytes.len())];
                assert!(found == there, "{length} bytes at {at}");
            }
        }
    }

    #[test]
    fn a_stretch_that_is_walked_through_is_read_once() {
        let (disk, file) = file(&vec![1; 4 * WINDOW]);
        let mut window = Window::new(file);
        let before = disk.reads();

        for at in (0..4 * WINDOW as u64).step_by(32) {
            window.get(at, 32).unwrap();
        }

        assert_eq!(disk.reads() - before, 4);
    }

    #[test]
    fn a_batch_is_found_wherever_it_begins() {
        const LENGTH: usize = 3 * 4096;
        for at in (0..=LENGTH - 40).step_by(8) {
            let mut bytes = vec![0; LENGTH];
            lay(&mut bytes, at, &mut plain(b"x"));
            let (_disk, file) = file(&bytes);
            let mut window = Window::new(file);
            let mut found = |from: usize| {
                let found = next_header(&mut window, from as u64, &expected(LENGTH)).unwrap();
                found.map(|(at, _)| usize::try_from(at).unwrap())
            };

            for from in [0, at.saturating_sub(4096), at.saturating_sub(7), at] {
                assert_eq!(found(from), Some(at), "from {from}");
            }
            assert_eq!(found(at + 1), None, "{at}");
        }
    }

    #[test]
    fn a_batch_counts_up_to_the_end_of_the_stretch_and_no_further() {
        for payload in [&b""[..], b"x"] {
            let mut bytes = vec![0; 4096];
            let length = lay(&mut bytes, 64, &mut plain(payload));
            let (_disk, file) = file(&bytes);
            let mut window = Window::new(file);
            let end = 64 + length;

            let mut seen = |limit: usize| {
                let here = look(&mut window, 64, &expected(limit)).unwrap();
                let next = next_header(&mut window, 0, &expected(limit)).unwrap();
                assert_eq!(here != Here::Nothing, next.is_some());
                matches!(here, Here::Good(_))
            };

            assert!(seen(end) && seen(end + 1) && !seen(end - 1) && !seen(64 + 31) && !seen(64));
        }
    }

    #[test]
    fn one_bad_bit_makes_a_batch_no_batch_or_a_bad_one() {
        let mut bytes = vec![0; 4096];
        let length = lay(&mut bytes, 64, &mut plain(b"five!"));
        for bit in 0..length * 8 {
            let mut bytes = bytes.clone();
            bytes[64 + bit / 8] ^= 1 << (bit % 8);
            let (_disk, file) = file(&bytes);

            let here = look(&mut Window::new(file), 64, &expected(4096)).unwrap();

            let in_header = bit < 8 * batch::HEADER;
            let as_it_should =
                if in_header { here == Here::Nothing } else { matches!(here, Here::BadBody(_)) };
            assert!(as_it_should, "bit {bit}: {here:?}");
        }
    }

    #[test]
    fn a_file_that_ends_amid_a_batch_has_a_bad_one_there() {
        let mut bytes = vec![0; 4096];
        let length = lay(&mut bytes, 64, &mut plain(b"five!"));
        for end in 64..64 + length {
            let (_disk, file) = file(&bytes[..end]);

            let here = look(&mut Window::new(file), 64, &expected(4096)).unwrap();

            assert_eq!(matches!(here, Here::BadBody(_)), end >= 64 + batch::HEADER, "{end}");
        }
    }

    #[test]
    fn what_remains_of_a_header_is_looked_for_where_there_is_room_and_no_batch() {
        let mut bytes = vec![0; 4096];
        lay(&mut bytes, 4096 - 40, &mut plain(b"x"));
        let there = |bytes: &[u8], limit| {
            let (_disk, file) = file(bytes);
            remains(&mut Window::new(file), 4096 - 40, &expected(limit)).unwrap().is_some()
        };

        assert!(!there(&bytes, 4096), "a good one is no remains");
        bytes[4096 - 40] ^= 1;
        assert!(there(&bytes, 4096) && there(&bytes, 4096 - 8));
        assert!(!there(&bytes, 4096 - 9));
        bytes[4096 - 40..].fill(0);
        assert!(!there(&bytes, 4096));
    }

    #[test]
    fn the_tags_of_a_batch_are_those_of_all_its_messages() {
        let list = |tag| {
            let mut list = Vec::new();
            assert!(record::put(&mut list, tag, b"key"));
            list
        };
        let (kind, key) = (list(Tag::Kind), list(Tag::DedupKey));
        let message = |attributes| Record { attributes, payload: b"payload", tags: 0 };
        let (none, kind, key) = (message(&[]), message(&kind), message(&key));
        // As a list of attributes it would be one kind that is empty: `settles` is no message's.
        let settle = Settle { incarnation: 4 | 7 << 32, offset: 0, delivery: 0 };
        let both = Tag::Kind.bit() | Tag::DedupKey.bit();
        let cases: [(&[Settle], &[Record<'_>], u64); 6] = [
            (&[], &[none], 0),
            (&[], &[kind], Tag::Kind.bit()),
            (&[], &[kind, none, key], both),
            (&[], &[none, key], Tag::DedupKey.bit()),
            (&[settle], &[none, key], Tag::DedupKey.bit() | 1),
            (&[settle], &[none], 1),
        ];
        for (settles, records, tags) in cases {
            let mut bytes = vec![0; 4096];
            lay(&mut bytes, 64, &mut Encoded::with_settles(settles, records).unwrap());
            let (_disk, file) = file(&bytes);
            let mut window = Window::new(file);
            let Here::Good(header) = look(&mut window, 64, &expected(4096)).unwrap() else { panic!() };

            assert_eq!(super::tags(&mut window, 64, &header).unwrap(), tags, "{records:?}");
        }
    }
}
