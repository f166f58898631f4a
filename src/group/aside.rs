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
    let time = |tag| find(list, tag).map(millis_of);
    let due = time(Tag::Due).filter(|&due| due > now.wall).unwrap_or(0);
    let priority =
        find(list, Tag::Priority).and_then(|value| value.first()).map_or(NORMAL, |&first| first.min(HIGHEST));
    let key = find(list, Tag::OrderingKey).map_or(0, |key| index::ordering(queue, key));
    let aside = if time(Tag::Expiry).is_some_and(|expiry| expiry <= now.wall) {
        Aside::Expired
    } else if priority != NORMAL || key != 0 {
        Aside::Special(Special { priority, key, due, position: message.place.position })
    } else if due > 0 {
        Aside::Until(due)
    } else {
        return None;
    };
    // Only what says something is checked here, since the group's lock is held: the others are checked
    // by whoever they are lent to.
    message.record().map(|_| aside)
}
