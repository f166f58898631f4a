//! Who does what may block, for guests?

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::{Error, Result};

/// So many threads work on requests that may block; the others wait.
const MOST_THREADS: usize = 16;

/// Does work, and says so if it panics: whoever waits for its answer gets one, and does not ask again and again.
pub(super) fn tried<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    let panicked =
        || Error::Invalid { what: "the process that has the queue open panicked over this".into() };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(panicked()))
}

/// Work that may block: it has threads for as long as there is some.
pub(super) struct SlowWork {
    state: Mutex<State>,
    /// Without threads it is done by whoever has it.
    threads: bool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Box<dyn FnOnce() + Send>>,
    threads: usize,
}

impl std::fmt::Debug for SlowWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlowWork").finish_non_exhaustive()
    }
}

impl SlowWork {
    pub(super) fn new(threads: bool) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), threads })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a thread do it, now or when one of them is free.
    pub(super) fn work(self: Arc<Self>, work: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        state.waiting.push_back(Box::new(work));
        if state.threads == MOST_THREADS {
            return;
        }
        state.threads += 1;
        drop(state);
        if !self.threads {
            self.go_on();
            return;
        }
        let shared = self.clone();
        let thread = thread::Builder::new().name("backlog-request".into());
        if thread.spawn(move || shared.go_on()).is_err() {
            // Without a thread it is done here: slow is better than never.
            self.go_on();
        }
    }

    fn go_on(&self) {
        loop {
            let work = {
                let mut state = self.lock();
                match state.waiting.pop_front() {
                    Some(work) => work,
                    None => {
                        state.threads -= 1;
                        return;
                    }
                }
            };
            work();
        }
    }
}
