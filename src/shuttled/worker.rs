//! What does a leader do in the checks? It writes and syncs a disk that is two lists.

use std::sync::{Arc, Weak};
use std::time::Duration;

use shuttle::sync::Mutex;
use shuttle::thread;

use super::commit::{Commit, Guard, Worker};
use super::slot::Slot;
use super::wake::Wake as _;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::offset::Offsets;

/// What goes wrong, with which group of jobs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    pub(super) sync_fails: Option<usize>,
    pub(super) panics: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) written: Vec<u64>,
    pub(super) synced: Vec<u64>,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) slot: Arc<Slot>,
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) jobs: Vec<Job>,
    pub(super) stopped: Option<Error>,
}

#[derive(Debug)]
pub(super) struct Writer {
    disk: Arc<Mutex<Disk>>,
    trouble: Trouble,
    groups: usize,
    poisoned: Option<Error>,
    yielded: bool,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    jobs: Vec<Job>,
    failed: Option<Error>,
}

pub(super) type Line = Commit<Waiting, Writer>;

pub(super) fn line(trouble: Trouble) -> (Arc<Line>, Arc<Mutex<Disk>>) {
    let disk = Arc::new(Mutex::new(Disk::default()));
    let writer = Writer { disk: disk.clone(), trouble, groups: 0, yielded: false, poisoned: None };
    (Arc::new(Commit::new(Waiting::default(), writer)), disk)
}

fn poisoned(cause: &str) -> Error {
    Error::Poisoned { path: "disk".into(), cause: cause.to_owned() }
}

/// As the log's writer does it.
impl Worker<Waiting> for Writer {
    type Group = Group;

    fn is_patient(&mut self, waiting: &Waiting) -> bool {
        !waiting.jobs.is_empty() && !std::mem::replace(&mut self.yielded, true)
    }

    fn gather(&mut self, waiting: &mut Waiting) -> Group {
        self.yielded = false;
        Group { jobs: std::mem::take(&mut waiting.jobs), failed: None }
    }

    fn run(&mut self, group: &mut Group) {
        self.groups += 1;
        if let Some(error) = &self.poisoned {
            group.failed = Some(error.clone());
            return;
        }
        let numbers: Vec<u64> = group.jobs.iter().map(|job| job.number).collect();
        self.disk.lock().unwrap().written.extend(&numbers);
        if self.trouble.panics == Some(self.groups) {
            panic!("on purpose: in the writer");
        }
        if self.trouble.sync_fails == Some(self.groups) {
            let error = poisoned("its sync failed");
            self.poisoned = Some(error.clone());
            group.failed = Some(error);
            return;
        }
        thread::yield_now();
        self.disk.lock().unwrap().synced.extend(&numbers);
    }

    fn publish(&mut self, waiting: &mut Waiting, group: &mut Group, panicked: bool) {
        if panicked {
            let error = poisoned("a panic in the writer");
            self.poisoned = Some(error.clone());
            group.failed = Some(error);
        }
        if waiting.stopped.is_none() {
            waiting.stopped.clone_from(&self.poisoned);
        }
        for job in &group.jobs {
            let stored = Offsets::new(job.number, job.number + 1);
            job.slot.settle(group.failed.clone().map_or(Ok(stored), Err));
        }
        if !group.jobs.iter().any(|job| job.slot.is_polled()) {
            group.jobs.clear();
        }
    }

    fn announce(group: Group) {
        for job in &group.jobs {
            job.slot.wake();
        }
    }
}

/// A clock that stands at zero until it is moved; whoever moves it wakes who waits.
#[derive(Debug, Default)]
pub(super) struct Hand {
    now: Mutex<Duration>,
}

impl Hand {
    pub(super) fn advance(&self, by: Duration, line: &Line) {
        *self.now.lock().unwrap() += by;
        line.wake();
    }
}

impl Clock for Hand {
    fn now(&self) -> Duration {
        *self.now.lock().unwrap()
    }

    fn wall(&self) -> u64 {
        0
    }

    fn patience(&self, _until: Duration) -> Option<Duration> {
        None
    }

    fn on_advance(&self, _waker: Weak<dyn crate::wake::Wake>) {}

    fn pause(&self, _time: Duration) {}
}

/// Hands a job over, as a push does; the number of its group.
pub(super) fn add(line: &Line, number: u64) -> Result<(Arc<Slot>, u64)> {
    let (guard, slot) = added(line, number)?;
    Ok((slot, guard.group()))
}

/// Pushes and waits for the answer, as `engine::ask` does.
pub(super) fn push(line: &Line, clock: &dyn Clock, number: u64) -> Result<Offsets> {
    let (guard, slot) = added(line, number)?;
    let group = guard.group();
    let (_, answer) = line.until(guard, group, clock, None, |_| slot.answer());
    answer.expect("without a deadline there is an answer")
}

/// Hands a job over, and keeps the lock.
fn added(line: &Line, number: u64) -> Result<(Guard<'_, Waiting, Writer>, Arc<Slot>)> {
    let slot = Arc::new(Slot::default());
    let mut guard = line.lock();
    if let Some(error) = &guard.stopped {
        return Err(error.clone());
    }
    guard.jobs.push(Job { number, slot: slot.clone() });
    Ok((guard, slot))
}

/// Leads for those who do not, as `engine::duties` does.
pub(super) fn lead_for_deferred(line: &Line, clock: &dyn Clock) {
    let guard = line.lock();
    let group = guard.group();
    drop(line.until(guard, group, clock, None, |guard| {
        (guard.jobs.is_empty() || guard.group() > group).then_some(())
    }));
}
