//! Which promised bytes of a sealed segment have gone bad, and which messages went with them? Looks, decides nothing.

use std::sync::Arc;

use super::scan::{self, Expected, Here, Window};
use crate::format::batch::{self, BatchHeader};
use crate::format::manifest::SegmentRow;
use crate::format::{ALIGNMENT, PAGE_POSITION, checksum};
use crate::storage::File;

/// Bytes that do not check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) position: u64,
    pub(crate) length: u64,
    /// The messages in it that cannot be read, in order; of a batch whose other records are good, these alone.
    pub(crate) offsets: Vec<(u64, u64)>,
}

/// What was found in a segment.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) stretches: Vec<Stretch>,
    /// Messages whose records are good.
    pub(crate) messages: u64,
}

impl Survey {
    /// Lists the messages that cannot be read, in order.
    pub(crate) fn lost(&self) -> impl Iterator<Item = (u64, u64)> {
        self.stretches.iter().flat_map(|stretch| stretch.offsets.iter().copied())
    }

    /// Lists what is left of the offsets of a segment.
    pub(crate) fn readable(&self, row: &SegmentRow) -> Vec<(u64, u64)> {
        let mut from = row.base;
        let mut readable = Vec::new();
        for (first, end) in self.lost() {
            readable.push((from, first));
            from = from.max(end);
        }
        readable.push((from, row.end));
        readable.retain(|(first, end)| first < end);
        readable
    }
}

/// Reads a sealed segment from its first batch to its end.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn survey(file: &Arc<dyn File>, row: &SegmentRow) -> std::io::Result<Survey> {
    let mut window = Window::new(file.clone());
    let mut expected = Expected { salt: row.salt, base: row.base, reserved: row.end, limit: row.length };
    let mut found = Survey::default();
    let mut position = PAGE_POSITION;
    while position < row.length {
        let header = match scan::look(&mut window, position, &expected)? {
            Here::Good(header) => {
                found.messages += u64::from(header.messages());
                header
            }
            Here::BadBody(header) => {
                let offsets = bad_records(&mut window, position, &header)?;
                let lost: u64 = offsets.iter().map(|(first, end)| end - first).sum();
                found.messages += u64::from(header.messages()).saturating_sub(lost);
                found.stretches.push(Stretch { position, length: header.length(), offsets });
                header
            }
            Here::Nothing => {
                let next = scan::next_header(&mut window, position + ALIGNMENT, &expected)?;
                let (behind, end) = next.map_or((row.length, row.end), |(at, header)| (at, header.base));
                let offsets = Some((expected.base, end)).filter(|(first, end)| first < end);
                let offsets = offsets.into_iter().collect();
                found.stretches.push(Stretch { position, length: behind - position, offsets });
                position = behind;
                expected.base = end.max(expected.base);
                continue;
            }
        };
        position += header.length();
        expected.base = header.end();
    }
    Ok(found)
}

/// Lists the messages of a batch whose records do not pass their checksums: all, if nobody knows which is which.
fn bad_records(window: &mut Window, position: u64, header: &BatchHeader) -> std::io::Result<Vec<(u64, u64)>> {
    let length = usize::try_from(header.length()).unwrap_or(usize::MAX);
    let body = window.get(position, length)?.get(batch::HEADER..).unwrap_or_default();
    let Some(table) = body.get(..header.table()).filter(|table| header.table_is_good(table)) else {
        return Ok(vec![(header.base, header.end())]);
    };
    let mut bad: Vec<(u64, u64)> = Vec::new();
    let (mut at, mut offset) = (header.table(), header.base);
    for index in 0..header.records {
        let (length, sum) = header.row(table, index);
        let end = at.saturating_add(length as usize);
        let good = body.get(at..end).is_some_and(|record| checksum(record) == sum);
        at = end;
        if index == 0 && header.settles() {
            // No message: what it acks comes again, if no group has it in its files.
            continue;
        }
        match bad.last_mut() {
            _ if good => {}
            Some(last) if last.1 == offset => last.1 += 1,
            _ => bad.push((offset, offset + 1)),
        }
        offset += 1;
    }
    Ok(bad)
}
