//! How does the real disk do it?
//!
//! The one place with system calls on files, and with `unsafe` (the one mapping, DESIGN §5). A call
//! that a signal interrupted is made again, so that no caller has to think of it.
//!
//! Every name is looked up from a handle on the queue's folder, part by part and through no link:
//! whoever moves the folder or puts a link into it leads us nowhere else.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use memmap2::{Advice, MmapMut, MmapOptions};
use rustix::fs::{AtFlags, Dir, FallocateFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::error::is_lack_of_room;

use super::{Access, Entry, File, Kind, Lock, Mapping, Storage, removed};

mod fork;
mod locks;
mod socket;

pub(crate) use fork::{PerProcess, Process};
pub(crate) use socket::{other_user, process_of};

/// Where a mapping may start.
const PAGE: u64 = 4096;

/// A folder on the real file system.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    /// The folder itself, from the first time that it was found.
    folder: OnceLock<OwnedFd>,
}

impl Disk {
    /// Names a folder; touches nothing.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), folder: OnceLock::new() }
    }

    /// Returns the folder. It may be a link, as the user says.
    fn folder(&self) -> io::Result<BorrowedFd<'_>> {
        if self.folder.get().is_none() {
            let found = retry(|| Ok(rustix::fs::open(&self.root, FOLDER, Mode::empty())?))?;
            // Another thread may have been faster: then that one counts.
            let _ = self.folder.set(found);
        }
        self.folder.get().map(AsFd::as_fd).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Calls with the folder that a name lies in, and the last part of the name.
    fn at<T>(
        &self,
        name: &str,
        call: impl Fn(BorrowedFd<'_>, &str) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        let Some((folder, name)) = name.rsplit_once('/') else {
            let folder = self.folder()?;
            return retry(|| Ok(call(folder, name)?));
        };
        let folder = self.open_dir(folder)?;
        retry(|| Ok(call(folder.as_fd(), name)?))
    }

    /// Opens a folder; `""` is the queue's own. None in it may be a link, since whoever put it there
    /// could lead us anywhere.
    fn open_dir(&self, dir: &str) -> io::Result<OwnedFd> {
        let mut folder = retry(|| Ok(rustix::fs::openat(self.folder()?, ".", FOLDER, Mode::empty())?))?;
        for part in dir.split('/').filter(|part| !part.is_empty()) {
            let flags = FOLDER | OFlags::NOFOLLOW;
            folder = match retry(|| Ok(rustix::fs::openat(&folder, part, flags, Mode::empty())?)) {
                Err(error) if is(&error, Errno::NOTDIR) => {
                    let what = format!("{part} is no folder, or a link to one, which is not followed");
                    return Err(io::Error::new(io::ErrorKind::NotADirectory, what));
                }
                other => other?,
            };
            self.is_trusted(retry(|| Ok(rustix::fs::fstat(&folder)?))?.st_uid)?;
        }
        Ok(folder)
    }

    /// Opens a regular file that is ours, and nothing else.
    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<DiskFile> {
        // Without O_NONBLOCK opening a fifo waits for its other end, for ever.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = match self.at(name, |folder, name| rustix::fs::openat(folder, name, flags, mode)) {
            Err(error) if is(&error, Errno::LOOP) => return Err(found_instead("a link")),
            // A socket, or a device that is not there.
            Err(error) if is(&error, Errno::NXIO) => return Err(found_instead("a socket or device")),
            other => fs::File::from(other?),
        };
        let about = retry(|| file.metadata())?;
        let kind = about.file_type();
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !kind.is_file() {
            return Err(found_instead(if kind.is_fifo() { "a fifo" } else { "a device" }));
        }
        self.is_trusted(about.uid())?;
        if flags.contains(OFlags::RDWR) && about.nlink() > 1 {
            // A backup made of links would change with what we write, and a second queue with us.
            return Err(refused("it has another name too (a hard link): copy it, and remove one of them"));
        }
        Ok(DiskFile { file, is_counted: about.nlink() > 0 })
    }

    /// Refuses what belongs neither to us nor to whom the folder belongs: its owner may change it
    /// whenever he wants.
    fn is_trusted(&self, owner: u32) -> io::Result<()> {
        let ours = rustix::process::geteuid().as_raw();
        if owner == ours || owner == retry(|| Ok(rustix::fs::fstat(self.folder()?)?))?.st_uid {
            return Ok(());
        }
        Err(refused("it belongs to another user than the folder: see who put it there"))
    }
}

/// How folders are opened.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Storage for Disk {
    fn root(&self) -> &Path {
        &self.root
    }

    fn network(&self) -> io::Result<Option<&'static str>> {
        for folder in self.root.ancestors() {
            // A relative name ends in nothing, which is where we are.
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            match retry(|| Ok(rustix::fs::statfs(folder)?)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => return Ok(network_of(found?.f_type)),
            }
        }
        Ok(None)
    }

    fn make_root(&self) -> io::Result<()> {
        let made = retry(|| DirBuilder::new().recursive(true).mode(0o700).create(&self.root));
        match made {
            // The system says "exists" where the name is taken by something that is no folder.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(io::ErrorKind::NotADirectory.into())
            }
            other => other,
        }
    }

    fn sync_parent(&self) -> io::Result<()> {
        // Relative names have no parent to speak of ("jobs"), and links have another one.
        let root = retry(|| fs::canonicalize(&self.root))?;
        let device = retry(|| fs::metadata(&root))?.dev();
        for (level, folder) in root.ancestors().skip(1).enumerate() {
            // The folders above may be as new as ours, from a process that died before it could
            // sync them; our name is worth nothing without theirs.
            if level > 0 && retry(|| fs::metadata(folder))?.dev() != device {
                break;
            }
            match retry(|| Ok(rustix::fs::open(folder, FOLDER, Mode::empty())?)) {
                Ok(folder) => retry(|| Ok(rustix::fs::fsync(&folder)?))?,
                // Whoever may not read a folder further up did not make it.
                Err(error) if level > 0 && error.kind() == io::ErrorKind::PermissionDenied => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.at(dir, |folder, name| rustix::fs::mkdirat(folder, name, Mode::RWXU))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.at(dir, |folder, name| rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let folder = self.open_dir(dir)?;
        let mut entries = Vec::new();
        for found in retry(|| Ok(Dir::read_from(&folder)?))? {
            let found = found?;
            let name = found.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = retry(|| Ok(rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?));
            let stat = match stat {
                // Someone removed it while we looked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let kind = match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Kind::File,
                FileType::Directory => Kind::Folder,
                _ => Kind::Other,
            };
            let len = if kind == Kind::File { stat.st_size } else { 0 };
            entries.push(Entry {
                name: OsStr::from_bytes(name.to_bytes()).to_string_lossy().into_owned(),
                kind,
                len: u64::try_from(len).unwrap_or(0),
                linked: kind == Kind::File && stat.st_nlink > 1,
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let folder = self.open_dir(dir)?;
        retry(|| Ok(rustix::fs::fsync(&folder)?))
    }

    fn create_new(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let opened = match access {
            Access::Write => self.open_file(name, OFlags::RDWR),
            Access::Read => match self.open_file(name, OFlags::RDONLY | OFlags::NOATIME) {
                // Only the owner of a file may leave its times alone.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.open_file(name, OFlags::RDONLY)
                }
                other => other,
            },
        };
        Ok(Arc::new(opened?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.at(from, |source, from| {
            // Both lie in one folder: what is renamed is the next version of what had the name.
            rustix::fs::renameat(source, from, source, to.rsplit_once('/').map_or(to, |(_, to)| to))
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.at(name, |folder, name| rustix::fs::unlinkat(folder, name, AtFlags::empty()))
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
        locks::lock(self, name)
    }

    fn hold(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
        locks::hold(self, name)
    }

    fn is_held(&self, name: &str) -> io::Result<bool> {
        locks::is_held(self, name)
    }

    fn is_seen_locked(&self, name: &str) -> bool {
        locks::is_seen(self, name)
    }

    fn remove_unheld(&self, name: &str) -> io::Result<bool> {
        locks::remove_unheld(self, name)
    }

    fn has_sockets(&self) -> bool {
        true
    }

    fn listen(&self, name: &str) -> io::Result<Option<UnixListener>> {
        self.bind(name)
    }

    fn connect(&self, name: &str) -> io::Result<UnixStream> {
        self.connect_to(name)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let about = retry(|| Ok(rustix::fs::fstatvfs(self.folder()?)?))?;
        Ok(about.f_bavail.saturating_mul(about.f_frsize))
    }

    fn random(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        let mut done = 0;
        while done < bytes.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            done += retry(|| Ok(rustix::rand::getrandom(&mut bytes[done..], flags)?))?;
        }
        Ok(u64::from_le_bytes(bytes))
    }
}

/// An open file of the real disk.
#[derive(Debug)]
struct DiskFile {
    file: fs::File,
    /// The file system counts the names of files.
    is_counted: bool,
}

impl DiskFile {
    /// Returns how many names the file has.
    ///
    /// Asks for nothing else: who asks for times has Linux (from 6.13 on) note the time of the next write to the
    /// nanosecond, which makes the inode dirty, and a write and sync took 131 µs in place of 91.
    fn names(&self) -> io::Result<u64> {
        let asked = StatxFlags::NLINK;
        match retry(|| Ok(rustix::fs::statx(&self.file, c"", AtFlags::EMPTY_PATH, asked)?)) {
            Ok(told) if told.stx_mask & asked.bits() != 0 => Ok(told.stx_nlink.into()),
            // A kernel, or a sandbox, without the call.
            _ => Ok(retry(|| self.file.metadata())?.nlink()),
        }
    }

    /// Says whether stores into written blocks cannot fault on this file system: it overwrites in
    /// place, so that they need no space.
    fn overwrites_in_place(&self) -> io::Result<bool> {
        let magic = retry(|| Ok(rustix::fs::fstatfs(&self.file)?))?.f_type;
        const EXT: u64 = 0xEF53;
        const XFS: u64 = 0x5846_5342;
        Ok(u64::try_from(magic).is_ok_and(|magic| matches!(magic, EXT | XFS)))
    }
}

impl File for DiskFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        retry(|| self.file.read_at(buffer, position))
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        retry(|| self.file.write_at(bytes, position))
    }

    fn sync(&self) -> io::Result<()> {
        retry(|| self.file.sync_data())?;
        self.check_name()
    }

    fn check_name(&self) -> io::Result<()> {
        if self.is_counted && self.names()? == 0 {
            return Err(removed());
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        retry(|| Ok(self.file.metadata()?.len()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        retry(|| self.file.set_len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        // Never posix_fallocate: where blocks cannot be reserved it writes, over what is there.
        let flags = FallocateFlags::empty();
        match retry(|| Ok(rustix::fs::fallocate(&self.file, flags, 0, len)?)) {
            // Blocks that are there make writes faster, and a full disk show early: no more. What is
            // really broken shows when it is written to.
            Err(error) if !is_lack_of_room(&error) => {
                if self.len()? < len {
                    self.set_len(len)?;
                }
                Ok(())
            }
            other => other,
        }
    }

    fn drop_cache(&self) -> io::Result<()> {
        let advice = rustix::fs::Advice::DontNeed;
        match retry(|| Ok(rustix::fs::fadvise(&self.file, 0, None, advice)?)) {
            Err(error) if is_unsupported(&error) => Ok(()),
            other => other,
        }
    }

    fn map(&self, range: Range<u64>) -> io::Result<Option<Box<dyn Mapping>>> {
        let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
        if len == 0 || !range.start.is_multiple_of(PAGE) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if !self.overwrites_in_place()? || self.len()? < range.end {
            return Ok(None);
        }
        let mut options = MmapOptions::new();
        options.offset(range.start).len(len);
        // SAFETY: the memory is never read, only stored to through `&mut self`, so that a change
        // of the file from outside is no aliasing that our code could see. Stores fault only if
        // the file shrinks or its device fails: that ends the process as kill -9 does (P9).
        let Ok(map) = (unsafe { options.map_mut(&self.file) }) else {
            return Ok(None);
        };
        // Kernels before 5.14 cannot do this; without it a store might fault later.
        if retry(|| map.advise(Advice::PopulateWrite)).is_err() {
            return Ok(None);
        }
        Ok(Some(Box::new(DiskMapping { map })))
    }
}

/// A mapped range of a file, all pages present.
#[derive(Debug)]
struct DiskMapping {
    map: MmapMut,
}

impl Mapping for DiskMapping {
    fn store(&mut self, at: usize, bytes: &[u8]) {
        self.map[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// Names the network file system of a magic number, as `statfs(2)` lists them.
fn network_of(magic: impl Into<i64>) -> Option<&'static str> {
    // Where the field has 32 bits, a number with its highest bit set comes as a negative one.
    match magic.into() & 0xFFFF_FFFF {
        0x6969 => Some("NFS"),
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => Some("SMB"),
        0x0102_1997 => Some("9p"),
        0x5346_414F | 0x6B41_4653 => Some("AFS"),
        0x00C3_6400 => Some("Ceph"),
        0x7375_7245 => Some("Coda"),
        0x564C => Some("NCP"),
        _ => None,
    }
}

fn found_instead(what: &str) -> io::Error {
    refused(&format!("found {what} where a regular file was expected"))
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{why}; not opened"))
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn is_unsupported(error: &io::Error) -> bool {
    [Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS].iter().any(|&errno| is(error, errno))
}

/// Calls again for as long as a signal interrupts.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
