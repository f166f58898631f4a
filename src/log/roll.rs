//! How does the log go on in the next segment?
//!
//! 1. the next segment is there: headed, synced, its name synced
//! 2. the old segment is synced
//! 3. the manifest's slot seals the old one and names the new one, synced
//! 4. readers are shown the new one; the first batch goes there
//!
//! Stopped before 3, the old segment is the active one and the new file a leftover; after it, the
//! new one is active and empty.

use std::sync::Arc;

use super::writer::Writer;
use super::{Active, End, Segment};
use crate::error::{Error, Result};
use crate::format::manifest::{About, LogMark, SegmentRow};
use crate::format::{PAGE_POSITION, round_up};
use crate::plant::{Plant, planted};

impl Writer {
    /// Starts the next segment, with room for at least `length` bytes of batches.
    ///
    /// # Errors
    /// [`Error::Full`] and [`Error::Io`]: nothing changed, the next push tries again.
    /// [`Error::Poisoned`].
    pub(super) fn roll(&mut self, length: u64) -> Result<()> {
        let least = round_up(PAGE_POSITION + length, PAGE_POSITION);
        self.roll_into(next_capacity(self.active.capacity, self.log.room.segment_bytes()), least)
    }

    /// Starts the next segment: the one made ahead if it has at least `least` bytes, else one of `capacity`, or
    /// of `least`.
    ///
    /// # Errors
    /// As [`Writer::roll`].
    pub(super) fn roll_into(&mut self, capacity: u64, least: u64) -> Result<()> {
        let storage = self.log.storage.clone();
        let now = self.clock.wall();
        let mut made = self.spare.take(&*storage, self.log.queue, capacity, least, now)?;
        self.sync()?;
        // It may have been synced long ago, and removed since: what is sealed is never written again,
        // so that nobody would be told.
        if let Err(error) = self.active.file.check_name() {
            return Err(self.poison(error));
        }
        let row = SegmentRow {
            number: made.number,
            base: self.next,
            end: 0,
            messages_before: self.messages,
            length: 0,
            about: About::default(),
            salt: made.salt,
            rewritten: false,
        };
        let mark = LogMark {
            segment: made.number,
            position: PAGE_POSITION,
            next: self.next,
            messages: self.messages,
            reserved: self.reserved,
            closed: false,
        };
        let (sealed_length, about) = (self.active.position, self.active.about);
        let end = self.shown.max(self.active.segment.base);
        let updated = self.manifest.update(|slot| {
            if let Some(sealed) = slot.segments.last_mut() {
                sealed.length = sealed_length;
                sealed.end = end;
                sealed.about = about;
            }
            slot.segments.push(row);
            slot.log = mark;
        });
        match updated {
            Ok(()) => {}
            // The slot may name the new segment, or not: its file stays, the next opening knows.
            Err(error @ Error::Poisoned { .. }) => return Err(self.poison(error)),
            Err(error) => {
                made.discard(&*storage);
                return Err(error);
            }
        }
        if planted(Plant::SlotBeforeSegment) {
            made.finish(&*storage)?;
        }
        let segment = Arc::new(Segment::new(&row, PAGE_POSITION, made.capacity));
        let active = Active {
            segment: segment.clone(),
            file: made.file,
            capacity: made.capacity,
            position: PAGE_POSITION,
            durable: PAGE_POSITION,
            about: About::default(),
        };
        let sealed = std::mem::replace(&mut self.active, active);
        self.durable = End { position: PAGE_POSITION, next: self.shown, messages: self.messages };
        let tags = sealed.about.tags;
        self.log.append(&sealed.segment, (sealed.position, end), tags, &mut self.fresh, segment);
        Ok(())
    }
}

/// Returns how long the next segment is: they double until they are full-grown.
pub(crate) fn next_capacity(capacity: u64, full: u64) -> u64 {
    (capacity * 2).min(full).max(PAGE_POSITION * 2)
}
