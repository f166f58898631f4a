//! What happens to the batches that wait? The one holder of the active segment's write end.
//!
//! One group: batches get their offsets in the order they came, are written one behind the other,
//! and are synced once if anybody asked for that. The published end passes them when they are as
//! safe as was asked for. After a failed sync nothing is believed any more, and nothing is retried.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::evidence::Evidence;
use super::room::{Pass, Size};
use super::spare::Spare;
use super::{Active, End, Log};
use crate::clock::Clock;
use crate::commit::Worker;
use crate::error::{Error, Result};
use crate::format::PAGE_POSITION;
use crate::format::batch::Stamp;
use crate::format::index::Row;
use crate::manifest::Manifest;
use crate::offset::Offsets;
use crate::plant::{Plant, once, planted};
use crate::storage::write_all_at;
use crate::sync;
use crate::wake::Wake;

mod failure;
mod job;
mod limit;
mod mark;
mod patience;
mod slot;

pub(crate) use job::{Group, Job, Waiting, Wish, size_of};
use mark::FIRST_RESERVE;
pub(crate) use mark::{GroupTold, LAST_RESERVE};
use patience::Patience;
pub(crate) use slot::Slot;

/// Batches are gathered into one write up to so many bytes; a longer one is written by itself.
const GATHER: usize = 1 << 20;
/// The lists of a group of so many jobs are kept for the next one.
const RECYCLE: usize = 1 << 10;
/// The write end of the log.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(super) log: Arc<Log>,
    pub(super) manifest: Arc<Manifest>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) spare: Arc<Spare>,
    pub(super) active: Active,
    /// The next offset to give; beyond burnt ones.
    pub(super) next: u64,
    /// The offset behind the last message that was written.
    pub(super) shown: u64,
    /// How many messages were written, from the log's beginning on.
    pub(super) messages: u64,
    /// What a sync that has returned covers.
    pub(super) durable: End,
    pub(super) reserved: u64,
    reserve_step: u64,
    /// The manifest says "not closed".
    opened: bool,
    /// It said so when this opening began, which found nothing wrong: see [`Opened`].
    walked: bool,
    duties: Arc<dyn Wake>,
    evidence: Option<Evidence>,
    /// A failed write that could not be taken back for lack of room, and why it failed.
    taint: Option<u64>,
    pub(super) poisoned: Option<Error>,
    buffer: Vec<u8>,
    /// Emptied, to be used by the next group.
    spent: Group,
    patience: Patience,
    pending: Pending,
    sealed: limit::Sealed,
    /// Rows of batches that are written and that readers do not see yet.
    pub(super) fresh: Vec<Row>,
}

/// From where an opening goes on.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) log: Arc<Log>,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) spare: Arc<Spare>,
    pub(crate) active: Active,
    /// The next offset to give.
    pub(crate) next: u64,
    /// The offset behind the last message.
    pub(crate) shown: u64,
    pub(crate) messages: u64,
    pub(crate) reserved: u64,
    /// The log was found not closed, walked and synced, and nothing is wrong with it: closing may
    /// say so, though nothing is written.
    pub(crate) walked: bool,
    /// Rings in the background thread, when there may be a duty.
    pub(crate) duties: Arc<dyn Wake>,
    pub(crate) evidence: Option<Evidence>,
}

impl Worker<Waiting> for Writer {
    type Group = Group;

    fn is_patient(&mut self, waiting: &Waiting) -> bool {
        self.patience.is_worth(&waiting.jobs, || self.clock.now())
    }

    fn gather(&mut self, waiting: &mut Waiting) -> Group {
        self.patience.gathered(&waiting.jobs, || self.clock.now());
        let mut group = std::mem::take(&mut self.spent);
        std::mem::swap(&mut group.jobs, &mut waiting.jobs);
        waiting.in_flight = std::mem::take(&mut waiting.offered);
        group.answers.resize(group.jobs.len(), None);
        group
    }

    fn run(&mut self, group: &mut Group) {
        let begun = self.clock.now();
        let outcome = self.write_group(group);
        if let Err(error) = outcome {
            group.refuse(&error);
        }
        self.patience.took(self.clock.now().saturating_sub(begun));
    }

    fn publish(&mut self, waiting: &mut Waiting, group: &mut Group, panicked: bool) {
        if panicked {
            let error = self.poison("a panic in the writer");
            group.refuse(&error);
        }
        if waiting.stopped.is_none() {
            waiting.stopped.clone_from(&self.poisoned);
        }
        waiting.in_flight = Size::default();
        for (job, answer) in group.jobs.iter().zip(&mut group.answers) {
            let answer = answer.take().unwrap_or(Err(Error::Closed));
            if let Wish::Push { rows, synced, .. } = &job.wish {
                waiting.keys.settle(rows, &job.slot, answer.is_ok(), *synced);
            }
            job.slot.settle(answer);
        }
        group.answers.clear();
        if group.jobs.len() <= RECYCLE && !group.jobs.iter().any(|job| job.slot.is_polled()) {
            // Nobody is left to be told; whoever polls from now on finds the answer.
            group.jobs.clear();
            self.spent = std::mem::take(group);
        }
    }

    fn announce(group: Group) {
        for job in &group.jobs {
            job.slot.wake();
        }
    }
}

/// Batches that lie in the buffer, or alone in their job, and go out with the next write.
#[derive(Debug, Default)]
struct Pending {
    /// The jobs, with the offsets they were given and the tags of their records.
    jobs: Vec<(usize, Offsets, u64)>,
    size: Size,
}

impl Writer {
    pub(crate) fn new(opened: Opened) -> Self {
        let durable = End { position: opened.active.durable, next: opened.next, messages: opened.messages };
        Self {
            log: opened.log,
            manifest: opened.manifest,
            clock: opened.clock,
            spare: opened.spare,
            active: opened.active,
            next: opened.next,
            shown: opened.shown,
            messages: opened.messages,
            durable,
            reserved: opened.reserved,
            reserve_step: FIRST_RESERVE,
            opened: false,
            walked: opened.walked,
            duties: opened.duties,
            evidence: opened.evidence,
            taint: None,
            poisoned: None,
            buffer: Vec::new(),
            spent: Group::default(),
            patience: Patience::default(),
            pending: Pending::default(),
            sealed: limit::Sealed::default(),
            fresh: Vec::new(),
        }
    }

    /// Refuses from now on; readers are shown what is durable.
    pub(super) fn poison(&mut self, cause: impl ToString) -> Error {
        let path = self.log.path(self.active.segment.number);
        let error = Error::Poisoned { path, cause: cause.to_string() };
        self.poisoned = Some(error.clone());
        self.fresh.clear();
        self.log.stop(&self.active.segment, self.durable, error.clone());
        error
    }

    /// Writes a group and answers each job; an error is for all that have no answer by then.
    fn write_group(&mut self, group: &mut Group) -> Result<()> {
        if let Some(poison) = &self.poisoned {
            return Err(poison.clone());
        }
        let pushes = group.jobs.iter().any(|job| matches!(job.wish, Wish::Push { .. } | Wish::Roll { .. }));
        if pushes {
            self.before_first_write()?;
        }
        let (mut sync, mut mark) = (false, false);
        let mut pending = std::mem::take(&mut self.pending);
        let mut no_roll: Option<Error> = None;
        let now = self.clock.wall();
        for index in 0..group.jobs.len() {
            let (size, tags, limited) = match &group.jobs[index].wish {
                Wish::Sync { mark: wanted } => {
                    sync = true;
                    mark |= wanted;
                    group.answers[index] = Some(Ok(Offsets::new(0, 0)));
                    continue;
                }
                Wish::Turn => {
                    group.answers[index] = Some(Ok(Offsets::new(0, 0)));
                    continue;
                }
                &Wish::Roll { capacity } => {
                    self.write(group, &mut pending, now)?;
                    // Somebody else may have wished for it, too.
                    let empty = capacity.is_none() && self.active.position == PAGE_POSITION;
                    let rolled = match capacity {
                        _ if empty => Ok(()),
                        None => self.roll(0),
                        Some(capacity) => self.roll_into(capacity, 0),
                    };
                    if self.poisoned.is_some() {
                        return rolled;
                    }
                    group.answers[index] = Some(rolled.map(|()| Offsets::new(0, 0)));
                    continue;
                }
                Wish::Push { batch, synced, pass, .. } => {
                    sync |= synced;
                    (size_of(batch), batch.tags, !matches!(pass, Pass::Exempt))
                }
            };
            let (length, messages) = (size.bytes, size.messages);
            if limited && let Err(error) = self.check_room(&pending, size) {
                // Before it hears of that, and claims room anew.
                group.jobs[index].end_claim();
                group.answers[index] = Some(Err(error));
                continue;
            }
            if self.must_roll(&pending, length) {
                self.write(group, &mut pending, now)?;
                if let Some(error) = no_roll.clone().or_else(|| self.roll(length).err()) {
                    if self.poisoned.is_some() {
                        return Err(error);
                    }
                    group.answers[index] = Some(Err(error.clone()));
                    no_roll = Some(error);
                    continue;
                }
            }
            if pending.size.bytes + length > GATHER as u64 {
                self.write(group, &mut pending, now)?;
            }
            if let Err(error) = self.reserve(messages) {
                if self.poisoned.is_some() {
                    return Err(error);
                }
                group.answers[index] = Some(Err(error));
                continue;
            }
            let offsets = Offsets::new(self.next, self.next + messages);
            self.next += messages;
            let stamp = Stamp {
                salt: self.active.segment.salt,
                position: self.active.position + pending.size.bytes,
                base: self.next - messages,
                time: now,
                mark: self.mark(),
            };
            if let Wish::Push { batch, .. } = &mut group.jobs[index].wish {
                batch.stamp(&stamp);
            }
            pending.jobs.push((index, offsets, tags));
            pending.size.bytes += length;
            pending.size.messages += messages;
        }
        self.write(group, &mut pending, now)?;
        self.pending = pending;
        if planted(Plant::PublishBeforeSync) {
            self.publish_end();
        }
        if sync && !planted(Plant::AnswerBeforeSync) {
            self.sync()?;
        }
        if mark {
            self.tell_mark()?;
        }
        self.publish_end();
        Ok(())
    }

    /// Returns the durable mark for a batch.
    fn mark(&self) -> u64 {
        if planted(Plant::MarkBeforeSync) { self.active.position } else { self.active.durable }
    }

    fn publish_end(&mut self) {
        let end = End { position: self.active.position, next: self.shown, messages: self.messages };
        self.log.publish(&self.active.segment, end, self.active.about.tags, &mut self.fresh);
    }

    /// Writes what is pending, in one write; a failure is answered to those it concerns.
    fn write(&mut self, group: &mut Group, pending: &mut Pending, now: u64) -> Result<()> {
        let length = std::mem::take(&mut pending.size).bytes;
        let jobs = &mut pending.jobs;
        if jobs.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.take_back_tainted() {
            for (index, ..) in jobs.drain(..) {
                group.answers[index] = Some(Err(error.clone()));
            }
            return self.poisoned.clone().map_or(Ok(()), Err);
        }
        self.buffer.clear();
        let bytes = if let [(alone, ..)] = jobs[..] {
            group.jobs[alone].bytes()
        } else {
            for (index, ..) in jobs.iter() {
                self.buffer.extend_from_slice(group.jobs[*index].bytes());
            }
            &self.buffer
        };
        debug_assert_eq!(bytes.len() as u64, length);
        let written = write_all_at(&*self.active.file, bytes, self.active.position);
        if let Err(error) = written {
            let answer = self.take_back(self.active.position, &error);
            for (index, ..) in jobs.drain(..) {
                group.answers[index] = Some(Err(answer.clone()));
            }
            return self.poisoned.clone().map_or(Ok(()), Err);
        }
        if let Some(late) = self.evidence.take_if(|_| planted(Plant::EvidenceLate)) {
            late.set_aside(&*self.log.storage)?;
        }
        let before = self.active.position;
        self.active.position += length;
        if before / self.duty_every() != self.active.position / self.duty_every() {
            self.duties.wake();
        }
        let mut position = before;
        for (index, offsets, tags) in jobs.drain(..) {
            if let Wish::Push { batch, rows, pass, .. } = &mut group.jobs[index].wish {
                pass.end();
                let base = offsets.end() - u64::from(batch.messages());
                for row in rows.iter_mut() {
                    *row = Row { offset: base + row.offset, position, time: now, ..*row };
                }
                self.fresh.extend_from_slice(rows);
                position += batch.length();
            }
            self.messages += offsets.len() as u64;
            self.shown = self.next.min(offsets.end());
            self.active.about.add(now, tags);
            group.answers[index] = Some(Ok(offsets));
        }
        Ok(())
    }

    /// Returns how many bytes lie between two looks of the background thread.
    fn duty_every(&self) -> u64 {
        (self.active.capacity / 32).max(1)
    }

    /// Makes everything written durable.
    pub(super) fn sync(&mut self) -> Result<()> {
        // Captured before: a mark promises no more than what the sync was asked for.
        let end = End { position: self.active.position, next: self.shown, messages: self.messages };
        if self.active.durable == end.position {
            return Ok(());
        }
        if let Err(error) = once(Plant::SecondSyncTrusted, || self.active.file.sync()) {
            return Err(self.poison(error));
        }
        self.active.durable = end.position;
        self.durable = end;
        self.log.durable.store(end.next, Ordering::SeqCst);
        Ok(())
    }
}
