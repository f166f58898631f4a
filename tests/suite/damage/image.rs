//! Which queues are damaged, and what do we know of their past? Made on a real disk, by the public
//! face alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use backlog::testing::{ManualClock, SimDisk};
use backlog::{Durability, GroupOptions, Options, Queue};

use super::layout::Layout;

/// What a folder holds, by name in it.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) const GROUPS: [&str; 2] = ["buffered", "synced"];

/// A queue that nobody has open.
pub(crate) struct Image {
    pub(crate) name: &'static str,
    pub(crate) files: Files,
    /// The same, at once and for nothing.
    pub(crate) disk: SimDisk,
    pub(crate) layout: Layout,
    /// What was acknowledged.
    pub(crate) pushed: BTreeMap<u64, Vec<u8>>,
    /// What each group acked, or gave up: it does not come again.
    pub(crate) ended: BTreeMap<&'static str, BTreeSet<u64>>,
    /// Its log ends in a batch that was never acknowledged, and is there in part.
    pub(crate) torn: bool,
    /// The files at earlier moments, when it was closed.
    pub(crate) earlier: Vec<Files>,
}

pub(crate) fn options(folder: &Path, clock: &ManualClock) -> Options {
    Options::new(folder).manual_clock(clock).threads(false).segment_bytes(8192)
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::new(1_700_000_000_000)
}

/// Opens a queue that nobody has open. A process that another test is just starting shares our locks
/// until it is a program of its own.
pub(crate) fn open(options: &Options) -> backlog::Result<Queue> {
    loop {
        match options.clone().open() {
            Err(error) if error.is_locked() => std::thread::yield_now(),
            other => return other,
        }
    }
}

/// Reads every file of a folder.
pub(crate) fn read(root: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

/// A queue in the making.
struct Making {
    folder: tempfile::TempDir,
    clock: ManualClock,
    queue: Queue,
    number: usize,
    pushed: BTreeMap<u64, Vec<u8>>,
    ended: BTreeMap<&'static str, BTreeSet<u64>>,
    earlier: Vec<Files>,
}

impl Making {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = clock();
        let queue = open(&options(folder.path(), &clock)).unwrap();
        queue.create_group("buffered", GroupOptions::new()).unwrap();
        let synced = GroupOptions::new().ack_durability(Durability::Synced);
        queue.create_group("synced", synced).unwrap();
        let (pushed, ended, earlier) = Default::default();
        Self { folder, clock, queue, number: 0, pushed, ended, earlier }
    }

    /// Pushes: every fourth time three at once, or all of an empty and a short one.
    fn push(&mut self, times: usize) {
        for _ in 0..times {
            self.number += 1;
            let text = |part: usize| format!("{}-{part}:", self.number).repeat(self.number * 7 % 40 * part);
            let texts: Vec<_> =
                if self.number.is_multiple_of(4) { (0..3).map(text).collect() } else { vec![text(1)] };
            for (offset, text) in self.queue.push_batch(&texts).unwrap().zip(texts) {
                self.pushed.insert(offset.get(), text.into_bytes());
            }
        }
    }

    /// Lends some messages to each group, which then end in every way.
    fn settle(&mut self, count: usize) {
        for name in GROUPS {
            let consumer = self.queue.group(name).unwrap().consumer();
            let ended = self.ended.entry(name).or_default();
            let jobs = consumer.recv_batch(count, Duration::ZERO).unwrap();
            for (index, job) in jobs.into_iter().enumerate() {
                let offset = job.offset().get();
                match index % 6 {
                    3 => job.nack_after(Duration::from_secs(5), "no route to host").unwrap(),
                    4 => job.release().unwrap(),
                    5 => {
                        ended.insert(offset);
                        job.reject("bad").unwrap();
                    }
                    _ => {
                        ended.insert(offset);
                        job.ack().unwrap();
                    }
                }
            }
        }
    }

    /// Closes and opens again.
    fn reopen(&mut self) {
        self.queue.close().unwrap();
        self.earlier.push(read(self.folder.path()));
        self.queue = open(&options(self.folder.path(), &self.clock)).unwrap();
    }

    /// Kills the process and opens what it leaves: a copy of the folder as it is.
    fn kill(&mut self) {
        let copy = tempfile::tempdir().unwrap();
        for (name, bytes) in read(self.folder.path()) {
            let path = copy.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        self.queue = open(&options(copy.path(), &self.clock)).unwrap();
        self.folder = copy;
    }

    fn end(self, name: &'static str) -> Image {
        let files = read(self.folder.path());
        let disk = SimDisk::new(1);
        for (name, bytes) in &files {
            disk.write_file(name, bytes);
        }
        let layout = Layout::of(&files);
        let Self { pushed, ended, earlier, .. } = self;
        Image { name, files, disk, layout, pushed, ended, torn: false, earlier }
    }
}

/// A queue that was closed, killed, and closed: several segments, a gap between offsets, some messages
/// settled.
pub(crate) fn closed() -> Image {
    let mut making = making_of_several();
    making.settle(9);
    making.queue.close().unwrap();
    making.end("closed")
}

/// The same, not closed: the folder as kill -9 leaves it.
pub(crate) fn killed() -> Image {
    let mut making = making_of_several();
    making.settle(9);
    making.push(5);
    making.end("killed")
}

/// The same, killed after more than a second in which nobody did anything.
pub(crate) fn idle() -> Image {
    let mut making = making_of_several();
    making.settle(9);
    making.push(5);
    making.queue.run_duties().unwrap();
    making.clock.advance(Duration::from_millis(1100));
    making.queue.run_duties().unwrap();
    making.end("idle")
}

/// A queue whose process was killed in the middle of a write: half of the last batch is zeros.
pub(crate) fn torn() -> Image {
    let mut making = making_of_several();
    making.settle(9);
    making.push(5);
    let offset = making.queue.push(vec![b'x'; 700]).unwrap();
    let mut image = making.end("torn");
    let batch = image.layout.batches.last().unwrap().clone();
    assert_eq!(batch.offsets.start, offset.get());
    let bytes = image.files.get_mut(&batch.file).unwrap();
    bytes[batch.bytes.start + 300..].fill(0);
    image.disk.write_file(&batch.file, bytes);
    image.torn = true;
    image
}

fn making_of_several() -> Making {
    let mut making = Making::new();
    making.push(24);
    making.settle(12);
    making.reopen();
    making.push(14);
    making.settle(10);
    making.kill();
    making.push(10);
    making
}
