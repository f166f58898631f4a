//! Which messages go when new ones need their room? The oldest, whatever has become of them, but never one
//! on loan.
//!
//! What was met is in the state; behind the head the log is read, no lock held, and what was read is looked
//! up in the state once more before it is discarded. An entry tells it, as safe as the group's acks are: it is
//! promised to nobody, and lost in a power cut the message comes again.

use super::decide::{more_of, stamp};
use super::exceptions::{Exception, Life};
use super::live::{Live, Locked};
use super::manage::SPLIT;
use super::rule::MessageState;
use super::state::{Now, State};
use crate::error::Result;
use crate::format::PAGE_POSITION;
use crate::format::entry::{Entry, Kind};
use crate::log::reader::{Cursor, Place, Step};

/// How many entries are appended between two looks at the room there is.
const AT_ONCE: usize = 32;

/// What is discarded so that there is room.
#[derive(Debug, Default)]
pub(super) struct Oldest {
    /// Where it was read last.
    cursor: Option<Cursor>,
    discarded: u64,
}

impl Oldest {
    pub(super) fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Closes the file of a segment that has left the log.
    pub(super) fn leave(&mut self, numbers: &[u64]) {
        if let Some(cursor) = &mut self.cursor {
            cursor.leave(numbers);
        }
    }
}

impl State {
    /// Counts the messages that are done, from the log's beginning on.
    pub(crate) fn done_count(&self) -> u64 {
        let counts = self.stats();
        let open = counts.ready_again + counts.delayed + counts.on_loan + counts.dead;
        // Of a damaged stretch more may count as dead than there were.
        (counts.passed + counts.ahead).saturating_sub(open)
    }

    /// Tells whether a message below `end` is on loan, or its ack on its way.
    pub(crate) fn has_loans_below(&self, end: u64) -> bool {
        if self.on_loan() == 0 {
            return false;
        }
        let out = |(_, one): (u64, &Exception)| !is_idle(one);
        self.exceptions.within(self.floor, end).any(out)
            || !self.fresh_within(self.floor, end.min(self.head)).is_empty()
    }

    /// Makes the oldest `most` messages done that were met and are not on loan; in `limit` rows at the most.
    fn discard_met(&self, most: u64, limit: usize, now: Now) -> Vec<Entry> {
        let rows = self.exceptions.within(self.floor, self.head).filter(|(_, one)| is_idle(one));
        let mut rows = rows.map(|(start, one)| (start, one.end)).peekable();
        let waiting = self.exceptions.waiting_within(self.floor, self.head);
        let mut waiting = waiting.map(|offset| (offset, offset + 1)).peekable();
        let (mut left, mut entries) = (most, Vec::new());
        while left > 0 && entries.len() < limit {
            let row_is_first = match (rows.peek(), waiting.peek()) {
                (Some(row), Some(wait)) => row < wait,
                (row, _) => row.is_some(),
            };
            let next = if row_is_first { rows.next() } else { waiting.next() };
            let Some((start, end)) = next else { break };
            let end = end.min(start.saturating_add(left));
            left -= end - start;
            entries.push(discarded(start, end, now));
        }
        entries
    }

    /// Makes the first `most` of these messages done that are neither done nor on loan.
    fn discard_these(&self, offsets: &[u64], most: u64, now: Now) -> Vec<Entry> {
        let open = |&&offset: &&u64| {
            let place = self.place_of(offset, now);
            !matches!(place, MessageState::OnLoan | MessageState::Done)
        };
        let mut rows: Vec<(u64, u64)> = Vec::new();
        for &offset in offsets.iter().filter(open).take(usize::try_from(most).unwrap_or(usize::MAX)) {
            match rows.last_mut() {
                Some((_, end)) if *end == offset => *end += 1,
                _ => rows.push((offset, offset + 1)),
            }
        }
        rows.into_iter().map(|(start, end)| discarded(start, end, now)).collect()
    }
}

impl Live {
    /// Makes the oldest `count` messages done that are not on loan; returns how many there were.
    ///
    /// # Errors
    /// When the group was stopped, the disk refuses, or there is no room to record it.
    pub(crate) fn discard_oldest(&self, count: u64) -> Result<u64> {
        let mut guard = self.enter()?;
        let mut left = count;
        while left > 0 {
            guard = self.with_room_for(guard, AT_ONCE, SPLIT)?;
            let entries = guard.state.discard_met(left, AT_ONCE, self.now());
            if entries.is_empty() {
                break;
            }
            left -= self.record_discards(&mut guard, &entries)?;
        }
        if left > 0 {
            let cursor = guard.oldest.cursor.take();
            let mut cursor = cursor.unwrap_or_else(|| Cursor::new(self.log.clone()));
            let (head, gone) = (guard.state.head(), self.log.left());
            drop(guard);
            let hint = self.log.segment_at(head);
            let hint = hint.map(|segment| Place { segment: segment.number, position: PAGE_POSITION });
            cursor.seek(head, hint);
            let read = self.discard_unmet(&mut cursor, &mut left);
            guard = self.enter()?;
            cursor.leave_since(gone);
            guard.oldest.cursor = Some(cursor);
            read?;
        }
        // The next one of an ordering key may have its turn now.
        self.commit.wake_changed(&mut guard);
        self.settle_down(guard, self.synced)?;
        Ok(count - left)
    }

    /// Makes messages done that the cursor comes to, until so many were not before.
    fn discard_unmet(&self, cursor: &mut Cursor, left: &mut u64) -> Result<()> {
        let mut offsets = Vec::new();
        let mut ended = false;
        while *left > 0 && !ended {
            offsets.clear();
            while offsets.len() < AT_ONCE.min(usize::try_from(*left).unwrap_or(AT_ONCE)) && !ended {
                match cursor.next()? {
                    Step::Message(message) => offsets.push(message.offset),
                    // Whoever comes there gives it up.
                    Step::Damaged(_) => {}
                    Step::End => ended = true,
                }
            }
            let mut guard = self.with_room_for(self.enter()?, offsets.len(), SPLIT)?;
            let entries = guard.state.discard_these(&offsets, *left, self.now());
            *left -= self.record_discards(&mut guard, &entries)?;
        }
        Ok(())
    }

    /// Makes all below `end` done, before which so many messages lie; `None`, and nothing changes, if one of
    /// them is on loan.
    ///
    /// # Errors
    /// As [`Live::discard_oldest`].
    pub(crate) fn discard_below(&self, end: u64, messages: u64) -> Result<Option<u64>> {
        let mut guard = self.with_room_for(self.enter()?, 1, 0)?;
        if guard.state.has_loans_below(end) {
            return Ok(None);
        }
        let count = self.record_purge(&mut guard, end, messages)?;
        guard.oldest.discarded += count;
        self.commit.wake_changed(&mut guard);
        self.settle_down(guard, self.synced)?;
        Ok(Some(count))
    }

    fn record_discards(&self, guard: &mut Locked<'_>, entries: &[Entry]) -> Result<u64> {
        self.record(guard, entries)?;
        let count = entries.iter().map(|entry| entry.range().1 - entry.range().0).sum();
        guard.oldest.discarded += count;
        Ok(count)
    }
}

/// Tells whether nobody has it, nor is its ack on its way.
fn is_idle(one: &Exception) -> bool {
    !one.settling && !matches!(one.life, Life::Lent { .. })
}

fn discarded(first: u64, end: u64, now: Now) -> Entry {
    Entry {
        time: stamp(now.wall),
        more: more_of(first, end, end - first),
        ..Entry::new(Kind::Discarded, first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::HELD;
    use crate::group::policy::DEFAULT_POLICY;

    const NOW: Now = Now { mono: std::time::Duration::ZERO, wall: 1_700_000_000_000 };

    fn number(offset: u64) -> u64 {
        7 << 32 | offset
    }

    /// A group that has lent ten messages: 1 and 2 are ready again, 4 is dead, 6 is done, and its ack of 8 is on
    /// its way. 10 waits until later.
    fn state() -> State {
        let mut state = State::default();
        state.set_policy(DEFAULT_POLICY);
        state.begin_holder(7);
        let lent = state.lend_fresh(0, 10, HELD, NOW, None).unwrap();
        state.apply(&lent, NOW);
        for offset in [1, 2] {
            let released = state.release(offset, number(offset)).unwrap();
            state.apply(&released, NOW);
        }
        let dead = state.reject(4, number(4), "no", NOW).unwrap();
        state.apply(&dead, NOW);
        let done = state.ack(6, number(6)).unwrap();
        state.apply(&done, NOW);
        state.begin_settling(8, number(8), 11).unwrap();
        let later = state.delay(10, NOW.wall + 1000);
        state.apply(&later, NOW);
        state
    }

    fn rows(entries: &[Entry]) -> Vec<(u64, u64)> {
        entries.iter().map(Entry::range).collect()
    }

    #[test]
    fn the_oldest_that_nobody_has_go_first_and_no_more_than_are_wanted() {
        let state = state();

        assert_eq!(rows(&state.discard_met(9, 9, NOW)), [(1, 2), (2, 3), (4, 5), (10, 11)]);
        assert_eq!(rows(&state.discard_met(3, 9, NOW)), [(1, 2), (2, 3), (4, 5)]);
        assert_eq!(rows(&state.discard_met(9, 1, NOW)), [(1, 2)]);
    }

    #[test]
    fn of_messages_that_were_read_those_go_that_are_neither_done_nor_on_loan() {
        let state = state();

        assert_eq!(
            rows(&state.discard_these(&[0, 1, 6, 8, 11, 12, 14], 9, NOW)),
            [(1, 2), (11, 13), (14, 15)]
        );
        assert_eq!(rows(&state.discard_these(&[11, 12, 13], 2, NOW)), [(11, 13)]);
    }

    #[test]
    fn what_is_discarded_counts_as_done_and_a_loan_is_seen_wherever_it_is() {
        let mut state = state();
        assert_eq!(state.done_count(), 1);
        assert!(state.has_loans_below(1) && state.has_loans_below(90) && !state.has_loans_below(0));

        for entry in [state.discard_met(9, 9, NOW), state.discard_these(&[11, 12, 14], 9, NOW)].concat() {
            state.apply(&entry, NOW);
        }

        assert_eq!((state.done_count(), state.on_loan()), (8, 6));
        for offset in [0, 3, 5, 7, 9] {
            let acked = state.ack(offset, number(offset)).unwrap();
            state.apply(&acked, NOW);
        }
        assert!(!state.has_loans_below(8) && state.has_loans_below(9), "its ack is on its way");
    }
}
