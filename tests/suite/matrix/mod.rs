//! Has every fault its test, at every point at which it can hit?
//!
//! `table` says which of them are tested, which cannot occur, and which wait for what is not built
//! yet; `docs/MATRIX.md` is that table in words. A scenario brings a queue to the point, lets the
//! fault hit each call that it can hit there, and checks the answer, what goes on, and what every
//! promise says after a crash (`ledger`). `double` lets one fault follow another.

mod clocks;
mod damage;
mod double;
mod errors;
mod files;
mod folder;
mod forge;
mod more_rows;
mod power;
mod removed;
mod rows;
mod stage;
mod stall;
mod table;
mod upkeep;
mod upkeep_damage;
