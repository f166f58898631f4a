//! Is a message that was reached not to be lent now, because of what it says itself?

use super::decide::Special;
use super::state::Now;
use crate::format::index;
use crate::format::record::{Tag, find, millis_of};
use crate::format::snapshot::{HIGHEST, NORMAL};
use crate::log::reader::Message;

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aside {
    /// It is due only then (milliseconds since 1970).
    Until(u64),
    /// Its time is over.
    Expired,
    /// Others may go before it, or it before others.
    Special(Special),
}

/// Looks into a message's attributes; `None` if it can be lent. A record that does not pass its
/// checksum says nothing: whoever gets it finds that out.
pub(super) fn of(message: &Message, queue: u128, now: Now) -> Option<Aside> {
    if !message.has_attributes() {
        return None;
    }
    let (list, _) = message.parts()?;
    let list = message.bytes(&list);
    let special = special(list, message.place.position, queue, now);
    let aside = if find(list, Tag::Expiry).map(millis_of).is_some_and(|expiry| expiry <= now.wall) {
        Aside::Expired
    } else if special.priority != NORMAL || special.key != 0 {
        Aside::Special(special)
    } else if special.due > 0 {
        Aside::Until(special.due)
    } else {
        return None;
    };
    // Only what says something is checked here, since the group's lock is held: the others are checked
    // by whoever they are lent to.
    message.record().map(|_| aside)
}

/// Reads out of a message what a group knows of it that was put aside. Of a record that does not pass its
/// checksum, that it is like any other: whoever gets it finds that out.
pub(super) fn told(message: &Message, queue: u128, now: Now) -> Special {
    let checked = message.record().is_some();
    let list = message.parts().filter(|_| checked && message.has_attributes());
    let list = list.map_or(&[][..], |(list, _)| message.bytes(&list));
    special(list, message.place.position, queue, now)
}

fn special(list: &[u8], position: u64, queue: u128, now: Now) -> Special {
    let due = find(list, Tag::Due).map(millis_of).filter(|&due| due > now.wall).unwrap_or(0);
    let priority =
        find(list, Tag::Priority).and_then(|value| value.first()).map_or(NORMAL, |&first| first.min(HIGHEST));
    let key = find(list, Tag::OrderingKey).map_or(0, |key| index::ordering(queue, key));
    Special { priority, key, due, position }
}
