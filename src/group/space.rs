//! What does a group tell whoever gives space back, and what is it told?

use super::live::Live;
use super::state::State;
use crate::error::Result;
use crate::format::PAGE_POSITION;
use crate::plant::{Plant, planted};

impl Live {
    /// Looks at the state, and returns when all of that is on stable storage: what is done after the look may
    /// be durable or not.
    ///
    /// # Errors
    /// When the group is poisoned, or the disk refuses.
    pub(crate) fn synced_look<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T> {
        let seen = self.look(look);
        if !planted(Plant::FreedOnUnsynced) {
            self.sync_lazily()?;
        }
        Ok(seen)
    }

    /// Returns how much was ever appended: as long as it stays the same, so does the state.
    pub(crate) fn appended(&self) -> u64 {
        self.commit.lock().appended
    }

    /// Closes the files of segments that have left the log, where nobody reads just now: they take room as long
    /// as they are open.
    pub(crate) fn leave(&self, numbers: &[u64]) {
        let mut guard = self.commit.lock();
        let shared = &mut *guard;
        for cursor in [&mut shared.fresh, &mut shared.again].into_iter().flatten() {
            cursor.leave(numbers);
        }
        shared.oldest.leave(numbers);
    }

    /// Learns that messages were copied into another segment: where each lies that comes again, if there is
    /// something to remember. In memory, and in the next snapshot; an older one leads to the segment's beginning.
    pub(crate) fn moved(&self, sources: &[u64], number: u64, places: &[(u64, u64)]) {
        const AT_ONCE: usize = 1024;
        for places in places.chunks(AT_ONCE) {
            let mut guard = self.commit.lock();
            for &(offset, position) in places {
                guard.state.set_place(offset, (number, position));
            }
        }
        let mut guard = self.commit.lock();
        if sources.contains(&guard.state.hint().0) {
            guard.state.set_hint((number, PAGE_POSITION));
        }
    }
}
