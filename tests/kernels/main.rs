//! Real kernels: file systems on loop devices, a device that is recorded, limits and signals.
//!
//! What needs root is ignored unless it is asked for:
//! `cargo test --all-features --test kernels -- --ignored --test-threads 1 [NAME]`.
#![cfg(target_os = "linux")]

/// A process that is run again for a test, and what it says.
mod child;
/// A power cut at any write below a real file system.
mod cuts;
/// Numbers from a seed.
#[path = "../suite/dice.rs"]
#[expect(dead_code, reason = "only the suite tries things so many times")]
mod dice;
/// A device that answers EIO below a real file system.
mod failing;
/// File systems that are full.
mod full;
/// The kernel's protocol for a file system, as far as the recorder needs it.
mod fuse;
/// What must, may and must not be there.
mod ledger;
/// File size and descriptors; by anybody.
mod limits;
/// The bytes of a message, and whose they are.
#[path = "../suite/payload.rs"]
mod payload;
/// File systems that become read-only, shut down or stall; files that may not be changed.
mod readonly;
/// A device in memory that remembers each write.
mod recorder;
/// What children do.
mod roles;
/// SIGSTOP and SIGCONT; by anybody.
mod stopped;
/// System calls that fail, by strace.
mod traced;
/// A small file system that goes away.
mod volume;
/// What is done with a queue, noted in a ledger.
mod workload;
