//! What does a child do?

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use backlog::testing::{Plant, plant};
use backlog::{Consumer, Durability, GroupOptions, Options, Queue};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::child::{Said, kind, told};
use crate::cuts;
use crate::ledger::{number, payload};
use crate::workload::STRICT;

/// How often each thread of a crowd pushes.
pub(crate) const EACH: usize = 50;

/// Does nothing unless it is run as a child.
#[test]
fn child() {
    let Some((role, folder, more)) = told() else { return };
    match role.as_str() {
        "crowd" => crowd(&folder, more == "plant"),
        "steady" => steady(&folder),
        "file-size" => file_size(&folder, more.parse().unwrap()),
        "descriptors" => descriptors(&folder, more.parse().unwrap()),
        "opening" => opening(&folder),
        "recorded" => cuts::recorded(&folder, &more),
        role => panic!("no role {role}"),
    }
}

fn note(text: impl Into<String>) {
    Said::Note(text.into()).say();
}

fn strict() -> GroupOptions {
    GroupOptions::new().ack_durability(Durability::Synced)
}

/// Opens the queue, with the group; says why not.
fn open(options: Options) -> Option<(Queue, Consumer)> {
    let opened = options.open().and_then(|queue| {
        let group = match queue.group(STRICT) {
            Ok(group) => group,
            Err(_) => queue.create_group(STRICT, strict())?,
        };
        Ok((queue, group.consumer()))
    });
    opened.map_err(|error| note(format!("open: {}", kind(&error)))).ok()
}

/// Pushes one message; tells whether it was acknowledged.
fn push(queue: &Queue, id: usize, length: usize) -> bool {
    Said::Begins(id).say();
    let began = Instant::now();
    match queue.push(payload(id, length)) {
        Ok(offset) => Said::Pushed(id, offset.get()).say(),
        Err(error) => {
            Said::failed(id, began.elapsed(), &error).say();
            return false;
        }
    }
    true
}

/// Receives and acks up to so many; returns how many were acknowledged, `None` if it cannot go on.
fn try_settle(consumer: &Consumer, most: usize, wait: Duration) -> Option<usize> {
    let mut acked = 0;
    for _ in 0..most {
        let job = match consumer.recv_timeout(wait) {
            Ok(Some(job)) => job,
            Ok(None) => break,
            Err(error) => {
                note(format!("receive: {}", kind(&error)));
                return None;
            }
        };
        let id = number(job.payload()).expect("a payload that was pushed");
        Said::Acking(id).say();
        let began = Instant::now();
        match job.ack() {
            Ok(()) => {
                Said::Acked(id).say();
                acked += 1;
            }
            Err(error) => Said::AckFailed(id, began.elapsed().as_millis(), kind(&error)).say(),
        }
    }
    Some(acked)
}

fn settle(consumer: &Consumer, most: usize) -> usize {
    try_settle(consumer, most, Duration::ZERO).unwrap_or(0)
}

/// Three threads push, each until it has failed twice, and one acks.
fn crowd(folder: &Path, too_early: bool) {
    let Some((queue, consumer)) =
        open(Options::new(folder).retain_for(Duration::MAX).segment_bytes(32 << 10))
    else {
        return;
    };
    let running = AtomicUsize::new(3);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (queue, running) = (&queue, &running);
            scope.spawn(move || {
                let _planted = too_early.then(|| plant(Plant::AnswerBeforeSync));
                let mut failed = 0;
                for number in 0..EACH {
                    let pushed = push(queue, thread * 1000 + number, 200 + number * 25);
                    failed += usize::from(!pushed);
                    if failed == 2 {
                        break;
                    }
                }
                running.fetch_sub(1, Relaxed);
            });
        }
        scope.spawn(|| {
            let wait = Duration::from_millis(20);
            while running.load(Relaxed) > 0 && try_settle(&consumer, 3, wait).is_some() {}
        });
    });
    if let Err(error) = queue.close() {
        note(format!("close: {}", kind(&error)));
    }
    note("done");
}

/// Pushes and acks until it is killed.
fn steady(folder: &Path) {
    let Some((queue, consumer)) = open(Options::new(folder).retain_for(Duration::MAX)) else { return };
    for id in 0.. {
        push(&queue, id, 50);
        if id % 3 == 0 {
            settle(&consumer, 1);
        }
    }
}

/// Sets the soft limit; the hard one stays, so that it can be lifted again.
fn limit(resource: Resource, to: Option<u64>) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: to.or(maximum), maximum }).unwrap();
}

/// No file may grow beyond the limit; then it may again.
fn file_size(folder: &Path, bytes: u64) {
    let Some((queue, consumer)) = open(Options::new(folder).retain_for(Duration::MAX).segment_bytes(1 << 20))
    else {
        return;
    };
    let mut id = 0;
    let mut turn = |count: usize, patience: usize| {
        let mut failed = 0;
        for _ in 0..count {
            failed += usize::from(!push(&queue, id, 3000 + id % 7 * 1000));
            id += 1;
            if failed == patience {
                break;
            }
        }
        failed
    };
    turn(20, 1);
    limit(Resource::Fsize, Some(bytes));
    let failed = turn(1000, 3);
    note(format!("limited: {failed} failed, {} acked", settle(&consumer, 10)));
    limit(Resource::Fsize, None);
    let failed = turn(20, 1);
    note(format!("lifted: {failed} failed, {} acked", settle(&consumer, 10)));
    let closed = queue.close();
    note(closed.map_or_else(|error| kind(&error), |()| "closed".into()));
}

/// Returns the limit that leaves so many descriptors: a limit is about their numbers, and there are
/// gaps among those in use.
fn descriptors_left(mut left: u64) -> u64 {
    let is_open = |number: &u64| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok();
    let end = (0..).find(|number| {
        if is_open(number) {
            return false;
        }
        left = left.wrapping_sub(1);
        left == u64::MAX
    });
    end.expect("there are more numbers than descriptors")
}

/// So many descriptors more, and no more; then as many as one likes again.
fn descriptors(folder: &Path, more: u64) {
    let options = Options::new(folder).retain_for(Duration::MAX).segment_bytes(8 << 10).threads(false);
    let Some((queue, consumer)) = open(options) else { return };
    let mut id = 0;
    let mut turn = |count: usize| {
        let from = id;
        id += count;
        (from..id).filter(|&id| !push(&queue, id, 900)).count()
    };
    turn(5);
    limit(Resource::Nofile, Some(descriptors_left(more)));
    let failed = turn(40);
    note(format!("limited: {failed} failed, {} acked", settle(&consumer, 3)));
    limit(Resource::Nofile, None);
    let failed = turn(40);
    let again = settle(&consumer, 10);
    note(format!("lifted: {failed} failed, {again} acked"));
    let closed = queue.close();
    note(closed.map_or_else(|error| kind(&error), |()| "closed".into()));
}

/// Opens the queue with one descriptor more each time, until it works.
fn opening(folder: &Path) {
    let options = Options::new(folder).retain_for(Duration::MAX).threads(false).create(false);
    for more in 0..40 {
        limit(Resource::Nofile, Some(descriptors_left(more)));
        let opened = options.clone().open();
        limit(Resource::Nofile, None);
        match opened {
            Ok(queue) if queue.recovery().refused_groups.is_empty() => {
                note(format!("opened with {more}"));
                queue.close().unwrap();
                return;
            }
            Ok(queue) => {
                note(format!("refused: {more} {:?}", queue.recovery().refused_groups));
                queue.close().unwrap();
            }
            Err(error) => note(format!("refused: {more} {}", kind(&error))),
        }
    }
}
