//! Which files does the manifest not name, and may they go?

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use super::recovery::Recovery;
use crate::error::{Error, Result};
use crate::format::header::{self, Fields, FileKind};
use crate::format::{COUNT_LIMIT, PAGE, PAGE_POSITION, is_zero, names};
use crate::log::scan::{self, Expected, Window};
use crate::manifest::Found;
use crate::offset::Offset;
use crate::offsets;
use crate::storage::{Access, Kind, Storage, read_up_to};

/// Files of ours that the manifest does not name.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    files: Vec<String>,
    groups: Vec<String>,
    /// The highest segment number that any file has.
    pub(super) highest: u64,
}

/// Lists what the manifest does not name, and refuses where that holds messages: then the slot that
/// named it has gone bad, and removing the file would lose them.
pub(super) fn leftovers(storage: &Arc<dyn Storage>, found: &Found) -> Result<Leftovers> {
    let mut left = Leftovers::default();
    let list = |folder: &str| match storage.list(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Error::Refused { path: storage.root().join(folder), problem: "is missing".into() })
        }
        other => other.map_err(|error| Error::io("list", storage.root().join(folder), error)),
    };
    let named: BTreeSet<u64> = found.slot.segments.iter().map(|row| row.number).collect();
    let active = found.slot.log.segment;
    let sealed = found.slot.segments.iter().filter(|row| row.length != 0).map(|row| row.number);
    let indexed: BTreeSet<u64> = sealed.chain(found.slot.kept.iter().map(|row| row.number)).collect();
    for entry in list(names::LOG)? {
        // Side files are made anew where they are missed; the active segment has none.
        let index = names::parse_index(&entry.name).filter(|&number| number < COUNT_LIMIT);
        if let Some(number) = index.filter(|number| entry.kind == Kind::File && !indexed.contains(number)) {
            left.files.push(names::index(number));
        }
        // No segment of ours ever had a number from there on: a stranger, left alone.
        let number = names::parse_segment(&entry.name).filter(|&number| number < COUNT_LIMIT);
        let Some(number) = number.filter(|_| entry.kind == Kind::File) else { continue };
        left.highest = left.highest.max(number);
        if named.contains(&number) {
            continue;
        }
        let name = names::segment(number);
        // Up to there the slot that holds knows of all; a copy of messages that no slot names yet, or any more,
        // is none without which something is missing: where it was lost, its sources are missed.
        if number > active && was_written(storage, found.queue, number)? {
            return Err(Error::Refused {
                path: storage.root().join(&name),
                problem: "holds messages, but the manifest does not name it: the manifest is damaged, or an older one was put back".into(),
            });
        }
        left.files.push(name);
    }
    let groups: BTreeSet<&str> = found.slot.groups.iter().map(|row| &row.name[..]).collect();
    for entry in list(names::GROUPS)? {
        if entry.kind == Kind::Folder && names::is_group(&entry.name) && !groups.contains(&entry.name[..]) {
            left.groups.push(entry.name);
        }
    }
    left.files.push(names::MANIFEST_NEW.into());
    left.files.push(names::LIST_NEW.into());
    left.files.push(names::SALVAGING.into());
    Ok(left)
}

/// Bytes behind the header page in which a first batch is looked for.
const LOOK: u64 = 64 << 10;

/// Tells whether a segment was written to under the header that it has now, and is no copy of others. What
/// follows may be old: of a file that had another number before.
fn was_written(storage: &Arc<dyn Storage>, queue: u128, number: u64) -> Result<bool> {
    let name = names::segment(number);
    let failed = |error| Error::io("read", storage.root().join(&name), error);
    let file = storage.open(&name, Access::Read).map_err(failed)?;
    let mut page = vec![0; PAGE];
    let got = read_up_to(&*file, &mut page, 0).map_err(failed)?;
    page.truncate(got);
    let fields = header::decode(FileKind::Segment, &page).ok().filter(|page| page.header.queue == queue);
    let salt = match fields.map(|page| (page.header.fields, page.header.salt)) {
        Some((Fields::Segment { number: own, rewritten: true, .. }, _)) if own == number => return Ok(false),
        Some((Fields::Segment { number: own, .. }, salt)) if own == number => salt,
        // Not made here under this name: anything in it may be somebody's.
        _ => {
            let mut first = [0; 32];
            let got = read_up_to(&*file, &mut first, PAGE_POSITION).map_err(failed)?;
            return Ok(!is_zero(&first[..got]));
        }
    };
    let mut window = Window::new(file);
    let any = Expected { salt, base: 0, reserved: Offset::LIMIT, limit: Offset::LIMIT };
    if scan::header(&mut window, PAGE_POSITION, &any).map_err(failed)?.is_some() {
        return Ok(true);
    }
    let near = Expected { limit: PAGE_POSITION + LOOK, ..any };
    Ok(scan::next_header(&mut window, PAGE_POSITION, &near).map_err(failed)?.is_some())
}

/// Removes leftovers. What cannot be removed now is tried again at the next opening.
pub(super) fn sweep(storage: &Arc<dyn Storage>, left: &Leftovers, report: &mut Recovery) {
    for name in &left.files {
        if storage.remove(name).is_ok() {
            report.swept.push(storage.root().join(name));
        }
    }
    for name in &left.groups {
        if offsets::remove(storage, name).is_ok() {
            report.swept.push(storage.root().join(names::group(name)));
        }
    }
}
