//! How does the simulated disk answer the calls of the storage contract?

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::ends::Kind as Operation;
use super::names::{Id, OUTSIDE};
use super::{Shared, SimDisk};
use crate::storage::{Access, Entry, File, Kind, Lock, Mapping, Storage};

impl Storage for SimDisk {
    fn root(&self) -> &Path {
        Path::new("simulated")
    }

    fn make_root(&self) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.tick_plain()?;
        state.make_root();
        Ok(())
    }

    fn sync_parent(&self) -> io::Result<()> {
        self.sync_names(None)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.tick_plain()?;
        state.make_dir(dir)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.tick_plain()?;
        state.remove_dir(dir)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let mut state = self.shared.lock();
        state.tick_read()?;
        let folder = state.names.folder(dir)?;
        let entries = state.names.entries(folder).map(|(name, id)| {
            let file = state.files.get(&id);
            Entry {
                name: name.to_owned(),
                kind: file.map_or(Kind::Folder, |_| Kind::File),
                len: file.map_or(0, |content| content.len()),
            }
        });
        Ok(entries.collect())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.sync_names(Some(dir))
    }

    fn create_new(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.shared.lock();
        state.tick_plain()?;
        let id = state.create(name)?;
        state.hold(id);
        drop(state);
        Ok(Arc::new(SimFile::new(&self.shared, id, Access::Write)))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let mut state = self.shared.lock();
        state.tick_read()?;
        let id = state.file(name)?;
        state.hold(id);
        drop(state);
        Ok(Arc::new(SimFile::new(&self.shared, id, access)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.tick_plain()?;
        state.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.tick_plain()?;
        state.remove(name)
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
        let mut state = self.shared.lock();
        state.alive()?;
        let id = match state.file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => state.create(name)?,
            other => other?,
        };
        if !state.locks.insert(id) {
            return Ok(None);
        }
        state.hold(id);
        drop(state);
        let file = SimFile::new(&self.shared, id, Access::Write);
        Ok(Some(Box::new(SimLock { file })))
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.shared.lock().dice.next())
    }
}

impl SimDisk {
    /// Syncs a folder; `None` is the one that the queue's folder is in.
    fn sync_names(&self, dir: Option<&str>) -> io::Result<()> {
        let mut state = self.shared.lock();
        let lost = state.tick_sync()?;
        let folder = match dir {
            Some(dir) => state.names.folder(dir)?,
            None => OUTSIDE,
        };
        if let Some(error) = lost {
            // Names go through a journal: one that failed does not go on and forget them, so they
            // are as unsynced as before.
            return Err(error);
        }
        state.sync_dir(folder);
        Ok(())
    }
}

/// An open file; holds its content though its name goes.
#[derive(Debug)]
struct SimFile {
    shared: Arc<Shared>,
    id: Id,
    access: Access,
}

impl SimFile {
    /// Wraps a file that the caller has taken hold of.
    fn new(shared: &Arc<Shared>, id: Id, access: Access) -> Self {
        let shared = Arc::clone(shared);
        Self { shared, id, access }
    }

    fn may_write(&self) -> io::Result<()> {
        const BAD_DESCRIPTOR: i32 = 9;
        match self.access {
            Access::Write => Ok(()),
            Access::Read => Err(io::Error::from_raw_os_error(BAD_DESCRIPTOR)),
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.shared.lock().let_go(self.id);
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.shared.lock();
        let short = state.tick_read()? && buffer.len() > 1;
        let wanted = if short { buffer.len() / 2 } else { buffer.len() };
        Ok(state.content(self.id).read(&mut buffer[..wanted], position))
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        self.may_write()?;
        self.shared.lock().write(self.id, bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.shared.about_to_sync();
        self.shared.lock().sync(self.id)
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.shared.lock();
        state.alive()?;
        Ok(state.content(self.id).len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.may_write()?;
        self.shared.lock().set_len(self.id, len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.may_write()?;
        self.shared.lock().allocate(self.id, len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.tick_plain()?;
        state.content_mut(self.id).drop_cache();
        Ok(())
    }

    fn map(&self, range: Range<u64>) -> io::Result<Option<Box<dyn Mapping>>> {
        if range.is_empty() || !range.start.is_multiple_of(4096) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut state = self.shared.lock();
        state.alive()?;
        let refused = state.nature.no_mappings || self.access == Access::Read;
        if refused || state.content(self.id).len() < range.end {
            return Ok(None);
        }
        let content = state.content(self.id);
        let blocks = super::content::sectors(range.clone());
        if !content.space.gaps(blocks).is_empty() {
            // A real disk would look for a block at the first store, and may find none.
            let text = "the range was not written before it was mapped";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        state.hold(self.id);
        drop(state);
        let file = Self::new(&self.shared, self.id, Access::Write);
        Ok(Some(Box::new(SimMapping { file, range })))
    }
}

#[derive(Debug)]
struct SimMapping {
    file: SimFile,
    range: Range<u64>,
}

impl Mapping for SimMapping {
    fn store(&mut self, at: usize, bytes: &[u8]) {
        let position = self.range.start + at as u64;
        let end = position + bytes.len() as u64;
        assert!(end <= self.range.end, "a store beyond the mapping");
        let mut state = self.file.shared.lock();
        // A store cannot fail, and a dead process does not store.
        if state.tick(Operation::Store).is_ok() {
            state.content_mut(self.file.id).write(bytes, position);
        }
    }
}

#[derive(Debug)]
struct SimLock {
    file: SimFile,
}

impl Lock for SimLock {
    fn note(&self, text: &str) -> io::Result<()> {
        let mut state = self.file.shared.lock();
        state.alive()?;
        // Informs only, so it is no operation that a test would want to fail.
        let content = state.content_mut(self.file.id);
        content.set_len(0);
        content.write(text.as_bytes(), 0);
        Ok(())
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.file.shared.lock().locks.remove(&self.file.id);
    }
}
