//! How much may come, and what becomes of what is too much?

use std::thread;
use std::time::Duration;

use backlog::{
    Consumer, Delivery, Error, GroupOptions, GroupStats, Message, Options, Queue, Start, WhenFull,
};

use crate::harness::{World, drain, everywhere, patiently};

const LEAST: u64 = 64 << 10;

fn most(world: &World, messages: u64, when_full: WhenFull) -> Queue {
    patiently(&world.options().max_messages(messages).when_full(when_full))
}

fn push(queue: &Queue, names: std::ops::Range<u32>) {
    for name in names {
        queue.push(name.to_string()).unwrap();
    }
}

fn open(stats: &GroupStats) -> u64 {
    stats.ready + stats.delayed + stats.on_loan + stats.dead
}

fn is_at_limit(error: &Error) -> bool {
    matches!(error, Error::AtLimit { .. }) && error.is_full()
}

fn take(consumer: &Consumer, count: usize) -> Vec<Delivery> {
    (0..count).map(|_| consumer.try_recv().unwrap().unwrap()).collect()
}

fn kilobytes(queue: &Queue, count: u32) {
    for name in 0..count {
        queue.push(format!("{name:01000}")).unwrap();
    }
}

/// Pushes kilobytes until that fails; returns how many went in.
fn fill(queue: &Queue, from: u32) -> u32 {
    let pushed = (from..).take_while(|name| match queue.push(format!("{name:01000}")) {
        Ok(_) => true,
        Err(error) => {
            assert!(is_at_limit(&error), "{error}");
            false
        }
    });
    u32::try_from(pushed.count()).unwrap()
}

fn bytes(world: &World) -> u64 {
    world.options().inspect().unwrap().segments.iter().map(|segment| segment.bytes).sum()
}

everywhere! {
    fn at_the_limit_a_push_is_refused_until_a_message_is_done(world: &World) {
        let queue = most(world, 3, WhenFull::Refuse);
        push(&queue, 0..3);

        let error = queue.push("more").unwrap_err();

        assert!(is_at_limit(&error) && error.to_string().contains("max_messages"), "{error}");
        let worker = queue.consumer().unwrap();
        let mut jobs = take(&worker, 3);
        assert!(is_at_limit(&queue.push("more").unwrap_err()));
        jobs.pop().unwrap().reject("no").unwrap();
        jobs.pop().unwrap().nack_after(Duration::from_secs(9), "later").unwrap();
        assert!(is_at_limit(&queue.push("more").unwrap_err()), "dead and delayed ones count too");
        jobs.pop().unwrap().ack().unwrap();
        queue.push("more").unwrap();
        assert!(is_at_limit(&queue.push_deferred("x").unwrap().wait().unwrap_err()));
        assert!(is_at_limit(&queue.push(Message::new("x").dedup_key("k")).unwrap_err()));
        assert_eq!(open(&queue.group("default").unwrap().stats()), 3);
        assert!(matches!(queue.push_batch(["x"; 4]), Err(Error::Invalid { .. })));
    }

    fn the_slowest_group_fills_the_queue_and_a_group_that_goes_frees_it(world: &World) {
        let queue = most(world, 4, WhenFull::Refuse);
        let fast = queue.create_group("fast", GroupOptions::new()).unwrap();
        let slow = queue.create_group("slow", GroupOptions::new()).unwrap();
        push(&queue, 0..4);
        drain(&fast.consumer());

        assert!(is_at_limit(&queue.push("x").unwrap_err()));
        take(&slow.consumer(), 1).pop().unwrap().ack().unwrap();
        push(&queue, 4..5);
        assert!(is_at_limit(&queue.push("x").unwrap_err()));
        queue.remove_group("slow").unwrap();
        push(&queue, 5..8);
        assert!(is_at_limit(&queue.push("x").unwrap_err()));
        assert_eq!(drain(&fast.consumer()), ["4", "5", "6", "7"]);
    }

    fn limits_are_stored_and_hold_for_whoever_opens_the_queue(world: &World) {
        let queue = most(world, 3, WhenFull::Refuse);
        push(&queue, 0..2);
        drop(queue);

        let queue = world.open_after_kill();

        assert_eq!(queue.limits().max_messages, Some(3));
        push(&queue, 2..3);
        assert!(is_at_limit(&queue.push("x").unwrap_err()));
        queue.close().unwrap();
        drop(queue);
        assert_eq!(world.options().inspect().unwrap().limits.max_messages, Some(3));
        let queue = most(world, 0, WhenFull::Refuse);
        push(&queue, 3..9);
        assert_eq!(queue.limits().max_messages, None);
    }

    fn going_back_over_the_limit_stops_pushes_until_the_group_has_caught_up(world: &World) {
        let queue = patiently(&world.options().max_messages(4).retain_for(Duration::MAX));
        let worker = queue.consumer().unwrap();
        for name in 0..10 {
            push(&queue, name..name + 1);
            drain(&worker);
        }
        push(&queue, 10..11);

        queue.group("default").unwrap().seek(Start::Beginning).unwrap();

        assert!(is_at_limit(&queue.push("x").unwrap_err()));
        take(&worker, 7).into_iter().for_each(|job| job.ack().unwrap());
        assert!(is_at_limit(&queue.push("x").unwrap_err()));
        take(&worker, 1).pop().unwrap().ack().unwrap();
        push(&queue, 11..12);
        assert!(is_at_limit(&queue.push("x").unwrap_err()));
        // So does a group that begins behind.
        drain(&worker);
        queue.create_group("new", GroupOptions::new().start(Start::Beginning)).unwrap();
        assert!(is_at_limit(&queue.push("x").unwrap_err()));
    }

    fn threads_that_push_and_ack_never_exceed_the_limit(world: &World) {
        let queue = most(world, 8, WhenFull::Block(Duration::from_secs(3600)));
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        thread::scope(|scope| {
            let pushes: Vec<_> = (0..4).map(|_| scope.spawn(|| push(&queue, 0..50))).collect();
            let worker = group.consumer();
            for _ in 0..200 {
                let job = worker.recv().unwrap();
                let stats = group.stats();
                assert!(open(&stats) <= 8, "{stats:?}");
                job.ack().unwrap();
            }
            pushes.into_iter().for_each(|push| push.join().unwrap());
        });
        assert_eq!(open(&group.stats()), 0);
    }

    fn whatever_makes_room_wakes_a_push_that_waits(world: &World) {
        let queue = most(world, 1, WhenFull::Block(Duration::MAX));
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        let worker = group.consumer();
        let ways: [&dyn Fn(); 7] = [
            &|| worker.recv().unwrap().ack().unwrap(),
            &|| queue.ack_all([worker.recv().unwrap()]).map(drop).unwrap(),
            &|| worker.recv().unwrap().ack_with([""; 0]).map(drop).unwrap(),
            &|| assert_eq!(group.purge().unwrap(), 1),
            &|| group.seek(Start::End).map(drop).unwrap(),
            &|| {
                worker.recv().unwrap().reject("no").unwrap();
                assert_eq!(group.purge().unwrap(), 1);
            },
            &|| {
                let offset = worker.recv().unwrap().offset();
                assert_eq!(group.discard([offset]).unwrap(), 1);
            },
        ];
        push(&queue, 0..1);
        for way in ways {
            thread::scope(|scope| {
                let waits = scope.spawn(|| push(&queue, 1..2));
                // It may wait by then; if not, it need not wait.
                (0..200).for_each(|_| thread::yield_now());
                way();
                waits.join().unwrap();
            });
        }
    }

    fn messages_that_a_sleeping_consumer_has_passed_over_make_room(world: &World) {
        let queue = most(world, 2, WhenFull::Block(Duration::MAX));
        let group = queue.create_group("g", GroupOptions::new().kinds(["a"])).unwrap();
        let worker = group.consumer();
        push(&queue, 0..2);

        thread::scope(|scope| {
            let sleeps = scope.spawn(|| worker.recv().unwrap().payload().to_vec());
            push(&queue, 2..6);
            queue.push(Message::new("it").kind("a")).unwrap();
            assert_eq!(sleeps.join().unwrap(), b"it");
        });
    }

    fn threads_that_wait_for_bytes_get_them_as_segments_go(world: &World) {
        let options = world.options().max_bytes(LEAST).when_full(WhenFull::Block(Duration::from_secs(3600)));
        let queue = patiently(&options);
        let worker = queue.create_group("g", GroupOptions::new()).unwrap().consumer();

        thread::scope(|scope| {
            let pushes: Vec<_> = (0..4).map(|_| scope.spawn(|| kilobytes(&queue, 60))).collect();
            for count in 0..240 {
                worker.recv().unwrap().ack().unwrap();
                assert!(count % 20 > 0 || bytes(world) <= LEAST);
            }
            pushes.into_iter().for_each(|push| push.join().unwrap());
        });
    }

    fn a_push_that_waits_gives_up_when_its_time_is_over_or_the_queue_is_closed(world: &World) {
        let queue = most(world, 1, WhenFull::Block(Duration::from_secs(5)));
        push(&queue, 0..1);
        assert!(is_at_limit(&queue.push_deferred("x").unwrap().wait().unwrap_err()));

        thread::scope(|scope| {
            let waits = scope.spawn(|| queue.push("x").unwrap_err());
            while !waits.is_finished() {
                world.advance(Duration::from_secs(1));
                thread::yield_now();
            }
            assert!(is_at_limit(&waits.join().unwrap()));
            let waits = scope.spawn(|| queue.push("x").unwrap_err());
            queue.close().unwrap();
            assert!(waits.join().unwrap().is_closed());
        });
    }

    fn the_oldest_messages_go_in_each_group_that_has_too_many_and_in_no_other(world: &World) {
        let queue = most(world, 4, WhenFull::DiscardOldest);
        let fast = queue.create_group("fast", GroupOptions::new()).unwrap();
        let slow = queue.create_group("slow", GroupOptions::new()).unwrap();
        push(&queue, 0..4);
        take(&fast.consumer(), 3).into_iter().for_each(|job| job.ack().unwrap());

        push(&queue, 4..6);

        assert_eq!((fast.stats().discarded_for_room, slow.stats().discarded_for_room), (0, 2));
        assert_eq!(queue.stats().discarded_for_room, 2);
        push(&queue, 6..8);
        assert_eq!((fast.stats().discarded_for_room, slow.stats().discarded_for_room), (1, 4));
        queue.push_batch(["8", "9", "10"]).unwrap();
        queue.push_deferred("11").unwrap().wait().unwrap();
        queue.push(Message::new("12").unique_key("k")).unwrap();
        for group in [&fast, &slow] {
            assert_eq!(open(&group.stats()), 4);
            assert_eq!(drain(&group.consumer()), ["9", "10", "11", "12"]);
        }
    }

    fn what_is_on_loan_is_never_discarded_and_all_else_is_whatever_has_become_of_it(world: &World) {
        let queue = most(world, 5, WhenFull::DiscardOldest);
        let worker = queue.consumer().unwrap();
        push(&queue, 0..5);
        let mut jobs = take(&worker, 4);
        jobs.remove(3).reject("no").unwrap();
        jobs.remove(1).nack_after(Duration::from_secs(9), "later").unwrap();

        // 0 and 2 are on loan, 1 is delayed, 3 is dead, 4 was never lent.
        push(&queue, 5..6);
        let group = queue.group("default").unwrap();
        assert_eq!((group.stats().delayed, group.stats().dead, group.stats().ready), (0, 1, 2));
        push(&queue, 6..7);
        assert_eq!((group.stats().dead, group.stats().ready), (0, 3));
        push(&queue, 7..9);
        assert_eq!((group.stats().on_loan, group.stats().ready), (2, 3));
        let more = take(&worker, 3);
        assert!(is_at_limit(&queue.push("x").unwrap_err()), "all are on loan");
        jobs.into_iter().chain(more).for_each(|job| job.ack().unwrap());
        assert_eq!(open(&group.stats()), 0);
    }

    fn what_was_discarded_stays_so_after_a_kill(world: &World) {
        let queue = most(world, 3, WhenFull::DiscardOldest);
        queue.create_group("g", GroupOptions::new()).unwrap();
        push(&queue, 0..9);
        drop(queue);

        let queue = world.open_after_kill();

        let group = queue.group("g").unwrap();
        assert_eq!((open(&group.stats()), group.stats().discarded_for_room), (3, 0));
        push(&queue, 9..10);
        assert_eq!(drain(&group.consumer()), ["7", "8", "9"]);
    }

    fn threads_that_discard_discard_no_more_than_they_push(world: &World) {
        let queue = most(world, 8, WhenFull::DiscardOldest);
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        push(&queue, 0..8);

        thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(|| push(&queue, 0..25))));
        });

        assert_eq!((open(&group.stats()), group.stats().discarded_for_room), (8, 100));
    }

    fn an_ack_with_no_more_outputs_than_loans_goes_on_in_a_full_queue(world: &World) {
        let queue = most(world, 2, WhenFull::Refuse);
        let worker = queue.consumer().unwrap();
        push(&queue, 0..2);
        let job = take(&worker, 1).pop().unwrap();

        job.ack_with(["out"]).unwrap();

        let mut jobs = take(&worker, 2);
        let error = jobs.pop().unwrap().ack_with(["a", "b"]).unwrap_err();
        assert!(is_at_limit(&error), "{error}");
        jobs.pop().unwrap().ack().unwrap();
        assert_eq!(open(&queue.group("default").unwrap().stats()), 1);
    }

    fn the_log_has_no_more_bytes_than_it_may_and_acks_give_them_back(world: &World) {
        let queue = patiently(&world.options().max_bytes(LEAST));
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        let worker = group.consumer();
        let mut pushed = fill(&queue, 0);
        assert!(pushed > 36 && bytes(world) <= LEAST, "{pushed}");
        let mut came = 0;
        for _ in 0..4 {
            take(&worker, 20).into_iter().for_each(|job| job.ack().unwrap());
            came += 20;
            let more = fill(&queue, pushed);
            assert!(more >= 10, "{more}");
            pushed += more;
            assert!(bytes(world) <= LEAST);
        }
        came += u32::try_from(drain(&worker).len()).unwrap();
        assert_eq!(came, pushed);
        // All is done: the segment that is written goes too.
        queue.push(vec![7; 50_000]).unwrap();
        assert!(matches!(queue.push(vec![7; 60_000]), Err(Error::TooLarge { .. })));
        assert!(bytes(world) <= LEAST);
        drain_any(&worker);
        queue.push(vec![8; 50_000]).unwrap();
        assert!(bytes(world) <= LEAST);
    }

    fn bytes_are_made_free_by_whole_segments_but_for_what_is_on_loan(world: &World) {
        let queue = patiently(&world.options().max_bytes(LEAST).when_full(WhenFull::DiscardOldest));
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        kilobytes(&queue, 200);
        assert!(bytes(world) <= LEAST);
        let stats = group.stats();
        assert_eq!(stats.ready + stats.discarded_for_room, 200);
        assert!(stats.ready > 20, "{stats:?}");
        let job = take(&group.consumer(), 1).pop().unwrap();

        let more = fill(&queue, 200);

        assert!(more < 60 && bytes(world) <= LEAST, "{more}");
        assert_eq!(group.stats().on_loan, 1);
        job.ack().unwrap();
        kilobytes(&queue, 9);
        let last: Vec<_> = drain(&group.consumer()).into_iter().rev().take(9).collect();
        assert_eq!(last[0], format!("{:01000}", 8));
    }

    fn what_is_kept_goes_before_a_push_is_refused(world: &World) {
        let queue = patiently(&world.options().max_bytes(LEAST).retain_for(Duration::MAX));
        let worker = queue.consumer().unwrap();
        for name in 0..200 {
            queue.push(format!("{name:01000}")).unwrap();
            assert_eq!(drain(&worker).len(), 1);
        }

        assert!(bytes(world) <= LEAST && bytes(world) > LEAST / 2);
    }

    fn a_queue_at_every_limit_still_takes_acks(world: &World) {
        let options = world.options().max_bytes(LEAST).max_messages(30).min_free_bytes(u64::MAX / 2);
        let queue = patiently(&options);
        let worker = queue.consumer().unwrap();
        let mut pushed = 0;
        while queue.push(format!("{pushed:0700}")).inspect_err(|error| assert!(error.is_full(), "{error}")).is_ok() {
            pushed += 1;
        }
        assert!(pushed > 10, "{pushed}");

        assert_eq!(drain(&worker).len(), pushed);

        queue.close().unwrap();
        drop((worker, queue));
        assert_eq!(world.options().verify().unwrap(), []);
    }

    fn no_segment_is_made_of_what_is_left_to_others(world: &World) {
        let options: Options = world.options().segment_bytes(8192).min_free_bytes(u64::MAX / 2);
        let queue = patiently(&options);
        let worker = queue.consumer().unwrap();
        queue.push(vec![1; 3000]).unwrap();

        let error = queue.push(vec![1; 3000]).unwrap_err();

        assert!(matches!(error, Error::Full { .. }) && error.to_string().contains("min_free_bytes"), "{error}");
        queue.push("small").unwrap();
        drain_any(&worker);
        queue.close().unwrap();
        drop((worker, queue));
        let queue = patiently(&options.min_free_bytes(1));
        queue.push(vec![1; 3000]).unwrap();
        queue.push(vec![1; 3000]).unwrap();
    }
}

fn drain_any(consumer: &Consumer) {
    while let Some(job) = consumer.try_recv().unwrap() {
        job.ack().unwrap();
    }
}
