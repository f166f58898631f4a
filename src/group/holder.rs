//! Whose is a loan? A delivery number names its holder and counts within it.

use crate::error::{Error, Result};
use crate::storage::Storage;

/// Draws what names the loans of an opening; not 0, which names none.
pub(crate) fn draw_holder(storage: &dyn Storage) -> Result<u32> {
    let random = storage.random().map_err(|error| Error::io("draw a holder for", storage.root(), error))?;
    #[expect(clippy::cast_possible_truncation, reason = "any 32 of the random bits will do")]
    let holder = (random as u32).max(1);
    Ok(holder)
}

/// Returns the holder that a delivery number names.
pub(crate) const fn holder_of(delivery: u64) -> u32 {
    (delivery >> 32) as u32
}

/// Returns how many loans of its holder came before.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
pub(crate) const fn count_of(delivery: u64) -> u32 {
    delivery as u32
}
