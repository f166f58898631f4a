//! What becomes of a call that never returns? It ends the run, and says where it was.
//!
//! A hang would otherwise hold the whole suite up in silence: no test fails, and nobody learns the
//! state. The one thread here watches over every state under test; when one lasts beyond any reason,
//! it prints its name, to be run again, and aborts the process.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One state takes milliseconds. So long it takes on no machine, with no sanitizer.
const LIMIT: Duration = Duration::from_secs(60);

struct Watch {
    /// By number: when it must be over, and what it is.
    states: BTreeMap<u64, (Instant, String)>,
    last: u64,
    /// When the watching thread looks again; `None` before it was started.
    looks: Option<Instant>,
}

static WATCH: Mutex<Watch> = Mutex::new(Watch { states: BTreeMap::new(), last: 0, looks: None });
static SOONER: Condvar = Condvar::new();

fn lock() -> MutexGuard<'static, Watch> {
    WATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that is watched over until this is dropped.
#[must_use = "the state is watched over for as long as this lives"]
pub(crate) struct Watched(u64);

/// Watches over a state, whose name says how it is run again.
pub(crate) fn over(state: impl Into<String>) -> Watched {
    within(LIMIT, state)
}

/// Watches over something that may take longer, or must take less.
pub(crate) fn within(limit: Duration, what: impl Into<String>) -> Watched {
    let until = Instant::now() + limit;
    let mut watch = lock();
    watch.last += 1;
    let number = watch.last;
    watch.states.insert(number, (until, what.into()));
    match watch.looks {
        None => {
            watch.looks = Some(until);
            std::thread::spawn(keep_watch);
        }
        Some(looks) if until < looks => SOONER.notify_all(),
        Some(_) => {}
    }
    Watched(number)
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock().states.remove(&self.0);
    }
}

fn keep_watch() {
    let mut watch = lock();
    loop {
        let now = Instant::now();
        let late: Vec<&str> =
            watch.states.values().filter(|(until, _)| *until <= now).map(|(_, what)| &what[..]).collect();
        if !late.is_empty() {
            // Past the capture of test output, which dies with the process.
            let _ = writeln!(std::io::stderr(), "\nwatch: does not return: {}", late.join(", "));
            std::process::abort();
        }
        let looks = watch.states.values().map(|(until, _)| *until).min().unwrap_or(now + LIMIT);
        watch.looks = Some(looks);
        watch = SOONER.wait_timeout(watch, looks - now).unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;

    use super::*;

    const CHILD: &str = "BACKLOG_WATCHED";

    /// Hangs on purpose, if it is run as the child.
    #[test]
    fn child() {
        if std::env::var(CHILD).is_err() {
            return;
        }
        let _longer = over("is in no hurry");
        let over_soon = within(Duration::from_secs(3600), "was over in time");
        drop(over_soon);
        let _watched = within(Duration::from_millis(100), "BACKLOG_STATE=hangs:1:2");
        let (_sender, never) = mpsc::channel::<()>();
        // Were nobody watching, this fails in the end, and not as the parent wants it.
        let _ = never.recv_timeout(Duration::from_secs(30));
        panic!("nobody watches");
    }

    #[test]
    fn a_state_that_never_returns_ends_the_process_by_its_name() {
        let _watched = over("the watched child");

        let child = Command::new(std::env::current_exe().unwrap())
            .args(["watch::tests::child", "--exact", "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .unwrap();

        let said = String::from_utf8_lossy(&child.stderr);
        assert!(said.contains("watch: does not return: BACKLOG_STATE=hangs:1:2\n"), "{said}");
        assert_eq!(child.status.code(), None, "it was ended by a signal: {:?}", child.status);
    }

    #[test]
    fn a_state_that_panics_is_not_watched_any_more() {
        let before = lock().last;

        let outcome = std::panic::catch_unwind(|| {
            let _watched = over("a state that panics");
            panic!("on purpose");
        });

        assert!(outcome.is_err());
        let watch = lock();
        assert!(watch.last > before);
        assert!(watch.states.values().all(|(_, what)| what != "a state that panics"));
    }
}
