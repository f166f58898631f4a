//! What goes on when the disk is full?
//!
//! Pushes are refused, with an error of their own kind, and the caller keeps the payload. All else goes on;
//! and pushes, too, as soon as there is room, without another opening.

use std::collections::BTreeSet;
use std::time::Duration;

use backlog::testing::{ManualClock, SimDisk};
use backlog::{Durability, Error, GroupOptions, Options, Queue};

use crate::watch;

const NOW: u64 = 1_700_000_000_000;
const GROUPS: [(&str, Durability); 2] = [("synced", Durability::Synced), ("buffered", Durability::Buffered)];

/// What was promised of one group, by the numbers in the payloads.
#[derive(Default)]
struct Told {
    pushed: BTreeSet<u64>,
    done: [BTreeSet<u64>; 2],
}

struct World {
    disk: SimDisk,
    clock: ManualClock,
    mappings: bool,
    /// Where there is no room, the sync says so, not the write.
    late: bool,
    told: Told,
}

impl World {
    fn new(mappings: bool, late: bool) -> Self {
        let clock = ManualClock::new(NOW);
        Self { disk: SimDisk::new(1), clock, mappings, late, told: Told::default() }
    }

    fn options(&self) -> Options {
        let options = Options::new("jobs").sim_disk(&self.disk).manual_clock(&self.clock).threads(false);
        options.segment_bytes(8 << 10).mappings(self.mappings)
    }

    fn open(&self) -> Queue {
        self.options().open().unwrap()
    }

    /// There is no room from here on.
    fn fill(&self) {
        self.disk.budget(Some(0));
        self.disk.full_at_sync(self.late);
    }

    fn relieve(&self) {
        self.disk.budget(None);
        self.disk.full_at_sync(false);
    }

    fn push(&mut self, queue: &Queue, level: Durability) -> Result<(), Error> {
        let number = self.told.pushed.last().map_or(0, |last| last + 1);
        queue.with_durability(level).push(payload(number))?;
        self.told.pushed.insert(number);
        Ok(())
    }

    /// Pushes until it is refused, and says how often it was not.
    fn push_all(&mut self, queue: &Queue) -> usize {
        for count in 0..10_000 {
            let level = [Durability::Synced, Durability::Buffered][count % 2];
            if let Err(error) = self.push(queue, level) {
                assert!(error.is_full(), "{error}");
                return count;
            }
        }
        panic!("it never was full");
    }

    /// Every way of pushing is refused, and none of it is there afterwards.
    fn every_push_is_refused(&self, queue: &Queue) {
        let before = queue.stats().messages;
        let long = [b'-'; 9000];
        for level in [Durability::Synced, Durability::Buffered] {
            let queue = queue.with_durability(level);
            let refused = queue.push(&long[..]).unwrap_err();
            assert!(refused.is_full(), "{refused}");
            let refused = queue.push_batch([&long[..]; 3]).unwrap_err();
            assert!(refused.is_full(), "{refused}");
            let refused = queue.push_deferred(&long[..]).and_then(|ticket| ticket.wait()).unwrap_err();
            assert!(refused.is_full(), "{refused}");
        }
        assert_eq!(queue.stats().messages, before);
    }

    /// Receives and settles in every way; nothing of it finds the disk full.
    fn settle_all_ways(&mut self, queue: &Queue) {
        for (index, (name, _)) in GROUPS.into_iter().enumerate() {
            let group = queue.group(name).unwrap();
            let consumer = group.consumer();
            let done = &mut self.told.done[index];
            let ack = |job: backlog::Delivery, done: &mut BTreeSet<u64>| {
                let number = number(job.payload());
                job.ack().unwrap();
                assert!(done.insert(number), "{number} is done twice");
            };
            for round in 0..5 {
                (0..4).for_each(|_| ack(consumer.try_recv().unwrap().unwrap(), done));
                consumer.try_recv().unwrap().unwrap().nack("not now").unwrap();
                consumer.try_recv().unwrap().unwrap().reject("never").unwrap();
                consumer.try_recv().unwrap().unwrap().release().unwrap();
                let lost = consumer.try_recv().unwrap().unwrap();
                lost.extend(Duration::from_secs(9)).unwrap();
                ack(lost, done);
                let gone = consumer.try_recv().unwrap().unwrap();
                let (offset, gone_number) = (gone.offset(), number(gone.payload()));
                gone.release().unwrap();
                assert_eq!(group.discard([offset]).unwrap(), 1, "{round}");
                done.insert(gone_number);
            }
            let dead = group.dead();
            assert!(group.revive([dead[0].offset]).unwrap() == 1);
        }
    }

    /// All of a group comes but what is done; the rest is acked.
    fn drain(&mut self, queue: &Queue) {
        for (index, (name, _)) in GROUPS.into_iter().enumerate() {
            let group = queue.group(name).unwrap();
            self.clock.advance(Duration::from_secs(100_000));
            group.revive_all().unwrap();
            let mut came = BTreeSet::new();
            while let Some(job) = group.consumer().try_recv().unwrap() {
                let number = number(job.payload());
                assert!(came.insert(number), "{number} comes twice to {name}");
                job.ack().unwrap();
            }
            let expected: BTreeSet<u64> =
                self.told.pushed.difference(&self.told.done[index]).copied().collect();
            assert_eq!(came, expected, "{name}");
            self.told.done[index].extend(came);
        }
    }

    fn look(&self, queue: &Queue) {
        let seen = self.options().inspect().unwrap();
        assert_eq!((seen.messages, seen.refused.len()), (queue.stats().messages, 0));
        assert_eq!(self.options().verify().unwrap(), []);
    }
}

/// Does what is due. Making the next segment may find no room, and says so; the rest is done.
fn run_duties(queue: &Queue) {
    let done = queue.run_duties();
    assert!(done.as_ref().map_or_else(Error::is_full, |()| true), "{done:?}");
}

fn payload(number: u64) -> String {
    format!("{number:0500}")
}

fn number(payload: &[u8]) -> u64 {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

fn worlds() -> impl Iterator<Item = World> {
    let both = [false, true];
    both.into_iter().flat_map(move |mappings| both.map(|late| World::new(mappings, late)))
}

/// A queue with two groups and some messages, on a disk that is full by then.
fn full(world: &mut World) -> Queue {
    let queue = world.open();
    for (name, level) in GROUPS {
        queue.create_group(name, GroupOptions::new().ack_durability(level)).unwrap();
    }
    (0..100).for_each(|_| world.push(&queue, Durability::Synced).unwrap());
    world.fill();
    world.push_all(&queue);
    queue
}

#[test]
fn all_but_pushing_goes_on_and_pushes_too_when_there_is_room() {
    for mut world in worlds() {
        let _watched = watch::over(format!("mappings {}, late {}", world.mappings, world.late));
        let queue = full(&mut world);

        world.every_push_is_refused(&queue);
        world.settle_all_ways(&queue);
        world.look(&queue);
        world.every_push_is_refused(&queue);
        run_duties(&queue);
        world.relieve();

        (0..50).for_each(|_| world.push(&queue, Durability::Synced).unwrap());
        world.drain(&queue);
    }
}

#[test]
fn it_closes_and_opens_after_a_close_and_after_a_kill_and_goes_on() {
    for (mut world, killed) in worlds().flat_map(|world| {
        let other = World::new(world.mappings, world.late);
        [(world, false), (other, true)]
    }) {
        let _watched = watch::over(format!("mappings {}, late {}, {killed}", world.mappings, world.late));
        let mut queue = full(&mut world);
        for round in 0..3 {
            if round < 2 {
                world.settle_all_ways(&queue);
            }
            if killed {
                world.disk = world.disk.kill();
                world.fill();
            } else {
                queue.close().unwrap();
            }
            queue = world.open();
            let found = queue.recovery();
            assert!(found.lost.is_empty() && found.damaged.is_empty(), "{found:?}");
            world.look(&queue);
            world.every_push_is_refused(&queue);
        }
        world.drain(&queue);
        world.relieve();

        (0..50).for_each(|_| world.push(&queue, Durability::Buffered).unwrap());
        world.drain(&queue);
        queue.close().unwrap();
    }
}

#[test]
fn acking_what_lies_there_makes_room_for_pushes_without_anybody_else() {
    for mut world in worlds() {
        let _watched = watch::over(format!("mappings {}, late {}", world.mappings, world.late));
        let queue = full(&mut world);

        for _ in 0..5 {
            world.drain(&queue);
            run_duties(&queue);

            let took = world.push_all(&queue);
            assert!(took > 20, "{took}");
        }
        for (name, _) in GROUPS {
            let ready = queue.group(name).unwrap().stats().ready;
            assert_eq!(queue.group(name).unwrap().purge().unwrap(), ready);
        }
        run_duties(&queue);
        assert!(world.push_all(&queue) > 20);
    }
}

/// Half of a great many messages are done, each between two that are not: the group's snapshot has a range
/// for each. None of the other acks may find the disk full, whatever they split or join.
#[test]
fn six_hundred_thousand_holes_do_not_keep_an_ack_from_going_on() {
    const MESSAGES: usize = 1_200_000;
    let _watched = watch::over("600,000 holes".to_owned());
    let (mut disk, clock) = (SimDisk::new(1), ManualClock::new(NOW));
    let options = |disk: &SimDisk| {
        let options = Options::new("jobs").sim_disk(disk).manual_clock(&clock).threads(false);
        options.durability(Durability::Buffered).open().unwrap()
    };
    let queue = options(&disk);
    let group = queue.create_group("g", GroupOptions::new().ack_durability(Durability::Buffered)).unwrap();
    for _ in 0..MESSAGES / 20_000 {
        queue.push_batch((0..20_000).map(|_| "x")).unwrap();
    }
    let mut out = Vec::new();
    for _ in 0..MESSAGES / 20_000 {
        for job in group.consumer().recv_batch(20_000, Duration::ZERO).unwrap() {
            if job.offset().get() % 2 == 0 { out.push(job) } else { job.ack().unwrap() }
        }
    }
    assert_eq!((out.len(), group.stats().on_loan), (MESSAGES / 2, MESSAGES as u64 / 2));
    disk.budget(Some(0));

    // Each third one fails, so that holes of another kind come; the last ones stay on loan.
    let mut failed = 0;
    let stay = out.split_off(out.len() - 100_000);
    for (index, job) in out.into_iter().enumerate() {
        if index % 3 == 0 {
            failed += 1;
            job.nack_after(Duration::from_secs(9), "").unwrap();
        } else {
            job.ack().unwrap();
        }
    }
    assert!((0..).map(|_| queue.push("y")).take(3_000_000).any(|pushed| pushed.is_err_and(|e| e.is_full())));
    let ready = group.stats().ready;

    // A full disk lets it be opened, and all that was said holds.
    disk = disk.kill();
    disk.budget(Some(0));
    drop((stay, group, queue));
    let queue = options(&disk);
    let group = queue.group("g").unwrap();
    let found = group.stats();
    assert_eq!((found.delayed, found.ready, found.dead), (failed, ready + 100_000, 0));
    for job in group.consumer().recv_batch(1_000, Duration::ZERO).unwrap() {
        job.ack().unwrap();
    }
    assert_eq!(group.stats().ready, found.ready - 1_000);
    queue.close().unwrap();
    let queue = options(&disk);
    assert_eq!(queue.group("g").unwrap().stats().ready, found.ready - 1_000);
}

/// Everything is stuck a little, so that no segment can go as it is. There is no room for another segment, but for
/// the copies.
#[test]
fn a_disk_that_is_full_of_sparse_segments_comes_back_by_copying() {
    let (disk, clock) = (SimDisk::new(1), ManualClock::new(NOW));
    let options = Options::new("jobs").sim_disk(&disk).manual_clock(&clock).threads(false);
    let queue = options.segment_bytes(64 << 10).open().unwrap();
    let group = queue.create_group("g", GroupOptions::new().ack_durability(Durability::Buffered)).unwrap();
    let mut pushed = 0;
    for _ in 0..50 {
        queue.run_duties().unwrap();
        clock.advance(Duration::from_millis(10));
        queue.push_batch((pushed..pushed + 100).map(|number| format!("{number:0200}"))).unwrap();
        pushed += 100;
    }
    disk.budget(Some(48 << 10));
    let mut refused = 0;
    while refused < 3 {
        match queue.push(format!("{pushed:0200}")) {
            Ok(_) => pushed += 1,
            Err(error) => {
                assert!(error.is_full(), "{error}");
                refused += 1;
            }
        }
        // A segment that cannot be made ahead is told too.
        let _ = queue.run_duties();
    }
    let consumer = group.consumer();
    let mut stuck = Vec::new();
    while let Some(job) = consumer.try_recv().unwrap() {
        if job.offset().get() % 100 == 7 { stuck.push(job) } else { job.ack().unwrap() }
    }

    for _ in 0..20 {
        clock.advance(Duration::from_secs(1));
        let _ = queue.run_duties();
    }

    let segments = queue.stats().segments;
    assert!(segments < 9, "{segments} segments, {} bytes stuck", stuck.len() * 240);
    for number in pushed..pushed + 500 {
        queue.push(format!("{number:0200}")).unwrap();
    }
    let expected: Vec<u64> = stuck.iter().map(|job| job.offset().get()).collect();
    stuck.into_iter().for_each(|job| job.release().unwrap());
    let again: Vec<_> = std::iter::from_fn(|| consumer.try_recv().unwrap()).collect();
    let first: Vec<u64> = again.iter().take(expected.len()).map(|job| job.offset().get()).collect();
    assert_eq!(first, expected);
    assert_eq!(again.len(), expected.len() + 500);
}
