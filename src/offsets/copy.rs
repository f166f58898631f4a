//! How does a group come into a copy of its queue?
//!
//! As one snapshot, in the half that the copy's manifest does not name: the one that it names stays as it is until the
//! next manifest takes its place.

use std::io::ErrorKind;
use std::sync::Arc;

use super::birth::make;
use super::halves::{Half, random_salt};
use super::parts::parts;
use super::shape::{Owner, Shape, entries_at, length_for};
use crate::error::{Error, Result};
use crate::format::header::{BACKUP, Features, Header};
use crate::format::manifest::GroupRow;
use crate::format::names;
use crate::format::snapshot::{Snapshot, pack};
use crate::storage::Storage;

/// Writes the snapshot of a group, durably, and returns its generation; `named` is what the copy's manifest says of the
/// same group now.
///
/// # Errors
/// When the disk refuses: what the manifest names is as it was.
pub(crate) fn copy(
    storage: &Arc<dyn Storage>,
    queue: u128,
    (row, named): (&GroupRow, Option<&GroupRow>),
    now_wall: u64,
    snapshot: &Snapshot,
) -> Result<u64> {
    // A queue refuses them: what they count is not what its own files count.
    let features = Features { writing: BACKUP, ..Features::default() };
    let owner = Owner::of(queue, row);
    let half = named.and_then(|named| {
        let holds = |&half: &usize| {
            parts(&**storage, queue, named, half).is_ok_and(|parts| parts.generation() == named.generation)
        };
        Some(([0, 1].into_iter().find(holds)?, named.generation))
    });
    let Some((holds, before)) = half else {
        make(&**storage, &owner, now_wall, snapshot, features)?;
        return Ok(1);
    };
    let (other, generation) = (1 - holds, before + 1);
    let name = names::half(&row.name, other);
    match storage.remove(&name) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Error::io("remove", storage.root().join(name), error));
        }
        _ => {}
    }
    let bytes = snapshot.encode();
    let (length, entries) = (length_for(bytes.len() as u64, 0), entries_at(bytes.len() as u64));
    let shape = Shape { generation, snapshot: bytes.len() as u64, entries, length };
    let salt = random_salt(&**storage, &[])?;
    let header = Header { features, ..owner.header(salt, now_wall, shape) };
    Half::create(&**storage, &owner, other, header)?.furnish(&pack(salt, &bytes), None)?;
    let folder = names::group(&row.name);
    storage
        .sync_dir(&folder)
        .map_err(|error| Error::io("sync the folder", storage.root().join(folder), error))?;
    Ok(generation)
}
