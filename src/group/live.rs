//! One group, open: how do its state, its offset file and its readers go together?
//!
//! Under one lock: the state, the place where the next entry goes, and two cursors into the log. A
//! change is decided, its entry appended, and applied, all in one step under that lock. What needs
//! the disk (writing and syncing entries where they are not stored through a mapping, switching
//! halves, reading the log) is done by one thread that takes what it needs out of the state by
//! value, with no lock held.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::ahead::Ahead;
use super::helper::Helper;
use super::oldest::Oldest;
use super::shrink::Shrinking;
use super::state::{Now, State};
use super::writer::Writer;
use crate::clock::Clock;
use crate::commit::{Commit, Guard};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, MAX_SLOTS, MAX_TEXT, SLOT_BYTES};
use crate::format::snapshot::packed_len;
use crate::format::{PAGE_POSITION, round_up};
use crate::log::Log;
use crate::log::reader::{Cursor, Message, Step};
use crate::offsets::{Halves, Track};
use crate::wake::Wake;

/// Bytes of entries kept free for each loan: so that it can always be settled, alone or in a range,
/// with an own mark in front.
const RESERVE: u64 = 3 * SLOT_BYTES;
/// Room for entries: what a half gets at first, and what it grows to.
pub(super) const LEAST_ROOM: u64 = 64 << 10;
pub(super) const MOST_ROOM: u64 = 4 << 20;

/// An open group.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) name: String,
    /// Random, new at every creation.
    pub(crate) incarnation: u64,
    pub(crate) log: Arc<Log>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) commit: Commit<Shared, Writer>,
    /// Whether an ack is on stable storage before it returns.
    pub(super) synced: bool,
    /// Does what somebody who may not block needs.
    pub(super) helper: Arc<Helper>,
    /// The helper was told that somebody waits for entries, and has not looked since.
    pub(super) handed: AtomicBool,
    /// How much was appended when it was last looked at, and since when.
    pub(super) idle: Mutex<(u64, Duration)>,
}

pub(super) type Locked<'a> = Guard<'a, Shared, Writer>;

/// What the lock is on.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) state: State,
    /// `None` before the first switch, and while one is under way.
    pub(super) track: Option<Track>,
    /// The cursor for messages that were never lent; `None` while somebody reads with it.
    pub(super) fresh: Option<Cursor>,
    /// What reading with it found out, not yet acted on.
    pub(super) stash: Option<Step>,
    /// The cursor for messages that come again.
    pub(super) again: Option<Cursor>,
    /// A message that comes again, read and not yet lent.
    pub(super) fetched: Option<Message>,
    /// Where it looks for high priorities; `None` while somebody reads with it.
    pub(super) ahead: Option<Ahead>,
    /// From the head up to here everything is done or was put aside.
    pub(super) skipped: u64,
    /// How often reading was told to go on elsewhere: what was read before is no use then.
    pub(super) seeks: u64,
    /// No more calls: closed, removed, or poisoned.
    pub(super) stopped: Option<Error>,
    /// Its writer is gone, or cannot be believed.
    pub(super) broken: Option<Error>,
    /// Bytes of entries over all halves: appended, handed to the kernel, on stable storage.
    pub(super) appended: u64,
    pub(super) written: u64,
    pub(super) synced: u64,
    pub(super) sync_wanted: bool,
    /// Up to here somebody was promised a sync who may wait by a waker, or not at all.
    pub(super) promised: u64,
    /// Bytes of entries that the next half must have room for.
    pub(super) switch_wanted: Option<u64>,
    pub(super) switch_refused: Option<Error>,
    /// Bytes of entries that the next half should have room for.
    pub(super) room: u64,
    /// A synced group of entries starts with a mark of this position.
    pub(super) mark_due: Option<u64>,
    /// Bytes of the smaller half.
    pub(super) least_bytes: u64,
    pub(super) shrink: Shrinking,
    /// A holder has begun that is in no synced snapshot yet.
    pub(super) unsaved_holder: bool,
    /// The newest generation whose switch is complete.
    pub(super) generation: u64,
    /// A position in the half of that generation: a sync that has returned made all before it
    /// durable.
    pub(super) durable: u64,
    /// Offsets below it that batches ack are known as acked on stable storage.
    pub(super) settled: u64,
    /// Who wants no ack to be on its way in a batch.
    pub(super) hushed: u32,
    /// Threads that wait in `receive`, and those that wait for the group to have no loans.
    pub(super) sleepers: u32,
    pub(super) watchers: u32,
    /// Damage that the group came to and no consumer has been told of.
    pub(super) reports: VecDeque<Error>,
    /// What was discarded so that there is room.
    pub(super) oldest: Oldest,
}

impl Shared {
    pub(super) fn break_with(&mut self, error: &Error) {
        self.broken = Some(error.clone());
        self.stopped.get_or_insert_with(|| error.clone());
    }

    /// Appends the own mark that is due, if one is; `None` where there is no room for it.
    fn append_mark(&mut self) -> Option<()> {
        let Some(durable) = self.mark_due else { return Some(()) };
        let track = self.track.as_mut()?;
        track.append_own_mark(durable)?;
        self.mark_due = None;
        self.appended += SLOT_BYTES;
        if track.is_mapped() {
            self.written = self.appended;
        }
        Some(())
    }

    /// Appends an entry and applies it: the one way in which the state changes.
    ///
    /// The caller has made sure of the room.
    fn put(&mut self, entry: &Entry, now: Now, synced: bool) -> Result<()> {
        let no_room = || Error::Invalid { what: "an entry was appended without room for it".into() };
        if synced {
            self.append_mark().ok_or_else(no_room)?;
        }
        let track = self.track.as_mut().ok_or_else(no_room)?;
        track.append(entry).ok_or_else(no_room)?;
        self.appended += entry.slots() as u64 * SLOT_BYTES;
        if track.is_mapped() {
            self.written = self.appended;
        }
        self.state.apply(entry, now);
        Ok(())
    }
}

impl Live {
    #[expect(clippy::too_many_arguments, reason = "the parts of a group come from as many places")]
    pub(crate) fn new(
        name: String,
        incarnation: u64,
        log: Arc<Log>,
        helper: Arc<Helper>,
        state: State,
        halves: Halves,
        durable: u64,
        synced: bool,
        mappings: bool,
    ) -> Arc<Self> {
        let clock = helper.clock().clone();
        let (generation, least_bytes) = (halves.generation(), halves.least_bytes());
        let settled = state.settled();
        let mapped = mappings && !synced;
        let writer = Writer::new(halves, mapped, log.clone(), clock.clone());
        let shared = Shared {
            state,
            track: None,
            fresh: Some(Cursor::new(log.clone())),
            stash: None,
            again: Some(Cursor::new(log.clone())),
            fetched: None,
            ahead: Some(Ahead::default()),
            skipped: 0,
            seeks: 0,
            stopped: None,
            broken: None,
            appended: 0,
            written: 0,
            synced: 0,
            sync_wanted: false,
            promised: 0,
            switch_wanted: None,
            switch_refused: None,
            room: LEAST_ROOM,
            mark_due: None,
            least_bytes,
            shrink: Shrinking::default(),
            unsaved_holder: false,
            generation,
            durable,
            settled,
            hushed: 0,
            sleepers: 0,
            watchers: 0,
            reports: VecDeque::new(),
            oldest: Oldest::default(),
        };
        let commit = Commit::new(shared, writer);
        let idle = Mutex::new((0, clock.now()));
        let handed = AtomicBool::new(false);
        let live = Arc::new(Self { name, incarnation, log, clock, commit, synced, helper, handed, idle });
        let weak = Arc::downgrade(&live);
        live.log.listen(weak.clone());
        live.clock.on_advance(weak);
        live
    }

    /// Locks, in the process that opened the queue.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub(super) fn enter(&self) -> Result<Locked<'_>> {
        self.log.check_process()?;
        Ok(self.commit.lock())
    }

    pub(super) fn now(&self) -> Now {
        Now { mono: self.clock.now(), wall: self.clock.wall() }
    }

    /// Returns once `bytes` of entries fit beside what is kept for settling every loan, `loans`
    /// new ones included; switches halves if they do not.
    ///
    /// Room is kept in both halves, for the largest snapshot that settling can lead to, too: so an
    /// ack needs no room that is not there already, however full the disk is.
    pub(super) fn with_room<'a>(
        &'a self,
        mut guard: Locked<'a>,
        bytes: u64,
        loans: u64,
    ) -> Result<Locked<'a>> {
        loop {
            guard.check()?;
            let (need, kept) = guard.needs(bytes, loans);
            if kept && guard.has_entries(need) {
                return Ok(guard);
            }
            let snapshot = if kept { 0 } else { packed_len(guard.state.snapshot_bound(loans, false)) };
            // Twice as much is wished for, so that growing is rare.
            guard.room = guard.room.max(2 * snapshot);
            guard = self.switch(guard, need + snapshot)?;
        }
    }

    /// Returns once `bytes` of entries fit that settle loans: room for them was kept at the lending.
    pub(super) fn with_settling_room<'a>(&'a self, guard: Locked<'a>, bytes: u64) -> Result<Locked<'a>> {
        guard.check()?;
        if guard.track.as_ref().is_some_and(|track| track.room() >= bytes + SLOT_BYTES) {
            return Ok(guard);
        }
        // What is to be appended is what was kept for these loans: nothing is kept twice.
        let need = RESERVE * guard.state.on_loan();
        self.switch(guard, bytes.max(need) + SLOT_BYTES)
    }

    /// Makes the state durable, if no entry of this opening did so yet.
    pub(crate) fn save(&self) -> Result<()> {
        self.with_room(self.commit.lock(), SLOT_BYTES, 0).map(drop)
    }

    /// Switches halves, to one with room for `need` bytes of entries at least.
    pub(super) fn switch<'a>(&'a self, mut guard: Locked<'a>, need: u64) -> Result<Locked<'a>> {
        guard.switch_wanted = Some(guard.switch_wanted.unwrap_or(0).max(need));
        guard.switch_refused = None;
        let number = guard.group();
        let (guard, answer) = self.commit.until(guard, number, &*self.clock, None, |shared| {
            if let Some(error) = &shared.broken {
                return Some(Err(error.clone()));
            }
            if let Some(error) = &shared.switch_refused {
                return Some(Err(error.clone()));
            }
            (shared.switch_wanted.is_none() && shared.track.is_some()).then_some(Ok(()))
        });
        answer.unwrap_or(Ok(()))?;
        Ok(guard)
    }

    /// Appends and applies an entry.
    pub(super) fn put(&self, guard: &mut Locked<'_>, entry: &Entry, now: Now) -> Result<()> {
        guard.put(entry, now, self.synced)
    }

    /// Makes buffered acks durable, and says so in the file; refuses if the group is poisoned.
    pub(crate) fn sync_lazily(&self) -> Result<()> {
        let mut guard = self.commit.lock();
        if guard.stopped.is_none() {
            guard = self.record_durable(guard)?;
        }
        // Closed or removed meanwhile: nobody asks any more.
        let over = matches!(guard.stopped, Some(Error::Closed | Error::NoSuchGroup { .. }));
        if over || guard.synced >= guard.appended {
            return Ok(());
        }
        guard.check()?;
        self.settle_down(guard, true)?;
        self.mark()
    }

    /// Tells the next receiver of damage.
    pub(super) fn report(guard: &mut Locked<'_>, error: Error) {
        const MOST: usize = 64;
        if guard.reports.len() < MOST {
            guard.reports.push_back(error);
        }
    }

    /// Appends an own mark and syncs it.
    fn mark(&self) -> Result<()> {
        let mut guard = self.commit.lock();
        let due = guard.mark_due.is_some() && guard.has_room_beside_loans(SLOT_BYTES);
        if !due || guard.append_mark().is_none() {
            return Ok(());
        }
        self.settle_down(guard, true)
    }

    /// Stops the group: loans go back uncounted, everything is synced and marked, the files are
    /// closed. Waiting receivers get `why`.
    ///
    /// # Errors
    /// When the disk refuses; the group is stopped all the same.
    pub(crate) fn stop(&self, why: &Error) -> Result<()> {
        let outcome = self.finish();
        let mut guard = self.commit.lock();
        guard.stopped.get_or_insert_with(|| why.clone());
        self.commit.wake_all(&mut guard);
        drop(guard);
        let writer = self.commit.retire(|shared| shared.broken.is_some());
        let mut guard = self.commit.lock();
        guard.break_with(why);
        guard.fresh = None;
        guard.again = None;
        guard.track = None;
        self.commit.wake_all(&mut guard);
        drop(guard);
        drop(writer);
        outcome
    }

    fn finish(&self) -> Result<()> {
        let mut guard = self.commit.lock();
        guard.check()?;
        guard = self.wait_for_settling(guard);
        guard = self.record_durable(guard)?;
        guard.check()?;
        if guard.track.is_none() && guard.is_idle() {
            // Nothing was written in this opening.
            return Ok(());
        }
        if guard.state.on_loan() > 0 {
            guard = self.with_settling_room(guard, SLOT_BYTES)?;
            let now = self.now();
            for entry in guard.state.close_release(now) {
                self.put(&mut guard, &entry, now)?;
            }
        }
        self.settle_down(guard, true)?;
        self.mark()
    }
}

impl Shared {
    /// Returns how many bytes of entries there must be room for, so that `bytes` fit beside what is kept; and
    /// whether what they can lead to fits into a half.
    fn needs(&self, bytes: u64, loans: u64) -> (u64, bool) {
        let need = bytes + self.kept(loans);
        (need, loans == 0 || self.halves_fit(need, loans, 0))
    }

    fn has_entries(&self, bytes: u64) -> bool {
        self.track.as_ref().is_some_and(|track| track.room() >= bytes)
    }

    /// Tells whether [`Live::with_numbers`] would return at once.
    ///
    /// # Errors
    /// When the group was stopped.
    pub(super) fn has_numbers(&self, bytes: u64, loans: u64, holder: Option<u32>) -> Result<bool> {
        let room = self.has_room(bytes, loans)?;
        let numbers = match holder {
            // Looked up under the lock under which it is lent to: who is gone holds nothing from then on.
            Some(holder) if self.state.deliveries(Some(holder), loans).is_none() => {
                return Err(Error::HolderOver { holder });
            }
            Some(_) => true,
            None => !self.unsaved_holder && self.state.deliveries(None, loans).is_some(),
        };
        Ok(room && numbers)
    }

    /// Tells whether there is room for so many loans, and for `bytes` of entries.
    ///
    /// # Errors
    /// When the group was stopped.
    pub(super) fn has_room(&self, bytes: u64, loans: u64) -> Result<bool> {
        self.check()?;
        let (need, kept) = self.needs(bytes, loans);
        Ok(kept && self.has_entries(need))
    }

    /// Tells whether a half holds the largest snapshot that settling every loan, `loans` new ones
    /// included, can lead to, `extra` bytes of it, and `need` bytes of entries.
    fn halves_fit(&self, need: u64, loans: u64, extra: u64) -> bool {
        let snapshot = packed_len(self.state.snapshot_bound(loans, false) + extra);
        round_up(PAGE_POSITION + snapshot, PAGE_POSITION) + need <= self.least_bytes
    }

    /// Returns the bytes of entries that settling every loan may take, `loans` new ones included.
    pub(super) fn kept(&self, loans: u64) -> u64 {
        RESERVE * (self.state.on_loan() + loans) + SLOT_BYTES
    }

    /// Tells whether an error text can be kept although every loan must still be settled.
    pub(super) fn has_room_for_text(&self) -> bool {
        self.has_room_beside_loans(MAX_SLOTS as u64 * SLOT_BYTES)
            && self.halves_fit(self.kept(0), 0, MAX_TEXT as u64)
    }

    /// Tells whether so many bytes can be spent although every loan must still be settled.
    fn has_room_beside_loans(&self, bytes: u64) -> bool {
        self.track.as_ref().is_some_and(|track| track.room() >= bytes + self.kept(0))
    }

    /// Says why nothing goes any more, if so.
    pub(super) fn check(&self) -> Result<()> {
        self.stopped.clone().map_or(Ok(()), Err)
    }
}

impl Wake for Live {
    fn wake(&self) {
        let Ok(mut guard) = self.enter() else { return };
        self.commit.wake_changed(&mut guard);
    }
}
