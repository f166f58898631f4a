//! How does a queue end?
//!
//! 1. no new pushes; what tickets wait for is written and synced
//! 2. each group: loans go back uncounted, its half is marked and synced
//! 3. the manifest says "closed", with the groups' generations and how far their entries reach
//! 4. the lock is freed, though deliveries live
//!
//! Stopped anywhere before 3, the next opening finds the log not closed. A poisoned queue skips 3.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Engine, lock};
use crate::error::{Error, Result};
use crate::log::writer::{Job, Slot, Wish};

impl Engine {
    /// Closes the queue; later calls, from any thread, return what the first one did.
    ///
    /// # Errors
    /// What kept the queue from being closed cleanly. It is closed all the same.
    pub(crate) fn close(&self) -> Result<()> {
        self.log.check_process()?;
        let _closing = lock(&self.closing);
        if let Some(outcome) = self.outcome.get() {
            return outcome.clone();
        }
        let outcome = self.end();
        let _ = self.outcome.set(outcome.clone());
        outcome
    }

    fn end(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        self.stop_rewriting();
        self.log.stop_side_files();
        self.log.room.ring();
        let _changing = lock(&self.changing_groups);
        let written = self.write_what_waits();
        self.stop_committer();
        let mut groups = Ok(());
        let mut marks = BTreeMap::new();
        for group in self.all_groups() {
            // An ack may be told to nobody before its message is durable: the log came first.
            groups = groups.and(group.stop(&Error::Closed));
            marks.insert(group.name.clone(), self.told_at_close(&group));
        }
        // Behind the groups: whoever waited for it has the answer.
        self.helper.stop();
        let spare = self.spare.discard(&*self.storage);
        let writer = self.commit.retire(|_| false);
        let log = match writer {
            Some(mut writer) => writer.close(&marks),
            None => Ok(()),
        };
        // Closed, never unlocked: a forked child may share it.
        drop(lock(&self.lock).take());
        // Up to 64 MiB, 13 ms: whoever opens the queue next does not wait for that.
        drop(spare);
        written.and(log).and(groups)
    }

    /// Refuses new jobs and sees to it that those that wait are answered.
    fn write_what_waits(&self) -> Result<()> {
        let slot = Arc::new(Slot::default());
        let mut guard = self.commit.lock();
        let stopped = guard.stopped.clone();
        guard.stopped.get_or_insert(Error::Closed);
        guard.jobs.push(Job { wish: Wish::Sync { mark: false }, slot: slot.clone() });
        let group = guard.group();
        let (_, answer) = self.commit.until(guard, group, &*self.clock, None, |_| slot.answer());
        match (stopped, answer) {
            (Some(error), _) => Err(error),
            (None, Some(answer)) => answer.map(|_| ()),
            (None, None) => Ok(()),
        }
    }
}
