//! Is there room in the queue for what is pushed?
//!
//! The engine says how far the log may grow; the holder of the writer looks at that before it gives an
//! offset, so that no two pushes take the same room. What is done in a group only becomes more, so what the
//! engine said some time ago is too little and never too much; what takes room back says it anew. Without
//! limits all of this is one load for each push, and one for each ack.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::error::Error;
use crate::format::PAGE_POSITION;
use crate::wake::{Bell, Wake};

/// How far the log may grow, and who waits for that.
#[derive(Debug)]
pub(crate) struct Room {
    /// So many messages may there be, counted from the log's beginning on.
    messages_until: AtomicU64,
    max_messages: AtomicU64,
    max_bytes: AtomicU64,
    /// Of a full-grown segment.
    segment_bytes: AtomicU64,
    claimed: Arc<Claimed>,
    /// How many wait until there is room.
    waiting: AtomicUsize,
    bell: Arc<Bell>,
}

/// What a batch takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// What those take who make room for themselves and have not pushed yet.
#[derive(Debug, Default)]
struct Claimed {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// Somebody makes room for himself: others make theirs beside it.
#[derive(Debug)]
pub(crate) struct Claim {
    of: Arc<Claimed>,
    size: Size,
    open: AtomicBool,
}

/// Which way a batch goes past the limits.
#[derive(Debug)]
pub(crate) enum Pass {
    /// It must fit.
    Limited,
    /// It must fit into what was made for it.
    Claimed(Arc<Claim>),
    /// No limit keeps it out: it makes as much done as it adds.
    Exempt,
}

/// Somebody waits for room, and is to be told of changes.
#[derive(Debug)]
pub(crate) struct Waits<'a>(&'a Room);

impl Default for Room {
    fn default() -> Self {
        Self {
            messages_until: AtomicU64::new(u64::MAX),
            max_messages: AtomicU64::new(u64::MAX),
            max_bytes: AtomicU64::new(u64::MAX),
            segment_bytes: AtomicU64::new(u64::MAX),
            claimed: Arc::default(),
            waiting: AtomicUsize::new(0),
            bell: Arc::default(),
        }
    }
}

impl Room {
    /// Sets the limits, all ones is none, and the bytes of a full-grown segment.
    pub(crate) fn limit(&self, max_messages: u64, max_bytes: u64, segment_bytes: u64) {
        self.segment_bytes.store(segment_bytes, Ordering::Relaxed);
        self.max_messages.store(max_messages, Ordering::Relaxed);
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// Says up to how many messages the log may grow. Those who say so take turns.
    pub(crate) fn set_messages_until(&self, messages: u64) {
        self.messages_until.store(messages, Ordering::Relaxed);
    }

    /// Returns up to how many messages the log may grow, as far as is known.
    #[inline]
    pub(crate) fn messages_until(&self) -> u64 {
        self.messages_until.load(Ordering::Relaxed)
    }

    pub(crate) fn max_messages(&self) -> u64 {
        self.max_messages.load(Ordering::Relaxed)
    }

    /// Returns how many bytes the segments may have.
    #[inline]
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes.load(Ordering::Relaxed)
    }

    /// Returns the bytes of a full-grown segment.
    #[inline]
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes.load(Ordering::Relaxed)
    }

    /// Tells whether there are limits.
    pub(crate) fn is_limited(&self) -> bool {
        self.max_messages() != u64::MAX || self.max_bytes() != u64::MAX
    }

    /// Says that no group may have more messages that are not done.
    pub(crate) fn too_many(&self, queue: &Path) -> Error {
        Error::AtLimit { what: "messages".into(), limit: self.max_messages(), path: queue.to_path_buf() }
    }

    /// Says that the segments may not have more bytes.
    pub(crate) fn too_long(&self, queue: &Path) -> Error {
        Error::AtLimit { what: "bytes".into(), limit: self.max_bytes(), path: queue.to_path_buf() }
    }

    /// Claims room that is about to be made. It is over when the batch is written, or the claim goes.
    pub(crate) fn claim(&self, size: Size) -> Arc<Claim> {
        self.claimed.messages.fetch_add(size.messages, Ordering::SeqCst);
        self.claimed.bytes.fetch_add(size.bytes, Ordering::SeqCst);
        Arc::new(Claim { of: self.claimed.clone(), size, open: AtomicBool::new(true) })
    }

    /// Returns what is claimed. Read after what is there: then nothing counts twice.
    pub(crate) fn claimed(&self) -> Size {
        let messages = self.claimed.messages.load(Ordering::SeqCst);
        Size { messages, bytes: self.claimed.bytes.load(Ordering::SeqCst) }
    }

    /// Says that somebody waits. What is done after this rings.
    pub(crate) fn wait(&self) -> Waits<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waits(self)
    }

    /// Returns what rings when there may be more room.
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    #[inline]
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Says that something was done, or given up, or that there is nothing to wait for any more. Called with
    /// no lock held, after one that who waits takes too: so either it sees the change, or this sees it.
    #[inline]
    pub(crate) fn ring(&self) {
        if self.is_waited_for() {
            self.bell.wake();
        }
    }

    /// Tells whether a batch goes to the next segment, from a position in one of that capacity. Where the bytes
    /// are limited a long segment of old is not filled up: it can only be given up as a whole.
    pub(crate) fn must_roll(&self, position: u64, length: u64, capacity: u64) -> bool {
        let end = position + length;
        let limited = self.max_bytes() != u64::MAX;
        end > capacity || (limited && position > PAGE_POSITION && end > self.segment_bytes())
    }
}

impl Pass {
    /// Ends the claim, if it is one.
    pub(crate) fn end(&self) {
        if let Self::Claimed(claim) = self {
            claim.release();
        }
    }
}

impl Claim {
    /// Ends it: before the batch is seen by those who count.
    fn release(&self) {
        if self.open.swap(false, Ordering::SeqCst) {
            self.of.messages.fetch_sub(self.size.messages, Ordering::SeqCst);
            self.of.bytes.fetch_sub(self.size.bytes, Ordering::SeqCst);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.release();
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_ends_once() {
        let room = Room::default();
        let (one, other) =
            (room.claim(Size { messages: 2, bytes: 70 }), room.claim(Size { messages: 1, bytes: 9 }));
        assert_eq!(room.claimed(), Size { messages: 3, bytes: 79 });

        one.release();
        drop(one);

        assert_eq!(room.claimed(), Size { messages: 1, bytes: 9 });
        drop(other);
        assert_eq!(room.claimed(), Size::default());
    }

    #[test]
    fn only_where_bytes_are_limited_is_a_long_segment_left_early() {
        let room = Room::default();
        let rolls = |position, length| room.must_roll(position, length, 1 << 20);

        assert!(!rolls(8000, 5000) && rolls((1 << 20) - 8, 16));
        room.limit(u64::MAX, 1 << 20, 8192);
        assert!(rolls(8000, 5000) && !rolls(4096, 5000) && !rolls(8000, 192));
    }
}
