//! Where is the queue: open in this process, or in another one?

use std::sync::Arc;
use std::time::Duration;

use super::guest::Guest;
use super::{owner, succession};
use crate::clock::Clock;
use crate::engine::{ALONE, Engine};
use crate::error::{Error, Result};
use crate::options::Settings;
use crate::storage::Storage;
use crate::wake::Bell;

/// Between two attempts to get the lock, or to reach who has it.
const AGAIN: Duration = Duration::from_millis(1);
/// Who has the lock and serves nobody yet may be just about to.
const OPENING: Duration = Duration::from_secs(1);

/// Where the queue is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Own(Arc<Engine>),
    Guest(Arc<Guest>),
}

/// Keeps a queue open; the last one closes it.
#[derive(Debug)]
pub(crate) struct Handle(Place);

impl Place {
    /// Opens the queue, or becomes a guest of whoever has it open.
    ///
    /// # Errors
    /// As [`crate::Options::open`] says.
    pub(crate) fn open(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>, settings: Settings) -> Result<Self> {
        if settings.exclusive || !settings.threads || !storage.has_sockets() {
            let settings = Settings { exclusive: true, ..settings };
            let engine = Engine::open(storage, clock, settings)?;
            if engine.storage.has_sockets() {
                // Whoever served here is gone.
                let _ = owner::clear(&*engine.storage);
            }
            return Ok(Self::Own(engine));
        }
        let begun = clock.now();
        loop {
            let locked = match succession::open_and_serve(&storage, &clock, &settings) {
                Ok(engine) => return Ok(Self::Own(engine)),
                Err(error @ Error::Locked { .. }) => error,
                Err(error) => return Err(error),
            };
            if let Some(guest) = succession::visit(&storage, &clock, &settings)? {
                return Ok(Self::Guest(guest));
            }
            let alone = matches!(&locked, Error::Locked { note, .. } if note.ends_with(ALONE));
            let patience = if alone { Duration::ZERO } else { OPENING };
            if clock.now().saturating_sub(begun) >= settings.lock_timeout.max(patience) {
                return Err(locked);
            }
            Bell::default().wait(0, Some(AGAIN));
        }
    }

    /// Does what the background thread does; nothing where that is another process's.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn run_duties(&self) -> Result<()> {
        match &*self.now() {
            Self::Own(engine) => engine.run_all_duties(),
            Self::Guest(guest) => guest.check_open(),
        }
    }

    /// Gives back all that can be, now; tells whether that was for this process to do.
    pub(crate) fn compact(&self) -> Result<bool> {
        match &*self.now() {
            Self::Own(engine) => engine.compact().map(|()| true),
            Self::Guest(guest) => guest.check_open().map(|()| false),
        }
    }

    /// Closes this process's part.
    ///
    /// # Errors
    /// What kept the queue from being closed cleanly.
    pub(crate) fn close(&self) -> Result<()> {
        match self {
            Self::Own(engine) => owner::close(engine),
            Self::Guest(guest) => guest.close(),
        }
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        match self {
            Self::Own(engine) => &engine.clock,
            Self::Guest(guest) => &guest.clock,
        }
    }
}

impl Handle {
    pub(crate) fn new(place: Place) -> Self {
        Self(place)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Nobody is there to hear of a failure; who wants to, calls `Queue::close`. In a fork nothing is
        // done: the queue is the parent's.
        let _ = self.0.close();
    }
}
