//! What does an opening tell, and what does it leave as it is?

use std::sync::Arc;

use backlog::testing::{Aim, Call, Fault, ManualClock, SimDisk};
use backlog::{Durability, Error, GroupOptions, Options, Queue, Start};

use crate::harness::drain;

fn options(disk: &SimDisk) -> Options {
    Options::new("jobs").sim_disk(disk).manual_clock(&ManualClock::new(1_000)).threads(false)
}

fn open(disk: &SimDisk) -> Queue {
    options(disk).open().unwrap()
}

/// A queue that was closed, with one message done and one to come.
fn closed() -> SimDisk {
    let disk = SimDisk::new(3);
    let queue = open(&disk);
    let group = queue.create_group("g", GroupOptions::new().start(Start::Beginning)).unwrap();
    queue.push_batch(["done", "to come"]).unwrap();
    group.consumer().recv().unwrap().ack().unwrap();
    queue.close().unwrap();
    disk
}

/// Two slots, two copies of each, lie behind the header page.
fn slot_bytes(disk: &SimDisk) -> u64 {
    u64::from_le_bytes(disk.read_file("MANIFEST").unwrap()[56..64].try_into().unwrap())
}

fn contents(disk: &SimDisk) -> Vec<(String, Option<Vec<u8>>)> {
    let names = disk.files().into_iter().filter(|name| name != "LOCK");
    names.map(|name| (name.clone(), disk.read_file(&name))).collect()
}

#[test]
fn a_bad_copy_is_told_once_and_either_copy_can_go_bad_later() {
    let disk = closed();
    // The half that is superseded is made good and not told: a crash can leave it so.
    let pairs = [("MANIFEST", true), ("groups/g/0.offsets", false), ("groups/g/1.offsets", true)];
    for (name, told) in pairs {
        for [first, second] in [[0, 2048], [2048, 0]] {
            let disk = disk.crash(1);
            disk.flip(name, first * 8 + 70);
            let queue = open(&disk);
            assert_eq!(queue.recovery().mended, told, "{name} at {first}");
            assert_eq!(queue.recovery().has_findings(), told, "{name} at {first}");
            queue.close().unwrap();

            let queue = open(&disk);
            assert!(!queue.recovery().mended, "{name} at {first}");
            queue.close().unwrap();

            disk.flip(name, second * 8 + 70);
            let queue = open(&disk);
            assert_eq!(queue.recovery().mended, told, "{name} at {second}");
            assert_eq!(drain(&queue.group("g").unwrap().consumer()), ["to come"]);
        }
    }
}

#[test]
fn a_bad_copy_of_the_slot_that_holds_is_told_and_made_good() {
    let disk = closed();
    let slot_bytes = slot_bytes(&disk);
    let mut told = 0;
    for copy in 0..4 {
        let disk = disk.crash(1);
        disk.flip("MANIFEST", (4096 + copy * slot_bytes + 20) * 8);
        let queue = open(&disk);
        told += u32::from(queue.recovery().mended);
        // Where it was not told, the slot does not hold.
        drop(queue);
        let queue = open(&disk.crash(0));
        assert!(!queue.recovery().mended, "copy {copy}");
        assert_eq!(drain(&queue.group("g").unwrap().consumer()), ["to come"]);
    }
    assert_eq!(told, 2);
}

#[test]
fn a_sound_queue_that_is_opened_and_looked_at_stays_as_it_is() {
    let disk = closed();
    let before = contents(&disk);
    disk.record();

    let queue = open(&disk);

    let writes =
        |call| matches!(call, Call::Write | Call::Create | Call::Rename | Call::Allocate | Call::SetLen);
    let made: Vec<_> =
        disk.made().into_iter().filter(|made| writes(made.call) && made.name != "LOCK").collect();
    assert_eq!(made, []);
    drop(queue);
    assert!(contents(&disk) == before);
}

/// Returns a disk whose log ends in a batch that reached it in part.
fn torn() -> SimDisk {
    let disk = closed();
    let queue = open(&disk);
    queue.with_durability(Durability::Buffered).push_batch([vec![1; 3000], vec![2; 3000]]).unwrap();
    let mut cut = (2..200).map(|seed| disk.crash(seed));
    cut.find(|cut| open(&cut.crash(1)).recovery().torn_bytes > 0).expect("a seed that tears the batch")
}

#[test]
fn what_is_torn_is_told_by_every_opening_until_one_writes() {
    let disk = torn();
    let told = |queue: &Queue| {
        let found = queue.recovery();
        (found.clean, found.torn_bytes, found.torn_messages, found.evidence.clone())
    };
    let queue = open(&disk);
    let first = told(&queue);
    assert!(queue.recovery().has_findings());
    queue.close().unwrap();

    let queue = open(&disk);
    assert_eq!(told(&queue), first);
    queue.push("written").unwrap();
    queue.close().unwrap();

    assert_eq!(told(&open(&disk)), (true, 0, 0, None));
}

#[test]
fn entries_that_a_power_cut_took_in_part_are_told() {
    let mut torn = Vec::new();
    for seed in 2..60 {
        let disk = SimDisk::new(seed);
        disk.no_mappings(true);
        let queue = open(&disk);
        for name in ["a", "b"] {
            let buffered = GroupOptions::new().ack_durability(Durability::Buffered).start(Start::Beginning);
            queue.create_group(name, buffered).unwrap();
        }
        queue.push_batch(vec!["x"; 100]).unwrap();
        for name in ["a", "b"] {
            drain(&queue.group(name).unwrap().consumer());
        }
        torn.push(open(&disk.crash(seed)).recovery().torn_entries);
    }
    assert!(torn.iter().all(|bytes| bytes % 32 == 0), "{torn:?}");
    assert!(torn.iter().any(|&bytes| bytes > 0), "{torn:?}");
}

/// Somebody puts an older manifest back, after a power cut took messages whose offsets were told.
#[test]
fn offsets_that_only_a_newer_manifest_knew_of_are_not_given_again() {
    let disk = closed();
    let older = disk.read_file("MANIFEST").unwrap();
    let queue = open(&disk);
    queue.push("synced").unwrap();
    let told =
        queue.with_durability(Durability::Buffered).push_batch(vec!["told"; 3000]).unwrap().last().unwrap();
    let cut = disk.crash(0);
    cut.write_file("MANIFEST", &older);

    let queue = open(&cut);

    assert!(queue.recovery().older_manifest && queue.recovery().has_findings());
    assert!(queue.push("next").unwrap() > told);
    assert_eq!(drain(&queue.group("g").unwrap().consumer()), ["to come", "synced", "next"]);
}

/// A message that a group had come to is gone: what it counts is right all the same.
#[test]
fn a_group_that_came_further_than_the_log_counts_what_is_there() {
    let disk = SimDisk::new(5);
    let queue = open(&disk);
    let group = GroupOptions::new().ack_durability(Durability::Synced).start(Start::Beginning);
    let consumer = queue.create_group("g", group).unwrap().consumer();
    queue.push("there").unwrap();
    disk.aim(Aim::at(Call::Sync, "log/").lasting(), Fault::Lie);
    queue.push_batch(["lost", "lost"]).unwrap();
    consumer.recv().unwrap().ack().unwrap();
    let out = (consumer.recv().unwrap(), consumer.recv().unwrap());
    queue.sync().unwrap();
    let cut = disk.crash(0);
    drop(out);

    let queue = open(&cut);

    assert_eq!(queue.recovery().lost.len(), 1);
    assert!(queue.recovery().has_findings());
    assert_eq!(queue.stats().groups[0].ready, 0);
    queue.push("next").unwrap();
    assert_eq!(queue.stats().groups[0].ready, 1);
    assert_eq!(drain(&queue.group("g").unwrap().consumer()), ["next"]);
}

/// What nobody names may be what the newer slot named, where that has gone bad.
#[test]
fn nothing_is_swept_while_a_slot_that_may_have_named_it_is_bad() {
    let swept = |disk: &SimDisk| {
        disk.write_file("MANIFEST.new", b"left behind");
        let opened = options(disk).open();
        let told = opened.is_ok_and(|queue| !queue.recovery().swept.is_empty());
        assert_eq!(told, disk.read_file("MANIFEST.new").is_none());
        told
    };
    let disk = closed();
    let fresh = SimDisk::new(3);
    open(&fresh).close().unwrap();
    assert!(swept(&disk.crash(1)) && swept(&fresh));

    let slot_bytes = slot_bytes(&disk);
    for slot in 0..2 {
        let disk = disk.crash(1);
        for copy in [2 * slot, 2 * slot + 1] {
            disk.flip("MANIFEST", (4096 + copy * slot_bytes + 20) * 8);
        }
        assert!(!swept(&disk), "slot {slot}");
    }
}

#[test]
fn a_segment_that_is_full_to_its_last_byte_is_opened() {
    let disk = SimDisk::new(4);
    let queue = open(&disk);
    queue.push("first").unwrap();
    let capacity = disk.read_file("log/000000001.seg").unwrap().len();
    // A header page, a batch of 40 bytes, a header of 32.
    let payload = vec![9; capacity - 4096 - 40 - 32];
    queue.push(&payload).unwrap();
    assert_eq!(queue.stats().segments, 1);
    let cut = disk.crash(0);
    queue.close().unwrap();

    for disk in [disk, cut] {
        let queue = open(&disk);
        assert_eq!((queue.stats().messages, queue.recovery().has_findings()), (2, false));
        queue.push("third").unwrap();
        assert_eq!(queue.stats().segments, 2);
    }
}

#[test]
fn who_holds_the_queue_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(folder.path().join("jobs")).threads(false);
    let _queue = options.clone().open().unwrap();

    let Err(Error::Locked { note, .. }) = options.open() else { panic!() };

    assert_eq!(note, format!("opened by process {} for itself alone", std::process::id()));
}

#[test]
fn what_is_there_in_place_of_a_queue_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), b"mine").unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let cases = [("file", "a file"), ("empty", "no MANIFEST"), ("nothing", "no such folder")];
    for (name, words) in cases {
        let options = Options::new(folder.path().join(name)).threads(false).create(false);
        let looked = backlog::inspect(folder.path().join(name)).map(|_| ());
        for answer in [options.open().map(|_| ()), looked] {
            let Err(Error::NotAQueue { found, .. }) = answer else { panic!("{name}: {answer:?}") };
            assert!(found.contains(words), "{found}");
        }
    }
    // Nor is a queue made where a file is.
    let found = Options::new(folder.path().join("file")).open();
    assert!(matches!(found, Err(Error::NotAQueue { .. })), "{found:?}");
    assert_eq!(std::fs::read(folder.path().join("file")).unwrap(), b"mine");
}

#[test]
fn a_folder_of_a_queue_that_is_missing_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(folder.path().join("jobs")).threads(false);
    options.clone().open().unwrap().close().unwrap();
    std::fs::remove_dir(folder.path().join("jobs/groups")).unwrap();

    let found = options.open();

    let Err(Error::Refused { path, problem }) = found else { panic!("{found:?}") };
    assert!(path.ends_with("groups"), "{path:?}");
    assert_eq!(problem, "is missing");
}

#[test]
fn a_manifest_that_cannot_be_opened_is_no_reason_to_make_a_new_one() {
    let disk = closed();
    let before = contents(&disk);
    disk.aim(Aim::at(Call::Open, "MANIFEST"), Fault::Io);

    let found = options(&disk).open();

    assert!(matches!(found, Err(Error::Io { .. })), "{found:?}");
    assert!(contents(&disk) == before);
    assert_eq!(drain(&open(&disk).group("g").unwrap().consumer()), ["to come"]);
}

/// Two programs open a queue that there is not yet; the one that comes second to the lock finds it.
#[test]
fn a_queue_that_somebody_made_meanwhile_is_not_made_again() {
    let disk = SimDisk::new(6);
    let other = disk.clone();
    let meanwhile = move || {
        let queue = open(&other);
        queue.push("already there").unwrap();
        queue.close().unwrap();
    };
    disk.before(Aim::at(Call::Lock, "LOCK"), Arc::new(meanwhile));

    let queue = open(&disk);

    assert!(!queue.recovery().created);
    assert_eq!(queue.stats().messages, 1);
    assert_eq!(drain(&queue.consumer().unwrap()), ["already there"]);
}
