//! How does a receiver wait when nothing is ready: as a thread that sleeps, or as a task that is woken?
//!
//! Both look under the group's lock, and say under it that they wait; whatever changes does so under it
//! too, and wakes all who said so. What comes in the log comes past the lock: there a receiver first says
//! that it waits ([`Log::sleep`](crate::log::Log::sleep)), then looks once more.
//!
//! A task waits for no disk. A loan is recorded in the same poll that hands it out. Only where somebody
//! syncs the group's file just then it is kept until its entry is written, and given back uncounted if
//! the task is dropped before. What takes a sync, room and numbers for loans, the helper makes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use super::helper::Room;
use super::live::{Live, Locked};
use super::receive::{Ask, Halt, Lending, Loan};
use super::settle::End;
use crate::commit::{For, Left};
use crate::error::Result;
use crate::format::entry::SLOT_BYTES;

/// How much a task reads or passes over before it lets others have their turn: rows, or reads of 256 KiB.
const ROUNDS: u32 = 32;
/// Room for what lending appends beside the loans.
pub(super) const LENDING: u64 = 2 * SLOT_BYTES;

/// A receive that is polled: what it left with the group, to be taken back.
#[derive(Debug, Default)]
pub(crate) struct Receiving {
    /// Of that group; none before the first poll.
    live: Option<Arc<Live>>,
    left: Option<Left>,
    /// It counts among those who sleep; and among those who watch whether all loans are over.
    asleep: Option<bool>,
    /// It was asked for room.
    room: Option<Room>,
    /// What it was lent, and where the entries end that say so.
    lent: Option<(Vec<Loan>, u64)>,
}

impl Live {
    /// Lends messages; none when the time was over (or the group idle, if asked for).
    ///
    /// # Errors
    /// When the group was stopped, the disk refuses, or there is no room to record a loan.
    pub(crate) fn receive(&self, ask: &Ask<'_>) -> Result<Vec<Loan>> {
        let mut lending = Lending::default();
        let guard = match self.lend_or_sleep(ask, &mut lending) {
            Ok(guard) => guard,
            Err(error) if lending.loans.is_empty() => return Err(error),
            // What is on loan already is handed out; whoever asks next meets the error.
            Err(_) => self.commit.lock(),
        };
        self.settle_down(guard, false)?;
        Ok(lending.loans)
    }

    fn lend_or_sleep<'a>(&'a self, ask: &Ask<'_>, lending: &mut Lending) -> Result<Locked<'a>> {
        let mut guard = self.enter()?;
        loop {
            let (back, halt) = self.lend(guard, ask, lending, u32::MAX)?;
            guard = match halt {
                Halt::Over => return Ok(back),
                Halt::Long => back,
                Halt::Room { loans } => self.with_numbers(back, LENDING, loans, ask.holder)?,
                Halt::Nothing { seen, until } => self.sleep(back, seen, until, ask),
            };
        }
    }

    /// Sleeps until something may have changed.
    fn sleep<'a>(
        &'a self,
        mut guard: Locked<'a>,
        seen: u64,
        until: Option<Duration>,
        ask: &Ask<'_>,
    ) -> Locked<'a> {
        if self.lie_down(&mut guard, seen, ask) {
            guard = self.commit.wait_changed(guard, &*self.clock, until);
        }
        self.rise(&mut guard, ask.idle_ends);
        guard
    }

    /// Counts among those who sleep, and tells whether there is still nothing to see.
    fn lie_down(&self, guard: &mut Locked<'_>, seen: u64, ask: &Ask<'_>) -> bool {
        guard.sleepers += 1;
        guard.watchers += u32::from(ask.idle_ends);
        self.log.sleep();
        // Whoever stops the group, or this receiver, says so before it wakes us.
        let stopped = guard.stopped.is_some() || ask.stop.load(Ordering::Acquire);
        !stopped && self.log.next() == seen && self.log.failure().is_none()
    }

    fn rise(&self, guard: &mut Locked<'_>, watches: bool) {
        self.log.awake();
        guard.sleepers -= 1;
        guard.watchers -= u32::from(watches);
    }

    /// Lends messages as [`Live::receive`] does, and waits for no sync: where it would wait, the task's
    /// waker is left. It waits for reads of the log, its own and another receiver's, and for the lock.
    ///
    /// A `receiving` is polled with one group and one `ask` until it is ready, and may be polled anew then.
    ///
    /// # Errors
    /// As [`Live::receive`].
    pub(crate) fn poll_receive(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        receiving: &mut Receiving,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<Loan>>> {
        let mut guard = match self.enter() {
            Ok(guard) => guard,
            Err(error) => return Poll::Ready(Err(error)),
        };
        receiving.live.get_or_insert_with(|| self.clone());
        self.take_back(&mut guard, receiving);
        loop {
            if receiving.lent.is_some() {
                return self.poll_recorded(guard, receiving, cx);
            }
            let mut lending = Lending::default();
            let (back, halt) = match self.lend(guard, ask, &mut lending, ROUNDS) {
                Ok(lent) => lent,
                Err(error) if lending.loans.is_empty() => return Poll::Ready(Err(error)),
                Err(_) => (self.commit.lock(), Halt::Over),
            };
            guard = back;
            if !matches!(halt, Halt::Room { .. }) {
                // What it was told of room is of no more use.
                receiving.room = None;
            }
            if !lending.loans.is_empty() {
                receiving.lent = Some((lending.loans, guard.appended));
                continue;
            }
            match halt {
                Halt::Over => return Poll::Ready(Ok(Vec::new())),
                Halt::Long => {
                    drop(guard);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Halt::Room { loans } => return self.poll_room(guard, loans, ask, receiving, cx),
                Halt::Nothing { seen, until } => {
                    // Counted from before the look at the log, as a thread that sleeps.
                    if self.lie_down(&mut guard, seen, ask) {
                        receiving.asleep = Some(ask.idle_ends);
                        receiving.left = Some(guard.leave(For::Change, cx.waker()));
                        drop(guard);
                        self.helper.alarm(self, until);
                        return Poll::Pending;
                    }
                    self.rise(&mut guard, ask.idle_ends);
                }
            }
        }
    }

    /// Has room made for loans.
    fn poll_room(
        self: &Arc<Self>,
        mut guard: Locked<'_>,
        loans: u64,
        ask: &Ask<'_>,
        receiving: &mut Receiving,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<Loan>>> {
        if let Some(answer) = receiving.room.as_ref().and_then(|room| room.get().cloned()) {
            // Made, and gone again: it is asked for anew.
            receiving.room = None;
            if let Err(error) = answer {
                return Poll::Ready(Err(error));
            }
            if ask.until.is_some_and(|until| self.clock.now() >= until) {
                return Poll::Ready(Ok(Vec::new()));
            }
        }
        // Who makes room answers first, and wakes under the lock then: after the look above, or at this. The
        // time that was given does not end this wait, for a task as for a thread: what is ready is lent to
        // those too who do not wait for more.
        receiving.left = Some(guard.leave(For::Change, cx.waker()));
        drop(guard);
        if receiving.room.is_none() {
            receiving.room = Some(self.helper.make_room(self, loans));
        }
        Poll::Pending
    }

    /// Hands out what was lent, once that is recorded.
    fn poll_recorded(
        self: &Arc<Self>,
        guard: Locked<'_>,
        receiving: &mut Receiving,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<Loan>>> {
        let Some((_, upto)) = receiving.lent else { return Poll::Ready(Ok(Vec::new())) };
        if let Err(error) = guard.check() {
            // Whoever stopped the group gave all loans back, or nobody can any more.
            receiving.lent = None;
            return Poll::Ready(Err(error));
        }
        let mut guard = self.write_here(guard, upto);
        match guard.reached(upto, false) {
            Some(answer) => {
                drop(guard);
                self.log.room.ring();
                let loans = receiving.lent.take().map(|(loans, _)| loans).unwrap_or_default();
                Poll::Ready(answer.map(|()| loans))
            }
            None => {
                // Under the lock under which entries are said to be written.
                receiving.left = Some(guard.leave(For::End, cx.waker()));
                drop(guard);
                self.helper.settle(self, true);
                Poll::Pending
            }
        }
    }

    /// Takes back what a receive left with the group: it looks for itself.
    fn take_back(&self, guard: &mut Locked<'_>, receiving: &mut Receiving) {
        if let Some(left) = receiving.left.take() {
            guard.take_back(left);
        }
        if let Some(watches) = receiving.asleep.take() {
            self.rise(guard, watches);
        }
    }

    /// Makes room and numbers for so many loans, for somebody who may not block.
    pub(super) fn make_room(&self, loans: u64) -> Result<()> {
        self.with_numbers(self.enter()?, LENDING, loans, None).map(drop)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let Some(live) = self.live.take() else { return };
        // In a fork there is nothing to take back.
        let Ok(mut guard) = live.enter() else { return };
        live.take_back(&mut guard, self);
        drop(guard);
        for loan in self.lent.take().into_iter().flat_map(|(loans, _)| loans) {
            // Over already, or the group is stopped: then the next opening returns it.
            drop(live.end_begin(loan.settle(), End::Release));
        }
    }
}
