//! What can a forked child do with the handles that it got from its parent? Nothing, and at once.
//!
//! The fork is made in a child of this binary, run again for one test with `BACKLOG_FORK` set: the
//! test harness has threads of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::future::Future as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use backlog::{Delivery, Durability, Error, GroupOptions, Options, Queue};

const FORK: &str = "BACKLOG_FORK";
/// Seconds after which a fork that hangs is killed.
const HANGS: u32 = 30;

/// Runs one of the roles below in a process of its own.
fn run(role: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["forked::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(FORK, format!("{role}:{}", folder.path().display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{role}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Does nothing unless it is run as the child.
#[test]
fn child() {
    let Ok(text) = std::env::var(FORK) else { return };
    let (role, folder) = text.split_once(':').unwrap();
    let folder = Path::new(folder);
    match role {
        "quiet" => quiet(folder, false, &|folder| Options::new(folder).threads(false).open(), || ()),
        // The first is the owner, and lives as long as the second.
        "quiet guest" => {
            let owner = Queue::open(folder.join("jobs")).unwrap();
            quiet(folder, true, &Queue::open, || owner.close().unwrap());
        }
        "busy" => busy(folder),
        "busy guest" => {
            let owner = Queue::open(folder.join("jobs")).unwrap();
            busy(folder);
            owner.close().unwrap();
        }
        _ => anew(folder),
    }
}

/// Forks; the child does `what` and is gone, without a destructor of its parent's that is not asked for.
fn fork(what: impl FnOnce()) {
    // SAFETY: the child calls nothing of the parent's but what is under test, which takes no lock that
    // another thread may have held; the allocator is made for it (pthread_atfork).
    match unsafe { libc::fork() } {
        -1 => panic!("no fork"),
        0 => {
            // SAFETY: a number of seconds.
            unsafe { libc::alarm(HANGS) };
            let good = catch_unwind(AssertUnwindSafe(what)).is_ok();
            // SAFETY: ends this process and nothing else.
            unsafe { libc::_exit(if good { 0 } else { 1 }) }
        }
        child => {
            let mut status = 0;
            // SAFETY: the status is ours, and the child is too.
            let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!((ended, status), (child, 0), "the fork failed (1 << 8), or hung (14)");
        }
    }
}

fn is_forked<T>(told: Result<T, Error>, what: &str) {
    match told {
        Err(Error::Forked { path }) => assert!(path.ends_with("jobs"), "{path:?}"),
        Err(error) => panic!("{what}: {error}"),
        Ok(_) => panic!("{what} worked"),
    }
}

/// All that can be called.
fn all_is_refused(queue: &Queue, deliveries: Vec<Delivery>) {
    is_forked(queue.push("x"), "push");
    is_forked(queue.push_batch(["x", "y"]), "push_batch");
    is_forked(queue.push_batch([""; 0]), "an empty push_batch");
    is_forked(queue.push_deferred("x"), "push_deferred");
    is_forked(queue.with_durability(Durability::Buffered).push("x"), "a buffered push");
    is_forked(queue.sync(), "sync");
    is_forked(queue.consumer(), "consumer");
    is_forked(queue.create_group("new", GroupOptions::new()), "create_group");
    is_forked(queue.group("g"), "group");
    is_forked(queue.remove_group("g"), "remove_group");
    is_forked(queue.run_duties(), "run_duties");
    assert_eq!((queue.groups().len(), queue.stats().messages), (0, 0));
    assert!(!queue.recovery().has_findings());
    let mut deliveries = deliveries.into_iter();
    let mut next = || deliveries.next().unwrap();
    assert_eq!(next().payload(), b"0");
    is_forked(next().ack(), "ack");
    is_forked(next().nack("no"), "nack");
    is_forked(next().nack_after(Duration::ZERO, "no"), "nack_after");
    is_forked(next().reject("no"), "reject");
    is_forked(next().release(), "release");
    is_forked(queue.ack_all([next(), next()]), "ack_all");
}

fn contents(folder: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if path.is_file() {
            found.insert(path.clone().into(), fs::read(&path).unwrap());
        }
    }
    found
}

/// Nobody works in the parent: not a byte changes, unless the queue has an owner with threads, and the parent goes on
/// as if nothing had been.
fn quiet(folder: &Path, threads: bool, open: &dyn Fn(PathBuf) -> Result<Queue, Error>, end: impl FnOnce()) {
    let folder = folder.join("jobs");
    let alone = || Options::new(&folder).exclusive(true);
    let queue = open(folder.clone()).unwrap();
    let group = queue.create_group("g", GroupOptions::new()).unwrap();
    let consumer = group.consumer();
    queue.push_batch((0..9).map(|number| number.to_string())).unwrap();
    let deliveries = consumer.recv_batch(8, Duration::ZERO).unwrap();
    let kept = consumer.recv().unwrap();
    let tickets = [0, 1, 2].map(|_| queue.push_deferred("x").unwrap());
    let before = contents(&folder);
    let mut handles = Some((deliveries, kept, tickets, consumer, group, queue));

    fork(|| {
        let (deliveries, kept, tickets, consumer, group, queue) = handles.take().unwrap();
        all_is_refused(&queue, deliveries);
        assert_eq!((group.stats().on_loan, group.stats().ready), (0, 0));
        is_forked(consumer.recv(), "recv");
        is_forked(consumer.try_recv(), "try_recv");
        is_forked(consumer.recv_timeout(Duration::from_secs(1)), "recv_timeout");
        is_forked(consumer.recv_batch(3, Duration::ZERO), "recv_batch");
        is_forked(consumer.iter().next().unwrap(), "iter");
        is_forked(consumer.pool(1).spawn(|_| Ok::<_, String>(())), "pool");
        let [one, two, three] = tickets;
        is_forked(one.wait(), "wait");
        is_forked(two.wait_timeout(Duration::ZERO), "wait_timeout");
        match pin!(three).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(told) => is_forked(told, "poll"),
            Poll::Pending => panic!("a ticket that is polled for ever"),
        }
        is_forked(queue.close(), "close");
        // All handles go here, as when a child returns from `main`.
        drop((kept, consumer, group, queue));
        assert!(matches!(alone().open(), Err(Error::Locked { .. })), "the lock is the parent's");
    });

    assert!(threads || contents(&folder) == before, "a fork has written");
    assert!(matches!(alone().open(), Err(Error::Locked { .. })), "a fork has freed the lock");
    let (deliveries, kept, tickets, consumer, group, queue) = handles.unwrap();
    assert_eq!((group.stats().on_loan, deliveries.len()), (9, 8));
    deliveries.into_iter().for_each(|delivery| delivery.ack().unwrap());
    kept.ack().unwrap();
    for (ticket, offset) in tickets.into_iter().zip(9..) {
        assert_eq!(ticket.wait().unwrap().get(), offset);
    }
    assert_eq!(consumer.recv().unwrap().payload(), b"x");
    queue.close().unwrap();
    end();
}

/// Threads of the parent push, receive and run a pool at the moment of the fork: whatever they hold
/// just then, nobody in the child waits for it.
fn busy(folder: &Path) {
    let folder = folder.join("jobs");
    let queue = Options::new(&folder).open().unwrap();
    let consumer = queue.create_group("g", GroupOptions::new()).unwrap().consumer();
    let pool = consumer.pool(2).spawn(|_| Ok::<_, String>(())).unwrap();
    let over = AtomicBool::new(false);
    let mut pool = Some(pool);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    let _ = queue.push("x").unwrap();
                    drop(queue.push_deferred("y").unwrap());
                    let _ = queue.stats();
                }
            });
        }
        for _ in 0..30 {
            fork(|| {
                is_forked(queue.push("z"), "push");
                is_forked(consumer.recv(), "recv");
                is_forked(queue.run_duties(), "run_duties");
                let pool = pool.take().unwrap();
                pool.stopper().stop();
                drop(pool);
                drop(queue.stats());
                is_forked(queue.close(), "close");
            });
        }
        over.store(true, Ordering::Release);
    });
    pool.take().unwrap().stop().unwrap();
    queue.push("goes on").unwrap();
    queue.close().unwrap();
    let again = Options::new(&folder).open().unwrap();
    assert!(again.recovery().clean);
}

/// A child opens a queue of its own: with its own threads, though the parent's are not there.
fn anew(folder: &Path) {
    let parents = Queue::open(folder.join("jobs")).unwrap();
    parents.push("x").unwrap();

    fork(|| {
        let queue = Queue::open(folder.join("own")).unwrap();
        let ticket = queue.push_deferred("mine").unwrap();
        // Nobody waits: the committer has to write it, and it is one of this process.
        assert_eq!(ticket.wait_timeout(Duration::from_secs(20)).unwrap().get(), 0);
        is_forked(parents.push("y"), "push");
        queue.consumer().unwrap().recv().unwrap().ack().unwrap();
        fork(|| {
            assert!(matches!(queue.push("z"), Err(Error::Forked { .. })));
            is_forked(parents.push("z"), "push");
        });
        queue.close().unwrap();
    });

    parents.push("y").unwrap();
    parents.close().unwrap();
}

#[test]
fn issue_4_a_fork_is_refused_and_changes_nothing() {
    run("quiet");
}

#[test]
fn issue_4_a_fork_waits_for_nobody() {
    run("busy");
}

#[test]
fn a_fork_of_a_guest_is_refused_and_changes_nothing() {
    run("quiet guest");
}

#[test]
fn a_fork_of_a_guest_waits_for_nobody() {
    run("busy guest");
}

#[test]
fn issue_4_a_fork_can_open_a_queue_of_its_own() {
    run("anew");
}
