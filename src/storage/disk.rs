//! How does the real disk do it?
//!
//! The one place with system calls on files, and with `unsafe` (the one mapping, DESIGN §5). A call
//! that a signal interrupted is made again, so that no caller has to think of it.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs2::FileExt as _;
use memmap2::{Advice, MmapMut, MmapOptions};
use rustix::fs::{AtFlags, Dir, FallocateFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::is_lack_of_room;

use super::{Access, Entry, File, Kind, Lock, Mapping, Storage};

mod fork;

pub(crate) use fork::Process;

/// Where a mapping may start.
const PAGE: u64 = 4096;

/// A folder on the real file system.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
}

impl Disk {
    /// Names a folder; touches nothing.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Opens a folder for listing and syncing. The root may be a link, as the user says; a folder
    /// in it may not, since whoever put it there could lead us anywhere.
    fn open_dir(&self, dir: &str) -> io::Result<OwnedFd> {
        let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if dir.is_empty() {
            return open_dir(&self.root, flags);
        }
        flags |= OFlags::NOFOLLOW;
        open_dir(&self.path(dir), flags)
    }
}

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
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match open_dir(folder, flags) {
                Ok(folder) => retry(|| Ok(rustix::fs::fsync(&folder)?))?,
                // Whoever may not read a folder further up did not make it.
                Err(error) if level > 0 && error.kind() == io::ErrorKind::PermissionDenied => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        retry(|| DirBuilder::new().mode(0o700).create(self.path(dir)))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        retry(|| fs::remove_dir(self.path(dir)))
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
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        Ok(Arc::new(DiskFile { file: open_file(&self.path(name), &mut options, 0)? }))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let path = self.path(name);
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::Write);
        if access == Access::Write {
            let file = open_file(&path, &mut options, 0)?;
            return Ok(Arc::new(DiskFile { file }));
        }
        let file = match open_file(&path, &mut options, flag(OFlags::NOATIME)) {
            // Only the owner of a file may leave its times alone.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                open_file(&path, &mut options, 0)?
            }
            other => other?,
        };
        Ok(Arc::new(DiskFile { file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        retry(|| fs::rename(self.path(from), self.path(to)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        retry(|| fs::remove_file(self.path(name)))
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
        let mut options = OpenOptions::new();
        // Never truncated: the text in it is the holder's until the lock is ours.
        options.read(true).write(true).create(true).truncate(false);
        let file = open_file(&self.path(name), &mut options, 0)?;
        match retry(|| file.try_lock_exclusive()) {
            Ok(()) => Ok(Some(Box::new(DiskLock { file }))),
            Err(error) if is_contended(&error) => Ok(None),
            Err(error) => Err(error),
        }
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
}

impl DiskFile {
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
        retry(|| self.file.sync_data())
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

/// The lock's file. Closed on drop, never unlocked: a forked child shares the lock, and would lose
/// it with the parent's unlock. Never unlinked: two processes could lock two files of one name.
#[derive(Debug)]
struct DiskLock {
    file: fs::File,
}

impl Lock for DiskLock {
    fn note(&self, text: &str) -> io::Result<()> {
        retry(|| self.file.set_len(0))?;
        self.file.write_all_at(text.as_bytes(), 0)
    }
}

fn open_dir(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    retry(|| Ok(rustix::fs::open(path, flags, Mode::empty())?))
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

/// Opens a regular file, and nothing else.
fn open_file(path: &Path, options: &mut OpenOptions, more: i32) -> io::Result<fs::File> {
    // Without O_NONBLOCK opening a fifo waits for its other end, for ever.
    options.mode(0o600).custom_flags(flag(OFlags::NOFOLLOW | OFlags::NONBLOCK) | more);
    let file = match retry(|| options.open(path)) {
        Err(error) if is(&error, Errno::LOOP) => return Err(refused("a link")),
        // A socket, or a device that is not there.
        Err(error) if is(&error, Errno::NXIO) => return Err(refused("a socket or device")),
        other => other?,
    };
    let kind = retry(|| file.metadata())?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        let what = if kind.is_fifo() { "a fifo" } else { "a device" };
        return Err(refused(what));
    }
    Ok(file)
}

fn refused(what: &str) -> io::Error {
    let text = format!("found {what} where a regular file was expected: not opened");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn flag(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn is_contended(error: &io::Error) -> bool {
    error.raw_os_error() == fs2::lock_contended_error().raw_os_error()
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
