//! What can be told of a queue that nobody needs to open for it?

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::group_options::Retry;
use super::limits::Limits;
use crate::clock::{Clock, SystemClock};
use crate::engine::deep::deep;
use crate::engine::dump::{self, DumpOptions, Piece};
use crate::engine::look::{self, GroupSeen, Seen};
use crate::engine::pinned::{Pin, pins};
use crate::engine::pins::weigh;
use crate::engine::stats::GroupStats;
use crate::engine::view::{live, messages_in};
use crate::error::{Error, Result};
use crate::format::manifest::SegmentRow;
use crate::format::snapshot;
use crate::inspect::{Finding, Progress};
use crate::options::Durability;
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
    /// Whether it is open now, as far as can be told.
    pub state: QueueState,
    /// Messages that were ever pushed.
    pub messages: u64,
    /// The offset behind the last message.
    pub next_offset: u64,
    /// The segments of the log, in offset order; the last is the active one.
    pub segments: Vec<SegmentStats>,
    /// Finds in its quarantine.
    pub quarantined: u64,
    /// The limits that are stored with it.
    pub limits: Limits,
    /// Counts of the groups whose files are sound. Loans of an owner that died count as on loan: the
    /// next opening returns them.
    pub groups: Vec<GroupStats>,
    /// How those groups treat loans and failures, in the same order.
    pub policies: Vec<Policy>,
    /// What those groups keep of the log, in the same order.
    pub pins: Vec<Pin>,
    /// Groups whose files are not, and why.
    pub refused: Vec<(String, Error)>,
}

/// Whether a queue is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueState {
    /// Some process has it open.
    Live,
    /// It was closed cleanly, and no process is seen to have it open.
    Closed,
    /// It was not closed cleanly, and no process is seen to have it open: its last owner died, or is where this
    /// system does not show it (another container, another machine).
    NotClosed,
}

/// How a group treats loans and failures: what [`GroupOptions`](crate::GroupOptions) sets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// After so many failures a message goes to the dead letters.
    pub max_failures: u8,
    /// After so many losses it does.
    pub max_losses: u8,
    /// When a message that failed comes again.
    pub retry: Retry,
    /// After how long a loan ends by itself; `None`: with the process that holds it.
    pub lease: Option<Duration>,
    /// When an ack counts as done.
    pub ack_durability: Durability,
    /// Whether a message whose time is over is discarded; else it is a dead letter.
    pub discard_expired: bool,
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
    /// The offset behind the last that lies in it.
    pub end: u64,
    /// Bytes that are used.
    pub bytes: u64,
    /// Of those, bytes that are known to have been durable: of a sealed segment all.
    pub proven_bytes: u64,
    /// Messages in it that some group has not done; of a rewritten one at most. All, while there is no group, or
    /// one whose files are damaged.
    pub live: u64,
    /// When its first and its last batch were pushed, by the wall clocks of then; of the active one, up to where
    /// the manifest tells.
    pub pushed: Option<(SystemTime, SystemTime)>,
    /// It never changes again.
    pub sealed: bool,
    /// What was live of sparse segments was copied together into it.
    pub rewritten: bool,
}

/// Looks at the queue in a folder: without its lock, without a write, also while it is open elsewhere.
///
/// # Errors
/// [`Error::NotAQueue`], [`Error::Refused`], [`Error::Version`], [`Error::Io`].
pub fn inspect(folder: impl AsRef<Path>) -> Result<Inspection> {
    look_at(&(Arc::new(Disk::new(folder.as_ref())) as Arc<dyn Storage>), &SystemClock::new())
}

pub(super) fn look_at(storage: &Arc<dyn Storage>, clock: &dyn Clock) -> Result<Inspection> {
    Ok(of_seen(&look::look(storage, clock)?))
}

/// Tells of a queue that was looked at.
pub(super) fn of_seen(seen: &Seen) -> Inspection {
    let (mut groups, mut refused, mut policies) = (Vec::new(), Vec::new(), Vec::new());
    let mut kept = Vec::new();
    for (name, group) in &seen.groups {
        match group {
            Ok(group) => {
                kept.push((name.clone(), group.firsts.clone()));
                policies.push(Policy::of(group.state.policy()));
                groups.push(counts_of(name, group, seen.messages));
            }
            Err(error) => refused.push((name.clone(), error.clone())),
        }
    }
    let firsts: Vec<_> = kept.iter().map(|(_, firsts)| firsts).collect();
    let weights = weigh(&seen.stretches, &firsts, !refused.is_empty());
    for (group, weight) in groups.iter_mut().zip(&weights) {
        (group.pinned_bytes, group.pinned_alone_bytes) = (weight.bytes, weight.alone);
    }
    let pins = pins(&seen.stretches, kept, &weights);
    let lives = live(seen);
    let segments = seen.segments.iter().zip(&seen.stretches).enumerate();
    let segments = segments.map(|(index, (row, stretch))| SegmentStats {
        number: row.number,
        base: row.base,
        end: stretch.end,
        messages: messages_in(seen, index),
        bytes: stretch.bytes,
        proven_bytes: if stretch.sealed { stretch.bytes } else { seen.durable.min(stretch.bytes) },
        live: lives.get(index).copied().unwrap_or(0),
        pushed: pushed(row),
        sealed: stretch.sealed,
        rewritten: row.rewritten,
    });
    Inspection {
        id: format!("{:032x}", seen.queue),
        created: seen.created,
        closed: seen.closed,
        state: match (seen.locked, seen.closed) {
            (true, _) => QueueState::Live,
            (false, true) => QueueState::Closed,
            (false, false) => QueueState::NotClosed,
        },
        messages: seen.messages,
        next_offset: seen.next,
        segments: segments.collect(),
        quarantined: seen.quarantined,
        limits: Limits::of(&seen.limits),
        groups,
        policies,
        pins,
        refused,
    }
}

fn counts_of(name: &str, group: &GroupSeen, messages: u64) -> GroupStats {
    let counts = group.counts;
    GroupStats {
        ready: counts.ready(messages),
        delayed: counts.delayed,
        on_loan: counts.on_loan,
        dead: counts.dead,
        next_due: group.next_due,
        paused: group.paused,
        kinds: group.kinds.clone(),
        ..GroupStats::nothing(name)
    }
}

fn pushed(row: &SegmentRow) -> Option<(SystemTime, SystemTime)> {
    let moment = |millis: u64| UNIX_EPOCH + Duration::from_millis(millis);
    (row.about.first > 0).then(|| (moment(row.about.first), moment(row.about.last)))
}

impl Policy {
    fn of(policy: snapshot::Policy) -> Self {
        Self {
            max_failures: policy.max_failures,
            max_losses: policy.max_losses,
            retry: Retry::of(&policy),
            lease: (policy.lease > 0).then(|| Duration::from_millis(policy.lease.into())),
            ack_durability: if policy.synced { Durability::Synced } else { Durability::Buffered },
            discard_expired: policy.discard_expired,
        }
    }
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

/// Checks beyond [`verify`] whether the files agree with each other: reads every message that is stored, whether its
/// attributes can be understood, whether every message that a group has not done is there, and the side files that
/// outlive their segments. Without the lock, without a write, also while the queue is open elsewhere.
///
/// # Errors
/// As [`inspect`].
pub fn verify_deep(folder: impl AsRef<Path>, progress: &mut dyn FnMut(Progress)) -> Result<Vec<Finding>> {
    let storage: Arc<dyn Storage> = Arc::new(Disk::new(folder.as_ref()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    deep(&storage, &clock, progress)
}

/// Shows what lies in the files of a queue, piece by piece, and whether each passes its checksums: without its lock,
/// without a write, and with or without a manifest. It reads on behind what has gone bad. `show` is given each
/// piece, and ends it with `false`.
///
/// # Errors
/// [`Error::NotAQueue`] where there is neither a manifest nor a segment, [`Error::Invalid`] for a segment that is not
/// there, [`Error::Io`].
pub fn dump(
    folder: impl AsRef<Path>,
    options: &DumpOptions,
    show: &mut dyn FnMut(Piece) -> bool,
) -> Result<()> {
    let storage: Arc<dyn Storage> = Arc::new(Disk::new(folder.as_ref()));
    dump::dump(&storage, options, show)
}
