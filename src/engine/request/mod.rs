//! What can another process want of the queue, and what is it told?
//!
//! `docs/PROTOCOL.md` says how these travel. A guest's calls are these requests, whichever way they came; the
//! engine answers them at one door (`engine/door`).

use std::time::Duration;

use super::browse::Looked;
use super::{From as Start, NewGroup};
use crate::codec::{Bytes, Deserialize, Serialize};
use crate::error::{Error, Result};
use crate::format::batch::Record;
use crate::format::snapshot::Policy;
use crate::group::rule::{Dead, MessageState};
use crate::group::settle::End;
use crate::offset::Offsets;
use crate::options::Wanted;

pub(crate) mod fault;

pub(crate) use fault::Fault;

/// Which group: one that was removed and made anew is another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Which {
    pub(crate) name: String,
    pub(crate) incarnation: u64,
}

/// A record, as it goes into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) attributes: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) tags: u64,
}

/// A loan: offset and delivery number.
pub(crate) type Held = (u64, u64);

/// How a loan ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ending {
    Ack,
    Nack { reason: Option<String>, after: Option<Duration> },
    Reject { reason: String },
    Release,
}

/// What a guest wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Records as one batch. `waits`: until there is room, where the limits say so.
    Push {
        records: Vec<Sent>,
        synced: bool,
        waits: bool,
        sequence: u64,
    },
    /// Everything pushed and acked before on stable storage.
    Sync,
    /// A group that is there; made, if it is told how.
    Group {
        name: String,
        new: Option<NewGroup>,
    },
    CreateGroup {
        name: String,
        new: NewGroup,
    },
    RemoveGroup {
        name: String,
    },
    Groups,
    /// Up to `most` messages; `wait`: for so long, or until there are some.
    Receive {
        group: Which,
        most: u64,
        lease: Option<u32>,
        wait: Option<Duration>,
        drain: bool,
        idle_ends: bool,
    },
    /// Nobody waits for the answer to that call any more.
    Cancel {
        call: u64,
    },
    /// It ends of its own will: what it holds goes back uncounted.
    Leave,
    Settle {
        group: Which,
        loan: Held,
        ending: Ending,
    },
    AckAll {
        group: Which,
        loans: Vec<Held>,
    },
    Extend {
        group: Which,
        loan: Held,
        lease: u32,
    },
    AckWith {
        group: Which,
        loan: Held,
        records: Vec<Sent>,
        synced: bool,
        sequence: u64,
    },
    Discard {
        offset: u64,
    },
    DiscardKey {
        key: Bytes,
    },
    DiscardIn {
        group: Which,
        offsets: Vec<u64>,
    },
    DiscardKeyIn {
        group: Which,
        key: Bytes,
    },
    Purge {
        group: Which,
    },
    Seek {
        group: Which,
        to: Start,
    },
    Revive {
        group: Which,
        offsets: Option<Vec<u64>>,
    },
    /// Until the wall clock shows that; `None`: goes on.
    Pause {
        group: Which,
        until: Option<u64>,
    },
    ReleaseAll {
        group: Which,
    },
    Policy {
        group: Which,
    },
    SetPolicy {
        group: Which,
        policy: Policy,
        kinds: Vec<String>,
    },
    Dead {
        group: Which,
    },
    Rows {
        group: Which,
        state: MessageState,
    },
    Look {
        group: Which,
        first: u64,
        end: u64,
        state: Option<MessageState>,
    },
    Stats,
    GroupStats {
        group: Which,
    },
    Pins,
    Limits,
    ChangeLimits {
        wanted: Wanted,
    },
    /// `message` is a `Plan`, in bincode: of it each message of the schedule is made.
    Schedule {
        name: String,
        cron: String,
        missed: u8,
        message: Bytes,
    },
    Unschedule {
        name: String,
    },
    Schedules,
    Undelete {
        group: Which,
        offsets: Vec<u64>,
    },
}

/// A message on loan, as it travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lent {
    pub(crate) message: Looked,
    pub(crate) delivery: u64,
    pub(crate) attempt: u32,
    pub(crate) lease: u32,
}

/// What a guest is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Failed(Fault),
    Done,
    Offsets {
        first: u64,
        end: u64,
    },
    Group {
        incarnation: u64,
    },
    Names(Vec<String>),
    Lent(Vec<Lent>),
    /// Of each, whether it was that caller's.
    Acked(Vec<bool>),
    Count(u64),
    Flag(bool),
    Policy {
        policy: Policy,
        kinds: Vec<String>,
    },
    Dead(Vec<Dead>),
    Rows(Vec<(u64, u64)>),
    /// What was found within the range, in order, and where to look on: its end, if that was all.
    Looked {
        found: Vec<Result<(Looked, MessageState), Fault>>,
        next: u64,
    },
    /// A structure that the public face makes, in bincode.
    Told(Bytes),
}

impl Sent {
    pub(crate) fn of(record: &Record<'_>) -> Self {
        let (attributes, payload) = (Bytes(record.attributes.to_vec()), Bytes(record.payload.to_vec()));
        Self { attributes, payload, tags: record.tags }
    }

    pub(crate) fn record(&self) -> Record<'_> {
        Record { attributes: &self.attributes.0, payload: &self.payload.0, tags: self.tags }
    }

    fn length(&self) -> usize {
        self.attributes.0.len() + self.payload.0.len()
    }
}

impl Request {
    /// Returns about how many bytes it takes, for those who bound what is in flight.
    pub(crate) fn length(&self) -> usize {
        const LEAST: usize = 128;
        LEAST
            + match self {
                Self::Push { records, .. } | Self::AckWith { records, .. } => {
                    records.iter().map(|record| record.length() + LEAST).sum()
                }
                Self::AckAll { loans, .. } => loans.len() * 16,
                Self::DiscardIn { offsets, .. } | Self::Undelete { offsets, .. } => offsets.len() * 8,
                Self::Schedule { message, .. } => message.0.len(),
                _ => 0,
            }
    }
}

impl Request {
    /// Returns where the number of a push is to be told.
    pub(crate) fn sequence_mut(&mut self) -> Option<&mut u64> {
        match self {
            Self::Push { sequence, .. } | Self::AckWith { sequence, .. } => Some(sequence),
            _ => None,
        }
    }

    /// Returns the first record that it pushes.
    pub(crate) fn first_record_mut(&mut self) -> Option<&mut Sent> {
        match self {
            Self::Push { records, .. } | Self::AckWith { records, .. } => records.first_mut(),
            _ => None,
        }
    }

    /// Counts the records that it pushes.
    pub(crate) fn records(&self) -> u64 {
        match self {
            Self::Push { records, .. } | Self::AckWith { records, .. } => records.len() as u64,
            _ => 0,
        }
    }
}

impl Ending {
    /// Returns it as the group takes it; `None` for an ack.
    pub(crate) fn end(&self) -> Option<End<'_>> {
        Some(match self {
            Self::Ack => return None,
            Self::Nack { reason, after } => End::Nack { reason: reason.as_deref(), after: *after },
            Self::Reject { reason } => End::Reject { reason },
            Self::Release => End::Release,
        })
    }

    /// Takes what is to be sent from how a loan is to end here.
    pub(crate) fn of(end: Option<End<'_>>) -> Self {
        match end {
            None => Self::Ack,
            Some(End::Nack { reason, after }) => Self::Nack { reason: reason.map(str::to_owned), after },
            Some(End::Reject { reason }) => Self::Reject { reason: reason.to_owned() },
            Some(End::Release) => Self::Release,
        }
    }
}

impl Reply {
    pub(crate) fn failed(error: &Error) -> Self {
        Self::Failed(error.into())
    }

    /// Says that the queue is closed.
    pub(crate) fn closed() -> Self {
        Self::Failed(Fault::Closed)
    }

    /// Tells of a result, by what becomes of a success.
    pub(crate) fn of<T>(result: Result<T>, told: impl FnOnce(T) -> Self) -> Self {
        match result {
            Ok(value) => told(value),
            Err(error) => Self::failed(&error),
        }
    }

    pub(crate) fn offsets(offsets: &Offsets) -> Self {
        let end = offsets.end();
        Self::Offsets { first: offsets.first().map_or(end, crate::offset::Offset::get), end }
    }

    /// Returns the answer, if it is none of a failure.
    pub(crate) fn result(self) -> Result<Self> {
        if let Self::Failed(fault) = self { Err(fault.into()) } else { Ok(self) }
    }

    /// Tells whether it says that a guest has loans under another holder only.
    pub(crate) fn is_holder_over(&self) -> bool {
        matches!(self, Self::Failed(Fault::HolderOver { .. }))
    }

    /// Tells whether it says that a loan is over.
    pub(crate) fn is_lease_lost(&self) -> bool {
        matches!(self, Self::Failed(Fault::LeaseLost { .. }))
    }

    /// Says that it is no answer to what was asked.
    pub(crate) fn unexpected(&self) -> Error {
        Error::Invalid {
            what: "the process that has the queue open gave an answer to another question".into(),
        }
    }
}
