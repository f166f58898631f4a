//! How does a task receive, wherever the queue is open?

use std::borrow::Cow;
use std::task::{Context, Poll, ready};

use super::answer::Calling;
use super::member::{Member, loans_of, receive_request};
use crate::error::Result;
use crate::group::receive::{Ask, Loan};
use crate::group::waiting;

/// A receive that is polled. Dropped, it gives back what it was lent and has not handed out.
#[derive(Debug, Default)]
pub(crate) struct Receiving {
    own: waiting::Receiving,
    /// A call that was made of the owner.
    calling: Option<Calling>,
}

impl Member {
    /// Lends messages that passed their checksum, and waits for no sync; see [`waiting`].
    ///
    /// # Errors
    /// As [`Member::receive`].
    pub(crate) fn poll_receive(
        &self,
        ask: &Ask<'_>,
        receiving: &mut Receiving,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<Loan>>> {
        // What was asked of an owner is answered by the owner.
        let now = if receiving.calling.is_some() { Cow::Borrowed(self) } else { self.now() };
        match &*now {
            Self::Own(engine, live) => engine.poll_receive(live, ask, &mut receiving.own, cx),
            Self::Guest(guest, which) => {
                let calling = match &receiving.calling {
                    Some(calling) => calling,
                    None => {
                        let begun = guest.begin_at_once(receive_request(guest, which, ask))?;
                        receiving.calling.insert(begun)
                    }
                };
                let reply = ready!(calling.poll(cx));
                receiving.calling = None;
                Poll::Ready(reply.and_then(loans_of))
            }
        }
    }
}
