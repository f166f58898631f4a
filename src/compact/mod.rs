//! Which segments give their space back, and how are messages copied together?
//!
//! `plan` is pure: facts in, steps out. `copy` reads and writes, in small steps; it changes nothing that anybody
//! reads. Whoever sees the whole queue (`engine/space`, `engine/rewrite`) gathers the facts and makes a step
//! count.

pub(crate) mod copy;
pub(crate) mod plan;
