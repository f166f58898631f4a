//! Is the queue open in this process by now?
//!
//! A guest that took over is the owner, and calls the engine, as an owner does: its own speed is that of one who came first.
//! Not before everything is answered that it sent when it was a guest, but for receives: a push must not overtake one
//! that was made before it.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::guest::Guest;
use super::member::Member;
use super::place::Place;
use crate::engine::Engine;

impl Guest {
    /// Returns the queue, where this process became its owner and calls it directly.
    pub(super) fn direct(&self) -> Option<&Arc<Engine>> {
        let engine = self.own.get()?;
        if !self.is_direct.load(Ordering::Acquire) {
            // In a fork no lock is taken.
            self.check_process().ok()?;
            let state = self.lock();
            if state.closing || !state.only_receives() {
                return None;
            }
            self.is_direct.store(true, Ordering::Release);
        }
        Some(engine)
    }
}

impl Member {
    /// Returns the group as it is reached now. One that was removed stays where it was: there its error comes from.
    pub(super) fn now(&self) -> Cow<'_, Self> {
        if let Self::Guest(guest, which) = self
            && let Some(engine) = guest.direct()
            && let Ok(live) = engine.member(which)
        {
            return Cow::Owned(Self::Own(engine.clone(), live));
        }
        Cow::Borrowed(self)
    }
}

impl Place {
    /// Returns the queue as it is reached now.
    pub(super) fn now(&self) -> Cow<'_, Self> {
        if let Self::Guest(guest) = self
            && let Some(engine) = guest.direct()
        {
            return Cow::Owned(Self::Own(engine.clone()));
        }
        Cow::Borrowed(self)
    }
}
