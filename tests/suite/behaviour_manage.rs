//! What can be done with a group by somebody who holds no loan?

use std::time::{Duration, UNIX_EPOCH};

use backlog::{DeadReason, Error, GroupOptions, Message, MessageState, Offset, Queue, Retry, Start};

use crate::harness::{drain, everywhere};

const SECOND: Duration = Duration::from_secs(1);

fn offset(number: u64) -> Offset {
    Offset::new(number).unwrap()
}

/// Pushes `0`, `1` and so on, and rejects all that it receives.
fn rejected(queue: &Queue, count: usize) {
    queue.push_batch((0..count).map(|number| number.to_string())).unwrap();
    for job in queue.consumer().unwrap().recv_batch(count, Duration::ZERO).unwrap() {
        job.reject("never").unwrap();
    }
}

fn payloads(group: &backlog::Group, state: MessageState) -> Vec<String> {
    let seen = group.browse(state).map(|peek| String::from_utf8(peek.unwrap().payload().to_vec()).unwrap());
    seen.collect()
}

everywhere! {
    fn many_that_were_discarded_before_their_turn_are_skipped_behind_a_gap_too(world: &World) {
        let queue = world.open();
        queue.push("first").unwrap();
        assert_eq!(drain(&queue.consumer().unwrap()), ["first"]);
        // What comes after a kill lies behind a gap, and is more than is read at a time.
        drop(queue);
        let queue = world.open_after_kill();
        let bytes = "x".repeat(4096);
        let offsets: Vec<_> = (0..200).map(|_| queue.push(&bytes).unwrap()).collect();
        queue.push("last").unwrap();

        assert_eq!(queue.group("default").unwrap().discard(offsets).unwrap(), 200);

        assert_eq!(drain(&queue.consumer().unwrap()), ["last"]);
    }

    fn dead_letters_say_why_and_survive_a_reopening(world: &World) {
        let queue = world.open();
        queue.create_group("g", GroupOptions::new().max_failures(2).retry(Retry::steps(&[SECOND]))).unwrap();
        queue.push_batch(["fails", "refused", "fine"]).unwrap();
        let worker = queue.group("g").unwrap().consumer();
        for round in 1..=2 {
            for job in worker.recv_batch(3, Duration::ZERO).unwrap() {
                match job.payload() {
                    b"fails" => job.nack(format!("try {round}")).unwrap(),
                    b"refused" => job.reject("not ours").unwrap(),
                    _ => job.ack().unwrap(),
                }
            }
            world.advance(2 * SECOND);
        }
        queue.close().unwrap();

        let dead = world.open().group("g").unwrap().dead();

        let told: Vec<_> = dead.iter().map(|dead| (dead.reason, dead.failures, dead.error.as_deref())).collect();
        let expected =
            [(DeadReason::Failures, 2, Some("try 2")), (DeadReason::Rejected, 0, Some("not ours"))];
        assert_eq!(told, expected);
        assert_eq!((dead[0].length, dead[0].losses), (1, 0));
        assert_eq!(dead[0].since, UNIX_EPOCH + Duration::from_millis(1_700_000_002_000));
    }

    fn what_is_revived_comes_in_its_old_place_with_no_past(world: &World) {
        let queue = world.open();
        rejected(&queue, 4);
        let group = queue.group("default").unwrap();

        assert_eq!(group.revive([offset(2), offset(0), offset(2), offset(77)]).unwrap(), 2);

        let worker = group.consumer();
        let job = worker.try_recv().unwrap().unwrap();
        assert_eq!((job.payload(), job.attempt()), (&b"0"[..], 1));
        job.ack().unwrap();
        assert_eq!(drain(&worker), ["2"]);
        assert_eq!(group.revive_all().unwrap(), 2);
        assert_eq!(group.revive_all().unwrap(), 0);
        let queue = world.open_after_kill();
        assert_eq!(drain(&queue.consumer().unwrap()), ["1", "3"]);
    }

    fn what_is_undeleted_comes_in_its_old_place_with_no_past(world: &World) {
        let queue = world.open();
        queue.push_batch(["0", "1", "2", "3"]).unwrap();
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        let worker = group.consumer();
        let mut jobs = worker.recv_batch(3, Duration::ZERO).unwrap();
        jobs.pop().unwrap().reject("never").unwrap();
        jobs.into_iter().for_each(|job| job.ack().unwrap());
        assert_eq!(group.discard([offset(2), offset(3)]).unwrap(), 2);
        queue.push("4").unwrap();

        // 4 is ready, and the others are done, once.
        let wanted = [4, 3, 2, 0, 0, 77].map(offset);
        assert_eq!(group.undelete(wanted).unwrap(), 3);

        let job = group.consumer().try_recv().unwrap().unwrap();
        assert_eq!((job.payload(), job.attempt()), (&b"0"[..], 1));
        job.ack().unwrap();
        let queue = world.open_after_kill();
        let group = queue.group("g").unwrap();
        assert_eq!(group.stats().ready, 3);
        assert_eq!(drain(&group.consumer()), ["2", "3", "4"]);
        assert_eq!(group.undelete([offset(1)]).unwrap(), 1);
        assert_eq!(drain(&group.consumer()), ["1"]);
    }

    fn what_is_undeleted_keeps_its_priority_its_key_and_its_time(world: &World) {
        let queue = world.open();
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        let first = queue.push(Message::new("a1").ordering_key("a")).unwrap();
        let second = queue.push(Message::new("a2").ordering_key("a")).unwrap();
        let plain = queue.push("plain").unwrap();
        let high = queue.push(Message::new("high").priority(9)).unwrap();
        let later = queue.push(Message::new("later").delay(60 * SECOND)).unwrap();
        let all = [first, second, plain, high, later];
        assert_eq!(group.discard(all).unwrap(), 5);

        assert_eq!(group.undelete(all).unwrap(), 5);

        let jobs = group.consumer().recv_batch(9, Duration::ZERO).unwrap();
        let came: Vec<_> = jobs.iter().map(|job| job.payload().to_vec()).collect();
        assert_eq!(came, [&b"high"[..], b"a1", b"a2", b"plain"]);
        jobs.into_iter().for_each(|job| job.ack().unwrap());
        assert_eq!(group.undelete([first, second]).unwrap(), 2);
        let alone = group.consumer().try_recv().unwrap().unwrap();
        assert!(group.consumer().try_recv().unwrap().is_none(), "a2 has its turn after a1");
        alone.ack().unwrap();
        assert_eq!(drain(&group.consumer()), ["a2"]);
        world.advance(61 * SECOND);
        assert_eq!(drain(&group.consumer()), ["later"]);
    }

    fn what_was_freed_is_undeleted_no_more(world: &World) {
        let queue = world.options().segment_bytes(1 << 20).open().unwrap();
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        let filling = vec![7; 1 << 18];
        let offsets: Vec<_> = (0..12).map(|_| queue.push(&filling).unwrap()).collect();
        group.purge().unwrap();
        queue.run_duties().unwrap();
        let stored: Vec<_> = offsets.iter().copied().filter(|&offset| group.peek(offset).unwrap().is_some()).collect();
        assert!(!stored.is_empty() && stored.len() < offsets.len(), "{stored:?}");

        assert_eq!(group.undelete(offsets).unwrap(), stored.len() as u64);

        let came = group.consumer().recv_batch(99, Duration::ZERO).unwrap();
        assert_eq!(came.iter().map(|job| job.offset()).collect::<Vec<_>>(), stored);
    }

    fn what_is_discarded_is_done_wherever_it_was(world: &World) {
        let queue = world.open();
        queue.create_group("other", GroupOptions::new()).unwrap();
        queue.push_batch(["on loan", "dead", "delayed", "ready"]).unwrap();
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        let worker = group.consumer();
        let mut jobs = worker.recv_batch(3, Duration::ZERO).unwrap();
        jobs.pop().unwrap().nack("later").unwrap();
        jobs.pop().unwrap().reject("never").unwrap();
        let loan = jobs.pop().unwrap();

        assert_eq!(group.discard((0..9).map(offset)).unwrap(), 4);
        assert_eq!(group.discard((0..9).map(offset)).unwrap(), 0);

        assert!(matches!(loan.ack(), Err(Error::LeaseLost { .. })));
        world.advance(3 * SECOND);
        assert!(worker.try_recv().unwrap().is_none());
        let stats = group.stats();
        assert_eq!((stats.ready, stats.delayed, stats.on_loan, stats.dead), (0, 0, 0, 0));
        // Only in that group; and one that nobody has met yet stays away, too.
        assert!(queue.discard(offset(3)).unwrap());
        assert!(!queue.discard(offset(3)).unwrap());
        queue.push("new").unwrap();
        let queue = world.open_after_kill();
        assert_eq!(drain(&queue.group("g").unwrap().consumer()), ["new"]);
        assert_eq!(drain(&queue.group("other").unwrap().consumer()), ["on loan", "dead", "delayed", "new"]);
    }

    fn an_offset_that_is_none_yet_is_not_discarded_ahead_of_time(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        queue.consumer().unwrap();

        assert!(!queue.discard(offset(1)).unwrap());

        queue.push("b").unwrap();
        assert_eq!(drain(&queue.consumer().unwrap()), ["a", "b"]);
    }

    fn a_purge_ends_all_there_is_and_nothing_that_comes(world: &World) {
        let queue = world.open();
        rejected(&queue, 2);
        queue.push_batch(["on loan", "ready", "ready"]).unwrap();
        let group = queue.group("default").unwrap();
        let loan = group.consumer().try_recv().unwrap().unwrap();

        assert_eq!(group.purge().unwrap(), 5);
        assert_eq!(group.purge().unwrap(), 0);

        assert!(matches!(loan.ack(), Err(Error::LeaseLost { .. })));
        queue.push("new").unwrap();
        let queue = world.open_after_kill();
        let group = queue.group("default").unwrap();
        assert_eq!((group.stats().ready, group.stats().dead), (1, 0));
        assert_eq!(drain(&group.consumer()), ["new"]);
    }

    fn a_seek_goes_to_a_message_a_time_the_beginning_and_the_end(world: &World) {
        let queue = world.open();
        for number in 0..6 {
            queue.push(number.to_string()).unwrap();
            world.advance(10 * SECOND);
        }
        let worker = queue.consumer().unwrap();
        let group = queue.group("default").unwrap();
        let begun = UNIX_EPOCH + Duration::from_millis(1_700_000_000_000);
        assert_eq!(drain(&worker).len(), 6);

        let places = [
            (Start::Beginning, 0),
            (Start::At(offset(4)), 4),
            (Start::Since(begun + 25 * SECOND), 3),
            (Start::Since(begun), 0),
            (Start::Since(begun + 60 * SECOND), 6),
            (Start::End, 6),
        ];
        for (to, expected) in places {
            assert_eq!(group.seek(to).unwrap().get(), expected, "{to:?}");

            assert_eq!(group.stats().ready, 6 - expected, "{to:?}");
            let again: Vec<_> = (expected..6).map(|number| number.to_string()).collect();
            assert_eq!(drain(&worker), again, "{to:?}");
        }
        let offset = group.seek(Start::At(offset(5))).unwrap();
        assert_eq!(offset.get(), 5);
        assert_eq!(drain(&world.open_after_kill().consumer().unwrap()), ["5"]);
    }

    fn a_seek_ends_all_loans_and_forgets_the_dead(world: &World) {
        let queue = world.open();
        rejected(&queue, 1);
        queue.push("on loan").unwrap();
        let group = queue.group("default").unwrap();
        let loan = group.consumer().try_recv().unwrap().unwrap();

        group.seek(Start::Beginning).unwrap();

        assert!(matches!(loan.ack(), Err(Error::LeaseLost { .. })));
        assert_eq!(group.stats().dead, 0);
        assert_eq!(drain(&group.consumer()), ["0", "on loan"]);
    }

    fn a_paused_group_hands_out_nothing_and_burns_no_try(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b"]).unwrap();
        let worker = queue.consumer().unwrap();
        let group = queue.group("default").unwrap();
        let kept = worker.try_recv().unwrap().unwrap();

        group.pause().unwrap();

        assert!(worker.try_recv().unwrap().is_none() && group.stats().paused);
        kept.nack("the peer is away").unwrap();
        world.advance(100 * SECOND);
        let queue = world.open_after_kill();
        let group = queue.group("default").unwrap();
        assert!(group.consumer().try_recv().unwrap().is_none() && group.stats().paused);
        group.resume().unwrap();
        assert_eq!(drain(&group.consumer()), ["a", "b"]);
        assert!(!group.stats().paused);
    }

    fn a_pause_with_an_end_ends_and_loans_can_go_back_uncounted(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b"]).unwrap();
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        let worker = group.consumer();
        let held = worker.try_recv().unwrap().unwrap();
        let timed = worker.with_lease(SECOND).try_recv().unwrap().unwrap();

        group.pause_for(10 * SECOND).unwrap();
        assert_eq!(group.release_all().unwrap(), 2);

        assert!(matches!(held.ack(), Err(Error::LeaseLost { .. })));
        assert!(matches!(timed.ack(), Err(Error::LeaseLost { .. })));
        assert!(worker.try_recv().unwrap().is_none());
        world.advance(11 * SECOND);
        let jobs = worker.recv_batch(2, Duration::ZERO).unwrap();
        assert_eq!(jobs.iter().map(|job| job.attempt()).collect::<Vec<_>>(), [1, 1]);
        queue.ack_all(jobs).unwrap();
    }

    fn a_policy_can_be_changed_and_is_stored(world: &World) {
        let queue = world.open();
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        queue.push_batch(["a", "b"]).unwrap();

        group.set(group.options().unwrap().max_failures(1).lease(SECOND)).unwrap();

        let queue = world.open_after_kill();
        let worker = queue.group("g").unwrap().consumer();
        let job = worker.try_recv().unwrap().unwrap();
        assert_eq!(job.lease(), Some(SECOND));
        job.nack("once is enough").unwrap();
        assert_eq!(queue.group("g").unwrap().stats().dead, 1);
    }

    fn retries_come_as_the_policy_says(world: &World) {
        let queue = world.open();
        let policies = [
            ("double", Retry::exponential(SECOND, 3 * SECOND).jitter(0), [1, 2, 3, 3]),
            ("linear", Retry::linear(2 * SECOND, 5 * SECOND).jitter(0), [2, 4, 5, 5]),
            ("listed", Retry::steps(&[3 * SECOND, SECOND, 7 * SECOND]), [3, 1, 7, 7]),
        ];
        for (name, retry, waits) in policies {
            queue.push(name).unwrap();
            let group = queue.create_group(name, GroupOptions::new().retry(retry)).unwrap();
            let worker = group.consumer();
            group.seek(Start::End).unwrap();
            queue.push(name).unwrap();
            for wait in waits {
                worker.try_recv().unwrap().unwrap().nack("again").unwrap();
                world.advance(wait * SECOND - Duration::from_millis(1));
                assert!(worker.try_recv().unwrap().is_none(), "{name}: before {wait} s");
                world.advance(Duration::from_millis(1));
            }
            assert_eq!(worker.try_recv().unwrap().unwrap().attempt(), 5, "{name}");
        }
    }

    fn looking_takes_no_loan_and_shows_each_state(world: &World) {
        let queue = world.open();
        queue.push_batch(["done", "dead", "later", "out", "ready", "new"]).unwrap();
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        let worker = group.consumer();
        let mut jobs = worker.recv_batch(5, Duration::ZERO).unwrap();
        jobs.pop().unwrap().release().unwrap();
        let out = jobs.pop().unwrap();
        jobs.pop().unwrap().nack("later").unwrap();
        jobs.pop().unwrap().reject("never").unwrap();
        jobs.pop().unwrap().ack().unwrap();

        assert_eq!(payloads(&group, MessageState::Done), ["done"]);
        assert_eq!(payloads(&group, MessageState::Dead), ["dead"]);
        assert_eq!(payloads(&group, MessageState::Delayed), ["later"]);
        assert_eq!(payloads(&group, MessageState::OnLoan), ["out"]);
        assert_eq!(payloads(&group, MessageState::Ready), ["ready", "new"]);
        let peek = group.peek(offset(3)).unwrap().unwrap();
        assert_eq!((peek.payload(), peek.state(), peek.id()), (&b"out"[..], MessageState::OnLoan, out.id()));
        assert!(group.peek(offset(6)).unwrap().is_none());
        out.ack().unwrap();
        assert_eq!(drain(&worker), ["ready", "new"]);
    }

    // Offsets burnt by a kill lay between the head and what was discarded, so the head stayed; and behind it
    // reading needed the disk. The receiver began anew at the head, for ever.
    fn issue_5_what_is_discarded_behind_burnt_offsets_is_passed_once(world: &World) {
        world.options().segment_bytes(8 << 10).open().unwrap().push("first").unwrap();
        world.kill();
        let queue = world.options().segment_bytes(8 << 10).open().unwrap();
        assert_eq!(drain(&queue.consumer().unwrap()), ["first"]);
        let behind = queue.push("discarded").unwrap();
        queue.group("default").unwrap().discard([behind]).unwrap();
        queue.push("x".repeat(8 << 10)).unwrap();

        let worker = queue.consumer().unwrap();

        assert_eq!(worker.recv().unwrap().payload().len(), 8 << 10);
    }
}
