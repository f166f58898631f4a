//! What becomes of the groups?
//!
//! One whose files can be read goes on where it was: what is done stays done, what is dead stays dead, and loans come
//! back as after a crash. One whose files cannot, begins anew at the first message that is there: a message may come
//! again, and none is lost.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::report::{Salvaged, SalvagedGroup};
use crate::error::{Error, Result};
use crate::format::batch::Settle;
use crate::format::header::{self, Fields, FileKind, Header};
use crate::format::manifest::{GroupRow, NO_SETTLES};
use crate::format::snapshot::{Reading, Snapshot};
use crate::format::{PAGE, names};
use crate::group::policy::DEFAULT_POLICY;
use crate::group::settling::settled_in;
use crate::group::state::{Now, State};
use crate::inspect::{Finding, FindingKind};
use crate::manifest::Found;
use crate::offset::Offset;
use crate::offsets;
use crate::storage::{Access, Kind, Storage, read_up_to};

/// A longer half is not read: a file can have holes.
const LONGEST: u64 = 1 << 30;
/// The most groups that are made: each takes memory.
const MOST: usize = 100_000;

/// The groups of the queue that is salvaged.
pub(super) struct Groups {
    all: Vec<Group>,
    now: Now,
    /// The offset behind the last message, and how many there are.
    next: u64,
    messages: u64,
    /// The first message.
    first: Option<u64>,
    /// The least head that messages have not come to.
    head: u64,
}

struct Group {
    name: String,
    /// Of the incarnation that the files are of.
    known: Option<(u64, State)>,
    /// Pending, and not in the log.
    lost: Vec<(u64, u64)>,
    /// Messages before the head, as soon as one behind it was met.
    passed: Option<u64>,
}

impl Groups {
    /// Reads the files of the groups that the manifest names; where there is none, or an older one, of all that
    /// are there.
    pub(super) fn find(
        storage: &Arc<dyn Storage>,
        found: Option<&Found>,
        (queue, all_there): (Option<u128>, bool),
        now: Now,
        report: &mut Salvaged,
    ) -> Self {
        let mut wanted: BTreeMap<String, Option<GroupRow>> = BTreeMap::new();
        for row in found.map_or(&[][..], |found| &found.slot.groups) {
            wanted.insert(row.name.clone(), Some(row.clone()));
        }
        if all_there {
            for name in folders(storage, report) {
                wanted.entry(name).or_insert(None);
            }
        }
        let none = (0, 0);
        let mut groups = Self { all: Vec::new(), now, next: none.0, messages: none.1, first: None, head: 0 };
        for (name, row) in wanted.into_iter().take(MOST) {
            let read = read(storage, queue, &name, row.as_ref());
            let known = match read {
                Ok((row, looked)) => {
                    let mut state = State::recover(&looked.snapshot, &looked.entries, now);
                    state.set_settled(settled_in(&looked.snapshot, &looked.entries));
                    let all_in = found.filter(|_| row.settles_from == NO_SETTLES);
                    if let Some(found) = all_in {
                        state.set_settled(found.slot.log.next);
                    }
                    Some((row.incarnation, state))
                }
                Err(finding) => {
                    report.found(finding);
                    None
                }
            };
            groups.all.push(Group { name, known, lost: Vec::new(), passed: None });
        }
        groups.head = groups.least_head();
        groups
    }

    fn least_head(&self) -> u64 {
        let heads = self.all.iter().filter(|group| group.passed.is_none());
        heads.filter_map(|group| Some(group.known.as_ref()?.1.head())).min().unwrap_or(u64::MAX)
    }

    /// Returns the offset behind everything that any of them names.
    pub(super) fn named(&self) -> u64 {
        let states = self.all.iter().filter_map(|group| Some(&group.known.as_ref()?.1));
        states.map(State::named).max().unwrap_or(0)
    }

    /// Notes that the next message has this offset, and that there is none between it and the one before.
    pub(super) fn message(&mut self, offset: u64) {
        if offset > self.next {
            self.gap(self.next, offset);
        }
        if self.head <= offset {
            self.pass(offset);
        }
        self.first = self.first.or(Some(offset));
        self.next = offset + 1;
        self.messages += 1;
    }

    fn gap(&mut self, first: u64, end: u64) {
        for group in &mut self.all {
            if let Some((_, state)) = &group.known {
                group.lost.extend(state.undone_within(first, end));
            }
        }
    }

    fn pass(&mut self, offset: u64) {
        for group in self.all.iter_mut().filter(|group| group.passed.is_none()) {
            if group.known.as_ref().is_some_and(|(_, state)| state.head() <= offset) {
                group.passed = Some(self.messages);
            }
        }
        self.head = self.least_head();
    }

    /// Marks as done what a batch acks that ends at an offset.
    pub(super) fn settles(&mut self, rows: &[Settle], end: u64) {
        for row in rows {
            for (incarnation, state) in self.all.iter_mut().filter_map(|group| group.known.as_mut()) {
                if *incarnation == row.incarnation {
                    state.settle(row.offset, end, self.now);
                }
            }
        }
    }

    /// Makes their files in the new queue, whose log ends before `next` in the segment `active`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn make(
        mut self,
        storage: &Arc<dyn Storage>,
        (queue, next, active): (u128, u64, u64),
        report: &mut Salvaged,
    ) -> Result<Vec<GroupRow>> {
        self.gap(self.next, Offset::LIMIT);
        let mut rows = Vec::new();
        for group in self.all {
            let mut told = SalvagedGroup { name: group.name.clone(), taken_over: false, lost: 0 };
            let snapshot = match group.known {
                Some((_, mut state)) => {
                    told.taken_over = true;
                    for (first, end) in group.lost {
                        told.lost += state.give_up_lost(first, end, self.now);
                    }
                    state.beside(group.passed.unwrap_or(self.messages), next)
                }
                None => {
                    let from = self.first.unwrap_or(next);
                    let reading = Reading { floor: from, head: from, settled: next, ..Reading::default() };
                    Snapshot { reading, policy: DEFAULT_POLICY, ..Snapshot::default() }
                }
            };
            if told.lost > 0 {
                let path = storage.root().join(names::group(&group.name));
                let what =
                    format!("{} offsets that it had not done are nowhere: dead letters now", told.lost);
                report.found(Finding::new(FindingKind::Lost, path, what));
            }
            let random = storage.random();
            let incarnation =
                random.map_err(|error| Error::io("draw a number for", storage.root(), error))?;
            offsets::create(storage, queue, &group.name, incarnation, self.now.wall, &snapshot)?;
            rows.push(GroupRow {
                name: group.name,
                incarnation,
                generation: 1,
                settles_from: active,
                mark: 0,
            });
            report.groups.push(told);
        }
        Ok(rows)
    }
}

fn folders(storage: &Arc<dyn Storage>, report: &mut Salvaged) -> Vec<String> {
    match storage.list(names::GROUPS) {
        Ok(listed) => {
            let folders = listed.into_iter().filter(|entry| entry.kind == Kind::Folder);
            folders.map(|entry| entry.name).filter(|name| names::is_group(name)).collect()
        }
        Err(error) => {
            let path = storage.root().join(names::GROUPS);
            let finding = match error.kind() {
                ErrorKind::NotFound => Finding::new(FindingKind::Refused, path, "is missing"),
                _ => Finding::new(FindingKind::Unreadable, path, format!("cannot list it: {error}")),
            };
            report.found(finding);
            Vec::new()
        }
    }
}

/// Reads a group's files: as the manifest's row says, or, where they do not fit it, as they say themselves.
fn read(
    storage: &Arc<dyn Storage>,
    queue: Option<u128>,
    name: &str,
    row: Option<&GroupRow>,
) -> std::result::Result<(GroupRow, offsets::Looked), Finding> {
    let folder = names::group(name);
    let finding = |what: String| Finding::new(FindingKind::Refused, storage.root().join(&folder), what);
    let anew = |what: String| finding(format!("{what}; the group begins anew"));
    let listed = storage.list(&folder).map_err(|error| anew(format!("cannot list it: {error}")))?;
    if let Some(long) = listed.iter().find(|entry| entry.len > LONGEST) {
        return Err(anew(format!("{} has {} bytes, which no half has", long.name, long.len)));
    }
    let found = of_error(storage, &folder);
    let look = |queue, row: &GroupRow| offsets::look(storage, queue, row).map(|looked| (row.clone(), looked));
    let told = match (queue, row) {
        (Some(queue), Some(row)) => match look(queue, row) {
            Ok(read) => return Ok(read),
            Err(error @ Error::Damaged { .. }) => return Err(found(error)),
            Err(error) => Some(error),
        },
        _ => None,
    };
    let headers = [0, 1].map(|half| half_header(storage, name, half));
    let newest = headers.iter().flatten().max_by_key(|header| header.generation());
    let Some((header, Fields::Half { incarnation, .. })) = newest.map(|header| (header, &header.fields))
    else {
        return Err(told.map_or_else(|| anew("neither half has a header".into()), found));
    };
    let own = GroupRow {
        name: name.to_owned(),
        incarnation: *incarnation,
        generation: 0,
        settles_from: 0,
        mark: 0,
    };
    match look(queue.unwrap_or(header.queue), &own) {
        Ok(read) => Ok(read),
        Err(error) => Err(found(told.unwrap_or(error))),
    }
}

/// Makes a finding of why a group begins anew.
fn of_error(storage: &Arc<dyn Storage>, folder: &str) -> impl Fn(Error) -> Finding + use<> {
    let path: PathBuf = storage.root().join(folder);
    move |error| {
        let finding = Finding::of(error);
        let mut finding = finding
            .unwrap_or_else(|other| Finding::new(FindingKind::Refused, path.clone(), other.to_string()));
        finding.what.push_str("; the group begins anew");
        finding
    }
}

fn half_header(storage: &Arc<dyn Storage>, name: &str, half: usize) -> Option<Header> {
    let file = storage.open(&names::half(name, half), Access::Read).ok()?;
    let mut page = vec![0; PAGE];
    let got = read_up_to(&*file, &mut page, 0).ok()?;
    page.truncate(got);
    header::decode(FileKind::Half, &page).ok().map(|page| page.header)
}
