//! What does a pool do with what its handlers return?

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use backlog::{Delivery, Outcome};

use crate::harness::{drain, everywhere};

everywhere! {
    fn each_outcome_settles_its_message(world: &World) {
        let queue = world.open();
        queue.push_batch(["ack", "fail", "panic", "reject", "later", "ack"]).unwrap();
        let handler = |job: &Delivery| match job.payload() {
            b"ack" => Ok(Outcome::Ack),
            b"fail" => Err("it failed"),
            b"reject" => Ok(Outcome::Reject("bad".into())),
            b"later" => Ok(Outcome::NackAfter(Duration::from_secs(5), "later".into())),
            _ => panic!("a handler's panic, on purpose"),
        };

        let pool = queue.consumer().unwrap().pool(2).until_idle().spawn(handler).unwrap();
        let report = pool.join().unwrap();

        assert_eq!((report.acked, report.nacked, report.rejected), (2, 3, 1));
        let stats = &queue.stats().groups[0];
        assert_eq!((stats.ready, stats.delayed, stats.on_loan, stats.dead), (0, 3, 0, 1));
    }

    fn a_limit_ends_a_pool(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b", "c", "d"]).unwrap();
        let consumer = queue.consumer().unwrap();

        let pool = consumer.pool(2).limit(3).spawn(|_| Ok::<_, Infallible>(())).unwrap();

        assert_eq!(pool.join().unwrap().acked, 3);
        assert_eq!(drain(&consumer).len(), 1);
    }

    fn stopping_lets_handlers_end_and_takes_no_more(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b"]).unwrap();
        let (begun, begins) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let goes = Mutex::new(goes);
        let consumer = queue.consumer().unwrap();
        let pool = consumer
            .pool(1)
            .spawn(move |_| {
                begun.send(()).unwrap();
                goes.lock().unwrap().recv().map_err(|error| error.to_string())
            })
            .unwrap();
        begins.recv().unwrap();

        pool.stopper().stop();
        go.send(()).unwrap();
        let report = pool.join().unwrap();

        assert_eq!(report.acked, 1);
        assert_eq!(drain(&consumer), ["b"]);
    }

    fn closing_the_queue_ends_a_pool(world: &World) {
        let queue = world.open();
        let pool = queue.consumer().unwrap().pool(3).spawn(|_| Ok::<_, Infallible>(())).unwrap();

        queue.close().unwrap();

        assert!(pool.join().unwrap().error.is_none());
    }

    fn a_slow_job_is_told_of_once_and_goes_on(world: &World) {
        let queue = world.open();
        queue.push("slow").unwrap();
        let (begun, begins) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let (told, tells) = mpsc::channel();
        let goes = Mutex::new(goes);
        let pool = queue
            .consumer()
            .unwrap()
            .pool(2)
            .limit(1)
            .warn_after(Duration::from_secs(10), move |slow| told.send(slow).unwrap())
            .spawn(move |_| {
                begun.send(()).unwrap();
                goes.lock().unwrap().recv().map_err(|error| error.to_string())
            })
            .unwrap();
        begins.recv().unwrap();

        world.advance(Duration::from_secs(9));
        assert!(tells.try_recv().is_err());
        world.advance(Duration::from_secs(2));

        let slow = tells.recv().unwrap();
        assert_eq!((slow.offset.get(), slow.running), (0, Duration::from_secs(11)));
        world.advance(Duration::from_secs(60));
        go.send(()).unwrap();
        assert_eq!(pool.join().unwrap().acked, 1);
        assert!(tells.recv().is_err(), "told once, and the watch has ended");
    }

    fn a_pool_keeps_the_loans_of_handlers_that_take_long(world: &World) {
        let queue = world.open();
        queue.push("long").unwrap();
        let lease = Duration::from_secs(10);
        let worker = queue.consumer().unwrap().with_lease(lease);
        let (begun, begins) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let goes = Mutex::new(goes);
        let pool = worker
            .pool(1)
            .limit(1)
            .keep_loans()
            .spawn(move |job| {
                begun.send(job.receipt()).unwrap();
                goes.lock().unwrap().recv().map_err(|error| error.to_string())
            })
            .unwrap();
        let receipt = begins.recv().unwrap();

        for _ in 0..10 {
            let due = queue.stats().groups[0].next_due.unwrap();
            world.advance(Duration::from_secs(4));
            // Extended by now, or soon: the loan ends later than it did.
            while queue.stats().groups[0].next_due.is_none_or(|next| next <= due) {
                std::thread::yield_now();
            }
            assert!(worker.try_recv().unwrap().is_none());
        }
        go.send(()).unwrap();

        assert_eq!(pool.join().unwrap().acked, 1);
        assert!(queue.settle(&receipt, &Outcome::Ack).is_err());
    }
}
