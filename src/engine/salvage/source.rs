//! Which files hold batches of this queue, and under which salt?
//!
//! A file is what its header says; its name is believed only where that cannot be read. What a readable manifest
//! names is the truth, and what it does not name is none of it, unless an older manifest was put back: numbers only
//! grow, so what it never knew of has one that it had not given yet.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::lenient::Lenient;
use super::report::Salvaged;
use crate::error::{Error, Result};
use crate::format::batch::{BatchHeader, HEADER};
use crate::format::header::{self, Fields, FileKind, Header};
use crate::format::manifest::SegmentRow;
use crate::format::salt::Solver;
use crate::format::{ALIGNMENT, COUNT_LIMIT, MAX_SEGMENT, PAGE, PAGE_POSITION, is_zero, names};
use crate::inspect::{Finding, FindingKind};
use crate::log::scan::{self, Expected, Window};
use crate::manifest::Found;
use crate::offset::Offset;
use crate::storage::{Access, File, Kind, Storage, read_up_to};

/// So far is looked where nobody knows how long a segment was made: sixteen of the usual size.
const UNKNOWN: u64 = 1 << 30;
/// How often a batch is looked for where another one would end, in a file without a header.
const PROBES: u32 = 1 << 20;

/// A file with batches of this queue.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) salt: u32,
    /// No batch goes beyond it.
    pub(super) limit: u64,
    /// Known to have been durable up to there, when the manifest was written.
    pub(super) durable: u64,
    /// No offset in it is lower.
    pub(super) base: u64,
    /// The offset behind its last message, and the position behind its last batch; of a sealed one that a manifest
    /// names.
    pub(super) end: Option<(u64, u64)>,
    /// Only what lies in these is taken from it; none: all.
    pub(super) only: Vec<(u64, u64)>,
}

/// What lies in `log`, as this queue's.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) queue: Option<u128>,
    pub(super) files: Vec<Source>,
    /// There are segments that the manifest does not know of yet.
    pub(super) older_manifest: bool,
    /// Something is there that a queue has.
    pub(super) any: bool,
}

/// A file that is called a segment.
struct There {
    number: u64,
    length: u64,
    header: std::result::Result<Header, String>,
}

/// Finds the files to read.
///
/// # Errors
/// [`Error::Version`] of a file that a newer version wrote.
pub(super) fn sources(
    storage: &Arc<dyn Storage>,
    found: Option<&Found>,
    report: &mut Salvaged,
) -> Result<Sources> {
    let (there, any) = list(storage, report)?;
    let queue = found.map(|found| found.queue).or_else(|| most_common(&there));
    let mut finder = Finder {
        storage,
        report,
        solver: Solver::new(),
        sources: Sources { queue, any, ..Sources::default() },
    };
    match found {
        Some(found) => finder.named(found, &there),
        None => finder.all(&there),
    }
    Ok(finder.sources)
}

fn list(storage: &Arc<dyn Storage>, report: &mut Salvaged) -> Result<(Vec<There>, bool)> {
    let folder = storage.root().join(names::LOG);
    let listed = match storage.list(names::LOG) {
        Ok(listed) => listed,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            report.found(Finding::new(FindingKind::Refused, folder, "is missing"));
            return Ok((Vec::new(), false));
        }
        Err(error) => {
            let what = format!("cannot list it: {error}");
            report.found(Finding::new(FindingKind::Unreadable, folder, what));
            return Ok((Vec::new(), false));
        }
    };
    let mut there = Vec::new();
    for entry in listed {
        let Some(number) = names::parse_segment(&entry.name).filter(|&number| number < COUNT_LIMIT) else {
            continue;
        };
        let path = storage.root().join(names::segment(number));
        if entry.kind != Kind::File {
            let what = "has a segment's name, and is no file";
            report.found(Finding::new(FindingKind::Refused, path, what));
            continue;
        }
        match page(storage, number) {
            Ok((length, page)) => {
                let header = match header::decode(FileKind::Segment, &page) {
                    Ok(page) => {
                        if page.wounded {
                            let what = "one of two copies of its header is bad, or bytes beside them";
                            report.found(Finding::new(FindingKind::Wounded, path, what).at(0));
                        }
                        Ok(page.header)
                    }
                    Err(crate::format::Malformed::Newer(problem)) => {
                        return Err(Error::Version { path, problem });
                    }
                    Err(problem) => Err(problem.to_string()),
                };
                there.push(There { number, length, header });
            }
            Err(error) => {
                let what = format!("cannot open it: {error}");
                report.found(Finding::new(FindingKind::Unreadable, path, what));
            }
        }
    }
    let any = !there.is_empty();
    Ok((there, any))
}

fn page(storage: &Arc<dyn Storage>, number: u64) -> std::io::Result<(u64, Vec<u8>)> {
    let file = Lenient::new(storage.open(&names::segment(number), Access::Read)?);
    let mut page = vec![0; PAGE];
    let got = read_up_to(&file, &mut page, 0)?;
    page.truncate(got);
    Ok((file.len()?, page))
}

/// Returns the queue that most files say they belong to; of several the one with the newest segment.
fn most_common(there: &[There]) -> Option<u128> {
    let mut counts: BTreeMap<u128, (usize, u64)> = BTreeMap::new();
    for (number, header) in there.iter().filter_map(|one| Some((one.number, one.header.as_ref().ok()?))) {
        let count = counts.entry(header.queue).or_default();
        *count = (count.0 + 1, count.1.max(number));
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(queue, _)| queue)
}

struct Finder<'a> {
    storage: &'a Arc<dyn Storage>,
    report: &'a mut Salvaged,
    solver: Solver,
    sources: Sources,
}

impl Finder<'_> {
    /// Takes what a manifest names, and what is newer than it.
    fn named(&mut self, found: &Found, there: &[There]) {
        let slot = &found.slot;
        let mut taken = BTreeSet::new();
        // What the manifest names and is not there: copies that it does not know of may have it.
        let mut missing = vec![(slot.log.next, Offset::LIMIT)];
        let by_name: BTreeMap<u64, &There> = there.iter().map(|one| (one.number, one)).collect();
        let mut by_header: BTreeMap<(u64, u32), Vec<&There>> = BTreeMap::new();
        for one in there {
            let ours = one.header.as_ref().ok().filter(|header| header.queue == found.queue);
            if let Some((number, salt)) = ours.and_then(|header| Some((number_of(header)?, header.salt))) {
                by_header.entry((number, salt)).or_default().push(one);
            }
        }
        for row in &slot.segments {
            let mut any = false;
            for one in by_header.get(&(row.number, row.salt)).into_iter().flatten() {
                any = true;
                taken.insert(one.number);
                self.take(one, row.salt, Some((row, found)));
            }
            match by_name.get(&row.number) {
                Some(one) if !any && one.header.is_err() => {
                    any = true;
                    taken.insert(one.number);
                    let problem = one.header.as_ref().err().cloned().unwrap_or_default();
                    self.report
                        .found(Finding::new(FindingKind::Damaged, self.path(one.number), problem).at(0));
                    self.take(one, row.salt, Some((row, found)));
                }
                Some(one) if !any => {
                    let problem = "is another segment than the manifest names";
                    self.report.found(Finding::new(FindingKind::Refused, self.path(one.number), problem));
                }
                _ => {}
            }
            if !any {
                let end = if row.length == 0 { slot.log.next } else { row.end };
                let finding = Finding::new(FindingKind::Refused, self.path(row.number), "is missing");
                self.report.found(finding.offsets(row.base, end));
                missing.push((row.base, end));
            }
        }
        for one in there.iter().filter(|one| one.number >= slot.numbers && !taken.contains(&one.number)) {
            self.unnamed(found, one, &missing);
        }
    }

    /// Takes a file that the manifest cannot know of, if there is something in it.
    fn unnamed(&mut self, found: &Found, one: &There, missing: &[(u64, u64)]) {
        let (salt, copies) = match &one.header {
            Ok(header) if header.queue == found.queue => {
                (header.salt, matches!(header.fields, Fields::Segment { rewritten: true, .. }))
            }
            // Of another queue: a stranger.
            Ok(_) => return,
            // One that was made and not written yet has nothing in it.
            Err(_) => match self.solve(one) {
                Some(salt) => (salt, false),
                None => return,
            },
        };
        if !self.holds_any(one, salt) {
            return;
        }
        if !copies {
            self.sources.older_manifest = true;
            let what = "the manifest does not name it: an older one was put back";
            self.report.found(Finding::new(FindingKind::Refused, self.path(one.number), what));
        }
        self.take(one, salt, None);
        if let Some(source) = self.sources.files.last_mut().filter(|_| copies) {
            // A copy that was not finished has its sources beside it.
            source.only = missing.to_vec();
        }
    }

    /// Takes everything that is of this queue, without a manifest.
    fn all(&mut self, there: &[There]) {
        for one in there {
            match &one.header {
                Ok(header) if Some(header.queue) == self.sources.queue => self.take(one, header.salt, None),
                Ok(header) => {
                    let what = format!("belongs to another queue ({:032x})", header.queue);
                    self.report.found(Finding::new(FindingKind::Refused, self.path(one.number), what));
                }
                Err(problem) => {
                    let path = self.path(one.number);
                    let solved = self.solve(one);
                    let says =
                        if solved.is_some() { "read all the same" } else { "no batches prove its salt" };
                    let what = format!("{problem}; {says}");
                    self.report.found(Finding::new(FindingKind::Damaged, path, what).at(0));
                    if let Some(salt) = solved {
                        self.take(one, salt, None);
                    }
                }
            }
        }
    }

    fn take(&mut self, one: &There, salt: u32, named: Option<(&SegmentRow, &Found)>) {
        let mut source = Source {
            name: names::segment(one.number),
            path: self.path(one.number),
            salt,
            limit: limit(one),
            durable: 0,
            base: 0,
            end: None,
            only: Vec::new(),
        };
        if let Some((row, found)) = named {
            source.base = row.base;
            if row.length > 0 {
                source.end = Some((row.end, row.length));
                source.durable = row.length;
                source.limit = one.length.min(row.length);
            } else {
                source.durable = found.slot.log.position;
            }
        }
        self.sources.files.push(source);
    }

    fn path(&self, number: u64) -> PathBuf {
        self.storage.root().join(names::segment(number))
    }

    /// Opens a file that was there a moment ago; an owner may have made another of it.
    fn open(&self, one: &There) -> std::io::Result<Arc<dyn File>> {
        let file = self.storage.open(&names::segment(one.number), Access::Read)?;
        Ok(Arc::new(Lenient::new(file)))
    }

    /// Tells whether any batch counts in a file.
    fn holds_any(&self, one: &There, salt: u32) -> bool {
        let expected = Expected { salt, base: 0, reserved: Offset::LIMIT, limit: limit(one) };
        let found = self
            .open(one)
            .and_then(|file| scan::next_header(&mut Window::new(file), PAGE_POSITION, &expected));
        // If it cannot be read now, whoever reads it tells.
        !matches!(found, Ok(None))
    }

    /// Finds the salt of a file without a header: that of the first two neighbours that agree. Behind them older
    /// batches may follow, of a file that had another number before; so a first batch without a neighbour ends it.
    fn solve(&mut self, one: &There) -> Option<u32> {
        let solved = self.open(one).and_then(|file| {
            let mut window = Window::new(file.clone());
            solve(&self.solver, &*file, &mut window, limit(one))
        });
        solved.unwrap_or_else(|error| {
            let what = format!("cannot read it: {error}");
            self.report.found(Finding::new(FindingKind::Unreadable, self.path(one.number), what));
            None
        })
    }
}

fn number_of(header: &Header) -> Option<u64> {
    match header.fields {
        Fields::Segment { number, .. } => Some(number),
        _ => None,
    }
}

/// A file can be of any length, and have holes: what lies behind its capacity is no part of it.
fn limit(one: &There) -> u64 {
    let capacity = match one.header.as_ref().map(|header| &header.fields) {
        Ok(Fields::Segment { capacity, .. }) => *capacity,
        _ => UNKNOWN,
    };
    one.length.min(capacity).min(MAX_SEGMENT)
}

fn solve(solver: &Solver, file: &dyn File, window: &mut Window, limit: u64) -> std::io::Result<Option<u32>> {
    let any = |salt| Expected { salt, base: 0, reserved: Offset::LIMIT, limit };
    let mut probes = 0;
    let mut position = PAGE_POSITION;
    while position + HEADER as u64 <= limit && probes < PROBES {
        let page = window.get(position, PAGE)?;
        if is_zero(page) {
            position +=
                (page.len() as u64).saturating_sub(HEADER as u64).max(ALIGNMENT) / ALIGNMENT * ALIGNMENT;
            continue;
        }
        let fits = solver.solve(page, position);
        let fits = fits.filter(|(_, header)| position + header.length() + HEADER as u64 <= limit);
        if let Some((salt, header)) = fits {
            probes += 1;
            let next = position + header.length();
            let mut bytes = [0; HEADER];
            let got = read_up_to(file, &mut bytes, next)?;
            let behind = BatchHeader::decode(&bytes[..got], salt, next);
            if behind.is_some_and(|behind| behind.base >= header.end()) {
                return Ok(Some(salt));
            }
        }
        if position == PAGE_POSITION {
            let alone = solver.solve(window.get(position, HEADER)?, position).map(|(salt, _)| any(salt));
            let good = alone.map(|expected| scan::look(window, position, &expected)).transpose()?;
            if matches!(good, Some(scan::Here::Good(_))) {
                return Ok(None);
            }
        }
        position += ALIGNMENT;
    }
    Ok(None)
}
