//! What do the files say a group has done? At opening, and for those who only look.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::halves::{Half, Halves, random_salt};
use super::shape::{Owner, PAGE, Shape, in_memory, not_accepted};
use super::verdict::{Fault, Read, decide};
use super::walk::{Hole, Walk, walk};
use crate::error::{Error, Result};
use crate::format::entry::Entry;
use crate::format::header::{self, FileKind, Header};
use crate::format::manifest::GroupRow;
use crate::format::snapshot::{Snapshot, unpack};
use crate::format::{Malformed, PAGE_POSITION, names};
use crate::plant::{Plant, planted};
use crate::storage::{Access, File, SECTOR, Storage, read_exact_at};

/// How often one who looks starts over when a switch comes in between.
const LOOKS: usize = 100;

/// A group as its files tell it, and the files.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) snapshot: Snapshot,
    /// To be applied to the snapshot, in order.
    pub(crate) entries: Vec<Entry>,
    /// To be switched before the first entry.
    pub(crate) halves: Halves,
    /// The position behind the last entry: all before it is durable.
    pub(crate) end: u64,
    /// Bytes of entries that were never known durable, set aside.
    pub(crate) torn: u64,
    /// A header page had gone bad in a way that no crash explains; what it said was told twice.
    pub(crate) wounded: bool,
}

/// A group as its files tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    pub(crate) snapshot: Snapshot,
    pub(crate) entries: Vec<Entry>,
    pub(crate) generation: u64,
    pub(crate) torn: u64,
    pub(crate) wounded: bool,
}

/// A group whose files were read, and that can be used once they are made good.
pub(crate) struct Surveyed {
    storage: Arc<dyn Storage>,
    survey: Survey,
    pages: [Read; 2],
    found: Found,
}

/// Reads a group that the manifest names, as a power cut would leave it, and changes nothing.
///
/// # Errors
/// [`Error::Refused`]: a file is missing, foreign, too short, or an older one that was put back.
/// [`Error::Damaged`]: the group cannot be used; the queue can.
pub(crate) fn survey(storage: &Arc<dyn Storage>, queue: u128, row: &GroupRow) -> Result<Surveyed> {
    let survey = Survey::new(storage, queue, row, Access::Write)?;
    for (path, file) in survey.paths.iter().zip(&survey.files) {
        // What a killed process wrote may exist only in the cache, and what a failed sync gave up
        // too: after this, what is read is what a power cut leaves.
        if planted(Plant::CachedHalves) {
            continue;
        }
        file.sync().map_err(|error| Error::io("sync", path, error))?;
        file.drop_cache().map_err(|error| Error::io("drop the cache of", path, error))?;
    }
    let pages = survey.pages()?;
    let found = survey.find(&pages)?;
    survey.may_write(&pages)?;
    Ok(Surveyed { storage: Arc::clone(storage), survey, pages, found })
}

/// Reads a group that the manifest names, and makes it good.
///
/// # Errors
/// As [`survey`], and when the disk refuses.
pub(crate) fn load(storage: &Arc<dyn Storage>, queue: u128, row: &GroupRow) -> Result<Loaded> {
    survey(storage, queue, row)?.make_good()
}

impl Surveyed {
    /// Returns what the half that holds tells: a snapshot, and the entries behind it.
    pub(crate) fn told(&self) -> (&Snapshot, &[Entry]) {
        (&self.found.snapshot, &self.found.walk.entries)
    }

    /// Makes good, durably, what a crash or a bad sector has left of the header pages.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn make_good(self) -> Result<Loaded> {
        let Self { storage, survey, pages, found } = self;
        let (holds, other) = (found.holds, 1 - found.holds);
        let headers = [found.header.clone(), survey.other_header(&*storage, &pages[other], &found)?];
        let halves = survey.into_halves(&storage, headers, holds);
        // The half that holds first: it is the only one that can be lost.
        if pages[holds].as_ref().is_ok_and(|page| page.wounded) && !planted(Plant::CopyNotMadeGood) {
            halves.renew()?;
        }
        let by = found.header.generation();
        if !pages[other].as_ref().is_ok_and(|page| page.superseded == Some(by) && !page.wounded) {
            halves.supersede(other, by)?;
        }
        let Found { snapshot, walk: Walk { entries, end, torn }, wounded, .. } = found;
        Ok(Loaded { snapshot, entries, halves, end, torn, wounded })
    }
}

/// Reads a group and changes nothing, while an owner may be writing.
///
/// # Errors
/// As [`load`].
pub(crate) fn look(storage: &Arc<dyn Storage>, queue: u128, row: &GroupRow) -> Result<Looked> {
    let survey = Survey::new(storage, queue, row, Access::Read)?;
    let mut pages = survey.pages()?;
    for _ in 1..LOOKS {
        let found = survey.find(&pages);
        let after = survey.pages()?;
        // What was read is one moment's if nobody began to overwrite that half meanwhile; what was
        // not found is not there if nobody switched.
        let header = |page: &Read| page.as_ref().ok().map(|page| page.header.clone());
        let stayed = match &found {
            Ok(found) => header(&after[found.holds]).as_ref() == Some(&found.header),
            Err(_) => pages == after,
        };
        if stayed {
            return found.map(Found::looked);
        }
        pages = after;
    }
    survey.find(&pages).map(Found::looked)
}

/// Reads the half that a backup's manifest names, whatever the other one is.
///
/// # Errors
/// As [`load`].
pub(crate) fn look_exactly(storage: &Arc<dyn Storage>, queue: u128, row: &GroupRow) -> Result<Looked> {
    let mut said = None;
    for half in [0, 1] {
        let parts = super::parts::parts(&**storage, queue, row, half)?;
        if parts.generation() != row.generation {
            continue;
        }
        match parts.snapshot {
            Ok(Some(snapshot)) => {
                // A copy has no entries: all of them are in its snapshot.
                let (entries, generation) = (Vec::new(), row.generation);
                return Ok(Looked { snapshot, entries, generation, torn: 0, wounded: false });
            }
            Ok(None) => {}
            Err(problem) => said = Some((parts.path, problem)),
        }
    }
    let path = storage.root().join(names::group(&row.name));
    let (path, problem) = said.unwrap_or((path, format!("no half has generation {}", row.generation)));
    Err(Error::Damaged { path, position: 0, offsets: None, problem })
}

/// Both files, open.
struct Survey {
    owner: Owner,
    /// The generation that the manifest tells.
    manifest: u64,
    /// The durable mark that it tells, of the half of that generation.
    mark: u64,
    paths: [PathBuf; 2],
    files: [Arc<dyn File>; 2],
}

/// What was found.
struct Found {
    holds: usize,
    header: Header,
    snapshot: Snapshot,
    walk: Walk,
    wounded: bool,
}

impl Found {
    fn looked(self) -> Looked {
        let generation = self.header.generation();
        let Self { snapshot, walk: Walk { entries, torn, .. }, wounded, .. } = self;
        Looked { snapshot, entries, generation, torn, wounded }
    }
}

impl Survey {
    fn new(storage: &Arc<dyn Storage>, queue: u128, row: &GroupRow, access: Access) -> Result<Self> {
        let paths = [0, 1].map(|half| storage.root().join(names::half(&row.name, half)));
        let open = |half: usize| match storage.open(&names::half(&row.name, half), access) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::Refused { path: paths[half].clone(), problem: "is missing".into() })
            }
            other => other.map_err(|error| Error::io("open", &paths[half], error)),
        };
        let files = [open(0)?, open(1)?];
        Ok(Self { owner: Owner::of(queue, row), manifest: row.generation, mark: row.mark, paths, files })
    }

    /// Reads both header pages, and refuses those that are not this group's.
    fn pages(&self) -> Result<[Read; 2]> {
        Ok([self.page(0)?, self.page(1)?])
    }

    fn page(&self, half: usize) -> Result<Read> {
        let length = self.len(half)?;
        if length < PAGE_POSITION {
            return Err(self.too_short(half, PAGE_POSITION, length));
        }
        let bytes = self.read(half, 0, PAGE_POSITION)?;
        match header::decode(FileKind::Half, &bytes) {
            Ok(page) => match self.owner.foreign(&page.header) {
                Some(problem) => Err(Error::Refused { path: self.paths[half].clone(), problem }),
                None => Ok(Ok(page)),
            },
            Err(Malformed::Damaged(problem)) => Ok(Err(problem)),
            Err(other) => Err(not_accepted(self.paths[half].clone(), 0, other)),
        }
    }

    /// Finds the half that holds, and reads it.
    fn find(&self, pages: &[Read; 2]) -> Result<Found> {
        let verdict = decide([&pages[0], &pages[1]], self.manifest).map_err(|fault| self.error(fault))?;
        let mut holds = verdict.newest;
        let mut whole = self.whole(holds, pages)?;
        if whole.is_err() && verdict.may_be_torn {
            holds = 1 - holds;
            whole = self.whole(holds, pages)?;
        }
        let (header, shape, bytes) = whole?;
        let path = || self.paths[holds].clone();
        let snapshot =
            Snapshot::decode(&bytes).map_err(|malformed| not_accepted(path(), PAGE_POSITION, malformed))?;
        // A half that was switched to since has entries of its own, of which the manifest knows nothing.
        let told = if shape.generation == self.manifest { self.mark } else { 0 };
        let walk = self.walk(holds, &shape, header.salt, told)?.map_err(|Hole { position, bound }| {
            let problem = format!(
                "expected an entry, since everything below byte {bound} was known durable, found none"
            );
            Error::Damaged { path: path(), position, offsets: None, problem }
        })?;
        let wounded = self.check_other(1 - holds, pages, &header)?;
        Ok(Found { holds, header, snapshot, walk, wounded })
    }

    /// Reads the entries of a half, of which the manifest tells how far they go. What it tells of was closed,
    /// and is never appended to again: where they end just there, nobody need look behind them. The room for
    /// entries is many times what they take, if much waits.
    fn walk(
        &self,
        half: usize,
        shape: &Shape,
        salt: u32,
        told: u64,
    ) -> Result<std::result::Result<Walk, Hole>> {
        if (shape.entries..shape.length).contains(&told) {
            let bytes = self.read(half, shape.entries, told - shape.entries)?;
            let found = walk(&bytes, salt, shape.entries, told);
            if found.as_ref().is_ok_and(|found| found.end == told) {
                return Ok(found);
            }
        }
        let bytes = self.read(half, shape.entries, shape.length - shape.entries)?;
        Ok(walk(&bytes, salt, shape.entries, told))
    }

    /// Reads the snapshot of a half. The inner error says why the half is not whole: a crash leaves
    /// sectors of either time, and a length that is not there yet.
    fn whole(&self, half: usize, pages: &[Read; 2]) -> Result<Result<(Header, Shape, Vec<u8>)>> {
        let damaged = |position: u64, problem: &str| {
            let (path, problem) = (self.paths[half].clone(), problem.to_owned());
            Ok(Err(Error::Damaged { path, position, offsets: None, problem }))
        };
        let header = match &pages[half] {
            Ok(page) => page.header.clone(),
            Err(problem) => return damaged(0, problem),
        };
        let Some(shape) = Shape::of(&header) else {
            return damaged(0, "its header is of another file");
        };
        let length = self.len(half)?;
        if length < shape.length {
            return Ok(Err(self.too_short(half, shape.length, length)));
        }
        let Some(packed) = shape.packed(length) else {
            return damaged(0, "the lengths in its header contradict each other");
        };
        let sectors = self.read(half, PAGE_POSITION, packed)?;
        match unpack(header.salt, &sectors, in_memory(shape.snapshot)?) {
            Some(bytes) => Ok(Ok((header, shape, bytes))),
            None => {
                let bad = first_bad(header.salt, &sectors);
                damaged(PAGE_POSITION + bad as u64, "checksum mismatch in the snapshot")
            }
        }
    }

    /// Checks the half that does not hold; tells whether either has gone bad as no crash explains.
    fn check_other(&self, other: usize, pages: &[Read; 2], held: &Header) -> Result<bool> {
        let Ok(page) = &pages[other] else {
            return Ok(true);
        };
        let generation = held.generation();
        let length = self.len(other)?;
        match Shape::of(&page.header) {
            // One that is newer is torn, and its length may be too.
            Some(shape) if shape.generation < generation && shape.length > length => {
                Err(self.too_short(other, shape.length, length))
            }
            // Before the older half says that it is superseded, the newer one may be half there.
            _ => Ok(page.superseded == Some(generation)
                && pages[1 - other].as_ref().is_ok_and(|page| page.wounded)),
        }
    }

    /// Returns the header that the half which does not hold has, or is to have: where it was torn,
    /// one that says nothing, under a salt of its own, so that no copy of the torn one lives on.
    fn other_header(&self, storage: &dyn Storage, page: &Read, found: &Found) -> Result<Header> {
        let mut taken = vec![found.header.salt];
        if let Ok(page) = page {
            if page.header.generation() < found.header.generation() {
                return Ok(page.header.clone());
            }
            taken.push(page.header.salt);
        }
        // Nobody knows how far it was written.
        let shape = Shape::empty(PAGE);
        Ok(self.owner.header(random_salt(storage, &taken)?, found.header.created, shape))
    }

    /// Turns into what writes; the headers are those of the half that holds and of the other.
    fn into_halves(self, storage: &Arc<dyn Storage>, headers: [Header; 2], holds: usize) -> Halves {
        let [first, second] = headers;
        let headers = if holds == 0 { [first, second] } else { [second, first] };
        let mut parts = self.paths.into_iter().zip(self.files).zip(headers);
        let mut next = || {
            let ((path, file), header) = parts.next().expect("there are two halves");
            Half::new(path, file, header)
        };
        let halves = [next(), next()];
        Halves::new(storage, self.owner, halves, holds)
    }

    fn may_write(&self, pages: &[Read; 2]) -> Result<()> {
        for (path, page) in self.paths.iter().zip(pages) {
            if let Ok(page) = page {
                page.header.may_write().map_err(|malformed| not_accepted(path.clone(), 0, malformed))?;
            }
        }
        Ok(())
    }

    fn len(&self, half: usize) -> Result<u64> {
        self.files[half].len().map_err(|error| Error::io("measure", &self.paths[half], error))
    }

    fn read(&self, half: usize, position: u64, length: u64) -> Result<Vec<u8>> {
        let path = &self.paths[half];
        let length = in_memory(length)?;
        let mut bytes = Vec::new();
        // A length that fits into a sparse file need not fit into memory.
        let reserved = bytes.try_reserve_exact(length);
        reserved.map_err(|_| Error::io("read", path, ErrorKind::OutOfMemory.into()))?;
        bytes.resize(length, 0);
        read_exact_at(&*self.files[half], &mut bytes, position)
            .map_err(|error| Error::io("read", path, error))?;
        Ok(bytes)
    }

    fn too_short(&self, half: usize, expected: u64, found: u64) -> Error {
        let problem = format!("is too short: expected {expected} bytes, found {found}");
        Error::Refused { path: self.paths[half].clone(), problem }
    }

    fn error(&self, fault: Fault) -> Error {
        match fault {
            Fault::Refused { half, problem } => Error::Refused { path: self.paths[half].clone(), problem },
            Fault::Damaged { half, problem } => {
                Error::Damaged { path: self.paths[half].clone(), position: 0, offsets: None, problem }
            }
        }
    }
}

/// Returns where the first bad sector begins.
fn first_bad(salt: u32, sectors: &[u8]) -> usize {
    let (mut good, mut bad) = (0, sectors.len() / SECTOR);
    while bad - good > 1 {
        let middle = usize::midpoint(good, bad);
        if unpack(salt, &sectors[..middle * SECTOR], 0).is_some() {
            good = middle;
        } else {
            bad = middle;
        }
    }
    good * SECTOR
}
