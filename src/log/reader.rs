//! How is the log read, message by message?
//!
//! By positioned reads into blocks that are shared with the messages handed out, and used again when
//! the last of those is gone. Headers and record tables are checked here, as the cursor passes them;
//! each record's own checksum is checked by whoever takes it, outside every lock.
//!
//! A cursor answers from memory as long as it can ([`Cursor::next_in_memory`]); [`Cursor::fill`]
//! does the reading, so that it can be done with no lock held.

use std::sync::Arc;

use super::message::Block;
pub(crate) use super::message::{Message, Place};
use super::scan::{self, Expected, Window};
use super::{Log, Segment};
use crate::error::{Error, Result};
use crate::format::batch::{self, BatchHeader};
use crate::format::{ALIGNMENT, PAGE_POSITION};
use crate::offset::Offset;
use crate::storage::{File, read_up_to};

/// Bytes of one read.
const BLOCK: usize = 256 << 10;
/// How many blocks a cursor keeps an eye on, to use them again.
const BLOCKS: usize = 4;

/// What comes next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Message(Message),
    /// Messages that cannot be read any more: their header or table is bad.
    Damaged(Damaged),
    /// Nothing more, for now.
    End,
}

/// A stretch whose messages cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damaged {
    pub(crate) place: Place,
    pub(crate) first: u64,
    pub(crate) end: u64,
    /// How many messages were in it, at most.
    pub(crate) messages: u64,
}

impl Damaged {
    /// Names the damage for whoever comes to it.
    pub(crate) fn error(&self, log: &Log) -> Error {
        Error::Damaged {
            path: log.path(self.place.segment),
            position: self.place.position,
            offsets: Some(self.first..self.end),
            problem: "no batch there passes its checksum".into(),
        }
    }
}

/// A position in the log that moves ahead.
#[derive(Debug)]
pub(crate) struct Cursor {
    log: Arc<Log>,
    current: Option<Current>,
    /// No message below it is of interest.
    target: u64,
    /// Where the messages from `target` on were seen last; tried first.
    hint: Option<Place>,
    /// The block that is read from, and where it lies in the segment.
    block: Arc<Block>,
    block_at: u64,
    /// Blocks that messages may still hold.
    used: Vec<Arc<Block>>,
}

#[derive(Debug)]
struct Current {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    /// Where the next batch begins, or the one that is open.
    position: u64,
    /// The lowest base that a batch here can have.
    expected: u64,
    batch: Option<Open>,
}

/// A batch whose records are being passed.
#[derive(Debug)]
struct Open {
    header: BatchHeader,
    table: Vec<u8>,
    /// The next record.
    index: u32,
    /// Where it begins, counted from the batch.
    at: u64,
}

impl Cursor {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        let block = Arc::new(Block { bytes: Vec::new() });
        Self { log, current: None, target: 0, hint: None, block, block_at: 0, used: Vec::new() }
    }

    /// Goes to the first message at or behind `target`; `hint` is where it may lie. Reads nothing.
    pub(crate) fn seek(&mut self, target: u64, hint: Option<Place>) {
        // What lies between the old target and the new one is walked over, unless the hint saves whole
        // segments; what was passed before can only be found again from a segment's start, or a hint.
        let elsewhere = |current: &Current| hint.is_some_and(|hint| self.leads_on(hint, current, target));
        if target < self.target || self.current.as_ref().is_none_or(elsewhere) {
            self.current = None;
            self.hint = hint;
        }
        self.target = target;
    }

    /// Tells whether a hint saves whole segments on the way to a target. It is only a number from a
    /// file: one that led to where the target is not would be followed again and again.
    fn leads_on(&self, hint: Place, current: &Current, target: u64) -> bool {
        if hint.segment <= current.segment.number {
            return false;
        }
        let set = self.log.set();
        let index = |number: u64| set.iter().position(|segment| segment.number == number);
        index(hint.segment)
            .is_some_and(|to| set[to].base <= target && index(current.segment.number) < Some(to))
    }

    /// Returns the offset below which no message is of interest.
    pub(crate) fn target(&self) -> u64 {
        self.target
    }

    /// Lets go of the segment it is in, if that has left the log: its file takes room as long as it is open.
    pub(crate) fn leave(&mut self, numbers: &[u64]) {
        if self.current.as_ref().is_some_and(|current| numbers.contains(&current.segment.number)) {
            self.current = None;
        }
    }

    /// Lets go of the segment it is in, if some have left the log since [`Log::left`] was asked, and it too.
    pub(crate) fn leave_since(&mut self, left: u64) {
        let has = |current: &Current| self.log.has(current.segment.number);
        if self.log.left() != left && !self.current.as_ref().is_none_or(has) {
            self.current = None;
        }
    }

    /// Returns where the cursor is: a batch at or before what it returns next.
    pub(crate) fn place(&self) -> Option<Place> {
        let current = self.current.as_ref()?;
        Some(Place { segment: current.segment.number, position: current.position })
    }

    /// Returns the next step if it is in memory; `None` if [`Cursor::fill`] must read first.
    pub(crate) fn next_in_memory(&mut self) -> Option<Step> {
        loop {
            let current = self.current.as_mut()?;
            let Some(open) = &mut current.batch else {
                let (end, sealed) = current.segment.end();
                if current.position >= end {
                    if sealed {
                        return None;
                    }
                    return Some(Step::End);
                }
                let header = header_in(&self.block, self.block_at, current, end)?;
                if header.end() <= self.target {
                    current.position += header.length();
                    current.expected = header.end();
                    continue;
                }
                let table = if header.records == 1 {
                    Vec::new()
                } else {
                    let from = current.position + batch::HEADER as u64;
                    let table = slice(&self.block, self.block_at, from, header.table())?;
                    if !header.table_is_good(table) {
                        return None;
                    }
                    table.to_vec()
                };
                current.batch = Some(Open::new(header, table));
                continue;
            };
            let (length, checksum) = open.header.row(&open.table, open.index);
            let settles = open.header.settles() && open.index == 0;
            let skipped = settles || open.offset() < self.target;
            if skipped {
                open.pass(length);
            } else {
                let at = current.position + open.at;
                let start = usize::try_from(at.checked_sub(self.block_at)?).ok()?;
                let record = start..start + length as usize;
                if record.end > self.block.bytes.len() {
                    return None;
                }
                let message = Message {
                    offset: open.offset(),
                    time: open.header.time,
                    place: Place { segment: current.segment.number, position: current.position },
                    position: at,
                    block: self.block.clone(),
                    record,
                    checksum,
                    attributes: open.header.attributes(),
                };
                open.pass(length);
                self.target = message.offset + 1;
                current.close_batch();
                return Some(Step::Message(message));
            }
            current.close_batch();
        }
    }

    /// Returns the next step, reading what it takes.
    ///
    /// # Errors
    /// As [`Cursor::fill`].
    pub(crate) fn next(&mut self) -> Result<Step> {
        loop {
            if let Some(step) = self.next_in_memory() {
                return Ok(step);
            }
            if let Some(step) = self.fill()? {
                return Ok(step);
            }
        }
    }

    /// Reads what [`Cursor::next_in_memory`] lacks; returns a step where reading settles it.
    ///
    /// # Errors
    /// When the disk refuses. The cursor stays where it is.
    pub(crate) fn fill(&mut self) -> Result<Option<Step>> {
        if self.current.is_none() && !self.start()? {
            return Ok(Some(Step::End));
        }
        let Some(current) = &self.current else { return Ok(None) };
        let (end, sealed) = current.segment.end();
        let position = current.position;
        if let Some(open) = &current.batch {
            let (length, _) = open.header.row(&open.table, open.index);
            self.read(position + open.at, length as usize, end)?;
            return Ok(None);
        }
        if position >= end {
            return if sealed { self.next_segment() } else { Ok(Some(Step::End)) };
        }
        self.read(position, batch::HEADER, end)?;
        let Some(header) = self.header(end) else { return self.damaged() };
        let table = position + batch::HEADER as u64;
        if slice(&self.block, self.block_at, table, header.table()).is_none() {
            self.read(position, batch::HEADER + header.table(), end)?;
        }
        let table = slice(&self.block, self.block_at, table, header.table());
        if header.end() <= self.target || table.is_some_and(|table| header.table_is_good(table)) {
            return Ok(None);
        }
        self.check_promised(header.base)?;
        Ok(Some(self.pass_bad_table(&header)))
    }

    /// Fails where the cursor is at what was never promised, as [`Log::check_promised`].
    fn check_promised(&self, offset: u64) -> Result<()> {
        let segment = self.current.as_ref().map_or(0, |current| current.segment.number);
        self.log.check_promised(offset, segment)
    }

    fn header(&self, end: u64) -> Option<BatchHeader> {
        header_in(&self.block, self.block_at, self.current.as_ref()?, end)
    }

    /// Reads at least `length` bytes from `from` on, and more where there are more.
    fn read(&mut self, from: u64, length: usize, end: u64) -> Result<()> {
        let Some((file, number)) = self.current.as_ref().map(|at| (at.file.clone(), at.segment.number))
        else {
            return Ok(());
        };
        let there = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
        // Lengths come from checked headers that end within the segment's promised end.
        let count = length.max(BLOCK).min(there.max(length));
        let mut fresh = self.free_block();
        let bytes = match Arc::get_mut(&mut fresh) {
            Some(block) => &mut block.bytes,
            None => return Ok(()),
        };
        bytes.resize(count, 0);
        let got = read_up_to(&*file, bytes, from)
            .map_err(|error| Error::io("read", self.log.path(number), error))?;
        bytes.truncate(got);
        let old = std::mem::replace(&mut self.block, fresh);
        self.block_at = from;
        if self.used.len() == BLOCKS {
            self.used.remove(0);
        }
        self.used.push(old);
        if got < length {
            let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(Error::io("read", self.log.path(number), source));
        }
        Ok(())
    }

    /// Returns a block that nobody holds.
    fn free_block(&mut self) -> Arc<Block> {
        let free = self.used.iter().position(|block| Arc::strong_count(block) == 1);
        free.map_or_else(|| Arc::new(Block { bytes: Vec::new() }), |index| self.used.swap_remove(index))
    }

    /// Passes a batch whose header is good, so its offsets are known, but not which record is which.
    fn pass_bad_table(&mut self, header: &BatchHeader) -> Step {
        let first = header.base.max(self.target);
        let mut place = Place { segment: 0, position: 0 };
        if let Some(current) = &mut self.current {
            place = Place { segment: current.segment.number, position: current.position };
            current.position += header.length();
            current.expected = header.end();
        }
        self.target = header.end();
        Step::Damaged(Damaged { place, first, end: header.end(), messages: header.end() - first })
    }

    /// Passes bytes in which no header counts, to the next one that does.
    fn damaged(&mut self) -> Result<Option<Step>> {
        let Some(first) = self.current.as_ref().map(|current| current.expected) else { return Ok(None) };
        self.check_promised(first)?;
        let Some(current) = &mut self.current else { return Ok(None) };
        // In this order: what is published after the end was read, or in a segment that follows it,
        // is good, and must not count as lying before that end.
        let next = self.log.next();
        let (end, sealed) = current.segment.end();
        let path = self.log.path(current.segment.number);
        let expected =
            Expected { salt: current.segment.salt, base: first, reserved: Offset::LIMIT, limit: end };
        let mut window = Window::new(current.file.clone());
        let found = scan::next_header(&mut window, current.position + ALIGNMENT, &expected);
        let place = Place { segment: current.segment.number, position: current.position };
        let (position, behind) = match scan::read_error(path, found)? {
            Some((at, header)) => (at, header.base),
            None => (end, current.segment.past().filter(|_| sealed).unwrap_or(next)),
        };
        current.position = position;
        current.expected = behind;
        let from = first.max(self.target);
        if behind <= from {
            return Ok(None);
        }
        self.target = behind;
        Ok(Some(Step::Damaged(Damaged { place, first: from, end: behind, messages: behind - from })))
    }

    /// Finds the segment of the target; `false` if there is none.
    fn start(&mut self) -> Result<bool> {
        let target = self.target;
        let found = self.enter_one(|set| segment_of(set, target))?;
        if found {
            self.use_hint()?;
        }
        Ok(found)
    }

    /// Enters a segment of the set; another one, if it was given up on the way there.
    fn enter_one(&mut self, pick: impl Fn(&[Arc<Segment>]) -> Option<&Arc<Segment>>) -> Result<bool> {
        loop {
            let set = self.log.set();
            let Some(segment) = pick(&set) else { return Ok(false) };
            match self.enter(segment.clone()) {
                Err(_) if !self.log.has(segment.number) => {}
                entered => return entered.map(|()| true),
            }
        }
    }

    fn enter(&mut self, segment: Arc<Segment>) -> Result<()> {
        let file = segment.open(&*self.log.storage)?;
        self.block = Arc::new(Block { bytes: Vec::new() });
        let expected = segment.base;
        self.current = Some(Current { segment, file, position: PAGE_POSITION, expected, batch: None });
        Ok(())
    }

    /// Starts at the hint, if a batch at or before the target begins there.
    fn use_hint(&mut self) -> Result<()> {
        let Some(hint) = self.hint.take() else { return Ok(()) };
        let Some(current) = &mut self.current else { return Ok(()) };
        let (end, _) = current.segment.end();
        let fits = hint.segment == current.segment.number
            && hint.position.is_multiple_of(ALIGNMENT)
            && (PAGE_POSITION..end).contains(&hint.position);
        if !fits {
            return Ok(());
        }
        let expected = Expected {
            salt: current.segment.salt,
            base: current.expected,
            reserved: Offset::LIMIT,
            limit: end,
        };
        let mut window = Window::new(current.file.clone());
        let header = scan::header(&mut window, hint.position, &expected);
        let header = scan::read_error(self.log.path(current.segment.number), header)?;
        if let Some(header) = header.filter(|header| header.base <= self.target) {
            current.position = hint.position;
            current.expected = header.base;
        }
        Ok(())
    }

    /// Goes on in the next segment. This one may have been given up meanwhile.
    fn next_segment(&mut self) -> Result<Option<Step>> {
        let Some(current) = &self.current else { return Ok(None) };
        let (here, number) = (current.segment.order(), current.segment.number);
        let target = self.target;
        let entered = self.enter_one(|set| match set.iter().any(|segment| segment.number == number) {
            true => set.iter().find(|segment| segment.order() > here),
            // What follows may have been copied together with what lay before: that begins there.
            false => segment_of(set, target),
        })?;
        Ok(if entered { None } else { Some(Step::End) })
    }
}

impl Current {
    /// Leaves the open batch when its last record was passed.
    fn close_batch(&mut self) {
        if let Some(open) = self.batch.take_if(|open| open.index == open.header.records) {
            self.position += open.header.length();
            self.expected = open.header.end();
        }
    }
}

impl Open {
    fn new(header: BatchHeader, table: Vec<u8>) -> Self {
        let at = (batch::HEADER + header.table()) as u64;
        Self { header, table, index: 0, at }
    }

    /// Returns the offset of the next record.
    fn offset(&self) -> u64 {
        let settles = u64::from(self.header.settles());
        self.header.base + u64::from(self.index).saturating_sub(settles)
    }

    fn pass(&mut self, length: u32) {
        self.index += 1;
        self.at += u64::from(length);
    }
}

/// Finds the segment in which the first message at or behind an offset lies.
fn segment_of(set: &[Arc<Segment>], target: u64) -> Option<&Arc<Segment>> {
    let index = set.partition_point(|segment| segment.base <= target).saturating_sub(1);
    // What lay behind it may be gone: then it need not be walked through.
    let over = set.get(index).and_then(|segment| segment.past()).is_some_and(|past| past <= target);
    set.get(index + usize::from(over))
}

/// Returns bytes of the segment that are in the block.
fn slice(block: &Block, block_at: u64, from: u64, length: usize) -> Option<&[u8]> {
    let start = usize::try_from(from.checked_sub(block_at)?).ok()?;
    block.bytes.get(start..start.checked_add(length)?)
}

/// Returns the header at the current position, if it is in the block and counts.
fn header_in(block: &Block, block_at: u64, current: &Current, end: u64) -> Option<BatchHeader> {
    let bytes = slice(block, block_at, current.position, batch::HEADER)?;
    BatchHeader::decode(bytes, current.segment.salt, current.position)
        .filter(|header| header.base >= current.expected && current.position + header.length() <= end)
}
