//! How do several processes use one folder, without a daemon?
//!
//! Whoever has the lock is the owner, and serves the others, its guests, through a socket in the folder. When it goes,
//! one of them takes over. `docs/PROTOCOL.md` says what is spoken.

pub(crate) mod account;
pub(crate) mod answer;
pub(crate) mod calls;
pub(crate) mod desk;
mod edge;
pub(crate) mod extending;
pub(crate) mod frame;
pub(crate) mod greeting;
pub(crate) mod guest;
pub(crate) mod here;
pub(crate) mod host;
#[cfg(test)]
mod host_tests;
pub(crate) mod member;
pub(crate) mod owner;
pub(crate) mod place;
#[cfg(feature = "testing")]
pub(crate) mod probe;
pub(crate) mod promise;
pub(crate) mod reading;
pub(crate) mod receiving;
pub(crate) mod retry;
pub(crate) mod slot;
pub(crate) mod slow;
mod sound;
pub(crate) mod succession;
mod unheard;
mod visitor;
mod wire;
#[cfg(feature = "testing")]
pub(crate) mod world;

// Modules that tests mount over other locks take them from beside them.
use crate::{clock, sync};
