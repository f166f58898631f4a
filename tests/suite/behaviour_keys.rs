//! What do dedup keys and unique keys promise while nothing goes wrong?

use std::collections::BTreeSet;
use std::time::Duration;

use backlog::{Durability, Error, GroupOptions, Message, Offset, Queue};

use crate::harness::{World, drain, everywhere, patiently};

const HOUR: Duration = Duration::from_secs(3600);

fn dedup(queue: &Queue, key: &str) -> Offset {
    queue.push(Message::new(key).dedup_key(key)).unwrap()
}

fn unique(queue: &Queue, key: &str) -> Offset {
    queue.push(Message::new(key).unique_key(key)).unwrap()
}

fn stored(queue: &Queue) -> u64 {
    queue.stats().messages
}

/// Pushes something large often enough that segments are sealed.
fn roll(queue: &Queue) {
    let before = queue.stats().segments;
    while queue.stats().segments < before + 2 {
        queue.push([0; 1000].as_slice()).unwrap();
    }
}

fn small(world: &World) -> Queue {
    patiently(&world.options().segment_bytes(8192))
}

everywhere! {
    fn issue_5_a_push_with_a_key_that_is_taken_stores_nothing_and_returns_the_offset_of_the_first(world: &World) {
        let queue = world.open();

        let first = dedup(&queue, "a");
        let other = dedup(&queue, "b");
        queue.push("between").unwrap();

        assert_eq!((dedup(&queue, "a"), dedup(&queue, "b")), (first, other));
        assert_ne!(first, other);
        assert_eq!(drain(&queue.consumer().unwrap()), ["a", "b", "between"]);
        assert_eq!(dedup(&queue, "a"), first, "done or not");
    }

    fn issue_5_keys_survive_closing_kills_and_rolls(world: &World) {
        let queue = small(world);
        let first = dedup(&queue, "a");
        roll(&queue);
        queue.run_duties().unwrap();
        let second = dedup(&queue, "b");
        let waiting = unique(&queue, "c");
        queue.close().unwrap();

        let queue = small(world);
        let count = stored(&queue);
        assert_eq!((dedup(&queue, "a"), dedup(&queue, "b"), unique(&queue, "c")), (first, second, waiting));
        roll(&queue);
        world.kill();

        let queue = small(world);
        assert_eq!((dedup(&queue, "a"), dedup(&queue, "b"), unique(&queue, "c")), (first, second, waiting));
        assert!(stored(&queue) > count, "the others");
        let mut payloads = drain(&queue.consumer().unwrap());
        payloads.retain(|payload| payload.len() == 1);
        assert_eq!(payloads, ["a", "b", "c"]);
    }

    fn issue_5_the_window_ends_by_count_and_by_time(world: &World) {
        let options = world.options().dedup_window(2, HOUR);
        let queue = patiently(&options);

        let first = dedup(&queue, "a");
        dedup(&queue, "b");
        assert_eq!(dedup(&queue, "a"), first);
        dedup(&queue, "c");
        let again = dedup(&queue, "a");
        assert_ne!(again, first, "two others came");
        world.advance(HOUR - Duration::from_millis(1));
        assert_eq!(dedup(&queue, "a"), again);
        queue.close().unwrap();

        let queue = patiently(&options);
        assert_eq!(dedup(&queue, "a"), again, "a restart changes nothing");
        world.advance(Duration::from_millis(1));
        let later = dedup(&queue, "a");
        assert_ne!(later, again, "an hour is over");
        queue.close().unwrap();

        let queue = patiently(&options);
        assert_eq!(dedup(&queue, "a"), later);
        assert_eq!(stored(&queue), 5);
    }

    fn issue_5_a_unique_key_is_taken_until_its_message_is_done_in_every_group(world: &World) {
        let queue = world.open();
        let first = unique(&queue, "a");
        assert_eq!(unique(&queue, "a"), first, "no group, nothing is done");
        let one = queue.create_group("one", GroupOptions::new()).unwrap().consumer();
        let two = queue.create_group("two", GroupOptions::new()).unwrap().consumer();

        let job = one.recv().unwrap();
        assert_eq!(unique(&queue, "a"), first, "on loan");
        job.ack().unwrap();
        assert_eq!(unique(&queue, "a"), first, "the other group has it");
        two.recv().unwrap().reject("never").unwrap();
        assert_eq!(unique(&queue, "a"), first, "a dead letter can be revived");
        queue.group("two").unwrap().discard([first]).unwrap();
        let second = unique(&queue, "a");

        assert_ne!(second, first);
        assert_eq!(unique(&queue, "a"), second);
        assert_eq!(stored(&queue), 2);
    }

    fn issue_5_a_unique_key_stays_taken_however_old_and_is_free_after_a_restart_once_done(world: &World) {
        let options = world.options().dedup_window(0, Duration::ZERO).segment_bytes(8192);
        let queue = patiently(&options);
        let worker = queue.consumer().unwrap();
        let late = queue.push(Message::new("late").unique_key("late").delay(1000 * HOUR)).unwrap();
        let soon = unique(&queue, "soon");
        roll(&queue);
        drain(&worker);
        world.advance(500 * HOUR);
        queue.close().unwrap();

        let queue = patiently(&options);
        assert_eq!(unique(&queue, "late"), late);
        let again = unique(&queue, "soon");
        assert_ne!(again, soon);
        world.advance(500 * HOUR);
        assert_eq!(drain(&queue.consumer().unwrap()), ["late", "soon"]);
        assert_ne!(unique(&queue, "late"), late);
    }

    fn dedup_keys_and_unique_keys_never_meet(world: &World) {
        let queue = world.open();

        let offsets = [dedup(&queue, "a"), unique(&queue, "a"), dedup(&queue, "b"), queue.push("a").unwrap()];

        assert_eq!(offsets.iter().collect::<BTreeSet<_>>().len(), 4);
        assert_eq!((dedup(&queue, "a"), unique(&queue, "a")), (offsets[0], offsets[1]));
        let last = Message::new("x").dedup_key("z").unique_key("b");
        assert_eq!(queue.push(last).unwrap().get(), 4, "the last key that was given counts");
        assert_eq!(unique(&queue, "b").get(), 4);
    }

    fn a_batch_of_several_with_a_key_that_is_taken_is_refused_as_a_whole(world: &World) {
        let queue = world.open();
        let first = dedup(&queue, "a");
        let message = |key: &'static str| Message::new(key).dedup_key(key);

        let taken = queue.push_batch([message("b"), message("c"), message("a")]).unwrap_err();
        let twice = queue.push_batch([message("b"), Message::new("plain"), message("b")]).unwrap_err();
        let free: Vec<_> = queue.push_batch([message("b"), message("c")]).unwrap().collect();

        assert!(matches!(taken, Error::Duplicate { index: 2, offset: Some(offset) } if offset == first), "{taken}");
        assert!(matches!(twice, Error::Duplicate { index: 2, offset: None }), "{twice}");
        assert_eq!(stored(&queue), 3);
        assert_eq!((dedup(&queue, "b"), dedup(&queue, "c")), (free[0], free[1]));
        let alone: Vec<_> = queue.push_batch([message("a")]).unwrap().collect();
        assert_eq!(alone, [first], "a batch of one is a push");
    }

    fn tickets_with_one_key_share_one_message(world: &World) {
        let queue = world.open();

        let tickets: Vec<_> = (0..5).map(|_| queue.push_deferred(Message::new("a").dedup_key("a")).unwrap()).collect();
        let waited = dedup(&queue, "a");
        let later = queue.push_deferred(Message::new("a").dedup_key("a")).unwrap();

        for ticket in tickets {
            assert_eq!(ticket.wait().unwrap(), waited);
        }
        assert_eq!(later.wait_timeout(HOUR).unwrap(), waited);
        assert_eq!(stored(&queue), 1);
    }

    fn a_batch_waits_for_the_message_that_is_on_its_way_with_its_key(world: &World) {
        let queue = world.open();
        let message = |key: &'static str| Message::new(key).unique_key(key);

        let ticket = queue.push_deferred(message("a")).unwrap();
        let refused = queue.push_batch([message("b"), message("a")]).unwrap_err();

        let first = ticket.wait().unwrap();
        assert!(matches!(refused, Error::Duplicate { index: 1, offset: Some(offset) } if offset == first), "{refused}");
        assert_eq!(stored(&queue), 1);
    }

    fn issue_5_messages_are_discarded_by_their_key_on_loan_too(world: &World) {
        let queue = small(world);
        let one = queue.create_group("one", GroupOptions::new()).unwrap();
        let two = queue.create_group("two", GroupOptions::new()).unwrap();
        unique(&queue, "a");
        dedup(&queue, "a");
        dedup(&queue, "b");
        let delayed = queue.push(Message::new("c").dedup_key("c").delay(HOUR)).unwrap();
        let lent = one.consumer().recv().unwrap();
        roll(&queue);

        assert_eq!(two.discard_key("b").unwrap(), 1);
        assert_eq!(queue.discard_key("a").unwrap(), 2, "of both kinds");
        assert!(matches!(lent.ack().unwrap_err(), Error::LeaseLost { .. }));
        queue.close().unwrap();

        let queue = small(world);
        assert_eq!(queue.discard_key("c").unwrap(), 1);
        assert_eq!((queue.discard_key("c").unwrap(), queue.discard_key("never").unwrap()), (0, 0));
        let kept = |group: &str| {
            let mut payloads = drain(&queue.group(group).unwrap().consumer());
            payloads.retain(|payload| payload.len() == 1);
            payloads
        };
        assert_eq!((kept("one"), kept("two")), (vec!["b".to_owned()], vec![]));
        assert_eq!(dedup(&queue, "c"), delayed, "a dedup key stays taken");
        assert!(unique(&queue, "a") > delayed, "a unique key is free");
    }

    fn a_key_is_seen_by_whoever_receives_the_message(world: &World) {
        let queue = world.open();
        dedup(&queue, "a");
        queue.push("plain").unwrap();
        let worker = queue.consumer().unwrap();

        let jobs = worker.recv_batch(2, Duration::ZERO).unwrap();
        assert_eq!((jobs[0].key(), jobs[1].key()), (Some(&b"a"[..]), None));
        assert_eq!(queue.group("default").unwrap().peek(Offset::new(1).unwrap()).unwrap().unwrap().key(), None);
    }

    fn what_is_no_key_is_refused(world: &World) {
        let queue = world.open();

        for key in [vec![], vec![7; 256]] {
            let refused = queue.push(Message::new("x").dedup_key(&key)).unwrap_err();
            assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
            assert!(matches!(queue.discard_key(&key).unwrap_err(), Error::Invalid { .. }));
        }
        queue.push(Message::new("x").unique_key([7; 255])).unwrap();
        assert_eq!(stored(&queue), 1);
    }

    fn a_closed_queue_takes_no_keys(world: &World) {
        let queue = world.open();
        dedup(&queue, "a");
        let waits = queue.with_durability(Durability::Buffered).push_deferred(Message::new("b").dedup_key("b")).unwrap();
        queue.close().unwrap();

        assert!(queue.push(Message::new("a").dedup_key("a")).unwrap_err().is_closed());
        assert!(queue.discard_key("a").unwrap_err().is_closed());
        let second = waits.wait().unwrap();
        assert_eq!(dedup(&world.open(), "b"), second);
    }
}
