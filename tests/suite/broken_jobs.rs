//! What a third hostile reader tried on the layer of jobs: whose turn it is while messages are handed out
//! alone, given back or discarded, what is kept for acks, and what is there after segments were given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use backlog::testing::{Aim, Call, ManualClock, SimDisk};
use backlog::{Delivery, Error, Group, GroupOptions, Message, Offset, Options, Queue, Retry, Start};

use crate::harness::{World, drain, on_both_disks, patiently};
use crate::watch;

const SECOND: Duration = Duration::from_secs(1);

fn offset(number: u64) -> Offset {
    Offset::new(number).unwrap()
}

fn text(job: &Delivery) -> String {
    String::from_utf8(job.payload().to_vec()).unwrap()
}

fn texts(jobs: &[Delivery]) -> Vec<String> {
    jobs.iter().map(text).collect()
}

/// A message of a high priority that killed two holders waits until nothing is on loan. Meanwhile it kept
/// others of high priorities behind it: those of the normal one went first.
#[test]
fn issue_5_a_message_that_is_to_be_alone_does_not_hold_high_priorities_back() {
    let world = World::simulated();
    let mut queue = world.open();
    queue.push(Message::new("poison").priority(9)).unwrap();
    for _ in 0..2 {
        let _lost = queue.consumer().unwrap().try_recv().unwrap().unwrap();
        queue = world.open_after_kill();
    }
    let worker = queue.consumer().unwrap();
    queue.push_batch(["first", "normal"].map(Message::new)).unwrap();
    let alone = worker.recv().unwrap();
    assert_eq!((text(&alone), alone.attempt()), ("poison".to_owned(), 3));
    alone.nack_after(5 * SECOND, "later").unwrap();
    let first = worker.recv().unwrap();
    assert_eq!(text(&first), "first");
    // It is due, and passed over: one loan is out.
    world.advance(6 * SECOND);
    queue.push(Message::new("high").priority(8)).unwrap();

    let next = worker.recv().unwrap();

    assert_eq!(text(&next), "high");
    drop((first, next));
}

on_both_disks! {
    fn issue_5_a_batch_takes_what_has_a_higher_priority_before_more_of_a_key(world: &World) {
        let queue = world.open();
        let worker = queue.consumer().unwrap();
        for name in ["a1", "a2"] {
            queue.push(Message::new(name).ordering_key("a").priority(2)).unwrap();
        }
        queue.push(Message::new("b1").ordering_key("b")).unwrap();
        queue.push(Message::new("b2").ordering_key("b").priority(1)).unwrap();
        queue.push("n3").unwrap();
        queue.push("n4").unwrap();

        let jobs = worker.recv_batch(4, Duration::ZERO).unwrap();

        assert_eq!(texts(&jobs), ["b1", "n3", "n4", "a1"]);
        let more = worker.recv_batch(4, Duration::ZERO).unwrap();
        assert_eq!(texts(&more), [""; 0], "both keys belong to the receive before");
        drop(jobs);
    }

    fn issue_5_groups_seeks_and_keys_after_segments_were_given_up(world: &World) {
        let options = || world.options().segment_bytes(8192);
        let queue = patiently(&options());
        let big = |number: u32| format!("{number:01000}");
        for number in 0..30 {
            let message = big(number);
            let message = Message::new(message.as_bytes()).priority(u8::try_from(number % 10).unwrap());
            queue.push(message.unique_key(number.to_string())).unwrap();
        }
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        let worker = group.consumer();
        // All but one of them, which lies in the middle.
        let mut kept = None;
        while let Some(job) = worker.try_recv().unwrap() {
            match job.offset().get() {
                14 => kept = Some(job),
                _ => job.ack().unwrap(),
            }
        }
        queue.run_duties().unwrap();
        let left = group.stats();
        assert_eq!((left.ready, left.on_loan), (0, 1));
        let later = queue.create_group("later", GroupOptions::new().start(Start::Beginning)).unwrap();
        let ready = later.stats().ready;
        let came = drain(&later.consumer());
        assert_eq!(came.len() as u64, ready);
        assert!(came.len() < 9, "{}: neighbours in its segment, and what is in the active one", came.len());
        assert!(came.contains(&big(14)));
        // A key is free once its message is done, given up or not; that of the one that is out is not.
        assert_eq!(queue.push(Message::new("again").unique_key("14")).unwrap().get(), 14);
        for number in [0, 3, 29] {
            assert!(queue.push(Message::new("x").unique_key(number.to_string())).unwrap().get() >= 30);
        }
        kept.unwrap().ack().unwrap();
        drain(&later.consumer());
        drain(&worker);
        queue.run_duties().unwrap();
        assert_eq!(group.seek(Start::At(offset(0))).unwrap(), group.seek(Start::Beginning).unwrap());
        let ready = group.stats().ready;
        assert_eq!(drain(&worker).len() as u64, ready);
        assert!(queue.push(Message::new("x").unique_key("14")).unwrap().get() >= 33);
        drop((worker, group, later));
        queue.close().unwrap();
        drop(queue);
        let queue = patiently(&options());
        assert!(queue.recovery().damaged.is_empty() && queue.recovery().lost.is_empty());
        assert_eq!(drain(&queue.group("g").unwrap().consumer()), ["x"]);
    }
}

/// What was given up ahead of where reading stands was left out when all were revived.
#[test]
fn issue_5_all_dead_letters_are_revived_those_that_were_lent_before_their_turn_too() {
    let world = World::simulated();
    let queue = world.open();
    queue.push("normal").unwrap();
    queue.push(Message::new("high").priority(9)).unwrap();
    let worker = queue.consumer().unwrap();
    worker.recv().unwrap().reject("no").unwrap();
    let group = queue.group("default").unwrap();
    assert_eq!(group.stats().dead, 1);

    assert_eq!(group.revive_all().unwrap(), 1);

    assert_eq!(drain(&worker), ["high", "normal"]);
}

/// A receive that had one message of a key counted how many of the key are out, and not whose they are:
/// when its own was discarded, and the next lent to somebody else, it took the one behind that.
#[test]
fn issue_5_a_receive_that_lost_its_message_of_a_key_gets_no_more_of_it() {
    let _watched = watch::over("a discard during a receive".to_owned());
    let (disk, clock) = (SimDisk::new(1), ManualClock::new(1_700_000_000_000));
    let queue = Options::new("jobs").sim_disk(&disk).manual_clock(&clock).threads(false).open().unwrap();
    let group = queue.create_group("g", GroupOptions::new()).unwrap();
    queue.push(Message::new("a1").ordering_key("a")).unwrap();
    queue.push(Message::new("a2").ordering_key("a").delay(10 * SECOND)).unwrap();
    queue.push(Message::new("a3").ordering_key("a")).unwrap();
    let worker = group.consumer();
    // All three are met.
    queue.push("last").unwrap();
    let a1 = worker.recv().unwrap();
    worker.recv().unwrap().ack().unwrap();
    a1.release().unwrap();
    queue.push(vec![b'n'; 100]).unwrap();
    // The receive reads on behind what it has: it comes to a stop there.
    let segment = disk.files().into_iter().find(|name| name.ends_with(".seg")).unwrap();
    let stage = Arc::new(AtomicU8::new(0));
    let hook = {
        let (stage, group, main) = (stage.clone(), queue.group("g").unwrap(), thread::current().id());
        move || {
            if thread::current().id() != main
                && group.stats().on_loan == 1
                && stage.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            {
                while stage.load(Ordering::SeqCst) != 2 {
                    thread::yield_now();
                }
            }
        }
    };
    disk.before(Aim::at(Call::Read, segment).lasting(), Arc::new(hook));

    let (first, second) = thread::scope(|scope| {
        let receiving = scope.spawn(|| group.consumer().recv_batch(9, Duration::ZERO).unwrap());
        while stage.load(Ordering::SeqCst) == 0 && !receiving.is_finished() {
            thread::yield_now();
        }
        assert!(!receiving.is_finished(), "it reads on");
        group.discard([offset(0)]).unwrap();
        clock.advance(11 * SECOND);
        let second = worker.recv_batch(1, Duration::ZERO).unwrap();
        stage.store(2, Ordering::SeqCst);
        (receiving.join().unwrap(), second)
    });

    assert_eq!(texts(&second), ["a2"]);
    assert!(!texts(&first).contains(&"a3".to_owned()), "{:?}", texts(&first));
}

/// Messages that are put aside grow the snapshot, as discards do: on a full disk the acks of what is on
/// loan still have their room.
#[test]
fn issue_5_messages_that_are_put_aside_on_a_full_disk_leave_the_room_that_is_kept_for_acks() {
    const LOANS: usize = 300;
    for kind in 0..4_u32 {
        let _watched = watch::over(format!("a full disk, {kind}"));
        let (disk, clock) = (SimDisk::new(1), ManualClock::new(1_700_000_000_000));
        let queue = Options::new("jobs").sim_disk(&disk).manual_clock(&clock).threads(false).open().unwrap();
        queue.push_batch((0..LOANS).map(|_| "loan")).unwrap();
        let names: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
        let special = |name: &String| match kind {
            0 => Message::new("low").priority(1),
            1 => Message::new("key").ordering_key(name.as_bytes()),
            2 => Message::new("high").priority(9).delay(1000 * SECOND),
            _ => Message::new("one key").ordering_key("k"),
        };
        queue.push("before").unwrap();
        let group = queue.create_group("g", GroupOptions::new()).unwrap();
        let timed = group.consumer().with_lease(1000 * SECOND);
        let jobs = timed.recv_batch(LOANS, Duration::ZERO).unwrap();
        assert_eq!(jobs.len(), LOANS);
        queue.push_batch(names.iter().map(special)).unwrap();
        queue.push("last").unwrap();
        disk.budget(Some(0));

        // Whatever it says, it is over.
        let mut more = Vec::new();
        for _ in 0..50 {
            match timed.recv_batch(20, Duration::ZERO) {
                Ok(jobs) => more.extend(jobs),
                Err(error) => assert!(matches!(error, Error::Full { .. }), "{kind}: {error}"),
            }
        }

        for job in &jobs {
            job.extend(500 * SECOND).unwrap_or_else(|error| panic!("{kind}: {error}"));
        }
        for (index, job) in jobs.into_iter().chain(more).enumerate() {
            let answer = if index % 2 == 0 { job.ack() } else { job.nack("") };
            answer.unwrap_or_else(|error| panic!("{kind}, {index}: {error}"));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Ready,
    Due(u64),
    Out,
    Dead,
    Done,
}

struct Known {
    rank: u8,
    key: Option<u64>,
    /// Named by the message; 0 for at once.
    due: u64,
    life: Life,
}

/// What must come next, worked out the slow way.
fn expected(all: &BTreeMap<u64, Known>, now: u64) -> Option<u64> {
    let ready = |one: &Known| one.life == Life::Ready || matches!(one.life, Life::Due(due) if due <= now);
    let has_turn = |&(&offset, one): &(&u64, &Known)| {
        let before = |(other, known): (&u64, &Known)| {
            known.key == one.key
                && (known.life == Life::Out || *other < offset)
                && !matches!(known.life, Life::Dead | Life::Done)
        };
        ready(one) && (one.key.is_none() || !all.iter().any(before))
    };
    all.iter().filter(has_turn).min_by_key(|(offset, one)| (one.rank, **offset)).map(|(offset, _)| *offset)
}

fn a_random_life(seed: u64) {
    let (disk, clock) = (SimDisk::new(seed), ManualClock::new(1_700_000_000_000));
    let options =
        || Options::new("jobs").sim_disk(&disk).manual_clock(&clock).threads(false).segment_bytes(8192);
    let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut roll = |below: u64| {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        (number >> 20) % below
    };
    let policy = GroupOptions::new().retry(Retry::steps(&[5 * SECOND])).max_failures(3);
    let mut queue: Queue = patiently(&options());
    let mut group: Group = queue.create_group("g", policy).unwrap();
    let mut all: BTreeMap<u64, Known> = BTreeMap::new();
    let mut out: Vec<Delivery> = Vec::new();
    for step in 0..300 {
        let now = clock.shows();
        let told = format!("seed {seed}, step {step}");
        match roll(14) {
            0..=3 => {
                let mut messages = Vec::new();
                let mut known = Vec::new();
                let payload = vec![b'x'; usize::try_from(roll(700)).unwrap()];
                for _ in 0..=roll(4) {
                    let key = (roll(3) == 0).then(|| roll(3));
                    let most = if key.is_some() { 5 } else { 10 };
                    let priority = u8::try_from(if roll(2) == 0 { 4 } else { roll(most) }).unwrap();
                    let wait = if roll(5) == 0 { roll(9) } else { 0 };
                    let mut message = Message::new(payload.clone()).priority(priority);
                    if wait > 0 {
                        message = message.delay(Duration::from_secs(wait));
                    }
                    if let Some(key) = key {
                        message = message.ordering_key(key.to_string());
                    }
                    messages.push(message);
                    let due = if wait > 0 { now + wait * 1000 } else { 0 };
                    known.push(Known { rank: 9 - priority, key, due, life: Life::Due(due) });
                }
                let offsets = queue.push_batch(messages).unwrap();
                all.extend(offsets.map(Offset::get).zip(known));
            }
            4..=7 => {
                let expected = expected(&all, now);
                let came = group.consumer().try_recv().unwrap();
                assert_eq!(came.as_ref().map(|job| job.offset().get()), expected, "{told}");
                if let Some(job) = came {
                    all.get_mut(&job.offset().get()).unwrap().life = Life::Out;
                    out.push(job);
                }
            }
            8 | 9 if !out.is_empty() => {
                let job = out.swap_remove(usize::try_from(roll(out.len() as u64)).unwrap());
                let one = all.get_mut(&job.offset().get()).unwrap();
                match roll(5) {
                    0 => {
                        one.life = Life::Due(now + 3000);
                        if job.attempt() == 3 {
                            one.life = Life::Dead;
                        }
                        job.nack_after(3 * SECOND, "no").unwrap();
                    }
                    1 => {
                        one.life = Life::Ready;
                        job.release().unwrap();
                    }
                    2 => {
                        one.life = Life::Dead;
                        job.reject("never").unwrap();
                    }
                    3 => {
                        one.life = Life::Done;
                        let offsets = job.ack_with([Message::new("output").priority(6)]).unwrap();
                        let known = |offset: Offset| {
                            (offset.get(), Known { rank: 3, key: None, due: 0, life: Life::Ready })
                        };
                        all.extend(offsets.map(known));
                    }
                    _ => {
                        one.life = Life::Done;
                        job.ack().unwrap();
                    }
                }
            }
            10 => clock.advance(Duration::from_secs(roll(6))),
            11 if !all.is_empty() => {
                let at = all.keys().copied().nth(usize::try_from(roll(all.len() as u64)).unwrap()).unwrap();
                let known = all.get_mut(&at).unwrap();
                let fresh = u64::from(known.life != Life::Done);
                assert_eq!(group.discard([offset(at)]).unwrap(), fresh, "{told}");
                known.life = Life::Done;
                out.retain(|job| job.offset().get() != at);
            }
            12 => {
                let dead = all.values_mut().filter(|known| known.life == Life::Dead);
                // A revival begins anew, so that the attempts count from one.
                let dead = dead.map(|known| known.life = Life::Ready).count() as u64;
                assert_eq!(group.revive_all().unwrap(), dead, "{told}");
            }
            13 => match roll(6) {
                0 => {
                    for job in out.drain(..) {
                        all.get_mut(&job.offset().get()).unwrap().life = Life::Ready;
                        job.release().unwrap();
                    }
                    queue.close().unwrap();
                    drop((group, queue));
                    queue = patiently(&options());
                    group = queue.group("g").unwrap();
                }
                1 => {
                    let most = usize::try_from(roll(6)).unwrap() + 1;
                    let jobs = group.consumer().recv_batch(most, Duration::ZERO).unwrap();
                    for job in jobs {
                        all.get_mut(&job.offset().get()).unwrap().life = Life::Out;
                        out.push(job);
                    }
                }
                2 => {
                    let loans = group.release_all().unwrap();
                    assert_eq!(loans, out.len() as u64, "{told}");
                    for job in out.drain(..) {
                        all.get_mut(&job.offset().get()).unwrap().life = Life::Ready;
                        assert!(job.ack().is_err());
                    }
                }
                3 => {
                    let open = all.values().filter(|known| known.life != Life::Done).count() as u64;
                    if roll(6) == 0 {
                        assert_eq!(group.purge().unwrap(), open, "{told}");
                        all.values_mut().for_each(|known| known.life = Life::Done);
                        out.clear();
                    }
                }
                4 if roll(3) == 0 => {
                    group.seek(Start::Beginning).unwrap();
                    out.clear();
                    for known in all.values_mut() {
                        known.life = Life::Due(known.due);
                    }
                }
                _ => {
                    let stats = group.stats();
                    let count = |wanted: &dyn Fn(&Known) -> bool| {
                        all.values().filter(|one| wanted(one)).count() as u64
                    };
                    let dead = count(&|one| one.life == Life::Dead);
                    assert_eq!((stats.on_loan, stats.dead), (out.len() as u64, dead), "{told}: {stats:?}");
                    let open = count(&|one| matches!(one.life, Life::Ready | Life::Due(_)));
                    assert_eq!(stats.ready + stats.delayed, open, "{told}: {stats:?}");
                }
            },
            _ => {}
        }
    }
}

#[test]
fn issue_5_a_random_life_hands_out_what_the_slow_way_says() {
    for seed in 1..=300 {
        let _watched = watch::over(format!("a random life, seed {seed}"));
        a_random_life(seed);
    }
}

/// Too many waited for their ordering key, so that nothing further was read: not even what has a high
/// priority, which needs no reading in order.
#[test]
fn issue_5_a_high_priority_goes_before_however_many_wait_for_their_key() {
    let _watched = watch::over("a high priority beside many of one key");
    let disk = SimDisk::new(1);
    let queue = Options::new("jobs").sim_disk(&disk).threads(false).open().unwrap();
    for _ in 0..66 {
        queue.push_batch((0..1000).map(|_| Message::new("k").ordering_key("k"))).unwrap();
    }
    queue.push("normal").unwrap();
    let worker = queue.consumer().unwrap();
    let held = worker.recv().unwrap();
    assert!(
        worker.try_recv().unwrap().is_none(),
        "the others wait for it, and what lies behind them for these"
    );

    queue.push(Message::new("high").priority(9)).unwrap();

    let high = worker.try_recv().unwrap().unwrap();
    assert_eq!(high.payload(), b"high");
    high.ack().unwrap();
    held.ack().unwrap();
    assert_eq!(worker.try_recv().unwrap().unwrap().payload(), b"k");
}
