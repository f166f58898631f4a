//! Which slot of a manifest on the disk holds?

use super::{Access, Arc, Error, Fields, FileKind, Manifest, Mutex, Result, Slot, State, Storage};
use super::{PAGE, PAGE_POSITION, header, names, position, write_all_at};
use crate::format::{Malformed, is_zero};
use crate::plant::{Plant, planted, unless};
use crate::storage::read_up_to;

/// The largest slot that is believed: sixteen million segments.
const MAX_SLOT: u64 = 1 << 30;

/// A manifest that was read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) queue: u128,
    /// Milliseconds since 1970.
    pub(crate) created: u64,
    pub(crate) slot: Slot,
    /// Something besides the good copy of the slot that holds was bad.
    pub(crate) wounded: bool,
    /// A copy of the slot that holds is an older one: its write was cut short between the two, or lost.
    pub(crate) behind: bool,
    /// The slot that does not hold is bad in both copies: a write that was cut short, or damage to
    /// the newer one.
    pub(crate) one_slot: bool,
    /// It is a copy, to be restored, and no queue to be opened.
    pub(crate) backup: bool,
    slot_bytes: u64,
    header: Vec<u8>,
}

/// Opens the manifest for the owner: what is read is on the disk, not only in the cache. Nothing is
/// changed yet: [`Manifest::make_good`] comes once nothing refuses any more, and before anything is
/// acted on.
///
/// # Errors
/// [`Error::NotAQueue`] where there is none, [`Error::Version`], [`Error::Refused`] when no slot has
/// a good copy, [`Error::Io`].
pub(crate) fn load(storage: &Arc<dyn Storage>) -> Result<(Manifest, Found)> {
    let path = || storage.root().join(names::MANIFEST);
    let file = storage.open(names::MANIFEST, Access::Write).map_err(|error| absent(storage, error))?;
    // A killed process may have left what only the cache knows, and a failed sync what the cache
    // alone shows: write, forget, and read what is really there.
    unless(Plant::CachedManifest, || file.sync().and_then(|()| file.drop_cache()))
        .map_err(|error| Error::io("sync", path(), error))?;
    let found = read(storage, &*file)?;
    if let Err(problem) = page_header(&found.header).and_then(|page| page.header.may_write()) {
        return Err(refuse(storage, problem));
    }
    let state = State { file, slot_bytes: found.slot_bytes, slot: found.slot.clone(), poisoned: None };
    let manifest = Manifest {
        storage: storage.clone(),
        queue: found.queue,
        created: found.created,
        state: Mutex::new(state),
        shown: Mutex::new(Arc::new(found.slot.clone())),
    };
    Ok((manifest, found))
}

impl Found {
    /// Returns where the copies of the slot that holds lie, and how many bytes each has.
    pub(crate) fn places(&self) -> [(u64, u64); 2] {
        [0, 1].map(|copy| (position(self.slot.sequence, copy, self.slot_bytes), self.slot_bytes))
    }
}

impl Manifest {
    /// Makes a second copy good that was bad or behind, durably. One that is behind would do as it is,
    /// until the newer one goes bad: then what was acted on would be forgotten for it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn make_good(&self, found: &Found) -> Result<()> {
        if !found.wounded && !found.behind || planted(Plant::CopyNotMadeGood) {
            return Ok(());
        }
        write_whole(&*self.lock().file, found).map_err(|error| self.error("mend", error))
    }
}

/// Reads the manifest and changes nothing.
///
/// # Errors
/// As [`load`].
pub(crate) fn look(storage: &Arc<dyn Storage>) -> Result<Found> {
    let file = storage.open(names::MANIFEST, Access::Read).map_err(|error| absent(storage, error))?;
    read(storage, &*file)
}

fn read(storage: &Arc<dyn Storage>, file: &dyn crate::storage::File) -> Result<Found> {
    let path = || storage.root().join(names::MANIFEST);
    let io = |error| Error::io("read", path(), error);
    let length = file.len().map_err(io)?;
    let mut head = vec![0; PAGE];
    let got = read_up_to(file, &mut head, 0).map_err(io)?;
    head.truncate(got);
    let page = page_header(&head).map_err(|problem| refuse(storage, problem))?;
    let Fields::Manifest { slot: slot_bytes } = page.header.fields else {
        return Err(refuse(storage, Malformed::Foreign("it is no manifest".into())));
    };
    if !slot_bytes.is_multiple_of(512) || slot_bytes == 0 || slot_bytes > MAX_SLOT {
        return Err(refuse(storage, Malformed::Damaged(format!("it claims slots of {slot_bytes} bytes"))));
    }
    if length < PAGE_POSITION + 4 * slot_bytes {
        let problem = format!("is cut short: {length} bytes of {}", PAGE_POSITION + 4 * slot_bytes);
        return Err(Error::Refused { path: path(), problem });
    }
    let queue = page.header.queue;
    let mut bytes = vec![0; usize::try_from(slot_bytes).unwrap_or(0)];
    let mut best: Option<Slot> = None;
    let mut good = [[None; 2]; 2];
    let mut blank = [[false; 2]; 2];
    for which in 0..2_u64 {
        for copy in 0..2_u64 {
            let at = position(which, copy, slot_bytes);
            crate::storage::read_exact_at(file, &mut bytes, at).map_err(io)?;
            let place = (usize::from(which == 1), usize::from(copy == 1));
            match Slot::decode(queue, at, &bytes) {
                Ok(slot) if slot.sequence % 2 == which => {
                    good[place.0][place.1] = Some(slot.sequence);
                    if best.as_ref().is_none_or(|best| slot.sequence > best.sequence) {
                        best = Some(slot);
                    }
                }
                Err(Malformed::Newer(what)) => return Err(refuse(storage, Malformed::Newer(what))),
                Ok(_) | Err(_) => blank[place.0][place.1] = is_zero(&bytes),
            }
        }
    }
    let Some(slot) = best else {
        let problem = Malformed::Damaged("none of its slots has a good copy".into());
        return Err(refuse(storage, problem));
    };
    let holding = usize::from(slot.sequence % 2 == 1);
    let other = 1 - holding;
    Ok(Found {
        queue,
        created: page.header.created,
        wounded: page.wounded || good[holding].contains(&None),
        behind: good[holding].iter().flatten().any(|&sequence| sequence < slot.sequence),
        one_slot: good[other] == [None; 2] && blank[other] != [true; 2],
        slot,
        slot_bytes,
        backup: page.header.features.writing & header::BACKUP != 0,
        header: page.header.encode(),
    })
}

/// Writes the header page and both copies of the slot that holds, as they should be.
fn write_whole(file: &dyn crate::storage::File, found: &Found) -> std::io::Result<()> {
    let slot = found.slot.encode(found.queue, found.slot_bytes).unwrap_or_default();
    write_all_at(file, &found.header, 0)?;
    write_all_at(file, &slot, position(found.slot.sequence, 0, found.slot_bytes))?;
    file.sync()
}

fn page_header(page: &[u8]) -> Result<header::Page, Malformed> {
    header::decode(FileKind::Manifest, page)
}

fn refuse(storage: &Arc<dyn Storage>, problem: Malformed) -> Error {
    let path = storage.root().join(names::MANIFEST);
    match problem {
        Malformed::Newer(problem) => Error::Version { path, problem },
        Malformed::Foreign(what) => Error::NotAQueue {
            path: storage.root().to_path_buf(),
            found: format!("there is a file MANIFEST, but {what}"),
        },
        Malformed::Damaged(problem) => Error::Refused { path, problem: format!("is damaged: {problem}") },
    }
}

fn absent(storage: &Arc<dyn Storage>, error: std::io::Error) -> Error {
    let path = storage.root().to_path_buf();
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            let missing = storage.list("").is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
            let found = if missing { "there is no such folder" } else { "the folder has no MANIFEST" };
            Error::NotAQueue { path, found: found.into() }
        }
        std::io::ErrorKind::NotADirectory => {
            Error::NotAQueue { path, found: "it is a file, not a folder".into() }
        }
        _ => Error::io("open", path.join(names::MANIFEST), error),
    }
}
