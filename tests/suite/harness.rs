//! How does one test of behaviour run on a real and on the simulated disk?

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use backlog::testing::{ManualClock, SimDisk};
use backlog::{Consumer, Options, Queue};
use tempfile::TempDir;

/// A disk with at most one queue on it, and a clock that is moved by hand.
pub(crate) struct World {
    place: Mutex<Place>,
    clock: ManualClock,
    /// What is opened is a guest of this one.
    owner: Option<Mutex<Option<Queue>>>,
    /// The owner goes once somebody is its guest, who takes over then.
    goes: bool,
}

/// What the wall clock shows at first.
const BEGUN: u64 = 1_700_000_000_000;

enum Place {
    Real(TempDir),
    Simulated(SimDisk),
}

impl World {
    pub(crate) fn real() -> Self {
        Self::with(Place::Real(tempfile::tempdir().unwrap()))
    }

    pub(crate) fn simulated() -> Self {
        Self::with(Place::Simulated(SimDisk::new(1)))
    }

    /// On a real disk, where another handle has the queue open: the first one to come is its owner.
    pub(crate) fn of_a_guest() -> Self {
        Self { owner: Some(Mutex::default()), ..Self::real() }
    }

    /// On a real disk, where another handle had the queue open before: what is opened was its guest, and took over.
    pub(crate) fn of_an_heir() -> Self {
        Self { goes: true, ..Self::of_a_guest() }
    }

    fn with(place: Place) -> Self {
        Self { place: Mutex::new(place), clock: ManualClock::new(BEGUN), owner: None, goes: false }
    }

    /// Returns what opens the queue: no threads, the clock of this world.
    pub(crate) fn options(&self) -> Options {
        let options = match &*self.place.lock().unwrap() {
            Place::Real(folder) => Options::new(folder.path().join("jobs")),
            Place::Simulated(disk) => Options::new("jobs").sim_disk(disk),
        };
        options.manual_clock(&self.clock).threads(self.owner.is_some())
    }

    pub(crate) fn open(&self) -> Queue {
        if let Some(owner) = &self.owner {
            let mut owner = owner.lock().unwrap();
            if let Some(owner) = owner.take() {
                let _ = owner.close();
            }
            *owner = Some(patiently(&self.options()));
            if self.goes {
                let heir = patiently(&self.options());
                owner.take().unwrap().close().unwrap();
                return heir;
            }
        }
        patiently(&self.options())
    }

    /// Kills whoever has the queue open, and opens it.
    pub(crate) fn open_after_kill(&self) -> Queue {
        self.kill();
        self.open()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Sets the wall clock so long after the beginning of this world; nothing else passes.
    pub(crate) fn set_wall(&self, after: Duration) {
        self.clock.set_wall(BEGUN + u64::try_from(after.as_millis()).unwrap());
    }

    /// Sets the wall clock so long before the beginning of this world.
    pub(crate) fn set_wall_before(&self, before: Duration) {
        self.clock.set_wall(BEGUN - u64::try_from(before.as_millis()).unwrap());
    }

    /// Returns what the wall clock shows, in milliseconds since 1970.
    pub(crate) fn wall(&self) -> u64 {
        self.clock.shows()
    }

    /// Lists the files of the queue with their lengths.
    pub(crate) fn files(&self) -> Vec<(String, u64)> {
        match &*self.place.lock().unwrap() {
            Place::Simulated(disk) => {
                let length = |name: String| {
                    (name.clone(), disk.read_file(&name).map_or(0, |bytes| bytes.len() as u64))
                };
                disk.files().into_iter().map(length).collect()
            }
            Place::Real(folder) => files_below(folder.path(), ""),
        }
    }

    /// Changes a file, with nobody having the queue open.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        match &*self.place.lock().unwrap() {
            Place::Real(folder) => {
                let path = folder.path().join("jobs").join(name);
                let mut bytes = std::fs::read(&path).unwrap();
                change(&mut bytes);
                std::fs::write(path, bytes).unwrap();
            }
            Place::Simulated(disk) => {
                let mut bytes = disk.read_file(name).unwrap();
                change(&mut bytes);
                disk.write_file(name, &bytes);
            }
        }
    }

    /// Flips a bit.
    pub(crate) fn flip(&self, name: &str, position: u64) {
        self.change(name, |bytes| bytes[usize::try_from(position).unwrap()] ^= 1);
    }

    /// Kills the process that has the queue open: what comes next finds the files as they are, and
    /// no locks. (On a real disk: a copy of them. The old queue hears nothing of it.)
    pub(crate) fn kill(&self) {
        let mut place = self.place.lock().unwrap();
        let left = match &*place {
            Place::Simulated(disk) => Place::Simulated(disk.kill()),
            Place::Real(folder) => {
                // The old queue's threads go on: a file that went while it was copied is of another moment.
                let copied = || {
                    let copy = tempfile::tempdir().unwrap();
                    copy_folder(folder.path(), copy.path()).map(|()| copy)
                };
                let copy = (0..100).find_map(|_| copied().ok());
                Place::Real(copy.unwrap_or_else(|| copied().unwrap()))
            }
        };
        *place = left;
    }
}

/// Opens a queue that nobody has open. A process that another test is just starting shares our locks
/// until it is a program of its own.
pub(crate) fn patiently(options: &Options) -> Queue {
    for _ in 0..100_000 {
        match options.clone().open() {
            Err(error) if error.is_locked() => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
    panic!("the queue stays locked");
}

fn files_below(folder: &Path, front: &str) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{front}{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path(), &format!("{name}/")));
        } else {
            files.push((name, entry.metadata().unwrap().len()));
        }
    }
    files
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&target)?;
            copy_folder(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Receives and acks all that is ready now; returns the payloads as text.
pub(crate) fn drain(consumer: &Consumer) -> Vec<String> {
    let mut payloads = Vec::new();
    while let Some(job) = consumer.try_recv().unwrap() {
        payloads.push(String::from_utf8(job.payload().to_vec()).unwrap());
        job.ack().unwrap();
    }
    payloads
}

/// Makes two tests of each rule: on a real disk and on the simulated one.
macro_rules! on_both_disks {
    ($(fn $rule:ident($world:ident: &World) $body:block)*) => {
        $(
            fn $rule($world: &$crate::harness::World) $body

            mod $rule {
                #[test]
                fn on_a_real_disk() {
                    super::$rule(&$crate::harness::World::real());
                }

                #[test]
                fn on_the_simulated_disk() {
                    super::$rule(&$crate::harness::World::simulated());
                }
            }
        )*
    };
}
pub(crate) use on_both_disks;

/// Makes four: also as a guest, and as one that took over, to whom the same is promised.
macro_rules! everywhere {
    ($(fn $rule:ident($world:ident: &World) $body:block)*) => {
        $crate::harness::on_both_disks! {
            $(fn $rule($world: &World) $body)*
        }

        mod as_a_guest {
            $(
                #[test]
                fn $rule() {
                    super::$rule(&$crate::harness::World::of_a_guest());
                }
            )*
        }

        mod as_an_heir {
            $(
                #[test]
                fn $rule() {
                    super::$rule(&$crate::harness::World::of_an_heir());
                }
            )*
        }
    };
}
pub(crate) use everywhere;
