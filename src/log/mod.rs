//! Where are the messages, and up to where may they be read?
//!
//! The set of segments is an immutable value behind an `Arc`, swapped as a whole: no reader waits
//! for a writer, and no reader's picture changes under it. What changes without a swap is how far
//! the active segment may be read, and that only grows (but for a poisoned log, which goes back to
//! what is durable).

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use self::index::{Held, Kept};
use crate::error::{Error, Result};
use crate::format::header::{self, Fields, FileKind};
use crate::format::index::Row;
use crate::format::manifest::{About, SegmentRow};
use crate::format::record::Tag;
use crate::format::snapshot::NORMAL;
use crate::format::{MAX_SEGMENT, Malformed, PAGE, PAGE_POSITION, names};
use crate::storage::{Access, File, Process, Storage, read_up_to};
use crate::wake::Wake;

pub(crate) mod damage;
pub(crate) mod evidence;
pub(crate) mod index;
pub(crate) mod kept;
pub(crate) mod keys;
pub(crate) mod make;
mod message;
pub(crate) mod reader;
pub(crate) mod recovery;
pub(crate) mod roll;
pub(crate) mod room;
pub(crate) mod scan;
pub(crate) mod settles;
pub(crate) mod spare;
pub(crate) mod writer;

/// A segment that belongs to the queue, as a reader sees it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) salt: u32,
    pub(crate) base: u64,
    /// How many messages there ever were, less those that still lie in it and behind it.
    messages_before: AtomicU64,
    /// The offset behind its last message, once it is sealed.
    past: AtomicU64,
    /// Bytes of the file, of the active one; else 0.
    pub(crate) capacity: u64,
    /// Up to where it may be read.
    end: AtomicU64,
    /// Whether `end` is final.
    sealed: AtomicBool,
    /// Bit `t`: some record has, or may have, an attribute with tag `t`.
    tags: AtomicU64,
    /// What is known of the messages that have a priority or a key.
    rows: Mutex<Held>,
}

/// The log, as a reader sees it.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) queue: u128,
    /// Who opened it.
    process: Process,
    set: RwLock<Arc<Vec<Arc<Segment>>>>,
    /// The offset behind the last message that may be read.
    next: AtomicU64,
    /// How many messages lie before it, from the log's beginning on.
    messages: AtomicU64,
    /// The offset behind the last message that is on stable storage.
    durable: AtomicU64,
    /// How many threads wait for a message, in all groups.
    sleepers: AtomicUsize,
    listeners: Mutex<Vec<Weak<dyn Wake>>>,
    failure: OnceLock<Error>,
    kept: Kept,
    /// How often messages of a high priority came, or may have.
    raised: AtomicU64,
    /// How often segments have left the set.
    left: AtomicU64,
    /// How far it may grow.
    pub(crate) room: room::Room,
}

/// The end that readers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) position: u64,
    pub(crate) next: u64,
    pub(crate) messages: u64,
}

impl Segment {
    /// Makes the reader's view of a row of the manifest; of the active one with its end.
    pub(crate) fn new(row: &SegmentRow, end: u64, capacity: u64) -> Self {
        Self {
            number: row.number,
            salt: row.salt,
            base: row.base,
            messages_before: AtomicU64::new(row.messages_before),
            past: AtomicU64::new(row.end),
            capacity,
            end: AtomicU64::new(end),
            sealed: AtomicBool::new(row.length != 0),
            tags: AtomicU64::new(row.about.tags),
            rows: Held::new(row.length != 0, row.about.tags, end),
        }
    }

    /// Returns the union of attribute tags: bit `t` is set if some record has, or may have, one with
    /// tag `t`. Set before readers see the record.
    pub(crate) fn tags(&self) -> u64 {
        self.tags.load(Ordering::Acquire)
    }

    /// Returns how many messages there ever were, less those that still lie in it and behind it.
    pub(crate) fn messages_before(&self) -> u64 {
        self.messages_before.load(Ordering::Acquire)
    }

    /// Returns the offset behind its last message, if there come no more.
    pub(crate) fn past(&self) -> Option<u64> {
        self.sealed.load(Ordering::Acquire).then(|| self.past.load(Ordering::Acquire))
    }

    /// Returns where the segment stands in the log: the set is in this order, numbers alone are not.
    pub(crate) fn order(&self) -> (u64, u64) {
        (self.base, self.number)
    }

    /// Returns up to where the segment may be read, and whether that is final.
    pub(crate) fn end(&self) -> (u64, bool) {
        // In this order: an end read after "sealed" was seen is the last one.
        let sealed = self.sealed.load(Ordering::Acquire);
        (self.end.load(Ordering::Acquire), sealed)
    }

    /// Opens the file for reading. Which contents it has was checked when the queue was opened.
    pub(crate) fn open(&self, storage: &dyn Storage) -> Result<Arc<dyn File>> {
        let name = names::segment(self.number);
        storage.open(&name, Access::Read).map_err(|error| Error::io("open", storage.root().join(name), error))
    }
}

impl Log {
    pub(crate) fn new(storage: Arc<dyn Storage>, queue: u128, set: Vec<Arc<Segment>>, end: End) -> Self {
        let raised = set.iter().any(|segment| segment.tags() & Tag::Priority.bit() != 0);
        Self {
            storage,
            queue,
            process: Process::this(),
            set: RwLock::new(Arc::new(set)),
            next: AtomicU64::new(end.next),
            messages: AtomicU64::new(end.messages),
            durable: AtomicU64::new(end.next),
            sleepers: AtomicUsize::new(0),
            listeners: Mutex::new(Vec::new()),
            failure: OnceLock::new(),
            kept: Kept::default(),
            raised: AtomicU64::new(raised.into()),
            left: AtomicU64::new(0),
            room: room::Room::default(),
        }
    }

    /// Tells whether this is the process that opened the queue, and no fork of it. Asked before any lock
    /// is taken: in a fork nobody may be left to give it back.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.process.is_this()
    }

    /// Refuses in a fork of the process that opened the queue.
    ///
    /// # Errors
    /// [`Error::Forked`].
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.is_ours() { Ok(()) } else { Err(Error::Forked { path: self.storage.root().to_path_buf() }) }
    }

    /// Asks that `listener` is woken when the end has moved while somebody sleeps.
    pub(crate) fn listen(&self, listener: Weak<dyn Wake>) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(listener);
    }

    /// Says that a thread is about to sleep until a message comes. It looks at [`Log::next`] once
    /// more after this and before it sleeps: then either it sees the message, or the writer sees it.
    pub(crate) fn sleep(&self) {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes [`Log::sleep`] back.
    pub(crate) fn awake(&self) {
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Returns the segments there are, in offset order.
    pub(crate) fn set(&self) -> Arc<Vec<Arc<Segment>>> {
        self.set.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the number of the segment in which an offset lies; 0 if there is none.
    pub(crate) fn segment_of(&self, offset: u64) -> u64 {
        self.segment_at(offset).map_or(0, |segment| segment.number)
    }

    /// Returns the segment in which an offset lies.
    pub(crate) fn segment_at(&self, offset: u64) -> Option<Arc<Segment>> {
        let set = self.set();
        let index = set.partition_point(|segment| segment.base <= offset);
        index.checked_sub(1).and_then(|index| set.get(index)).cloned()
    }

    /// Returns the offset behind the last message that may be read.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// Returns how many messages were ever there to be read.
    pub(crate) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Acquire)
    }

    /// Shows readers a new end in the active segment, with the union of its tags and the rows of what
    /// is new there.
    fn publish(&self, active: &Segment, end: End, tags: u64, fresh: &mut Vec<Row>) {
        self.add(active, tags, fresh);
        self.show(active, end);
    }

    fn add(&self, segment: &Segment, tags: u64, fresh: &mut Vec<Row>) {
        segment.tags.store(tags, Ordering::Release);
        let high = fresh.iter().any(|row| row.priority > NORMAL);
        segment.add_rows(fresh);
        if high {
            // Behind the rows, so that who hears of it finds them.
            self.raised.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Returns how often messages of a priority above the normal one have come, or may have: as long as
    /// it stays the same there are no new ones.
    #[inline]
    pub(crate) fn raised(&self) -> u64 {
        self.raised.load(Ordering::SeqCst)
    }

    /// Returns the offset behind the last message that a sync which returned has made durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::SeqCst)
    }

    /// Refuses to judge what reads badly at an offset and was never synced: it is not promised, so it is no damage.
    /// A failed sync makes the cache forget it, and the disk may have it all the same.
    ///
    /// # Errors
    /// Why the log has stopped, or [`Error::Io`]: what is there may read well the next time.
    pub(crate) fn check_promised(&self, offset: u64, segment: u64) -> Result<()> {
        if offset < self.durable() {
            return Ok(());
        }
        let unread = || {
            let what = "what was pushed and not synced yet does not read as it was written";
            Error::io("read", self.path(segment), std::io::Error::new(std::io::ErrorKind::InvalidData, what))
        };
        Err(self.failure().cloned().unwrap_or_else(unread))
    }

    fn show(&self, active: &Segment, end: End) {
        active.end.store(end.position, Ordering::Release);
        self.messages.store(end.messages, Ordering::Release);
        self.next.store(end.next, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) == 0 {
            return;
        }
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.wake();
        }
    }

    /// Shows readers what is durable, and that nothing comes behind it.
    fn stop(&self, active: &Segment, durable: End, why: Error) {
        // The first failure is the cause of those after it.
        let _ = self.failure.set(why);
        active.cut_rows(durable.position);
        self.show(active, durable);
        self.room.ring();
    }

    /// Returns why nothing new will come; `None` while all is well.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }

    /// Seals the active segment at its end, with the rows of what is new there, and shows readers the
    /// next one.
    fn append(
        &self,
        sealed: &Arc<Segment>,
        (end, past): (u64, u64),
        tags: u64,
        fresh: &mut Vec<Row>,
        next: Arc<Segment>,
    ) {
        self.add(sealed, tags, fresh);
        if sealed.is_indexed() {
            self.keep(sealed.clone());
        }
        let mut set = self.set.write().unwrap_or_else(PoisonError::into_inner);
        let mut longer = Vec::clone(&set);
        longer.push(next);
        *set = Arc::new(longer);
        sealed.end.store(end, Ordering::Release);
        sealed.past.store(past, Ordering::Release);
        // Last: who sees it finds the successor in the set.
        sealed.sealed.store(true, Ordering::Release);
    }

    /// Counts the bytes of the segments, up to where they may be read.
    pub(crate) fn bytes(&self) -> u64 {
        self.set().iter().map(|segment| segment.end().0).sum()
    }

    /// Shows readers the set without segments that nobody needs any more, with another in their place if there
    /// is one, and counts as the rows of the manifest do by now. Before their files go. Returns those that left.
    pub(crate) fn replace(
        &self,
        numbers: &[u64],
        by: Option<Arc<Segment>>,
        rows: &[SegmentRow],
    ) -> Vec<Arc<Segment>> {
        let mut set = self.set.write().unwrap_or_else(PoisonError::into_inner);
        let (left, mut stay): (Vec<_>, Vec<_>) =
            set.iter().cloned().partition(|segment| numbers.contains(&segment.number));
        if let Some(by) = by {
            let at = stay.partition_point(|segment| segment.order() < by.order());
            stay.insert(at, by);
        }
        for segment in &stay {
            if let Some(row) = rows.iter().find(|row| row.number == segment.number) {
                segment.messages_before.store(row.messages_before, Ordering::Release);
            }
        }
        *set = Arc::new(stay);
        drop(set);
        self.kept.forget(numbers);
        self.left.fetch_add(1, Ordering::SeqCst);
        self.room.ring();
        left
    }

    /// Returns how often segments have left the set: who goes through it segment by segment has missed nothing
    /// if it stayed the same meanwhile.
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Ordering::SeqCst)
    }

    /// Tells whether a segment belongs to the log.
    fn has(&self, number: u64) -> bool {
        self.set().iter().any(|segment| segment.number == number)
    }

    /// Returns the path of a segment, for messages.
    pub(crate) fn path(&self, number: u64) -> std::path::PathBuf {
        self.storage.root().join(names::segment(number))
    }
}

/// Checks that a file is what a row of the manifest says: present, ours, long enough.
///
/// # Errors
/// [`Error::Refused`], [`Error::Version`], [`Error::Io`].
pub(crate) fn check(storage: &dyn Storage, queue: u128, row: &SegmentRow, access: Access) -> Result<Checked> {
    let name = names::segment(row.number);
    let path = storage.root().join(&name);
    let refused = |problem: String| Error::Refused { path: path.clone(), problem };
    let file = match storage.open(&name, access) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(refused("is missing".into()));
        }
        other => other.map_err(|error| Error::io("open", &path, error))?,
    };
    let io = |error| Error::io("read", &path, error);
    let mut page = vec![0; PAGE];
    let got = read_up_to(&*file, &mut page, 0).map_err(io)?;
    page.truncate(got);
    let header = match header::decode(FileKind::Segment, &page) {
        Ok(page) => page.header,
        Err(Malformed::Newer(problem)) => return Err(Error::Version { path, problem }),
        Err(problem) => return Err(refused(format!("is not the segment it should be: {problem}"))),
    };
    let Fields::Segment { number, capacity, .. } = header.fields else {
        return Err(refused("is not a segment".into()));
    };
    if header.queue != queue {
        return Err(refused(format!("belongs to another queue ({:032x})", header.queue)));
    }
    if number != row.number || header.salt != row.salt {
        return Err(refused(format!(
            "is another segment: number {number} with salt {:08x}, expected {} with {:08x}",
            header.salt, row.number, row.salt
        )));
    }
    if capacity > MAX_SEGMENT {
        return Err(refused(format!("claims {capacity} bytes, and no segment has more than {MAX_SEGMENT}")));
    }
    let length = file.len().map_err(io)?;
    let least = if row.length == 0 { capacity } else { row.length };
    if length < least || capacity < PAGE_POSITION {
        return Err(refused(format!("is cut short: {length} bytes, expected at least {least}")));
    }
    Ok(Checked { file, capacity })
}

/// A segment whose header was checked.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) file: Arc<dyn File>,
    /// Bytes of the file.
    pub(crate) capacity: u64,
}

/// What the writer knows of the segment it writes.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn File>,
    pub(crate) capacity: u64,
    /// Where the next batch goes.
    pub(crate) position: u64,
    /// Up to where a sync that has returned made it durable.
    pub(crate) durable: u64,
    pub(crate) about: About,
}
