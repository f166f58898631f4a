//! How does a queue end, and what does the next opening find?

use std::thread;
use std::time::Duration;

use backlog::Error;

use crate::harness::{drain, everywhere, on_both_disks};

everywhere! {
    fn closing_wakes_whoever_waits(world: &World) {
        let queue = world.open();
        let consumer = queue.consumer().unwrap();

        let error = thread::scope(|scope| {
            let waiting = scope.spawn(|| consumer.recv().unwrap_err());
            queue.close().unwrap();
            waiting.join().unwrap()
        });

        assert!(error.is_closed(), "{error}");
        assert!(consumer.iter().next().is_none());
    }

    fn a_push_wakes_whoever_waits(world: &World) {
        let queue = world.open();
        let consumer = queue.consumer().unwrap();

        let payload = thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let job = consumer.recv().unwrap();
                let payload = job.to_payload();
                job.ack().unwrap();
                payload
            });
            queue.push("a").unwrap();
            waiting.join().unwrap()
        });

        assert_eq!(&payload[..], b"a");
    }

    fn closing_is_done_once_and_ends_everything(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b"]).unwrap();
        let job = queue.consumer().unwrap().recv().unwrap();

        queue.close().unwrap();
        queue.close().unwrap();

        assert!(queue.push("c").unwrap_err().is_closed());
        assert!(queue.push_deferred("c").unwrap_err().is_closed());
        assert!(queue.sync().unwrap_err().is_closed());
        assert!(queue.consumer().unwrap_err().is_closed());
        assert!(job.ack().unwrap_err().is_closed());
        assert_eq!(drain(&world.open().consumer().unwrap()), ["a", "b"]);
    }

    fn an_opening_may_wait_for_the_lock(world: &World) {
        let queue = world.open();

        let second = thread::scope(|scope| {
            let patient = world.options().lock_timeout(Duration::from_secs(3600));
            let waiting = scope.spawn(|| patient.open().unwrap());
            queue.close().unwrap();
            waiting.join().unwrap()
        });

        second.push("a").unwrap();
    }

    fn a_queue_that_is_not_to_be_made_is_not_made(world: &World) {
        let error = world.options().create(false).open().unwrap_err();

        assert!(matches!(error, Error::NotAQueue { .. }), "{error}");
        assert!(world.open().recovery().created);
    }

    fn a_clean_end_is_told_and_finds_nothing(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        queue.close().unwrap();

        let queue = world.open();

        assert!(queue.recovery().clean && !queue.recovery().created && !queue.recovery().has_findings());
        assert_eq!(drain(&queue.consumer().unwrap()), ["a"]);
    }

    fn a_kill_is_told_with_the_loans_that_came_back(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b", "c"]).unwrap();
        let jobs = queue.consumer().unwrap().recv_batch(2, Duration::ZERO).unwrap();
        world.kill();
        drop(jobs);

        let queue = world.open();

        let recovery = queue.recovery();
        assert_eq!((recovery.clean, recovery.loans_returned, recovery.has_findings()), (false, 2, false));
        assert_eq!(queue.stats().groups[0].ready, 3);
        assert_eq!(drain(&queue.consumer().unwrap()), ["a", "b", "c"]);
    }

    fn loans_go_back_uncounted_when_the_queue_is_closed(world: &World) {
        for _ in 0..10 {
            let queue = world.open();
            if queue.stats().messages == 0 {
                queue.push("a").unwrap();
            }
            let job = queue.consumer().unwrap().recv().unwrap();
            queue.close().unwrap();
            drop(job);
        }

        let queue = world.open();

        assert_eq!((queue.stats().groups[0].dead, queue.recovery().loans_returned), (0, 0));
        assert_eq!(drain(&queue.consumer().unwrap()), ["a"]);
    }

}

// Of a queue that nobody else has open.
on_both_disks! {
    fn a_queue_is_open_once_at_a_time(world: &World) {
        let queue = world.open();

        let error = world.options().open().unwrap_err();

        assert!(error.is_locked(), "{error}");
        queue.close().unwrap();
        world.open().close().unwrap();
    }

    fn dropping_the_last_handle_closes_in_silence(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        let consumer = queue.consumer().unwrap();
        drop(queue);
        assert!(world.options().open().unwrap_err().is_locked());

        drop(consumer);

        assert!(world.open().recovery().clean);
    }
}
