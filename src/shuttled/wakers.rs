//! Is every waker called that was left before a change, and does none hold anything up that is gone?

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use shuttle::thread;

use super::checks::{Woken, all_back, believe, in_any_order, is_found, leads_when_rung, pushers};
use super::commit::For;
use super::slot::Slot;
use super::wake::{Bell, Wake as _};
use super::worker::{Disk, Job, Line, Trouble, line};
use crate::error::Error;
use crate::plant::Plant;

/// A task: what an executor knows of it.
struct Task {
    woken: Arc<Woken>,
    waker: Waker,
    heard: u64,
}

impl Task {
    fn new() -> Self {
        let woken = Arc::new(Woken::default());
        Self { waker: Waker::from(woken.clone()), woken, heard: 0 }
    }

    /// Waits as an executor does between two polls.
    fn sleep(&mut self) {
        self.heard = self.woken.0.wait(self.heard, None);
    }
}

/// Waits for the word under the lock, as a receive does. With `late` it leaves its waker only when others
/// may have had the lock since it looked.
fn wait_for_the_word(line: &Line, late: bool) {
    let mut task = Task::new();
    let mut left = None;
    loop {
        let mut guard = line.lock();
        if let Some(left) = left.take() {
            guard.take_back(left);
        }
        if guard.stopped.is_some() {
            return;
        }
        if late {
            drop(guard);
            guard = line.lock();
        }
        left = Some(guard.leave(For::Change, &task.waker));
        drop(guard);
        task.sleep();
    }
}

fn say_the_word(line: &Line) {
    let mut guard = line.lock();
    guard.stopped = Some(Error::Closed);
    line.wake_changed(&mut guard);
}

fn tasks_wait_for_a_change(late: bool) {
    let (line, _) = line(Trouble::default());
    let mut threads: Vec<_> = (0..2)
        .map(|_| {
            let line = line.clone();
            thread::spawn(move || wait_for_the_word(&line, late))
        })
        .collect();
    threads.push(thread::spawn(move || say_the_word(&line)));

    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_waker_that_is_left_while_a_change_happens_is_called() {
    in_any_order(|| tasks_wait_for_a_change(false));
}

#[test]
fn a_waker_that_is_left_behind_a_change_is_found() {
    let check = || tasks_wait_for_a_change(true);

    assert!(catch_unwind(AssertUnwindSafe(|| in_any_order(check))).is_err());
}

/// Two tasks wait for one message; one of them is dropped meanwhile, woken or not, and takes nothing.
fn one_of_two_is_dropped() {
    let (line, _) = line(Trouble::default());
    let dropped = {
        let line = line.clone();
        thread::spawn(move || {
            let task = Task::new();
            let mut guard = line.lock();
            if guard.jobs.is_empty() {
                let left = guard.leave(For::Change, &task.waker);
                drop(guard);
                thread::yield_now();
                line.lock().take_back(left);
            }
        })
    };
    let other = {
        let line = line.clone();
        thread::spawn(move || {
            let mut task = Task::new();
            loop {
                let mut guard = line.lock();
                if guard.jobs.pop().is_some() {
                    return;
                }
                let _left = guard.leave(For::Change, &task.waker);
                drop(guard);
                task.sleep();
            }
        })
    };
    let mut guard = line.lock();
    guard.jobs.push(Job { number: 1, slot: Arc::default() });
    line.wake_changed(&mut guard);
    drop(guard);

    dropped.join().unwrap();
    other.join().unwrap();
}

#[test]
fn one_that_is_dropped_after_its_wake_up_keeps_nothing_back() {
    in_any_order(one_of_two_is_dropped);
}

/// Polls until its job is synced, as `Written::poll` does; a helper leads.
fn poll_to_the_end(line: &Line, disk: &Mutex<Disk>, number: u64, helper: &Bell) {
    let slot = Arc::new(Slot::default());
    line.lock().jobs.push(Job { number, slot: slot.clone() });
    let mut task = Task::new();
    loop {
        let mut guard = line.lock();
        if let Some(answer) = slot.answer() {
            believe(disk, number, &answer);
            return;
        }
        let _left = guard.leave(For::End, &task.waker);
        drop(guard);
        helper.wake();
        task.sleep();
    }
}

fn settled_beside_pushes(trouble: Trouble) {
    let (line, disk) = line(trouble);
    let helper = Arc::new((Bell::default(), AtomicBool::new(false)));
    // As `group::helper`, which never waits for more of the kind here.
    let helps = leads_when_rung(&line, &helper);
    let mut threads = pushers(&line, &disk, 1, 2);
    for number in 10..12 {
        let (line, disk, helper) = (line.clone(), disk.clone(), helper.clone());
        threads.push(thread::spawn(move || {
            poll_to_the_end(&line, &disk, number, &helper.0);
            1
        }));
    }

    all_back(threads);

    helper.1.store(true, Ordering::Release);
    helper.0.wake();
    helps.join().unwrap();
}

#[test]
fn who_polls_for_the_end_of_a_group_is_woken_by_it() {
    in_any_order(|| settled_beside_pushes(Trouble::default()));
    in_any_order(|| settled_beside_pushes(Trouble { sync_fails: Some(2), panics: None }));
}

#[test]
fn wakers_that_the_end_of_a_group_forgets_are_found() {
    assert!(is_found(Plant::WakersForgotten, || settled_beside_pushes(Trouble::default())));
}

/// The end of a log, which moves past the group's lock: as `Log::sleep` and `Log::show`.
#[derive(Default)]
struct End {
    next: AtomicU64,
    sleepers: AtomicUsize,
}

fn a_message_comes_past_the_lock() {
    let (line, _) = line(Trouble::default());
    let end = Arc::new(End::default());
    let task = {
        let (line, end) = (line.clone(), end.clone());
        thread::spawn(move || {
            let mut task = Task::new();
            loop {
                let mut guard = line.lock();
                if end.next.load(Ordering::SeqCst) == 1 {
                    return;
                }
                end.sleepers.fetch_add(1, Ordering::SeqCst);
                if end.next.load(Ordering::SeqCst) == 0 {
                    let _left = guard.leave(For::Change, &task.waker);
                    drop(guard);
                    task.sleep();
                }
                end.sleepers.fetch_sub(1, Ordering::SeqCst);
            }
        })
    };
    end.next.store(1, Ordering::SeqCst);
    if end.sleepers.load(Ordering::SeqCst) > 0 {
        line.wake();
    }

    task.join().unwrap();
}

#[test]
fn a_message_that_comes_past_the_lock_wakes_who_was_about_to_wait() {
    in_any_order(a_message_comes_past_the_lock);
}

/// A waker that takes the lock itself, as one may that polls at once.
struct Inline(Arc<Line>, Arc<AtomicBool>);

impl std::task::Wake for Inline {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock());
        self.1.store(true, Ordering::Release);
        panic!("on purpose: in a waker");
    }
}

#[test]
fn a_waker_is_called_with_the_lock_free_and_its_panic_stays_its_own() {
    in_any_order(|| {
        let (line, disk) = line(Trouble::default());
        let called = Arc::new(AtomicBool::new(false));
        let waker = Waker::from(Arc::new(Inline(line.clone(), called.clone())));
        let _left = line.lock().leave(For::End, &waker);

        assert_eq!(all_back(pushers(&line, &disk, 2, 1)), 2);

        assert!(called.load(Ordering::Acquire));
    });
}
