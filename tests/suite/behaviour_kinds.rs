//! Which messages does a group get that takes some kinds alone?

use std::time::Duration;

use backlog::{Error, GroupOptions, Message, MessageState, Offset, Retry, Start};

use crate::harness::{drain, everywhere};

const HOUR: Duration = Duration::from_secs(3600);

fn mail(text: &str) -> Message<'_> {
    Message::new(text).kind("email/2")
}

fn image(text: &str) -> Message<'_> {
    Message::new(text).kind("thumbnail/1")
}

fn offset(number: u64) -> Offset {
    Offset::new(number).unwrap()
}

everywhere! {
    fn issue_5_a_group_takes_its_own_kinds_and_the_others_count_as_done(world: &World) {
        let queue = world.open();
        let mailer = queue.create_group("mailer", GroupOptions::new().kinds(["email/2", "email/1"])).unwrap();
        queue.create_group("all", GroupOptions::new()).unwrap();
        queue.push_batch([image("1"), mail("2"), Message::new("no kind"), image("4"), mail("5")]).unwrap();
        queue.push_batch([Message::new("6").kind("email/1"), Message::new("7").kind("email/22"), image("8")]).unwrap();

        assert_eq!(drain(&mailer.consumer()), ["2", "5", "6"]);

        assert_eq!(mailer.stats().ready, 0);
        assert_eq!(drain(&queue.group("all").unwrap().consumer()).len(), 8);
        queue.close().unwrap();
        let queue = world.open();
        let mailer = queue.group("mailer").unwrap();
        assert_eq!(mailer.stats().kinds, ["email/1", "email/2"]);
        assert!(mailer.consumer().try_recv().unwrap().is_none());
        queue.push_batch([image("9"), mail("10")]).unwrap();
        assert_eq!(drain(&mailer.consumer()), ["10"]);
    }

    fn issue_5_rows_of_other_kinds_pass_in_batches_too(world: &World) {
        let queue = world.open();
        let group = queue.create_group("g", GroupOptions::new().kinds(["email/2"])).unwrap();
        queue.push_batch((0..3000).map(|number| if number % 1000 == 999 { mail("m") } else { image("i") })).unwrap();

        let jobs = group.consumer().recv_batch(10, Duration::ZERO).unwrap();

        let offsets: Vec<u64> = jobs.iter().map(|job| job.offset().get()).collect();
        assert_eq!(offsets, [999, 1999, 2999]);
        assert_eq!((group.stats().ready, group.stats().on_loan), (0, 3));
        for job in jobs {
            job.ack().unwrap();
        }
        let states = [998, 999, 2000].map(|number| group.peek(offset(number)).unwrap().unwrap().state());
        assert_eq!(states, [MessageState::Done; 3]);
    }

    fn issue_5_kinds_are_changed_for_what_is_met_from_then_on(world: &World) {
        let queue = world.open();
        let group = queue.create_group("g", GroupOptions::new().kinds(["email/2"]).retry(Retry::steps(&[HOUR]))).unwrap();
        queue.push_batch([image("passed over"), mail("again"), mail("later")]).unwrap();
        group.consumer().recv().unwrap().nack("not now").unwrap();

        group.set(group.options().unwrap().kinds(["thumbnail/1"])).unwrap();

        queue.push_batch([mail("not any more"), image("taken")]).unwrap();
        // What was never met is of the wrong kind now; what was met comes again.
        assert_eq!(drain(&group.consumer()), ["taken"]);
        world.advance(HOUR);
        assert_eq!(drain(&group.consumer()), ["again"]);
        let queue = world.open_after_kill();
        let group = queue.group("g").unwrap();
        assert_eq!(group.stats().kinds, ["thumbnail/1"]);
        group.set(group.options().unwrap().kinds([] as [&str; 0])).unwrap();
        queue.push(mail("of any kind")).unwrap();
        assert_eq!(drain(&group.consumer()), ["of any kind"]);
        // A seek meets all of them anew.
        group.seek(Start::Beginning).unwrap();
        assert_eq!(drain(&group.consumer()).len(), 6);
    }

    fn issue_5_what_was_discarded_ahead_and_what_is_delayed_keeps_its_place_among_other_kinds(world: &World) {
        let queue = world.open();
        let group = queue.create_group("g", GroupOptions::new().kinds(["email/2"])).unwrap();
        queue.push_batch([image("0"), mail("1"), image("2"), image("3"), mail("4").delay(HOUR)]).unwrap();
        queue.push_batch([image("5").delay(HOUR), mail("6")]).unwrap();
        group.discard([offset(1), offset(3)]).unwrap();

        assert_eq!(drain(&group.consumer()), ["6"]);

        world.advance(HOUR);
        assert_eq!(drain(&group.consumer()), ["4"]);
        assert_eq!(group.stats().ready, 0);
        let queue = world.open_after_kill();
        queue.push(image("7")).unwrap();
        assert_eq!(queue.group("g").unwrap().stats().ready, 1, "at the most");
        assert!(queue.group("g").unwrap().consumer().try_recv().unwrap().is_none());
        assert_eq!(queue.group("g").unwrap().stats().ready, 0);
    }

    fn issue_5_kinds_that_no_message_can_have_are_refused(world: &World) {
        let queue = world.open();
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        let many: Vec<String> = (0..1001).map(|number| number.to_string()).collect();

        for kinds in [vec![String::new()], vec!["x".repeat(256)], many] {
            let new = queue.create_group("new", GroupOptions::new().kinds(kinds.clone())).unwrap_err();
            let set = group.set(group.options().unwrap().kinds(kinds)).unwrap_err();

            assert!(matches!((&new, &set), (Error::Invalid { .. }, Error::Invalid { .. })), "{new}, {set}");
        }
        assert_eq!(queue.groups(), ["g"]);
        assert_eq!(group.stats().kinds, [] as [&str; 0]);
    }
    fn what_was_put_aside_for_its_priority_stays_when_other_kinds_are_passed_over(world: &World) {
        let queue = world.open();
        let group = queue.create_group("mailer", GroupOptions::new().kinds(["letter"])).unwrap();
        let mut wanted = Vec::new();
        for number in 0..60_u8 {
            let kind = if number % 3 == 0 { "letter" } else { "other" };
            let offset = queue.push(Message::new("x").kind(kind).priority(number % 10)).unwrap();
            wanted.extend((kind == "letter").then_some(offset));
        }
        let worker = group.consumer();
        let all = || {
            let mut jobs: Vec<_> = std::iter::from_fn(|| worker.try_recv().unwrap()).collect();
            jobs.sort_by_key(|job| job.offset());
            jobs
        };

        let first = all();
        assert_eq!(first.iter().map(|job| job.offset()).collect::<Vec<_>>(), wanted);
        first.into_iter().for_each(|job| job.release().unwrap());
        let again = all();

        assert_eq!(again.iter().map(|job| job.offset()).collect::<Vec<_>>(), wanted);
        queue.ack_all(again).unwrap().into_iter().for_each(|acked| acked.unwrap());
    }
}
