//! When does a message come that says so itself: delays, schedules, ends?

use std::time::{Duration, UNIX_EPOCH};

use backlog::{DeadReason, GroupOptions, Message, Queue};

use crate::harness::{drain, everywhere};

const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const BEGUN: Duration = Duration::from_millis(1_700_000_000_000);

fn delayed(queue: &Queue, seconds: u32) {
    queue.push(Message::new(format!("after {seconds}")).delay(seconds * SECOND)).unwrap();
}

everywhere! {
    fn a_delayed_message_waits_and_others_pass_it(world: &World) {
        let queue = world.open();
        delayed(&queue, 10);
        queue.push("now").unwrap();
        delayed(&queue, 5);
        let worker = queue.consumer().unwrap();

        assert_eq!(drain(&worker), ["now"]);
        assert_eq!(queue.group("default").unwrap().stats().delayed, 2);
        world.advance(5 * SECOND);
        assert_eq!(drain(&worker), ["after 5"]);
        world.advance(4 * SECOND);
        assert_eq!(drain(&worker), [""; 0]);
        world.advance(SECOND);
        let job = worker.try_recv().unwrap().unwrap();
        assert_eq!((job.payload(), job.attempt()), (&b"after 10"[..], 1));
        assert_eq!(job.due(), Some(UNIX_EPOCH + BEGUN + 10 * SECOND));
        job.ack().unwrap();
    }

    fn one_that_is_due_takes_its_place_by_offset(world: &World) {
        let queue = world.open();
        delayed(&queue, 1);
        queue.push("a").unwrap();
        queue.push("b").unwrap();
        let worker = queue.consumer().unwrap();
        worker.try_recv().unwrap().unwrap().ack().unwrap();

        world.advance(SECOND);

        assert_eq!(drain(&worker), ["after 1", "b"]);
    }

    fn a_delay_is_over_though_nobody_looked_in_between(world: &World) {
        let queue = world.open();
        delayed(&queue, 10);
        queue.push(Message::new("long ago").at(UNIX_EPOCH + SECOND)).unwrap();

        world.advance(11 * SECOND);

        assert_eq!(drain(&queue.consumer().unwrap()), ["after 10", "long ago"]);
    }

    fn a_delay_survives_closing_and_kills(world: &World) {
        let queue = world.open();
        delayed(&queue, 10);
        delayed(&queue, 20);
        assert!(queue.consumer().unwrap().try_recv().unwrap().is_none());
        queue.close().unwrap();
        world.advance(5 * SECOND);
        let queue = world.open();
        assert!(queue.consumer().unwrap().try_recv().unwrap().is_none());

        let queue = world.open_after_kill();
        let worker = queue.consumer().unwrap();

        assert!(worker.try_recv().unwrap().is_none());
        world.advance(5 * SECOND);
        assert_eq!(drain(&worker), ["after 10"]);
        world.advance(10 * SECOND);
        assert_eq!(drain(&worker), ["after 20"]);
    }

    fn a_wall_clock_that_jumps_delays_or_hastens_and_loses_nothing(world: &World) {
        let queue = world.open();
        delayed(&queue, 10);
        queue.push(Message::new("next year").at(UNIX_EPOCH + BEGUN + YEAR)).unwrap();
        let worker = queue.consumer().unwrap();
        assert!(worker.try_recv().unwrap().is_none());

        // While it is open, a clock that cannot jump decides.
        world.set_wall(2 * YEAR);
        assert!(worker.try_recv().unwrap().is_none());
        world.set_wall(Duration::ZERO);
        world.advance(10 * SECOND);
        assert_eq!(drain(&worker), ["after 10"]);

        // Opened by a clock that is a year behind: it waits for a year at the most.
        queue.close().unwrap();
        world.set_wall_before(YEAR);
        let queue = world.open();
        let worker = queue.consumer().unwrap();
        world.advance(YEAR - SECOND);
        assert!(worker.try_recv().unwrap().is_none());
        world.advance(SECOND);
        assert_eq!(drain(&worker), ["next year"]);
    }

    fn each_group_waits_for_itself(world: &World) {
        let queue = world.open();
        queue.create_group("other", GroupOptions::new()).unwrap();
        delayed(&queue, 10);
        let worker = queue.consumer().unwrap();
        assert!(worker.try_recv().unwrap().is_none());
        world.advance(10 * SECOND);

        assert_eq!(drain(&queue.group("other").unwrap().consumer()), ["after 10"]);
        assert_eq!(drain(&worker), ["after 10"]);
    }

    fn what_was_not_handed_out_in_time_is_a_dead_letter_or_discarded(world: &World) {
        let queue = world.open();
        let mails = queue.create_group("mails", GroupOptions::new()).unwrap();
        let codes = queue.create_group("codes", GroupOptions::new().discard_expired(true)).unwrap();
        queue.push(Message::new("in time").expires_in(10 * SECOND)).unwrap();
        queue.push(Message::new("too late").expires_in(10 * SECOND)).unwrap();
        queue.push("for ever").unwrap();
        for group in [&mails, &codes] {
            let job = group.consumer().try_recv().unwrap().unwrap();
            assert_eq!(job.expires_at(), Some(UNIX_EPOCH + BEGUN + 10 * SECOND));
            world.advance(5 * SECOND);
            job.ack().unwrap();
        }

        world.advance(SECOND);

        assert_eq!(drain(&mails.consumer()), ["for ever"]);
        assert_eq!(drain(&codes.consumer()), ["for ever"]);
        let dead = mails.dead();
        assert_eq!((dead.len(), dead[0].reason, dead[0].offset.get()), (1, DeadReason::Expired, 1));
        assert_eq!((codes.stats().dead, codes.stats().ready), (0, 0));
        let queue = world.open_after_kill();
        assert_eq!(queue.group("mails").unwrap().stats().dead, 1);
    }

    fn a_retry_that_comes_too_late_is_not_handed_out(world: &World) {
        let queue = world.open();
        queue.push(Message::new("code").expires_in(10 * SECOND)).unwrap();
        let worker = queue.consumer().unwrap();
        worker.try_recv().unwrap().unwrap().nack_after(20 * SECOND, "busy").unwrap();

        world.advance(20 * SECOND);

        assert!(worker.try_recv().unwrap().is_none());
        let dead = queue.group("default").unwrap().dead();
        assert_eq!((dead[0].reason, dead[0].failures, dead[0].error.as_deref()), (DeadReason::Expired, 1, Some("busy")));
    }

    fn a_delayed_message_can_be_discarded_before_anybody_met_it(world: &World) {
        let queue = world.open();
        let offset = queue.push(Message::new("cancel me").delay(SECOND)).unwrap();
        queue.push("stays").unwrap();
        let worker = queue.consumer().unwrap();

        assert!(queue.discard(offset).unwrap());

        world.advance(2 * SECOND);
        assert_eq!(drain(&worker), ["stays"]);
        assert_eq!(queue.group("default").unwrap().stats().delayed, 0);
    }
}
