//! Does the offset file keep its promises?
//!
//! The group here only counts: its snapshot says how far it came, and each entry is one step more.
//! So what was found tells at once whether anything is missing, doubled or out of order.

mod crash;
mod damage;
mod faults;
mod files;

use std::sync::Arc;

use super::*;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, Kind, More};
use crate::format::manifest::GroupRow;
use crate::format::names;
use crate::format::snapshot::{Exception, NORMAL, Snapshot, State};
use crate::plant::{Plant, plant};
use crate::storage::Storage;
use crate::storage::sim::SimDisk;

const QUEUE: u128 = 0xfeed;
const NAME: &str = "mailer";

/// Returns a row as a manifest would have it.
fn row(generation: u64) -> GroupRow {
    GroupRow { name: NAME.into(), incarnation: 5, generation, settles_from: 0, mark: 0 }
}

fn storage(disk: &SimDisk) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

/// Returns a disk with a queue's folders.
fn empty_disk() -> SimDisk {
    let disk = SimDisk::new(11);
    disk.make_root().unwrap();
    disk.sync_parent().unwrap();
    disk.make_dir(names::GROUPS).unwrap();
    disk.sync_dir("").unwrap();
    disk
}

/// Returns a disk with a new group.
fn new_disk() -> SimDisk {
    let disk = empty_disk();
    birth(&storage(&disk)).unwrap();
    disk
}

fn birth(storage: &Arc<dyn Storage>) -> Result<()> {
    create(storage, QUEUE, NAME, 5, 1_700_000_000_000, &counted(0, 0))
}

/// Returns the snapshot of a group that came so far, with so much else in it.
fn counted(count: u64, ballast: usize) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.reading.floor = count;
    snapshot.reading.head = count + ballast as u64;
    snapshot.exceptions.extend((0..ballast as u64).map(|index| Exception {
        offset: count + index,
        end: count + index + 1,
        state: State::Ready,
        failures: 1,
        losses: 0,
        late: 0,
        error: "no route to host ".repeat(6),
        priority: NORMAL,
        key: 0,
    }));
    snapshot
}

/// Returns the entry of a step; every fifth has a text.
fn step(count: u64) -> Entry {
    let mut entry = Entry::new(Kind::Done, count);
    entry.delivery = count * 7;
    if count % 5 == 4 {
        entry.more = More::Text("x".repeat(usize::try_from(count % 13).unwrap() * 9).into());
    }
    entry
}

/// Says how far a group came; an error if the entries are not one step each.
fn count(snapshot: &Snapshot, entries: &[Entry]) -> Result<u64, String> {
    let mut count = snapshot.reading.floor;
    for entry in entries.iter().filter(|entry| entry.kind != Kind::OwnMark) {
        if *entry != step(count) {
            return Err(format!("expected step {count}, found {entry:?}"));
        }
        count += 1;
    }
    Ok(count)
}

/// What a test lets a group do.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// That many steps, each a write of its own where there is no mapping.
    Append(u64),
    Mark,
    Sync,
    /// With so much ballast, so much room wished for, and a mapping or not.
    Switch(usize, u64, bool),
    /// The half that does not hold, to so many bytes.
    Cut(u64),
}

use Act::{Append, Cut, Mark, Switch, Sync};

/// A group that is written to, and what it was promised.
struct Run {
    disk: SimDisk,
    /// After so many operations of the disk, stores into a mapping go nowhere.
    stops: u64,
    halves: Halves,
    track: Option<Track>,
    /// Steps that were appended.
    appended: u64,
    /// Steps that no power cut may take.
    synced: u64,
    /// Steps that no kill may take.
    written: u64,
    durable: u64,
    generation: u64,
}

impl Run {
    fn open(disk: &SimDisk, generation: u64) -> Result<Self> {
        let loaded = load(&storage(disk), QUEUE, &row(generation))?;
        let appended = count(&loaded.snapshot, &loaded.entries).unwrap();
        let generation = loaded.halves.generation();
        Ok(Self {
            disk: disk.clone(),
            stops: u64::MAX,
            halves: loaded.halves,
            track: None,
            appended,
            synced: appended,
            written: appended,
            durable: 0,
            generation,
        })
    }

    /// Lets the disk stop after so many operations more.
    fn stop_after(&mut self, ops: u64) {
        self.stops = self.disk.ops() + ops;
        self.disk.stop_after(self.stops);
    }

    fn act(&mut self, act: Act) -> Result<(), Error> {
        match act {
            Append(steps) => (0..steps).try_for_each(|_| self.append()),
            Mark => {
                let Some(track) = &mut self.track else { return Ok(()) };
                let _ = track.append_own_mark(self.durable.max(track.start()));
                self.write()
            }
            Sync => {
                let Some(track) = &self.track else { return Ok(()) };
                let position = track.position();
                self.halves.sync()?;
                (self.synced, self.durable) = (self.appended, position);
                Ok(())
            }
            Switch(ballast, want, mapped) => self.switch(ballast, want, mapped),
            Cut(length) => match self.halves.cut_other(length) {
                Err(SwitchFailed::Final(error)) => Err(error),
                Ok(()) | Err(SwitchFailed::Unchanged(_)) => Ok(()),
            },
        }
    }

    fn append(&mut self) -> Result<()> {
        let Some(track) = &mut self.track else { return Ok(()) };
        if track.append(&step(self.appended)).is_none() {
            return Ok(());
        }
        self.appended += 1;
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        let Some(track) = &mut self.track else { return Ok(()) };
        if let Some((at, bytes)) = track.take_waiting() {
            match self.halves.write(at, &bytes) {
                // Room came back: the same bytes may be written again.
                Err(error) if error.is_full() => self.halves.write(at, &bytes)?,
                other => other?,
            }
            track.recycle(bytes);
        }
        if self.disk.ops() < self.stops {
            self.written = self.appended;
        }
        Ok(())
    }

    fn switch(&mut self, ballast: usize, want: u64, mapped: bool) -> Result<()> {
        let snapshot = counted(self.appended, ballast);
        match self.halves.switch(&snapshot, 1024, want, mapped, 1) {
            Ok(track) => {
                self.durable = track.start();
                self.track = Some(track);
                (self.synced, self.written) = (self.appended, self.appended);
                self.generation = self.halves.generation();
                Ok(())
            }
            Err(SwitchFailed::Unchanged(_)) => Ok(()),
            Err(SwitchFailed::Final(error)) => Err(error),
        }
    }
}

/// Returns what both files hold.
fn bytes(disk: &SimDisk) -> [Vec<u8>; 2] {
    [0, 1].map(|half| disk.read_file(&names::half(NAME, half)).unwrap())
}

/// Opens a disk and says how far the group came: an error if it cannot be opened, if a second
/// opening finds something else, or if looking does.
fn reopen(disk: &SimDisk, generation: u64) -> Result<u64, String> {
    let looked = look(&storage(disk), QUEUE, &row(generation)).map_err(|error| format!("look: {error}"))?;
    let found = reopen_unseen(disk, generation)?;
    if count(&looked.snapshot, &looked.entries)? != found || looked.wounded {
        return Err("looking differs from opening".into());
    }
    Ok(found)
}

/// The same without a look before: after a failed sync that shows what the disk does not have.
fn reopen_unseen(disk: &SimDisk, generation: u64) -> Result<u64, String> {
    let storage = storage(disk);
    let first = load(&storage, QUEUE, &row(generation)).map_err(|error| format!("load: {error}"))?;
    let left = bytes(disk);
    let second = load(&storage, QUEUE, &row(generation)).map_err(|error| format!("second load: {error}"))?;
    let found = (&first.snapshot, &first.entries, first.torn);
    if found != (&second.snapshot, &second.entries, second.torn) || left != bytes(disk) {
        return Err("the second opening differs from the first".into());
    }
    if first.wounded {
        return Err("a crash was taken for a bad sector".into());
    }
    count(&first.snapshot, &first.entries)
}
