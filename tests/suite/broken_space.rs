//! What a hostile reader tried on space that is given back: what two threads meet in, what a crash leaves, what
//! a closed queue still does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backlog::testing::{Aim, Call, Made, ManualClock, SimDisk};
use backlog::{Consumer, Delivery, GroupOptions, Message, MessageState, Options, Queue, WhenFull};

use crate::harness::{drain, patiently};
use crate::watch;

const SECOND: Duration = Duration::from_secs(1);
const BEGUN: u64 = 1_700_000_000_000;
/// All that is unsynced lost, all kept, mixtures.
const SEEDS: [u64; 5] = [0, 1, 3, 4, 6];

fn stage() -> (SimDisk, ManualClock) {
    (SimDisk::new(1), ManualClock::new(BEGUN))
}

fn options(disk: &SimDisk, clock: &ManualClock) -> Options {
    Options::new("jobs").sim_disk(disk).manual_clock(clock).threads(false)
}

fn lent(worker: &Consumer) -> Vec<Delivery> {
    std::iter::from_fn(|| worker.try_recv().unwrap()).collect()
}

fn settle(clock: &ManualClock, queue: &Queue) {
    for _ in 0..4 {
        clock.advance(SECOND);
        queue.run_duties().unwrap();
    }
}

/// What another thread does, begun by a hook of the disk; whoever runs into that waits for its end a while, as it
/// may have to wait itself.
struct Beside {
    work: Arc<dyn Fn() + Send + Sync>,
    thread: Arc<Mutex<Option<std::thread::JoinHandle<()>>>>,
}

fn beside(work: impl Fn() + Send + Sync + 'static) -> Beside {
    Beside { work: Arc::new(work), thread: Arc::default() }
}

impl Beside {
    fn hook(&self) -> Arc<dyn Fn() + Send + Sync> {
        let (work, begun) = (self.work.clone(), self.thread.clone());
        let did = AtomicBool::new(false);
        Arc::new(move || {
            if did.swap(true, Ordering::SeqCst) {
                return;
            }
            let work = work.clone();
            let (done, is_done) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                work();
                let _ = done.send(());
            });
            // Also over when it panics; `join` tells.
            let _ = is_done.recv_timeout(2 * SECOND);
            *begun.lock().unwrap() = Some(thread);
        })
    }

    fn join(&self) {
        self.thread.lock().unwrap().take().expect("it was begun").join().unwrap();
    }
}

/// The length of a message that takes a page of the log, with its header.
const PAGE: usize = 4096 - 32;

/// Pushes so many messages of a length, one by one.
fn fill(queue: &Queue, count: u32, length: usize) {
    for number in 0..count {
        queue.push(format!("{number:0length$}")).unwrap();
    }
}

/// A copy fills a file exactly, is done, and becomes the next segment; stops after so many operations of that.
fn copy_becomes_a_segment(stop_after: Option<u64>) -> (SimDisk, ManualClock, (u64, u64)) {
    let (disk, clock) = stage();
    let queue = options(&disk, &clock).segment_bytes(64 << 10).open().unwrap();
    let worker = queue.create_group("g", GroupOptions::new()).unwrap().consumer();
    fill(&queue, 89, PAGE);
    queue.run_duties().unwrap();
    let mut stuck = Vec::new();
    for job in lent(&worker) {
        let stays = job.offset().get() % 5 == 0 && job.offset().get() < 75;
        if stays { stuck.push(job) } else { job.ack().unwrap() }
    }
    settle(&clock, &queue);
    // The one made ahead is used up, and has a lower number than the copy.
    fill(&queue, 2, PAGE);
    stuck.into_iter().for_each(|job| job.ack().unwrap());
    let first = disk.ops();
    if let Some(ops) = stop_after {
        disk.stop_after(ops);
    }
    let _ = queue.run_duties();
    let last = disk.ops();
    (disk, clock, (first, last))
}

#[test]
fn a_copy_that_was_becoming_the_next_segment_refuses_no_opening() {
    let (disk, _, (first, last)) = copy_becomes_a_segment(None);
    drop(disk);
    for op in first..=last {
        let (disk, clock, _) = copy_becomes_a_segment(Some(op));
        for seed in SEEDS {
            let opened = options(&disk.crash(seed), &clock).open();
            assert!(opened.is_ok(), "op {op} of {first}..={last}, seed {seed}: {opened:?}");
        }
        assert!(options(&disk.kill(), &clock).open().is_ok(), "op {op}, killed");
    }
}

/// A queue whose first segment is full of messages with keys, and has no side file yet.
fn keyed() -> (SimDisk, ManualClock, Queue) {
    let (disk, clock) = stage();
    let opened = options(&disk, &clock).segment_bytes(8192).dedup_window(1000, Duration::from_secs(600));
    let queue = opened.open().unwrap();
    queue.create_group("g", GroupOptions::new()).unwrap();
    for number in 0..40 {
        let text = format!("{number:0100}");
        queue.push(Message::new(text.as_bytes()).dedup_key(number.to_string())).unwrap();
    }
    (disk, clock, queue)
}

const SIDE_FILE: &str = "log/000000001.idx";

#[test]
fn a_side_file_that_is_kept_is_not_written_anew() {
    let (disk, clock, queue) = keyed();
    let own = queue.clone();
    let freeing = beside(move || {
        drain(&own.group("g").unwrap().consumer());
        own.run_duties().unwrap();
    });
    disk.before(Aim::at(Call::Remove, SIDE_FILE), freeing.hook());
    let _watched = watch::over("a side file that is written and kept");

    queue.run_duties().unwrap();

    freeing.join();
    assert!(!disk.files().contains(&"log/000000001.seg".into()));
    for seed in SEEDS {
        let queue = options(&disk.crash(seed), &clock).open();
        let queue = queue.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(queue.push(Message::new("x").dedup_key("3")).unwrap().get(), 3, "seed {seed}");
    }
}

#[test]
fn a_queue_that_was_closed_touches_no_side_file() {
    let (disk, clock, queue) = keyed();
    let (own, from, at) = (queue.clone(), disk.clone(), clock.clone());
    let closing = beside(move || {
        own.close().unwrap();
        let other = options(&from, &at).open().unwrap();
        drain(&other.group("g").unwrap().consumer());
        other.run_duties().unwrap();
        std::mem::forget(other);
    });
    disk.before(Aim::at(Call::Remove, SIDE_FILE), closing.hook());
    let _watched = watch::over("a side file that is written beside a close");

    let _ = queue.run_duties();

    closing.join();
    for seed in SEEDS {
        let queue = options(&disk.crash(seed), &clock).open();
        let queue = queue.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(queue.push(Message::new("x").dedup_key("3")).unwrap().get(), 3, "seed {seed}");
    }
}

#[test]
fn what_lies_behind_a_sealed_end_is_not_cut_off_the_next_segment() {
    let (disk, clock) = stage();
    let queue = options(&disk, &clock).segment_bytes(1 << 20).open().unwrap();
    queue.create_group("g", GroupOptions::new()).unwrap();
    queue.push(vec![1; 300 << 10]).unwrap();
    queue.push(vec![2; 800 << 10]).unwrap();
    queue.run_duties().unwrap();
    let (own, from, at) = (queue.clone(), disk.clone(), clock.clone());
    // Who has the queue next makes the next segment of the first one.
    let using = beside(move || {
        own.close().unwrap();
        let other = options(&from, &at).segment_bytes(1 << 20).open().unwrap();
        lent(&other.group("g").unwrap().consumer()).into_iter().for_each(|job| job.ack().unwrap());
        other.push(vec![3; 10]).unwrap();
        other.run_duties().unwrap();
        other.push(vec![4; 400 << 10]).unwrap();
        other.push(vec![5; 400 << 10]).unwrap();
        std::mem::forget(other);
    });
    disk.before(Aim::at(Call::SetLen, "log/000000001.seg"), using.hook());
    clock.advance(11 * SECOND);
    let _watched = watch::over("a cut beside recycling");

    let _ = queue.run_duties();

    using.join();
    let queue = options(&disk.kill(), &clock).open().unwrap();
    let jobs = lent(&queue.group("g").unwrap().consumer());
    let came: Vec<_> = jobs.iter().map(|job| (job.payload()[0], job.payload().len())).collect();
    assert_eq!(came, [(3, 10), (4, 400 << 10), (5, 400 << 10)]);
}

/// A queue with sparse segments that were looked at once.
fn sparse() -> (SimDisk, ManualClock, Queue) {
    let (disk, clock) = stage();
    let queue = options(&disk, &clock).segment_bytes(8192).open().unwrap();
    let worker = queue.create_group("g", GroupOptions::new()).unwrap().consumer();
    fill(&queue, 200, 100);
    for job in lent(&worker) {
        if job.offset().get() % 41 == 0 { job.release().unwrap() } else { job.ack().unwrap() }
    }
    clock.advance(SECOND);
    queue.run_duties().unwrap();
    (disk, clock, queue)
}

fn duties(clock: &ManualClock, queue: &Queue) {
    for _ in 0..3 {
        clock.advance(SECOND);
        let _ = queue.run_duties();
    }
}

/// Returns the name of the first copy that is made of those: the one file that reserves no blocks.
fn copy() -> String {
    let (disk, clock, queue) = sparse();
    disk.record();
    duties(&clock, &queue);
    let made = disk.made();
    let is = |call: Call| made.iter().filter(move |one| one.call == call && one.name.ends_with(".seg"));
    let reserved = |name: &str| is(Call::Allocate).any(|one| one.name == name);
    is(Call::Create).find(|one| !reserved(&one.name)).unwrap().name.clone()
}

#[test]
fn no_copy_is_begun_in_the_folder_of_a_queue_that_was_closed() {
    let copy = copy();
    let (disk, clock, queue) = sparse();
    let (closed, late) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (own, ends) = (queue.clone(), closed.clone());
    let closing = beside(move || {
        own.close().unwrap();
        ends.store(true, Ordering::SeqCst);
    });
    disk.before(Aim::at(Call::Create, &*copy), closing.hook());
    let (is_late, was_closed) = (late.clone(), closed.clone());
    let written = move || is_late.store(was_closed.load(Ordering::SeqCst), Ordering::SeqCst);
    disk.before(Aim::at(Call::Write, &*copy), Arc::new(written));
    let _watched = watch::over("a close while a copy begins");

    duties(&clock, &queue);

    closing.join();
    assert!(closed.load(Ordering::SeqCst));
    assert!(!late.load(Ordering::SeqCst), "written to after the close had freed the lock");
}

#[test]
fn who_browses_while_segments_are_copied_together_misses_nothing() {
    let (disk, clock) = stage();
    let queue = options(&disk, &clock).segment_bytes(8192).open().unwrap();
    let group = queue.create_group("g", GroupOptions::new()).unwrap();
    fill(&queue, 200, 100);
    for job in lent(&group.consumer()) {
        if job.offset().get() % 21 == 0 { job.reject("dead").unwrap() } else { job.ack().unwrap() }
    }
    let mut browsed = group.browse(MessageState::Dead);
    let mut came = Vec::new();
    for _ in 0..3 {
        came.push(browsed.next().unwrap().unwrap().offset().get());
    }
    let before = queue.stats().segments;
    settle(&clock, &queue);
    assert!(queue.stats().segments < before);

    browsed.for_each(|peek| came.push(peek.unwrap().offset().get()));

    assert_eq!(came, (0..200).step_by(21).collect::<Vec<u64>>());
}

#[test]
fn nobody_holds_the_file_of_a_segment_that_is_gone() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::new(BEGUN));
    let opened = Options::new(folder.path()).manual_clock(&clock).threads(false).segment_bytes(64 << 10);
    let queue = patiently(&opened.max_messages(500).when_full(WhenFull::DiscardOldest));
    let worker = queue.create_group("g", GroupOptions::new()).unwrap().consumer();
    fill(&queue, 1500, 200);
    drain(&worker);
    settle(&clock, &queue);
    assert_eq!(queue.stats().segments, 1);
    let path = folder.path().display().to_string();
    let gone = |entry: std::io::Result<std::fs::DirEntry>| {
        let target = std::fs::read_link(entry.ok()?.path()).ok()?.display().to_string();
        (target.starts_with(&path) && target.ends_with("(deleted)")).then_some(target)
    };
    let held: Vec<String> = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(gone).collect();
    assert_eq!(held, Vec::<String>::new());
}

#[test]
fn who_verifies_beside_recycling_finds_no_damage() {
    for call in 0..12 {
        let (disk, clock) = stage();
        let queue = options(&disk, &clock).segment_bytes(8192).open().unwrap();
        queue.create_group("g", GroupOptions::new()).unwrap();
        fill(&queue, 150, 100);
        let own = queue.clone();
        let using = beside(move || {
            for _ in 0..3 {
                drain(&own.group("g").unwrap().consumer());
                own.run_duties().unwrap();
                fill(&own, 60, 100);
            }
        });
        disk.before(Aim::at(Call::Read, "log/").after(call), using.hook());
        let _watched = watch::over(format!("verify beside recycling, {call}"));

        let found = options(&disk, &clock).segment_bytes(8192).verify();

        using.join();
        let found = found.unwrap_or_else(|error| panic!("{call}: {error}"));
        assert!(found.is_empty(), "{call}: {found:?}");
    }
}

#[test]
fn where_bytes_are_limited_drained_segments_become_the_next_too() {
    let (disk, clock) = stage();
    let queue = options(&disk, &clock).segment_bytes(16 << 10).max_bytes(1 << 20).open().unwrap();
    let worker = queue.create_group("g", GroupOptions::new()).unwrap().consumer();
    disk.record();
    for _ in 0..20 {
        fill(&queue, 100, 100);
        drain(&worker);
        queue.run_duties().unwrap();
    }
    let renamed = |made: &&Made| made.call == Call::Rename && made.name.starts_with("log/");
    let recycled = disk.made().iter().filter(renamed).count();
    assert!(recycled > 5, "{recycled}");
}

#[test]
fn on_a_full_disk_segments_with_keys_come_back_too() {
    let (disk, clock, queue) = keyed();
    disk.budget(Some(0));
    for number in 0..1000 {
        if queue.push(format!("{number:0100}")).is_err() {
            break;
        }
    }
    drain(&queue.group("g").unwrap().consumer());

    for _ in 0..4 {
        clock.advance(SECOND);
        let _ = queue.run_duties();
    }

    let pushed = queue.push("there is room again");
    assert!(pushed.is_ok(), "{pushed:?}, {} segments, {:?}", queue.stats().segments, disk.files());
}
