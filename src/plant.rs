//! Which bug does a test want to be there?
//!
//! A test that finds nothing must be able to find something. Each plant is a rule of the design,
//! broken at the place that keeps it, and off unless a test of this thread has sown it. Without the
//! feature `testing` nothing of it is compiled: [`planted`] is `false` then, known to the compiler.

/// A bug that a test can plant, to show that the suites find it. None is ever there otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "public with that feature"))]
pub enum Plant {
    /// A queue's manifest gets its name before the folders `log` and `groups` have theirs for good.
    NoFolderSyncAtBirth,
    /// The name of a new queue's folder is not synced.
    NoParentSyncAtBirth,
    /// The folder of the segments is not synced before the manifest names a new one.
    NoFolderSyncAtRoll,
    /// The folders of a group are not synced before the manifest names it.
    NoFolderSyncAtGroupBirth,
    /// The manifest names a segment before its header and its name are synced.
    SlotBeforeSegment,
    /// A new manifest gets its name before it is synced.
    RenamedBeforeSync,
    /// A group's files are removed before the manifest says that it is gone.
    RemovedBeforeSlot,
    /// The first batches of a segment are written before the slot that names it is synced.
    BatchBeforeSlot,
    /// Readers are shown a synced batch before its sync has returned.
    PublishBeforeSync,
    /// A push is answered before its sync.
    AnswerBeforeSync,
    /// Acks are synced before the messages they are for.
    AckBeforeMessage,
    /// An ack is answered before its sync.
    AckBeforeSync,
    /// The durable mark says "durable" of bytes that no sync has returned for.
    MarkBeforeSync,
    /// An own mark says "durable" of entries that no sync has returned for.
    OwnMarkBeforeSync,
    /// After a failed sync of the log a second one is asked, and believed.
    SecondSyncTrusted,
    /// The same for the half that a group writes to.
    SecondHalfSyncTrusted,
    /// The same for the manifest.
    SecondSlotSyncTrusted,
    /// The log is synced by whoever thinks of it, not by the holder of its writer alone.
    SyncedByTwo,
    /// A failed write is answered without zeroing its first header.
    NotZeroed,
    /// The first batch of an opening is written before the manifest says "not closed".
    WriteBeforeOpened,
    /// Torn bytes are set aside after the first write, which may have overwritten them.
    EvidenceLate,
    /// Offsets are told before the reserve that they belong to is synced.
    ReserveUnsynced,
    /// After a crash, offsets go on behind the last message found, not beyond the reserve.
    BaseWithinReserve,
    /// An opening believes what the cache shows of the manifest.
    CachedManifest,
    /// An opening believes what the cache shows of the log.
    CachedLog,
    /// An opening believes what the cache shows of a group's files.
    CachedHalves,
    /// An opening leaves the bad copy of a slot or of a half's header as it is.
    CopyNotMadeGood,
    /// A slot of the manifest is written in one copy.
    OneCopy,
    /// Seeded checksums leave the position out.
    PositionLeftOut,
    /// The length in a batch's header is believed though its checksum does not fit.
    LengthBelieved,
    /// A half gets the salt of the one it overwrites: the entries there pass again.
    SaltReused,
    /// Entries go to the new half before it is synced.
    NewHalfUnsynced,
    /// The old half is never marked as superseded.
    NotSuperseded,
    /// Entries go to the new half before `superseded` is synced.
    SupersededUnsynced,
    /// A half is cut before its page says so durably.
    CutUnsynced,
    /// Segments are given up that a group has done in its memory alone.
    FreedOnUnsynced,
    /// The files of segments go before the manifest names them no more.
    FreedBeforeSlot,
    /// A file that becomes the next segment keeps its salt.
    RecycledSalt,
    /// A file becomes the next segment before its new header is synced.
    RecycledUnsynced,
    /// The manifest names a copy before that is synced.
    CopyUnsynced,
    /// The sources of a copy go before the manifest names that in their place.
    SourcesGoFirst,
    /// Messages are left out of a copy though a group was moved back to them meanwhile.
    MovedBackIgnored,
    /// A segment goes without its side file being kept for the dedup keys in it.
    KeysForgotten,
    /// A leader reads which group is next before it has gathered its own.
    GroupReadEarly,
    /// A leader reads how many wait before it has done the work.
    CountsReadEarly,
    /// A leader that panics tells nobody.
    SilentLeader,
    /// Who was woken to lead, and need not, wakes nobody.
    WakeupKept,
    /// A guest's caller that was to read, and need not any more, tells nobody.
    TurnKept,
    /// One that has read puts the connection back, and tells nobody.
    LinkBackInSilence,
    /// The thread of a guest is not told that a task waits.
    TaskNotTold,
    /// A leader wakes those alone who can lead the next group.
    FollowersForgotten,
    /// The end of a group calls no waker that was left for it.
    WakersForgotten,
    /// A message is recorded as done before the batch that acks it is durable.
    DoneBeforeBatch,
    /// A snapshot says that it has the acks of batches that are not recorded yet.
    SettledTooFar,
    /// An opening applies the acks of batches that a seek went back over.
    SettledOverSeek,
    /// The manifest says that the acks of batches are in a group's file before that is synced.
    SettlesToldEarly,
    /// A push that is sent again to the next owner is not looked for.
    StoredNotSought,
    /// What a guest that comes back does not name stays on loan to it.
    UnnamedKept,
    /// A segment goes though it has a push whose answer was not heard.
    UnheardFreed,
    /// What a guest that comes back has not heard is kept no longer, once it was found.
    FoundForgotten,
    /// An end of a loan that is sent again is refused, if it was done before.
    RetryRefused,
    /// A guest that lives is taken for gone.
    HolderTakenForGone,
    /// What a guest held that has died stays on loan.
    DeadTakenForLiving,
    /// An opening goes on in the half that it found.
    #[cfg(any(test, feature = "testing"))]
    SameHalf,
}

/// Tells whether a test wants this bug to be there.
#[cfg(not(any(test, feature = "testing")))]
#[inline]
pub(crate) const fn planted(_: Plant) -> bool {
    false
}

/// Does it, unless a test wants that left out.
#[inline]
pub(crate) fn unless<E>(plant: Plant, doing: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    if planted(plant) { Ok(()) } else { doing() }
}

/// Does it once, whatever comes of it; a test may want a failure to be followed by another try.
#[inline]
pub(crate) fn once<E>(retried: Plant, doing: impl Fn() -> Result<(), E>) -> Result<(), E> {
    doing().or_else(|error| if planted(retried) { doing() } else { Err(error) })
}

#[cfg(any(test, feature = "testing"))]
pub(crate) use garden::planted;
#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "public with that feature"))]
pub use garden::{Planted, plant};

#[cfg(any(test, feature = "testing"))]
mod garden;
