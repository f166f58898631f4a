//! How does the queue reach the disk?
//!
//! Two traits, and nothing in the queue touches `std::fs` elsewhere: [`disk`] is the real one,
//! [`sim`] one that can be crashed. Names are relative to the queue's folder, with `/` between
//! folder and file, and come from `format::names` only. Everything blocks. Every position is
//! explicit, so no handle hides a cursor.
//!
//! What may be relied on after a crash: the content that [`File::sync`] returned for, and the names
//! that [`Storage::sync_dir`] returned for. Nothing else: unsynced sectors (512 bytes), lengths and
//! names each stay or go on their own. An overwrite spares its neighbours.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

pub(crate) mod disk;
pub(crate) use disk::{PerProcess, Process, other_user, process_of};
#[cfg(any(test, feature = "testing"))]
pub(crate) mod sim;
#[cfg(test)]
mod tests;

/// The unit that a crash keeps or loses whole.
pub(crate) const SECTOR: usize = 512;

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Looking: nothing of the file changes, not even its times.
    Read,
    /// Reading and writing.
    Write,
}

/// What a name in a folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    /// A link, a socket, a device: never followed, never opened.
    Other,
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The last part of the name. A name that is not UTF-8 comes with replacement characters: it
    /// is not one of ours in any case.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Bytes, of a file; else 0.
    pub(crate) len: u64,
    /// A file that has another name, too: it is not opened for writing.
    pub(crate) linked: bool,
}

/// A folder on some disk.
pub(crate) trait Storage: Debug + Send + Sync {
    /// Returns where the folder is, for messages to people.
    fn root(&self) -> &Path;

    /// Returns which network file system the folder is on, or would be made on; `None`: on none that
    /// is known. Syncs and locks promise less there.
    fn network(&self) -> io::Result<Option<&'static str>>;

    /// Makes the folder, and those above it that are missing; nothing where it is there.
    /// `NotADirectory` where something else has its name.
    fn make_root(&self) -> io::Result<()>;

    /// Makes the folder's own name durable.
    fn sync_parent(&self) -> io::Result<()>;

    /// Makes a folder; `AlreadyExists` where the name is taken.
    fn make_dir(&self, dir: &str) -> io::Result<()>;

    /// Removes an empty folder; `NotFound`, `DirectoryNotEmpty`.
    fn remove_dir(&self, dir: &str) -> io::Result<()>;

    /// Lists a folder, sorted by name; `""` is the folder itself. `NotFound` where there is none,
    /// `NotADirectory` where it is something else.
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>>;

    /// Makes the names in a folder durable: those made, renamed and removed until now.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Makes an empty file and opens it for writing; `AlreadyExists` where the name is taken, by a
    /// link too.
    fn create_new(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Opens a file; `NotFound`. Never follows a link, in no place of the name. For writing, a file
    /// that has a second name is refused.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name in the same folder, in place of what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; `NotFound`. Handles that are open go on working.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Takes the lock of that name, making its file if needed, without waiting. `None`: another
    /// handle, here or in another process, holds it, though its file may have been removed meanwhile.
    /// Two locks in one folder exclude each other, whatever their names.
    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>>;

    /// Tells whether anybody is seen to have the lock of that name, without touching it. `false` says little: not
    /// every system tells.
    fn is_seen_locked(&self, name: &str) -> bool;

    /// Tells whether processes can reach each other by a socket in the folder.
    fn has_sockets(&self) -> bool;

    /// Makes a socket of that name, for other processes of the same user; `None` where there can be none.
    fn listen(&self, name: &str) -> io::Result<Option<UnixListener>>;

    /// Connects to a socket; `NotFound` or `ConnectionRefused` where nobody listens.
    fn connect(&self, name: &str) -> io::Result<UnixStream>;
    /// Makes a file and holds its lock, without waiting: so others see that this process lives. `None`: the
    /// name is taken, or somebody took the file for left over in the moment before it was locked; another
    /// name will do. Nothing of it need be synced: with the power all who hold locks go too.
    fn hold(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>>;

    /// Tells whether anybody holds the lock of a file, this process too; nobody does where there is none.
    /// Leaves the lock as it is.
    fn is_held(&self, name: &str) -> io::Result<bool>;

    /// Removes a file whose lock nobody holds; `false`, and nothing is done, where somebody does. Nobody can
    /// take the lock in between.
    fn remove_unheld(&self, name: &str) -> io::Result<bool>;

    /// Counts the bytes of the file system that are free for us.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Returns 64 random bits.
    fn random(&self) -> io::Result<u64>;
}

/// An open file.
pub(crate) trait File: Debug + Send + Sync {
    /// Reads at a position; may be short, 0 only at the end of the file or for an empty buffer.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Writes at a position; may be short. Beyond the end the file grows, with zeros between.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize>;

    /// Makes content and length durable; an error where the file has no name any more, since
    /// somebody removed it: its content ends with its last handle. **After an error it is never called
    /// again on the queue's behalf**: a second call may say "ok" for bytes that are gone.
    fn sync(&self) -> io::Result<()>;

    /// Fails where the file has no name any more, as [`File::sync`] does; asks nothing of the device.
    fn check_name(&self) -> io::Result<()>;

    /// Returns the length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Cuts or grows (with zeros) to a length.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves blocks up to `len` and grows the file to it, without writing. Where that cannot be
    /// had, for another reason than a lack of room, it sets the length only.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Forgets what is cached of the file and is on the disk, so that the next read asks the disk.
    /// What is not yet written stays cached.
    fn drop_cache(&self) -> io::Result<()>;

    /// Maps a range (start a multiple of 4096) that was written before, with every page present,
    /// for stores. `None`: a store could fault on this file system, write instead.
    fn map(&self, range: Range<u64>) -> io::Result<Option<Box<dyn Mapping>>>;
}

/// A mapped range of a file. Stores survive the process at once, and a crash after [`File::sync`].
pub(crate) trait Mapping: Debug + Send {
    /// Copies bytes to a place, counted from the start of the mapping.
    ///
    /// # Panics
    /// When the place is not within the mapping: that is our own arithmetic, never the disk's word.
    fn store(&mut self, at: usize, bytes: &[u8]);
}

/// A lock that is held until it is dropped, or the process ends.
pub(crate) trait Lock: Debug + Send + Sync {
    /// Puts a text for people into the lock's file, in place of what was there.
    fn note(&self, text: &str) -> io::Result<()>;
}

/// Takes one kind of error for success: that of something which is as it was wanted already.
pub(crate) fn ignore(result: io::Result<()>, kind: io::ErrorKind) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        other => other,
    }
}

/// Reads exactly `buffer`, in as many reads as it takes; `UnexpectedEof` at the end of the file.
pub(crate) fn read_exact_at(file: &dyn File, buffer: &mut [u8], position: u64) -> io::Result<()> {
    let read = read_up_to(file, buffer, position)?;
    if read < buffer.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Fills `buffer` as far as the file reaches; returns how far.
pub(crate) fn read_up_to(file: &dyn File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], position + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all of `bytes`, in as many writes as it takes.
pub(crate) fn write_all_at(file: &dyn File, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                position += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Says that a file was removed by somebody else while it was open.
fn removed() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the file was removed while it was open")
}
