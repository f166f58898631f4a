//! Does the space come back, whatever is stuck?

use std::time::Duration;

use backlog::{Consumer, Delivery, Durability, GroupOptions, Message, Options, Queue, Start};

use crate::dice::Dice;
use crate::harness::{World, drain, everywhere, patiently};

const SEGMENT: u64 = 64 << 10;
const SECOND: Duration = Duration::from_secs(1);

fn small(world: &World) -> Options {
    world.options().segment_bytes(SEGMENT)
}

fn text(number: u32) -> String {
    format!("{number:0200}")
}

fn push(queue: &Queue, numbers: std::ops::Range<u32>) {
    queue.push_batch(numbers.clone().step_by(2).map(text)).unwrap();
    for number in numbers.skip(1).step_by(2) {
        queue.push(text(number)).unwrap();
    }
}

/// Runs the duties until they find nothing more to do.
fn settle(world: &World, queue: &Queue) {
    for _ in 0..4 {
        world.advance(SECOND);
        queue.run_duties().unwrap();
    }
}

fn lent(worker: &Consumer) -> Vec<Delivery> {
    std::iter::from_fn(|| worker.try_recv().unwrap()).collect()
}

/// A queue with large segments, much of which was pushed and is done.
fn much_done(world: &World) -> (Queue, Consumer) {
    let queue = patiently(&world.options().segment_bytes(4 << 20));
    let buffered = GroupOptions::new().ack_durability(Durability::Buffered);
    let worker = queue.create_group("default", buffered).unwrap().consumer();
    for _ in 0..12 {
        queue.push_batch((0..5000).map(text)).unwrap();
        drain(&worker);
        queue.run_duties().unwrap();
    }
    (queue, worker)
}

/// Lets so much time pass that queue and groups come to rest.
fn rest(world: &World, queue: &Queue) {
    for _ in 0..2 {
        queue.run_duties().unwrap();
        world.advance(11 * SECOND);
        settle(world, queue);
    }
}

/// Bytes of all files of segments.
fn segment_bytes(world: &World) -> u64 {
    world.files().iter().filter(|(name, _)| name.ends_with(".seg")).map(|(_, length)| length).sum()
}

everywhere! {
    fn one_message_in_a_hundred_that_is_stuck_keeps_little_more_than_itself(world: &World) {
        let queue = patiently(&small(world));
        let group = queue.create_group("g", GroupOptions::new().ack_durability(Durability::Buffered)).unwrap();
        let worker = group.consumer();
        let (mut dice, mut stuck) = (Dice(7), Vec::new());
        for round in 0..20 {
            push(&queue, round * 500..round * 500 + 500);
            let mut jobs = lent(&worker);
            while !jobs.is_empty() {
                let job = jobs.swap_remove(usize::try_from(dice.below(jobs.len() as u64)).unwrap());
                if dice.below(100) == 0 { stuck.push(job) } else { job.ack().unwrap() }
            }
            settle(world, &queue);

            let live: u64 = stuck.iter().map(|job| job.payload().len() as u64 + 32).sum();
            let bytes = segment_bytes(world);
            // The active one, the one made ahead, and one more.
            assert!(bytes <= 4 * live + 3 * SEGMENT, "round {round}: {bytes} for {live} live");
        }
        assert!(queue.stats().segments > 1);
        // They are all there, by their offsets, now and after an opening.
        let offsets: Vec<_> = stuck.iter().map(|job| (job.offset(), job.payload().to_vec())).collect();
        for job in stuck.drain(..) {
            job.release().unwrap();
        }
        let again = lent(&worker);
        let mut found: Vec<_> = again.iter().map(|job| (job.offset(), job.payload().to_vec())).collect();
        let mut expected = offsets.clone();
        expected.sort();
        found.sort();
        assert!(found == expected);
        again.into_iter().for_each(|job| job.release().unwrap());
        drop((worker, group));
        queue.close().unwrap();
        assert_eq!(small(world).verify().unwrap(), []);
        let queue = patiently(&small(world));
        assert!(queue.recovery().damaged.is_empty() && queue.recovery().lost.is_empty(), "{:?}", queue.recovery());
        let group = queue.group("g").unwrap();
        assert_eq!(group.stats().ready, expected.len() as u64);
        let jobs = lent(&group.consumer());
        assert!(jobs.iter().map(|job| (job.offset(), job.payload().to_vec())).eq(expected.clone()));
        // A group that comes later is told of no more, and counts no more.
        let new = queue.create_group("new", GroupOptions::new().start(Start::Beginning)).unwrap();
        let ready = new.stats().ready;
        let all = drain(&new.consumer());
        assert_eq!(all.len() as u64, ready);
        assert!(expected.iter().all(|(_, text)| all.iter().any(|other| other.as_bytes() == text)));
        // What was stuck is done at last.
        queue.ack_all(jobs).unwrap();
        settle(world, &queue);
        assert_eq!(queue.stats().segments, 1);
    }

    fn readers_and_loans_are_not_disturbed_by_a_rewrite(world: &World) {
        let queue = patiently(&small(world));
        let group = queue.create_group("g", GroupOptions::new().max_failures(100)).unwrap();
        let slow = queue.create_group("slow", GroupOptions::new()).unwrap();
        let worker = group.consumer();
        push(&queue, 0..2000);
        // The slow one has done all but every 50th, and reads on in the middle of that.
        let (mut kept, mut came) = (Vec::new(), Vec::new());
        for job in lent(&slow.consumer()) {
            if job.offset().get() % 50 == 0 { kept.push(job) } else { job.ack().unwrap() }
        }
        for job in lent(&worker) {
            if job.offset().get() % 100 == 7 { job.nack_after(Duration::from_secs(3600), "later").unwrap() } else { job.ack().unwrap() }
        }
        let before = queue.stats().segments;
        settle(world, &queue);
        assert!(queue.stats().segments <= 2, "{} of {before}", queue.stats().segments);

        // Loans from before the rewrite are as they were.
        for (at, job) in kept.drain(..).enumerate() {
            assert_eq!(job.payload().len(), 200);
            if at % 2 == 0 { job.ack().unwrap() } else { job.nack("again").unwrap() }
        }
        world.advance(Duration::from_secs(7200));
        for job in lent(&worker) {
            came.push(job.offset().get());
            job.ack().unwrap();
        }
        let expected: Vec<u64> = (0..2000).filter(|offset| offset % 100 == 7).collect();
        assert_eq!(came, expected);
        assert_eq!(lent(&slow.consumer()).len(), 20);
        assert_eq!(small(world).verify().unwrap(), []);
    }

    fn a_group_that_is_moved_back_finds_what_is_left_and_the_count_is_right(world: &World) {
        let queue = patiently(&small(world));
        push(&queue, 0..2000);
        let group = queue.create_group("g", GroupOptions::new().start(Start::Beginning)).unwrap();
        let other = queue.create_group("other", GroupOptions::new().start(Start::Beginning)).unwrap();
        drain(&other.consumer());
        for job in lent(&group.consumer()) {
            if job.offset().get() % 100 == 0 { job.reject("dead").unwrap() } else { job.ack().unwrap() }
        }
        settle(world, &queue);
        assert!(queue.stats().segments < 5);

        other.seek(Start::Beginning).unwrap();

        let ready = other.stats().ready;
        let came = drain(&other.consumer());
        assert_eq!(came.len() as u64, ready);
        assert!(came.len() >= 20);
        assert_eq!(other.stats().ready, 0);
        assert_eq!(group.revive_all().unwrap(), 20);
        assert_eq!(drain(&group.consumer()).len(), 20);
        settle(world, &queue);
        assert_eq!(queue.stats().segments, 1);
    }

    fn priorities_and_keys_are_found_in_a_copy(world: &World) {
        let queue = patiently(&small(world).dedup_window(10_000, Duration::from_secs(60)));
        for number in 0..2000 {
            let text = text(number);
            let message = Message::new(text.as_bytes()).priority(u8::try_from(number % 10).unwrap());
            queue.push(message.dedup_key(number.to_string())).unwrap();
        }
        let group = queue.create_group("g", GroupOptions::new().start(Start::Beginning)).unwrap();
        let mut kept = Vec::new();
        for job in lent(&group.consumer()) {
            if job.offset().get() % 37 == 0 { kept.push(job) } else { job.ack().unwrap() }
        }
        kept.into_iter().for_each(|job| job.release().unwrap());
        settle(world, &queue);
        assert!(queue.stats().segments < 5, "{}", queue.stats().segments);

        let order: Vec<u64> = lent(&group.consumer()).iter().map(|job| job.offset().get()).collect();

        let mut expected: Vec<u64> = (0..2000).step_by(37).collect();
        expected.sort_by_key(|offset| (std::cmp::Reverse(offset % 10), *offset));
        assert_eq!(order, expected);
        queue.close().unwrap();
        drop((queue, group));
        // Every key of the window is still taken, whether or not its message is there.
        let queue = patiently(&small(world));
        for number in [0, 1, 37, 500, 1999] {
            assert_eq!(queue.push(Message::new("x").dedup_key(number.to_string())).unwrap().get(), number);
        }
        world.advance(Duration::from_secs(61));
        assert!(queue.push(Message::new("x").dedup_key("1")).unwrap().get() >= 2000);
        settle(world, &queue);
        assert!(queue.push(Message::new("y").dedup_key("1")).unwrap().get() >= 2000);
    }

    fn when_all_is_done_the_active_segment_and_the_next_are_left_and_at_rest_a_small_one(world: &World) {
        let (queue, worker) = much_done(world);
        let segments = || world.files().into_iter().filter(|(name, _)| name.ends_with(".seg")).collect::<Vec<_>>();
        assert!(segments().len() <= 2, "{:?}", segments());
        assert!(segments().iter().all(|(_, length)| *length <= 4 << 20));

        rest(world, &queue);

        let bytes: u64 = world.files().iter().map(|(_, length)| length).sum();
        assert!(bytes <= 2 << 20, "{:?}", world.files());
        push(&queue, 0..10);
        assert_eq!(drain(&worker).len(), 10);
    }

    fn a_few_messages_left_over_do_not_hold_a_large_segment_at_rest(world: &World) {
        let (queue, worker) = much_done(world);
        push(&queue, 0..1000);
        let mut jobs = lent(&worker);
        let three = jobs.split_off(997);
        queue.ack_all(jobs).unwrap();
        three.into_iter().for_each(|job| job.release().unwrap());

        rest(world, &queue);

        let bytes: u64 = world.files().iter().map(|(_, length)| length).sum();
        assert!(bytes <= 2 << 20, "{:?}", world.files());
        assert_eq!(drain(&worker).len(), 3);
    }
    fn compact_gives_back_at_once_what_time_would(world: &World) {
        let (queue, worker) = much_done(world);
        push(&queue, 0..1000);
        let mut jobs = lent(&worker);
        let three = jobs.split_off(997);
        queue.ack_all(jobs).unwrap();
        three.into_iter().for_each(|job| job.release().unwrap());

        // Where another has the files it is that one's business.
        if queue.compact().unwrap() {
            let bytes: u64 = world.files().iter().map(|(_, length)| length).sum();
            assert!(bytes <= 2 << 20, "{:?}", world.files());
            assert!(queue.compact().unwrap(), "again, it finds nothing to do");
        }

        assert_eq!(drain(&worker).len(), 3);
        push(&queue, 0..10);
        assert_eq!(drain(&worker).len(), 10);
        queue.close().unwrap();
        assert!(queue.compact().is_err());
    }
}
