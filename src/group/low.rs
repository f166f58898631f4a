//! Which of those that wait for nothing but messages of higher priorities is the first? Pure.
//!
//! Reading comes to them in offset order, so each takes 8 bytes in a queue of its priority. One whose
//! delay is over comes out of order, to a set. What is taken out of the middle of a queue stays until it
//! is at its front: `Later` has the rows, and tells who is there.

use std::collections::{BTreeSet, VecDeque};

use super::lines::{Turn, rank_of};
use crate::format::snapshot::NORMAL;

/// Those that are due and have a low priority.
#[derive(Clone, Debug, Default)]
pub(super) struct Low {
    /// By priority.
    queues: [VecDeque<u64>; NORMAL as usize],
    strays: BTreeSet<Turn>,
    len: usize,
}

impl Low {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Adds one; its offset is above those that were added before, unless it is a `stray`: it was delayed.
    pub(super) fn push(&mut self, priority: u8, offset: u64, stray: bool) {
        self.len += 1;
        match self.queues.get_mut(usize::from(priority)).filter(|_| !stray) {
            Some(queue) => {
                // By a quarter, not twofold.
                if queue.len() == queue.capacity() {
                    queue.reserve_exact((queue.len() / 4).max(64));
                }
                queue.push_back(offset);
            }
            None => {
                self.strays.insert((rank_of(priority), offset));
            }
        }
    }

    pub(super) fn is_stray(&self, priority: u8, offset: u64) -> bool {
        self.strays.contains(&(rank_of(priority), offset))
    }

    /// Notes that one is gone; `waits` tells who is not.
    pub(super) fn removed(&mut self, priority: u8, offset: u64, waits: impl Fn(u64) -> bool) {
        self.len -= 1;
        if self.strays.remove(&(rank_of(priority), offset)) {
            return;
        }
        if let Some(queue) = self.queues.get_mut(usize::from(priority)) {
            while queue.front().is_some_and(|&front| !waits(front)) {
                queue.pop_front();
            }
        }
    }

    /// Lets go of all that are gone.
    pub(super) fn shrink(&mut self, waits: impl Fn(u64) -> bool) {
        for queue in &mut self.queues {
            queue.retain(|&offset| waits(offset));
            queue.shrink_to(queue.len() * 2);
        }
    }

    pub(super) fn first(&self) -> Option<Turn> {
        let fronts = self
            .queues
            .iter()
            .zip(0..)
            .filter_map(|(queue, priority)| queue.front().map(|&offset| (rank_of(priority), offset)));
        fronts.chain(self.strays.first().copied()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_take_little_more_than_8_bytes_each() {
        let mut low = Low::default();
        (0..1_000_000).for_each(|offset| low.push(u8::try_from(offset % 4).unwrap(), offset, false));

        let bytes: usize = low.queues.iter().map(|queue| queue.capacity() * 8).sum();

        assert!(bytes < 12_000_000, "{bytes}");
        assert_eq!((low.len(), low.first()), (1_000_000, Some((rank_of(3), 3))));
    }

    #[test]
    fn higher_ones_go_first_and_who_is_gone_is_passed() {
        let mut low = Low::default();
        for (priority, offset, stray) in [(0, 5, false), (2, 6, false), (2, 8, false), (2, 7, true)] {
            low.push(priority, offset, stray);
        }
        assert_eq!(low.first(), Some((rank_of(2), 6)));

        // From the middle first: it stays in the queue until it is at the front.
        low.removed(2, 8, |offset| offset != 8);
        low.removed(2, 6, |offset| offset < 6);
        assert_eq!((low.first(), low.is_stray(2, 7)), (Some((rank_of(2), 7)), true));
        low.removed(2, 7, |offset| offset < 6);

        assert_eq!((low.first(), low.len()), (Some((rank_of(0), 5)), 1));
    }
}
