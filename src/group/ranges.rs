//! Which offsets above the floor are done? Pure.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};

/// A set of offsets as half-open ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// From the start of each to its end.
    map: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds `first..end`; returns how many of them are new.
    pub(crate) fn insert(&mut self, first: u64, end: u64) -> u64 {
        debug_assert!(first < end);
        let (mut start, mut stop, mut had) = (first, end, 0);
        if let Some((&before, before_end)) = self.map.range_mut(..=first).next_back()
            && *before_end >= first
        {
            if *before_end >= end {
                return 0;
            }
            had = *before_end - first;
            start = before;
            // Already right unless a later range is reached, and it saves the second walk down.
            *before_end = end;
        }
        while let Some((&next, &next_end)) = self.map.range((Excluded(start), Included(stop))).next() {
            self.map.remove(&next);
            had += next_end.min(end) - next;
            stop = stop.max(next_end);
        }
        if start == first || stop > end {
            self.map.insert(start, stop);
        }
        end - first - had
    }

    /// Takes one out; `false` if it is not there.
    pub(crate) fn remove(&mut self, offset: u64) -> bool {
        let Some((&start, &end)) = self.map.range(..=offset).next_back().filter(|(_, end)| offset < **end)
        else {
            return false;
        };
        self.map.remove(&start);
        if start < offset {
            self.map.insert(start, offset);
        }
        if offset + 1 < end {
            self.map.insert(offset + 1, end);
        }
        true
    }

    /// Forgets what lies below `floor` or touches it; returns the floor above that.
    pub(crate) fn absorb(&mut self, floor: u64) -> u64 {
        let mut floor = floor;
        while let Some(first) = self.map.first_entry()
            && *first.key() <= floor
        {
            floor = floor.max(first.remove());
        }
        floor
    }

    /// Returns the end of the range that holds `offset`.
    pub(crate) fn end_of(&self, offset: u64) -> Option<u64> {
        let (_, &end) = self.map.range(..=offset).next_back()?;
        (offset < end).then_some(end)
    }

    /// Returns the end of the last range; 0 if there is none.
    pub(crate) fn end(&self) -> u64 {
        self.map.last_key_value().map_or(0, |(_, &end)| end)
    }

    /// Returns what of `first..end` is not in the set, in order.
    pub(crate) fn gaps(&self, first: u64, end: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut from = self.end_of(first).unwrap_or(first);
        if from < end {
            for (&start, &stop) in self.map.range(from..end) {
                gaps.push((from, start));
                from = stop;
            }
        }
        if from < end {
            gaps.push((from, end));
        }
        gaps
    }

    /// Counts what is in the set at or behind `from`, where no range reaches across it.
    pub(crate) fn beyond(&self, from: u64) -> u64 {
        self.map.range(from..).map(|(start, end)| end - start).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Returns how many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn clear(&mut self) {
        self.map.clear();
    }

    /// Lists the ranges in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.map.iter().map(|(&start, &end)| (start, end))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut ranges = Ranges::default();

        let added = [(5, 7), (9, 10), (7, 9), (1, 2), (0, 20)].map(|(first, end)| ranges.insert(first, end));

        assert_eq!(added, [2, 1, 2, 1, 14]);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(0, 20)]);
    }

    proptest! {
        #[test]
        fn a_set_of_ranges_is_a_set_of_numbers(
            adds in prop::collection::vec((0u64..60, 1u64..9), 0..40),
            (floor, first, width) in (0u64..70, 0u64..70, 0u64..30),
        ) {
            let (mut ranges, mut naive) = (Ranges::default(), BTreeSet::new());
            for (first, width) in adds {
                let added = (first..first + width).filter(|&offset| naive.insert(offset)).count() as u64;
                prop_assert_eq!(ranges.insert(first, first + width), added);
            }
            let listed: Vec<_> = ranges.iter().collect();
            prop_assert!(listed.windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", listed);
            let all = |ranges: &Ranges| ranges.iter().flat_map(|(a, b)| a..b).collect::<BTreeSet<_>>();
            prop_assert_eq!(&all(&ranges), &naive);
            let gaps: Vec<_> = ranges.gaps(first, first + width).into_iter().flat_map(|(a, b)| a..b).collect();
            let expected: Vec<_> = (first..first + width).filter(|offset| !naive.contains(offset)).collect();
            prop_assert_eq!(gaps, expected);
            prop_assert_eq!(ranges.end_of(floor).is_some(), naive.contains(&floor));

            let mut fewer = ranges.clone();
            prop_assert_eq!(fewer.remove(first), naive.contains(&first));
            let left: BTreeSet<_> = naive.iter().copied().filter(|&offset| offset != first).collect();
            prop_assert_eq!(all(&fewer), left);

            let up = ranges.absorb(floor);

            let expected = (floor..).find(|offset| !naive.contains(offset)).unwrap();
            prop_assert_eq!(up, expected);
            prop_assert_eq!(all(&ranges), naive.split_off(&up));
        }
    }
}
