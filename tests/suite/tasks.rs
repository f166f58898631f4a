//! Do tasks of real executors get every message once, and does none of their threads ever sit in a sync?

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread::{self, ThreadId};
use std::time::Duration;

use backlog::testing::SimDisk;
use backlog::{Consumer, Durability, Error, GroupOptions, Options, Queue};

use crate::task::Task;
use crate::tickets::stall;
use crate::watch;

const MESSAGES: usize = 2000;

/// A queue with threads of its own, and a consumer of a group whose acks are synced, or are not.
fn opened(disk: &SimDisk, threads: bool, durability: Durability) -> (Queue, Consumer) {
    let queue = Options::new("jobs").sim_disk(disk).threads(threads).open().unwrap();
    let options = GroupOptions::new().ack_durability(durability);
    let group = queue.create_group("group", options).unwrap();
    (queue, group.consumer())
}

/// Receives until so many are done by all; what it got.
async fn work(queue: Queue, worker: Consumer, done: Arc<AtomicUsize>) -> Vec<u64> {
    let mut got = Vec::new();
    loop {
        let job = match worker.recv_async().await {
            Ok(job) => job,
            Err(Error::Closed) => return got,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(job.attempt(), 1);
        got.push(job.offset().get());
        match job.ack_deferred().unwrap().await {
            Ok(()) => {}
            Err(error) => panic!("{error}"),
        }
        if done.fetch_add(1, Ordering::SeqCst) + 1 == MESSAGES {
            queue.close().unwrap();
        }
    }
}

async fn push(queue: Queue, count: usize) {
    for number in 0..count {
        queue.push_deferred(format!("{number}")).unwrap().await.unwrap();
    }
}

/// Everything once: nothing twice, nothing left out.
fn check(got: Vec<Vec<u64>>) {
    let all: Vec<u64> = got.into_iter().flatten().collect();
    assert_eq!(all.len(), MESSAGES);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), MESSAGES);
}

/// A thread that may not sync, and where it did.
#[derive(Default)]
struct Forbidden {
    thread: Mutex<Option<ThreadId>>,
    found: Mutex<BTreeSet<String>>,
}

/// Watches over who syncs.
fn forbid_syncs(disk: &SimDisk) -> Arc<Forbidden> {
    let forbidden = Arc::new(Forbidden::default());
    let watch = forbidden.clone();
    disk.before_syncs(Some(Arc::new(move || {
        if *watch.thread.lock().unwrap() == Some(thread::current().id()) {
            let place = std::backtrace::Backtrace::force_capture().to_string();
            watch.found.lock().unwrap().insert(place);
        }
    })));
    forbidden
}

fn on_tokio(runtime: &tokio::runtime::Runtime, durability: Durability) {
    let _watched = watch::over("tasks on tokio");
    let (queue, worker) = opened(&SimDisk::new(1), true, durability);
    let got = runtime.block_on(async {
        let done = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> =
            (0..4).map(|_| tokio::spawn(work(queue.clone(), worker.clone(), done.clone()))).collect();
        let pushers: Vec<_> = (0..4).map(|_| tokio::spawn(push(queue.clone(), MESSAGES / 4))).collect();
        for pusher in pushers {
            pusher.await.unwrap();
        }
        let mut got = Vec::new();
        for worker in workers {
            got.push(worker.await.unwrap());
        }
        got
    });
    check(got);
}

#[test]
fn tasks_on_tokio_with_many_threads_get_everything_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    on_tokio(&runtime, Durability::Synced);
    on_tokio(&runtime, Durability::Buffered);
}

#[test]
fn tasks_on_tokio_with_one_thread_get_everything_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    on_tokio(&runtime, Durability::Synced);
    on_tokio(&runtime, Durability::Buffered);
}

#[test]
fn tasks_on_smol_get_everything_once() {
    let _watched = watch::over("tasks on smol");
    for durability in [Durability::Synced, Durability::Buffered] {
        let (queue, worker) = opened(&SimDisk::new(1), true, durability);
        let done = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> =
            (0..4).map(|_| smol::spawn(work(queue.clone(), worker.clone(), done.clone()))).collect();
        let pushers: Vec<_> = (0..4).map(|_| smol::spawn(push(queue.clone(), MESSAGES / 4))).collect();
        let got = smol::block_on(async {
            for pusher in pushers {
                pusher.await;
            }
            let mut got = Vec::new();
            for worker in workers {
                got.push(worker.await);
            }
            got
        });
        check(got);
    }
}

/// `select!` with something that is always faster: the future is dropped again and again.
#[test]
fn a_select_loop_burns_no_attempt_and_goes_on() {
    let _watched = watch::over("a select loop");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (queue, worker) = opened(&SimDisk::new(1), true, Durability::Synced);
    queue.push_batch((0..100).map(|number| format!("{number}"))).unwrap();
    let jobs = runtime.block_on(async {
        let mut jobs = Vec::new();
        while jobs.len() < 100 {
            tokio::select! {
                biased;
                job = worker.recv_async() => jobs.push(job.unwrap()),
                () = tokio::task::yield_now() => {}
            }
        }
        jobs
    });

    assert!(jobs.iter().all(|job| job.attempt() == 1));
    assert!(queue.ack_all(jobs).unwrap().iter().all(Result::is_ok));
    queue.close().unwrap();
}

#[test]
fn the_thread_of_a_task_never_syncs() {
    let _watched = watch::over("tasks that must not sync");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for durability in [Durability::Synced, Durability::Buffered] {
        let disk = SimDisk::new(1);
        let (queue, worker) = opened(&disk, true, durability);
        let forbidden = forbid_syncs(&disk);
        runtime.block_on(async {
            *forbidden.thread.lock().unwrap() = Some(thread::current().id());
            let pusher = tokio::spawn(push(queue.clone(), MESSAGES));
            for _ in 0..MESSAGES {
                let job = worker.recv_async().await.unwrap();
                job.ack_deferred().unwrap().await.unwrap();
            }
            pusher.await.unwrap();
        });
        *forbidden.thread.lock().unwrap() = None;
        queue.close().unwrap();
        assert_eq!(*forbidden.found.lock().unwrap(), BTreeSet::new());
    }
}

#[test]
fn thousands_of_deferred_acks_share_a_few_syncs() {
    let disk = SimDisk::new(1);
    let (queue, worker) = opened(&disk, false, Durability::Synced);
    queue.push_batch((0..5000).map(|number| format!("{number}"))).unwrap();
    let mut jobs = Vec::new();
    while jobs.len() < 5000 {
        jobs.extend(worker.recv_batch(5000, Duration::ZERO).unwrap());
    }
    let syncs = Arc::new(AtomicUsize::new(0));
    let count = syncs.clone();
    disk.before_syncs(Some(Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    })));

    let tickets: Vec<_> = jobs.into_iter().map(|job| job.ack_deferred().unwrap()).collect();
    for ticket in tickets {
        ticket.wait().unwrap();
    }

    let syncs = syncs.load(Ordering::SeqCst);
    assert!(syncs <= 16, "{syncs} syncs for 5000 acks");
    disk.before_syncs(None);
    queue.close().unwrap();
}

#[test]
fn a_deferred_ack_is_durable_when_its_ticket_says_so() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let (queue, worker) = opened(&disk, false, Durability::Synced);
        queue.push_batch((0..10).map(|number| format!("{number}"))).unwrap();
        let jobs = worker.recv_batch(10, Duration::ZERO).unwrap();
        let mut told = BTreeSet::new();
        let (task, mut tickets) = (Task::new(), Vec::new());
        for (job, number) in jobs.into_iter().zip(0..) {
            let offset = job.offset().get();
            tickets.push((offset, job.ack_deferred().unwrap()));
            if number == 6 {
                queue.run_duties().unwrap();
            }
        }
        for (offset, ticket) in &mut tickets {
            match task.poll(ticket) {
                Poll::Ready(answer) => {
                    answer.unwrap();
                    told.insert(*offset);
                }
                Poll::Pending => {}
            }
        }
        assert_eq!(told.len(), 7);

        let after = Options::new("jobs").sim_disk(&disk.crash(seed)).threads(false).open().unwrap();
        let again = after.group("group").unwrap().consumer().recv_batch(10, Duration::ZERO).unwrap();

        assert!(again.len() <= 3);
        assert!(again.iter().all(|job| !told.contains(&job.offset().get())), "seed {seed}");
    }
}

/// A poll beside a sync of the group's file: the loan cannot be recorded now. The poll comes back, and if
/// the future is dropped the message does too, uncounted; if not, it is handed out once that is so.
#[test]
fn a_poll_waits_for_nobodys_sync_and_what_it_lent_meanwhile_comes_back_if_it_is_dropped() {
    let _watched = watch::over("a poll beside a slow sync");
    let disk = SimDisk::new(1);
    let (queue, worker) = opened(&disk, false, Durability::Synced);
    queue.push_batch(["a", "b", "c"]).unwrap();
    let job = worker.recv().unwrap();
    let (begun, go) = stall(&disk);
    thread::scope(|scope| {
        scope.spawn(|| job.ack().unwrap());
        begun.recv().unwrap();
        let (task, other) = (Task::new(), Task::new());
        let (mut dropped, mut kept) = (worker.recv_async(), worker.recv_async());
        assert!(task.poll(&mut dropped).is_pending());
        assert!(other.poll(&mut kept).is_pending());
        assert_eq!(queue.stats().groups[0].on_loan, 2);

        drop(dropped);
        assert_eq!(queue.stats().groups[0].on_loan, 1);
        drop(go);

        while !other.was_woken() {
            thread::yield_now();
        }
        let kept = other.finish(&queue, &mut kept).unwrap();
        assert_eq!((kept.payload(), kept.attempt()), (&b"c"[..], 1));
        let back = worker.recv().unwrap();
        assert_eq!((back.payload(), back.attempt()), (&b"b"[..], 1));
    });
    disk.before_syncs(None);
}

/// Somebody's sync failed: the group is poisoned, and tasks that wait for a message hear of it.
#[test]
fn a_poisoned_group_wakes_and_answers_who_waits_for_a_message() {
    let _watched = watch::over("tasks of a poisoned group");
    let disk = SimDisk::new(1);
    let (queue, worker) = opened(&disk, false, Durability::Synced);
    queue.push("a").unwrap();
    let job = worker.recv().unwrap();
    let (task, mut next) = (Task::new(), worker.recv_async());
    task.settle_in(&queue, &mut next);
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| worker.recv().map(drop));
        disk.break_syncs(true);
        let ticket = job.ack_deferred().unwrap();

        let told = ticket.wait();

        assert!(matches!(told, Err(Error::Poisoned { .. })), "{told:?}");
        assert!(task.was_woken());
        assert!(matches!(task.poll(&mut next), Poll::Ready(Err(Error::Poisoned { .. }))));
        assert!(matches!(sleeper.join().unwrap(), Err(Error::Poisoned { .. })));
    });
}

/// The log is poisoned: what is durable was handed out, and nothing comes any more.
#[test]
fn a_poisoned_log_wakes_and_answers_who_waits_for_a_message() {
    let disk = SimDisk::new(1);
    let (queue, worker) = opened(&disk, false, Durability::Buffered);
    let (task, mut next) = (Task::new(), worker.recv_async());
    task.settle_in(&queue, &mut next);
    disk.break_syncs(true);

    assert!(queue.push("a").is_err());

    assert!(task.was_woken());
    assert!(matches!(task.poll(&mut next), Poll::Ready(Err(Error::Poisoned { .. }))));
}

/// An ack that nobody waits for, of a queue with threads: it is synced though nothing else happens.
#[test]
fn a_deferred_ack_that_nobody_waits_for_is_synced_soon() {
    let _watched = watch::over("a deferred ack that nobody waits for");
    let disk = SimDisk::new(1);
    let (queue, worker) = opened(&disk, true, Durability::Synced);
    queue.push("a").unwrap();
    let job = worker.recv().unwrap();
    let (tell, told) = mpsc::channel();
    disk.before_syncs(Some(Arc::new(move || {
        let _ = tell.send(());
    })));

    drop(job.ack_deferred().unwrap());

    told.recv().unwrap();
    disk.before_syncs(None);
    queue.close().unwrap();
}

fn is_send_and_static<T: Send + 'static>(_: &T) {}

#[test]
fn futures_can_go_into_tasks_of_their_own() {
    let (queue, worker) = opened(&SimDisk::new(1), false, Durability::Synced);
    let next = worker.recv_async();
    is_send_and_static(&next);
    is_send_and_static(&worker.recv_batch_async(3));
    #[cfg(feature = "stream")]
    is_send_and_static(&worker.stream());
    is_send_and_static(&queue.push_deferred("a").unwrap());
    fn output<F: Future<Output = backlog::Result<backlog::Delivery>>>(_: &F) {}
    output(&next);
}

/// A time that a task waits for comes though nobody pushes, acks or polls.
#[test]
fn by_the_systems_clock_what_is_due_wakes_a_task() {
    let _watched = watch::over("a delayed message by the system's clock");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (queue, worker) = opened(&SimDisk::new(1), true, Durability::Buffered);
    queue.push(backlog::Message::new("later").delay(Duration::from_millis(30))).unwrap();

    let job = runtime.block_on(worker.recv_async()).unwrap();

    assert_eq!(job.payload(), b"later");
    job.ack().unwrap();
}
