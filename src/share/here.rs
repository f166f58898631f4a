//! Is the queue open in this process by now?
//!
//! A guest that took over is the owner, and calls the engine, as an owner does: its own speed is that of one who came first.
//! Not before everything is answered that it sent when it was a guest, but for receives: a push must not overtake one
//! that was made before it.

use std::sync::Arc;

use super::guest::Guest;
use super::member::Member;
use super::place::Place;
use crate::engine::Engine;

impl Guest {
    /// Returns the queue, where this process became its owner and calls it directly.
    pub(super) fn direct(&self) -> Option<&Arc<Engine>> {
        if let Some(engine) = self.direct.get() {
            return Some(engine);
        }
        // In a fork no lock is taken.
        if !self.owns() || self.check_process().is_err() {
            return None;
        }
        let state = self.lock();
        if let (Some(engine), true) = (&state.own, !state.closing && state.only_receives()) {
            let _ = self.direct.set(engine.clone());
        }
        drop(state);
        self.direct.get()
    }
}

impl Member {
    /// Returns the group as it is reached now. One that was removed stays where it was: there its error comes from.
    pub(super) fn now(&self) -> Option<Self> {
        match self {
            Self::Own(..) => None,
            Self::Guest(guest, which) => {
                let engine = guest.direct()?;
                Some(Self::Own(engine.clone(), engine.member(which).ok()?))
            }
        }
    }
}

impl Place {
    /// Returns the queue as it is reached now.
    pub(super) fn now(&self) -> Option<Self> {
        match self {
            Self::Own(_) => None,
            Self::Guest(guest) => Some(Self::Own(guest.direct()?.clone())),
        }
    }
}
