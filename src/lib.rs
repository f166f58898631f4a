//! A durable message queue that lives in a folder.
//!
//! # Hello, world
//!
//! ```
//! # fn main() -> backlog::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let folder = folder.path().join("jobs");
//! use backlog::Queue;
//!
//! let queue = Queue::open(&folder)?; // creates it where there is none
//! queue.push("resize cat.jpg")?; // durable when it returns
//!
//! let worker = queue.consumer()?;
//! let job = worker.recv()?;
//! assert_eq!(job.payload(), b"resize cat.jpg");
//! job.ack()?;
//! queue.close()
//! # }
//! ```
//!
//! # Ways to push
//!
//! [`push`](Queue::push) stores one message, [`push_batch`](Queue::push_batch) several that are there
//! together or not at all. [`push_deferred`](Queue::push_deferred) returns at once with a [`Ticket`]
//! to wait for or `.await`: one thread can have thousands of durable pushes outstanding, and they
//! share their syncs. A message is bytes, and borrowed: after a failed push the caller still has it.
//!
//! ```
//! # fn main() -> backlog::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let queue = backlog::Queue::open(folder.path().join("jobs"))?;
//! use backlog::Durability;
//!
//! let offsets = queue.push_batch(["all", "or", "none"])?;
//! assert_eq!(offsets.count(), 3);
//!
//! let tickets = ["a", "b", "c"].map(|text| queue.push_deferred(text));
//! for ticket in tickets {
//!     println!("stored as {}", ticket?.wait()?);
//! }
//!
//! // Survives kill -9, not a power cut.
//! queue.with_durability(Durability::Buffered).push("fast")?;
//! # queue.close()
//! # }
//! ```
//!
//! # Messages on loan
//!
//! Receiving lends. A [`Delivery`] ends in one of four ways: [`ack`](Delivery::ack), done;
//! [`nack`](Delivery::nack), failed, to be tried again by the group's [`Retry`] policy;
//! [`reject`](Delivery::reject), given up and kept among the dead letters;
//! [`release`](Delivery::release), given back uncounted. Dropped, by an early `?` or a panic, it is a
//! nack. When the process dies, its loans come again and count as losses.
//!
//! ```
//! # fn main() -> backlog::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let queue = backlog::Queue::open(folder.path().join("jobs"))?;
//! # queue.push("7")?;
//! # queue.push("seven")?;
//! use std::time::Duration;
//! use backlog::{GroupOptions, Retry};
//!
//! let patient = Retry::exponential(Duration::from_secs(1), Duration::from_secs(600));
//! let options = GroupOptions::new().retry(patient).max_failures(10);
//! let worker = queue.create_group("adder", options)?.consumer();
//!
//! let mut sum = 0;
//! while let Some(job) = worker.try_recv()? {
//!     let text = String::from_utf8_lossy(job.payload()).into_owned();
//!     match text.parse::<i32>() {
//!         Ok(number) => {
//!             sum += number;
//!             job.ack()?;
//!         }
//!         Err(why) => job.reject(why)?, // it never will succeed
//!     }
//! }
//! assert_eq!((sum, queue.group("adder")?.stats().dead), (7, 1));
//! # queue.close()
//! # }
//! ```
//!
//! # Sharing
//!
//! A [`Group`] is a durable reading position. The consumers of one group compete: each message goes
//! to one of them. Other groups see everything again. The group `default` appears with its first
//! consumer; any other is created on purpose, so that a typo is an error. [`Queue`], [`Group`] and
//! [`Consumer`] are handles: clone them into as many threads as you like. Other processes open
//! the same folder and compete in the same way: the first to come is the owner of the files, the others
//! reach it through that one, and when it goes one of them takes over.
//!
//! A [`Pool`] is threads that do the settling for you:
//!
//! ```
//! # fn main() -> backlog::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let queue = backlog::Queue::open(folder.path().join("jobs"))?;
//! queue.push_batch(["cat.jpg", "dog.jpg"])?;
//!
//! let pool = queue.consumer()?.pool(2).until_idle().spawn(|job| {
//!     println!("resizing {} bytes", job.payload().len());
//!     Ok::<(), std::io::Error>(()) // an error is a nack, and so is a panic
//! })?;
//! assert_eq!(pool.join()?.acked, 2);
//! # queue.close()
//! # }
//! ```
//!
//! # Closing
//!
//! [`Queue::close`] writes what tickets wait for, gives loans back uncounted, wakes everyone who
//! waits, and frees the folder, from any thread and however many handles there are. From then on
//! every call is [`Error::Closed`]. Dropping the last handle does the same in silence.
//!
//! # Blocking
//!
//! [`recv`](Consumer::recv) blocks for the next message, [`try_recv`](Consumer::try_recv) never
//! blocks, [`recv_timeout`](Consumer::recv_timeout) and [`recv_batch`](Consumer::recv_batch) block
//! for a while. `None` means that nothing is there *now*; a queue that is closed is an error.
//!
//! # Iterating
//!
//! [`Consumer::iter`] gives messages as they come, and ends when the queue is closed:
//!
//! ```
//! # fn main() -> backlog::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let queue = backlog::Queue::open(folder.path().join("jobs"))?;
//! # queue.push_batch(["one", "two", "stop"])?;
//! for job in queue.consumer()?.iter() {
//!     let job = job?;
//!     let last = job.payload() == b"stop";
//!     job.ack()?;
//!     if last {
//!         queue.close()?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Async
//!
//! [`push_deferred`](Queue::push_deferred), [`recv_async`](Consumer::recv_async) and
//! [`ack_deferred`](Delivery::ack_deferred) give futures: no runtime is inside, and any will do. No poll waits for
//! a sync. A future can be dropped at any time, in a `select!` too: it takes no message along and counts no
//! attempt. [`Consumer::stream`] is [`Consumer::iter`] for tasks (feature `stream`).
//!
//! ```
//! # fn main() -> backlog::Result<()> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # let folder = tempfile::tempdir().unwrap();
//! # let queue = backlog::Queue::open(folder.path().join("jobs"))?;
//! # runtime.block_on(async {
//! queue.push_deferred("resize cat.jpg")?.await?; // on stable storage
//!
//! let job = queue.consumer()?.recv_async().await?;
//! assert_eq!(job.payload(), b"resize cat.jpg");
//! job.ack_deferred()?.await?; // as `ack`, and thousands of them share a sync
//! # queue.close()
//! # })
//! # }
//! ```
//!
//! # Looking
//!
//! [`inspect`] and [`verify`] look at a queue that may be open elsewhere: without its lock, without a
//! write. [`Queue::recovery`] tells what opening found, [`Queue::stats`] counts, without reading.
//!
//! ```
//! # fn main() -> backlog::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let folder = folder.path().join("jobs");
//! # let queue = backlog::Queue::open(&folder)?;
//! # queue.push("x")?;
//! assert!(!queue.recovery().has_findings());
//! assert_eq!(queue.stats().messages, 1);
//! assert!(backlog::verify(&folder, &mut |_| {})?.is_empty());
//! # queue.close()
//! # }
//! ```
//!
//! [`plan_repair`] says what can be done about what [`verify`] finds, and [`repair`] does it: what can be read is
//! delivered again, what cannot is named and a dead letter, and what was taken out is kept ([`quarantine`]).
//!
//! # Promises
//!
//! - A push that returned under [`Durability::Synced`] is delivered after any crash: kill -9, a power
//!   cut, a full disk, a device that reports its errors.
//! - Nothing else is ever delivered: a payload passed its checksum after it was copied.
//! - A batch is there whole or not at all.
//! - Offsets grow, and one that anybody was told is never given twice.
//! - A message acked [together with its outputs](Delivery::ack_with) is done exactly when they are there.
//! - A message comes until it is acked: at least once. After an ack that returned in a group with
//!   [synced acks](GroupOptions::ack_durability) it never comes again; with buffered ones it may,
//!   after a power cut. [`Content::id`] is the same each time.
//! - Damage to promised bytes is never delivered, skipped in silence or cut away: it is an
//!   [`Error::Damaged`] and a line of [`Recovery`].
//! - No panic, no hang, whatever the disk or the files say.
//! - A forked child can do nothing with its parent's handles, and breaks nothing: [`Error::Forked`].
//!
//! `docs/DURABILITY.md` says what that assumes of the disk, and takes every change apart into steps.
//!
//! # It is not
//!
//! a broker or a server; a stream platform with partitions and replicas; exactly-once across other
//! systems; for network file systems. Several processes may have one folder open, which is young: see `docs/PROTOCOL.md`, and [`Options::exclusive`].
//!
//! # Features
//!
//! - `json`, on by default: `Message::json`, and its counterpart in [`Content::decode`].
//! - `schedules`, on by default: `Queue::every`.
//! - `stream`, on by default: `Consumer::stream`, a `futures_core::Stream`.
//! - `cli`: the binary `backlog`.
//! - `testing`: `testing::ManualClock` and `testing::SimDisk`, a disk that can be crashed, for the
//!   tests of programs that embed the queue.
//!
#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod clock;
mod codec;
mod commit;
mod compact;
mod consumer;
#[cfg(feature = "schedules")]
mod cron;
mod engine;
mod error;
mod format;
mod group;
mod header;
mod inspect;
mod log;
mod manifest;
mod message;
mod offset;
mod offsets;
mod options;
mod plant;
mod pool;
mod queue;
mod share;
#[cfg(test)]
mod shuttled;
mod storage;
mod sync;
mod wake;

pub use codec::Encoding;
#[cfg(feature = "stream")]
pub use consumer::Messages;
pub use consumer::{
    Consumer, Content, Delivery, Iter, Outcome, Payload, Receipt, RecvAsync, RecvBatchAsync, Ticket,
};
pub use engine::recovery::{Damage, Lost, Recovery};
pub use engine::repair::{RepairKind, RepairPlan, RepairStep, Repaired};
#[cfg(feature = "schedules")]
pub use engine::schedules::MissedTicks;
pub use error::{Error, Result};
pub use group::rule::MessageState;
pub use header::HeaderValue;
pub use inspect::{Finding, FindingKind, Progress};
pub use offset::{Offset, Offsets};
pub use options::{Durability, WhenFull};
pub use pool::{Pool, PoolBuilder, PoolReport, SlowJob, Stopper};
#[cfg(feature = "schedules")]
pub use queue::Schedule;
pub use queue::{Backup, BackupRound, Restored, restore};
pub use queue::{Browse, DeadLetter, DeadReason, Group, GroupOptions, GroupStats, Inspection, Message};
pub use queue::{DumpOptions, Event, Fact, Fate, Loan, Piece, dump};
pub use queue::{Limits, Options, Peek, Pin, PinnedSegment, Queue, Retry, SegmentStats};
pub use queue::{Policy, QueueState, Start, Stats, inspect, verify, verify_deep};
pub use queue::{Quarantined, plan_repair, quarantine, repair};
pub use queue::{Salvaged, SalvagedGroup, salvage};
pub use queue::{View, Why, WhyInGroup};

/// For the tests of programs that embed the queue.
#[cfg(feature = "testing")]
pub mod testing {
    /// For fuzzers: what holds of every decoder, whatever the bytes, and how checksums are made right
    /// over bytes that were changed.
    pub mod bytes {
        pub use crate::format::forge::{forge, forge_batch};
        pub use crate::format::probe::{batch, manifest, segment_header};
        pub use crate::group::probe::offsets;
        pub use crate::share::probe::{answers, calls, lets_pushes_wait};
        pub use crate::share::world::framed;
    }

    pub use crate::clock::ManualClock;
    pub use crate::plant::{Plant, Planted, plant};
    pub use crate::queue::guest::Guest;
    pub use crate::share::world::{Called, Caller, Ends, Folder, Known, Loaned, Owner, Told};
    pub use crate::storage::sim::{Aim, Call, Fault, Made, SimDisk};
}

/// The examples of the guide, compiled and run.
#[cfg(all(doctest, feature = "json", feature = "schedules", feature = "cli"))]
#[doc = include_str!("../docs/GUIDE.md")]
mod guide {}
