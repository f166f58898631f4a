//! What does an open group tell of itself?

use std::time::Duration;

use super::live::Live;
use super::state::{Counts, Now, State};

impl Live {
    /// Counts messages as they are by now, and tells when next a message is due or a loan ends.
    pub(crate) fn count(&self, now: Now) -> (Counts, Option<Duration>) {
        let mut guard = self.commit.lock();
        guard.state.ripen(now);
        (guard.state.stats(), guard.state.next_timer(now))
    }

    /// Returns what the state counts.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.commit.lock().state)
    }

    /// Returns up to which offset the acks of all batches are in the files, on stable storage.
    pub(crate) fn settled(&self) -> u64 {
        let guard = self.commit.lock();
        // With all that it knows in its files, whatever is in the log by now is none of its acks, or one
        // that they have: so a group that does nothing holds nobody up.
        let all = guard.synced >= guard.appended && !guard.state.settling.is_found();
        let upto = if all { guard.state.settling.settled(self.log.next()) } else { 0 };
        guard.settled.max(upto)
    }

    /// Returns how far the files are durable, as the manifest may tell it: the generation of the half
    /// that holds, and a position in it.
    pub(crate) fn durable(&self) -> (u64, u64) {
        let guard = self.commit.lock();
        (guard.generation, guard.durable)
    }

    /// Counts the messages that were discarded in this opening so that there is room for others.
    pub(crate) fn discarded_for_room(&self) -> u64 {
        self.commit.lock().oldest.discarded()
    }
}
