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
    /// The file ends with these bytes.
    ended: bool,
}

impl Window {
    pub(crate) fn new(file: Arc<dyn File>) -> Self {
        Self { file, start: 0, bytes: Vec::new(), ended: false }
    }

    /// Returns `length` bytes from `position` on, or as many as the file has.
    ///
    /// The caller has compared `length` with what can be there: it is allocated.
    pub(crate) fn get(&mut self, position: u64, length: usize) -> std::io::Result<&[u8]> {
        let end = self.start + self.bytes.len() as u64;
        let reaches = position + length as u64 <= end || self.ended && position <= end;
        if position < self.start || !reaches {
            self.start = position;
            self.bytes.resize(length.max(WINDOW), 0);
            let got = read_up_to(&*self.file, &mut self.bytes, position)?;
            self.ended = got < self.bytes.len();
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

/// Returns the union of the tags of a good batch's attributes.
pub(crate) fn tags(window: &mut Window, position: u64, header: &BatchHeader) -> std::io::Result<u64> {
    if !header.attributes() {
        return Ok(0);
    }
    let length = batch::HEADER + header.body as usize;
    let body = &window.get(position, length)?[batch::HEADER..];
    let (table, mut rest) = body.split_at(header.table());
    let mut tags = 0;
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
