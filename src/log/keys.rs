//! Which keys are taken, and by which message?
//!
//! Shared by those who push and whoever leads, under the lock of the group commit: a key is taken in
//! the same step in which its message begins to wait, and is stored or given back in the step in which
//! the answer is there. So of two pushes with one key one comes first, and the other finds it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::writer::Slot;
use crate::format::index::Row;
use crate::options::Window;

/// So many unique keys may be taken before those of done messages are looked for.
const FIRST_SWEEP: usize = 1024;

/// The keys that are taken.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// Those of stored messages are here.
    loaded: bool,
    taken: HashMap<u128, Taken>,
    /// Dedup keys of stored messages: hash and offset, in the order in which they were stored.
    order: VecDeque<(u128, u64)>,
    window: Window,
    unique: usize,
    sweep_at: usize,
}

/// By whom a key is taken.
#[derive(Clone, Debug)]
enum Taken {
    /// The message is on its way; it is number `index` of its batch.
    InFlight {
        slot: Arc<Slot>,
        index: u64,
        synced: bool,
    },
    Stored {
        offset: u64,
        time: u64,
        synced: bool,
        unique: bool,
    },
}

/// The message that has a key.
#[derive(Clone, Debug)]
pub(crate) enum First {
    /// It is on its way: the slot will tell. It is number `index` of its batch.
    InFlight {
        slot: Arc<Slot>,
        index: u64,
    },
    Stored(u64),
}

/// A key that is taken.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Which of the rows asked for.
    pub(crate) row: usize,
    pub(crate) hash: u128,
    pub(crate) first: First,
    /// The message is durable, or will be when it is answered.
    pub(crate) synced: bool,
    /// Taken only as long as the message is not done.
    pub(crate) unique: bool,
}

impl Keys {
    pub(crate) fn new(window: Window) -> Self {
        Self { window, sweep_at: FIRST_SWEEP, ..Self::default() }
    }

    /// Changes the window, from now on.
    pub(crate) fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    /// Tells whether the keys of stored messages are known.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Takes in the keys of stored messages, the newest first. What is taken meanwhile is newer.
    pub(crate) fn load(&mut self, rows: &[Row]) {
        if self.loaded {
            return;
        }
        for row in rows {
            // Of two with one key, as a wider window may show them, the newer one counts.
            if self.taken.contains_key(&row.dedup) {
                continue;
            }
            if row.unique {
                self.unique += 1;
            } else {
                self.order.push_front((row.dedup, row.offset));
            }
            self.taken.insert(row.dedup, Taken::stored(row, true));
        }
        self.loaded = true;
    }

    /// Takes over the keys of stored messages: at once, where none was taken meanwhile.
    pub(crate) fn take_over(&mut self, loaded: Self, rows: &[Row]) {
        if !self.loaded && self.taken.is_empty() {
            // The window may have changed meanwhile.
            *self = Self { window: self.window, ..loaded };
        }
        self.load(rows);
    }

    /// Finds the first row whose key is taken.
    pub(crate) fn find(&mut self, rows: &[Row], now: u64) -> Option<Found> {
        self.expire(now);
        rows.iter().enumerate().find_map(|(row, wanted)| {
            let hash = wanted.dedup;
            let (first, synced, unique) = match self.taken.get(&hash)? {
                Taken::InFlight { slot, index, synced } => {
                    (First::InFlight { slot: slot.clone(), index: *index }, *synced, false)
                }
                // Behind one that the clock of then put into the future.
                &Taken::Stored { time, unique: false, .. } if self.window.is_over(time, now) => return None,
                &Taken::Stored { offset, synced, unique, .. } => (First::Stored(offset), synced, unique),
            };
            Some(Found { row, hash, first, synced, unique })
        })
    }

    /// Takes the keys of messages that begin to wait.
    pub(crate) fn take(&mut self, rows: &[Row], slot: &Arc<Slot>, synced: bool) {
        for row in rows.iter().filter(|row| row.dedup != 0) {
            self.forget(row.dedup, None);
            self.taken.insert(row.dedup, Taken::InFlight { slot: slot.clone(), index: row.offset, synced });
        }
    }

    /// Says what became of messages with keys: they are stored, or never will be.
    pub(crate) fn settle(&mut self, rows: &[Row], slot: &Arc<Slot>, stored: bool, synced: bool) {
        for row in rows.iter().filter(|row| row.dedup != 0) {
            if stored {
                self.forget(row.dedup, None);
                if row.unique {
                    self.unique += 1;
                } else {
                    self.order.push_back((row.dedup, row.offset));
                }
                self.taken.insert(row.dedup, Taken::stored(row, synced));
            } else if matches!(self.taken.get(&row.dedup), Some(Taken::InFlight { slot: taker, .. }) if Arc::ptr_eq(taker, slot))
            {
                self.taken.remove(&row.dedup);
            }
        }
    }

    /// Gives a key back; with an offset, only if that message has it.
    pub(crate) fn forget(&mut self, hash: u128, by: Option<u64>) {
        let Some(Taken::Stored { offset, unique, .. }) = self.taken.get(&hash) else { return };
        if by.is_none_or(|by| by == *offset) {
            self.unique -= usize::from(*unique);
            self.taken.remove(&hash);
        }
    }

    /// Returns the unique keys, with their messages, when there are so many that it is time to look
    /// which of these are done; [`Keys::swept`] says when that was done.
    pub(crate) fn begin_sweep(&mut self) -> Option<Vec<(u128, u64)>> {
        if self.unique < self.sweep_at {
            return None;
        }
        // Nobody else begins meanwhile.
        self.sweep_at = usize::MAX;
        let unique = |(&hash, taken): (&u128, &Taken)| match *taken {
            Taken::Stored { offset, unique: true, .. } => Some((hash, offset)),
            _ => None,
        };
        Some(self.taken.iter().filter_map(unique).collect())
    }

    /// Gives the keys of done messages back; the next look comes when there are twice as many as left.
    pub(crate) fn swept(&mut self, done: &[(u128, u64)]) {
        for &(hash, offset) in done {
            self.forget(hash, Some(offset));
        }
        self.sweep_at = (2 * self.unique).max(FIRST_SWEEP);
    }

    /// Gives dedup keys back that are out of the window.
    fn expire(&mut self, now: u64) {
        while let Some(&(hash, offset)) = self.order.front() {
            let over = match self.taken.get(&hash) {
                Some(&Taken::Stored { offset: taker, time, unique: false, .. }) if taker == offset => {
                    self.order.len() > self.window.count || self.window.is_over(time, now)
                }
                // Taken anew since.
                _ => true,
            };
            if !over {
                return;
            }
            self.order.pop_front();
            self.forget(hash, Some(offset));
        }
    }
}

impl Taken {
    fn stored(row: &Row, synced: bool) -> Self {
        Self::Stored { offset: row.offset, time: row.time, synced, unique: row.unique }
    }
}

/// Returns the number of the first row whose key an earlier one has too.
pub(crate) fn twice(rows: &[Row]) -> Option<usize> {
    let mut seen = HashSet::new();
    rows.iter().position(|row| row.dedup != 0 && !seen.insert(row.dedup))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(dedup: u128, offset: u64, time: u64) -> Row {
        Row { dedup, offset, time, ..Row::default() }
    }

    fn unique(dedup: u128, offset: u64) -> Row {
        Row { unique: true, ..row(dedup, offset, 0) }
    }

    fn keys(count: usize, millis: u64) -> Keys {
        Keys::new(Window { count, millis })
    }

    /// Stores a message, as a push and its answer do.
    fn store(keys: &mut Keys, row: Row) {
        let slot = Arc::default();
        keys.take(&[row], &slot, true);
        keys.settle(&[row], &slot, true, true);
    }

    fn taker(keys: &mut Keys, dedup: u128, now: u64) -> Option<u64> {
        keys.find(&[row(dedup, 0, 0)], now).map(|found| match found.first {
            First::Stored(offset) => offset,
            First::InFlight { .. } => u64::MAX,
        })
    }

    #[test]
    fn a_key_is_taken_by_the_last_so_many_messages_for_so_long() {
        let mut keys = keys(2, 100);

        store(&mut keys, row(1, 10, 0));
        store(&mut keys, row(2, 11, 50));
        assert_eq!((taker(&mut keys, 1, 99), taker(&mut keys, 2, 99)), (Some(10), Some(11)));
        store(&mut keys, row(3, 12, 60));
        assert_eq!((taker(&mut keys, 1, 99), taker(&mut keys, 2, 99)), (None, Some(11)), "two are the most");
        assert_eq!((taker(&mut keys, 2, 150), taker(&mut keys, 3, 150)), (None, Some(12)));
        assert_eq!(taker(&mut keys, 3, 160), None);
        assert_eq!((keys.taken.len(), keys.order.len()), (0, 0), "nothing is kept");
    }

    #[test]
    fn a_message_of_the_future_does_not_keep_those_behind_it() {
        let mut keys = keys(9, 100);

        store(&mut keys, row(1, 10, 1_000_000));
        store(&mut keys, row(2, 11, 0));

        assert_eq!((taker(&mut keys, 1, 500), taker(&mut keys, 2, 500)), (Some(10), None));
        store(&mut keys, row(2, 12, 500));
        assert_eq!(taker(&mut keys, 2, 500), Some(12));
    }

    #[test]
    fn a_push_that_failed_gives_its_key_back_and_nobody_elses() {
        let mut keys = keys(9, 100);
        let (first, second) = (Arc::default(), Arc::default());
        let wanted = [row(1, 0, 0)];

        keys.take(&wanted, &first, true);
        assert_eq!(taker(&mut keys, 1, 0), Some(u64::MAX), "on its way");
        keys.settle(&wanted, &second, false, true);
        assert_eq!(taker(&mut keys, 1, 0), Some(u64::MAX), "another one failed");
        keys.settle(&wanted, &first, false, true);
        assert_eq!(taker(&mut keys, 1, 0), None);
    }

    #[test]
    fn stored_keys_are_taken_in_behind_those_of_this_opening() {
        let mut keys = keys(2, 100);
        store(&mut keys, row(1, 30, 0));

        keys.load(&[row(2, 20, 0), row(1, 19, 0), row(2, 18, 0)]);

        assert_eq!((taker(&mut keys, 1, 0), taker(&mut keys, 2, 0)), (Some(30), Some(20)));
        store(&mut keys, row(3, 31, 0));
        assert_eq!(
            (taker(&mut keys, 1, 0), taker(&mut keys, 2, 0)),
            (Some(30), None),
            "the oldest goes first"
        );
    }

    #[test]
    fn stored_keys_are_taken_over_once() {
        let (rows, later) = ([row(2, 20, 0)], [row(3, 10, 0)]);
        let loaded = |rows: &[Row]| {
            let mut loaded = keys(2, 100);
            loaded.load(rows);
            loaded
        };
        let (mut empty, mut used) = (keys(2, 100), keys(2, 100));
        store(&mut used, row(1, 30, 0));

        for keys in [&mut empty, &mut used] {
            keys.take_over(loaded(&rows), &rows);
            keys.take_over(loaded(&later), &later);
        }

        assert_eq!((taker(&mut empty, 2, 0), taker(&mut empty, 3, 0)), (Some(20), None));
        assert_eq!((taker(&mut used, 1, 0), taker(&mut used, 2, 0)), (Some(30), Some(20)));
        assert_eq!(taker(&mut used, 3, 0), None);
    }

    #[test]
    fn unique_keys_have_no_window_and_are_swept_when_there_are_many() {
        let mut keys = keys(0, 0);
        for at in 0..FIRST_SWEEP as u64 {
            assert_eq!(keys.begin_sweep(), None);
            store(&mut keys, unique(u128::from(at) + 1, at));
        }
        assert_eq!(taker(&mut keys, 1, u64::MAX), Some(0));

        let mut found = keys.begin_sweep().unwrap();
        assert_eq!(keys.begin_sweep(), None, "once at a time");
        found.sort_unstable();
        // Pushed anew while somebody looked.
        keys.forget(1, Some(0));
        store(&mut keys, unique(1, 5000));
        keys.swept(&found[..FIRST_SWEEP - 10]);

        assert_eq!(keys.unique, 11);
        assert_eq!((taker(&mut keys, 1, 0), taker(&mut keys, 2, 0)), (Some(5000), None));
        assert_eq!(keys.sweep_at, FIRST_SWEEP);
    }

    #[test]
    fn a_batch_in_which_a_key_stands_twice_is_told() {
        assert_eq!(twice(&[row(0, 0, 0), row(0, 1, 0), row(7, 2, 0), row(8, 3, 0)]), None);
        assert_eq!(twice(&[row(7, 0, 0), row(8, 1, 0), row(7, 2, 0)]), Some(2));
    }
}
