//! Which pushes of a guest were stored, of those that it sends again to a new owner?
//!
//! The first record of each says where it comes from: a producer, and a number that grows. The guest tells where the
//! log ended before it sent the oldest one it has no answer to; from there on they are looked for. So a segment with
//! a push whose answer was not heard is neither freed nor rewritten.

use std::collections::BTreeMap;

use super::{Engine, lock};
use crate::codec::{Deserialize, Serialize};
use crate::error::Result;
use crate::format::record::{self, Tag};
use crate::log::reader::{Cursor, Message, Place, Step};
use crate::log::writer::Wish;
use crate::plant::{Plant, planted};

/// Pushes that were stored: the offset of the first record of each, by its number.
pub(crate) type Repeated = BTreeMap<u64, u64>;

/// Where the log ended: its next offset, and about where a message of it will lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LogEnd {
    pub(crate) offset: u64,
    /// A segment and a position in it. A hint, no more: it is followed where a batch before the offset begins there.
    place: (u64, u64),
}

#[cfg(any(test, feature = "testing"))]
impl LogEnd {
    /// Is there, wherever that lies.
    pub(crate) fn at(offset: u64) -> Self {
        Self { offset, ..Self::default() }
    }
}

/// From which offset on each producer's pushes may be looked for.
pub(super) type Pinned = BTreeMap<u32, u64>;

impl Engine {
    /// Keeps the log from an offset on for a producer; `None`: it has heard all answers.
    pub(crate) fn pin(&self, producer: u32, from: Option<u64>) {
        let mut pinned = lock(&self.unheard);
        match from {
            Some(from) => pinned.insert(producer, from),
            None => pinned.remove(&producer),
        };
    }

    /// Returns the offset from which on the log is kept for a producer.
    #[cfg(test)]
    pub(crate) fn pinned_for(&self, producer: u32) -> Option<u64> {
        lock(&self.unheard).get(&producer).copied()
    }

    /// Returns the offset from which on the log is kept, for those who may send pushes again.
    pub(super) fn kept_from(&self) -> Option<u64> {
        if planted(Plant::UnheardFreed) {
            return None;
        }
        if self.has_absent() {
            // They have not said yet what they have not heard.
            return Some(0);
        }
        lock(&self.unheard).values().min().copied()
    }

    /// Tells where the log ends.
    pub(crate) fn log_end(&self) -> LogEnd {
        // In this order: what is stored meanwhile lies behind the place.
        let place = self.log.set().last().map_or((0, 0), |active| (active.number, active.end().0));
        LogEnd { offset: self.log.next(), place }
    }

    /// Finds a producer's pushes that were stored since the log ended there.
    ///
    /// # Errors
    /// When the disk refuses. Damage is passed over: what was lost by it is told elsewhere.
    pub(crate) fn stored_since(&self, producer: u32, since: LogEnd) -> Result<Repeated> {
        if self.commit.lock().unanswered().messages > 0 {
            // Its own may be among them, by a connection that ended: found, or failed, they must be. (A failure is
            // told to whoever pushes next.)
            let _ = self.try_ask(Wish::Sync { mark: false })?;
        }
        let mut stored = Repeated::new();
        if planted(Plant::StoredNotSought) || self.log.next() <= since.offset {
            return Ok(stored);
        }
        let mut cursor = Cursor::new(self.log.clone());
        let (segment, position) = since.place;
        // Or it would read the segment from its beginning, while everybody waits.
        cursor.seek(since.offset, Some(Place { segment, position }));
        loop {
            match cursor.next()? {
                Step::End => return Ok(stored),
                Step::Damaged(_) => {}
                Step::Message(mut message) => {
                    if message.has_attributes() && message.check(&self.log)? {
                        let from = origin_of(&message).filter(|&(from, _)| from == producer);
                        stored.extend(from.map(|(_, sequence)| (sequence, message.offset)));
                    }
                }
            }
        }
    }
}

/// Returns the producer and the number that a record names.
fn origin_of(message: &Message) -> Option<(u32, u64)> {
    let (attributes, _) = message.parts()?;
    record::origin(record::find(message.bytes(&attributes), Tag::Origin)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::format::batch::Record;
    use crate::options::{Durability, Settings};
    use crate::storage::sim::SimDisk;

    const PRODUCER: u32 = 5;

    fn push(engine: &Engine, sequence: u64) {
        let mut attributes = Vec::new();
        assert!(record::put(&mut attributes, Tag::Origin, &record::origin_value(PRODUCER, sequence)));
        let record = Record { attributes: &attributes, payload: &[7; 1000], tags: Tag::Origin.bit() };
        engine.push(&[record], Durability::Buffered).unwrap();
    }

    #[test]
    fn what_was_stored_since_is_found_whatever_the_place_says() {
        let settings = Settings { threads: false, segment_bytes: 64 << 10, ..Settings::default() };
        let engine =
            Engine::open(Arc::new(SimDisk::new(1)), Arc::new(ManualClock::new(1 << 40)), settings).unwrap();
        let mut ends = Vec::new();
        for sequence in 0..300 {
            ends.push(engine.log_end());
            push(&engine, sequence);
        }
        let last = engine.log_end();
        assert!(last.place.0 > ends[0].place.0, "it has rolled");
        for (first, &end) in (0..).zip(&ends) {
            // As it was told; of another time; and made up.
            let places = [end.place, ends[0].place, last.place, (0, 0), (end.place.0, 4096), (9, u64::MAX)];
            for place in places {
                let found = engine.stored_since(PRODUCER, LogEnd { place, ..end }).unwrap();
                assert!(
                    found.into_iter().eq((first..300).map(|number| (number, number))),
                    "{end:?} {place:?}"
                );
            }
        }
        assert_eq!(engine.stored_since(PRODUCER, last).unwrap(), Repeated::new());
        assert_eq!(engine.stored_since(PRODUCER + 1, ends[0]).unwrap(), Repeated::new());
    }
}
