//! How is a queue opened?
//!
//! Step by step as DESIGN §6 and `docs/DURABILITY.md` say. Nothing is written to the log, and what
//! opening does can be cut short anywhere and done again. A refusal changes nothing.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::holders::Found;
use super::leftovers::{leftovers, sweep};
use super::recovery::{Damage, Lost, Recovery};
use super::{Engine, Groups, Mutex, OnceLock, birth, duties, holders, keep, limits, settles};
use crate::clock::Clock;
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::format::manifest::{GroupRow, LogMark, NO_SETTLES, SegmentRow};
use crate::format::names;
use crate::group::helper::Helper;
use crate::group::holder::draw_holder;
use crate::group::live::Live;
use crate::group::state::{Now, State};
use crate::log::evidence::Evidence;
use crate::log::keys::Keys;
use crate::log::recovery::{self, Start, Verdict};
use crate::log::settles::Settled;
use crate::log::spare::Spare;
use crate::log::writer::{LAST_RESERVE, Opened, Waiting, Writer};
use crate::log::{Active, Checked, End, Log, Segment};
use crate::manifest;
use crate::offset::Offset;
use crate::offsets::Surveyed;
use crate::options::Settings;
use crate::plant::{Plant, planted, unless};
use crate::storage::{Access, Lock, Storage, read_up_to};
use crate::wake::Bell;
use crate::{log, offsets};

impl Engine {
    /// Opens the queue, creating it where that is wanted and there is none.
    ///
    /// # Errors
    /// As [`crate::Options::open`] says.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Arc<Self>> {
        let (held, created) = acquire(&storage, &*clock, &settings)?;
        Self::open_held(storage, clock, settings, held, created)
    }

    /// Opens the queue whose lock is held; `created`: it was made just now.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub(super) fn open_held(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        held: Box<dyn Lock>,
        created: bool,
    ) -> Result<Arc<Self>> {
        storage.sync_dir("").map_err(|error| Error::io("sync the folder", storage.root(), error))?;
        let (manifest, found) = manifest::load(&storage)?;
        if found.slot.sequence == 1 && !created {
            // A birth may have failed at its very last step; nobody was told anything since.
            storage.sync_parent().map_err(|error| Error::io("sync the parent of", storage.root(), error))?;
        }
        let mut report = Recovery { created, mended: found.wounded, ..Recovery::default() };
        let (row, checked) = check_segments(&storage, &found)?;
        keep::check_kept(&*storage, &found)?;
        let leftovers = leftovers(&storage, &found)?;
        let (opened, verdict) = find_end(&storage, &found, &row, &checked, &mut report)?;
        let surveyed = survey_groups(&storage, &found)?;
        let settled = settles::at_opening(&storage, &found, &verdict, &surveyed, &mut report)?;
        let mut guests = holders::find(&*storage)?;
        // Nothing refuses any more, and nothing was changed. From here on things are acted on.
        manifest.make_good(&found)?;
        let log = Arc::new(opened);
        let manifest = Arc::new(manifest);
        let holder = guests.draw(&*storage)?;
        let helper = Helper::new(clock.clone(), settings.threads);
        let past = Past { verdict: &verdict, settled: &settled };
        let loaded =
            load_groups(&log, &helper, &settings, surveyed, &past, holder, &mut guests, &mut report)?;
        if !found.one_slot {
            sweep(&storage, &leftovers, &mut report);
        }
        let number = (leftovers.highest + 1).max(found.slot.numbers);
        let spare = Arc::new(Spare::new(number));
        let set = log.set();
        let segment = set.last().cloned().ok_or_else(|| no_segments(&storage))?;
        let evidence =
            verdict.torn.map(|torn| Evidence { segment: row.number, file: checked.file.clone(), torn });
        if let Some(evidence) = &evidence {
            let name = evidence.name().map_err(|error| Error::io("read", log.path(row.number), error))?;
            report.evidence = Some(storage.root().join(name));
        }
        let slot = &found.slot.log;
        let asks = Arc::new(duties::Asks::new(settings.threads));
        let writer = Writer::new(Opened {
            log: log.clone(),
            manifest: manifest.clone(),
            clock: clock.clone(),
            spare: spare.clone(),
            active: Active {
                segment,
                file: checked.file,
                capacity: checked.capacity,
                position: verdict.position,
                durable: verdict.position,
                about: verdict.about,
            },
            next: next_offset(&report, &verdict, slot),
            shown: verdict.next,
            messages: verdict.messages,
            reserved: slot.reserved,
            // A find would be told by the next opening too; it is as long as nobody writes.
            walked: !report.clean && !report.has_findings(),
            duties: asks.clone(),
            evidence,
        });
        let keys = Keys::new(limits::window(&found.slot.limits));
        let commit = Arc::new(Commit::new(Waiting::new(keys), writer));
        clock.on_advance(Arc::downgrade(&commit) as _);
        let _ = held.note(&note(&settings));
        let engine = Arc::new(Self {
            storage,
            queue: found.queue,
            losses_saved: AtomicBool::new(report.lost.is_empty()),
            recovery: report,
            manifest,
            log,
            spare,
            commit,
            groups: Mutex::new(loaded),
            changing_groups: Mutex::new(()),
            holder,
            holders: Mutex::new(guests.into_holders()),
            lock: Mutex::new(Some(held)),
            closed: AtomicBool::new(false),
            outcome: OnceLock::new(),
            closing: Mutex::new(()),
            deferred: Arc::new(Bell::default()),
            committer: Mutex::new(None),
            helper,
            idle: Mutex::new(duties::Idle::new(clock.now())),
            asks,
            limits: Mutex::new(found.slot.limits),
            space: Mutex::default(),
            copying: Mutex::default(),
            unheard: Mutex::default(),
            #[cfg(feature = "schedules")]
            schedules: Mutex::default(),
            #[cfg(feature = "schedules")]
            changing_schedules: Mutex::new(()),
            clock,
            settings,
        });
        engine.clock.on_advance(Arc::downgrade(engine.log.room.bell()) as _);
        engine.change_limits(&engine.settings.limits)?;
        if engine.settings.threads {
            duties::look_after(&engine);
        }
        Ok(engine)
    }
}

/// Takes the lock; makes the queue where there is none and one is wanted.
fn acquire(
    storage: &Arc<dyn Storage>,
    clock: &dyn Clock,
    settings: &Settings,
) -> Result<(Box<dyn Lock>, bool)> {
    let network = storage.network();
    let network = network.map_err(|error| Error::io("look at the file system of", storage.root(), error))?;
    if let Some(kind) = network.filter(|_| !settings.network) {
        return Err(Error::NetworkFileSystem { path: storage.root().to_path_buf(), kind: kind.into() });
    }
    let present = has_manifest(storage)?;
    if !present {
        if !settings.create {
            return Err(manifest::look(storage).err().unwrap_or(Error::Timeout { owner: None }));
        }
        birth::prepare(storage)?;
    } else if let Err(error @ (Error::NotAQueue { .. } | Error::Version { .. })) = manifest::look(storage) {
        // Before the lock is taken: that would leave its file in a folder that is not ours.
        return Err(error);
    }
    let held = take_lock(storage, clock, settings.lock_timeout)?;
    // Somebody else may have made it while we waited.
    if present || has_manifest(storage)? {
        return Ok((held, false));
    }
    birth::create(storage, clock, settings)?;
    Ok((held, true))
}

fn has_manifest(storage: &Arc<dyn Storage>) -> Result<bool> {
    match storage.open(names::MANIFEST, Access::Read) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Err(Error::NotAQueue {
            path: storage.root().to_path_buf(),
            found: "it is a file, not a folder".into(),
        }),
        Err(error) => Err(Error::io("open", storage.root().join(names::MANIFEST), error)),
    }
}

/// How often a lock that somebody else holds is tried again: flock has no timed wait.
const LOCK_RETRY: Duration = Duration::from_millis(5);

pub(super) fn take_lock(
    storage: &Arc<dyn Storage>,
    clock: &dyn Clock,
    timeout: Duration,
) -> Result<Box<dyn Lock>> {
    let path = || storage.root().join(names::LOCK);
    let until = clock.now().saturating_add(timeout);
    let bell = Bell::default();
    loop {
        let tried = storage.lock(names::LOCK).map_err(|error| Error::io("lock", path(), error))?;
        if let Some(held) = tried {
            return Ok(held);
        }
        if clock.now() >= until {
            return Err(Error::Locked { path: storage.root().to_path_buf(), note: lock_note(storage) });
        }
        bell.wait(0, Some(LOCK_RETRY));
    }
}

/// What the text in `LOCK` ends in where nobody else is served: it spares those who come a wait.
pub(crate) const ALONE: &str = "for itself alone";

fn note(settings: &Settings) -> String {
    let alone = if settings.exclusive { ALONE } else { "" };
    format!("opened by process {} {alone}", std::process::id()).trim_end().to_owned()
}

fn lock_note(storage: &Arc<dyn Storage>) -> String {
    let mut text = [0; 128];
    let read = storage
        .open(names::LOCK, Access::Read)
        .and_then(|file| read_up_to(&*file, &mut text, 0))
        .unwrap_or(0);
    String::from_utf8_lossy(&text[..read]).trim().to_owned()
}

/// Checks every segment that the manifest names; returns the active one.
fn check_segments(storage: &Arc<dyn Storage>, found: &manifest::Found) -> Result<(SegmentRow, Checked)> {
    let (active, sealed) = found.slot.segments.split_last().ok_or_else(|| no_segments(storage))?;
    for row in sealed {
        log::check(&**storage, found.queue, row, Access::Read)?;
    }
    let checked = log::check(&**storage, found.queue, active, Access::Write)?;
    if found.slot.log.position > checked.capacity {
        let problem = "ends before the manifest's mark".into();
        return Err(Error::Refused { path: storage.root().join(names::segment(active.number)), problem });
    }
    Ok((*active, checked))
}

fn no_segments(storage: &Arc<dyn Storage>) -> Error {
    let path = storage.root().join(names::MANIFEST);
    Error::Refused { path, problem: "names no segment".into() }
}

/// Finds where the log ends: told by the manifest, or by walking the active segment.
fn find_end(
    storage: &Arc<dyn Storage>,
    found: &manifest::Found,
    row: &SegmentRow,
    checked: &Checked,
    report: &mut Recovery,
) -> Result<(Log, Verdict)> {
    let mark = found.slot.log;
    let failed = |error| Error::io("read", storage.root().join(names::segment(row.number)), error);
    let mut start = Start { mark, about: row.about, salt: row.salt, capacity: checked.capacity };
    report.clean = mark.closed && !recovery::goes_on(&checked.file, &start).map_err(failed)?;
    report.older_manifest = mark.closed && !report.clean;
    if report.older_manifest {
        // Its reserve is as old as itself, and says nothing about the batches behind it.
        start.mark.reserved = Offset::LIMIT - 1;
    }
    let verdict = if report.clean {
        Verdict::at_mark(&start)
    } else {
        // After a failed write-back the cache shows what the disk does not have.
        unless(Plant::CachedLog, || checked.file.sync().and_then(|()| checked.file.drop_cache()))
            .map_err(failed)?;
        recovery::walk(&checked.file, &start).map_err(failed)?
    };
    let path = storage.root().join(names::segment(row.number));
    report.damaged.extend(verdict.damages.iter().map(|damage| Damage {
        path: path.clone(),
        position: damage.position,
        length: damage.length,
        offsets: (damage.first, damage.end),
    }));
    if let Some(torn) = verdict.torn {
        report.torn_bytes = torn.length;
        report.torn_messages = torn.messages;
    }
    let end = End { position: verdict.position, next: verdict.next, messages: verdict.messages };
    let rows = &found.slot.segments;
    let set = rows.iter().map(|row| match row.length {
        0 => {
            let row = SegmentRow { about: verdict.about, ..*row };
            Arc::new(Segment::new(&row, end.position, checked.capacity))
        }
        length => Arc::new(Segment::new(row, length, 0)),
    });
    Ok((Log::new(storage.clone(), found.queue, set.collect(), end), verdict))
}

/// Returns the next offset to give: beyond every one that anybody can have been told.
fn next_offset(report: &Recovery, verdict: &Verdict, slot: &LogMark) -> u64 {
    if planted(Plant::BaseWithinReserve) {
        return verdict.next;
    }
    let told = verdict.next.max(slot.reserved);
    let next = if report.clean {
        slot.next
    } else if report.older_manifest {
        // The newer manifest reserved at most so many offsets beyond the last batch.
        (told + 2 * LAST_RESERVE).min(Offset::LIMIT - 1)
    } else {
        told
    };
    // Where an older log was put back with its manifest, the groups alone know better: a new message
    // must not be one that they have done.
    report.lost.iter().fold(next, |next, lost| next.max(lost.offsets.1))
}

/// Reads the files of all groups; damage refuses that group only.
fn survey_groups(
    storage: &Arc<dyn Storage>,
    found: &manifest::Found,
) -> Result<Vec<(GroupRow, Result<Surveyed>)>> {
    let survey = |row: &GroupRow| match offsets::survey(storage, found.queue, row) {
        Err(error) if !matches!(error, Error::Damaged { .. }) => Err(error),
        surveyed => Ok((row.clone(), surveyed)),
    };
    found.slot.groups.iter().map(survey).collect()
}

/// What the log tells the groups of.
struct Past<'a> {
    verdict: &'a Verdict,
    settled: &'a [Settled],
}

#[expect(clippy::too_many_arguments, reason = "an opening brings together what it found")]
fn load_groups(
    log: &Arc<Log>,
    helper: &Arc<Helper>,
    settings: &Settings,
    surveyed: Vec<(GroupRow, Result<Surveyed>)>,
    &Past { verdict, settled }: &Past<'_>,
    holder: u32,
    guests: &mut Found,
    report: &mut Recovery,
) -> Result<Groups> {
    let mut groups = Groups::default();
    for (row, surveyed) in surveyed {
        let loaded = match surveyed {
            Ok(surveyed) => surveyed.make_good()?,
            Err(error) => {
                report.refused_groups.push((row.name.clone(), error.clone()));
                groups.refused.insert(row.name, error);
                continue;
            }
        };
        report.torn_entries += loaded.torn;
        report.mended |= loaded.wounded;
        let now = Now { mono: helper.clock().now(), wall: helper.clock().wall() };
        let mut state = State::recover(&loaded.snapshot, &loaded.entries, now);
        settles::apply(&mut state, row.incarnation, settled, now);
        if row.settles_from == NO_SETTLES {
            // All that are in the log are in its file.
            state.set_settled(verdict.next);
        }
        guests.note_named(row.incarnation, &state);
        settle_the_past(&mut state, &row, verdict, guests, now, report);
        let live = open_group(log, helper, settings, &row, state, (loaded.halves, loaded.end), holder)?;
        groups.open.insert(row.name, live);
    }
    Ok(groups)
}

/// Returns loans of those who are gone (of guests: whose locks nobody holds), and passes messages that the log lost. Nothing of it is
/// written here: the next opening would find the same, and the first entry's switch takes it along
/// (or, of what was lost, the first push: behind it nobody could tell any more).
fn settle_the_past(
    state: &mut State,
    row: &GroupRow,
    verdict: &Verdict,
    guests: &Found,
    now: Now,
    report: &mut Recovery,
) {
    let loans = state.stats().on_loan;
    for holder in state.holders_out().into_iter().filter(|&holder| !guests.is_living(holder)) {
        for entry in state.holder_gone(holder, true, now) {
            state.apply(&entry, now);
        }
    }
    report.loans_returned += loans - state.stats().on_loan;
    // Done or not: an ack too is of a message that was there.
    let missing = state.missing(verdict.next, verdict.messages);
    report.lost.extend(missing.map(|offsets| Lost { group: row.name.clone(), offsets }));
    if state.head() > verdict.next {
        state.set_passed(verdict.messages);
    }
    if let Some(entry) = state.lost(verdict.next, now) {
        state.apply(&entry, now);
    }
}

/// Puts a group together that was loaded or has just been made, with its files and the position up
/// to which they are durable.
pub(super) fn open_group(
    log: &Arc<Log>,
    helper: &Arc<Helper>,
    settings: &Settings,
    row: &GroupRow,
    mut state: State,
    (halves, durable): (offsets::Halves, u64),
    holder: u32,
) -> Result<Arc<Live>> {
    let mut holder = holder;
    while state.names_holder(holder) {
        holder = draw_holder(&*log.storage)?;
    }
    state.begin_holder(holder);
    let synced = state.policy().synced;
    let live = Live::new(
        row.name.clone(),
        row.incarnation,
        log.clone(),
        helper.clone(),
        state,
        halves,
        durable,
        synced,
        settings.mappings,
    );
    Ok(live)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(clean: bool, older_manifest: bool, found: u64, reserved: u64) -> u64 {
        let report = Recovery { clean, older_manifest, ..Recovery::default() };
        let verdict = Verdict { next: found, ..Verdict::default() };
        next_offset(&report, &verdict, &LogMark { next: 7, reserved, ..LogMark::default() })
    }

    #[test]
    fn the_next_offset_lies_beyond_all_that_was_told() {
        assert_eq!(next(true, false, 7, 4096), 7);
        assert_eq!(next(false, false, 9, 4096), 4096);
        assert_eq!(next(false, false, 5000, 4096), 5000);
        // A manifest that is gone may have reserved on, twice, as the last steps are.
        assert_eq!(next(false, true, 9, 4096), 4096 + 2 * LAST_RESERVE);
        assert_eq!(next(false, true, 5000, 4096), 5000 + 2 * LAST_RESERVE);
        assert_eq!(next(false, true, Offset::LIMIT - 9, 4096), Offset::LIMIT - 1);
    }
}
