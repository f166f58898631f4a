//! Where does the next entry go? In memory: nothing here waits for a disk.

use super::walk::mark;
use crate::format::entry::{Entry, SLOT_BYTES};
use crate::storage::Mapping;

/// The entries of the half that holds, from the place of the next one on.
///
/// Used under the group's lock. With a mapping, an entry is in the file (and safe from kill -9) when
/// [`Track::append`] returns; without, when what [`Track::take_waiting`] gave has been written.
#[derive(Debug)]
pub(crate) struct Track {
    salt: u32,
    start: u64,
    position: u64,
    limit: u64,
    mapping: Option<Box<dyn Mapping>>,
    /// Without a mapping: the entries from `waiting_from` up to `position`. With one: scratch.
    waiting: Vec<u8>,
    waiting_from: u64,
}

impl Track {
    /// Starts at the first entry of a half; a mapping covers `start..limit`.
    pub(super) fn new(salt: u32, start: u64, limit: u64, mapping: Option<Box<dyn Mapping>>) -> Self {
        let limit = limit - limit % SLOT_BYTES;
        let waiting = Vec::new();
        Self { salt, start, position: start, limit, mapping, waiting, waiting_from: start }
    }

    /// Returns the position behind the last entry.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the position of the half's first entry.
    #[cfg(test)]
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Returns how many bytes of entries there is room for.
    pub(crate) fn room(&self) -> u64 {
        self.limit - self.position
    }

    /// Tells whether entries are in the file at once.
    pub(crate) fn is_mapped(&self) -> bool {
        self.mapping.is_some()
    }

    /// Appends an entry and returns the position behind it; `None`, and nothing happened, where
    /// there is no room.
    #[must_use]
    pub(crate) fn append(&mut self, entry: &Entry) -> Option<u64> {
        let end = self.position + entry.slots() as u64 * SLOT_BYTES;
        if end > self.limit {
            return None;
        }
        if let Some(mapping) = &mut self.mapping {
            self.waiting.clear();
            entry.encode(self.salt, self.position, &mut self.waiting);
            let at = usize::try_from(self.position - self.start).expect("a mapping fits into memory");
            mapping.store(at, &self.waiting);
        } else {
            entry.encode(self.salt, self.position, &mut self.waiting);
        }
        self.position = end;
        Some(end)
    }

    /// Appends an entry that says that everything before `durable` is durable: a position that
    /// [`Track::position`] gave before a sync, where that sync has returned since.
    #[must_use]
    pub(crate) fn append_own_mark(&mut self, durable: u64) -> Option<u64> {
        debug_assert!((self.start..=self.position).contains(&durable));
        self.append(&mark(durable))
    }

    /// Takes the entries that must still be written, and where to.
    pub(crate) fn take_waiting(&mut self) -> Option<(u64, Vec<u8>)> {
        if self.mapping.is_some() || self.waiting.is_empty() {
            return None;
        }
        let at = std::mem::replace(&mut self.waiting_from, self.position);
        Some((at, std::mem::take(&mut self.waiting)))
    }

    /// Gives back the memory of what was taken, so that the next group needs none.
    pub(crate) fn recycle(&mut self, mut bytes: Vec<u8>) {
        if self.waiting.is_empty() && bytes.capacity() > self.waiting.capacity() {
            bytes.clear();
            self.waiting = bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::Kind;

    #[test]
    fn memory_that_is_given_back_is_used_again_and_takes_no_entry_along() {
        let mut track = Track::new(7, 8192, 16384, None);
        for offset in 0..10 {
            track.append(&Entry::new(Kind::Done, offset)).unwrap();
        }
        let (at, taken) = track.take_waiting().unwrap();
        let (room, given) = (taken.capacity(), taken.as_ptr());
        assert_eq!((at, taken.len() as u64), (8192, 10 * SLOT_BYTES));

        track.recycle(taken);
        track.append(&Entry::new(Kind::Done, 10)).unwrap();
        // Somebody else's, larger: it comes while an entry waits.
        track.recycle(Vec::with_capacity(2 * room));

        let (at, taken) = track.take_waiting().unwrap();
        assert_eq!((at, taken.len() as u64), (8192 + 10 * SLOT_BYTES, SLOT_BYTES));
        assert_eq!((taken.as_ptr(), taken.capacity()), (given, room), "the memory is that of before");
        // A smaller one is not taken in place of a larger.
        track.recycle(taken);
        track.recycle(Vec::with_capacity(1));
        assert_eq!(track.waiting.capacity(), room);
        assert!(track.take_waiting().is_none());
    }
}
