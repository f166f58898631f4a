//! What is told, and what may not happen, when the log has lost what others know of?

use std::time::Duration;

use backlog::testing::SimDisk;
use backlog::{Durability, FindingKind, GroupOptions, Options, Queue, Start};

const SEGMENT: &str = "log/000000001.seg";

fn options(disk: &SimDisk) -> Options {
    Options::new("jobs").sim_disk(disk).threads(false)
}

fn open(disk: &SimDisk) -> Queue {
    options(disk).open().unwrap()
}

/// A message pushed buffered was delivered and acked, synced, and then the power was cut: the log lost
/// what the group had done, and the opening said nothing of it.
#[test]
fn issue_4_an_acked_message_that_the_log_lost_is_reported() {
    let disk = SimDisk::new(1);
    let queue = open(&disk);
    let group = GroupOptions::new().ack_durability(Durability::Synced).start(Start::Beginning);
    let consumer = queue.create_group("g", group).unwrap().consumer();
    queue.push("safe").unwrap();
    let lost = queue.with_durability(Durability::Buffered).push("lost").unwrap();
    for job in consumer.recv_batch(2, Duration::ZERO).unwrap() {
        job.ack().unwrap();
    }
    let disk = disk.crash(0);
    drop(queue);

    let found = options(&disk).verify().unwrap();
    // It is as it was until somebody pushes: each opening says so.
    for _ in 0..2 {
        let queue = open(&disk);
        let told: Vec<_> = queue.recovery().lost.iter().map(|lost| (&lost.group[..], lost.offsets)).collect();
        assert_eq!(told, [("g", (lost.get(), lost.get() + 1))]);
        assert!(queue.recovery().has_findings());
        queue.close().unwrap();
    }

    assert!(
        found.iter().any(|one| one.kind == FindingKind::Lost && one.offsets == Some((1, 2))),
        "{found:?}"
    );
    let queue = open(&disk);
    let next = queue.push("next").unwrap();
    assert!(next > lost, "{next} was told before");
    assert_eq!(queue.stats().groups[0].ready, 1);
    let killed = disk.kill();
    drop(queue);
    let queue = open(&killed);
    assert!(queue.recovery().lost.is_empty(), "{:?}", queue.recovery());
    assert_eq!((queue.stats().messages, queue.stats().groups[0].ready), (2, 1));
    let job = queue.group("g").unwrap().consumer().try_recv().unwrap().expect("the new one is not acked");
    assert_eq!((job.offset(), job.payload()), (next, &b"next"[..]));
    job.ack().unwrap();
}

/// Manifest and log were put back from an older copy, and a group's files were not: a new message got
/// an offset that the group had done, and never came.
#[test]
fn issue_4_a_new_message_is_never_taken_for_one_that_was_acked() {
    let disk = SimDisk::new(1);
    let queue = open(&disk);
    let group = GroupOptions::new().ack_durability(Durability::Synced).start(Start::Beginning);
    queue.create_group("g", group).unwrap();
    queue.push("first").unwrap();
    queue.close().unwrap();
    let older = [SEGMENT, "MANIFEST"].map(|name| (name, disk.read_file(name).unwrap()));
    let queue = open(&disk);
    let told = queue.push_batch([""; 20]).unwrap().last().unwrap().get();
    let consumer = queue.group("g").unwrap().consumer();
    queue.ack_all(consumer.recv_batch(100, Duration::ZERO).unwrap()).unwrap();
    queue.close().unwrap();
    for (name, bytes) in older {
        disk.write_file(name, &bytes);
    }

    let queue = open(&disk);
    let next = queue.push("new").unwrap().get();

    assert!(next > told, "{next} was told before, up to {told}");
    let job = queue.group("g").unwrap().consumer().try_recv().unwrap().expect("the new one is not acked");
    assert_eq!(job.payload(), b"new");
}

/// An older manifest was put back, and headers at the end of the log went bad: the damage was said to
/// reach to the end of all offsets, and nothing could be pushed any more.
#[test]
fn issue_4_damage_behind_an_older_manifest_does_not_use_up_the_offsets() {
    let disk = SimDisk::new(1);
    let queue = open(&disk);
    queue.push("one").unwrap();
    queue.close().unwrap();
    let older = disk.read_file("MANIFEST").unwrap();
    let queue = open(&disk);
    queue.push("a").unwrap();
    queue.push("b").unwrap();
    let buffered = queue.with_durability(Durability::Buffered);
    buffered.push("c").unwrap();
    buffered.push("d").unwrap();
    queue.close().unwrap();
    drop(buffered);
    disk.write_file("MANIFEST", &older);
    // Each takes 40 bytes: the headers of b and c. What d carries proves that b was durable.
    for batch in [2, 3] {
        disk.flip(SEGMENT, (4096 + batch * 40 + 16) * 8);
    }

    let queue = open(&disk);

    let found = queue.recovery();
    assert!(found.older_manifest);
    let damaged: Vec<_> = found.damaged.iter().map(|damage| (damage.position, damage.offsets)).collect();
    assert_eq!(damaged, [(4096 + 80, (2, 4))]);
    assert!(found.torn_bytes > 0, "{found:?}");
    assert_eq!(queue.stats().messages, 4);
    let next = queue.push("next").unwrap();
    assert!((5..1 << 30).contains(&next.get()), "{next}");
}
