//! What has a socket told, that tells each thing once?
//!
//! What is not read then is not told again, so it is kept in mind until a read has found that there is no more.

use mio::Interest;
use mio::event::Event;

/// Whether a socket is to be read.
#[derive(Debug)]
pub(super) struct Edge {
    readable: bool,
    /// The other side sends no more than what has come.
    hung_up: bool,
}

impl Default for Edge {
    /// Nothing was told yet: there may be something.
    fn default() -> Self {
        Self { readable: true, hung_up: false }
    }
}

impl Edge {
    pub(super) fn told(&mut self, event: &Event) {
        self.hung_up |= event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || self.hung_up;
    }

    /// Notes that so many bytes came where there was room for so many. Where less came there is no more, but for the
    /// end, if that was told; and what comes now is told of.
    pub(super) fn read(&mut self, count: usize, room: usize) {
        self.readable = count == room || self.hung_up;
    }

    /// Notes that a read would have had to wait.
    pub(super) fn found_nothing(&mut self) {
        self.readable = false;
    }

    pub(super) fn is_readable(&self) -> bool {
        self.readable
    }
}

/// Returns what is to be told: when something can be read, and when more can be written only where less was taken than
/// was to be sent. Else each read of the other side would wake this one.
///
/// A socket that is registered anew with it tells at once what is there already: nothing is missed in between.
pub(super) fn interest(blocked: bool) -> Interest {
    if blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}
