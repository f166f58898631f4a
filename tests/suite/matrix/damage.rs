//! Are bytes that have gone bad never delivered, never passed over in silence, and do they cost only
//! themselves?

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use backlog::testing::{Aim, Call, Fault, SimDisk};
use backlog::{Durability, Error, FindingKind, GroupOptions, Options, Queue, Recovery, Start};

use super::stage::{all, verify};
use super::table::Point;

pub(crate) const FIRST: &str = "log/000000001.seg";

/// A queue of several segments, closed or left by a dead process, and what is known of it.
pub(crate) struct Kept {
    pub(crate) disk: SimDisk,
    pushed: BTreeMap<u64, Vec<u8>>,
    acked: BTreeSet<u64>,
}

/// What came of a damaged queue that opened.
pub(crate) struct Seen {
    pub(crate) recovery: Recovery,
    /// Damage that consumers were told of: file, position, offsets.
    told: Vec<(String, u64, Range<u64>)>,
    pub(crate) missing: BTreeSet<u64>,
}

fn options(disk: &SimDisk) -> Options {
    Options::new("jobs").segment_bytes(8 << 10).sim_disk(disk).threads(false)
}

pub(crate) fn open(disk: &SimDisk) -> Result<Queue, Error> {
    options(disk).open()
}

impl Kept {
    pub(crate) fn new(closed: bool) -> Self {
        let disk = SimDisk::new(5);
        let queue = open(&disk).unwrap();
        let group = |name| {
            let new = GroupOptions::new().ack_durability(Durability::Synced).start(Start::Beginning);
            queue.create_group(name, new.max_losses(255)).unwrap().consumer()
        };
        let (consumer, _) = (group("g"), group("other"));
        let (mut pushed, mut acked) = (BTreeMap::new(), BTreeSet::new());
        for number in 0..14_u8 {
            let payload = vec![b'a' + number; 600];
            pushed.insert(queue.push(&payload).unwrap().get(), payload);
        }
        for _ in 0..2 {
            let job = consumer.recv().unwrap();
            acked.insert(job.offset().get());
            job.ack().unwrap();
        }
        if closed {
            queue.close().unwrap();
        }
        Self { disk: disk.kill(), pushed, acked }
    }

    pub(crate) fn copy(&self) -> SimDisk {
        self.disk.crash(1)
    }

    pub(crate) fn segments(&self) -> Vec<String> {
        let mut names = self.disk.files();
        names.retain(|name| name.ends_with(".seg"));
        names
    }

    /// Returns the segment of a message, and where its batch begins.
    pub(crate) fn place(&self, offset: u64) -> (String, usize) {
        let payload = &self.pushed[&offset];
        for name in self.segments() {
            let bytes = self.disk.read_file(&name).unwrap();
            if let Some(at) = bytes.windows(600).position(|part| part == payload) {
                return (name, at - 32);
            }
        }
        panic!("message {offset} is in no segment")
    }

    fn last(&self) -> u64 {
        *self.pushed.last_key_value().unwrap().0
    }

    /// Opens and reads a damaged disk: nothing wrong comes, nothing is missing in silence, nothing
    /// bad is changed, and pushing, closing and opening go on.
    pub(crate) fn opens(&self, disk: &SimDisk) -> Seen {
        let before: BTreeMap<String, Vec<u8>> = all(disk).into_iter().collect();
        let queue = open(disk).unwrap_or_else(|error| panic!("{error}"));
        let recovery = queue.recovery().clone();
        let consumer = queue.group("g").unwrap().consumer();
        let (mut seen, mut told) = (BTreeSet::new(), Vec::new());
        for _ in 0..100 {
            match consumer.try_recv() {
                Ok(None) => break,
                Ok(Some(job)) => {
                    let offset = job.offset().get();
                    assert_eq!(Some(&job.payload().to_vec()), self.pushed.get(&offset), "offset {offset}");
                    assert!(!self.acked.contains(&offset), "offset {offset} was acked");
                    assert!(seen.insert(offset), "offset {offset} came twice");
                    job.ack().unwrap();
                }
                Err(Error::Damaged { path, position, offsets, .. }) => {
                    let name = path.strip_prefix("simulated").unwrap().to_str().unwrap().to_owned();
                    told.push((name, position, offsets.expect("the log tells offsets")));
                }
                Err(error) => panic!("{error}"),
            }
        }
        let done = |offset: &u64| seen.contains(offset) || self.acked.contains(offset);
        let missing: BTreeSet<u64> = self.pushed.keys().copied().filter(|offset| !done(offset)).collect();
        for offset in &missing {
            let named = told.iter().any(|(.., offsets)| offsets.contains(offset))
                || recovery.lost.iter().any(|lost| (lost.offsets.0..lost.offsets.1).contains(offset))
                || recovery.torn_bytes > 0;
            assert!(named, "offset {offset} is missing in silence");
        }
        let next = queue.push("next").unwrap().get();
        assert!(next > self.last());
        for (name, bytes) in before.iter().filter(|(name, _)| self.segments().contains(name)) {
            let after = disk.read_file(name).unwrap();
            // What was promised is as it was, bad or not: opening cuts and clears nothing.
            let promised =
                if *name == self.place(self.last()).0 { self.place(self.last()).1 } else { bytes.len() };
            assert!(after[..promised] == bytes[..promised], "{name} was changed");
        }
        queue.close().unwrap();
        let queue = open(&disk.crash(0)).unwrap();
        let job = queue.group("g").unwrap().consumer().try_recv().unwrap();
        let job = job.unwrap_or_else(|| {
            panic!("{:?} {:?} {:?} next {next}", queue.recovery(), queue.stats(), disk.files())
        });
        assert_eq!(job.payload(), b"next", "the next opening goes on behind the damage");
        Seen { recovery, told, missing }
    }

    /// The opening refuses and changes nothing; with the cause gone, all is there.
    pub(crate) fn refuses(&self, spoil: impl Fn(&SimDisk), matches: impl Fn(&Error) -> bool) {
        let disk = self.copy();
        let good: Vec<(String, Vec<u8>)> = all(&disk);
        spoil(&disk);
        let spoilt = all(&disk);

        let error = open(&disk).expect_err("the opening takes no notice");

        assert!(matches(&error), "{error:?}");
        assert_eq!(all(&disk), spoilt, "a refusal changes nothing");
        let names: BTreeSet<String> = good.iter().map(|(name, _)| name.clone()).collect();
        disk.files().iter().filter(|name| !names.contains(*name)).for_each(|name| disk.remove_file(name));
        good.iter().for_each(|(name, bytes)| disk.write_file(name, bytes));
        assert_eq!(self.opens(&disk).missing, BTreeSet::new(), "the cause being gone");
    }
}

/// One who looks names what is wrong, of that kind, in that file, and changes nothing.
pub(crate) fn reports(disk: &SimDisk, kind: FindingKind, file: &str) {
    let before = all(disk);
    match verify(disk) {
        Ok(findings) => {
            let fits = |finding: &backlog::Finding| finding.kind == kind && finding.path.ends_with(file);
            assert!(findings.iter().any(fits), "{kind:?} {file}: {findings:?}");
        }
        // Without a manifest to go by there is nothing to look through.
        Err(Error::Refused { path, .. } | Error::Version { path, .. }) => assert!(path.ends_with(file)),
        Err(error) => panic!("{error:?}"),
    }
    assert_eq!((all(disk), disk.ops()), (before, 0), "looking changes nothing");
}

pub(crate) fn is_refused(error: &Error) -> bool {
    matches!(error, Error::Refused { .. })
}

/// Payload, body length, base, mark and checksum of a batch, in bytes from its beginning.
const PARTS: [usize; 5] = [32 + 77, 8, 16, 12, 0];

pub(crate) fn a_flip_in_promised_bytes(point: Point) {
    for closed in [true, false] {
        let kept = Kept::new(closed);
        // In a sealed segment and in the active one, where later batches prove it.
        for offset in [3, kept.last() - 1] {
            let (name, at) = kept.place(offset);
            for part in PARTS {
                let disk = kept.copy();
                disk.flip(&name, (at + part) as u64 * 8 + 2);
                if point == Point::Inspect {
                    reports(&disk, FindingKind::Damaged, &name);
                    continue;
                }
                let seen = kept.opens(&disk);
                assert_eq!(seen.missing, BTreeSet::from([offset]), "byte {part}");
                let [(file, position, offsets)] = &seen.told[..] else { panic!("{:?}", seen.told) };
                let near = at as u64..at as u64 + 33;
                assert!(*file == name && near.contains(position), "{file} at {position}, damaged at {at}");
                assert_eq!(*offsets, offset..offset + 1);
                assert_eq!(seen.recovery.torn_bytes, 0);
            }
        }
    }
}

pub(crate) fn a_flip_in_the_unproven_end(point: Point) {
    let kept = Kept::new(false);
    let (name, at) = kept.place(kept.last());
    for part in PARTS {
        let disk = kept.copy();
        disk.flip(&name, (at + part) as u64 * 8 + 2);
        if point == Point::Inspect {
            reports(&disk, FindingKind::Torn, &name);
            continue;
        }
        let bytes = disk.read_file(&name).unwrap();
        let seen = kept.opens(&disk);
        assert_eq!(seen.missing, BTreeSet::from([kept.last()]), "byte {part}");
        assert!(seen.told.is_empty() && seen.recovery.damaged.is_empty());
        let evidence = seen.recovery.evidence.unwrap();
        let evidence = format!("quarantine/{}", evidence.file_name().unwrap().to_str().unwrap());
        let aside = disk.read_file(&evidence).unwrap();
        assert_eq!(aside, bytes[at..at + aside.len()], "the bytes are kept aside");
    }
}

pub(crate) fn a_flip_in_a_group_or_the_manifest(point: Point) {
    let kept = Kept::new(true);
    let files: Vec<String> =
        kept.disk.files().into_iter().filter(|name| name.starts_with("groups/g/")).collect();
    // One copy of a header, and of a slot: told, and made good.
    for (name, byte) in [(&files[0], 40), (&files[1], 2048 + 40), (&"MANIFEST".to_owned(), 70)] {
        let disk = kept.copy();
        disk.flip(name, byte * 8);
        if point == Point::Inspect {
            let file = if name.starts_with("groups") { "groups/g" } else { name };
            reports_if_held(&disk, FindingKind::Wounded, file);
            continue;
        }
        assert_eq!(kept.opens(&disk).missing, BTreeSet::new());
    }
    // Both copies: the group is refused, or the newest half is not the one that was hit.
    for name in &files {
        let disk = kept.copy();
        for byte in [40, 2048 + 40, 4096 + 20] {
            disk.flip(name, byte * 8);
        }
        if point == Point::Inspect {
            continue;
        }
        let queue = open(&disk).unwrap();
        assert_eq!(queue.group("other").unwrap().consumer().try_recv().unwrap().unwrap().offset().get(), 0);
        queue.push("the others go on").unwrap();
        match queue.group("g") {
            Err(Error::Damaged { path, .. }) => {
                assert!(path.to_str().unwrap().contains("groups/g/"));
                assert_eq!(queue.recovery().refused_groups.len(), 1);
            }
            Ok(group) => {
                let first = group.consumer().try_recv().unwrap().unwrap().offset().get();
                assert!(!kept.acked.contains(&first), "{first} was acked");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    let damaged = files.iter().filter(|name| {
        let disk = kept.copy();
        [40, 2048 + 40].into_iter().for_each(|byte| disk.flip(name, byte * 8));
        open(&disk).unwrap().group("g").is_err()
    });
    assert_eq!(damaged.count(), 1, "the half that holds is one of them");
    // All copies of all slots: there is nothing to go by.
    let spoil = |disk: &SimDisk| (0..4).for_each(|copy| disk.flip("MANIFEST", (4096 + copy * 4096 + 20) * 8));
    if point == Point::Inspect {
        let disk = kept.copy();
        spoil(&disk);
        reports(&disk, FindingKind::Refused, "MANIFEST");
    } else {
        kept.refuses(spoil, is_refused);
    }
}

/// What is bad in a copy that nothing relies on any more need not be told.
fn reports_if_held(disk: &SimDisk, kind: FindingKind, file: &str) {
    let before = all(disk);
    let findings = verify(disk).unwrap();
    assert!(
        findings.iter().all(|finding| finding.kind == kind && finding.path.ends_with(file)),
        "{findings:?}"
    );
    assert_eq!((all(disk), disk.ops()), (before, 0), "looking changes nothing");
}

pub(crate) fn a_file_cut_short(point: Point) {
    for closed in [true, false] {
        let kept = Kept::new(closed);
        for name in kept.disk.files().into_iter().filter(|name| name != "LOCK") {
            let length = kept.disk.read_file(&name).unwrap().len();
            for left in [0, 100, 4096, length - 1] {
                let cut = |disk: &SimDisk| {
                    let mut bytes = disk.read_file(&name).unwrap();
                    bytes.truncate(left);
                    disk.write_file(&name, &bytes);
                };
                if point == Point::Inspect {
                    let disk = kept.copy();
                    cut(&disk);
                    let before = all(&disk);
                    let told = verify(&disk).map_or(true, |findings| !findings.is_empty());
                    // A sealed segment may lose what it never used.
                    assert!(told || left == length - 1, "{name} cut to {left} is not told of");
                    assert_eq!((all(&disk), disk.ops()), (before, 0));
                } else if !(left == length - 1 && name.ends_with(".seg")) {
                    refuses_or_takes_one_group(&kept, &name, cut);
                }
            }
        }
    }
}

fn refuses_or_takes_one_group(kept: &Kept, name: &str, spoil: impl Fn(&SimDisk)) {
    if !name.starts_with("groups/") {
        let not_ours = |error: &Error| matches!(error, Error::Refused { .. } | Error::NotAQueue { .. });
        return kept.refuses(spoil, not_ours);
    }
    let disk = kept.copy();
    spoil(&disk);
    let log: Vec<_> = all(&disk).into_iter().filter(|(name, _)| name.ends_with(".seg")).collect();
    match open(&disk) {
        Err(Error::Refused { path, .. }) => assert!(path.ends_with(name)),
        Err(error) => panic!("{name}: {error:?}"),
        Ok(queue) => {
            let group = name.split('/').nth(1).unwrap();
            let refused: Vec<&str> =
                queue.recovery().refused_groups.iter().map(|(name, _)| &name[..]).collect();
            assert_eq!(refused, [group], "{name}");
        }
    }
    let after: Vec<_> = all(&disk).into_iter().filter(|(name, _)| name.ends_with(".seg")).collect();
    assert_eq!(after, log);
}

pub(crate) fn rubbish_behind_the_end(point: Point) {
    for closed in [true, false] {
        let kept = Kept::new(closed);
        let (name, at) = kept.place(kept.last());
        let whole = kept.disk.read_file(&name).unwrap();
        let end = at + 632;
        let (sealed, old) = (kept.disk.read_file(FIRST).unwrap(), whole[at..end].to_vec());
        let garbage: Vec<u8> =
            (0..600_u32).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let rubbish = [
            vec![0; 600],
            vec![0xFF; 600],
            garbage,
            // A batch of this segment that was there before, one of another, and a header alone.
            old.clone(),
            sealed[4096..4096 + 632].to_vec(),
            old[..32].to_vec(),
        ];
        for bytes in rubbish {
            for gap in [0, 8, 512] {
                let disk = kept.copy();
                let mut file = whole.clone();
                file[end + gap..end + gap + bytes.len()].copy_from_slice(&bytes);
                disk.write_file(&name, &file);
                if point == Point::Inspect {
                    let before = all(&disk);
                    let findings = verify(&disk).unwrap();
                    assert!(findings.iter().all(|finding| finding.kind == FindingKind::Torn), "{findings:?}");
                    assert_eq!((all(&disk), disk.ops()), (before, 0));
                } else {
                    let seen = kept.opens(&disk);
                    assert_eq!((seen.missing, seen.told), (BTreeSet::new(), Vec::new()));
                    assert_eq!(seen.recovery.torn_messages, 0, "nothing of it is taken for a push");
                }
            }
        }
    }
}

pub(crate) fn a_write_that_went_astray(point: Point) {
    // Lost, or landed behind its place; a later push proves that it had been told as done.
    for fault in [Fault::Lie, Fault::Elsewhere(1264)] {
        let disk = SimDisk::new(5);
        let queue = open(&disk).unwrap();
        queue.create_group("g", GroupOptions::new().start(Start::Beginning)).unwrap();
        let push = |number: u8| queue.push(vec![b'a' + number; 600]).unwrap().get();
        push(0);
        disk.aim(Aim::at(Call::Write, "log/"), fault);
        let astray = push(1);
        (2..5).for_each(|number| assert!(push(number) > astray));
        let left = disk.kill();
        if point == Point::Inspect {
            reports(&left, FindingKind::Damaged, FIRST);
            continue;
        }
        let queue = open(&left).unwrap();
        let consumer = queue.group("g").unwrap().consumer();
        let mut told = Vec::new();
        let mut seen = Vec::new();
        loop {
            match consumer.try_recv() {
                Ok(None) => break,
                Ok(Some(job)) => seen.push((job.offset().get(), job.payload()[0])),
                Err(Error::Damaged { offsets, path, .. }) => {
                    assert!(path.ends_with(FIRST));
                    told.extend(offsets.unwrap());
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(seen, [(0, b'a'), (2, b'c'), (3, b'd'), (4, b'e')]);
        assert_eq!(told, [astray]);
        assert_eq!(queue.recovery().damaged.len(), 1);
    }
    // A stale sector, and another segment's: in the middle of a sealed one.
    let kept = Kept::new(true);
    let (name, at) = kept.place(3);
    for stale in [vec![0; 512], kept.disk.read_file(&kept.segments()[1]).unwrap()[4608..5120].to_vec()] {
        let disk = kept.copy();
        let mut bytes = disk.read_file(&name).unwrap();
        let sector = at.next_multiple_of(512);
        bytes[sector..sector + 512].copy_from_slice(&stale);
        disk.write_file(&name, &bytes);
        if point == Point::Inspect {
            reports(&disk, FindingKind::Damaged, &name);
        } else {
            let seen = kept.opens(&disk);
            assert!(seen.missing.contains(&3) && seen.missing.len() <= 2, "{:?}", seen.missing);
        }
    }
}
