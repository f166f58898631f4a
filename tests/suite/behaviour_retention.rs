//! What is kept of what is done?

use std::time::Duration;

use backlog::{Durability, GroupOptions, Offset, Options, Queue, Start};

use crate::harness::{World, drain, everywhere, patiently};

const HOUR: Duration = Duration::from_secs(3600);

fn small(world: &World) -> Options {
    world.options().segment_bytes(8192)
}

/// Pushes messages of a kilobyte: three to a segment.
fn push(queue: &Queue, names: std::ops::Range<u32>) -> Vec<Offset> {
    names.map(|name| queue.push(format!("{name:01000}")).unwrap()).collect()
}

fn segments(world: &World) -> u64 {
    small(world).inspect().unwrap().segments.len() as u64
}

fn replayed(queue: &Queue, group: &str) -> Vec<u32> {
    let group = queue.group(group).unwrap();
    group.seek(Start::Beginning).unwrap();
    drain(&group.consumer()).iter().map(|text| text.parse().unwrap()).collect()
}

everywhere! {
    fn everything_is_kept_where_that_is_wanted_and_stays_so_until_it_is_taken_back(world: &World) {
        let queue = patiently(&small(world).retain_for(Duration::MAX));
        push(&queue, 0..60);
        assert_eq!(drain(&queue.consumer().unwrap()).len(), 60);

        queue.run_duties().unwrap();

        assert_eq!(replayed(&queue, "default"), (0..60).collect::<Vec<_>>());
        queue.close().unwrap();
        drop(queue);
        // Whoever opens it and says nothing goes by what was said.
        let queue = patiently(&small(world));
        drain(&queue.consumer().unwrap());
        queue.run_duties().unwrap();
        assert_eq!(replayed(&queue, "default"), (0..60).collect::<Vec<_>>());
        queue.close().unwrap();
        drop(queue);
        let queue = patiently(&small(world).retain_for(Duration::ZERO));
        queue.run_duties().unwrap();
        assert_eq!(segments(world), 1);
    }

    fn what_is_done_in_every_group_goes_and_its_space_comes_back(world: &World) {
        let queue = patiently(&small(world));
        push(&queue, 0..60);
        let before = segments(world);
        let worker = queue.consumer().unwrap();
        let jobs: Vec<_> = (0..60).map(|_| worker.recv().unwrap()).collect();
        queue.run_duties().unwrap();
        assert_eq!(segments(world), before, "nothing is done yet");

        queue.ack_all(jobs).unwrap();
        queue.run_duties().unwrap();

        assert_eq!(segments(world), 1);
        let left = replayed(&queue, "default");
        assert!(!left.is_empty() && left.len() < 9 && left.ends_with(&[59]), "{left:?}");
        // It goes on, and so does an opening.
        push(&queue, 60..80);
        assert_eq!(drain(&worker).len(), 20);
        queue.close().unwrap();
        drop((worker, queue));
        let queue = patiently(&small(world));
        assert!(queue.recovery().damaged.is_empty() && queue.recovery().lost.is_empty());
        assert_eq!(queue.stats().messages, 80);
        assert_eq!(queue.group("default").unwrap().stats().ready, 0);
        assert_eq!(small(world).verify().unwrap(), []);
    }

    fn a_group_that_has_not_done_it_keeps_it_and_so_does_a_dead_letter(world: &World) {
        let queue = patiently(&small(world));
        let slow = queue.create_group("slow", GroupOptions::new()).unwrap();
        push(&queue, 0..60);
        drain(&queue.consumer().unwrap());
        let before = segments(world);

        queue.run_duties().unwrap();
        assert_eq!(segments(world), before);
        let worker = slow.consumer();
        (0..30).for_each(|_| worker.recv().unwrap().ack().unwrap());
        queue.run_duties().unwrap();
        let half = segments(world);
        assert!(1 < half && half < before, "{half} of {before}");
        worker.recv().unwrap().reject("never").unwrap();
        drain(&worker);
        queue.run_duties().unwrap();
        assert_eq!(segments(world), 2, "the one it lies in, and the active one");
        assert_eq!(slow.revive_all().unwrap(), 1);
        assert_eq!(drain(&worker), [format!("{:01000}", 30)]);

        queue.run_duties().unwrap();
        assert_eq!(segments(world), 1);
        // A group that is removed keeps nothing; one that comes finds what there is.
        let new = queue.create_group("new", GroupOptions::new().start(Start::Beginning)).unwrap();
        assert!(drain(&new.consumer()).len() < 9);
    }

    fn messages_are_kept_for_so_long_or_so_many_bytes_of_them(world: &World) {
        let queue = patiently(&small(world).retain_for(HOUR));
        push(&queue, 0..30);
        drain(&queue.consumer().unwrap());
        world.advance(HOUR / 2);
        push(&queue, 30..60);
        drain(&queue.consumer().unwrap());
        queue.run_duties().unwrap();
        assert_eq!(replayed(&queue, "default").len(), 60);

        world.advance(HOUR / 2 + Duration::from_secs(1));
        queue.run_duties().unwrap();
        let kept = replayed(&queue, "default");
        assert!(kept.len() >= 30 && kept.len() < 40 && kept.ends_with(&[58, 59]), "{kept:?}");
        queue.close().unwrap();
        drop(queue);

        let queue = patiently(&small(world).retain_bytes(2 * 8192));
        queue.run_duties().unwrap();
        let kept = replayed(&queue, "default");
        assert!(kept.len() >= 15 && kept.len() < 19 && kept.ends_with(&[58, 59]), "{kept:?}");
        let landed = queue.group("default").unwrap().seek(Start::At(Offset::new(0).unwrap())).unwrap();
        assert_eq!(landed.get(), u64::from(kept[0]));
    }

    fn consumers_and_lookers_on_go_on_while_segments_go(world: &World) {
        let queue = patiently(&small(world));
        let group = queue.create_group("g", GroupOptions::new().ack_durability(Durability::Buffered)).unwrap();
        let worker = group.consumer();
        let mut came = 0;
        for round in 0..40 {
            push(&queue, round * 5..round * 5 + 5);
            for _ in 0..4 + u32::from(round > 30) {
                if let Some(job) = worker.try_recv().unwrap() {
                    assert_eq!(job.payload(), format!("{came:01000}").as_bytes());
                    came += 1;
                    job.ack().unwrap();
                }
            }
            queue.run_duties().unwrap();
        }
        came += u32::try_from(drain(&worker).len()).unwrap();
        assert_eq!(came, 200);
        queue.run_duties().unwrap();
        assert_eq!(segments(world), 1);
    }
}
