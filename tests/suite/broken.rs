//! What a hostile reader tried: damage, races and faults in odd places.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backlog::testing::{ManualClock, SimDisk};
use backlog::{Durability, Error, GroupOptions, Options, Queue};

use crate::watch;

pub(crate) fn options(disk: &SimDisk, clock: &ManualClock) -> Options {
    Options::new("jobs").sim_disk(disk).manual_clock(clock).threads(false).segment_bytes(8192)
}

/// A generator of numbers (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

struct Past {
    disk: SimDisk,
    clock: ManualClock,
    /// Offset: payload and batch.
    pushed: BTreeMap<u64, (Vec<u8>, u64)>,
    done: BTreeMap<&'static str, BTreeSet<u64>>,
    dead: BTreeMap<&'static str, BTreeSet<u64>>,
}

fn past(closed: bool) -> Past {
    let disk = SimDisk::new(1);
    let clock = ManualClock::new(1_700_000_000_000);
    let mut past = Past {
        disk: disk.clone(),
        clock: clock.clone(),
        pushed: BTreeMap::new(),
        done: BTreeMap::new(),
        dead: BTreeMap::new(),
    };
    let queue = options(&disk, &clock).open().unwrap();
    queue.create_group("buffered", GroupOptions::new()).unwrap();
    queue.create_group("synced", GroupOptions::new().ack_durability(Durability::Synced)).unwrap();
    let mut batch = 0;
    let mut push = |queue: &Queue, past: &mut Past, from: u64, to: u64| {
        for number in from..to {
            batch += 1;
            let text = |part: u64| format!("{number}-{part}:").repeat(1 + (number as usize * 7) % 60);
            if number % 4 == 0 {
                let texts: Vec<_> = (0..3).map(text).collect();
                for (offset, text) in queue.push_batch(&texts).unwrap().zip(&texts) {
                    past.pushed.insert(offset.get(), (text.clone().into_bytes(), batch));
                }
            } else {
                let text = text(0);
                let offset = queue.push(&text[..]).unwrap();
                past.pushed.insert(offset.get(), (text.into_bytes(), batch));
            }
        }
    };
    push(&queue, &mut past, 0, 20);
    let settle = |queue: &Queue, past: &mut Past| {
        for name in ["buffered", "synced"] {
            let consumer = queue.group(name).unwrap().consumer();
            for (index, job) in consumer.recv_batch(12, Duration::ZERO).unwrap().into_iter().enumerate() {
                let offset = job.offset().get();
                match index % 6 {
                    0..=2 => {
                        past.done.entry(name).or_default().insert(offset);
                        job.ack().unwrap();
                    }
                    3 => job.nack_after(Duration::from_secs(5), "no").unwrap(),
                    4 => job.release().unwrap(),
                    _ => {
                        past.dead.entry(name).or_default().insert(offset);
                        job.reject("bad").unwrap();
                    }
                }
            }
        }
    };
    settle(&queue, &mut past);
    past.disk = disk.kill();
    drop(queue);
    let queue = options(&past.disk, &clock).open().unwrap();
    push(&queue, &mut past, 20, 40);
    settle(&queue, &mut past);
    push(&queue, &mut past, 40, 44);
    if closed {
        queue.close().unwrap();
    }
    let killed = past.disk.kill();
    drop(queue);
    past.disk = killed;
    past
}

/// What one case shows that must not be; `Ok(true)` when the queue opened.
fn look(past: &Past, disk: &SimDisk, flips: usize) -> Result<bool, String> {
    let queue = match options(disk, &past.clock).open() {
        Ok(queue) => queue,
        Err(_) => return Ok(false),
    };
    past.clock.advance(Duration::from_secs(10));
    let recovery = queue.recovery().clone();
    for name in ["buffered", "synced"] {
        let group = match queue.group(name) {
            Ok(group) => group,
            Err(Error::Damaged { .. }) => continue,
            Err(error) => return Err(format!("{name}: {error}")),
        };
        let consumer = group.consumer();
        let (mut seen, mut damaged) = (BTreeSet::new(), Vec::new());
        let mut steps = 0;
        loop {
            steps += 1;
            if steps > 1000 {
                return Err(format!("{name} never ends"));
            }
            match consumer.try_recv() {
                Ok(None) => break,
                Ok(Some(job)) => {
                    let offset = job.offset().get();
                    if past.pushed.get(&offset).is_none_or(|(text, _)| text != job.payload()) {
                        return Err(format!("{name}: {offset} was never pushed so"));
                    }
                    if !seen.insert(offset) {
                        return Err(format!("{name}: {offset} twice"));
                    }
                    job.ack().map_err(|error| format!("{name}: ack {error}"))?;
                }
                Err(Error::Damaged { offsets, .. }) => damaged.push(offsets.unwrap_or(0..u64::MAX)),
                Err(error) => return Err(format!("{name}: recv {error}")),
            }
        }
        let none = BTreeSet::new();
        let done = past.done.get(name).unwrap_or(&none);
        let dead = past.dead.get(name).unwrap_or(&none);
        if recovery.torn_entries == 0
            && flips == 1
            && let Some(again) = seen.iter().find(|offset| done.contains(offset) || dead.contains(offset))
        {
            return Err(format!("{name}: {again} again"));
        }
        let missing: Vec<u64> = past
            .pushed
            .keys()
            .copied()
            .filter(|offset| !seen.contains(offset) && !done.contains(offset) && !dead.contains(offset))
            .collect();
        let torn = recovery.torn_bytes > 0;
        for offset in &missing {
            let told = damaged.iter().any(|range| range.contains(offset))
                || recovery
                    .damaged
                    .iter()
                    .any(|damage| (damage.offsets.0..damage.offsets.1).contains(offset));
            if !told && !torn {
                return Err(format!(
                    "{name}: {offset} missing in silence, of {missing:?}; {damaged:?} {recovery:?}"
                ));
            }
        }
        let batches: BTreeSet<u64> = missing.iter().map(|offset| past.pushed[offset].1).collect();
        if flips == 1 && batches.len() > 1 {
            return Err(format!("{name}: one flip takes {missing:?}; {damaged:?} {recovery:?}"));
        }
        let stats = group.stats();
        if stats.ready != 0 || stats.on_loan != 0 {
            return Err(format!("{name}: drained, yet {stats:?} {damaged:?}"));
        }
    }
    queue.close().map_err(|error| format!("close {error}"))?;
    Ok(true)
}

fn fuzz(closed: bool, cases: u64, flips: usize) {
    let cases = cases * times();
    let past = past(closed);
    let mut places: Vec<(String, u64)> = Vec::new();
    for file in past.disk.files() {
        let bytes = past.disk.read_file(&file).unwrap();
        for (at, byte) in bytes.iter().enumerate() {
            if *byte != 0 || at % 97 == 0 {
                places.push((file.clone(), at as u64));
            }
        }
    }
    let mut dice = Dice(u64::from(closed) + 7 * flips as u64);
    let mut opened = 0;
    let mut broken: BTreeMap<String, String> = BTreeMap::new();
    for _ in 0..cases {
        let disk = past.disk.crash(1);
        let mut story = String::new();
        for _ in 0..flips {
            let (file, at) = &places[dice.below(places.len() as u64) as usize];
            let bit = at * 8 + dice.below(8);
            disk.flip(file, bit);
            story += &format!("{file} bit {bit}; ");
        }
        let _watched = watch::over(&story);
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&past, &disk, flips)));
        match found {
            Ok(Ok(true)) => opened += 1,
            Ok(Ok(false)) => {}
            Ok(Err(problem)) => {
                broken.entry(problem).or_insert(story);
            }
            Err(_) => {
                broken.entry("panic".into()).or_insert(story);
            }
        }
    }
    let told: Vec<_> = broken.iter().take(25).collect();
    assert!(broken.is_empty(), "{} of {cases} ({opened} opened): {told:#?}", broken.len());
    println!("{opened} of {cases} opened, {} places", places.len());
}

/// One bit of any file of a closed queue goes bad: whatever opens hands out what was pushed, all of
/// it but one batch, and names that.
#[test]
fn issue_3_one_bad_bit_in_a_closed_queue_takes_one_batch_at_most_and_is_told() {
    fuzz(true, 4000, 1);
}

/// The same after kill -9: nothing was marked or closed.
#[test]
fn issue_3_one_bad_bit_in_a_killed_queue_takes_one_batch_at_most_and_is_told() {
    fuzz(false, 4000, 1);
}

/// Several bits at once: no panic, no end of reading that never comes, no payload that was not pushed.
#[test]
fn issue_3_several_bad_bits_are_never_delivered_and_never_hang() {
    fuzz(false, 2000, 4);
}

/// A sector of any file of a closed queue is zeroed, filled with noise, or overwritten with another
/// sector; a file is shortened or gone: what opens delivers what was pushed, and names what it misses.
#[test]
fn issue_3_a_bad_sector_or_a_short_file_is_never_delivered_and_never_silent() {
    let past = past(true);
    let files: Vec<String> = past.disk.files().into_iter().filter(|name| name != "LOCK").collect();
    let mut broken: BTreeMap<String, String> = BTreeMap::new();
    let mut opened = 0;
    for seed in 0..3000 * times() {
        let mut dice = Dice(seed);
        let disk = past.disk.crash(1);
        let name = &files[dice.below(files.len() as u64) as usize];
        let mut bytes = disk.read_file(name).unwrap();
        let sectors = bytes.len() as u64 / 512;
        let at = (dice.below(sectors) * 512) as usize;
        let what = dice.below(8);
        match what {
            0 | 1 => bytes[at..at + 512].fill(0),
            2 | 3 => bytes[at..at + 512].iter_mut().for_each(|byte| *byte = dice.below(256) as u8),
            4 | 5 => {
                let from = (dice.below(sectors) * 512) as usize;
                bytes.copy_within(from..from + 512, at);
            }
            6 => bytes.truncate(at),
            _ => {}
        }
        if what == 7 {
            disk.remove_file(name)
        } else {
            disk.write_file(name, &bytes)
        }
        let _watched = watch::over(format!("{name}, seed {seed}"));
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&past, &disk, 2)));
        match found {
            Ok(Ok(yes)) => opened += u64::from(yes),
            Ok(Err(problem)) => drop(broken.insert(problem, format!("{name} {what} {at}"))),
            Err(_) => drop(broken.insert("panic".into(), format!("{name} {what} {at}"))),
        }
    }
    let told: Vec<_> = broken.iter().take(25).collect();
    assert!(broken.is_empty(), "{} broken, {opened} opened: {told:#?}", broken.len());
    println!("{opened} opened");
}

/// `BACKLOG_TIMES=10` tries ten times as much.
pub(crate) fn times() -> u64 {
    std::env::var("BACKLOG_TIMES").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}
