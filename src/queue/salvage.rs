//! How does a user save what can be read of a queue that cannot be opened?

use std::path::Path;
use std::sync::Arc;

use super::backup::keep_apart;
use crate::clock::SystemClock;
pub use crate::engine::salvage::report::{Salvaged, SalvagedGroup};
use crate::error::Result;
use crate::inspect::Progress;
use crate::options::Settings;
use crate::storage::Storage;
use crate::storage::disk::Disk;

/// Saves everything that can be read of the queue in `src`, from whatever is left of it, into a new queue in `out`.
///
/// Nothing of `src` is written, and no lock of it is taken. It may lack its manifest, segments, or parts of them.
/// Every message that passes its checksum is there again, under its old offset; a group whose files can be read goes
/// on where it was, others begin anew, so that messages may come again and none is lost. What could not be read is
/// told. The new queue has an identity of its own.
///
/// `out` is not there yet, or an empty folder. It is a queue only once all is in it: after a crash the same call
/// begins again. `progress` is told how far it has come.
///
/// # Errors
/// [`Error::NotAQueue`](crate::Error::NotAQueue) where `src` has neither a manifest nor segments, or `out` has other files;
/// [`Error::Refused`](crate::Error::Refused) where `out` is a queue already; [`Error::Version`](crate::Error::Version); [`Error::Full`](crate::Error::Full), [`Error::Io`](crate::Error::Io) when the
/// disk of `out` refuses.
pub fn salvage(
    src: impl AsRef<Path>,
    out: impl AsRef<Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Salvaged> {
    let (src, out) = (src.as_ref(), out.as_ref());
    keep_apart(src, out)?;
    let from: Arc<dyn Storage> = Arc::new(Disk::new(src));
    let to: Arc<dyn Storage> = Arc::new(Disk::new(out));
    let full = Settings::default().segment_bytes;
    crate::engine::salvage::salvage(&from, &to, &SystemClock::new(), full, progress)
}
