//! How does a group's reading get past messages, and which of them are out for the first time? Pure.
//!
//! The half of [`State`] that knows of floor, head and ranges. Ahead of the head lies what was done
//! there (discarded before its turn) and what was put aside for its priority; the head goes past both.

use super::exceptions::Exception;
use super::state::State;
use crate::offset::Offset;

impl State {
    /// Lets `to` change what lies in `first..end`, is not done, and is not still to be met, row by
    /// row; it gets where the row begins and whether it is out for the first time, and returns
    /// whether it changed something.
    pub(super) fn change(
        &mut self,
        first: u64,
        end: u64,
        mut to: impl FnMut(u64, &mut Exception, bool) -> bool,
    ) {
        let first = first.max(self.floor);
        if first >= end {
            return;
        }
        let fresh = self.fresh_within(first, end.min(self.head));
        self.exceptions.unfold(first, end);
        for (start, mut one) in self.exceptions.take(first, end) {
            to(start, &mut one, false);
            self.exceptions.put(start, one);
        }
        for (start, end) in fresh {
            let mut one = Exception::ready(end);
            if to(start, &mut one, true) {
                self.out_fresh -= end - start;
                self.exceptions.put(start, one);
            }
        }
    }

    /// Returns what of `first..end`, between floor and head, is out for the first time.
    pub(super) fn fresh_within(&self, first: u64, end: u64) -> Vec<(u64, u64)> {
        if first >= end {
            return Vec::new();
        }
        let mut rows: Vec<(u64, u64)> =
            self.exceptions.within(first, end).map(|(start, one)| (start, one.end)).collect();
        let past = rows.len();
        rows.extend(self.exceptions.waiting_within(first, end).map(|offset| (offset, offset + 1)));
        if 0 < past && past < rows.len() {
            rows.sort_unstable();
        }
        let mut rows = rows.into_iter().peekable();
        let mut fresh = Vec::new();
        for (mut from, to) in self.done.gaps(first, end) {
            while let Some((start, stop)) = rows.next_if(|&(start, _)| start < to) {
                if from < start {
                    fresh.push((from, start));
                }
                from = from.max(stop);
            }
            if from < to {
                fresh.push((from, to));
            }
        }
        fresh
    }

    pub(super) fn mark_done(&mut self, first: u64, end: u64) {
        let first = first.max(self.floor);
        if first >= end {
            return;
        }
        let below = end.min(self.head);
        let mut known = 0;
        if !self.exceptions.is_empty() {
            if first < below {
                known = self.exceptions.take(first, below).iter().map(|(start, one)| one.end - start).sum();
                known += self.exceptions.forget_waiting(first, below);
            }
            if self.exceptions.end() > below {
                self.exceptions.take(below.max(first), end);
            }
        }
        if first < below {
            let new = if first > self.floor {
                self.done.insert(first, below)
            } else if self.done.is_empty() {
                self.floor = below;
                below - first
            } else {
                let new = self.done.insert(first, below);
                self.floor = self.done.absorb(self.floor);
                new
            };
            self.out_fresh -= new - known;
        }
        if below < end {
            self.done.insert(first.max(self.head), end);
            self.skip_done();
        }
    }

    /// Takes one offset out of what is done; `false` if it is not done. Its fate is the caller's to say.
    pub(super) fn take_done(&mut self, offset: u64) -> bool {
        if offset >= self.floor {
            return self.done.remove(offset);
        }
        if offset + 1 < self.floor {
            self.done.insert(offset + 1, self.floor);
        }
        self.floor = offset;
        true
    }

    /// Brings head and floor past what is done there.
    pub(super) fn skip_done(&mut self) {
        if self.done.is_empty() {
            return;
        }
        if let Some(end) = self.done.end_of(self.head) {
            self.passed = self.passed.saturating_add(end - self.head);
            self.head = end;
            self.exceptions.cut(end);
        }
        self.floor = self.done.absorb(self.floor);
    }

    /// Brings the head past `first..end` with so many messages in it, and past what lies before it:
    /// those offsets hold no messages. Returns what of it is neither done nor put aside, for the caller to
    /// say what has become of it.
    pub(super) fn enter(&mut self, first: u64, end: u64, messages: u64) -> Vec<(u64, u64)> {
        if first > self.head {
            let from = std::mem::replace(&mut self.head, first);
            // What was done or put aside already ahead of the head: those were messages.
            let gaps = self.open_within(from, first);
            for &(start, end) in &gaps {
                self.done.insert(start, end);
            }
            let none: u64 = gaps.iter().map(|(start, end)| end - start).sum();
            self.passed = self.passed.saturating_add(first - from - none);
            self.skip_done();
        }
        let first = self.head.max(first);
        if first >= end {
            return Vec::new();
        }
        let open = self.open_within(first, end);
        self.head = end;
        self.exceptions.cut(end);
        self.passed = self.passed.saturating_add(messages.min(end - first));
        self.skip_done();
        open
    }

    /// Returns what of `first..end`, at or ahead of the head, is neither done nor an exception.
    pub(super) fn open_within(&self, first: u64, end: u64) -> Vec<(u64, u64)> {
        if first >= end {
            return Vec::new();
        }
        let open = if self.done.end() <= first { vec![(first, end)] } else { self.done.gaps(first, end) };
        if self.exceptions.end() <= first {
            return open;
        }
        let mut spared = Vec::new();
        for (mut from, to) in open {
            for (start, one) in self.exceptions.within(from, to) {
                if from < start {
                    spared.push((from, start));
                }
                from = from.max(one.end);
            }
            if from < to {
                spared.push((from, to));
            }
        }
        spared
    }

    /// Tells whether a message was put aside that the head has not come to.
    pub(super) fn is_ahead(&self, offset: u64) -> bool {
        offset >= self.head && self.exceptions.end() > offset && self.exceptions.at(offset).is_some()
    }

    /// Tells whether a message was met, or something has become of it ahead of the head.
    pub(super) fn is_met(&self, offset: u64) -> bool {
        offset < self.head || self.is_ahead(offset) || self.done.end_of(offset).is_some()
    }

    pub(super) fn exceptions_ahead(&self) -> u64 {
        if self.exceptions.end() <= self.head {
            return 0;
        }
        let ahead = self.exceptions.within(self.head, Offset::LIMIT);
        ahead.map(|(start, one)| one.end - start.max(self.head)).sum()
    }

    /// Does the same, and makes exceptions of what is not done.
    pub(super) fn enter_as(&mut self, first: u64, end: u64, messages: u64, to: impl Fn(u64, &mut Exception)) {
        if end <= self.head || (end == first + 1 && self.is_ahead(first)) {
            return;
        }
        for (start, end) in self.enter(first.max(self.head), end, messages) {
            let mut one = Exception::ready(end);
            to(start, &mut one);
            self.exceptions.put(start, one);
        }
    }
}
