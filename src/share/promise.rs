//! When is the answer there that somebody did not wait for at once, wherever the queue is open?

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use super::answer::Calling;
use super::guest::Guest;
use crate::engine::Pushed;
use crate::engine::request::{Reply, Request};
use crate::error::{Error, Result};
use crate::group::written::Written;
use crate::offset::Offsets;

/// A push that was handed over, or an ack that was given, and that may not be answered yet. An ack is answered with
/// no offsets.
#[derive(Debug)]
pub(crate) enum Promise {
    Push(Pushed),
    Ack(Written),
    Guest(Box<Called>),
}

/// A call that was made of the owner.
#[derive(Debug)]
pub(crate) struct Called {
    guest: Arc<Guest>,
    calling: Calling,
    /// What the owner's answer means.
    meaning: fn(Reply) -> Result<Offsets>,
    /// The answer, once it was taken: whoever asks again is told the same.
    told: OnceLock<Result<Offsets>>,
}

impl Called {
    fn tell(&self, reply: Result<Reply>) -> Result<Offsets> {
        self.told.get_or_init(|| reply.and_then(self.meaning)).clone()
    }

    fn wait(&self, until: Option<Duration>) -> Option<Result<Offsets>> {
        if let Some(told) = self.told.get() {
            return Some(told.clone());
        }
        self.calling.wait(until).map(|reply| self.tell(reply))
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Offsets>> {
        if let Some(told) = self.told.get() {
            return Poll::Ready(told.clone());
        }
        self.calling.poll(context).map(|reply| self.tell(reply))
    }
}

impl Promise {
    /// Makes a call of the owner.
    ///
    /// # Errors
    /// As [`Guest::begin`].
    pub(super) fn call(
        guest: &Arc<Guest>,
        request: Request,
        meaning: fn(Reply) -> Result<Offsets>,
    ) -> Result<Self> {
        let calling = guest.begin(request, None)?;
        Ok(Self::Guest(Box::new(Called { guest: guest.clone(), calling, meaning, told: OnceLock::new() })))
    }

    /// Returns the answer when it is there, or `None` when `until` has come first.
    pub(crate) fn wait(&self, until: Option<Duration>) -> Option<Result<Offsets>> {
        match self {
            Self::Push(pushed) => pushed.wait(until),
            Self::Ack(written) => written.wait(until).map(nothing),
            Self::Guest(called) => called.wait(until),
        }
    }

    /// Looks for the answer, and leaves a waker.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Offsets>> {
        match self {
            Self::Push(pushed) => pushed.poll(context),
            Self::Ack(written) => written.poll(context).map(nothing),
            Self::Guest(called) => called.poll(context),
        }
    }

    /// Returns the moment when `wait` from now is over.
    pub(crate) fn deadline(&self, wait: Duration) -> Option<Duration> {
        match self {
            Self::Push(pushed) => pushed.deadline(wait),
            Self::Ack(written) => written.deadline(wait),
            Self::Guest(called) => called.guest.clock.now().checked_add(wait),
        }
    }

    /// Says that the answer did not come in time.
    pub(crate) fn late(&self) -> Error {
        match self {
            Self::Push(_) | Self::Ack(_) => Error::Timeout { owner: None },
            Self::Guest(called) => called.guest.late(),
        }
    }
}

fn nothing(answer: Result<()>) -> Result<Offsets> {
    answer.map(|()| Offsets::new(0, 0))
}

/// Takes the answer to an ack.
pub(super) fn acked(reply: Reply) -> Result<Offsets> {
    nothing(reply.result().map(drop))
}
