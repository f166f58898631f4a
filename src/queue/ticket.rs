//! How does a caller learn that a deferred push is stored?

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::engine::Pushed;
use crate::error::{Error, Result};
use crate::offset::Offset;

/// The promise of an answer to [`Queue::push_deferred`](super::Queue::push_deferred).
///
/// Wait for it, or `.await` it: no runtime is needed. Dropping it cancels nothing.
#[must_use = "a ticket tells whether the message was stored; wait for it, or await it"]
#[derive(Debug)]
pub struct Ticket {
    pushed: Pushed,
}

impl Ticket {
    pub(crate) fn new(pushed: Pushed) -> Self {
        Self { pushed }
    }

    /// Blocks until the message is stored.
    ///
    /// # Errors
    /// As [`Queue::push`](super::Queue::push).
    pub fn wait(self) -> Result<Offset> {
        self.pushed.wait(None).unwrap_or(Err(Error::Timeout)).map(only)
    }

    /// Blocks until the message is stored or the time is over. The ticket stays good.
    ///
    /// A slow disk does not hold it: it leaves writing to the committer thread, which makes it some
    /// microseconds slower than [`Ticket::wait`]. Without threads of the queue's own
    /// ([`Options::threads`](super::Options::threads)) it writes by itself if nobody else does, and the
    /// deadline holds only as far as the disk answers in time.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time is over: the push goes on. Else as [`Ticket::wait`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Offset> {
        let until = self.pushed.deadline(timeout);
        self.pushed.wait(until).unwrap_or(Err(Error::Timeout)).map(only)
    }
}

impl Future for Ticket {
    type Output = Result<Offset>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.pushed.poll(context).map_ok(only)
    }
}

/// Returns the one offset of a deferred push.
fn only(offsets: crate::offset::Offsets) -> Offset {
    Offset::known(offsets.end() - 1)
}
