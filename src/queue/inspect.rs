//! What can be told of a queue that nobody needs to open for it?

use std::path::Path;
use std::sync::Arc;

use super::limits::Limits;
use crate::clock::{Clock, SystemClock};
use crate::engine::look;
use crate::engine::pinned::{Pin, pins};
use crate::engine::pins::weigh;
use crate::engine::stats::GroupStats;
use crate::error::{Error, Result};
use crate::inspect::{Finding, Progress};
use crate::storage::Storage;
use crate::storage::disk::Disk;

/// A queue as its files tell it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The queue's identity: 32 hexadecimal digits.
    pub id: String,
    /// When it was created, in milliseconds since 1970.
    pub created: u64,
    /// It was closed cleanly. Else it is open now, or its last owner died.
    pub closed: bool,
    /// Messages that were ever pushed.
    pub messages: u64,
    /// The offset behind the last message.
    pub next_offset: u64,
    /// The segments of the log, in offset order; the last is the active one.
    pub segments: Vec<SegmentStats>,
    /// The limits that are stored with it.
    pub limits: Limits,
    /// Counts of the groups whose files are sound. Loans of an owner that died count as on loan: the
    /// next opening returns them.
    pub groups: Vec<GroupStats>,
    /// What those groups keep of the log, in the same order.
    pub pins: Vec<Pin>,
    /// Groups whose files are not, and why.
    pub refused: Vec<(String, Error)>,
}

/// A segment of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentStats {
    /// Its number.
    pub number: u64,
    /// No message in it has a lower offset.
    pub base: u64,
    /// Messages in it.
    pub messages: u64,
    /// Bytes that are used.
    pub bytes: u64,
    /// It never changes again.
    pub sealed: bool,
}

/// Looks at the queue in a folder: without its lock, without a write, also while it is open elsewhere.
///
/// # Errors
/// [`Error::NotAQueue`], [`Error::Refused`], [`Error::Version`], [`Error::Io`].
pub fn inspect(folder: impl AsRef<Path>) -> Result<Inspection> {
    look_at(&(Arc::new(Disk::new(folder.as_ref())) as Arc<dyn Storage>), &SystemClock::new())
}

pub(super) fn look_at(storage: &Arc<dyn Storage>, clock: &dyn Clock) -> Result<Inspection> {
    let seen = look::look(storage, clock)?;
    let mut groups = Vec::new();
    let mut refused = Vec::new();
    let mut kept = Vec::new();
    for (name, group) in seen.groups {
        match group {
            Ok(look::GroupSeen { counts, next_due, paused, kinds, firsts }) => {
                kept.push((name.clone(), firsts));
                groups.push(GroupStats {
                    name,
                    ready: counts.ready(seen.messages),
                    delayed: counts.delayed,
                    on_loan: counts.on_loan,
                    dead: counts.dead,
                    next_due,
                    paused,
                    kinds,
                    discarded_for_room: 0,
                    pinned_bytes: 0,
                    pinned_alone_bytes: 0,
                });
            }
            Err(error) => refused.push((name, error)),
        }
    }
    let firsts: Vec<_> = kept.iter().map(|(_, firsts)| firsts).collect();
    let weights = weigh(&seen.stretches, &firsts, !refused.is_empty());
    for (group, weight) in groups.iter_mut().zip(&weights) {
        (group.pinned_bytes, group.pinned_alone_bytes) = (weight.bytes, weight.alone);
    }
    let pins = pins(&seen.stretches, kept, &weights);
    let rows = &seen.segments;
    let segments = rows.iter().enumerate().map(|(index, row)| SegmentStats {
        number: row.number,
        base: row.base,
        messages: rows
            .get(index + 1)
            .map_or(seen.messages, |next| next.messages_before)
            .saturating_sub(row.messages_before),
        bytes: if row.length == 0 { seen.position } else { row.length },
        sealed: row.length != 0,
    });
    Ok(Inspection {
        id: format!("{:032x}", seen.queue),
        created: seen.created,
        closed: seen.closed,
        messages: seen.messages,
        next_offset: seen.next,
        segments: segments.collect(),
        limits: Limits::of(&seen.limits),
        groups,
        pins,
        refused,
    })
}

/// Checks every byte of a queue that was promised: without its lock, without a write, also while it
/// is open elsewhere. Returns what is wrong; nothing if all is well.
///
/// `progress` is told how far it has come.
///
/// # Errors
/// As [`inspect`]: when there is no manifest to go by, or a newer version wrote something.
pub fn verify(folder: impl AsRef<Path>, progress: &mut dyn FnMut(Progress)) -> Result<Vec<Finding>> {
    let storage: Arc<dyn Storage> = Arc::new(Disk::new(folder.as_ref()));
    look::verify(&storage, &SystemClock::new(), progress)
}
