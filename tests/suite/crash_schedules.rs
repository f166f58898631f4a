//! Is each tick one message, at a crash after and a failure of every operation?

use std::collections::BTreeMap;
use std::time::Duration;

use backlog::testing::{Fault, ManualClock, SimDisk};
use backlog::{HeaderValue, MissedTicks, Options, Queue, Result};

use crate::watch;

const HOUR: Duration = Duration::from_secs(3600);
/// On the hour.
const BEGUN: u64 = 1_699_999_200_000;
const HOURS: u64 = 4;
/// All that is unsynced lost, all kept, mixtures.
const SEEDS: [u64; 5] = [0, 1, 3, 4, 5];

/// Keys are out of the window within a second, so that only the log can tell of a tick.
fn options(disk: &SimDisk, clock: &ManualClock) -> Options {
    let options = Options::new("jobs").sim_disk(disk).manual_clock(clock).threads(false);
    options.segment_bytes(8192).dedup_window(1, Duration::from_millis(1))
}

/// An hourly schedule over some hours, with an opening in between and rolls.
fn run(disk: &SimDisk, clock: &ManualClock) -> Result<()> {
    for _ in 0..2 {
        let queue = options(disk, clock).open()?;
        schedule(&queue)?;
        for _ in 0..HOURS / 2 {
            clock.advance(HOUR);
            queue.push(vec![0xFF; 3000])?;
            queue.run_duties()?;
        }
        queue.close()?;
    }
    Ok(())
}

fn schedule(queue: &Queue) -> Result<()> {
    queue.every_with("0 * * * *", "hourly", "work", MissedTicks::All)
}

/// Counts the messages of each tick, in hours from the beginning on.
fn there(queue: &Queue) -> BTreeMap<u64, u64> {
    let mut there = BTreeMap::new();
    let worker = queue.consumer().unwrap();
    while let Some(job) = worker.try_recv().unwrap() {
        if let Some(HeaderValue::Int(tick)) = job.header("tick") {
            *there.entry((u64::try_from(tick).unwrap() - BEGUN) / 3_600_000).or_default() += 1;
        }
        job.ack().unwrap();
    }
    there
}

/// Opens what an end has left, long after; holds the ticks against what must be there.
fn check(left: &SimDisk, clock: &ManualClock, registered: bool, state: &str) {
    let clock = ManualClock::new(clock.shows());
    let reached = (clock.shows() - BEGUN) / 3_600_000;
    clock.advance(2 * HOUR);
    let queue = options(left, &clock).open().unwrap_or_else(|error| panic!("{state}: {error}"));
    schedule(&queue).unwrap();
    queue.run_duties().unwrap();
    queue.run_duties().unwrap();
    let found = there(&queue);
    for (tick, count) in &found {
        assert_eq!(*count, 1, "{state}: tick {tick} of {found:?}");
    }
    if registered {
        let ticks: Vec<u64> = found.keys().copied().collect();
        let from = ticks.first().copied().unwrap_or(0);
        assert!(from <= 1, "{state}: {found:?}");
        assert_eq!(ticks, (from..=reached + 2).collect::<Vec<_>>(), "{state}: up to {}", reached + 2);
    }
}

/// Runs with something ordered to go wrong; tells whether the schedule was acknowledged.
fn run_with(disk: &SimDisk, clock: &ManualClock) -> bool {
    let Ok(queue) = options(disk, clock).open() else { return false };
    let registered = schedule(&queue).is_ok();
    drop(queue.close());
    drop(queue);
    drop(run(disk, clock));
    registered
}

fn operations() -> u64 {
    let (disk, clock) = (SimDisk::new(1), ManualClock::new(BEGUN));
    assert!(run_with(&disk, &clock));
    let queue = options(&disk, &clock).open().unwrap();
    assert!(queue.stats().segments > 2);
    assert_eq!(
        there(&queue).into_iter().collect::<Vec<_>>(),
        (0..=HOURS).map(|tick| (tick, 1)).collect::<Vec<_>>()
    );
    disk.ops()
}

#[test]
fn issue_5_a_crash_between_a_tick_and_its_record_leaves_one_message() {
    let last = operations();
    let mut states = 0;
    for op in 1..=last {
        let (disk, clock) = (SimDisk::new(1), ManualClock::new(BEGUN));
        disk.stop_after(op);
        let registered = run_with(&disk, &clock);
        for seed in SEEDS {
            let state = format!("ticks:{op}:{seed}");
            let _watched = watch::over(&state);
            check(&disk.crash(seed), &clock, registered, &state);
            states += 1;
        }
    }
    assert!(states > 300, "{states} states");
}

#[test]
fn issue_5_a_failure_leaves_no_tick_with_two_messages() {
    let last = operations();
    let mut states = 0;
    for op in 1..=last {
        for fault in [Fault::Io, Fault::Full, Fault::Short] {
            let (disk, clock) = (SimDisk::new(1), ManualClock::new(BEGUN));
            disk.fail(op, fault);
            let state = format!("ticks:{op}:{fault:?}");
            let _watched = watch::over(&state);
            let registered = run_with(&disk, &clock);
            disk.heal();
            check(&disk.crash(op % 6), &clock, registered, &state);
            states += 1;
        }
    }
    assert!(states > 200, "{states} states");
}
