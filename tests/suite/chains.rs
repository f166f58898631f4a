//! Does a pipeline hand its work on exactly once, over crashes, and is everybody answered, whatever
//! happens beside an ack with outputs?
//!
//! `BACKLOG_SEEDS=1000` tries more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use backlog::testing::{Fault, ManualClock, SimDisk};
use backlog::{Consumer, Delivery, Durability, Error, Group, GroupOptions, Message, Options, Queue, Start};

use crate::crash::seeds;
use crate::dice::Dice;
use crate::harness::drain;
use crate::watch;

const INPUTS: usize = 8;
const GROUP: &str = "pipeline";
const STAGES: [&str; 4] = ["A", "B", "C", "D"];

/// Which acks and outputs are synced.
#[derive(Clone, Copy)]
struct Levels {
    acks: Durability,
    outputs: Durability,
}

fn level(dice: &mut Dice) -> Durability {
    if dice.below(2) == 0 { Durability::Synced } else { Durability::Buffered }
}

fn create(queue: &Queue, levels: Levels) -> backlog::Result<Group> {
    let group = GroupOptions::new().ack_durability(levels.acks).start(Start::Beginning);
    queue.create_group(GROUP, group.max_failures(255).max_losses(255))
}

/// Does one stage's work: what it hands on is told by what it got.
fn work(job: Delivery) -> backlog::Result<()> {
    let text = String::from_utf8(job.payload().to_vec()).unwrap();
    let (stage, number) = text.split_once(':').unwrap();
    let next = STAGES.iter().position(|&name| name == stage).unwrap() + 1;
    match STAGES.get(next) {
        Some(name) => job.ack_with([format!("{name}:{number}")]).map(drop),
        None => job.ack(),
    }
}

/// Works until nothing is ready, or nothing goes any more.
fn work_on(consumer: &Consumer) {
    while let Ok(Some(job)) = consumer.try_recv() {
        if work(job).is_err() {
            return;
        }
    }
}

/// Counts each message of the log.
fn all_there(queue: &Queue) -> BTreeMap<String, usize> {
    let whole = queue.create_group("whole", GroupOptions::new().start(Start::Beginning)).unwrap();
    let mut count = BTreeMap::new();
    for text in drain(&whole.consumer()) {
        *count.entry(text).or_default() += 1;
    }
    count
}

fn each_once() -> BTreeMap<String, usize> {
    let stage = |name| (0..INPUTS).map(move |number| (format!("{name}:{number}"), 1));
    STAGES.iter().flat_map(stage).collect()
}

/// Lets a pipeline run over so many crashes, and then to its end.
fn over_crashes(seed: u64) {
    let mut dice = Dice(seed);
    let levels = Levels { acks: level(&mut dice), outputs: level(&mut dice) };
    let clock = ManualClock::new(1_700_000_000_000);
    let mut disk = SimDisk::new(seed);
    let no_mappings = dice.below(3) == 0;
    disk.no_mappings(no_mappings);
    let open = |disk: &SimDisk| {
        let options = Options::new("jobs").segment_bytes(8 << 10).durability(levels.outputs);
        // All of them are counted at the end.
        let options = options.retain_for(Duration::MAX);
        options.sim_disk(disk).manual_clock(&clock).threads(false).open()
    };
    let queue = open(&disk).unwrap();
    create(&queue, levels).unwrap();
    let inputs = (0..INPUTS).map(|number| format!("{}:{number}", STAGES[0]));
    queue.with_durability(Durability::Synced).push_batch(inputs).unwrap();
    drop(queue);
    for _ in 0..12 {
        disk.stop_after(disk.ops() + dice.below(60));
        if let Ok(queue) = open(&disk)
            && let Ok(group) = queue.group(GROUP)
        {
            let workers = 1 + dice.below(2);
            thread::scope(|scope| {
                (0..workers).for_each(|_| drop(scope.spawn(|| work_on(&group.consumer()))));
            });
            if dice.below(3) == 0 {
                clock.advance(Duration::from_secs(3));
                let _ = queue.run_duties();
            }
            if dice.below(4) == 0 {
                let _ = queue.push("B:filler that rolls".repeat(200));
            }
        }
        let before = disk;
        disk = if dice.below(4) == 0 { before.kill() } else { before.crash(dice.below(1000)) };
        disk.no_mappings(no_mappings);
    }
    let queue = open(&disk).unwrap();
    let consumer = queue.group(GROUP).unwrap().consumer();
    loop {
        match consumer.try_recv().unwrap() {
            Some(job) if job.payload().starts_with(b"B:filler") => job.ack().unwrap(),
            Some(job) => work(job).unwrap(),
            None if queue.stats().groups.iter().any(|group| group.delayed > 0) => {
                clock.advance(Duration::from_secs(3600));
            }
            None => break,
        }
    }
    let mut found = all_there(&queue);
    found.retain(|text, _| !text.contains("filler"));
    assert_eq!(found, each_once());
}

#[test]
fn issue_5_a_pipeline_hands_on_each_message_exactly_once_over_crashes() {
    for seed in 0..seeds(150) {
        let state = format!("BACKLOG_SEEDS: a pipeline over crashes, seed {seed}");
        let _watched = watch::over(&state);
        let outcome = std::panic::catch_unwind(|| over_crashes(seed));
        outcome.unwrap_or_else(|_| panic!("{state}"));
    }
}

type Beside = fn(&Queue, &Group, &SimDisk);

const BESIDE: [(&str, Beside); 8] = [
    ("nothing", |_, _, _| {}),
    ("close", |queue, _, _| drop(queue.close())),
    ("remove", |queue, _, _| drop(queue.remove_group(GROUP))),
    ("seek", |_, group, _| drop(group.seek(Start::Beginning))),
    ("purge", |_, group, _| drop(group.purge())),
    ("release", |_, group, _| drop(group.release_all())),
    ("discard", |queue, _, _| drop(queue.discard(backlog::Offset::new(3).unwrap()))),
    ("poison", |_, _, disk| disk.break_syncs(true)),
];

/// Three workers, and one other thing amid their work; returns how many outputs were told to be there.
fn beside(seed: u64, (name, act): (&str, Beside)) {
    let mut dice = Dice(seed * 31 + name.len() as u64);
    let levels = Levels { acks: level(&mut dice), outputs: level(&mut dice) };
    let disk = SimDisk::new(seed);
    let options = || Options::new("jobs").segment_bytes(8 << 10).durability(levels.outputs).threads(false);
    let queue = options().sim_disk(&disk).open().unwrap();
    let group = create(&queue, levels).unwrap();
    let inputs = (0..INPUTS).map(|number| format!("{}:{number}", STAGES[0]));
    queue.with_durability(Durability::Synced).push_batch(inputs).unwrap();
    let syncs = Arc::new(AtomicUsize::new(0));
    let counted = syncs.clone();
    disk.before_syncs(Some(Arc::new(move || {
        // Long enough for others to come.
        counted.fetch_add(1, Ordering::AcqRel);
        (0..50).for_each(|_| thread::yield_now());
    })));
    let at = usize::try_from(dice.below(12)).unwrap();
    let (working, told) = (AtomicUsize::new(3), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let consumer = group.consumer();
                while let Ok(Some(job)) = consumer.try_recv() {
                    match work(job) {
                        Ok(()) => drop(told.fetch_add(1, Ordering::AcqRel)),
                        Err(Error::LeaseLost { .. }) => {}
                        Err(_) => break,
                    }
                }
                working.fetch_sub(1, Ordering::AcqRel);
            });
        }
        while syncs.load(Ordering::Acquire) < at && working.load(Ordering::Acquire) > 0 {
            thread::yield_now();
        }
        act(&queue, &group, &disk);
    });
    disk.before_syncs(None);
    let _ = queue.close();
    drop((group, queue));

    // Whatever it was: what the log has is done, unless it was begun anew, and nothing is there twice.
    let disk = disk.crash(dice.below(1000));
    let queue = options().sim_disk(&disk).open().unwrap();
    let found = queue.recovery();
    assert!(found.damaged.is_empty() && found.refused_groups.is_empty(), "{found:?}");
    if let Ok(group) = queue.group(GROUP) {
        work_on(&group.consumer());
    }
    let found = all_there(&queue);
    if name != "seek" {
        assert!(found.values().all(|&count| count == 1), "{name}: doubled: {found:?}");
    }
    if matches!(name, "nothing" | "close" | "release" | "poison") {
        assert!(told.load(Ordering::Acquire) <= found.len());
    }
}

#[test]
fn issue_5_everybody_is_answered_whatever_happens_beside_an_ack_with_outputs() {
    for act in BESIDE {
        for seed in 0..seeds(25) {
            let state = format!("{} beside acks with outputs, seed {seed}", act.0);
            let _watched = watch::over(&state);
            let outcome = std::panic::catch_unwind(|| beside(seed, act));
            outcome.unwrap_or_else(|_| panic!("{state}"));
        }
    }
}

#[test]
fn issue_5_a_message_in_doubt_is_kept_until_the_opening_that_knows() {
    let mut ways = Vec::new();
    for seed in 0..8 {
        let (disk, clock) = (SimDisk::new(seed), ManualClock::new(1_700_000_000_000));
        let options = || Options::new("jobs").manual_clock(&clock).threads(false);
        let queue = options().sim_disk(&disk).open().unwrap();
        let levels = Levels { acks: Durability::Synced, outputs: Durability::Synced };
        let group = create(&queue, levels).unwrap();
        queue.push_batch([Message::new("A:0").dedup_key("first"), "A:1".into()]).unwrap();
        let consumer = group.consumer().with_lease(Duration::from_secs(60));
        let (job, other) = (consumer.recv().unwrap(), consumer.recv().unwrap());
        // The write of the batch, and its sync, which keeps what it could not write.
        disk.fail(disk.ops() + 2, Fault::Io);

        let doubt = job.ack_with(["B:0"]).unwrap_err();

        assert!(matches!(doubt, Error::Poisoned { .. }), "{doubt}");
        // What was never handed over is in no doubt: it comes again.
        assert!(matches!(other.ack_with(["B:1"]), Err(Error::Poisoned { .. })));
        clock.advance(Duration::from_secs(4000));
        let again = consumer.recv().unwrap();
        assert_eq!(again.payload(), b"A:1");
        clock.advance(Duration::from_secs(4));
        assert!(consumer.try_recv().is_err());
        let offset = backlog::Offset::new(0).unwrap();
        for refused in [
            group.seek(Start::Beginning).map(drop),
            group.purge().map(drop),
            group.discard([offset]).map(drop),
            group.discard_key("first").map(drop),
            group.release_all().map(drop),
        ] {
            assert!(matches!(refused, Err(Error::Poisoned { .. })), "{refused:?}");
        }
        let disk = disk.crash(seed);
        let queue = options().sim_disk(&disk).open().unwrap();
        let mut came = Vec::new();
        for _ in 0..4 {
            // Loans run out, and then their waits.
            clock.advance(Duration::from_secs(4000));
            came.extend(drain(&queue.group(GROUP).unwrap().consumer()));
        }
        came.sort_unstable();
        assert!(came == ["A:0", "A:1"] || came == ["A:1", "B:0"], "{came:?}");
        ways.push(came);
    }
    ways.sort_unstable();
    ways.dedup();
    assert_eq!(ways.len(), 2, "both ways are seen");
}

/// Returns how many reads an opening takes after a kill, where one group acked, with outputs or beside
/// pushes, over so many segments, and another was idle.
fn reads_of_an_opening(segments: usize, with_outputs: bool) -> u64 {
    let (disk, clock) = (SimDisk::new(1), ManualClock::new(1_700_000_000_000));
    let options = || Options::new("jobs").segment_bytes(8 << 10).manual_clock(&clock).threads(false);
    let queue = options().sim_disk(&disk).open().unwrap();
    let levels = Levels { acks: Durability::Buffered, outputs: Durability::Synced };
    let consumer = create(&queue, levels).unwrap().consumer();
    queue.create_group("idle", GroupOptions::new()).unwrap();
    queue.push("first").unwrap();
    while queue.stats().segments < segments {
        for _ in 0..4 {
            let job = consumer.recv().unwrap();
            if with_outputs {
                job.ack_with([&[b'x'; 900]]).unwrap();
            } else {
                queue.push(&[b'x'; 900]).unwrap();
                job.ack().unwrap();
            }
        }
        clock.advance(Duration::from_secs(2));
        queue.run_duties().unwrap();
        clock.advance(Duration::from_secs(2));
        queue.run_duties().unwrap();
    }
    let left = disk.kill();
    let before = left.reads();
    let queue = options().sim_disk(&left).open().unwrap();
    let reads = left.reads() - before;
    assert_eq!(drain(&queue.group(GROUP).unwrap().consumer()).len(), 1);
    reads
}

#[test]
fn issue_5_an_opening_looks_for_acks_in_the_last_segments_alone() {
    for segments in [6, 36] {
        let (with, without) = (reads_of_an_opening(segments, true), reads_of_an_opening(segments, false));

        assert!(with <= without + 6, "{segments} segments: {with} reads, and {without} without such acks");
    }
}
