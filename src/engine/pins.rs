//! Which groups keep which segments, and by which messages?
//!
//! From the rows of the manifest and the groups' states alone: no segment is read for it.

use super::Engine;
use crate::format::PAGE_POSITION;
use crate::format::manifest::SegmentRow;
use crate::group::rule::MessageState;
use crate::group::state::{Now, State};

/// A segment, as far as somebody can keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) number: u64,
    /// Its messages lie in `base..end`.
    pub(crate) base: u64,
    pub(crate) end: u64,
    pub(crate) bytes: u64,
    pub(crate) sealed: bool,
    /// When its first batch was pushed, in milliseconds since 1970; 0: nobody says.
    pub(crate) since: u64,
}

/// What a group has first that is not done, by stretch.
pub(crate) type Firsts = Vec<Option<(u64, MessageState)>>;

/// How many bytes a group keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    pub(crate) bytes: u64,
    /// Of those, in sealed segments, what no other group keeps.
    pub(crate) alone: u64,
}

/// Cuts a log into stretches: `next` is the offset behind its last message, `position` where that ends in
/// the active segment.
pub(crate) fn stretches(rows: &[SegmentRow], next: u64, position: u64) -> Vec<Stretch> {
    let stretch = |row: &SegmentRow| {
        let sealed = row.length != 0;
        let (end, bytes) = if sealed { (row.end, row.length) } else { (next, position) };
        Stretch { number: row.number, base: row.base, end, bytes, sealed, since: row.about.first }
    };
    rows.iter().map(stretch).collect()
}

/// Finds by what a group keeps each of the stretches.
pub(crate) fn firsts(state: &State, stretches: &[Stretch], now: Now) -> Firsts {
    stretches.iter().map(|stretch| state.first_pending(stretch.base, stretch.end, now)).collect()
}

/// Weighs what each group keeps. With `unknown` there is a group of which nobody knows what it has done:
/// it keeps everything, so that nobody else does alone.
pub(crate) fn weigh(stretches: &[Stretch], groups: &[&Firsts], unknown: bool) -> Vec<Weight> {
    let mut weights = vec![Weight::default(); groups.len()];
    for (index, stretch) in stretches.iter().enumerate() {
        let keeps = |group: &&Firsts| group.get(index).is_some_and(Option::is_some);
        let alone = stretch.sealed && !unknown && groups.iter().filter(|group| keeps(group)).count() == 1;
        for (weight, _) in weights.iter_mut().zip(groups).filter(|(_, group)| keeps(group)) {
            weight.bytes += stretch.bytes;
            weight.alone += if alone { stretch.bytes } else { 0 };
        }
    }
    weights
}

impl Engine {
    /// Returns the stretches of the log, what each group keeps of them, by name, and whether the files of
    /// some group are damaged. Reads nothing from the disk.
    pub(crate) fn pinned(&self) -> (Vec<Stretch>, Vec<(String, Firsts)>, bool) {
        let now = Now { mono: self.clock.now(), wall: self.clock.wall() };
        // Groups before the log, and the log before the manifest's rows: nothing is kept that is not there.
        let groups = self.all_groups();
        let rows = self.manifest.look(|slot| slot.segments.clone());
        let active = self.log.set().last().map(|active| (active.number, active.end().0));
        let position = active.filter(|&(number, _)| rows.last().is_some_and(|row| row.number == number));
        let stretches = stretches(&rows, self.log.next(), position.map_or(PAGE_POSITION, |(_, at)| at));
        let firsts = |name: &str, state: &State| (name.to_owned(), firsts(state, &stretches, now));
        let groups = groups.iter().map(|group| group.look(|state| firsts(&group.name, state))).collect();
        let unknown = !self.groups().refused.is_empty();
        (stretches, groups, unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Entry, Kind, More};
    use crate::format::manifest::About;

    fn rows() -> Vec<SegmentRow> {
        let row = |number: u64| SegmentRow {
            number,
            base: (number - 1) * 10,
            end: if number < 4 { number * 10 } else { 0 },
            length: if number < 4 { 100 * number } else { 0 },
            about: About { first: number * 1000, last: number * 1000 + 500, tags: 0 },
            ..SegmentRow::default()
        };
        (1..=4).map(row).collect()
    }

    #[test]
    fn the_active_segment_is_kept_as_far_as_it_is_used() {
        let stretches = stretches(&rows(), 35, 5000);

        let ends: Vec<_> = stretches.iter().map(|one| (one.base, one.end, one.bytes, one.sealed)).collect();
        assert_eq!(
            ends,
            [(0, 10, 100, true), (10, 20, 200, true), (20, 30, 300, true), (30, 35, 5000, false)]
        );
    }

    #[test]
    fn what_two_keep_no_one_keeps_alone_and_the_active_one_nobody_frees() {
        let stretches = stretches(&rows(), 35, 5000);
        let kept = |which: [bool; 4]| which.map(|is| is.then_some((7, MessageState::Ready))).to_vec();
        let (slow, fast) = (kept([true, false, true, true]), kept([false, false, true, true]));

        let weights = weigh(&stretches, &[&slow, &fast], false);

        let [a, b] = weights[..] else { panic!("{weights:?}") };
        assert_eq!((a.bytes, a.alone, b.bytes, b.alone), (5400, 100, 5300, 0));
        assert_eq!(weigh(&stretches, &[&slow], true)[0], Weight { bytes: 5400, alone: 0 });
    }

    #[test]
    fn a_group_keeps_a_stretch_by_the_first_message_that_is_not_done_in_it() {
        let stretches = stretches(&rows(), 35, 5000);
        let mut state = State::default();
        let firsts = |state: &State| {
            let firsts = firsts(state, &stretches, Now::default());
            firsts.into_iter().map(|first| first.map(|(offset, _)| offset)).collect::<Vec<_>>()
        };

        assert_eq!(firsts(&state), [Some(0), Some(10), Some(20), Some(30)]);
        let over = |kind: Kind, first: u64, end: u64| {
            let more = More::Range { end, messages: end - first };
            Entry { more, ..Entry::new(kind, first) }
        };
        state.apply(&over(Kind::Purged, 0, 12), Now::default());
        assert_eq!(firsts(&state), [None, Some(12), Some(20), Some(30)]);
        state.apply(&over(Kind::Lent, 12, 20), Now::default());
        state.apply(&over(Kind::Purged, 20, 35), Now::default());
        assert_eq!(firsts(&state), [None, Some(12), None, None]);
    }
}
