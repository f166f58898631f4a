//! What happens to the batches that wait? The one holder of the active segment's write end.
//!
//! One group: batches get their offsets in the order they came, are written one behind the other,
//! and are synced once if anybody asked for that. The published end passes them when they are as
//! safe as was asked for. After a failed sync nothing is believed any more, and nothing is retried.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use super::evidence::Evidence;
use super::spare::Spare;
use super::{Active, End, Log};
use crate::clock::Clock;
use crate::commit::Worker;
use crate::error::{Error, Result};
use crate::format::batch::{self, Encoded, Stamp};
use crate::format::manifest::{LogMark, Slot as Slots};
use crate::manifest::Manifest;
use crate::offset::{Offset, Offsets};
use crate::storage::write_all_at;
use crate::wake::{Bell, Wake};

/// Batches are gathered into one write up to so many bytes; a longer one is written by itself.
const GATHER: usize = 1 << 20;
/// How many offsets are reserved at first; each reserve is twice the one before.
const FIRST_RESERVE: u64 = 1 << 12;
const LAST_RESERVE: u64 = 1 << 20;

/// Where the answer to one wish appears.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    answer: OnceLock<Result<Offsets>>,
    waker: Mutex<Option<Waker>>,
}

impl Slot {
    pub(crate) fn answer(&self) -> Option<Result<Offsets>> {
        self.answer.get().cloned()
    }

    /// Leaves a waker, in place of an earlier one; the caller looks for an answer afterwards.
    pub(crate) fn leave(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    fn settle(&self, answer: Result<Offsets>) {
        // The first answer stands; there is never a second.
        let _ = self.answer.set(answer);
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What somebody wants of the writer.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) wish: Wish,
    pub(crate) slot: Arc<Slot>,
}

#[derive(Debug)]
pub(crate) enum Wish {
    Push {
        batch: Encoded,
        synced: bool,
    },
    /// Everything written before it on stable storage; with `mark`, and the manifest told so.
    Sync {
        mark: bool,
    },
}

/// What waits for a leader.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) jobs: Vec<Job>,
    /// Why nothing is written any more: closed, or poisoned.
    pub(crate) stopped: Option<Error>,
}

/// One group of wishes, with the answers.
#[derive(Debug, Default)]
pub(crate) struct Group {
    jobs: Vec<Job>,
    answers: Vec<Option<Result<Offsets>>>,
}

/// The write end of the log.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(super) log: Arc<Log>,
    pub(super) manifest: Arc<Manifest>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) spare: Arc<Spare>,
    pub(super) active: Active,
    /// Bytes of a full-grown segment.
    pub(super) segment_bytes: u64,
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
    duties: Arc<Bell>,
    evidence: Option<Evidence>,
    /// A failed write that could not be taken back for lack of room, and why it failed.
    taint: Option<u64>,
    pub(super) poisoned: Option<Error>,
    buffer: Vec<u8>,
    /// Test-only bugs, to show that the crash tests find them.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) plants: crate::storage::sim::Plants,
}

/// From where an opening goes on.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) log: Arc<Log>,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) spare: Arc<Spare>,
    pub(crate) active: Active,
    pub(crate) segment_bytes: u64,
    /// The next offset to give.
    pub(crate) next: u64,
    /// The offset behind the last message.
    pub(crate) shown: u64,
    pub(crate) messages: u64,
    pub(crate) reserved: u64,
    /// Rings in the background thread, when there may be a duty.
    pub(crate) duties: Arc<Bell>,
    pub(crate) evidence: Option<Evidence>,
}

impl Worker<Waiting> for Writer {
    type Group = Group;

    fn is_patient(&self, waiting: &Waiting) -> bool {
        waiting.jobs.iter().any(|job| matches!(job.wish, Wish::Push { synced: true, .. }))
    }

    fn gather(&mut self, waiting: &mut Waiting) -> Group {
        let jobs = std::mem::take(&mut waiting.jobs);
        let answers = vec![None; jobs.len()];
        Group { jobs, answers }
    }

    fn run(&mut self, group: &mut Group) {
        let outcome = self.write_group(group);
        if let Err(error) = outcome {
            group.refuse(&error);
        }
    }

    fn publish(&mut self, waiting: &mut Waiting, group: &mut Group, panicked: bool) {
        if panicked {
            let error = self.poison("a panic in the writer");
            group.refuse(&error);
        }
        if waiting.stopped.is_none() {
            waiting.stopped.clone_from(&self.poisoned);
        }
        for (job, answer) in group.jobs.iter().zip(&mut group.answers) {
            job.slot.settle(answer.take().unwrap_or(Err(Error::Closed)));
        }
    }

    fn announce(group: Group) {
        for job in &group.jobs {
            job.slot.wake();
        }
    }
}

impl Group {
    /// Answers everybody who has no answer yet, and those whose "yes" has become untrue.
    fn refuse(&mut self, error: &Error) {
        for answer in &mut self.answers {
            if !matches!(answer, Some(Err(_))) {
                *answer = Some(Err(error.clone()));
            }
        }
    }
}

/// Batches that lie in the buffer, or alone in their job, and go out with the next write.
#[derive(Debug, Default)]
struct Pending {
    /// The jobs, with the offsets they were given and the tags of their records.
    jobs: Vec<(usize, Offsets, u64)>,
    length: u64,
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
            segment_bytes: opened.segment_bytes,
            next: opened.next,
            shown: opened.shown,
            messages: opened.messages,
            durable,
            reserved: opened.reserved,
            reserve_step: FIRST_RESERVE,
            opened: false,
            duties: opened.duties,
            evidence: opened.evidence,
            taint: None,
            poisoned: None,
            buffer: Vec::new(),
            #[cfg(any(test, feature = "testing"))]
            plants: crate::storage::sim::Plants::default(),
        }
    }

    /// Returns where the next batch goes: segment, position, offset.
    pub(crate) fn place(&self) -> (u64, u64, u64) {
        (self.active.segment.number, self.active.position, self.next)
    }

    /// Refuses from now on; readers are shown what is durable.
    pub(super) fn poison(&mut self, cause: impl ToString) -> Error {
        let path = self.log.path(self.active.segment.number);
        let error = Error::Poisoned { path, cause: cause.to_string() };
        self.poisoned = Some(error.clone());
        self.log.stop(&self.active.segment, self.durable, error.clone());
        error
    }

    /// Writes a group and answers each job; an error is for all that have no answer by then.
    fn write_group(&mut self, group: &mut Group) -> Result<()> {
        if let Some(poison) = &self.poisoned {
            return Err(poison.clone());
        }
        let pushes = group.jobs.iter().any(|job| matches!(job.wish, Wish::Push { .. }));
        if pushes {
            self.before_first_write()?;
        }
        let (mut sync, mut mark) = (false, false);
        let mut pending = Pending::default();
        let mut no_roll: Option<Error> = None;
        let now = self.clock.wall();
        for index in 0..group.jobs.len() {
            let (length, messages, tags) = match &group.jobs[index].wish {
                Wish::Sync { mark: wanted } => {
                    sync = true;
                    mark |= wanted;
                    group.answers[index] = Some(Ok(Offsets::new(0, 0)));
                    continue;
                }
                Wish::Push { batch, synced } => {
                    sync |= synced;
                    (batch.length(), u64::from(batch.messages()), batch.tags)
                }
            };
            if self.active.position + pending.length + length > self.active.capacity {
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
            if pending.length + length > GATHER as u64 {
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
                position: self.active.position + pending.length,
                base: self.next - messages,
                time: now,
                mark: self.mark(),
            };
            if let Wish::Push { batch, .. } = &mut group.jobs[index].wish {
                batch.stamp(&stamp);
            }
            pending.jobs.push((index, offsets, tags));
            pending.length += length;
        }
        self.write(group, &mut pending, now)?;
        #[cfg(any(test, feature = "testing"))]
        if self.plants.publish_before_sync {
            self.publish_end();
        }
        #[cfg(any(test, feature = "testing"))]
        let sync = sync && !self.plants.answer_before_sync;
        if sync {
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
        #[cfg(any(test, feature = "testing"))]
        if self.plants.mark_before_sync {
            return self.active.position;
        }
        self.active.durable
    }

    fn publish_end(&self) {
        let end = End { position: self.active.position, next: self.shown, messages: self.messages };
        self.log.publish(&self.active.segment, end);
    }

    /// Writes what is pending, in one write; a failure is answered to those it concerns.
    fn write(&mut self, group: &mut Group, pending: &mut Pending, now: u64) -> Result<()> {
        let Pending { jobs, length } = std::mem::take(pending);
        if jobs.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.take_back_tainted() {
            for (index, ..) in &jobs {
                group.answers[*index] = Some(Err(error.clone()));
            }
            return self.poisoned.clone().map_or(Ok(()), Err);
        }
        self.buffer.clear();
        let bytes = if let [(alone, ..)] = jobs[..] {
            group.jobs[alone].bytes()
        } else {
            for (index, ..) in &jobs {
                self.buffer.extend_from_slice(group.jobs[*index].bytes());
            }
            &self.buffer
        };
        debug_assert_eq!(bytes.len() as u64, length);
        let written = write_all_at(&*self.active.file, bytes, self.active.position);
        if let Err(error) = written {
            let answer = self.take_back(self.active.position, &error);
            for (index, ..) in &jobs {
                group.answers[*index] = Some(Err(answer.clone()));
            }
            return self.poisoned.clone().map_or(Ok(()), Err);
        }
        let before = self.active.position;
        self.active.position += length;
        if before / self.duty_every() != self.active.position / self.duty_every() {
            self.duties.wake();
        }
        for (index, offsets, tags) in jobs {
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
        if let Err(error) = self.active.file.sync() {
            return Err(self.poison(error));
        }
        self.active.durable = end.position;
        self.durable = end;
        Ok(())
    }

    /// Takes back a write that failed: its first header is zeroed, durable, before anyone is told.
    /// Its offsets are burnt, so the batches behind it have a base below the next one. Returns the
    /// answer for those who waited.
    fn take_back(&mut self, position: u64, cause: &std::io::Error) -> Error {
        let path = self.log.path(self.active.segment.number);
        let repeated = std::io::Error::new(cause.kind(), cause.to_string());
        #[cfg(any(test, feature = "testing"))]
        if self.plants.no_zeroing {
            return Error::io("write", path, repeated);
        }
        match write_all_at(&*self.active.file, &[0; batch::HEADER], position) {
            Ok(()) => match self.active.file.sync() {
                Ok(()) => Error::io("write", path, repeated),
                Err(error) => self.poison(error),
            },
            Err(error) if crate::error::is_lack_of_room(&error) => {
                self.taint = Some(position);
                Error::InDoubt { path, cause: cause.to_string() }
            }
            Err(error) => self.poison(error),
        }
    }

    /// Does what an earlier failure left undone; as long as it cannot, there is no room.
    fn take_back_tainted(&mut self) -> Result<()> {
        let Some(position) = self.taint else { return Ok(()) };
        let path = self.log.path(self.active.segment.number);
        write_all_at(&*self.active.file, &[0; batch::HEADER], position).map_err(|error| {
            if crate::error::is_lack_of_room(&error) {
                Error::io("write", &path, error)
            } else {
                self.poison(error)
            }
        })?;
        if let Err(error) = self.active.file.sync() {
            return Err(self.poison(error));
        }
        self.taint = None;
        Ok(())
    }

    /// Sets torn bytes aside and tells the manifest that the log is open, with a reserve of
    /// offsets: both durable before the first write of this opening.
    fn before_first_write(&mut self) -> Result<()> {
        if self.opened {
            return Ok(());
        }
        if let Some(evidence) = &self.evidence {
            evidence.set_aside(&*self.log.storage)?;
            self.evidence = None;
        }
        #[cfg(any(test, feature = "testing"))]
        if self.plants.write_before_opened {
            self.opened = true;
            self.reserved = self.next + FIRST_RESERVE;
            return Ok(());
        }
        self.reserve_up_to(self.next + FIRST_RESERVE)?;
        self.opened = true;
        Ok(())
    }

    /// Makes sure that the next `messages` offsets are reserved.
    fn reserve(&mut self, messages: u64) -> Result<()> {
        let wanted = self.next + messages;
        if wanted <= self.reserved {
            return Ok(());
        }
        // Offsets end below 2⁴⁸, so that the one behind the last fits into 48 bits too.
        if wanted >= Offset::LIMIT {
            return Err(Error::Exhausted { path: self.log.storage.root().to_path_buf() });
        }
        self.reserve_step = (self.reserve_step * 2).min(LAST_RESERVE);
        self.reserve_up_to(wanted + self.reserve_step)
    }

    fn reserve_up_to(&mut self, end: u64) -> Result<()> {
        let end = end.min(Offset::LIMIT - 1).max(self.reserved);
        let mark = self.durable_mark(end, false);
        self.update_mark(mark)?;
        self.reserved = end;
        Ok(())
    }

    /// Tells the manifest how far the log is durable.
    fn tell_mark(&mut self) -> Result<()> {
        if !self.opened || self.manifest.slot().log.position == self.durable.position {
            return Ok(());
        }
        let mark = self.durable_mark(self.reserved, false);
        self.update_mark(mark)
    }

    pub(super) fn durable_mark(&self, reserved: u64, closed: bool) -> LogMark {
        LogMark {
            segment: self.active.segment.number,
            position: self.durable.position,
            next: self.durable.next,
            messages: self.durable.messages,
            reserved,
            closed,
        }
    }

    fn update_mark(&mut self, mark: LogMark) -> Result<()> {
        self.tell(mark, &BTreeMap::new())
    }

    /// Writes a slot with this mark, and the generations that the groups' files have by now.
    fn tell(&mut self, mark: LogMark, generations: &BTreeMap<String, u64>) -> Result<()> {
        // Of what lies behind the mark the walk at opening tells; the row may know more already.
        let about = self.active.about;
        let updated = self.manifest.update(|slot| {
            slot.log = mark;
            if let Some(row) = slot.segments.last_mut() {
                row.about = about;
            }
            for row in &mut slot.groups {
                row.generation = generations.get(&row.name).copied().unwrap_or(row.generation);
            }
        });
        updated.map_err(|error| match error {
            Error::Poisoned { .. } => self.poison(error),
            other => other,
        })
    }

    /// Ends the log cleanly: everything durable, and the manifest says so.
    ///
    /// # Errors
    /// When the disk refuses, or the writer was poisoned: the manifest stays as it is, and the next
    /// opening finds the end by itself.
    pub(crate) fn close(&mut self, generations: &BTreeMap<String, u64>) -> Result<()> {
        if let Some(poison) = &self.poisoned {
            return Err(poison.clone());
        }
        self.take_back_tainted()?;
        self.sync()?;
        if self.opened {
            let mut mark = self.durable_mark(self.reserved, true);
            // Beyond burnt ones.
            mark.next = self.next;
            self.tell(mark, generations)?;
            self.opened = false;
        } else if generations_differ(&self.manifest.slot(), generations) {
            let mark = self.manifest.slot().log;
            self.tell(mark, generations)?;
        }
        Ok(())
    }
}

/// Tells whether a group's file has a newer generation than the slot says.
fn generations_differ(slot: &Slots, generations: &BTreeMap<String, u64>) -> bool {
    slot.groups.iter().any(|row| generations.get(&row.name).is_some_and(|&newer| newer > row.generation))
}

impl Job {
    fn bytes(&self) -> &[u8] {
        match &self.wish {
            Wish::Push { batch, .. } => batch.bytes(),
            Wish::Sync { .. } => &[],
        }
    }
}
