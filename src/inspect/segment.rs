//! Is every byte of the log that was promised as it was written?

use std::sync::Arc;

use super::{Finding, FindingKind, LOOKS, PAUSES, Progress, pause, walk_active};
use crate::error::{Error, Result};
use crate::format::batch::{self, BatchHeader};
use crate::format::manifest::SegmentRow;
use crate::format::{ALIGNMENT, PAGE_POSITION, checksum, names};
use crate::log::recovery::Verdict;
use crate::log::scan::{self, Expected, Here, Window};
use crate::log::{self, Checked};
use crate::manifest::{self, Found};
use crate::storage::{Access, Storage};

/// Findings of one segment that are told one by one.
const MOST: usize = 1000;

/// A stretch of a segment in which batches follow each other without a break.
struct Stretch {
    end: u64,
    /// What the manifest says lies behind: the next offset.
    next: u64,
    /// How many messages it says are in it; unknown where the segment was rewritten.
    messages: Option<u64>,
}

/// What is told to whom while it goes on.
struct Told<'a> {
    progress: Progress,
    to: &'a mut dyn FnMut(Progress),
}

/// Checks the manifest and every segment it names; returns the end of the log, if that could be
/// found.
///
/// # Errors
/// When there is no manifest to go by.
pub(crate) fn verify_log(
    storage: &Arc<dyn Storage>,
    to: &mut dyn FnMut(Progress),
    findings: &mut Vec<Finding>,
) -> Result<Option<Verdict>> {
    let found = steady(storage)?;
    let path = storage.root().join(names::MANIFEST);
    if found.wounded {
        let what = "one of two copies is bad; the next opening makes it good";
        findings.push(Finding::new(FindingKind::Wounded, path.clone(), what));
    }
    if found.one_slot {
        let what = "the slot that does not hold is bad: a write of it was cut short, or it has gone bad";
        findings.push(Finding::new(FindingKind::Torn, path.clone(), what));
    }
    let rows = &found.slot.segments;
    let total = rows.iter().map(|row| row.length).sum::<u64>() + found.slot.log.position;
    let mut told = Told { progress: Progress { done: 0, total }, to };
    let mut last = None;
    for (index, row) in rows.iter().enumerate() {
        let next = rows.get(index + 1);
        let stretch = Stretch {
            end: if row.length == 0 { found.slot.log.position } else { row.length },
            next: next.map_or(found.slot.log.next, |next| next.base),
            messages: (!row.rewritten).then(|| {
                next.map_or(found.slot.log.messages, |next| next.messages_before) - row.messages_before
            }),
        };
        let start = told.progress.done;
        let (here, verdict) = verify_row(storage, &found, row, &stretch, &mut told)?;
        told.progress.done = start + stretch.end;
        (told.to)(told.progress);
        findings.extend(here);
        last = verdict;
    }
    Ok(last)
}

/// Reads the manifest, and believes what is bad in it only if it stays so.
fn steady(storage: &Arc<dyn Storage>) -> Result<Found> {
    let mut found = manifest::look(storage);
    for time in PAUSES {
        if found.as_ref().is_ok_and(|found| !found.wounded && !found.one_slot) {
            break;
        }
        pause(time);
        found = manifest::look(storage);
    }
    found
}

/// Checks one segment, and once more if something is found: the manifest may have moved on.
fn verify_row(
    storage: &Arc<dyn Storage>,
    found: &Found,
    row: &SegmentRow,
    stretch: &Stretch,
    told: &mut Told<'_>,
) -> Result<(Vec<Finding>, Option<Verdict>)> {
    let mut seen = found.slot.sequence;
    for _ in 1..LOOKS {
        let first = verify_once(storage, found, row, stretch, told)?;
        if first.0.is_empty() {
            return Ok(first);
        }
        let after = manifest::look(storage)?;
        if !after.slot.segments.iter().any(|other| (other.number, other.salt) == (row.number, row.salt)) {
            // Done in every group and given up meanwhile: nothing in it is promised any more.
            return Ok((Vec::new(), None));
        }
        if after.slot.sequence == seen {
            return Ok(first);
        }
        seen = after.slot.sequence;
    }
    verify_once(storage, found, row, stretch, told)
}

fn verify_once(
    storage: &Arc<dyn Storage>,
    found: &Found,
    row: &SegmentRow,
    stretch: &Stretch,
    told: &mut Told<'_>,
) -> Result<(Vec<Finding>, Option<Verdict>)> {
    let checked = match log::check(&**storage, found.queue, row, Access::Read) {
        Ok(checked) => checked,
        Err(error) => return Finding::of(error).map(|finding| (vec![finding], None)),
    };
    let path = storage.root().join(names::segment(row.number));
    let mut findings = Vec::new();
    let io = |error| Error::io("read", &path, error);
    let checking = Checking { row, path: path.clone(), limit: stretch.end.min(checked.capacity) };
    checking.stretch(&checked, stretch, told, &mut findings).map_err(io)?;
    if row.length != 0 {
        return Ok((findings, None));
    }
    let verdict = walk_active(storage, found, row, &checked)?;
    for damage in &verdict.damages {
        let what = if damage.header {
            "no batch there passes its checksum"
        } else {
            "a body does not pass its checksum"
        };
        findings.push(
            Finding::new(FindingKind::Damaged, path.clone(), format!("{what}: {} bytes", damage.length))
                .at(damage.position)
                .offsets(damage.first, damage.end),
        );
    }
    if let Some(torn) = verdict.torn {
        let what = format!(
            "{} bytes behind the end were never promised ({} messages, as far as can be told)",
            torn.length, torn.messages
        );
        findings.push(Finding::new(FindingKind::Torn, path.clone(), what).at(torn.position));
    }
    if found.slot.log.closed && verdict.position > found.slot.log.position {
        let what = "the log goes on behind a MANIFEST that says \"closed\": an older one was put back";
        findings.push(Finding::new(FindingKind::Refused, storage.root().join(names::MANIFEST), what));
    }
    Ok((findings, Some(verdict)))
}

/// One segment while it is checked.
struct Checking<'a> {
    row: &'a SegmentRow,
    path: std::path::PathBuf,
    limit: u64,
}

impl Checking<'_> {
    fn stretch(
        &self,
        checked: &Checked,
        stretch: &Stretch,
        told: &mut Told<'_>,
        findings: &mut Vec<Finding>,
    ) -> std::io::Result<()> {
        let mut window = Window::new(checked.file.clone());
        let mut expected =
            Expected { salt: self.row.salt, base: self.row.base, reserved: stretch.next, limit: self.limit };
        let start = told.progress.done;
        let (mut position, mut messages) = (PAGE_POSITION, 0);
        while position < self.limit && findings.len() < MOST {
            match scan::look(&mut window, position, &expected)? {
                Here::Good(header) => {
                    messages += u64::from(header.messages());
                    position += header.length();
                    expected.base = header.end();
                }
                Here::BadBody(header) => {
                    findings.push(self.bad_body(&mut window, position, &header)?);
                    messages += u64::from(header.messages());
                    position += header.length();
                    expected.base = header.end();
                }
                Here::Nothing => {
                    let next = scan::next_header(&mut window, position + ALIGNMENT, &expected)?;
                    let (behind, end) =
                        next.map_or((self.limit, stretch.next), |(at, header)| (at, header.base));
                    let what = format!("no batch there passes its checksum: {} bytes", behind - position);
                    findings.push(
                        Finding::new(FindingKind::Damaged, self.path.clone(), what)
                            .at(position)
                            .offsets(expected.base, end),
                    );
                    position = behind;
                    expected.base = end;
                }
            }
            (told.to)(Progress { done: start + position, ..told.progress });
        }
        if findings.is_empty() && stretch.messages.is_some_and(|said| said != messages) {
            let said = stretch.messages.unwrap_or(0);
            let what = format!("holds {messages} messages, the manifest says {said}");
            findings.push(Finding::new(FindingKind::Damaged, self.path.clone(), what));
        }
        Ok(())
    }

    /// Names what of a batch is bad whose header is good.
    fn bad_body(&self, window: &mut Window, position: u64, header: &BatchHeader) -> std::io::Result<Finding> {
        let length = usize::try_from(header.length()).unwrap_or(usize::MAX);
        let bytes = window.get(position, length)?;
        let body = bytes.get(batch::HEADER..).unwrap_or_default();
        let whole = |what: &str| {
            Finding::new(FindingKind::Damaged, self.path.clone(), what)
                .at(position)
                .offsets(header.base, header.end())
        };
        let Some(table) = body.get(..header.table()).filter(|table| header.table_is_good(table)) else {
            return Ok(whole("the record table of a batch does not pass its checksum"));
        };
        let mut at = header.table();
        for index in 0..header.records {
            let (length, sum) = header.row(table, index);
            let end = at + length as usize;
            if body.get(at..end).is_none_or(|record| checksum(record) != sum) {
                let settles = u64::from(header.settles());
                let offset = (header.base + u64::from(index)).saturating_sub(settles);
                let what = "a record does not pass its checksum, nor perhaps some behind it in its batch";
                let finding = Finding::new(FindingKind::Damaged, self.path.clone(), what);
                let place = position + batch::HEADER as u64 + at as u64;
                return Ok(finding.at(place).offsets(offset, header.end()));
            }
            at = end;
        }
        Ok(whole("bytes behind a batch are not zero"))
    }
}
