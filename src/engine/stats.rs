//! How many messages are where?

use std::sync::Arc;

use super::Engine;
use super::pins::{Weight, weigh};
use crate::codec::{Deserialize, Serialize};
use crate::group::live::Live;

/// Counts of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Bytes of the segments in which it has something that is not done; [`pins`](crate::Queue::pins) tells
    /// which messages those are.
    pub pinned_bytes: u64,
    /// Of those, in sealed segments, what no other group keeps: so much comes back when this one is done
    /// with it.
    pub pinned_alone_bytes: u64,
}

impl GroupStats {
    /// Tells of a group that nobody can be asked about.
    pub(crate) fn nothing(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ready: 0,
            delayed: 0,
            on_loan: 0,
            dead: 0,
            next_due: None,
            paused: false,
            kinds: Vec::new(),
            discarded_for_room: 0,
            pinned_bytes: 0,
            pinned_alone_bytes: 0,
        }
    }
}

pub(crate) fn stats(engine: &Engine) -> Stats {
    if !engine.log.is_ours() {
        return Stats::default();
    }
    let groups = all_stats(engine, &engine.all_groups());
    Stats {
        discarded_for_room: groups.iter().map(|group| group.discarded_for_room).sum(),
        messages: engine.log.messages(),
        segments: engine.log.set().len(),
        groups,
    }
}

pub(crate) fn group_stats(engine: &Engine, group: &Arc<Live>) -> GroupStats {
    all_stats(engine, std::slice::from_ref(group)).pop().expect("there is one for each group")
}

/// Counts each of some groups. What it keeps alone depends on all.
fn all_stats(engine: &Engine, groups: &[Arc<Live>]) -> Vec<GroupStats> {
    let (stretches, pinned, unknown) =
        if engine.log.is_ours() { engine.pinned() } else { Default::default() };
    let firsts: Vec<_> = pinned.iter().map(|(_, firsts)| firsts).collect();
    let weights = weigh(&stretches, &firsts, unknown);
    let weight = |group: &Live| {
        let kept = pinned.iter().zip(&weights).find(|((name, _), _)| *name == group.name);
        kept.map_or_else(Weight::default, |(_, &weight)| weight)
    };
    groups.iter().map(|group| one(engine, group, weight(group))).collect()
}

fn one(engine: &Engine, group: &Live, weight: Weight) -> GroupStats {
    let (pinned_bytes, pinned_alone_bytes) = (weight.bytes, weight.alone);
    if !engine.log.is_ours() {
        return GroupStats::nothing(&group.name);
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
        pinned_bytes,
        pinned_alone_bytes,
    }
}
