//! How does a caller learn that a deferred push is stored, or a deferred ack lasts?

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::offset::{Offset, Offsets};
use crate::share::promise::Promise;

/// The promise of an answer: to [`Queue::push_deferred`](crate::Queue::push_deferred) with the message's
/// [`Offset`], to [`Delivery::ack_deferred`](crate::Delivery::ack_deferred) with `()`.
///
/// Wait for it, or `.await` it: no runtime is needed. Dropping it cancels nothing.
#[must_use = "a ticket tells whether the push is stored, or the ack lasts; wait for it, or await it"]
#[derive(Debug)]
pub struct Ticket<T = Offset> {
    promise: Promise,
    /// What a push that is stored, or an ack that lasts, is answered with.
    tell: fn(Offsets) -> T,
}

impl Ticket<Offset> {
    pub(crate) fn of_push(promise: Promise) -> Self {
        Self { promise, tell: |offsets| Offset::known(offsets.end() - 1) }
    }
}

impl Ticket<()> {
    pub(super) fn of_ack(promise: Promise) -> Self {
        Self { promise, tell: |_| () }
    }
}

impl<T> Ticket<T> {
    /// Blocks until the message is stored, or the ack lasts.
    ///
    /// # Errors
    /// As [`Queue::push`](crate::Queue::push), or [`Delivery::ack`](crate::Delivery::ack).
    pub fn wait(self) -> Result<T> {
        self.wait_until(None)
    }

    /// Blocks until that is so or the time is over. The ticket stays good.
    ///
    /// A slow disk does not hold it: it leaves writing to a thread of the queue's own, which makes it some
    /// microseconds slower than [`Ticket::wait`]. Without threads
    /// ([`Options::threads`](crate::Options::threads)) it writes by itself if nobody else does, and the
    /// deadline holds only as far as the disk answers in time.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time is over: the push or the ack goes on. Else as [`Ticket::wait`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<T> {
        self.wait_until(self.promise.deadline(timeout))
    }

    fn wait_until(&self, until: Option<Duration>) -> Result<T> {
        self.promise.wait(until).unwrap_or_else(|| Err(self.promise.late())).map(self.tell)
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.promise.poll(context).map_ok(self.tell)
    }
}
