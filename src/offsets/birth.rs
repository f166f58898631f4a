//! How does a group's offset file come to be, and how does it go?

use std::io::ErrorKind;
use std::sync::Arc;

use super::halves::{Half, random_salt};
use super::shape::{Owner, Shape, entries_at, length_for};
use crate::error::{Error, Result};
use crate::format::names;
use crate::format::snapshot::{Snapshot, pack};
use crate::plant::{Plant, planted};
use crate::storage::Storage;

/// The generation that a group is born with; the other half is older, and says so.
const FIRST: u64 = 1;

/// Makes a new group's folder and both halves, durably and at full length. What an earlier attempt
/// left there goes first. The group exists when the manifest names it, not before.
///
/// # Errors
/// When it fails, what was made is a leftover, which the next attempt or opening removes.
pub(crate) fn create(
    storage: &Arc<dyn Storage>,
    queue: u128,
    name: &str,
    incarnation: u64,
    now_wall: u64,
    snapshot: &Snapshot,
) -> Result<()> {
    let owner = Owner { queue, name: name.to_owned(), incarnation };
    let made = make(&**storage, &owner, now_wall, snapshot);
    if made.as_ref().is_err_and(Error::is_full) {
        // Somebody needs that room. If this fails too, the leftover is swept later.
        let _ = remove(storage, name);
    }
    made
}

fn make(storage: &dyn Storage, owner: &Owner, now_wall: u64, snapshot: &Snapshot) -> Result<()> {
    let folder = names::group(&owner.name);
    let path = storage.root().join(&folder);
    match storage.make_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => remove_halves(storage, &owner.name)?,
        other => other.map_err(|error| Error::io("make the folder", &path, error))?,
    }
    let bytes = snapshot.encode();
    let length = length_for(bytes.len() as u64, 0);
    let entries = entries_at(bytes.len() as u64);
    let shape = Shape { generation: FIRST, snapshot: bytes.len() as u64, entries, length };
    let salt = random_salt(storage, &[])?;
    let header = owner.header(salt, now_wall, shape);
    Half::create(storage, owner, 0, header)?.furnish(&pack(salt, &bytes), None)?;

    let header = owner.header(random_salt(storage, &[salt])?, now_wall, Shape::empty(length));
    Half::create(storage, owner, 1, header)?.furnish(&[], Some(FIRST))?;

    if planted(Plant::NoFolderSyncAtGroupBirth) {
        return Ok(());
    }
    storage.sync_dir(&folder).map_err(|error| Error::io("sync the folder", &path, error))?;
    // The folder's own name, too, or a crash takes the files along with it.
    let groups = storage.root().join(names::GROUPS);
    storage.sync_dir(names::GROUPS).map_err(|error| Error::io("sync the folder", groups, error))
}

/// Removes a group's files and folder, once the manifest does not name it any more. Says nothing of
/// those that are gone already, and leaves a folder in which strangers have put something.
pub(crate) fn remove(storage: &Arc<dyn Storage>, name: &str) -> Result<()> {
    remove_halves(&**storage, name)?;
    let folder = names::group(name);
    match storage.remove_dir(&folder) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            Err(Error::io("remove the folder", storage.root().join(folder), error))
        }
        _ => Ok(()),
    }
}

fn remove_halves(storage: &dyn Storage, name: &str) -> Result<()> {
    for which in 0..2 {
        let half = names::half(name, which);
        match storage.remove(&half) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("remove", storage.root().join(half), error));
            }
            _ => {}
        }
    }
    Ok(())
}
