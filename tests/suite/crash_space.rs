//! Is nothing lost when sparse segments are rewritten, drained ones become the next, side files are kept for their keys
//! and a queue comes to rest, wherever that stops or fails?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backlog::testing::{Aim, Call, Fault, ManualClock, Plant, SimDisk, plant};
use backlog::{Durability, GroupOptions, Message, Options, Queue, Result, Start};

use crate::watch;

/// All that is unsynced lost, all kept, mixtures.
const SEEDS: [u64; 5] = [0, 1, 3, 4, 6];
const GROUPS: [(&str, Durability); 2] = [("synced", Durability::Synced), ("buffered", Durability::Buffered)];
const FIRST: u64 = 200;
const MORE: u64 = 60;
/// One in so many is not acked until the end.
const STUCK: u64 = 41;
/// The first copy that a run makes.
const COPY: &str = "log/000000009.seg";
const SECOND: Duration = Duration::from_secs(1);

/// What was done, and what is known to have been done for good.
#[derive(Clone, Debug, Default)]
struct Told {
    /// Offsets of the numbers whose push returned.
    pushed: BTreeMap<u64, u64>,
    /// By group: acks that were tried, and synced ones that returned.
    tried: BTreeMap<&'static str, BTreeSet<u64>>,
    done: BTreeSet<u64>,
    /// The group `synced` was moved back to the beginning, or may have been.
    moved_back: bool,
}

struct Stage {
    disk: SimDisk,
    clock: ManualClock,
    queue: Queue,
    told: Told,
}

fn options(disk: &SimDisk, clock: &ManualClock) -> Options {
    let options = Options::new("jobs").sim_disk(disk).manual_clock(clock).threads(false).segment_bytes(8192);
    options.dedup_window(1000, Duration::from_secs(600))
}

fn text(number: u64) -> String {
    format!("{number:0100}")
}

fn key(number: u64) -> Option<String> {
    number.is_multiple_of(5).then(|| format!("key-{number}"))
}

fn push(queue: &Queue, number: u64) -> Result<u64> {
    let text = text(number);
    let message = Message::new(text.as_bytes());
    let message = match key(number) {
        Some(key) => message.dedup_key(key),
        None => message,
    };
    queue.push(message).map(|offset| offset.get())
}

impl Stage {
    /// Of many segments most messages are done in both groups; they were looked at once.
    fn prepared() -> Self {
        let (disk, clock) = (SimDisk::new(1), ManualClock::new(1_700_000_000_000));
        let queue = options(&disk, &clock).open().unwrap();
        for (name, durability) in GROUPS {
            queue.create_group(name, GroupOptions::new().ack_durability(durability)).unwrap();
        }
        let mut stage = Self { disk, clock, queue, told: Told::default() };
        stage.push(0..FIRST).unwrap();
        stage.ack(|number| number % STUCK != 0).unwrap();
        stage.clock.advance(SECOND);
        stage.queue.run_duties().unwrap();
        stage
    }

    fn push(&mut self, numbers: std::ops::Range<u64>) -> Result<()> {
        for number in numbers {
            let offset = push(&self.queue, number)?;
            self.told.pushed.insert(number, offset);
        }
        Ok(())
    }

    /// Acks what is wanted of what is ready, and gives the rest back.
    fn ack(&mut self, wanted: impl Fn(u64) -> bool) -> Result<()> {
        for (name, durability) in GROUPS {
            let consumer = self.queue.group(name)?.consumer();
            let mut rest = Vec::new();
            while let Some(job) = consumer.try_recv()? {
                let number = std::str::from_utf8(job.payload()).unwrap().parse().unwrap();
                if !wanted(number) {
                    rest.push(job);
                    continue;
                }
                self.told.tried.entry(name).or_default().insert(number);
                job.ack()?;
                if durability == Durability::Synced {
                    self.told.done.insert(number);
                }
            }
            rest.into_iter().try_for_each(backlog::Delivery::release)?;
        }
        Ok(())
    }

    fn duties(&self) -> Result<()> {
        self.clock.advance(SECOND);
        self.queue.run_duties()
    }

    /// Rewrites, goes on in what became free, frees the copies, comes to rest. Stops at the first failure.
    fn play(&mut self, moves_back: bool) -> Result<()> {
        self.ack(|number| number % (2 * STUCK) != 0)?;
        if moves_back {
            // In the middle of it: when the copy is being written.
            let queue = self.queue.clone();
            let hook = move || drop(queue.group("synced").and_then(|group| group.seek(Start::Beginning)));
            self.told.moved_back = true;
            self.disk.before(Aim::at(Call::Write, COPY), Arc::new(hook));
        }
        self.duties()?;
        self.duties()?;
        self.push(FIRST..FIRST + MORE)?;
        self.ack(|number| number % 30 != 0)?;
        self.duties()?;
        self.duties()?;
        self.duties()?;
        self.ack(|number| number % 60 != 0)?;
        self.clock.advance(11 * SECOND);
        self.duties()?;
        self.duties()
    }
}

/// What must hold after any end.
fn check(disk: &SimDisk, clock: &ManualClock, told: &Told) -> Result<(), String> {
    let clock = ManualClock::new(clock.shows());
    let failed = |what: &'static str| move |error: backlog::Error| format!("{what}: {error}");
    let found = options(disk, &clock).verify().map_err(failed("verify"))?;
    let bad = |finding: &&backlog::Finding| {
        !matches!(finding.kind, backlog::FindingKind::Torn | backlog::FindingKind::Wounded)
    };
    if let Some(finding) = found.iter().find(bad) {
        return Err(format!("verify found {finding:?}"));
    }
    let queue = options(disk, &clock).open().map_err(failed("P6: the opening"))?;
    let report = queue.recovery();
    if !report.damaged.is_empty() || !report.lost.is_empty() || !report.refused_groups.is_empty() {
        return Err(format!("P7: found {report:?}"));
    }
    // As if it went on: what was cut short is done now, and changes nothing of what follows.
    for _ in 0..3 {
        clock.advance(SECOND);
        queue.run_duties().map_err(failed("the duties"))?;
    }
    for (&number, &offset) in told.pushed.iter().filter(|(number, _)| number.is_multiple_of(5)) {
        let again = push(&queue, number).map_err(failed("a push with a key"))?;
        if again != offset {
            return Err(format!("the key of {number} at {offset} was free: {again}"));
        }
    }
    for (name, _) in GROUPS {
        let consumer = queue.group(name).map_err(failed("a group"))?.consumer();
        let mut came = BTreeSet::new();
        while let Some(job) = consumer.try_recv().map_err(failed("a receive"))? {
            let number: u64 = std::str::from_utf8(job.payload()).unwrap().parse().unwrap();
            if told.pushed.get(&number).is_some_and(|&offset| offset != job.offset().get()) {
                return Err(format!("P4: {number} comes at {}", job.offset()));
            }
            if !came.insert(number) {
                return Err(format!("{number} comes twice to {name}"));
            }
            job.ack().map_err(failed("an ack"))?;
        }
        let tried = told.tried.get(name).cloned().unwrap_or_default();
        if let Some(missed) =
            told.pushed.keys().find(|number| !tried.contains(number) && !came.contains(number))
        {
            return Err(format!("P1: {missed} does not come to {name}"));
        }
        let again = |number: &&u64| told.done.contains(number);
        if name == "synced"
            && !told.moved_back
            && let Some(number) = came.iter().find(again)
        {
            return Err(format!("P5: {number} comes again to {name}"));
        }
    }
    clock.advance(SECOND);
    queue.run_duties().map_err(failed("the last duties"))?;
    let last = told.pushed.values().max().copied().unwrap_or(0);
    if queue.push("fresh").map_err(failed("a push"))?.get() <= last {
        return Err("P4: an offset is given again".into());
    }
    queue.close().map_err(failed("the close"))
}

/// The operations of a whole run.
fn span(moves_back: bool) -> (u64, u64) {
    let mut stage = Stage::prepared();
    let first = stage.disk.ops();
    stage.play(moves_back).unwrap();
    (first, stage.disk.ops())
}

/// Stops the disk after each operation, and lets it crash in each way.
fn crash_everywhere(moves_back: bool, step: usize) -> Result<u32, String> {
    let (first, last) = span(moves_back);
    let mut states = 0;
    for op in (first..=last).step_by(step) {
        let _watched = watch::over(format!("space, crash after operation {op}"));
        let mut stage = Stage::prepared();
        stage.disk.stop_after(op);
        let _ = stage.play(moves_back);
        for seed in SEEDS {
            check(&stage.disk.crash(seed), &stage.clock, &stage.told)
                .map_err(|broken| format!("op {op}, seed {seed}: {broken}"))?;
            states += 1;
        }
        check(&stage.disk.kill(), &stage.clock, &stage.told)
            .map_err(|broken| format!("op {op}, killed: {broken}"))?;
        states += 1;
    }
    Ok(states)
}

#[test]
fn the_run_rewrites_recycles_and_keeps_keys() {
    let mut stage = Stage::prepared();
    let before = stage.queue.stats().segments;
    stage.disk.record();
    stage.play(false).unwrap();
    let made: Vec<String> =
        stage.disk.made().iter().map(|made| format!("{:?} {}", made.call, made.name)).collect();
    let some = |what: &str| made.iter().any(|made| made.contains(what));

    assert!(before > 4 && stage.queue.stats().segments <= 3, "{before}, {}", stage.queue.stats().segments);
    assert!(some("Rename log/") && some("Sync log/000000002.idx") && some("Remove log/000000002.seg"));
}

#[test]
fn giving_space_back_loses_nothing_at_a_crash_after_every_operation() {
    let states = crash_everywhere(false, 1).unwrap_or_else(|broken| panic!("{broken}"));

    println!("space: {states} crash states");
    assert!(states > 1000, "{states}");
}

#[test]
fn nothing_is_lost_either_where_a_group_is_moved_back_meanwhile() {
    let states = crash_everywhere(true, 3).unwrap_or_else(|broken| panic!("{broken}"));

    println!("space, moved back: {states} crash states");
    assert!(states > 300, "{states}");
}

#[test]
fn giving_space_back_loses_nothing_when_any_operation_of_it_fails() {
    let (first, last) = span(false);
    for op in first + 1..=last {
        for fault in [Fault::Io, Fault::Full, Fault::SyncLost] {
            let _watched = watch::over(format!("space, {fault:?} at operation {op}"));
            let mut stage = Stage::prepared();
            stage.disk.fail(op, fault);
            for _ in 0..3 {
                // It goes on, or says why not.
                let _ = stage.play(false);
            }
            check(&stage.disk.kill(), &stage.clock, &stage.told)
                .unwrap_or_else(|broken| panic!("{fault:?} at {op}, killed: {broken}"));
            let _ = stage.queue.close();
            check(&stage.disk.crash(0), &stage.clock, &stage.told)
                .unwrap_or_else(|broken| panic!("{fault:?} at {op}, closed: {broken}"));
        }
    }
}

#[test]
fn what_is_left_out_of_giving_space_back_is_found() {
    let bugs = [
        Plant::RecycledSalt,
        Plant::RecycledUnsynced,
        Plant::CopyUnsynced,
        Plant::SourcesGoFirst,
        Plant::KeysForgotten,
        Plant::FreedOnUnsynced,
    ];
    for bug in bugs {
        let _planted = plant(bug);

        let found = crash_everywhere(false, 1);

        println!("{bug:?}: {found:?}");
        assert!(found.is_err(), "{bug:?}");
    }
    let _planted = plant(Plant::MovedBackIgnored);
    let (there, came) = moved_back_meanwhile();
    assert!(came < there, "{came} of {there}");
}

/// Moves a group back while a copy is made; returns how many messages there were, and how many came.
fn moved_back_meanwhile() -> (u64, u64) {
    let stage = Stage::prepared();
    let there = Arc::new(Mutex::new(0));
    let (queue, counted, look) = (stage.queue.clone(), there.clone(), options(&stage.disk, &stage.clock));
    let hook = move || {
        *counted.lock().unwrap() =
            look.inspect().unwrap().segments.iter().map(|segment| segment.messages).sum();
        queue.group("synced").unwrap().seek(Start::Beginning).unwrap();
    };
    stage.disk.before(Aim::at(Call::Write, COPY), Arc::new(hook));
    stage.duties().unwrap();
    stage.duties().unwrap();
    let consumer = stage.queue.group("synced").unwrap().consumer();
    let came = std::iter::from_fn(|| consumer.try_recv().unwrap()).count() as u64;
    (*there.lock().unwrap(), came)
}

#[test]
fn a_group_that_is_moved_back_while_a_copy_is_made_finds_all_that_was_there() {
    let (there, came) = moved_back_meanwhile();

    assert!(there > 50, "{there}");
    assert_eq!(came, there);
}
