//! Which messages of a segment have a priority or a key? Told without reading the segment.
//!
//! The rows of the active segment are in memory: the writer adds those of a batch when readers may see
//! it. Of a sealed segment they lie in its side file. That is derived, and belongs to nobody: it is
//! written without a sync, never believed when anything in it does not fit, and made anew by a walk over
//! the segment by whoever needs it. A segment without such messages has no file and is not read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::reader::{Cursor, Step};
use super::{Log, Segment};
use crate::error::Result;
use crate::format::index::{self, Head, INDEXED, PRIORITIES, Row, SECTOR_ROWS};
use crate::format::{PAGE_POSITION, names};
use crate::storage::{Access, SECTOR, Storage, read_exact_at, write_all_at};

/// How many sectors are read or written at a time.
const SECTORS: usize = 64;
/// The most rows that one look returns.
pub(crate) const CHUNK: usize = SECTORS * SECTOR_ROWS;
/// Of so many sealed segments, rows stay in memory until they are written. On a disk that takes no
/// file, those of others are found by a walk each time.
const KEPT: usize = 2;

/// How many rows there are, and of which priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) rows: u64,
    pub(crate) priorities: [u64; PRIORITIES],
}

/// The rows of one segment, as far as this process has them.
#[derive(Debug)]
pub(super) struct Held {
    summary: Summary,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Of a sealed segment: nobody has asked, or they were given up.
    Nowhere,
    /// Those of the batches from position `from` on; those before it nobody has read yet.
    Memory {
        from: u64,
        rows: Arc<Vec<Row>>,
    },
    File,
}

/// What a look found.
enum Looked {
    Found,
    /// In the file: so many rows there are.
    InFile(u64),
    /// The batches up to a position must be walked over first.
    Missing(u64),
}

/// Sealed segments whose rows are in memory, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<VecDeque<Arc<Segment>>>, Mutex<Written>);

/// Held over the writing of a side file: two must not make the same, nor one that must stay as it is.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The queue is closed: the folder may be somebody else's.
    closed: bool,
    /// A side file that is being made durable, or was: it stays as it is. So long as its segment is there.
    saved: Vec<u64>,
}

impl Kept {
    /// Forgets segments that are given up.
    pub(super) fn forget(&self, numbers: &[u64]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|segment| !numbers.contains(&segment.number));
        drop(kept);
        self.written().saved.retain(|number| !numbers.contains(number));
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Summary {
    fn add(&mut self, row: &Row) {
        self.rows += 1;
        self.priorities[usize::from(row.priority)] += 1;
    }

    fn of(rows: &[Row]) -> Self {
        let mut summary = Self::default();
        rows.iter().for_each(|row| summary.add(row));
        summary
    }
}

impl Held {
    /// Begins for a segment: a sealed one, or the active one, of whose batches up to `end` nothing is
    /// known but the union of their tags.
    pub(super) fn new(sealed: bool, tags: u64, end: u64) -> Mutex<Self> {
        let from = if tags & INDEXED == 0 { PAGE_POSITION } else { end };
        let source = if sealed { Source::Nowhere } else { Source::Memory { from, rows: Arc::default() } };
        Mutex::new(Self { summary: Summary::default(), source })
    }

    /// Adds rows of batches that readers are about to see.
    fn add(&mut self, fresh: &mut Vec<Row>) {
        if let Source::Memory { rows, .. } = &mut self.source {
            fresh.iter().for_each(|row| self.summary.add(row));
            // Nobody else has the active segment's rows, so that nothing is copied.
            Arc::make_mut(rows).append(fresh);
        }
        fresh.clear();
    }

    /// Takes rows back, of batches from a position on.
    fn cut(&mut self, position: u64) {
        if let Source::Memory { rows, .. } = &mut self.source {
            let left = rows.partition_point(|row| row.position < position);
            if left < rows.len() {
                Arc::make_mut(rows).truncate(left);
                self.summary = Summary::of(rows);
            }
        }
    }

    fn missing(&self, segment: &Segment) -> Option<u64> {
        match &self.source {
            Source::Nowhere => Some(segment.end().0),
            Source::Memory { from, .. } if *from > PAGE_POSITION => Some(*from),
            Source::Memory { .. } | Source::File => None,
        }
    }

    /// Takes the rows that a walk up to `until` has found.
    fn complete(&mut self, until: u64, mut found: Vec<Row>) {
        match &mut self.source {
            Source::Nowhere => {}
            Source::Memory { from, rows } if *from == until => found.extend_from_slice(rows),
            // Somebody else was faster.
            Source::Memory { .. } | Source::File => return,
        }
        self.summary = Summary::of(&found);
        self.source = Source::Memory { from: PAGE_POSITION, rows: Arc::new(found) };
    }

    /// Returns the rows if all of them are in memory.
    fn all(&self) -> Option<Arc<Vec<Row>>> {
        match &self.source {
            Source::Memory { from: PAGE_POSITION, rows } => Some(rows.clone()),
            Source::Memory { .. } | Source::Nowhere | Source::File => None,
        }
    }
}

impl Segment {
    /// Tells whether some message in it has, or may have, a row.
    pub(crate) fn is_indexed(&self) -> bool {
        self.tags() & INDEXED != 0
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds rows of batches that readers are about to see.
    pub(super) fn add_rows(&self, fresh: &mut Vec<Row>) {
        if !fresh.is_empty() {
            self.held().add(fresh);
        }
    }

    /// Takes the rows of a segment that was just made, all of it.
    pub(crate) fn take_rows(&self, rows: Vec<Row>) {
        self.held().complete(PAGE_POSITION, rows);
    }

    /// Takes back the rows of batches from a position on: readers no longer see these.
    pub(super) fn cut_rows(&self, position: u64) {
        self.held().cut(position);
    }
}

impl Log {
    /// Counts the rows of a segment.
    ///
    /// # Errors
    /// When the segment must be walked over, and the disk refuses.
    pub(crate) fn summary(self: &Arc<Self>, segment: &Arc<Segment>) -> Result<Summary> {
        loop {
            if !segment.is_indexed() {
                return Ok(Summary::default());
            }
            let until = {
                let held = segment.held();
                let Some(until) = held.missing(segment) else { return Ok(held.summary) };
                until
            };
            self.load(segment, until, true)?;
        }
    }

    /// Appends rows of a segment from row number `from` on, [`CHUNK`] at most; none where there are no
    /// more, for now. Rows are in offset order, and may be there a moment before [`Log::next`] passes them.
    ///
    /// # Errors
    /// As [`Log::summary`].
    pub(crate) fn rows(
        self: &Arc<Self>,
        segment: &Arc<Segment>,
        from: u64,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let mut from_file = true;
        while segment.is_indexed() {
            match look(segment, from, rows) {
                Looked::Found => return Ok(()),
                Looked::InFile(count) => {
                    if read_rows(&*self.storage, segment, count, from, rows).is_some() {
                        return Ok(());
                    }
                    // It has gone bad: made anew, and if that reads badly too, not by way of a file.
                    let mut held = segment.held();
                    if matches!(held.source, Source::File) {
                        held.source = Source::Nowhere;
                    }
                    from_file = false;
                }
                Looked::Missing(until) => self.load(segment, until, from_file)?,
            }
        }
        Ok(())
    }

    /// Goes through the rows of a segment from row number `from` on.
    ///
    /// # Errors
    /// As [`Log::summary`].
    pub(crate) fn each_row(
        self: &Arc<Self>,
        segment: &Arc<Segment>,
        mut from: u64,
        mut each: impl FnMut(&Row),
    ) -> Result<()> {
        let mut rows = Vec::new();
        loop {
            rows.clear();
            self.rows(segment, from, &mut rows)?;
            if rows.is_empty() {
                return Ok(());
            }
            from += rows.len() as u64;
            rows.iter().for_each(&mut each);
        }
    }

    /// Returns the number of the first row at or behind an offset.
    ///
    /// # Errors
    /// As [`Log::summary`].
    pub(crate) fn first_row(self: &Arc<Self>, segment: &Arc<Segment>, offset: u64) -> Result<u64> {
        let chunk = CHUNK as u64;
        let there = self.summary(segment)?.rows;
        let (mut low, mut high) = (0, there.div_ceil(chunk));
        let mut rows = Vec::new();
        while low < high {
            let middle = low + (high - low) / 2;
            rows.clear();
            self.rows(segment, middle * chunk, &mut rows)?;
            if rows.last().is_some_and(|row| row.offset < offset) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        rows.clear();
        self.rows(segment, low * chunk, &mut rows)?;
        let before = rows.partition_point(|row| row.offset < offset) as u64;
        Ok((low * chunk).min(there) + before)
    }

    /// Gets hold of a segment's rows up to a position: from its file, or by a walk.
    fn load(self: &Arc<Self>, segment: &Arc<Segment>, until: u64, from_file: bool) -> Result<()> {
        let (end, sealed) = segment.end();
        if sealed
            && from_file
            && until == end
            && let Some(summary) = read_head(&*self.storage, self.queue, segment)
        {
            *segment.held() = Held { summary, source: Source::File };
            return Ok(());
        }
        let found = self.walk(segment, until)?;
        segment.held().complete(until, found);
        if sealed {
            self.keep(segment.clone());
            if from_file {
                self.write_rows(segment);
            }
        }
        Ok(())
    }

    /// Keeps the rows of a segment that is sealed in memory, and gives up older ones.
    pub(crate) fn keep(&self, segment: Arc<Segment>) {
        let mut kept = self.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|other| other.number != segment.number);
        kept.push_back(segment);
        let given_up = if kept.len() > KEPT { kept.pop_front() } else { None };
        drop(kept);
        if let Some(segment) = given_up {
            let mut held = segment.held();
            if matches!(held.source, Source::Memory { .. }) {
                held.source = Source::Nowhere;
            }
        }
    }

    /// Writes the side files of sealed segments whose rows are in memory. A duty: what cannot be written
    /// now stays in memory, is tried again, and is not missed.
    pub(crate) fn write_side_files(&self) {
        let kept: Vec<Arc<Segment>> =
            self.kept.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        for segment in kept {
            self.write_rows(&segment);
        }
    }

    /// Writes no side file any more: the queue closes.
    pub(crate) fn stop_side_files(&self) {
        self.kept.written().closed = true;
    }

    /// Leaves the side file of a segment as it is from now on, or no longer.
    pub(super) fn save(&self, number: u64, saved: bool) {
        let mut written = self.kept.written();
        written.saved.retain(|&other| other != number);
        if saved {
            written.saved.push(number);
        }
    }

    /// Removes the side file of a segment; who needs it makes another.
    pub(super) fn throw_away_side_file(&self, segment: &Segment) {
        self.save(segment.number, false);
        let _ = self.storage.remove(&names::index(segment.number));
        segment.held().source = Source::Nowhere;
    }

    /// Writes a side file, if all rows of the segment are in memory, and lets go of them.
    pub(super) fn write_rows(&self, segment: &Arc<Segment>) {
        let alone = self.kept.written();
        if alone.closed || alone.saved.contains(&segment.number) {
            return;
        }
        let rows = {
            let mut held = segment.held();
            let rows = held.all();
            if rows.is_none() && matches!(held.source, Source::Memory { .. }) {
                // Begun by an earlier opening, and nobody has asked: who does will walk over it.
                held.source = Source::Nowhere;
            }
            rows
        };
        // A segment that was given up meanwhile takes its side file along.
        let there = self.set().iter().any(|other| other.number == segment.number);
        let written = rows.filter(|_| there).is_none_or(|rows| {
            let written = write_file(&*self.storage, self.queue, segment, &rows).is_ok();
            if written {
                segment.held().source = Source::File;
            } else {
                // Half a file says nothing, but takes room.
                let _ = self.storage.remove(&names::index(segment.number));
            }
            written
        });
        if written {
            let mut kept = self.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|other| other.number != segment.number);
        }
    }

    /// Finds the rows of all batches before a position. What has gone bad has none: whoever comes to
    /// the message itself is told.
    fn walk(self: &Arc<Self>, segment: &Segment, until: u64) -> Result<Vec<Row>> {
        let mut cursor = Cursor::new(self.clone());
        cursor.seek(segment.base, None);
        let mut rows = Vec::new();
        loop {
            let place = match cursor.next()? {
                Step::Message(mut message) => {
                    let within = message.place.segment == segment.number && message.place.position < until;
                    if within && message.has_attributes() && message.check(self)? {
                        let list = message.parts().map_or(&[][..], |(list, _)| message.bytes(&list));
                        rows.extend(Row::of(self.queue, list).map(|row| Row {
                            offset: message.offset,
                            position: message.place.position,
                            time: message.time,
                            ..row
                        }));
                    }
                    message.place
                }
                Step::Damaged(damaged) => damaged.place,
                Step::End => return Ok(rows),
            };
            if place.segment != segment.number || place.position >= until {
                return Ok(rows);
            }
        }
    }
}

fn look(segment: &Segment, from: u64, into: &mut Vec<Row>) -> Looked {
    let held = segment.held();
    if let Some(until) = held.missing(segment) {
        return Looked::Missing(until);
    }
    let Source::Memory { rows, .. } = &held.source else { return Looked::InFile(held.summary.rows) };
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(rows.len());
    into.extend_from_slice(&rows[from..rows.len().min(from.saturating_add(CHUNK))]);
    Looked::Found
}

/// Reads the first sector of a side file; `None` if it is not that of this segment as it is, whole.
pub(super) fn read_head(storage: &dyn Storage, queue: u128, segment: &Segment) -> Option<Summary> {
    let file = storage.open(&names::index(segment.number), Access::Read).ok()?;
    let mut sector = [0; SECTOR];
    read_exact_at(&*file, &mut sector, 0).ok()?;
    let head = Head::decode(&sector, segment.salt)?;
    let expected =
        Head { queue, number: segment.number, salt: segment.salt, covers: segment.end().0, ..head };
    let whole = file.len().ok()? == head.file_bytes();
    (head == expected && whole).then_some(Summary { rows: head.rows, priorities: head.priorities })
}

/// Reads rows from a side file that has `count`; `None` if something does not fit.
pub(super) fn read_rows(
    storage: &dyn Storage,
    segment: &Segment,
    count: u64,
    from: u64,
    rows: &mut Vec<Row>,
) -> Option<()> {
    let left = count.saturating_sub(from);
    if left == 0 {
        return Some(());
    }
    let per_sector = SECTOR_ROWS as u64;
    let skipped = usize::try_from(from % per_sector).ok()?;
    let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK);
    let sectors = (skipped + wanted).div_ceil(SECTOR_ROWS).min(SECTORS);
    let file = storage.open(&names::index(segment.number), Access::Read).ok()?;
    let position = index::position(from);
    let mut bytes = vec![0; sectors * SECTOR];
    read_exact_at(&*file, &mut bytes, position).ok()?;
    let (mut read, mut first) = (Vec::with_capacity(sectors * SECTOR_ROWS), from - from % per_sector);
    for sector in bytes.chunks_exact(SECTOR) {
        let there = usize::try_from(count - first).unwrap_or(SECTOR_ROWS).min(SECTOR_ROWS);
        index::decode(sector, segment.salt, index::position(first), there, &mut read)?;
        first += per_sector;
    }
    rows.extend_from_slice(read.get(skipped..)?);
    Some(())
}

/// Writes a side file in place of what has its name. Nothing is synced: whoever reads it checks it.
fn write_file(storage: &dyn Storage, queue: u128, segment: &Segment, rows: &[Row]) -> std::io::Result<()> {
    let name = names::index(segment.number);
    match storage.remove(&name) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        other => other?,
    }
    let file = storage.create_new(&name)?;
    let Summary { rows: count, priorities } = Summary::of(rows);
    let (number, salt, covers) = (segment.number, segment.salt, segment.end().0);
    let mut bytes = Head { queue, number, salt, covers, rows: count, priorities }.encode().to_vec();
    let (mut at, mut next) = (0, SECTOR as u64);
    for sector in rows.chunks(SECTOR_ROWS) {
        bytes.extend_from_slice(&index::encode(sector, salt, next));
        next += SECTOR as u64;
        if bytes.len() >= SECTORS * SECTOR {
            write_all_at(&*file, &bytes, at)?;
            bytes.clear();
            at = next;
        }
    }
    write_all_at(&*file, &bytes, at)
}

#[cfg(test)]
mod tests;
