//! What can one say of a queue without opening it?
//!
//! Groups are read before the log: no group is ahead of the log then, but by a loss.

use std::io::ErrorKind;
use std::sync::Arc;

use super::leftovers::leftovers;
use super::pins::{Firsts, Stretch, firsts, stretches};
use super::settles;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::keep::Limits;
use crate::format::manifest::{About, GroupRow, SegmentRow, Slot};
use crate::format::names;
use crate::group::settling::settled_in;
use crate::group::state::{Counts, Now, State};
use crate::inspect::{self, Finding, FindingKind, LOOKS, PAUSES, Progress};
use crate::manifest::{self, Found};
use crate::offsets::{self, Looked};
use crate::storage::Storage;

/// A queue as its files tell it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) queue: u128,
    pub(crate) created: u64,
    pub(crate) closed: bool,
    /// Somebody is seen to have it open.
    pub(crate) locked: bool,
    /// The offset behind the last message.
    pub(crate) next: u64,
    pub(crate) messages: u64,
    /// Where the active segment ends.
    pub(crate) position: u64,
    /// Up to where that was known durable when it was written.
    pub(crate) durable: u64,
    pub(crate) segments: Vec<SegmentRow>,
    /// Finds that were set aside.
    pub(crate) quarantined: u64,
    /// What the manifest said.
    pub(crate) slot: Slot,
    /// What is known of the messages in the active segment.
    pub(crate) about: About,
    pub(crate) limits: Limits,
    pub(crate) stretches: Vec<Stretch>,
    pub(crate) groups: Vec<(String, Result<GroupSeen>)>,
}

/// A group as its files tell it.
#[derive(Clone, Debug)]
pub(crate) struct GroupSeen {
    pub(crate) counts: Counts,
    /// Milliseconds since 1970.
    pub(crate) next_due: Option<u64>,
    pub(crate) paused: bool,
    pub(crate) kinds: Vec<String>,
    pub(crate) firsts: Firsts,
    pub(crate) state: State,
    /// As the manifest told of it last; `None` if it was removed meanwhile.
    pub(crate) row: Option<GroupRow>,
}

/// Looks at a queue and changes nothing, whoever else has it open.
///
/// # Errors
/// When there is no queue, or its manifest or active segment cannot be read.
pub(crate) fn look(storage: &Arc<dyn Storage>, clock: &dyn Clock) -> Result<Seen> {
    let now = Now { mono: clock.now(), wall: clock.wall() };
    let looked = look_at_groups(storage, clock)?;
    let (found, verdict) = inspect::tail(storage, clock)?;
    let row = |name: &str| found.slot.groups.iter().find(|row| row.name == name);
    let known = looked.iter().filter_map(|(name, looked)| {
        let looked = looked.as_ref().ok()?;
        Some((row(name)?, settled_in(&looked.snapshot, &looked.entries)))
    });
    let (settled, _) = settles::find(storage, &found.slot, &verdict, &known.collect::<Vec<_>>())?;
    let stretches = stretches(&found.slot.segments, verdict.next, verdict.position);
    let seen = |name: &str, looked: &Looked| {
        let mut state = State::recover(&looked.snapshot, &looked.entries, now);
        // What only the log tells yet.
        row(name).into_iter().for_each(|row| settles::apply(&mut state, row.incarnation, &settled, now));
        seen(state, row(name).cloned(), &stretches, now)
    };
    let groups = looked.into_iter().map(|(name, looked)| {
        let seen = looked.map(|looked| seen(&name, &looked));
        (name, seen)
    });
    let groups = groups.collect();
    Ok(Seen {
        queue: found.queue,
        created: found.created,
        closed: found.slot.log.closed,
        locked: storage.is_seen_locked(names::LOCK),
        next: verdict.next,
        messages: verdict.messages,
        position: verdict.position,
        durable: verdict.durable,
        limits: found.slot.limits,
        segments: found.slot.segments.clone(),
        about: verdict.about,
        quarantined: quarantined(storage),
        slot: found.slot,
        stretches,
        groups,
    })
}

/// Counts the finds in the quarantine, which may be missing.
fn quarantined(storage: &Arc<dyn Storage>) -> u64 {
    let is_list =
        |name: &str| [names::LIST, names::LIST_NEW].contains(&&format!("{}/{name}", names::QUARANTINE)[..]);
    let finds = storage.list(names::QUARANTINE).unwrap_or_default();
    finds.iter().filter(|find| !is_list(&find.name)).count() as u64
}

/// Checks every byte that was promised, and changes none.
///
/// # Errors
/// When there is no queue, or no manifest to go by.
pub(crate) fn verify(
    storage: &Arc<dyn Storage>,
    clock: &dyn Clock,
    to: &mut dyn FnMut(Progress),
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut states = Vec::new();
    for (name, looked) in look_at_groups(storage, clock)? {
        let path = storage.root().join(names::group(&name));
        match looked {
            Err(error) => findings.push(Finding::of(error)?),
            Ok(looked) => {
                if looked.wounded {
                    let what = "a header page is bad in one of two copies; the next opening makes it good";
                    findings.push(Finding::new(FindingKind::Wounded, path.clone(), what));
                }
                if looked.torn > 0 {
                    let what = format!("{} bytes of entries were never known durable", looked.torn);
                    findings.push(Finding::new(FindingKind::Torn, path.clone(), what));
                }
                states.push((path, State::recover(&looked.snapshot, &looked.entries, Now::default())));
            }
        }
    }
    findings.extend(unnamed(storage)?);
    findings.extend(linked(storage)?);
    let verdict = inspect::verify_log(storage, clock, to, &mut findings)?;
    for (path, state) in states {
        let missing = verdict.as_ref().and_then(|verdict| state.missing(verdict.next, verdict.messages));
        if let Some((next, end)) = missing {
            let what = format!("the group has come to offset {end}, and the log ends at {next}");
            findings.push(Finding::new(FindingKind::Lost, path, what).offsets(next, end));
        }
    }
    Ok(findings)
}

/// Looks for what the manifest should name: an opening refuses rather than sweep that.
pub(super) fn unnamed(storage: &Arc<dyn Storage>) -> Result<Option<Finding>> {
    let mut found = manifest::look(storage)?;
    // In a backup it is what the next round is about.
    if found.backup {
        return Ok(None);
    }
    for _ in 1..LOOKS {
        let Err(error) = leftovers(storage, &found) else { return Ok(None) };
        let after = manifest::look(storage)?;
        if after.slot.sequence == found.slot.sequence {
            return Finding::of(error).map(Some);
        }
        // A roll: the slot names a segment before it holds anything.
        found = after;
    }
    Ok(None)
}

/// Looks for files that have a second name, among those that an opening writes to: it refuses them.
pub(super) fn linked(storage: &Arc<dyn Storage>) -> Result<Vec<Finding>> {
    let slot = manifest::look(storage)?.slot;
    let mut written = vec![names::LOCK.to_owned(), names::MANIFEST.to_owned()];
    written.extend(slot.segments.last().map(|active| names::segment(active.number)));
    let groups = slot.groups.iter().map(|row| &row.name);
    written.extend(groups.clone().flat_map(|name| [names::half(name, 0), names::half(name, 1)]));
    let folders =
        [String::new(), names::LOG.to_owned()].into_iter().chain(groups.map(|name| names::group(name)));
    let mut findings = Vec::new();
    for folder in folders {
        let entries = match storage.list(&folder) {
            Ok(entries) => entries,
            // Removed since the manifest was read, or else found missing by those who look for it.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                findings.push(Finding::of(Error::io("list", storage.root().join(&folder), error))?);
                continue;
            }
        };
        for entry in entries.into_iter().filter(|entry| entry.linked) {
            let name = if folder.is_empty() { entry.name } else { format!("{folder}/{}", entry.name) };
            if written.contains(&name) {
                let what = "has another name too (a hard link): copy it, and remove one of them";
                findings.push(Finding::new(FindingKind::Refused, storage.root().join(name), what));
            }
        }
    }
    Ok(findings)
}

fn seen(mut state: State, row: Option<GroupRow>, stretches: &[Stretch], now: Now) -> GroupSeen {
    state.ripen(now);
    let millis =
        |due: std::time::Duration| u64::try_from(due.saturating_sub(now.mono).as_millis()).unwrap_or(0);
    GroupSeen {
        counts: state.stats(),
        next_due: state.next_timer(now).map(|due| now.wall.saturating_add(millis(due))),
        paused: state.paused(now).is_some(),
        kinds: state.kinds().to_vec(),
        firsts: firsts(&state, stretches, now),
        state,
        row,
    }
}

/// Reads all groups; what is wrong with one is its own answer.
fn look_at_groups(storage: &Arc<dyn Storage>, clock: &dyn Clock) -> Result<Vec<(String, Result<Looked>)>> {
    let mut found = manifest::look(storage)?;
    let mut groups = Vec::new();
    for row in std::mem::take(&mut found.slot.groups) {
        let name = row.name.clone();
        if let Some(looked) = look_at(storage, clock, &mut found, row)? {
            groups.push((name, looked));
        }
    }
    Ok(groups)
}

/// Reads one group, and believes what is wrong with it only if it stays so; `None` if it was removed
/// meanwhile.
fn look_at(
    storage: &Arc<dyn Storage>,
    clock: &dyn Clock,
    found: &mut Found,
    mut row: GroupRow,
) -> Result<Option<Result<Looked>>> {
    let mut before: Option<Result<Looked>> = None;
    let mut pauses = PAUSES.into_iter();
    for _ in 1..LOOKS {
        let looked = if found.backup {
            offsets::look_exactly(storage, found.queue, &row)
        } else {
            offsets::look(storage, found.queue, &row)
        };
        let stays = match (&before, &looked) {
            (_, Ok(looked)) if looked.torn == 0 && !looked.wounded => true,
            (Some(Ok(before)), Ok(looked)) => (before.torn, before.wounded) == (looked.torn, looked.wounded),
            (Some(Err(before)), Err(error)) => before.to_string() == error.to_string(),
            _ => false,
        };
        let sound = looked.as_ref().is_ok_and(|looked| looked.torn == 0 && !looked.wounded);
        let left = if sound { None } else { pauses.next() };
        let after = manifest::look(storage)?;
        let Some(now) = after.slot.groups.iter().find(|group| group.name == row.name) else {
            return Ok(None);
        };
        if stays && left.is_none() && *now == row {
            return Ok(Some(looked));
        }
        if let Err(error @ Error::Version { .. }) = looked {
            return Err(error);
        }
        if let Some(time) = left {
            clock.pause(time);
        }
        row = now.clone();
        before = Some(looked);
    }
    Ok(before)
}
