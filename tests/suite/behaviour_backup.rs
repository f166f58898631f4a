//! Is a copy that of one moment, and is what is restored the same queue, under another name?

use std::time::Duration;

use backlog::testing::SimDisk;
use backlog::{Durability, Error, GroupOptions, Message, MessageState, Offset, Options, Outcome, Queue};
use backlog::{QueueState, Start};

use crate::harness::{World, drain, on_both_disks};

const SECOND: Duration = Duration::from_secs(1);

/// What opens a disk of its own, by the clock of a world.
fn elsewhere(world: &World) -> Options {
    world.options().sim_disk(&SimDisk::new(7))
}

/// Opens what was restored.
fn opened(options: &Options) -> Queue {
    options.clone().create(false).open().unwrap()
}

fn payloads(options: &Options) -> Vec<Vec<u8>> {
    let mut view = options.view().unwrap();
    view.messages(Offset::MIN).map(|message| message.unwrap().payload().to_vec()).collect()
}

on_both_disks! {
    fn a_copy_is_looked_at_like_a_queue_and_is_none(world: &World) {
        let queue = world.open();
        let group = queue.create_group("mailer", GroupOptions::new()).unwrap();
        queue.push_batch(["a", "b", "c"]).unwrap();
        group.consumer().recv().unwrap().ack().unwrap();
        let copy = elsewhere(world);

        let round = world.options().backup(&copy).unwrap().round(&mut |_| {}).unwrap();

        assert_eq!((round.next_offset, round.messages, round.segments), (3, 3, 1));
        assert_eq!(copy.verify().unwrap(), []);
        assert_eq!(copy.verify_deep().unwrap(), []);
        let seen = copy.inspect().unwrap();
        assert_eq!(seen.id, world.options().inspect().unwrap().id);
        assert_eq!((seen.groups[0].ready, seen.state), (2, QueueState::Closed));
        assert_eq!(payloads(&copy), [b"a", b"b", b"c"]);
        let Err(error) = copy.clone().open() else { panic!("a backup was opened") };
        assert!(error.to_string().contains("backlog restore"), "{error}");
        // A copy of a copy is none either, nor is a queue a backup.
        assert!(matches!(world.options().restore(&elsewhere(world)), Err(Error::Refused { .. })));
        assert!(world.options().backup(&world.options()).is_err());
    }

    fn a_round_copies_what_is_new_and_forgets_what_is_gone(world: &World) {
        let queue = world.options().segment_bytes(8 << 10).open().unwrap();
        let group = queue.create_group("mailer", GroupOptions::new()).unwrap();
        for number in 0..12 {
            queue.push(vec![number; 2000]).unwrap();
        }
        let copy = elsewhere(world);
        let mut backup = world.options().backup(&copy).unwrap();
        let first = backup.round(&mut |_| {}).unwrap();
        let again = backup.round(&mut |_| {}).unwrap();
        assert!(first.copied_bytes > 24_000 && again.copied_bytes == 0, "{first:?} {again:?}");

        let jobs = group.consumer().recv_batch(9, Duration::ZERO).unwrap();
        queue.ack_all(jobs).unwrap();
        queue.sync().unwrap();
        while queue.stats().segments > 3 {
            world.advance(SECOND);
            queue.run_duties().unwrap();
        }
        queue.push("new").unwrap();
        let later = backup.round(&mut |_| {}).unwrap();

        assert!(later.copied_bytes < 24_000, "{later:?}");
        assert_eq!(copy.verify_deep().unwrap(), []);
        assert_eq!(copy.verify().unwrap(), []);
        let mut view = copy.view().unwrap();
        let ready: Vec<_> = view
            .messages_in("mailer", MessageState::Ready, Offset::MIN)
            .unwrap()
            .map(|message| message.unwrap().offset().get())
            .collect();
        assert_eq!(ready, [9, 10, 11, 12]);
        assert_eq!(copy.inspect().unwrap().segments.len(), world.options().inspect().unwrap().segments.len());
        // Another one goes on where this one was.
        drop(backup);
        let round = world.options().backup(&copy).unwrap().round(&mut |_| {}).unwrap();
        assert_eq!(round.copied_bytes, 0);
    }

    fn a_round_in_which_nothing_happened_writes_nothing(world: &World) {
        let queue = world.open();
        let group = queue.create_group("mailer", GroupOptions::new()).unwrap();
        queue.push_batch(["a", "b"]).unwrap();
        let disk = SimDisk::new(7);
        let copy = world.options().sim_disk(&disk);
        let mut backup = world.options().backup(&copy).unwrap();
        backup.round(&mut |_| {}).unwrap();
        let before = disk.ops();

        backup.round(&mut |_| {}).unwrap();
        assert_eq!(disk.ops(), before);

        // An ack alone is something.
        group.consumer().recv().unwrap().ack().unwrap();
        backup.round(&mut |_| {}).unwrap();
        assert!(disk.ops() > before);
        assert_eq!(copy.inspect().unwrap().groups[0].ready, 1);
        queue.push("c").unwrap();
        assert_eq!(backup.round(&mut |_| {}).unwrap().next_offset, 3);
        assert_eq!(payloads(&copy), [b"a", b"b", b"c"]);
        assert_eq!(copy.verify().unwrap(), []);
    }

    fn what_is_restored_keeps_priorities_and_keys(world: &World) {
        let queue = world.open();
        queue.create_group("mailer", GroupOptions::new()).unwrap();
        queue.push("low").unwrap();
        queue.push(Message::new("high").priority(9)).unwrap();
        let unique = queue.push(Message::new("one").unique_key("u")).unwrap();
        let dedup = queue.push(Message::new("two").dedup_key("d")).unwrap();
        // Of a queue that was closed, too, and to which nothing was pushed since.
        queue.close().unwrap();
        drop(queue);
        let _reopened = world.open();
        let (copy, again) = (elsewhere(world), elsewhere(world));
        world.options().backup(&copy).unwrap().round(&mut |_| {}).unwrap();
        copy.restore(&again).unwrap();

        let theirs = opened(&again);
        assert_eq!(theirs.push(Message::new("one").unique_key("u")).unwrap(), unique);
        assert_eq!(theirs.push(Message::new("two").dedup_key("d")).unwrap(), dedup);
        assert_eq!(theirs.group("mailer").unwrap().consumer().recv().unwrap().payload(), b"high");
    }

    fn what_goes_bad_in_the_queue_stays_good_in_the_copy(world: &World) {
        let queue = world.open();
        for text in ["a", "b", "c"] {
            queue.push(text).unwrap();
        }
        queue.close().unwrap();
        drop(queue);
        let copy = elsewhere(world);
        world.options().backup(&copy).unwrap().round(&mut |_| {}).unwrap();
        world.flip("log/000000001.seg", 4096 + 40 + 32);
        let queue = world.open();
        queue.push("d").unwrap();

        let round = world.options().backup(&copy).unwrap().round(&mut |_| {}).unwrap();

        assert_eq!(round.damaged.len(), 1, "{round:?}");
        assert_eq!(copy.verify().unwrap(), []);
        assert_eq!(payloads(&copy), [b"a", b"b", b"c", b"d"]);
    }

    fn halves_of_a_copy_are_not_taken_for_those_of_the_queue(world: &World) {
        let queue = world.open();
        let group = queue.create_group("mailer", GroupOptions::new()).unwrap();
        queue.push_batch(["a", "b"]).unwrap();
        let disk = SimDisk::new(7);
        let copy = world.options().sim_disk(&disk);
        let mut backup = world.options().backup(&copy).unwrap();
        // So often that its files count further than the queue's own.
        for turn in 0..6 {
            group.consumer().recv().unwrap().nack_after(Duration::ZERO, format!("{turn}")).unwrap();
            backup.round(&mut |_| {}).unwrap();
        }
        group.consumer().recv().unwrap().ack().unwrap();
        queue.close().unwrap();
        drop((queue, group));
        for half in ["groups/mailer/0.offsets", "groups/mailer/1.offsets"] {
            let bytes = disk.read_file(half).unwrap();
            world.change(half, |there| *there = bytes);
        }

        // Else an acked message would come again.
        let Err(error) = world.options().open() else { panic!("halves of a backup were taken") };
        assert!(matches!(&error, Error::Refused { .. }) && error.to_string().contains("backup"), "{error}");
    }

    fn what_is_restored_is_the_same_queue_under_another_name(world: &World) {
        let queue = world.open();
        let group = queue.create_group("mailer", GroupOptions::new().max_failures(7)).unwrap();
        queue.create_group("audit", GroupOptions::new()).unwrap();
        queue.push_batch([
            Message::new("done"),
            Message::new("dead").kind("letter"),
            Message::new("failed"),
            Message::new("held"),
            Message::new("timed"),
            Message::new("ready").header("a", "b"),
            Message::new("later").delay(60 * SECOND),
        ])
        .unwrap();
        let worker = group.consumer();
        worker.recv().unwrap().ack().unwrap();
        worker.recv().unwrap().reject("never").unwrap();
        worker.recv().unwrap().nack_after(60 * SECOND, "no paper").unwrap();
        let held = worker.recv().unwrap();
        let receipt = worker.with_lease(600 * SECOND).recv().unwrap().leave();
        let (copy, again) = (elsewhere(world), elsewhere(world));
        world.options().backup(&copy).unwrap().round(&mut |_| {}).unwrap();

        let restored = copy.restore(&again).unwrap();

        assert_ne!(restored.id, world.options().inspect().unwrap().id);
        assert_eq!(again.verify().unwrap(), []);
        assert_eq!(again.verify_deep().unwrap(), []);
        let theirs = opened(&again);
        assert!(!theirs.recovery().has_findings(), "{:?}", theirs.recovery());
        let mailer = theirs.group("mailer").unwrap();
        let stats = mailer.stats();
        // Of those that wait for a time of their own none was met.
        assert_eq!((stats.delayed, stats.on_loan, stats.dead), (1, 0, 1), "{stats:?}");
        assert_eq!(mailer.dead()[0].error.as_deref(), Some("never"));
        let jobs: Vec<_> = std::iter::from_fn(|| mailer.consumer().try_recv().unwrap()).collect();
        let came: Vec<_> = jobs.iter().map(|job| (job.payload(), job.attempt())).collect();
        assert_eq!(came, [(&b"held"[..], 1), (b"timed", 1), (b"ready", 1)], "none was charged");
        assert_eq!(theirs.group("audit").unwrap().consumer().recv().unwrap().payload(), b"done");
        // Neither settles what is the other's.
        assert!(theirs.settle(&receipt, &Outcome::Ack).is_err());
        queue.settle(&receipt, &Outcome::Ack).unwrap();
        held.ack().unwrap();
        let offset = theirs.push("next").unwrap();
        assert!(offset.get() >= 7, "offsets go on");
        // Where something lies nothing is restored.
        assert!(matches!(copy.restore(&again), Err(Error::Refused { .. })));
    }

    fn acks_that_travel_with_pushes_are_in_the_copy(world: &World) {
        let queue = world.open();
        let group = queue.create_group("mailer", GroupOptions::new()).unwrap();
        queue.push("in").unwrap();
        group.consumer().recv().unwrap().ack_with([Message::new("out")]).unwrap();
        let (copy, again) = (elsewhere(world), elsewhere(world));
        world.options().backup(&copy).unwrap().round(&mut |_| {}).unwrap();
        copy.restore(&again).unwrap();

        let theirs = opened(&again);
        assert_eq!(drain(&theirs.group("mailer").unwrap().consumer()), ["out"]);
    }

    fn messages_of_a_key_keep_their_order_where_they_were_restored(world: &World) {
        let queue = world.open();
        let group = queue.create_group("mailer", GroupOptions::new()).unwrap();
        for text in ["one", "two", "three"] {
            queue.push(Message::new(text).ordering_key("k")).unwrap();
        }
        group.consumer().recv().unwrap().nack_after(Duration::ZERO, "again").unwrap();
        let (copy, again) = (elsewhere(world), elsewhere(world));
        world.options().backup(&copy).unwrap().round(&mut |_| {}).unwrap();
        copy.restore(&again).unwrap();

        let worker = opened(&again).group("mailer").unwrap().consumer();
        let first = worker.recv().unwrap();
        assert_eq!(first.payload(), b"one");
        assert!(worker.try_recv().unwrap().is_none(), "the second waits for the first");
        first.ack().unwrap();
        assert_eq!(worker.recv().unwrap().payload(), b"two");
    }

    fn a_group_that_was_made_anew_is_another_in_the_copy_too(world: &World) {
        let queue = world.open();
        let copy = elsewhere(world);
        let mut backup = world.options().backup(&copy).unwrap();
        queue.push_batch(["a", "b"]).unwrap();
        for _ in 0..3 {
            let options = GroupOptions::new().start(Start::Beginning).ack_durability(Durability::Synced);
            let group = queue.create_group("mailer", options).unwrap();
            backup.round(&mut |_| {}).unwrap();
            assert_eq!(copy.inspect().unwrap().groups[0].ready, 2);
            group.consumer().recv().unwrap().ack().unwrap();
            backup.round(&mut |_| {}).unwrap();
            assert_eq!(copy.inspect().unwrap().groups[0].ready, 1);
            assert_eq!(copy.verify().unwrap(), []);
            queue.remove_group("mailer").unwrap();
        }
        backup.round(&mut |_| {}).unwrap();
        assert!(copy.inspect().unwrap().groups.is_empty());
    }

    fn a_group_that_goes_bad_in_the_queue_stays_as_it_was_in_the_copy(world: &World) {
        let queue = world.options().segment_bytes(8 << 10).open().unwrap();
        let group = queue.create_group("mailer", GroupOptions::new().ack_durability(Durability::Synced)).unwrap();
        for number in 0..12 {
            queue.push(vec![number; 2000]).unwrap();
        }
        let jobs = group.consumer().recv_batch(9, Duration::ZERO).unwrap();
        queue.ack_all(jobs).unwrap();
        let copy = elsewhere(world);
        world.options().backup(&copy).unwrap().round(&mut |_| {}).unwrap();
        // Since then: segments were given up, and a message was acked together with what came of it.
        while queue.stats().segments > 3 {
            world.advance(SECOND);
            queue.run_duties().unwrap();
        }
        group.consumer().recv().unwrap().ack_with([Message::new("out")]).unwrap();
        queue.close().unwrap();
        drop((group, queue));
        for half in ["groups/mailer/0.offsets", "groups/mailer/1.offsets"] {
            world.change(half, |bytes| bytes.fill(0xAA));
        }

        let round = world.options().backup(&copy).unwrap().round(&mut |_| {}).unwrap();

        assert_eq!(round.refused.len(), 1, "{round:?}");
        assert_eq!(round.next_offset, 13, "the log is copied all the same");
        assert_eq!(copy.verify().unwrap(), []);
        assert_eq!(copy.verify_deep().unwrap(), []);
        let again = elsewhere(world);
        let restored = copy.restore(&again).unwrap();
        assert!(restored.refused.is_empty(), "{restored:?}");
        let theirs = opened(&again);
        assert!(!theirs.recovery().has_findings(), "{:?}", theirs.recovery());
        let jobs: Vec<_> =
            std::iter::from_fn(|| theirs.group("mailer").unwrap().consumer().try_recv().unwrap()).collect();
        let came: Vec<_> = jobs.iter().map(|job| job.offset().get()).collect();
        assert_eq!(came, [9, 10, 11, 12], "what was done before the copy stays done, and none is lost");
    }

    fn nothing_is_copied_over_what_is_not_a_backup_of_the_same_queue(world: &World) {
        let queue = world.open();
        queue.push("a").unwrap();
        let other = elsewhere(world);
        other.clone().open().unwrap().close().unwrap();
        assert!(matches!(world.options().backup(&other), Err(Error::Refused { .. })));
        let disk = SimDisk::new(3);
        disk.write_file("letter", b"dear");
        let full = Options::new("full").sim_disk(&disk);
        assert!(matches!(world.options().backup(&full), Err(Error::Refused { .. })));
        let copy = elsewhere(world);
        world.options().backup(&copy).unwrap().round(&mut |_| {}).unwrap();
        assert!(matches!(other.backup(&copy), Err(Error::Refused { .. })));
        let mut first = world.options().backup(&copy).unwrap();
        assert!(matches!(world.options().backup(&copy), Err(Error::Locked { .. })));
        first.round(&mut |_| {}).unwrap();
    }
}
