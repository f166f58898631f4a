//! What can go wrong, and what is the reader to do then?

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::offset::Offset;

/// What comes out of every call that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. Cheap to clone: one failed sync answers many waiters.
///
/// The text of each says what was tried, where, what was found, and what to do.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused. Nothing of this call took effect; it may be tried again.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "make the folder".
        doing: Cow<'static, str>,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },

    /// There is no room. Nothing of this call took effect; acks and freeing go on, and the same
    /// call works again when there is room, without reopening.
    #[error("no room on the disk for {}: {source}; free some space and try again", path.display())]
    Full {
        /// The file that could not grow.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },

    /// The queue has as much as it may have ([`Options::max_messages`](crate::Options::max_messages),
    /// [`Options::max_bytes`](crate::Options::max_bytes)). Nothing of this call took effect; the same call works
    /// again when messages are done.
    #[error(
        "the queue in {} has as many {what} as it may have, {limit}; push again when some messages are done, or raise max_{what}",
        path.display()
    )]
    AtLimit {
        /// Of what there is too much: "messages" or "bytes".
        what: Cow<'static, str>,
        /// How much there may be.
        limit: u64,
        /// The queue's folder.
        path: PathBuf,
    },

    /// All 2⁴⁸ offsets were given out.
    #[error("the queue in {} has given out all of its 2^48 offsets; export what is left into a new queue", path.display())]
    Exhausted {
        /// The queue's folder.
        path: PathBuf,
    },

    /// A message or batch is longer than the limit. Nothing was written.
    #[error(
        "{what} of {length} bytes is over the limit of {limit} bytes; split it, or store it elsewhere and push its address"
    )]
    TooLarge {
        /// "a message" or "a batch".
        what: Cow<'static, str>,
        /// Its length, or more than the limit where it is not known exactly.
        length: u64,
        /// The limit.
        limit: u64,
    },

    /// The queue was closed, by this program.
    #[error("the queue is closed")]
    Closed,

    /// The queue was opened by the process that this one was forked from. Here nothing of it works, and
    /// nothing of it was changed; there it goes on.
    #[error("the queue in {} was opened before this process was forked; open one here", path.display())]
    Forked {
        /// The queue's folder.
        path: PathBuf,
    },

    /// A write or sync failed in a way after which the file cannot be trusted. What was acknowledged
    /// is safe; what this call wanted to write may be there after the next opening, or not.
    #[error("writing to {} stopped after a failure ({cause}); close the queue and open it again", path.display())]
    Poisoned {
        /// The file that failed.
        path: PathBuf,
        /// The failure.
        cause: String,
    },

    /// The disk was too full even to take back a failed write. What this call wanted to push may be
    /// there after a crash, or not; it is taken back before the next write.
    #[error("in doubt: {} could not be written ({cause}), nor taken back; free some space", path.display())]
    InDoubt {
        /// The file that could not be written.
        path: PathBuf,
        /// The failure.
        cause: String,
    },

    /// Another process, or another handle in this one, has the queue open.
    #[error("{} is open elsewhere{}; wait for it (lock_timeout), or stop it", path.display(), note_of(note))]
    Locked {
        /// The queue's folder.
        path: PathBuf,
        /// What the other one wrote into `LOCK`; informs only.
        note: String,
    },

    /// The folder is on a network file system, and that was not allowed. Nothing was changed.
    #[error(
        "{} is on a network file system ({kind}), where locks and syncs promise less than a queue needs; \
         use a local disk, or allow it (network_file_system)",
        path.display()
    )]
    NetworkFileSystem {
        /// The queue's folder.
        path: PathBuf,
        /// Which one: "NFS".
        kind: Cow<'static, str>,
    },

    /// There is no queue, and it was not to be created; or something else is there.
    #[error("no queue at {}: {found}", path.display())]
    NotAQueue {
        /// The folder that was given.
        path: PathBuf,
        /// What is there instead, and what to do.
        found: String,
    },

    /// A file that belongs to the queue is missing, foreign or too short. Nothing was changed.
    #[error("{} {problem}; put the right file back, or see docs/RECOVERY.md; nothing was changed", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// Bytes that were promised have gone bad. They are not delivered and not removed.
    #[error("{} is damaged at byte {position}: {problem}{}; run \"backlog verify\"", path.display(), offsets_of(offsets.as_ref()))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// The messages in it, as far as it can be known.
        offsets: Option<Range<u64>>,
        /// What was expected and found.
        problem: String,
    },

    /// A repair would give up promised bytes that cannot be read any more, and that was not allowed. Nothing was
    /// changed.
    #[error(
        "repairing {} would give up what cannot be read any more ({what}); look at the whole plan, and allow it \
         (allow_loss)",
        path.display()
    )]
    WouldLose {
        /// The queue's folder.
        path: PathBuf,
        /// How many steps, and the first.
        what: String,
    },

    /// A newer version wrote this. Nothing was changed.
    #[error("{} was written by a newer version: {problem}; use that version", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What this version does not know.
        problem: String,
    },

    /// There is no group of that name.
    #[error("no group {name:?} here; there are: {}", list_of(existing))]
    NoSuchGroup {
        /// The name that was asked for.
        name: String,
        /// Those there are.
        existing: Vec<String>,
    },

    /// A group of that name is there already.
    #[error("the group {name:?} exists already")]
    GroupExists {
        /// The name.
        name: String,
    },

    /// A name that no group can have.
    #[error("{name:?} is no name for a group: 1 to 64 of a-z 0-9 . _ - with a letter or digit first")]
    GroupName {
        /// The name.
        name: String,
    },

    /// The loan is not this caller's any more: the message was lent again, discarded, or given up.
    #[error("the loan of message {offset} is over: it was settled, lent again or given up meanwhile")]
    LeaseLost {
        /// The message.
        offset: Offset,
    },

    /// A guest's holder is not known to the owner any more, or has had all the loans that it can have. Nothing
    /// was lent.
    #[error(
        "the holder {holder:08x} can have no loans here: it is over, or had 2^32 of them; connect anew under a new one"
    )]
    HolderOver {
        /// The holder.
        holder: u32,
    },

    /// A message of a batch has a key that is taken. Nothing of the batch was stored.
    #[error("message {index} of the batch has a key that {} has; nothing was pushed", taker_of(*offset))]
    Duplicate {
        /// Which message of the batch, from 0 on.
        index: usize,
        /// The message that has the key; `None`: another one of this batch.
        offset: Option<Offset>,
    },

    /// A value cannot be made into a payload. Nothing was pushed.
    #[error("this value cannot be encoded: {problem}")]
    Encode {
        /// What the encoding says.
        problem: String,
    },

    /// A payload is not the value that was asked for. The delivery is as it was: it can still be
    /// settled in any way, such as rejected.
    #[error("the payload of message {offset}{} is not the value asked for: {problem}", kind_of(kind.as_deref()))]
    Decode {
        /// The message.
        offset: Offset,
        /// Its kind, if it has one.
        kind: Option<String>,
        /// How it was encoded, and what does not fit.
        problem: String,
    },

    /// The time given was over before the answer was there. What was asked for goes on.
    #[error("no answer in the time given{}", owner_of(*owner))]
    Timeout {
        /// The process that has the queue open and did not answer, where it is another one: stopped, or very
        /// busy.
        owner: Option<u32>,
    },

    /// An option or argument that cannot be meant.
    #[error("{what}")]
    Invalid {
        /// What is wrong, and what is allowed.
        what: String,
    },
}

impl Error {
    /// Wraps what the system said; a lack of room becomes [`Error::Full`].
    pub(crate) fn io(doing: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        let source = Arc::new(source);
        if is_lack_of_room(&source) {
            Self::Full { path, source }
        } else {
            Self::Io { doing: doing.into(), path, source }
        }
    }

    /// Says that a loan is over.
    pub(crate) fn lease_lost(offset: u64) -> Self {
        Self::LeaseLost { offset: Offset::known(offset.min(Offset::LIMIT - 1)) }
    }

    /// Tells whether a push that failed so is not in the log, and never will be.
    pub(crate) const fn stored_nothing(&self) -> bool {
        use Error::{AtLimit, Closed, Exhausted, Full, Invalid, Io, TooLarge};
        let refused = matches!(self, TooLarge { .. } | Invalid { .. } | Exhausted { .. } | Closed);
        refused || matches!(self, Full { .. } | AtLimit { .. } | Io { .. })
    }

    /// Tells whether there was no room: on the disk, or in what the queue may have.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::AtLimit { .. })
    }

    /// Tells whether the queue was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// Tells whether somebody else has the queue open.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }
}

/// Tells whether an error means that the disk, the quota or the size limit is used up.
pub(crate) fn is_lack_of_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn owner_of(process: Option<u32>) -> String {
    let said = |process: u32| {
        format!(": process {process}, which has the queue open, does not answer; look whether it is stopped")
    };
    process.map_or_else(String::new, said)
}

fn note_of(note: &str) -> String {
    if note.is_empty() { String::new() } else { format!(" ({note})") }
}

fn offsets_of(offsets: Option<&Range<u64>>) -> String {
    offsets.map_or_else(String::new, |offsets| format!(" (offsets {}..{})", offsets.start, offsets.end))
}

fn taker_of(offset: Option<Offset>) -> String {
    offset.map_or_else(|| "another one of it".into(), |offset| format!("message {offset}"))
}

fn kind_of(kind: Option<&str>) -> String {
    kind.map_or_else(String::new, |kind| format!(" (kind {kind:?})"))
}

fn list_of(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_file_the_byte_and_what_to_do() {
        let error = Error::Damaged {
            path: "jobs/log/000000001.seg".into(),
            position: 4096,
            offsets: Some(3..5),
            problem: "checksum mismatch".into(),
        };

        assert_eq!(
            error.to_string(),
            "jobs/log/000000001.seg is damaged at byte 4096: checksum mismatch (offsets 3..5); run \"backlog verify\""
        );
    }

    #[test]
    fn a_lack_of_room_is_told_from_other_errors() {
        let full = Error::io("write", "x", io::ErrorKind::QuotaExceeded.into());
        let other = Error::io("write", "x", io::ErrorKind::PermissionDenied.into());

        assert!(full.is_full());
        assert!(!other.is_full());
    }
}
