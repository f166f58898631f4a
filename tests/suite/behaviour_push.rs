//! What does a push promise while nothing goes wrong?

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use backlog::{Durability, Error};

use crate::harness::{drain, everywhere, on_both_disks, patiently};

/// Runs a future to its end on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

everywhere! {
    fn messages_come_in_the_order_of_their_pushes(world: &World) {
        let queue = world.open();
        for number in 0..20 {
            queue.push(format!("{number}")).unwrap();
        }

        let payloads = drain(&queue.consumer().unwrap());

        assert_eq!(payloads, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    }

    fn offsets_grow_and_those_of_a_batch_are_neighbours(world: &World) {
        let queue = world.open();

        let first = queue.push("a").unwrap();
        let batch: Vec<_> = queue.push_batch(["b", "c", "d"]).unwrap().collect();
        let last = queue.with_durability(Durability::Buffered).push("e").unwrap();

        assert!(first < batch[0] && batch[2] < last);
        assert_eq!((batch[1].get(), batch[2].get()), (batch[0].get() + 1, batch[0].get() + 2));
        assert_eq!(drain(&queue.consumer().unwrap()), ["a", "b", "c", "d", "e"]);
    }

    fn an_empty_batch_writes_nothing(world: &World) {
        let queue = world.open();

        let offsets = queue.push_batch(Vec::<&str>::new()).unwrap();

        assert_eq!(offsets.len(), 0);
        assert_eq!(queue.stats().messages, 0);
        assert!(queue.push("first").unwrap().get() == 0);
    }

    fn a_message_that_is_too_large_changes_nothing(world: &World) {
        let queue = world.options().max_message_bytes(10).open().unwrap();

        let error = queue.push_batch(["fits", "does not fit in ten"]).unwrap_err();

        assert!(matches!(error, Error::TooLarge { limit: 10, length: 19, .. }), "{error}");
        assert_eq!(queue.stats().messages, 0);
        assert_eq!(queue.push("ten bytes!").unwrap().get(), 0);
    }

    fn a_payload_comes_as_it_went_empty_or_with_any_byte(world: &World) {
        let queue = world.open();
        let bytes: Vec<u8> = (0..=255).collect();
        queue.push(&[]).unwrap();
        queue.push(&bytes).unwrap();
        let consumer = queue.consumer().unwrap();

        let (empty, full) = (consumer.recv().unwrap(), consumer.recv().unwrap());

        assert_eq!((empty.payload(), full.payload()), (&[][..], &bytes[..]));
        assert_eq!(&full.to_payload()[..], bytes);
        empty.ack().unwrap();
        full.ack().unwrap();
    }

    fn a_ticket_is_answered_by_whoever_waits(world: &World) {
        let queue = world.open();
        let first = queue.push_deferred("a").unwrap();
        let second = queue.push_deferred("b").unwrap();

        let offset = second.wait_timeout(Duration::from_secs(1)).unwrap();

        assert!(first.wait().unwrap() < offset);
        assert_eq!(second.wait().unwrap(), offset);
        assert_eq!(drain(&queue.consumer().unwrap()), ["a", "b"]);
    }

    fn a_polled_ticket_is_answered_without_a_runtime(world: &World) {
        let queue = world.options().threads(true).open().unwrap();

        let offset = block_on(queue.push_deferred("a").unwrap()).unwrap();

        assert_eq!(offset.get(), 0);
        assert_eq!(drain(&queue.consumer().unwrap()), ["a"]);
    }

    fn a_dropped_ticket_cancels_nothing(world: &World) {
        let queue = world.open();

        drop(queue.push_deferred("a").unwrap());
        queue.close().unwrap();

        assert_eq!(drain(&world.open().consumer().unwrap()), ["a"]);
    }

    fn messages_roll_through_segments_and_may_be_larger_than_one(world: &World) {
        let options = || world.options().segment_bytes(8 << 10);
        let queue = options().open().unwrap();
        let payloads: Vec<String> = (0..30).map(|number| format!("{number:0width$}", width = number * 700)).collect();
        for payload in &payloads {
            queue.push(payload).unwrap();
        }
        let segments = queue.stats().segments;
        queue.close().unwrap();

        let queue = patiently(&options());

        assert!(segments > 20, "{segments}");
        assert_eq!(queue.stats().segments, segments);
        assert_eq!(drain(&queue.consumer().unwrap()), payloads);
    }

    fn pushes_from_many_threads_keep_the_order_of_each(world: &World) {
        let queue = world.options().threads(true).open().unwrap();
        thread::scope(|scope| {
            for thread in 0..4 {
                let queue = &queue;
                scope.spawn(move || {
                    for number in 0..50 {
                        queue.push(format!("{thread} {number:02}")).unwrap();
                    }
                });
            }
        });

        let payloads = drain(&queue.consumer().unwrap());

        assert_eq!(payloads.len(), 200);
        for thread in 0..4 {
            let of_it: Vec<_> = payloads.iter().filter(|text| text.starts_with(&thread.to_string())).collect();
            assert!(of_it.is_sorted() && of_it.len() == 50);
        }
    }

    fn pushes_that_were_told_survive_a_kill_at_both_levels(world: &World) {
        let queue = world.open();
        queue.push("synced").unwrap();
        queue.with_durability(Durability::Buffered).push("buffered").unwrap();
        world.kill();

        let queue = world.open();

        assert!(!queue.recovery().clean);
        assert_eq!(drain(&queue.consumer().unwrap()), ["synced", "buffered"]);
    }

    fn offsets_are_not_given_again_after_a_kill(world: &World) {
        let told = world.open().push("a").unwrap();
        let queue = world.open();
        let again = queue.push("b").unwrap();
        world.kill();

        let last = world.open().push("c").unwrap();

        assert!(told < again && again < last);
    }
}

on_both_disks! {
    fn without_threads_the_duties_write_what_nobody_waits_for(world: &World) {
        let queue = world.open();
        drop(queue.push_deferred("a").unwrap());

        queue.run_duties().unwrap();

        assert_eq!(queue.stats().messages, 1);
    }
}
