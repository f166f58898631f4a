//! What does a guest speak into?

use std::fmt::Debug;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// A guest's end of its connection, as far as it speaks: what is read comes past it.
///
/// A write takes what there is room for, and never blocks.
pub(super) trait Wire: Write + Debug + Send {
    /// Ends the connection: whoever reads of it learns so.
    fn hang_up(&self);
}

impl Wire for UnixStream {
    fn hang_up(&self) {
        // It may be over already.
        let _ = self.shutdown(Shutdown::Both);
    }
}
