//! How does a segment come into being?
//!
//! Named, given its length, headed, synced, its folder synced: only then may the manifest name it.
//! Its number was never used before, its salt is random.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::header::{Features, Fields, Header};
use crate::format::{PAGE_POSITION, names};
use crate::plant::{Plant, planted, unless};
use crate::storage::{Access, File, Storage, write_all_at};

/// Bytes of one filling write: it sets the size of the page cache's folios, and larger ones make
/// small writes into them slow.
pub(crate) const FILL: usize = 64 << 10;

/// A segment that is being made, and which the manifest does not name yet.
#[derive(Debug)]
pub(crate) struct Making {
    pub(crate) file: Arc<dyn File>,
    pub(crate) number: u64,
    pub(crate) salt: u32,
    pub(crate) capacity: u64,
    /// Up to here zeros were written, so that its blocks are written ones.
    pub(crate) filled: u64,
    /// Header and name are durable.
    pub(crate) durable: bool,
}

/// Draws the salt of a segment: any 32 bits.
///
/// # Errors
/// When the system gives none.
pub(crate) fn draw_salt(storage: &dyn Storage, name: &str) -> Result<u32> {
    let random = storage.random();
    let random = random.map_err(|error| Error::io("draw a salt for", storage.root().join(name), error))?;
    #[expect(clippy::cast_possible_truncation, reason = "any 32 of the random bits will do")]
    Ok(random as u32)
}

/// Puts the header of a segment together.
pub(crate) fn header(queue: u128, salt: u32, created: u64, fields: Fields) -> Header {
    Header { queue, salt, created, features: Features::default(), fields }
}

/// Makes the file and gives it its length.
///
/// # Errors
/// [`Error::Full`], [`Error::Io`]; what was made until then is removed again.
pub(crate) fn begin(
    storage: &dyn Storage,
    queue: u128,
    number: u64,
    capacity: u64,
    now: u64,
) -> Result<Making> {
    let name = names::segment(number);
    let failed = |doing, error| Error::io(doing, storage.root().join(&name), error);
    let salt = draw_salt(storage, &name)?;
    let file = storage.create_new(&name).map_err(|error| failed("create", error))?;
    let header = header(queue, salt, now, Fields::Segment { number, capacity, rewritten: false });
    let made = file.allocate(capacity).and_then(|()| write_all_at(&*file, &header.encode(), 0));
    if let Err(error) = made {
        // The manifest does not name it: should this fail too, the next opening sweeps it.
        let _ = storage.remove(&name);
        return Err(failed("make", error));
    }
    Ok(Making { file, number, salt, capacity, filled: PAGE_POSITION, durable: false })
}

/// Makes the file of a segment that has left the log the segment `number`; `None` if it has another length, or
/// another name too.
///
/// 1. the slot names it no more
/// 2. the new header, with a salt of its own, stands in it, synced: what follows is nothing under that
/// 3. it has its new name, synced
///
/// # Errors
/// [`Error::Io`]; it is removed then.
pub(crate) fn recycle(
    storage: &dyn Storage,
    queue: u128,
    (old, old_salt): (u64, u32),
    number: u64,
    capacity: u64,
    now: u64,
) -> Result<Option<Making>> {
    let (from, to) = (names::segment(old), names::segment(number));
    let failed = |doing, error| Error::io(doing, storage.root().join(&from), error);
    // One with a second name is refused: somebody keeps it.
    let Ok(file) = storage.open(&from, Access::Write) else { return Ok(None) };
    if file.len().map_err(|error| failed("look at", error))? != capacity {
        return Ok(None);
    }
    let drawn = draw_salt(storage, &from)?;
    let salt = if planted(Plant::RecycledSalt) { old_salt } else { drawn };
    if salt == old_salt && !planted(Plant::RecycledSalt) {
        return Ok(None);
    }
    let header = header(queue, salt, now, Fields::Segment { number, capacity, rewritten: false });
    let done = write_all_at(&*file, &header.encode(), 0)
        .and_then(|()| unless(Plant::RecycledUnsynced, || file.sync()))
        .and_then(|()| storage.rename(&from, &to))
        .and_then(|()| storage.sync_dir(names::LOG));
    if let Err(error) = done {
        // The manifest names neither: should this fail too, the next opening sweeps them.
        let _ = storage.remove(&from);
        let _ = storage.remove(&to);
        return Err(failed("make another segment of", error));
    }
    Ok(Some(Making { file, number, salt, capacity, filled: capacity, durable: true }))
}

impl Making {
    /// Writes zeros over up to `bytes` more; tells whether some are left.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Io`].
    pub(crate) fn fill(&mut self, storage: &dyn Storage, bytes: u64) -> Result<bool> {
        static ZEROS: [u8; FILL] = [0; FILL];
        let until = self.capacity.min(self.filled + bytes);
        while self.filled < until {
            let count = usize::try_from(until - self.filled).unwrap_or(FILL).min(FILL);
            write_all_at(&*self.file, &ZEROS[..count], self.filled)
                .map_err(|error| self.failed(storage, "fill", error))?;
            self.filled += count as u64;
        }
        Ok(self.filled < self.capacity)
    }

    /// Makes content and length durable.
    ///
    /// # Errors
    /// Any failure is final for this file: it is thrown away.
    pub(crate) fn sync(&self, storage: &dyn Storage) -> Result<()> {
        self.file.sync().map_err(|error| self.failed(storage, "sync", error))
    }

    /// Makes header and name durable, if they are not.
    ///
    /// # Errors
    /// As [`Making::sync`].
    pub(crate) fn finish(&mut self, storage: &dyn Storage) -> Result<()> {
        if !self.durable {
            self.sync(storage)?;
            if self.number == 1 || !planted(Plant::NoFolderSyncAtRoll) {
                storage.sync_dir(names::LOG).map_err(|error| self.failed(storage, "name", error))?;
            }
            self.durable = true;
        }
        Ok(())
    }

    /// Removes the file again. Once what is returned is dropped its blocks are free; that takes the longer, the more
    /// there are.
    pub(crate) fn discard(self, storage: &dyn Storage) -> Arc<dyn File> {
        // The manifest does not name it: should this fail, the next opening sweeps it.
        let _ = storage.remove(&names::segment(self.number));
        self.file
    }

    fn failed(&self, storage: &dyn Storage, doing: &'static str, error: std::io::Error) -> Error {
        Error::io(doing, storage.root().join(names::segment(self.number)), error)
    }
}
