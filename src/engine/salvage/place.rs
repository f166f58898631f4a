//! Where does the new queue come to be, and what of an attempt that was cut short?
//!
//! A file says from the first to the last step that all this is in the making: so a next attempt may clear what the
//! one before has left, and nobody's queue is ever taken for that.

use std::io::ErrorKind;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::names;
use crate::offsets;
use crate::storage::{Kind, Lock, Storage};

/// Makes the folder, takes its lock, and clears what an attempt has left.
///
/// # Errors
/// [`Error::NotAQueue`] where anything else lies, [`Error::Refused`] where a queue does, [`Error::Locked`].
pub(super) fn begin(storage: &Arc<dyn Storage>) -> Result<Box<dyn Lock>> {
    let root = storage.root();
    storage.make_root().map_err(|error| match error.kind() {
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            Error::NotAQueue { path: root.to_path_buf(), found: "it is a file, not a folder".into() }
        }
        _ => Error::io("make the folder", root, error),
    })?;
    check(storage)?;
    let locked = storage.lock(names::LOCK).map_err(|error| Error::io("lock", root, error))?;
    let Some(lock) = locked else {
        return Err(Error::Locked { path: root.to_path_buf(), note: String::new() });
    };
    // Somebody else may have been faster.
    let begun = check(storage)?;
    if !begun {
        let file = storage.create_new(names::SALVAGING);
        let file = file.map_err(|error| Error::io("create", root.join(names::SALVAGING), error))?;
        file.sync().map_err(|error| Error::io("sync", root.join(names::SALVAGING), error))?;
    }
    // Before anything is there that only this file tells from a queue without a manifest.
    storage.sync_dir("").map_err(|error| Error::io("sync the folder", root, error))?;
    clear(storage)?;
    for folder in [names::LOG, names::GROUPS] {
        match storage.make_dir(folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other.map_err(|error| Error::io("make the folder", root.join(folder), error))?,
        }
    }
    Ok(lock)
}

/// Tells whether an attempt was begun here; refuses where something else is.
fn check(storage: &Arc<dyn Storage>) -> Result<bool> {
    let root = storage.root();
    let there = storage.list("").map_err(|error| Error::io("list", root, error))?;
    if there.iter().any(|entry| entry.name == names::MANIFEST) {
        let problem =
            "is there: what is salvaged goes into a folder of its own, an empty or a new one".into();
        return Err(Error::Refused { path: root.join(names::MANIFEST), problem });
    }
    let begun = there.iter().any(|entry| entry.name == names::SALVAGING && entry.kind == Kind::File);
    let ours = |kind: Kind, name: &str| match kind {
        Kind::File => name == names::LOCK || begun && [names::SALVAGING, names::MANIFEST_NEW].contains(&name),
        Kind::Folder => begun && [names::LOG, names::GROUPS].contains(&name),
        Kind::Other => false,
    };
    match there.iter().find(|entry| !ours(entry.kind, &entry.name)) {
        None => Ok(begun),
        Some(stranger) => Err(Error::NotAQueue {
            path: root.to_path_buf(),
            found: format!(
                "the folder is not empty ({:?} is there), so no queue is made in it; give an empty or new one",
                stranger.name
            ),
        }),
    }
}

fn clear(storage: &Arc<dyn Storage>) -> Result<()> {
    let root = storage.root();
    let list = |folder: &str| match storage.list(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|error| Error::io("list", root.join(folder), error)),
    };
    let mut files = vec![names::MANIFEST_NEW.to_owned()];
    files.extend(
        list(names::LOG)?.iter().filter_map(|entry| names::parse_segment(&entry.name).map(names::segment)),
    );
    for name in files {
        match storage.remove(&name) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("clear the way for", root.join(name), error));
            }
            _ => {}
        }
    }
    for entry in list(names::GROUPS)?.iter().filter(|entry| names::is_group(&entry.name)) {
        offsets::remove(storage, &entry.name)?;
    }
    Ok(())
}

/// Says that the queue is whole. Should it fail, the next opening does it.
pub(super) fn end(storage: &Arc<dyn Storage>) {
    let _ = storage.remove(names::SALVAGING);
}
