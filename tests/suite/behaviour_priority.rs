//! Do messages of a higher priority go first, and does each ordering key keep its order?

use std::collections::BTreeMap;
use std::time::Duration;

use backlog::{Consumer, Delivery, Error, GroupOptions, Message, Offset, Queue, Retry, Start};

use crate::harness::{drain, everywhere};

const SECOND: Duration = Duration::from_secs(1);

fn text(job: &Delivery) -> String {
    String::from_utf8(job.payload().to_vec()).unwrap()
}

fn try_text(worker: &Consumer) -> Option<String> {
    worker.try_recv().unwrap().map(|job| {
        let text = text(&job);
        job.ack().unwrap();
        text
    })
}

/// Pushes one message for each priority, told by its name: `4b` is normal and the second of them.
fn push_all(queue: &Queue, names: &[&str]) {
    for name in names {
        let priority = name.as_bytes()[0] - b'0';
        queue.push(Message::new(*name).priority(priority)).unwrap();
    }
}

fn keyed<'a>(name: &'a str, key: &'a str) -> Message<'a> {
    Message::new(name).ordering_key(key.as_bytes())
}

fn quick() -> GroupOptions {
    GroupOptions::new().retry(Retry::steps(&[10 * SECOND]))
}

everywhere! {
    fn higher_priorities_go_first_and_within_one_the_older(world: &World) {
        let queue = world.open();
        push_all(&queue, &["4a", "0a", "9a", "4b", "5a", "3a", "9b", "0b", "5b"]);

        let expected = ["9a", "9b", "5a", "5b", "4a", "4b", "3a", "0a", "0b"];
        assert_eq!(drain(&queue.consumer().unwrap()), expected);
        let stats = queue.group("default").unwrap().stats();
        assert_eq!((stats.ready, stats.on_loan), (0, 0));
    }

    fn one_that_is_pushed_later_goes_before_all_that_wait(world: &World) {
        let queue = world.open();
        let worker = queue.consumer().unwrap();
        push_all(&queue, &["4a", "1a", "4b"]);
        let held = worker.recv().unwrap();
        assert_eq!(text(&held), "4a");

        push_all(&queue, &["7a", "1b", "8a"]);

        assert_eq!(queue.group("default").unwrap().stats().ready, 5);
        assert_eq!(drain(&worker), ["8a", "7a", "4b", "1a", "1b"]);
        held.ack().unwrap();
    }

    fn the_order_holds_over_segments_and_a_reopening(world: &World) {
        let options = world.options().segment_bytes(8192);
        let queue = crate::harness::patiently(&options);
        let mut expected: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        for number in 0..400_u32 {
            let priority = u8::try_from(number * 7 % 10).unwrap();
            let name = format!("{priority} {number:0100}");
            queue.push(Message::new(name.as_bytes()).priority(priority)).unwrap();
            expected.entry(9 - priority).or_default().push(name);
        }
        let expected: Vec<String> = expected.into_values().flatten().collect();

        let mut came: Vec<String> = (0..150).filter_map(|_| try_text(&queue.consumer().unwrap())).collect();
        queue.close().unwrap();
        drop(queue);
        let queue = crate::harness::patiently(&options);
        came.extend((0..100).filter_map(|_| try_text(&queue.consumer().unwrap())));
        // All of it is there once more for a group that begins now, and after a seek.
        let other = queue.create_group("other", GroupOptions::new().start(Start::Beginning)).unwrap();
        assert_eq!(drain(&other.consumer()), expected);
        world.kill();
        let queue = crate::harness::patiently(&world.options().segment_bytes(8192));
        came.extend(drain(&queue.consumer().unwrap()));

        assert_eq!(came, expected);
        let group = queue.group("default").unwrap();
        group.seek(Start::Beginning).unwrap();
        assert_eq!(drain(&group.consumer()), expected);
        assert_eq!(queue.group("default").unwrap().stats().ready, 0);
    }

    fn a_priority_is_kept_over_retries_revival_and_delay(world: &World) {
        let queue = world.open();
        let group = queue.create_group("g", quick()).unwrap();
        push_all(&queue, &["4a", "8a", "2a"]);
        queue.push(Message::new("9 later").priority(9).delay(10 * SECOND)).unwrap();
        queue.push(Message::new("1 later").priority(1).delay(10 * SECOND)).unwrap();
        let worker = group.consumer();

        let job = worker.recv().unwrap();
        assert_eq!((job.priority(), text(&job)), (8, "8a".into()));
        job.nack("again").unwrap();
        let job = worker.recv().unwrap();
        assert_eq!(text(&job), "4a");
        job.reject("no").unwrap();
        let job = worker.recv().unwrap();
        assert_eq!((job.priority(), text(&job)), (2, "2a".into()));
        job.reject("no").unwrap();
        assert!(worker.try_recv().unwrap().is_none());
        group.revive_all().unwrap();
        world.advance(10 * SECOND);
        push_all(&queue, &["4b", "3a"]);

        assert_eq!(drain(&worker), ["9 later", "8a", "4a", "4b", "3a", "2a", "1 later"]);
    }

    fn what_was_lent_before_its_turn_is_cancelled_purged_and_looked_at_like_any_other(world: &World) {
        let queue = world.open();
        let group = queue.create_group("g", quick()).unwrap();
        push_all(&queue, &["4a", "4b", "9a", "9b", "0a", "4c"]);
        let worker = group.consumer();
        let first = worker.recv().unwrap();
        assert_eq!(first.offset().get(), 2);

        assert_eq!(group.discard([first.offset(), Offset::new(4).unwrap()]).unwrap(), 2);
        assert!(matches!(first.ack(), Err(Error::LeaseLost { .. })));
        let second = worker.recv().unwrap();
        assert_eq!(text(&second), "9b");
        let stats = group.stats();
        assert_eq!((stats.ready, stats.on_loan), (3, 1));
        assert_eq!(group.purge().unwrap(), 4);
        assert!(second.ack().is_err());
        assert_eq!((group.stats().ready, group.stats().on_loan), (0, 0));
        assert!(worker.try_recv().unwrap().is_none());
    }

    fn the_messages_of_a_key_belong_to_one_receive_at_a_time(world: &World) {
        let queue = world.open();
        let group = queue.create_group("g", quick()).unwrap();
        let (one, other) = (group.consumer(), group.consumer());
        for (name, key) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("b2", "b")] {
            queue.push(keyed(name, key)).unwrap();
        }
        queue.push("free").unwrap();

        let a1 = one.recv().unwrap();
        assert_eq!((text(&a1), a1.ordering_key()), ("a1".into(), Some(&b"a"[..])));
        let b1 = other.recv().unwrap();
        assert_eq!(text(&b1), "b1");
        assert_eq!(try_text(&one), Some("free".into()));
        assert!(one.try_recv().unwrap().is_none(), "both keys are out");
        assert_eq!(group.stats().ready, 3);
        b1.ack().unwrap();
        assert_eq!(try_text(&one), Some("b2".into()));
        a1.nack("not yet").unwrap();
        assert!(other.try_recv().unwrap().is_none(), "the others wait for the one that failed");
        world.advance(10 * SECOND);
        assert_eq!(drain(&other), ["a1", "a2", "a3"]);
    }

    fn a_batch_may_take_several_of_a_key_in_order(world: &World) {
        let queue = world.open();
        let worker = queue.consumer().unwrap();
        for (name, key) in [("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b"), ("a3", "a"), ("a4", "a")] {
            queue.push(keyed(name, key)).unwrap();
        }

        let jobs = worker.recv_batch(5, Duration::ZERO).unwrap();

        let (a, b): (Vec<String>, Vec<String>) = jobs.iter().map(text).partition(|name| name.starts_with('a'));
        assert!(a == ["a1", "a2", "a3", "a4"][..a.len()] && b == ["b1", "b2"][..b.len()], "{a:?} {b:?}");
        assert_eq!(jobs.len(), 5);
        assert!(worker.try_recv().unwrap().is_none());
        queue.ack_all(jobs).unwrap();
        assert_eq!(drain(&worker).len(), 1);
    }

    fn a_key_goes_on_behind_what_was_given_up_or_discarded_and_over_a_reopening(world: &World) {
        let queue = world.open();
        let group = queue.create_group("g", quick()).unwrap();
        for name in ["1", "2", "3", "4", "5", "6"] {
            queue.push(keyed(name, "k")).unwrap();
        }
        let worker = group.consumer().with_lease(60 * SECOND);
        worker.recv().unwrap().reject("never").unwrap();
        let second = worker.recv().unwrap().leave();
        group.discard([Offset::new(2).unwrap()]).unwrap();

        queue.close().unwrap();
        drop((queue, group, worker));
        let queue = world.open();
        let group = queue.group("g").unwrap();
        assert!(group.consumer().try_recv().unwrap().is_none(), "the loan with a time is still out");
        queue.settle(&second, &backlog::Outcome::Ack).unwrap();
        let fourth = group.consumer().recv().unwrap();
        assert_eq!(text(&fourth), "4");
        drop(fourth);
        let queue = { drop((queue, group)); world.open_after_kill() };
        let group = queue.group("g").unwrap();
        group.revive_all().unwrap();
        world.advance(10 * SECOND);
        assert_eq!(drain(&group.consumer()), ["1", "4", "5", "6"]);
    }

    fn what_is_no_priority_and_no_key_is_refused(world: &World) {
        let queue = world.open();

        let error = queue.push(Message::new("x").priority(10)).unwrap_err();
        assert!(error.to_string().contains("a priority of 10: 0 to 9 are allowed"), "{error}");
        for key in [Vec::new(), vec![7; 256]] {
            let error = queue.push(Message::new("x").ordering_key(key)).unwrap_err();
            assert!(error.to_string().contains("1 to 255 are allowed"), "{error}");
        }
        assert_eq!(queue.stats().messages, 0);
    }
}
