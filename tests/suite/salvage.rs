//! Is everything that can be read of a broken queue in the new one, and nothing else?

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backlog::testing::{Aim, Call, Fault, ManualClock, SimDisk};
use backlog::{
    Durability, Error, Finding, FindingKind, GroupOptions, Limits, Message, Offset, Options, Queue, Salvaged,
    Start,
};

use crate::payload::payload;

const START: u64 = 1_700_000_000_000;
const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const MANIFEST: &str = "MANIFEST";
/// Messages of each round.
const COUNT: usize = 24;

/// A queue with a past, and what was pushed, by offset.
pub(crate) struct Past {
    pub(crate) disk: SimDisk,
    pub(crate) pushed: BTreeMap<u64, Vec<u8>>,
}

pub(crate) fn options(disk: &SimDisk) -> Options {
    Options::new("jobs")
        .sim_disk(disk)
        .manual_clock(&ManualClock::new(START))
        .threads(false)
        .segment_bytes(8192)
}

pub(crate) fn synced() -> GroupOptions {
    GroupOptions::new().ack_durability(Durability::Synced)
}

/// Two groups with messages in every state, over several segments; closed, or as a kill leaves it.
pub(crate) fn past(closed: bool) -> Past {
    let mut past = Past { disk: SimDisk::new(1), pushed: BTreeMap::new() };
    let queue = options(&past.disk).open().unwrap();
    let first = queue.create_group("first", synced().max_failures(7)).unwrap();
    queue.create_group("second", synced()).unwrap();
    push(&queue, &mut past.pushed, 0);
    let jobs = first.consumer().recv_batch(12, Duration::ZERO).unwrap();
    for (index, job) in jobs.into_iter().enumerate() {
        match index % 6 {
            0..=2 => job.ack().unwrap(),
            3 => job.nack_after(HOUR, "no").unwrap(),
            4 => job.release().unwrap(),
            _ => job.reject("bad").unwrap(),
        }
    }
    push(&queue, &mut past.pushed, 1);
    let mut jobs =
        queue.group("second").unwrap().consumer().recv_batch(3, Duration::ZERO).unwrap().into_iter();
    let out = jobs.next().unwrap().ack_with(["out"]).unwrap();
    past.pushed.extend(out.map(|offset| (offset.get(), b"out".to_vec())));
    drop(jobs);
    queue.sync().unwrap();
    if closed {
        queue.close().unwrap();
    }
    past.disk = past.disk.kill();
    past.disk.remove_file("LOCK");
    past
}

pub(crate) fn push(queue: &Queue, pushed: &mut BTreeMap<u64, Vec<u8>>, round: usize) {
    for id in round * 100..round * 100 + COUNT {
        let texts = [payload(id, 200 + id * 37 % 900), payload(id + 50, 5)];
        let messages = texts.iter().take(1 + usize::from(id % 4 == 0));
        let messages = messages.map(|text| Message::new(text).kind("work/1").header("id", id.to_string()));
        for (offset, text) in queue.push_batch(messages).unwrap().zip(&texts) {
            pushed.insert(offset.get(), text.clone());
        }
    }
}

impl Past {
    pub(crate) fn salvage(&self) -> (Salvaged, SimDisk) {
        let before = contents(&self.disk);
        let out = SimDisk::new(2);
        let salvaged = options(&self.disk).salvage(&options(&out)).unwrap();
        assert_eq!(contents(&self.disk), before, "P8: the source was changed");
        assert_eq!(options(&out).verify().unwrap(), [], "{salvaged:?}");
        (salvaged, out)
    }

    pub(crate) fn segments(&self) -> Vec<String> {
        self.disk.files().into_iter().filter(|name| name.ends_with(".seg")).collect()
    }

    /// Changes a file.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.disk.read_file(name).unwrap();
        change(&mut bytes);
        self.disk.write_file(name, &bytes);
    }
}

pub(crate) fn contents(disk: &SimDisk) -> Vec<(String, Option<Vec<u8>>)> {
    disk.files().into_iter().map(|name| (name.clone(), disk.read_file(&name))).collect()
}

/// The same once more, to be changed.
pub(crate) fn past_of(past: &Past) -> Past {
    Past { disk: past.disk.crash(1), pushed: past.pushed.clone() }
}

/// Reads all messages that are there.
pub(crate) fn messages(disk: &SimDisk) -> BTreeMap<u64, Vec<u8>> {
    let mut view = options(disk).view().unwrap();
    let messages = view.messages(Offset::MIN).map(|message| message.unwrap());
    messages.map(|message| (message.offset().get(), message.payload().to_vec())).collect()
}

/// Tells of a group of a disk that nobody has open: counts, dead letters, and what comes within hours.
pub(crate) fn told(disk: &SimDisk, name: &str) -> String {
    let (disk, clock) = (disk.crash(1), ManualClock::new(START));
    let queue = options(&disk).manual_clock(&clock).open().unwrap();
    let group = queue.group(name).unwrap();
    let stats = group.stats();
    let dead: Vec<_> = group.dead().iter().map(|dead| (dead.offset.get(), dead.reason)).collect();
    let policy = group.options().unwrap();
    let mut came = Vec::new();
    for hours in 0..3 {
        loop {
            match group.consumer().try_recv() {
                Ok(None) => break,
                Ok(Some(job)) => {
                    came.push((job.offset().get(), job.attempt(), hours));
                    job.ack().unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        clock.advance(HOUR);
    }
    format!("{:?} dead {dead:?} comes {came:?} {policy:?}", (stats.ready, stats.delayed, stats.on_loan))
}

fn kinds(salvaged: &Salvaged) -> Vec<FindingKind> {
    salvaged.findings.iter().map(|finding| finding.kind).collect()
}

fn names(findings: &[Finding]) -> Vec<String> {
    let name = |finding: &Finding| {
        finding.path.strip_prefix("simulated").unwrap_or(&finding.path).display().to_string()
    };
    findings.iter().map(name).collect()
}

/// Bases and ends of the segments that the manifest names.
pub(crate) fn spans(disk: &SimDisk) -> Vec<(u64, u64)> {
    let seen = options(disk).inspect().unwrap();
    seen.segments.iter().map(|segment| (segment.base, segment.end)).collect()
}

#[test]
fn of_a_sound_queue_everything_is_salvaged() {
    for closed in [true, false] {
        let past = past(closed);
        let first = told(&past.disk, "first");

        let (salvaged, out) = past.salvage();

        assert!(salvaged.is_whole(), "{salvaged:?}");
        assert_eq!(messages(&out), past.pushed);
        assert_eq!(salvaged.messages, past.pushed.len() as u64);
        assert_eq!(told(&out, "first"), first);
        assert_eq!(told(&out, "second"), told(&past.disk, "second"));
        assert_eq!(options(&out).verify_deep().unwrap(), []);
        let (old, new) = (options(&past.disk).inspect().unwrap(), options(&out).inspect().unwrap());
        assert_ne!(old.id, new.id);
        assert!(new.next_offset >= old.next_offset && new.segments.len() > 2);
    }
}

#[test]
fn a_message_keeps_its_attributes_its_time_and_its_batch() {
    let past = past(true);

    let (_, out) = past.salvage();

    let told = |disk: &SimDisk| -> Vec<String> {
        let mut view = options(disk).view().unwrap();
        let each = view.messages(Offset::MIN).map(|message| {
            let message = message.unwrap();
            format!(
                "{} {:?} {:?} {:?}",
                message.offset(),
                message.kind(),
                message.header("id"),
                message.pushed_at()
            )
        });
        each.collect()
    };
    assert_eq!(told(&out), told(&past.disk));
    let batches = |disk: &SimDisk| {
        let mut batches = Vec::new();
        let dump = backlog::DumpOptions::new();
        let shown = options(disk).dump(&dump, &mut |piece| {
            let fact =
                |name| piece.facts.iter().find(|fact| fact.0 == name).map(|fact| format!("{:?}", fact.1));
            if piece.what == "batch" {
                batches.push((fact("base"), fact("end"), fact("time")));
            }
            true
        });
        shown.unwrap();
        batches
    };
    assert_eq!(batches(&out), batches(&past.disk));
}

#[test]
fn without_a_manifest_everything_is_there_all_the_same() {
    for closed in [true, false] {
        let past = past(closed);
        let (first, second) = (told(&past.disk, "first"), told(&past.disk, "second"));
        past.disk.remove_file(MANIFEST);

        let (salvaged, out) = past.salvage();

        assert_eq!(names(&salvaged.findings), [MANIFEST]);
        assert_eq!(messages(&out), past.pushed);
        assert_eq!((told(&out, "first"), told(&out, "second")), (first, second));
        assert!(salvaged.groups.iter().all(|group| group.taken_over && group.lost == 0));
    }
}

#[test]
fn no_offset_is_given_twice_whatever_is_left() {
    for without in [false, true] {
        let past = past(false);
        if without {
            past.disk.remove_file(MANIFEST);
        }
        let (salvaged, out) = past.salvage();
        // What the old queue gives next, it may have told somebody already.
        let old = options(&past.disk.crash(1));
        let queue = options(&out).open().unwrap();

        let offset = queue.push("new").unwrap().get();

        assert_eq!(offset, salvaged.next_offset);
        if !without {
            assert!(offset >= old.open().unwrap().push("old").unwrap().get());
        }
        queue.close().unwrap();
        assert_eq!(messages(&out).len(), past.pushed.len() + 1);
    }
}

#[test]
fn a_segment_without_its_header_page_is_read_with_the_salt_that_its_batches_prove() {
    for manifest in [true, false] {
        let past = past(false);
        if !manifest {
            past.disk.remove_file(MANIFEST);
        }
        let segments = past.segments();
        for name in &segments[..segments.len() - 1] {
            past.change(name, |bytes| bytes[..4096].fill(0));
        }

        let (salvaged, out) = past.salvage();

        let there = messages(&out);
        let lost: BTreeSet<u64> =
            past.pushed.keys().filter(|&offset| !there.contains_key(offset)).copied().collect();
        // A segment with one batch proves nothing by itself.
        assert!(manifest && lost.is_empty() || !manifest && lost.len() < 8, "{lost:?}");
        assert!(there.iter().all(|(offset, text)| past.pushed.get(offset) == Some(text)));
        assert!(kinds(&salvaged).contains(&FindingKind::Damaged), "{salvaged:?}");
    }
}

#[test]
fn of_a_segment_that_is_missing_its_messages_are_lost_and_no_others() {
    let sound = past(false);
    let (spans, named) = (spans(&sound.disk), sound.segments());
    for (index, (base, end)) in spans.into_iter().enumerate() {
        for manifest in [true, false] {
            let past = past(false);
            past.disk.remove_file(&named[index]);
            if !manifest {
                past.disk.remove_file(MANIFEST);
            }

            let (salvaged, out) = past.salvage();

            let mut left = past.pushed.clone();
            left.retain(|&offset, _| !(base..end).contains(&offset));
            assert_eq!(messages(&out), left, "{}", named[index]);
            if manifest {
                assert!(names(&salvaged.findings).contains(&named[index]), "{salvaged:?}");
            }
            // What a group had come to and not done is told as a dead letter; nothing else has changed.
            let queue = options(&out).open().unwrap();
            assert!(!queue.recovery().has_findings(), "{:?}", queue.recovery());
            for told in &salvaged.groups {
                let dead = queue.group(&told.name).unwrap().dead();
                let lost = dead.iter().filter(|dead| dead.reason == backlog::DeadReason::Damaged);
                let lost: u64 = lost.map(|dead| dead.length).sum();
                assert_eq!(lost, told.lost, "{dead:?}");
            }
        }
    }
}

/// A queue of which much is done, before its space comes back and after: copies instead of their sources.
fn rewritten() -> (Past, Past) {
    let disk = SimDisk::new(1);
    let queue = options(&disk).open().unwrap();
    let group = queue.create_group("first", synced()).unwrap();
    let mut pushed = BTreeMap::new();
    push(&queue, &mut pushed, 0);
    push(&queue, &mut pushed, 1);
    for job in group.consumer().recv_batch(48, Duration::ZERO).unwrap() {
        // All of the first segments, and most of the next.
        let offset = job.offset().get();
        if offset < 10 || offset % 9 != 0 {
            job.ack().unwrap();
        }
    }
    queue.sync().unwrap();
    let before = Past { disk: disk.crash(1), pushed: pushed.clone() };
    assert!(queue.compact().unwrap());
    queue.close().unwrap();
    (before, Past { disk: disk.kill(), pushed })
}

#[test]
fn a_freed_segment_that_still_lies_there_is_no_part_of_the_queue() {
    let (before, after) = rewritten();
    let there = messages(&after.disk);
    assert!(there.len() < after.pushed.len());
    for name in before.segments() {
        if after.disk.read_file(&name).is_none() {
            after.disk.write_file(&name, &before.disk.read_file(&name).unwrap());
        }
    }

    let (_, out) = after.salvage();

    assert_eq!(messages(&out), there);
}

#[test]
fn each_message_is_there_once_where_copies_lie_beside_their_sources() {
    let (before, after) = rewritten();
    let (copies, copied) = (after.segments(), messages(&after.disk));
    for name in before.segments() {
        if !copies.contains(&name) {
            after.disk.write_file(&name, &before.disk.read_file(&name).unwrap());
        }
    }
    let there = messages(&before.disk);
    after.disk.remove_file(MANIFEST);

    let (salvaged, out) = after.salvage();

    assert_eq!(messages(&out), there, "{copies:?} {salvaged:?}");
    // And what is bad in one is taken from the other.
    let lost = before.segments().into_iter().find(|name| !copies.contains(name)).unwrap();
    after.change(&lost, |bytes| bytes[4096..].fill(0));
    let (_, out) = after.salvage();
    let left = messages(&out);
    assert!(copied.keys().all(|offset| left.contains_key(offset)));
}

#[test]
fn what_a_device_cannot_read_costs_no_more_than_its_surroundings() {
    let past = past(false);
    let name = past.segments()[1].clone();
    past.disk.aim(Aim::at(Call::Read, name.clone()).after(1), Fault::ReadIo);
    let out = SimDisk::new(2);

    let salvaged = options(&past.disk).salvage(&options(&out)).unwrap();

    past.disk.heal();
    assert!(messages(&out).len() + 8 > past.pushed.len(), "{salvaged:?}");
}

#[test]
fn what_belongs_to_another_queue_is_left_out() {
    let (past, other) = (past(false), SimDisk::new(9));
    let queue = options(&other).open().unwrap();
    queue.push("strange").unwrap();
    queue.close().unwrap();
    let strange = other.read_file("log/000000001.seg").unwrap();
    for (name, manifest) in
        [("log/000000099.seg", true), ("log/000000099.seg", false), ("log/000000001.seg", true)]
    {
        let past = past_of(&past);
        past.disk.write_file(name, &strange);
        if !manifest {
            past.disk.remove_file(MANIFEST);
        }

        let (_, out) = past.salvage();

        let there = messages(&out);
        assert!(there.iter().all(|(offset, text)| past.pushed.get(offset) == Some(text)), "{name}");
        assert!(name.contains("001") || there == past.pushed, "{name} {manifest}");
    }
}

#[test]
fn segments_that_changed_their_names_are_found_by_what_they_say() {
    for manifest in [true, false] {
        let past = past(false);
        let segments = past.segments();
        let [one, two] = [0, 1].map(|index| past.disk.read_file(&segments[index]).unwrap());
        past.disk.write_file(&segments[0], &two);
        past.disk.write_file(&segments[1], &one);
        if !manifest {
            past.disk.remove_file(MANIFEST);
        }

        let (_, out) = past.salvage();

        assert_eq!(messages(&out), past.pushed);
    }
}

#[test]
fn limits_and_schedules_come_along() {
    let disk = SimDisk::new(1);
    let queue = options(&disk).max_messages(500).open().unwrap();
    queue.push("x").unwrap();
    queue.close().unwrap();
    let out = SimDisk::new(2);

    options(&disk).salvage(&options(&out)).unwrap();

    let limits: Limits = options(&out).inspect().unwrap().limits;
    assert_eq!(limits, options(&disk).inspect().unwrap().limits);
}

#[test]
fn nothing_is_written_where_anything_else_lies() {
    let past = past(true);
    let full = SimDisk::new(2);
    full.write_file("stranger", b"x");
    let queue = SimDisk::new(3);
    options(&queue).open().unwrap().close().unwrap();
    // A queue that has lost its manifest is none, and yet somebody's.
    let lost = self::past(true).disk;
    lost.remove_file(MANIFEST);
    for (disk, refused) in [(&full, false), (&queue, true), (&lost, false)] {
        let before = contents(disk);

        let error = options(&past.disk).salvage(&options(disk)).unwrap_err();

        let fits = match error {
            Error::Refused { .. } => refused,
            Error::NotAQueue { .. } => !refused,
            _ => false,
        };
        assert!(fits, "{error}");
        assert_eq!(contents(disk), before);
    }
    let nothing = options(&SimDisk::new(4)).salvage(&options(&SimDisk::new(5))).unwrap_err();
    assert!(matches!(nothing, Error::NotAQueue { .. }), "{nothing}");
}

#[test]
fn what_was_salvaged_lives_on() {
    let past = past(false);
    let (salvaged, out) = past.salvage();
    let queue = options(&out).open().unwrap();
    let group = queue.create_group("new", synced().start(Start::Beginning)).unwrap();
    let new = queue.push("new").unwrap().get();

    let mut came = BTreeMap::new();
    while let Some(job) = group.consumer().try_recv().unwrap() {
        came.insert(job.offset().get(), job.payload().to_vec());
        job.ack().unwrap();
    }

    let mut expected = past.pushed;
    expected.insert(new, b"new".to_vec());
    assert_eq!((came, new), (expected, salvaged.next_offset));
    for name in ["first", "second"] {
        queue.remove_group(name).unwrap();
    }
    queue.compact().unwrap();
    queue.close().unwrap();
    assert_eq!(options(&out).verify_deep().unwrap(), []);
}
