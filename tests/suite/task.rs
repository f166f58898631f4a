//! What is polled without an executor?

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use backlog::Queue;

/// A task that is polled by hand.
pub(crate) struct Task {
    count: Arc<Count>,
    waker: Waker,
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Task {
    pub(crate) fn new() -> Self {
        let count = Arc::new(Count::default());
        Self { waker: Waker::from(count.clone()), count }
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    pub(crate) fn poll<F: Future + Unpin>(&self, future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut self.context())
    }

    /// Tells whether it was woken since this was asked last.
    pub(crate) fn was_woken(&self) -> bool {
        self.count.0.swap(0, Ordering::SeqCst) > 0
    }

    /// Polls a future that is not ready, and does what it waits for: room for loans.
    pub(crate) fn settle_in<F: Future + Unpin>(&self, queue: &Queue, future: &mut F) {
        while self.poll(future).is_pending() {
            self.was_woken();
            queue.run_duties().unwrap();
            if !self.was_woken() {
                return;
            }
        }
        panic!("it is ready");
    }

    /// Polls a future to its end, as it is woken, and runs the queue's duties beside it.
    pub(crate) fn finish<F: Future + Unpin>(&self, queue: &Queue, future: &mut F) -> F::Output {
        loop {
            if let Poll::Ready(output) = self.poll(future) {
                return output;
            }
            queue.run_duties().unwrap();
            assert!(self.was_woken(), "it waits for what nobody does");
        }
    }
}
