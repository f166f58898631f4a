//! How does one read messages who only looks?
//!
//! A picture of the log, and a cursor in it: no lock, no write, nothing mapped, beside an owner who goes on.
//! What was freed or copied elsewhere since the picture was taken does not read well any more: then the
//! manifest tells so, and another picture is taken. What it still names and does not read well is damaged.

use std::sync::Arc;

use super::look::{GroupSeen, Seen, look};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, Kind};
use crate::format::manifest::SegmentRow;
use crate::format::names;
use crate::format::record::Tag;
use crate::group::rule::MessageState;
use crate::group::standing::Standing;
use crate::group::state::{Now, State};
use crate::log::reader::{Cursor, Damaged, Message, Step};
use crate::log::scan::{self, Expected, Here, Window};
use crate::log::{self, End, Log, Segment};
use crate::manifest;
use crate::offset::Offset;
use crate::offsets::parts::parts;
use crate::storage::{Access, Storage};

/// How often another picture is taken before one message is given up.
const LOOKS: usize = 100;

/// A queue as its files tell it, and its messages.
#[derive(Debug)]
pub(crate) struct View {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    pub(crate) seen: Seen,
    log: Arc<Log>,
    cursor: Cursor,
}

impl View {
    /// Looks at a queue.
    ///
    /// # Errors
    /// As [`look`].
    pub(crate) fn new(storage: &Arc<dyn Storage>, clock: &Arc<dyn Clock>) -> Result<Self> {
        let seen = look(storage, &**clock)?;
        let log = Arc::new(picture(storage, &seen));
        let cursor = Cursor::new(log.clone());
        Ok(Self { storage: storage.clone(), clock: clock.clone(), seen, log, cursor })
    }

    /// Looks again.
    ///
    /// # Errors
    /// As [`look`]; the picture is the old one then.
    pub(crate) fn refresh(&mut self) -> Result<()> {
        let seen = look(&self.storage, &*self.clock)?;
        self.seen = seen;
        self.draw();
        Ok(())
    }

    /// Looks only how far the log goes by now, unless other segments belong to it.
    ///
    /// # Errors
    /// As [`look`].
    pub(crate) fn follow(&mut self) -> Result<()> {
        let found = manifest::look(&self.storage)?;
        let same = |(old, new): (&SegmentRow, &SegmentRow)| is_same(old, new) && old.length == new.length;
        let (old, new) = (&self.seen.segments, &found.slot.segments);
        let Some(row) = new.last().filter(|_| old.len() == new.len() && old.iter().zip(new).all(same)) else {
            return self.refresh();
        };
        let checked = log::check(&*self.storage, found.queue, row, Access::Read)?;
        let limit = checked.capacity;
        let mut window = Window::new(checked.file);
        let Seen { mut position, mut next, mut messages, .. } = self.seen;
        loop {
            let expected = Expected { salt: row.salt, base: next, reserved: Offset::LIMIT, limit };
            let here = scan::look(&mut window, position, &expected);
            let Here::Good(header) = scan::read_error(self.log.path(row.number), here)? else { break };
            position += header.length();
            messages += u64::from(header.messages());
            next = header.end();
        }
        if next > self.seen.next {
            (self.seen.position, self.seen.next, self.seen.messages) = (position, next, messages);
            self.draw();
        }
        Ok(())
    }

    /// Draws the log as it was seen.
    fn draw(&mut self) {
        self.log = Arc::new(picture(&self.storage, &self.seen));
        self.cursor = Cursor::new(self.log.clone());
    }

    /// Returns the next message in `first..end`, or what is wrong with it, and where to go on.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn next(&mut self, first: u64, end: u64) -> Result<(Option<Result<Message>>, u64)> {
        for _ in 1..LOOKS {
            match self.try_next(first, end) {
                Err(error) if !self.has_moved(None)? => return Err(error),
                Ok((Some(Err(Bad { segment, error })), on)) if !self.has_moved(Some(segment))? => {
                    return Ok((Some(Err(error)), on));
                }
                Ok((Some(Ok(message)), on)) => return Ok((Some(Ok(message)), on)),
                Ok((None, on)) => return Ok((None, on)),
                Err(_) | Ok(_) => self.refresh()?,
            }
        }
        let path = self.storage.root().join(names::MANIFEST);
        let busy = std::io::Error::from(std::io::ErrorKind::ResourceBusy);
        Err(Error::io("look, for the log does not stay as it is, at", path, busy))
    }

    fn try_next(&mut self, first: u64, end: u64) -> Result<(Option<Found>, u64)> {
        self.cursor.seek(first, None);
        Ok(match self.cursor.next()? {
            Step::Message(mut message) if message.offset < end => {
                let next = message.offset + 1;
                let segment = message.place.segment;
                let good = message.check(&self.log)?;
                let bad = |message: Message| Bad { segment, error: message.damaged(&self.log) };
                (Some(if good { Ok(message) } else { Err(bad(message)) }), next)
            }
            Step::Damaged(damaged) if damaged.first < end => {
                let Damaged { place, end: behind, .. } = damaged;
                let bad = Bad { segment: place.segment, error: damaged.error(&self.log) };
                // It goes on behind what could be told, whatever was asked for.
                (Some(Err(bad)), behind.min(end).max(first + 1))
            }
            Step::Message(_) | Step::Damaged(_) | Step::End => (None, end),
        })
    }

    /// Tells whether the log is another by now: without that segment, or at all.
    fn has_moved(&self, segment: Option<u64>) -> Result<bool> {
        let found = manifest::look(&self.storage)?;
        let now = &found.slot.segments;
        let mut old = self.seen.segments.iter().filter(|row| segment.is_none_or(|one| one == row.number));
        Ok(!old.all(|row| now.iter().any(|other| is_same(row, other))))
    }

    /// Returns a group.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`], and what is wrong with its files.
    pub(crate) fn group(&self, name: &str) -> Result<&GroupSeen> {
        match self.seen.groups.iter().find(|(group, _)| group == name) {
            Some((_, seen)) => seen.as_ref().map_err(Clone::clone),
            None => {
                let existing = self.seen.groups.iter().map(|(name, _)| name.clone()).collect();
                Err(Error::NoSuchGroup { name: name.to_owned(), existing })
            }
        }
    }

    /// Tells in which segment an offset lies, or would: its number, and whether the log reaches so far.
    pub(crate) fn segment_of(&self, offset: u64) -> Option<u64> {
        let row = self.seen.segments.iter().rev().find(|row| row.base <= offset)?;
        let end = if row.length == 0 { self.seen.next } else { row.end };
        (offset < end).then_some(row.number)
    }

    /// Returns what both halves of a group still tell of a message, in the order in which it happened.
    pub(crate) fn history(&self, seen: &GroupSeen, offset: u64) -> Vec<Entry> {
        let Some(row) = &seen.row else { return Vec::new() };
        let read = |half| parts(&*self.storage, self.seen.queue, row, half).ok();
        let mut halves: Vec<_> = [0, 1].into_iter().filter_map(read).collect();
        halves.sort_by_key(|half| half.generation());
        let concerns = |entry: &&Entry| match entry.kind {
            Kind::OwnMark | Kind::Paused | Kind::Policy | Kind::HolderGone => false,
            Kind::Seek => true,
            _ => (entry.range().0..entry.range().1).contains(&offset),
        };
        let entries = halves.iter().flat_map(|half| half.entries().filter(concerns).cloned());
        entries.collect()
    }

    /// Tells whether some message that is stored may say from when on it can be lent.
    pub(crate) fn may_have_due(&self) -> bool {
        let active = self.seen.segments.len().saturating_sub(1);
        let told =
            |(index, row): (usize, &SegmentRow)| index == active || row.about.tags & Tag::Due.bit() != 0;
        self.seen.segments.iter().enumerate().any(told)
    }

    /// Returns the path of a segment.
    pub(crate) fn path(&self, segment: u64) -> std::path::PathBuf {
        self.log.path(segment)
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: self.clock.now(), wall: self.clock.wall() }
    }
}

/// A message, or what is wrong with the bytes in some segment.
type Found = std::result::Result<Message, Bad>;

struct Bad {
    segment: u64,
    error: Error,
}

impl GroupSeen {
    /// Tells where a message is in its life.
    pub(crate) fn state_of(&self, offset: u64, now: Now) -> MessageState {
        self.state.place_of(offset, now)
    }

    /// Tells whether reading has come to a message: what it says itself counts only until then.
    pub(crate) fn has_met(&self, offset: u64) -> bool {
        offset < self.state.head()
    }

    /// Tells all that is known of a message.
    pub(crate) fn standing(&self, offset: u64, now: Now) -> Standing {
        self.state.standing(offset, now)
    }

    /// Lists the rows of messages that are there; `next` is where the log ends.
    pub(crate) fn rows(&self, state: MessageState, next: u64, now: Now) -> Vec<(u64, u64)> {
        self.state.rows(state, next, now)
    }
}

/// Counts, of each segment, the messages that are not done in some group, in offset order; at most so many as it
/// has. With no group, or with one of which nobody knows what it has done, all of them.
pub(crate) fn live(seen: &Seen) -> Vec<u64> {
    let states: Option<Vec<&State>> =
        seen.groups.iter().map(|(_, group)| group.as_ref().ok().map(|group| &group.state)).collect();
    let states = states.filter(|states| !states.is_empty());
    let stretches = seen.stretches.iter().enumerate().map(|(index, stretch)| {
        let messages = messages_in(seen, index);
        let Some(states) = &states else { return messages };
        let pending = states.iter().map(|state| state.pending_within(stretch.base, stretch.end));
        super::space::count(&super::space::union(pending)).min(messages)
    });
    stretches.collect()
}

/// Counts the messages of a segment.
pub(crate) fn messages_in(seen: &Seen, index: usize) -> u64 {
    let before = |index: usize| seen.segments.get(index).map(|row| row.messages_before);
    before(index + 1).unwrap_or(seen.messages).saturating_sub(before(index).unwrap_or(0))
}

fn is_same(row: &SegmentRow, other: &SegmentRow) -> bool {
    (row.number, row.salt) == (other.number, other.salt)
}

fn picture(storage: &Arc<dyn Storage>, seen: &Seen) -> Log {
    let segment = |row: &SegmentRow| {
        let end = if row.length == 0 { seen.position } else { row.length };
        Arc::new(Segment::new(row, end, 0))
    };
    let set = seen.segments.iter().map(segment).collect();
    let end = End { position: seen.position, next: seen.next, messages: seen.messages };
    Log::new(storage.clone(), seen.queue, set, end)
}
