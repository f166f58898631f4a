//! Which names are there: as programs see them, and as the disk has them?

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::dice::{Dice, Luck};

/// Names a file or a folder for ever, whatever it is called.
pub(super) type Id = u64;

/// The folder in which the queue's folder is; its only name is that of the root.
pub(super) const OUTSIDE: Id = 0;
pub(super) const ROOT: &str = "root";

/// A name that begins or ceases to stand for something.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) folder: Id,
    pub(super) name: String,
    pub(super) to: Option<Id>,
}

#[derive(Clone, Debug, Default)]
struct Folder {
    now: BTreeMap<String, Id>,
    durable: BTreeMap<String, Id>,
}

/// All folders, and what was changed in them since they were synced.
#[derive(Clone, Debug)]
pub(super) struct Names {
    folders: BTreeMap<Id, Folder>,
    /// One element is one operation: a crash keeps or loses its changes together, since a rename
    /// that did half of its work is what journals exist to prevent.
    unsynced: Vec<Vec<Change>>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { folders: BTreeMap::from([(OUTSIDE, Folder::default())]), unsynced: Vec::new() }
    }

    /// Returns the folder of a path; `""` is the root.
    pub(super) fn folder(&self, path: &str) -> io::Result<Id> {
        let id = self.find(path)?;
        if !self.is_folder(id) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(id)
    }

    /// Returns what a path stands for.
    pub(super) fn find(&self, path: &str) -> io::Result<Id> {
        let mut id = self.child(OUTSIDE, ROOT)?;
        if path.is_empty() {
            return Ok(id);
        }
        for part in path.split('/') {
            if matches!(part, "" | "." | "..") {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            id = self.child(id, part)?;
        }
        Ok(id)
    }

    /// Returns the folder that a path's last part is in, and that part.
    pub(super) fn place<'a>(&self, path: &'a str) -> io::Result<(Id, &'a str)> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if matches!(name, "" | "." | "..") {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok((self.folder(folder)?, name))
    }

    /// Returns what a name in a folder stands for.
    pub(super) fn get(&self, folder: Id, name: &str) -> Option<Id> {
        self.folders.get(&folder)?.now.get(name).copied()
    }

    pub(super) fn is_folder(&self, id: Id) -> bool {
        self.folders.contains_key(&id)
    }

    /// Returns the names in a folder, sorted.
    pub(super) fn entries(&self, folder: Id) -> impl Iterator<Item = (&str, Id)> {
        let names = self.folders.get(&folder).map(|folder| &folder.now);
        let names = names.into_iter().flatten();
        names.map(|(name, &id)| (name.as_str(), id))
    }

    /// Makes a folder that has no name yet.
    pub(super) fn add_folder(&mut self, id: Id) {
        self.folders.insert(id, Folder::default());
    }

    /// Does one operation, unsynced.
    pub(super) fn change(&mut self, operation: Vec<Change>) {
        for change in &operation {
            if let Some(folder) = self.folders.get_mut(&change.folder) {
                set(&mut folder.now, &change.name, change.to);
            }
        }
        self.unsynced.push(operation);
    }

    /// Changes a name at once and for good, as if it had been so for long.
    pub(super) fn settle(&mut self, change: Change) {
        self.forget(|other| other.folder == change.folder && other.name == change.name);
        if let Some(folder) = self.folders.get_mut(&change.folder) {
            set(&mut folder.now, &change.name, change.to);
            set(&mut folder.durable, &change.name, change.to);
        }
    }

    /// Makes the changes in a folder durable.
    pub(super) fn sync(&mut self, folder: Id) {
        for operation in std::mem::take(&mut self.unsynced) {
            let here = |change: &Change| change.folder == folder;
            // The name that a rename gives decides for both of its names; syncing only the folder
            // that the old name was in promises nothing about the new one.
            let whole = operation.iter().any(|change| here(change) && change.to.is_some());
            let (settled, left): (Vec<_>, Vec<_>) =
                operation.into_iter().partition(|change| whole || here(change));
            for change in settled {
                // What another folder had pending under this name is older than this.
                self.forget(|other| other.folder == change.folder && other.name == change.name);
                if let Some(folder) = self.folders.get_mut(&change.folder) {
                    set(&mut folder.durable, &change.name, change.to);
                }
            }
            if !left.is_empty() {
                self.unsynced.push(left);
            }
        }
    }

    /// Returns what a power cut leaves.
    pub(super) fn crash(&self, dice: &mut Dice, luck: Luck) -> Self {
        let mut folders = self.folders.clone();
        for folder in folders.values_mut() {
            folder.now = folder.durable.clone();
        }
        for operation in &self.unsynced {
            if !dice.chance(luck.names) {
                continue;
            }
            for change in operation {
                if let Some(id) = change.to {
                    // A file has one name here. Without this, a lost first rename and a kept
                    // second one would leave it two, which no journal does.
                    for folder in folders.values_mut() {
                        folder.now.retain(|_, other| *other != id);
                    }
                }
                if let Some(folder) = folders.get_mut(&change.folder) {
                    set(&mut folder.now, &change.name, change.to);
                }
            }
        }
        for folder in folders.values_mut() {
            folder.durable = folder.now.clone();
        }
        let mut left = Self { folders, unsynced: Vec::new() };
        let known = left.known(BTreeSet::new());
        left.folders.retain(|id, _| known.contains(id));
        left
    }

    /// Returns all that has a name, or could have one again after a power cut, or is in `held`.
    pub(super) fn known(&self, held: BTreeSet<Id>) -> BTreeSet<Id> {
        let changes = self.unsynced.iter().flatten();
        let mut todo: Vec<Id> = changes.filter_map(|change| change.to).collect();
        todo.extend(&held);
        todo.push(OUTSIDE);
        let mut known = BTreeSet::new();
        while let Some(id) = todo.pop() {
            if known.insert(id)
                && let Some(folder) = self.folders.get(&id)
            {
                todo.extend(folder.now.values().chain(folder.durable.values()));
            }
        }
        known
    }

    /// Returns all that programs can find by a name.
    pub(super) fn visible(&self) -> BTreeSet<Id> {
        let mut visible = BTreeSet::new();
        let mut todo = vec![OUTSIDE];
        while let Some(id) = todo.pop() {
            if visible.insert(id) {
                todo.extend(self.entries(id).map(|(_, id)| id));
            }
        }
        visible
    }

    /// Tells whether programs can find a file by a name: one in a folder, that is, for none is
    /// removed with something in it.
    pub(super) fn has(&self, file: Id) -> bool {
        self.folders.values().any(|folder| folder.now.values().any(|&id| id == file))
    }

    /// Returns the paths of all files, sorted.
    pub(super) fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut todo: Vec<_> = self.child(OUTSIDE, ROOT).into_iter().collect();
        let mut prefixes = vec![String::new(); todo.len()];
        while let (Some(folder), Some(prefix)) = (todo.pop(), prefixes.pop()) {
            for (name, id) in self.entries(folder) {
                if self.is_folder(id) {
                    todo.push(id);
                    prefixes.push(format!("{prefix}{name}/"));
                } else {
                    files.push(format!("{prefix}{name}"));
                }
            }
        }
        files.sort();
        files
    }

    /// Drops the folders that nothing can lead to any more.
    pub(super) fn keep_only(&mut self, known: &BTreeSet<Id>) {
        self.folders.retain(|id, _| known.contains(id));
    }

    fn child(&self, folder: Id, name: &str) -> io::Result<Id> {
        let Some(folder) = self.folders.get(&folder) else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        let id = folder.now.get(name).copied();
        id.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn forget(&mut self, which: impl Fn(&Change) -> bool) {
        for operation in &mut self.unsynced {
            operation.retain(|change| !which(change));
        }
        self.unsynced.retain(|operation| !operation.is_empty());
    }
}

fn set(names: &mut BTreeMap<String, Id>, name: &str, to: Option<Id>) {
    match to {
        Some(id) => names.insert(name.to_owned(), id),
        None => names.remove(name),
    };
}
