//! From where on may a guest's pushes be looked for, should this owner end? Pure.
//!
//! What is known is bounded however many pushes there are: notes that are next to each other become one, which keeps
//! no less than both.

use std::collections::VecDeque;

use crate::plant::{Plant, planted};

/// So many notes at the most.
const MOST: usize = 64 << 10;

/// Pushes of which a guest has not said that it has heard the answer.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    /// The number of a push, and from where on it, and those behind it, may be looked for; both grow.
    notes: VecDeque<(u64, u64)>,
    /// From where on those it sends again were looked for, until it goes on.
    since: Option<u64>,
}

impl Unheard {
    /// Begins with a guest that has come back.
    pub(super) fn since(since: Option<u64>) -> Self {
        let since = since.filter(|_| !planted(Plant::FoundForgotten));
        Self { since, ..Self::default() }
    }

    /// Notes a push that came when the log ended there.
    pub(super) fn push(&mut self, sequence: u64, end: u64) {
        let from = self.since.unwrap_or(end);
        match self.notes.back_mut() {
            Some((last, same)) if *same == from => *last = sequence.max(*last),
            _ => self.notes.push_back((sequence, from)),
        }
        if self.notes.len() > MOST {
            let mut notes = std::mem::take(&mut self.notes).into_iter();
            while let Some((one, from)) = notes.next() {
                // It goes with the later of the two, and keeps what the earlier one does.
                let last = notes.next().map_or(one, |(other, _)| other.max(one));
                self.notes.push_back((last, from));
            }
        }
    }

    /// Notes that the answers of all pushes with a lower number were heard.
    pub(super) fn heard(&mut self, heard: u64) {
        while self.notes.front().is_some_and(|&(sequence, _)| sequence < heard) {
            self.notes.pop_front();
        }
    }

    /// Notes that all of what is sent again has come.
    pub(super) fn goes_on(&mut self) {
        self.since = None;
    }

    /// Returns the offset from which on its pushes may be looked for.
    pub(super) fn from(&self) -> Option<u64> {
        self.since.or_else(|| self.notes.front().map(|&(_, from)| from))
    }

    /// Counts what is noted.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn len(&self) -> usize {
        self.notes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_push_that_was_not_heard_keeps_the_log() {
        let mut unheard = Unheard::default();
        unheard.push(3, 10);
        unheard.push(4, 10);
        unheard.push(5, 12);

        unheard.heard(4);
        assert_eq!(unheard.from(), Some(10));
        unheard.heard(5);
        assert_eq!(unheard.from(), Some(12));
        unheard.heard(6);
        assert_eq!(unheard.from(), None);
    }

    #[test]
    fn what_is_sent_again_is_kept_from_where_it_was_looked_for() {
        let mut unheard = Unheard::since(Some(7));
        assert_eq!(unheard.from(), Some(7));
        unheard.push(3, 100);
        unheard.goes_on();
        unheard.push(4, 200);

        assert_eq!(unheard.from(), Some(7));
        unheard.heard(4);
        assert_eq!(unheard.from(), Some(200));
    }

    #[test]
    fn more_pushes_than_there_are_notes_keep_no_less_and_take_no_more() {
        let mut unheard = Unheard::default();
        let count = 10 * MOST as u64;

        for sequence in 0..count {
            unheard.push(sequence, 2 * sequence);
        }

        assert!(unheard.len() <= MOST);
        for heard in (0..count).step_by(997) {
            unheard.heard(heard);
            assert!(unheard.from().is_some_and(|from| from <= 2 * heard), "{heard}");
        }
        unheard.heard(count);
        assert_eq!(unheard.from(), None);
    }
}
