//! How is a queue opened?

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Queue;
use crate::clock::{self, Clock, SystemClock};
use crate::error::{Error, Result};
use crate::options::{Durability, LEAST_BYTES, Settings, WhenFull, Window};
use crate::share::place::{Handle, Place};
use crate::storage::Storage;
use crate::storage::disk::Disk;

/// Says how a queue is to be opened.
///
/// ```
/// # fn main() -> backlog::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path().join("jobs");
/// use backlog::{Durability, Options};
///
/// let queue = Options::new(&folder).durability(Durability::Buffered).open()?;
/// queue.push("fast, and safe from kill -9")?;
/// # queue.close()
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    folder: PathBuf,
    settings: Settings,
    #[cfg(any(test, feature = "testing"))]
    testing: Testing,
}

#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Debug, Default)]
struct Testing {
    disk: Option<crate::storage::sim::SimDisk>,
    clock: Option<crate::clock::ManualClock>,
}

impl Options {
    /// Starts with the defaults, for a queue in a folder.
    pub fn new(folder: impl AsRef<Path>) -> Self {
        Self {
            folder: folder.as_ref().to_path_buf(),
            settings: Settings::default(),
            #[cfg(any(test, feature = "testing"))]
            testing: Testing::default(),
        }
    }

    /// Sets whether the queue is created where there is none (default: yes).
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.settings.create = create;
        self
    }

    /// Sets when a push counts as done (default: [`Durability::Synced`]).
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.settings.durability = durability;
        self
    }

    /// Sets the bytes of a full-grown segment (default: 64 MiB; 8 KiB to 16 GiB). The first has at
    /// most 1 MiB, and they double from there.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.settings.segment_bytes = bytes;
        self
    }

    /// Sets the bytes of the longest message (default: 64 MiB; 512 MiB at most).
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: u64) -> Self {
        self.settings.max_message_bytes = bytes;
        self
    }

    /// Sets how long to wait for a queue that is open elsewhere (default: not at all).
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.settings.lock_timeout = timeout;
        self
    }

    /// Keeps messages that are done in every group until they were pushed so long ago (default: they are
    /// given up soon). What is kept can be read again with [`Group::seek`](crate::Group::seek), and by
    /// groups that are made later.
    ///
    /// It goes by segments, in the background: one is kept as long as its newest message is not old enough.
    /// With [`Options::retain_bytes`] too, either is enough to give it up. It is stored with the queue, and holds for
    /// all who open it until it is set anew; `Duration::ZERO` takes it back, `Duration::MAX` keeps everything.
    #[must_use]
    pub fn retain_for(mut self, time: Duration) -> Self {
        self.settings.limits.retain_for = Some(clock::millis(time));
        self
    }

    /// Keeps so many bytes of messages that are done in every group, the newest, counted by
    /// segments; see [`Options::retain_for`]. 0 takes it back.
    #[must_use]
    pub fn retain_bytes(mut self, bytes: u64) -> Self {
        self.settings.limits.retain_bytes = Some(bytes);
        self
    }

    /// Limits the bytes of the log: of its segments, as far as they are used, whether their messages are done
    /// or not (default: no limit, and 0 takes one back; 64 KiB at least). What is done gives its bytes back
    /// segment by segment, so segments have an eighth of it at the most; what is kept by
    /// [`Options::retain_for`] goes first. Group files, and the segment that is made ahead, come on top.
    ///
    /// What then becomes of a push is said by [`Options::when_full`]. Acks need no room. Stored with the
    /// queue, and holds for all who open it until it is set anew.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.settings.limits.max_bytes = Some(bytes);
        self
    }

    /// Limits the messages that a group has not done, in whatever state they are, dead letters too: no group
    /// has more (default: no limit, and 0 takes one back). Before there is any group it limits the messages
    /// that are stored. One slow group fills the queue for all.
    ///
    /// What then becomes of a push is said by [`Options::when_full`]. A group that goes back, or begins at
    /// the beginning, may have more for a while: then nothing is pushed until it has caught up. Stored with the
    /// queue, and holds for all who open it until it is set anew.
    #[must_use]
    pub fn max_messages(mut self, messages: u64) -> Self {
        self.settings.limits.max_messages = Some(messages);
        self
    }

    /// Sets what becomes of a push for which [`Options::max_messages`] or [`Options::max_bytes`] leaves no
    /// room (default: [`WhenFull::Refuse`]). Stored with the queue.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.settings.limits.when_full = Some(when_full);
        self
    }

    /// Leaves so many bytes of the file system to others: no new segment is made that would take of them
    /// (default: 0). Pushes that need one get [`Error::Full`](crate::Error::Full) until there is room
    /// again; all else goes on. Stored with the queue.
    #[must_use]
    pub fn min_free_bytes(mut self, bytes: u64) -> Self {
        self.settings.limits.min_free = Some(bytes);
        self
    }

    /// Sets whether this process has the queue for itself (default: no): others that open it get
    /// [`Error::Locked`], and so does this one where somebody else has it open.
    ///
    /// Otherwise whoever comes first is the owner, and serves the others, its guests, through a socket in the folder;
    /// when it goes, one of them takes over (`docs/PROTOCOL.md`). No socket and no thread for it with `true`, and none
    /// on file systems that have no sockets.
    #[must_use]
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.settings.exclusive = exclusive;
        self
    }

    /// Sets whether the queue may use threads of its own (default: yes): one for the background work
    /// of all queues of the process, one for deferred pushes, and one for tasks that receive and for
    /// deferred acks. Without them the queue is exclusive, and you call
    /// [`Queue::run_duties`] now and then; a [`Ticket`](super::Ticket) that is
    /// polled, rather than waited for, makes progress there only, and so does a task that receives where room
    /// for loans must be made, or a time comes. A ticket that is waited for with a deadline may overrun it.
    #[must_use]
    pub fn threads(mut self, threads: bool) -> Self {
        self.settings.threads = threads;
        self
    }

    /// Sets whether the file of a group with buffered acks may be mapped into memory (default: yes,
    /// on file systems where that cannot fault for lack of room). A medium error under a mapping
    /// kills the process like kill -9 does; without mappings it is an error, and acks are slower.
    #[must_use]
    pub fn mappings(mut self, mappings: bool) -> Self {
        self.settings.mappings = mappings;
        self
    }

    /// Sets how long a [dedup key](super::Message::dedup_key) is taken: by the last `count` messages that
    /// have one, and for `time` after the push, whichever ends first (default: 100,000 and one hour).
    ///
    /// Each key in the window takes some hundred bytes of memory, once the first message with a key is
    /// pushed. `time` is taken by the wall clock, so that it goes on while no process has the queue open. It is stored
    /// with the queue, and holds for all who open it until it is set anew.
    #[must_use]
    pub fn dedup_window(mut self, count: usize, time: Duration) -> Self {
        self.settings.limits.dedup = Some(Window { count, millis: clock::millis(time) });
        self
    }

    /// Sets whether the folder may be on a network file system (default: no). Locks and syncs promise
    /// less there, and so does the queue: two machines may have it open at a time, and what a server
    /// has told as synced may be gone with it.
    #[must_use]
    pub fn network_file_system(mut self, allowed: bool) -> Self {
        self.settings.network = allowed;
        self
    }

    /// Uses a simulated disk in place of the folder.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn sim_disk(mut self, disk: &crate::storage::sim::SimDisk) -> Self {
        self.testing.disk = Some(disk.clone());
        self
    }

    /// Uses a clock that is moved by hand.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn manual_clock(mut self, clock: &crate::clock::ManualClock) -> Self {
        self.testing.clock = Some(clock.clone());
        self
    }

    /// Opens the queue.
    ///
    /// What opening found (torn bytes, damage, loans returned) is told by [`Queue::recovery`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for an option that cannot be meant. [`Error::NotAQueue`] where there is no
    /// queue and none is to be created, or something else. [`Error::Locked`] when somebody has it open for
    /// himself alone. [`Error::Timeout`] when the process that has it open does not answer. [`Error::NetworkFileSystem`] unless that is allowed. [`Error::Refused`] when a file is missing, foreign or too short, and
    /// [`Error::Version`] when a newer version wrote it: nothing was changed. [`Error::Full`],
    /// [`Error::Io`].
    pub fn open(self) -> Result<Queue> {
        self.check()?;
        let durability = self.settings.durability;
        let (storage, clock) = self.outside();
        let place = Place::open(storage, clock, self.settings)?;
        Ok(Queue::new(Arc::new(Handle::new(place)), durability))
    }

    /// As [`inspect`](crate::inspect), on the simulated disk and by the clock that were given.
    ///
    /// # Errors
    /// As there.
    #[cfg(any(test, feature = "testing"))]
    pub fn inspect(&self) -> Result<super::Inspection> {
        let (storage, clock) = self.outside();
        super::inspect::look_at(&storage, &*clock)
    }

    /// As [`View::open`](crate::View::open), on the simulated disk and by the clock that were given.
    ///
    /// # Errors
    /// As there.
    #[cfg(any(test, feature = "testing"))]
    pub fn view(&self) -> Result<super::View> {
        let (storage, clock) = self.outside();
        super::View::of(&storage, &clock)
    }

    /// As [`verify`](crate::verify), on the simulated disk and by the clock that were given.
    ///
    /// # Errors
    /// As there.
    #[cfg(any(test, feature = "testing"))]
    pub fn verify(&self) -> Result<Vec<crate::inspect::Finding>> {
        let (storage, clock) = self.outside();
        crate::engine::look::verify(&storage, &*clock, &mut |_| {})
    }

    /// As [`plan_repair`](crate::plan_repair), on the simulated disk and by the clock that were given.
    ///
    /// # Errors
    /// As there.
    #[cfg(any(test, feature = "testing"))]
    pub fn plan_repair(&self) -> Result<crate::engine::repair::RepairPlan> {
        let (storage, clock) = self.outside();
        crate::engine::repair::plan(&storage, &*clock, &mut |_| {})
    }

    /// As [`repair`](crate::repair), on the simulated disk and by the clock that were given.
    ///
    /// # Errors
    /// As there.
    #[cfg(any(test, feature = "testing"))]
    pub fn repair(&self, allow_loss: bool) -> Result<crate::engine::repair::Repaired> {
        let (storage, clock) = self.outside();
        crate::engine::repair::repair(&storage, &clock, allow_loss, &mut |_| {})
    }

    /// As [`Backup::new`](crate::Backup::new), from here to another simulated disk.
    ///
    /// # Errors
    /// As there.
    #[cfg(any(test, feature = "testing"))]
    pub fn backup(&self, to: &Options) -> Result<super::Backup> {
        let (storage, clock) = self.outside();
        super::Backup::of(storage, to.outside().0, clock)
    }

    /// As [`restore`](crate::restore), from here to another simulated disk.
    ///
    /// # Errors
    /// As there.
    #[cfg(any(test, feature = "testing"))]
    pub fn restore(&self, to: &Options) -> Result<super::Restored> {
        let (storage, clock) = self.outside();
        super::backup::restore_to(&storage, &to.outside().0, &clock, &mut |_| {})
    }

    /// As [`verify_deep`](crate::verify_deep), on the simulated disk and by the clock that were given.
    ///
    /// # Errors
    /// As there.
    #[cfg(any(test, feature = "testing"))]
    pub fn verify_deep(&self) -> Result<Vec<crate::inspect::Finding>> {
        let (storage, clock) = self.outside();
        crate::engine::deep::deep(&storage, &clock, &mut |_| {})
    }

    /// As [`dump`](crate::dump), on the simulated disk that was given.
    ///
    /// # Errors
    /// As there.
    #[cfg(any(test, feature = "testing"))]
    pub fn dump(
        &self,
        options: &super::DumpOptions,
        show: &mut dyn FnMut(super::Piece) -> bool,
    ) -> Result<()> {
        crate::engine::dump::dump(&self.outside().0, options, show)
    }

    /// As [`salvage`](crate::salvage), from the disk and by the clock that were given, to the disk of `out` and in
    /// segments of its size.
    ///
    /// # Errors
    /// As there.
    #[cfg(any(test, feature = "testing"))]
    pub fn salvage(&self, out: &Self) -> Result<super::Salvaged> {
        let ((from, clock), (to, _)) = (self.outside(), out.outside());
        crate::engine::salvage::salvage(&from, &to, &*clock, out.settings.segment_bytes, &mut |_| {})
    }

    /// Returns the disk and the clock.
    #[cfg(any(test, feature = "testing"))]
    fn outside(&self) -> (Arc<dyn Storage>, Arc<dyn Clock>) {
        let disk: Arc<dyn Storage> = match &self.testing.disk {
            Some(disk) => Arc::new(disk.clone()),
            None => Arc::new(Disk::new(&self.folder)),
        };
        match &self.testing.clock {
            Some(clock) => (disk, Arc::new(clock.clone())),
            None => (disk, Arc::new(SystemClock::new())),
        }
    }

    #[cfg(not(any(test, feature = "testing")))]
    fn outside(&self) -> (Arc<dyn Storage>, Arc<dyn Clock>) {
        (Arc::new(Disk::new(&self.folder)), Arc::new(SystemClock::new()))
    }

    fn check(&self) -> Result<()> {
        let invalid = |what: &str| Err(Error::Invalid { what: what.into() });
        let Settings { segment_bytes, max_message_bytes, .. } = self.settings;
        if self.folder.as_os_str().is_empty() {
            return invalid("the folder's name is empty; use \".\" for the current folder");
        }
        if !(8 << 10..=16 << 30).contains(&segment_bytes) || !segment_bytes.is_multiple_of(4096) {
            return invalid("segment_bytes must be 8 KiB to 16 GiB, and a multiple of 4096");
        }
        if !(1..=512 << 20).contains(&max_message_bytes) {
            return invalid("max_message_bytes must be 1 to 512 MiB");
        }
        if self.settings.limits.max_bytes.is_some_and(|bytes| bytes != 0 && bytes < LEAST_BYTES) {
            return invalid("max_bytes must be 64 KiB at least, or 0 for no limit");
        }
        Ok(())
    }
}
