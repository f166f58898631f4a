//! What becomes of a message that was handed out?

use std::time::Duration;

use backlog::{GroupOptions, Retry};

use crate::harness::{drain, everywhere, on_both_disks};

const SECOND: Duration = Duration::from_secs(1);

everywhere! {
    fn acks_may_come_in_any_order(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b", "c", "d"]).unwrap();
        let mut jobs = queue.consumer().unwrap().recv_batch(4, SECOND).unwrap();
        jobs.remove(2).ack().unwrap();
        jobs.remove(0).ack().unwrap();
        jobs.into_iter().for_each(|job| job.release().unwrap());
        queue.close().unwrap();

        assert_eq!(drain(&world.open().consumer().unwrap()), ["b", "d"]);
    }

    fn a_failed_message_comes_again_after_a_second_give_or_take_a_fifth(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        let consumer = queue.consumer().unwrap();
        consumer.recv().unwrap().nack("no").unwrap();

        world.advance(Duration::from_millis(799));
        assert!(consumer.try_recv().unwrap().is_none());
        assert_eq!(queue.stats().groups[0].delayed, 1);
        world.advance(Duration::from_millis(402));

        let job = consumer.try_recv().unwrap().unwrap();
        assert_eq!((job.payload(), job.attempt()), (&b"a"[..], 2));
        job.ack().unwrap();
    }

    fn a_retry_waits_twice_as_long_each_time_up_to_its_cap(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        let retry = Retry::exponential(SECOND, 4 * SECOND).jitter(0);
        let consumer = queue.create_group("g", GroupOptions::new().retry(retry)).unwrap().consumer();

        for wait in [1, 2, 4, 4] {
            consumer.try_recv().unwrap().unwrap().nack("no").unwrap();
            world.advance(SECOND * wait - Duration::from_millis(1));
            assert!(consumer.try_recv().unwrap().is_none(), "{wait} s");
            world.advance(Duration::from_millis(1));
        }

        assert_eq!(drain(&consumer), ["a"]);
    }

    fn a_nack_may_say_when_the_message_comes_again(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        let consumer = queue.consumer().unwrap();
        consumer.recv().unwrap().nack_after(90 * SECOND, "later").unwrap();

        world.advance(89 * SECOND);
        assert!(consumer.try_recv().unwrap().is_none());
        world.advance(SECOND);

        assert_eq!(drain(&consumer), ["a"]);
    }

    fn a_delay_goes_on_while_the_queue_is_closed(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        queue.consumer().unwrap().recv().unwrap().nack_after(90 * SECOND, "later").unwrap();
        queue.close().unwrap();

        let queue = world.open();
        let consumer = queue.consumer().unwrap();

        world.advance(89 * SECOND);
        assert!(consumer.try_recv().unwrap().is_none());
        world.advance(2 * SECOND);
        assert_eq!(drain(&consumer), ["a"]);
    }

    fn a_rejected_message_is_dead(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b"]).unwrap();
        let consumer = queue.consumer().unwrap();
        consumer.recv().unwrap().reject("cannot be read").unwrap();
        assert_eq!(queue.stats().groups[0].dead, 1);
        queue.close().unwrap();

        let queue = world.open();

        assert_eq!(queue.stats().groups[0].dead, 1);
        assert_eq!(drain(&queue.consumer().unwrap()), ["b"]);
    }

    fn a_message_that_fails_too_often_is_dead(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        let group = queue.create_group("g", GroupOptions::new().max_failures(3)).unwrap();

        for _ in 0..3 {
            assert_eq!(group.stats().dead, 0);
            group.consumer().recv().unwrap().nack_after(Duration::ZERO, "no").unwrap();
        }

        assert_eq!((group.stats().dead, group.stats().ready), (1, 0));
        assert!(group.consumer().try_recv().unwrap().is_none());
    }

    fn a_released_message_is_ready_at_once_and_nothing_is_counted(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b"]).unwrap();
        let group = queue.create_group("g", GroupOptions::new().max_failures(1).max_losses(1)).unwrap();

        for _ in 0..10 {
            group.consumer().recv().unwrap().release().unwrap();
        }

        assert_eq!(drain(&group.consumer()), ["a", "b"]);
    }

    fn many_acks_are_one_call(world: &World) {
        let queue = world.open();
        queue.push_batch((0..100).map(|number| format!("{number}"))).unwrap();
        let consumer = queue.consumer().unwrap();
        let jobs = consumer.recv_batch(99, SECOND).unwrap();
        assert_eq!(jobs.len(), 99);

        let answers = queue.ack_all(jobs).unwrap();

        assert!(answers.len() == 99 && answers.iter().all(Result::is_ok));
        assert_eq!(drain(&consumer), ["99"]);
    }

    fn a_batch_takes_what_is_there_and_waits_only_for_the_first(world: &World) {
        let queue = world.open();
        let consumer = queue.consumer().unwrap();
        assert!(consumer.recv_batch(5, Duration::ZERO).unwrap().is_empty());
        queue.push_batch(["a", "b"]).unwrap();

        let jobs = consumer.recv_batch(5, Duration::from_secs(3600)).unwrap();

        assert_eq!(jobs.len(), 2);
        queue.ack_all(jobs).unwrap();
    }

    fn a_message_whose_holder_died_comes_again_and_too_many_losses_are_its_death(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        queue.create_group("g", GroupOptions::new().max_losses(2)).unwrap();
        let mut dead = Vec::new();
        for _ in 0..2 {
            let queue = world.open_after_kill();
            let job = queue.group("g").unwrap().consumer().try_recv().unwrap().unwrap();
            dead.push(queue.stats().groups[0].dead);
            world.kill();
            std::mem::drop(job);
        }

        let queue = world.open();

        assert_eq!(queue.recovery().loans_returned, 1);
        assert_eq!(dead, [0, 0]);
        assert_eq!(queue.stats().groups[0].dead, 1);
        assert!(queue.group("g").unwrap().consumer().try_recv().unwrap().is_none());
    }

    fn a_message_that_was_lost_twice_is_handed_out_alone(world: &World) {
        world.open().push_batch(["a", "b", "c"]).unwrap();
        for _ in 0..2 {
            let queue = world.open_after_kill();
            let job = queue.consumer().unwrap().recv().unwrap();
            world.kill();
            drop(job);
        }
        let queue = world.open();
        let consumer = queue.consumer().unwrap();

        let alone = consumer.recv_batch(3, Duration::ZERO).unwrap();

        assert_eq!(alone.iter().map(|job| job.payload()).collect::<Vec<_>>(), [b"a"]);
        queue.ack_all(alone).unwrap();
        assert_eq!(drain(&consumer), ["b", "c"]);
    }
}

// A guest that drops a delivery does not wait until the owner knows.
on_both_disks! {
    fn a_dropped_delivery_comes_again_before_newer_messages(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b"]).unwrap();
        let consumer = queue.consumer().unwrap();
        drop(consumer.recv().unwrap());

        world.advance(2 * SECOND);

        assert_eq!(drain(&consumer), ["a", "b"]);
    }
}
