//! Why is a message where it is?

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::dead::{DeadReason, reason_of};
use super::view::{View, state_of};
use crate::consumer::{Content, Receipt};
use crate::engine::look::GroupSeen;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, HELD, Kind, More};
use crate::group::rule::MessageState;
use crate::offset::Offset;

/// What became of an offset in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// The message is stored.
    Stored,
    /// It lies where bytes have gone bad.
    Damaged,
    /// It is done in every group and its room was given up, or the offset never belonged to a message.
    Gone,
    /// No message has that offset yet.
    NotYet,
}

/// All that can be told of one message.
#[derive(Debug)]
#[non_exhaustive]
pub struct Why {
    /// The message's offset.
    pub offset: Offset,
    /// What became of it in the log.
    pub fate: Fate,
    /// The segment in which it lies, or lay.
    pub path: Option<PathBuf>,
    /// Where its batch begins in that file, and where its record does: bytes. Of a stored message.
    pub position: Option<(u64, u64)>,
    /// The message, if it is stored.
    pub message: Option<Content>,
    /// What is wrong with it, if it is damaged.
    pub problem: Option<Error>,
    /// What each group says, by name; or what is wrong with the group's files.
    pub groups: Vec<(String, Result<WhyInGroup>)>,
}

/// All that can be told of a message in one group.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WhyInGroup {
    /// Where it is in its life.
    pub state: MessageState,
    /// The group hands nothing out for now.
    pub paused: bool,
    /// Loans that ended in a nack or ran out.
    pub failures: u8,
    /// Loans whose holder died.
    pub losses: u8,
    /// When it comes, or comes again.
    pub due: Option<SystemTime>,
    /// Of a message on loan: the loan, as far as the files tell.
    pub loan: Option<Loan>,
    /// Of a dead letter: why and since when.
    pub dead: Option<(DeadReason, SystemTime)>,
    /// What was said last when it failed.
    pub error: Option<String>,
    /// What happened to it, the oldest first, as far as it is still stored: a snapshot ends the older entries,
    /// sooner or later.
    pub history: Vec<Event>,
}

/// A loan that is out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loan {
    /// Names it. Who has this can settle a loan with a time limit.
    pub receipt: Receipt,
    /// When it began, if that is stored.
    pub since: Option<SystemTime>,
    /// When it ends; `None`: with the process that holds it.
    pub ends: Option<SystemTime>,
}

/// Something that happened to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// What: `lent`, `extended`, `released`, `done`, `nacked`, `dead`, `revived`, `discarded`, `purged`,
    /// `seek`, `aside` (met, and not lent as it came), or a word of a later version.
    pub what: &'static str,
    /// When, if it was written down.
    pub at: Option<SystemTime>,
    /// Of `nacked` and `aside`: when it is due.
    pub due: Option<SystemTime>,
    /// Failures, as counted then.
    pub failures: u8,
    /// Losses, as counted then.
    pub losses: u8,
    /// Of a loan: the delivery number.
    pub delivery: Option<u64>,
    /// Of `seek`: where reading went on.
    pub to: Option<Offset>,
    /// What was said.
    pub error: Option<String>,
}

impl View {
    /// Tells all that is known of a message: where it lies, and, for each group, where it stands and how it came
    /// there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn why(&mut self, offset: Offset) -> Result<Why> {
        let at = offset.get();
        let (found, _) = self.picture.next(at, at.saturating_add(1))?;
        let next = self.picture.seen.next;
        let (mut message, mut problem, mut position) = (None, None, None);
        let fate = match found {
            _ if at >= next => Fate::NotYet,
            None => Fate::Gone,
            Some(Err(error)) => {
                problem = Some(error);
                Fate::Damaged
            }
            Some(Ok(read)) => {
                position = Some((read.place.position, read.position));
                message = Content::new(self.picture.seen.queue, read).ok();
                Fate::Stored
            }
        };
        let path = self.picture.segment_of(at).map(|segment| self.picture.path(segment));
        let told = |seen: &GroupSeen| self.told(seen, at, message.as_ref());
        let groups = &self.picture.seen.groups;
        let groups = groups.iter().map(|(name, seen)| {
            let told = seen.as_ref().map(told).map_err(Clone::clone);
            (name.clone(), told)
        });
        let groups = groups.collect();
        Ok(Why { offset, fate, path, position, message, problem, groups })
    }

    fn told(&self, seen: &GroupSeen, offset: u64, message: Option<&Content>) -> WhyInGroup {
        let standing = seen.standing(offset, self.picture.now());
        let entries = self.picture.history(seen, offset);
        let state = message.map_or(standing.state, |message| state_of(&self.picture, seen, message));
        let due = match (message, state) {
            (Some(message), MessageState::Delayed) => standing.due.and_then(moment).or(message.due()),
            _ => standing.due.and_then(moment),
        };
        let on_loan = state == MessageState::OnLoan;
        let lent = entries.iter().rev().find(|entry| entry.kind == Kind::Lent);
        // Of a loan that is no exception only its entry has the number.
        let loan = standing.loan.map(|loan| (loan.delivery, loan.since, loan.lease));
        let loan = loan.or_else(|| {
            let lent = lent.filter(|_| on_loan)?;
            let delivery = lent.delivery.wrapping_add(offset - lent.offset);
            Some((delivery, lent.time, (lent.lease != HELD).then_some(lent.lease)))
        });
        let loan = loan.zip(seen.row.as_ref()).map(|((delivery, since, lease), row)| Loan {
            receipt: Receipt {
                queue: self.picture.seen.queue,
                group: row.name.clone(),
                incarnation: row.incarnation,
                offset,
                delivery,
            },
            since: moment(since),
            ends: lease.and_then(|lease| moment(since + u64::from(lease))),
        });
        WhyInGroup {
            state,
            paused: seen.paused,
            failures: standing.failures,
            losses: standing.losses,
            due,
            loan,
            dead: standing
                .dead
                .map(|(reason, since)| (reason_of(reason), moment(since).unwrap_or(UNIX_EPOCH))),
            error: standing.error.map(String::from),
            history: entries.iter().map(|entry| event(entry, offset)).collect(),
        }
    }
}

fn moment(millis: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).filter(|_| millis > 0)
}

fn event(entry: &Entry, offset: u64) -> Event {
    let dues = matches!(entry.kind, Kind::Nacked | Kind::Aside | Kind::Undeleted);
    let numbered = matches!(entry.kind, Kind::Lent | Kind::Extended | Kind::Released | Kind::Nacked);
    // Of those put aside the place of the counters has something else.
    let aside = matches!(entry.kind, Kind::Aside | Kind::Undeleted);
    let counters = if aside { (0, 0) } else { (entry.failures, entry.losses) };
    Event {
        what: entry.kind.word(),
        at: moment(entry.time).filter(|_| !dues),
        due: moment(entry.time).filter(|_| dues),
        failures: counters.0,
        losses: counters.1,
        delivery: (numbered && entry.delivery != 0)
            .then(|| entry.delivery.wrapping_add(offset.saturating_sub(entry.offset))),
        to: (entry.kind == Kind::Seek).then(|| Offset::known(entry.offset)),
        error: match &entry.more {
            More::Text(text) if !text.is_empty() => Some(text.to_string()),
            _ => None,
        },
    }
}
