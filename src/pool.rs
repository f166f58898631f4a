//! How do several threads work on messages, and stop without losing any?

use std::any::Any;
use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::clock;
use crate::consumer::{Consumer, Delivery, Outcome};
use crate::error::{Error, Result};
use crate::group::receive::Ask;
use crate::group::settle::{End, Settle};
use crate::offset::Offset;
use crate::wake::Wake;

/// How many stretches of damage a report names.
const DAMAGES: usize = 1000;

/// Says how a pool is to work; made by [`Consumer::pool`].
#[must_use = "a pool works once it is spawned"]
#[derive(Debug)]
pub struct PoolBuilder {
    consumer: Consumer,
    threads: usize,
    grace: Duration,
    limit: Option<u64>,
    until_idle: bool,
    keep_loans: bool,
    warn: Option<Warn>,
}

/// Threads that work on messages until they are stopped.
///
/// Dropping it stops it as [`Pool::stop`] does.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    grace: Duration,
}

/// What a pool has done.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PoolReport {
    /// Messages acked.
    pub acked: u64,
    /// Messages nacked: those whose handler failed or panicked, or whose outputs could not be pushed.
    pub nacked: u64,
    /// Messages rejected.
    pub rejected: u64,
    /// Messages given back, those of handlers that did not end within the grace time included.
    pub released: u64,
    /// Damage that the pool came to, the first stretches of it: the messages are among the dead
    /// letters.
    pub damaged: Vec<Error>,
    /// Why the pool ended by itself, other than because the queue was closed.
    pub error: Option<Error>,
}

#[derive(Debug)]
struct Shared {
    consumer: Consumer,
    stop: AtomicBool,
    until_idle: bool,
    keep_loans: bool,
    warn: Option<Warn>,
    /// How many messages may still be taken.
    left: Option<AtomicU64>,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// What each thread works on.
    loans: Vec<Option<Working>>,
    report: PoolReport,
}

/// A message that a thread works on.
#[derive(Clone, Copy, Debug)]
struct Working {
    loan: Settle,
    since: Duration,
    /// Somebody was told that it takes long.
    told: bool,
}

/// A message whose handler takes longer than was expected; see [`PoolBuilder::warn_after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowJob {
    /// The message.
    pub offset: Offset,
    /// For how long its handler has been running.
    pub running: Duration,
}

/// Whom to tell of slow jobs.
struct Warn {
    after: Duration,
    tell: Box<dyn Fn(SlowJob) + Send + Sync>,
}

impl fmt::Debug for Warn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warn").field("after", &self.after).finish_non_exhaustive()
    }
}

impl Consumer {
    /// Prepares so many threads that work on this consumer's group.
    pub fn pool(&self, threads: usize) -> PoolBuilder {
        PoolBuilder {
            consumer: self.clone(),
            threads: threads.max(1),
            grace: Duration::from_secs(30),
            limit: None,
            until_idle: false,
            keep_loans: false,
            warn: None,
        }
    }
}

impl PoolBuilder {
    /// Sets how long [`Pool::stop`] waits for handlers before it gives their messages back
    /// (default: 30 s).
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Ends after so many messages.
    pub fn limit(mut self, messages: u64) -> Self {
        self.limit = Some(messages);
        self
    }

    /// Ends as soon as nothing is ready and nothing is on loan. Delayed messages are not waited for.
    pub fn until_idle(mut self) -> Self {
        self.until_idle = true;
        self
    }

    /// Extends loans that have a time limit for as long as their handlers run
    /// ([`Delivery::extend_while`]). Without this a handler that is slower than its loan has its message
    /// run out, and be handed out again.
    pub fn keep_loans(mut self) -> Self {
        self.keep_loans = true;
        self
    }

    /// Calls `tell` once for each message whose handler runs longer than that: to log it, or to raise an
    /// alarm. The handler goes on. `tell` runs on a thread of the pool's own, one call at a time.
    pub fn warn_after(mut self, after: Duration, tell: impl Fn(SlowJob) + Send + Sync + 'static) -> Self {
        self.warn = Some(Warn { after, tell: Box::new(tell) });
        self
    }

    /// Starts the threads. Each calls `handler` with one message at a time: what it returns settles
    /// the message, an error is a nack with its text, and so is a panic.
    ///
    /// # Errors
    /// [`Error::Io`] when the system gives no thread.
    pub fn spawn<F, O, E>(self, handler: F) -> Result<Pool>
    where
        F: Fn(&Delivery) -> std::result::Result<O, E> + Send + Sync + 'static,
        O: Into<Outcome>,
        E: Display,
    {
        self.consumer.member().check_process()?;
        let state = State { loans: vec![None; self.threads], ..State::default() };
        let shared = Arc::new(Shared {
            consumer: self.consumer,
            stop: AtomicBool::new(false),
            until_idle: self.until_idle,
            keep_loans: self.keep_loans,
            warn: self.warn,
            left: self.limit.map(AtomicU64::new),
            state: Mutex::new(state),
            ended: Condvar::new(),
        });
        let mut pool = Pool { shared: shared.clone(), threads: Vec::new(), grace: self.grace };
        let handler = Arc::new(handler);
        for index in 0..self.threads {
            let (shared, handler) = (shared.clone(), handler.clone());
            shared.lock().running += 1;
            let running = Running(shared.clone());
            let thread = thread::Builder::new().name(format!("backlog-pool-{index}"));
            let spawned = thread.spawn(move || {
                let running = running;
                running.0.work(index, &*handler);
            });
            let thread = spawned
                .map_err(|error| Error::io("start a thread for", shared.consumer.member().root(), error))?;
            pool.threads.push(thread);
        }
        if shared.warn.is_some() {
            let weak: Weak<dyn Wake> = Arc::downgrade(&shared) as _;
            shared.consumer.member().clock().on_advance(weak);
            let watched = shared.clone();
            let thread = thread::Builder::new().name("backlog-pool-watch".into());
            let thread = thread
                .spawn(move || watched.watch())
                .map_err(|error| Error::io("start a thread for", shared.consumer.member().root(), error))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }
}

/// Counts a thread out, however it ends.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.ended.notify_all();
    }
}

impl Pool {
    /// Takes no more messages, waits for the handlers that run, and gives back the messages of those
    /// that do not end within the grace time.
    ///
    /// # Errors
    /// What ended the pool before, if anything did.
    pub fn stop(mut self) -> Result<PoolReport> {
        self.shared.check_process()?;
        self.end();
        self.report()
    }

    /// Waits until the pool ends by itself: at its limit, idle, or when the queue is closed.
    ///
    /// # Errors
    /// What ended it, other than the queue being closed.
    pub fn join(self) -> Result<PoolReport> {
        self.shared.check_process()?;
        let mut state = self.shared.lock();
        while state.running > 0 {
            state = self.shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        self.report()
    }

    /// Returns a handle that stops the pool from elsewhere, such as a signal handler's thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.shared.clone())
    }

    /// Waits for the pool as [`Pool::join`] does, and stops it when [`Stopper::stop`] was called.
    ///
    /// # Errors
    /// As [`Pool::join`].
    pub fn join_or_stop(mut self) -> Result<PoolReport> {
        self.shared.check_process()?;
        let mut state = self.shared.lock();
        while state.running > 0 && !self.shared.stop.load(Ordering::Acquire) {
            state = self.shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        self.end();
        self.report()
    }

    fn report(&self) -> Result<PoolReport> {
        let report = self.shared.lock().report.clone();
        report.error.clone().map_or(Ok(report), Err)
    }

    fn end(&mut self) {
        self.shared.ask_to_stop();
        let until = Instant::now().checked_add(self.grace);
        let mut state = self.shared.lock();
        while state.running > 0 {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break;
            }
            let (back, _) = self
                .shared
                .ended
                .wait_timeout(state, left.unwrap_or(Duration::MAX))
                .unwrap_or_else(PoisonError::into_inner);
            state = back;
        }
        let late: Vec<Settle> = state.loans.iter_mut().filter_map(Option::take).map(|one| one.loan).collect();
        state.report.released += late.len() as u64;
        drop(state);
        for loan in late {
            // The handler may have settled it just now; then there is nothing to give back.
            let _ = self.shared.consumer.member().end(loan, End::Release, true);
        }
        for thread in self.threads.drain(..) {
            if thread.is_finished() {
                // A panic of a handler was caught; there is no other.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.shared.check_process().is_err() {
            // A fork: they are the parent's, and nobody here may even let go of them.
            std::mem::forget(std::mem::take(&mut self.threads));
        } else if !self.threads.is_empty() {
            self.end();
        }
    }
}

impl Wake for Shared {
    fn wake(&self) {
        // Under the lock, so that nobody is between looking and waiting.
        let state = self.lock();
        self.ended.notify_all();
        drop(state);
    }
}

/// Stops a pool from elsewhere.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// Asks the pool to take no more messages. Returns at once.
    pub fn stop(&self) {
        self.0.ask_to_stop();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses in a fork, where the threads are not, and a lock may be held for ever.
    fn check_process(&self) -> Result<()> {
        self.consumer.member().check_process()
    }

    fn ask_to_stop(&self) {
        if self.check_process().is_err() {
            return;
        }
        self.stop.store(true, Ordering::Release);
        drop(self.lock());
        self.ended.notify_all();
        self.consumer.member().wake();
    }

    fn work<O: Into<Outcome>, E: Display>(
        &self,
        index: usize,
        handler: &dyn Fn(&Delivery) -> std::result::Result<O, E>,
    ) {
        let ask = Ask {
            holder: None,
            most: 1,
            lease: None,
            until: None,
            drain: true,
            idle_ends: self.until_idle,
            stop: &self.stop,
        };
        while !self.stop.load(Ordering::Acquire) && self.may_take() {
            match self.consumer.receive(&ask) {
                Ok(mut deliveries) => match deliveries.pop() {
                    Some(delivery) => self.handle(index, delivery, handler),
                    None => return,
                },
                // The messages are among the dead letters: go on.
                Err(damage @ Error::Damaged { .. }) => {
                    let mut state = self.lock();
                    if state.report.damaged.len() < DAMAGES {
                        state.report.damaged.push(damage);
                    }
                    drop(state);
                    self.give_back_turn();
                }
                Err(Error::Closed) => return,
                Err(error) => {
                    self.lock().report.error.get_or_insert(error);
                    return;
                }
            }
        }
    }

    /// Tells of handlers that run for long, until all threads have ended.
    fn watch(&self) {
        let Some(warn) = &self.warn else { return };
        let clock = self.consumer.member().clock();
        let mut state = self.lock();
        while state.running > 0 {
            let now = clock.now();
            let running = |one: &Working| now.saturating_sub(one.since);
            let slow = state.loans.iter_mut().flatten().find(|one| !one.told && running(one) >= warn.after);
            if let Some(one) = slow {
                one.told = true;
                let job = SlowJob { offset: Offset::known(one.loan.offset), running: running(one) };
                drop(state);
                (warn.tell)(job);
                state = self.lock();
                continue;
            }
            let untold = state.loans.iter().flatten().filter(|one| !one.told);
            let next = untold.map(|one| one.since.saturating_add(warn.after)).min();
            state = clock::wait(&**clock, &self.ended, state, next);
        }
    }

    /// Takes one of the messages that are left to the limit.
    fn may_take(&self) -> bool {
        let Some(left) = &self.left else { return true };
        left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
    }

    fn give_back_turn(&self) {
        if let Some(left) = &self.left {
            left.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn handle<O: Into<Outcome>, E: Display>(
        &self,
        index: usize,
        delivery: Delivery,
        handler: &dyn Fn(&Delivery) -> std::result::Result<O, E>,
    ) {
        let since = self.consumer.member().clock().now();
        self.lock().loans[index] = Some(Working { loan: delivery.loan(), since, told: false });
        if self.warn.is_some() {
            self.ended.notify_all();
        }
        let work = || match handler(&delivery) {
            Ok(outcome) => Ok(outcome.into()),
            Err(error) => Err(error.to_string()),
        };
        let called = catch_unwind(AssertUnwindSafe(|| {
            if self.keep_loans { delivery.extend_while(work) } else { work() }
        }));
        let outcome = called.unwrap_or_else(|panic| Err(format!("the handler panicked: {}", text(&*panic))));
        let mut state = self.lock();
        if state.loans[index].take().is_none() {
            // The grace time was over, and the loan was given back: this outcome came too late.
            drop(state);
            delivery.forget();
            return;
        }
        let report = &mut state.report;
        let counter = match &outcome {
            Ok(Outcome::Ack | Outcome::AckWith(_)) => &mut report.acked,
            Ok(Outcome::Reject(_)) => &mut report.rejected,
            Ok(Outcome::Release) => &mut report.released,
            Ok(Outcome::Nack(_) | Outcome::NackAfter(..)) | Err(_) => &mut report.nacked,
        };
        *counter += 1;
        drop(state);
        let with_outputs = matches!(outcome, Ok(Outcome::AckWith(_)));
        let settled = delivery.settle(&outcome.unwrap_or_else(Outcome::Nack));
        match settled {
            Ok(()) | Err(Error::Closed | Error::LeaseLost { .. }) => {}
            // Nothing was stored: the delivery ended in a nack.
            Err(error) if with_outputs && error.stored_nothing() => {
                let report = &mut self.lock().report;
                report.acked -= 1;
                report.nacked += 1;
            }
            Err(error) => {
                self.lock().report.error.get_or_insert(error);
            }
        }
    }
}

/// Returns what a panic said.
fn text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}
