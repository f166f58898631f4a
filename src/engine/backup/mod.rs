//! How is a queue copied while somebody has it open?
//!
//! Without its lock and without a write to it. One round takes a picture (groups first, then the log: no group is
//! ahead of it), copies what the picture names, and looks whether the source still names all of it; if not, it was
//! freed or used again meanwhile, and the round starts over with what changed. The copy is a queue's folder in
//! every byte, but for a mark in its manifest: it can be looked at, and not be opened. In the order of the steps,
//! each of which a crash may cut:
//!
//! ```text
//!   1 the folder, a file that says whose unfinished copy it is        nobody takes it for anything else
//!   2 segments, as long as the picture shows them, synced             the former copy's manifest names less
//!   3 of each group a snapshot, in the half that does not count       the former one names the other half
//!   4 the manifest: temporary name, synced, renamed, folder synced    the copy is that of the picture
//!   5 what it does not name goes, and that file                       leftovers
//! ```

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::look::{GroupSeen, Seen, look};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::manifest::{GroupRow, LogMark, NO_SETTLES, SegmentRow, Slot};
use crate::format::snapshot::Snapshot;
use crate::format::{PAGE_POSITION, names};
use crate::inspect::Progress;
use crate::manifest;
use crate::offsets;
use crate::storage::{Access, Kind, Lock, Storage};

mod files;
mod restore;

pub(crate) use restore::restore;

/// How often a round starts over because the source moved on.
const LOOKS: usize = 100;

/// A copy of a queue that is kept current.
#[derive(Debug)]
pub(crate) struct Backup {
    from: Arc<dyn Storage>,
    to: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    /// Nobody else writes the copy.
    _lock: Box<dyn Lock>,
    /// Sealed segments that are whole in the copy: number, salt, length.
    whole: BTreeSet<(u64, u32, u64)>,
    /// How far this one has copied the segment that was active: number, salt, position, next offset.
    active: Option<(u64, u32, u64, u64)>,
    /// Segments of the source in which this one has found bytes gone bad: number, salt.
    damaged: BTreeSet<(u64, u32)>,
    /// Up to where the copy's manifest says of each segment what lies there: number, salt, position.
    promised: Vec<(u64, u32, u64)>,
    /// What the copy shows since this one's last round.
    shown: Option<Shown>,
}

/// What a copy shows: what its slot says beside the groups, and each of these.
type Shown = (Slot, Vec<(String, Snapshot)>);

/// What a round did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round {
    pub(crate) next: u64,
    pub(crate) messages: u64,
    pub(crate) segments: u64,
    /// Bytes of segments that had to be copied.
    pub(crate) copied: u64,
    /// Groups whose files are damaged: the copy keeps what it had of them, if anything.
    pub(crate) refused: Vec<(String, Error)>,
    /// Segments of the source in which bytes have gone bad.
    pub(crate) damaged: Vec<PathBuf>,
}

impl Round {
    fn of(seen: &Seen, copied: u64, refused: Vec<(String, Error)>) -> Self {
        let segments = seen.segments.len() as u64;
        Self { next: seen.next, messages: seen.messages, segments, copied, refused, damaged: Vec::new() }
    }
}

impl Backup {
    /// Makes the folder of the copy, or takes up the one that is there.
    ///
    /// # Errors
    /// [`Error::Refused`] where something else lies, [`Error::Locked`] while somebody else writes it, and as
    /// [`look`].
    pub(crate) fn new(from: Arc<dyn Storage>, to: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Result<Self> {
        let queue = manifest::look(&from)?.queue;
        let (named, lock) = files::begin(&to, queue, true)?;
        let sealed = named.iter().flat_map(|found| found.slot.segments.iter().filter(|row| row.length != 0));
        // Nobody has looked at them since.
        let there = sealed.filter(|row| crate::log::check(&*to, queue, row, Access::Read).is_ok());
        let whole = there.map(|row| (row.number, row.salt, row.length)).collect();
        let promised = named.iter().flat_map(|found| extents(&found.slot)).collect();
        Ok(Self {
            from,
            to,
            clock,
            _lock: lock,
            whole,
            active: None,
            damaged: BTreeSet::new(),
            promised,
            shown: None,
        })
    }

    /// Brings the copy to the present moment.
    ///
    /// # Errors
    /// When the source cannot be read, or the copy not be written: it is the former one then, or unfinished. And
    /// when the source changes faster than it can be copied.
    pub(crate) fn round(&mut self, to: &mut dyn FnMut(Progress)) -> Result<Round> {
        let mut copied = 0;
        for _ in 0..LOOKS {
            let seen = look(&self.from, &*self.clock)?;
            if self.shown.is_some() && self.shown == shown(&seen) {
                return Ok(Round { damaged: self.bad(&seen), ..Round::of(&seen, copied, Vec::new()) });
            }
            let mut damaged = BTreeSet::new();
            let result = self.segments(&seen, &mut copied, &mut damaged, to);
            // What was read counts if its file was that segment until now.
            if self.has_moved(&seen)? {
                continue;
            }
            result?;
            self.damaged.append(&mut damaged);
            let round = self.finish(&seen, copied)?;
            return Ok(Round { damaged: self.bad(&seen), ..round });
        }
        let busy = std::io::Error::from(ErrorKind::ResourceBusy);
        Err(Error::io("copy, for it changes faster than it is copied,", self.from.root(), busy))
    }

    /// Lists the segments of a picture in which bytes have gone bad.
    fn bad(&self, seen: &Seen) -> Vec<PathBuf> {
        let bad = seen.segments.iter().filter(|row| self.damaged.contains(&(row.number, row.salt)));
        bad.map(|row| self.from.root().join(names::segment(row.number))).collect()
    }

    fn has_moved(&self, seen: &Seen) -> Result<bool> {
        let now = manifest::look(&self.from)?;
        let is = |row: &SegmentRow, other: &SegmentRow| (row.number, row.salt) == (other.number, other.salt);
        let named = |row: &SegmentRow| now.slot.segments.iter().any(|other| is(row, other));
        let kept = seen.slot.kept.iter().all(|row| now.slot.kept.contains(row));
        Ok(now.queue != seen.queue || !seen.segments.iter().all(named) || !kept)
    }

    /// Copies the segments of a picture that are not whole yet, and side files that outlive theirs.
    fn segments(
        &mut self,
        seen: &Seen,
        copied: &mut u64,
        damaged: &mut BTreeSet<(u64, u32)>,
        to: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let total = seen.stretches.iter().map(|stretch| stretch.bytes).sum();
        let mut done = 0;
        for (row, stretch) in seen.segments.iter().zip(&seen.stretches) {
            let whole = (row.number, row.salt, row.length);
            if !stretch.sealed || !self.whole.contains(&whole) {
                let tell = &mut |bytes| to(Progress { done: done + bytes, total });
                // What it has copied itself is there: no crash of the source has taken it back meanwhile.
                let is = |number: u64, salt: u32| (number, salt) == (row.number, row.salt);
                let known = self.active.filter(|known| is(known.0, known.1));
                let (mut first, base) = known.map_or((0, row.base), |known| (known.2, known.3));
                let begin = (first.max(PAGE_POSITION), base);
                if !files::is_good(&*self.from, seen.queue, row, begin, stretch.bytes)? {
                    damaged.insert((row.number, row.salt));
                    // What the copy has of it, and is good, does not go for what is not.
                    let promised = self.promised.iter().find(|one| is(one.0, one.1)).map_or(0, |one| one.2);
                    let begin = (PAGE_POSITION, row.base);
                    if files::is_good(&*self.to, seen.queue, row, begin, promised)? {
                        first = first.max(promised);
                    }
                }
                let range = (first.min(stretch.bytes), stretch.bytes);
                *copied += files::segment(&*self.from, &*self.to, (seen.queue, row), range, None, tell)?;
                if stretch.sealed {
                    self.whole.insert(whole);
                } else {
                    self.active = Some((row.number, row.salt, stretch.bytes, seen.next));
                }
            }
            done += stretch.bytes;
            to(Progress { done, total });
        }
        for row in &seen.slot.kept {
            files::whole(&*self.from, &*self.to, &names::index(row.number))?;
        }
        self.to
            .sync_dir(names::LOG)
            .map_err(|error| Error::io("sync the folder", self.to.root().join(names::LOG), error))
    }

    /// Writes the groups of a picture and the manifest that names everything.
    fn finish(&mut self, seen: &Seen, copied: u64) -> Result<Round> {
        self.shown = None;
        let former = manifest::look(&self.to).ok();
        let former = former.map(|found| found.slot.groups).unwrap_or_default();
        let mut groups = Vec::new();
        let mut refused = Vec::new();
        for (name, group) in &seen.groups {
            match group {
                Err(error) => {
                    // As it was: acks that came with later batches may have been sought back since.
                    let old = former_of(&former, name, seen);
                    groups.extend(old.map(|old| GroupRow { settles_from: NO_SETTLES, ..old.clone() }));
                    refused.push((name.clone(), error.clone()));
                }
                Ok(GroupSeen { row: Some(row), state, .. }) => {
                    let named = former.iter().find(|old| old.name == *name);
                    self.forget_other(named, row)?;
                    let named = named.filter(|old| old.incarnation == row.incarnation);
                    let wall = self.clock.wall();
                    let generation =
                        offsets::copy(&self.to, seen.queue, (row, named), wall, &state.to_snapshot())?;
                    groups.push(GroupRow { generation, mark: 0, ..row.clone() });
                }
                // Removed while the picture was taken.
                Ok(_) => {}
            }
        }
        let slot = slot_of(seen, groups);
        manifest::replace(&self.to, seen.queue, seen.created, &slot, true)?;
        files::sweep(&self.to, &slot)?;
        self.promised = extents(&slot).collect();
        self.shown = shown(seen);
        Ok(Round::of(seen, copied, refused))
    }

    /// A group was removed and made again: its files are about to be others. First the copy is without it.
    fn forget_other(&self, named: Option<&GroupRow>, row: &GroupRow) -> Result<()> {
        let Some(old) = named.filter(|old| old.incarnation != row.incarnation) else { return Ok(()) };
        let found = manifest::look(&self.to)?;
        let mut slot = found.slot;
        slot.groups.retain(|group| group.name != old.name);
        slot.sequence += 1;
        manifest::replace(&self.to, found.queue, found.created, &slot, true)
    }
}

/// Returns the row under which the copy has a group that the source cannot read any more. It may be the last place that
/// still tells what is done there: a round that forgot it would spread the damage. It is behind the log, which is what a
/// group may be; one that was made anew since is another group.
fn former_of<'a>(former: &'a [GroupRow], name: &str, seen: &Seen) -> Option<&'a GroupRow> {
    let is = |group: &&GroupRow| group.name == name;
    let now = seen.slot.groups.iter().find(is)?;
    former.iter().find(is).filter(|old| old.incarnation == now.incarnation)
}

/// Tells up to where a slot says what lies in each segment.
fn extents(slot: &Slot) -> impl Iterator<Item = (u64, u32, u64)> + '_ {
    let end = |row: &SegmentRow| if row.length == 0 { slot.log.position } else { row.length };
    slot.segments.iter().map(move |row| (row.number, row.salt, end(row)))
}

/// Tells what a copy of a picture shows; `None` if it does not show all of it.
fn shown(seen: &Seen) -> Option<Shown> {
    let snapshot = |(name, group): &(String, Result<GroupSeen>)| {
        Some((name.clone(), group.as_ref().ok()?.state.to_snapshot()))
    };
    let snapshots = seen.groups.iter().map(snapshot).collect::<Option<_>>()?;
    // A mark of how far the log was durable is none of what it shows.
    let slot = Slot { sequence: 0, ..slot_of(seen, seen.slot.groups.clone()) };
    Some((slot, snapshots))
}

/// Makes the slot that names what a picture shows, as one of a queue that was closed then.
fn slot_of(seen: &Seen, groups: Vec<GroupRow>) -> Slot {
    let mut slot = seen.slot.clone();
    slot.groups = groups;
    if let Some(active) = slot.segments.last_mut() {
        active.about = seen.about;
        slot.log = LogMark {
            segment: active.number,
            position: seen.position,
            next: seen.next,
            messages: seen.messages,
            reserved: slot.log.reserved.max(seen.next),
            closed: true,
        };
    }
    slot
}

/// Tells whether a folder holds nothing but what was unfinished.
fn is_empty(storage: &Arc<dyn Storage>) -> Result<bool> {
    let there = storage.list("").map_err(|error| Error::io("list", storage.root(), error))?;
    Ok(there.iter().all(|entry| entry.kind == Kind::File && entry.name == names::LOCK))
}
