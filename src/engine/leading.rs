//! Who leads for those who do not wait, or may not block?
//!
//! The committer, a thread of its own for each queue that has deferred pushes. It does nothing else. Whoever serves many
//! at a time may lead himself for what he handed over, where that takes no longer than to wake another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::{Engine, lock};
use crate::wake::{Bell, Wake};

/// A deferred push that nobody waits for is written after so long.
const UNWAITED: Duration = Duration::from_millis(10);

/// A thread that leads for deferred pushes.
#[derive(Debug)]
pub(crate) struct Committer {
    urgent: Arc<Bell>,
    stop: Arc<AtomicBool>,
}

impl Engine {
    /// Sees to it that the deferred pushes that wait now are written. Whoever leads just then has not
    /// taken them along, and wakes nobody for them but one who waits: so this waits its turn.
    pub(crate) fn lead_for_deferred(&self) {
        let guard = self.commit.lock();
        let group = guard.group();
        drop(self.commit.until(guard, group, &*self.clock, None, |guard| {
            (guard.jobs.is_empty() || guard.group() > group).then_some(())
        }));
    }

    /// Leads for what was handed over and is not written, unless somebody does; tells whether there is nothing left of it.
    pub(crate) fn lead_now(&self) -> bool {
        let guard = self.commit.lock();
        if guard.jobs.is_empty() {
            return true;
        }
        let idle = guard.is_idle();
        if idle {
            drop(self.commit.lead(guard));
        }
        idle
    }

    /// Tells whether it is better to wait a little before [`Engine::lead_now`]: others are about to push.
    pub(crate) fn is_patient(&self) -> bool {
        self.commit.lock().is_patient()
    }

    /// Has the committer lead at once for what was handed over.
    pub(crate) fn have_led(self: &Arc<Self>) {
        self.start_committer();
        if !self.hurry() {
            // There are no threads to be had: late is better than never.
            self.lead_for_deferred();
        }
    }

    /// Wakes the committer at once: somebody polls, or has a deadline. Tells whether there is one.
    pub(super) fn hurry(&self) -> bool {
        let urgent = lock(&self.committer).as_ref().map(|committer| committer.urgent.clone());
        if let Some(urgent) = &urgent {
            urgent.wake();
        }
        self.deferred.wake();
        urgent.is_some()
    }

    /// Starts the committer, if threads are allowed and there is none.
    pub(super) fn start_committer(self: &Arc<Self>) {
        if !self.settings.threads {
            return;
        }
        let mut committer = lock(&self.committer);
        if committer.is_some() || self.check_open().is_err() {
            return;
        }
        let urgent = Arc::new(Bell::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (weak, deferred) = (Arc::downgrade(self), self.deferred.clone());
        let (bell, end) = (urgent.clone(), stop.clone());
        let started = thread::Builder::new()
            .name("backlog-commit".into())
            .spawn(move || commit_deferred(&weak, &deferred, &bell, &end));
        // Without a thread, whoever waits for a ticket leads; the next deferred push tries again.
        if started.is_ok() {
            *committer = Some(Committer { urgent, stop });
        }
    }

    /// Ends the committer.
    pub(super) fn stop_committer(&self) {
        if let Some(committer) = lock(&self.committer).take() {
            committer.stop.store(true, Ordering::Release);
            committer.urgent.wake();
        }
        self.deferred.wake();
    }
}

fn commit_deferred(engine: &Weak<Engine>, deferred: &Bell, urgent: &Bell, stop: &AtomicBool) {
    let (mut heard, mut hurried) = (0, 0);
    while !stop.load(Ordering::Acquire) {
        heard = deferred.wait(heard, None);
        // While it waits here, further deferred pushes wake nobody.
        hurried = urgent.wait(hurried, Some(UNWAITED));
        match engine.upgrade() {
            Some(engine) => engine.lead_for_deferred(),
            None => return,
        }
    }
}
