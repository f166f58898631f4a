//! How is a group reached, wherever the queue is open?
//!
//! Each call is the engine's, or the same one as a request to the owner.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::guest::{Guest, SLACK};
use super::promise::{Promise, acked};
use super::sound;
use crate::clock::Clock;
use crate::codec::{self, Bytes, DeserializeOwned};
use crate::engine::request::{Ending, Fault, Held, Reply, Request, Sent, Which};
use crate::engine::stats::{self, GroupStats};
use crate::engine::{Engine, From};
use crate::error::{Error, Result};
use crate::format::batch::Record;
use crate::format::snapshot::Policy;
use crate::group::live::Live;
use crate::group::receive::{Ask, Loan};
use crate::group::rule::{Dead, MessageState};
use crate::group::settle::{End, Settle};
use crate::group::state::State;
use crate::log::reader::{Cursor, Message};
use crate::offset::Offsets;
use crate::options::Durability;

/// A group of a queue that is open here, or elsewhere.
#[derive(Clone, Debug)]
pub(crate) enum Member {
    Own(Arc<Engine>, Arc<Live>),
    Guest(Arc<Guest>, Arc<Which>),
}

impl Member {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Own(_, live) => &live.name,
            Self::Guest(_, which) => &which.name,
        }
    }

    pub(crate) fn incarnation(&self) -> u64 {
        match self {
            Self::Own(_, live) => live.incarnation,
            Self::Guest(_, which) => which.incarnation,
        }
    }

    /// Tells whether both are the same group.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Own(_, one), Self::Own(_, other)) => Arc::ptr_eq(one, other),
            (Self::Guest(guest, one), Self::Guest(of, other)) => Arc::ptr_eq(guest, of) && one == other,
            _ => false,
        }
    }

    /// Returns the queue's identity.
    pub(crate) fn queue(&self) -> u128 {
        match self {
            Self::Own(engine, _) => engine.queue,
            Self::Guest(guest, _) => guest.told().map_or(0, |told| told.queue),
        }
    }

    /// Returns the queue's folder, for messages to people.
    pub(crate) fn root(&self) -> &Path {
        match self {
            Self::Own(engine, _) => engine.storage.root(),
            Self::Guest(guest, _) => guest.root(),
        }
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        match self {
            Self::Own(engine, _) => &engine.clock,
            Self::Guest(guest, _) => &guest.clock,
        }
    }

    /// Returns the moment when `wait` from now is over.
    pub(crate) fn deadline(&self, wait: Duration) -> Option<Duration> {
        self.clock().now().checked_add(wait)
    }

    pub(crate) fn check_process(&self) -> Result<()> {
        match self {
            Self::Own(engine, _) => engine.log.check_process(),
            Self::Guest(guest, _) => guest.check_process(),
        }
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        match self {
            Self::Own(engine, _) => engine.check_open(),
            Self::Guest(guest, _) => guest.check_open(),
        }
    }

    /// Lends messages that passed their checksum; none when the time was over.
    ///
    /// # Errors
    /// As [`Live::receive`].
    pub(crate) fn receive(&self, ask: &Ask<'_>) -> Result<Vec<Loan>> {
        match &*self.now() {
            Self::Own(engine, live) => engine.receive(live, ask),
            Self::Guest(guest, which) => {
                // The owner answers when the time is over; from now on, where it is over already.
                let now = guest.clock.now();
                let until = ask.until.map(|until| until.max(now).saturating_add(SLACK));
                let calling = guest.begin(receive_request(guest, which, ask), until)?;
                match calling.wait_unless(until, ask.stop) {
                    // Stopped: what comes all the same goes back.
                    None if ask.stop.load(Ordering::Acquire) => Ok(Vec::new()),
                    None => Err(guest.late()),
                    Some(reply) => loans_of(reply?),
                }
            }
        }
    }

    /// Wakes whoever waits in a receive, to look whether it is to stop.
    pub(crate) fn wake(&self) {
        match self {
            Self::Own(_, live) => crate::wake::Wake::wake(&**live),
            Self::Guest(guest, _) => {
                guest.wake();
                // Where it is reached otherwise by now, some may wait there already.
                if let Cow::Owned(now) = self.now() {
                    now.wake();
                }
            }
        }
    }

    /// Marks a message as done.
    ///
    /// # Errors
    /// As [`Live::ack`].
    pub(crate) fn ack(&self, loan: Settle) -> Result<()> {
        match &*self.now() {
            Self::Own(_, live) => live.ack(loan),
            Self::Guest(..) => {
                self.done(|group| Request::Settle { group, loan: held(loan), ending: Ending::Ack })
            }
        }
    }

    /// Marks a message as done, and returns before that is sure to last.
    ///
    /// # Errors
    /// As [`Live::ack`].
    pub(crate) fn ack_deferred(&self, loan: Settle) -> Result<Promise> {
        Ok(match &*self.now() {
            Self::Own(_, live) => Promise::Ack(live.ack_begin(loan)?),
            Self::Guest(guest, which) => {
                let group = (**which).clone();
                let request = Request::Settle { group, loan: held(loan), ending: Ending::Ack };
                Promise::call(guest, request, acked)?
            }
        })
    }

    /// Marks messages as done; the answers are in their order.
    ///
    /// # Errors
    /// As [`Live::ack_all`].
    pub(crate) fn ack_all(&self, loans: &[Settle]) -> Result<Vec<Result<()>>> {
        let told = |held: Vec<bool>| {
            let lost = |loan: &Settle| Error::lease_lost(loan.offset);
            let answers = loans.iter().zip(held);
            answers.map(|(loan, held)| if held { Ok(()) } else { Err(lost(loan)) }).collect()
        };
        match &*self.now() {
            Self::Own(_, live) => live.ack_all(loans),
            Self::Guest(..) => {
                let loans = loans.iter().copied().map(held).collect();
                match self.call(|group| Request::AckAll { group, loans })? {
                    Reply::Acked(held) => Ok(told(held)),
                    other => Err(other.unexpected()),
                }
            }
        }
    }

    /// Ends a loan otherwise. Without `wait` nobody waits until that is recorded.
    ///
    /// # Errors
    /// As [`Live::end`].
    pub(crate) fn end(&self, loan: Settle, end: End<'_>, wait: bool) -> Result<()> {
        match &*self.now() {
            Self::Own(_, live) => live.end(loan, end, wait),
            Self::Guest(guest, which) => {
                let ending = Ending::of(Some(end));
                let request = Request::Settle { group: (**which).clone(), loan: held(loan), ending };
                let calling = guest.begin(request, None)?;
                if !wait {
                    return Ok(());
                }
                calling.wait(None).unwrap_or(Err(Error::Closed)).and_then(Reply::result).map(drop)
            }
        }
    }

    /// Lets a timed loan end so many milliseconds from now.
    ///
    /// # Errors
    /// As [`Live::extend`].
    pub(crate) fn extend(&self, loan: Settle, lease: u32) -> Result<()> {
        match &*self.now() {
            Self::Own(_, live) => live.extend(loan, lease),
            Self::Guest(..) => self.done(|group| Request::Extend { group, loan: held(loan), lease }),
        }
    }

    /// Acks a loan and stores records as one batch.
    ///
    /// # Errors
    /// As [`Engine::ack_with`].
    pub(crate) fn ack_with(
        &self,
        loan: Settle,
        records: &[Record<'_>],
        level: Durability,
    ) -> Result<Offsets> {
        match &*self.now() {
            Self::Own(engine, live) => engine.ack_with(&[(live.clone(), loan)], records, level),
            Self::Guest(..) => {
                let records = records.iter().map(Sent::of).collect();
                let synced = level == Durability::Synced;
                self.call(|group| Request::AckWith { group, loan: held(loan), records, synced, sequence: 0 })
                    .and_then(sound::offsets)
            }
        }
    }

    /// Lists the dead letters.
    ///
    /// # Errors
    /// When the owner does not answer.
    pub(crate) fn dead(&self) -> Result<Vec<Dead>> {
        match &*self.now() {
            Self::Own(_, live) => Ok(live.dead()),
            Self::Guest(..) => sound::dead(self.call(|group| Request::Dead { group })?),
        }
    }

    /// Counts the group's messages.
    ///
    /// # Errors
    /// When the owner does not answer.
    pub(crate) fn stats(&self) -> Result<GroupStats> {
        match &*self.now() {
            Self::Own(engine, live) => Ok(stats::group_stats(engine, live)),
            Self::Guest(..) => told_in(self.call(|group| Request::GroupStats { group })?),
        }
    }

    /// Makes dead letters ready again.
    ///
    /// # Errors
    /// As [`Engine::revive`].
    pub(crate) fn revive(&self, offsets: Option<&[u64]>) -> Result<u64> {
        match &*self.now() {
            Self::Own(engine, live) => engine.revive(live, offsets),
            Self::Guest(..) => {
                let offsets = offsets.map(<[u64]>::to_vec);
                self.count(|group| Request::Revive { group, offsets })
            }
        }
    }

    /// Makes messages ready again that are done.
    ///
    /// # Errors
    /// As [`Engine::undelete`].
    pub(crate) fn undelete(&self, offsets: &[u64]) -> Result<u64> {
        match &*self.now() {
            Self::Own(engine, live) => engine.undelete(live, offsets),
            Self::Guest(..) => self.count(|group| Request::Undelete { group, offsets: offsets.to_vec() }),
        }
    }

    /// Makes messages done.
    ///
    /// # Errors
    /// As [`Engine::discard_in`].
    pub(crate) fn discard(&self, offsets: &[u64]) -> Result<u64> {
        match &*self.now() {
            Self::Own(engine, live) => engine.discard_in(live, offsets),
            Self::Guest(..) => self.count(|group| Request::DiscardIn { group, offsets: offsets.to_vec() }),
        }
    }

    /// Makes the messages of a key done.
    ///
    /// # Errors
    /// As [`Engine::discard_in`].
    pub(crate) fn discard_key(&self, key: &[u8]) -> Result<u64> {
        match &*self.now() {
            Self::Own(engine, live) => engine.discard_key_in(live, key),
            Self::Guest(..) => self.count(|group| Request::DiscardKeyIn { group, key: Bytes(key.to_vec()) }),
        }
    }

    /// Makes everything done.
    ///
    /// # Errors
    /// As [`Engine::purge`].
    pub(crate) fn purge(&self) -> Result<u64> {
        match &*self.now() {
            Self::Own(engine, live) => engine.purge(live),
            Self::Guest(..) => self.count(|group| Request::Purge { group }),
        }
    }

    /// Goes on reading elsewhere.
    ///
    /// # Errors
    /// As [`Engine::seek`].
    pub(crate) fn seek(&self, to: From) -> Result<u64> {
        match &*self.now() {
            Self::Own(engine, live) => engine.seek(live, to),
            Self::Guest(..) => self.count(|group| Request::Seek { group, to }),
        }
    }

    /// Lends nothing until the wall clock shows that; goes on, with `None`.
    ///
    /// # Errors
    /// As [`Live::pause`].
    pub(crate) fn pause(&self, until: Option<u64>) -> Result<()> {
        match &*self.now() {
            Self::Own(_, live) => live.pause(until),
            Self::Guest(..) => self.done(|group| Request::Pause { group, until }),
        }
    }

    /// Gives every loan back.
    ///
    /// # Errors
    /// As [`Engine::release_all`].
    pub(crate) fn release_all(&self) -> Result<u64> {
        match &*self.now() {
            Self::Own(engine, live) => engine.release_all(live),
            Self::Guest(..) => self.count(|group| Request::ReleaseAll { group }),
        }
    }

    /// Returns the policy, and the kinds that are taken.
    ///
    /// # Errors
    /// When the owner does not answer.
    pub(crate) fn policy(&self) -> Result<(Policy, Vec<String>)> {
        match &*self.now() {
            Self::Own(_, live) => Ok(live.look(|state: &State| (state.policy(), state.kinds().to_vec()))),
            Self::Guest(..) => match self.call(|group| Request::Policy { group })? {
                Reply::Policy { policy, kinds } => Ok((policy, kinds)),
                other => Err(other.unexpected()),
            },
        }
    }

    /// Changes the policy.
    ///
    /// # Errors
    /// As [`Live::set_policy`].
    pub(crate) fn set_policy(&self, policy: Policy, kinds: Vec<String>) -> Result<()> {
        match &*self.now() {
            Self::Own(_, live) => live.set_policy(policy, kinds),
            Self::Guest(..) => self.done(|group| Request::SetPolicy { group, policy, kinds }),
        }
    }

    /// Lists rows of messages in a state.
    ///
    /// # Errors
    /// When the owner does not answer.
    pub(crate) fn rows(&self, state: MessageState) -> Result<Vec<(u64, u64)>> {
        match &*self.now() {
            Self::Own(engine, live) => Ok(live.rows(state, engine.log.next())),
            Self::Guest(..) => sound::rows(self.call(|group| Request::Rows { group, state })?),
        }
    }

    /// Looks at messages in a range, in order: some, and where to go on. Their state is the one given, or what it is
    /// now.
    ///
    /// # Errors
    /// When the disk refuses, or the owner does not answer.
    pub(crate) fn look(
        &self,
        cursor: &mut Option<Cursor>,
        (first, end): (u64, u64),
        state: Option<MessageState>,
    ) -> Result<Looks> {
        match &*self.now() {
            Self::Own(engine, live) => {
                let cursor = cursor.get_or_insert_with(|| Cursor::new(live.log.clone()));
                let (found, next) = engine.look_on(cursor, (first, end))?;
                let found = found.map(|found| {
                    found.map(|message| {
                        let state = state.unwrap_or_else(|| live.state_of(message.offset));
                        (message, state)
                    })
                });
                Ok((found.into_iter().collect(), next))
            }
            Self::Guest(..) => match self.call(|group| Request::Look { group, first, end, state })? {
                Reply::Looked { found, next } => {
                    let one = |one: Result<(_, MessageState), Fault>| {
                        let (looked, state): (crate::engine::browse::Looked, _) = one.map_err(Error::from)?;
                        Ok((sound::message(looked)?, state))
                    };
                    Ok((found.into_iter().map(one).collect(), next.max(first + 1)))
                }
                other => Err(other.unexpected()),
            },
        }
    }

    fn call(&self, request: impl FnOnce(Which) -> Request) -> Result<Reply> {
        match self {
            Self::Own(..) => Err(Error::Closed),
            Self::Guest(guest, which) => guest.call(request((**which).clone()), None),
        }
    }

    fn done(&self, request: impl FnOnce(Which) -> Request) -> Result<()> {
        self.call(request).map(drop)
    }

    fn count(&self, request: impl FnOnce(Which) -> Request) -> Result<u64> {
        match self.call(request)? {
            Reply::Count(count) => Ok(count),
            other => Err(other.unexpected()),
        }
    }
}

/// Messages that were looked at, and where to go on.
pub(crate) type Looks = (Vec<Result<(Message, MessageState)>>, u64);

pub(crate) fn receive_request(guest: &Guest, which: &Which, ask: &Ask<'_>) -> Request {
    Request::Receive {
        group: which.clone(),
        most: ask.most as u64,
        lease: ask.lease,
        wait: ask.until.map(|until| until.saturating_sub(guest.clock.now())),
        drain: ask.drain,
        idle_ends: ask.idle_ends,
    }
}

/// Takes the loans out of an answer.
pub(crate) fn loans_of(reply: Reply) -> Result<Vec<Loan>> {
    match reply.result()? {
        Reply::Lent(lent) => lent
            .into_iter()
            .map(|one| {
                let message = sound::message(one.message)?;
                Ok(Loan { message, delivery: one.delivery, attempt: one.attempt, lease: one.lease })
            })
            .collect(),
        other => Err(other.unexpected()),
    }
}

/// Takes a structure out of an answer.
pub(crate) fn told_in<T: DeserializeOwned>(reply: Reply) -> Result<T> {
    match reply.result()? {
        Reply::Told(Bytes(bytes)) => codec::decode(&bytes).map_err(|what| Error::Invalid { what }),
        other => Err(other.unexpected()),
    }
}

fn held(loan: Settle) -> Held {
    (loan.offset, loan.delivery)
}
