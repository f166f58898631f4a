//! When is what was appended written, and when is it synced?
//!
//! Settling has two halves: the entry is appended and applied, and then it is waited for until it lasts.
//! A thread that waits leads, or follows whoever does; a task leaves a waker, and the helper leads. What
//! nobody waits for the helper writes and syncs all the same, within some 10 ms.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use super::live::{Live, Locked, Shared};
use crate::commit::{For, Left};
use crate::error::Result;

/// Entries that were appended and applied, and may not last yet. Dropping it takes nothing back.
#[derive(Debug)]
#[must_use = "it tells whether what was appended lasts: wait for it, or poll it"]
pub(crate) struct Written {
    live: Arc<Live>,
    /// Bytes of entries over all halves.
    upto: u64,
    sync: bool,
    /// The group of writing that they were appended in.
    group: u64,
    left: Option<Left>,
}

impl Shared {
    /// Tells whether what was appended up to there is handed to the kernel, or with `sync` on stable storage;
    /// `None` while it is neither that nor lost.
    pub(super) fn reached(&self, upto: u64, sync: bool) -> Option<Result<()>> {
        let reached = if sync { self.synced } else { self.written };
        if reached >= upto { Some(Ok(())) } else { self.broken.clone().map(Err) }
    }

    /// Tells whether whoever leads now writes entries, and does nothing that takes a sync.
    fn only_writes(&self) -> bool {
        !self.sync_wanted && self.switch_wanted.is_none() && !self.shrink.wanted
    }
}

impl Live {
    /// Returns when what was appended is handed to the kernel, or with `sync` on stable storage.
    pub(super) fn settle_down(&self, guard: Locked<'_>, sync: bool) -> Result<()> {
        let (upto, group) = (guard.appended, guard.group());
        self.reach(guard, group, (upto, sync), None).unwrap_or(Ok(()))
    }

    /// Leads or follows until that much is reached, from a group of writing on; `None` when `until` has come
    /// first.
    fn reach(
        &self,
        mut guard: Locked<'_>,
        group: u64,
        (upto, sync): (u64, bool),
        until: Option<Duration>,
    ) -> Option<Result<()>> {
        let mut answer = guard.reached(upto, sync);
        if answer.is_some() {
            drop(guard);
        } else {
            guard.sync_wanted |= sync;
            answer = self
                .commit
                .until(guard, group, &*self.clock, until, |shared| {
                    let answer = shared.reached(upto, sync);
                    // A switch in between took the wish to sync with it, or made it needless.
                    shared.sync_wanted |= sync && answer.is_none();
                    answer
                })
                .1;
        }
        self.log.room.ring();
        answer
    }

    /// Says that what was appended up to here is to last, whoever sees to it.
    pub(super) fn begun(self: &Arc<Self>, mut guard: Locked<'_>, sync: bool) -> Written {
        let (upto, group) = (guard.appended, guard.group());
        let open = guard.reached(upto, sync).is_none();
        if open && sync {
            guard.promised = upto;
        }
        drop(guard);
        self.log.room.ring();
        // The helper takes the flag down under the lock, and looks then: where it is up, it will see this.
        if open && !self.handed.swap(true, Ordering::AcqRel) {
            self.helper.settle(self, false);
        }
        Written { live: self.clone(), upto, sync, group, left: None }
    }

    /// Writes what waits, if nobody leads and nothing else is to be done that takes a sync.
    pub(super) fn write_here<'a>(&'a self, guard: Locked<'a>, upto: u64) -> Locked<'a> {
        if guard.written < upto && guard.is_idle() && guard.only_writes() {
            // Whoever leads gathers under this very lock: no wish to sync comes between.
            self.commit.lead(guard)
        } else {
            guard
        }
    }

    /// Writes what was appended, and syncs what somebody was promised.
    pub(super) fn settle_for_others(&self) {
        let Ok(guard) = self.enter() else { return };
        self.handed.store(false, Ordering::Release);
        let (written, promised, group) = (guard.appended, guard.promised, guard.group());
        // Who waits, or looks, meets the error.
        let _ = if guard.reached(promised, true).is_none() {
            self.reach(guard, group, (written, true), None)
        } else {
            self.reach(guard, group, (written, false), None)
        };
    }
}

impl Written {
    /// Blocks until it lasts, as leader or follower; `None` when `until` has come first. With a deadline it
    /// leaves a sync to the helper, where there is one with a thread.
    pub(crate) fn wait(&self, until: Option<Duration>) -> Option<Result<()>> {
        let live = &self.live;
        let guard = match live.enter() {
            Ok(guard) => guard,
            Err(error) => return Some(Err(error)),
        };
        if let Some(until) = until
            && guard.reached(self.upto, self.sync).is_none()
        {
            drop(guard);
            let leads = live.helper.settle(live, true);
            let guard = live.commit.lock();
            if leads {
                let reached = |shared: &mut Shared| shared.reached(self.upto, self.sync);
                return live.commit.follow(guard, &*live.clock, until, reached);
            }
            return live.reach(guard, self.group, (self.upto, self.sync), Some(until));
        }
        live.reach(guard, self.group, (self.upto, self.sync), until)
    }

    /// Tells whether it lasts, or leaves the task's waker. Never leads a sync.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let live = &self.live;
        let mut guard = match live.enter() {
            Ok(guard) => guard,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if let Some(left) = self.left.take() {
            guard.take_back(left);
        }
        if !self.sync {
            guard = live.write_here(guard, self.upto);
        }
        if let Some(answer) = guard.reached(self.upto, self.sync) {
            return Poll::Ready(answer);
        }
        // Under the lock under which entries are said to be written.
        self.left = Some(guard.leave(For::End, cx.waker()));
        drop(guard);
        live.helper.settle(live, true);
        Poll::Pending
    }

    /// Returns how long the caller's waits may last: the moment when `wait` from now is over.
    pub(crate) fn deadline(&self, wait: Duration) -> Option<Duration> {
        self.live.clock.now().checked_add(wait)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // In a fork there is nothing to take back.
        if let Some(left) = self.left.take()
            && let Ok(mut guard) = self.live.enter()
        {
            guard.take_back(left);
        }
    }
}
