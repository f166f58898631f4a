//! What would be left after a crash?

mod calls;
mod content;
mod dice;
mod ends;
mod handles;
mod names;
mod orders;
mod ranges;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use calls::{Hooks, Target};
use content::Content;
use dice::Dice;
use names::{Change, Id, OUTSIDE, ROOT};
use orders::Orders;
use state::State;

pub use calls::{Aim, Call, Made};

/// What goes wrong with one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It fails with an input/output error and changes nothing.
    Io,
    /// It fails because the disk is full. A sync gives up what it was to write, too.
    Full,
    /// A write stops half-way and says so; the next one to that file finds the disk full. A read
    /// returns half of what it was asked for.
    Short,
    /// A sync fails and gives up what it was to write: the cache goes on showing it, later syncs
    /// say "ok" and do not write it.
    SyncLost,
    /// A read fails with an input/output error.
    ReadIo,
    /// It fails with that error number of the system and changes nothing. A sync gives up what it was
    /// to write, too.
    Errno(i32),
    /// A read or a write stops half-way, without an error; the next one goes on. Nothing to other
    /// calls.
    Brief,
    /// A write or a sync says "ok" and does nothing. Nothing to other calls.
    Lie,
    /// A write lands so many bytes behind its place, and says "ok". Nothing to other calls.
    Elsewhere(u64),
}

/// A disk in memory that can be crashed, filled and broken on purpose.
///
/// Clones share the disk. What is read is what a cache would show; what a power cut leaves is
/// decided sector by sector (512 bytes), length by length and name by name, for all that was not
/// synced. The same seeds and the same calls give the same disk.
///
/// An operation is any call that changes or syncs something (a store into a mapping is one); they
/// are numbered from 1, so that a test can run its work once, take [`SimDisk::ops`], and run it
/// again with a crash or a fault at each. Locks, and the text in them, do not count.
#[derive(Clone, Debug)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    before_syncs: Mutex<Option<Hook>>,
    before: Mutex<Hooks>,
}

type Hook = Arc<dyn Fn() + Send + Sync>;

impl SimDisk {
    /// Makes an empty disk, on which not even the queue's folder exists.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(State::new(seed))
    }

    /// Returns how many operations were done or failed.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.shared.lock().ops
    }

    /// Returns how many reads, listings and openings were done or failed.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.shared.lock().reads
    }

    /// Stops the disk once `ops` operations were done: every call after that fails, reads too, and
    /// stores into mappings go nowhere.
    pub fn stop_after(&self, ops: u64) {
        self.orders(|orders| orders.stop_after = Some(ops));
    }

    /// Lets the operation of that number fail.
    pub fn fail(&self, op: u64, fault: Fault) {
        self.shared.lock().orders.ops.insert(op, fault);
    }

    /// Lets the read of that number fail, or be short.
    pub fn fail_reads(&self, read: u64, fault: Fault) {
        self.shared.lock().orders.reads.insert(read, fault);
    }

    /// Lets the call that is aimed at go wrong, or all such calls.
    pub fn aim(&self, aim: Aim, fault: Fault) {
        self.orders(|orders| orders.aimed.add(aim, fault));
    }

    /// Calls `hook` before the call that is aimed at, without a lock: a hook that waits is a device
    /// that stalls. Gone with the next kill or crash.
    pub fn before(&self, aim: Aim, hook: Arc<dyn Fn() + Send + Sync>) {
        self.shared.before.lock().unwrap_or_else(PoisonError::into_inner).add(aim, hook);
    }

    /// Ends everything that was ordered to go wrong.
    pub fn heal(&self) {
        self.orders(|orders| *orders = Orders::default());
    }

    /// Notes each call from now on.
    pub fn record(&self) {
        self.shared.lock().made = Some(Vec::new());
    }

    /// Returns the calls that were made since [`SimDisk::record`], those that failed too.
    #[must_use]
    pub fn made(&self) -> Vec<Made> {
        self.shared.lock().made.clone().unwrap_or_default()
    }

    /// Lets every sync fail from now on, as [`Fault::SyncLost`], or ends that.
    pub fn break_syncs(&self, broken: bool) {
        self.orders(|orders| orders.break_syncs = broken);
    }

    /// Calls `hook` before each sync of a file, without a lock: so that a test can look at what
    /// others may see meanwhile. Gone with the next kill or crash.
    pub fn before_syncs(&self, hook: Option<Arc<dyn Fn() + Send + Sync>>) {
        *self.shared.before_syncs.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// Limits the bytes that new blocks may still take; `None` is no limit. A name takes none, but
    /// needs room for a sector.
    pub fn budget(&self, bytes: Option<u64>) {
        self.orders(|orders| orders.budget = bytes);
    }

    /// Lets writes succeed on a full disk and the sync after them fail, as delayed allocation does.
    pub fn full_at_sync(&self, delayed: bool) {
        self.orders(|orders| orders.full_at_sync = delayed);
    }

    /// Lets the disk refuse mappings, as most file systems must. Stays through kills and crashes.
    pub fn no_mappings(&self, refused: bool) {
        self.shared.lock().nature.no_mappings = refused;
    }

    /// Lets the disk be one of that network file system. Stays through kills and crashes.
    pub fn network(&self, kind: Option<&'static str>) {
        self.shared.lock().nature.network = kind;
    }

    /// Lets every sync of a folder say "ok" and do nothing: a planted fault, which a crash test
    /// that is worth its time finds. Stays through kills and crashes.
    pub fn ignore_dir_syncs(&self, ignored: bool) {
        self.shared.lock().nature.ignores_dir_syncs = ignored;
    }

    /// Kills the process: returns the disk as the next process finds it, with the cache as it was,
    /// no locks, no faults. Everything that was opened on this one fails from now on.
    #[must_use]
    pub fn kill(&self) -> Self {
        Self::with(self.shared.lock().kill())
    }

    /// Cuts the power: returns an independent disk on which everything unsynced was kept or lost
    /// by the seed, without faults. This disk goes on as if nothing had happened.
    ///
    /// Seed 0 loses everything unsynced, seed 1 keeps it all.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        Self::with(self.shared.lock().crash(seed))
    }

    /// Cuts the power: like [`SimDisk::crash`], but all unsynced content is kept or lost, and all
    /// unsynced names: names may reach a disk without what they stand for, and the other way round.
    #[must_use]
    pub fn crash_apart(&self, content: bool, names: bool) -> Self {
        let state = self.shared.lock();
        Self::with(state.crash_with(state.dice.clone(), Dice::apart(content, names)))
    }

    /// Flips a bit of a file (counted from its first byte's lowest bit), on the disk and in the
    /// cache.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn flip(&self, name: &str, bit: u64) {
        let mut state = self.shared.lock();
        let id = state.file(name).expect("a test flips bits of files that exist");
        state.content_mut(id).flip(bit);
    }

    /// Returns what a file holds, as the cache shows it; `None` where there is no such file.
    #[must_use]
    pub fn read_file(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.shared.lock();
        let content = state.content(state.file(name).ok()?);
        let mut bytes = vec![0; usize::try_from(content.len()).ok()?];
        content.read(&mut bytes, 0);
        Some(bytes)
    }

    /// Replaces what a file holds, durable at once; makes the file and its folders if need be.
    ///
    /// # Panics
    /// When a folder has that name, or a file that of one of its folders.
    pub fn write_file(&self, name: &str, bytes: &[u8]) {
        let mut state = self.shared.lock();
        let (folders, file) = name.rsplit_once('/').unwrap_or(("", name));
        let mut folder = settle_folder(&mut state, OUTSIDE, ROOT);
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            folder = settle_folder(&mut state, folder, part);
        }
        let id = state.names.get(folder, file);
        let id = id.unwrap_or_else(|| state.new_id());
        assert!(!state.names.is_folder(id), "a folder has that name");
        state.files.insert(id, Arc::new(Content::of(bytes)));
        settle(&mut state, folder, file, Some(id));
    }

    /// Removes a file, durably at once; nothing where there is none.
    pub fn remove_file(&self, name: &str) {
        let mut state = self.shared.lock();
        if let Ok(id) = state.file(name)
            && let Ok((folder, file)) = state.names.place(name)
        {
            settle(&mut state, folder, file, None);
            state.give_back(id);
        }
    }

    /// Lets another process hold the lock of a file, which is made if need be, or end. It lives on when this
    /// one is killed, and goes with the power.
    ///
    /// # Panics
    /// When a folder has that name, or a file that of one of its folders.
    pub fn hold_elsewhere(&self, name: &str, held: bool) {
        if self.read_file(name).is_none() {
            if !held {
                return;
            }
            self.write_file(name, b"");
        }
        let mut state = self.shared.lock();
        let Ok(id) = state.file(name) else { return };
        if held {
            state.held_elsewhere.insert(id)
        } else {
            state.held_elsewhere.remove(&id)
        };
    }

    /// Returns the names of all files, with their folders, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.shared.lock().names.files()
    }

    /// Returns the bytes that the files' blocks take.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.lock().used()
    }

    fn with(state: State) -> Self {
        let state = Mutex::new(state);
        let shared = Arc::new(Shared { state, before_syncs: Mutex::default(), before: Mutex::default() });
        Self { shared }
    }

    fn orders(&self, give: impl FnOnce(&mut Orders)) {
        give(&mut self.shared.lock().orders);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock for a call, after what was to happen before it.
    fn call(&self, call: Call, target: Target<'_>) -> MutexGuard<'_, State> {
        let hook = {
            let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
            if before.is_empty() { None } else { before.at(call, &self.lock().name_of(target)) }
        };
        if let Some(hook) = hook {
            hook();
        }
        self.lock()
    }

    fn about_to_sync(&self) {
        let hook = self.before_syncs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(hook) = hook {
            hook();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Megabytes of sectors help nobody who prints a queue.
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
}

fn settle(state: &mut State, folder: Id, name: &str, to: Option<Id>) {
    let name = name.to_owned();
    state.names.settle(Change { folder, name, to });
}

fn settle_folder(state: &mut State, folder: Id, name: &str) -> Id {
    let id = state.names.get(folder, name).unwrap_or_else(|| {
        let id = state.new_id();
        state.names.add_folder(id);
        id
    });
    assert!(state.names.is_folder(id), "a file has the name of a folder");
    settle(state, folder, name, Some(id));
    id
}
