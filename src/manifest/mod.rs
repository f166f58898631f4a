//! What belongs to the queue, and how does that change in one step?
//!
//! Every change of the set (a roll, a group's birth and end, how far the log was known durable) is
//! one write of the next slot, in place, both copies, and one sync. Slots are written under one
//! lock, held over the write: a second change must build on the first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::format::header::{self, Features, Fields, FileKind, Header};
use crate::format::manifest::{Slot, position};
use crate::format::{PAGE, PAGE_POSITION, names};
use crate::plant::{Plant, once, planted, unless};
use crate::storage::{Access, File, Storage, write_all_at};

mod load;

pub(crate) use load::{Found, load, look};

/// Bytes of one copy of a slot in a new manifest.
const FIRST_SLOT: u64 = 4096;

/// The open manifest.
#[derive(Debug)]
pub(crate) struct Manifest {
    storage: Arc<dyn Storage>,
    /// The identity of the queue.
    pub(crate) queue: u128,
    /// Milliseconds since 1970.
    created: u64,
    state: Mutex<State>,
    /// The slot that holds. The lock above is held over a write: who only looks does not wait for the disk.
    shown: Mutex<Arc<Slot>>,
}

#[derive(Debug)]
struct State {
    file: Arc<dyn File>,
    slot_bytes: u64,
    slot: Slot,
    /// The failure after which nothing is written any more.
    poisoned: Option<Error>,
}

impl Manifest {
    /// Writes the manifest of a new queue: the last step of its birth.
    ///
    /// # Errors
    /// When the disk refuses; the queue is then not born.
    pub(crate) fn create(storage: &Arc<dyn Storage>, queue: u128, created: u64, slot: Slot) -> Result<()> {
        let mut slot_bytes = FIRST_SLOT;
        // What was salvaged begins with many segments and groups.
        while slot.encode(queue, slot_bytes).is_none() {
            slot_bytes *= 2;
        }
        let (file, _) = write_new(storage, queue, created, &slot, slot_bytes)?;
        drop(file);
        storage
            .rename(names::MANIFEST_NEW, names::MANIFEST)
            .and_then(|()| storage.sync_dir(""))
            .and_then(|()| unless(Plant::NoParentSyncAtBirth, || storage.sync_parent()))
            .map_err(|error| Error::io("name the manifest", storage.root().join(names::MANIFEST), error))
    }

    /// Returns the slot that holds.
    pub(crate) fn slot(&self) -> Slot {
        Slot::clone(&self.shown())
    }

    /// Looks at the slot that holds.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Slot) -> T) -> T {
        look(&self.shown())
    }

    fn shown(&self) -> Arc<Slot> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells whether the slot can still be changed. Who makes files for the next slot to name asks
    /// before: after a failure the slot on the disk may name others of the same name.
    ///
    /// # Errors
    /// The failure after which nothing is written any more.
    pub(crate) fn check(&self) -> Result<()> {
        self.lock().poisoned.clone().map_or(Ok(()), Err)
    }

    /// Changes the slot and makes it durable before it returns.
    ///
    /// # Errors
    /// [`Error::Full`] when the manifest had to grow and could not: nothing changed. Any other
    /// failure poisons: it is not known which slot holds, and the next opening finds out.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Slot)) -> Result<()> {
        let mut state = self.lock();
        if let Some(poison) = &state.poisoned {
            return Err(poison.clone());
        }
        let mut slot = state.slot.clone();
        change(&mut slot);
        slot.sequence += 1;
        slot.numbers = slot.segments.iter().map(|row| row.number + 1).fold(slot.numbers, u64::max);
        let written = match slot.encode(self.queue, state.slot_bytes) {
            Some(bytes) => self.write_in_place(&state, &slot, &bytes),
            None => self.grow(&mut state, &slot),
        };
        match written {
            Ok(()) => {
                state.slot = slot.clone();
                *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(slot);
            }
            Err(Failure::NothingChanged(error)) => return Err(error),
            Err(Failure::Final(error)) => {
                let path = self.storage.root().join(names::MANIFEST);
                let poison = Error::Poisoned { path, cause: error.to_string() };
                state.poisoned = Some(poison.clone());
                return Err(poison);
            }
        }
        Ok(())
    }

    fn write_in_place(&self, state: &State, slot: &Slot, bytes: &[u8]) -> Result<(), Failure> {
        let copies = if planted(Plant::OneCopy) { &bytes[..bytes.len() / 2] } else { bytes };
        let sync = || match is_left_unsynced(&state.slot, slot) {
            true => Ok(()),
            false => once(Plant::SecondSlotSyncTrusted, || state.file.sync()),
        };
        write_all_at(&*state.file, copies, position(slot.sequence, 0, state.slot_bytes))
            .and_then(|()| sync())
            .map_err(|error| Failure::Final(self.error("write", error)))
    }

    /// Writes a larger manifest beside the old one and renames it into place. Until the rename
    /// nothing has changed; from then on it is not known what a crash would leave.
    fn grow(&self, state: &mut State, slot: &Slot) -> Result<(), Failure> {
        let mut slot_bytes = state.slot_bytes * 2;
        while slot.encode(self.queue, slot_bytes).is_none() {
            slot_bytes *= 2;
        }
        // What an earlier attempt left is ours alone: the manifest does not name it.
        match self.storage.remove(names::MANIFEST_NEW) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::NothingChanged(self.error("clear the way for", error)));
            }
            _ => {}
        }
        let (file, _) = write_new(&self.storage, self.queue, self.created, slot, slot_bytes)
            .map_err(Failure::NothingChanged)?;
        self.storage
            .rename(names::MANIFEST_NEW, names::MANIFEST)
            .and_then(|()| self.storage.sync_dir(""))
            .map_err(|error| Failure::Final(self.error("rename", error)))?;
        state.file = file;
        state.slot_bytes = slot_bytes;
        Ok(())
    }

    fn error(&self, doing: &'static str, error: std::io::Error) -> Error {
        Error::io(doing, self.storage.root().join(names::MANIFEST), error)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whether a test wants this change not to be synced.
fn is_left_unsynced(old: &Slot, new: &Slot) -> bool {
    planted(Plant::BatchBeforeSlot) && new.segments.len() > old.segments.len()
        || planted(Plant::ReserveUnsynced) && new.log.reserved > old.log.reserved && old.log.reserved > 0
}

/// Puts the manifest of a copy in place of the one that is there, if any.
///
/// # Errors
/// When the disk refuses; which of the two is there then is not known, and either is whole.
pub(crate) fn replace(
    storage: &Arc<dyn Storage>,
    queue: u128,
    created: u64,
    slot: &Slot,
    backup: bool,
) -> Result<()> {
    let error = |doing, error| Error::io(doing, storage.root().join(names::MANIFEST), error);
    match storage.remove(names::MANIFEST_NEW) {
        Err(failed) if failed.kind() != std::io::ErrorKind::NotFound => {
            return Err(error("clear the way for", failed));
        }
        _ => {}
    }
    let mut slot_bytes = FIRST_SLOT;
    while slot.encode(queue, slot_bytes).is_none() {
        slot_bytes *= 2;
    }
    let features = Features { writing: if backup { header::BACKUP } else { 0 }, ..Features::default() };
    write_new_with(storage, (queue, created, features), slot, slot_bytes)?;
    storage
        .rename(names::MANIFEST_NEW, names::MANIFEST)
        .and_then(|()| storage.sync_dir(""))
        .and_then(|()| storage.sync_parent())
        .map_err(|failed| error("name", failed))
}

/// How a change failed.
enum Failure {
    NothingChanged(Error),
    Final(Error),
}

/// Writes and syncs a whole manifest under its temporary name.
fn write_new(
    storage: &Arc<dyn Storage>,
    queue: u128,
    created: u64,
    slot: &Slot,
    slot_bytes: u64,
) -> Result<(Arc<dyn File>, u64)> {
    write_new_with(storage, (queue, created, Features::default()), slot, slot_bytes)
}

fn write_new_with(
    storage: &Arc<dyn Storage>,
    (queue, created, features): (u128, u64, Features),
    slot: &Slot,
    slot_bytes: u64,
) -> Result<(Arc<dyn File>, u64)> {
    let path = || storage.root().join(names::MANIFEST_NEW);
    let fields = Fields::Manifest { slot: slot_bytes };
    let header = Header { queue, salt: 0, created, features, fields };
    let mut bytes = header.encode();
    let slots = slot.encode(queue, slot_bytes).ok_or_else(|| Error::Invalid {
        what: "a new queue's manifest does not fit its first slot".into(),
    })?;
    let at = usize::try_from(position(slot.sequence, 0, slot_bytes)).unwrap_or(PAGE);
    bytes.resize(at, 0);
    bytes.extend_from_slice(&slots);
    let full = PAGE_POSITION + 4 * slot_bytes;
    bytes.resize(usize::try_from(full).unwrap_or(bytes.len()), 0);
    let file = storage.create_new(names::MANIFEST_NEW).map_err(|error| Error::io("create", path(), error))?;
    write_all_at(&*file, &bytes, 0)
        .and_then(|()| unless(Plant::RenamedBeforeSync, || file.sync()))
        .map_err(|error| Error::io("write", path(), error))?;
    Ok((file, slot_bytes))
}
