//! Which guests are there, which of them live, and what becomes of what they hold?
//!
//! A guest is another process that reaches the queue through this one. Each of its connections has a
//! holder of its own, and a file `holders/ID` that the process holds locked for as long as it lives: not a
//! clock but that lock says so. A guest whose connection was lost, by whoever's end, is *absent*: what it
//! holds stays out while its lock is held. It comes back under a new holder, and says which loans of the old
//! one it knows of. The steps are in `docs/DURABILITY.md` 2.20.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use super::{Engine, lock};
use crate::error::{Error, Result};
use crate::format::names;
use crate::group::holder::draw_holder;
use crate::group::live::Live;
use crate::group::state::State;
use crate::plant::{Plant, planted, unless};
use crate::storage::{Kind, Lock, Storage};

/// So often the locks of those are looked at who may be gone.
const LOOK: Duration = Duration::from_secs(1);
/// So often files are looked for that nobody holds any more.
const SWEEP: Duration = Duration::from_secs(60);
/// So many names are tried for a file: that one is taken is rarer than a disk that goes wrong.
const TRIES: usize = 16;

/// A loan that a guest knows of: group, incarnation, offset, delivery number.
pub(crate) type Named = (String, u64, u64, u64);

/// The guests of an open queue.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// Connected: it can be lent something in every group.
    present: BTreeSet<u32>,
    /// Of an earlier connection of a guest that has come back: its loans can be settled, no more. What
    /// becomes of a holder with no connection of its own is told by its lock alone.
    returned: BTreeSet<u32>,
    /// Its connection is lost, and it lived when it was last looked at.
    absent: BTreeSet<u32>,
    /// Living at the opening, and not heard of since: absent too, or about to connect for the first time.
    found: BTreeSet<u32>,
    /// Which groups' files named them when the queue was opened, by incarnation.
    named: BTreeMap<u32, BTreeSet<u64>>,
    looked: Option<Duration>,
    /// When files are looked for again that nobody holds.
    sweep_at: Duration,
}

impl Holders {
    /// Forgets where a holder stands.
    fn take(&mut self, holder: u32) {
        self.present.remove(&holder);
        self.returned.remove(&holder);
        self.absent.remove(&holder);
        self.found.remove(&holder);
    }

    fn is_known(&self, holder: u32) -> bool {
        let known = [&self.present, &self.returned, &self.absent, &self.found];
        known.iter().any(|known| known.contains(&holder))
    }
}

/// The holders whose files an opening finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    holders: Holders,
    /// Those that nobody holds any more.
    over: BTreeSet<u32>,
}

impl Found {
    /// Tells whether a living process holds what is lent to that holder.
    pub(super) fn is_living(&self, holder: u32) -> bool {
        self.holders.found.contains(&holder)
    }

    fn has_file(&self, holder: u32) -> bool {
        self.is_living(holder) || self.over.contains(&holder)
    }

    /// Draws what names the loans of this opening: none that is a guest's.
    pub(super) fn draw(&self, storage: &dyn Storage) -> Result<u32> {
        loop {
            let holder = draw_holder(storage)?;
            if !self.has_file(holder) {
                return Ok(holder);
            }
        }
    }

    /// Notes whom a group's files name.
    pub(super) fn note_named(&mut self, incarnation: u64, state: &State) {
        if self.holders.found.is_empty() && self.over.is_empty() {
            return;
        }
        for holder in state.holders_named() {
            if self.has_file(holder) {
                self.holders.named.entry(holder).or_default().insert(incarnation);
            }
        }
    }

    pub(super) fn into_holders(self) -> Holders {
        self.holders
    }
}

/// Lists the holders that have files, and looks whether anybody holds their locks. A folder that is missing
/// holds none, and strangers in it are nobody's.
///
/// # Errors
/// When the disk refuses: who cannot be seen to live must not be taken for gone.
pub(super) fn find(storage: &dyn Storage) -> Result<Found> {
    let mut found = Found::default();
    for holder in listed(storage)? {
        match storage.is_held(&names::holder(holder)) {
            Ok(true) if !planted(Plant::HolderTakenForGone) => found.holders.found.insert(holder),
            Ok(false) if planted(Plant::DeadTakenForLiving) => found.holders.found.insert(holder),
            Ok(_) => found.over.insert(holder),
            Err(error) if is_strange(&error) => continue,
            Err(error) => return Err(failed("look at the lock of", storage, holder, error)),
        };
    }
    Ok(found)
}

fn listed(storage: &dyn Storage) -> Result<Vec<u32>> {
    let entries = match storage.list(names::HOLDERS) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Vec::new(),
        other => other.map_err(|error| Error::io("list", storage.root().join(names::HOLDERS), error))?,
    };
    let files = entries.into_iter().filter(|entry| entry.kind == Kind::File && !entry.linked);
    Ok(files.filter_map(|entry| names::parse_holder(&entry.name)).collect())
}

/// Tells whether a file is none of ours: a link, or another user's.
fn is_strange(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::PermissionDenied | ErrorKind::IsADirectory)
}

fn path(storage: &dyn Storage, holder: u32) -> PathBuf {
    storage.root().join(names::holder(holder))
}

fn failed(doing: &'static str, storage: &dyn Storage, holder: u32, error: io::Error) -> Error {
    Error::io(doing, path(storage, holder), error)
}

/// Takes a new holder for a connection of this process to an owner, and holds its lock: to be done before
/// the owner is told of it. It lives until the lock is dropped, or the process ends (and a child that was
/// forked meanwhile does, which shares the lock).
///
/// # Errors
/// When the disk refuses.
pub(crate) fn hold(storage: &dyn Storage) -> Result<(u32, Box<dyn Lock>)> {
    match storage.make_dir(names::HOLDERS) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(Error::io("make the folder", storage.root().join(names::HOLDERS), error));
        }
        Ok(()) | Err(_) => {}
    }
    for _ in 0..TRIES {
        let holder = draw_holder(storage)?;
        let held = storage.hold(&names::holder(holder));
        if let Some(held) = held.map_err(|error| failed("make and lock", storage, holder, error))? {
            // For people; the lock is what counts.
            let _ = held.note(&format!("held by process {}", std::process::id()));
            return Ok((holder, held));
        }
    }
    let path = storage.root().join(names::HOLDERS);
    Err(Error::io("find a free name in", path, ErrorKind::AlreadyExists.into()))
}

impl Engine {
    /// Lets a guest that is connected have loans, in every group there is or will be.
    ///
    /// # Errors
    /// [`Error::HolderOver`] if its lock is not held, or it could be mistaken for another holder: it comes
    /// again under a new one. Nothing has begun then.
    pub(crate) fn admit(&self, holder: u32) -> Result<()> {
        self.check_open()?;
        let over = Error::HolderOver { holder };
        if holder == 0 || holder == self.holder || !self.is_held(holder)? {
            return Err(over);
        }
        {
            let mut holders = lock(&self.holders);
            // Its lock may have been held before this opening; that it was never let in is for it to see to,
            // and that no loans name it is looked at below.
            let is_new = holders.found.remove(&holder) || !holders.is_known(holder);
            if !is_new {
                return Err(over);
            }
            // From here on a new group begins with it: one that comes to be before the groups are listed
            // below is among them, and the others find it here.
            holders.present.insert(holder);
        }
        let begun = self.all_groups().iter().try_for_each(|group| group.begin_guest(holder));
        if begun.is_err() {
            self.left(holder);
        }
        begun
    }

    /// Lets the guests that are connected have loans in a group that has just been made, and is listed.
    pub(super) fn begin_guests_in(&self, group: &Live) {
        let begun = lock(&self.holders).present.clone();
        for &holder in &begun {
            // Who is refused is told so when it asks.
            let _ = group.begin_guest(holder);
        }
        // Who went between the two looks may not have found it here to end. (Who goes after the second one
        // finds the group listed.)
        for holder in begun {
            let (is_present, lives) = {
                let holders = lock(&self.holders);
                (holders.present.contains(&holder), holders.is_known(holder))
            };
            if lives && !is_present {
                let _ = group.end_guest(holder);
            } else if !is_present && group.guest_gone(holder, true).is_err() {
                // Tried again by the next look.
                lock(&self.holders).absent.insert(holder);
            }
        }
    }

    /// Ends a guest that is gone: what it holds comes back in all groups, as losses if `counted`.
    ///
    /// # Errors
    /// The first failure; the other groups are seen to all the same, and the duties try again.
    pub(crate) fn gone(&self, holder: u32, counted: bool) -> Result<()> {
        self.log.check_process()?;
        lock(&self.holders).take(holder);
        let mut outcome = Ok(());
        for group in self.all_groups() {
            outcome = outcome.and(match group.guest_gone(holder, counted) {
                // Nobody is lent anything there any more: for the next opening, or for nobody.
                Err(Error::Closed | Error::NoSuchGroup { .. }) => Ok(()),
                other => other,
            });
        }
        let mut holders = lock(&self.holders);
        if outcome.is_ok() {
            // Its file may go.
            holders.sweep_at = Duration::ZERO;
        } else {
            holders.absent.insert(holder);
        }
        outcome
    }

    /// Notes that the connection of a guest is lost, and its process may live: it is lent nothing more, and
    /// what it holds stays out as long as its lock is held.
    pub(crate) fn left(&self, holder: u32) {
        if !self.log.is_ours() || !self.is_left(holder) {
            return;
        }
        self.stop_lending(holder);
    }

    /// Notes it; `false` where the holder had no connection of its own (it came back by another one already).
    fn is_left(&self, holder: u32) -> bool {
        let mut holders = lock(&self.holders);
        let was_present = holders.present.remove(&holder);
        if was_present {
            holders.absent.insert(holder);
        }
        was_present
    }

    /// Takes note of what a guest, which has come back under another holder, holds by this one: what it does
    /// not name is released, uncounted. (The owner of then may have died between recording and replying.)
    ///
    /// # Errors
    /// When the disk refuses: the holder is absent still, and it can be said again.
    pub(crate) fn back(&self, holder: u32, named: &[Named]) -> Result<()> {
        self.check_open()?;
        // That its connection is lost may not have been noticed: by that one it is lent nothing more.
        self.left(holder);
        for group in self.all_groups() {
            let here = named
                .iter()
                .filter(|(name, incarnation, ..)| *name == group.name && *incarnation == group.incarnation);
            let here: Vec<(u64, u64)> = here.map(|&(_, _, offset, delivery)| (offset, delivery)).collect();
            unless(Plant::UnnamedKept, || group.keep_only(holder, &here))?;
        }
        let mut holders = lock(&self.holders);
        holders.take(holder);
        // Looked after by its lock, whether or not anything of it was known: so nothing is left of one that
        // has died since it said this.
        holders.returned.insert(holder);
        Ok(())
    }

    /// Tells whether some guest may live that is not connected.
    pub(crate) fn has_absent(&self) -> bool {
        let holders = lock(&self.holders);
        !holders.absent.is_empty() || !holders.found.is_empty()
    }

    /// Tells whether a process holds the lock of a holder.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn is_held(&self, holder: u32) -> Result<bool> {
        if planted(Plant::DeadTakenForLiving) {
            return Ok(true);
        }
        let held = self.storage.is_held(&names::holder(holder));
        held.map_err(|error| failed("look at the lock of", &*self.storage, holder, error))
    }

    fn stop_lending(&self, holder: u32) {
        for group in self.all_groups() {
            // Only in a fork it is refused, and there are no groups there.
            let _ = group.end_guest(holder);
        }
    }

    /// Ends those whose locks have become free, and removes files that are not needed any more.
    ///
    /// # Errors
    /// The first failure; the next look tries again.
    pub(super) fn look_after_holders(&self) -> Result<()> {
        let now = self.clock.now();
        let watched: Vec<u32> = {
            let mut holders = lock(&self.holders);
            if holders.looked.is_some_and(|at| now.saturating_sub(at) < LOOK) {
                return Ok(());
            }
            holders.looked = Some(now);
            let watched = holders.absent.iter().chain(&holders.found).chain(&holders.returned);
            watched.copied().collect()
        };
        let mut outcome = Ok(());
        for holder in watched {
            // A lock that is free is never taken again: whatever came to pass since, it is gone.
            outcome = outcome.and(match self.is_held(holder) {
                Ok(true) => Ok(()),
                Ok(false) => self.gone(holder, true),
                Err(error) => Err(error),
            });
        }
        outcome.and(self.sweep_holders(now))
    }

    /// Removes the files of those who are gone, once no group's files name them: so that whoever draws the
    /// same number never counts from 0 beside loans of that name.
    fn sweep_holders(&self, now: Duration) -> Result<()> {
        {
            let mut holders = lock(&self.holders);
            if now < holders.sweep_at {
                return Ok(());
            }
            holders.sweep_at = now.saturating_add(SWEEP);
        }
        // Some were made and never told to us.
        let mut files = listed(&*self.storage)?;
        {
            let holders = lock(&self.holders);
            files.retain(|&holder| !holders.is_known(holder));
        }
        let mut outcome = Ok(());
        for holder in files {
            outcome = outcome.and(self.sweep_holder(holder));
        }
        outcome
    }

    fn sweep_holder(&self, holder: u32) -> Result<()> {
        let name = names::holder(holder);
        match self.storage.is_held(&name) {
            // About to connect, or not closed yet by whoever has left.
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if is_strange(&error) => return Ok(()),
            Err(error) => return Err(failed("look at the lock of", &*self.storage, holder, error)),
        }
        let named = lock(&self.holders).named.get(&holder).cloned().unwrap_or_default();
        for group in self.all_groups() {
            if !group.forget_holder(holder, named.contains(&group.incarnation))? {
                return Ok(());
            }
        }
        let removed = self.storage.remove_unheld(&name);
        if removed.map_err(|error| failed("remove", &*self.storage, holder, error))? {
            lock(&self.holders).named.remove(&holder);
        }
        Ok(())
    }
}
