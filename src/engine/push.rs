//! How does a message get from a caller's hands into the log?

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use super::dedup::Handed;
use super::{Engine, limits, lock};
use crate::error::{Error, Result};
use crate::format::batch::{Encoded, MAX_BODY, MAX_RECORDS, Record, Settle};
use crate::format::index::{INDEXED, Row};
use crate::log::room::Pass;
use crate::log::writer::{Job, Slot, Wish, size_of};
use crate::offset::Offsets;
use crate::options::{Durability, WhenFull};
use crate::plant::{Plant, planted};
use crate::wake::Wake;

/// A push that was handed over and may not be answered yet.
#[derive(Debug)]
pub(crate) struct Pushed {
    engine: Arc<Engine>,
    handed: Handed,
}

impl Engine {
    /// Stores records as one batch and returns when they are as safe as was asked for.
    ///
    /// # Errors
    /// As [`crate::Queue::push`] says.
    pub(crate) fn push(&self, records: &[Record<'_>], durability: Durability) -> Result<Offsets> {
        self.push_or_wait(records, durability, true)
    }

    /// Does the same, but waits for no room.
    ///
    /// # Errors
    /// As [`Engine::push`].
    #[cfg(feature = "schedules")]
    pub(super) fn push_now(&self, records: &[Record<'_>], durability: Durability) -> Result<Offsets> {
        self.push_or_wait(records, durability, false)
    }

    fn push_or_wait(
        &self,
        records: &[Record<'_>],
        durability: Durability,
        may_wait: bool,
    ) -> Result<Offsets> {
        self.check_open()?;
        if records.is_empty() {
            return Ok(Offsets::new(0, 0));
        }
        match self.push_once(records, durability, Pass::Limited) {
            Err(Error::AtLimit { .. }) => self.push_when_full(records, durability, may_wait),
            other => other,
        }
    }

    pub(super) fn push_once(
        &self,
        records: &[Record<'_>],
        durability: Durability,
        pass: Pass,
    ) -> Result<Offsets> {
        let batch = self.encode(records)?;
        let size = size_of(&batch);
        self.check_fits(size)?;
        self.save_losses()?;
        self.look_before(size.messages);
        let rows = self.rows(records);
        let synced = durability == Durability::Synced;
        if rows.iter().any(|row| row.dedup != 0) {
            let handed = self.hand_over(batch, rows, (synced, pass), false)?;
            return self.answer_of(&handed);
        }
        self.ask(Wish::Push { batch, rows, synced, pass })
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
        let pushed = self.hand_in(records, durability, 0)?;
        if pushed.handed.alone {
            self.start_committer();
            self.deferred.wake();
        }
        Ok(pushed)
    }

    /// Does the same; the caller sees to it that somebody leads. The source is who waits for the answer before he
    /// pushes again, or 0.
    ///
    /// # Errors
    /// As [`Engine::push_deferred`].
    pub(super) fn hand_in(
        self: &Arc<Self>,
        records: &[Record<'_>],
        durability: Durability,
        source: u64,
    ) -> Result<Pushed> {
        self.check_open()?;
        let batch = self.encode(records)?;
        let size = size_of(&batch);
        self.check_fits(size)?;
        self.save_losses()?;
        self.look_before(size.messages);
        let discards =
            self.log.room.is_limited() && limits::when_full(&self.limits()) == WhenFull::DiscardOldest;
        let rows = self.rows(records);
        let synced = durability == Durability::Synced;
        let pass = Pass::Limited;
        let handed = if discards && self.may_not_fit(size, self.commit.lock().unanswered()) {
            // Room is made by whoever pushes, one by one: a ticket could only say that there was none.
            let slot = Arc::new(Slot::default());
            slot.answer_now(self.push(records, durability));
            Handed { slot, group: 0, first: None, alone: false }
        } else if rows.iter().any(|row| row.dedup != 0) {
            self.hand_over(batch, rows, (synced, pass), false)?
        } else {
            let slot = Arc::new(Slot::of(source));
            let mut guard = self.commit.lock();
            if let Some(error) = &guard.stopped {
                return Err(error.clone());
            }
            let alone = guard.jobs.is_empty();
            guard.add(Job { wish: Wish::Push { batch, rows, synced, pass }, slot: slot.clone() });
            Handed { slot, group: guard.group(), first: None, alone }
        };
        Ok(Pushed { engine: self.clone(), handed })
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
        self.try_ask(wish)?
    }

    /// Does the same. The outer error is of a wish that was never handed over, so it has no effect.
    pub(super) fn try_ask(&self, wish: Wish) -> Result<Result<Offsets>> {
        let slot = Arc::new(Slot::of_this_thread());
        let mut guard = self.commit.lock();
        if let Some(error) = &guard.stopped {
            return Err(error.clone());
        }
        guard.add(Job { wish, slot: slot.clone() });
        let group = guard.group();
        let (_, answer) = self.commit.until(guard, group, &*self.clock, None, |_| slot.answer());
        Ok(answer.unwrap_or(Err(Error::Timeout { owner: None })))
    }

    /// Makes the rows of records that have one, in the caller's thread.
    pub(super) fn rows(&self, records: &[Record<'_>]) -> Box<[Row]> {
        let row = |(record, offset): (&Record<'_>, u64)| {
            let row = if record.tags & INDEXED == 0 { None } else { Row::of(self.queue, record.attributes) };
            row.map(|row| Row { offset, ..row })
        };
        records.iter().zip(0..).filter_map(row).collect()
    }

    /// Refuses a message that is too long.
    pub(super) fn check_length(&self, record: &Record<'_>) -> Result<()> {
        check_length(record, self.settings.max_message_bytes)
    }

    pub(super) fn encode(&self, records: &[Record<'_>]) -> Result<Encoded> {
        self.encode_settling(&[], records)
    }

    /// Encodes records behind the acks of loans.
    pub(super) fn encode_settling(&self, settles: &[Settle], records: &[Record<'_>]) -> Result<Encoded> {
        records.iter().try_for_each(|record| self.check_length(record))?;
        Encoded::with_settles(settles, records).ok_or_else(|| {
            if records.len() > MAX_RECORDS {
                let (length, limit) = (records.len() as u64, MAX_RECORDS as u64);
                return Error::TooLarge { what: "a batch with a count".into(), length, limit };
            }
            let length = records.iter().map(|record| record.payload.len() as u64 + 8).sum();
            Error::TooLarge { what: "a batch".into(), length, limit: MAX_BODY as u64 }
        })
    }
}

/// Refuses a message that is longer than that.
pub(crate) fn check_length(record: &Record<'_>, limit: u64) -> Result<()> {
    let length = (record.payload.len() + record.attributes.len()) as u64;
    if length > limit { Err(Error::TooLarge { what: "a message".into(), length, limit }) } else { Ok(()) }
}

impl Pushed {
    /// Returns the answer when it is there, or `None` when `until` has come first. Without a committer
    /// it may lead, and come back later than that.
    pub(crate) fn wait(&self, until: Option<Duration>) -> Option<Result<Offsets>> {
        if let Err(error) = self.engine.log.check_process() {
            return Some(Err(error));
        }
        if let Some(answer) = self.handed.answer() {
            return Some(answer);
        }
        let engine = &self.engine;
        let handed = &self.handed;
        // Who has a deadline leaves the sync to the committer: it may take longer.
        if let Some(until) = until
            && engine.hurry()
        {
            let guard = engine.commit.lock();
            return engine.commit.follow(guard, &*engine.clock, until, |_| handed.answer());
        }
        let guard = engine.commit.lock();
        engine.commit.until(guard, handed.group, &*engine.clock, until, |_| handed.answer()).1
    }

    pub(crate) fn deadline(&self, wait: Duration) -> Option<Duration> {
        self.engine.deadline(wait)
    }

    /// Looks for the answer, and leaves a waker. Never leads: a sync must not block an executor.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Offsets>> {
        let polled = self.poll_led(context);
        if polled.is_pending() {
            self.engine.hurry();
        }
        polled
    }

    /// Does the same where somebody is known to lead.
    pub(super) fn poll_led(&self, context: &mut Context<'_>) -> Poll<Result<Offsets>> {
        if let Err(error) = self.engine.log.check_process() {
            return Poll::Ready(Err(error));
        }
        if let Some(answer) = self.handed.answer() {
            return Poll::Ready(answer);
        }
        self.handed.slot.leave(context.waker());
        // Once more: the answer may have come before the waker was there.
        if let Some(answer) = self.handed.answer() {
            return Poll::Ready(answer);
        }
        Poll::Pending
    }
}
