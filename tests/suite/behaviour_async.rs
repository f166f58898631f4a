//! What becomes of a message that a task waits for, and of an ack that it does not wait for?

use std::task::Poll;
use std::time::Duration;

use backlog::{Durability, Error, GroupOptions, Message, Queue, Retry};

use crate::harness::{drain, on_both_disks};
use crate::task::Task;

const SECOND: Duration = Duration::from_secs(1);

fn synced(queue: &Queue) -> backlog::Consumer {
    let options = GroupOptions::new().ack_durability(Durability::Synced);
    queue.create_group("synced", options).unwrap().consumer()
}

on_both_disks! {
    fn a_task_is_woken_by_a_message_and_gets_it(world: &World) {
        let queue = world.open();
        let worker = queue.consumer().unwrap();
        let (task, mut next) = (Task::new(), worker.recv_async());
        task.settle_in(&queue, &mut next);

        queue.push("a").unwrap();

        assert!(task.was_woken());
        let Poll::Ready(Ok(job)) = task.poll(&mut next) else { panic!("no message") };
        assert_eq!((job.payload(), job.attempt()), (&b"a"[..], 1));
        job.ack().unwrap();
        task.settle_in(&queue, &mut next);
        queue.push("b").unwrap();
        assert_eq!(task.finish(&queue, &mut next).unwrap().payload(), b"b");
    }

    fn a_future_that_is_dropped_takes_no_message_and_counts_no_attempt(world: &World) {
        let queue = world.open();
        let worker = queue.consumer().unwrap();
        let task = Task::new();
        for _ in 0..3 {
            let mut next = worker.recv_async();
            task.settle_in(&queue, &mut next);
        }
        let mut next = worker.recv_async();
        task.settle_in(&queue, &mut next);
        queue.push("a").unwrap();
        assert!(task.was_woken());
        drop(next);

        assert_eq!(queue.stats().groups[0].on_loan, 0);
        let job = worker.try_recv().unwrap().unwrap();
        assert_eq!((job.payload(), job.attempt()), (&b"a"[..], 1));
        job.ack().unwrap();
    }

    fn a_loop_that_makes_a_future_anew_for_each_poll_goes_on_and_counts_no_attempt(world: &World) {
        let queue = world.open();
        let worker = queue.consumer().unwrap();
        let task = Task::new();
        let mut got = Vec::new();
        for round in 0..100 {
            if round % 10 == 5 {
                queue.push(format!("{round}")).unwrap();
            }
            queue.run_duties().unwrap();
            if let Poll::Ready(job) = task.poll(&mut worker.recv_async()) {
                let job = job.unwrap();
                assert_eq!(job.attempt(), 1);
                got.push(String::from_utf8(job.payload().to_vec()).unwrap());
                job.ack().unwrap();
            }
        }

        assert_eq!(got, ["5", "15", "25", "35", "45", "55", "65", "75", "85", "95"]);
    }

    fn one_that_is_dropped_after_its_wake_up_leaves_the_message_to_another(world: &World) {
        let queue = world.open();
        let worker = queue.consumer().unwrap();
        let (first, second) = (Task::new(), Task::new());
        let (mut one, mut other) = (worker.recv_async(), worker.recv_async());
        first.settle_in(&queue, &mut one);
        second.settle_in(&queue, &mut other);

        queue.push("a").unwrap();
        assert!(first.was_woken() && second.was_woken());
        drop(one);

        let Poll::Ready(Ok(job)) = second.poll(&mut other) else { panic!("no message") };
        assert_eq!(job.attempt(), 1);
        job.ack().unwrap();
    }

    fn the_last_waker_is_the_one_that_is_woken(world: &World) {
        let queue = world.open();
        let (before, after) = (Task::new(), Task::new());
        let mut next = queue.consumer().unwrap().recv_async();
        before.settle_in(&queue, &mut next);
        assert!(after.poll(&mut next).is_pending());

        queue.push("a").unwrap();

        assert!(after.was_woken() && !before.was_woken());
        after.finish(&queue, &mut next).unwrap().ack().unwrap();
    }

    fn what_becomes_due_wakes_a_task(world: &World) {
        let queue = world.open();
        let worker = queue.consumer().unwrap();
        let (task, mut next) = (Task::new(), worker.recv_async());
        queue.push(Message::new("later").delay(10 * SECOND)).unwrap();
        task.settle_in(&queue, &mut next);

        world.advance(9 * SECOND);
        assert!(task.poll(&mut next).is_pending());
        task.was_woken();
        world.advance(SECOND);
        assert!(task.was_woken());
        let job = task.finish(&queue, &mut next).unwrap();
        job.nack_after(5 * SECOND, "no").unwrap();
        task.settle_in(&queue, &mut next);
        world.advance(5 * SECOND);

        assert!(task.was_woken());
        let job = task.finish(&queue, &mut next).unwrap();
        assert_eq!((job.payload(), job.attempt()), (&b"later"[..], 2));
        job.ack().unwrap();
    }

    fn a_loan_that_runs_out_wakes_a_task(world: &World) {
        let queue = world.open();
        let retry = Retry::steps(&[Duration::from_millis(1)]);
        let options = GroupOptions::new().lease(10 * SECOND).retry(retry);
        let worker = queue.create_group("timed", options).unwrap().consumer();
        queue.push("a").unwrap();
        let task = Task::new();
        let late = task.finish(&queue, &mut worker.recv_async()).unwrap();
        let mut next = worker.recv_async();
        task.settle_in(&queue, &mut next);

        world.advance(11 * SECOND);
        assert!(task.was_woken());
        assert!(task.poll(&mut next).is_pending(), "it waits by the retry policy");
        world.advance(SECOND);

        assert!(task.was_woken());
        assert_eq!(task.finish(&queue, &mut next).unwrap().attempt(), 2);
        assert!(matches!(late.ack_deferred(), Err(Error::LeaseLost { .. })));
    }

    fn a_settled_loan_wakes_a_task_that_it_keeps_waiting(world: &World) {
        let queue = world.open();
        let worker = queue.consumer().unwrap();
        queue.push_batch([Message::new("a").ordering_key("k"), Message::new("b").ordering_key("k")]).unwrap();
        let task = Task::new();
        let first = task.finish(&queue, &mut worker.recv_async()).unwrap();
        let mut next = worker.recv_async();
        task.settle_in(&queue, &mut next);

        let ticket = first.ack_deferred().unwrap();

        assert!(task.was_woken());
        let second = task.finish(&queue, &mut next).unwrap();
        assert_eq!(second.payload(), b"b");
        ticket.wait().unwrap();
        second.release().unwrap();
        assert_eq!(drain(&worker), ["b"]);
    }

    fn closing_wakes_and_answers_every_task(world: &World) {
        let queue = world.open();
        let worker = queue.consumer().unwrap();
        let tasks = [Task::new(), Task::new()];
        // One waits for room, and one for a message.
        let mut futures = [worker.recv_async(), worker.recv_async()];
        assert!(tasks[0].poll(&mut futures[0]).is_pending());
        tasks[1].settle_in(&queue, &mut futures[1]);

        queue.close().unwrap();

        for (task, next) in tasks.iter().zip(&mut futures) {
            assert!(task.was_woken());
            assert!(matches!(task.poll(next), Poll::Ready(Err(Error::Closed))));
        }
    }

    fn removing_a_group_wakes_and_answers_its_tasks(world: &World) {
        let queue = world.open();
        let worker = synced(&queue);
        let (task, mut next) = (Task::new(), worker.recv_async());
        task.settle_in(&queue, &mut next);

        queue.remove_group("synced").unwrap();

        assert!(task.was_woken());
        assert!(matches!(task.poll(&mut next), Poll::Ready(Err(Error::NoSuchGroup { .. }))));
    }

    fn a_batch_for_a_task_is_all_there_is(world: &World) {
        let queue = world.open();
        let worker = queue.consumer().unwrap();
        let (task, mut next) = (Task::new(), worker.recv_batch_async(10));
        task.settle_in(&queue, &mut next);
        queue.push_batch(["a", "b", "c"]).unwrap();

        let jobs = task.finish(&queue, &mut next).unwrap();

        assert_eq!(jobs.len(), 3);
        assert!(queue.ack_all(jobs).unwrap().iter().all(Result::is_ok));
        assert!(matches!(task.poll(&mut worker.recv_batch_async(0)), Poll::Ready(Ok(none)) if none.is_empty()));
    }

    fn a_deferred_ack_that_has_its_answer_outlives_a_kill(world: &World) {
        let queue = world.open();
        let worker = synced(&queue);
        queue.push_batch(["a", "b", "c", "d"]).unwrap();
        let task = Task::new();
        let mut jobs = task.finish(&queue, &mut worker.recv_batch_async(4)).unwrap().into_iter();
        let mut next = || jobs.next().unwrap();

        let mut polled = next().ack_deferred().unwrap();
        assert!(task.poll(&mut polled).is_pending());
        task.finish(&queue, &mut polled).unwrap();
        next().ack_deferred().unwrap().wait().unwrap();
        let ticket = next().ack_deferred().unwrap();
        ticket.wait_timeout(SECOND).unwrap();
        ticket.wait().unwrap();
        // Nobody waits for it: the queue's duties see to it all the same.
        drop(next().ack_deferred().unwrap());
        queue.run_duties().unwrap();

        let queue = world.open_after_kill();
        assert_eq!(drain(&queue.group("synced").unwrap().consumer()), [""; 0]);
    }

    fn a_deferred_ack_of_a_buffered_group_is_written_by_whoever_polls(world: &World) {
        for mappings in [true, false] {
            let queue = world.options().mappings(mappings).open().unwrap();
            queue.push("a").unwrap();
            let task = Task::new();
            let job = task.finish(&queue, &mut queue.consumer().unwrap().recv_async()).unwrap();

            let mut ticket = job.ack_deferred().unwrap();

            assert!(matches!(task.poll(&mut ticket), Poll::Ready(Ok(()))));
            world.kill();
            drop(queue);
            let queue = world.open();
            assert_eq!(drain(&queue.consumer().unwrap()), [""; 0]);
            queue.close().unwrap();
        }
    }

    fn a_ticket_of_a_closed_queue_has_its_answer(world: &World) {
        let queue = world.open();
        let worker = synced(&queue);
        queue.push_batch(["a", "b"]).unwrap();
        let task = Task::new();
        let mut jobs = task.finish(&queue, &mut worker.recv_batch_async(2)).unwrap();
        let late = jobs.pop().unwrap();
        let mut ticket = jobs.pop().unwrap().ack_deferred().unwrap();
        assert!(task.poll(&mut ticket).is_pending());

        queue.close().unwrap();

        assert!(task.was_woken());
        assert!(matches!(task.poll(&mut ticket), Poll::Ready(Ok(()))), "closing syncs what was acked");
        assert!(matches!(late.ack_deferred(), Err(Error::Closed)));
    }

    fn a_task_and_a_thread_compete_for_one_message_and_one_of_them_gets_it(world: &World) {
        let queue = world.open();
        let worker = queue.consumer().unwrap();
        let (task, mut next) = (Task::new(), worker.recv_async());
        task.settle_in(&queue, &mut next);
        queue.push("a").unwrap();
        assert!(task.was_woken());

        let job = worker.try_recv().unwrap().unwrap();

        task.settle_in(&queue, &mut next);
        job.release().unwrap();
        assert!(task.was_woken());
        let job = task.finish(&queue, &mut next).unwrap();
        assert_eq!(job.attempt(), 1);
        job.ack().unwrap();
    }
}

#[cfg(feature = "stream")]
mod streams {
    use std::pin::Pin;
    use std::task::Poll;

    use futures_core::Stream as _;

    use crate::harness::on_both_disks;
    use crate::task::Task;

    on_both_disks! {
        fn a_stream_gives_messages_as_they_come_and_ends_with_the_queue(world: &World) {
            let queue = world.open();
            let mut stream = queue.consumer().unwrap().stream();
            let task = Task::new();
            let poll = |stream: &mut backlog::Messages| Pin::new(stream).poll_next(&mut task.context());
            queue.push_batch(["a", "b"]).unwrap();
            let mut got = Vec::new();
            for _ in 0..10 {
                if let Poll::Ready(Some(job)) = poll(&mut stream) {
                    let job = job.unwrap();
                    got.push(job.payload().to_vec());
                    job.ack().unwrap();
                }
                queue.run_duties().unwrap();
            }
            assert_eq!(got, [b"a", b"b"]);
            task.was_woken();

            queue.close().unwrap();

            assert!(task.was_woken());
            assert!(matches!(poll(&mut stream), Poll::Ready(None)));
            assert!(matches!(poll(&mut stream), Poll::Ready(None)));
        }
    }
}
