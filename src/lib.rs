//! A durable message queue that lives in a folder.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod clock;
mod codec;
mod commit;
mod consumer;
mod engine;
mod error;
mod format;
mod group;
mod inspect;
mod log;
mod manifest;
mod offset;
mod offsets;
mod options;
mod pool;
mod queue;
mod storage;
mod wake;

pub use consumer::{Consumer, Delivery, Iter, Payload};
pub use engine::recovery::{Damage, Lost, Recovery};
pub use error::{Error, Result};
pub use inspect::{Finding, FindingKind, Progress};
pub use offset::{Offset, Offsets};
pub use options::Durability;
pub use pool::{Outcome, Pool, PoolBuilder, PoolReport, Stopper};
pub use queue::{Group, GroupOptions, GroupStats, Inspection, Message, Options, Queue, Retry, SegmentStats};
pub use queue::{Start, Stats, Ticket, inspect, verify};

/// For the tests of programs that embed the queue.
#[cfg(feature = "testing")]
pub mod testing {
    pub use crate::clock::ManualClock;
    pub use crate::storage::sim::{Fault, Plants, SimDisk};
}
