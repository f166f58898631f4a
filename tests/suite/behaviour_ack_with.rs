//! Is a message acked together with what came of it, and what else can happen to it meanwhile?

use std::time::Duration;

use backlog::{Durability, Error, GroupOptions, Message, MessageState, Outcome, Retry, Start};

use crate::harness::{drain, everywhere};

const HOUR: Duration = Duration::from_secs(3600);

fn synced() -> GroupOptions {
    GroupOptions::new().ack_durability(Durability::Synced)
}

everywhere! {
    fn issue_5_a_message_is_done_and_its_outputs_are_there_in_one_step(world: &World) {
        let queue = world.open();
        queue.push("cat.jpg").unwrap();
        let worker = queue.consumer().unwrap();

        let outputs = worker.recv().unwrap().ack_with(["small cat.jpg", "mail about cat.jpg"]).unwrap();

        assert_eq!(outputs.map(backlog::Offset::get).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(drain(&worker), ["small cat.jpg", "mail about cat.jpg"]);
        let group = queue.group("default").unwrap();
        assert_eq!(group.stats().ready + group.stats().on_loan, 0);
        queue.close().unwrap();
        assert!(drain(&world.open().consumer().unwrap()).is_empty());
    }

    fn issue_5_after_a_kill_the_ack_is_found_in_the_log(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b", "c"]).unwrap();
        let worker = queue.create_group("g", synced()).unwrap().consumer();
        let jobs = worker.recv_batch(3, Duration::ZERO).unwrap();
        for (job, output) in jobs.into_iter().zip(["A", "B", "C"]) {
            job.ack_with([output]).unwrap();
        }

        let queue = world.open_after_kill();

        assert_eq!(queue.recovery().loans_returned, 0);
        assert_eq!(drain(&queue.group("g").unwrap().consumer()), ["A", "B", "C"]);
        // And whatever the next opening finds, it is the same.
        let queue = world.open_after_kill();
        assert!(drain(&queue.group("g").unwrap().consumer()).is_empty());
    }

    fn issue_5_without_outputs_it_is_an_ack(world: &World) {
        let queue = world.open();
        queue.push("only").unwrap();
        let worker = queue.consumer().unwrap();

        let outputs = worker.recv().unwrap().ack_with([] as [&str; 0]).unwrap();

        assert_eq!(outputs.len(), 0);
        assert_eq!(queue.stats().messages, 1);
        assert!(worker.try_recv().unwrap().is_none());
    }

    fn issue_5_outputs_that_cannot_be_pushed_leave_the_message_to_come_again(world: &World) {
        let options = world.options().max_message_bytes(100);
        let queue = options.open().unwrap();
        queue.push("cat.jpg").unwrap();
        let retry = GroupOptions::new().retry(Retry::steps(&[HOUR]));
        let group = queue.create_group("g", retry).unwrap();
        let worker = group.consumer();

        let large = worker.recv().unwrap().ack_with([vec![0; 101]]).unwrap_err();

        assert!(matches!(large, Error::TooLarge { .. }), "{large}");
        assert_eq!((group.stats().delayed, queue.stats().messages), (1, 1));
        world.advance(HOUR);
        let again = worker.recv().unwrap();
        assert_eq!(again.attempt(), 2);
        let kind = again.ack_with([Message::new("x").kind("")]).unwrap_err();
        assert!(matches!(kind, Error::Invalid { .. }), "{kind}");
        world.advance(HOUR);
        assert_eq!(worker.recv().unwrap().attempt(), 3);
    }

    fn issue_5_a_loan_that_is_over_takes_no_outputs_along(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        let group = queue.create_group("g", synced()).unwrap();
        let job = group.consumer().recv().unwrap();
        group.release_all().unwrap();

        let late = job.ack_with(["A"]).unwrap_err();

        assert!(matches!(late, Error::LeaseLost { .. }), "{late}");
        assert_eq!(queue.stats().messages, 1);
        assert_eq!(drain(&group.consumer()), ["a"]);
    }

    fn issue_5_a_loan_that_ran_out_can_be_acked_with_outputs_until_it_is_lent_again(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b"]).unwrap();
        let group = queue.create_group("g", synced().retry(Retry::steps(&[HOUR]))).unwrap();
        let worker = group.consumer().with_lease(Duration::from_secs(1));
        let mut jobs = worker.recv_batch(2, Duration::ZERO).unwrap().into_iter();
        world.advance(2 * HOUR);
        // Both run out; the first is lent again.
        assert!(worker.try_recv().unwrap().is_none());
        world.advance(HOUR);
        let again = group.consumer().recv().unwrap();

        let lost = jobs.next().unwrap().ack_with(["A"]).unwrap_err();
        let late = jobs.next().unwrap().ack_with(["B"]);

        assert!(matches!(lost, Error::LeaseLost { .. }), "{lost}");
        assert_eq!(late.unwrap().len(), 1);
        again.ack().unwrap();
        assert_eq!(drain(&group.consumer()), ["B"]);
        let queue = world.open_after_kill();
        assert!(drain(&queue.group("g").unwrap().consumer()).is_empty());
    }

    fn issue_5_a_seek_goes_back_over_acks_that_only_the_log_has(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b"]).unwrap();
        let group = queue.create_group("g", synced()).unwrap();
        for job in group.consumer().recv_batch(2, Duration::ZERO).unwrap() {
            job.ack_with(["out"]).unwrap();
        }

        group.seek(Start::Beginning).unwrap();

        let queue = world.open_after_kill();
        let group = queue.group("g").unwrap();
        assert_eq!(drain(&group.consumer()), ["a", "b", "out", "out"]);
        let queue = world.open_after_kill();
        assert!(drain(&queue.group("g").unwrap().consumer()).is_empty());
    }

    fn issue_5_a_group_that_was_made_anew_is_spared_the_acks_of_the_old_one(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        let group = queue.create_group("g", synced()).unwrap();
        group.consumer().recv().unwrap().ack_with(["A"]).unwrap();
        queue.remove_group("g").unwrap();
        queue.create_group("g", synced().start(Start::Beginning)).unwrap();

        let queue = world.open_after_kill();

        assert_eq!(drain(&queue.group("g").unwrap().consumer()), ["a", "A"]);
    }

    fn issue_5_an_ack_with_outputs_hits_its_own_group_alone(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        let one = queue.create_group("one", synced()).unwrap();
        queue.create_group("two", synced().start(Start::Beginning)).unwrap();
        one.consumer().recv().unwrap().ack_with(["A"]).unwrap();

        let queue = world.open_after_kill();

        assert_eq!(drain(&queue.group("one").unwrap().consumer()), ["A"]);
        assert_eq!(drain(&queue.group("two").unwrap().consumer()), ["a", "A"]);
    }

    fn issue_5_pushed_buffered_a_message_is_done_at_once_and_recorded_when_it_is_durable(world: &World) {
        let queue = world.open().with_durability(Durability::Buffered);
        queue.push_batch(["a", "b"]).unwrap();
        let group = queue.create_group("g", synced()).unwrap();
        let worker = group.consumer();

        worker.recv().unwrap().ack_with(["A"]).unwrap();

        // Nobody has it, and it is not the group's to wait for.
        assert_eq!((group.stats().on_loan, group.stats().ready), (0, 2));
        assert_eq!(drain(&worker), ["b", "A"]);
        queue.sync().unwrap();
        assert_eq!(group.peek(backlog::Offset::new(0).unwrap()).unwrap().unwrap().state(), MessageState::Done);
        let queue = world.open_after_kill();
        assert!(drain(&queue.group("g").unwrap().consumer()).is_empty());
    }

    fn issue_5_what_is_done_without_a_loan_waits_for_acks_in_batches(world: &World) {
        let queue = world.open().with_durability(Durability::Buffered);
        queue.push_batch(["a", "b", "c", "d"]).unwrap();
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        let worker = group.consumer();
        let mut jobs = worker.recv_batch(3, Duration::ZERO).unwrap().into_iter();
        let first = jobs.next().unwrap();
        let offset = first.offset();
        first.ack_with(["A"]).unwrap();

        // It was done before, whether or not that was durable.
        assert_eq!(group.discard([offset]).unwrap(), 0);
        jobs.next().unwrap().ack_with(["B"]).unwrap();
        assert_eq!(group.release_all().unwrap(), 1);
        jobs.next().unwrap().ack().unwrap_err();
        let third = worker.recv().unwrap();
        assert_eq!(third.payload(), b"c");
        third.ack_with(["C"]).unwrap();
        assert_eq!(group.purge().unwrap(), 4, "d, A, B, C");
        assert!(worker.try_recv().unwrap().is_none());
    }

    fn issue_5_a_receipt_and_a_pool_ack_with_outputs_too(world: &World) {
        let queue = world.open();
        queue.push_batch(["a", "b"]).unwrap();
        let group = queue.create_group("g", synced()).unwrap();
        let worker = group.consumer();
        let receipt = worker.with_lease(HOUR).recv().unwrap().leave();

        queue.settle(&receipt, &Outcome::AckWith(vec!["A".into()])).unwrap();
        let lost = queue.settle(&receipt, &Outcome::AckWith(vec!["A".into()])).unwrap_err();
        let pool = worker.pool(2).until_idle().spawn(|job| {
            let outputs = if job.payload() == b"b" { vec!["B1".into(), "B2".into()] } else { vec![] };
            Ok::<_, Error>(Outcome::AckWith(outputs))
        });
        let report = pool.unwrap().join().unwrap();

        assert!(matches!(lost, Error::LeaseLost { .. }), "{lost}");
        assert_eq!((report.acked, report.nacked), (4, 0));
        assert_eq!(queue.stats().messages, 5);
        assert_eq!(group.stats().ready, 0);
    }

    fn issue_5_a_pool_counts_what_it_could_not_push_as_nacked_and_goes_on(world: &World) {
        let queue = world.options().max_message_bytes(100).open().unwrap();
        queue.push_batch(["large", "small"]).unwrap();
        let group = queue.create_group("g", synced().max_failures(1)).unwrap();

        let pool = group.consumer().pool(1).until_idle().spawn(|job| {
            let length = if job.payload() == b"large" { 101 } else { 1 };
            let outputs = if job.payload().len() == 1 { vec![] } else { vec![vec![b'x'; length].into()] };
            Ok::<_, Error>(Outcome::AckWith(outputs))
        });
        let report = pool.unwrap().join().unwrap();

        assert_eq!((report.acked, report.nacked), (2, 1));
        let dead = group.dead();
        assert_eq!(dead[0].offset.get(), 0);
        assert!(dead[0].error.as_ref().unwrap().contains("101"), "{dead:?}");
    }

    fn issue_5_a_clean_close_leaves_no_ack_to_be_looked_for(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        let group = queue.create_group("g", synced()).unwrap();
        let job = group.consumer().recv().unwrap();
        queue.push("b").unwrap();
        job.ack_with(["A"]).unwrap();
        queue.close().unwrap();

        let queue = world.open();
        assert!(queue.recovery().clean);
        let group = queue.group("g").unwrap();
        // The acks of this opening are looked for, whatever the one before has said.
        let job = group.consumer().recv().unwrap();
        job.ack_with(["B"]).unwrap();

        let queue = world.open_after_kill();
        assert_eq!(drain(&queue.group("g").unwrap().consumer()), ["A", "B"]);
    }
}
