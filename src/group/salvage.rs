//! What of a group's state holds in another log, with the same offsets and other places? Pure.

use super::exceptions::Life;
use super::state::{Now, State};
use crate::format::snapshot::{Snapshot, Waiting};
use crate::offset::Offset;

impl State {
    /// Returns what of `first..end` the group names and has neither done nor given up: what reading has come to,
    /// and single messages ahead of that.
    pub(crate) fn undone_within(&self, first: u64, end: u64) -> Vec<(u64, u64)> {
        let mut pending = Vec::new();
        let (from, to) = (first.max(self.floor), end.min(self.head));
        if from < to {
            for (mut from, to) in self.done.gaps(from, to) {
                for (start, one) in self.exceptions.within(from, to) {
                    if matches!(one.life, Life::Dead { .. }) {
                        if from < start {
                            pending.push((from, start));
                        }
                        from = from.max(one.end);
                    }
                }
                if from < to {
                    pending.push((from, to));
                }
            }
        }
        let from = first.max(self.head);
        if from < end && self.exceptions.end() > from {
            let ahead = self.exceptions.within(from, end);
            let alive = ahead.filter(|(_, one)| !matches!(one.life, Life::Dead { .. }));
            pending.extend(alive.map(|(start, one)| (start.max(from), one.end.min(end))));
        }
        pending
    }

    /// Gives up what of `first..end` is pending and is nowhere any more.
    pub(crate) fn give_up_lost(&mut self, first: u64, end: u64, now: Now) -> u64 {
        let pending = self.undone_within(first, end);
        for &(first, end) in &pending {
            let entry = self.damaged(first, end, 0, now);
            self.apply(&entry, now);
        }
        pending.iter().map(|(first, end)| end - first).sum()
    }

    /// Returns the offset behind everything that the group names.
    pub(crate) fn named(&self) -> u64 {
        self.head.max(self.done.end()).max(self.exceptions.end()).min(Offset::LIMIT)
    }

    /// Returns all that is to be stored beside a log that has `passed` messages before the head, with the acks of
    /// all batches before the offset `settled` applied. Hints where messages lie are of the other log.
    pub(crate) fn beside(&self, passed: u64, settled: u64) -> Snapshot {
        let mut snapshot = self.to_snapshot();
        let reading = &mut snapshot.reading;
        (reading.passed, reading.settled, reading.hint) = (passed, settled, (0, 0));
        for row in &mut snapshot.waiting {
            *row = Waiting::new(row.offset(), row.due(), 0, row.priority());
        }
        snapshot
    }
}
