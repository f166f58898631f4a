//! How does a queue become one that opens, when files are missing, foreign or cut short, or a group's have gone bad?
//!
//! A segment gets a successor with what can be read of it where it lay, and zeros for the rest: damage, which reading
//! names and never passes in silence. A group's files are made anew with what can be read of them. In this order:
//!
//! 1. folders that are missing
//! 2. the files are copied into the quarantine, durable
//! 3. each successor: its header, which says that it is a copy, then the bytes; synced, `log/` synced
//! 4. a slot names the successors in place of the others, and no side file that is bad; it says of the groups that are
//!    made anew that all acks in the log may be missing in their files
//! 5. the groups' files (`offsets::remake`)
//! 6. what the slot no longer names goes
//!
//! Stopped before 4, the successors are leftovers; from there on the rest is done by the next repair, 6 by the opening.

use std::io::ErrorKind;
use std::sync::Arc;

use super::Repaired;
use crate::clock::Clock;
use crate::engine::leftovers::leftovers;
use crate::error::{Error, Result};
use crate::format::entry::Entry;
use crate::format::header::{self, Fields, FileKind};
use crate::format::manifest::{GroupRow, NO_SETTLES, SegmentRow};
use crate::format::snapshot::{Reading, Snapshot};
use crate::format::{ALIGNMENT, MAX_SEGMENT, Malformed, PAGE, PAGE_POSITION, names, round_up};
use crate::group::policy::DEFAULT_POLICY;
use crate::group::state::{Now, State};
use crate::log::evidence::SetAside;
use crate::log::{self, kept, make};
use crate::manifest::{self, Found};
use crate::offsets;
use crate::offsets::parts::{Parts, parts};
use crate::options::FIRST_SEGMENT;
use crate::storage::{Access, File, Storage, read_up_to, write_all_at};

/// Bytes copied at a time.
const PIECE: usize = 256 << 10;

/// A segment that refuses the opening.
struct Broken {
    row: SegmentRow,
    /// The file of that name, if there is one, and its length.
    file: Option<(Arc<dyn File>, u64)>,
    /// Up to where it may hold what was written under the row's salt.
    usable: u64,
    /// Bytes of the active segment, as its header says; 0 if that cannot be told.
    capacity: u64,
}

/// Makes sure that what is read from here on is what the disk has: after a failed sync the cache may show a slot, or
/// entries, that are not there, and all would look well.
///
/// # Errors
/// When the disk refuses, and as [`manifest::load`].
pub(super) fn see_the_disk(storage: &Arc<dyn Storage>) -> Result<()> {
    let (_, found) = manifest::load(storage)?;
    for row in &found.slot.groups {
        // What is wrong with it the plan tells.
        if let Err(error @ Error::Io { .. }) = offsets::survey(storage, found.queue, row) {
            return Err(error);
        }
    }
    for row in &found.slot.segments {
        let name = names::segment(row.number);
        let seen = match storage.open(&name, Access::Read) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            opened => opened.and_then(|file| file.sync().and_then(|()| file.drop_cache())),
        };
        seen.map_err(|error| Error::io("sync", storage.root().join(name), error))?;
    }
    Ok(())
}

/// Replaces what refuses the opening.
///
/// # Errors
/// When the disk refuses: what was made by then is done again, or goes on, at the next repair. [`Error::Version`].
pub(super) fn make_openable(
    storage: &Arc<dyn Storage>,
    clock: &dyn Clock,
    done: &mut Repaired,
) -> Result<()> {
    storage.sync_dir("").map_err(|error| Error::io("sync the folder", storage.root(), error))?;
    let (manifest, found) = manifest::load(storage)?;
    make_folders(storage)?;
    let highest = leftovers(storage, &found)?.highest;
    let mut broken = Vec::new();
    for row in &found.slot.segments {
        broken.extend(look_at(storage, &found, row)?);
    }
    let groups = bad_groups(storage, &found)?;
    let bad_keys = found.slot.kept.iter().filter(|row| kept::check(&**storage, found.queue, row).is_err());
    let bad_keys: Vec<u64> = bad_keys.map(|row| row.number).collect();
    if broken.is_empty() && groups.is_empty() && bad_keys.is_empty() {
        return Ok(());
    }

    for one in &broken {
        if let Some((file, length)) = &one.file {
            let number = one.row.number;
            let source = SetAside { source: file, position: 0, length: *length };
            let note =
                |kept| format!("the whole file of segment {number}, {kept} bytes, which refused the opening");
            let name = source.keep(&**storage, |sum| names::no_segment(number, sum), note);
            done.set_aside.push(storage.root().join(name.map_err(|error| quarantine(storage, error))?));
        }
    }
    for row in &groups {
        set_group_aside(storage, row, done)?;
    }
    manifest.make_good(&found)?;
    let first = found.slot.numbers.max(highest + 1);
    let mut made = Vec::new();
    for (one, number) in broken.iter().zip(first..) {
        match succeed(storage, &found, one, number, clock.wall()) {
            Ok(row) => made.push((one.row.number, row)),
            Err(error) => {
                for (_, row) in made {
                    // The manifest names none of them: should this fail, the next opening sweeps them.
                    let _ = storage.remove(&names::segment(row.number));
                }
                return Err(error);
            }
        }
    }
    let regrouped: Vec<u64> = groups.iter().map(|row| row.incarnation).collect();
    manifest.update(|slot| {
        for (old, row) in &made {
            for there in slot.segments.iter_mut().filter(|there| there.number == *old) {
                *there = *row;
            }
            for group in slot.groups.iter_mut().filter(|group| group.settles_from == *old) {
                group.settles_from = row.number;
            }
            if slot.log.segment == *old {
                slot.log.segment = row.number;
            }
        }
        let oldest = slot.segments.first().map_or(NO_SETTLES, |row| row.number);
        for group in slot.groups.iter_mut().filter(|group| regrouped.contains(&group.incarnation)) {
            group.settles_from = oldest;
        }
        slot.kept.retain(|row| !bad_keys.contains(&row.number));
    })?;
    for row in &groups {
        remake(storage, clock, &found, row)?;
    }
    for (old, _) in &made {
        // The slot names them no more: should this fail, the next opening sweeps them.
        let _ = storage.remove(&names::index(*old));
        let _ = storage.remove(&names::segment(*old));
    }
    Ok(())
}

fn quarantine(storage: &Arc<dyn Storage>, error: std::io::Error) -> Error {
    Error::io("set files aside in", storage.root().join(names::QUARANTINE), error)
}

fn make_folders(storage: &Arc<dyn Storage>) -> Result<()> {
    for folder in [names::LOG, names::GROUPS] {
        match storage.make_dir(folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made
                .and_then(|()| storage.sync_dir(""))
                .map_err(|error| Error::io("make the folder", storage.root().join(folder), error))?,
        }
    }
    Ok(())
}

/// Looks at a segment that the manifest names; `None` if it does not refuse the opening.
fn look_at(storage: &Arc<dyn Storage>, found: &Found, row: &SegmentRow) -> Result<Option<Broken>> {
    let mark = if row.length == 0 { found.slot.log.position } else { 0 };
    match log::check(&**storage, found.queue, row, Access::Read) {
        Ok(checked) if mark <= checked.capacity => return Ok(None),
        Ok(_) | Err(Error::Refused { .. }) => {}
        Err(other) => return Err(other),
    }
    let name = names::segment(row.number);
    let failed = |error| Error::io("read", storage.root().join(&name), error);
    let file = match storage.open(&name, Access::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Some(Broken { row: *row, file: None, usable: 0, capacity: 0 }));
        }
        opened => opened.map_err(failed)?,
    };
    let length = file.len().map_err(failed)?;
    let mut page = vec![0; PAGE];
    let got = read_up_to(&*file, &mut page, 0).map_err(failed)?;
    page.truncate(got);
    let (ours, capacity) = match header::decode(FileKind::Segment, &page) {
        Ok(page) => match page.header.fields {
            Fields::Segment { number, capacity, .. } => {
                let ours = page.header.queue == found.queue && page.header.salt == row.salt;
                (ours && number == row.number, capacity)
            }
            _ => (false, 0),
        },
        Err(Malformed::Newer(problem)) => {
            return Err(Error::Version { path: storage.root().join(&name), problem });
        }
        // Both copies of the header are bad: what follows counts as far as it passes under the row's salt.
        Err(_) => (true, 0),
    };
    let usable = if ours { length } else { 0 };
    let capacity = if ours && capacity <= MAX_SEGMENT { capacity } else { 0 };
    Ok(Some(Broken { row: *row, file: Some((file, length)), usable, capacity }))
}

/// Makes the file that takes the place of one that refuses the opening; returns its row.
fn succeed(
    storage: &Arc<dyn Storage>,
    found: &Found,
    one: &Broken,
    number: u64,
    now: u64,
) -> Result<SegmentRow> {
    let active = one.row.length == 0;
    let mark = found.slot.log.position;
    let length = if active {
        let least = round_up(mark, PAGE_POSITION) + PAGE_POSITION;
        round_up(one.capacity.max(one.usable.min(MAX_SEGMENT)).max(least).max(FIRST_SEGMENT), PAGE_POSITION)
    } else {
        // What is missing at the end must be missed: of a batch that was cut the header tells how far it went, and
        // where the file ended there, nothing would tell of those behind it. Where there is no batch, a few zeros do.
        let nothing = one.usable <= PAGE_POSITION;
        if nothing { one.row.length.min(PAGE_POSITION + ALIGNMENT) } else { one.row.length }
    };
    let usable = one.usable.min(length);
    let name = names::segment(number);
    let failed = |error| Error::io("make", storage.root().join(&name), error);
    match storage.remove(&name) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = storage.create_new(&name).map_err(failed)?;
    let fields = Fields::Segment { number, capacity: length, rewritten: true };
    let header = make::header(found.queue, one.row.salt, now, fields);
    // The header first, and synced: an opening must know that what lies there is a copy.
    let made = write_all_at(&*file, &header.encode(), 0)
        .and_then(|()| file.sync())
        .and_then(|()| file.allocate(length))
        .and_then(|()| match &one.file {
            Some((source, _)) => copy(source, &file, usable),
            None => Ok(()),
        })
        .and_then(|()| file.sync())
        .and_then(|()| storage.sync_dir(names::LOG));
    if let Err(error) = made {
        // The manifest does not name it: should this fail too, the next opening sweeps it.
        let _ = storage.remove(&name);
        return Err(failed(error));
    }
    Ok(SegmentRow { number, length: if active { 0 } else { length }, rewritten: true, ..one.row })
}

/// Copies what lies behind the header page, up to `end`.
fn copy(source: &Arc<dyn File>, file: &Arc<dyn File>, end: u64) -> std::io::Result<()> {
    let mut bytes = vec![0; PIECE];
    let mut position = PAGE_POSITION;
    while position < end {
        let count = usize::try_from(end - position).unwrap_or(PIECE).min(PIECE);
        let got = read_up_to(&**source, &mut bytes[..count], position)?;
        write_all_at(&**file, &bytes[..got], position)?;
        position += got as u64;
        if got < count {
            break;
        }
    }
    Ok(())
}

/// Lists the groups whose files are bad, missing, or not theirs.
fn bad_groups(storage: &Arc<dyn Storage>, found: &Found) -> Result<Vec<GroupRow>> {
    let mut bad = Vec::new();
    for row in &found.slot.groups {
        match offsets::survey(storage, found.queue, row) {
            Ok(_) => {}
            Err(Error::Damaged { .. } | Error::Refused { .. }) => bad.push(row.clone()),
            Err(other) => return Err(other),
        }
    }
    Ok(bad)
}

fn set_group_aside(storage: &Arc<dyn Storage>, row: &GroupRow, done: &mut Repaired) -> Result<()> {
    for which in [0, 1] {
        let name = names::half(&row.name, which);
        let failed = |error| Error::io("read", storage.root().join(&name), error);
        let file = match storage.open(&name, Access::Read) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            opened => opened.map_err(failed)?,
        };
        let source = SetAside { source: &file, position: 0, length: file.len().map_err(failed)? };
        let note = |kept| {
            format!("half {which} of the group {}, {kept} bytes, as it was when that was refused", row.name)
        };
        let kept = source.keep(&**storage, |sum| names::bad_half(&row.name, which, sum), note);
        done.set_aside.push(storage.root().join(kept.map_err(|error| quarantine(storage, error))?));
    }
    Ok(())
}

/// Makes a group's files anew, with the newest snapshot that can be read and the entries behind it up to the first
/// that cannot; without one it begins where the log does.
fn remake(storage: &Arc<dyn Storage>, clock: &dyn Clock, found: &Found, row: &GroupRow) -> Result<()> {
    let mut generation = row.generation;
    let mut best: Option<(u64, Snapshot, Vec<Entry>)> = None;
    for which in [0, 1] {
        let parts = match parts(&**storage, found.queue, row, which) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            parts => parts?,
        };
        generation = generation.max(parts.generation());
        let newer = best.as_ref().is_none_or(|(there, ..)| *there < parts.generation());
        if let Ok(Some(snapshot)) = &parts.snapshot
            && newer
        {
            best = Some((parts.generation(), snapshot.clone(), leading(&parts)));
        }
    }
    let snapshot = match best {
        Some((_, snapshot, entries)) => {
            let now = Now { mono: clock.now(), wall: clock.wall() };
            State::recover(&snapshot, &entries, now).to_snapshot()
        }
        None => {
            let (floor, passed) =
                found.slot.segments.first().map_or((0, 0), |first| (first.base, first.messages_before));
            let reading = Reading { floor, head: floor, passed, ..Reading::default() };
            Snapshot { reading, policy: DEFAULT_POLICY, ..Snapshot::default() }
        }
    };
    offsets::remake(&**storage, found.queue, row, clock.wall(), generation.saturating_add(1), &snapshot)
}

/// Returns the entries of a half up to the first that does not count.
fn leading(parts: &Parts) -> Vec<Entry> {
    let Ok((header, ..)) = &parts.page else { return Vec::new() };
    let Fields::Half { entries, .. } = header.fields else { return Vec::new() };
    let mut position = entries;
    let mut leading = Vec::new();
    for slot in &parts.slots {
        match &slot.entry {
            Some(entry) if slot.position == position => leading.push(entry.clone()),
            _ => break,
        }
        position += slot.bytes;
    }
    leading
}
