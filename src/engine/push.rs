//! How does a message get from a caller's hands into the log?

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Engine, lock};
use crate::error::{Error, Result};
use crate::format::batch::{Encoded, MAX_BODY, MAX_RECORDS, Record, Settle};
use crate::log::writer::{Job, Slot, Wish};
use crate::offset::Offsets;
use crate::options::Durability;
use crate::plant::{Plant, planted};
use crate::wake::Wake;

/// A push that was handed over and may not be answered yet.
#[derive(Debug)]
pub(crate) struct Pushed {
    engine: Arc<Engine>,
    slot: Arc<Slot>,
    group: u64,
}

impl Engine {
    /// Stores records as one batch and returns when they are as safe as was asked for.
    ///
    /// # Errors
    /// As [`crate::Queue::push`] says.
    pub(crate) fn push(&self, records: &[Record<'_>], durability: Durability) -> Result<Offsets> {
        self.check_open()?;
        if records.is_empty() {
            return Ok(Offsets::new(0, 0));
        }
        let batch = self.encode(records)?;
        self.save_losses()?;
        self.ask(Wish::Push { batch, synced: durability == Durability::Synced })
    }

    /// Hands records over, to be stored as one batch.
    ///
    /// # Errors
    /// When they can never be stored; whether they are is told by the ticket.
    pub(crate) fn push_deferred(
        self: &Arc<Self>,
        records: &[Record<'_>],
        durability: Durability,
    ) -> Result<Pushed> {
        self.check_open()?;
        let batch = self.encode(records)?;
        self.save_losses()?;
        let slot = Arc::new(Slot::default());
        let wish = Wish::Push { batch, synced: durability == Durability::Synced };
        let mut guard = self.commit.lock();
        if let Some(error) = &guard.stopped {
            return Err(error.clone());
        }
        let first = guard.jobs.is_empty();
        guard.jobs.push(Job { wish, slot: slot.clone() });
        let group = guard.group();
        drop(guard);
        if first {
            self.start_committer();
            self.deferred.wake();
        }
        Ok(Pushed { engine: self.clone(), slot, group })
    }

    /// Before the first push of an opening that found messages lost: has their groups say so in
    /// their files. Once the log has gone on behind them, a later opening would take their offsets
    /// for damage.
    pub(super) fn save_losses(&self) -> Result<()> {
        if self.losses_saved.load(Ordering::Acquire) {
            return Ok(());
        }
        let _changing = lock(&self.changing_groups);
        for group in self.all_groups() {
            if self.recovery.lost.iter().any(|lost| lost.group == group.name) {
                group.save()?;
            }
        }
        self.losses_saved.store(true, Ordering::Release);
        Ok(())
    }

    /// Returns when everything pushed before is on stable storage.
    ///
    /// # Errors
    /// When the disk refuses: the queue is poisoned.
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_open()?;
        if planted(Plant::AckBeforeMessage) {
            self.sync_groups()?;
        }
        // Before the acks: so much as is in our hands, none is to outlive its message.
        self.ask(Wish::Sync { mark: false })?;
        self.sync_groups()
    }

    pub(super) fn sync_groups(&self) -> Result<()> {
        self.all_groups().iter().try_for_each(|group| group.sync_lazily())
    }

    /// Adds a wish, and leads or follows until it is answered.
    pub(super) fn ask(&self, wish: Wish) -> Result<Offsets> {
        self.hand_over(wish)?
    }

    /// Does the same. The outer error is of a wish that was never handed over, so it has no effect.
    pub(super) fn hand_over(&self, wish: Wish) -> Result<Result<Offsets>> {
        let slot = Arc::new(Slot::default());
        let mut guard = self.commit.lock();
        if let Some(error) = &guard.stopped {
            return Err(error.clone());
        }
        guard.jobs.push(Job { wish, slot: slot.clone() });
        let group = guard.group();
        let (_, answer) = self.commit.until(guard, group, &*self.clock, None, |_| slot.answer());
        Ok(answer.unwrap_or(Err(Error::Timeout)))
    }

    fn encode(&self, records: &[Record<'_>]) -> Result<Encoded> {
        self.encode_settling(&[], records)
    }

    /// Encodes records behind the acks of loans.
    pub(super) fn encode_settling(&self, settles: &[Settle], records: &[Record<'_>]) -> Result<Encoded> {
        let limit = self.settings.max_message_bytes;
        for record in records {
            let length = (record.payload.len() + record.attributes.len()) as u64;
            if length > limit {
                return Err(Error::TooLarge { what: "a message", length, limit });
            }
        }
        Encoded::with_settles(settles, records).ok_or_else(|| {
            if records.len() > MAX_RECORDS {
                let (length, limit) = (records.len() as u64, MAX_RECORDS as u64);
                return Error::TooLarge { what: "a batch with a count", length, limit };
            }
            let length = records.iter().map(|record| record.payload.len() as u64 + 8).sum();
            Error::TooLarge { what: "a batch", length, limit: MAX_BODY as u64 }
        })
    }
}

impl Pushed {
    /// Returns the answer when it is there, or `None` when `until` has come first. Without a committer
    /// it may lead, and come back later than that.
    pub(crate) fn wait(&self, until: Option<Duration>) -> Option<Result<Offsets>> {
        if let Err(error) = self.engine.log.check_process() {
            return Some(Err(error));
        }
        if let Some(answer) = self.slot.answer() {
            return Some(answer);
        }
        let engine = &self.engine;
        let slot = &self.slot;
        // Who has a deadline leaves the sync to the committer: it may take longer.
        if let Some(until) = until
            && engine.hurry()
        {
            let guard = engine.commit.lock();
            return engine.commit.follow(guard, &*engine.clock, until, |_| slot.answer());
        }
        let guard = engine.commit.lock();
        engine.commit.until(guard, self.group, &*engine.clock, until, |_| slot.answer()).1
    }

    pub(crate) fn deadline(&self, wait: Duration) -> Option<Duration> {
        self.engine.deadline(wait)
    }

    /// Looks for the answer, and leaves a waker. Never leads: a sync must not block an executor.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Offsets>> {
        if let Err(error) = self.engine.log.check_process() {
            return Poll::Ready(Err(error));
        }
        if let Some(answer) = self.slot.answer() {
            return Poll::Ready(answer);
        }
        self.slot.leave(context.waker());
        // Once more: the answer may have come before the waker was there.
        if let Some(answer) = self.slot.answer() {
            return Poll::Ready(answer);
        }
        self.engine.hurry();
        Poll::Pending
    }
}
