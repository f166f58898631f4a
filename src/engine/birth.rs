//! How does a queue come into being?
//!
//! 1. the folder, `log` and `groups`, and the lock
//! 2. the first segment: headed, filled, synced, its name synced
//! 3. the folder's names synced
//! 4. the manifest: temporary name, synced, renamed, folder and parent synced
//!
//! Until 4 there is no queue, and a next attempt begins anew. Never where anything else lies.

use std::io::ErrorKind;
use std::sync::Arc;

use super::limits;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::keep::Limits;
use crate::format::manifest::{LogMark, SegmentRow, Slot};
use crate::format::{PAGE_POSITION, names};
use crate::log::make;
use crate::manifest::Manifest;
use crate::options::{FIRST_SEGMENT, Settings};
use crate::plant::{Plant, unless};
use crate::storage::{Entry, Kind, Storage};

/// Makes the folder and takes nothing that is there for its own.
///
/// # Errors
/// [`Error::NotAQueue`] where something else lies, [`Error::Io`].
pub(super) fn prepare(storage: &Arc<dyn Storage>) -> Result<()> {
    let root = storage.root();
    storage.make_root().map_err(|error| match error.kind() {
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            Error::NotAQueue { path: root.to_path_buf(), found: "it is a file, not a folder".into() }
        }
        _ => Error::io("make the folder", root, error),
    })?;
    let there = storage.list("").map_err(|error| Error::io("list", root, error))?;
    if there.iter().any(|entry| entry.name == names::MANIFEST) {
        // Somebody else has made it just now.
        return Ok(());
    }
    if let Some(stranger) = there.iter().find(|entry| !is_ours(entry)) {
        return Err(Error::NotAQueue {
            path: root.to_path_buf(),
            found: format!(
                "the folder is not empty ({:?} is there), so no queue is made in it; give an empty or new one",
                stranger.name
            ),
        });
    }
    for folder in [names::LOG, names::GROUPS] {
        let entries = match storage.list(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(|error| Error::io("list", root.join(folder), error))?,
        };
        check_leftovers(storage, folder, &entries)?;
    }
    Ok(())
}

/// Makes the queue; the lock is held.
///
/// # Errors
/// When the disk refuses: there is no queue then, and a later attempt begins anew.
pub(super) fn create(storage: &Arc<dyn Storage>, clock: &dyn Clock, settings: &Settings) -> Result<()> {
    let root = storage.root().to_path_buf();
    for folder in [names::LOG, names::GROUPS] {
        match storage.make_dir(folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other.map_err(|error| Error::io("make the folder", root.join(folder), error))?,
        }
    }
    for name in [&names::segment(1)[..], names::MANIFEST_NEW] {
        // What an attempt that was cut short has left.
        match storage.remove(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other.map_err(|error| Error::io("clear the way for", root.join(name), error))?,
        }
    }
    let draw = || storage.random().map_err(|error| Error::io("draw a queue id for", &root, error));
    let queue = u128::from(draw()?) << 64 | u128::from(draw()?);
    let now = clock.wall();
    let limits = limits::changed(Limits::default(), &settings.limits);
    let capacity = FIRST_SEGMENT.min(limits::fitted(settings.segment_bytes, &limits));
    let mut first = make::begin(&**storage, queue, 1, capacity, now)?;
    first.fill(&**storage, capacity)?;
    first.finish(&**storage)?;
    unless(Plant::NoFolderSyncAtBirth, || storage.sync_dir(""))
        .map_err(|error| Error::io("sync the folder", &root, error))?;
    let row = SegmentRow { number: 1, salt: first.salt, ..SegmentRow::default() };
    let log = LogMark { segment: 1, position: PAGE_POSITION, closed: true, ..LogMark::default() };
    let slot = Slot { sequence: 1, log, numbers: 2, segments: vec![row], ..Slot::default() };
    Manifest::create(storage, queue, now, slot)
}

/// Tells whether a birth that was cut short can have left this.
fn is_ours(entry: &Entry) -> bool {
    match entry.kind {
        Kind::Folder => [names::LOG, names::GROUPS].contains(&&entry.name[..]),
        Kind::File => [names::LOCK, names::MANIFEST_NEW].contains(&&entry.name[..]),
        Kind::Other => false,
    }
}

/// Refuses where a queue's files lie without their manifest: a new one would bury them.
fn check_leftovers(storage: &Arc<dyn Storage>, folder: &str, entries: &[Entry]) -> Result<()> {
    let allowed = |entry: &Entry| {
        folder == names::LOG && entry.kind == Kind::File && names::parse_segment(&entry.name) == Some(1)
    };
    for entry in entries {
        if !allowed(entry) || holds_batches(storage)? {
            return Err(Error::NotAQueue {
                path: storage.root().to_path_buf(),
                found: format!(
                    "there is {folder}/{}, but no MANIFEST: it is missing; put it back, or see docs/RECOVERY.md",
                    entry.name
                ),
            });
        }
    }
    Ok(())
}

/// Tells whether segment 1 was ever written to.
fn holds_batches(storage: &Arc<dyn Storage>) -> Result<bool> {
    let name = names::segment(1);
    let failed = |error| Error::io("read", storage.root().join(&name), error);
    let file = storage.open(&name, crate::storage::Access::Read).map_err(failed)?;
    let mut first = [0; 32];
    let got = crate::storage::read_up_to(&*file, &mut first, PAGE_POSITION).map_err(failed)?;
    Ok(!crate::format::is_zero(&first[..got]))
}
