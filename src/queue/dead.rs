//! What is known of messages that nobody has on loan: dead letters, and what can be looked at?

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::consumer::Content;
use crate::engine::Handle;
use crate::error::Result;
use crate::format::entry::reason;
use crate::group::live::Live;
use crate::group::rule::{Dead, MessageState};
use crate::log::reader::{Cursor, Step};
use crate::offset::Offset;

/// A message that was given up, or a row of neighbours that share their lot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The message; of a row the first.
    pub offset: Offset,
    /// How many offsets the row has; 1 for a single message.
    pub length: u64,
    /// Why it was given up.
    pub reason: DeadReason,
    /// Loans that ended in a nack or ran out.
    pub failures: u8,
    /// Loans whose holder died.
    pub losses: u8,
    /// When it was given up.
    pub since: SystemTime,
    /// What the last nack, or the reject, said.
    pub error: Option<String>,
}

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadReason {
    /// It failed as often as the group allows.
    Failures,
    /// It took as many holders with it as the group allows.
    Losses,
    /// A consumer said that it never will succeed.
    Rejected,
    /// Its bytes have gone bad.
    Damaged,
    /// Its time was over before it was lent.
    Expired,
    /// For a reason that only a later version knows.
    Other,
}

impl DeadLetter {
    pub(super) fn new(dead: Dead) -> Self {
        Self {
            offset: Offset::known(dead.first),
            length: dead.end - dead.first,
            reason: match dead.reason {
                reason::FAILURES => DeadReason::Failures,
                reason::LOSSES => DeadReason::Losses,
                reason::REJECTED => DeadReason::Rejected,
                reason::DAMAGED => DeadReason::Damaged,
                reason::EXPIRED => DeadReason::Expired,
                _ => DeadReason::Other,
            },
            failures: dead.failures,
            losses: dead.losses,
            since: UNIX_EPOCH + Duration::from_millis(dead.since),
            error: dead.error.map(String::from),
        }
    }
}

/// A message that was looked at: no loan was taken, and nothing changes.
#[derive(Debug)]
pub struct Peek {
    content: Content,
    state: MessageState,
}

impl Peek {
    /// Returns where the message was in its life, in that group, when it was looked at.
    #[must_use]
    pub fn state(&self) -> MessageState {
        self.state
    }
}

impl Deref for Peek {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.content
    }
}

/// Messages that were in a state when the browsing began, in offset order; see
/// [`Group::browse`](super::Group::browse).
#[derive(Debug)]
pub struct Browse {
    handle: Arc<Handle>,
    live: Arc<Live>,
    cursor: Cursor,
    /// Rows of offsets that are left, the next one last.
    rows: Vec<(u64, u64)>,
    state: Option<MessageState>,
}

impl Browse {
    pub(super) fn new(handle: Arc<Handle>, live: Arc<Live>, state: MessageState) -> Self {
        let mut rows = live.rows(state, handle.engine().log.next());
        rows.reverse();
        let cursor = Cursor::new(live.log.clone());
        Self { handle, live, cursor, rows, state: Some(state) }
    }

    /// Looks at one message, whatever its state.
    pub(super) fn one(handle: Arc<Handle>, live: Arc<Live>, offset: u64) -> Self {
        let cursor = Cursor::new(live.log.clone());
        Self { handle, live, cursor, rows: vec![(offset, offset + 1)], state: None }
    }
}

impl Iterator for Browse {
    type Item = Result<Peek>;

    fn next(&mut self) -> Option<Self::Item> {
        let engine = self.handle.engine();
        loop {
            if let Err(error) = engine.check_open() {
                self.rows.clear();
                return Some(Err(error));
            }
            let (first, end) = self.rows.pop()?;
            self.cursor.seek(first, None);
            let step = match self.cursor.next() {
                Ok(step) => step,
                Err(error) => {
                    self.rows.clear();
                    return Some(Err(error));
                }
            };
            match step {
                Step::Message(mut message) if message.offset < end => {
                    let offset = message.offset;
                    if offset + 1 < end {
                        self.rows.push((offset + 1, end));
                    }
                    match message.check(&engine.log) {
                        Ok(true) => {}
                        Ok(false) => return Some(Err(message.damaged(&engine.log))),
                        Err(error) => return Some(Err(error)),
                    }
                    let state = self.state.unwrap_or_else(|| self.live.state_of(offset));
                    return Some(match Content::new(engine.queue, message) {
                        Ok(content) => Ok(Peek { content, state }),
                        Err(message) => Err(message.damaged(&engine.log)),
                    });
                }
                Step::Damaged(damaged) if damaged.first < end => {
                    if damaged.end < end {
                        self.rows.push((damaged.end, end));
                    }
                    return Some(Err(damaged.error(&engine.log)));
                }
                Step::Message(_) | Step::Damaged(_) | Step::End => {}
            }
        }
    }
}
