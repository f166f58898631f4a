//! Where does the answer to a guest's call appear?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use super::guest::Guest;
use crate::engine::request::{Reply, Which};
use crate::error::Result;
use crate::group::receive::NEVER;

/// Where the answer to one call appears.
pub(super) type Slot = super::slot::Slot<Reply>;

/// A call that was made. Dropped before its answer was taken, nobody waits for that any more.
#[derive(Debug)]
pub(crate) struct Calling {
    guest: Arc<Guest>,
    id: u64,
    slot: Arc<Slot>,
    /// Of a receive, the group.
    receives: Option<Which>,
    /// It was polled, so the thread is to read.
    polled: AtomicBool,
}

impl Calling {
    pub(super) fn new(guest: Arc<Guest>, id: u64, slot: Arc<Slot>, receives: Option<Which>) -> Self {
        Self { guest, id, slot, receives, polled: AtomicBool::new(false) }
    }

    /// Blocks until the answer is there; `None` when `until` has come first.
    pub(crate) fn wait(&self, until: Option<Duration>) -> Option<Result<Reply>> {
        self.wait_unless(until, &NEVER)
    }

    /// Does the same; `None` too once `stop` is set, and whoever sets it wakes the guest.
    pub(crate) fn wait_unless(&self, until: Option<Duration>, stop: &AtomicBool) -> Option<Result<Reply>> {
        if let Err(error) = self.guest.check_process() {
            return Some(Err(error));
        }
        let stopped = || stop.load(Ordering::Acquire);
        loop {
            if let Some(answer) = self.slot.take() {
                return Some(Ok(answer));
            }
            if stopped() || until.is_some_and(|until| self.guest.clock.now() >= until) {
                return None;
            }
            self.guest.read_or_wait(self.id, &self.slot, until, stopped);
        }
    }

    /// Looks for the answer, and leaves a waker.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Reply>> {
        if let Err(error) = self.guest.check_process() {
            return Poll::Ready(Err(error));
        }
        if let Some(answer) = self.slot.take_or_leave(context.waker()) {
            return Poll::Ready(Ok(answer));
        }
        if !self.polled.swap(true, Ordering::Relaxed) {
            self.guest.desk.need();
        }
        Poll::Pending
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        // In a fork no lock is taken: the parent may have had it.
        if self.guest.check_process().is_err() {
            return;
        }
        if *self.polled.get_mut() {
            self.guest.desk.no_need();
        }
        if self.slot.is_taken() {
            return;
        }
        match self.slot.abandon() {
            None => self.guest.cancel(self.id),
            Some(Reply::Lent(lent)) => {
                for (group, lent) in self.receives.iter().cycle().zip(lent) {
                    self.guest.give_back(group.clone(), (lent.message.offset(), lent.delivery));
                }
            }
            Some(_) => {}
        }
    }
}
