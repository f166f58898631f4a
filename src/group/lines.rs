//! Whose turn is it: by priority, and among the messages of one ordering key? Pure.
//!
//! Of each key in use: which messages there are, in offset order, and how many of them are out. While
//! one is out none else of its key may be lent, but to the receive that has it; else the first may be,
//! once it is ready. So the order holds across retries.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::snapshot::{HIGHEST, NORMAL};

/// Where a priority stands among those that are ready: the lowest goes first.
pub(crate) type Rank = u8;

/// The place of a message among those that are ready: its rank and offset.
pub(crate) type Turn = (Rank, u64);

/// The rank of a message that names no priority.
pub(crate) const PLAIN: Rank = rank_of(NORMAL);

/// Returns the rank of a priority.
pub(crate) const fn rank_of(priority: u8) -> Rank {
    HIGHEST.saturating_sub(priority)
}

/// The messages of one key that are neither done nor dead.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    all: BTreeSet<u64>,
    out: BTreeSet<u64>,
}

/// All lines, by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    lines: BTreeMap<u64, Line>,
    /// How many wait, in all lines.
    waiting: u64,
}

impl Lines {
    pub(super) fn add(&mut self, key: u64, offset: u64, out: bool) {
        let line = self.lines.entry(key).or_default();
        line.all.insert(offset);
        if out {
            line.out.insert(offset);
        } else {
            self.waiting += 1;
        }
    }

    pub(super) fn remove(&mut self, key: u64, offset: u64) {
        let Some(line) = self.lines.get_mut(&key) else { return };
        line.all.remove(&offset);
        self.waiting -= u64::from(!line.out.remove(&offset));
        if line.all.is_empty() {
            self.lines.remove(&key);
        }
    }

    /// Returns the only message of a key that may be lent to anybody, if it is ready.
    pub(super) fn first(&self, key: u64) -> Option<u64> {
        let line = self.lines.get(&key).filter(|line| line.out.is_empty())?;
        line.all.first().copied()
    }

    /// Returns the next message of a key for the receive that has `out` of its messages, if those are
    /// all that are out, and the first.
    pub(super) fn next(&self, key: u64, out: usize) -> Option<u64> {
        let line = self.lines.get(&key).filter(|line| line.out.len() == out)?;
        let next = line.all.iter().copied().nth(out)?;
        line.out.last().is_none_or(|&last| last < next).then_some(next)
    }

    /// Counts those that wait, whether or not it is their turn.
    pub(super) const fn waiting(&self) -> u64 {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_has_its_turn_while_none_is_out() {
        let mut lines = Lines::default();
        lines.add(7, 12, false);
        lines.add(7, 10, false);
        lines.add(8, 11, false);
        assert_eq!((lines.first(7), lines.first(8), lines.first(9)), (Some(10), Some(11), None));

        lines.remove(7, 10);
        lines.add(7, 10, true);

        assert_eq!((lines.first(7), lines.waiting()), (None, 2));
        lines.remove(7, 10);
        assert_eq!((lines.first(7), lines.waiting()), (Some(12), 2));
        lines.remove(7, 12);
        lines.remove(8, 11);
        assert!(lines.lines.is_empty() && lines.waiting == 0);
    }

    #[test]
    fn the_receive_that_has_the_first_ones_may_have_the_next() {
        let mut lines = Lines::default();
        for (offset, out) in [(10, true), (11, true), (12, false), (13, false)] {
            lines.add(7, offset, out);
        }

        assert_eq!((lines.next(7, 2), lines.next(7, 1), lines.next(8, 0)), (Some(12), None, None));
        // One that came back lies before what the receive has.
        lines.remove(7, 10);
        lines.add(7, 10, false);
        assert_eq!(lines.next(7, 1), None);
    }
}
