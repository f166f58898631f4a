//! What lies in the files, piece by piece, and does each pass its checksums?
//!
//! Of whatever is there: it needs no manifest, and reads on behind what has gone bad. Without the lock, without a
//! write; beside an owner it shows what it meets, a write under way included.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::entry::{Entry, HELD, Kind, More};
use crate::format::header::{Fields, Header};
use crate::format::manifest::{GroupRow, SegmentRow, Slot};
use crate::format::{PAGE_POSITION, names};
use crate::manifest;
use crate::offsets::parts::{Parts, parts};
use crate::storage::{Access, Kind as FileKind, Storage, read_up_to};

mod segment;

/// A piece of a file, and whether it is as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Piece {
    /// The file.
    pub path: PathBuf,
    /// Where the piece begins: bytes.
    pub position: u64,
    /// How many bytes it has.
    pub bytes: u64,
    /// What it is: `manifest`, `header`, `slot`, `segment row`, `group row`, `batch`, `record`, `settles`, `snapshot`,
    /// `entry`, `unreadable` (bytes that count as none of these), `leftover` (such bytes behind the end: an earlier
    /// use of the file, or a write that was cut short), `empty` (never written).
    pub what: &'static str,
    /// What is wrong with it; `None`: it passes its checksums.
    pub problem: Option<String>,
    /// What it says, by name.
    pub facts: Vec<(&'static str, Fact)>,
    /// Its bytes, as many as were asked for ([`DumpOptions::content`]).
    pub content: Vec<u8>,
}

/// Something that a piece says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// A count, an offset, a position.
    Number(u64),
    /// Milliseconds since 1970.
    Millis(u64),
    /// Words, or the hexadecimal digits of a number that only names something.
    Text(String),
}

/// What is to be dumped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpOptions {
    segment: Option<u64>,
    headers_only: bool,
    from: u64,
    content: usize,
}

impl DumpOptions {
    /// Starts with everything: the manifest, all segments, all groups.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Dumps one segment only.
    #[must_use]
    pub fn segment(mut self, number: u64) -> Self {
        self.segment = Some(number);
        self
    }

    /// Leaves out the records of batches and the entries of groups. Then bodies are not read.
    #[must_use]
    pub fn headers_only(mut self, only: bool) -> Self {
        self.headers_only = only;
        self
    }

    /// Begins in each segment at the first batch from that byte on.
    #[must_use]
    pub fn from(mut self, position: u64) -> Self {
        self.from = position;
        self
    }

    /// Shows so many bytes of each piece at the most.
    #[must_use]
    pub fn content(mut self, bytes: usize) -> Self {
        self.content = bytes;
        self
    }
}

/// Who is shown the pieces; `false` ends it.
pub(crate) type Show<'a> = &'a mut dyn FnMut(Piece) -> bool;

/// Shows what lies in the files of a queue.
///
/// # Errors
/// [`Error::NotAQueue`] where there is neither a manifest nor a segment, [`Error::Invalid`] for a segment that is
/// not there, and when the disk refuses.
pub(crate) fn dump(storage: &Arc<dyn Storage>, options: &DumpOptions, show: Show<'_>) -> Result<()> {
    let mut failed = None;
    let mut with_content = |piece: Piece| match content(storage, piece, options.content) {
        Ok(piece) => show(piece),
        Err(error) => {
            failed = Some(error);
            false
        }
    };
    pieces(storage, options, &mut with_content)?;
    failed.map_or(Ok(()), Err)
}

/// Adds the bytes of a piece.
fn content(storage: &Arc<dyn Storage>, piece: Piece, most: usize) -> Result<Piece> {
    let name = piece.path.strip_prefix(storage.root()).ok().and_then(|name| name.to_str());
    let Some(name) = name.filter(|_| most > 0 && piece.bytes > 0) else { return Ok(piece) };
    let failed = |error| Error::io("read", &piece.path, error);
    let file = storage.open(name, Access::Read).map_err(failed)?;
    let mut content = vec![0; usize::try_from(piece.bytes).unwrap_or(most).min(most)];
    let got = read_up_to(&*file, &mut content, piece.position).map_err(failed)?;
    content.truncate(got);
    Ok(Piece { content, ..piece })
}

fn pieces(storage: &Arc<dyn Storage>, options: &DumpOptions, show: Show<'_>) -> Result<()> {
    let found = manifest::look(storage);
    let segments = segments(storage, found.is_ok())?;
    if let Some(number) = options.segment.filter(|number| !segments.contains(number)) {
        let there: Vec<String> = segments.iter().map(u64::to_string).collect();
        let what = format!("there is no segment {number}; there are {}", there.join(", "));
        return Err(Error::Invalid { what });
    }
    let slot = found.as_ref().ok().map(|found| &found.slot);
    if options.segment.is_none() && !manifest_pieces(storage, &found, show) {
        return Ok(());
    }
    for number in segments.into_iter().filter(|number| options.segment.is_none_or(|only| only == *number)) {
        let row = slot.and_then(|slot| slot.segments.iter().find(|row| row.number == number));
        let active = slot.filter(|slot| slot.log.segment == number).map_or(0, |slot| slot.log.position);
        let durable = row.map_or(0, |row| row.length.max(active));
        if !segment::pieces(storage, (number, row, durable), options, show)? {
            return Ok(());
        }
    }
    if let Some(found) = found.ok().filter(|_| options.segment.is_none()) {
        for row in &found.slot.groups {
            for half in [0, 1] {
                if !half_pieces(storage, found.queue, (row, half), options, show) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Lists the numbers of the segments that lie there, named or not.
fn segments(storage: &Arc<dyn Storage>, is_queue: bool) -> Result<Vec<u64>> {
    let listed = match storage.list(names::LOG) {
        Ok(listed) => listed,
        Err(error) if is_queue || error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("list", storage.root().join(names::LOG), error));
        }
        Err(_) => {
            let path = storage.root().to_path_buf();
            return Err(Error::NotAQueue { path, found: "neither a MANIFEST nor segments".into() });
        }
    };
    let files = listed.into_iter().filter(|entry| entry.kind == FileKind::File);
    let mut numbers: Vec<u64> = files.filter_map(|entry| names::parse_segment(&entry.name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn manifest_pieces(storage: &Arc<dyn Storage>, found: &Result<manifest::Found>, show: Show<'_>) -> bool {
    let path = storage.root().join(names::MANIFEST);
    let piece = |what, position, bytes| Piece {
        path: path.clone(),
        position,
        bytes,
        what,
        problem: None,
        facts: Vec::new(),
        content: Vec::new(),
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => return show(Piece { problem: Some(error.to_string()), ..piece("manifest", 0, 0) }),
    };
    let header = Piece {
        problem: found.wounded.then(|| "one of two copies of something in this file is bad".into()),
        facts: vec![("queue", hex(found.queue)), ("created", Fact::Millis(found.created))],
        ..piece("header", 0, PAGE_POSITION)
    };
    let [(first, bytes), (second, _)] = found.places();
    let slot = Piece {
        problem: found.behind.then(|| "one of its two copies is an older one".into()),
        facts: slot_facts(&found.slot, second),
        ..piece("slot", first, bytes)
    };
    let segment = |row: &SegmentRow| Piece { facts: row_facts(row), ..piece("segment row", first, bytes) };
    let group = |row: &GroupRow| {
        let GroupRow { name, incarnation, generation, mark, .. } = row;
        let facts = vec![
            ("group", Fact::Text(name.clone())),
            ("incarnation", hex((*incarnation).into())),
            ("generation", Fact::Number(*generation)),
            ("durable", Fact::Number(*mark)),
        ];
        Piece { facts, ..piece("group row", first, bytes) }
    };
    let rows = found.slot.segments.iter().map(segment).chain(found.slot.groups.iter().map(group));
    [header, slot].into_iter().chain(rows).all(show)
}

fn slot_facts(slot: &Slot, copy: u64) -> Vec<(&'static str, Fact)> {
    let log = slot.log;
    vec![
        ("copy", Fact::Number(copy)),
        ("sequence", Fact::Number(slot.sequence)),
        ("closed", Fact::Text(if log.closed { "yes" } else { "no" }.into())),
        ("segment", Fact::Number(log.segment)),
        ("position", Fact::Number(log.position)),
        ("next_offset", Fact::Number(log.next)),
        ("messages", Fact::Number(log.messages)),
        ("reserved", Fact::Number(log.reserved)),
    ]
}

fn row_facts(row: &SegmentRow) -> Vec<(&'static str, Fact)> {
    let state = match row {
        SegmentRow { length: 0, .. } => "active",
        SegmentRow { rewritten: true, .. } => "rewritten",
        _ => "sealed",
    };
    vec![
        ("segment", Fact::Number(row.number)),
        ("state", Fact::Text(state.into())),
        ("base", Fact::Number(row.base)),
        ("end", Fact::Number(row.end)),
        ("messages_before", Fact::Number(row.messages_before)),
        ("length", Fact::Number(row.length)),
        ("salt", salt(row.salt)),
    ]
}

fn half_pieces(
    storage: &Arc<dyn Storage>,
    queue: u128,
    (row, half): (&GroupRow, usize),
    options: &DumpOptions,
    show: Show<'_>,
) -> bool {
    let path = storage.root().join(names::half(&row.name, half));
    let piece = |what, position, bytes| Piece {
        path: path.clone(),
        position,
        bytes,
        what,
        problem: None,
        facts: vec![],
        content: vec![],
    };
    let parts = match parts(&**storage, queue, row, half) {
        Ok(parts) => parts,
        Err(error) => return show(Piece { problem: Some(error.to_string()), ..piece("header", 0, 0) }),
    };
    let mut pieces = vec![half_header(&parts, piece("header", 0, PAGE_POSITION.min(parts.length)))];
    let (problem, facts) = match &parts.snapshot {
        Err(problem) => (Some(problem.clone()), Vec::new()),
        Ok(None) => (None, vec![("used", Fact::Text("never".into()))]),
        Ok(Some(snapshot)) => {
            let reading = snapshot.reading;
            let numbers = [
                ("floor", reading.floor),
                ("head", reading.head),
                ("passed", reading.passed),
                ("done_ranges", snapshot.done.len() as u64),
                ("exceptions", snapshot.exceptions.len() as u64),
                ("waiting", snapshot.waiting.len() as u64),
            ];
            (None, numbers.map(|(name, number)| (name, Fact::Number(number))).to_vec())
        }
    };
    let bytes = if let Ok((Header { fields: Fields::Half { snapshot, .. }, .. }, ..)) = &parts.page {
        *snapshot
    } else {
        0
    };
    pieces.push(Piece { problem, facts, ..piece("snapshot", PAGE_POSITION, bytes) });
    if !options.headers_only {
        let last = parts.slots.iter().rposition(|slot| slot.entry.is_some());
        pieces.extend(parts.slots.iter().enumerate().map(|(index, slot)| match &slot.entry {
            Some(entry) => Piece { facts: entry_facts(entry), ..piece("entry", slot.position, slot.bytes) },
            None if last.is_none_or(|last| last < index) => piece("leftover", slot.position, slot.bytes),
            None => Piece {
                problem: Some("no entry there passes its checksum".into()),
                ..piece("unreadable", slot.position, slot.bytes)
            },
        }));
    }
    pieces.into_iter().all(show)
}

fn half_header(parts: &Parts, piece: Piece) -> Piece {
    let (header, wounded, superseded) = match &parts.page {
        Ok(page) => page,
        Err(problem) => return Piece { problem: Some(problem.clone()), ..piece },
    };
    let mut facts = header_facts(header);
    facts.extend(superseded.map(|by| ("superseded_by", Fact::Number(by))));
    let problem = wounded.then(|| "one of its two copies is bad".into());
    Piece { problem, facts, ..piece }
}

/// Tells what a header page says.
fn header_facts(header: &Header) -> Vec<(&'static str, Fact)> {
    let mut facts = vec![("queue", hex(header.queue)), ("salt", salt(header.salt))];
    facts.push(("created", Fact::Millis(header.created)));
    match &header.fields {
        Fields::Manifest { slot } => facts.push(("slot_bytes", Fact::Number(*slot))),
        Fields::Segment { number, capacity, rewritten } => {
            facts.push(("segment", Fact::Number(*number)));
            facts.push(("capacity", Fact::Number(*capacity)));
            facts.push(("rewritten", Fact::Text(if *rewritten { "yes" } else { "no" }.into())));
        }
        Fields::Half { group, incarnation, generation, snapshot, entries, length } => {
            facts.push(("group", Fact::Text(group.clone())));
            facts.push(("incarnation", hex((*incarnation).into())));
            let numbers = [("generation", generation), ("snapshot_bytes", snapshot)];
            let more = [("entries", entries), ("length", length)];
            facts.extend(numbers.into_iter().chain(more).map(|(name, &number)| (name, Fact::Number(number))));
        }
    }
    facts
}

fn entry_facts(entry: &Entry) -> Vec<(&'static str, Fact)> {
    let mut facts =
        vec![("kind", Fact::Text(entry.kind.word().into())), ("offset", Fact::Number(entry.offset))];
    if let More::Range { end, messages } = &entry.more {
        facts.push(("end", Fact::Number(*end)));
        facts.push(("messages", Fact::Number(*messages)));
    }
    if entry.time > 0 {
        facts.push(("time", Fact::Millis(entry.time)));
    }
    if !matches!(entry.kind, Kind::Aside | Kind::Undeleted) && (entry.failures, entry.losses) != (0, 0) {
        facts.push(("failures", Fact::Number(entry.failures.into())));
        facts.push(("losses", Fact::Number(entry.losses.into())));
    }
    match (entry.kind, entry.lease) {
        (Kind::Lent | Kind::Extended, HELD) => facts.push(("lease", Fact::Text("held".into()))),
        (Kind::Lent | Kind::Extended, lease) => facts.push(("lease_ms", Fact::Number(lease.into()))),
        (Kind::Dead, reason) => facts.push(("reason", Fact::Number(reason.into()))),
        _ => {}
    }
    if entry.delivery != 0 {
        facts.push(("delivery", Fact::Text(format!("{:016x}", entry.delivery))));
    }
    if let More::Text(text) = &entry.more {
        facts.push(("error", Fact::Text(text.to_string())));
    }
    facts
}

fn hex(number: u128) -> Fact {
    Fact::Text(if number > u64::MAX.into() { format!("{number:032x}") } else { format!("{number:016x}") })
}

fn salt(salt: u32) -> Fact {
    Fact::Text(format!("{salt:08x}"))
}
