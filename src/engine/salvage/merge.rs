//! Which records are good, in the order of their offsets, each once?
//!
//! Every file has its batches in offset order; several can have the same offsets: a copy and its sources, or a file
//! that lies there twice. The next record is always of the file that has the lowest offset next, and one that does
//! not pass its checksum there may be good elsewhere. A few windows are open at a time: going on in another file costs a
//! read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::lenient::Lenient;
use super::report::Salvaged;
use super::source::Source;
use crate::error::Result;
use crate::format::batch::{self, BatchHeader, Settle};
use crate::format::{ALIGNMENT, PAGE_POSITION, checksum, is_zero};
use crate::inspect::{Finding, FindingKind, Progress};
use crate::log::scan::{self, Expected, Window};
use crate::offset::Offset;
use crate::storage::{Access, Storage};

/// Files that are open at a time.
const OPEN: usize = 8;
/// A body that has more bytes is in memory alone.
const LARGE: usize = 1 << 20;

/// A record that passes its checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) offset: u64,
    pub(super) time: u64,
    /// Whether it begins with a list of attributes.
    pub(super) attributes: bool,
    pub(super) bytes: &'a [u8],
    pub(super) checksum: u32,
    /// Which file it is of, and where its batch begins.
    pub(super) batch: (usize, u64),
}

/// Who is given what was read.
pub(super) trait Sink {
    /// Takes the next record; between it and the one before it there is none.
    ///
    /// # Errors
    /// Ends the reading.
    fn record(&mut self, record: &Record<'_>) -> Result<()>;

    /// Takes loans that a batch acks which ends at an offset.
    fn settles(&mut self, rows: &[Settle], end: u64);
}

/// Files that are read together.
pub(super) struct Merge<'a> {
    storage: &'a Arc<dyn Storage>,
    files: Vec<Walk>,
    /// The offset at which each file goes on, unless it is at its end.
    order: BinaryHeap<Reverse<(u64, usize)>>,
    /// The files that were read last, the very last one at the end.
    open: Vec<Open>,
    report: &'a mut Salvaged,
    progress: &'a mut dyn FnMut(Progress),
    told: Progress,
    /// The offset behind the last record.
    next: u64,
    /// The offset behind everything that any header names.
    pub(super) seen: u64,
}

/// How far a file was read.
struct Walk {
    source: Source,
    position: u64,
    /// No batch that counts from here on has a lower base.
    base: u64,
    durable: u64,
    /// The batch that is being read.
    batch: Option<Batch>,
}

/// How far a batch was read: the next record, and where in the body it lies.
#[derive(Clone, Copy)]
struct Batch {
    header: BatchHeader,
    record: u32,
    at: usize,
}

/// A file that is open.
struct Open {
    index: usize,
    file: Arc<Lenient>,
    window: Window,
    /// A body that was read, and where its batch begins.
    body: Option<(u64, Vec<u8>)>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(
        storage: &'a Arc<dyn Storage>,
        files: Vec<Source>,
        report: &'a mut Salvaged,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let total = files.iter().map(|source| source.limit.saturating_sub(PAGE_POSITION)).sum();
        let walk = |source: Source| {
            let (base, durable) = (source.base, source.durable);
            Walk { source, position: PAGE_POSITION, base, durable, batch: None }
        };
        let files: Vec<Walk> = files.into_iter().map(walk).collect();
        let told = Progress { done: 0, total };
        let (order, open) = (BinaryHeap::new(), Vec::new());
        Self { storage, files, order, open, report, progress, told, next: 0, seen: 0 }
    }

    /// Gives all records to `sink`.
    ///
    /// # Errors
    /// As the sink says. What cannot be read is found, no error.
    pub(super) fn read(&mut self, sink: &mut dyn Sink) -> Result<()> {
        for index in 0..self.files.len() {
            self.advance(index);
        }
        while let Some(Reverse((_, index))) = self.order.pop() {
            self.batch(index, sink)?;
        }
        Ok(())
    }

    /// Tells of a failure to read a file, which ends it.
    fn give_up(&mut self, index: usize, error: &std::io::Error) {
        let walk = &mut self.files[index];
        walk.batch = None;
        let what = format!("cannot read it: {error}");
        let finding = Finding::new(FindingKind::Unreadable, walk.source.path.clone(), what);
        self.report.found(finding.at(walk.position));
    }

    /// Goes to the next batch of a file.
    fn advance(&mut self, index: usize) {
        match self.next_batch(index) {
            Ok(Some(header)) => {
                self.files[index].batch = Some(Batch { header, record: 0, at: header.table() });
                self.seen = self.seen.max(header.end());
                self.order.push(Reverse((header.base, index)));
            }
            Ok(None) => self.close(index),
            Err(error) => self.give_up(index, &error),
        }
    }

    /// Ends a file.
    fn close(&mut self, index: usize) {
        self.files[index].batch = None;
        if let Some(at) = self.open.iter().position(|open| open.index == index) {
            let open = self.open.remove(at);
            self.shut(&open);
        }
    }

    /// Tells what the device could not read of a file while it was open.
    fn shut(&mut self, open: &Open) {
        let Some(position) = open.file.bad() else { return };
        let path = self.files[open.index].source.path.clone();
        let what = "the device cannot read it from there on, at least in part";
        self.report.found(Finding::new(FindingKind::Unreadable, path, what).at(position));
    }

    fn open(&mut self, index: usize) -> std::io::Result<&mut Open> {
        if let Some(at) = self.open.iter().position(|open| open.index == index) {
            self.open[at..].rotate_left(1);
        } else {
            let file = self.storage.open(&self.files[index].source.name, Access::Read)?;
            let file = Arc::new(Lenient::new(file));
            if self.open.len() >= OPEN {
                let oldest = self.open.remove(0);
                self.shut(&oldest);
            }
            let window = Window::new(file.clone());
            self.open.push(Open { index, file, window, body: None });
        }
        self.open.last_mut().ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    /// Finds the next batch of a file, and tells of what lies before it and is none.
    fn next_batch(&mut self, index: usize) -> std::io::Result<Option<BatchHeader>> {
        let walk = &self.files[index];
        let (position, limit) = (walk.position, walk.source.limit);
        let expected = Expected { salt: walk.source.salt, base: walk.base, reserved: Offset::LIMIT, limit };
        let window = &mut self.open(index)?.window;
        if let Some(header) = scan::header(window, position, &expected)? {
            return Ok(Some(header));
        }
        let next = scan::next_header(window, position.saturating_add(ALIGNMENT), &expected)?;
        let end = next.map_or(limit, |(at, _)| at);
        let torn = scan::remains(window, position, &expected)?.is_some_and(|left| left.base == expected.base);
        let blank = next.is_none() && is_blank(window, position, end)?;
        self.tell(index, position, next, (torn, blank));
        let walk = &mut self.files[index];
        self.told.done += end.saturating_sub(position);
        (self.progress)(self.told);
        walk.position = end;
        Ok(next.map(|(_, header)| header))
    }

    /// Tells of a stretch in which no batch begins.
    fn tell(
        &mut self,
        index: usize,
        position: u64,
        next: Option<(u64, BatchHeader)>,
        (torn, blank): (bool, bool),
    ) {
        let walk = &self.files[index];
        let (path, base) = (walk.source.path.clone(), walk.base);
        let finding = match (next, walk.source.end) {
            (Some((_, header)), _) => {
                let what = "no batch there passes its checksum";
                Finding::new(FindingKind::Damaged, path, what).offsets(base, header.base)
            }
            (None, Some((end, length))) if position < length => {
                let what = "no batch there passes its checksum, up to the segment's end";
                Finding::new(FindingKind::Damaged, path, what).offsets(base, end.max(base))
            }
            (None, None) if position < walk.durable => {
                let what =
                    format!("everything below byte {} was durable, and no batch is there", walk.durable);
                Finding::new(FindingKind::Damaged, path, what)
            }
            (None, None) if torn && !blank => {
                Finding::new(FindingKind::Torn, path, "what is left of a batch")
            }
            _ => return,
        };
        self.report.found(finding.at(position));
    }

    /// Reads on in the batch of a file, until another file has a lower offset or it is at its end.
    fn batch(&mut self, index: usize, sink: &mut dyn Sink) -> Result<()> {
        let Some(Batch { header, record: from, mut at }) = self.files[index].batch else { return Ok(()) };
        let position = self.files[index].position;
        let body = match self.body(index, position, &header) {
            Ok(body) => body,
            Err(error) => {
                self.give_up(index, &error);
                return Ok(());
            }
        };
        let path = self.files[index].source.path.clone();
        let mut bad = Bad::new(position, header, path);
        let table = body.get(..header.table()).filter(|table| from > 0 || header.table_is_good(table));
        if table.is_none() {
            self.report.found(bad.all("its record table does not pass its checksum"));
        }
        let mut resume = None;
        for record in from..if table.is_some() { header.records } else { 0 } {
            let (length, sum) = header.row(&body, record);
            let place = at;
            at = at.saturating_add(length as usize);
            let bytes = body.get(place..at).filter(|bytes| checksum(bytes) == sum);
            if header.settles() && record == 0 {
                match bytes.and_then(batch::settles) {
                    // Whatever else it names was no loan when the batch was pushed.
                    Some(mut rows) => {
                        rows.retain(|settle| settle.offset < header.base);
                        sink.settles(&rows, header.end());
                    }
                    None => {
                        self.report.found(bad.at(place, "acks that came with it do not pass their checksum"))
                    }
                }
                continue;
            }
            let offset = header.base + u64::from(record) - u64::from(header.settles());
            if self.order.peek().is_some_and(|Reverse(other)| *other < (offset, index)) {
                resume = Some((offset, Batch { header, record, at: place }));
                break;
            }
            let Some(bytes) = bytes else {
                bad.add(place, offset);
                continue;
            };
            let only = &self.files[index].source.only;
            let wanted = only.is_empty() || only.iter().any(|&(first, end)| first <= offset && offset < end);
            if offset >= self.next && wanted {
                let (time, attributes) = (header.time, header.attributes());
                sink.record(&Record {
                    offset,
                    time,
                    attributes,
                    bytes,
                    checksum: sum,
                    batch: (index, position),
                })?;
                self.next = offset + 1;
            }
        }
        if let Some(finding) = bad.finding() {
            self.report.found(finding);
        }
        if let Some((offset, batch)) = resume {
            self.files[index].batch = Some(batch);
            if let Some(open) = self.open.last_mut().filter(|open| open.index == index && body.len() <= LARGE)
            {
                open.body = Some((position, body));
            }
            self.order.push(Reverse((offset, index)));
            return Ok(());
        }
        let walk = &mut self.files[index];
        (walk.position, walk.base) = (position + header.length(), header.end());
        walk.durable = walk.durable.max(header.mark);
        self.told.done += header.length();
        (self.progress)(self.told);
        self.advance(index);
        Ok(())
    }

    /// Returns the body of a batch, or as much as there is. Its header ends it within the file, so a length that
    /// somebody made up takes no more memory than the file has bytes.
    fn body(&mut self, index: usize, position: u64, header: &BatchHeader) -> std::io::Result<Vec<u8>> {
        let length = usize::try_from(header.length()).unwrap_or(usize::MAX);
        if length > LARGE {
            let (kept, others) =
                std::mem::take(&mut self.open).into_iter().partition(|open| open.index == index);
            self.open = kept;
            for other in &others as &Vec<Open> {
                self.shut(other);
            }
        }
        let open = self.open(index)?;
        if let Some((_, body)) = open.body.take_if(|(at, _)| *at == position) {
            return Ok(body);
        }
        let whole = open.window.get(position, length)?;
        let end = whole.len().min(batch::HEADER + header.body as usize);
        Ok(whole.get(batch::HEADER..end).unwrap_or_default().to_vec())
    }
}

fn is_blank(window: &mut Window, mut position: u64, end: u64) -> std::io::Result<bool> {
    const STEP: u64 = 64 << 10;
    while position < end {
        let step = usize::try_from(STEP.min(end - position)).unwrap_or(0);
        if !is_zero(window.get(position, step)?) {
            return Ok(false);
        }
        position += STEP;
    }
    Ok(true)
}

/// What does not pass its checksum in a batch whose header does.
struct Bad {
    position: u64,
    header: BatchHeader,
    path: std::path::PathBuf,
    /// The first bad record, where it lies, and the offset behind the last.
    first: Option<(u64, u64, u64)>,
}

impl Bad {
    fn new(position: u64, header: BatchHeader, path: std::path::PathBuf) -> Self {
        Self { position, header, path, first: None }
    }

    fn add(&mut self, place: usize, offset: u64) {
        let place = self.position + (batch::HEADER + place) as u64;
        let (first, at, _) = self.first.unwrap_or((offset, place, 0));
        self.first = Some((first, at, offset + 1));
    }

    fn all(&self, what: &str) -> Finding {
        let finding = Finding::new(FindingKind::Damaged, self.path.clone(), what).at(self.position);
        finding.offsets(self.header.base, self.header.end())
    }

    fn at(&self, place: usize, what: &str) -> Finding {
        let at = self.position + (batch::HEADER + place) as u64;
        Finding::new(FindingKind::Damaged, self.path.clone(), what).at(at)
    }

    fn finding(&self) -> Option<Finding> {
        let (first, at, end) = self.first?;
        let what = "records in it do not pass their checksum";
        Some(Finding::new(FindingKind::Damaged, self.path.clone(), what).at(at).offsets(first, end))
    }
}
