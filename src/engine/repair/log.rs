//! How does damage leave the log of an open queue, and no message in silence?
//!
//! 1. if anything is wrong with the active segment it is rolled: torn bytes are set aside before, and what stays is sealed
//! 2. the bad stretches of each segment are copied into the quarantine, durable
//! 3. what can be read of it is copied into a new segment, records verbatim, under their offsets; synced, named
//! 4. in each group what cannot be read is given up where it is not done: an entry, and a switch of its halves
//! 5. a slot names the copies in place of their sources, synced
//! 6. the sources go
//!
//! Stopped before 5, the copies are leftovers, and the same damage is found again; what was given up is given up.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::Repaired;
use crate::compact::copy::{Copied, Copying, Progress};
use crate::compact::plan;
use crate::engine::{Engine, lock};
use crate::error::{Error, Result};
use crate::format::manifest::SegmentRow;
use crate::format::{MAX_SEGMENT, names};
use crate::log::damage::{self, Survey};
use crate::log::evidence::SetAside;
use crate::log::writer::Wish;
use crate::storage::Access;

/// A copy has at most so many bytes more than its source: a batch may become several.
const MORE: u64 = 1 << 20;

/// A segment that is to go, and what takes its place: nothing, if nothing of it can be read.
struct Bad {
    row: SegmentRow,
    survey: Survey,
    copied: Option<Copied>,
}

impl Engine {
    /// Takes damage out of the log, and makes durable what the opening has found.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn mend_log(&self, done: &mut Repaired) -> Result<()> {
        self.save_losses()?;
        if self.is_active_wrong(done) {
            self.ask(Wish::Roll { capacity: None })?;
        }
        let mut bad = self.find_bad()?;
        for one in &bad {
            let kept = self.set_stretches_aside(one);
            done.set_aside.extend(kept?);
        }
        for index in 0..bad.len() {
            match self.copy_readable(&bad[index]) {
                Ok(copied) => bad[index].copied = copied,
                Err(error) => {
                    self.throw_away(&bad);
                    return Err(error);
                }
            }
        }
        let lost: Vec<(u64, u64)> = bad.iter().flat_map(|one| one.survey.lost()).collect();
        if let Err(error) = self.strike_in_all(&lost, done) {
            self.throw_away(&bad);
            return Err(error);
        }
        done.lost = lost;
        self.replace_bad(bad)
    }

    /// Tells whether the segment that is written must become one that never changes any more: it has gone bad, or
    /// bytes behind its end are to be set aside before the first write.
    fn is_active_wrong(&self, done: &Repaired) -> bool {
        let found = &self.recovery;
        let active = self.log.set().last().map(|active| self.log.path(active.number));
        let named = |path: &PathBuf| Some(path) == active.as_ref() || path.ends_with(names::MANIFEST);
        let told = found.evidence.is_some() || !found.damaged.is_empty() || found.older_manifest;
        told || done.plan.steps.iter().any(|step| named(&step.path)) || self.is_active_replaced()
    }

    /// Tells whether the active segment is the successor of one that refused the opening: only a copy that is not
    /// sealed is.
    fn is_active_replaced(&self) -> bool {
        self.manifest.look(|slot| slot.segments.last().is_some_and(|row| row.rewritten))
    }

    /// Finds the sealed segments that have gone bad, or hold another number of messages than the manifest says.
    fn find_bad(&self) -> Result<Vec<Bad>> {
        let slot = self.manifest.slot();
        let mut bad = Vec::new();
        for pair in slot.segments.windows(2) {
            let (row, next) = (pair[0], pair[1]);
            let path = self.log.path(row.number);
            let file = self.storage.open(&names::segment(row.number), Access::Read);
            let file = file.map_err(|error| Error::io("open", &path, error))?;
            let survey = damage::survey(&file, &row).map_err(|error| Error::io("read", &path, error))?;
            let told = next.messages_before.saturating_sub(row.messages_before);
            if !survey.stretches.is_empty() || survey.messages != told {
                bad.push(Bad { row, survey, copied: None });
            }
        }
        Ok(bad)
    }

    fn set_stretches_aside(&self, one: &Bad) -> Result<Vec<PathBuf>> {
        let number = one.row.number;
        let failed = |error| Error::io("set bad bytes aside from", self.log.path(number), error);
        let file = self.storage.open(&names::segment(number), Access::Read).map_err(failed)?;
        let keep = |stretch: &damage::Stretch| {
            let (position, length) = (stretch.position, stretch.length);
            let source = SetAside { source: &file, position, length };
            // What a file lacked that was cut short, or missing.
            if source.is_blank().map_err(failed)? {
                return Ok(None);
            }
            let offsets: Vec<String> =
                stretch.offsets.iter().map(|(first, end)| format!("{first}..{end}")).collect();
            let of = if offsets.is_empty() { "none".into() } else { offsets.join(", ") };
            let note = |kept| {
                format!(
                    "damaged: {kept} bytes from byte {position} of segment {number}; offsets that cannot be read: {of}"
                )
            };
            let name = source.keep(&*self.storage, |sum| names::gone_bad(number, position, sum), note);
            name.map(|name| Some(self.storage.root().join(name))).map_err(failed)
        };
        one.survey.stretches.iter().filter_map(|stretch| keep(stretch).transpose()).collect()
    }

    /// Copies what can be read of a segment; `None` if that is nothing.
    fn copy_readable(&self, one: &Bad) -> Result<Option<Copied>> {
        if one.survey.messages == 0 {
            return Ok(None);
        }
        let path = self.log.path(one.row.number);
        let number = one.row.number;
        let source = self.log.set().iter().find(|segment| segment.number == number).cloned();
        let source = source.ok_or_else(|| Error::io("find", &path, ErrorKind::NotFound.into()))?;
        let made = (self.spare.draw_number(), self.clock.wall());
        let most = (2 * one.row.length + MORE).min(MAX_SEGMENT);
        let sizes = (most, self.log.room.segment_bytes());
        let mut copying =
            Copying::begin(&self.log, vec![source], one.survey.readable(&one.row), made, sizes)?;
        loop {
            match copying.step() {
                Ok(Progress::More) => {}
                Ok(Progress::Done) => return Ok(Some(copying.copied())),
                Ok(Progress::Dense | Progress::Damaged(_)) => {
                    copying.discard();
                    let problem =
                        "reads otherwise than a moment ago: the disk fails; copy the folder to another one";
                    return Err(Error::Refused { path, problem: problem.into() });
                }
                Err(error) => {
                    copying.discard();
                    return Err(error);
                }
            }
        }
    }

    /// Gives up in each group what it has not done of the stretches, and brings its files up to all that the log
    /// tells: the acks in batches, which a copy leaves out.
    fn strike_in_all(&self, lost: &[(u64, u64)], done: &mut Repaired) -> Result<()> {
        for group in self.all_groups() {
            let quiet = self.quiet(&group)?;
            let struck = group.strike(lost)?;
            drop(quiet);
            if struck > 0 {
                done.dead.push((group.name.clone(), struck));
            }
        }
        self.tell_settles()
    }

    fn replace_bad(&self, bad: Vec<Bad>) -> Result<()> {
        if bad.is_empty() {
            return Ok(());
        }
        let _changing = lock(&self.changing_groups);
        let updated = self.manifest.update(|slot| {
            for one in &bad {
                let by = one.copied.as_ref().map(|copied| (copied.row, copied.messages));
                plan::replace(&mut slot.segments, &[one.row.number], by);
            }
        });
        // Where it is not known whether the slot names the copies, their files stay: the next opening knows.
        if updated.is_err() && !matches!(updated, Err(Error::Poisoned { .. })) {
            self.throw_away(&bad);
        }
        updated?;
        for one in bad {
            let segment = one.copied.map(|copied| {
                let row = copied.row;
                std::sync::Arc::new(crate::log::Segment::new(&row, row.length, 0))
            });
            self.leave(&[one.row.number], segment);
        }
        Ok(())
    }

    fn throw_away(&self, bad: &[Bad]) {
        for copied in bad.iter().filter_map(|one| one.copied.as_ref()) {
            // The manifest does not name it: should this fail, the next opening sweeps it.
            let _ = self.storage.remove(&names::segment(copied.row.number));
        }
    }
}
