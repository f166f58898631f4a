//! How does a task receive, with no thread to block?

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::{Consumer, Delivery};
#[cfg(feature = "stream")]
use crate::error::Error;
use crate::error::Result;
use crate::group::receive::Ask;
use crate::share::receiving::Receiving;

/// A message to come, as [`Consumer::recv_async`] says. It owns its consumer, so it can go into a task of
/// its own. Ready with a message it may be polled on, for the next one.
#[must_use = "a future does nothing unless it is awaited"]
#[derive(Debug)]
pub struct RecvAsync {
    consumer: Consumer,
    receiving: Receiving,
}

/// Messages to come, as [`Consumer::recv_batch_async`] says.
#[must_use = "a future does nothing unless it is awaited"]
#[derive(Debug)]
pub struct RecvBatchAsync {
    consumer: Consumer,
    receiving: Receiving,
    most: usize,
}

/// Messages as they come, for tasks; made by [`Consumer::stream`].
#[cfg(feature = "stream")]
#[must_use = "a stream does nothing unless it is polled"]
#[derive(Debug)]
pub struct Messages {
    next: RecvAsync,
    ended: bool,
}

impl Consumer {
    /// Lends a message to the task that awaits it, as soon as one is deliverable. No runtime is needed: any
    /// executor will do.
    ///
    /// It can be dropped at any time, in a `select!` too: a message is lent in the same poll that hands it
    /// out, so a future that is dropped before takes none along, counts no attempt, and keeps nobody
    /// from the message that it was woken for.
    ///
    /// A poll never waits for a sync: what takes one is done by a thread of the queue's own, from the first
    /// need on. (Without threads, [`Options::threads`](crate::Options::threads), by
    /// [`Queue::run_duties`](crate::Queue::run_duties); so are times then: delayed messages that become due,
    /// loans that run out.) It does make short reads of the log, and waits for those of another
    /// receiver.
    ///
    /// ```
    /// # fn main() -> backlog::Result<()> {
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let queue = backlog::Queue::open(folder.path().join("jobs"))?;
    /// # runtime.block_on(async {
    /// queue.push_deferred("resize cat.jpg")?.await?;
    ///
    /// let worker = queue.consumer()?;
    /// let job = worker.recv_async().await?;
    /// assert_eq!(job.payload(), b"resize cat.jpg");
    /// job.ack_deferred()?.await?;
    /// # queue.close()
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// The future's answer is an error as [`Consumer::recv`] gives them.
    pub fn recv_async(&self) -> RecvAsync {
        RecvAsync { consumer: self.clone(), receiving: Receiving::default() }
    }

    /// Lends up to `max` messages, recorded together, to the task that awaits them: all that are deliverable
    /// when there is one. Else as [`Consumer::recv_async`].
    ///
    /// # Errors
    /// The future's answer is an error as [`Consumer::recv`] gives them.
    pub fn recv_batch_async(&self, max: usize) -> RecvBatchAsync {
        RecvBatchAsync { consumer: self.clone(), receiving: Receiving::default(), most: max }
    }

    /// Returns the messages as a stream (`futures_core::Stream`); ends when the queue is closed.
    ///
    /// An error is an item; the stream may go on behind it. Between two items it holds no message, and can be
    /// dropped as [`Consumer::recv_async`] says.
    #[cfg(feature = "stream")]
    pub fn stream(&self) -> Messages {
        Messages { next: self.recv_async(), ended: false }
    }

    fn poll_receive(
        &self,
        ask: &Ask<'_>,
        receiving: &mut Receiving,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<Delivery>>> {
        let ask = &Ask { lease: self.lease, ..*ask };
        let loans = ready!(self.member().poll_receive(ask, receiving, cx))?;
        Poll::Ready(self.deliveries(loans))
    }
}

impl Future for RecvAsync {
    type Output = Result<Delivery>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let received = this.consumer.poll_receive(&Ask::one(None), &mut this.receiving, cx);
            if let Some(delivery) = ready!(received)?.pop() {
                return Poll::Ready(Ok(delivery));
            }
        }
    }
}

impl Future for RecvBatchAsync {
    type Output = Result<Vec<Delivery>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let ask = Ask { most: this.most, ..Ask::one(None) };
        this.consumer.poll_receive(&ask, &mut this.receiving, cx)
    }
}

#[cfg(feature = "stream")]
impl futures_core::Stream for Messages {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut self.next).poll(cx)) {
            Err(Error::Closed) => {
                self.ended = true;
                Poll::Ready(None)
            }
            received => Poll::Ready(Some(received)),
        }
    }
}
