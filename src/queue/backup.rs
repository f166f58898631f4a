//! How does one keep a copy of a queue, and make a queue of it again?

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::engine::backup::{self, Backup as Copying};
use crate::error::{Error, Result};
use crate::inspect::Progress;
use crate::storage::Storage;
use crate::storage::disk::Disk;

/// A copy of a queue that is kept current.
///
/// The queue may be open and busy meanwhile: it is neither locked nor written to. Each [`round`](Backup::round) makes the
/// copy one of a single moment: every push that returned before the round began is in it, no group is ahead of the
/// log, and what is on loan is on loan. The copy is a folder like the queue's, which every function that looks can look
/// at ([`inspect`](crate::inspect()), [`verify`](crate::verify()), [`View`](crate::View)); it is no queue, and opening it
/// says so: [`restore`] makes one of it.
///
/// ```
/// # fn main() -> backlog::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let (jobs, copy, again) = (folder.path().join("jobs"), folder.path().join("copy"), folder.path().join("again"));
/// use backlog::{Backup, Queue, restore};
///
/// let queue = Queue::open(&jobs)?;
/// queue.push("first")?;
/// let mut backup = Backup::new(&jobs, &copy)?;
/// backup.round(&mut |_| {})?;
/// queue.push("second")?;
/// backup.round(&mut |_| {})?; // copies what is new
///
/// assert!(backlog::verify(&copy, &mut |_| {})?.is_empty());
/// assert!(Queue::open(&copy).is_err());
/// restore(&copy, &again, &mut |_| {})?;
/// assert_eq!(Queue::open(&again)?.consumer()?.recv()?.payload(), b"first");
/// # queue.close()
/// # }
/// ```
#[derive(Debug)]
pub struct Backup {
    copying: Copying,
}

/// What a round of a backup did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackupRound {
    /// The offset behind the last message in the copy.
    pub next_offset: u64,
    /// Messages that were ever pushed until then.
    pub messages: u64,
    /// Segments in the copy.
    pub segments: u64,
    /// Bytes of segments that were not there yet.
    pub copied_bytes: u64,
    /// Groups whose files are damaged, and how: the copy keeps what it had of them in the round before, if anything.
    pub refused: Vec<(String, Error)>,
    /// Segments of the queue in which bytes have gone bad. What the copy had of them before, and is good, stays.
    pub damaged: Vec<PathBuf>,
}

/// What a restoring did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Restored {
    /// The identity of the new queue: 32 hexadecimal digits.
    pub id: String,
    /// Groups of the copy that cannot be read, and why: the queue does not have them.
    pub refused: Vec<(String, Error)>,
}

impl Backup {
    /// Begins a copy in a folder that is new or empty, or goes on with one: an earlier backup of the same queue,
    /// finished or not.
    ///
    /// # Errors
    /// [`Error::Refused`] where anything else lies, [`Error::Locked`] while another backup writes it, and what
    /// [`inspect`](crate::inspect()) says.
    pub fn new(folder: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Self> {
        keep_apart(folder.as_ref(), to.as_ref())?;
        let from: Arc<dyn Storage> = Arc::new(Disk::new(folder.as_ref()));
        let to: Arc<dyn Storage> = Arc::new(Disk::new(to.as_ref()));
        Self::of(from, to, Arc::new(SystemClock::new()))
    }

    pub(super) fn of(from: Arc<dyn Storage>, to: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Result<Self> {
        Copying::new(from, to, clock).map(|copying| Self { copying })
    }

    /// Brings the copy to the present moment: copies what is not there yet. It is durable when this returns; until
    /// the end, and after a crash, it is that of the round before. `progress` is told how far it has come.
    ///
    /// # Errors
    /// When the queue cannot be read, or the disk of the copy refuses.
    pub fn round(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<BackupRound> {
        let round = self.copying.round(progress)?;
        Ok(BackupRound {
            next_offset: round.next,
            messages: round.messages,
            segments: round.segments,
            copied_bytes: round.copied,
            refused: round.refused,
            damaged: round.damaged,
        })
    }
}

/// Makes a queue of a backup, in a folder that is new or empty. The backup stays as it is.
///
/// The queue gets an identity of its own: receipts of the original are refused, and [`Content::id`](crate::Content::id)
/// is another. Offsets, times, groups with what they have done, dead letters, delays, limits and schedules are those of the
/// backup; what was on loan is ready again, uncounted. Dedup keys of messages whose segments are gone are free.
///
/// There is no queue until it is whole; a crash before that leaves a folder in which another attempt begins anew.
///
/// # Errors
/// [`Error::Refused`] where the one is no backup or something lies in place of the other,
/// [`Error::Damaged`] and [`Error::Io`].
pub fn restore(
    backup: impl AsRef<Path>,
    to: impl AsRef<Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Restored> {
    let from: Arc<dyn Storage> = Arc::new(Disk::new(backup.as_ref()));
    let to: Arc<dyn Storage> = Arc::new(Disk::new(to.as_ref()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    restore_to(&from, &to, &clock, progress)
}

pub(super) fn restore_to(
    from: &Arc<dyn Storage>,
    to: &Arc<dyn Storage>,
    clock: &Arc<dyn Clock>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Restored> {
    let (queue, refused) = backup::restore(from, to, clock, progress)?;
    Ok(Restored { id: format!("{queue:032x}"), refused })
}

/// Refuses a folder for what is made of a queue that lies within the queue's own.
///
/// # Errors
/// [`Error::Invalid`]; [`Error::Io`] where the current folder is gone.
pub(super) fn keep_apart(queue: &Path, made: &Path) -> Result<()> {
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|error| Error::io("find the folder", path, error));
    if absolute(made)?.starts_with(absolute(queue)?) {
        let what = format!("{} lies within {}, where nothing is written", made.display(), queue.display());
        return Err(Error::Invalid { what });
    }
    Ok(())
}
