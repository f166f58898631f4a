//! What is one shown who only looks?

use std::time::Duration;

use backlog::{DumpOptions, Error, Fate, FindingKind, GroupOptions, Message, MessageState, Offset};
use backlog::{QueueState, View};

use crate::harness::{on_both_disks, patiently};

fn offset(number: u64) -> Offset {
    Offset::new(number).unwrap()
}

/// The payloads that a view shows, all of them good.
fn payloads(view: &mut View) -> Vec<Vec<u8>> {
    view.messages(Offset::MIN).map(|message| message.unwrap().payload().to_vec()).collect()
}

on_both_disks! {
    fn a_view_shows_what_is_stored_and_where_each_message_is_in_its_life(world: &World) {
        let queue = world.open();
        let group = queue.create_group("mailer", GroupOptions::new()).unwrap();
        queue.push_batch(["done", "dead", "delayed", "lent", "ready"]).unwrap();
        let worker = group.consumer();
        worker.recv().unwrap().ack().unwrap();
        worker.recv().unwrap().reject("never").unwrap();
        worker.recv().unwrap().nack_after(Duration::from_secs(60), "later").unwrap();
        let lent = worker.recv().unwrap();

        let mut view = world.options().view().unwrap();

        assert_eq!(payloads(&mut view), [&b"done"[..], b"dead", b"delayed", b"lent", b"ready"]);
        let states = [
            MessageState::Done,
            MessageState::Dead,
            MessageState::Delayed,
            MessageState::OnLoan,
            MessageState::Ready,
        ];
        for (number, state) in (0..).zip(states) {
            let message = view.get(offset(number)).unwrap().unwrap();
            assert_eq!(view.state("mailer", &message).unwrap(), state);
            let of_it: Vec<_> =
                view.messages_in("mailer", state, Offset::MIN).unwrap().map(|seen| seen.unwrap().offset()).collect();
            assert_eq!(of_it, [offset(number)]);
        }
        assert!(matches!(view.dead("nobody"), Err(Error::NoSuchGroup { .. })));
        assert_eq!(view.dead("mailer").unwrap()[0].error.as_deref(), Some("never"));
        assert_eq!(view.get(offset(4)).unwrap().unwrap().payload(), b"ready");
        assert!(view.get(offset(5)).unwrap().is_none());
        assert_eq!(view.inspection().state, QueueState::Live);
        // It is a picture: what comes is seen in the next.
        queue.push("next").unwrap();
        assert!(view.get(offset(5)).unwrap().is_none());
        view.follow().unwrap();
        assert_eq!(view.get(offset(5)).unwrap().unwrap().payload(), b"next");
        lent.ack().unwrap();
        view.refresh().unwrap();
        let message = view.get(offset(3)).unwrap().unwrap();
        assert_eq!(view.state("mailer", &message).unwrap(), MessageState::Done);
        queue.close().unwrap();
        view.refresh().unwrap();
        assert_eq!(view.inspection().state, QueueState::Closed);
    }

    fn what_a_group_has_not_come_to_is_where_the_message_says(world: &World) {
        let queue = world.open();
        queue.create_group("mailer", GroupOptions::new().kinds(["letter"])).unwrap();
        queue.push_batch([
            Message::new("now").kind("letter"),
            Message::new("later").kind("letter").delay(Duration::from_secs(60)),
            Message::new("other"),
        ])
        .unwrap();

        let mut view = world.options().view().unwrap();

        let mut of = |state| -> Vec<u64> {
            let messages = view.messages_in("mailer", state, Offset::MIN).unwrap();
            messages.map(|message| message.unwrap().offset().get()).collect()
        };
        assert_eq!((of(MessageState::Ready), of(MessageState::Delayed)), (vec![0], vec![1]));
        assert_eq!(of(MessageState::Done), [2]);
        let (_, mailer) = view.why(offset(1)).unwrap().groups.remove(0);
        let mailer = mailer.unwrap();
        assert!(mailer.state == MessageState::Delayed && mailer.due.is_some(), "{mailer:?}");
        world.advance(Duration::from_secs(61));
        view.refresh().unwrap();
        assert_eq!(view.messages_in("mailer", MessageState::Delayed, Offset::MIN).unwrap().count(), 0);
    }

    fn why_tells_where_a_message_lies_and_what_happened_to_it(world: &World) {
        let queue = world.open();
        let group = queue.create_group("mailer", GroupOptions::new()).unwrap();
        queue.create_group("audit", GroupOptions::new()).unwrap();
        queue.push_batch([Message::new("a").kind("letter/1"), Message::new("b")]).unwrap();
        group.consumer().recv().unwrap().nack_after(Duration::ZERO, "no paper").unwrap();
        let timed = group.consumer().with_lease(Duration::from_secs(600));
        let job = timed.recv().unwrap();
        let receipt = job.leave();

        let mut view = world.options().view().unwrap();
        let why = view.why(Offset::MIN).unwrap();

        assert_eq!(why.fate, Fate::Stored);
        assert_eq!(why.message.unwrap().kind(), Some("letter/1"));
        assert!(why.path.unwrap().ends_with("log/000000001.seg"));
        let (batch, record) = why.position.unwrap();
        assert!(batch == 4096 && record > batch + 32, "{batch} {record}");
        let told = |name: &str| why.groups.iter().find(|(group, _)| group == name).unwrap().1.clone().unwrap();
        let mailer = told("mailer");
        assert_eq!((mailer.state, mailer.failures, mailer.losses), (MessageState::OnLoan, 1, 0));
        assert_eq!(mailer.error.as_deref(), Some("no paper"));
        let loan = mailer.loan.unwrap();
        assert_eq!(loan.receipt, receipt);
        assert!(loan.ends.unwrap() > loan.since.unwrap());
        let history: Vec<_> = mailer.history.iter().map(|event| event.what).collect();
        assert_eq!(history, ["lent", "nacked", "lent"]);
        assert_eq!(mailer.history[1].error.as_deref(), Some("no paper"));
        assert_eq!(told("audit").state, MessageState::Ready);
        assert_eq!(view.why(offset(2)).unwrap().fate, Fate::NotYet);
        // Whoever knows the receipt can settle the loan.
        queue.settle(&loan.receipt, &backlog::Outcome::Ack).unwrap();
        let why = world.options().view().unwrap().why(Offset::MIN).unwrap();
        let (_, mailer) = why.groups.into_iter().find(|(group, _)| group == "mailer").unwrap();
        assert_eq!(mailer.unwrap().state, MessageState::Done);
    }

    fn what_was_freed_is_gone_and_the_rest_is_shown(world: &World) {
        let queue = patiently(&world.options().segment_bytes(8 << 10));
        let group = queue.create_group("mailer", GroupOptions::new()).unwrap();
        for number in 0..9 {
            queue.push(vec![number; 2000]).unwrap();
        }
        let mut before = world.options().view().unwrap();
        let jobs = group.consumer().recv_batch(6, Duration::ZERO).unwrap();
        queue.ack_all(jobs).unwrap();
        queue.sync().unwrap();
        while queue.stats().segments > 3 {
            queue.run_duties().unwrap();
            world.advance(Duration::from_secs(1));
        }

        // A view of before meets what is there now: segments are gone, or used again.
        let shown: Vec<_> = before.messages(Offset::MIN).map(|seen| seen.unwrap().offset().get()).collect();

        assert_eq!(shown.last(), Some(&8));
        assert!(shown.len() < 9 && shown.windows(2).all(|two| two[0] < two[1]), "{shown:?}");
        let mut view = world.options().view().unwrap();
        let why = view.why(Offset::MIN).unwrap();
        assert_eq!((why.fate, why.path), (Fate::Gone, None));
        assert_eq!(world.options().verify_deep().unwrap(), []);
    }

    fn damage_is_shown_as_such_and_the_rest_goes_on(world: &World) {
        let queue = world.open();
        let group = queue.create_group("mailer", GroupOptions::new()).unwrap();
        for text in ["a", "b", "c"] {
            queue.push(text).unwrap();
        }
        queue.close().unwrap();
        drop(group);
        world.flip("log/000000001.seg", 4096 + 40 + 32);

        let mut view = world.options().view().unwrap();

        let shown: Vec<_> = view.messages(Offset::MIN).collect();
        assert_eq!(shown.len(), 3);
        assert!(matches!(&shown[1], Err(Error::Damaged { offsets, .. }) if *offsets == Some(1..2)), "{shown:?}");
        assert_eq!(shown[2].as_ref().unwrap().payload(), b"c");
        let why = view.why(offset(1)).unwrap();
        assert!(why.fate == Fate::Damaged && why.problem.is_some());
        assert_eq!(world.options().verify_deep().unwrap(), [], "checksums are the business of `verify`");
    }

    fn a_message_that_a_group_wants_and_the_log_has_not_is_found(world: &World) {
        let queue = world.open();
        let group = queue.create_group("mailer", GroupOptions::new()).unwrap();
        for text in ["a", "b", "c"] {
            queue.push(text).unwrap();
        }
        for job in group.consumer().recv_batch(3, Duration::ZERO).unwrap() {
            job.nack_after(Duration::from_secs(60), "later").unwrap();
        }
        queue.close().unwrap();
        // The second batch is cut out, and the third moved to its place: its checksum is that of another
        // place, so it is made right. All that is there passes.
        world.change("log/000000001.seg", |bytes| {
            bytes.copy_within(4096 + 80..4096 + 120, 4096 + 40);
            bytes[4096 + 80..4096 + 120].fill(0);
            // No mark can lie behind its batch.
            bytes[4096 + 40 + 12..4096 + 40 + 16].copy_from_slice(&((4096_u32 + 40) / 8).to_le_bytes());
            backlog::testing::bytes::forge("log/000000001.seg", bytes);
        });
        world.change("MANIFEST", |bytes| {
            // Where the log ends, in both copies of the slot that holds.
            let (from, to) = (4096_u64 + 120, 4096_u64 + 80);
            for at in 0..bytes.len() - 8 {
                if bytes[at..at + 8] == from.to_le_bytes() {
                    bytes[at..at + 8].copy_from_slice(&to.to_le_bytes());
                }
            }
            backlog::testing::bytes::forge("MANIFEST", bytes);
        });

        let found = world.options().verify_deep().unwrap();

        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].kind, found[0].offsets), (FindingKind::Lost, Some((1, 2))));
    }

    fn a_dump_has_every_byte_of_a_segment_once(world: &World) {
        let queue = world.open();
        for number in 0..20_u8 {
            queue.push_batch((0..=number % 3).map(|more| vec![more; usize::from(number) * 11])).unwrap();
        }
        queue.close().unwrap();
        let pieces = |options: DumpOptions| {
            let mut pieces = Vec::new();
            world.options().dump(&options, &mut |piece| {
                pieces.push(piece);
                true
            }).unwrap();
            pieces
        };

        let outer: Vec<_> = pieces(DumpOptions::new().segment(1).headers_only(true));

        let mut end = 0;
        for piece in &outer {
            assert_eq!((piece.position, &piece.problem), (end, &None), "{piece:?}");
            end += piece.bytes;
        }
        assert_eq!(end, 1 << 20);
        let records = pieces(DumpOptions::new()).iter().filter(|piece| piece.what == "record").count();
        assert_eq!(records, (0..20).map(|number| number % 3 + 1).sum::<usize>());
        // Wherever a bit flips, some piece says so, but in what was never written.
        let last = outer.last().unwrap();
        assert_eq!(last.what, "empty");
        for position in (0..last.position).step_by(7) {
            world.flip("log/000000001.seg", position);
            let bad = pieces(DumpOptions::new().segment(1)).iter().filter(|piece| piece.problem.is_some()).count();
            assert!(bad > 0, "nothing is bad at byte {position}");
            world.flip("log/000000001.seg", position);
        }
        assert!(matches!(
            world.options().dump(&DumpOptions::new().segment(7), &mut |_| true),
            Err(Error::Invalid { .. })
        ));
    }
}
