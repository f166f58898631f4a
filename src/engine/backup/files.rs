//! How do files come into a copy?

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use super::is_empty;
use crate::error::{Error, Result};
use crate::format::header::{self, FileKind};
use crate::format::manifest::{SegmentRow, Slot};
use crate::format::{PAGE, PAGE_POSITION, is_zero, names};
use crate::log;
use crate::log::scan::{self, Expected, Here, Window};
use crate::manifest::{self, Found};
use crate::offset::Offset;
use crate::offsets;
use crate::storage::{Access, File, Kind, Lock, Storage, ignore, read_up_to, write_all_at};

/// Bytes that are compared, or copied, at a time.
const BLOCK: usize = 256 << 10;

/// Makes the folder of a copy, or takes up one that is unfinished, or, as a backup, finished. Returns what its
/// manifest says, if it has one.
///
/// # Errors
/// [`Error::Refused`] where anything else lies.
pub(super) fn begin(
    storage: &Arc<dyn Storage>,
    queue: u128,
    backup: bool,
) -> Result<(Option<Found>, Box<dyn Lock>)> {
    // Looked at before anything is written there, and again once nobody else writes there.
    look_at(storage, queue, backup)?;
    let root = storage.root().to_path_buf();
    let lock = storage.lock(names::LOCK).map_err(|error| Error::io("lock", &root, error))?;
    let note = "another backup or restore writes it".into();
    let lock = lock.ok_or_else(|| Error::Locked { path: root.clone(), note })?;
    let found = look_at(storage, queue, backup)?;
    let made = |error| Error::io("begin a copy in", &root, error);
    if found.is_none() {
        ignore(storage.remove(names::UNFINISHED), ErrorKind::NotFound).map_err(made)?;
        let file = storage.create_new(names::UNFINISHED).map_err(made)?;
        write_all_at(&*file, text(queue).as_bytes(), 0).and_then(|()| file.sync()).map_err(made)?;
        storage.sync_dir("").and_then(|()| storage.sync_parent()).map_err(made)?;
    }
    for folder in [names::LOG, names::GROUPS] {
        ignore(storage.make_dir(folder), ErrorKind::AlreadyExists).map_err(made)?;
    }
    storage.sync_dir("").map_err(made)?;
    Ok((found, lock))
}

fn text(queue: u128) -> String {
    format!("unfinished copy of {queue:032x}\n")
}

/// Looks whether a folder can become, or is, such a copy.
fn look_at(storage: &Arc<dyn Storage>, queue: u128, backup: bool) -> Result<Option<Found>> {
    let root = storage.root().to_path_buf();
    storage.make_root().map_err(|error| Error::io("make the folder", &root, error))?;
    let refused = |problem: &str| Error::Refused { path: root.clone(), problem: problem.to_owned() };
    let text = text(queue);
    let found = match manifest::look(storage) {
        Err(Error::NotAQueue { .. }) => None,
        Err(error) => return Err(error),
        Ok(found) if !backup => {
            let what = if found.backup { "holds a backup" } else { "holds a queue" };
            return Err(refused(&format!("{what} already; give a folder that is new or empty")));
        }
        Ok(found) if !found.backup => {
            return Err(refused("holds a queue, not a backup; give a folder that is new or empty"));
        }
        Ok(found) if found.queue != queue => {
            return Err(refused("holds the backup of another queue; give a folder that is new or empty"));
        }
        Ok(found) => Some(found),
    };
    let unfinished = match storage.open(names::UNFINISHED, Access::Read) {
        Ok(file) => {
            let mut said = vec![0; text.len()];
            let got = read_up_to(&*file, &mut said, 0).unwrap_or(0);
            // Its own text may not have reached the disk: then nothing else has.
            said[..got] == text.as_bytes()[..] || got == 0 || said.iter().all(|&byte| byte == 0)
        }
        Err(_) => false,
    };
    if found.is_none() && !unfinished && !is_empty(storage)? {
        return Err(refused("is not empty; give a folder that is new or empty"));
    }
    Ok(found)
}

/// Copies a segment from one position to another, and its header: only what is not there yet. Of the active one the rest
/// becomes zeros. With `queue` it becomes one of that queue. Returns how many bytes were written.
pub(super) fn segment(
    from: &dyn Storage,
    to: &dyn Storage,
    (source, row): (u128, &SegmentRow),
    (first, end): (u64, u64),
    queue: Option<u128>,
    tell: &mut dyn FnMut(u64),
) -> Result<u64> {
    let name = names::segment(row.number);
    let read = |error| Error::io("read", from.root().join(&name), error);
    let written = |error| Error::io("write", to.root().join(&name), error);
    let checked = log::check(from, source, row, Access::Read)?;
    let copy = open(to, &name).map_err(written)?;
    let mut page = vec![0; PAGE];
    let got = read_up_to(&*checked.file, &mut page, 0).map_err(read)?;
    page.truncate(got);
    let decoded = header::decode(FileKind::Segment, &page)
        .map_err(|problem| Error::Refused { path: from.root().join(&name), problem: problem.to_string() })?;
    // Both copies of it are good in the copy.
    page = header::Header { queue: queue.unwrap_or(source), ..decoded.header }.encode();
    let mut bytes = 0;
    let mut there = vec![0; BLOCK];
    let mut block = page;
    let mut position = 0;
    loop {
        let old = &mut there[..block.len()];
        let got = read_up_to(&*copy, old, position).map_err(written)?;
        if old[..got] != block[..] {
            write_all_at(&*copy, &block, position).map_err(written)?;
            bytes += block.len() as u64;
        }
        position = (position + block.len() as u64).max(first.min(end));
        tell(position.min(end));
        if position >= end {
            break;
        }
        block.resize(usize::try_from(end - position).unwrap_or(BLOCK).min(BLOCK), 0);
        let got = read_up_to(&*checked.file, &mut block, position).map_err(read)?;
        if got < block.len() {
            return Err(read(ErrorKind::UnexpectedEof.into()));
        }
    }
    // It never gets shorter: the former manifest may name it as the active one, in its full length.
    let end = end.max(PAGE_POSITION);
    let length = copy.len().map_err(written)?;
    let wanted = if row.length == 0 { checked.capacity } else { end };
    if row.length == 0 && first == 0 {
        // What lies behind it is of a moment that the source has forgotten.
        clear(&*copy, end, length).map_err(written)?;
    }
    if length < wanted {
        let grown = if queue.is_some() { copy.allocate(wanted) } else { copy.set_len(wanted) };
        grown.map_err(written)?;
    }
    copy.sync().map_err(written)?;
    Ok(bytes)
}

/// Writes zeros where there is something else.
fn clear(file: &dyn File, mut position: u64, end: u64) -> std::io::Result<()> {
    let (mut block, zeros) = (vec![0; BLOCK], vec![0; BLOCK]);
    while position < end {
        let count = usize::try_from(end - position).unwrap_or(BLOCK).min(BLOCK);
        let got = read_up_to(file, &mut block[..count], position)?;
        if !is_zero(&block[..got]) {
            write_all_at(file, &zeros[..got], position)?;
        }
        position += count as u64;
    }
    Ok(())
}

/// Tells whether each batch of a segment passes its checksums, from a position on at which the offset `base` is the next.
pub(super) fn is_good(
    storage: &dyn Storage,
    queue: u128,
    row: &SegmentRow,
    (mut position, mut base): (u64, u64),
    end: u64,
) -> Result<bool> {
    let Ok(checked) = log::check(storage, queue, row, Access::Read) else { return Ok(false) };
    let mut window = Window::new(checked.file);
    while position < end {
        let expected = Expected { salt: row.salt, base, reserved: Offset::LIMIT, limit: end };
        let here = scan::look(&mut window, position, &expected);
        let path = storage.root().join(names::segment(row.number));
        let Here::Good(header) = scan::read_error(path, here)? else { return Ok(false) };
        (position, base) = (position + header.length(), header.end());
    }
    Ok(true)
}

/// Copies a file as it is, unless it is there already.
pub(super) fn whole(from: &dyn Storage, to: &dyn Storage, name: &str) -> Result<()> {
    let read = |error| Error::io("read", from.root().join(name), error);
    let written = |error| Error::io("write", to.root().join(name), error);
    let source = from.open(name, Access::Read).map_err(read)?;
    let length = source.len().map_err(read)?;
    let copy = open(to, name).map_err(written)?;
    let mut position = 0;
    let (mut block, mut there) = (vec![0; BLOCK], vec![0; BLOCK]);
    while position < length {
        let count = usize::try_from(length - position).unwrap_or(BLOCK).min(BLOCK);
        let got = read_up_to(&*source, &mut block[..count], position).map_err(read)?;
        let old = read_up_to(&*copy, &mut there[..count], position).map_err(written)?;
        if there[..old] != block[..got] {
            write_all_at(&*copy, &block[..got], position).map_err(written)?;
        }
        if got < count {
            break;
        }
        position += count as u64;
    }
    if copy.len().map_err(written)? != length {
        copy.set_len(length).map_err(written)?;
    }
    copy.sync().map_err(written)
}

/// Removes what a copy's slot does not name, and the file that says that it is unfinished.
pub(super) fn sweep(storage: &Arc<dyn Storage>, slot: &Slot) -> Result<()> {
    let root = storage.root().to_path_buf();
    let failed = |error| Error::io("sweep", &root, error);
    let segments: BTreeSet<u64> = slot.segments.iter().map(|row| row.number).collect();
    let kept: BTreeSet<u64> = slot.kept.iter().map(|row| row.number).collect();
    for entry in
        storage.list(names::LOG).map_err(failed)?.into_iter().filter(|entry| entry.kind == Kind::File)
    {
        let other = |number: Option<u64>, named: &BTreeSet<u64>| {
            number.is_some_and(|number| !named.contains(&number))
        };
        if other(names::parse_segment(&entry.name), &segments)
            || other(names::parse_index(&entry.name), &kept)
        {
            storage.remove(&format!("{}/{}", names::LOG, entry.name)).map_err(failed)?;
        }
    }
    for entry in
        storage.list(names::GROUPS).map_err(failed)?.into_iter().filter(|entry| entry.kind == Kind::Folder)
    {
        if names::is_group(&entry.name) && !slot.groups.iter().any(|group| group.name == entry.name) {
            offsets::remove(storage, &entry.name)?;
        }
    }
    ignore(storage.remove(names::UNFINISHED), ErrorKind::NotFound).map_err(failed)?;
    storage.sync_dir("").map_err(failed)
}

fn open(storage: &dyn Storage, name: &str) -> std::io::Result<Arc<dyn File>> {
    match storage.open(name, Access::Write) {
        Err(error) if error.kind() == ErrorKind::NotFound => storage.create_new(name),
        other => other,
    }
}
