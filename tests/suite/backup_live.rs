//! Is a copy right that is made beside an owner who pushes, acks, rolls, gives up and uses again?

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backlog::{Backup, MessageState, Offset, Options, Queue, View, restore};

use crate::payload::payload;

/// What somebody was told, by offset.
#[derive(Default)]
struct Told {
    pushed: BTreeMap<u64, usize>,
    acked: BTreeMap<u64, ()>,
}

/// Pushes batches of different sizes until it is told to stop.
fn push(queue: &Queue, told: &Mutex<Told>, stop: &AtomicBool) {
    let quick = queue.with_durability(backlog::Durability::Buffered);
    let mut id = 0;
    while !stop.load(Ordering::Relaxed) {
        let batch: Vec<Vec<u8>> = (id..id + 1 + id % 3).map(|id| payload(id, id * 37 % 3000)).collect();
        let offsets = quick.push_batch(&batch).unwrap();
        let mut told = told.lock().unwrap();
        for offset in offsets {
            told.pushed.insert(offset.get(), id);
            id += 1;
        }
    }
}

/// Acks most, and leaves some for later.
fn work(queue: &Queue, told: &Mutex<Told>, stop: &AtomicBool) {
    let worker = queue.consumer().unwrap();
    while !stop.load(Ordering::Relaxed) {
        for job in worker.recv_batch(50, Duration::from_millis(1)).unwrap() {
            let offset = job.offset().get();
            if offset % 97 == 0 {
                job.nack_after(Duration::from_secs(3600), "later").unwrap();
            } else {
                job.ack().unwrap();
                told.lock().unwrap().acked.insert(offset, ());
            }
        }
    }
}

#[test]
fn a_copy_beside_a_busy_owner_is_one_of_a_single_moment() {
    let folder = tempfile::tempdir().unwrap();
    let [jobs, copy] = ["jobs", "copy"].map(|name| folder.path().join(name));
    let queue = Options::new(&jobs).segment_bytes(64 << 10).open().unwrap();
    queue.consumer().unwrap();
    let (told, stop) = (Mutex::new(Told::default()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| push(&queue, &told, &stop));
        scope.spawn(|| work(&queue, &told, &stop));
        let mut backup = Backup::new(&jobs, &copy).unwrap();
        for turn in 0..25 {
            let (pushed, acked) = {
                let told = told.lock().unwrap();
                (told.pushed.clone(), told.acked.clone())
            };
            let round = backup.round(&mut |_| {}).unwrap();
            let after = told.lock().unwrap().acked.clone();

            assert_eq!(backlog::verify(&copy, &mut |_| {}).unwrap(), [], "turn {turn}");
            assert_eq!(backlog::verify_deep(&copy, &mut |_| {}).unwrap(), [], "turn {turn}");
            let mut view = View::open(&copy).unwrap();
            let mut open = BTreeMap::new();
            for state in [MessageState::Ready, MessageState::OnLoan, MessageState::Delayed] {
                for message in view.messages_in("default", state, Offset::MIN).unwrap() {
                    let message = message.unwrap();
                    open.insert(message.offset().get(), message.payload().to_vec());
                }
            }
            let ids = told.lock().unwrap().pushed.clone();
            for (offset, bytes) in &open {
                // Pushed meanwhile, and told only now.
                let Some(&id) = ids.get(offset) else { continue };
                assert!(*bytes == payload(id, id * 37 % 3000), "turn {turn}: message {offset} is another");
                assert!(!acked.contains_key(offset), "turn {turn}: {offset} was acked before, and is open");
            }
            for offset in pushed.keys().filter(|offset| !after.contains_key(offset)) {
                assert!(
                    open.contains_key(offset),
                    "turn {turn}: {offset} was pushed before, and is not there"
                );
                assert!(*offset < round.next_offset);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    queue.close().unwrap();
    let again = folder.path().join("again");
    Backup::new(&jobs, &copy).unwrap().round(&mut |_| {}).unwrap();
    restore(&copy, &again, &mut |_| {}).unwrap();
    let theirs = Options::new(&again).create(false).open().unwrap();
    let (ours, theirs) = (backlog::inspect(&jobs).unwrap(), theirs.stats());
    let counts = |group: &backlog::GroupStats| (group.ready, group.delayed, group.on_loan, group.dead);
    assert_eq!(counts(&ours.groups[0]), counts(&theirs.groups[0]));
    assert!(ours.segments.len() > 1, "segments came and went");
}
