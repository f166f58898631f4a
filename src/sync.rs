//! What do threads wait with? The locks of the system.
//!
//! Modules that take them from here are mounted a second time by tests, over the locks of a scheduler
//! that tries many orders (`src/shuttled`).

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
pub(crate) use std::thread::yield_now;
