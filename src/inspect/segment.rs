//! Is every byte of the log that was promised as it was written?

use std::sync::Arc;

use super::{Finding, FindingKind, LOOKS, PAUSES, Progress, walk_active};
use crate::clock::Clock;
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

impl Stretch {
    fn of(found: &Found, row: &SegmentRow) -> Self {
        let rows = &found.slot.segments;
        let mark = found.slot.log;
        let next = rows.iter().skip_while(|other| other.number != row.number).nth(1);
        let (next, behind) = next.map_or((mark.next, mark.messages), |row| (row.base, row.messages_before));
        Self {
            end: if row.length == 0 { mark.position } else { row.length },
            next,
            messages: (!row.rewritten).then(|| behind.saturating_sub(row.messages_before)),
        }
    }
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
    clock: &dyn Clock,
    to: &mut dyn FnMut(Progress),
    findings: &mut Vec<Finding>,
) -> Result<Option<Verdict>> {
    let found = steady(storage, clock)?;
    let path = storage.root().join(names::MANIFEST);
    if found.wounded || found.behind {
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
    for row in rows {
        let start = told.progress.done;
        let (here, verdict) = verify_row(storage, clock, &found, row, &mut told)?;
        told.progress.done = start + if row.length == 0 { found.slot.log.position } else { row.length };
        (told.to)(told.progress);
        findings.extend(here);
        last = verdict;
    }
    Ok(last)
}

/// Reads the manifest, and believes what is bad in it only if it stays so.
fn steady(storage: &Arc<dyn Storage>, clock: &dyn Clock) -> Result<Found> {
    let mut found = manifest::look(storage);
    for time in PAUSES {
        if found.as_ref().is_ok_and(|found| !found.wounded && !found.behind && !found.one_slot) {
            break;
        }
        clock.pause(time);
        found = manifest::look(storage);
    }
    found
}

/// Checks one segment, and once more if something is found and the manifest has moved on.
fn verify_row(
    storage: &Arc<dyn Storage>,
    clock: &dyn Clock,
    found: &Found,
    row: &SegmentRow,
    told: &mut Told<'_>,
) -> Result<(Vec<Finding>, Option<Verdict>)> {
    let mut checked = verify_once(storage, clock, found, row, told)?;
    let mut sequence = found.slot.sequence;
    for _ in 1..LOOKS {
        if checked.0.is_empty() {
            break;
        }
        let after = manifest::look(storage)?;
        if after.slot.sequence == sequence {
            break;
        }
        let same = |other: &&SegmentRow| (other.number, other.salt) == (row.number, row.salt);
        let Some(row) = after.slot.segments.iter().find(same) else {
            // Done in every group and given up meanwhile: nothing in it is promised any more.
            return Ok((Vec::new(), None));
        };
        checked = verify_once(storage, clock, &after, row, told)?;
        sequence = after.slot.sequence;
    }
    Ok(checked)
}

fn verify_once(
    storage: &Arc<dyn Storage>,
    clock: &dyn Clock,
    found: &Found,
    row: &SegmentRow,
    told: &mut Told<'_>,
) -> Result<(Vec<Finding>, Option<Verdict>)> {
    let stretch = Stretch::of(found, row);
    let checked = match log::check(&**storage, found.queue, row, Access::Read) {
        Ok(checked) => checked,
        Err(error) => return Finding::of(error).map(|finding| (vec![finding], None)),
    };
    let path = storage.root().join(names::segment(row.number));
    let mut findings = Vec::new();
    let io = |error| Error::io("read", &path, error);
    let checking = Checking { row, path: path.clone(), limit: stretch.end.min(checked.capacity) };
    if let Err(error) = checking.stretch(&checked, &stretch, told, &mut findings) {
        findings.push(Finding::of(io(error))?);
    }
    if row.length != 0 {
        return Ok((findings, None));
    }
    let verdict = match walk_active(storage, clock, found, row, &checked) {
        Ok(verdict) => verdict,
        Err(error) => {
            findings.push(Finding::of(error)?);
            return Ok((findings, None));
        }
    };
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
        let settles = u64::from(header.settles());
        let mut at = header.table();
        let mut bad: Option<(u64, u64, usize)> = None;
        let mut count = 0;
        for index in 0..header.records {
            let (length, sum) = header.row(table, index);
            let end = at + length as usize;
            if body.get(at..end).is_none_or(|record| checksum(record) != sum) {
                if index == 0 && header.settles() {
                    // No message: those whose acks lay there may come again.
                    let what = "the acks in a batch do not pass their checksum";
                    let finding = Finding::new(FindingKind::Damaged, self.path.clone(), what);
                    return Ok(finding.at(position + (batch::HEADER + at) as u64));
                }
                let offset = (header.base + u64::from(index)).saturating_sub(settles);
                let (first, _, from) = bad.unwrap_or((offset, offset, at));
                bad = Some((first, (offset + 1).min(header.end()), from));
                count += 1;
            }
            at = end;
        }
        if let Some((first, end, from)) = bad {
            let what = match count {
                1 => "a record does not pass its checksum".to_owned(),
                _ => format!("{count} records do not pass their checksums"),
            };
            let finding = Finding::new(FindingKind::Damaged, self.path.clone(), what);
            return Ok(finding.at(position + (batch::HEADER + from) as u64).offsets(first, end));
        }
        Ok(whole("bytes behind a batch are not zero"))
    }
}
