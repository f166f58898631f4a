//! Which messages are neither done nor out for the first time, and what is up with them? Pure.
//!
//! A map from offset, with what must be found fast kept beside it: who is ready, who is due next,
//! whose loan ends next, who holds how many. Every change takes a stretch out and puts it back, so
//! that the indexes are kept in two places only, `index` and `unindex`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::holder::holder_of;
use super::later::{Later, Wait};
use super::lines::{Lines, Turn, rank_of};
use super::state::Now;
use super::stored::delayed;
use crate::format::entry::{HELD, MAX_TEXT, cut};
use crate::format::snapshot::{NORMAL, Waiting};

/// From so many losses on a message is handed out alone: it may be what kills its holders.
pub(crate) const ALONE_FROM: u8 = 2;

/// In place of a segment's number: the one in which the offset lies.
pub(crate) const ANY_SEGMENT: u64 = 0;

/// Bytes of error texts up to which they are kept whole; beyond, each keeps its last [`SHORT_TEXT`].
/// Room for the settling of a loan is reserved before it is handed out, and a kilobyte for each of a
/// million loans would be a gigabyte. The entry has the whole text for as long as it is there.
const WHOLE_TEXTS: u64 = 1 << 20;
const SHORT_TEXT: usize = 64;

/// A message with a past, or a row of them (from its key up to `end`) that share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    /// The offset behind the last.
    pub(crate) end: u64,
    pub(crate) life: Life,
    pub(crate) failures: u8,
    pub(crate) losses: u8,
    /// The number of a loan that ran out and may still be acked, or 0; of the first in a row.
    pub(crate) late: u64,
    /// Why it failed last. Only of a single message.
    pub(crate) error: Option<Box<str>>,
    /// Segment and position where it lies: a hint in memory, lost when the row is cut.
    pub(crate) place: Option<(u64, u64)>,
    /// Only of a single message another one than that of all.
    pub(crate) priority: u8,
    /// A hash of its ordering key, or 0. Only of a single message.
    pub(crate) key: u64,
    /// Its ack is on its way in a batch (see `settling`): it is not lent, and does not run out. Only of a
    /// single message, and never stored.
    pub(crate) settling: bool,
}

/// Where it is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Ready,
    /// `due` is what is stored, `at` what counts while the process runs; `None` once it was due.
    Delayed {
        due: u64,
        at: Option<Duration>,
    },
    /// The number is that of the first in a row and counts up. A held loan never `ends` by itself.
    Lent {
        delivery: u64,
        lease: u32,
        since: u64,
        ends: Option<Duration>,
    },
    Dead {
        reason: u32,
        since: u64,
    },
}

impl Exception {
    /// Makes a row up to `end` that is ready and has no past.
    pub(crate) const fn ready(end: u64) -> Self {
        let (life, error, place, priority) = (Life::Ready, None, None, NORMAL);
        let (failures, losses, late, key, settling) = (0, 0, 0, 0, false);
        Self { end, life, failures, losses, late, error, place, priority, key, settling }
    }

    /// Cuts what lies from `at` on off a row that begins at `start`.
    fn split_off(&mut self, start: u64, at: u64) -> Self {
        let mut tail = self.clone();
        self.end = at;
        tail.place = None;
        if let Life::Lent { delivery, .. } = &mut tail.life {
            *delivery = delivery.wrapping_add(at - start);
        }
        if tail.late != 0 {
            tail.late = tail.late.wrapping_add(at - start);
        }
        tail
    }

    /// Tells whether it has a turn only after those of its key before it, and whether it is out.
    fn in_line(&self) -> Option<bool> {
        let alive = self.key != 0 && !matches!(self.life, Life::Dead { .. });
        alive.then_some(self.settling || matches!(self.life, Life::Lent { .. }))
    }

    fn is_ready(&self) -> bool {
        !self.settling && matches!(self.life, Life::Ready | Life::Delayed { at: None, .. })
    }

    fn text_len(&self) -> u64 {
        self.error.as_ref().map_or(0, |error| error.len() as u64)
    }
}

/// What one holder holds among the exceptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) loans: u64,
    /// Those of them that are to be alone.
    pub(crate) alone: u64,
}

/// How many messages are in which state. Each counts once, also within a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    pub(crate) lent: u64,
    pub(crate) dead: u64,
    /// Those whose loan ran out and may still be acked.
    pub(crate) late: u64,
    text: u64,
}

/// The exceptions, and their indexes. Rows never overlap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exceptions {
    map: BTreeMap<u64, Exception>,
    ready: BTreeSet<Turn>,
    /// Ready too, to be handed out alone: apart, so that passing over them costs nothing.
    ready_alone: BTreeSet<Turn>,
    /// Of those with an ordering key only the one whose turn it is stands among the ready.
    lines: Lines,
    waiting: BTreeSet<(Duration, u64)>,
    ending: BTreeSet<(Duration, u64)>,
    held: BTreeMap<u32, Held>,
    tally: Tally,
    /// Those that were never lent and wait: no rows of the map.
    later: Later,
}

impl Exceptions {
    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty() && self.later.is_empty()
    }

    /// Adds a message that was never lent and waits; nothing may be there. Where it cannot be kept small
    /// it becomes a row.
    pub(crate) fn wait(&mut self, wait: Wait, now: Now) {
        if !self.later.push(wait, now) {
            self.put_waiting(wait, delayed(wait.due, now));
        }
    }

    /// Makes a row of one that waits, or did.
    fn put_waiting(&mut self, wait: Wait, life: Life) {
        let place = (wait.position > 0).then_some((ANY_SEGMENT, wait.position));
        let priority = wait.priority;
        let life = if wait.due == 0 { Life::Ready } else { life };
        self.put(wait.offset, Exception { life, place, priority, ..Exception::ready(wait.offset + 1) });
    }

    /// Tells whether a message was never lent and waits.
    pub(crate) fn waits(&self, offset: u64) -> bool {
        self.later.contains(offset)
    }

    /// Lists the offsets of those that were never lent and wait.
    pub(crate) fn waiting_within(&self, first: u64, end: u64) -> impl Iterator<Item = u64> {
        self.later.within(first, end).map(|wait| wait.offset)
    }

    /// Returns those that were never lent and wait, as they are stored.
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        self.later.stored()
    }

    /// Returns how many were never lent and wait.
    pub(crate) fn waiting_count(&self) -> u64 {
        self.later.len() as u64
    }

    /// Takes those out of `first..end` that wait; returns how many there were.
    pub(crate) fn forget_waiting(&mut self, first: u64, end: u64) -> u64 {
        self.later.take(first, end).len() as u64
    }

    /// Makes rows of those in `first..end` that wait.
    pub(crate) fn unfold(&mut self, first: u64, end: u64) {
        for wait in self.later.take(first, end) {
            let at = self.later.at(wait);
            self.put_waiting(wait, Life::Delayed { due: wait.due, at });
        }
    }

    /// Returns the offset behind the last row.
    pub(crate) fn end(&self) -> u64 {
        self.map.last_key_value().map_or(0, |(_, last)| last.end)
    }

    /// Returns how many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Tells whether one that is ready is to be handed out alone.
    pub(crate) fn has_lonely(&self) -> bool {
        !self.ready_alone.is_empty()
    }

    pub(crate) fn tally(&self) -> Tally {
        let low = self.later.low_len() as u64;
        let delayed = self.tally.delayed + self.waiting_count() - low;
        Tally { delayed, ready: self.tally.ready + low, ..self.tally }
    }

    /// Returns the row that holds `offset`, and where it begins.
    pub(crate) fn at(&self, offset: u64) -> Option<(u64, &Exception)> {
        let (&start, exception) = self.map.range(..=offset).next_back()?;
        (offset < exception.end).then_some((start, exception))
    }

    /// Lists the rows that begin in `first..end`, and one that reaches into it.
    pub(crate) fn within(&self, first: u64, end: u64) -> impl Iterator<Item = (u64, &Exception)> {
        let start = self.at(first).map_or(first, |(start, _)| start).min(end);
        self.map.range(start..end).map(|(&start, exception)| (start, exception))
    }

    /// Lists all rows in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Exception)> {
        self.map.iter().map(|(&start, exception)| (start, exception))
    }

    /// Puts a row in; nothing may be there.
    pub(crate) fn put(&mut self, start: u64, exception: Exception) {
        debug_assert!(start < exception.end);
        self.index(start, &exception);
        let key = exception.key;
        let before = self.map.insert(start, exception);
        debug_assert!(before.is_none());
        self.give_turn(key);
    }

    fn remove(&mut self, start: u64) -> Option<Exception> {
        let exception = self.map.remove(&start)?;
        self.unindex(start, &exception);
        self.give_turn(exception.key);
        Some(exception)
    }

    /// Puts the one of a key whose turn it is among the ready.
    fn give_turn(&mut self, key: u64) {
        if key != 0
            && let Some(first) = self.lines.first(key)
            && let Some(one) = self.map.get(&first).filter(|one| one.is_ready())
        {
            let (rank, losses) = (rank_of(one.priority), one.losses);
            self.ready_of(losses).insert((rank, first));
        }
    }

    /// Takes the one of a key away from there whose turn it was.
    fn take_turn(&mut self, key: u64) {
        if key != 0
            && let Some(first) = self.lines.first(key)
            && let Some(one) = self.map.get(&first)
        {
            let (rank, losses) = (rank_of(one.priority), one.losses);
            self.ready_of(losses).remove(&(rank, first));
        }
    }

    /// Returns the next message of a key for the receive that has the first `out` of them already; it is
    /// ready, and need not be alone.
    pub(crate) fn next_of(&self, key: u64, out: usize) -> Option<Turn> {
        let next = self.lines.next(key, out)?;
        let one = self.map.get(&next).filter(|one| one.is_ready() && one.losses < ALONE_FROM)?;
        Some((rank_of(one.priority), next))
    }

    /// Counts the messages with an ordering key that are not out, whether or not it is their turn.
    pub(crate) const fn in_lines(&self) -> u64 {
        self.lines.waiting()
    }

    /// Cuts the row that reaches across an offset in two.
    pub(crate) fn cut(&mut self, at: u64) {
        if let Some((start, _)) = self.at(at).filter(|&(start, _)| start < at)
            && let Some(mut exception) = self.remove(start)
        {
            let tail = exception.split_off(start, at);
            self.put(start, exception);
            self.put(at, tail);
        }
    }

    /// Takes out all that lies in `first..end`; rows that reach across are cut.
    pub(crate) fn take(&mut self, first: u64, end: u64) -> Vec<(u64, Exception)> {
        let starts: Vec<u64> = self.within(first, end).map(|(start, _)| start).collect();
        let mut taken = Vec::with_capacity(starts.len());
        for mut start in starts {
            let Some(mut exception) = self.remove(start) else { continue };
            if start < first {
                let tail = exception.split_off(start, first);
                self.put(start, std::mem::replace(&mut exception, tail));
                start = first;
            }
            if exception.end > end {
                let tail = exception.split_off(start, end);
                self.put(end, tail);
            }
            taken.push((start, exception));
        }
        taken
    }

    /// Remembers where the message lies, if it is on its own or the first of its row.
    pub(crate) fn set_place(&mut self, offset: u64, place: (u64, u64)) {
        // A row is not cut for a hint: the recovery would cut it elsewhere.
        if let Some(exception) = self.map.get_mut(&offset) {
            exception.place = Some(place);
        } else {
            self.later.set_position(offset, place.1);
        }
    }

    /// Makes ready what is due: in the indexes alone, what is stored stays as it is.
    pub(crate) fn ripen(&mut self, now: Now) {
        if self.later.next().is_some_and(|at| at <= now.mono) {
            for wait in self.later.ripe(now) {
                self.put_waiting(wait, Life::Delayed { due: wait.due, at: None });
            }
        }
        while let Some(&(at, start)) = self.waiting.first()
            && at <= now.mono
        {
            let Some(mut exception) = self.remove(start) else { break };
            if let Life::Delayed { at, .. } = &mut exception.life {
                *at = None;
            }
            self.put(start, exception);
        }
    }

    /// Returns the first that is ready, of those that need not be alone and of those that do. It knows what
    /// [`Exceptions::ripen`] has found due.
    pub(crate) fn first_ready(&self) -> (Option<Turn>, Option<Turn>) {
        let plain = self.ready.first().copied().into_iter().chain(self.later.first_low()).min();
        (plain, self.ready_alone.first().copied())
    }

    /// Tells whether one that was never lent waits for nothing but messages of higher priorities.
    pub(crate) fn is_low_and_due(&self, offset: u64) -> bool {
        self.later.is_low_and_due(offset)
    }

    /// Tells where one lies that was never lent and waits.
    pub(crate) fn waiting_place(&self, offset: u64) -> Option<(u64, u64)> {
        Some((ANY_SEGMENT, self.later.position(offset)?))
    }

    /// Returns when the next message becomes due or the next loan ends, if that is after `now`.
    pub(crate) fn next_timer(&self, now: Duration) -> Option<Duration> {
        let after = |timers: &BTreeSet<(Duration, u64)>| {
            timers.range((now, u64::MAX)..).map(|&(at, _)| at).find(|&at| at > now)
        };
        let later = self.later.next().filter(|&at| at > now);
        after(&self.waiting).into_iter().chain(after(&self.ending)).chain(later).min()
    }

    /// Lists where the rows begin whose loans have run out.
    pub(crate) fn ended(&self, now: Duration) -> impl Iterator<Item = (u64, &Exception)> {
        let ended = self.ending.range(..=(now, u64::MAX));
        ended.filter_map(|&(_, start)| Some((start, self.map.get(&start)?)))
    }

    /// Returns what a holder holds here.
    pub(crate) fn held_by(&self, holder: u32) -> Held {
        if self.held.is_empty() {
            return Held::default();
        }
        self.held.get(&holder).copied().unwrap_or_default()
    }

    /// Tells whether anybody holds what is to be alone.
    pub(crate) fn is_any_alone(&self) -> bool {
        self.held.values().any(|held| held.alone > 0)
    }

    /// Lists who holds something here.
    pub(crate) fn holders(&self) -> impl Iterator<Item = u32> {
        self.held.keys().copied()
    }

    /// Returns a text as it may be kept.
    pub(crate) fn keep(&self, text: &str) -> Option<Box<str>> {
        let mut text = cut(text);
        if self.tally.text + text.len() as u64 > WHOLE_TEXTS {
            let mut start = text.len().saturating_sub(SHORT_TEXT);
            while !text.is_char_boundary(start) {
                start += 1;
            }
            text = &text[start..];
        }
        (!text.is_empty()).then(|| text.into())
    }

    /// Returns how many bytes all texts can take when `loans` loans have ended with one.
    pub(crate) fn texts_bound(&self, loans: u64) -> u64 {
        let each_whole = self.tally.text + loans * MAX_TEXT as u64;
        let short = self.tally.text.max(WHOLE_TEXTS) + loans * SHORT_TEXT as u64;
        each_whole.min(short)
    }

    fn index(&mut self, start: u64, exception: &Exception) {
        let count = exception.end - start;
        let in_line = exception.in_line();
        if let Some(out) = in_line {
            self.take_turn(exception.key);
            self.lines.add(exception.key, start, out);
        }
        self.tally.text += exception.text_len();
        self.tally.late += if exception.late == 0 { 0 } else { count };
        match exception.life {
            _ if exception.settling => self.tally.lent += count,
            Life::Ready | Life::Delayed { at: None, .. } => {
                self.tally.ready += count;
                if in_line.is_none() {
                    self.ready_of(exception.losses).insert((rank_of(exception.priority), start));
                }
            }
            Life::Delayed { at: Some(at), .. } => {
                self.tally.delayed += count;
                self.waiting.insert((at, start));
            }
            Life::Lent { delivery, lease, ends, .. } => {
                self.tally.lent += count;
                if let Some(ends) = ends {
                    self.ending.insert((ends, start));
                }
                if lease == HELD {
                    let held = self.held.entry(holder_of(delivery)).or_default();
                    held.loans += count;
                    held.alone += if exception.losses < ALONE_FROM { 0 } else { count };
                }
            }
            Life::Dead { .. } => self.tally.dead += count,
        }
    }

    /// Takes a row out of the indexes that is in the map no more.
    fn unindex(&mut self, start: u64, exception: &Exception) {
        let count = exception.end - start;
        if exception.in_line().is_some() {
            self.lines.remove(exception.key, start);
        }
        self.tally.text -= exception.text_len();
        self.tally.late -= if exception.late == 0 { 0 } else { count };
        match exception.life {
            _ if exception.settling => self.tally.lent -= count,
            Life::Ready | Life::Delayed { at: None, .. } => {
                self.tally.ready -= count;
                self.ready_of(exception.losses).remove(&(rank_of(exception.priority), start));
            }
            Life::Delayed { at: Some(at), .. } => {
                self.tally.delayed -= count;
                self.waiting.remove(&(at, start));
            }
            Life::Lent { delivery, lease, ends, .. } => {
                self.tally.lent -= count;
                if let Some(ends) = ends {
                    self.ending.remove(&(ends, start));
                }
                let holder = holder_of(delivery);
                if lease == HELD
                    && let Some(held) = self.held.get_mut(&holder)
                {
                    held.loans -= count;
                    held.alone -= if exception.losses < ALONE_FROM { 0 } else { count };
                    if held.loans == 0 {
                        self.held.remove(&holder);
                    }
                }
            }
            Life::Dead { .. } => self.tally.dead -= count,
        }
    }

    fn ready_of(&mut self, losses: u8) -> &mut BTreeSet<Turn> {
        if losses < ALONE_FROM { &mut self.ready } else { &mut self.ready_alone }
    }
}
