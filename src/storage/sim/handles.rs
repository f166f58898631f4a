//! How does the simulated disk answer the calls of the storage contract?

use std::io;
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use super::calls::{Call, Target};
use super::names::{Id, OUTSIDE};
use super::orders::Synced;
use super::{Shared, SimDisk};
use crate::storage::{Access, Entry, File, Kind, Lock, Mapping, Storage};

impl Storage for SimDisk {
    fn root(&self) -> &Path {
        Path::new("simulated")
    }

    fn network(&self) -> io::Result<Option<&'static str>> {
        let mut state = self.shared.call(Call::FileSystem, Target::Name("."));
        state.ask(Call::FileSystem, Target::Name("."))?;
        Ok(state.nature.network)
    }

    fn make_root(&self) -> io::Result<()> {
        let mut state = self.shared.call(Call::MakeDir, Target::Name("."));
        state.tick_plain(Call::MakeDir, Target::Name("."))?;
        state.make_root();
        Ok(())
    }

    fn sync_parent(&self) -> io::Result<()> {
        self.sync_names(None)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.shared.call(Call::MakeDir, Target::Name(dir));
        state.tick_plain(Call::MakeDir, Target::Name(dir))?;
        state.make_dir(dir)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.shared.call(Call::RemoveDir, Target::Name(dir));
        state.tick_plain(Call::RemoveDir, Target::Name(dir))?;
        state.remove_dir(dir)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let mut state = self.shared.call(Call::List, Target::Name(dir));
        state.tick_read(Call::List, Target::Name(dir))?;
        let folder = state.names.folder(dir)?;
        let entries = state.names.entries(folder).map(|(name, id)| {
            let file = state.files.get(&id);
            Entry {
                name: name.to_owned(),
                kind: file.map_or(Kind::Folder, |_| Kind::File),
                len: file.map_or(0, |content| content.len()),
                linked: false,
            }
        });
        Ok(entries.collect())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.sync_names(Some(dir))
    }

    fn create_new(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.shared.call(Call::Create, Target::Name(name));
        state.tick_plain(Call::Create, Target::Name(name))?;
        let id = state.create(name)?;
        state.hold(id);
        drop(state);
        Ok(Arc::new(SimFile::new(&self.shared, id, Access::Write)))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let mut state = self.shared.call(Call::Open, Target::Name(name));
        state.tick_read(Call::Open, Target::Name(name))?;
        let id = state.file(name)?;
        state.called(id, name);
        state.hold(id);
        drop(state);
        Ok(Arc::new(SimFile::new(&self.shared, id, access)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.shared.call(Call::Rename, Target::Name(from));
        state.tick_plain(Call::Rename, Target::Name(from))?;
        state.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.shared.call(Call::Remove, Target::Name(name));
        state.tick_plain(Call::Remove, Target::Name(name))?;
        state.remove(name)
    }

    fn has_sockets(&self) -> bool {
        false
    }

    fn listen(&self, _name: &str) -> io::Result<Option<UnixListener>> {
        Ok(None)
    }

    fn connect(&self, _name: &str) -> io::Result<UnixStream> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
        let mut state = self.shared.call(Call::Lock, Target::Name(name));
        state.ask(Call::Lock, Target::Name(name))?;
        let id = match state.file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => state.create(name)?,
            other => other?,
        };
        let (folder, _) = state.names.place(name)?;
        if !state.locks.insert(folder) {
            return Ok(None);
        }
        state.hold(id);
        drop(state);
        let file = SimFile::new(&self.shared, id, Access::Write);
        Ok(Some(Box::new(SimLock { file, folder })))
    }

    fn hold(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
        let mut state = self.shared.call(Call::Create, Target::Name(name));
        state.tick_plain(Call::Create, Target::Name(name))?;
        let id = match state.create(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            other => other?,
        };
        state.hold(id);
        state.held.insert(id);
        drop(state);
        Ok(Some(Box::new(SimHeld { file: SimFile::new(&self.shared, id, Access::Write) })))
    }

    fn is_held(&self, name: &str) -> io::Result<bool> {
        let mut state = self.shared.call(Call::Lock, Target::Name(name));
        state.ask(Call::Lock, Target::Name(name))?;
        match state.file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|id| state.is_held(id)),
        }
    }

    fn is_seen_locked(&self, name: &str) -> bool {
        let state = self.shared.lock();
        state.names.place(name).is_ok_and(|(folder, _)| state.locks.contains(&folder))
    }

    fn remove_unheld(&self, name: &str) -> io::Result<bool> {
        let mut state = self.shared.call(Call::Remove, Target::Name(name));
        state.ask(Call::Lock, Target::Name(name))?;
        let id = match state.file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            other => other?,
        };
        if state.is_held(id) {
            return Ok(false);
        }
        state.tick_plain(Call::Remove, Target::Name(name))?;
        state.remove(name).map(|()| true)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.shared.lock().orders.budget.unwrap_or(1 << 60))
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.shared.lock().dice.next())
    }
}

impl SimDisk {
    /// Syncs a folder; `None` is the one that the queue's folder is in.
    fn sync_names(&self, dir: Option<&str>) -> io::Result<()> {
        let target = Target::Name(dir.unwrap_or(".."));
        let mut state = self.shared.call(Call::SyncDir, target);
        let synced = state.tick_sync(Call::SyncDir, target)?;
        let folder = match dir {
            Some(dir) => state.names.folder(dir)?,
            None => OUTSIDE,
        };
        match synced {
            Synced::Done => state.sync_dir(folder),
            Synced::Not => {}
            // Names go through a journal: one that failed does not go on and forget them, so they
            // are as unsynced as before.
            Synced::Lost(error) => return Err(error),
        }
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
        let mut state = self.shared.call(Call::Read, Target::File(self.id));
        let short = state.tick_read(Call::Read, Target::File(self.id))? && buffer.len() > 1;
        let wanted = if short { buffer.len() / 2 } else { buffer.len() };
        Ok(state.content(self.id).read(&mut buffer[..wanted], position))
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        self.may_write()?;
        self.shared.call(Call::Write, Target::File(self.id)).write(self.id, bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.shared.about_to_sync();
        self.shared.call(Call::Sync, Target::File(self.id)).sync(self.id)
    }

    fn check_name(&self) -> io::Result<()> {
        self.shared.lock().check_name(self.id)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.shared.call(Call::Len, Target::File(self.id));
        state.ask(Call::Len, Target::File(self.id))?;
        Ok(state.content(self.id).len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.may_write()?;
        self.shared.call(Call::SetLen, Target::File(self.id)).set_len(self.id, len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.may_write()?;
        self.shared.call(Call::Allocate, Target::File(self.id)).allocate(self.id, len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        let mut state = self.shared.call(Call::DropCache, Target::File(self.id));
        state.tick_plain(Call::DropCache, Target::File(self.id))?;
        state.content_mut(self.id).drop_cache();
        Ok(())
    }

    fn map(&self, range: Range<u64>) -> io::Result<Option<Box<dyn Mapping>>> {
        if range.is_empty() || !range.start.is_multiple_of(4096) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut state = self.shared.call(Call::Map, Target::File(self.id));
        state.ask(Call::Map, Target::File(self.id))?;
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
        if state.tick(Call::Store, Target::File(self.file.id)).is_ok() {
            state.content_mut(self.file.id).write(bytes, position);
        }
    }
}

/// The lock of a file, held by this process.
#[derive(Debug)]
struct SimHeld {
    file: SimFile,
}

impl Lock for SimHeld {
    fn note(&self, text: &str) -> io::Result<()> {
        note(&self.file, text)
    }
}

impl Drop for SimHeld {
    fn drop(&mut self) {
        self.file.shared.lock().held.remove(&self.file.id);
    }
}

fn note(file: &SimFile, text: &str) -> io::Result<()> {
    let mut state = file.shared.lock();
    state.alive()?;
    // Informs only, so it is no operation that a test would want to fail.
    let content = state.content_mut(file.id);
    content.set_len(0);
    content.write(text.as_bytes(), 0);
    Ok(())
}

#[derive(Debug)]
struct SimLock {
    file: SimFile,
    folder: Id,
}

impl Lock for SimLock {
    fn note(&self, text: &str) -> io::Result<()> {
        note(&self.file, text)
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.file.shared.lock().locks.remove(&self.folder);
    }
}
