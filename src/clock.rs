//! What time is it, and how does a thread wait for a time?
//!
//! Two clocks, never mixed: a monotonic one that decides (timeouts, when a delayed message is due)
//! and a wall clock that only tells. Waiting belongs here too, so that a test which advances a
//! [`ManualClock`] wakes whoever waits, and no test needs to sleep.

use std::fmt::Debug;
#[cfg(any(test, feature = "testing"))]
use std::sync::{Arc, Mutex};
use std::sync::{Condvar, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::offset::Offset;
use crate::wake::{Bell, Wake};

/// The time, from outside.
pub(crate) trait Clock: Debug + Send + Sync {
    /// Returns the time since some fixed moment; never goes back.
    fn now(&self) -> Duration;

    /// Returns milliseconds since 1970. May jump; decides nothing.
    fn wall(&self) -> u64;

    /// Returns how long a thread may block before it must look at [`Clock::now`] again, when it
    /// waits until `until`. `None`: for ever, since [`Clock::on_advance`] wakes it.
    fn patience(&self, until: Duration) -> Option<Duration>;

    /// Asks that `waker` is woken whenever this clock is moved by hand.
    fn on_advance(&self, waker: Weak<dyn Wake>);

    /// Leaves others so much time. By a clock that is moved by hand it is over at once.
    fn pause(&self, time: Duration);
}

/// Blocks on `condvar` until it is notified or `until` may have come (`None`: no deadline).
///
/// Wakes spuriously, as condition variables do: the caller looks again.
pub(crate) fn wait<'a, T>(
    clock: &dyn Clock,
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    until: Option<Duration>,
) -> MutexGuard<'a, T> {
    match until.and_then(|until| clock.patience(until)) {
        None => condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(patience) => {
            let (guard, _) = condvar.wait_timeout(guard, patience).unwrap_or_else(PoisonError::into_inner);
            guard
        }
    }
}

/// Counts the milliseconds of a time; as many as there can be, where it is longer.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The clocks of the system.
#[derive(Debug)]
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // 48 bits of milliseconds last until the year 10889; a clock beyond that tells nothing.
        u64::try_from(since.as_millis()).unwrap_or(0).min(Offset::LIMIT - 1)
    }

    fn patience(&self, until: Duration) -> Option<Duration> {
        Some(until.saturating_sub(self.now()))
    }

    fn on_advance(&self, _waker: Weak<dyn Wake>) {}

    fn pause(&self, time: Duration) {
        Bell::default().wait(0, Some(time));
    }
}

/// A clock that stands still until it is told otherwise. Clones show the same time.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    inner: Arc<Mutex<Manual>>,
}

#[cfg(any(test, feature = "testing"))]
#[derive(Debug, Default)]
struct Manual {
    now: Duration,
    wall: u64,
    wakers: Vec<Weak<dyn Wake>>,
}

#[cfg(any(test, feature = "testing"))]
impl ManualClock {
    /// Makes a clock that shows `wall` milliseconds since 1970.
    #[must_use]
    pub fn new(wall: u64) -> Self {
        let clock = Self::default();
        clock.lock().wall = wall;
        clock
    }

    /// Moves both clocks ahead and wakes everyone who waits for a time.
    pub fn advance(&self, by: Duration) {
        let mut inner = self.lock();
        inner.now += by;
        inner.wall = inner.wall.saturating_add(millis(by));
        self.wake_all(inner);
    }

    /// Sets the wall clock alone, as an administrator or a time server does.
    pub fn set_wall(&self, wall: u64) {
        let mut inner = self.lock();
        inner.wall = wall;
        self.wake_all(inner);
    }

    /// Returns what the wall clock shows, in milliseconds since 1970.
    #[must_use]
    pub fn shows(&self) -> u64 {
        self.lock().wall
    }

    fn lock(&self) -> MutexGuard<'_, Manual> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_all(&self, mut inner: MutexGuard<'_, Manual>) {
        inner.wakers.retain(|waker| waker.strong_count() > 0);
        let wakers = inner.wakers.clone();
        // A waker takes the lock of what it wakes, so ours is released first.
        drop(inner);
        for waker in wakers.iter().filter_map(Weak::upgrade) {
            waker.wake();
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.lock().now
    }

    fn wall(&self) -> u64 {
        self.lock().wall.min(Offset::LIMIT - 1)
    }

    fn patience(&self, _until: Duration) -> Option<Duration> {
        None
    }

    fn on_advance(&self, waker: Weak<dyn Wake>) {
        self.lock().wakers.push(waker);
    }

    fn pause(&self, _time: Duration) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advancing_a_manual_clock_wakes_who_waits_for_a_time() {
        let clock = ManualClock::new(1_000);
        let bell = Arc::new(Bell::default());
        let waker: Arc<dyn Wake> = bell.clone();
        clock.on_advance(Arc::downgrade(&waker));
        let heard = bell.count();

        clock.advance(Duration::from_secs(2));

        assert_ne!(bell.count(), heard);
        assert_eq!(clock.wall(), 3_000);
        assert_eq!(clock.now(), Duration::from_secs(2));
    }

    #[test]
    fn the_wall_clock_can_jump_and_the_other_stays() {
        let clock = ManualClock::new(5_000);

        clock.set_wall(1);

        assert_eq!((clock.wall(), clock.now()), (1, Duration::ZERO));
    }
}
