//! Which loans are settling: acked by a batch that may not be durable yet? Pure.
//!
//! From the moment when the batch is on its way until it is durable such a message is not lent, its loan
//! does not run out, and nobody else ends it. No entry and no snapshot says that it is done: the batch
//! alone does, and that is there whole or not at all. A snapshot that is taken meanwhile shows the loan,
//! and says of which batches it knows the acks (`settled`): those that end at or below the lowest offset
//! that a batch on its way can have.

use std::collections::BTreeMap;

use super::exceptions::Life;
use super::state::{Now, State};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, HELD, Kind, More};
use crate::format::snapshot::Snapshot;
use crate::offset::Offset;
use crate::plant::{Plant, planted};

/// The loans of a group that are settling.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settling {
    loans: BTreeMap<u64, Loan>,
    in_flight: usize,
    /// The lowest end of a batch that is stored: who asks often need not look at all loans.
    first_end: Option<u64>,
    /// The opening found acks in the log that are not in the group's files yet.
    found: bool,
}

#[derive(Clone, Debug)]
struct Loan {
    delivery: u64,
    /// No message of its batch has a lower offset.
    since: u64,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Its batch is being pushed.
    InFlight,
    /// Its batch is in the log and ends there.
    Stored { end: u64 },
    /// Whether its batch is in the log is known to the next opening alone.
    InDoubt(Error),
}

impl Settling {
    /// Tells whether no loan is settling.
    pub(crate) fn is_empty(&self) -> bool {
        self.loans.is_empty()
    }

    /// Tells whether a batch is being pushed, so that an answer is to come.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// Tells whether the state has acks that the opening found in the log alone.
    pub(crate) fn is_found(&self) -> bool {
        self.found
    }

    /// Says that the state is in a synced snapshot.
    pub(crate) fn saved(&mut self) {
        self.found = false;
    }

    /// Counts those whose batches have been answered: nobody works on them any more.
    pub(crate) fn answered(&self) -> u64 {
        (self.loans.len() - self.in_flight) as u64
    }

    /// Returns why it is not known of some loan whether its batch is in the log.
    pub(crate) fn doubt(&self) -> Option<&Error> {
        self.loans.values().find_map(|loan| match &loan.stage {
            Stage::InDoubt(error) => Some(error),
            Stage::InFlight | Stage::Stored { .. } => None,
        })
    }

    /// Returns up to which offset the state has the acks of every batch, where the log ends at `next`.
    pub(crate) fn settled(&self, next: u64) -> u64 {
        if planted(Plant::SettledTooFar) {
            return next;
        }
        self.loans.values().map(|loan| loan.since).chain([next]).min().unwrap_or(next)
    }

    /// Notes that a batch was answered: it ends there.
    pub(crate) fn stored(&mut self, offset: u64, end: u64) {
        self.first_end = Some(self.first_end.map_or(end, |first| first.min(end)));
        self.answer(offset, Stage::Stored { end });
    }

    /// Notes that nobody knows what became of a batch.
    pub(crate) fn in_doubt(&mut self, offset: u64, why: Error) {
        self.answer(offset, Stage::InDoubt(why));
    }

    fn answer(&mut self, offset: u64, stage: Stage) {
        let Some(loan) = self.loans.get_mut(&offset) else { return };
        self.in_flight -= usize::from(matches!(loan.stage, Stage::InFlight));
        loan.stage = stage;
    }

    fn remove(&mut self, offset: u64) {
        if let Some(loan) = self.loans.remove(&offset) {
            self.in_flight -= usize::from(matches!(loan.stage, Stage::InFlight));
        }
    }
}

impl State {
    /// Returns the durable next offset up to which acks of batches are applied.
    pub(crate) fn settled(&self) -> u64 {
        self.settled
    }

    /// Says that they are applied up to there; it is stored with the next snapshot.
    pub(crate) fn set_settled(&mut self, settled: u64) {
        self.settled = settled;
    }

    /// Sets a loan aside whose ack goes into a batch; `next` is where the log ends by now. One that ran
    /// out may still be settled so.
    ///
    /// # Errors
    /// `LeaseLost` if it is over, or settling already.
    pub(crate) fn begin_settling(&mut self, offset: u64, delivery: u64, next: u64) -> Result<()> {
        if !self.holds(offset, delivery) && !self.ran_out_late(offset, delivery) {
            return Err(Error::lease_lost(offset));
        }
        self.change(offset, offset + 1, |_, one, fresh| {
            if fresh {
                one.life = Life::Lent { delivery, lease: HELD, since: 0, ends: None };
            }
            one.settling = true;
            true
        });
        self.settling.loans.insert(offset, Loan { delivery, since: next, stage: Stage::InFlight });
        self.settling.in_flight += 1;
        Ok(())
    }

    /// Puts a loan back as it was: its batch is not in the log, and never will be. Its time may be over
    /// by now.
    pub(crate) fn end_settling(&mut self, offset: u64) {
        self.settling.remove(offset);
        self.change(offset, offset + 1, |_, one, _| {
            one.settling = false;
            true
        });
    }

    /// Returns what is to be recorded of settling loans: done, in rows of offsets, at most `limit` rows,
    /// of those whose batches end at or below `durable`.
    pub(crate) fn settled_by(&self, durable: u64, limit: usize) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let none = self.settling.first_end.is_none_or(|first| first > durable);
        if none && !planted(Plant::DoneBeforeBatch) {
            return entries;
        }
        for (&offset, loan) in &self.settling.loans {
            let durable = match loan.stage {
                Stage::Stored { end } => end <= durable || planted(Plant::DoneBeforeBatch),
                Stage::InFlight => planted(Plant::DoneBeforeBatch),
                Stage::InDoubt(_) => false,
            };
            if !durable {
                continue;
            }
            if let Some(last) = entries.last_mut()
                && let (_, end) = last.range()
                && end == offset
            {
                last.more = More::Range { end: offset + 1, messages: offset + 1 - last.offset };
                continue;
            }
            if entries.len() == limit {
                break;
            }
            entries.push(Entry { delivery: loan.delivery, ..Entry::new(Kind::Done, offset) });
        }
        entries
    }

    /// Forgets settling loans of which an entry says that they are done. To be called before it is
    /// applied.
    pub(crate) fn recorded(&mut self, entry: &Entry) {
        let (first, end) = entry.range();
        for offset in first..end {
            self.settling.remove(offset);
        }
        let stored = self.settling.loans.values().filter_map(|loan| match loan.stage {
            Stage::Stored { end } => Some(end),
            Stage::InFlight | Stage::InDoubt(_) => None,
        });
        self.settling.first_end = stored.min();
    }

    /// Marks as done what a batch of the log acks, at an opening. The batch is the truth: nothing that
    /// came to pass with the message since is recorded, but for this; and its loan may not be, for it can
    /// have been lost with a power cut while the batch, which was synced, was not.
    pub(crate) fn settle(&mut self, offset: u64, end: u64, now: Now) {
        if end > self.settled || planted(Plant::SettledOverSeek) {
            self.settling.found = true;
            self.apply(&Entry::new(Kind::Done, offset), now);
        }
    }
}

/// Returns what the range of a `seek` says of settles; 0 if it says nothing.
pub(super) fn settled_by_seek(end: u64) -> u64 {
    if end < Offset::LIMIT { end } else { 0 }
}

/// Returns up to which offset what a half tells has the acks of every batch.
pub(crate) fn settled_in(stored: &Snapshot, entries: &[Entry]) -> u64 {
    let seeks = entries.iter().filter(|entry| entry.kind == Kind::Seek);
    let by_seek = seeks.map(|seek| settled_by_seek(seek.range().1));
    by_seek.chain([stored.reading.settled]).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::group::policy::DEFAULT_POLICY;

    const HOLDER: u32 = 7;

    fn at(seconds: u64) -> Now {
        Now { mono: Duration::from_secs(seconds), wall: 1_700_000_000_000 + seconds * 1000 }
    }

    /// A group that has lent so many messages, with a lease in milliseconds; loans count up.
    fn lent(count: u64, lease: u32) -> State {
        let mut state = State::default();
        state.set_policy(DEFAULT_POLICY);
        state.begin_holder(HOLDER);
        let entry = state.lend_fresh(0, count, lease, at(0), None).unwrap();
        state.apply(&entry, at(0));
        state
    }

    fn number(offset: u64) -> u64 {
        u64::from(HOLDER) << 32 | offset
    }

    fn rows(entries: &[Entry]) -> Vec<(u64, u64)> {
        entries.iter().map(Entry::range).collect()
    }

    #[test]
    fn a_settling_loan_is_settled_by_nobody_else_and_does_not_run_out() {
        for lease in [HELD, 1000] {
            let mut state = lent(2, lease);
            state.begin_settling(0, number(0), 5).unwrap();

            assert!(state.begin_settling(0, number(0), 5).is_err() && state.ack(0, number(0)).is_err());
            assert!(
                state.nack(0, number(0), None, None, at(1)).is_err() && state.release(0, number(0)).is_err()
            );
            assert_eq!(rows(&state.run_out(9, at(9))), if lease == HELD { vec![] } else { vec![(1, 2)] });
            assert_eq!(state.on_loan(), 2);
            // The batch had no effect: all is as before.
            state.end_settling(0);
            assert_eq!(rows(&state.run_out(9, at(9))).len(), if lease == HELD { 0 } else { 2 });
            assert_eq!(state.ack(0, number(0)).unwrap().range(), (0, 1));
        }
    }

    #[test]
    fn a_loan_that_ran_out_is_not_lent_again_while_it_is_settling() {
        let mut state = lent(1, 1000);
        for entry in state.run_out(9, at(2)) {
            state.apply(&entry, at(2));
        }
        state.begin_settling(0, number(0), 1).unwrap();
        state.ripen(at(90_000));

        assert!(!state.is_ready(0, at(90_000)));
        assert!(state.lend_again(0, HELD, at(90_000), None).is_none());
        state.end_settling(0);
        assert!(state.is_ready(0, at(90_000)));
    }

    #[test]
    fn a_snapshot_shows_the_loan_and_claims_no_ack_that_is_on_its_way() {
        let mut state = lent(3, HELD);
        state.begin_settling(1, number(1), 10).unwrap();
        assert_eq!((state.settling.settled(50), state.settling.settled(4)), (10, 4));
        state.settling.stored(1, 12);
        assert_eq!(state.settling.settled(50), 10, "stored is not recorded");

        let found = State::from_snapshot(&state.to_snapshot(), at(0));

        assert_eq!((found.on_loan(), found.settling.answered()), (3, 0));
        assert!(found.holds(1, number(1)));
        let entry = state.settled_by(12, 9).pop().unwrap();
        state.recorded(&entry);
        state.apply(&entry, at(0));
        assert_eq!((state.settling.settled(50), state.on_loan()), (50, 2));
    }

    #[test]
    fn a_settling_loan_of_a_guest_that_is_gone_comes_back_when_its_batch_had_no_effect() {
        const GUEST: u32 = 70;
        for (stored, counted) in [(false, true), (false, false), (true, true)] {
            let mut state = lent(1, HELD);
            assert!(state.begin_guest(GUEST));
            let entry = state.lend_fresh(1, 2, HELD, at(0), Some(GUEST)).unwrap();
            state.apply(&entry, at(0));
            let snapshot = state.to_snapshot();
            state.begin_settling(1, entry.delivery, 5).unwrap();

            let gone = state.guest_gone(GUEST, counted, at(0));
            gone.iter().for_each(|entry| state.apply(entry, at(0)));

            assert!(!state.is_ready(1, at(0)), "its batch may be stored yet");
            assert_eq!(State::recover(&snapshot, &gone, at(0)).to_snapshot(), state.to_snapshot());
            if stored {
                state.settling.stored(1, 6);
                let done = state.settled_by(6, 9).pop().unwrap();
                state.recorded(&done);
                state.apply(&done, at(0));
                assert!(state.done_until(1).is_some());
            } else {
                state.end_settling(1);
                assert!(state.is_ready(1, at(0)));
                assert_eq!(state.attempt(1), 1 + u32::from(counted));
            }
            assert!(state.ack(1, entry.delivery).is_err());
        }
    }

    #[test]
    fn what_is_durable_is_recorded_in_rows_and_nothing_else() {
        let mut state = lent(8, HELD);
        for (offset, end) in [(0, 10), (1, 11), (2, 20), (4, 10), (5, 11)] {
            state.begin_settling(offset, number(offset), 9).unwrap();
            state.settling.stored(offset, end);
        }
        state.begin_settling(6, number(6), 9).unwrap();
        state.begin_settling(7, number(7), 9).unwrap();
        state.settling.in_doubt(7, Error::Timeout { owner: None });

        assert_eq!(rows(&state.settled_by(9, 9)), []);
        assert_eq!(rows(&state.settled_by(11, 9)), [(0, 2), (4, 6)]);
        assert_eq!(rows(&state.settled_by(11, 1)), [(0, 2)]);
        assert_eq!(rows(&state.settled_by(u64::MAX, 9)), [(0, 3), (4, 6)]);
        assert!(state.settling.doubt().is_some() && state.settling.is_in_flight());
        assert_eq!(state.settling.answered(), 6);
    }

    #[test]
    fn a_seek_is_over_all_that_was_acked_before_it_and_nothing_behind() {
        let mut state = lent(3, HELD);
        let seek = state.seek(0, 0, 30, at(1));
        state.apply(&seek, at(1));

        state.settle(0, 30, at(1));
        state.settle(1, 31, at(1));

        assert_eq!([0, 1, 2].map(|offset| state.done_until(offset).is_some()), [false, true, false]);
        assert_eq!(settled_in(&Snapshot::default(), &[seek]), 30);
        // What an earlier version wrote says nothing.
        let more = More::Range { end: Offset::LIMIT, messages: 0 };
        assert_eq!(settled_in(&Snapshot::default(), &[Entry { more, ..Entry::new(Kind::Seek, 0) }]), 0);
    }
}
