//! What does a guest do at the engine, without a socket between them? For tests (feature `testing`).

use std::sync::Arc;
use std::time::Duration;

use super::{GroupOptions, Queue};
use crate::engine::{Engine, holders};
use crate::error::{Error, Result};
use crate::group::receive::{Ask, NEVER};
use crate::group::settle::{End, Settle};
use crate::share::place::Place;
use crate::share::world::{Called, Caller, Owner};
use crate::storage::Lock;

/// One holder of a guest: of another process that reaches the queue through this one.
///
/// A loan is told as offset and delivery number.
#[derive(Debug)]
pub struct Guest {
    engine: Arc<Engine>,
    holder: u32,
    /// Shows that it lives, where no other process does.
    lock: Option<Box<dyn Lock>>,
}

impl Guest {
    /// Takes a new holder and holds its lock until it is dropped, or [`Guest::die`] is called.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn hold(queue: &Queue) -> Result<Self> {
        let engine = engine_of(queue)?;
        let (holder, lock) = holders::hold(&*engine.storage)?;
        Ok(Self { engine, holder, lock: Some(lock) })
    }

    /// Names a holder whose lock somebody else holds, or nobody.
    ///
    /// # Errors
    /// When another process has the queue open.
    pub fn of(queue: &Queue, holder: u32) -> Result<Self> {
        Ok(Self { engine: engine_of(queue)?, holder, lock: None })
    }

    /// Takes the same holder, and its lock, to another opening of the queue.
    ///
    /// # Errors
    /// When another process has the queue open.
    pub fn at(self, queue: &Queue) -> Result<Self> {
        Ok(Self { engine: engine_of(queue)?, ..self })
    }

    /// Returns the holder.
    #[must_use]
    pub fn holder(&self) -> u32 {
        self.holder
    }

    /// Lets go of the lock, as the end of its process does.
    pub fn die(&mut self) {
        self.lock = None;
    }

    /// Begins in every group.
    ///
    /// # Errors
    /// [`Error::HolderOver`](crate::Error::HolderOver).
    pub fn admit(&self) -> Result<()> {
        self.engine.admit(self.holder)
    }

    /// Is gone: what it holds comes back, as losses if `counted`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn gone(&self, counted: bool) -> Result<()> {
        self.engine.gone(self.holder, counted)
    }

    /// Loses its connection.
    pub fn left(&self) {
        self.engine.left(self.holder);
    }

    /// Comes back, and knows of these loans in a group.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn back(&self, group: &str, loans: &[(u64, u64)]) -> Result<()> {
        let incarnation = self.engine.group(group)?.incarnation;
        let named = loans.iter().map(|&(offset, number)| (group.to_owned(), incarnation, offset, number));
        self.engine.back(self.holder, &named.collect::<Vec<_>>())
    }

    /// Tells whether the queue knows of a guest that may live and is not connected.
    #[must_use]
    pub fn is_any_absent(&self) -> bool {
        self.engine.has_absent()
    }

    /// Lends up to `most` messages of a group, waiting so long for the first.
    ///
    /// # Errors
    /// As [`Consumer::recv`](crate::Consumer::recv), and [`Error::HolderOver`](crate::Error::HolderOver).
    pub fn recv(&self, group: &str, most: usize, wait: Duration) -> Result<Vec<(u64, u64)>> {
        let engine = &self.engine;
        let until = engine.deadline(wait);
        let (holder, stop) = (Some(self.holder), &NEVER);
        let ask = Ask { holder, most, lease: None, until, drain: false, idle_ends: false, stop };
        let loans = engine.group(group)?.receive(&ask)?;
        Ok(loans.iter().map(|loan| (loan.message.offset, loan.delivery)).collect())
    }

    /// Acks a loan.
    ///
    /// # Errors
    /// As [`Delivery::ack`](crate::Delivery::ack).
    pub fn ack(&self, group: &str, loan: (u64, u64)) -> Result<()> {
        self.engine.group(group)?.ack(settle(loan))
    }

    /// Gives a loan back, uncounted.
    ///
    /// # Errors
    /// As [`Delivery::release`](crate::Delivery::release).
    pub fn release(&self, group: &str, loan: (u64, u64)) -> Result<()> {
        self.engine.group(group)?.end(settle(loan), End::Release, true)
    }
}

fn settle((offset, delivery): (u64, u64)) -> Settle {
    Settle { offset, delivery, place: (0, 0) }
}

fn engine_of(queue: &Queue) -> Result<Arc<Engine>> {
    match queue.handle.place() {
        Place::Own(engine) => Ok(engine.clone()),
        Place::Guest(guest) => {
            Err(Error::Locked { path: guest.root().to_path_buf(), note: "it is open elsewhere".into() })
        }
    }
}

impl Owner {
    /// Serves the guests of a queue that was opened without threads.
    ///
    /// # Errors
    /// When another process has the queue open.
    pub fn of(queue: &Queue) -> Result<Self> {
        engine_of(queue).map(Self::new)
    }
}

impl Caller {
    /// Makes a group.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn create_group(&self, name: &str, new: &GroupOptions) -> Result<Called> {
        self.create(name, new.new_group())
    }
}
