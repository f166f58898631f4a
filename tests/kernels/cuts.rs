//! Does a power cut at any write of a real file system lose, invent or repeat anything?

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use backlog::testing::{Plant, plant};

use crate::child::{Said, kind, run};
use crate::dice::Dice;
use crate::ledger::{Found, Ledger, payload};
use crate::recorder::{BLOCK, Event, Recorder, told_position};
use crate::volume::{Kind, Mounted, home, needs, say, seeds};
use crate::workload::{Workload, options};

const STEPS: usize = 400;

/// A workload that was recorded, to be cut between two positions.
struct Recorded {
    ledger: Ledger,
    recorder: Recorder,
    from: u64,
    to: u64,
    _home: tempfile::TempDir,
}

/// Records a workload. It runs in a child: a mapped page whose first write waits for the journal holds
/// the memory map of its process, and the recorder, which the journal waits for, may need that of its
/// own. In one process the two can wait for each other for ever: once, on a busy machine, all stood still
/// for ten minutes, `ps` too, until every request to the device failed. That is taken to be why.
fn record(kind: Kind, more: &str) -> Recorded {
    let home = home();
    let recorder = Recorder::new(kind, home.path());
    let mounted = recorder.mount();
    recorder.record().begin();
    let position = recorder.tell();
    let result = home.path().join("result");
    let told = format!("{},{},{more}", position.display(), result.display());
    let (said, status) = run(&[], "recorded", &mounted.path("jobs"), &told);
    let errors: Vec<_> = said.iter().filter(|said| matches!(said, Said::Note(_))).collect();
    assert!(status.success() && errors.is_empty(), "{status}: {errors:?}");
    let result = fs::read(result).unwrap();
    let (ledger, from, to) = serde_json::from_slice(&result).unwrap();
    drop(mounted);
    Recorded { ledger, recorder, from, to, _home: home }
}

/// The child's part: works, and leaves the ledger, and between which positions it worked.
pub(crate) fn recorded(folder: &Path, told: &str) {
    let [position, result, more] = told.splitn(3, ',').collect::<Vec<_>>()[..] else { return };
    let _planted = (more == "plant").then(|| plant(Plant::AnswerBeforeSync));
    let position = File::open(position).unwrap();
    // With a mapping, as is the default: no medium error is about to end this process.
    let mut workload = Workload::with(options(folder).mappings(true), 7, || told_position(&position));
    let from = told_position(&position);
    for _ in 0..STEPS {
        workload.step();
    }
    workload.errors.iter().for_each(|error| Said::Note(kind(error)).say());
    let (ledger, _queue) = workload.end();
    let to = told_position(&position);
    fs::write(result, serde_json::to_vec(&(ledger, from, to)).unwrap()).unwrap();
}

impl Recorded {
    fn describe(&self) {
        let (mut flushes, mut bytes) = (0, 0);
        for event in &self.recorder.record().events {
            match event {
                Event::Flush => flushes += 1,
                Event::Write { bytes: written, .. } => bytes += written.len(),
            }
        }
        let (pushes, acks) = self.ledger.acknowledged();
        say(&format!(
            "{}: {STEPS} steps, {pushes} pushes and {acks} acks acknowledged; {} events, {flushes} flushes, {} KiB",
            self.recorder.kind.name(),
            self.to,
            bytes >> 10
        ));
    }

    /// Where the power is cut, by seed.
    fn place(&self, seed: u64) -> u64 {
        self.from + Dice(seed).below(self.to - self.from + 1)
    }

    /// Cuts the power somewhere, by seed, and checks what is left; also whether the opening reported
    /// anything.
    fn cut(&self, seed: u64) -> Result<(Found, bool), String> {
        let at = self.place(seed);
        let found = check(&self.ledger, at, &self.recorder.mount_after_cut(at, seed));
        found.map_err(|why| format!("{} seed {seed}, cut {at}: {why}", self.recorder.kind.name()))
    }

    /// Cuts the power, and once more while the file system and the queue recover from that.
    fn cut_twice(&self, seed: u64) -> Result<u64, String> {
        let (at, kind) = (self.place(seed), self.recorder.kind);
        let content = self.recorder.record().after_cut(at, seed);
        let home = home();
        let second = Recorder::of(content, kind, home.path());
        if kind == Kind::Xfs {
            // A directory block of which the replay of the log has written some sectors is more than
            // the next replay can take ("Metadata CRC error"): no file system, no queue.
            second.record().atom = BLOCK;
        }
        second.record().begin();
        let mounted = second.mount();
        let queue = options(&mounted.path("jobs")).create(false).open();
        let queue = queue.map_err(|error| format!("seed {seed}: P6: {error}"))?;
        // The first push sets aside what is torn, and reserves offsets.
        let mut ledger = self.ledger.until(at);
        let id = ledger.begin(1, 0).start;
        let offset = queue.push(payload(id, 100)).map_err(|error| format!("seed {seed}: {error}"))?;
        let pushed = second.position();
        queue.close().map_err(|error| format!("seed {seed}: close: {error}"))?;
        drop(queue);
        let events = second.position();
        drop(mounted);
        let again = Dice(!seed).below(events + 1);
        if again >= pushed {
            ledger.told_alone(id, offset.get());
        }
        check(&ledger, at, &second.mount_after_cut(again, seed / 4))
            .map_err(|why| format!("{} seed {seed}, cut {at}, again at {again}: {why}", kind.name()))?;
        Ok(events)
    }
}

/// Opens what is left, and checks it; tells also whether the opening reported anything.
fn check(ledger: &Ledger, at: u64, mounted: &Mounted) -> Result<(Found, bool), String> {
    let queue = options(&mounted.path("jobs")).create(false).open();
    let queue = queue.map_err(|error| format!("P6: {error}"))?;
    let found = ledger.check(&queue, Some(at))?;
    let reported = queue.recovery().has_findings();
    queue.close().map_err(|error| format!("close: {error}"))?;
    Ok((found, reported))
}

/// Records a workload, cuts the power so many times, and checks what is left each time.
fn cut(kind: Kind, cuts: usize) {
    let recorded = record(kind, "");
    recorded.describe();

    let began = Instant::now();
    let mut sum = Found::default();
    let mut torn = 0;
    for seed in 0..cuts {
        let (found, reported) = recorded.cut(seed as u64).unwrap();
        torn += usize::from(reported);
        sum.messages += found.messages;
        sum.promised += found.promised;
        sum.acked += found.acked;
    }
    let each = began.elapsed().as_secs_f64() / cuts.max(1) as f64;
    say(&format!(
        "{}: {cuts} power cuts, {each:.2} s each; {} messages found, {} of them promised; {} acks held; {torn} openings reported a torn tail; nothing lost, invented or repeated",
        kind.name(),
        sum.messages,
        sum.promised,
        sum.acked
    ));
}

fn cut_twice(kind: Kind, cuts: usize) {
    let recorded = record(kind, "");

    let events: u64 = (0..cuts).map(|seed| recorded.cut_twice(seed as u64).unwrap()).sum();

    say(&format!(
        "{}: {cuts} power cuts, and each time another one among the {} events (on average) of the recovery; nothing lost, invented or repeated",
        kind.name(),
        events / cuts.max(1) as u64
    ));
}

#[test]
#[ignore = "needs root, loop devices and FUSE"]
fn a_power_cut_amid_the_recovery_from_a_power_cut_changes_nothing() {
    needs!(Kind::Ext4.tool(), Kind::Xfs.tool());
    cut_twice(Kind::Ext4, seeds(80));
    cut_twice(Kind::Xfs, seeds(40));
}

/// The machinery finds what it is for: pushes that are answered before their sync.
#[test]
#[ignore = "needs root, loop devices and FUSE"]
fn a_push_that_is_answered_before_its_sync_is_found_by_a_power_cut() {
    needs!(Kind::Ext4.tool());
    let recorded = record(Kind::Ext4, "plant");

    let found = (0..50).find_map(|seed| recorded.cut(seed).err());

    let why = found.expect("no power cut shows it");
    assert!(why.contains("P1"), "{why}");
    say(&format!("a planted bug is found: {why}"));
}

#[test]
#[ignore = "needs root, loop devices and FUSE"]
fn ext4_keeps_every_promise_at_a_power_cut_at_any_write() {
    needs!(Kind::Ext4.tool());
    cut(Kind::Ext4, seeds(300));
}

#[test]
#[ignore = "needs root, loop devices and FUSE"]
fn xfs_keeps_every_promise_at_a_power_cut_at_any_write() {
    needs!(Kind::Xfs.tool());
    cut(Kind::Xfs, seeds(150));
}

#[test]
#[ignore = "needs root, loop devices and FUSE"]
fn btrfs_keeps_every_promise_at_a_power_cut_at_any_write() {
    needs!(Kind::Btrfs.tool());
    cut(Kind::Btrfs, seeds(100));
}
