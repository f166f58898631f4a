//! What does a guest speak into?

use std::fmt::Debug;
use std::io::Write;

/// A guest's end of its connection, as far as it speaks: what is read comes past it.
///
/// A write takes what there is room for, and never blocks.
pub(super) trait Wire: Write + Debug + Send {
    /// Ends the connection: whoever reads of it learns so.
    fn hang_up(&self);

    /// Has whoever reads told when there is room for more, or not any more.
    fn hear_when_it_takes_more(&self, wanted: bool);
}
