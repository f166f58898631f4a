//! Which kinds of messages does a group take? Pure.
//!
//! Others count as done for it as soon as it comes to them: not lent, and no more to be asked for. A row
//! of them takes one entry.

use super::decide::stamp;
use super::state::{Now, State};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, Kind, More};
use crate::format::record::{MAX_KIND, Tag, find};
use crate::log::reader::{Message, Place};

/// The most kinds that a group can name.
const MOST: usize = 1000;

/// Messages of other kinds, one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Others {
    first: u64,
    end: u64,
    messages: u64,
    /// Where the last one lies.
    pub(super) place: Place,
}

impl Others {
    /// Tells whether something was put aside, or given up, between them and a message.
    pub(super) fn are_cut_off(&self, message: &Message, state: &State) -> bool {
        self.end < message.offset
            && state.exceptions.end() > self.end
            && state.exceptions.within(self.end, message.offset).next().is_some()
    }

    /// Adds a message behind those there are.
    pub(super) fn add(others: &mut Option<Self>, message: &Message) {
        let (offset, place) = (message.offset, message.place);
        let others = others.get_or_insert(Self { first: offset, end: offset, messages: 0, place });
        (others.end, others.place) = (offset + 1, place);
        others.messages += 1;
    }
}

/// Brings kinds in order, each once.
///
/// # Errors
/// [`Error::Invalid`] for one that no message can have, and for too many.
pub(crate) fn in_order(kinds: &[String]) -> Result<Vec<String>> {
    let bad = kinds.iter().find(|kind| kind.is_empty() || kind.len() > MAX_KIND);
    if let Some(kind) = bad {
        let what = format!("a kind of {} bytes: 1 to {MAX_KIND} are allowed", kind.len());
        return Err(Error::Invalid { what });
    }
    let mut kinds = kinds.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.len() > MOST {
        return Err(Error::Invalid { what: format!("{} kinds: {MOST} are allowed", kinds.len()) });
    }
    Ok(kinds)
}

impl State {
    /// Tells whether a message, never lent, is of a kind that the group takes. Of a record that does not
    /// pass its checksum nothing is believed: whoever gets it finds that out.
    pub(super) fn takes(&self, message: &Message) -> bool {
        if self.kinds.is_empty() {
            return true;
        }
        if !message.has_attributes() {
            return false;
        }
        let Some((list, _)) = message.parts() else { return true };
        let kind = find(message.bytes(&list), Tag::Kind).and_then(|kind| std::str::from_utf8(kind).ok());
        let ours = kind.is_some_and(|kind| self.kinds.binary_search_by(|one| one.as_str().cmp(kind)).is_ok());
        // Only what is passed over is checked here, since the group's lock is held.
        ours || message.record().is_none()
    }

    /// Makes messages of other kinds done, which lie at or behind the head, with nothing else between.
    pub(super) fn pass_over(&self, others: &Others, now: Now) -> Entry {
        let more = More::Range { end: others.end, messages: others.messages };
        Entry { time: stamp(now.wall), more, ..Entry::new(Kind::Purged, others.first) }
    }

    pub(crate) fn kinds(&self) -> &[String] {
        &self.kinds
    }

    /// Changes the kinds, which are [in order](in_order); stored with the next snapshot. What was passed
    /// over stays done.
    pub(crate) fn set_kinds(&mut self, kinds: Vec<String>) {
        self.kinds = kinds;
    }
}
