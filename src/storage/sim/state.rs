//! What does the simulated disk hold, and which call is to fail?

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::Fault;
use super::calls::{Call, Made, Target};
use super::content::{Content, sectors};
use super::dice::{Dice, Luck};
use super::ends::Ends;
use super::names::{Change, Id, Names, OUTSIDE, ROOT};
use super::orders::{Orders, Synced, broken, full};
use super::ranges::total;
use crate::storage::SECTOR;

/// What kind of disk it is. Stays so.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nature {
    pub(super) no_mappings: bool,
    pub(super) ignores_dir_syncs: bool,
    pub(super) network: Option<&'static str>,
}

/// Everything about one disk.
#[derive(Debug)]
pub(super) struct State {
    pub(super) names: Names,
    pub(super) files: BTreeMap<Id, Arc<Content>>,
    /// What each file was called last, for those who aim at it.
    pub(super) paths: BTreeMap<Id, Arc<str>>,
    /// How many handles each file has: its space comes back with the last one.
    handles: BTreeMap<Id, usize>,
    /// Files that failed in the middle of a write: the next one finds no room.
    full_next: BTreeSet<Id>,
    /// Folders in which a lock is held.
    pub(super) locks: BTreeSet<Id>,
    /// Files whose locks this process holds, and those that other processes do, which live on.
    pub(super) held: BTreeSet<Id>,
    pub(super) held_elsewhere: BTreeSet<Id>,
    next_id: Id,
    pub(super) dice: Dice,
    pub(super) orders: Orders,
    pub(super) nature: Nature,
    pub(super) ops: u64,
    pub(super) reads: u64,
    /// The calls that were made, if somebody wants to know.
    pub(super) made: Option<Vec<Made>>,
    pub(super) killed: bool,
    /// What each operation was.
    pub(super) kinds: Vec<Call>,
    pub(super) ends: Option<Ends>,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self::with(Names::new(), BTreeMap::new(), 1, Dice::new(seed))
    }

    fn with(names: Names, files: BTreeMap<Id, Arc<Content>>, next_id: Id, dice: Dice) -> Self {
        Self {
            names,
            files,
            paths: BTreeMap::new(),
            handles: BTreeMap::new(),
            full_next: BTreeSet::new(),
            locks: BTreeSet::new(),
            held: BTreeSet::new(),
            held_elsewhere: BTreeSet::new(),
            next_id,
            dice,
            orders: Orders::default(),
            nature: Nature::default(),
            ops: 0,
            reads: 0,
            made: None,
            killed: false,
            kinds: Vec::new(),
            ends: None,
        }
    }

    /// Returns the disk that the next process finds: the cache lives, handles do not, nor do locks but those of other processes.
    pub(super) fn kill(&mut self) -> Self {
        self.killed = true;
        self.left_by_kill()
    }

    /// The same, while this process goes on.
    pub(super) fn left_by_kill(&self) -> Self {
        let mut files = self.files.clone();
        let known = self.names.known(BTreeSet::new());
        files.retain(|id, _| known.contains(id));
        // Other random numbers from here on, as another process would get.
        let dice = Dice::new(self.dice.clone().next());
        let mut left = Self::with(self.names.clone(), files, self.next_id, dice);
        left.nature = self.nature;
        left.held_elsewhere.clone_from(&self.held_elsewhere);
        left
    }

    /// Returns the disk after a power cut, and leaves this one as it is.
    pub(super) fn crash(&self, seed: u64) -> Self {
        let mut dice = Dice::new(self.dice.clone().next() ^ seed.wrapping_mul(0x2545_F491_4F6C_DD1D));
        let luck = dice.luck(seed);
        self.crash_with(dice, luck)
    }

    /// Returns the disk after a power cut of that luck.
    pub(super) fn crash_with(&self, mut dice: Dice, luck: Luck) -> Self {
        let names = self.names.crash(&mut dice, luck);
        let known = names.known(BTreeSet::new());
        let mut files = BTreeMap::new();
        for (&id, content) in self.files.iter().filter(|(id, _)| known.contains(id)) {
            let left = if content.is_settled() {
                Arc::clone(content)
            } else {
                Arc::new(content.crash(&mut dice, luck))
            };
            files.insert(id, left);
        }
        let mut left = Self::with(names, files, self.next_id, dice);
        left.nature = self.nature;
        left
    }

    /// Tells whether the lock of a file is held, here or by another process.
    pub(super) fn is_held(&self, file: Id) -> bool {
        self.held.contains(&file) || self.held_elsewhere.contains(&file)
    }

    /// Says whether the process that uses this disk still runs.
    pub(super) fn alive(&self) -> io::Result<()> {
        if self.killed {
            return Err(io::Error::other("the process was killed"));
        }
        if self.orders.stop_after.is_some_and(|last| self.ops >= last) {
            return Err(io::Error::other("the disk stopped"));
        }
        Ok(())
    }

    pub(super) fn make_root(&mut self) {
        if self.names.get(OUTSIDE, ROOT).is_none() {
            let id = self.new_id();
            self.names.add_folder(id);
            self.name(OUTSIDE, ROOT, Some(id));
        }
    }

    pub(super) fn make_dir(&mut self, dir: &str) -> io::Result<()> {
        let (folder, name) = self.free_place(dir)?;
        let id = self.new_id();
        self.names.add_folder(id);
        self.name(folder, name, Some(id));
        Ok(())
    }

    pub(super) fn create(&mut self, path: &str) -> io::Result<Id> {
        let (folder, name) = self.free_place(path)?;
        let id = self.new_id();
        self.files.insert(id, Arc::default());
        self.called(id, path);
        self.name(folder, name, Some(id));
        Ok(id)
    }

    pub(super) fn remove_dir(&mut self, dir: &str) -> io::Result<()> {
        let (folder, name) = self.names.place(dir)?;
        let id = self.names.folder(dir)?;
        if self.names.entries(id).next().is_some() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.name(folder, name, None);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        let (folder, name) = self.names.place(path)?;
        let id = self.file(path)?;
        self.name(folder, name, None);
        self.give_back(id);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let id = self.names.find(from)?;
        let (from_folder, from_name) = self.names.place(from)?;
        let (to_folder, to_name) = self.names.place(to)?;
        let replaced = self.names.get(to_folder, to_name);
        match replaced {
            Some(other) if other == id => return Ok(()),
            Some(other) if self.names.is_folder(other) => {
                if !self.names.is_folder(id) {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                if self.names.entries(other).next().is_some() {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
            }
            Some(_) if self.names.is_folder(id) => {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            _ => {}
        }
        let change = |folder, name: &str, to| Change { folder, name: name.to_owned(), to };
        self.names.change(vec![change(from_folder, from_name, None), change(to_folder, to_name, Some(id))]);
        if let Some(other) = replaced {
            self.give_back(other);
        }
        self.called(id, to);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, folder: Id) {
        if self.nature.ignores_dir_syncs {
            return;
        }
        self.names.sync(folder);
        let held = self.handles.keys().copied().collect();
        let known = self.names.known(held);
        self.files.retain(|id, _| known.contains(id));
        self.names.keep_only(&known);
    }

    /// Returns the file of a path.
    pub(super) fn file(&self, path: &str) -> io::Result<Id> {
        let id = self.names.find(path)?;
        if self.names.is_folder(id) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(id)
    }

    pub(super) fn content(&self, id: Id) -> &Content {
        self.files.get(&id).expect("a file outlives its handles and names")
    }

    pub(super) fn content_mut(&mut self, id: Id) -> &mut Content {
        let content = self.files.get_mut(&id);
        Arc::make_mut(content.expect("a file outlives its handles and names"))
    }

    /// Writes as far as there is room; returns how far that is.
    pub(super) fn write(&mut self, id: Id, bytes: &[u8], position: u64) -> io::Result<usize> {
        let fault = self.tick(Call::Write, Target::File(id))?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let end = position.checked_add(bytes.len() as u64);
        let Some(end) = end.filter(|&end| i64::try_from(end).is_ok()) else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        if self.full_next.remove(&id) {
            return Err(full());
        }
        let (mut count, mut position) = (bytes.len(), position);
        match fault {
            None => {}
            Some(Fault::Lie) => return Ok(count),
            Some(Fault::Elsewhere(distance)) => position += distance,
            Some(Fault::Brief) => count = count.div_ceil(2),
            Some(Fault::Errno(number)) => return Err(io::Error::from_raw_os_error(number)),
            Some(Fault::Short) if count > 1 => {
                count /= 2;
                self.full_next.insert(id);
            }
            Some(Fault::Short | Fault::Full) => return Err(full()),
            Some(_) => return Err(broken()),
        }
        let end = position.saturating_add(count as u64).max(end);
        let fits = self.take_space(id, sectors(position..end));
        let room = (fits * SECTOR as u64).saturating_sub(position);
        count = count.min(usize::try_from(room).unwrap_or(usize::MAX));
        if count == 0 {
            return Err(full());
        }
        self.content_mut(id).write(&bytes[..count], position);
        Ok(count)
    }

    pub(super) fn sync(&mut self, id: Id) -> io::Result<()> {
        match self.tick_sync(Call::Sync, Target::File(id))? {
            Synced::Done => {}
            Synced::Not => return Ok(()),
            Synced::Lost(error) => {
                self.content_mut(id).lose();
                return Err(error);
            }
        }
        let need = self.content(id).delayed.count() * SECTOR as u64;
        if need > 0 && !self.pay(need) {
            self.content_mut(id).lose();
            return Err(full());
        }
        self.content_mut(id).sync();
        self.check_name(id)
    }

    pub(super) fn check_name(&self, id: Id) -> io::Result<()> {
        if self.names.has(id) { Ok(()) } else { Err(crate::storage::removed()) }
    }

    pub(super) fn allocate(&mut self, id: Id, len: u64) -> io::Result<()> {
        match self.tick(Call::Allocate, Target::File(id))?.and_then(Fault::error) {
            Some(error) if crate::error::is_lack_of_room(&error) => return Err(error),
            // Blocks cannot be had ahead: as far as the seam says, the file gets its length all the same.
            Some(_) => {
                let content = self.content_mut(id);
                content.set_len(len.max(content.len()));
                return Ok(());
            }
            None => {}
        }
        let range = sectors(0..len);
        let need = total(&self.content(id).space.gaps(range.clone())) * SECTOR as u64;
        if !self.pay(need) {
            return Err(full());
        }
        let content = self.content_mut(id);
        content.space.insert(range);
        content.set_len(len.max(content.len()));
        Ok(())
    }

    pub(super) fn set_len(&mut self, id: Id, len: u64) -> io::Result<()> {
        self.tick_plain(Call::SetLen, Target::File(id))?;
        if i64::try_from(len).is_err() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let before = self.content(id).space.count();
        self.content_mut(id).set_len(len);
        let after = self.content(id).space.count();
        self.refund((before - after) * SECTOR as u64);
        Ok(())
    }

    /// Remembers what a file is called.
    pub(super) fn called(&mut self, id: Id, path: &str) {
        self.paths.insert(id, path.into());
    }

    pub(super) fn hold(&mut self, id: Id) {
        *self.handles.entry(id).or_default() += 1;
    }

    pub(super) fn let_go(&mut self, id: Id) {
        if let Some(count) = self.handles.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.handles.remove(&id);
                if !self.names.visible().contains(&id) {
                    self.give_back(id);
                }
            }
        }
    }

    /// Returns the bytes of all that has a name or a handle.
    pub(super) fn used(&self) -> u64 {
        let visible = self.names.visible();
        let counts = |id: &Id| visible.contains(id) || self.handles.contains_key(id);
        let files = self.files.iter().filter(|(id, _)| counts(id));
        let count: u64 = files.map(|(_, content)| content.space.count()).sum();
        count * SECTOR as u64
    }

    pub(super) fn new_id(&mut self) -> Id {
        self.next_id += 1;
        self.next_id
    }

    fn name(&mut self, folder: Id, name: &str, to: Option<Id>) {
        let name = name.to_owned();
        self.names.change(vec![Change { folder, name, to }]);
    }

    /// Returns where a new name goes. It takes no space of its own, but a full disk has no room for
    /// it all the same.
    fn free_place<'a>(&self, path: &'a str) -> io::Result<(Id, &'a str)> {
        let (folder, name) = self.names.place(path)?;
        if self.names.get(folder, name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let budget = self.orders.budget;
        if budget.is_some_and(|budget| budget < SECTOR as u64) {
            return Err(full());
        }
        Ok((folder, name))
    }

    /// Takes blocks for a range of sectors, from its start; returns up to which sector there were
    /// enough.
    fn take_space(&mut self, id: Id, range: Range<u64>) -> u64 {
        let content = self.content(id);
        let gaps = content.space.gaps(range.clone());
        if self.orders.full_at_sync {
            let content = self.content_mut(id);
            for gap in gaps {
                content.delayed.insert(gap);
            }
            return range.end;
        }
        let mut end = range.end;
        for gap in gaps {
            let room = self.orders.budget.unwrap_or(u64::MAX) / SECTOR as u64;
            let count = room.min(gap.end - gap.start);
            self.pay(count * SECTOR as u64);
            self.content_mut(id).space.insert(gap.start..gap.start + count);
            if gap.start + count < gap.end {
                end = gap.start + count;
                break;
            }
        }
        end
    }

    fn pay(&mut self, bytes: u64) -> bool {
        match &mut self.orders.budget {
            None => true,
            Some(budget) if *budget < bytes => false,
            Some(budget) => {
                *budget -= bytes;
                true
            }
        }
    }

    fn refund(&mut self, bytes: u64) {
        if let Some(budget) = &mut self.orders.budget {
            *budget += bytes;
        }
    }

    /// Gives the space of a file back that has lost its name, once nobody has it open. Its bytes
    /// stay for as long as a power cut could bring the name back.
    pub(super) fn give_back(&mut self, id: Id) {
        if self.handles.contains_key(&id) {
            return;
        }
        if let Some(content) = self.files.get(&id) {
            self.refund(content.space.count() * SECTOR as u64);
        }
    }
}
