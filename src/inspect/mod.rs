//! What do the files of the log say, to one who only looks?
//!
//! Without the lock, without a write, nothing mapped, beside an owner who goes on writing. So what
//! does not check is looked at again before it is called bad: the manifest may have moved on, a
//! segment may have become another, a batch may have been on its way. What is bad on the disk is
//! bad each time; what was only seen in the middle of a write is not.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::error::Result;
use crate::format::manifest::{LogMark, SegmentRow};
use crate::log::recovery::{self, Start, Verdict, walk};
use crate::log::{self, Checked, scan};
use crate::manifest::{self, Found};
use crate::offset::Offset;
use crate::storage::{Access, Storage};

mod finding;
mod segment;

pub use finding::{Finding, FindingKind, Progress};
pub(crate) use segment::verify_log;

/// How often one who looks starts over because the manifest moved on meanwhile.
pub(crate) const LOOKS: usize = 100;
/// How long what does not check is left alone before it is looked at again: an owner's write of a
/// large message is under way for a while.
pub(crate) const PAUSES: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(50), Duration::from_millis(250)];

/// Reads the manifest, and finds where the log ends.
///
/// # Errors
/// As [`manifest::look`], and what is wrong with the active segment.
pub(crate) fn tail(storage: &Arc<dyn Storage>, clock: &dyn Clock) -> Result<(Found, Verdict)> {
    let mut found = manifest::look(storage)?;
    for _ in 1..LOOKS {
        let ended = end(storage, clock, &found);
        let after = manifest::look(storage)?;
        if after.slot.sequence == found.slot.sequence {
            return ended.map(|verdict| (found, verdict));
        }
        // A roll: what was active is sealed now, or even gone.
        found = after;
    }
    let verdict = end(storage, clock, &found)?;
    Ok((found, verdict))
}

/// Finds where the log ends that a manifest describes.
fn end(storage: &Arc<dyn Storage>, clock: &dyn Clock, found: &Found) -> Result<Verdict> {
    let mark = found.slot.log;
    let Some(row) = found.slot.segments.last().filter(|_| !mark.closed) else {
        let LogMark { position, next, messages, .. } = mark;
        let about = found.slot.segments.last().map(|row| row.about).unwrap_or_default();
        return Ok(Verdict { position, next, messages, about, durable: position, ..Verdict::default() });
    };
    let checked = log::check(&**storage, found.queue, row, Access::Read)?;
    walk_active(storage, clock, found, row, &checked)
}

/// Walks the active segment from the manifest's mark to the end, and calls damaged or torn only
/// what stays so.
fn walk_active(
    storage: &Arc<dyn Storage>,
    clock: &dyn Clock,
    found: &Found,
    row: &SegmentRow,
    checked: &Checked,
) -> Result<Verdict> {
    let mut start =
        Start { mark: found.slot.log, about: row.about, salt: row.salt, capacity: checked.capacity };
    let path = || storage.root().join(crate::format::names::segment(row.number));
    if start.mark.closed {
        // Behind a backup's end lies what the next round is about.
        if found.backup || !scan::read_error(path(), recovery::goes_on(&checked.file, &start))? {
            // Whatever lies there is left from before: nothing was under way when it was closed.
            return Ok(Verdict::at_mark(&start));
        }
        // Where a batch lies behind a clean end, the manifest is an older one, as is its reserve.
        start.mark.reserved = Offset::LIMIT - 1;
    }
    let mut verdict = scan::read_error(path(), walk(&checked.file, &start))?;
    for time in PAUSES {
        if verdict.damages.is_empty() && verdict.torn.is_none() {
            break;
        }
        // An owner ends what it is doing.
        clock.pause(time);
        let mut again = scan::read_error(path(), walk(&checked.file, &start))?;
        let before = |position: u64| verdict.damages.iter().any(|damage| damage.position == position);
        again.damages.retain(|damage| before(damage.position));
        again.torn = again.torn.filter(|torn| verdict.torn == Some(*torn));
        verdict = again;
    }
    Ok(verdict)
}
