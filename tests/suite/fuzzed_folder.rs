//! Does a queue whose files were changed in any way keep to what it can?
//!
//! The input chooses a small queue with a past, changes its files, and then the queue is looked at,
//! opened, drained, pushed to, closed and opened again, all on the simulated disk. Never a panic, an
//! end that never comes, or a memory that grows with a length somebody wrote; never a payload that
//! was not pushed, as long as no checksum was forged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Duration;

use backlog::testing::{ManualClock, SimDisk, bytes};
use backlog::{Consumer, DumpOptions, Durability, Error, GroupOptions, MessageState, Offset};
use backlog::{Options, Queue, Start};

use crate::choices::{Bytes, Choices};
use crate::dice::Dice;
use crate::ledger::payload;

/// The most changes of one input.
const CHANGES: usize = 12;
/// More deliveries than these queues can hold messages.
const ENDLESS: usize = 20_000;
/// Bytes that the disk has room for: a file that was told to be of any length is not made so.
const ROOM: u64 = 64 << 20;
const GROUPS: [&str; 2] = ["buffered", "synced"];

/// A queue with a past.
struct Past {
    disk: SimDisk,
    /// The same queue some time before.
    older: SimDisk,
    /// By offset.
    pushed: BTreeMap<u64, Vec<u8>>,
}

/// A queue while its files are changed.
struct Changed {
    disk: SimDisk,
    files: Vec<String>,
    /// A checksum was made right over bytes that nobody ever wrote.
    forged: bool,
}

fn options(disk: &SimDisk) -> Options {
    let clock = ManualClock::new(1_700_000_000_000);
    Options::new("jobs").sim_disk(disk).manual_clock(&clock).threads(false).segment_bytes(8192)
}

/// Queues that were closed, killed, and cut off from power.
fn pasts() -> &'static [Past] {
    static PASTS: OnceLock<Vec<Past>> = OnceLock::new();
    PASTS.get_or_init(|| (0..3).map(past).collect())
}

fn past(end: u64) -> Past {
    let mut past = Past { disk: SimDisk::new(1), older: SimDisk::new(1), pushed: BTreeMap::new() };
    let queue = options(&past.disk).open().unwrap();
    for name in GROUPS {
        let level = if name == "synced" { Durability::Synced } else { Durability::Buffered };
        queue.create_group(name, GroupOptions::new().ack_durability(level)).unwrap();
    }
    work(&queue, &mut past.pushed, 0);
    past.older = past.disk.crash(1);
    let killed = past.disk.kill();
    drop(queue);
    let queue = options(&killed).open().unwrap();
    work(&queue, &mut past.pushed, 1);
    if end == 0 {
        queue.close().unwrap();
    }
    past.disk = if end == 2 { killed.crash(7) } else { killed.kill() };
    past
}

/// Pushes at both levels, and settles in every way.
fn work(queue: &Queue, pushed: &mut BTreeMap<u64, Vec<u8>>, round: usize) {
    for id in round * 100..round * 100 + 12 {
        let (one, two) = (payload(id, id * 37 % 900), payload(id + 50, 5));
        let level = if id % 3 == 0 { Durability::Buffered } else { Durability::Synced };
        let texts = if id % 4 == 0 { vec![one, two] } else { vec![one] };
        for (offset, text) in queue.with_durability(level).push_batch(&texts).unwrap().zip(texts) {
            pushed.insert(offset.get(), text);
        }
    }
    for name in GROUPS {
        let consumer = queue.group(name).unwrap().consumer();
        for (index, job) in consumer.recv_batch(7, Duration::ZERO).unwrap().into_iter().enumerate() {
            match index % 6 {
                0..=2 => job.ack().unwrap(),
                3 => job.nack_after(Duration::from_secs(5), "no").unwrap(),
                4 => job.release().unwrap(),
                _ => job.reject("bad").unwrap(),
            }
        }
    }
}

/// The body of the target.
pub(crate) fn folder(data: &[u8]) {
    let mut choices = Bytes(data);
    let past = &pasts()[choices.size(3)];
    let disk = past.disk.crash(1);
    disk.remove_file("LOCK");
    let mut changed = Changed { files: disk.files(), disk, forged: false };
    let changes = choices.size(CHANGES as u64);
    for _ in 0..changes {
        changed.change(past, &mut choices);
    }
    changed.disk.budget(Some(ROOM));
    changed.look(past);
    changed.live(past, &mut choices);
}

impl Changed {
    /// Changes a file.
    fn change(&mut self, past: &Past, choices: &mut Bytes<'_>) {
        let name = self.files[choices.size(self.files.len() as u64)].clone();
        let Some(mut bytes) = self.disk.read_file(&name) else { return };
        let what = choices.below(13);
        let at = place(&bytes, choices);
        match what {
            0 if at < bytes.len() => bytes[at] ^= 1 << choices.below(8),
            1 => within(&mut bytes, at, 1 + choices.size(700)).fill(0),
            2 => {
                let length = 1 + choices.size(700);
                let mut noise = Dice(choices.below(1 << 16));
                let bytes = within(&mut bytes, at, length);
                bytes.iter_mut().for_each(|byte| *byte = u8::try_from(noise.below(256)).unwrap_or(0));
            }
            3 => {
                let from = self.files[choices.size(self.files.len() as u64)].clone();
                let Some(mut from) = self.disk.read_file(&from) else { return };
                let start = place(&from, choices);
                let from = within(&mut from, start, 1 + choices.size(700));
                let to = within(&mut bytes, at, from.len());
                to.copy_from_slice(&from[..to.len()]);
            }
            4 => bytes.truncate(at),
            5 => bytes.resize(bytes.len() + choices.size(1 << 16), 0),
            6 => return self.disk.remove_file(&name),
            7 | 8 => {
                let other = self.strange_name(choices);
                let swapped = self.disk.read_file(&other).filter(|_| what == 7);
                self.disk.write_file(&other, &bytes);
                let Some(swapped) = swapped else { return };
                bytes = swapped;
            }
            9 => match past.older.read_file(&name) {
                Some(older) => bytes = older,
                None => return self.disk.remove_file(&name),
            },
            _ => {
                self.forged = true;
                overwrite(&mut bytes, at, what, choices);
                let page = name.ends_with(".offsets") || name.ends_with(".seg");
                if what != 12 && page && at < 512 && bytes.len() >= 4096 {
                    // Both copies, or they are told apart.
                    bytes.copy_within(..512, 2048);
                }
                bytes::forge(&name, &mut bytes);
            }
        }
        self.disk.write_file(&name, &bytes);
    }

    /// Names a file that is there, or one that could be.
    fn strange_name(&self, choices: &mut Bytes<'_>) -> String {
        match choices.below(12) {
            0 => "MANIFEST.new".into(),
            1 => "log/000000009.seg".into(),
            2 => "log/18446744073709551615.seg".into(),
            3 => "groups/stranger/0.offsets".into(),
            4 => "quarantine/LIST".into(),
            _ => self.files[choices.size(self.files.len() as u64)].clone(),
        }
    }

    fn contents(&self) -> Vec<(String, Option<Vec<u8>>)> {
        self.disk.files().into_iter().map(|name| (name.clone(), self.disk.read_file(&name))).collect()
    }

    /// Looks, which changes nothing.
    fn look(&self, past: &Past) {
        let before = self.contents();
        let _ = options(&self.disk).inspect();
        let _ = options(&self.disk).verify();
        let _ = options(&self.disk).verify_deep();
        self.view(past);
        let mut pieces = 0;
        let _ = options(&self.disk).dump(&DumpOptions::new(), &mut |_| {
            pieces += 1;
            true
        });
        assert!(pieces < ENDLESS, "P9: a dump of {pieces} pieces");
        self.copy();
        self.salvage(past);
        assert!(self.contents() == before, "P8: looking changed a file");
    }

    /// Copies it, and makes a queue of the copy.
    fn copy(&self) {
        let [copy, again] = [5, 6].map(|seed| {
            let disk = SimDisk::new(seed);
            disk.budget(Some(ROOM));
            options(&disk)
        });
        let round = |backup: backlog::Result<backlog::Backup>| backup?.round(&mut |_| {});
        if round(options(&self.disk).backup(&copy)).is_ok() && copy.restore(&again).is_ok() {
            let queue = again.create(false).open();
            assert!(queue.is_ok(), "what was restored does not open: {queue:?}");
        }
    }

    /// Saves what can be read: nothing that was not pushed.
    fn salvage(&self, past: &Past) {
        let out = SimDisk::new(1);
        out.budget(Some(ROOM));
        let Ok(salvaged) = options(&self.disk).salvage(&options(&out)) else { return };
        let mut saved = options(&out).view().unwrap();
        let mut count = 0;
        for message in saved.messages(Offset::MIN).take(ENDLESS) {
            count += 1;
            let message = match message {
                Ok(message) => message,
                Err(_) if self.forged => continue,
                Err(error) => panic!("what was salvaged is damaged: {error}: {salvaged:?}"),
            };
            let told = past.pushed.get(&message.offset().get());
            assert!(self.forged || told.is_some_and(|told| told == message.payload()), "P2: {message:?}");
        }
        assert_eq!(count, salvaged.messages, "{salvaged:?}");
        assert_eq!(options(&out).verify().unwrap(), [], "{salvaged:?}");
        let queue = options(&out).open().unwrap_or_else(|error| panic!("{error}: {salvaged:?}"));
        assert!(self.forged || !queue.recovery().has_findings(), "{:?}", queue.recovery());
    }

    /// Looks at messages, one by one and by their state.
    fn view(&self, past: &Past) {
        let Ok(mut view) = options(&self.disk).view() else { return };
        let _ = view.inspection();
        let mut shown = 0;
        for message in view.messages(Offset::MIN).take(ENDLESS) {
            shown += 1;
            let Ok(message) = message else { continue };
            let told = past.pushed.get(&message.offset().get());
            assert!(self.forged || told.is_some_and(|told| told == message.payload()), "P2: {message:?}");
        }
        assert!(shown < ENDLESS, "P9: a look at {shown} messages");
        for name in GROUPS {
            for state in [MessageState::Ready, MessageState::Dead, MessageState::Done, MessageState::Delayed]
            {
                let Ok(messages) = view.messages_in(name, state, Offset::MIN) else { continue };
                assert!(messages.take(ENDLESS).count() < ENDLESS, "P9: endless messages in {state:?}");
            }
            let _ = view.dead(name);
        }
        for offset in (0..40).filter_map(Offset::new) {
            let _ = view.why(offset);
        }
        let _ = view.follow();
    }

    /// Opens, works and opens again.
    fn live(&self, past: &Past, choices: &mut Bytes<'_>) {
        let queue = match options(&self.disk).open() {
            Ok(queue) => queue,
            Err(first) => {
                let second = options(&self.disk).open();
                assert!(second.is_err(), "P6: refused with {first}, and opened the second time");
                return;
            }
        };
        let mut seen = BTreeSet::new();
        for name in queue.groups() {
            match queue.group(&name) {
                Ok(group) => seen.extend(self.drain(&group.consumer(), past, choices).into_keys()),
                Err(error) => assert!(self.may_say(&error), "{name}: {error}"),
            }
        }
        let fresh = queue.push("fresh");
        if let Err(error) = &fresh {
            assert!(self.may_say(error), "push: {error}");
        }
        let fresh = fresh.ok().map(|offset| offset.get());
        assert!(fresh.is_none_or(|fresh| !seen.contains(&fresh)), "P4: {fresh:?} is given twice");
        let first = self.whole(&queue, "whole", past);
        let closed = queue.close();
        assert!(closed.as_ref().is_ok() || self.forged, "{closed:?}");
        drop(queue);
        if closed.is_err() {
            return;
        }
        let queue = options(&self.disk).open().unwrap_or_else(|error| panic!("P6: opened once: {error}"));
        assert!(queue.recovery().clean, "P6: {:?}", queue.recovery());
        let second = self.whole(&queue, "again", past);
        if let (Some(first), Some(second)) = (first, second) {
            assert!(first == second, "P6: first {:?}, then {:?}", first.keys(), second.keys());
            let there = fresh.is_none_or(|fresh| first.get(&fresh).is_some_and(|text| text == b"fresh"));
            assert!(there || self.forged, "P1: the fresh message {fresh:?} is not in {:?}", first.keys());
        }
    }

    /// Reads all there is as a new group does; `None` where none can be made.
    fn whole(&self, queue: &Queue, name: &str, past: &Past) -> Option<BTreeMap<u64, Vec<u8>>> {
        match queue.create_group(name, GroupOptions::new().start(Start::Beginning)) {
            Ok(group) => Some(self.drain(&group.consumer(), past, &mut Bytes(&[]))),
            Err(error) => {
                assert!(self.may_say(&error), "create {name}: {error}");
                None
            }
        }
    }

    /// Receives until nothing comes, settling as the input says; returns what came.
    fn drain(&self, consumer: &Consumer, past: &Past, choices: &mut Bytes<'_>) -> BTreeMap<u64, Vec<u8>> {
        let mut came = BTreeMap::new();
        for _ in 0..ENDLESS {
            let job = match consumer.try_recv() {
                Ok(None) => return came,
                Ok(Some(job)) => job,
                Err(Error::Damaged { .. }) => continue,
                Err(error) => {
                    assert!(self.may_say(&error), "receive in {}: {error}", consumer.group());
                    return came;
                }
            };
            let (offset, text) = (job.offset().get(), job.payload().to_vec());
            if !self.forged && text != b"fresh" {
                assert!(past.pushed.get(&offset) == Some(&text), "P2: {offset} was never pushed so");
            }
            let settled = match choices.below(8) {
                5 => job.reject("bad"),
                6 => job.nack_after(Duration::from_secs(60), "later"),
                _ => job.ack(),
            };
            if let Err(error) = settled {
                assert!(self.may_say(&error), "settle in {}: {error}", consumer.group());
            }
            let again = came.insert(offset, text).is_some();
            assert!(!again, "P5: {offset} was settled, and came again to {}", consumer.group());
        }
        panic!("P9: {} never ends", consumer.group());
    }

    /// Tells whether an error can come of bytes that went bad; forged ones may say anything.
    fn may_say(&self, error: &Error) -> bool {
        self.forged || matches!(error, Error::Damaged { .. })
    }
}

/// Draws a place in a file: mostly one that is in use.
fn place(bytes: &[u8], choices: &mut Bytes<'_>) -> usize {
    let drawn = choices.size(1 << 16);
    if drawn % 8 == 7 {
        return drawn % (bytes.len() + 1);
    }
    let used = bytes.iter().filter(|&&byte| byte != 0).count().max(1);
    let mut used = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).skip(drawn / 8 % used);
    used.next().map_or(0, |(at, _)| at)
}

fn within(bytes: &mut [u8], at: usize, length: usize) -> &mut [u8] {
    let start = at.min(bytes.len());
    let end = (at + length).min(bytes.len()).max(start);
    &mut bytes[start..end]
}

/// Writes what a length, a count or an offset must never be, or what the input says.
fn overwrite(bytes: &mut [u8], at: usize, what: u64, choices: &mut Bytes<'_>) {
    const ODD: [u64; 10] =
        [0, 1, 7, 4096, 1 << 31, u32::MAX as u64, 1 << 48, (1 << 48) - 1, 1 << 63, u64::MAX];
    if what == 10 {
        let length = 1 + choices.size(32);
        let written = choices.take(length);
        let place = within(bytes, at, written.len());
        place.copy_from_slice(&written[..place.len()]);
        return;
    }
    let number = ODD[choices.size(10)].wrapping_add(choices.below(3)).wrapping_sub(1).to_le_bytes();
    let width = [1, 2, 4, 6, 8][choices.size(5)];
    let place = within(bytes, at & !3, width);
    let width = place.len();
    place.copy_from_slice(&number[..width]);
}
