//! Is what is done without a loan whole, or absent, at a crash after every operation of it? And a loan
//! with a time limit, settled by its receipt?

use std::time::Duration;

use backlog::testing::{Fault, ManualClock, SimDisk};
use backlog::{Durability, GroupOptions, Message, Offset, Options, Outcome, Queue, Receipt, Retry, Start};

use crate::watch;

const HOUR: Duration = Duration::from_secs(3600);
/// All that is unsynced lost, all kept, mixtures.
const SEEDS: [u64; 6] = [0, 1, 3, 4, 5, 6];

type Act = fn(&Queue, &[Receipt]) -> backlog::Result<()>;

fn offset(number: u64) -> Offset {
    Offset::new(number).unwrap()
}

const ACTS: [(&str, Act); 16] = [
    ("revive all", |queue, _| queue.group("g")?.revive_all().map(drop)),
    ("revive one", |queue, _| queue.group("g")?.revive([offset(1)]).map(drop)),
    ("undelete one that was acked with outputs", |queue, _| {
        queue.group("g")?.undelete([offset(0)]).map(drop)
    }),
    ("discard a dead one", |queue, _| queue.group("g")?.discard([offset(2)]).map(drop)),
    ("discard one that is delayed", |queue, _| queue.group("g")?.discard([offset(3)]).map(drop)),
    ("discard one on loan", |queue, _| queue.group("g")?.discard([offset(4)]).map(drop)),
    ("discard one that nobody met", |queue, _| queue.group("g")?.discard([offset(8)]).map(drop)),
    ("purge", |queue, _| queue.group("g")?.purge().map(drop)),
    ("seek to the beginning", |queue, _| queue.group("g")?.seek(Start::Beginning).map(drop)),
    ("seek to the end", |queue, _| queue.group("g")?.seek(Start::End).map(drop)),
    ("pause", |queue, _| queue.group("g")?.pause()),
    ("set", |queue, _| {
        let group = queue.group("g")?;
        group.set(group.options().unwrap().lease(HOUR))
    }),
    ("ack by receipt", |queue, receipts| queue.settle(&receipts[0], &Outcome::Ack)),
    ("ack with outputs", |queue, receipts| {
        queue.settle(&receipts[0], &Outcome::AckWith(vec!["a".into(), "b".into()]))
    }),
    ("reject by receipt", |queue, receipts| queue.settle(&receipts[0], &Outcome::Reject("no".into()))),
    ("extend by receipt", |queue, receipts| queue.extend(&receipts[0], 9 * HOUR)),
];

/// A queue with a message in every state, all of it synced; and the receipts of what is on loan.
fn prepared() -> (SimDisk, ManualClock, Queue, Vec<Receipt>) {
    let (disk, clock) = (SimDisk::new(1), ManualClock::new(1_700_000_000_000));
    let queue = options(&disk, &clock).open().unwrap();
    let synced = GroupOptions::new().ack_durability(Durability::Synced).retry(Retry::steps(&[HOUR]));
    let worker = queue.create_group("g", synced).unwrap().consumer().with_lease(2 * HOUR);
    queue.push_batch((0..8).map(|number| number.to_string())).unwrap();
    queue.push(Message::new("8").delay(HOUR)).unwrap();
    let mut jobs = worker.recv_batch(6, Duration::ZERO).unwrap().into_iter();
    jobs.next().unwrap().ack_with(["out"]).unwrap();
    jobs.next().unwrap().reject("never").unwrap();
    jobs.next().unwrap().reject("never").unwrap();
    jobs.next().unwrap().nack("later").unwrap();
    let receipts = jobs.map(backlog::Delivery::leave).collect();
    queue.sync().unwrap();
    (disk, clock, queue, receipts)
}

fn options(disk: &SimDisk, clock: &ManualClock) -> Options {
    Options::new("jobs").sim_disk(disk).manual_clock(clock).threads(false)
}

/// All that can be told of the group after an end, in words.
fn told(disk: &SimDisk, clock: &ManualClock) -> String {
    let queue = options(disk, clock).open().unwrap();
    let found = queue.recovery();
    let bad = !found.damaged.is_empty() || !found.lost.is_empty() || !found.refused_groups.is_empty();
    assert!(!bad, "{found:?}");
    let group = queue.group("g").unwrap();
    let dead: Vec<u64> = group.dead().iter().map(|dead| dead.offset.get()).collect();
    let stats = group.stats();
    let policy = format!("{:?}", group.options().unwrap());
    group.resume().unwrap();
    let mut came = Vec::new();
    for hours in 0..12 {
        while let Some(job) = group.consumer().try_recv().unwrap() {
            came.push(format!("{}@{hours}", job.offset()));
            job.ack().unwrap();
        }
        clock.advance(HOUR);
    }
    queue.close().unwrap();
    let counts = (stats.ready, stats.delayed, stats.on_loan, stats.paused);
    format!("dead {dead:?}, {counts:?}, comes {came:?}, {policy}")
}

/// A clock of its own that shows the same.
fn another(clock: &ManualClock) -> ManualClock {
    ManualClock::new(clock.shows())
}

/// What is told before an act and after it, and the operations of the disk that it takes: those behind
/// `first`, up to `last`.
struct Whole {
    before: String,
    after: String,
    first: u64,
    last: u64,
}

fn whole(act: Act) -> Whole {
    let (disk, clock, _open, _) = prepared();
    let before = told(&disk.crash(1), &another(&clock));
    let (disk, clock, queue, receipts) = prepared();
    let first = disk.ops();
    act(&queue, &receipts).unwrap();
    let last = disk.ops();
    Whole { before, after: told(&disk.crash(0), &another(&clock)), first, last }
}

#[test]
fn what_is_done_without_a_loan_is_whole_or_absent_at_a_crash_after_every_operation() {
    let mut states = 0;
    for (name, act) in ACTS {
        let Whole { before, after, first, last } = whole(act);
        assert_ne!(before, after, "{name} changes something");

        for op in first..=last {
            let (disk, clock, queue, receipts) = prepared();
            disk.stop_after(op);
            let done = act(&queue, &receipts);
            for seed in SEEDS {
                let _watched = watch::over(format!("{name}, operation {op}, seed {seed}"));
                let found = told(&disk.crash(seed), &another(&clock));
                let whole = found == after;
                assert!(
                    whole || found == before,
                    "{name}, operation {op}, seed {seed}:\n{found}\n{before}\n{after}"
                );
                assert!(
                    whole || done.is_err(),
                    "{name}, operation {op}, seed {seed}: told and gone: {found}"
                );
                states += 1;
            }
        }
    }
    println!("{states} states");
}

#[test]
fn what_is_done_without_a_loan_is_whole_or_absent_when_any_operation_of_it_fails() {
    let mut states = 0;
    for (name, act) in ACTS {
        let Whole { before, after, first, last } = whole(act);

        for op in first + 1..=last {
            for fault in [Fault::Io, Fault::Full, Fault::Short, Fault::SyncLost] {
                let (disk, clock, queue, receipts) = prepared();
                disk.fail(op, fault);
                let _watched = watch::over(format!("{name}, operation {op}, {fault:?}"));
                let done = act(&queue, &receipts);
                for seed in SEEDS {
                    let found = told(&disk.crash(seed), &another(&clock));
                    let whole = found == after;
                    assert!(
                        whole || found == before,
                        "{name}, {op}, {fault:?}, {seed}:\n{found}\n{before}\n{after}"
                    );
                    assert!(
                        whole || done.is_err(),
                        "{name}, {op}, {fault:?}, {seed}: told and gone: {found}"
                    );
                    states += 1;
                }
                // It goes on, or says that it does not: nobody hangs.
                let _ = queue.group("g").and_then(|group| group.consumer().try_recv());
                let _ = queue.close();
            }
        }
    }
    println!("{states} states");
}
