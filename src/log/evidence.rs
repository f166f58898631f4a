//! Where do torn bytes go before they are overwritten?
//!
//! Into `quarantine`, named by segment, position and checksum: a repeat of the same find is the same
//! file, so an opening that was cut short leaves nothing twice.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use super::recovery::Torn;
use crate::error::{Error, Result};
use crate::format::{checksum, names};
use crate::storage::{Access, File, Storage, read_up_to, write_all_at};

/// Bytes of one find that are kept at the most.
const LIMIT: u64 = 16 << 20;

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
        ignore(storage.make_dir(names::QUARANTINE), io::ErrorKind::AlreadyExists)?;
        storage.sync_dir("")?;
        let bytes = self.bytes()?;
        let name = self.name()?;
        // An attempt that was cut short may have left the name with other content.
        ignore(storage.remove(&name), io::ErrorKind::NotFound)?;
        let copy = storage.create_new(&name)?;
        write_all_at(&*copy, &bytes, 0)?;
        copy.sync()?;
        self.note(storage, &name, bytes.len())?;
        storage.sync_dir(names::QUARANTINE)
    }

    /// Adds a line to the list: written anew and renamed, since it is small.
    fn note(&self, storage: &dyn Storage, name: &str, kept: usize) -> io::Result<()> {
        let mut list = match storage.open(names::LIST, Access::Read) {
            Ok(file) => {
                let length = usize::try_from(file.len()?.min(LIMIT)).unwrap_or(0);
                let mut bytes = vec![0; length];
                let got = read_up_to(&*file, &mut bytes, 0)?;
                bytes.truncate(got);
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        if list.lines().any(|line| line.starts_with(name)) {
            return Ok(());
        }
        let Torn { position, length, messages } = self.torn;
        let _ = writeln!(
            list,
            "{name}: torn, never promised: {length} bytes ({kept} kept) from byte {position} of segment {}, {messages} messages as far as headers tell",
            self.segment
        );
        ignore(storage.remove(names::LIST_NEW), io::ErrorKind::NotFound)?;
        let file = storage.create_new(names::LIST_NEW)?;
        write_all_at(&*file, list.as_bytes(), 0)?;
        file.sync()?;
        storage.rename(names::LIST_NEW, names::LIST)
    }
}

fn ignore(result: io::Result<()>, kind: io::ErrorKind) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        other => other,
    }
}
