//! Does a ticket keep its word when others, or the disk, are slow?

use std::future::{Future as _, IntoFuture as _};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use backlog::testing::SimDisk;
use backlog::{Options, Queue};

use crate::watch;

/// A queue on a disk whose next sync stalls; who waits for it hears that it began, and lets it go on.
fn stalled(threads: bool) -> (Queue, Receiver<()>, Sender<()>) {
    let disk = SimDisk::new(1);
    let queue = Options::new("jobs").sim_disk(&disk).threads(threads).open().unwrap();
    queue.push("opened").unwrap();
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
