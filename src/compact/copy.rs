//! How are the messages that somebody still needs copied out of sparse segments?
//!
//! 1. the copy is there, its header synced before anything follows; its batches are written and synced as they come
//! 2. all of it and its name are on stable storage
//! 3. the manifest's slot names it in place of its sources, synced (`engine/rewrite`)
//! 4. readers are shown the set with it; the sources go
//!
//! Stopped before 3, the copy is a leftover: its header says that it is one. Each record is copied with the
//! checksum it was born with, and only if it passes that: what has gone bad is never made to look good.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::batch::HEADER;
use crate::format::copied::Run;
use crate::format::header::Fields;
use crate::format::index::Row;
use crate::format::manifest::{About, SegmentRow};
use crate::format::{ALIGNMENT, PAGE_POSITION, names, record, round_up};
use crate::log::make;
use crate::log::reader::{Cursor, Message, Place, Step};
use crate::log::{Log, Segment};
use crate::plant::{Plant, unless};
use crate::storage::{File, write_all_at};

/// Bytes written and synced at a time: a push that comes meanwhile waits for no more.
const CHUNK: u64 = 128 << 10;

/// A copy that is being made.
#[derive(Debug)]
pub(crate) struct Copying {
    log: Arc<Log>,
    pub(crate) sources: Vec<Arc<Segment>>,
    cursor: Cursor,
    /// Offsets that some group has not done, in order, and which of these ranges comes next.
    live: Vec<(u64, u64)>,
    range: usize,
    file: Arc<dyn File>,
    number: u64,
    salt: u32,
    /// Bytes written at a time.
    chunk: usize,
    /// A copy that gets longer than this was not worth it.
    most: u64,
    run: Run,
    /// Where the source batch of the run begins.
    from: Option<Place>,
    buffer: Vec<u8>,
    /// Where the buffer goes.
    position: u64,
    pub(crate) messages: u64,
    about: About,
    rows: Vec<Row>,
    /// Offsets that were copied, each with the position of its batch in the copy.
    places: Vec<(u64, u64)>,
}

/// How far a copy has come.
#[derive(Debug)]
pub(crate) enum Progress {
    More,
    Done,
    /// What is live is too much to be worth it.
    Dense,
    /// A message that is needed, in this segment, does not pass its checksum: that segment stays as it is.
    Damaged(u64),
}

/// A copy that is whole, and that no slot names yet.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) row: SegmentRow,
    pub(crate) messages: u64,
    pub(crate) rows: Vec<Row>,
    pub(crate) places: Vec<(u64, u64)>,
}

impl Copying {
    /// Begins a copy of the live messages of segments that are neighbours, under a number that no file ever had.
    /// It gets `most` bytes at the most; a full-grown segment has `full`.
    ///
    /// # Errors
    /// When the disk refuses; nothing is left then.
    pub(crate) fn begin(
        log: &Arc<Log>,
        sources: Vec<Arc<Segment>>,
        live: Vec<(u64, u64)>,
        (number, created): (u64, u64),
        (most, full): (u64, u64),
    ) -> Result<Self> {
        let storage = &*log.storage;
        let name = names::segment(number);
        let failed = |doing, error| Error::io(doing, storage.root().join(&name), error);
        let salt = make::draw_salt(storage, &name)?;
        let file = storage.create_new(&name).map_err(|error| failed("create", error))?;
        let fields = Fields::Segment { number, capacity: most, rewritten: true };
        let header = make::header(log.queue, salt, created, fields);
        // Before anything follows it: an opening must know that what lies there is a copy.
        let headed = write_all_at(&*file, &header.encode(), 0)
            .and_then(|()| unless(Plant::CopyUnsynced, || file.sync()));
        if let Err(error) = headed {
            // The manifest does not name it: should this fail too, the next opening sweeps it.
            let _ = storage.remove(&name);
            return Err(failed("make", error));
        }
        let chunk = usize::try_from(CHUNK.min(full / 8)).unwrap_or(usize::MAX);
        Ok(Self {
            log: log.clone(),
            sources,
            cursor: Cursor::new(log.clone()),
            live,
            range: 0,
            file,
            number,
            salt,
            chunk,
            most,
            run: Run::default(),
            from: None,
            buffer: Vec::new(),
            position: PAGE_POSITION,
            messages: 0,
            about: About::default(),
            rows: Vec::new(),
            places: Vec::new(),
        })
    }

    /// Copies on, until something was written or all is done.
    ///
    /// # Errors
    /// When the disk refuses: the copy is to be thrown away.
    pub(crate) fn step(&mut self) -> Result<Progress> {
        while self.buffer.len() < self.chunk {
            let Some(&(first, _)) = self.live.get(self.range) else { return self.finish() };
            self.cursor.seek(first, None);
            match self.cursor.next()? {
                Step::Message(message) if !self.is_ours(message.place) => return self.finish(),
                Step::Message(message) => {
                    let segment = message.place.segment;
                    self.pass(message.offset);
                    let live = self.live.get(self.range).is_some_and(|range| range.0 == message.offset);
                    if live && !self.copy(message)? {
                        return Ok(Progress::Damaged(segment));
                    }
                }
                Step::Damaged(damaged) if !self.is_ours(damaged.place) => return self.finish(),
                Step::Damaged(damaged) => {
                    let needed = |range: &(u64, u64)| range.0 < damaged.end && damaged.first < range.1;
                    if self.live.iter().any(needed) {
                        return Ok(Progress::Damaged(damaged.place.segment));
                    }
                    self.pass(damaged.end);
                }
                Step::End => return self.finish(),
            }
        }
        self.write()?;
        Ok(if self.position > self.most { Progress::Dense } else { Progress::More })
    }

    fn is_ours(&self, place: Place) -> bool {
        self.sources.iter().any(|source| source.number == place.segment)
    }

    /// Goes on at an offset.
    fn pass(&mut self, to: u64) {
        while let Some(range) = self.live.get_mut(self.range) {
            range.0 = range.0.max(to);
            if range.0 < range.1 {
                return;
            }
            self.range += 1;
        }
    }

    /// Copies a message; `false`: it does not pass its checksum.
    fn copy(&mut self, mut message: Message) -> Result<bool> {
        if !message.check(&self.log)? {
            return Ok(false);
        }
        let follows = self.from == Some(message.place) && self.run.end() == message.offset;
        let follows = follows && self.run.bytes() < self.chunk;
        if !follows {
            self.end_run();
            self.from = Some(message.place);
            self.run = Run::begin(message.offset, message.time, message.has_attributes());
        }
        let mut tags = 0;
        if message.has_attributes() {
            let list = message.parts().map_or(&[][..], |(list, _)| message.bytes(&list));
            record::each(list).filter(|&(tag, _)| tag < 64).for_each(|(tag, _)| tags |= 1 << tag);
            self.rows.extend(Row::of(self.log.queue, list).map(|row| Row {
                offset: message.offset,
                time: message.time,
                ..row
            }));
        }
        self.about.add(message.time, tags);
        self.places.push((message.offset, 0));
        self.messages += 1;
        if let Some(bytes) = message.record() {
            self.run.add(bytes, message.checksum());
        }
        self.pass(message.offset + 1);
        Ok(true)
    }

    /// Puts the run that has come to its end into the buffer.
    fn end_run(&mut self) {
        if self.run.is_empty() {
            return;
        }
        let run = std::mem::take(&mut self.run);
        let position = self.position + self.buffer.len() as u64;
        for place in self.places.iter_mut().rev().take_while(|place| place.0 >= run.base) {
            place.1 = position;
        }
        for row in self.rows.iter_mut().rev().take_while(|row| row.offset >= run.base) {
            row.position = position;
        }
        self.buffer.append(&mut run.encode(self.salt, position));
        self.from = None;
    }

    /// Writes and syncs what is in the buffer.
    fn write(&mut self) -> Result<()> {
        let written = write_all_at(&*self.file, &self.buffer, self.position)
            .and_then(|()| unless(Plant::CopyUnsynced, || self.file.sync()));
        written.map_err(|error| self.failed("write", error))?;
        self.position += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<Progress> {
        self.end_run();
        if self.position + self.buffer.len() as u64 > self.most {
            return Ok(Progress::Dense);
        }
        self.write()?;
        let storage = &*self.log.storage;
        storage.sync_dir(names::LOG).map_err(|error| self.failed("name", error))?;
        Ok(Progress::Done)
    }

    /// Says what was copied, once it is done. Nobody needs a copy without messages.
    pub(crate) fn copied(self) -> Copied {
        let base = self.sources.first().map_or(0, |first| first.base);
        let end = self.sources.last().and_then(|last| last.past()).unwrap_or(base);
        let row = SegmentRow {
            number: self.number,
            base,
            end,
            messages_before: 0,
            length: self.position,
            about: self.about,
            salt: self.salt,
            rewritten: true,
        };
        Copied { row, messages: self.messages, rows: self.rows, places: self.places }
    }

    /// Throws the copy away.
    pub(crate) fn discard(self) {
        // The manifest does not name it: should this fail, the next opening sweeps it.
        let _ = self.log.storage.remove(&names::segment(self.number));
    }

    fn failed(&self, doing: &'static str, error: std::io::Error) -> Error {
        Error::io(doing, self.log.storage.root().join(names::segment(self.number)), error)
    }
}

/// Counts the bytes that the live messages of a segment would take in a copy, at the most.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn measure(log: &Arc<Log>, segment: &Segment, live: &[(u64, u64)]) -> Result<u64> {
    let mut cursor = Cursor::new(log.clone());
    let (mut bytes, mut range) = (0, 0);
    cursor.seek(segment.base, None);
    while let Some(&(first, end)) = live.get(range) {
        cursor.seek(first.max(cursor.target()), None);
        match cursor.next()? {
            Step::Message(message) if message.place.segment == segment.number => {
                range += live[range..].partition_point(|range| range.1 <= message.offset);
                if live.get(range).is_some_and(|range| range.0 <= message.offset) {
                    bytes += round_up(HEADER as u64 + message.length(), ALIGNMENT);
                }
                if cursor.target() >= end {
                    range += live[range..].partition_point(|range| range.1 <= cursor.target());
                }
            }
            Step::Damaged(damaged) if damaged.place.segment == segment.number => {}
            Step::Message(_) | Step::Damaged(_) | Step::End => break,
        }
    }
    Ok(bytes)
}
