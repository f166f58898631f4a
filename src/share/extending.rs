//! How does a loan last as long as the work on it?

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::member::Member;
use crate::group::settle::Settle;
use crate::wake::{Bell, Wake};

impl Member {
    /// Extends a loan again and again while `work` goes on; ends when the loan is over.
    pub(crate) fn extend_while<R>(&self, loan: Settle, lease: u32, work: impl FnOnce() -> R) -> R {
        let bell = Arc::new(Bell::default());
        let waker: Weak<dyn Wake> = Arc::downgrade(&bell) as _;
        let clock = self.clock();
        clock.on_advance(waker);
        let over = AtomicBool::new(false);
        // Often enough that one late wake-up costs nothing.
        let every = Duration::from_millis(lease.into()) / 3;
        // From here on, however late the thread begins.
        let mut next = clock.now().saturating_add(every);
        let extend = || {
            let mut heard = 0;
            while !over.load(Ordering::Acquire) {
                let now = clock.now();
                if now < next {
                    heard = bell.wait(heard, clock.patience(next));
                    continue;
                }
                if self.extend(loan, lease).is_err() {
                    return;
                }
                // From before it on: the loan was extended then, however long its sync took.
                next = now.saturating_add(every);
            }
        };
        let done = || {
            over.store(true, Ordering::Release);
            bell.wake();
        };
        thread::scope(|scope| {
            // Without a thread the loan lasts as long as it was made for.
            let _ = thread::Builder::new().name("backlog-extend".into()).spawn_scoped(scope, extend);
            // Also when the work panics.
            let _over = Finally(done);
            work()
        })
    }
}

/// Does something on every way out.
struct Finally<F: Fn()>(F);

impl<F: Fn()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
