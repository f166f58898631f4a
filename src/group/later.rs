//! Which messages wait, and were never lent: for a moment that they name themselves, or since others go
//! before those of a low priority? Pure.
//!
//! There may be millions of them, so each takes 32 bytes, and little more while these grow: a row of
//! 16 in a vector that is sorted by offset, since reading comes to them in that order; and 16 in a
//! heap that is sorted by when they are due, or 8 in a queue of those that are and have a low priority. A
//! row that is taken out leaves a hole, and the holes go once there are more of them than rows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::lines::Turn;
use super::low::Low;
use super::state::Now;
use super::stored::wait_of;
use crate::format::snapshot::{NORMAL, Waiting};

/// A message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) offset: u64,
    /// Milliseconds since 1970, or 0: at once, if it has a low priority.
    pub(super) due: u64,
    pub(super) priority: u8,
    /// Where its batch lies in its segment; 0 if that is not known.
    pub(super) position: u64,
}

/// Those that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Later {
    rows: Vec<Waiting>,
    holes: usize,
    /// When each is due, in nanoseconds of the clock that cannot jump, and its offset. The first is one
    /// that still waits.
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    low: Low,
    /// When it was last looked at.
    seen: Now,
}

impl Later {
    pub(super) fn len(&self) -> usize {
        self.rows.len() - self.holes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a message; `false` if it is none that can wait here: its offset is not above the others', or
    /// it is due already and has no low priority.
    pub(super) fn push(&mut self, wait: Wait, now: Now) -> bool {
        let above = self.rows.last().is_none_or(|row| row.offset() < wait.offset);
        let left = wait_of(wait.due, now);
        let low = wait.priority < NORMAL;
        let fits = wait.due < Waiting::DUE_LIMIT && (low || !left.is_zero());
        let position = u32::try_from(wait.position / Waiting::STEP);
        let (true, true, Ok(position)) = (above, fits, position) else { return false };
        self.seen = now;
        // By a quarter, not twofold: a million is to take little more than a million's worth.
        if self.rows.len() == self.rows.capacity() {
            self.rows.reserve_exact((self.rows.len() / 4).max(64));
        }
        self.rows.push(Waiting::new(wait.offset, wait.due, position, wait.priority));
        if left.is_zero() {
            self.low.push(wait.priority, wait.offset, wait.due != 0);
            return true;
        }
        if self.heap.len() == self.heap.capacity() {
            self.heap.reserve_exact((self.heap.len() / 4).max(64));
        }
        self.heap.push(Reverse((nanos(now.mono.saturating_add(left)), wait.offset)));
        true
    }

    /// Remembers where a message lies.
    pub(super) fn set_position(&mut self, offset: u64, position: u64) {
        if let Some(index) = self.find(offset)
            && let Ok(position) = u32::try_from(position / Waiting::STEP)
        {
            let row = self.rows[index];
            self.rows[index] = Waiting::new(offset, row.due(), position, row.priority());
        }
    }

    pub(super) fn contains(&self, offset: u64) -> bool {
        self.find(offset).is_some()
    }

    /// Lists those from `first` to `end`, in offset order.
    pub(super) fn within(&self, first: u64, end: u64) -> impl Iterator<Item = Wait> {
        let start = self.rows.partition_point(|row| row.offset() < first);
        let rows = self.rows[start..].iter().take_while(move |row| row.offset() < end);
        rows.filter(|row| !row.is_hole()).map(wait)
    }

    /// Lists what is to be stored.
    pub(super) fn stored(&self) -> Vec<Waiting> {
        self.rows.iter().copied().filter(|row| !row.is_hole()).collect()
    }

    /// Takes all out from `first` to `end`.
    pub(super) fn take(&mut self, first: u64, end: u64) -> Vec<Wait> {
        if self.is_empty() {
            return Vec::new();
        }
        let taken: Vec<Wait> = self.within(first, end).collect();
        for wait in &taken {
            self.remove(wait.offset);
        }
        taken
    }

    /// Returns the first of those that wait for nothing but messages of higher priorities, and where it
    /// lies.
    pub(super) fn first_low(&self) -> Option<Turn> {
        self.low.first()
    }

    /// Tells whether a message is one of those.
    pub(super) fn is_low_and_due(&self, offset: u64) -> bool {
        let row = self.find(offset).map(|index| self.rows[index]);
        row.is_some_and(|row| row.due() == 0 || self.low.is_stray(row.priority(), offset))
    }

    /// Counts those.
    pub(super) fn low_len(&self) -> usize {
        self.low.len()
    }

    /// Tells where a message lies; 0 if that is not known.
    pub(super) fn position(&self, offset: u64) -> Option<u64> {
        self.find(offset).map(|index| wait(&self.rows[index]).position).filter(|&position| position > 0)
    }

    /// Takes those out that are due, but for those of a low priority: they go on waiting here.
    pub(super) fn ripe(&mut self, now: Now) -> Vec<Wait> {
        self.seen = now;
        let mut ripe = Vec::new();
        while let Some(&Reverse((at, offset))) = self.heap.peek()
            && at <= nanos(now.mono)
        {
            self.heap.pop();
            let Some(index) = self.find(offset) else { continue };
            let one = wait(&self.rows[index]);
            if one.priority < NORMAL {
                self.low.push(one.priority, offset, true);
            } else {
                ripe.push(one);
                self.remove(offset);
            }
        }
        self.drop_stale();
        ripe
    }

    /// Returns when the first is due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|&Reverse((at, _))| Duration::from_nanos(at))
    }

    /// Returns when one that was taken out would have been due.
    pub(super) fn at(&self, wait: Wait) -> Option<Duration> {
        let left = wait_of(wait.due, self.seen);
        (!left.is_zero()).then(|| self.seen.mono.saturating_add(left))
    }

    fn find(&self, offset: u64) -> Option<usize> {
        find(&self.rows, offset)
    }

    fn remove(&mut self, offset: u64) {
        let Some(index) = self.find(offset) else { return };
        let row = self.rows[index];
        self.rows[index] = Waiting::hole(offset);
        if row.due() == 0 || self.low.is_stray(row.priority(), offset) {
            let rows = &self.rows;
            self.low.removed(row.priority(), offset, |offset| find(rows, offset).is_some());
        }
        self.holes += 1;
        self.drop_stale();
        if self.holes > self.len() + 64 {
            self.rows.retain(|row| !row.is_hole());
            self.holes = 0;
            let rows = &self.rows;
            self.heap.retain(|&Reverse((_, offset))| {
                rows.binary_search_by_key(&offset, |row| row.offset()).is_ok()
            });
            self.low.shrink(|offset| find(rows, offset).is_some());
            self.rows.shrink_to(self.rows.len() * 2);
            self.heap.shrink_to(self.rows.len() * 2);
        }
    }

    /// Sees to it that the first of the heap is one that still waits.
    fn drop_stale(&mut self) {
        while let Some(&Reverse((_, offset))) = self.heap.peek()
            && !self.contains(offset)
        {
            self.heap.pop();
        }
    }
}

fn find(rows: &[Waiting], offset: u64) -> Option<usize> {
    let index = rows.binary_search_by_key(&offset, |row| row.offset()).ok()?;
    (!rows[index].is_hole()).then_some(index)
}

fn wait(row: &Waiting) -> Wait {
    let position = u64::from(row.position()) * Waiting::STEP;
    Wait { offset: row.offset(), due: row.due(), priority: row.priority(), position }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    const START: Now = Now { mono: Duration::from_secs(5), wall: 1_700_000_000_000 };

    fn waits(offset: u64, millis: u64) -> Wait {
        Wait { offset, due: START.wall + millis, priority: NORMAL, position: offset * 8 }
    }

    fn after(millis: u64) -> Now {
        Now { mono: START.mono + Duration::from_millis(millis), wall: START.wall + millis }
    }

    #[test]
    fn what_is_due_comes_out_by_time_with_its_place() {
        let mut later = Later::default();
        for (offset, millis) in [(3, 50), (4, 10), (9, 30)] {
            assert!(later.push(waits(offset, millis), START));
        }

        assert_eq!(later.next(), Some(after(10).mono));
        assert_eq!(later.ripe(after(9)), []);
        assert_eq!(later.ripe(after(30)), [waits(4, 10), waits(9, 30)]);
        assert_eq!((later.len(), later.next()), (1, Some(after(50).mono)));
    }

    #[test]
    fn what_cannot_wait_here_is_not_taken() {
        let mut later = Later::default();
        assert!(later.push(waits(5, 10), START));

        assert!(!later.push(waits(5, 10), START));
        assert!(!later.push(waits(4, 10), START));
        assert!(!later.push(Wait { due: START.wall, ..waits(6, 0) }, START));
        assert_eq!(later.len(), 1);
    }

    #[test]
    fn a_million_take_less_than_64_bytes_each() {
        let mut later = Later::default();
        for offset in 0..1_000_000 {
            assert!(later.push(waits(offset * 2, 1 + offset % 1000), START));
        }

        let bytes = later.rows.capacity() * 16 + later.heap.capacity() * 16;

        assert!(bytes < 64_000_000, "{bytes}");
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_map(steps in prop::collection::vec((0..4_u8, 0..40_u64, 1..60_u64), 0..400)) {
            let mut later = Later::default();
            let mut map: BTreeMap<u64, Wait> = BTreeMap::new();
            let (mut next, mut now) = (0, 0);
            for (what, number, millis) in steps {
                match what {
                    0 | 1 => {
                        let one = waits(next, now + millis);
                        prop_assert!(later.push(one, after(now)));
                        map.insert(next, one);
                        next += 1 + number % 3;
                    }
                    2 => {
                        let first = next.saturating_sub(number);
                        let taken = later.take(first, first + millis / 8);
                        let expected: Vec<Wait> = map.range(first..first + millis / 8).map(|(_, &one)| one).collect();
                        for one in &expected {
                            map.remove(&one.offset);
                        }
                        prop_assert_eq!(taken, expected);
                    }
                    _ => {
                        now += millis / 4;
                        let mut ripe = later.ripe(after(now));
                        ripe.sort_by_key(|one| one.offset);
                        let due: Vec<Wait> = map.values().copied().filter(|one| one.due <= START.wall + now).collect();
                        for one in &due {
                            map.remove(&one.offset);
                        }
                        prop_assert_eq!(ripe, due);
                    }
                }
                prop_assert_eq!(later.len(), map.len());
                prop_assert_eq!(later.within(0, u64::MAX).collect::<Vec<_>>(), map.values().copied().collect::<Vec<_>>());
                let first = map.values().map(|one| one.due).min().map(|due| after(due - START.wall).mono);
                prop_assert_eq!(later.next(), first);
            }
        }
    }
}
