//! What becomes of a push for which the limits leave no room?
//!
//! The holder of the writer refuses it (`log/room`, `log/writer/limit`). Then whoever pushes gives up what
//! is done, says anew how far the log may grow, and goes by the policy: the push fails, or waits until
//! something is done, or the oldest messages are discarded for it. A limit of messages is each group's own:
//! one that has not too many loses nothing.

use super::{Engine, limits, lock};
use crate::error::{Error, Result};
use crate::format::PAGE_POSITION;
use crate::format::batch::Record;
use crate::format::keep::Limits;
use crate::group::state::State;
use crate::log::room::{Pass, Size};
use crate::log::writer::{Wish, size_of};
use crate::offset::Offsets;
use crate::options::{Durability, WhenFull};

/// How often room is made that others take, before a push fails.
const TRIES: u32 = 1000;

impl Engine {
    /// Goes by these limits from now on. The caller has the lock of whatever moves a group back.
    pub(super) fn limit_room(&self, limits: &Limits) {
        let or_none = |limit: u64| if limit == 0 { u64::MAX } else { limit };
        let segment_bytes = limits::fitted(self.settings.segment_bytes, limits);
        self.log.room.limit(or_none(limits.max_messages), or_none(limits.max_bytes), segment_bytes);
        self.look_at_room();
    }

    /// Says anew how far the log may grow. The caller has the lock of whatever moves a group back.
    pub(super) fn look_at_room(&self) {
        let room = &self.log.room;
        room.set_messages_until(match room.max_messages() {
            u64::MAX => u64::MAX,
            most => self.done_everywhere().saturating_add(most),
        });
    }

    /// Looks anew if so many messages would not fit, as far as is known.
    pub(super) fn look_before(&self, messages: u64) {
        if self.log.messages().saturating_add(messages) > self.log.room.messages_until() {
            let _changing = lock(&self.changing_groups);
            self.look_at_room();
        }
    }

    /// Counts the messages that every group has done. Of a group whose files are damaged nobody knows; with
    /// no group that works it is what was given up.
    fn done_everywhere(&self) -> u64 {
        let given_up = self.log.set().first().map_or(0, |first| first.messages_before());
        let done = self.all_groups().iter().map(|group| group.look(State::done_count)).min();
        done.unwrap_or(0).max(given_up)
    }

    /// Refuses a batch that no emptying would make room for.
    pub(super) fn check_fits(&self, size: Size) -> Result<()> {
        let (messages, bytes) = (self.log.room.max_messages(), self.log.room.max_bytes());
        if size.messages > messages {
            let what = format!(
                "a batch of {} messages is more than max_messages, {messages}; split it, or raise the limit",
                size.messages
            );
            return Err(Error::Invalid { what });
        }
        // A segment that is empty, and the one that the batch goes to.
        let limit = bytes.saturating_sub(2 * PAGE_POSITION);
        if size.bytes > limit {
            return Err(Error::TooLarge { what: "a batch".into(), length: size.bytes, limit });
        }
        Ok(())
    }

    /// Says what there is too much of for a batch to fit, as far as can be seen.
    pub(super) fn lacks(&self, size: Size) -> Option<Error> {
        let room = &self.log.room;
        if self.log.messages().saturating_add(size.messages) > room.messages_until() {
            return Some(room.too_many(self.storage.root()));
        }
        (self.missing_bytes(size) > 0).then(|| room.too_long(self.storage.root()))
    }

    /// Tells whether a batch may find no room behind those that are not answered yet.
    pub(super) fn may_not_fit(&self, size: Size, unanswered: Size) -> bool {
        let messages = size.messages + unanswered.messages;
        self.look_before(messages);
        self.lacks(Size { messages, bytes: size.bytes + unanswered.bytes }).is_some()
    }

    /// Counts the bytes that must be given up so that a batch fits.
    fn missing_bytes(&self, size: Size) -> u64 {
        let room = &self.log.room;
        if room.max_bytes() == u64::MAX {
            return 0;
        }
        let set = self.log.set();
        let Some(active) = set.last() else { return 0 };
        let (position, _) = active.end();
        let rolls = room.must_roll(position, size.bytes, active.capacity);
        let page = if rolls { PAGE_POSITION } else { 0 };
        (self.log.bytes() + page + size.bytes).saturating_sub(room.max_bytes())
    }

    /// Stores records that the limits left no room for, as the policy says.
    pub(super) fn push_when_full(
        &self,
        records: &[Record<'_>],
        durability: Durability,
        may_wait: bool,
    ) -> Result<Offsets> {
        let room = &self.log.room;
        let size = size_of(&self.encode(records)?);
        let policy = limits::when_full(&self.limits());
        let wait = match policy {
            WhenFull::Block(time) if may_wait => Some(time),
            _ => None,
        };
        let until = wait.and_then(|time| self.deadline(time));
        let _waits = wait.map(|_| room.wait());
        let mut tries = 0;
        loop {
            let heard = room.bell().count();
            self.check_open()?;
            if let Some(failure) = self.log.failure() {
                return Err(failure.clone());
            }
            let claim = (policy == WhenFull::DiscardOldest).then(|| room.claim(size));
            let made = self.make_room(size, claim.is_some())?;
            let lacks = self.lacks(size);
            let error = match &lacks {
                Some(error) => error.clone(),
                None => {
                    let pass = claim.map_or(Pass::Limited, Pass::Claimed);
                    match self.push_once(records, durability, pass) {
                        Err(error @ Error::AtLimit { .. }) => error,
                        other => return other,
                    }
                }
            };
            tries += 1;
            match (wait, lacks) {
                (None, _) if tries == TRIES => return Err(error),
                // What was made others have taken.
                (None, Some(_)) if made && policy == WhenFull::DiscardOldest => {}
                (None, Some(_)) => return Err(error),
                (None, None) => {}
                (Some(_), _) if until.is_some_and(|until| self.clock.now() >= until) => return Err(error),
                (Some(_), None) => {}
                (Some(_), Some(_)) => {
                    room.bell().wait(heard, until.and_then(|until| self.clock.patience(until)));
                }
            }
        }
    }

    /// Gives up what is done, and where that is not enough and wanted, discards the oldest; says anew how far
    /// the log may grow. Tells whether it made any, or there is.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn make_room(&self, size: Size, discards: bool) -> Result<bool> {
        {
            let _changing = lock(&self.changing_groups);
            let enough = !discards || self.discard_too_many()?;
            self.look_at_room();
            if !enough {
                return Ok(false);
            }
        }
        let mut freed = 0;
        let missing = || {
            let bytes = if discards { self.log.room.claimed().bytes.max(size.bytes) } else { size.bytes };
            self.missing_bytes(Size { bytes, ..size })
        };
        for rolled in [false, true] {
            if missing() == 0 {
                return Ok(true);
            }
            freed += self.free_for(missing())?;
            if missing() > 0 {
                // Segments are kept for acks in batches too, until it is told that the files have them.
                self.record_settled()?;
                self.tell_settles()?;
                freed += self.free_for(missing())?;
            }
            if missing() > 0 && discards {
                self.discard_segments(missing())?;
                freed += self.free_for(missing())?;
            }
            if missing() == 0 || rolled || !self.active_can_go(discards) {
                break;
            }
            self.ask(Wish::Roll { capacity: None })?;
        }
        Ok(freed > 0 || missing() == 0)
    }

    /// Discards the oldest messages in every group that would have too many with those that are claimed; tells
    /// whether there were enough that may go.
    fn discard_too_many(&self) -> Result<bool> {
        let room = &self.log.room;
        let most = room.max_messages();
        if most == u64::MAX {
            return Ok(true);
        }
        // In this order: what is written by then is not claimed any more.
        let messages = self.log.messages();
        let wanted = messages.saturating_add(room.claimed().messages.min(most));
        let groups = self.all_groups();
        let mut enough = !groups.is_empty();
        for group in groups {
            let over = wanted.saturating_sub(group.look(State::done_count).saturating_add(most));
            if over > 0 {
                enough &= group.discard_oldest(over)? == over;
            }
        }
        Ok(enough)
    }

    /// Discards all messages of the oldest sealed segments, of so many bytes, as far as none is on loan.
    fn discard_segments(&self, bytes: u64) -> Result<()> {
        let _changing = lock(&self.changing_groups);
        let groups = self.all_groups();
        if groups.is_empty() || !self.groups().refused.is_empty() {
            return Ok(());
        }
        let set = self.log.set();
        let (mut end, mut found) = (None, 0);
        for pair in set.windows(2) {
            let (this, next) = (&pair[0], &pair[1]);
            if found >= bytes
                || groups.iter().any(|group| group.look(|state| state.has_loans_below(next.base)))
            {
                break;
            }
            found += this.end().0;
            end = Some(next);
        }
        if let Some(next) = end {
            for group in &groups {
                group.discard_below(next.base, next.messages_before())?;
            }
            self.look_at_room();
        }
        Ok(())
    }

    /// Tells whether the active segment could be given up once it is sealed: all in it is done, or may be
    /// discarded.
    fn active_can_go(&self, discards: bool) -> bool {
        let groups = self.all_groups();
        let used = self.log.set().last().is_some_and(|active| active.end().0 > PAGE_POSITION);
        let next = self.log.next();
        let is_done = |state: &State| state.floor() >= next;
        let may_go = |state: &State| if discards { !state.has_loans_below(next) } else { is_done(state) };
        let free = !groups.is_empty() && self.groups().refused.is_empty();
        used && free && groups.iter().all(|group| group.look(may_go))
    }
}
