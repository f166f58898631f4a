//! What a hostile reader tried on an open queue: races, loans over bad bytes, full disks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use backlog::testing::{Aim, Call, ManualClock, SimDisk};
use backlog::{Durability, Error, GroupOptions, Options};

use crate::dice::{Dice, times};
use crate::watch;

fn options(disk: &SimDisk, clock: &ManualClock) -> Options {
    Options::new("jobs").sim_disk(disk).manual_clock(clock).threads(false).segment_bytes(8192)
}

/// Threads push, defer, receive, ack, make and remove groups while another closes, drops or poisons
/// the queue: everybody comes back.
#[test]
fn issue_3_closing_amid_everything_lets_everybody_go() {
    for round in 0..std::env::var("ROUNDS").map_or(300, |text| text.parse().unwrap()) {
        let _watched = watch::over(format!("closing amid everything, round {round}"));
        amid_everything(round);
    }
}

fn amid_everything(round: u64) {
    let disk = SimDisk::new(round);
    let options = Options::new("jobs").sim_disk(&disk).threads(round.is_multiple_of(2)).segment_bytes(8192);
    let queue = options.open().unwrap();
    queue.create_group("g", GroupOptions::new().ack_durability(Durability::Synced)).unwrap();
    let go = std::sync::Barrier::new(9);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (queue, go) = (queue.clone(), &go);
            scope.spawn(move || {
                go.wait();
                for step in 0..1000_u64 {
                    let outcome = match thread {
                        0 | 1 => queue.push("x".repeat(300)).map(|_| ()),
                        2 => (0..4)
                            .map(|_| queue.push_deferred("deferred"))
                            .collect::<Result<Vec<_>, _>>()
                            .and_then(|tickets| {
                                tickets.into_iter().try_for_each(|ticket| ticket.wait().map(|_| ()))
                            }),
                        3 | 4 => queue.group("g").and_then(|group| {
                            group.consumer().recv().and_then(|job| match step % 3 {
                                0 => job.ack(),
                                1 => job.nack_after(Duration::ZERO, "again"),
                                _ => job.release(),
                            })
                        }),
                        5 => queue.consumer().and_then(|consumer| {
                            let jobs = consumer.recv_batch(7, Duration::from_millis(3))?;
                            queue.ack_all(jobs).map(|_| ())
                        }),
                        6 => match queue.create_group("h", GroupOptions::new()) {
                            Err(Error::GroupExists { .. }) => Ok(()),
                            Ok(group) => {
                                drop(group.consumer().try_recv());
                                Ok(())
                            }
                            Err(error) => Err(error),
                        },
                        _ => match queue.remove_group(if step % 5 == 4 { "g" } else { "h" }) {
                            Err(Error::NoSuchGroup { .. }) => {
                                let _ = queue.run_duties();
                                let _ = queue.create_group("g", GroupOptions::new());
                                Ok(())
                            }
                            other => other,
                        },
                    };
                    match outcome {
                        Err(Error::Closed | Error::Poisoned { .. }) => return,
                        Err(Error::NoSuchGroup { .. } | Error::LeaseLost { .. }) | Ok(()) => {}
                        Err(_) if !round.is_multiple_of(3) => {}
                        Err(error) => panic!("{thread}: {error}"),
                    }
                }
            });
        }
        go.wait();
        // At another moment in each round, counted in turns of the others and not by a clock.
        (0..round * 37 % 4000).for_each(|_| std::thread::yield_now());
        match round % 3 {
            0 => {}
            1 => disk.fail(disk.ops() + 1, backlog::testing::Fault::SyncLost),
            _ => disk.break_syncs(round % 4 == 2),
        }
        if round % 3 == 1 {
            // Until the planted fault was met, or nobody works any more.
            let planted = disk.ops();
            (0..10_000).take_while(|_| disk.ops() <= planted).for_each(|_| std::thread::yield_now());
        }
        let _ = queue.close();
        let _ = queue.close();
    });
}

/// While a reader looks for the next good header behind a bad one, others push (and roll): only what
/// lay there is damaged, and none of the new messages is given up with it.
#[test]
fn issue_3_messages_pushed_while_damage_is_passed_are_not_given_up_with_it() {
    for round in 0..10_u64 {
        let _watched = watch::over(format!("pushed while damage is passed, round {round}"));
        let disk = SimDisk::new(round);
        let queue = Options::new("jobs").sim_disk(&disk).threads(false).segment_bytes(8192).open().unwrap();
        let consumer = queue.consumer().unwrap();
        // Gets a segment that fits; its header is at the segment's beginning.
        queue.push(vec![7; 2_000_000 + 4096 * (round as usize % 2)]).unwrap();
        let segment = disk.files().into_iter().rfind(|name| name.ends_with(".seg")).unwrap();
        disk.flip(&segment, 4096 * 8 + 3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..200_u64 {
                    queue.push(&number.to_le_bytes()).unwrap();
                }
            });
            assert!(matches!(consumer.recv(), Err(Error::Damaged { .. })));
        });
        for number in 0..200_u64 {
            let job =
                consumer.try_recv().unwrap().unwrap_or_else(|| panic!("round {round}: {number} is gone"));
            assert_eq!(job.payload(), number.to_le_bytes());
            job.ack().unwrap();
        }
        assert_eq!(queue.stats().groups[0].dead, 1);
    }
}

/// A full disk comes and goes around pushes and acks, with power cuts: what was told stands, acks of
/// what was lent never say "full", and offsets that were told are never given again.
#[test]
fn issue_3_a_disk_that_is_full_now_and_then_loses_and_repeats_nothing() {
    for seed in 0..400 * times() {
        let _watched = watch::over(format!("full now and then, seed {seed}"));
        full_now_and_then(seed);
    }
}

fn full_now_and_then(seed: u64) {
    let mut dice = Dice(seed);
    let clock = ManualClock::new(1_700_000_000_000);
    let mut disk = SimDisk::new(seed);
    let mut told: BTreeMap<u64, (Vec<u8>, bool)> = BTreeMap::new();
    let mut acked = BTreeSet::new();
    let open = |disk: &SimDisk| options(disk, &clock).open().unwrap();
    let mut queue = open(&disk);
    queue.create_group("g", GroupOptions::new().ack_durability(Durability::Synced)).unwrap();
    let mut number = 0_u64;
    for _ in 0..60 + dice.below(100) {
        match dice.below(12) {
            0..5 => {
                number += 1;
                let text = format!("{number}:").repeat(1 + dice.below(200) as usize).into_bytes();
                let synced = dice.below(3) > 0;
                let durability = if synced { Durability::Synced } else { Durability::Buffered };
                if let Ok(offset) = queue.with_durability(durability).push(&text) {
                    let before = told.insert(offset.get(), (text, synced));
                    assert!(before.is_none(), "seed {seed}: {offset:?} twice");
                }
            }
            5..8 => {
                let consumer = queue.group("g").unwrap().consumer();
                let most = 1 + dice.below(9) as usize;
                if let Ok(jobs) = consumer.recv_batch(most, Duration::ZERO) {
                    for job in jobs {
                        let offset = job.offset().get();
                        assert!(!acked.contains(&offset), "seed {seed}: {offset} again");
                        if let Some((text, _)) = told.get(&offset) {
                            assert_eq!(text, job.payload(), "seed {seed}")
                        }
                        match job.ack() {
                            Ok(()) => assert!(acked.insert(offset)),
                            Err(error) => assert!(!error.is_full(), "seed {seed}: {error}"),
                        }
                    }
                }
            }
            8 => disk.budget(Some(dice.below(3) * dice.below(30_000))),
            9 => disk.full_at_sync(dice.below(2) == 0),
            10 => {
                disk.budget(None);
                let _ = queue.run_duties();
            }
            _ => {
                let kill = dice.below(2) == 0;
                let next = if kill { disk.kill() } else { disk.crash(dice.below(1000)) };
                let old = std::mem::replace(&mut disk, next);
                old.stop_after(0);
                drop(std::mem::replace(&mut queue, open(&disk)));
                assert!(queue.recovery().damaged.is_empty(), "seed {seed}: {:?}", queue.recovery());
                assert!(queue.recovery().refused_groups.is_empty(), "seed {seed}: {:?}", queue.recovery());
            }
        }
    }
    disk.budget(None);
    drop(queue);
    let disk = disk.crash(dice.below(100));
    let queue = open(&disk);
    let consumer = queue.group("g").unwrap().consumer();
    clock.advance(Duration::from_secs(7200));
    let mut seen = BTreeSet::new();
    while let Some(job) = consumer.try_recv().unwrap_or_else(|error| panic!("seed {seed}: {error}")) {
        assert!(!acked.contains(&job.offset().get()), "seed {seed}: {:?} again", job.offset());
        assert!(seen.insert(job.offset().get()));
        job.ack().unwrap();
    }
    for (offset, (_, synced)) in told {
        assert!(
            !synced || acked.contains(&offset) || seen.contains(&offset),
            "seed {seed}: {offset} is lost"
        );
    }
}

/// Messages on loan, nacked and released lie in sealed segments whose bytes go bad meanwhile, in the
/// open queue: each is handed out or named once and dead, and the reading ends.
#[test]
fn issue_3_damage_under_loans_in_sealed_segments_is_named_once_and_the_rest_comes() {
    for seed in 0..300 * times() {
        let _watched = watch::over(format!("damage under loans, seed {seed}"));
        damage_under_loans(seed);
    }
}

fn damage_under_loans(seed: u64) {
    let mut dice = Dice(seed);
    let clock = ManualClock::new(1_700_000_000_000);
    let disk = SimDisk::new(seed);
    let queue = options(&disk, &clock).open().unwrap();
    let group = queue.create_group("g", GroupOptions::new()).unwrap();
    let mut pushed = BTreeMap::new();
    for number in 0..60_u64 {
        let text = |part: u64| format!("{number}-{part}:").repeat(40);
        let texts: Vec<_> = (0..1 + number % 3).map(text).collect();
        for (offset, text) in queue.push_batch(&texts).unwrap().zip(&texts) {
            pushed.insert(offset.get(), text.clone().into_bytes());
        }
    }
    let consumer = group.consumer();
    let mut held = consumer.recv_batch(20 + dice.below(60) as usize, Duration::ZERO).unwrap();
    let mut done = BTreeSet::new();
    for _ in 0..held.len() / 2 {
        let job = held.swap_remove(dice.below(held.len() as u64) as usize);
        let offset = job.offset().get();
        match dice.below(3) {
            0 => job.nack_after(Duration::from_secs(dice.below(5)), "no").unwrap(),
            1 => job.release().unwrap(),
            _ => {
                job.ack().unwrap();
                done.insert(offset);
            }
        }
    }
    let segments: Vec<_> = disk.files().into_iter().filter(|name| name.ends_with(".seg")).collect();
    for _ in 0..1 + dice.below(4) {
        let name = &segments[dice.below(segments.len() as u64) as usize];
        let length = disk.read_file(name).unwrap().len() as u64;
        disk.flip(name, (4096 + dice.below(length - 4096)) * 8 + dice.below(8));
    }
    for job in held {
        let offset = job.offset().get();
        if dice.below(2) == 0 {
            job.release().unwrap();
        } else {
            job.ack().unwrap();
            done.insert(offset);
        }
    }
    clock.advance(Duration::from_secs(10));
    let (mut damaged, mut steps) = (BTreeSet::new(), 0);
    loop {
        steps += 1;
        assert!(steps < 1000, "seed {seed} never ends");
        match consumer.try_recv() {
            Ok(None) => break,
            Ok(Some(job)) => {
                let offset = job.offset().get();
                assert_eq!(pushed[&offset], job.payload(), "seed {seed}");
                assert!(done.insert(offset), "seed {seed}: {offset} again");
                job.ack().unwrap();
            }
            Err(Error::Damaged { offsets, .. }) => {
                for offset in offsets.unwrap() {
                    assert!(damaged.insert(offset), "seed {seed}: {offset} named twice");
                }
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    for offset in pushed.keys() {
        assert!(done.contains(offset) != damaged.contains(offset), "seed {seed}: {offset} {damaged:?}");
    }
    let stats = group.stats();
    assert_eq!(
        (stats.dead, stats.ready, stats.on_loan),
        (damaged.len() as u64, 0, 0),
        "seed {seed}: {damaged:?}"
    );
    queue.close().unwrap();
    let again = options(&disk, &clock).open().unwrap();
    let stats = again.group("g").unwrap().stats();
    assert_eq!((stats.dead, stats.ready), (damaged.len() as u64, 0), "seed {seed}");
}

/// A read that fails while a bad record is read once more: the loan, which nobody got, is not out for
/// ever, and its neighbours are not taken back.
#[test]
fn issue_3_a_read_error_on_a_second_look_leaves_no_loan_behind() {
    for (count, read) in [1, 3].into_iter().flat_map(|count| (1..9).map(move |read| (count, read))) {
        let clock = ManualClock::new(1_700_000_000_000);
        let disk = SimDisk::new(1);
        let queue = options(&disk, &clock).open().unwrap();
        queue.push_batch(["first-message", "second", "third"]).unwrap();
        let text = disk.read_file("log/000000001.seg").unwrap();
        let at = text.windows(5).position(|part| part == b"first").unwrap() as u64;
        let consumer = queue.consumer().unwrap();
        disk.flip("log/000000001.seg", at * 8);
        disk.fail_reads(disk.reads() + read, backlog::testing::Fault::Io);
        let mut got = BTreeSet::new();
        for _ in 0..40 {
            match consumer.recv_batch(count, Duration::ZERO) {
                Ok(jobs) => {
                    got.extend(jobs.iter().map(|job| job.payload().to_vec()));
                    queue.ack_all(jobs).unwrap();
                }
                Err(Error::Io { .. } | Error::Damaged { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(got, [b"second".to_vec(), b"third".to_vec()].into());
        let stats = &queue.stats().groups[0];
        assert_eq!((stats.on_loan, stats.dead, stats.ready, stats.delayed), (0, 1, 0, 0), "{count} {read}");
    }
}

/// Two receivers came to the same damage, one while the other made room for saying so: both were told,
/// though it is one.
#[test]
fn issue_4_two_receivers_are_told_once_of_the_same_damage() {
    let _watched = watch::over("two receivers at one damage");
    let disk = SimDisk::new(1);
    let queue = Options::new("jobs").sim_disk(&disk).threads(false).open().unwrap();
    queue.push("again").unwrap();
    let consumer = queue.consumer().unwrap();
    consumer.recv().unwrap().release().unwrap();
    let segment = "log/000000001.seg";
    disk.flip(segment, 4096 * 8 + 3);
    let stall = |call: Call, name: &str| {
        let (begins, begun) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let gone = Mutex::new(gone);
        let hook = move || {
            let _ = begins.send(());
            let _ = gone.lock().unwrap().recv();
        };
        disk.before(Aim::at(call, name), Arc::new(hook));
        (begun, go)
    };
    let (reads, read_on) = stall(Call::Read, segment);
    let (switches, switch_on) = stall(Call::Sync, "groups/");

    let told = std::thread::scope(|scope| {
        let one = scope.spawn(|| consumer.try_recv().map(|job| job.is_some()));
        reads.recv().unwrap();
        // So many loans have no room: this one switches halves, while the first one reads.
        let many = scope.spawn(|| consumer.recv_batch(1000, Duration::ZERO).map(|jobs| !jobs.is_empty()));
        switches.recv().unwrap();
        drop(read_on);
        // Turns for the first one, which needs the room too, and waits for the other.
        (0..1000).for_each(|_| std::thread::yield_now());
        drop(switch_on);
        [one.join().unwrap(), many.join().unwrap(), consumer.try_recv().map(|job| job.is_some())]
    });

    let damages = told.iter().filter(|told| matches!(told, Err(Error::Damaged { .. }))).count();
    assert_eq!(damages, 1, "{told:?}");
    assert_eq!(queue.stats().groups[0].dead, 1);
}
