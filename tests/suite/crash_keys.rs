//! Is a key that was acknowledged before a crash taken after it, and no key by two messages?

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use backlog::testing::{Fault, ManualClock, SimDisk};
use backlog::{Durability, Error, Message, Options, Queue};

use crate::dice::{Dice, times};
use crate::watch;

/// So few keys that most pushes find theirs taken.
const KEYS: u64 = 8;
const STEPS: u64 = 40;
/// All that is unsynced lost, all kept, mixtures.
const SEEDS: [u64; 5] = [0, 1, 3, 4, 5];

fn options(disk: &SimDisk) -> Options {
    let clock = ManualClock::new(1_700_000_000_000);
    Options::new("jobs").sim_disk(disk).manual_clock(&clock).threads(false).segment_bytes(8192)
}

fn message(key: u64, padding: usize) -> Message<'static> {
    let mut payload = key.to_le_bytes().to_vec();
    payload.resize(8 + padding, 0);
    Message::from(payload).dedup_key(key.to_le_bytes())
}

/// Where the message of each key is that was told to be durable.
type Told = BTreeMap<u64, u64>;

/// What a run has done: pushes of keys that stored a message, and those that found one.
#[derive(Default)]
struct Counts {
    stored: u64,
    found: u64,
}

/// Pushes, rolls and reopens by a seed, until the disk stops; after a failure it goes on.
fn run(disk: &SimDisk, seed: u64, told: &mut Told, counts: &mut Counts) {
    let mut dice = Dice(seed);
    let Ok(mut queue) = options(disk).open() else { return };
    for _ in 0..STEPS {
        let key = dice.below(KEYS);
        let padding = dice.size(700);
        match dice.below(16) {
            0 => {
                drop(queue.close());
                match options(disk).open() {
                    Ok(next) => queue = next,
                    Err(_) => return,
                }
            }
            1 => drop(queue.run_duties()),
            2..=4 => drop(queue.push(vec![0xFF; 900])),
            5..=7 => {
                // Whoever asks for a durable one gets that, however the first was pushed.
                drop(queue.with_durability(Durability::Buffered).push(message(key, padding)));
            }
            8 => drop(queue.push_deferred(message(key, padding)).map(backlog::Ticket::wait)),
            _ => {
                let before = queue.stats().messages;
                let Ok(offset) = queue.push(message(key, padding)) else { continue };
                let known = told.insert(key, offset.get());
                assert!(
                    known.is_none_or(|known| known == offset.get()),
                    "key {key}: {known:?}, then {offset}"
                );
                counts.stored += queue.stats().messages - before;
                counts.found += 1 - (queue.stats().messages - before).min(1);
            }
        }
    }
}

/// Returns where the messages of each key are.
fn there(queue: &Queue) -> BTreeMap<u64, Vec<u64>> {
    let mut there: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let worker = queue.consumer().unwrap();
    while let Some(job) = worker.try_recv().unwrap() {
        if job.key().is_some() {
            let key = u64::from_le_bytes(job.payload()[..8].try_into().unwrap());
            there.entry(key).or_default().push(job.offset().get());
        }
        job.ack().unwrap();
    }
    there
}

/// Holds what a crash has left against what was told.
fn check(left: &SimDisk, told: &Told, state: &str) {
    let queue = options(left).open().unwrap_or_else(|error| panic!("{state}: {error}"));
    let found = there(&queue);
    for (key, offsets) in &found {
        assert_eq!(offsets.len(), 1, "{state}: key {key} has messages {offsets:?}");
    }
    for (key, offset) in told {
        assert_eq!(found.get(key), Some(&vec![*offset]), "{state}: key {key}");
    }
    let count = queue.stats().messages;
    let mut new = 0;
    for key in 0..KEYS {
        let offset = queue.push(message(key, 0)).unwrap().get();
        match found.get(&key) {
            Some(offsets) => assert_eq!(offset, offsets[0], "{state}: key {key}"),
            // Its push was lost, and it can be pushed.
            None => new += 1,
        }
    }
    assert_eq!(queue.stats().messages, count + new, "{state}");
}

#[test]
fn issue_5_a_key_that_was_told_before_a_crash_is_taken_after_it() {
    let mut counts = Counts::default();
    let mut states = 0;
    for seed in 0..3 * times() {
        let whole = SimDisk::new(seed);
        run(&whole, seed, &mut Told::new(), &mut counts);
        for op in (1..=whole.ops()).step_by(2) {
            let disk = SimDisk::new(seed);
            disk.stop_after(op);
            let mut told = Told::new();
            run(&disk, seed, &mut told, &mut Counts::default());
            for end in SEEDS {
                let state = format!("keys:{seed}:{op}:{end}");
                let _watched = watch::over(&state);
                check(&disk.crash(end), &told, &state);
                states += 1;
            }
        }
    }
    assert!(states > 500, "{states} states");
    assert!(counts.stored > 10 && counts.found > 10, "{} stored, {} found", counts.stored, counts.found);
}

#[test]
fn issue_5_a_failure_leaves_no_key_with_two_messages() {
    let mut states = 0;
    for seed in 10..10 + 2 * times() {
        let whole = SimDisk::new(seed);
        run(&whole, seed, &mut Told::new(), &mut Counts::default());
        for op in 1..=whole.ops() {
            for fault in [Fault::Io, Fault::Full, Fault::Short] {
                let disk = SimDisk::new(seed);
                disk.fail(op, fault);
                let mut told = Told::new();
                let state = format!("keys:{seed}:{op}:{fault:?}");
                let _watched = watch::over(&state);
                run(&disk, seed, &mut told, &mut Counts::default());
                disk.heal();
                check(&disk.crash(op % 6), &told, &state);
                states += 1;
            }
        }
    }
    assert!(states > 300, "{states} states");
}

#[test]
fn issue_5_a_durable_push_that_finds_a_buffered_one_makes_it_durable() {
    for deferred in [false, true] {
        let disk = SimDisk::new(1);
        let queue = options(&disk).open().unwrap();
        let buffered = queue.with_durability(Durability::Buffered);

        let first = buffered.push(message(1, 0)).unwrap();
        assert_eq!(buffered.push(message(1, 0)).unwrap(), first);
        let lost = options(&disk.crash(0)).open().unwrap();
        assert_eq!(lost.stats().messages, 0, "nobody asked for more");
        let again = if deferred {
            queue.push_deferred(message(1, 0)).unwrap().wait().unwrap()
        } else {
            queue.push(message(1, 0)).unwrap()
        };

        assert_eq!(again, first);
        let left = options(&disk.crash(0)).open().unwrap();
        assert_eq!(there(&left), BTreeMap::from([(1, vec![first.get()])]));
    }
}

#[test]
fn issue_5_a_duplicate_shares_the_failure_of_the_first_and_the_key_is_free_then() {
    let disk = SimDisk::new(1);
    let queue = options(&disk).open().unwrap();
    queue.push("before").unwrap();

    let first = queue.push_deferred(message(1, 0)).unwrap();
    let second = queue.push_deferred(message(1, 0)).unwrap();
    disk.fail(disk.ops() + 1, Fault::Full);
    let refused = [first.wait().unwrap_err(), second.wait().unwrap_err()];

    assert!(refused.iter().all(Error::is_full), "{refused:?}");
    let stored = queue.push(message(1, 0)).unwrap();
    assert_eq!((queue.push(message(1, 0)).unwrap(), queue.stats().messages), (stored, 2));
}

#[test]
fn issue_5_of_many_threads_with_one_key_one_stores_its_message() {
    const THREADS: usize = 8;
    const ROUNDS: u64 = 100;
    for unique in [false, true] {
        let disk = SimDisk::new(1);
        let queue = Options::new("jobs").sim_disk(&disk).segment_bytes(8192).open().unwrap();
        let begin = Barrier::new(THREADS);
        let keyed = |round: u64| {
            let message = message(round, 0);
            if unique { message.unique_key(round.to_le_bytes()) } else { message }
        };
        // A hundred times as long as it takes: on a busy machine each round waits for eight turns.
        let _watched = watch::within(Duration::from_secs(300), "keys of many threads");

        let told: Vec<Vec<u64>> = thread::scope(|scope| {
            let worker = |thread: usize| {
                let (queue, begin) = (&queue, &begin);
                scope.spawn(move || {
                    let push = |round: u64| {
                        begin.wait();
                        let level =
                            if round.is_multiple_of(3) { Durability::Buffered } else { Durability::Synced };
                        let queue = queue.with_durability(level);
                        if thread.is_multiple_of(3) {
                            let ticket = queue.push_deferred(keyed(round)).unwrap();
                            return ticket.wait_timeout(Duration::from_secs(60)).unwrap().get();
                        }
                        queue.push(keyed(round)).unwrap().get()
                    };
                    (0..ROUNDS).map(push).collect()
                })
            };
            let threads: Vec<_> = (0..THREADS).map(worker).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        assert!(told.iter().all(|offsets| *offsets == told[0]), "all are told the same");
        assert_eq!(queue.stats().messages, ROUNDS);
        assert!(queue.stats().segments > 1, "rolls among them");
        let found = there(&queue);
        assert_eq!(found.len() as u64, ROUNDS);
        assert!(found.iter().all(|(round, offsets)| *offsets == [told[0][usize::try_from(*round).unwrap()]]));
        queue.close().unwrap();
    }
}

/// What one thread was told: of each key, an offset, or a failure.
type Answers = Vec<Option<u64>>;

#[test]
fn issue_5_threads_with_the_same_keys_are_all_answered_when_the_disk_fails() {
    const THREADS: u64 = 6;
    const ROUNDS: u64 = 30;
    let mut failed = 0;
    for seed in 0..24 * times() {
        let mut dice = Dice(seed);
        let disk = SimDisk::new(seed);
        let queue = options(&disk).open().unwrap();
        let fault = [Fault::Io, Fault::Full, Fault::Short, Fault::SyncLost][dice.size(4)];
        disk.fail(disk.ops() + 1 + dice.below(60), fault);
        let state = format!("keys of failing threads:{seed}");
        let _watched = watch::within(Duration::from_secs(300), &state);

        let told: Vec<Answers> = thread::scope(|scope| {
            let worker = |thread: u64| {
                let queue = &queue;
                scope.spawn(move || {
                    let push = |key: u64| {
                        let pushed = match thread % 3 {
                            0 => queue.push_deferred(message(key, 100)).and_then(backlog::Ticket::wait),
                            _ => queue.push(message(key, 100)),
                        };
                        pushed.ok().map(backlog::Offset::get)
                    };
                    (0..ROUNDS).map(push).collect()
                })
            };
            let threads: Vec<_> = (0..THREADS).map(worker).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        failed += told.iter().flatten().filter(|told| told.is_none()).count();
        disk.heal();
        let mut known = Told::new();
        for (key, offset) in told.iter().flat_map(|answers| (0..).zip(answers)) {
            let Some(offset) = *offset else { continue };
            let before = known.insert(key, offset);
            assert!(before.is_none_or(|before| before == offset), "{state}: key {key}: {before:?}, {offset}");
        }
        check(&disk.crash(seed % 6), &known, &state);
    }
    assert!(failed > 20, "{failed} pushes failed");
}
