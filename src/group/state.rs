//! What is the state of a group, and what does an entry change in it? Pure.
//!
//! No registry of loans: what lies between floor and head and is neither done nor an exception is on
//! loan for the first time, to a holder of this opening. A receiver that acks in order touches four
//! numbers and no map.

use std::time::Duration;

use super::exceptions::{ANY_SEGMENT, Exception, Exceptions, Life};
use super::holder::{count_of, holder_of};
use super::later::Wait;
use super::policy::Pause;
use super::ranges::Ranges;
use super::settling::{Settling, settled_by_seek};
use super::stored::{delayed, lent};
use crate::format::entry::{Entry, HELD, Kind, More, RAN_OUT, STRUCK};
use crate::format::snapshot::{HIGHEST, NORMAL, Policy, Waiting};
use crate::offset::Offset;

/// What both clocks show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) mono: Duration,
    /// Milliseconds since 1970.
    pub(crate) wall: u64,
}

/// How many messages are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) floor: u64,
    pub(crate) head: u64,
    /// Messages before the head, from the log's beginning on.
    pub(crate) passed: u64,
    pub(crate) on_loan: u64,
    /// Ready, and lent before or delayed until now.
    pub(crate) ready_again: u64,
    pub(crate) delayed: u64,
    /// Ahead of the head and discarded, or put aside there for their priority; so not yet passed.
    pub(crate) ahead: u64,
    /// Of a damaged stretch, all its offsets: nobody knows which of them were messages.
    pub(crate) dead: u64,
}

impl Counts {
    /// Counts those that can be lent now, of a log with so many.
    pub(crate) fn ready(&self, messages: u64) -> u64 {
        messages.saturating_sub(self.passed).saturating_sub(self.ahead) + self.ready_again
    }
}

/// The state of a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(super) floor: u64,
    pub(super) head: u64,
    pub(super) passed: u64,
    pub(super) hint: (u64, u64),
    pub(super) settled: u64,
    pub(super) policy: Policy,
    pub(super) paused: Option<Pause>,
    /// The kinds of messages that it takes, in order; none: all.
    pub(super) kinds: Vec<String>,
    /// Sections of a snapshot that a later version wrote: kept.
    pub(super) unknown: Vec<(u32, Vec<u8>)>,
    /// Whose loans may be out for the first time, and the lowest count that still is; the newest
    /// last. More than one only after a count was used up within one opening.
    pub(super) holders: Vec<(u32, u32)>,
    /// The count of the newest holder's next loan.
    pub(super) count: u64,
    pub(super) done: Ranges,
    pub(super) exceptions: Exceptions,
    /// The guests that can be lent something, and the counts of their next loans; never stored.
    pub(super) guests: Vec<(u32, u64)>,
    /// How many are on loan for the first time and are no exception.
    pub(super) out_fresh: u64,
    /// Loans whose acks are on their way in batches; never stored.
    pub(crate) settling: Settling,
}

impl State {
    /// Every offset below it is done.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// Reading has come to every offset below it.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Returns where reading goes on, as a hint: segment and position.
    pub(crate) fn hint(&self) -> (u64, u64) {
        self.hint
    }

    /// Changes the hint; it is stored with the next snapshot.
    pub(crate) fn set_hint(&mut self, hint: (u64, u64)) {
        self.hint = hint;
    }

    /// Corrects how many messages lie before the head: an opening counts anew what the log lost. It
    /// is stored with the next snapshot, and counted again until then.
    pub(crate) fn set_passed(&mut self, passed: u64) {
        self.passed = passed;
    }

    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }

    /// Changes the policy; it is stored with the next snapshot.
    pub(crate) fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Remembers where a message lies that comes again.
    pub(crate) fn set_place(&mut self, offset: u64, place: (u64, u64)) {
        self.exceptions.set_place(offset, place);
    }

    /// Returns where a message lies that comes again, if that is remembered.
    pub(crate) fn place(&self, offset: u64) -> Option<(u64, u64)> {
        let Some((start, one)) = self.exceptions.at(offset) else {
            return self.exceptions.waiting_place(offset);
        };
        one.place.filter(|_| start == offset)
    }

    /// Makes ready what is due: a matter of memory, nothing to record.
    pub(crate) fn ripen(&mut self, now: Now) {
        self.exceptions.ripen(now);
    }

    pub(crate) fn on_loan(&self) -> u64 {
        self.out_fresh + self.exceptions.tally().lent
    }

    pub(crate) fn stats(&self) -> Counts {
        let tally = self.exceptions.tally();
        Counts {
            floor: self.floor,
            head: self.head,
            passed: self.passed,
            on_loan: self.on_loan() - self.settling.answered(),
            ready_again: tally.ready,
            delayed: tally.delayed,
            ahead: self.done.beyond(self.head) + self.exceptions_ahead(),
            dead: tally.dead,
        }
    }

    /// Changes the state as an entry says. What makes no sense changes nothing.
    pub(crate) fn apply(&mut self, entry: &Entry, now: Now) {
        let Some((first, end, messages)) = span_of(entry) else { return };
        match entry.kind {
            Kind::Lent => self.apply_lent(entry, first, end, now),
            Kind::Done | Kind::Discarded => self.mark_done(first, end),
            Kind::Purged => self.apply_purged(first, end, messages),
            Kind::Extended => self.apply_extended(entry, first, end, now),
            Kind::Released => self.change(first, end, |_, one, fresh| {
                let lent = fresh || matches!(one.life, Life::Lent { .. });
                if lent {
                    one.life = Life::Ready;
                }
                lent
            }),
            Kind::Nacked => self.apply_nacked(entry, first, end, messages, now),
            Kind::Dead => self.apply_dead(entry, first, end, messages),
            Kind::Revived => self.change(first, end, |_, one, _| {
                let dead = matches!(one.life, Life::Dead { .. });
                if dead {
                    (one.life, one.failures, one.losses) = (Life::Ready, entry.failures, entry.losses);
                }
                dead
            }),
            Kind::Seek => self.apply_seek(entry),
            Kind::HolderGone => self.apply_holder_gone(entry),
            Kind::Aside => self.apply_aside(entry, first, end, now),
            Kind::Undeleted if end == first + 1 => self.apply_undeleted(entry, now),
            // A pause and a policy reach the disk with the snapshot of a switch.
            Kind::Paused | Kind::Policy | Kind::OwnMark | Kind::Undeleted => {}
        }
    }

    fn apply_lent(&mut self, entry: &Entry, first: u64, end: u64, now: Now) {
        let lend = |start: u64, one: &mut Exception| {
            let delivery = entry.delivery.wrapping_add(start.wrapping_sub(entry.offset));
            one.life = lent(delivery, entry.lease, entry.time, now);
            one.late = 0;
        };
        let ours = self.holders.last().is_some_and(|&(holder, _)| holder == holder_of(entry.delivery));
        if ours {
            self.count = self.count.max(u64::from(count_of(entry.delivery)) + (end - first));
        } else {
            self.count_guest(entry.delivery, end - first);
        }
        if first < self.head || self.is_ahead(first) {
            self.change(first, end, |start, one, _| {
                let alive = !matches!(one.life, Life::Dead { .. });
                if alive {
                    lend(start, one);
                }
                alive
            });
        }
        if end <= self.head || (end == first + 1 && self.is_ahead(first)) {
            return;
        }
        let start = first.max(self.head);
        let alone = self.done.end() <= start && self.exceptions.end() <= start;
        if ours && entry.lease == HELD && start == self.head && alone {
            self.head = end;
            self.passed = self.passed.saturating_add(end - start);
            self.out_fresh += end - start;
            return;
        }
        for (start, end) in self.enter(start, end, end - start) {
            if ours && entry.lease == HELD {
                self.out_fresh += end - start;
            } else {
                let mut one = Exception::ready(end);
                lend(start, &mut one);
                self.exceptions.put(start, one);
            }
        }
    }

    fn apply_extended(&mut self, entry: &Entry, first: u64, end: u64, now: Now) {
        self.change(first, end, |start, one, fresh| {
            let delivery = entry.delivery.wrapping_add(start.wrapping_sub(entry.offset));
            let this = match one.life {
                Life::Lent { delivery: out, .. } => out == delivery,
                _ => fresh && entry.lease != HELD,
            };
            if this {
                one.life = lent(delivery, entry.lease, entry.time, now);
            }
            this
        });
    }

    fn apply_nacked(&mut self, entry: &Entry, first: u64, end: u64, messages: u64, now: Now) {
        let error = text_of(entry).and_then(|text| self.exceptions.keep(text));
        let late = |start: u64| match entry.lease {
            RAN_OUT => entry.delivery.wrapping_add(start.wrapping_sub(entry.offset)),
            _ => 0,
        };
        let nack = |start: u64, one: &mut Exception| {
            one.life = delayed(entry.time, now);
            (one.failures, one.losses) = (entry.failures, entry.losses);
            one.late = late(start);
            one.error.clone_from(&error);
        };
        self.change(first, end, |start, one, _| {
            let alive = !matches!(one.life, Life::Dead { .. });
            if alive {
                nack(start, one);
            }
            alive
        });
        let plain = entry.failures == 0 && entry.losses == 0 && entry.lease != RAN_OUT && error.is_none();
        if plain && end == first + 1 && end > self.head && !self.is_ahead(first) {
            // Met for the first time, and not due yet.
            for (offset, _) in self.enter(first, end, messages) {
                let wait = Wait { offset, due: entry.time, priority: NORMAL, position: 0 };
                self.exceptions.wait(wait, now);
            }
            return;
        }
        self.enter_as(first, end, messages, nack);
    }

    /// A message that has a priority or an ordering key is an exception from the first on: the log need not
    /// be read to know whose turn it is.
    fn apply_aside(&mut self, entry: &Entry, first: u64, end: u64, now: Now) {
        if self.is_met(first) || end != first + 1 {
            return;
        }
        let (due, priority, key) = (entry.time, entry.failures.min(HIGHEST), entry.delivery);
        let ahead = entry.losses != 0;
        if !ahead {
            self.enter(first, end, 1);
            if key == 0 && (priority < NORMAL || due > 0) {
                let position = u64::from(entry.lease) * Waiting::STEP;
                return self.exceptions.wait(Wait { offset: first, due, priority, position }, now);
            }
        }
        self.exceptions.put(first, aside(entry, now));
    }

    /// Done no more. What lies ahead of the head is met as if it had never been done.
    fn apply_undeleted(&mut self, entry: &Entry, now: Now) {
        if self.take_done(entry.offset) && entry.offset < self.head {
            self.exceptions.put(entry.offset, aside(entry, now));
        }
    }

    fn apply_dead(&mut self, entry: &Entry, first: u64, end: u64, messages: u64) {
        let error = text_of(entry).and_then(|text| self.exceptions.keep(text));
        let give_up = |_: u64, one: &mut Exception| {
            one.life = Life::Dead { reason: entry.lease, since: entry.time };
            // Damage strikes a row of messages with many pasts, and takes none of them away.
            one.failures = one.failures.max(entry.failures);
            one.losses = one.losses.max(entry.losses);
            one.late = 0;
            if error.is_some() {
                one.error.clone_from(&error);
            }
        };
        self.change(first, end, |start, one, _| {
            give_up(start, one);
            true
        });
        if entry.delivery == STRUCK {
            for (start, end) in self.open_within(first.max(self.head), end) {
                let mut one = Exception::ready(end);
                give_up(start, &mut one);
                self.exceptions.put(start, one);
            }
            return;
        }
        self.enter_as(first, end, messages, give_up);
    }

    fn apply_purged(&mut self, first: u64, end: u64, messages: u64) {
        self.mark_done(first, end.min(self.head));
        if end > self.head {
            for (start, one) in self.exceptions.take(first.max(self.head), end) {
                self.done.insert(start, one.end);
            }
            for (start, end) in self.enter(first.max(self.head), end, messages) {
                self.done.insert(start, end);
            }
            self.skip_done();
        }
    }

    /// The one entry after which old loans must not be told from new ones by where they lie: the
    /// same message may soon be out for the first time once more. Their numbers are lower.
    fn apply_seek(&mut self, entry: &Entry) {
        let More::Range { end, messages } = entry.more else { return };
        self.settled = self.settled.max(settled_by_seek(end));
        self.done.clear();
        self.exceptions = Exceptions::default();
        (self.floor, self.head, self.passed) = (entry.offset, entry.offset, messages);
        (self.out_fresh, self.hint) = (0, (0, 0));
        let (holder, first) = (holder_of(entry.delivery), count_of(entry.delivery));
        self.holders.drain(..self.holders.len().saturating_sub(1));
        // Of a holder whose count is used up the entry says nothing: no loan of it may hold any more.
        self.holders.retain(|&(newest, _)| newest == holder);
        for newest in &mut self.holders {
            newest.1 = newest.1.max(first);
            self.count = self.count.max(newest.1.into());
        }
    }

    fn apply_holder_gone(&mut self, entry: &Entry) {
        let gone = holder_of(entry.delivery);
        let back = |one: &mut Exception| {
            one.life = Life::Ready;
            one.losses = one.losses.saturating_add(entry.losses);
        };
        // One whose ack is on its way counts for no holder, but recovery would find it held: it goes back
        // here too, and is lent to nobody before the batch has its answer.
        if self.exceptions.held_by(gone).loans > 0 || !self.settling.is_empty() {
            let held = |one: &Exception| matches!(one.life, Life::Lent { delivery, lease: HELD, .. } if holder_of(delivery) == gone);
            let rows = self.exceptions.iter().filter(|(_, one)| held(one));
            for (start, end) in rows.map(|(start, one)| (start, one.end)).collect::<Vec<_>>() {
                for (start, mut one) in self.exceptions.take(start, end) {
                    back(&mut one);
                    self.exceptions.put(start, one);
                }
            }
        }
        // The holders of one opening end together, and nobody knows whose a fresh loan is.
        if self.is_of_this_opening(gone) {
            for (start, end) in self.fresh_within(self.floor, self.head) {
                let mut one = Exception::ready(end);
                back(&mut one);
                self.exceptions.put(start, one);
            }
            self.out_fresh = 0;
            self.holders.clear();
            self.count = 0;
        }
    }
}

/// Returns the offsets that an entry is about, and how many messages they are; `None` if they are
/// none.
fn span_of(entry: &Entry) -> Option<(u64, u64, u64)> {
    let (first, end, messages) = match entry.more {
        More::Range { end, messages } if entry.kind != Kind::Seek => (entry.offset, end, messages),
        _ => (entry.offset, entry.offset.checked_add(1)?, 1),
    };
    (first < end && end <= Offset::LIMIT).then_some((first, end, messages))
}

/// Makes the exception that an entry tells which knows of the message what lies in the log: when it is due,
/// its priority and key, and where.
fn aside(entry: &Entry, now: Now) -> Exception {
    let (due, position) = (entry.time, u64::from(entry.lease) * Waiting::STEP);
    let life = if due == 0 { Life::Ready } else { delayed(due, now) };
    let place = (position > 0).then_some((ANY_SEGMENT, position));
    let (priority, key) = (entry.failures.min(HIGHEST), entry.delivery);
    Exception { life, place, priority, key, ..Exception::ready(entry.offset + 1) }
}

fn text_of(entry: &Entry) -> Option<&str> {
    if let More::Text(text) = &entry.more { Some(text) } else { None }
}
