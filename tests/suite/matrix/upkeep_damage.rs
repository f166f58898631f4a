//! What comes of damage in a segment while it is copied, or before it is given up?
//!
//! What has gone bad is never made to look good: where it is needed, its segment stays as it is, and whoever
//! comes to it is told; its neighbours are copied without it. Where nobody needs it, it costs nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use backlog::testing::{ManualClock, SimDisk};
use backlog::{Delivery, Durability, Error, GroupOptions, Offset, Options, Queue, Start};

use super::table::Point;
use super::{forge, stage::all};

const SECOND: Duration = Duration::from_secs(1);
/// The offset of the message that is stuck with number 2.
const LOST: u64 = 7;

/// A queue of four segments, each with one message that is stuck and others that are done.
pub(crate) struct Sparse {
    pub(crate) disk: SimDisk,
    pub(crate) clock: ManualClock,
    pub(crate) queue: Queue,
    /// Payloads of the messages that are stuck, in their order.
    stuck: Vec<Vec<u8>>,
}

fn segments(disk: &SimDisk) -> BTreeSet<String> {
    disk.files().into_iter().filter(|name| name.ends_with(".seg")).collect()
}

impl Sparse {
    /// With so few looks left that the next duties begin a copy.
    pub(crate) fn new() -> Self {
        let (disk, clock) = (SimDisk::new(5), ManualClock::new(1_000_000));
        let options = Options::new("jobs").segment_bytes(8 << 10).sim_disk(&disk).manual_clock(&clock);
        let queue = options.threads(false).open().unwrap();
        let new = GroupOptions::new().ack_durability(Durability::Synced).start(Start::Beginning);
        let consumer = queue.create_group("g", new.max_losses(255)).unwrap().consumer();
        let mut stuck = Vec::new();
        for number in 0..10_u8 {
            // Two large ones and a small one fill a segment.
            queue.push(vec![b'a' + number; 1800].as_slice()).unwrap();
            if number % 2 == 0 {
                let payload = vec![b'A' + number; 40];
                queue.push(payload.as_slice()).unwrap();
                stuck.push(payload);
            }
        }
        let jobs: Vec<Delivery> = std::iter::from_fn(|| consumer.try_recv().unwrap()).collect();
        let (small, large): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.payload().len() == 40);
        queue.ack_all(large).unwrap();
        small.into_iter().for_each(|job| job.release().unwrap());
        Self { disk, clock, queue, stuck }
    }

    /// Returns a segment and the position in it of the batch with these bytes.
    fn place(&self, payload: &[u8]) -> (String, usize) {
        let find = |name: &String| {
            let bytes = self.disk.read_file(name).unwrap();
            bytes.windows(payload.len()).position(|part| part == payload).map(|at| at - 32)
        };
        let found = segments(&self.disk).into_iter().find_map(|name| find(&name).map(|at| (name, at)));
        found.expect("it is in some segment")
    }

    /// Works on, and has background work done.
    pub(crate) fn work(&self) {
        for _ in 0..10 {
            // Whatever comes of it is told to who comes to the damage.
            let _ = self.queue.run_duties();
            self.clock.advance(SECOND);
            self.queue.push("meanwhile").unwrap();
        }
    }

    /// Whatever is stuck comes, but for the one with the number `lost`, of which is told in this file.
    pub(crate) fn delivers(&self, lost: Option<usize>, file: &str) {
        let consumer = self.queue.group("g").unwrap().consumer();
        let (mut came, mut told) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            match consumer.try_recv() {
                Ok(None) => break,
                Ok(Some(job)) => {
                    came.extend((job.payload() != b"meanwhile").then(|| job.payload().to_vec()));
                    job.ack().unwrap();
                }
                Err(Error::Damaged { path, .. }) => told.push(path),
                Err(error) => panic!("{error}"),
            }
        }
        let mut expected = self.stuck.clone();
        lost.map(|lost| expected.remove(lost));
        assert_eq!(came, expected);
        assert_eq!(told.len(), usize::from(lost.is_some()), "{told:?}");
        assert!(told.iter().all(|path| path.ends_with(file)), "{told:?}");
    }
}

/// Spoils a source of a copy; `needed`: where somebody needs it.
type Spoil = fn(&SimDisk, &str, usize);

fn meets(spoils: &[Spoil], needed: bool) {
    for (number, spoil) in spoils.iter().enumerate() {
        // With the copy made, nothing is left of what nobody needs.
        for begun in 0..if needed { 4 } else { 2 } {
            let sparse = Sparse::new();
            // Before the first look, after it, and with the copy begun.
            for _ in 0..begun {
                sparse.queue.run_duties().unwrap();
                sparse.clock.advance(SECOND);
            }
            let before = segments(&sparse.disk);
            // One in the middle.
            let wanted = if needed { sparse.stuck[2].clone() } else { vec![b'a' + 4; 1800] };
            let (name, at) = sparse.place(&wanted);
            spoil(&sparse.disk, &name, at);
            let bytes = sparse.disk.read_file(&name).unwrap();
            println!("spoil {number} of {name} at {at}, needed {needed}, after {begun} rounds");

            sparse.work();

            let after = segments(&sparse.disk);
            let old: Vec<_> = before.intersection(&after).filter(|other| **other != name).collect();
            // The active one of then may still be there.
            assert!(old.len() <= 1, "neighbours are copied: {before:?} {after:?}");
            assert_eq!(after.contains(&name), needed, "{after:?}");
            if needed {
                assert!(sparse.disk.read_file(&name).unwrap() == bytes, "what is damaged stays as it is");
            }
            let named = sparse.queue.stats().segments;
            // And perhaps the one made ahead.
            assert!(after.len() <= named + 1, "the copy is thrown away: {after:?}");
            sparse.delivers(needed.then_some(2), &name);
        }
    }
}

fn flip_in_payload(disk: &SimDisk, name: &str, at: usize) {
    disk.flip(name, (at as u64 + 32 + 7) * 8 + 2);
}

fn flip_in_header(disk: &SimDisk, name: &str, at: usize) {
    disk.flip(name, (at as u64 + 8) * 8 + 2);
}

fn flip_in_checksum(disk: &SimDisk, name: &str, at: usize) {
    disk.flip(name, at as u64 * 8 + 2);
}

/// A write that was meant for another place.
fn astray(disk: &SimDisk, name: &str, at: usize) {
    let mut bytes = disk.read_file(name).unwrap();
    bytes.copy_within(4096..4096 + 64, at);
    disk.write_file(name, &bytes);
}

/// Lengths and counts that no writer wrote, with checksums that fit.
fn hostile(disk: &SimDisk, name: &str, at: usize) {
    forge::batch(disk, name, at, |header| header[8..12].fill(0xFF));
}

fn hostile_count(disk: &SimDisk, name: &str, at: usize) {
    forge::batch(disk, name, at, |header| header[28..31].fill(0xFF));
}

pub(crate) fn a_flip(_: Point) {
    meets(&[flip_in_payload, flip_in_header, flip_in_checksum], true);
    meets(&[flip_in_payload], false);
}

pub(crate) fn a_write_astray(_: Point) {
    meets(&[astray], true);
}

pub(crate) fn hostile_numbers(_: Point) {
    meets(&[hostile, hostile_count], true);
}

/// A source is cut short, is missing or is another's: it cannot be copied, and whoever pushes does not notice.
fn without(spoil: impl Fn(&SimDisk, &str)) {
    // As long as what is stuck lies in segments of its own.
    for begun in [0, 1] {
        let sparse = Sparse::new();
        for _ in 0..begun {
            sparse.queue.run_duties().unwrap();
            sparse.clock.advance(SECOND);
        }
        let (name, _) = sparse.place(&sparse.stuck[2]);
        spoil(&sparse.disk, &name);
        let before = all(&sparse.disk).into_iter().find(|(other, _)| *other == name);

        sparse.work();

        let after = all(&sparse.disk).into_iter().find(|(other, _)| *other == name);
        // An open handle may have what its name no longer has: then it was copied, and is gone.
        assert!(after == before || after.is_none(), "what is no source is not changed");
        let consumer = sparse.queue.group("g").unwrap().consumer();
        let mut came = BTreeSet::new();
        for _ in 0..200 {
            match consumer.try_recv() {
                Ok(None) => break,
                Ok(Some(job)) if job.payload() == b"meanwhile" => job.ack().unwrap(),
                Ok(Some(job)) => {
                    assert!(sparse.stuck.contains(&job.payload().to_vec()), "{job:?}");
                    assert!(came.insert(job.payload().to_vec()), "it comes twice");
                    job.ack().unwrap();
                }
                Err(Error::Damaged { .. }) => {}
                // Nothing is skipped: who does without it says so.
                Err(Error::Io { .. } | Error::Refused { .. }) => {
                    sparse.queue.discard(Offset::new(LOST).unwrap()).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        for (number, payload) in sparse.stuck.iter().enumerate().filter(|(number, _)| *number != 2) {
            assert!(came.contains(payload), "{number} of another segment does not come, begun {begun}");
        }
    }
}

pub(crate) fn cut_short(_: Point) {
    without(|disk, name| {
        let mut bytes = disk.read_file(name).unwrap();
        bytes.truncate(5000);
        disk.write_file(name, &bytes);
    });
}

pub(crate) fn missing(point: Point) {
    match point {
        Point::Copy => without(SimDisk::remove_file),
        _ => given_up(SimDisk::remove_file),
    }
}

pub(crate) fn another(_: Point) {
    without(|disk, name| {
        let other = segments(disk).into_iter().find(|other| other != name).unwrap();
        let other = disk.read_file(&other).unwrap();
        disk.remove_file(name);
        disk.write_file(name, &other);
    });
}

/// A file that is to be given up is not there, or is not what it was.
fn given_up(spoil: impl Fn(&SimDisk, &str)) {
    let sparse = Sparse::new();
    let (name, _) = sparse.place(&sparse.stuck[1]);
    let consumer = sparse.queue.group("g").unwrap().consumer();
    while let Some(job) = consumer.try_recv().unwrap() {
        job.ack().unwrap();
    }
    spoil(&sparse.disk, &name);
    sparse.queue.run_duties().unwrap();
    sparse.work();
    // Meanwhile the active one was filled.
    assert!(sparse.queue.stats().segments <= 2 && !segments(&sparse.disk).contains(&name));
    sparse.queue.close().unwrap();
    let options = Options::new("jobs").segment_bytes(8 << 10).sim_disk(&sparse.disk).threads(false);
    let queue = options.open().unwrap();
    assert!(queue.recovery().damaged.is_empty() && queue.recovery().lost.is_empty());
    assert!(segments(&sparse.disk).len() <= 2);
}

/// A name that the copy would have is taken: nothing of a stranger is written to, and the copy gets another.
pub(crate) fn strangers(point: Point) {
    if point == Point::Delete {
        // One with a second name is somebody else's too.
        return links_are_not_written_to();
    }
    let sparse = Sparse::new();
    let next = sparse.place(&[b'a' + 9; 1800]).0;
    let number: u64 = next["log/".len()..].trim_end_matches(".seg").parse().unwrap();
    let taken: Vec<String> = (1..3).map(|more| format!("log/{:09}.seg", number + more)).collect();
    taken.iter().filter(|name| !sparse.disk.files().contains(name)).for_each(|name| {
        sparse.disk.write_file(name, b"a stranger's");
    });
    let theirs = |disk: &SimDisk| {
        let theirs = |name: &&String| disk.read_file(name).is_some_and(|bytes| bytes == b"a stranger's");
        taken.iter().filter(theirs).count()
    };
    let before = theirs(&sparse.disk);
    assert!(before > 0);
    sparse.work();
    assert_eq!(theirs(&sparse.disk), before);
    assert!(sparse.queue.stats().segments <= 3, "{:?}", sparse.disk.files());
    sparse.delivers(None, "");
}

fn links_are_not_written_to() {
    let home = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(1_000_000);
    let options = Options::new(home.path().join("jobs")).segment_bytes(8 << 10).manual_clock(&clock);
    let queue = crate::harness::patiently(&options.threads(false));
    let group = queue.create_group("g", GroupOptions::new().start(Start::Beginning)).unwrap();
    for _ in 0..4 {
        queue.push([7; 3000].as_slice()).unwrap();
    }
    let consumer = group.consumer();
    let jobs: Vec<Delivery> = std::iter::from_fn(|| consumer.try_recv().unwrap()).collect();
    let path = |number: u32| home.path().join(format!("jobs/log/00000000{number}.seg"));
    let (second_name, elsewhere) = (home.path().join("second"), home.path().join("elsewhere"));
    std::fs::hard_link(path(1), &second_name).unwrap();
    std::fs::rename(path(2), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, path(2)).unwrap();
    let before = [&second_name, &elsewhere].map(|path| std::fs::read(path).unwrap());
    queue.ack_all(jobs).unwrap();
    for _ in 0..4 {
        let _ = queue.run_duties();
        clock.advance(SECOND);
    }
    assert_eq!(queue.stats().segments, 1);
    assert!([&second_name, &elsewhere].map(|path| std::fs::read(path).unwrap()) == before);
    assert!(!path(1).exists() && !path(2).is_symlink(), "names that are given up are gone");
    queue.close().unwrap();
}

/// Files that are removed while the queue is open.
pub(crate) fn removed(point: Point) {
    missing(point);
    let sparse = Sparse::new();
    if point == Point::Delete {
        let consumer = sparse.queue.group("g").unwrap().consumer();
        while let Some(job) = consumer.try_recv().unwrap() {
            job.ack().unwrap();
        }
    }
    // Nothing is given up on the word of a manifest that nobody will find.
    sparse.disk.remove_file("MANIFEST");
    let before = segments(&sparse.disk);
    for _ in 0..6 {
        let _ = sparse.queue.run_duties();
        sparse.clock.advance(SECOND);
        sparse.queue.push("meanwhile").unwrap();
    }
    let after = segments(&sparse.disk);
    assert!(before.is_subset(&after), "{before:?} {after:?}");
}
