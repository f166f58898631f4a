//! What lies in a segment, batch by batch?

use std::path::PathBuf;
use std::sync::Arc;

use super::{DumpOptions, Fact, Piece, Show, header_facts, salt};
use crate::error::{Error, Result};
use crate::format::batch::{self, BatchHeader};
use crate::format::header::{self, Fields, FileKind};
use crate::format::manifest::SegmentRow;
use crate::format::{ALIGNMENT, MAX_SEGMENT, PAGE, PAGE_POSITION, checksum, names, record};
use crate::log::scan::{self, Expected, Window};
use crate::offset::Offset;
use crate::storage::{Access, Storage, read_up_to};

/// So far is looked where nobody knows how long the segment was made: sixteen of the usual size.
const UNKNOWN: u64 = 1 << 30;

/// Shows the pieces of a segment, whatever the manifest says of it, with what it knows to be durable; tells whether
/// to go on.
pub(super) fn pieces(
    storage: &Arc<dyn Storage>,
    (number, row, durable): (u64, Option<&SegmentRow>, u64),
    options: &DumpOptions,
    show: Show<'_>,
) -> Result<bool> {
    let path = storage.root().join(names::segment(number));
    let failed = |error| Error::io("read", &path, error);
    let file = storage.open(&names::segment(number), Access::Read).map_err(failed)?;
    let length = file.len().map_err(failed)?;
    let mut page = vec![0; PAGE];
    let got = read_up_to(&*file, &mut page, 0).map_err(failed)?;
    page.truncate(got);
    let read = header::decode(FileKind::Segment, &page);
    let named = Fact::Text(if row.is_some() { "yes" } else { "no" }.into());
    let (problem, mut facts) = match &read {
        Ok(page) => {
            let wounded = page.wounded.then(|| "one of its two copies is bad".to_owned());
            let other = row.filter(|row| row.salt != page.header.salt);
            let other = other.map(|row| format!("the manifest names another segment: salt {:08x}", row.salt));
            (other.or(wounded), header_facts(&page.header))
        }
        // The manifest tells what the batches are checked with.
        Err(problem) => {
            (Some(problem.to_string()), row.map(|row| ("salt", salt(row.salt))).into_iter().collect())
        }
    };
    facts.push(("named", named));
    let bytes = PAGE_POSITION.min(length);
    if !show(Piece {
        path: path.clone(),
        position: 0,
        bytes,
        what: "header",
        problem,
        facts,
        content: Vec::new(),
    }) {
        return Ok(false);
    }
    let capacity = read.as_ref().ok().and_then(|page| match page.header.fields {
        Fields::Segment { capacity, .. } => Some(capacity),
        _ => None,
    });
    let Some(salt) = read.ok().map(|page| page.header.salt).or_else(|| row.map(|row| row.salt)) else {
        return Ok(true);
    };
    // A file can be of any length, and have holes: what lies behind its capacity is no part of it.
    let limit = length.min(capacity.unwrap_or(UNKNOWN)).min(MAX_SEGMENT);
    let mut window = Window::new(file);
    let expected = Expected { salt, base: 0, reserved: Offset::LIMIT, limit };
    let walk = Walk { path: path.clone(), options, show: &mut *show, window: &mut window, expected, durable };
    let on = walk.batches().map_err(failed)?;
    let behind = Piece {
        path: path.clone(),
        position: limit,
        bytes: length - limit,
        what: "leftover",
        problem: Some("it lies behind the segment's end".into()),
        facts: Vec::new(),
        content: Vec::new(),
    };
    Ok(on && (behind.bytes == 0 || show(behind)))
}

struct Walk<'a> {
    path: PathBuf,
    options: &'a DumpOptions,
    show: Show<'a>,
    window: &'a mut Window,
    expected: Expected,
    /// Up to here everything was known durable: the highest mark so far.
    durable: u64,
}

impl Walk<'_> {
    fn batches(mut self) -> std::io::Result<bool> {
        let mut position = PAGE_POSITION;
        let limit = self.expected.limit;
        while position < limit {
            let Some(header) = scan::header(self.window, position, &self.expected)? else {
                let next = scan::next_header(self.window, position + ALIGNMENT, &self.expected)?;
                let behind = next.map_or(limit, |(at, _)| at);
                if behind >= self.options.from && !self.nothing(position, behind, next.is_none())? {
                    return Ok(false);
                }
                position = behind;
                continue;
            };
            let end = position + header.length();
            if end > self.options.from && !self.batch(position, &header)? {
                return Ok(false);
            }
            position = end;
            self.expected.base = header.end();
            self.durable = self.durable.max(header.mark);
        }
        Ok(true)
    }

    fn piece(&self, what: &'static str, position: u64, bytes: u64) -> Piece {
        Piece {
            path: self.path.clone(),
            position,
            bytes,
            what,
            problem: None,
            facts: Vec::new(),
            content: Vec::new(),
        }
    }

    /// Shows bytes among which no batch begins.
    fn nothing(&mut self, position: u64, end: u64, last: bool) -> std::io::Result<bool> {
        let bytes = end - position;
        let piece = if last && self.is_blank(position, end)? {
            self.piece("empty", position, bytes)
        } else if last && position >= self.durable {
            self.piece("leftover", position, bytes)
        } else {
            let problem = Some("no batch there passes its checksum".into());
            Piece { problem, ..self.piece("unreadable", position, bytes) }
        };
        Ok((self.show)(piece))
    }

    fn is_blank(&mut self, mut position: u64, end: u64) -> std::io::Result<bool> {
        const STEP: u64 = 64 << 10;
        while position < end {
            let step = usize::try_from(STEP.min(end - position)).unwrap_or(0);
            if !crate::format::is_zero(self.window.get(position, step)?) {
                return Ok(false);
            }
            position += STEP;
        }
        Ok(true)
    }

    fn batch(&mut self, position: u64, header: &BatchHeader) -> std::io::Result<bool> {
        let facts = vec![
            ("base", Fact::Number(header.base)),
            ("end", Fact::Number(header.end())),
            ("records", Fact::Number(header.records.into())),
            ("time", Fact::Millis(header.time)),
            ("durable", Fact::Number(header.mark)),
            ("attributes", Fact::Text(if header.attributes() { "yes" } else { "no" }.into())),
            ("settles", Fact::Text(if header.settles() { "yes" } else { "no" }.into())),
            ("checksum", Fact::Text(format!("{:08x}", header.body_checksum))),
        ];
        let bytes = header.length();
        let piece = Piece { facts, ..self.piece("batch", position, bytes) };
        if self.options.headers_only {
            return Ok((self.show)(piece));
        }
        // At most `MAX_BODY`, and within the file: the header counts only so.
        let whole = self.window.get(position, usize::try_from(bytes).unwrap_or(usize::MAX))?;
        let body = whole.get(batch::HEADER..).unwrap_or_default().to_vec();
        let end = (header.body as usize).min(body.len());
        let good = header.body_is_good(&body[..end]) && batch::padding_is_good(header, &body[end..]);
        let table = body.get(..header.table()).filter(|table| header.table_is_good(table));
        let problem = match (good, table) {
            (true, _) => None,
            (false, None) => Some("its record table does not pass its checksum".to_owned()),
            (false, Some(_)) => {
                Some("a record, or what lies behind the last, is not as it was written".into())
            }
        };
        if !(self.show)(Piece { problem, ..piece }) {
            return Ok(false);
        }
        let Some(table) = table else { return Ok(true) };
        let mut at = header.table();
        for index in 0..header.records {
            let (length, sum) = header.row(table, index);
            let bytes = body.get(at..at + length as usize).unwrap_or_default();
            let place = position + (batch::HEADER + at) as u64;
            let piece = self.record(header, index, (place, bytes, sum));
            if !(self.show)(piece) {
                return Ok(false);
            }
            at += length as usize;
        }
        Ok(true)
    }

    fn record(&self, header: &BatchHeader, index: u32, (place, bytes, sum): (u64, &[u8], u32)) -> Piece {
        let settles = header.settles() && index == 0;
        let mut piece = self.piece(if settles { "settles" } else { "record" }, place, bytes.len() as u64);
        piece.facts.push(("checksum", Fact::Text(format!("{sum:08x}"))));
        if checksum(bytes) != sum {
            piece.problem = Some("it does not pass its checksum".into());
        }
        if settles {
            let loans = batch::settles(bytes).map_or(0, |rows| rows.len() as u64);
            piece.facts.push(("loans", Fact::Number(loans)));
            return piece;
        }
        let offset = header.base + u64::from(index) - u64::from(header.settles());
        piece.facts.insert(0, ("offset", Fact::Number(offset)));
        if piece.problem.is_none() {
            let Some((list, payload)) = batch::split_record(header.attributes(), bytes) else {
                piece.problem = Some("its attributes do not fit it".into());
                return piece;
            };
            piece.facts.push(("payload_bytes", Fact::Number(payload.len() as u64)));
            let tags: Vec<String> = record::each(list).map(|(tag, _)| tag.to_string()).collect();
            if !tags.is_empty() {
                piece.facts.push(("tags", Fact::Text(tags.join(" "))));
            }
        }
        piece
    }
}
