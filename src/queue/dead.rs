//! What is known of messages that nobody has on loan: dead letters, and what can be looked at?

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::consumer::Content;
use crate::error::{Error, Result};
use crate::format::entry::reason;
use crate::group::rule::{Dead, MessageState};
use crate::log::reader::{Cursor, Message};
use crate::offset::Offset;
use crate::share::member::Member;
use crate::share::place::Handle;

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
            reason: reason_of(dead.reason),
            failures: dead.failures,
            losses: dead.losses,
            since: UNIX_EPOCH + Duration::from_millis(dead.since),
            error: dead.error.map(String::from),
        }
    }
}

pub(super) fn reason_of(code: u32) -> DeadReason {
    match code {
        reason::FAILURES => DeadReason::Failures,
        reason::LOSSES => DeadReason::Losses,
        reason::REJECTED => DeadReason::Rejected,
        reason::DAMAGED => DeadReason::Damaged,
        reason::EXPIRED => DeadReason::Expired,
        _ => DeadReason::Other,
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
    /// Keeps the queue open.
    _handle: Arc<Handle>,
    member: Member,
    cursor: Option<Cursor>,
    /// Rows of offsets that are left, the next one last.
    rows: Vec<(u64, u64)>,
    /// What was found and not yet shown.
    found: VecDeque<Result<(Message, MessageState)>>,
    state: Option<MessageState>,
}

impl Browse {
    pub(super) fn new(handle: Arc<Handle>, member: Member, state: MessageState) -> Self {
        let (mut rows, mut found) = (Vec::new(), VecDeque::new());
        match member.rows(state) {
            Ok(all) => rows = all,
            Err(error) => found.push_back(Err(error)),
        }
        rows.reverse();
        Self { _handle: handle, member, cursor: None, rows, found, state: Some(state) }
    }

    /// Looks at one message, whatever its state.
    pub(super) fn one(handle: Arc<Handle>, member: Member, offset: u64) -> Self {
        let rows = vec![(offset, offset + 1)];
        Self { _handle: handle, member, cursor: None, rows, found: VecDeque::new(), state: None }
    }
}

impl Iterator for Browse {
    type Item = Result<Peek>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.found.pop_front() {
                let content = found.and_then(|(message, state)| {
                    let content =
                        Content::new(self.member.queue(), message).map_err(|message| unread(&message));
                    content.map(|content| Peek { content, state })
                });
                return Some(content);
            }
            if let Err(error) = self.member.check_open() {
                self.rows.clear();
                return Some(Err(error));
            }
            let (first, end) = self.rows.pop()?;
            match self.member.look(&mut self.cursor, (first, end), self.state) {
                Ok((found, next)) => {
                    self.found = found.into();
                    if next < end {
                        self.rows.push((next, end));
                    }
                }
                Err(error) => {
                    self.rows.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Says that a record passed its checksum and does not parse.
pub(super) fn unread(message: &Message) -> Error {
    let what = format!("message {} is made as this version does not know", message.offset);
    Error::Invalid { what }
}
