//! Is what was lent good, before it is handed out?

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::Engine;
use crate::error::Result;
use crate::group::live::Live;
use crate::group::receive::{Ask, Loan};
use crate::group::settle::End;
use crate::group::waiting::Receiving;

impl Engine {
    /// Lends messages that passed their checksum; none when the time was over.
    ///
    /// # Errors
    /// As [`Live::receive`].
    pub(crate) fn receive(&self, live: &Arc<Live>, ask: &Ask<'_>) -> Result<Vec<Loan>> {
        loop {
            if let Some(answer) = self.good_loans(live, live.receive(ask)?, true) {
                return answer;
            }
        }
    }

    /// Does the same, and waits for no sync; see [`Live::poll_receive`].
    ///
    /// # Errors
    /// As [`Live::receive`].
    pub(crate) fn poll_receive(
        &self,
        live: &Arc<Live>,
        ask: &Ask<'_>,
        receiving: &mut Receiving,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<Loan>>> {
        loop {
            let loans = ready!(live.poll_receive(ask, receiving, cx))?;
            if let Some(answer) = self.good_loans(live, loans, false) {
                return Poll::Ready(answer);
            }
        }
    }

    /// Keeps the loans whose records pass their checksum: those are handed out, and whoever asks next meets the error
    /// of another; `None` if there were some, and none is good. One that has gone bad is among the dead letters, and
    /// the next receive says so.
    ///
    /// # Errors
    /// When a record cannot be read: its loan is given back.
    fn good_loans(&self, live: &Arc<Live>, loans: Vec<Loan>, may_wait: bool) -> Option<Result<Vec<Loan>>> {
        let none = loans.is_empty();
        let (mut good, mut failed) = (Vec::with_capacity(loans.len()), Ok(()));
        for mut loan in loans {
            // Outside every lock: this is where the payload's checksum is computed.
            match self.is_good(live, &mut loan, may_wait) {
                Ok(true) => good.push(loan),
                Ok(false) => {}
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        if none || !good.is_empty() {
            return Some(Ok(good));
        }
        failed.err().map(Err)
    }

    fn is_good(&self, live: &Arc<Live>, loan: &mut Loan, may_wait: bool) -> Result<bool> {
        let settle = loan.settle();
        let good = loan.message.check(&self.log).inspect_err(|_| {
            // Nobody holds it, and it may be good: the next try reads it anew. Should even this fail,
            // the group is stopped, and the next opening returns the loan.
            let _ = live.end(settle, End::Release, false);
        })?;
        if good && loan.message.parts().is_some() {
            return Ok(true);
        }
        let report = loan.message.damaged(&self.log);
        if may_wait {
            live.bury(settle, report)?;
        } else {
            // Should it not last, whoever gets the message next comes to the same.
            drop(live.bury_begin(settle, report)?);
        }
        Ok(false)
    }
}
