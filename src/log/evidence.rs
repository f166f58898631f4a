//! Where do bytes go that are set aside: torn ones before they are overwritten, bad ones before a repair?
//!
//! Into `quarantine`, named by segment, position and checksum: a repeat of the same find is the same
//! file, so an opening that was cut short leaves nothing twice.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use super::recovery::Torn;
use crate::error::{Error, Result};
use crate::format::{checksum, checksum_on, is_zero, names};
use crate::storage::{Access, File, Storage, ignore, read_up_to, write_all_at};

/// Bytes of one find that are kept at the most.
const LIMIT: u64 = 16 << 20;
/// Bytes copied at a time.
const PIECE: usize = 256 << 10;

/// Bytes to be set aside before the first write of an opening.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) segment: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) torn: Torn,
}

impl Evidence {
    /// Returns the name that the bytes get.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn name(&self) -> io::Result<String> {
        Ok(names::evidence(self.segment, self.torn.position, checksum(&self.bytes()?)))
    }

    /// Copies the bytes into the quarantine and notes them in its list, durable.
    ///
    /// # Errors
    /// When the disk refuses; the log was not touched.
    pub(crate) fn set_aside(&self, storage: &dyn Storage) -> Result<()> {
        self.copy(storage).map_err(|error| {
            Error::io("set torn bytes aside in", storage.root().join(names::QUARANTINE), error)
        })
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        let count = usize::try_from(self.torn.length.min(LIMIT)).unwrap_or(0);
        let mut bytes = vec![0; count];
        let got = read_up_to(&*self.file, &mut bytes, self.torn.position)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    fn copy(&self, storage: &dyn Storage) -> io::Result<()> {
        let Torn { position, length, messages } = self.torn;
        let segment = self.segment;
        let set_aside = SetAside { source: &self.file, position, length: length.min(LIMIT) };
        set_aside.keep(storage, |sum| names::evidence(segment, position, sum), |kept| {
            format!(
                "torn, never promised: {length} bytes ({kept} kept) from byte {position} of segment {segment}, {messages} messages as far as headers tell"
            )
        })?;
        Ok(())
    }
}

/// Bytes of a file that are kept.
pub(crate) struct SetAside<'a> {
    pub(crate) source: &'a Arc<dyn File>,
    pub(crate) position: u64,
    pub(crate) length: u64,
}

impl SetAside<'_> {
    /// Copies the bytes into the quarantine, durable, under a name made of their checksum, and notes in its list
    /// what they are; returns the name. Where there is no room, nothing is left of it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn keep(
        &self,
        storage: &dyn Storage,
        name: impl Fn(u32) -> String,
        note: impl Fn(u64) -> String,
    ) -> io::Result<String> {
        ignore(storage.make_dir(names::QUARANTINE), io::ErrorKind::AlreadyExists)?;
        storage.sync_dir("")?;
        let (mut sum, mut kept) = (0, 0);
        self.each(|_, bytes| {
            sum = checksum_on(sum, bytes);
            kept += bytes.len() as u64;
            Ok(())
        })?;
        let name = name(sum);
        // An attempt that was cut short may have left the name with other content.
        ignore(storage.remove(&name), io::ErrorKind::NotFound)?;
        let copy = storage.create_new(&name)?;
        let copied = self.each(|at, bytes| write_all_at(&*copy, bytes, at)).and_then(|()| copy.sync());
        if let Err(error) = copied {
            // Somebody needs that room. Should this fail too, the next attempt writes it anew.
            let _ = storage.remove(&name);
            return Err(error);
        }
        add_to_list(storage, &name, &note(kept))?;
        storage.sync_dir(names::QUARANTINE)?;
        Ok(name)
    }

    /// Tells whether there is nothing but zeros.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn is_blank(&self) -> io::Result<bool> {
        let mut blank = true;
        self.each(|_, bytes| {
            blank &= is_zero(bytes);
            Ok(())
        })?;
        Ok(blank)
    }

    fn each(&self, mut to: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut bytes = vec![0; PIECE];
        let mut done = 0;
        while done < self.length {
            let count = usize::try_from(self.length - done).unwrap_or(PIECE).min(PIECE);
            let got = read_up_to(&**self.source, &mut bytes[..count], self.position + done)?;
            to(done, &bytes[..got])?;
            done += got as u64;
            if got < count {
                break;
            }
        }
        Ok(())
    }
}

/// Adds a line to the list: written anew and renamed, since it is small.
fn add_to_list(storage: &dyn Storage, name: &str, what: &str) -> io::Result<()> {
    let mut list = list(storage)?;
    if list.lines().any(|line| line.starts_with(name)) {
        return Ok(());
    }
    let _ = writeln!(list, "{name}: {what}");
    ignore(storage.remove(names::LIST_NEW), io::ErrorKind::NotFound)?;
    let file = storage.create_new(names::LIST_NEW)?;
    write_all_at(&*file, list.as_bytes(), 0)?;
    file.sync()?;
    storage.rename(names::LIST_NEW, names::LIST)
}

/// Reads the list of what was set aside; nothing if there is none.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn list(storage: &dyn Storage) -> io::Result<String> {
    match storage.open(names::LIST, Access::Read) {
        Ok(file) => {
            let length = usize::try_from(file.len()?.min(LIMIT)).unwrap_or(0);
            let mut bytes = vec![0; length];
            let got = read_up_to(&*file, &mut bytes, 0)?;
            bytes.truncate(got);
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}
