//! What becomes of loans with a time limit, and of their receipts?

use std::time::Duration;

use backlog::{Error, GroupOptions, Outcome, Queue, Receipt, Retry};

use crate::harness::{drain, everywhere};

const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn lost(answer: backlog::Result<()>) {
    assert!(matches!(answer, Err(Error::LeaseLost { .. })), "{answer:?}");
}

/// A group `timed` whose loans last ten seconds and whose retries come at once.
fn timed(queue: &Queue) -> backlog::Consumer {
    let options = GroupOptions::new().lease(10 * SECOND).retry(Retry::steps(&[Duration::from_millis(1)]));
    queue.create_group("timed", options).unwrap().consumer()
}

everywhere! {
    fn a_loan_that_ran_out_comes_again_and_counts_a_failure(world: &World) {
        let queue = world.open();
        let worker = timed(&queue);
        queue.push("a").unwrap();
        let first = worker.try_recv().unwrap().unwrap();
        assert_eq!((first.lease(), first.attempt()), (Some(10 * SECOND), 1));

        world.advance(9 * SECOND);
        assert!(worker.try_recv().unwrap().is_none());
        world.advance(2 * SECOND);
        assert!(worker.try_recv().unwrap().is_none(), "it is seen to be over, and waits by the retry policy");
        world.advance(SECOND);
        let second = worker.try_recv().unwrap().unwrap();

        assert_eq!((second.offset(), second.attempt()), (first.offset(), 2));
        lost(first.ack());
        second.ack().unwrap();
    }

    fn a_late_ack_holds_until_the_message_is_lent_again(world: &World) {
        let queue = world.open();
        let worker = timed(&queue);
        queue.push_batch(["a", "b"]).unwrap();
        let jobs = worker.recv_batch(2, Duration::ZERO).unwrap();
        world.advance(11 * SECOND);
        assert!(worker.try_recv().unwrap().is_none());
        let [a, b] = <[_; 2]>::try_from(jobs).unwrap();

        a.ack().unwrap();
        world.advance(SECOND);
        let again = worker.try_recv().unwrap().unwrap();

        assert_eq!(again.payload(), b"b");
        lost(b.nack("too late"));
        again.ack().unwrap();
        assert_eq!(drain(&worker), [""; 0]);
    }

    fn an_extended_loan_lasts_and_one_that_is_over_cannot_be_extended(world: &World) {
        let queue = world.open();
        let worker = timed(&queue);
        queue.push("a").unwrap();
        let job = worker.try_recv().unwrap().unwrap();

        for _ in 0..5 {
            world.advance(9 * SECOND);
            job.extend(10 * SECOND).unwrap();
            assert!(worker.try_recv().unwrap().is_none());
        }
        world.advance(12 * SECOND);
        assert!(worker.try_recv().unwrap().is_none());
        lost(job.extend(10 * SECOND));
        world.advance(SECOND);
        let again = worker.try_recv().unwrap().unwrap();
        lost(job.extend(10 * SECOND));
        lost(job.release());
        again.ack().unwrap();
    }

    fn a_receipt_settles_a_loan_after_a_restart_and_only_once(world: &World) {
        let queue = world.open();
        let worker = timed(&queue);
        queue.push_batch(["a", "b", "c", "d"]).unwrap();
        let jobs = worker.recv_batch(4, Duration::ZERO).unwrap();
        let receipts: Vec<Receipt> = jobs.into_iter().map(|job| job.leave().to_string().parse().unwrap()).collect();
        queue.close().unwrap();

        let queue = world.open();
        let group = queue.group("timed").unwrap();
        assert_eq!(group.stats().on_loan, 4);
        queue.extend(&receipts[3], 100 * SECOND).unwrap();
        queue.settle(&receipts[0], &Outcome::Ack).unwrap();
        queue.settle(&receipts[1], &Outcome::Reject("no".into())).unwrap();
        queue.settle(&receipts[2], &Outcome::Release).unwrap();

        for receipt in &receipts[..3] {
            lost(queue.settle(receipt, &Outcome::Ack));
        }
        assert_eq!((group.stats().dead, group.stats().on_loan, group.stats().ready), (1, 1, 1));
        world.advance(20 * SECOND);
        assert_eq!(drain(&group.consumer()), ["c"]);
        queue.settle(&receipts[3], &Outcome::Ack).unwrap();
    }

    fn a_timed_loan_survives_a_kill_and_a_held_one_comes_back(world: &World) {
        let queue = world.open();
        let worker = timed(&queue);
        queue.push("a").unwrap();
        queue.push("b").unwrap();
        let receipt = worker.try_recv().unwrap().unwrap().leave();
        let held = queue.consumer().unwrap().try_recv().unwrap().unwrap();
        assert_eq!(held.lease(), None);

        let after = world.open_after_kill();

        assert_eq!(after.group("default").unwrap().stats().on_loan, 0);
        assert_eq!(after.group("timed").unwrap().stats().on_loan, 1);
        after.settle(&receipt, &Outcome::Ack).unwrap();
        assert_eq!(drain(&after.group("timed").unwrap().consumer()), ["b"]);
        drop(held);
    }

    fn a_restarted_holder_cannot_complete_old_work(world: &World) {
        let queue = world.open();
        let worker = timed(&queue);
        queue.push("a").unwrap();
        let old = worker.try_recv().unwrap().unwrap().leave();
        let queue = world.open_after_kill();
        let worker = queue.group("timed").unwrap().consumer();
        world.advance(11 * SECOND);
        assert!(worker.try_recv().unwrap().is_none());
        world.advance(SECOND);
        let again = worker.try_recv().unwrap().unwrap();

        lost(queue.settle(&old, &Outcome::Ack));
        lost(queue.settle(&old, &Outcome::Nack("old".into())));
        lost(queue.extend(&old, SECOND));
        again.ack().unwrap();
        lost(queue.settle(&old, &Outcome::Ack));
    }

    fn whatever_comes_between_a_loan_that_was_given_again_is_not_the_old_one(world: &World) {
        type Between = fn(&Queue, &Receipt);
        let between: [(&str, Between); 4] = [
            ("release", |queue, old| queue.settle(old, &Outcome::Release).unwrap()),
            ("reject and revive", |queue, old| {
                queue.settle(old, &Outcome::Reject("no".into())).unwrap();
                assert_eq!(queue.group("timed").unwrap().revive([old.offset()]).unwrap(), 1);
            }),
            ("seek", |queue, _| {
                queue.group("timed").unwrap().seek(backlog::Start::Beginning).unwrap();
            }),
            ("release all", |queue, _| assert_eq!(queue.group("timed").unwrap().release_all().unwrap(), 1)),
        ];
        let queue = world.open();
        let worker = timed(&queue);
        queue.push("a").unwrap();
        let mut old: Vec<Receipt> = Vec::new();

        for (name, between) in between {
            let receipt = worker.try_recv().unwrap().unwrap_or_else(|| panic!("before {name}")).leave();
            between(&queue, &receipt);
            old.push(receipt);
            for old in &old {
                lost(queue.settle(old, &Outcome::Ack));
            }
        }
        let last = worker.try_recv().unwrap().unwrap();
        for old in &old {
            lost(queue.settle(old, &Outcome::Ack));
            lost(queue.extend(old, SECOND));
        }
        last.ack().unwrap();
    }

    fn a_group_made_anew_knows_no_receipt_of_the_one_before(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        let old = timed(&queue).try_recv().unwrap().unwrap().leave();
        queue.remove_group("timed").unwrap();
        let again = timed(&queue).try_recv().unwrap().unwrap();

        lost(queue.settle(&old, &Outcome::Ack));

        assert!(matches!(queue.settle(&receipt_elsewhere(&old), &Outcome::Ack), Err(Error::Invalid { .. })));
        again.ack().unwrap();
    }

    fn a_clock_that_jumps_by_years_delays_or_hastens_and_loses_nothing(world: &World) {
        let queue = world.open();
        let worker = timed(&queue);
        queue.push_batch(["a", "b"]).unwrap();
        let receipts: Vec<_> =
            worker.recv_batch(2, Duration::ZERO).unwrap().into_iter().map(backlog::Delivery::leave).collect();

        // While it is open only the clock that cannot jump decides.
        world.set_wall(YEAR);
        assert!(worker.try_recv().unwrap().is_none());
        queue.settle(&receipts[0], &Outcome::Ack).unwrap();
        queue.close().unwrap();

        // The wall clock of then was a year ahead: the loan lasts its time from now at the most.
        world.set_wall(Duration::ZERO);
        let queue = world.open();
        let worker = queue.group("timed").unwrap().consumer();
        assert!(worker.try_recv().unwrap().is_none());
        world.advance(11 * SECOND);
        assert!(worker.try_recv().unwrap().is_none());
        world.advance(SECOND);
        assert_eq!(drain(&worker), ["b"]);
    }

    fn work_that_takes_longer_than_its_loan_keeps_it(world: &World) {
        let queue = world.open();
        let worker = timed(&queue);
        queue.push("a").unwrap();
        let job = worker.try_recv().unwrap().unwrap();

        let other = worker.clone();
        let answer = job.extend_while(|| {
            for _ in 0..50 {
                world.advance(4 * SECOND);
                // The extending thread is woken by each move; it extends once a third of ten seconds is over.
                while queue.group("timed").unwrap().stats().next_due.is_some_and(|due| due < world.wall() + 5_000) {
                    std::thread::yield_now();
                }
                assert!(other.try_recv().unwrap().is_none());
            }
            7
        });

        assert_eq!(answer, 7);
        job.ack().unwrap();
    }
}

/// The same receipt, of a queue that is not this one.
fn receipt_elsewhere(receipt: &Receipt) -> Receipt {
    let text = receipt.to_string();
    format!("{:032x}{}", 5, &text[32..]).parse().unwrap()
}
