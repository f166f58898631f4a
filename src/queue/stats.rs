//! How many messages are where?

use crate::engine::Engine;
use crate::group::live::Live;

/// Counts of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages that were ever pushed and can be read.
    pub messages: u64,
    /// Segments in the log.
    pub segments: usize,
    /// Messages that were discarded in this opening so that there is room for others
    /// ([`WhenFull::DiscardOldest`](crate::WhenFull::DiscardOldest)), once for each group that had them.
    pub discarded_for_room: u64,
    /// By group, in alphabetical order of names.
    pub groups: Vec<GroupStats>,
}

/// Counts of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// The group's name.
    pub name: String,
    /// Messages that could be lent now; of a group that takes [some kinds](crate::GroupOptions::kinds)
    /// alone, at the most: those it has not come to may be others.
    pub ready: u64,
    /// Messages that come again at a time.
    pub delayed: u64,
    /// Messages on loan.
    pub on_loan: u64,
    /// Messages that were given up.
    pub dead: u64,
    /// When the next delayed message is due, or the next loan with a time limit ends, in milliseconds
    /// since 1970.
    pub next_due: Option<u64>,
    /// Nothing is lent for now.
    pub paused: bool,
    /// The kinds of messages that the group takes; none: all.
    pub kinds: Vec<String>,
    /// Messages that were discarded in this opening so that there is room for others.
    pub discarded_for_room: u64,
}

pub(super) fn stats(engine: &Engine) -> Stats {
    if !engine.log.is_ours() {
        return Stats { messages: 0, segments: 0, discarded_for_room: 0, groups: Vec::new() };
    }
    let groups: Vec<_> = engine.all_groups().iter().map(|group| group_stats(engine, group)).collect();
    Stats {
        discarded_for_room: groups.iter().map(|group| group.discarded_for_room).sum(),
        messages: engine.log.messages(),
        segments: engine.log.set().len(),
        groups,
    }
}

pub(super) fn group_stats(engine: &Engine, group: &Live) -> GroupStats {
    if !engine.log.is_ours() {
        let (name, kinds) = (group.name.clone(), Vec::new());
        let (next_due, paused) = (None, false);
        return GroupStats {
            name,
            ready: 0,
            delayed: 0,
            on_loan: 0,
            dead: 0,
            next_due,
            paused,
            kinds,
            discarded_for_room: 0,
        };
    }
    let now = engine.clock.now();
    let wall = engine.clock.wall();
    let now_both = crate::group::state::Now { mono: now, wall };
    let (counts, due) = group.count(now_both);
    let millis = |due: std::time::Duration| u64::try_from(due.saturating_sub(now).as_millis()).unwrap_or(0);
    GroupStats {
        name: group.name.clone(),
        // Read after the counts: a message pushed meanwhile is ready, none is counted twice.
        ready: counts.ready(engine.log.messages()),
        delayed: counts.delayed,
        on_loan: counts.on_loan,
        dead: counts.dead,
        next_due: due.map(|due| wall + millis(due)),
        paused: group.paused().is_some(),
        kinds: group.look(|state| state.kinds().to_vec()),
        discarded_for_room: group.discarded_for_room(),
    }
}
