//! How is the queue as a whole reached, wherever it is open?

use std::sync::Arc;

use super::guest::Guest;
use super::member::{Member, told_in};
use super::place::Place;
use super::promise::Promise;
use super::sound;
#[cfg(feature = "schedules")]
use crate::codec;
use crate::codec::Bytes;
use crate::engine::pinned::{self, Pin};
use crate::engine::recovery::Recovery;
use crate::engine::request::{Ending, Reply, Request, Sent, Which};
#[cfg(feature = "schedules")]
use crate::engine::schedules::{MissedTicks, Told};
use crate::engine::stats::{self, Stats};
use crate::engine::{Claim, NewGroup};
use crate::error::{Error, Result};
use crate::format::batch::Record;
use crate::format::keep::Limits;
use crate::group::settle::End;
#[cfg(feature = "schedules")]
use crate::message::Plan;
use crate::offset::Offsets;
use crate::options::Durability;

fn push_request(records: &[Record<'_>], level: Durability, waits: bool) -> Request {
    let records = records.iter().map(Sent::of).collect();
    Request::Push { records, synced: level == Durability::Synced, waits, sequence: 0 }
}

impl Place {
    /// Stores records as one batch.
    ///
    /// # Errors
    /// As [`crate::Queue::push`].
    pub(crate) fn push(&self, records: &[Record<'_>], level: Durability) -> Result<Offsets> {
        match &*self.now() {
            Self::Own(engine) => engine.push(records, level),
            Self::Guest(guest) => {
                guest.check_open()?;
                if records.is_empty() {
                    return Ok(Offsets::new(0, 0));
                }
                guest.check_length(records)?;
                guest.call(push_request(records, level, true), None).and_then(sound::offsets)
            }
        }
    }

    /// Hands records over, to be stored as one batch.
    ///
    /// # Errors
    /// When they can never be stored.
    pub(crate) fn push_deferred(&self, records: &[Record<'_>], level: Durability) -> Result<Promise> {
        Ok(match &*self.now() {
            Self::Own(engine) => Promise::Push(engine.push_deferred(records, level)?),
            Self::Guest(guest) => {
                guest.check_length(records)?;
                Promise::call(guest, push_request(records, level, false), sound::offsets)?
            }
        })
    }

    /// Returns when everything pushed and acked before is on stable storage.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn sync(&self) -> Result<()> {
        match &*self.now() {
            Self::Own(engine) => engine.sync(),
            Self::Guest(guest) => guest.call(Request::Sync, None).map(drop),
        }
    }

    /// Finds a group.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`], [`Error::Damaged`] if its files are, [`Error::Closed`].
    pub(crate) fn group(&self, name: &str) -> Result<Member> {
        match &*self.now() {
            Self::Own(engine) => Ok(Member::Own(engine.clone(), engine.group(name)?)),
            Self::Guest(guest) => member(guest, name, Request::Group { name: name.to_owned(), new: None }),
        }
    }

    /// Finds a group, or makes it.
    ///
    /// # Errors
    /// As [`Place::create_group`].
    pub(crate) fn group_or_create(&self, name: &str, new: NewGroup) -> Result<Member> {
        match &*self.now() {
            Self::Own(engine) => Ok(Member::Own(engine.clone(), engine.group_or_create(name, &new)?)),
            Self::Guest(guest) => match self.group(name) {
                Err(Error::NoSuchGroup { .. }) => {
                    member(guest, name, Request::Group { name: name.to_owned(), new: Some(new) })
                }
                found => found,
            },
        }
    }

    /// Makes a group.
    ///
    /// # Errors
    /// As [`crate::Queue::create_group`].
    pub(crate) fn create_group(&self, name: &str, new: NewGroup) -> Result<Member> {
        match &*self.now() {
            Self::Own(engine) => Ok(Member::Own(engine.clone(), engine.create_group(name, &new)?)),
            Self::Guest(guest) => {
                if !crate::format::names::is_group(name) {
                    return Err(Error::GroupName { name: name.to_owned() });
                }
                member(guest, name, Request::CreateGroup { name: name.to_owned(), new })
            }
        }
    }

    /// Ends a group.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`], or when the disk refuses.
    pub(crate) fn remove_group(&self, name: &str) -> Result<()> {
        match &*self.now() {
            Self::Own(engine) => engine.remove_group(name),
            Self::Guest(guest) => guest.call(Request::RemoveGroup { name: name.to_owned() }, None).map(drop),
        }
    }

    /// Lists the groups that work, by name; none where nobody answers.
    pub(crate) fn groups(&self) -> Vec<String> {
        match &*self.now() {
            Self::Own(engine) => engine.group_names(),
            Self::Guest(guest) => match guest.call(Request::Groups, None) {
                Ok(Reply::Names(names)) => names,
                Ok(_) | Err(_) => Vec::new(),
            },
        }
    }

    /// Has a message pushed at each tick.
    ///
    /// # Errors
    /// As [`crate::Queue::every`].
    #[cfg(feature = "schedules")]
    pub(crate) fn schedule(&self, name: &str, cron: &str, missed: MissedTicks, plan: Plan) -> Result<()> {
        match &*self.now() {
            Self::Own(engine) => engine.schedule_planned(name, cron, missed, plan),
            Self::Guest(guest) => {
                let (name, cron, missed) = (name.to_owned(), cron.to_owned(), missed.number());
                let message = Bytes(codec::encode(&plan));
                guest.call(Request::Schedule { name, cron, missed, message }, None).map(drop)
            }
        }
    }

    /// Ends a schedule.
    ///
    /// # Errors
    /// As [`crate::Queue::unschedule`].
    #[cfg(feature = "schedules")]
    pub(crate) fn unschedule(&self, name: &str) -> Result<bool> {
        match &*self.now() {
            Self::Own(engine) => engine.unschedule(name),
            Self::Guest(guest) => match guest.call(Request::Unschedule { name: name.to_owned() }, None)? {
                Reply::Flag(was) => Ok(was),
                other => Err(other.unexpected()),
            },
        }
    }

    /// Lists the schedules; none where nobody answers.
    #[cfg(feature = "schedules")]
    pub(crate) fn schedules(&self) -> Vec<Told> {
        match &*self.now() {
            Self::Own(engine) => engine.schedules(),
            Self::Guest(guest) => guest.call(Request::Schedules, None).and_then(told_in).unwrap_or_default(),
        }
    }

    /// Ends a loan by its receipt: in an ack, if nothing else is said.
    ///
    /// # Errors
    /// As [`crate::Queue::settle`].
    pub(crate) fn settle(&self, claim: &Claim<'_>, end: Option<End<'_>>) -> Result<()> {
        match &*self.now() {
            Self::Own(engine) => engine.settle(claim, end),
            Self::Guest(guest) => {
                let (group, loan) = claimed(guest, claim)?;
                let request = Request::Settle { group, loan, ending: Ending::of(end) };
                guest.call(request, None).map(drop).map_err(|error| stale(error, claim))
            }
        }
    }

    /// Acks a loan by its receipt, and stores records as one batch.
    ///
    /// # Errors
    /// As [`crate::Queue::settle`].
    pub(crate) fn settle_with(
        &self,
        claim: &Claim<'_>,
        records: &[Record<'_>],
        level: Durability,
    ) -> Result<Offsets> {
        match &*self.now() {
            Self::Own(engine) => engine.settle_with(claim, records, level),
            Self::Guest(guest) => {
                let (group, loan) = claimed(guest, claim)?;
                guest.check_length(records)?;
                let records = records.iter().map(Sent::of).collect();
                let synced = level == Durability::Synced;
                let request = Request::AckWith { group, loan, records, synced, sequence: 0 };
                guest.call(request, None).and_then(sound::offsets).map_err(|error| stale(error, claim))
            }
        }
    }

    /// Lets a timed loan end so many milliseconds from now, by its receipt.
    ///
    /// # Errors
    /// As [`crate::Queue::settle`].
    pub(crate) fn extend(&self, claim: &Claim<'_>, lease: u32) -> Result<()> {
        match &*self.now() {
            Self::Own(engine) => engine.extend(claim, lease),
            Self::Guest(guest) => {
                let (group, loan) = claimed(guest, claim)?;
                let request = Request::Extend { group, loan, lease };
                guest.call(request, None).map(drop).map_err(|error| stale(error, claim))
            }
        }
    }

    /// Makes a message done in every group; returns in how many it was not.
    ///
    /// # Errors
    /// As [`crate::Queue::discard`].
    pub(crate) fn discard(&self, offset: u64) -> Result<u64> {
        match &*self.now() {
            Self::Own(engine) => engine.discard(offset),
            Self::Guest(guest) => count(guest.call(Request::Discard { offset }, None)?),
        }
    }

    /// Makes the messages of a key done in every group.
    ///
    /// # Errors
    /// As [`crate::Queue::discard`].
    pub(crate) fn discard_key(&self, key: &[u8]) -> Result<u64> {
        match &*self.now() {
            Self::Own(engine) => engine.discard_key(key),
            Self::Guest(guest) => count(guest.call(Request::DiscardKey { key: Bytes(key.to_vec()) }, None)?),
        }
    }

    /// Tells what opening found: the owner's, of when this process came to it.
    pub(crate) fn recovery(&self) -> &Recovery {
        static NOTHING: std::sync::OnceLock<Recovery> = std::sync::OnceLock::new();
        match self {
            Self::Own(engine) => &engine.recovery,
            Self::Guest(guest) => match guest.told() {
                Ok(told) => &told.recovery,
                Err(_) => NOTHING.get_or_init(Recovery::default),
            },
        }
    }

    /// Counts messages; none where nobody answers.
    pub(crate) fn stats(&self) -> Stats {
        match &*self.now() {
            Self::Own(engine) => stats::stats(engine),
            Self::Guest(guest) => guest.call(Request::Stats, None).and_then(told_in).unwrap_or_default(),
        }
    }

    /// Lists what each group keeps.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(crate) fn pins(&self) -> Result<Vec<Pin>> {
        match &*self.now() {
            Self::Own(engine) => pinned::pins_of(engine),
            Self::Guest(guest) => guest.call(Request::Pins, None).and_then(told_in),
        }
    }

    /// Tells which limits hold; none where nobody answers.
    pub(crate) fn limits(&self) -> Limits {
        match &*self.now() {
            Self::Own(engine) => engine.limits(),
            Self::Guest(guest) => guest
                .call(Request::Limits, None)
                .and_then(told_in)
                .map_or_else(|_| Limits::default(), Limits::from_numbers),
        }
    }
}

fn member(guest: &Arc<Guest>, name: &str, request: Request) -> Result<Member> {
    match guest.call(request, None)? {
        Reply::Group { incarnation } => {
            Ok(Member::Guest(guest.clone(), Arc::new(Which { name: name.to_owned(), incarnation })))
        }
        other => Err(other.unexpected()),
    }
}

fn count(reply: Reply) -> Result<u64> {
    match reply {
        Reply::Count(count) => Ok(count),
        other => Err(other.unexpected()),
    }
}

fn claimed(guest: &Guest, claim: &Claim<'_>) -> Result<(Which, (u64, u64))> {
    let ours = guest.told()?.queue;
    claim.check(ours)?;
    let which = Which { name: claim.group.to_owned(), incarnation: claim.incarnation };
    Ok((which, (claim.offset, claim.delivery)))
}

/// A receipt of a group that was made anew under its name names a loan that is over, as it does to the owner.
fn stale(error: Error, claim: &Claim<'_>) -> Error {
    match error {
        Error::NoSuchGroup { existing, .. } if existing.iter().any(|name| name == claim.group) => {
            Error::lease_lost(claim.offset)
        }
        other => other,
    }
}
