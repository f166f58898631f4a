//! What becomes of what guests hold, at the engine, without a socket?

use std::thread;
use std::time::Duration;

use backlog::testing::Guest;
use backlog::{Error, GroupOptions, Queue};

use crate::harness::{World, drain, on_both_disks};

const NOW: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);

/// A queue with so many messages, and the group `g`.
fn with_messages(world: &World, count: u64) -> Queue {
    let queue = world.open();
    queue.push_batch((0..count).map(|number| number.to_string())).unwrap();
    queue.create_group("g", GroupOptions::new().max_losses(3)).unwrap();
    queue
}

fn guest(queue: &Queue) -> Guest {
    let guest = Guest::hold(queue).unwrap();
    guest.admit().unwrap();
    guest
}

/// Lets seconds pass until it is so. A process that another test is just starting shares our locks until
/// it is a program of its own: a guest that died may seem to live for a moment.
fn until(world: &World, queue: &Queue, mut is_so: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        queue.run_duties().unwrap();
        if is_so() {
            return;
        }
        world.advance(SECOND);
        thread::yield_now();
    }
    panic!("it never came to be so");
}

fn files_of_holders(world: &World) -> Vec<String> {
    let names = world.files().into_iter().map(|(name, _)| name);
    names.filter(|name| name.contains("holders/")).map(|name| name[name.len() - 8..].to_owned()).collect()
}

fn attempts(queue: &Queue) -> Vec<(u64, u32)> {
    let consumer = queue.group("g").unwrap().consumer();
    let jobs = std::iter::from_fn(|| consumer.try_recv().unwrap());
    jobs.map(|job| {
        let told = (job.offset().get(), job.attempt());
        job.ack().unwrap();
        told
    })
    .collect()
}

on_both_disks! {
    fn a_message_goes_to_one_of_owner_and_guests_and_is_acked_by_that_one(world: &World) {
        let queue = with_messages(world, 4);
        let (one, other) = (guest(&queue), guest(&queue));
        let own = queue.group("g").unwrap().consumer().try_recv().unwrap().unwrap();

        let first = one.recv("g", 2, NOW).unwrap();
        let second = other.recv("g", 9, NOW).unwrap();

        assert_eq!(own.offset().get(), 0);
        assert_eq!(first.iter().map(|loan| loan.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(second.iter().map(|loan| loan.0).collect::<Vec<_>>(), [3]);
        assert!(matches!(other.ack("g", (1, second[0].1)), Err(Error::LeaseLost { .. })));
        own.ack().unwrap();
        for loan in first {
            one.ack("g", loan).unwrap();
        }
        other.ack("g", second[0]).unwrap();
        assert!(queue.group("g").unwrap().stats().on_loan == 0 && attempts(&queue).is_empty());
    }

    fn what_a_guest_held_comes_back_when_it_is_gone_and_wakes_whoever_waits(world: &World) {
        let queue = with_messages(world, 1);
        let guest = guest(&queue);
        let other = Guest::hold(&queue).unwrap();
        other.admit().unwrap();
        guest.recv("g", 1, NOW).unwrap();
        let consumer = queue.group("g").unwrap().consumer();

        let attempt = thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let job = consumer.recv().unwrap();
                let attempt = job.attempt();
                job.release().unwrap();
                attempt
            });
            let over = scope.spawn(|| guest.recv("g", 1, Duration::MAX).unwrap_err());
            guest.gone(true).unwrap();
            assert!(matches!(over.join().unwrap(), Error::HolderOver { .. }));
            waiting.join().unwrap()
        });

        assert_eq!(attempt, 2);
        assert!(matches!(guest.recv("g", 1, NOW), Err(Error::HolderOver { .. })));
        assert_eq!(other.recv("g", 1, NOW).unwrap().len(), 1);
    }

    fn a_guest_that_lost_its_connection_keeps_its_loans_while_its_process_lives(world: &World) {
        let queue = with_messages(world, 3);
        let mut guest = guest(&queue);
        let loans = guest.recv("g", 2, NOW).unwrap();

        guest.left();
        world.advance(SECOND);
        queue.run_duties().unwrap();
        assert!(guest.is_any_absent());
        guest.ack("g", loans[0]).unwrap();
        assert!(matches!(guest.recv("g", 1, NOW), Err(Error::HolderOver { .. })));
        guest.die();
        until(world, &queue, || !guest.is_any_absent());

        assert_eq!(attempts(&queue), [(1, 2), (2, 1)]);
    }

    fn a_guest_that_comes_back_keeps_what_it_names_and_gets_the_rest_under_a_new_holder(world: &World) {
        let queue = with_messages(world, 3);
        let mut old = guest(&queue);
        let loans = old.recv("g", 3, NOW).unwrap();

        // The owner has not noticed yet that the connection is lost; it does, later.
        let new = guest(&queue);
        old.back("g", &loans[..1]).unwrap();
        old.left();

        assert!(!old.is_any_absent());
        let rest = new.recv("g", 9, NOW).unwrap();
        assert_eq!(rest.iter().map(|loan| loan.0).collect::<Vec<_>>(), [1, 2]);
        assert!(matches!(old.recv("g", 1, NOW), Err(Error::HolderOver { .. })));
        assert!(matches!(old.ack("g", loans[1]), Err(Error::LeaseLost { .. })));
        // Nobody is told when its process ends but by its lock.
        old.die();
        until(world, &queue, || queue.group("g").unwrap().stats().on_loan == 2);
        assert_eq!(attempts(&queue), [(0, 2)]);
        new.ack("g", rest[0]).unwrap();
    }

    fn a_close_leaves_what_living_guests_hold_and_the_next_owner_knows_them(world: &World) {
        let queue = with_messages(world, 4);
        let (living, mut dying) = (guest(&queue), guest(&queue));
        let kept = living.recv("g", 1, NOW).unwrap();
        dying.recv("g", 1, NOW).unwrap();
        let own = queue.group("g").unwrap().consumer().try_recv().unwrap().unwrap();
        queue.close().unwrap();
        dying.die();

        // A process that another test is just starting may share its lock for a moment.
        let opened = || Some(world.open()).filter(|queue| queue.recovery().loans_returned > 0);
        let queue = (0..100_000).find_map(|_| opened()).unwrap();

        assert!(queue.recovery().clean);
        assert_eq!(queue.recovery().loans_returned, 1);
        let living = living.at(&queue).unwrap();
        assert!(living.is_any_absent());
        assert_eq!(attempts(&queue), [(1, 2), (2, 1), (3, 1)]);
        living.back("g", &kept).unwrap();
        living.ack("g", kept[0]).unwrap();
        assert!(!living.is_any_absent());
        drop(own);
    }

    fn all_loans_are_returned_when_nobody_lives(world: &World) {
        let queue = with_messages(world, 2);
        let _guest = guest(&queue).recv("g", 1, NOW).unwrap();
        let _own = queue.group("g").unwrap().consumer().try_recv().unwrap().unwrap();

        let queue = world.open_after_kill();

        assert_eq!(queue.recovery().loans_returned, 2);
        assert_eq!(attempts(&queue), [(0, 2), (1, 2)]);
    }

    fn a_group_that_is_made_later_knows_the_guests(world: &World) {
        let queue = with_messages(world, 1);
        let (guest, gone) = (guest(&queue), guest(&queue));
        gone.gone(false).unwrap();
        queue.create_group("h", GroupOptions::new()).unwrap();

        assert_eq!(guest.recv("h", 9, NOW).unwrap().len(), 1);
        assert!(matches!(gone.recv("h", 9, NOW), Err(Error::HolderOver { .. })));
        queue.remove_group("g").unwrap();
        guest.gone(true).unwrap();
        assert_eq!(drain(&queue.group("h").unwrap().consumer()), ["0"]);
    }

    fn who_holds_no_lock_or_is_known_already_is_not_let_in(world: &World) {
        let queue = with_messages(world, 1);
        let guest = guest(&queue);
        let stranger = Guest::of(&queue, guest.holder() ^ 1).unwrap();

        assert!(matches!(stranger.admit(), Err(Error::HolderOver { .. })));
        assert!(matches!(guest.admit(), Err(Error::HolderOver { .. })));
        assert!(matches!(Guest::of(&queue, 0).unwrap().admit(), Err(Error::HolderOver { .. })));
        assert!(matches!(stranger.recv("g", 1, NOW), Err(Error::HolderOver { .. })));
        assert_eq!(guest.recv("g", 1, NOW).unwrap().len(), 1);
    }

    fn a_holders_file_goes_once_nobody_lives_and_no_group_names_it(world: &World) {
        let queue = with_messages(world, 3);
        assert!(files_of_holders(world).is_empty(), "made at need");
        let (mut gone, living, mut untold) = (guest(&queue), guest(&queue), Guest::hold(&queue).unwrap());
        gone.recv("g", 1, NOW).unwrap();
        gone.die();
        untold.die();
        gone.gone(true).unwrap();

        until(world, &queue, || files_of_holders(world).len() == 1);

        assert_eq!(files_of_holders(world), [format!("{:08x}", living.holder())]);
        assert_eq!(living.recv("g", 9, NOW).unwrap().len(), 3);
    }

    fn giving_every_loan_back_by_command_takes_those_of_guests_too(world: &World) {
        let queue = with_messages(world, 3);
        let guest = guest(&queue);
        let loan = guest.recv("g", 1, NOW).unwrap()[0];
        let own = queue.group("g").unwrap().consumer().try_recv().unwrap().unwrap();

        assert_eq!(queue.group("g").unwrap().release_all().unwrap(), 2);

        assert!(own.ack().is_err() && guest.ack("g", loan).is_err());
        assert_eq!(guest.recv("g", 1, NOW).unwrap()[0].0, 0, "it goes on");
        assert_eq!(attempts(&queue), [(1, 1), (2, 1)]);
    }
}
