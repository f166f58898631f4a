//! What lies in the two halves of a group, part by part? For those who look, whatever state they are in.

use std::path::PathBuf;

use super::shape::{Owner, Shape, in_memory};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, SLOT, SLOT_BYTES};
use crate::format::header::{self, FileKind, Header};
use crate::format::manifest::GroupRow;
use crate::format::snapshot::{Snapshot, unpack};
use crate::format::{PAGE_POSITION, is_zero, names};
use crate::storage::{Access, File, Storage, read_up_to};

/// A half, as far as it can be read.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) path: PathBuf,
    /// Bytes of the file.
    pub(crate) length: u64,
    /// Header, whether one of its copies is bad, and the generation that supersedes the half; or what is wrong.
    pub(crate) page: std::result::Result<(Header, bool, Option<u64>), String>,
    /// What the snapshot says, or what is wrong; a half that was never used has none.
    pub(crate) snapshot: std::result::Result<Option<Snapshot>, String>,
    /// From the first to the last of what is not zero.
    pub(crate) slots: Vec<Slot>,
}

/// What lies at a position of a half.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) position: u64,
    pub(crate) bytes: u64,
    /// `None`: nothing that counts there: gone bad, or, behind the last entry, left from an earlier use.
    pub(crate) entry: Option<Entry>,
}

impl Parts {
    /// Returns which generation the half is of; 0 if that cannot be told.
    pub(crate) fn generation(&self) -> u64 {
        self.page.as_ref().map_or(0, |(header, ..)| header.generation())
    }

    /// Goes through the entries that count.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref())
    }
}

/// Reads one half of a group that the manifest names.
///
/// # Errors
/// When it is missing, or the disk refuses.
pub(crate) fn parts(storage: &dyn Storage, queue: u128, row: &GroupRow, half: usize) -> Result<Parts> {
    let name = names::half(&row.name, half);
    let path = storage.root().join(&name);
    let failed = |error| Error::io("read", &path, error);
    let file = storage.open(&name, Access::Read).map_err(failed)?;
    let length = file.len().map_err(failed)?;
    let page = read(&*file, &path, 0, PAGE_POSITION.min(length))?;
    let owner = Owner::of(queue, row);
    let page = match header::decode(FileKind::Half, &page) {
        Err(problem) => Err(problem.to_string()),
        Ok(page) => match owner.foreign(&page.header) {
            Some(problem) => Err(problem),
            None => Ok((page.header, page.wounded, page.superseded)),
        },
    };
    let mut parts =
        Parts { path, length, page, snapshot: Err("its header page is bad".into()), slots: vec![] };
    let Some((salt, shape)) = parts.shape() else { return Ok(parts) };
    if (shape.generation, shape.snapshot) == (0, 0) {
        parts.snapshot = Ok(None);
        return Ok(parts);
    }
    let Some(packed) = shape.packed(length) else {
        parts.snapshot = Err("the lengths in its header do not fit the file".into());
        return Ok(parts);
    };
    let sectors = read(&*file, &parts.path, PAGE_POSITION, packed)?;
    parts.snapshot = match unpack(salt, &sectors, in_memory(shape.snapshot)?) {
        None => Err("the snapshot does not pass its checksums".into()),
        Some(bytes) => Snapshot::decode(&bytes).map(Some).map_err(|problem| problem.to_string()),
    };
    let bytes = read(&*file, &parts.path, shape.entries, shape.length - shape.entries)?;
    parts.slots = slots(&bytes, salt, shape.entries);
    Ok(parts)
}

impl Parts {
    fn shape(&self) -> Option<(u32, Shape)> {
        let (header, ..) = self.page.as_ref().ok()?;
        Some((header.salt, Shape::of(header)?))
    }
}

fn read(file: &dyn File, path: &std::path::Path, position: u64, length: u64) -> Result<Vec<u8>> {
    let length = in_memory(length)?;
    let mut bytes = Vec::new();
    // A length that fits into a sparse file need not fit into memory.
    let reserved = bytes.try_reserve_exact(length);
    reserved.map_err(|_| Error::io("read", path, std::io::ErrorKind::OutOfMemory.into()))?;
    bytes.resize(length, 0);
    let got = read_up_to(file, &mut bytes, position).map_err(|error| Error::io("read", path, error))?;
    bytes.truncate(got);
    Ok(bytes)
}

fn slots(bytes: &[u8], salt: u32, start: u64) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::new();
    let mut at = 0;
    while let Some(first) = bytes.get(at..at + SLOT) {
        let position = start + at as u64;
        if let Some((entry, length)) = Entry::decode(&bytes[at..], salt, position) {
            slots.push(Slot { position, bytes: length as u64, entry: Some(entry) });
            at += length;
            continue;
        }
        at += SLOT;
        if is_zero(first) {
            continue;
        }
        match slots.last_mut() {
            Some(last) if last.entry.is_none() && last.position + last.bytes == position => {
                last.bytes += SLOT_BYTES;
            }
            _ => slots.push(Slot { position, bytes: SLOT_BYTES, entry: None }),
        }
    }
    slots
}
