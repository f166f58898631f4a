//! What can be saved of a queue, from whatever is left of it?
//!
//! Nothing of the source is written, and no lock of it taken. Into the new queue goes every record that passes its
//! checksum, under the offset that it always had:
//!
//! 1. the new folder and its lock; a file that says what is being made there, synced, and its name
//! 2. the segments, as copies: each written and synced
//! 3. the groups' files
//! 4. an active segment, beyond every offset that was seen or can have been told
//! 5. the folders' names synced
//! 6. the manifest: then it is a queue; the file of 1 goes
//!
//! Until 6 there is no queue, and a next attempt clears what this one has left.

use std::sync::Arc;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::batch::Settle;
use crate::format::manifest::{LogMark, SegmentRow, Slot};
use crate::format::{PAGE_POSITION, names};
use crate::group::state::Now;
use crate::inspect::{Finding, FindingKind, Progress};
use crate::log::make;
use crate::log::writer::LAST_RESERVE;
use crate::manifest::{self, Found, Manifest};
use crate::offset::Offset;
use crate::options::FIRST_SEGMENT;
use crate::storage::Storage;

mod groups;
mod lenient;
mod merge;
mod place;
pub(crate) mod report;
mod source;
mod write;

use groups::Groups;
use merge::{Merge, Record, Sink};
use report::Salvaged;
use source::{Sources, sources};
use write::Writing;

/// Saves what can be read of a queue into a new one, in segments of `full` bytes.
///
/// # Errors
/// [`Error::NotAQueue`] where there is nothing of a queue, or the new folder has something in it;
/// [`Error::Refused`] where the new folder is a queue; [`Error::Version`]; when the new disk refuses.
pub(crate) fn salvage(
    storage: &Arc<dyn Storage>,
    out: &Arc<dyn Storage>,
    clock: &dyn Clock,
    full: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Salvaged> {
    let mut report = Salvaged::default();
    let found = match manifest::look(storage) {
        Ok(found) => Some(found),
        Err(error @ Error::Version { .. }) => return Err(error),
        Err(error) => {
            let path = storage.root().join(names::MANIFEST);
            let finding = match error {
                Error::NotAQueue { .. } => {
                    Finding::new(FindingKind::Refused, path, "is missing, or is no manifest")
                }
                other => Finding::of(other)?,
            };
            report.found(finding);
            None
        }
    };
    if let Some(found) = found.as_ref().filter(|found| found.wounded) {
        let path = storage.root().join(names::MANIFEST);
        let what = format!("one of two copies of something is bad (slot {})", found.slot.sequence);
        report.found(Finding::new(FindingKind::Wounded, path, what));
    }
    let from = sources(storage, found.as_ref(), &mut report)?;
    if found.is_none() && !from.any {
        let path = storage.root().to_path_buf();
        return Err(Error::NotAQueue { path, found: "neither a MANIFEST nor segments".into() });
    }
    let now = Now { mono: clock.now(), wall: clock.wall() };
    let newer = found.is_none() || from.older_manifest;
    let groups = Groups::find(storage, found.as_ref(), (from.queue, newer), now, &mut report);

    let lock = place::begin(out)?;
    let draw = || out.random().map_err(|error| Error::io("draw a queue id for", out.root(), error));
    let queue = u128::from(draw()?) << 64 | u128::from(draw()?);
    let mut saved = Saved { log: Writing::new(out, queue, now.wall, full), groups };
    let Sources { files, .. } = from;
    let mut merge = Merge::new(storage, files, &mut report, progress);
    merge.read(&mut saved)?;
    let seen = merge.seen;
    let Saved { mut log, groups } = saved;
    log.finish()?;
    (report.messages, report.bytes) = (log.messages, log.bytes);
    report.next_offset = next_offset(found.as_ref(), newer, seen.max(groups.named()));

    let active = log.rows.len() as u64 + 1;
    let rows = groups.make(out, (queue, report.next_offset, active), &mut report)?;
    let mut making = make::begin(&**out, queue, active, FIRST_SEGMENT.min(full), now.wall)?;
    making.fill(&**out, making.capacity)?;
    making.finish(&**out)?;
    out.sync_dir("").map_err(|error| Error::io("sync the folder", out.root(), error))?;
    let row = SegmentRow {
        number: active,
        salt: making.salt,
        base: report.next_offset,
        messages_before: log.messages,
        ..SegmentRow::default()
    };
    let mark = LogMark {
        segment: active,
        position: PAGE_POSITION,
        next: report.next_offset,
        messages: log.messages,
        reserved: report.next_offset,
        closed: true,
    };
    let mut slot = Slot { sequence: 1, log: mark, numbers: active + 1, groups: rows, ..Slot::default() };
    slot.segments = log.rows;
    slot.segments.push(row);
    if let Some(found) = found {
        (slot.schedules, slot.limits) = (found.slot.schedules, found.slot.limits);
    }
    Manifest::create(out, queue, now.wall, slot)?;
    place::end(out);
    drop(lock);
    Ok(report)
}

/// Returns the first offset that was given to nobody: beyond all that was seen, and all that can have been told.
fn next_offset(found: Option<&Found>, newer: bool, seen: u64) -> u64 {
    let told = found.map_or(0, |found| found.slot.log.next.max(found.slot.log.reserved)).max(seen);
    if !newer {
        return told;
    }
    // The manifest that is gone reserved at most so many beyond the last batch, as the last steps are.
    (told + 2 * LAST_RESERVE).min(Offset::LIMIT - 1).max(told)
}

/// The new queue while records go into it.
struct Saved {
    log: Writing,
    groups: Groups,
}

impl Sink for Saved {
    fn record(&mut self, record: &Record<'_>) -> Result<()> {
        self.groups.message(record.offset);
        self.log.add(record)
    }

    fn settles(&mut self, rows: &[Settle], end: u64) {
        self.groups.settles(rows, end);
    }
}
