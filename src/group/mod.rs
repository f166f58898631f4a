//! How does a group's reading go on? `state` and `decide` are the pure half: no disk, no clock, no
//! lock. `live`, `receive`, `waiting`, `settle`, `written`, `helper` and `writer` are the doing half.
//!
//! Every change is: decide (`decide`, from the state to an entry), append the entry, apply it
//! (`state`). Recovery applies the entries that it finds; there is no second way to change what is
//! stored. Entries state outcomes, never policy, so a later version may decide otherwise and still
//! read what an earlier one decided.

mod ahead;
mod aside;
pub(crate) mod decide;
mod exceptions;
mod guests;
pub(crate) mod helper;
pub(crate) mod holder;
mod keys;
pub(crate) mod kinds;
mod later;
mod lines;
pub(crate) mod live;
mod low;
pub(crate) mod manage;
mod oldest;
mod passing;
mod pending;
mod pinned;
pub(crate) mod policy;
#[cfg(feature = "testing")]
pub(crate) mod probe;
mod ranges;
pub(crate) mod receive;
pub(crate) mod rule;
mod salvage;
pub(crate) mod settle;
pub(crate) mod settle_with;
pub(crate) mod settling;
mod shrink;
mod space;
pub(crate) mod standing;
pub(crate) mod state;
mod stored;
mod told;
mod turns;
pub(crate) mod waiting;
mod writer;
pub(crate) mod written;

#[cfg(test)]
mod fencing;
#[cfg(test)]
mod guest_tests;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_holders;
#[cfg(test)]
mod model_mended;
#[cfg(test)]
mod sound;
#[cfg(test)]
mod tests;
