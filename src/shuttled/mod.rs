//! Does anybody wait for ever, or hear what is not so, in whatever order threads run?
//!
//! Group commit, the slot that a ticket waits at, and the bell, mounted a second time over shuttle's
//! locks instead of the system's: its schedulers choose who runs at each of them, thousands of times,
//! and see at once when nobody can. Here stands what the modules name beside them.

#[expect(clippy::duplicate_mod, reason = "the same code over other locks is the point")]
#[path = "../wake.rs"]
mod wake;

#[expect(dead_code, reason = "some of it is for tests that open a queue, and for groups")]
#[expect(clippy::duplicate_mod, reason = "the same code over other locks is the point")]
#[path = "../commit.rs"]
mod commit;

#[expect(dead_code, reason = "answers without a leader are for pushes that have a key")]
#[expect(clippy::duplicate_mod, reason = "the same code over other locks is the point")]
#[path = "../log/writer/slot.rs"]
mod slot;

mod checks;
mod share;
mod wakers;
mod worker;

use crate::plant;

/// As `crate::sync`.
mod sync {
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, PoisonError};
    pub(crate) use shuttle::thread::yield_now;

    /// One that lets others run before it looks or is set.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T>(std::sync::OnceLock<T>);

    impl<T> Default for OnceLock<T> {
        fn default() -> Self {
            Self(std::sync::OnceLock::new())
        }
    }

    impl<T> OnceLock<T> {
        pub(crate) fn get(&self) -> Option<&T> {
            yield_now();
            self.0.get()
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            yield_now();
            self.0.set(value)
        }
    }
}

/// As `crate::clock`, for a clock that somebody moves: nobody waits for a time, but to be woken.
mod clock {
    use std::time::Duration;

    use super::sync::{Condvar, MutexGuard, PoisonError};
    pub(crate) use crate::clock::Clock;

    pub(crate) fn wait<'a, T>(
        clock: &dyn Clock,
        condvar: &Condvar,
        guard: MutexGuard<'a, T>,
        until: Option<Duration>,
    ) -> MutexGuard<'a, T> {
        assert!(until.and_then(|until| clock.patience(until)).is_none(), "shuttle's waits have no end");
        condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }
}
