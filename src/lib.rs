//! A durable message queue that lives in a folder.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod clock;
mod codec;
mod error;
mod format;
mod group;
mod offset;
mod storage;
mod wake;

pub use error::{Error, Result};
pub use offset::{Offset, Offsets};
