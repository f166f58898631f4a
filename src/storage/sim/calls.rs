//! Which call is meant, and which were made?

use super::names::Id;
use super::{Fault, Hook};

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Call {
    /// A folder is made, the queue's own (`.`) or one in it.
    MakeDir,
    /// An empty folder is removed.
    RemoveDir,
    /// A folder is listed (`.` is the queue's own).
    List,
    /// The names in a folder are made durable (`.` is the queue's own, `..` the one it is in).
    SyncDir,
    /// A file is made.
    Create,
    /// A file is opened.
    Open,
    /// A file gets another name; the call bears the old one.
    Rename,
    /// A file is removed.
    Remove,
    /// A file's lock is taken.
    Lock,
    /// Bytes are read.
    Read,
    /// Bytes are written.
    Write,
    /// Content and length are made durable.
    Sync,
    /// The length is asked for.
    Len,
    /// The length is set.
    SetLen,
    /// Blocks are reserved.
    Allocate,
    /// Cached bytes are forgotten.
    DropCache,
    /// A range is mapped.
    Map,
    /// Bytes are stored through a mapping.
    Store,
    /// It is asked what kind of file system this is.
    FileSystem,
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Made {
    /// How many operations there were with it; a read, which is none, has the number of the last.
    pub op: u64,
    /// What was asked for.
    pub call: Call,
    /// The file or folder.
    pub name: String,
}

/// Chooses calls by what they are, rather than by their number.
///
/// The name is one file's or folder's; with a `/` at its end it means all in that folder, and empty
/// all there are.
#[derive(Clone, Debug)]
pub struct Aim {
    call: Call,
    name: String,
    skip: u64,
    lasting: bool,
}

impl Aim {
    /// Chooses the next such call.
    #[must_use]
    pub fn at(call: Call, name: impl Into<String>) -> Self {
        Self { call, name: name.into(), skip: 0, lasting: false }
    }

    /// Lets so many pass first.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// Chooses all that come after it, too.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }

    fn means(&self, call: Call, name: &str) -> bool {
        let named = match self.name.as_str() {
            "" => true,
            folder if folder.ends_with('/') => name.starts_with(folder),
            file => file == name,
        };
        call == self.call && named
    }

    /// Tells whether this call is the one; `None` once there is nothing left to choose.
    fn takes(&mut self, call: Call, name: &str) -> bool {
        if !self.means(call, name) {
            return false;
        }
        let hit = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        hit
    }
}

/// A file by its name, or one that is open.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    Name(&'a str),
    File(Id),
}

/// What is to happen at calls that are still to come.
#[derive(Clone, Debug)]
pub(super) struct Aims<T>(Vec<(Aim, T)>);

impl<T> Default for Aims<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone> Aims<T> {
    pub(super) fn add(&mut self, aim: Aim, what: T) {
        self.0.push((aim, what));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what is to happen at this call: the oldest order counts.
    pub(super) fn at(&mut self, call: Call, name: &str) -> Option<T> {
        let index = self.0.iter_mut().position(|(aim, _)| aim.takes(call, name))?;
        if self.0[index].0.lasting {
            return Some(self.0[index].1.clone());
        }
        Some(self.0.remove(index).1)
    }
}

/// What tests ordered to happen at calls of a kind.
pub(super) type Faults = Aims<Fault>;
pub(super) type Hooks = Aims<Hook>;
