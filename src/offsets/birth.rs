//! How does a group's offset file come to be, and how does it go?

use std::io::ErrorKind;
use std::sync::Arc;

use super::halves::{Half, random_salt};
use super::shape::{Owner, Shape, entries_at, length_for};
use crate::error::{Error, Result};
use crate::format::header::{Features, Header};
use crate::format::manifest::GroupRow;
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
    let made = make(&**storage, &owner, now_wall, snapshot, Features::default());
    if made.as_ref().is_err_and(Error::is_full) {
        // Somebody needs that room. If this fails too, the leftover is swept later.
        let _ = remove(storage, name);
    }
    made
}

pub(super) fn make(
    storage: &dyn Storage,
    owner: &Owner,
    now_wall: u64,
    snapshot: &Snapshot,
    features: Features,
) -> Result<()> {
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
    let header = Header { features, ..owner.header(salt, now_wall, shape) };
    Half::create(storage, owner, 0, header)?.furnish(&pack(salt, &bytes), None)?;

    let other = owner.header(random_salt(storage, &[salt])?, now_wall, Shape::empty(length));
    let header = Header { features, ..other };
    Half::create(storage, owner, 1, header)?.furnish(&[], Some(FIRST))?;

    if planted(Plant::NoFolderSyncAtGroupBirth) {
        return Ok(());
    }
    storage.sync_dir(&folder).map_err(|error| Error::io("sync the folder", &path, error))?;
    // The folder's own name, too, or a crash takes the files along with it.
    let groups = storage.root().join(names::GROUPS);
    storage.sync_dir(names::GROUPS).map_err(|error| Error::io("sync the folder", groups, error))
}

/// Makes both halves of a group anew that the manifest names and whose files have gone bad, under the names they
/// have. The first has the snapshot, and a generation that no file of the group had.
///
/// 1. the new half under a name of its own, synced
/// 2. it takes the name of the first, its folder synced: it holds
/// 3. the same for the second, which says that it is superseded
///
/// Stopped before 3, the group is refused as before, or holds what the first says; done again, it ends the same.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn remake(
    storage: &dyn Storage,
    queue: u128,
    row: &GroupRow,
    now_wall: u64,
    generation: u64,
    snapshot: &Snapshot,
) -> Result<()> {
    let owner = Owner::of(queue, row);
    let folder = names::group(&row.name);
    let failed = |doing, error| Error::io(doing, storage.root().join(&folder), error);
    match storage.make_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made
            .and_then(|()| storage.sync_dir(names::GROUPS))
            .map_err(|error| failed("make the folder", error))?,
    }
    let bytes = snapshot.encode();
    let (length, entries) = (length_for(bytes.len() as u64, 0), entries_at(bytes.len() as u64));
    let salt = random_salt(storage, &[])?;
    let shapes = [Shape { generation, snapshot: bytes.len() as u64, entries, length }, Shape::empty(length)];
    let salts = [salt, random_salt(storage, &[salt])?];
    // Both are made before the first takes its place: a lack of room changes nothing.
    let mut made = Ok(());
    for which in [0, 1] {
        let name = names::half_new(&row.name, which);
        let header = owner.header(salts[which], now_wall, shapes[which]);
        let packed = if which == 0 { pack(salt, &bytes) } else { Vec::new() };
        match storage.remove(&name) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                made = Err(failed("clear the way in", error))
            }
            _ => {}
        }
        made = made
            .and_then(|()| Half::create_as(storage, &name, header))
            .and_then(|mut half| half.furnish(&packed, (which == 1).then_some(generation)));
    }
    if let Err(error) = made {
        for which in [0, 1] {
            // No name of the group's: should this fail, the next repair removes it.
            let _ = storage.remove(&names::half_new(&row.name, which));
        }
        return Err(error);
    }
    for which in [0, 1] {
        storage
            .rename(&names::half_new(&row.name, which), &names::half(&row.name, which))
            .and_then(|()| storage.sync_dir(&folder))
            .map_err(|error| failed("name a half in", error))?;
    }
    Ok(())
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
