//! What does an answer mean if the request was sent, and perhaps done, before?

use crate::engine::Engine;
use crate::engine::request::{Ending, Reply, Request, Which};
use crate::error::Error;
use crate::group::rule::MessageState;
use crate::plant::{Plant, planted};

/// How an answer is to be understood if the request was sent, and perhaps done, before.
#[derive(Clone, Debug)]
pub(super) enum Retry {
    /// A loan that is over was ended by it; with an ack, if the message is done.
    Settled(Which, Option<u64>),
    /// Loans that are over were, if their messages are done.
    Acked(Which, Vec<u64>),
    /// A group that is there was made by it.
    Created(String),
    /// One that is not was removed by it.
    Removed,
}

pub(super) fn retry_of(request: &Request) -> Option<Retry> {
    if planted(Plant::RetryRefused) {
        return None;
    }
    match request {
        Request::Settle { group, loan, ending } => {
            Some(Retry::Settled(group.clone(), (*ending == Ending::Ack).then_some(loan.0)))
        }
        Request::Extend { group, .. } => Some(Retry::Settled(group.clone(), None)),
        Request::AckAll { group, loans } => {
            Some(Retry::Acked(group.clone(), loans.iter().map(|loan| loan.0).collect()))
        }
        Request::CreateGroup { name, .. } => Some(Retry::Created(name.clone())),
        Request::RemoveGroup { .. } => Some(Retry::Removed),
        _ => None,
    }
}

impl Retry {
    /// Takes an answer for what it means where the request may have been done before.
    pub(super) fn understood(&self, engine: &Engine, reply: Reply) -> Reply {
        let is_done = |group: &Which, offset: u64| {
            engine.member(group).is_ok_and(|live| live.state_of(offset) == MessageState::Done)
        };
        match (self, reply) {
            (Self::Acked(group, offsets), Reply::Acked(held)) => {
                let held = held.into_iter().zip(offsets);
                Reply::Acked(held.map(|(held, &offset)| held || is_done(group, offset)).collect())
            }
            (_, Reply::Failed(fault)) => match (self, Error::from(fault.clone())) {
                (Self::Settled(group, offset), Error::LeaseLost { .. })
                    if offset.is_none_or(|offset| is_done(group, offset)) =>
                {
                    Reply::Done
                }
                (Self::Removed, Error::NoSuchGroup { .. }) => Reply::Done,
                (Self::Created(name), Error::GroupExists { .. }) => {
                    Reply::of(engine.group(name), |live| Reply::Group { incarnation: live.incarnation })
                }
                _ => Reply::Failed(fault),
            },
            (_, reply) => reply,
        }
    }
}
