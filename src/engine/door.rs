//! How is a guest's request answered?
//!
//! The one door: everything here is a call that the owner makes too. What is in memory is answered at once, what
//! waits for a message or a sync later, and what may take the disk long by a thread that may block.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;

use super::request::{Held, Lent, Reply, Request, Sent, Which};
#[cfg(feature = "schedules")]
use super::schedules::MissedTicks;
use super::{Engine, browse::Looked, pinned, stats};
use crate::codec::{self, Bytes, Serialize};
use crate::error::{Error, Result};
use crate::format::batch::Record;
use crate::group::live::Live;
use crate::group::receive::{Ask, Loan, NEVER};
use crate::group::settle::Settle;
use crate::group::state::State;
use crate::group::waiting::Receiving;
use crate::group::written::Written;
use crate::options::{Durability, WhenFull};

/// Set in what names a guest among those who push.
const GUEST: u64 = 1 << 32;

/// How a request is seen to.
pub(crate) enum Work {
    Told(Reply),
    /// Waits for a message, or for somebody's sync.
    Later(Later),
    /// May block.
    Slow(Slow),
    /// May wait until others have made room.
    Full(Slow),
}

pub(crate) type Later = Pin<Box<dyn Future<Output = Work> + Send>>;
pub(crate) type Slow = Box<dyn FnOnce() -> Reply + Send>;

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Told(reply) => f.debug_tuple("Told").field(reply).finish(),
            Self::Later(_) => f.write_str("Later"),
            Self::Slow(_) => f.write_str("Slow"),
            Self::Full(_) => f.write_str("Full"),
        }
    }
}

fn later(future: impl Future<Output = Reply> + Send + 'static) -> Work {
    Work::Later(Box::pin(async move { Work::Told(future.await) }))
}

fn told<T: Serialize>(value: &T) -> Reply {
    Reply::Told(Bytes(codec::encode(value)))
}

fn level(synced: bool) -> Durability {
    if synced { Durability::Synced } else { Durability::Buffered }
}

impl Engine {
    /// Answers a request of the guest whose loans have that holder. After a push the caller leads, or has somebody
    /// lead: [`Engine::lead_now`], [`Engine::have_led`].
    pub(crate) fn serve(self: &Arc<Self>, holder: u32, request: Request) -> Work {
        match self.try_serve(holder, request) {
            Ok(work) => work,
            Err(error) => Work::Told(Reply::failed(&error)),
        }
    }

    fn try_serve(self: &Arc<Self>, holder: u32, request: Request) -> Result<Work> {
        self.check_open()?;
        Ok(match request {
            Request::Push { records, synced, waits, .. } => {
                return self.serve_push(holder, records, synced, waits);
            }
            Request::Receive { group, most, lease, wait, drain, idle_ends } => {
                let live = self.member(&group)?;
                let until = wait.and_then(|wait| self.deadline(wait));
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                let ask = Ask { most, lease, until, drain, idle_ends, stop: &NEVER, holder: Some(holder) };
                later(receive(self.clone(), live, ask))
            }
            Request::Settle { group, loan, ending } => {
                let live = self.member(&group)?;
                let loan = settle(loan);
                let written = match ending.end() {
                    None => live.ack_begin(loan)?,
                    Some(end) => live.end_begin(loan, end)?,
                };
                later(async move { Reply::of(lasting(written).await, |()| Reply::Done) })
            }
            Request::AckAll { group, loans } => {
                let live = self.member(&group)?;
                let loans: Vec<Settle> = loans.into_iter().map(settle).collect();
                let (written, acked) = live.ack_all_begin(&loans)?;
                let held = acked.iter().map(Result::is_ok).collect();
                later(async move { Reply::of(lasting(written).await, |()| Reply::Acked(held)) })
            }
            Request::Extend { group, loan, lease } => {
                let written = self.member(&group)?.extend_begin(settle(loan), lease)?;
                later(async move { Reply::of(lasting(written).await, |()| Reply::Done) })
            }
            Request::Cancel { .. } => Work::Told(Reply::Done),
            request => match self.at_once(&request) {
                Some(reply) => Work::Told(reply?),
                None => {
                    let engine = self.clone();
                    Work::Slow(Box::new(move || {
                        engine.at_leisure(request).unwrap_or_else(|error| Reply::failed(&error))
                    }))
                }
            },
        })
    }

    /// Finds the group that is meant.
    pub(crate) fn member(&self, which: &Which) -> Result<Arc<Live>> {
        let live = self.group(&which.name)?;
        if live.incarnation == which.incarnation {
            return Ok(live);
        }
        // Removed, and made anew under its name.
        Err(Error::NoSuchGroup { name: which.name.clone(), existing: self.group_names() })
    }

    fn serve_push(
        self: &Arc<Self>,
        holder: u32,
        records: Vec<Sent>,
        synced: bool,
        waits: bool,
    ) -> Result<Work> {
        if records.is_empty() {
            return Ok(Work::Told(Reply::Offsets { first: 0, end: 0 }));
        }
        let slowly = move |engine: Arc<Self>, records: Vec<Sent>| -> Slow {
            Box::new(move || {
                let records: Vec<Record<'_>> = records.iter().map(Sent::record).collect();
                Reply::of(engine.push(&records, level(synced)), |offsets| Reply::offsets(&offsets))
            })
        };
        let when_full = super::limits::when_full(&self.limits());
        if waits && self.log.room.is_limited() && when_full == WhenFull::DiscardOldest {
            return Ok(Work::Slow(slowly(self.clone(), records)));
        }
        let pushed = {
            let records: Vec<Record<'_>> = records.iter().map(Sent::record).collect();
            self.hand_in(&records, level(synced), if waits { GUEST | u64::from(holder) } else { 0 })?
        };
        let engine = self.clone();
        Ok(Work::Later(Box::pin(async move {
            match poll_fn(|context| pushed.poll_led(context)).await {
                Err(Error::AtLimit { .. }) if waits && matches!(when_full, WhenFull::Block(_)) => {
                    Work::Full(slowly(engine, records))
                }
                answer => Work::Told(Reply::of(answer, |offsets| Reply::offsets(&offsets))),
            }
        })))
    }

    /// Answers what needs no disk.
    fn at_once(&self, request: &Request) -> Option<Result<Reply>> {
        let of =
            |group: &Which, told: &dyn Fn(&Arc<Live>) -> Reply| self.member(group).map(|live| told(&live));
        Some(match request {
            Request::Group { name, new: None } => {
                self.group(name).map(|live| Reply::Group { incarnation: live.incarnation })
            }
            Request::Groups => Ok(Reply::Names(self.group_names())),
            Request::Policy { group } => of(group, &|live| {
                let (policy, kinds) = live.look(|state: &State| (state.policy(), state.kinds().to_vec()));
                Reply::Policy { policy, kinds }
            }),
            Request::Dead { group } => of(group, &|live| Reply::Dead(live.dead())),
            Request::Rows { group, state } => {
                of(group, &|live| Reply::Rows(live.rows(*state, self.log.next())))
            }
            Request::Stats => Ok(told(&stats::stats(self))),
            Request::GroupStats { group } => of(group, &|live| told(&stats::group_stats(self, live))),
            Request::Limits => Ok(told(&self.limits().numbers())),
            #[cfg(feature = "schedules")]
            Request::Schedules => Ok(told(&self.schedules())),
            _ => return None,
        })
    }

    /// Answers what may take the disk long.
    fn at_leisure(self: &Arc<Self>, request: Request) -> Result<Reply> {
        let count = |count: u64| Reply::Count(count);
        Ok(match request {
            Request::Sync => self.sync().map(|()| Reply::Done)?,
            Request::Group { name, new: Some(new) } => {
                Reply::Group { incarnation: self.group_or_create(&name, &new)?.incarnation }
            }
            Request::CreateGroup { name, new } => {
                Reply::Group { incarnation: self.create_group(&name, &new)?.incarnation }
            }
            Request::RemoveGroup { name } => self.remove_group(&name).map(|()| Reply::Done)?,
            Request::AckWith { group, loan, records, synced, .. } => {
                let records: Vec<Record<'_>> = records.iter().map(Sent::record).collect();
                let loan = [(self.member(&group)?, settle(loan))];
                Reply::offsets(&self.ack_with(&loan, &records, level(synced))?)
            }
            Request::Discard { offset } => count(self.discard(offset)?),
            Request::DiscardKey { key } => count(self.discard_key(&key.0)?),
            Request::DiscardIn { group, offsets } => {
                count(self.discard_in(&*self.member(&group)?, &offsets)?)
            }
            Request::DiscardKeyIn { group, key } => {
                count(self.discard_key_in(&self.member(&group)?, &key.0)?)
            }
            Request::Purge { group } => count(self.purge(&*self.member(&group)?)?),
            Request::Seek { group, to } => count(self.seek(&*self.member(&group)?, to)?),
            Request::Revive { group, offsets } => {
                count(self.revive(&*self.member(&group)?, offsets.as_deref())?)
            }
            Request::Undelete { group, offsets } => count(self.undelete(&*self.member(&group)?, &offsets)?),
            Request::Pause { group, until } => self.member(&group)?.pause(until).map(|()| Reply::Done)?,
            Request::ReleaseAll { group } => count(self.release_all(&*self.member(&group)?)?),
            Request::SetPolicy { group, policy, kinds } => {
                self.member(&group)?.set_policy(policy, kinds).map(|()| Reply::Done)?
            }
            Request::Look { group, first, end, state } => {
                let (found, next) = self.look_within(&self.member(&group)?, (first, end), state)?;
                let found = found.into_iter().map(|one| one.map_err(|error| (&error).into())).collect();
                Reply::Looked { found, next }
            }
            Request::ChangeLimits { wanted } => self.change_limits(&wanted).map(|()| Reply::Done)?,
            Request::Pins => told(&pinned::pins_of(self)?),
            #[cfg(feature = "schedules")]
            Request::Schedule { name, cron, missed, message } => {
                let strange = |what: String| Error::Invalid { what };
                let missed = MissedTicks::of(missed)
                    .ok_or_else(|| strange("an unknown rule for missed ticks".into()))?;
                let plan = codec::decode(&message.0).map_err(strange)?;
                self.schedule_planned(&name, &cron, missed, plan).map(|()| Reply::Done)?
            }
            #[cfg(feature = "schedules")]
            Request::Unschedule { name } => Reply::Flag(self.unschedule(&name)?),
            other => {
                let what = format!(
                    "the process that has the queue open cannot do this: {}; build it with the same features",
                    name_of(&other)
                );
                return Err(Error::Invalid { what });
            }
        })
    }
}

fn settle((offset, delivery): Held) -> Settle {
    // Where the message lies is not told: it is looked for, should it come again.
    Settle { offset, delivery, place: (0, 0) }
}

async fn lasting(mut written: Written) -> Result<()> {
    poll_fn(|context| written.poll(context)).await
}

async fn receive(engine: Arc<Engine>, live: Arc<Live>, ask: Ask<'static>) -> Reply {
    let mut receiving = Receiving::default();
    let received = poll_fn(|context| engine.poll_receive(&live, &ask, &mut receiving, context)).await;
    Reply::of(received, |loans| Reply::Lent(loans.iter().filter_map(told_of).collect()))
}

fn told_of(loan: &Loan) -> Option<Lent> {
    let Loan { message, delivery, attempt, lease } = loan;
    Some(Lent { message: Looked::of(message)?, delivery: *delivery, attempt: *attempt, lease: *lease })
}

/// Names a request for a message to people.
fn name_of(request: &Request) -> String {
    let text = format!("{request:?}");
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}
