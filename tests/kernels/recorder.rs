//! What did the file system write to its device, in which order, and what is left of it after a
//! power cut at any write?

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::dice::Dice;
use crate::fuse;
use crate::volume::{Kind, Mounted, run};

pub(crate) const BLOCK: usize = 4096;
const SECTOR: usize = 512;

/// What reached the device.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Write { at: u64, bytes: Vec<u8> },
    Flush,
}

/// The content of a device: blocks that are not zero.
pub(crate) type Content = BTreeMap<u64, Box<[u8]>>;

/// A device in memory that remembers each write and each flush, and fails when it is told to.
#[derive(Debug, Default)]
pub(crate) struct Record {
    size: u64,
    /// Bytes that reach the device whole or not at all.
    pub(crate) atom: usize,
    now: Content,
    /// The content when the recording began.
    before: Content,
    pub(crate) events: Vec<Event>,
    /// Writes and flushes that were asked for since the recording began, failed ones included.
    pub(crate) asked: usize,
    /// Which of them fail.
    failing: Range<usize>,
    pub(crate) failed: usize,
    /// Where a child reads how long the record is.
    told: Option<File>,
}

impl Record {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let length = length.min(usize::try_from(self.size.saturating_sub(at)).unwrap_or(0));
        let mut bytes = vec![0; length];
        for (block, part, inside) in parts(at, length) {
            if let Some(content) = self.now.get(&block) {
                bytes[part.clone()].copy_from_slice(&content[inside..inside + part.len()]);
            }
        }
        bytes
    }

    /// Tells whether it worked.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> bool {
        if self.fails() {
            return false;
        }
        put(&mut self.now, at, bytes);
        self.events.push(Event::Write { at, bytes: bytes.to_vec() });
        self.tell();
        true
    }

    /// Tells whether it worked.
    pub(crate) fn flush(&mut self) -> bool {
        if self.fails() {
            return false;
        }
        self.events.push(Event::Flush);
        self.tell();
        true
    }

    fn fails(&mut self) -> bool {
        let fails = self.failing.contains(&self.asked);
        self.asked += 1;
        self.failed += usize::from(fails);
        fails
    }

    /// Forgets what was recorded, and begins anew from the content as it is.
    pub(crate) fn begin(&mut self) {
        self.before.clone_from(&self.now);
        self.events.clear();
        self.tell();
        self.asked = 0;
        self.failed = 0;
    }

    /// From now on, these writes and flushes fail, counted from here.
    pub(crate) fn fail(&mut self, which: Range<usize>) {
        self.failing = self.asked + which.start..self.asked.saturating_add(which.end);
    }

    /// Tells a child how long the record is, before the event is answered.
    fn tell(&self) {
        if let Some(file) = &self.told {
            file.write_all_at(&self.position().to_le_bytes(), 0).unwrap();
        }
    }

    /// Where the record stands.
    pub(crate) fn position(&self) -> u64 {
        self.events.len() as u64
    }

    /// Returns what is on the device after a power cut before event `cut`: all that was written
    /// before the last flush; of the rest nothing, everything, or any sectors, by seed.
    pub(crate) fn after_cut(&self, cut: u64, seed: u64) -> Content {
        let cut = usize::try_from(cut).expect("a position in the record");
        let events = &self.events[..cut];
        let flushed = events.iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
        let mut content = self.before.clone();
        let mut dice = Dice(seed);
        // What had time to be written; behind it, what the device took out of order.
        let whole = match seed % 4 {
            0 => flushed,
            1 => cut,
            2 => flushed + dice.size((cut - flushed + 1) as u64),
            _ => flushed,
        };
        let mixed = seed % 4 >= 2;
        let chance = [2, 4, 8][dice.size(3)];
        for (index, event) in events.iter().enumerate() {
            let Event::Write { at, bytes } = event else { continue };
            if index < whole {
                put(&mut content, *at, bytes);
            } else if mixed {
                let unit = if is_superblock(*at) { bytes.len().max(1) } else { self.atom };
                for (number, part) in bytes.chunks(unit).enumerate() {
                    if dice.below(chance) == 0 {
                        put(&mut content, at + (number * unit) as u64, part);
                    }
                }
            }
        }
        content
    }
}

/// The first block holds ext4's superblock, two sectors under one checksum that is written outside of
/// the journal: a device that tore it would take the whole file system along.
fn is_superblock(at: u64) -> bool {
    at < BLOCK as u64
}

/// Cuts a range of bytes at the blocks: the block, which bytes of the range, and where in the block.
fn parts(at: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < length).then(|| {
            let position = at + done as u64;
            let inside = usize::try_from(position % BLOCK as u64).expect("less than a block");
            let part = done..length.min(done + BLOCK - inside);
            done = part.end;
            (position / BLOCK as u64, part, inside)
        })
    })
}

fn put(content: &mut Content, at: u64, bytes: &[u8]) {
    for (block, part, inside) in parts(at, bytes.len()) {
        let part = &bytes[part];
        if part.iter().all(|&byte| byte == 0) && (part.len() == BLOCK || !content.contains_key(&block)) {
            content.remove(&block);
            continue;
        }
        let block = content.entry(block).or_insert_with(|| vec![0; BLOCK].into());
        block[inside..inside + part.len()].copy_from_slice(part);
    }
}

/// Writes content into a sparse file.
pub(crate) fn store(content: &Content, size: u64, path: &Path) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len(size)?;
    for (block, bytes) in content {
        file.write_all_at(bytes, block * BLOCK as u64)?;
    }
    Ok(())
}

/// Reads what [`Recorder::tell`] writes.
pub(crate) fn told_position(file: &File) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, 0).unwrap();
    u64::from_le_bytes(bytes)
}

/// A recorded device: a file on FUSE, a loop device above it.
pub(crate) struct Recorder {
    pub(crate) record: Arc<Mutex<Record>>,
    home: PathBuf,
    device: String,
    pub(crate) kind: Kind,
}

impl Recorder {
    /// Makes the device, with a file system on it; `home` is an empty folder.
    pub(crate) fn new(kind: Kind, home: &Path) -> Self {
        let made = Self::of(Content::new(), kind, home);
        kind.make(Path::new(&made.device));
        made
    }

    /// Makes a device of what is on another one.
    pub(crate) fn of(content: Content, kind: Kind, home: &Path) -> Self {
        let record = Record { size: kind.smallest(), atom: SECTOR, now: content, ..Record::default() };
        let record = Arc::new(Mutex::new(record));
        let folder = home.join("record");
        std::fs::create_dir(&folder).unwrap();
        fuse::mount(&folder, record.clone()).unwrap();
        let mut made = Self { record, home: home.to_owned(), device: String::new(), kind };
        let file = folder.join(fuse::NAME);
        made.device = run("losetup", &["--find", "--show", file.to_str().unwrap()]).trim().to_owned();
        made
    }

    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    pub(crate) fn position(&self) -> u64 {
        self.record().position()
    }

    /// From now on, a child finds the position in a file ([`told_position`]).
    pub(crate) fn tell(&self) -> PathBuf {
        let path = self.home.join("position");
        let mut record = self.record();
        record.told = Some(File::create(&path).unwrap());
        record.tell();
        path
    }

    /// Mounts the file system.
    pub(crate) fn mount(&self) -> Mounted {
        Mounted::new(&self.device, &self.home.join("mnt"), self.kind, "")
    }

    /// Mounts what a power cut leaves: an image of its own.
    pub(crate) fn mount_after_cut(&self, cut: u64, seed: u64) -> Mounted {
        let image = self.home.join("cut.img");
        let content = self.record().after_cut(cut, seed);
        store(&content, self.kind.smallest(), &image).unwrap();
        Mounted::new(image.to_str().unwrap(), &self.home.join("cut"), self.kind, "loop")
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // A device that fails no more lets go of what is mounted on it.
        self.record.lock().unwrap_or_else(std::sync::PoisonError::into_inner).failing = 0..0;
        if !self.device.is_empty() {
            let _ = std::process::Command::new("losetup").args(["--detach", &self.device]).status();
        }
        // Lazily: the loop device lets go of the file only when the last one is done with it.
        let _ = std::process::Command::new("umount").arg("-l").arg(self.home.join("record")).status();
    }
}
