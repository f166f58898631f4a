//! Who holds the lock of the queue, and which guests live?
//!
//! All of them are `flock`: a lock belongs to the handle that took it, so a second handle of the same
//! process finds it held, and it is freed when the last copy of that handle is closed, which the end of a
//! process does, however it comes. A forked child has such a copy.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use fs2::FileExt as _;
use rustix::fs::OFlags;

use super::{Disk, retry};
use crate::storage::{Lock, Storage};

/// Takes the lock of the queue.
pub(super) fn lock(disk: &Disk, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
    // Never truncated: the text in it is the holder's until the lock is ours.
    let file = disk.open_file(name, OFlags::RDWR | OFlags::CREATE)?.file;
    match retry(|| file.try_lock_exclusive()) {
        Ok(()) => {}
        Err(error) if is_contended(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    let folder = fs::File::from(disk.open_dir("")?);
    match retry(|| folder.try_lock_exclusive()) {
        Err(error) if is_contended(&error) => Ok(None),
        // Some file systems lock no folders: the file has to do.
        Ok(()) | Err(_) => Ok(Some(Box::new(DiskLock { folder, file }))),
    }
}

/// The lock's file. Closed on drop, never unlocked: a forked child shares the lock, and would lose
/// it with the parent's unlock. Never unlinked: two processes could lock two files of one name.
/// Somebody may do that all the same, to be rid of what he takes for stale: so the folder is locked
/// too.
#[derive(Debug)]
struct DiskLock {
    /// Closed first: who has got hold of the file's lock finds this one free.
    #[expect(dead_code, reason = "held, not used")]
    folder: fs::File,
    file: fs::File,
}

impl Lock for DiskLock {
    fn note(&self, text: &str) -> io::Result<()> {
        note(&self.file, text)
    }
}

/// Makes a file and holds its lock.
pub(super) fn hold(disk: &Disk, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
    let file = match disk.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        other => other?.file,
    };
    match retry(|| file.try_lock_exclusive()) {
        Ok(()) => {}
        // Somebody looks whether it is left over. Then it is: its maker takes another name.
        Err(error) if is_contended(&error) => return Ok(None),
        Err(error) => {
            // Nobody else made it. Should this fail too, it is swept.
            let _ = disk.remove(name);
            return Err(error);
        }
    }
    // It had no lock for a moment: whoever removed it then holds a file that nobody else will find.
    let has_name = retry(|| file.metadata())?.nlink() > 0;
    Ok(has_name.then(|| Box::new(Held { file }) as _))
}

/// Tells whether a file's lock is held.
pub(super) fn is_held(disk: &Disk, name: &str) -> io::Result<bool> {
    let file = match disk.open_file(name, OFlags::RDONLY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?.file,
    };
    // Shared, so that two who look at once do not take each other for the holder.
    match retry(|| fs2::FileExt::try_lock_shared(&file)) {
        Ok(()) => Ok(false),
        Err(error) if is_contended(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Tells whether the kernel's list of locks has one of that file. It lists those of its own processes only: of
/// a container's, not of its host's.
pub(super) fn is_seen(disk: &Disk, name: &str) -> bool {
    let Ok(open) = disk.open_file(name, OFlags::RDONLY) else { return false };
    let Ok(about) = retry(|| open.file.metadata()) else { return false };
    // `1: FLOCK  ADVISORY  WRITE 4711 fd:01:131073 0 EOF`; which device it is, not all file systems tell alike.
    let has_it = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        words.any(|word| word == "FLOCK")
            && words.any(|word| word == "WRITE")
            && words.nth(1).and_then(|word| word.rsplit(':').next()?.parse().ok()) == Some(about.ino())
    };
    fs::read_to_string("/proc/locks").is_ok_and(|locks| locks.lines().any(has_it))
}

/// Removes a file whose lock is free.
pub(super) fn remove_unheld(disk: &Disk, name: &str) -> io::Result<bool> {
    let file = match disk.open_file(name, OFlags::RDWR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?.file,
    };
    match retry(|| file.try_lock_exclusive()) {
        Ok(()) => {}
        Err(error) if is_contended(&error) => return Ok(false),
        Err(error) => return Err(error),
    }
    // Locked until its name is gone: whoever made it and comes to lock it only now finds that it has none.
    match disk.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        other => other.map(|()| true),
    }
}

/// The file of a guest. Closed on drop, never unlocked, as the queue's lock is.
#[derive(Debug)]
struct Held {
    file: fs::File,
}

impl Lock for Held {
    fn note(&self, text: &str) -> io::Result<()> {
        note(&self.file, text)
    }
}

fn note(file: &fs::File, text: &str) -> io::Result<()> {
    file.write_all_at(text.as_bytes(), 0)?;
    // Not emptied first: ext4 writes a file that was emptied, and filled again, at once, and a takeover waits for that.
    let length = text.len() as u64;
    if retry(|| file.metadata())?.len() > length {
        retry(|| file.set_len(length))?;
    }
    Ok(())
}

fn is_contended(error: &io::Error) -> bool {
    error.raw_os_error() == fs2::lock_contended_error().raw_os_error()
}
