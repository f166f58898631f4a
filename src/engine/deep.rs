//! Do the files of a queue agree with each other, beyond what checksums tell?

use std::collections::BTreeSet;
use std::sync::Arc;

use super::view::View;
use crate::clock::Clock;
use crate::error::Result;
use crate::format::entry::reason;
use crate::format::names;
use crate::format::record;
use crate::group::rule::MessageState;
use crate::inspect::{Finding, FindingKind, Progress};
use crate::log::kept;
use crate::log::reader::Message;
use crate::manifest;
use crate::storage::Storage;

/// Findings that are told one by one.
const MOST: usize = 1000;

/// Reads every message that is stored: whether its attributes can be understood, and whether each that a group has
/// not done is there.
///
/// # Errors
/// As [`View::new`].
pub(crate) fn deep(
    storage: &Arc<dyn Storage>,
    clock: &Arc<dyn Clock>,
    to: &mut dyn FnMut(Progress),
) -> Result<Vec<Finding>> {
    let mut view = View::new(storage, clock)?;
    let mut findings = side_files(storage)?;
    let mut wanted = wanted(&view);
    let mut missing = Vec::new();
    let (mut next, end) = (0, view.seen.next);
    let total = view.seen.stretches.iter().map(|stretch| stretch.bytes).sum();
    let mut done = 0;
    while next < end && findings.len() < MOST {
        let (found, on) = view.next(next, end)?;
        match found {
            Some(Ok(message)) => {
                findings.extend(unknown(&view, &message));
                pass(&mut wanted, message.offset, on, &mut missing);
                done += message.length();
                to(Progress { done: done.min(total), total });
            }
            // What has gone bad was told by whoever checked the checksums.
            Some(Err(_)) => wanted.iter_mut().for_each(|(_, rows)| rows.retain(|row| row.1 > on)),
            None => pass(&mut wanted, end, end, &mut missing),
        }
        next = on;
    }
    // An owner goes on: what was done and freed meanwhile is not missing.
    if !missing.is_empty() {
        view.refresh()?;
    }
    for (name, offset) in missing.into_iter().take(MOST) {
        let Ok(group) = view.group(&name) else { continue };
        let pending = group.state_of(offset, view.now()) != MessageState::Done;
        if pending && view.next(offset, offset + 1)?.0.is_none() {
            let path = storage.root().join(names::group(&name));
            let what = "the group has not done this message, and the log does not have it";
            findings.push(Finding::new(FindingKind::Lost, path, what).offsets(offset, offset + 1));
        }
    }
    Ok(findings)
}

/// Of each group, the messages that it names one by one and has not done, in order, the next one last.
fn wanted(view: &View) -> Vec<(String, Vec<(u64, u64)>)> {
    const NAMED: [MessageState; 4] =
        [MessageState::Ready, MessageState::Delayed, MessageState::OnLoan, MessageState::Dead];
    let (next, now) = (view.seen.next, view.now());
    let groups = view.seen.groups.iter().filter_map(|(name, group)| {
        let group = group.as_ref().ok()?;
        let rows = NAMED.into_iter().flat_map(|state| group.rows(state, next, now));
        // Rows of several may have gaps.
        let mut rows: Vec<_> = rows.filter(|(first, end)| first + 1 == *end && *end <= next).collect();
        // Of those whose bytes have gone bad nobody expects that they are there: a repair took them out.
        let bad = group.state.dead().into_iter().filter(|dead| dead.reason == reason::DAMAGED);
        let bad: BTreeSet<u64> = bad.map(|dead| dead.first).collect();
        rows.retain(|(first, _)| !bad.contains(first));
        rows.sort_unstable_by(|one, other| other.cmp(one));
        Some((name.clone(), rows))
    });
    groups.collect()
}

/// Notes which of the messages that are wanted were not met: the log went on with `offset`.
fn pass(wanted: &mut [(String, Vec<(u64, u64)>)], offset: u64, on: u64, missing: &mut Vec<(String, u64)>) {
    for (name, rows) in wanted {
        while let Some((first, _)) = rows.pop_if(|(first, _)| *first < on) {
            if first != offset && missing.len() < MOST {
                missing.push((name.clone(), first));
            }
        }
    }
}

/// Finds what a record says that this version cannot understand, though it passed its checksum.
fn unknown(view: &View, message: &Message) -> Option<Finding> {
    let problem = match message.parts() {
        None => "its attributes do not fit it".to_owned(),
        Some((attributes, _)) => record::parse(message.bytes(&attributes)).err()?.to_string(),
    };
    let what = format!("the record passes its checksum, and says what cannot be: {problem}");
    let finding = Finding::new(FindingKind::Damaged, view.path(message.place.segment), what);
    Some(finding.at(message.position).offsets(message.offset, message.offset + 1))
}

/// Checks the side files that outlive their segments.
pub(super) fn side_files(storage: &Arc<dyn Storage>) -> Result<Vec<Finding>> {
    let found = manifest::look(storage)?;
    let mut findings = Vec::new();
    for row in &found.slot.kept {
        let Err(error) = kept::check(&**storage, found.queue, row) else { continue };
        // One that was given up since is in no newer manifest.
        if manifest::look(storage)?.slot.kept.contains(row) {
            findings.push(Finding::of(error)?);
        }
    }
    Ok(findings)
}
