//! How does a group's consumer-offset file keep what the group has done?
//!
//! Two halves (`docs/FORMAT.md` §7): one holds, a snapshot with entries behind it; a switch writes
//! the next snapshot into the other. In the order of its steps, each of which a crash may cut:
//!
//! ```text
//!   1 grow the other half, if it is too short: reserve, zero-fill     it is in nobody's use
//!   2 snapshot, then header page with a new salt, into it             torn: the old half holds
//!   3 sync it                                                         whole: it holds, without entries
//!   4 `superseded` into the old half                                  made good by the next opening
//!   5 sync that                                                       the switch counts
//!   6 entries                                                         torn beyond the last sync
//! ```
//!
//! No entry goes to either half between 2 and 6. Else an entry acknowledged in the old half would be
//! lost with it, or one in the new half lost to the old one, which nothing had superseded yet.
//!
//! The half that does not hold can be cut, so that an idle group takes little: its page says the
//! shorter length, synced, and then the file gets it.
//!
//! [`Track`] is the part in memory, for use under the group's lock; [`Halves`] the part with the
//! files, for the one thread that writes.

mod birth;
mod copy;
mod halves;
mod load;
pub(crate) mod parts;
#[cfg(feature = "testing")]
pub(crate) mod probe;
mod shape;
mod track;
mod verdict;
mod walk;

#[cfg(test)]
mod tests;

pub(crate) use birth::{create, remake, remove};
pub(crate) use copy::copy;
pub(crate) use halves::{Halves, SwitchFailed};
#[cfg(test)]
pub(crate) use load::Loaded;
pub(crate) use load::{Looked, Surveyed, load, look, look_exactly, survey};
pub(crate) use track::Track;
