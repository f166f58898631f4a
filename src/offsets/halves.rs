//! How do snapshots and entries get into the two files? For the one thread that writes.

use std::path::PathBuf;
use std::sync::Arc;

use super::shape::{Owner, PAGE, Shape, entries_at, length_for, page};
use super::track::Track;
use crate::error::{Error, Result};
use crate::format::header::Header;
use crate::format::snapshot::{Snapshot, pack};
use crate::format::{PAGE_POSITION, names, round_up};
use crate::plant::{Plant, once, planted, unless};
use crate::storage::{File, Mapping, Storage, write_all_at};

/// Bytes of a filling write: it sets the size of the page cache's folios, and after larger ones
/// small writes cost twice as much.
const FILL: usize = 64 << 10;

/// Why a switch did not happen.
#[derive(Clone, Debug)]
pub(crate) enum SwitchFailed {
    /// Nothing changed: the half that held goes on, with the caller's [`Track`]. There was no room
    /// ([`Error::is_full`]), or no random number to be had.
    Unchanged(Error),
    /// What the files hold is not known: no entry may be written before the next opening.
    Final(Error),
}

/// One of the two files.
#[derive(Debug)]
pub(super) struct Half {
    path: PathBuf,
    file: Arc<dyn File>,
    /// What its page says, but for `superseded`.
    header: Header,
    /// Every block below was written once: entries need no room of the disk there.
    written: u64,
}

/// The two files of a group's offsets.
#[derive(Debug)]
pub(crate) struct Halves {
    storage: Arc<dyn Storage>,
    owner: Owner,
    halves: [Half; 2],
    holds: usize,
    /// What failed: no write and no sync can be trusted any more.
    broken: Option<Error>,
}

impl Halves {
    pub(super) fn new(storage: &Arc<dyn Storage>, owner: Owner, halves: [Half; 2], holds: usize) -> Self {
        Self { storage: Arc::clone(storage), owner, halves, holds, broken: None }
    }

    /// Returns the generation of the half that holds: that of the last complete switch.
    pub(crate) fn generation(&self) -> u64 {
        self.halves[self.holds].header.generation()
    }

    /// Returns the bytes of the smaller file: what a switch can count on without any room.
    pub(crate) fn least_bytes(&self) -> u64 {
        self.halves[0].written.min(self.halves[1].written)
    }

    /// Writes entries that [`Track::take_waiting`] gave.
    ///
    /// # Errors
    /// [`Error::Full`]: the same bytes may be written again. That cannot happen where the file system
    /// overwrites in place. [`Error::Poisoned`]: nothing can be, until the next opening.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.sound()?;
        let half = &self.halves[self.holds];
        debug_assert!(at >= PAGE && at + bytes.len() as u64 <= half.written);
        match half.write(bytes, at) {
            Err(error) if !error.is_full() => Err(self.fail(error)),
            other => other,
        }
    }

    /// Makes all entries durable that were written, or stored into the mapping, before the call.
    ///
    /// # Errors
    /// [`Error::Poisoned`], from then on always: a second sync may say "ok" for bytes that are gone.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.sound()?;
        once(Plant::SecondHalfSyncTrusted, || self.halves[self.holds].sync())
            .map_err(|error| self.fail(error))
    }

    /// Writes a snapshot into the other half, which then holds, and returns where its entries go.
    ///
    /// No entry may be appended while it runs. `need` is how many bytes of entries must fit, `want`
    /// how many are wished for; a half grows as long as the disk has room, and goes without if it
    /// must. `mapped` asks that entries are stored, not written.
    pub(crate) fn switch(
        &mut self,
        snapshot: &Snapshot,
        need: u64,
        want: u64,
        mapped: bool,
        now_wall: u64,
    ) -> Result<Track, SwitchFailed> {
        self.sound().map_err(SwitchFailed::Final)?;
        #[cfg(any(test, feature = "testing"))]
        if planted(Plant::SameHalf)
            && let Some(track) = self.go_on(need)
        {
            return Ok(track);
        }
        let bytes = snapshot.encode();
        let length = bytes.len() as u64;
        let entries = entries_at(length);
        let salt = self.fresh_salt().map_err(SwitchFailed::Unchanged)?;
        let least = round_up(entries.saturating_add(need).min(1 << 62), PAGE);
        let new = 1 - self.holds;
        let grown = self.halves[new].grow(least, length_for(length, want));
        grown.map_err(|error| self.unless_full(error))?;

        // The snapshot goes first: as long as the new half's page is the old one, a lack of room
        // changes nothing. Once the page may be on the disk, it must be whole, or nobody goes on.
        let packed = pack(salt, &bytes);
        let put = self.halves[new].write(&packed, PAGE_POSITION);
        put.map_err(|error| self.unless_full(error))?;
        let generation = self.generation().saturating_add(1);
        let limit = self.halves[new].written;
        let shape = Shape { generation, snapshot: length, entries, length: limit };
        let header = self.owner.header(salt, now_wall, shape);
        self.seal(new, header).map_err(|error| SwitchFailed::Final(self.fail(error)))?;

        self.holds = new;
        // After the syncs, which would have to write all the pages that mapping makes present.
        let mapping = if mapped { self.halves[new].map(entries, limit) } else { None };
        Ok(Track::new(salt, entries, limit, mapping))
    }

    /// Returns the length of the longer file.
    ///
    /// # Errors
    /// When the disk does not say.
    pub(crate) fn longest(&self) -> Result<u64> {
        Ok(self.halves[0].len()?.max(self.halves[1].len()?))
    }

    /// Cuts the half that does not hold to a length. Nothing of it counts: the one that holds has
    /// superseded it, durably. What was stored into a mapping of it must be over.
    ///
    /// Its page says so first, and is synced: a file that is shorter than its page says has lost
    /// something, and refuses the opening. The cut itself needs no sync; undone, it is done again.
    pub(crate) fn cut_other(&mut self, length: u64) -> Result<(), SwitchFailed> {
        self.sound().map_err(SwitchFailed::Final)?;
        let (other, by) = (1 - self.holds, self.generation());
        let half = &self.halves[other];
        if half.len().map_err(SwitchFailed::Unchanged)? <= length {
            return Ok(());
        }
        if half.written > length {
            let shape = Shape { generation: half.header.generation(), ..Shape::empty(length) };
            let header = self.owner.header(half.header.salt, half.header.created, shape);
            let put = half.write(&page(&header, Some(by)), 0);
            put.map_err(|error| self.unless_full(error))?;
            unless(Plant::CutUnsynced, || self.halves[other].sync())
                .map_err(|error| SwitchFailed::Final(self.fail(error)))?;
            let half = &mut self.halves[other];
            (half.header, half.written) = (header, length);
        }
        // A file that stays long is as good as before.
        self.halves[other].cut(length).map_err(SwitchFailed::Unchanged)
    }

    /// Returns where entries go on in the half that holds: a switch is what should be done instead.
    #[cfg(any(test, feature = "testing"))]
    fn go_on(&self, need: u64) -> Option<Track> {
        let half = &self.halves[self.holds];
        let entries = Shape::of(&half.header)?.entries;
        let mut bytes = vec![0; usize::try_from(half.written.checked_sub(entries)?).ok()?];
        crate::storage::read_exact_at(&*half.file, &mut bytes, entries).ok()?;
        let found = super::walk::walk(&bytes, half.header.salt, entries, 0).ok()?.entries;
        let slots: usize = found.iter().map(crate::format::entry::Entry::slots).sum();
        let position = entries + slots as u64 * crate::format::entry::SLOT_BYTES;
        let room = position + need <= half.written;
        room.then(|| Track::new(half.header.salt, position, half.written, None))
    }

    /// Writes the page of the new half and supersedes the old one. Any failure is final: which half
    /// an opening will find is open.
    fn seal(&mut self, new: usize, header: Header) -> Result<()> {
        let generation = header.generation();
        let half = &mut self.halves[new];
        half.write(&page(&header, None), 0)?;
        half.header = header;
        unless(Plant::NewHalfUnsynced, || self.halves[new].sync())?;
        self.supersede(1 - new, generation)
    }

    /// Marks a half as superseded, durably.
    pub(super) fn supersede(&self, old: usize, by: u64) -> Result<()> {
        if planted(Plant::NotSuperseded) {
            return Ok(());
        }
        let half = &self.halves[old];
        half.write(&page(&half.header, Some(by)), 0)?;
        unless(Plant::SupersededUnsynced, || half.sync())
    }

    /// Writes the page of the half that holds again, durably.
    pub(super) fn renew(&self) -> Result<()> {
        let half = &self.halves[self.holds];
        half.write(&page(&half.header, None), 0)?;
        half.sync()
    }

    /// Returns a salt that neither half has: entries of the one that is overwritten must not pass.
    fn fresh_salt(&self) -> Result<u32> {
        if planted(Plant::SaltReused) {
            return Ok(self.halves[1 - self.holds].header.salt);
        }
        let taken = [&self.halves[0], &self.halves[1]].map(|half| half.header.salt);
        random_salt(&*self.storage, &taken)
    }

    fn sound(&self) -> Result<()> {
        match &self.broken {
            None => Ok(()),
            Some(error) => Err(error.clone()),
        }
    }

    /// Remembers what failed, and says so in words that fit.
    fn fail(&mut self, error: Error) -> Error {
        let path = self.halves[self.holds].path.clone();
        let poisoned = Error::Poisoned { path, cause: error.to_string() };
        self.broken.get_or_insert(poisoned).clone()
    }

    fn unless_full(&mut self, error: Error) -> SwitchFailed {
        if error.is_full() { SwitchFailed::Unchanged(error) } else { SwitchFailed::Final(self.fail(error)) }
    }
}

impl Half {
    /// Takes a file with the header that it has, or is to have: everything behind its length may
    /// have to be written for the first time.
    pub(super) fn new(path: PathBuf, file: Arc<dyn File>, header: Header) -> Self {
        let written = Shape::of(&header).map_or(PAGE, |shape| whole_pages(shape.length));
        Self { path, file, header, written }
    }

    /// Makes an empty file.
    pub(super) fn create(storage: &dyn Storage, owner: &Owner, which: usize, header: Header) -> Result<Self> {
        Self::create_as(storage, &names::half(&owner.name, which), header)
    }

    /// Makes a file of that name.
    pub(super) fn create_as(storage: &dyn Storage, name: &str, header: Header) -> Result<Self> {
        let path = storage.root().join(name);
        let file = storage.create_new(name).map_err(|error| Error::io("make", &path, error))?;
        Ok(Self { path, file, header, written: 0 })
    }

    /// Makes the file as long as its header says, of written blocks, with a snapshot and page in it,
    /// durably.
    pub(super) fn furnish(&mut self, packed: &[u8], superseded: Option<u64>) -> Result<()> {
        let length = Shape::of(&self.header).map_or(PAGE, |shape| shape.length);
        self.reach(length)?;
        self.write(packed, PAGE_POSITION)?;
        self.write(&page(&self.header, superseded), 0)?;
        self.sync()
    }

    /// Grows to the length that is wished for, or as near as there is room; [`Error::Full`] if that
    /// is below the least.
    fn grow(&mut self, least: u64, wished: u64) -> Result<()> {
        // What the file has already, from a growth that was cut short, comes before a small growth.
        let there = whole_pages(self.len()?);
        for target in [wished, there] {
            if target < least {
                continue;
            }
            match self.reach(target) {
                Err(error) if error.is_full() => {}
                other => return other,
            }
        }
        self.reach(least)
    }

    /// Writes zeros from where blocks were written to a length.
    fn reach(&mut self, length: u64) -> Result<()> {
        static ZEROS: [u8; FILL] = [0; FILL];
        if self.written >= length {
            return Ok(());
        }
        if self.len()? < length {
            self.file.allocate(length).map_err(|error| Error::io("reserve room in", &self.path, error))?;
        }
        while self.written < length {
            let count = usize::try_from(length - self.written).unwrap_or(FILL).min(FILL);
            self.write(&ZEROS[..count], self.written)?;
            self.written += count as u64;
        }
        Ok(())
    }

    fn cut(&self, length: u64) -> Result<()> {
        self.file.set_len(length).map_err(|error| Error::io("shorten", &self.path, error))
    }

    fn len(&self) -> Result<u64> {
        self.file.len().map_err(|error| Error::io("measure", &self.path, error))
    }

    fn write(&self, bytes: &[u8], position: u64) -> Result<()> {
        write_all_at(&*self.file, bytes, position).map_err(|error| Error::io("write", &self.path, error))
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync().map_err(|error| Error::io("sync", &self.path, error))
    }

    /// Maps the entries. A mapping is for speed only: where there is none, entries are written.
    fn map(&self, start: u64, end: u64) -> Option<Box<dyn Mapping>> {
        let mapped = if start < end { self.file.map(start..end) } else { Ok(None) };
        mapped.unwrap_or(None)
    }
}

/// Returns a random salt that is none of those.
pub(super) fn random_salt(storage: &dyn Storage, taken: &[u32]) -> Result<u32> {
    let random =
        storage.random().map_err(|error| Error::io("get random numbers for", storage.root(), error))?;
    let mut salt = u32::try_from(random >> 32).expect("the high half of 64 bits");
    while salt == 0 || taken.contains(&salt) {
        salt = salt.wrapping_add(1);
    }
    Ok(salt)
}

const fn whole_pages(length: u64) -> u64 {
    length - length % PAGE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sim::SimDisk;

    #[test]
    fn a_salt_is_none_of_those_that_are_taken_and_never_zero() {
        let drawn = random_salt(&SimDisk::new(5), &[]).unwrap();
        let next = random_salt(&SimDisk::new(5), &[drawn]).unwrap();
        let third = random_salt(&SimDisk::new(5), &[next, drawn]).unwrap();

        assert!(drawn != next && third != drawn && third != next);
        assert!(drawn != 0 && next != 0 && third != 0);
    }
}
