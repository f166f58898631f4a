//! Which call is to fail, and how?

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::Fault;
use super::calls::{Call, Faults, Made, Target};
use super::state::State;

/// What tests ordered to go wrong. Gone with the next kill or crash: the new disk is well.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    pub(super) stop_after: Option<u64>,
    pub(super) ops: BTreeMap<u64, Fault>,
    pub(super) reads: BTreeMap<u64, Fault>,
    pub(super) aimed: Faults,
    pub(super) break_syncs: bool,
    pub(super) budget: Option<u64>,
    pub(super) full_at_sync: bool,
}

impl State {
    /// Notes a call; returns what was ordered for calls like it.
    pub(super) fn note(&mut self, call: Call, target: Target<'_>) -> Option<Fault> {
        if self.made.is_none() && self.orders.aimed.is_empty() {
            return None;
        }
        let name = self.name_of(target);
        if let Some(made) = &mut self.made {
            made.push(Made { op: self.ops, call, name: name.to_string() });
        }
        self.orders.aimed.at(call, &name)
    }

    /// Returns what a file is called, or was when it lost its name.
    pub(super) fn name_of(&self, target: Target<'_>) -> Arc<str> {
        match target {
            Target::Name("") => ".".into(),
            Target::Name(name) => name.into(),
            Target::File(id) => self.paths.get(&id).cloned().unwrap_or_default(),
        }
    }

    /// Notes a call that is neither an operation nor a read; it can only succeed or fail.
    pub(super) fn ask(&mut self, call: Call, target: Target<'_>) -> io::Result<()> {
        self.alive()?;
        self.note(call, target).and_then(Fault::error).map_or(Ok(()), Err)
    }

    /// Counts an operation; returns what is to go wrong with it.
    pub(super) fn tick(&mut self, call: Call, target: Target<'_>) -> io::Result<Option<Fault>> {
        self.alive()?;
        self.keep_ends();
        self.kinds.push(call);
        self.ops += 1;
        let aimed = self.note(call, target);
        Ok(self.orders.ops.get(&self.ops).copied().or(aimed))
    }

    /// Counts an operation that can only succeed or fail.
    pub(super) fn tick_plain(&mut self, call: Call, target: Target<'_>) -> io::Result<()> {
        self.tick(call, target)?.and_then(Fault::error).map_or(Ok(()), Err)
    }

    /// Counts a read; returns whether it is to be short.
    pub(super) fn tick_read(&mut self, call: Call, target: Target<'_>) -> io::Result<bool> {
        self.alive()?;
        self.reads += 1;
        let aimed = self.note(call, target);
        match self.orders.reads.get(&self.reads).copied().or(aimed) {
            None => Ok(false),
            Some(Fault::Short | Fault::Brief) => Ok(true),
            Some(Fault::Errno(number)) => Err(io::Error::from_raw_os_error(number)),
            Some(_) => Err(broken()),
        }
    }

    /// Counts a sync; returns what becomes of what it should have written.
    pub(super) fn tick_sync(&mut self, call: Call, target: Target<'_>) -> io::Result<Synced> {
        match self.tick(call, target)? {
            Some(Fault::Io | Fault::ReadIo) => Err(broken()),
            Some(Fault::Full | Fault::Short) => Ok(Synced::Lost(full())),
            Some(Fault::SyncLost) => Ok(Synced::Lost(broken())),
            Some(Fault::Errno(number)) => Ok(Synced::Lost(io::Error::from_raw_os_error(number))),
            Some(Fault::Lie) => Ok(Synced::Not),
            None | Some(_) if self.orders.break_syncs => Ok(Synced::Lost(broken())),
            None | Some(_) => Ok(Synced::Done),
        }
    }
}

/// What becomes of what a sync should write.
#[derive(Debug)]
pub(super) enum Synced {
    Done,
    /// Nothing: it stays as unsynced as it was, though the answer is "ok".
    Not,
    /// It is given up.
    Lost(io::Error),
}

impl Fault {
    /// Returns the error of a call that can only succeed or fail.
    pub(super) fn error(self) -> Option<io::Error> {
        match self {
            Self::Full | Self::Short => Some(full()),
            Self::Io | Self::SyncLost | Self::ReadIo => Some(broken()),
            Self::Errno(number) => Some(io::Error::from_raw_os_error(number)),
            Self::Brief | Self::Lie | Self::Elsewhere(_) => None,
        }
    }
}

/// The error of a full disk, as the system gives it.
pub(super) fn full() -> io::Error {
    io::Error::from_raw_os_error(28)
}

/// The error of a broken disk, as the system gives it.
pub(super) fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}
