//! Which pushes of a guest were stored, of those that it sends again to a new owner?
//!
//! The first record of each says where it comes from: a producer, and a number that grows. The guest tells where the
//! log ended before it sent the oldest one it has no answer to; from there on they are looked for. So a segment with
//! a push whose answer was not heard is neither freed nor rewritten.

use std::collections::BTreeMap;

use super::{Engine, lock};
use crate::error::Result;
use crate::format::record::{self, Tag};
use crate::log::reader::{Cursor, Message, Step};
use crate::log::writer::Wish;
use crate::plant::{Plant, planted};

/// Pushes that were stored: the offset of the first record of each, by its number.
pub(crate) type Repeated = BTreeMap<u64, u64>;

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

    /// Finds a producer's pushes that were stored from an offset on.
    ///
    /// # Errors
    /// When the disk refuses. Damage is passed over: what was lost by it is told elsewhere.
    pub(crate) fn stored_since(&self, producer: u32, since: u64) -> Result<Repeated> {
        if self.commit.lock().unanswered().messages > 0 {
            // Its own may be among them, by a connection that ended: found, or failed, they must be. (A failure is
            // told to whoever pushes next.)
            let _ = self.try_ask(Wish::Sync { mark: false })?;
        }
        let mut cursor = Cursor::new(self.log.clone());
        cursor.seek(since, None);
        let mut stored = Repeated::new();
        if planted(Plant::StoredNotSought) {
            return Ok(stored);
        }
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
