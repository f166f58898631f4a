//! What is to happen next in a group? Pure: from the state and the time to entries.
//!
//! Nothing here changes anything; `State::apply` does, and it does not ask back. So whether a loan
//! still holds is decided here alone, by its number: after a release, a nack, a seek or a revive the
//! same message may be out again under another.

use std::time::Duration;

use super::exceptions::{ALONE_FROM, Exception, Life};
use super::holder::{count_of, holder_of};
use super::lines::PLAIN;
use super::policy::retry;
use super::state::{Now, State};
use crate::clock::millis;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, HELD, Kind, More, RAN_OUT, cut, reason};
use crate::format::snapshot::{NORMAL, Waiting};
use crate::offset::Offset;

/// What a receiver is to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This one, which was lent or delayed before.
    Again(u64),
    /// The first message from the head on, if the log has one; else this one, of a low priority; else
    /// to wait, see [`State::next_timer`].
    Fresh { or: Option<u64> },
    /// Only a message of a high priority that was not met yet, or what this receiver alone may have: too many
    /// wait for their ordering keys. Else nothing before a loan is settled, or that time.
    Raised { until: Option<Duration> },
    /// Nothing before a loan is settled, or that time.
    Nothing { until: Option<Duration> },
}

/// What a message says that is not to be lent just as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Special {
    pub(crate) priority: u8,
    /// A hash of its ordering key, or 0.
    pub(crate) key: u64,
    /// When it is due (milliseconds since 1970), or 0.
    pub(crate) due: u64,
    /// Where its batch lies.
    pub(crate) position: u64,
}

/// So many messages wait for others of their ordering keys at the most; then nothing further is met, but
/// for what has a high priority, until one of them is lent: each takes memory.
const MOST_IN_LINES: u64 = 1 << 16;

/// What became of the acks of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acked {
    /// Of each, in the order given, whether its loan held.
    pub(crate) held: Vec<bool>,
    /// Of those whose loan held: one for each row of offsets without a gap.
    pub(crate) entries: Vec<Entry>,
}

impl State {
    /// Chooses what a receiver gets, whose loans are a guest's or this opening's own. With `drain` a message that is to be alone, once it is the first
    /// that is ready, is waited for: nothing is lent until it can be.
    pub(crate) fn next(&self, now: Now, drain: bool, holder: Option<u32>) -> Next {
        if let Some(pause) = self.paused(now) {
            // Loans run out all the same, and somebody may wait for the last of them.
            return Next::Nothing { until: pause.at.into_iter().chain(self.next_timer(now)).min() };
        }
        if self.exceptions.is_empty() {
            return Next::Fresh { or: None };
        }
        let nothing = Next::Nothing { until: self.next_timer(now) };
        let held = self.held(holder);
        if held.alone > 0 {
            return nothing;
        }
        let first = match self.exceptions.first_ready() {
            (plain, None) => plain,
            (plain, Some(alone)) if held.loans == 0 => Some(plain.unwrap_or(alone).min(alone)),
            (Some(plain), Some(alone)) if !drain || plain < alone => Some(plain),
            (None, Some(_)) if !drain => None,
            (_, Some(_)) => return nothing,
        };
        let fresh = self.exceptions.in_lines() < MOST_IN_LINES;
        match first {
            Some((rank, offset)) if rank <= PLAIN || !fresh => Next::Again(offset),
            low if fresh => Next::Fresh { or: low.map(|(_, offset)| offset) },
            _ => Next::Raised { until: self.next_timer(now) },
        }
    }

    /// Returns the hash of a message's ordering key, if it was put aside with one; else 0.
    pub(crate) fn key_of(&self, offset: u64) -> u64 {
        self.exceptions.at(offset).map_or(0, |(_, one)| one.key)
    }

    /// Tells whether a message may have been put aside before reading came to it.
    pub(crate) fn is_raised(&self, offset: u64) -> bool {
        self.exceptions.at(offset).is_some_and(|(_, one)| one.priority > NORMAL && one.key == 0)
    }

    /// Puts a message aside that has a priority or an ordering key, `ahead` of the head or where reading
    /// has come to.
    pub(crate) fn aside(&self, offset: u64, special: &Special, ahead: bool) -> Entry {
        let entry =
            Entry { failures: special.priority, losses: ahead.into(), ..Entry::new(Kind::Aside, offset) };
        let lease = u32::try_from(special.position / Waiting::STEP).unwrap_or(0);
        Entry { time: stamp(special.due), lease, delivery: special.key, ..entry }
    }

    /// Tells whether something cannot be lent before a loan ends: a message that is to be handed out
    /// alone, or all the others while it is out, or the next of an ordering key.
    pub(crate) fn waits_for_loans(&self) -> bool {
        let lines = self.exceptions.in_lines() > 0;
        lines || self.exceptions.has_lonely() || self.exceptions.is_any_alone()
    }

    /// Returns when next a message becomes due or a loan ends; `None` if no time changes anything.
    pub(crate) fn next_timer(&self, now: Now) -> Option<Duration> {
        self.exceptions.next_timer(now.mono)
    }

    /// Returns the offset behind a row of done ones that holds `offset`: discarded before its turn.
    pub(crate) fn done_until(&self, offset: u64) -> Option<u64> {
        if offset < self.floor { Some(self.floor) } else { self.done.end_of(offset) }
    }

    /// Returns which try the next, or the present, loan of a message is; 1 is the first.
    pub(crate) fn attempt(&self, offset: u64) -> u32 {
        let (failures, losses) = self.past(offset);
        u32::from(failures) + u32::from(losses) + 1
    }

    /// Returns the number of this opening's next loan; `None` if a new holder is needed.
    pub(crate) fn next_delivery(&self) -> Option<u64> {
        self.deliveries(None, 1)
    }

    /// Tells whether a message comes again, now.
    pub(crate) fn is_ready(&self, offset: u64, now: Now) -> bool {
        let Some((_, one)) = self.exceptions.at(offset) else {
            return self.exceptions.is_low_and_due(offset);
        };
        match one.life {
            _ if one.settling => false,
            Life::Ready => true,
            Life::Delayed { at, .. } => at.is_none_or(|at| at <= now.mono),
            Life::Lent { .. } | Life::Dead { .. } => false,
        }
    }

    /// Lends a message that is ready again; `None` if it is not, or a new holder is needed.
    pub(crate) fn lend_again(&self, offset: u64, lease: u32, now: Now, holder: Option<u32>) -> Option<Entry> {
        let ready = self.is_ready(offset, now);
        let (failures, losses) = self.past(offset);
        let delivery = self.deliveries(holder, 1).filter(|_| ready)?;
        let entry = Entry { lease, time: stamp(now.wall), delivery, ..Entry::new(Kind::Lent, offset) };
        Some(Entry { failures, losses, ..entry })
    }

    /// Lends messages for the first time: all from `first` to `end`, which have no gaps and begin at
    /// or behind the head. `None` if a new holder is needed.
    pub(crate) fn lend_fresh(
        &self,
        first: u64,
        end: u64,
        lease: u32,
        now: Now,
        holder: Option<u32>,
    ) -> Option<Entry> {
        debug_assert!(self.head <= first && first < end && self.done_until(first).is_none());
        let delivery = self.deliveries(holder, end - first)?;
        let more = more_of(first, end, end - first);
        Some(Entry { lease, time: stamp(now.wall), delivery, more, ..Entry::new(Kind::Lent, first) })
    }

    /// Settles a loan: done. One that ran out may still be.
    ///
    /// # Errors
    /// `LeaseLost` if it was settled, lent again, discarded or given up meanwhile.
    pub(crate) fn ack(&self, offset: u64, delivery: u64) -> Result<Entry> {
        if self.holds(offset, delivery) || self.ran_out_late(offset, delivery) {
            Ok(Entry { delivery, ..Entry::new(Kind::Done, offset) })
        } else {
            Err(Error::lease_lost(offset))
        }
    }

    /// Settles many loans: done. The same loan given twice holds once.
    pub(crate) fn ack_many(&self, loans: &[(u64, u64)]) -> Acked {
        let mut held: Vec<bool> =
            loans.iter().map(|&(offset, number)| self.ack(offset, number).is_ok()).collect();
        let mut order: Vec<usize> = (0..loans.len()).filter(|&index| held[index]).collect();
        order.sort_by_key(|&index| loans[index].0);
        let mut entries: Vec<Entry> = Vec::new();
        let mut row: Option<(u64, u64, u64)> = None;
        let close = |(first, end, delivery)| Entry {
            delivery,
            more: more_of(first, end, end - first),
            ..Entry::new(Kind::Done, first)
        };
        for index in order {
            let (offset, delivery) = loans[index];
            row = match row {
                Some((_, end, _)) if offset < end => {
                    held[index] = false;
                    row
                }
                Some((first, end, number)) if offset == end => Some((first, end + 1, number)),
                other => {
                    entries.extend(other.map(close));
                    Some((offset, offset + 1, delivery))
                }
            };
        }
        entries.extend(row.map(close));
        Acked { held, entries }
    }

    /// Settles a loan: failed, again later, by policy or `after` that time; or given up.
    ///
    /// # Errors
    /// `LeaseLost` if the loan is over.
    pub(crate) fn nack(
        &self,
        offset: u64,
        delivery: u64,
        why: Option<&str>,
        after: Option<Duration>,
        now: Now,
    ) -> Result<Entry> {
        self.check(offset, delivery)?;
        let entry = self.failed(offset, delivery, after, now);
        Ok(Entry { more: text(why.unwrap_or_default()), ..entry })
    }

    /// Settles a loan: given up at once.
    ///
    /// # Errors
    /// `LeaseLost` if the loan is over.
    pub(crate) fn reject(&self, offset: u64, delivery: u64, why: &str, now: Now) -> Result<Entry> {
        self.check(offset, delivery)?;
        let (failures, losses) = self.past(offset);
        let entry = Entry { failures, losses, time: stamp(now.wall), ..Entry::new(Kind::Dead, offset) };
        Ok(Entry { lease: reason::REJECTED, delivery, more: text(why), ..entry })
    }

    /// Settles a loan: given back, uncounted.
    ///
    /// # Errors
    /// `LeaseLost` if the loan is over.
    pub(crate) fn release(&self, offset: u64, delivery: u64) -> Result<Entry> {
        self.check(offset, delivery)?;
        Ok(Entry { delivery, ..Entry::new(Kind::Released, offset) })
    }

    /// Lets a timed loan end so many milliseconds from now; a held one becomes timed, or stays.
    ///
    /// # Errors
    /// `LeaseLost` if the loan is over.
    pub(crate) fn extend(&self, offset: u64, delivery: u64, lease: u32, now: Now) -> Result<Entry> {
        self.check(offset, delivery)?;
        Ok(Entry { lease, delivery, time: stamp(now.wall), ..Entry::new(Kind::Extended, offset) })
    }

    /// Tells whether the loan of a message, which is out, ends with its holder only.
    pub(crate) fn is_held(&self, offset: u64) -> bool {
        self.exceptions.at(offset).is_none_or(|(_, one)| matches!(one.life, Life::Lent { lease: HELD, .. }))
    }

    /// Ends the timed loans whose time is over, at most `limit` rows of them: each counts as a failure.
    pub(crate) fn run_out(&self, limit: usize, now: Now) -> Vec<Entry> {
        let ended = self.exceptions.ended(now.mono).take(limit);
        let end = |(start, one): (u64, &Exception)| {
            let Life::Lent { delivery, .. } = one.life else { return None };
            let mut entry = self.failed(start, delivery, None, now);
            if entry.kind == Kind::Nacked {
                entry.lease = RAN_OUT;
            }
            Some(Entry { more: more_of(start, one.end, one.end - start), ..entry })
        };
        ended.filter_map(end).collect()
    }

    /// Ends the held loans of a holder that is gone, `counted` as losses or not, and gives up what was
    /// lost too often. The holders of this opening end together.
    pub(crate) fn holder_gone(&self, holder: u32, counted: bool, now: Now) -> Vec<Entry> {
        let (delivery, time) = (u64::from(holder) << 32, stamp(now.wall));
        let gone = Entry { losses: counted.into(), delivery, time, ..Entry::new(Kind::HolderGone, 0) };
        let mut entries = vec![gone];
        let limit = self.policy.max_losses;
        if !counted || limit == 0 {
            return entries;
        }
        let mut dead = |first: u64, end: u64, failures: u8, losses: u8| {
            let losses = losses.saturating_add(1);
            if losses >= limit {
                let entry = Entry { failures, losses, time, ..Entry::new(Kind::Dead, first) };
                entries.push(Entry {
                    lease: reason::LOSSES,
                    more: more_of(first, end, end - first),
                    ..entry
                });
            }
        };
        for (start, one) in self.exceptions.iter() {
            if matches!(one.life, Life::Lent { delivery, lease: HELD, .. } if holder_of(delivery) == holder) {
                dead(start, one.end, one.failures, one.losses);
            }
        }
        if self.is_of_this_opening(holder) {
            for (first, end) in self.fresh_within(self.floor, self.head) {
                dead(first, end, 0, 0);
            }
        }
        entries
    }

    /// Gives back, uncounted, all that this opening holds itself. What its guests hold stays out: they live
    /// on, and the next owner finds by their locks that they do.
    pub(crate) fn close_release(&self, now: Now) -> Vec<Entry> {
        // The last first: with it all fresh ones come back, and the others' have only exceptions.
        let holders = self.holders.iter().rev();
        holders.flat_map(|&(holder, _)| self.holder_gone(holder, false, now)).collect()
    }

    /// Gives back, uncounted, all held loans, those of guests too.
    pub(crate) fn release_held(&self, now: Now) -> Vec<Entry> {
        let mut entries = self.close_release(now);
        let guests = self.exceptions.holders().filter(|&holder| !self.is_of_this_opening(holder));
        entries.extend(guests.flat_map(|holder| self.holder_gone(holder, false, now)));
        entries
    }

    /// Lists whose held loans the state knows of: at an opening, those who are gone, and guests that live.
    pub(crate) fn holders_out(&self) -> Vec<u32> {
        let mut holders: Vec<u32> = self.exceptions.holders().collect();
        let fresh = self.holders.last().map_or(0, |&(holder, _)| holder);
        if self.out_fresh > 0 && !holders.contains(&fresh) {
            holders.push(fresh);
        }
        holders
    }

    /// Gives up a stretch whose bytes have gone bad; of it, `messages` lie at or behind the head.
    pub(crate) fn damaged(&self, first: u64, end: u64, messages: u64, now: Now) -> Entry {
        let entry = Entry { time: stamp(now.wall), ..Entry::new(Kind::Dead, first) };
        // Always a range: a single one without a count would be a message.
        Entry { lease: reason::DAMAGED, more: More::Range { end, messages }, ..entry }
    }

    /// Puts a message aside that is met for the first time and is due only later; it lies at or
    /// behind the head.
    pub(crate) fn delay(&self, offset: u64, due: u64) -> Entry {
        Entry { time: stamp(due), ..Entry::new(Kind::Nacked, offset) }
    }

    /// Returns what of the log is provably gone that ends before `next` with so many messages: the group
    /// has come to offsets behind it, and to more messages than there are, or has them still to do. (A
    /// group that was told to start behind the end proves nothing.)
    pub(crate) fn missing(&self, next: u64, messages: u64) -> Option<(u64, u64)> {
        let end = self.head.max(self.done.end()).max(self.exceptions.end());
        let proof = self.passed > messages || self.lost(next, Now::default()).is_some();
        (end > next && proof).then_some((next, end))
    }

    /// Makes done what the log does not have any more: all from `first` to the head.
    pub(crate) fn lost(&self, first: u64, now: Now) -> Option<Entry> {
        let (first, end) = (first.max(self.floor), self.head.max(self.exceptions.end()));
        let more = More::Range { end, messages: 0 };
        let open = first < self.head && !self.fresh_within(first, self.head).is_empty()
            || self.exceptions.within(first, end).next().is_some()
            || self.exceptions.waiting_within(first, end).next().is_some();
        open.then(|| Entry { time: stamp(now.wall), more, ..Entry::new(Kind::Discarded, first) })
    }

    /// Tells whether a loan is out under that number.
    pub(crate) fn holds(&self, offset: u64, delivery: u64) -> bool {
        if offset < self.floor || self.exceptions.waits(offset) {
            return false;
        }
        if !self.exceptions.is_empty()
            && let Some((start, one)) = self.exceptions.at(offset)
        {
            let Life::Lent { delivery: first, .. } = one.life else { return false };
            return !one.settling && first.wrapping_add(offset - start) == delivery;
        }
        if offset >= self.head {
            return false;
        }
        // The floor itself is never done.
        if offset != self.floor && self.done.end_of(offset).is_some() {
            return false;
        }
        let (holder, count) = (holder_of(delivery), count_of(delivery));
        self.holders.iter().any(|&(id, first)| id == holder && count >= first)
    }

    pub(super) fn ran_out_late(&self, offset: u64, delivery: u64) -> bool {
        self.exceptions.at(offset).is_some_and(|(start, one)| {
            let waits = matches!(one.life, Life::Ready | Life::Delayed { .. });
            waits && !one.settling && one.late != 0 && one.late.wrapping_add(offset - start) == delivery
        })
    }

    fn check(&self, offset: u64, delivery: u64) -> Result<()> {
        if self.holds(offset, delivery) { Ok(()) } else { Err(Error::lease_lost(offset)) }
    }

    /// Counts a failure: due again later, or given up.
    fn failed(&self, offset: u64, delivery: u64, after: Option<Duration>, now: Now) -> Entry {
        let (failures, losses) = self.past(offset);
        let failures = failures.saturating_add(1);
        let limit = self.policy.max_failures;
        let entry = Entry { failures, losses, delivery, ..Entry::new(Kind::Nacked, offset) };
        if limit > 0 && failures >= limit {
            return Entry { kind: Kind::Dead, lease: reason::FAILURES, time: stamp(now.wall), ..entry };
        }
        let wait = after.map_or_else(|| self.wait_of(delivery, failures), millis);
        Entry { time: stamp(now.wall.saturating_add(wait)), ..entry }
    }

    /// Returns how many milliseconds a message waits after so many failures.
    fn wait_of(&self, delivery: u64, failures: u8) -> u64 {
        let policy = &self.policy;
        let before = failures.saturating_sub(1);
        let wait = match policy.retry_kind {
            retry::LINEAR => u128::from(policy.retry_first) * u128::from(failures),
            retry::STEPS => {
                let listed = policy.retry_steps.iter().rposition(|&step| step > 0).unwrap_or(0);
                policy.retry_steps[usize::from(before).min(listed)].into()
            }
            _ => u128::from(policy.retry_first) << u32::from(before).min(63),
        };
        let wait = wait.min(policy.retry_cap.into());
        let jitter = u64::from(self.policy.retry_jitter.min(1000));
        let part = 1000 - jitter + scatter(delivery ^ u64::from(failures)) % (2 * jitter + 1);
        u64::try_from(wait * u128::from(part) / 1000).unwrap_or(u64::MAX)
    }

    pub(super) fn past(&self, offset: u64) -> (u8, u8) {
        self.exceptions.at(offset).map_or((0, 0), |(_, one)| (one.failures, one.losses))
    }
}

const _: () = assert!(ALONE_FROM > 1, "one loss may be a deploy");

/// Cuts a time as the entry does: what is applied now must be what recovery reads.
pub(super) fn stamp(wall: u64) -> u64 {
    wall.min(Offset::LIMIT - 1)
}

/// Says what an entry is about, beyond its offset; a single message takes no further slot.
pub(super) fn more_of(first: u64, end: u64, messages: u64) -> More {
    if end - first == 1 { More::Nothing } else { More::Range { end, messages } }
}

fn text(why: &str) -> More {
    if why.is_empty() { More::Nothing } else { More::Text(cut(why).into()) }
}

/// Spreads numbers evenly, the same each time (the end of splitmix64).
fn scatter(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
