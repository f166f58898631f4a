//! Does a view beside a busy owner show what was pushed, and nothing else?

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backlog::{Offset, Options, View};

#[test]
fn a_view_beside_a_busy_owner_shows_what_was_pushed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("jobs");
    let queue = Options::new(&folder).segment_bytes(64 << 10).open().unwrap();
    let worker = queue.consumer().unwrap();
    let stop = AtomicBool::new(false);
    let payload =
        |number: u64| number.to_string().repeat(1 + usize::try_from(number % 50).unwrap()).into_bytes();
    std::thread::scope(|scope| {
        let (queue, worker, stop) = (&queue, &worker, &stop);
        scope.spawn(move || {
            let quick = queue.with_durability(backlog::Durability::Buffered);
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number = quick.push(payload(number)).unwrap().get() + 1;
            }
        });
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for job in worker.recv_batch(100, Duration::from_millis(1)).unwrap() {
                    job.ack().unwrap();
                }
            }
        });
        let mut shown = 0;
        let mut view = View::open(&folder).unwrap();
        for _ in 0..200 {
            for message in view.messages(Offset::MIN) {
                let message = message.unwrap();
                let number = message.offset().get();
                assert!(message.payload() == payload(number), "{message:?}");
                shown += 1;
            }
            view.follow().unwrap();
        }
        assert!(backlog::verify_deep(&folder, &mut |_| {}).unwrap().is_empty());
        stop.store(true, Ordering::Relaxed);
        assert!(shown > 0);
    });
    queue.close().unwrap();
}
