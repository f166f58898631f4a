//! What would a repair do about each thing that is wrong? Looks, and changes nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::readable;
use crate::clock::Clock;
use crate::engine::{deep, look};
use crate::error::{Error, Result};
use crate::format::names;
use crate::inspect::{Finding, FindingKind, Progress};
use crate::manifest::Found;
use crate::storage::Storage;

/// What a step of a repair does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RepairKind {
    /// What an opening and a clean close do by themselves: bytes that were never promised are set aside, what stands
    /// twice is made good, what a group missed is passed.
    Mend,
    /// A segment has gone bad in places: what can be read is copied into another one.
    Copy,
    /// A segment is missing, foreign, or cut short: one with what can be read takes its place.
    Replace,
    /// A group's files have gone bad: they are made anew with what can be read.
    Regroup,
    /// A side file with dedup keys is missing or bad: the manifest names it no more.
    Forget,
    /// A folder is missing: it is made.
    Folder,
}

impl RepairKind {
    /// Returns the word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mend => "mend",
            Self::Copy => "copy",
            Self::Replace => "replace",
            Self::Regroup => "regroup",
            Self::Forget => "forget",
            Self::Folder => "folder",
        }
    }

    /// Says what is done.
    #[must_use]
    pub const fn does(self) -> &'static str {
        match self {
            Self::Mend => "opened and closed: torn bytes are set aside, what stands twice is made good",
            Self::Copy => {
                "what can be read is copied into another segment; the bad bytes are kept in quarantine; messages \
                 that cannot be read become dead letters where they are not done"
            }
            Self::Replace => {
                "a segment with what can be read takes its place; the file is kept in quarantine; messages that \
                 cannot be read become dead letters where they are not done"
            }
            Self::Regroup => {
                "made anew with what can be read; the files are kept in quarantine; messages may come again, and \
                 dead letters and loans may be forgotten"
            }
            Self::Forget => "no longer named; dedup keys in it are free",
            Self::Folder => "made",
        }
    }
}

/// One thing that is wrong, and what a repair does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairStep {
    /// What is done.
    pub kind: RepairKind,
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub position: Option<u64>,
    /// The first offset that is concerned, and the one behind the last.
    pub offsets: Option<(u64, u64)>,
    /// What is wrong.
    pub what: String,
    /// Whether something that was promised is given up.
    pub loses: bool,
}

impl fmt::Display for RepairStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.word(), self.path.display())?;
        if let Some(position) = self.position {
            write!(f, " at byte {position}")?;
        }
        if let Some((first, end)) = self.offsets {
            write!(f, ", offsets {first}..{end}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What a repair would do; see [`plan_repair`](crate::plan_repair).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairPlan {
    /// What is wrong, one by one. Nothing if all is well.
    pub steps: Vec<RepairStep>,
}

impl RepairPlan {
    /// Tells whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Tells whether something that was promised would be given up: more than a torn tail.
    #[must_use]
    pub fn loses(&self) -> bool {
        self.steps.iter().any(|step| step.loses)
    }
}

pub(super) fn plan(
    storage: &Arc<dyn Storage>,
    clock: &dyn Clock,
    to: &mut dyn FnMut(Progress),
) -> Result<RepairPlan> {
    let found = readable(storage)?;
    let mut steps = Vec::new();
    for folder in [names::LOG, names::GROUPS] {
        if storage.list(folder).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            let finding = Finding::new(FindingKind::Refused, storage.root().join(folder), "is missing");
            steps.push(step(RepairKind::Folder, finding, false));
        }
    }
    steps.extend(
        deep::side_files(storage)?.into_iter().map(|finding| step(RepairKind::Forget, finding, true)),
    );
    if let Some(finding) = look::linked(storage)?.into_iter().next() {
        return Err(Error::Refused { path: finding.path, problem: finding.what });
    }
    let unnamed = look::unnamed(storage)?.filter(|finding| !is_folder(storage.root(), &finding.path));
    if let Some(finding) = unnamed {
        return Err(no_repair(finding));
    }
    for finding in look::verify(storage, clock, to)? {
        let kind = kind_of(storage.root(), &finding);
        let Some(kind) = kind else { return Err(no_repair(finding)) };
        // The folders themselves have their steps.
        if kind == RepairKind::Folder {
            continue;
        }
        let loses = match kind {
            RepairKind::Mend | RepairKind::Folder => false,
            // A count that does not fit loses nothing.
            RepairKind::Copy => finding.position.is_some(),
            RepairKind::Replace | RepairKind::Regroup | RepairKind::Forget => true,
        };
        let mut step = step(kind, finding, loses);
        if kind == RepairKind::Replace {
            // At most: what can be read of it is known when it is read.
            step.offsets = offsets_of(storage.root(), &found, &step.path);
        }
        steps.push(step);
    }
    Ok(RepairPlan { steps })
}

/// Returns the offsets that the manifest tells of a segment.
fn offsets_of(root: &Path, found: &Found, path: &Path) -> Option<(u64, u64)> {
    let row = found.slot.segments.iter().find(|row| root.join(names::segment(row.number)) == path)?;
    Some((row.base, if row.length == 0 { found.slot.log.next } else { row.end }))
}

fn step(kind: RepairKind, finding: Finding, loses: bool) -> RepairStep {
    let Finding { path, position, offsets, what, .. } = finding;
    RepairStep { kind, path, position, offsets, what, loses }
}

/// Returns what mends a finding; `None` if nothing here does.
fn kind_of(root: &Path, finding: &Finding) -> Option<RepairKind> {
    let path = finding.path.strip_prefix(root).ok()?;
    let mut parts = path.iter().filter_map(|part| part.to_str());
    let (folder, name) = (parts.next()?, parts.next());
    let in_groups = folder == names::GROUPS;
    match (finding.kind, name) {
        (FindingKind::Torn | FindingKind::Wounded | FindingKind::Lost, _) => Some(RepairKind::Mend),
        (FindingKind::Refused, None) if folder == names::LOG || in_groups => Some(RepairKind::Folder),
        // An older one that was put back: the opening goes on behind it.
        (FindingKind::Refused, None) if folder == names::MANIFEST => Some(RepairKind::Mend),
        (FindingKind::Damaged, Some(_)) if folder == names::LOG => Some(RepairKind::Copy),
        (FindingKind::Refused, Some(_)) if folder == names::LOG => Some(RepairKind::Replace),
        (FindingKind::Damaged | FindingKind::Refused, Some(_)) if in_groups => Some(RepairKind::Regroup),
        _ => None,
    }
}

/// Says why no repair can be made, and what to do instead.
fn no_repair(finding: Finding) -> Error {
    let Finding { path, what, kind, .. } = finding;
    let advice = match kind {
        FindingKind::Unreadable => "copy the folder to a disk that can be read, and repair the copy",
        _ => "put the right file back, or get out what is there with \"backlog salvage\"",
    };
    Error::Refused { path, problem: format!("{what}; no repair can go by it: {advice}") }
}

/// Tells whether a path is that of the folder of the log, or of the groups.
fn is_folder(root: &Path, path: &Path) -> bool {
    [names::LOG, names::GROUPS].iter().any(|folder| path == root.join(folder))
}
