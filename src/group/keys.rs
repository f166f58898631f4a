//! Of which ordering keys has a receive messages already, and what comes next of them?

use super::lines::Turn;
use super::state::State;

/// Of so many ordering keys a receive may get several messages: each is looked at before each loan.
const MOST_KEYS: usize = 64;

/// The ordering keys of what one receive was lent.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Taken>);

/// An ordering key of which a receive was lent messages.
#[derive(Debug)]
struct Taken {
    key: u64,
    messages: usize,
    /// Offset and delivery number of the last one.
    last: (u64, u64),
}

impl Keys {
    pub(super) fn took(&mut self, key: u64, last: (u64, u64)) {
        let full = self.0.len() == MOST_KEYS;
        match self.0.iter_mut().find(|taken| taken.key == key) {
            _ if key == 0 => {}
            Some(taken) => (taken.messages, taken.last) = (taken.messages + 1, last),
            // The others of a key too many come with the next receive.
            None if full => {}
            None => self.0.push(Taken { key, messages: 1, last }),
        }
    }

    /// Returns the first of the next messages of the keys, if it is ready: nobody else gets it meanwhile. A
    /// loan may be over before it is handed out, by a discard or a seek: then others have their turn.
    pub(super) fn next(&self, state: &State) -> Option<Turn> {
        let held = |taken: &&Taken| state.holds(taken.last.0, taken.last.1);
        self.0.iter().filter(held).filter_map(|taken| state.next_of(taken.key, taken.messages)).min()
    }
}
