//! What is to become of messages, as somebody says who holds no loan? Pure: from the state to entries.

use super::decide::{Special, more_of, stamp};
use super::exceptions::{Exception, Life};
use super::state::{Now, State};
use crate::codec::{Deserialize, Serialize};
use crate::format::entry::{Entry, HELD, Kind, More, STRUCK, reason};
use crate::offset::Offset;

/// A stretch of dead letters that share their lot; most are of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dead {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) reason: u32,
    /// Milliseconds since 1970.
    pub(crate) since: u64,
    pub(crate) failures: u8,
    pub(crate) losses: u8,
    pub(crate) error: Option<Box<str>>,
}

/// Where a message is in its life, in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MessageState {
    /// It can be lent.
    Ready,
    /// It can be lent when its time has come.
    Delayed,
    /// Somebody works on it.
    OnLoan,
    /// It was given up.
    Dead,
    /// Nothing is left to be done.
    Done,
}

impl MessageState {
    fn of(one: &Exception, now: Now) -> Self {
        match one.life {
            _ if one.settling => Self::OnLoan,
            Life::Ready => Self::Ready,
            Life::Delayed { at, .. } if at.is_none_or(|at| at <= now.mono) => Self::Ready,
            Life::Delayed { .. } => Self::Delayed,
            Life::Lent { .. } => Self::OnLoan,
            Life::Dead { .. } => Self::Dead,
        }
    }
}

impl State {
    /// Gives back, uncounted, the loans with a time limit, at most `limit` rows of them.
    pub(crate) fn release_timed(&self, limit: usize) -> Vec<Entry> {
        let timed = self.exceptions.iter().filter_map(|(start, one)| match one.life {
            Life::Lent { delivery, lease, .. } if lease != HELD => {
                let more = more_of(start, one.end, one.end - start);
                Some(Entry { delivery, more, ..Entry::new(Kind::Released, start) })
            }
            _ => None,
        });
        timed.take(limit).collect()
    }

    /// Makes a dead letter ready again, with its counters at zero; `None` if it is none.
    pub(crate) fn revive(&self, offset: u64, now: Now) -> Option<Entry> {
        let (_, one) = self.exceptions.at(offset)?;
        let dead = matches!(one.life, Life::Dead { .. });
        dead.then(|| Entry { time: stamp(now.wall), ..Entry::new(Kind::Revived, offset) })
    }

    /// Gives up what is not done of a stretch that the log does not have any more, also ahead of the head.
    pub(crate) fn strike(&self, first: u64, end: u64, now: Now) -> Entry {
        let entry = Entry { time: stamp(now.wall), delivery: STRUCK, ..Entry::new(Kind::Dead, first) };
        Entry { lease: reason::DAMAGED, more: More::Range { end, messages: 0 }, ..entry }
    }

    /// Counts the rows that a stretch becomes when it is given up, at the most.
    pub(crate) fn pieces(&self, first: u64, end: u64) -> u64 {
        let fresh = self.fresh_within(first.max(self.floor), end.min(self.head)).len();
        let ahead = self.open_within(first.max(self.head), end).len();
        (fresh + ahead) as u64
    }

    /// Makes a message ready again that is done and still stored, with what it says of itself; `None` if it
    /// is not done.
    pub(crate) fn undelete(&self, offset: u64, special: &Special) -> Option<Entry> {
        let entry = Entry { kind: Kind::Undeleted, ..self.aside(offset, special, false) };
        self.done_until(offset).is_some().then_some(entry)
    }

    /// Makes the dead letters from an offset on ready again that have not gone bad, with their counters
    /// at zero; at most `limit` rows of them.
    pub(crate) fn revive_all(&self, from: u64, limit: usize, now: Now) -> Vec<Entry> {
        // Also ahead of the head: what was put aside there for its priority.
        let dead = self.exceptions.within(from, Offset::LIMIT).filter(|(_, one)| match one.life {
            Life::Dead { reason, .. } => reason != reason::DAMAGED,
            _ => false,
        });
        let revived = |(start, one): (u64, &Exception)| {
            let more = more_of(start, one.end, one.end - start);
            Entry { time: stamp(now.wall), more, ..Entry::new(Kind::Revived, start) }
        };
        dead.map(revived).take(limit).collect()
    }

    /// Lists the dead letters, in offset order.
    pub(crate) fn dead(&self) -> Vec<Dead> {
        let dead = self.exceptions.iter().filter_map(|(first, one)| {
            let Life::Dead { reason, since } = one.life else { return None };
            let (failures, losses, error) = (one.failures, one.losses, one.error.clone());
            Some(Dead { first, end: one.end, reason, since, failures, losses, error })
        });
        dead.collect()
    }

    /// Ends a message whose time is over, as the policy says.
    pub(crate) fn expired(&self, offset: u64, now: Now) -> Entry {
        if self.policy.discard_expired {
            return Entry { time: stamp(now.wall), ..Entry::new(Kind::Discarded, offset) };
        }
        let (failures, losses) = self.past(offset);
        let entry = Entry { failures, losses, time: stamp(now.wall), ..Entry::new(Kind::Dead, offset) };
        Entry { lease: reason::EXPIRED, ..entry }
    }

    /// Makes a message done without a delivery, wherever it is; `None` if it is done.
    pub(crate) fn discard(&self, offset: u64, now: Now) -> Option<Entry> {
        let open = self.done_until(offset).is_none();
        open.then(|| Entry { time: stamp(now.wall), ..Entry::new(Kind::Discarded, offset) })
    }

    /// Makes all below `end` done; `messages` of them lie at or behind the head.
    pub(crate) fn purge(&self, end: u64, messages: u64, now: Now) -> Option<Entry> {
        let more = More::Range { end, messages };
        (self.floor < end).then(|| Entry {
            time: stamp(now.wall),
            more,
            ..Entry::new(Kind::Purged, self.floor)
        })
    }

    /// Goes on reading at an offset with so many messages before it. All loans are lost.
    ///
    /// `settled` is the durable next offset: acks that batches below it tell are over too.
    pub(crate) fn seek(&self, offset: u64, messages: u64, settled: u64, now: Now) -> Entry {
        // Loans with a lower number are lost. Without a next number the holder goes with them all.
        let delivery = self.next_delivery().unwrap_or(0);
        // Every message has an offset: the range is one whatever a damaged stretch was counted as.
        let more = More::Range { end: settled.max(messages).min(Offset::LIMIT), messages };
        Entry { time: stamp(now.wall), delivery, more, ..Entry::new(Kind::Seek, offset) }
    }

    /// Tells where a message is; one that the log does not have is nowhere, and the answer means
    /// nothing.
    pub(crate) fn place_of(&self, offset: u64, now: Now) -> MessageState {
        if self.done_until(offset).is_some() {
            return MessageState::Done;
        }
        match self.exceptions.at(offset) {
            Some((_, one)) => MessageState::of(one, now),
            None if self.exceptions.is_low_and_due(offset) => MessageState::Ready,
            None if self.exceptions.waits(offset) => MessageState::Delayed,
            None if offset < self.head => MessageState::OnLoan,
            None => MessageState::Ready,
        }
    }

    /// Lists the rows of messages that are there; `next` is where the log ends. What was never met is
    /// ready, with gaps in it.
    pub(crate) fn rows(&self, place: MessageState, next: u64, now: Now) -> Vec<(u64, u64)> {
        let with = self.exceptions.iter().filter(|(_, one)| MessageState::of(one, now) == place);
        let mut rows: Vec<(u64, u64)> = with.map(|(start, one)| (start, one.end)).collect();
        let waiting = |low| {
            let all = self.exceptions.waiting_within(0, self.head);
            let these = all.filter(move |&offset| self.exceptions.is_low_and_due(offset) == low);
            these.map(|offset| (offset, offset + 1))
        };
        if place == MessageState::Ready {
            rows.extend(waiting(true));
        }
        match place {
            MessageState::Delayed => rows.extend(waiting(false)),
            MessageState::OnLoan => rows.extend(self.fresh_within(self.floor, self.head)),
            MessageState::Ready if self.head < next => rows.extend(self.open_within(self.head, next)),
            MessageState::Done => {
                rows.push((0, self.floor));
                rows.extend(self.done.iter().map(|(start, end)| (start, end.min(next))));
            }
            _ => {}
        }
        rows.retain(|(start, end)| start < end);
        rows.sort_unstable();
        rows
    }
}
