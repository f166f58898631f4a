//! What does the one thread do that has a group's files in its hands?
//!
//! It writes the entries that wait, syncs if somebody asked for that, or switches halves. An own mark
//! is due after each sync, for the position that was captured before it.

use std::sync::Arc;

use super::live::{MOST_ROOM, Shared};
use crate::clock::Clock;
use crate::commit::Worker;
use crate::error::Error;
use crate::format::snapshot::Snapshot;
use crate::log::Log;
use crate::offsets::{Halves, SwitchFailed, Track};
use crate::plant::{Plant, planted};

/// The files, in the hands of whoever leads.
#[derive(Debug)]
pub(crate) struct Writer {
    halves: Halves,
    /// Whether entries may be stored through a mapping.
    mapped: bool,
    log: Arc<Log>,
    clock: Arc<dyn Clock>,
    /// Others were let to join this group.
    yielded: bool,
}

impl Writer {
    pub(super) fn new(halves: Halves, mapped: bool, log: Arc<Log>, clock: Arc<dyn Clock>) -> Self {
        Self { halves, mapped, log, clock, yielded: false }
    }
}

/// One group's worth of writing.
#[derive(Debug, Default)]
pub(crate) struct Work {
    write: Option<(u64, Vec<u8>)>,
    /// What [`Shared::appended`] was: all of it is in this work, or in an earlier one.
    upto: u64,
    /// Up to which offset the acks of all batches are in this work, or in an earlier one.
    settled: u64,
    sync: bool,
    /// The position behind the last entry, for the next own mark.
    position: u64,
    switch: Option<Switch>,
    cut: Option<Cut>,
    /// The snapshot is the first to name the newest holder.
    saves_holder: bool,
    /// The half before the switch: it goes on if there is no room for another.
    track: Option<Track>,
    refused: Option<Error>,
    failed: Option<Error>,
}

#[derive(Debug)]
struct Switch {
    snapshot: Snapshot,
    need: u64,
    want: u64,
}

/// What is to be left of the half that does not hold.
#[derive(Debug)]
struct Cut {
    length: u64,
    /// Bytes of the longer half, when that is done.
    longest: u64,
}

impl Worker<Shared> for Writer {
    type Group = Work;

    fn is_patient(&mut self, shared: &Shared) -> bool {
        shared.sync_wanted && !std::mem::replace(&mut self.yielded, true)
    }

    fn gather(&mut self, shared: &mut Shared) -> Work {
        self.yielded = false;
        // Read under the group's lock, as it is when a batch with an ack is begun.
        let settled = shared.state.settling.settled(self.log.next());
        let mut work = Work { upto: shared.appended, settled, ..Work::default() };
        if let Some(need) = shared.switch_wanted.take() {
            shared.state.set_settled(settled.max(shared.state.settled()));
            let snapshot = shared.state.to_snapshot();
            work.switch = Some(Switch { snapshot, need, want: shared.room.max(need) });
            work.track = shared.track.take();
            // One that begins from here on is not in it.
            work.saves_holder = std::mem::take(&mut shared.unsaved_holder);
            return work;
        }
        if std::mem::take(&mut shared.shrink.wanted) {
            let length = shared.needed_bytes();
            // Whoever lends from here on counts with what will be left.
            shared.least_bytes = shared.least_bytes.min(length);
            work.cut = Some(Cut { length, longest: 0 });
            return work;
        }
        if let Some(track) = &mut shared.track {
            work.write = track.take_waiting();
            work.position = track.position();
            work.sync = std::mem::take(&mut shared.sync_wanted);
        }
        work
    }

    fn run(&mut self, work: &mut Work) {
        if let Some(switch) = &work.switch {
            let now = self.clock.wall();
            let switched = self.halves.switch(&switch.snapshot, switch.need, switch.want, self.mapped, now);
            match switched {
                Ok(track) => work.track = Some(track),
                Err(SwitchFailed::Unchanged(error)) => work.refused = Some(error),
                Err(SwitchFailed::Final(error)) => work.failed = Some(error),
            }
            return;
        }
        if let Some(cut) = &mut work.cut {
            match self.halves.cut_other(cut.length) {
                Ok(()) => match self.halves.longest() {
                    Ok(longest) => cut.longest = longest,
                    Err(error) => work.refused = Some(error),
                },
                Err(SwitchFailed::Unchanged(error)) => work.refused = Some(error),
                Err(SwitchFailed::Final(error)) => work.failed = Some(error),
            }
            return;
        }
        let written = work.write.as_ref().map_or(Ok(()), |(at, bytes)| self.halves.write(*at, bytes));
        let synced = written.and_then(|()| if work.sync { self.halves.sync() } else { Ok(()) });
        work.failed = synced.err().map(|error| match error {
            // Its entries are applied and not written: trying again would tell of another state. Only
            // a file system that does not overwrite in place has no room here.
            Error::Full { path, source } => Error::Poisoned { path, cause: source.to_string() },
            other => other,
        });
    }

    fn publish(&mut self, shared: &mut Shared, work: &mut Work, panicked: bool) {
        if panicked {
            work.failed = Some(Error::Invalid { what: "a panic while writing an offset file".into() });
        }
        if let Some(error) = work.failed.take() {
            shared.break_with(&error);
            return;
        }
        if work.switch.is_some() {
            let refused = work.refused.take();
            if refused.is_none() {
                // The snapshot has all that was appended until then.
                shared.written = work.upto;
                shared.synced = work.upto;
                shared.settled = shared.settled.max(work.settled);
                shared.state.settling.saved();
                shared.mark_due = None;
                shared.room = (shared.room * 2).min(MOST_ROOM);
                shared.least_bytes = self.halves.least_bytes();
                shared.generation = self.halves.generation();
                // The new half is durable, and has no entry yet.
                shared.durable = work.track.as_ref().map_or(0, Track::position);
            }
            shared.unsaved_holder |= work.saves_holder && refused.is_some();
            shared.switch_refused = refused;
            shared.track = work.track.take();
            return;
        }
        if let Some(cut) = work.cut.take() {
            shared.shrink.longest = cut.longest;
            shared.shrink.refused = work.refused.take();
            shared.least_bytes = self.halves.least_bytes();
            return;
        }
        if let (Some((_, bytes)), Some(track)) = (work.write.take(), &mut shared.track) {
            track.recycle(bytes);
        }
        shared.written = shared.written.max(work.upto);
        if work.sync {
            shared.synced = work.upto;
            shared.settled = shared.settled.max(work.settled);
        }
        if work.sync || planted(Plant::OwnMarkBeforeSync) {
            shared.mark_due = Some(work.position);
            shared.durable = work.position;
        }
    }

    fn announce(_work: Work) {}

    fn ends_all(shared: &Shared) -> bool {
        shared.broken.is_some()
    }
}
