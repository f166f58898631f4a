//! Which segments can go, and which are worth copying together? Pure.

use crate::format::PAGE_POSITION;
use crate::format::keep::Limits;
use crate::format::manifest::SegmentRow;

/// What is known of a sealed segment. Segments come in offset order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) number: u64,
    /// Bytes of batches in it.
    pub(crate) bytes: u64,
    /// Bytes of them that hold messages some group has not done, as far as is known.
    pub(crate) live: u64,
    /// May be rewritten: nothing must be kept of what is done in it, and not much is becoming done just now.
    pub(crate) settled: bool,
}

/// A segment is sparse if less than one in so many of its bytes is live.
pub(crate) const SPARSE: u64 = 4;

impl Fact {
    fn is_sparse(&self) -> bool {
        self.settled && self.live * SPARSE < self.bytes
    }
}

/// Returns the bytes of batches in a segment.
pub(crate) fn batch_bytes(row: &SegmentRow) -> u64 {
    row.length.saturating_sub(PAGE_POSITION)
}

/// Returns the share of `of` that `part` is of `all`.
pub(crate) fn share(of: u64, part: u64, all: u64) -> u64 {
    let share = u128::from(of) * u128::from(part.min(all)) / u128::from(all.max(1));
    u64::try_from(share).unwrap_or(of)
}

/// Chooses neighbours to copy together: the first stretch of sparse ones, as many as make one full-grown segment
/// of `full` bytes, and with them smaller ones beside it. So each message is copied as often as its segment
/// doubles, and the number of segments stays small.
pub(crate) fn rewrite(facts: &[Fact], full: u64) -> Vec<u64> {
    let Some(first) = facts.iter().position(Fact::is_sparse) else { return Vec::new() };
    let (mut from, mut to, mut live) = (first, first + 1, facts[first].live);
    let fits = |live: u64, more: &Fact| live + more.live <= full;
    while let Some(next) = facts.get(to).filter(|next| next.is_sparse() && fits(live, next)) {
        live += next.live;
        to += 1;
    }
    let joins = |live: u64, one: &&Fact| one.settled && one.live <= live && fits(live, one);
    loop {
        let before = from.checked_sub(1).filter(|&index| joins(live, &&facts[index]));
        let Some(index) = before
            .or_else(|| Some(to).filter(|&index| facts.get(index).is_some_and(|one| joins(live, &one))))
        else {
            break;
        };
        live += facts[index].live;
        (from, to) = (from.min(index), to.max(index + 1));
    }
    facts[from..to].iter().map(|fact| fact.number).collect()
}

/// Tells of each segment, in offset order, whether what is done in it need not be kept: it is too old, or more is
/// kept already, or nothing is to be kept at all. `dead` are its bytes that are done; `wall` is what the wall clock shows.
pub(crate) fn released(rows: &[(SegmentRow, u64)], limits: &Limits, wall: u64) -> Vec<bool> {
    let mut kept = 0u64;
    let nothing_kept = limits.retain_for == 0 && limits.retain_bytes == 0;
    let mut released: Vec<bool> = rows
        .iter()
        .rev()
        .map(|(row, dead)| {
            kept = kept.saturating_add(*dead);
            let too_old = limits.retain_for > 0 && row.about.last.saturating_add(limits.retain_for) < wall;
            let too_much = limits.retain_bytes > 0 && kept > limits.retain_bytes;
            nothing_kept || too_old || too_much
        })
        .collect();
    released.reverse();
    released
}

/// Takes segments out of those that a slot names, and puts one that holds `messages` of theirs in their place. What
/// is gone counts as lying before whatever is left in front of it.
pub(crate) fn replace(rows: &mut Vec<SegmentRow>, numbers: &[u64], by: Option<(SegmentRow, u64)>) {
    let mut stored: Vec<(SegmentRow, u64)> = Vec::with_capacity(rows.len());
    let mut by = by;
    for (index, row) in rows.iter().enumerate() {
        if numbers.contains(&row.number) {
            stored.extend(by.take());
            continue;
        }
        let behind = rows.get(index + 1).map_or(row.messages_before, |next| next.messages_before);
        stored.push((*row, behind.saturating_sub(row.messages_before)));
    }
    // The last one is active, and counts on from what there ever was.
    let mut before = stored.last().map_or(0, |(active, _)| active.messages_before);
    for (row, messages) in stored.iter_mut().rev() {
        // A stretch that was damaged, and counted short, may have healed by the time it was copied.
        before = before.saturating_sub(*messages);
        row.messages_before = before;
    }
    *rows = stored.into_iter().map(|(row, _)| row).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::About;

    fn fact(number: u64, live: u64) -> Fact {
        Fact { number, bytes: 1000, live, settled: true }
    }

    fn numbers(facts: &[Fact]) -> Vec<u64> {
        rewrite(facts, 1000)
    }

    #[test]
    fn neighbours_with_less_than_a_quarter_live_are_copied_together() {
        assert!(numbers(&[fact(1, 250), fact(2, 1000)]).is_empty());
        assert_eq!(numbers(&[fact(1, 1000), fact(2, 249), fact(3, 0), fact(4, 251)]), [2, 3]);
        assert_eq!(numbers(&[fact(1, 249)]), [1]);
    }

    #[test]
    fn what_changes_or_is_to_be_kept_stays() {
        let busy = Fact { settled: false, ..fact(2, 1) };
        assert_eq!(numbers(&[fact(1, 10), busy, fact(3, 10)]), [1]);
        assert!(numbers(&[busy]).is_empty());
    }

    #[test]
    fn a_copy_is_no_longer_than_a_full_grown_segment() {
        let facts: Vec<Fact> = (1..=9).map(|number| fact(number, 240)).collect();
        assert_eq!(numbers(&facts), [1, 2, 3, 4]);
    }

    #[test]
    fn a_smaller_copy_beside_goes_along_and_a_larger_one_does_not() {
        let copied = |number, live| Fact { bytes: live, ..fact(number, live) };
        assert_eq!(numbers(&[copied(1, 300), copied(2, 100), fact(3, 100), copied(4, 100)]), [1, 2, 3, 4]);
        assert_eq!(numbers(&[copied(1, 201), fact(3, 200)]), [3]);
    }

    /// Four segments of ten messages and a hundred bytes, pushed in the seconds 1 to 4; the last is active.
    fn rows() -> Vec<SegmentRow> {
        let row = |number: u64| SegmentRow {
            number,
            base: (number - 1) * 10,
            end: if number < 4 { number * 10 } else { 0 },
            messages_before: (number - 1) * 10,
            length: if number < 4 { PAGE_POSITION + 100 } else { 0 },
            about: About { first: number * 1000 - 500, last: number * 1000, tags: 0 },
            ..SegmentRow::default()
        };
        (1..=4).map(row).collect()
    }

    fn kept(dead: u64, limits: Limits, wall: u64) -> Vec<bool> {
        let rows: Vec<_> = rows()[..3].iter().map(|row| (*row, dead)).collect();
        released(&rows, &limits, wall)
    }

    #[test]
    fn so_many_bytes_of_what_is_done_are_kept_the_newest() {
        let bytes = |retain_bytes| Limits { retain_bytes, ..Limits::default() };
        assert_eq!(kept(100, Limits::default(), 0), [true; 3]);
        assert_eq!(kept(100, bytes(300), 0), [false; 3]);
        assert_eq!(kept(100, bytes(299), 0), [true, false, false]);
        assert_eq!(kept(100, bytes(100), 0), [true, true, false]);
        assert_eq!(kept(10, bytes(20), 0), [true, false, false]);
    }

    #[test]
    fn what_is_older_goes_and_either_limit_is_enough() {
        let limits = Limits { retain_for: 5000, ..Limits::default() };
        assert_eq!(kept(100, limits, 6_000), [false; 3]);
        assert_eq!(kept(100, limits, 7_001), [true, true, false]);
        assert_eq!(kept(100, Limits { retain_bytes: 200, ..limits }, 0), [true, false, false]);
    }

    #[test]
    fn what_is_gone_counts_as_before_whatever_is_left_in_front_of_it() {
        let before = |rows: &[SegmentRow]| rows.iter().map(|row| row.messages_before).collect::<Vec<_>>();
        let mut left = rows();
        replace(&mut left, &[2], None);
        assert_eq!(before(&left), [10, 20, 30]);

        let mut left = rows();
        let copy = SegmentRow { number: 9, base: 10, end: 30, length: 5000, ..SegmentRow::default() };
        replace(&mut left, &[2, 3], Some((copy, 3)));
        assert_eq!(left.iter().map(|row| row.number).collect::<Vec<_>>(), [1, 9, 4]);
        assert_eq!(before(&left), [17, 27, 30]);

        replace(&mut left, &[1, 9], None);
        assert_eq!(before(&left), [30]);
    }
}
