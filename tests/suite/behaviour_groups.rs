//! What are groups to each other, and consumers of one group?

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;

use backlog::{Error, GroupOptions, Start};

use crate::harness::{drain, everywhere};

fn starting(start: Start) -> GroupOptions {
    GroupOptions::new().start(start)
}

everywhere! {
    fn every_group_sees_every_message(world: &World) {
        let queue = world.open();
        let first = queue.create_group("first", GroupOptions::new()).unwrap();
        let second = queue.create_group("second", GroupOptions::new()).unwrap();
        queue.push_batch(["a", "b"]).unwrap();

        assert_eq!(drain(&first.consumer()), ["a", "b"]);
        assert_eq!(drain(&second.consumer()), ["a", "b"]);
    }

    fn the_default_group_appears_with_its_first_consumer(world: &World) {
        let queue = world.open();
        assert!(queue.groups().is_empty());

        let consumer = queue.consumer().unwrap();

        assert_eq!((consumer.group(), queue.groups()), ("default", vec!["default".to_owned()]));
    }

    fn a_group_that_is_not_there_is_told_with_those_that_are(world: &World) {
        let queue = world.open();
        queue.create_group("mailer", GroupOptions::new()).unwrap();

        let error = queue.group("mailr").unwrap_err();

        assert_eq!(error.to_string(), "no group \"mailr\" here; there are: mailer");
    }

    fn a_group_is_made_once_and_by_a_good_name(world: &World) {
        let queue = world.open();
        queue.create_group("mailer", GroupOptions::new()).unwrap();

        let again = queue.create_group("mailer", GroupOptions::new()).unwrap_err();
        let bad = queue.create_group("No Name", GroupOptions::new()).unwrap_err();

        assert!(matches!(again, Error::GroupExists { .. }), "{again}");
        assert!(matches!(bad, Error::GroupName { .. }), "{bad}");
        assert_eq!(queue.groups(), ["mailer"]);
    }

    fn groups_are_there_after_a_reopening_and_remember(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b"]).unwrap();
        let group = queue.create_group("mailer", GroupOptions::new()).unwrap();
        group.consumer().recv().unwrap().ack().unwrap();
        queue.close().unwrap();

        assert_eq!(drain(&world.open().group("mailer").unwrap().consumer()), ["b"]);
    }

    fn a_removed_group_is_gone_and_a_new_one_of_its_name_knows_nothing(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b"]).unwrap();
        let old = queue.create_group("mailer", GroupOptions::new()).unwrap().consumer();
        old.recv().unwrap().ack().unwrap();
        let job = old.recv().unwrap();

        queue.remove_group("mailer").unwrap();

        assert!(matches!(old.recv().unwrap_err(), Error::NoSuchGroup { .. }));
        assert!(matches!(job.ack().unwrap_err(), Error::NoSuchGroup { .. }));
        assert!(matches!(queue.remove_group("mailer").unwrap_err(), Error::NoSuchGroup { .. }));
        let new = queue.create_group("mailer", GroupOptions::new()).unwrap();
        assert_eq!(drain(&new.consumer()), ["a", "b"]);
    }

    fn a_group_starts_where_it_is_told(world: &World) {
        let queue = world.open();
        let offsets: Vec<_> = queue.push_batch(["a", "b", "c"]).unwrap().collect();
        queue.create_group("first", GroupOptions::new()).unwrap().consumer().recv().unwrap().ack().unwrap();

        let starts = [Start::Undone, Start::Beginning, Start::End, Start::At(offsets[2])];
        let groups = ["undone", "beginning", "end", "at"].into_iter().zip(starts);
        let groups: Vec<_> =
            groups.map(|(name, start)| queue.create_group(name, starting(start)).unwrap()).collect();
        queue.push("d").unwrap();

        let seen: Vec<String> = groups.iter().map(|group| drain(&group.consumer()).concat()).collect();
        assert_eq!(seen, ["bcd", "abcd", "d", "cd"]);
    }

    fn consumers_of_a_group_compete(world: &World) {
        let queue = world.open();
        queue.push_batch((0..200).map(|number| format!("{number}"))).unwrap();
        let consumer = queue.consumer().unwrap();
        let seen = Mutex::new(Vec::new());

        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| seen.lock().unwrap().extend(drain(&consumer.clone())));
            }
        });

        let seen = seen.into_inner().unwrap();
        assert_eq!(seen.len(), 200);
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len(), 200);
    }

    fn counts_tell_where_messages_are(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b", "c", "d", "e"]).unwrap();
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        let consumer = group.consumer();
        consumer.recv().unwrap().ack().unwrap();
        consumer.recv().unwrap().nack("no").unwrap();
        consumer.recv().unwrap().reject("never").unwrap();
        let job = consumer.recv().unwrap();

        let stats = group.stats();

        assert_eq!((stats.ready, stats.delayed, stats.on_loan, stats.dead), (1, 1, 1, 1));
        assert_eq!(queue.stats().messages, 5);
        assert_eq!(queue.stats().groups, [stats]);
        job.ack().unwrap();
    }
}
