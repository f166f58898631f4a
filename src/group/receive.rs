//! How does a message get into a consumer's hands?
//!
//! Ready messages come by priority, then in offset order: those that come again before those that were
//! never lent. A loan is recorded before it is handed out: that is what makes losses countable.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::ahead::Ahead;
use super::aside::{self, Aside};
use super::decide::{Next, Special};
use super::exceptions::ANY_SEGMENT;
use super::keys::Keys;
use super::kinds::Others;
use super::live::{Live, Locked};
use super::settle::Settle;
use super::state::Now;
use crate::error::{Error, Result};
use crate::format::entry::SLOT_BYTES;
use crate::log::reader::{Cursor, Damaged, Message, Place, Step};

/// The most messages that one entry lends.
const MOST: usize = 1024;
/// The most rows of loans that are ended before anything else happens.
const MOST_ENDED: usize = 64;
/// Of so many bytes a guest is lent no more at once: all of it goes in one answer.
const LONG: u64 = 8 << 20;

/// A message on loan, not yet checked.
#[derive(Debug)]
pub(crate) struct Loan {
    pub(crate) message: Message,
    pub(crate) delivery: u64,
    /// 1 for the first.
    pub(crate) attempt: u32,
    /// Milliseconds, or all ones.
    pub(crate) lease: u32,
}

impl Loan {
    /// Returns what it is settled by.
    pub(crate) fn settle(&self) -> Settle {
        Settle { offset: self.message.offset, delivery: self.delivery, place: self.message.place.pair() }
    }
}

/// Of those who are never told to stop.
pub(crate) static NEVER: AtomicBool = AtomicBool::new(false);

/// What a receiver asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// Whose the loans are to be; `None`: this opening's own, else those of a guest that has begun.
    pub(crate) holder: Option<u32>,
    /// Messages, at the most.
    pub(crate) most: usize,
    /// How long the loans last, in milliseconds; all ones: as long as their holder; `None`: as the
    /// group's policy says.
    pub(crate) lease: Option<u32>,
    /// Until when it waits for the first; `None` for ever.
    pub(crate) until: Option<Duration>,
    /// Let a message that is to be handed out alone have its turn: lend nothing else meanwhile.
    pub(crate) drain: bool,
    /// Return with nothing as soon as nothing is ready and nothing is on loan.
    pub(crate) idle_ends: bool,
    /// Return with nothing once this is set; whoever sets it wakes the group.
    pub(crate) stop: &'a AtomicBool,
}

/// What one receive was lent, and what it is to know of that.
#[derive(Debug, Default)]
pub(super) struct Lending {
    pub(super) loans: Vec<Loan>,
    keys: Keys,
    /// What had been appended when those who wait for room in the queue were told last.
    told: Option<u64>,
}

/// Why lending goes no further for now.
#[derive(Debug)]
pub(super) enum Halt {
    /// There is enough, or nothing to wait for.
    Over,
    /// There is no room, or there are no numbers, for so many loans.
    Room { loans: u64 },
    /// It took its time, and nothing was lent yet.
    Long,
    /// Nothing is ready; the log ended there. At that time something may be, or the time is over.
    Nothing { seen: u64, until: Option<Duration> },
}

impl Live {
    /// Lends messages that are ready, not yet recorded where a crash finds it; those lent before an error
    /// stay lent. Waits for nothing but a read of the log, and reads or passes over so much at the most
    /// before the first loan.
    pub(super) fn lend<'a>(
        &'a self,
        mut guard: Locked<'a>,
        ask: &Ask<'_>,
        lending: &mut Lending,
        mut rounds: u32,
    ) -> Result<(Locked<'a>, Halt)> {
        let Lending { loans, keys, told } = lending;
        loop {
            let left = (ask.most - loans.len()).min(MOST);
            let is_long =
                ask.holder.is_some() && loans.iter().map(|loan| loan.message.length()).sum::<u64>() >= LONG;
            if left == 0 || is_long || ask.stop.load(Ordering::Acquire) {
                return Ok((guard, Halt::Over));
            }
            if loans.is_empty()
                && let Some(report) = guard.reports.pop_front()
            {
                return Err(report);
            }
            if rounds == 0 && loans.is_empty() {
                return Ok((guard, Halt::Long));
            }
            rounds = rounds.saturating_sub(1);
            let seen = self.log.next();
            if !guard.has_numbers(2 * SLOT_BYTES, left as u64, ask.holder)? {
                return Ok((guard, Halt::Room { loans: left as u64 }));
            }
            let told = told.get_or_insert(guard.appended);
            let now = self.now();
            let ended = guard.state.run_out(MOST_ENDED, now);
            for entry in &ended {
                // Room for it was kept when the loan was made.
                self.put(&mut guard, entry, now)?;
            }
            if !ended.is_empty() {
                continue;
            }
            guard.state.ripen(now);
            let lease = ask.lease.unwrap_or_else(|| guard.state.lease());
            let mut next = guard.state.next(now, ask.drain, ask.holder);
            if !matches!(next, Next::Nothing { .. }) {
                let (back, found) = self.raise(guard, now, next)?;
                guard = back;
                if found {
                    continue;
                }
                if let Some(own) = keys.next(&guard.state) {
                    next = guard.state.next_or(next, own);
                }
            }
            let again = match next {
                Next::Nothing { .. } | Next::Raised { .. } => None,
                Next::Again(offset) => Some(offset),
                Next::Fresh { or } => {
                    let (back, found) = self.lend_fresh(guard, left, (ask.holder, lease), now, loans)?;
                    guard = back;
                    if found {
                        continue;
                    }
                    or
                }
            };
            if let Some(offset) = again {
                let before = loans.len();
                guard = self.lend_again(guard, offset, (ask.holder, lease), now, loans)?;
                if let Some(loan) = loans.get(before) {
                    keys.took(guard.state.key_of(offset), (offset, loan.delivery));
                }
                continue;
            }
            let due = match next {
                Next::Nothing { until } | Next::Raised { until } => until,
                _ => guard.state.next_timer(now),
            };
            if !loans.is_empty() {
                return Ok((guard, Halt::Over));
            }
            if ask.idle_ends && guard.state.stats().on_loan == 0 {
                return Ok((guard, Halt::Over));
            }
            if let Some(failure) = self.log.failure() {
                return Err(failure.clone());
            }
            if ask.until.is_some_and(|until| self.clock.now() >= until) {
                return Ok((guard, Halt::Over));
            }
            if guard.appended != *told && self.log.room.is_waited_for() {
                // What was passed over is done: there may be room for a push.
                *told = guard.appended;
                drop(guard);
                self.log.room.ring();
                guard = self.enter()?;
                continue;
            }
            let until = [ask.until, due].into_iter().flatten().min();
            return Ok((guard, Halt::Nothing { seen, until }));
        }
    }

    /// Puts the message of the highest priority aside that lies ahead, if nothing else goes before it;
    /// tells whether something has changed, or may have: then all is looked at anew.
    fn raise<'a>(&'a self, mut guard: Locked<'a>, now: Now, next: Next) -> Result<(Locked<'a>, bool)> {
        let shared = &mut *guard;
        let Some(ahead) = &mut shared.ahead else {
            // Somebody reads with it, and will wake us.
            return Ok((self.commit.wait_changed(guard, &*self.clock, None), true));
        };
        let (state, end) = (&shared.state, self.log.next());
        ahead.pass(end, |offset| state.is_met(offset));
        if ahead.is_behind(&self.log) {
            return Ok((self.read_ahead(guard)?, true));
        }
        let Some(row) = ahead.first(end) else { return Ok((guard, false)) };
        let due = if row.due > now.wall { row.due } else { 0 };
        if due == 0 && !state.goes_before(row.priority, next) {
            return Ok((guard, false));
        }
        let special = Special { priority: row.priority, key: 0, due, position: row.position };
        let entry = state.aside(row.offset, &special, true);
        self.put(&mut guard, &entry, now)?;
        Ok((guard, true))
    }

    /// Reads what lies ahead, no lock held.
    fn read_ahead<'a>(&'a self, mut guard: Locked<'a>) -> Result<Locked<'a>> {
        let Some(mut ahead) = guard.ahead.take() else { return Ok(guard) };
        let (seeks, head) = (guard.seeks, guard.state.head());
        drop(guard);
        let read = ahead.read(&self.log, head);
        let mut guard = self.commit.lock();
        guard.ahead = Some(if guard.seeks == seeks { ahead } else { Ahead::default() });
        self.commit.wake_changed(&mut guard);
        read.map(|()| guard)
    }

    /// Lends messages that were never lent, as many as are in memory in a row; `false`: there are
    /// none.
    fn lend_fresh<'a>(
        &'a self,
        mut guard: Locked<'a>,
        most: usize,
        (holder, lease): (Option<u32>, u32),
        now: Now,
        loans: &mut Vec<Loan>,
    ) -> Result<(Locked<'a>, bool)> {
        let head = guard.state.head();
        let shared = &mut *guard;
        let Some(cursor) = &mut shared.fresh else {
            // Somebody reads with it, and will wake us.
            return Ok((self.commit.wait_changed(guard, &*self.clock, None), true));
        };
        if shared.stash.is_none() {
            let (segment, position) = shared.state.hint();
            // Behind what was skipped: it would be read and skipped for ever where more must be read.
            cursor.seek(head.max(shared.skipped), Some(Place { segment, position }));
        }
        let before = loans.len();
        let mut others: Option<Others> = None;
        let stop = loop {
            let step = shared.stash.take().or_else(|| cursor.next_in_memory());
            match step {
                Some(Step::Message(message)) => {
                    let state = &shared.state;
                    if state.done_until(message.offset).is_some() || state.is_ahead(message.offset) {
                        // Discarded, or lent, before its turn: no part of a row of others.
                        if others.is_some() {
                            break None;
                        }
                        shared.skipped = message.offset + 1;
                        continue;
                    }
                    let takes = state.takes(&message);
                    if if takes { others.is_some() } else { loans.len() > before } {
                        // For the next entry.
                        break Some(Some(Step::Message(message)));
                    }
                    if !takes && others.as_ref().is_some_and(|others| others.are_cut_off(&message, state)) {
                        break Some(Some(Step::Message(message)));
                    }
                    if !takes {
                        Others::add(&mut others, &message);
                        continue;
                    }
                    let last = loans[before..].last().map(|loan| loan.message.offset);
                    let aside = aside::of(&message, self.log.queue, now);
                    if last.is_some_and(|last| message.offset != last + 1 || aside.is_some()) {
                        // Behind a gap, or not to be lent now: for the next entry.
                        break Some(Some(Step::Message(message)));
                    }
                    if let Some(aside) = aside {
                        self.put_aside(&mut guard, &message, aside, now)?;
                        return Ok((guard, true));
                    }
                    // Its number is known once it is recorded.
                    loans.push(Loan { message, delivery: 0, attempt: 1, lease });
                    if loans.len() - before == most {
                        break None;
                    }
                }
                other => break Some(other),
            }
        };
        if let Some(others) = others {
            let entry = guard.state.pass_over(&others, now);
            self.put(&mut guard, &entry, now)?;
            guard.state.set_hint(others.place.pair());
            guard.stash = stop.flatten().and_then(keep);
            return Ok((guard, true));
        }
        let row = &mut loans[before..];
        let ends = row.first().zip(row.last()).map(|(first, last)| (first.message.offset, &last.message));
        if let Some((first, last)) = ends {
            let (end, place) = (last.offset + 1, last.place);
            let entry = guard.state.lend_fresh(first, end, lease, now, holder).ok_or_else(no_numbers);
            let lent = entry.and_then(|entry| self.put(&mut guard, &entry, now).map(|()| entry));
            let entry = match lent {
                Ok(entry) => entry,
                Err(error) => {
                    // On nobody's account: not to be handed out.
                    loans.truncate(before);
                    return Err(error);
                }
            };
            guard.state.set_hint(place.pair());
            for (loan, number) in row.iter_mut().zip(entry.delivery..) {
                loan.delivery = number;
            }
            if let Some(Some(step)) = stop {
                guard.stash = keep(step);
            }
            return Ok((guard, true));
        }
        match stop.flatten() {
            Some(Step::Damaged(damaged)) => {
                let entry = guard.state.damaged(damaged.first, damaged.end, damaged.messages, now);
                self.put(&mut guard, &entry, now)?;
                let error = damaged.error(&self.log);
                Self::report(&mut guard, error);
                Ok((guard, true))
            }
            Some(_) => Ok((guard, false)),
            None => self.read_on(guard).map(|guard| (guard, true)),
        }
    }

    /// Records that a message that was never lent is not lent now either.
    fn put_aside(&self, guard: &mut Locked<'_>, message: &Message, aside: Aside, now: Now) -> Result<()> {
        let entry = match aside {
            Aside::Until(due) => guard.state.delay(message.offset, due),
            Aside::Expired => guard.state.expired(message.offset, now),
            Aside::Special(special) => guard.state.aside(message.offset, &special, false),
        };
        self.put(guard, &entry, now)?;
        guard.state.set_place(message.offset, message.place.pair());
        if matches!(aside, Aside::Special(_)) {
            // It may well be lent next.
            guard.fetched = Some(message.clone());
        }
        Ok(())
    }

    /// Reads with the cursor for fresh messages, no lock held.
    fn read_on<'a>(&'a self, mut guard: Locked<'a>) -> Result<Locked<'a>> {
        let Some(mut cursor) = guard.fresh.take() else { return Ok(guard) };
        let (seeks, gone) = (guard.seeks, self.log.left());
        drop(guard);
        let read = cursor.fill();
        let mut guard = self.commit.lock();
        if guard.stopped.is_none() {
            cursor.leave_since(gone);
            guard.fresh = Some(cursor);
        }
        self.commit.wake_changed(&mut guard);
        // That the end is reached is looked up again: it may have moved meanwhile.
        let stash = read?.and_then(keep);
        if guard.seeks == seeks {
            guard.stash = stash;
        }
        Ok(guard)
    }

    /// Lends a message that comes again.
    fn lend_again<'a>(
        &'a self,
        mut guard: Locked<'a>,
        offset: u64,
        (holder, lease): (Option<u32>, u32),
        now: Now,
        loans: &mut Vec<Loan>,
    ) -> Result<Locked<'a>> {
        let Some(message) = guard.fetched.take_if(|message| message.offset == offset) else {
            return self.fetch(guard, offset);
        };
        if aside::of(&message, self.log.queue, now) == Some(Aside::Expired) {
            let entry = guard.state.expired(offset, now);
            self.put(&mut guard, &entry, now)?;
            return Ok(guard);
        }
        let attempt = guard.state.attempt(offset);
        if attempt == 1 && guard.state.is_raised(offset) && !guard.state.takes(&message) {
            // The rows that tell what lies ahead do not tell its kind.
            let entry = guard.state.discard(offset, now).ok_or_else(no_numbers)?;
            self.put(&mut guard, &entry, now)?;
            return Ok(guard);
        }
        let entry = guard.state.lend_again(offset, lease, now, holder).ok_or_else(no_numbers)?;
        self.put(&mut guard, &entry, now)?;
        loans.push(Loan { message, delivery: entry.delivery, attempt, lease });
        Ok(guard)
    }

    /// Reads a message that comes again, no lock held; what is ready is looked up anew afterwards.
    fn fetch<'a>(&'a self, mut guard: Locked<'a>, offset: u64) -> Result<Locked<'a>> {
        let Some(mut cursor) = guard.again.take() else {
            return Ok(self.commit.wait_changed(guard, &*self.clock, None));
        };
        let place = guard.state.place(offset).map(|(segment, position)| match segment {
            ANY_SEGMENT => Place { segment: self.log.segment_of(offset), position },
            _ => Place { segment, position },
        });
        let (seeks, gone) = (guard.seeks, self.log.left());
        drop(guard);
        let found = find(&mut cursor, offset, place);
        let mut guard = self.commit.lock();
        if guard.stopped.is_none() {
            cursor.leave_since(gone);
            guard.again = Some(cursor);
        }
        self.commit.wake_changed(&mut guard);
        match found? {
            _ if guard.seeks != seeks => {}
            Ok(message) => guard.fetched = Some(message),
            Err(damaged) => {
                self.log.check_promised(offset, damaged.place.segment)?;
                // It was there when it was lent: its header has gone bad since.
                if !guard.has_room(2 * SLOT_BYTES, 1)? {
                    // Somebody else took the room meanwhile: whoever makes it comes here again.
                    return Ok(guard);
                }
                let now = self.now();
                if !guard.state.is_ready(offset, now) {
                    // Somebody else came here too, and has said so.
                    return Ok(guard);
                }
                let entry = guard.state.damaged(offset, offset + 1, 0, now);
                self.put(&mut guard, &entry, now)?;
                let error = damaged.error(&self.log);
                Self::report(&mut guard, error);
            }
        }
        Ok(guard)
    }
}

fn no_numbers() -> Error {
    Error::Invalid { what: "a loan was recorded without a number for it".into() }
}

/// Goes to a message, or to what is left of it.
fn find(
    cursor: &mut Cursor,
    offset: u64,
    place: Option<Place>,
) -> Result<std::result::Result<Message, Damaged>> {
    cursor.seek(offset, place);
    let gone = |place| Damaged { place, first: offset, end: offset.saturating_add(1), messages: 1 };
    Ok(match cursor.next()? {
        Step::Message(message) if message.offset == offset => Ok(message),
        Step::Message(message) => Err(gone(message.place)),
        Step::Damaged(damaged) => Err(gone(damaged.place)),
        Step::End => Err(gone(cursor.place().unwrap_or(Place { segment: 0, position: 0 }))),
    })
}

/// Returns the message of that number, if it is in the log.
pub(super) fn stored(cursor: &mut Cursor, offset: u64) -> Result<Option<Message>> {
    Ok(find(cursor, offset, None)?.ok())
}

/// Keeps what must be acted on; that the end was reached is asked again.
fn keep(step: Step) -> Option<Step> {
    match step {
        Step::Message(_) | Step::Damaged(_) => Some(step),
        Step::End => None,
    }
}
