//! One open queue: the one place that sees everything.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::group::helper::Helper;
use crate::group::live::Live;
use crate::log::Log;
use crate::log::spare::Spare;
use crate::log::writer::{Waiting, Writer};
use crate::manifest::Manifest;
use crate::options::Settings;
use crate::storage::{Lock, Storage};
use crate::wake::Bell;

pub(crate) mod backup;
mod birth;
pub(crate) mod browse;
mod close;
mod dedup;
pub(crate) mod deep;
pub(crate) mod door;
pub(crate) mod dump;
mod duties;
mod groups;
pub(crate) mod holders;
mod keep;
pub(crate) mod keys;
mod leading;
mod leftovers;
mod lending;
mod limits;
pub(crate) mod look;
mod manage;
mod open;
pub(crate) mod origin;
pub(crate) mod pinned;
pub(crate) mod pins;
mod push;
pub(crate) mod recovery;
pub(crate) mod repair;
pub(crate) mod request;
mod rest;
mod rewrite;
mod room;
pub(crate) mod salvage;
#[cfg(feature = "schedules")]
pub(crate) mod schedules;
mod settles;
mod space;
pub(crate) mod stats;
pub(crate) mod view;

pub(crate) use groups::{From, NewGroup};
pub(crate) use leading::Committer;
pub(crate) use limits::when_full;
pub(crate) use manage::Claim;
pub(crate) use open::ALONE;
pub(crate) use push::{Pushed, check_length};

/// What an open queue consists of.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    pub(crate) queue: u128,
    pub(crate) recovery: recovery::Recovery,
    manifest: Arc<Manifest>,
    pub(crate) log: Arc<Log>,
    spare: Arc<Spare>,
    commit: Arc<Commit<Waiting, Writer>>,
    groups: Mutex<Groups>,
    /// Held over the birth and the end of a group: both write files and the manifest. And by whoever moves
    /// a group back, or gives up segments.
    changing_groups: Mutex<()>,
    /// Every group whose messages the log has lost has a file that says so.
    losses_saved: AtomicBool,
    /// Names the loans of this opening.
    holder: u32,
    /// The guests, and who of them lives.
    holders: Mutex<holders::Holders>,
    /// Gone once the queue is closed.
    lock: Mutex<Option<Box<dyn Lock>>>,
    closed: AtomicBool,
    /// How the closing went: told to everyone who closes.
    outcome: OnceLock<Result<()>>,
    closing: Mutex<()>,
    /// Rings when a deferred push waits; the committer listens.
    deferred: Arc<Bell>,
    committer: Mutex<Option<Committer>>,
    /// Does for tasks what they may not wait for.
    helper: Arc<Helper>,
    idle: Mutex<duties::Idle>,
    /// Tells the background thread that there is something to do here.
    asks: Arc<duties::Asks>,
    limits: Mutex<crate::format::keep::Limits>,
    space: Mutex<space::Space>,
    /// The copy that is being made of sparse segments; held over one step of it.
    copying: Mutex<Option<rewrite::Rewriting>>,
    /// Pushes of guests whose answers were not heard.
    unheard: Mutex<origin::Pinned>,
    #[cfg(feature = "schedules")]
    schedules: Mutex<schedules::Schedules>,
    /// Held while ticks are pushed and told to the manifest: each builds on the last.
    #[cfg(feature = "schedules")]
    changing_schedules: Mutex<()>,
}

/// The groups of a queue.
#[derive(Debug, Default)]
struct Groups {
    open: BTreeMap<String, Arc<Live>>,
    /// Those whose files are damaged, and how.
    refused: BTreeMap<String, Error>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Its thread holds on to no queue, and would wait for ever. In a fork it is not there, and its locks
        // may be held for ever.
        if self.log.is_ours() {
            self.helper.stop();
        }
    }
}

impl Engine {
    /// Returns how long the caller's waits may last: the moment when `wait` from now is over.
    pub(crate) fn deadline(&self, wait: Duration) -> Option<Duration> {
        self.clock.now().checked_add(wait)
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        self.log.check_process()?;
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
