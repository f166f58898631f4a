//! How do records come to lie in the new queue?
//!
//! As a rewrite lays its copies down: batches of neighbours that were in one batch, each record with the checksum it
//! was born with, in segments that never were active ones.

use std::sync::Arc;

use super::merge::Record;
use crate::error::{Error, Result};
use crate::format::batch::{HEADER, ROW};
use crate::format::copied::Run;
use crate::format::header::Fields;
use crate::format::manifest::SegmentRow;
use crate::format::{ALIGNMENT, PAGE_POSITION, batch, names, record, round_up};
use crate::log::make;
use crate::plant::{Plant, unless};
use crate::storage::{File, Storage, write_all_at};

/// Bytes written at a time.
const CHUNK: usize = 1 << 20;

/// The log that is being written.
pub(super) struct Writing {
    storage: Arc<dyn Storage>,
    queue: u128,
    created: u64,
    /// Bytes of a segment, unless one batch has more.
    full: u64,
    run: Run,
    /// Union of the tags in the run.
    tags: u64,
    /// Where the source batch of the run begins.
    from: Option<(usize, u64)>,
    segment: Option<Segment>,
    /// Segments that are whole.
    pub(super) rows: Vec<SegmentRow>,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// The segment that is being written.
struct Segment {
    file: Arc<dyn File>,
    capacity: u64,
    buffer: Vec<u8>,
    /// Where the buffer goes.
    position: u64,
    row: SegmentRow,
}

impl Writing {
    pub(super) fn new(storage: &Arc<dyn Storage>, queue: u128, created: u64, full: u64) -> Self {
        Self {
            storage: storage.clone(),
            queue,
            created,
            full,
            run: Run::default(),
            tags: 0,
            from: None,
            segment: None,
            rows: Vec::new(),
            messages: 0,
            bytes: 0,
        }
    }

    /// Adds the next record.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn add(&mut self, record: &Record<'_>) -> Result<()> {
        if self.from != Some(record.batch) || self.run.end() != record.offset {
            self.end_run()?;
            self.from = Some(record.batch);
            self.run = Run::begin(record.offset, record.time, record.attributes);
        }
        if record.attributes {
            let list = batch::split_record(true, record.bytes).map_or(&[][..], |(list, _)| list);
            record::each(list).filter(|&(tag, _)| tag < 64).for_each(|(tag, _)| self.tags |= 1 << tag);
        }
        self.run.add(record.bytes, record.checksum);
        self.messages += 1;
        self.bytes += record.bytes.len() as u64;
        Ok(())
    }

    /// Writes the batch that has come to its end.
    fn end_run(&mut self) -> Result<()> {
        if self.run.is_empty() {
            return Ok(());
        }
        let (run, tags) = (std::mem::take(&mut self.run), std::mem::take(&mut self.tags));
        let records = run.end() - run.base;
        let table = if records == 1 { 0 } else { records * ROW as u64 };
        let length = round_up(HEADER as u64 + table + run.bytes() as u64, ALIGNMENT);
        if self.segment.as_ref().is_some_and(|segment| segment.end() + length > segment.capacity) {
            self.end_segment()?;
        }
        let mut segment = match self.segment.take() {
            Some(segment) => segment,
            None => self.begin_segment(run.base, self.messages - records, length)?,
        };
        segment.row.about.add(run.time, tags);
        segment.row.end = run.end();
        segment.buffer.append(&mut run.encode(segment.row.salt, segment.end()));
        if segment.buffer.len() >= CHUNK {
            self.write(&mut segment)?;
        }
        self.segment = Some(segment);
        Ok(())
    }

    fn begin_segment(&self, base: u64, messages_before: u64, length: u64) -> Result<Segment> {
        let number = self.rows.len() as u64 + 1;
        let name = names::segment(number);
        let salt = make::draw_salt(&*self.storage, &name)?;
        let capacity = self.full.max(round_up(PAGE_POSITION + length, PAGE_POSITION));
        let header = make::header(
            self.queue,
            salt,
            self.created,
            Fields::Segment { number, capacity, rewritten: true },
        );
        let file = self.storage.create_new(&name).map_err(|error| self.failed(number, "create", error))?;
        let row =
            SegmentRow { number, base, salt, messages_before, rewritten: true, ..SegmentRow::default() };
        Ok(Segment { file, capacity, buffer: header.encode(), position: 0, row })
    }

    fn write(&self, segment: &mut Segment) -> Result<()> {
        write_all_at(&*segment.file, &segment.buffer, segment.position)
            .map_err(|error| self.failed(segment.row.number, "write", error))?;
        segment.position = segment.end();
        segment.buffer.clear();
        Ok(())
    }

    fn end_segment(&mut self) -> Result<()> {
        let Some(mut segment) = self.segment.take() else { return Ok(()) };
        self.write(&mut segment)?;
        unless(Plant::CopyUnsynced, || segment.file.sync())
            .map_err(|error| self.failed(segment.row.number, "sync", error))?;
        self.rows.push(SegmentRow { length: segment.position, ..segment.row });
        Ok(())
    }

    /// Makes all of it durable, but for the names.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.end_run()?;
        self.end_segment()
    }

    fn failed(&self, number: u64, doing: &'static str, error: std::io::Error) -> Error {
        Error::io(doing, self.storage.root().join(names::segment(number)), error)
    }
}

impl Segment {
    fn end(&self) -> u64 {
        self.position + self.buffer.len() as u64
    }
}
