//! How does somebody mend a queue, and look at what was set aside?

use std::path::Path;
use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::engine::repair::{self, RepairPlan, Repaired};
use crate::error::{Error, Result};
use crate::format::names;
use crate::inspect::Progress;
use crate::log::evidence;
use crate::manifest;
use crate::storage::disk::Disk;
use crate::storage::{Access, Kind, Storage};

/// Says what [`repair`] would do: without the lock, without a write, also while the queue is open elsewhere.
///
/// `progress` is told how far it has come.
///
/// # Errors
/// As [`verify`](crate::verify); [`Error::Refused`] where no repair can go by what is there: the manifest cannot be
/// read, or does not name a segment that holds messages.
pub fn plan_repair(folder: impl AsRef<Path>, progress: &mut dyn FnMut(Progress)) -> Result<RepairPlan> {
    let storage: Arc<dyn Storage> = Arc::new(Disk::new(folder.as_ref()));
    repair::plan(&storage, &SystemClock::new(), progress)
}

/// Mends a queue: whatever can be read of it is delivered afterwards, and what cannot is a dead letter in each group
/// that had not done it. Nothing is thrown away: what is taken out of the queue is kept in its folder `quarantine`.
///
/// It works on a copy of nothing: the folder itself is mended. Cut short anywhere, it can be done again, and ends the
/// same. Unless `allow_loss`, it does only what gives up nothing that was promised.
///
/// # Errors
/// [`Error::Locked`] where the queue is open elsewhere. [`Error::WouldLose`] if something would be given up and that
/// is not allowed; as [`plan_repair`]; [`Error::Version`]: nothing was changed. [`Error::Full`], [`Error::Io`]: what
/// was mended by then stays so.
pub fn repair(
    folder: impl AsRef<Path>,
    allow_loss: bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Repaired> {
    let storage: Arc<dyn Storage> = Arc::new(Disk::new(folder.as_ref()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    repair::repair(&storage, &clock, allow_loss, progress)
}

/// A file in the quarantine of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quarantined {
    /// Its name in the folder `quarantine`.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// What the list says of it; empty if that says nothing.
    pub what: String,
}

/// Lists what opening and repairs have set aside, by name. Changes nothing.
///
/// # Errors
/// [`Error::NotAQueue`], [`Error::Io`].
pub fn quarantine(folder: impl AsRef<Path>) -> Result<Vec<Quarantined>> {
    let storage = Disk::new(folder.as_ref());
    let path = || storage.root().join(names::QUARANTINE);
    let entries = match storage.list(names::QUARANTINE) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let storage: Arc<dyn Storage> = Arc::new(storage);
            return match manifest::look(&storage) {
                Err(error @ Error::NotAQueue { .. }) => Err(error),
                // Whatever is wrong with it, nothing was set aside.
                _ => Ok(Vec::new()),
            };
        }
        listed => listed.map_err(|error| Error::io("list", path(), error))?,
    };
    let list = evidence::list(&storage).map_err(|error| Error::io("read the list in", path(), error))?;
    let lists = [names::LIST, names::LIST_NEW];
    let mut found = Vec::new();
    for entry in entries.into_iter().filter(|entry| entry.kind == Kind::File) {
        let name = format!("{}/{}", names::QUARANTINE, entry.name);
        if lists.contains(&&name[..]) {
            continue;
        }
        let length = storage.open(&name, Access::Read).and_then(|file| file.len());
        let bytes = length.map_err(|error| Error::io("look at", storage.root().join(&name), error))?;
        let line = list.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(": "));
        found.push(Quarantined { name: entry.name, bytes, what: line.unwrap_or_default().to_owned() });
    }
    found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}
