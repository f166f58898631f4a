//! How does a group's state become a snapshot, and again a state? Pure.

use std::time::Duration;

use super::exceptions::{Exception, Life};
use super::later::Wait;
use super::state::{Now, State};
use crate::format::entry::{Entry, HELD};
use crate::format::snapshot::{self, HIGHEST, NORMAL, RETRY_STEPS, Reading, Snapshot, Waiting};
use crate::offset::Offset;

/// The longest wait that is taken over from the wall clock: it may have been years off when a due
/// time was written.
pub(super) const LONGEST_WAIT: u64 = 365 * 24 * 3_600 * 1_000;

impl State {
    /// Takes up the state that was stored. What contradicts itself is left out: `Snapshot::decode`
    /// refuses it before.
    pub(crate) fn from_snapshot(stored: &Snapshot, now: Now) -> Self {
        let Reading { floor, head, passed, hint, holder, first_count, settled } = stored.reading;
        let unknown = stored.unknown.clone();
        let mut state = Self { passed, hint, settled, policy: stored.policy, unknown, ..Self::default() };
        state.kinds.clone_from(&stored.kinds);
        state.head = head.min(Offset::LIMIT);
        state.floor = floor.min(state.head);
        if holder != 0 {
            state.holders.push((holder, first_count));
        }
        state.count = first_count.into();
        for &(start, end) in stored.done.iter().filter(|&&(start, end)| start < end && end <= Offset::LIMIT) {
            state.done.insert(start, end);
        }
        state.skip_done();
        let mut from = state.floor;
        for one in &stored.exceptions {
            let gaps = if one.offset < one.end { state.done.gaps(one.offset, one.end) } else { Vec::new() };
            let straddles = one.offset < state.head && one.end > state.head;
            let past_the_end = one.end > Offset::LIMIT;
            if one.offset < from || straddles || past_the_end || gaps != [(one.offset, one.end)] {
                continue;
            }
            from = one.end;
            let life = match one.state {
                snapshot::State::Ready => Life::Ready,
                snapshot::State::Delayed { due } => delayed(due, now),
                snapshot::State::Lent { delivery, lease, since } => lent(delivery, lease, since, now),
                snapshot::State::Dead { reason, since } => Life::Dead { reason, since },
            };
            let error = (!one.error.is_empty()).then(|| one.error.as_str().into());
            let single = one.end == one.offset + 1;
            let key = if single { one.key } else { 0 };
            let priority = if single { one.priority.min(HIGHEST) } else { NORMAL };
            let (failures, losses, late) = (one.failures, one.losses, one.late);
            state.exceptions.put(
                one.offset,
                Exception { life, failures, losses, late, error, priority, key, ..Exception::ready(one.end) },
            );
        }
        for row in &stored.waiting {
            let (offset, position) = (row.offset(), u64::from(row.position()) * Waiting::STEP);
            let free = state.floor <= offset && offset < state.head && state.done.end_of(offset).is_none();
            if free && state.exceptions.at(offset).is_none() && !state.exceptions.waits(offset) {
                let (due, priority) = (row.due(), row.priority().min(HIGHEST));
                state.exceptions.wait(Wait { offset, due, priority, position }, now);
            }
        }
        let fresh = state.fresh_within(state.floor, state.head);
        state.out_fresh = fresh.iter().map(|(start, end)| end - start).sum();
        state.set_paused(stored.paused, now);
        state
    }

    /// Takes up what a half tells: the snapshot, and what happened since, in order.
    pub(crate) fn recover(stored: &Snapshot, entries: &[Entry], now: Now) -> Self {
        let mut state = Self::from_snapshot(stored, now);
        for entry in entries {
            state.apply(entry, now);
        }
        state
    }

    /// Returns all that is to be stored.
    pub(crate) fn to_snapshot(&self) -> Snapshot {
        let &Self { floor, head, passed, hint, settled, policy, .. } = self;
        let (holder, first_count) = self.holders.last().copied().unwrap_or_default();
        let reading = Reading { floor, head, passed, hint, holder, first_count, settled };
        let exception = |(offset, one): (u64, &Exception)| snapshot::Exception {
            offset,
            end: one.end,
            state: match one.life {
                Life::Ready => snapshot::State::Ready,
                Life::Delayed { due, .. } => snapshot::State::Delayed { due },
                Life::Lent { delivery, lease, since, .. } => snapshot::State::Lent { delivery, lease, since },
                Life::Dead { reason, since } => snapshot::State::Dead { reason, since },
            },
            failures: one.failures,
            losses: one.losses,
            late: one.late,
            error: one.error.as_deref().unwrap_or_default().to_owned(),
            priority: one.priority,
            key: one.key,
        };
        // What has no past and waits is stored in one way, whether or not its time has come meanwhile.
        let mut waiting = self.exceptions.waiting();
        let waits = |row: (u64, &Exception)| waits(row).filter(|_| row.0 < head);
        waiting.extend(self.exceptions.iter().filter_map(waits));
        waiting.sort_unstable_by_key(|row| row.offset());
        let past = self.exceptions.iter().filter(|&row| waits(row).is_none());
        let exceptions = past.map(exception).collect();
        let unknown = self.unknown.clone();
        let paused = self.paused.map(|pause| pause.until);
        let kinds = self.kinds.clone();
        Snapshot {
            reading,
            done: self.done.iter().collect(),
            exceptions,
            waiting,
            policy,
            paused,
            kinds,
            unknown,
        }
    }

    /// Returns how many bytes [`Snapshot::encode`] gives at most, now and until every loan that is
    /// out now, and `more` new ones, are settled, however that goes. With `texts` each of them may
    /// leave an error text.
    pub(crate) fn snapshot_bound(&self, more: u64, texts: bool) -> u64 {
        // Six section heads, the reading, the policy, the pause and two lengths.
        const FIXED: u64 = 6 * 8 + 56 + POLICY + 8 + 2 * 8;
        const POLICY: u64 = 23 + 1 + 8 * RETRY_STEPS as u64 + 4 + 1;
        const RANGE: u64 = 16;
        // Offset, end, state (a tag and 20 bytes), counters, late, a length, priority, key.
        const EXCEPTION: u64 = 8 + 8 + 24 + 2 + 8 + 8 + 1 + 8;
        let loans = self.on_loan() + more;
        // A loan that ends becomes one exception or splits a row or range: an exception takes more. A
        // late ack splits a row too.
        let ends = loans + self.exceptions.tally().late;
        // What waits takes less, until its time has come.
        let exceptions = (self.exceptions.len() as u64 + self.exceptions.waiting_count() + ends) * EXCEPTION;
        // What a later version left in the snapshot is kept, each with a section head.
        let unknown: u64 = self.unknown.iter().map(|(_, bytes)| 8 + bytes.len() as u64).sum();
        let texts = self.exceptions.texts_bound(if texts { loans } else { 0 });
        let kinds = self.kinds.iter().map(|kind| 8 + kind.len() as u64).sum::<u64>() + 16;
        FIXED + kinds + self.done.len() as u64 * RANGE + exceptions + texts + unknown
    }
}

/// Returns a row of the map as what was never lent and waits, if it is no more than that.
fn waits((offset, one): (u64, &Exception)) -> Option<Waiting> {
    let Life::Delayed { due, .. } = one.life else { return None };
    let plain = one.end == offset + 1
        && one.failures == 0
        && one.losses == 0
        && one.late == 0
        && one.key == 0
        && one.error.is_none();
    let position = one.place.and_then(|(_, position)| u32::try_from(position / Waiting::STEP).ok());
    (plain && due < Waiting::DUE_LIMIT)
        .then(|| Waiting::new(offset, due, position.unwrap_or(0), one.priority))
}

/// Returns how long it is to a due time, by the clock that cannot jump.
pub(super) fn wait_of(due: u64, now: Now) -> Duration {
    Duration::from_millis(due.saturating_sub(now.wall).min(LONGEST_WAIT))
}

/// Translates a due time to that clock.
pub(super) fn delayed(due: u64, now: Now) -> Life {
    let wait = wait_of(due, now);
    Life::Delayed { due, at: (!wait.is_zero()).then(|| now.mono.saturating_add(wait)) }
}

/// Translates the end of a loan likewise; a wall clock that went back prolongs none.
pub(super) fn lent(delivery: u64, lease: u32, since: u64, now: Now) -> Life {
    let left = since.saturating_add(lease.into()).saturating_sub(now.wall).min(lease.into());
    let ends = (lease != HELD).then(|| now.mono.saturating_add(Duration::from_millis(left)));
    Life::Lent { delivery, lease, since, ends }
}
