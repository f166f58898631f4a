//! A durable message queue that lives in a folder.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod clock;
mod codec;
mod commit;
mod error;
mod format;
mod group;
mod log;
mod manifest;
mod offset;
mod offsets;
mod options;
mod storage;
mod wake;

pub use error::{Error, Result};
pub use offset::{Offset, Offsets};
