//! Does a ticket keep its word when others, or the disk, are slow?

use std::future::{Future as _, IntoFuture as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use backlog::testing::SimDisk;
use backlog::{Error, Options, Queue};

use crate::watch;

/// Stalls the next sync of a disk; returns what begins it, and what lets it go on.
pub(crate) fn stall(disk: &SimDisk) -> (Receiver<()>, Sender<()>) {
    let ((begins, begun), (go, gone)) = (mpsc::channel(), mpsc::channel());
    let stall = Mutex::new(Some((begins, gone)));
    disk.before_syncs(Some(Arc::new(move || {
        let stall = stall.lock().unwrap().take();
        if let Some((begins, gone)) = stall {
            begins.send(()).unwrap();
            // Until the other end is dropped, at the latest.
            let _: Result<(), _> = gone.recv();
        }
    })));
    (begun, go)
}

/// A queue on a disk whose next sync stalls; who waits for it hears that it began, and lets it go on.
fn stalled(threads: bool) -> (Queue, Receiver<()>, Sender<()>) {
    let disk = SimDisk::new(1);
    let queue = Options::new("jobs").sim_disk(&disk).threads(threads).open().unwrap();
    queue.push("opened").unwrap();
    let (begun, go) = stall(&disk);
    (queue, begun, go)
}

/// A ticket that is polled while a slow sync is under way, which has not taken it along: it is
/// written as soon as that sync ends, though nobody waits for it in a thread.
#[test]
fn issue_3_a_polled_ticket_is_not_forgotten_behind_a_slow_sync() {
    struct Woken(Sender<()>);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }
    let _watched = watch::over("a polled ticket behind a slow sync");
    let (queue, begun, go) = stalled(true);
    thread::scope(|scope| {
        scope.spawn(|| queue.push("slow").unwrap());
        begun.recv().unwrap();
        let (tell, told) = mpsc::channel();
        let waker = Arc::new(Woken(tell)).into();
        let mut ticket = std::pin::pin!(queue.push_deferred("polled").unwrap().into_future());
        let polled = ticket.as_mut().poll(&mut std::task::Context::from_waker(&waker));
        assert!(polled.is_pending());
        // Turns for the committer, which finds that somebody leads; in any other order it is easier.
        (0..1000).for_each(|_| thread::yield_now());
        go.send(()).unwrap();

        told.recv().expect("the ticket is forgotten");
    });
}

/// A thread that waited with a deadline led, and sat in a slow sync long after its time was over.
#[test]
fn issue_4_a_wait_with_a_deadline_ends_at_it_though_the_disk_stalls() {
    let _watched = watch::over("a deadline while the disk stalls");
    let disk = SimDisk::new(1);
    let queue = Options::new("jobs").sim_disk(&disk).open().unwrap();
    queue.push("opened").unwrap();
    let (go, gone) = mpsc::channel::<()>();
    let (gone, waiter) = (Mutex::new(gone), thread::current().id());
    let led = Arc::new(AtomicBool::new(false));
    let told = led.clone();
    disk.before_syncs(Some(Arc::new(move || {
        if thread::current().id() == waiter {
            told.store(true, Ordering::Release);
        } else {
            let _ = gone.lock().unwrap().recv();
        }
    })));
    let ticket = queue.push_deferred("x").unwrap();

    let waited = ticket.wait_timeout(Duration::from_millis(20));
    let at_once = ticket.wait_timeout(Duration::ZERO);
    drop(go);

    assert!(!led.load(Ordering::Acquire), "who waits with a deadline sits in a sync: {waited:?}");
    assert!(matches!(waited, Err(Error::Timeout { .. })), "{waited:?}");
    assert!(matches!(at_once, Err(Error::Timeout { .. })), "{at_once:?}");
    // The ticket stays good, and needs nobody else.
    assert_eq!(ticket.wait_timeout(Duration::from_secs(3600)).unwrap().get(), 1);
    assert_eq!(ticket.wait().unwrap().get(), 1);
}

/// Without threads nobody else is there to lead: who waits does, and has his answer.
#[test]
fn without_threads_a_wait_with_a_deadline_leads() {
    let (queue, begun, go) = stalled(false);
    let ticket = queue.push_deferred("x").unwrap();
    drop(go);

    let told = ticket.wait_timeout(Duration::ZERO);

    assert_eq!(told.unwrap().get(), 1);
    assert!(begun.try_recv().is_ok());
}
