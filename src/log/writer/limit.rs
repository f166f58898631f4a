//! Does a batch fit into what the queue may have?

use std::sync::{Arc, Weak};

use super::{Pending, Writer};
use crate::error::Result;
use crate::format::PAGE_POSITION;
use crate::log::Segment;
use crate::log::room::Size;

/// The sealed segments of a set, and their bytes: the set changes with a roll, or when some are given up. Not held:
/// a segment that somebody holds does not become the next one.
#[derive(Debug, Default)]
pub(super) struct Sealed(Option<(Weak<Vec<Arc<Segment>>>, u64)>);

impl Writer {
    /// Tells whether a batch of so many bytes goes to the next segment.
    pub(super) fn must_roll(&self, pending: &Pending, length: u64) -> bool {
        let position = self.active.position + pending.size.bytes;
        self.log.room.must_roll(position, length, self.active.capacity)
    }

    /// Refuses a batch for which the limits leave no room. Exact: nobody else gives offsets.
    pub(super) fn check_room(&mut self, pending: &Pending, size: Size) -> Result<()> {
        let room = &self.log.room;
        let messages = self.messages.saturating_add(pending.size.messages).saturating_add(size.messages);
        if messages > room.messages_until() {
            return Err(room.too_many(self.log.storage.root()));
        }
        let most = room.max_bytes();
        if most == u64::MAX {
            return Ok(());
        }
        let page = if self.must_roll(pending, size.bytes) { PAGE_POSITION } else { 0 };
        let active = self.active.position + pending.size.bytes + page;
        if self.sealed_bytes() + active + size.bytes > most {
            return Err(self.log.room.too_long(self.log.storage.root()));
        }
        Ok(())
    }

    fn sealed_bytes(&mut self) -> u64 {
        let set = self.log.set();
        match &self.sealed.0 {
            Some((known, bytes)) if std::ptr::eq(known.as_ptr(), Arc::as_ptr(&set)) => *bytes,
            _ => {
                let sealed = set.split_last().map_or(&[][..], |(_, sealed)| sealed);
                let bytes = sealed.iter().map(|segment| segment.end().0).sum();
                self.sealed.0 = Some((Arc::downgrade(&set), bytes));
                bytes
            }
        }
    }
}
