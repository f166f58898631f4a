//! Which sectors of a file have blocks of their own?

use std::ops::Range;

/// A set of sector numbers, kept as ranges: a file of a megabyte is one of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges {
    /// Sorted; neither overlapping nor touching nor empty.
    ranges: Vec<Range<u64>>,
}

impl Ranges {
    /// Returns how many sectors are in the set.
    pub(super) fn count(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Returns the parts of `range` that are not in the set, in order.
    pub(super) fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for held in &self.ranges {
            if held.end <= at {
                continue;
            }
            if held.start >= range.end {
                break;
            }
            if held.start > at {
                gaps.push(at..held.start);
            }
            at = held.end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Puts a range into the set.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.ranges.partition_point(|held| held.end < range.start);
        let behind = self.ranges.partition_point(|held| held.start <= range.end);
        let mut whole = range;
        for held in &self.ranges[first..behind] {
            whole = whole.start.min(held.start)..whole.end.max(held.end);
        }
        self.ranges.splice(first..behind, [whole]);
    }

    /// Puts all of another set into this one.
    pub(super) fn insert_all(&mut self, other: &Self) {
        for range in &other.ranges {
            self.insert(range.clone());
        }
    }

    /// Takes everything from `end` on out of the set.
    pub(super) fn cut(&mut self, end: u64) {
        self.ranges.retain(|range| range.start < end);
        if let Some(last) = self.ranges.last_mut() {
            last.end = last.end.min(end);
        }
    }
}

/// Adds up the lengths of ranges.
pub(super) fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_the_set_does_not_hold() {
        let mut set = Ranges::default();
        set.insert(2..4);
        set.insert(8..10);

        let gaps = set.gaps(0..9);

        assert_eq!(gaps, [0..2, 4..8]);
        assert_eq!(total(&gaps), 6);
    }

    #[test]
    fn touching_ranges_become_one() {
        let mut set = Ranges::default();
        set.insert(0..2);
        set.insert(4..6);

        set.insert(2..4);

        assert_eq!(set.ranges, vec![0..6]);
    }

    #[test]
    fn a_cut_range_keeps_its_front() {
        let mut set = Ranges::default();
        set.insert(0..6);
        set.insert(8..9);

        set.cut(4);

        assert_eq!((set.count(), total(&set.gaps(0..9))), (4, 5));
    }
}
