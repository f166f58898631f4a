//! Which bugs can a test plant, to show that the crash tests find them?

/// Bugs of the engine that a test may switch on. None is ever on outside tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plants {
    /// Readers are shown a synced batch before its sync has returned.
    pub publish_before_sync: bool,
    /// The durable mark says "durable" of bytes that no sync has returned for.
    pub mark_before_sync: bool,
    /// The first batch of an opening is written before the manifest says "not closed".
    pub write_before_opened: bool,
    /// A failed write is answered without zeroing its first header.
    pub no_zeroing: bool,
    /// A push is answered before its sync.
    pub answer_before_sync: bool,
}
