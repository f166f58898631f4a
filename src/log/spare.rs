//! Is the next segment ready when the active one is full?
//!
//! It is made ahead and filled with zeros in small paced steps: overwriting blocks that were written
//! before costs 90 µs a sync, growing a file 218. The writer takes it when it rolls, finished or
//! not; the mutex is held over one step, so that nobody fills what the writer has begun to write.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::make::{self, Making};
use crate::error::{Error, Result};
use crate::plant::{Plant, planted};
use crate::storage::{File, Storage};

/// Bytes filled and synced in one step: the writer waits that long at the most.
const STEP: u64 = 1 << 20;

/// The segment made ahead.
#[derive(Debug)]
pub(crate) struct Spare {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    making: Option<Making>,
    /// The next number that no file ever had.
    number: u64,
    /// A step failed: no new attempt before the next roll.
    given_up: bool,
    /// The queue is closed: nothing is made any more.
    closed: bool,
    /// Bytes of the file system that are left to others.
    min_free: u64,
}

impl Spare {
    /// `number` is the first that no file ever had.
    pub(crate) fn new(number: u64) -> Self {
        Self {
            state: Mutex::new(State { making: None, number, given_up: false, closed: false, min_free: 0 }),
        }
    }

    /// Leaves so many bytes of the file system to others.
    pub(crate) fn leave_free(&self, bytes: u64) {
        self.lock().min_free = bytes;
    }

    /// Does one step towards a segment of `capacity`; tells whether there is more to do.
    ///
    /// # Errors
    /// When the disk refuses: the attempt is given up until the next roll.
    pub(crate) fn step(&self, storage: &dyn Storage, queue: u128, capacity: u64, now: u64) -> Result<bool> {
        let mut state = self.lock();
        if state.given_up || state.closed {
            return Ok(false);
        }
        let stepped = state.step(storage, queue, capacity, now);
        if stepped.is_err() {
            state.given_up = true;
            if let Some(making) = state.making.take() {
                making.discard(storage);
            }
        }
        stepped
    }

    /// Takes the segment made ahead, or makes one now, for at least `least` bytes; durable, and
    /// with a number above all others.
    ///
    /// # Errors
    /// When the disk refuses; nothing has changed then.
    pub(crate) fn take(
        &self,
        storage: &dyn Storage,
        queue: u128,
        capacity: u64,
        least: u64,
        now: u64,
    ) -> Result<Making> {
        let mut state = self.lock();
        state.given_up = false;
        let mut making = match state.making.take() {
            Some(making) if making.capacity >= least => making,
            unfit => {
                if let Some(unfit) = unfit {
                    unfit.discard(storage);
                }
                state.begin(storage, queue, capacity.max(least), now)?
            }
        };
        if planted(Plant::SlotBeforeSegment) {
            return Ok(making);
        }
        match making.finish(storage) {
            Ok(()) => Ok(making),
            Err(error) => {
                making.discard(storage);
                Err(error)
            }
        }
    }

    /// Draws the next number that no file ever had.
    pub(crate) fn draw_number(&self) -> u64 {
        let mut state = self.lock();
        state.number += 1;
        state.number - 1
    }

    /// Makes a file that nobody needs any more the next segment, if that has `capacity` and there is none yet
    /// that is finished; tells whether it did. Its blocks were written before, so it is ready at once.
    ///
    /// # Errors
    /// When the disk refuses: the file is no segment any more, under either name.
    pub(crate) fn recycle(
        &self,
        storage: &dyn Storage,
        queue: u128,
        old: (u64, u32),
        capacity: u64,
        now: u64,
    ) -> Result<bool> {
        let mut state = self.lock();
        if state.closed || state.making.as_ref().is_some_and(|making| making.durable) {
            return Ok(false);
        }
        let number = state.number;
        // Used up even if the attempt fails: no name ever means two contents.
        state.number += 1;
        let Some(made) = make::recycle(storage, queue, old, number, capacity, now)? else { return Ok(false) };
        if let Some(half_made) = state.making.replace(made) {
            half_made.discard(storage);
        }
        Ok(true)
    }

    /// Removes what was made ahead: for now nobody writes, and it takes room.
    pub(crate) fn let_go(&self, storage: &dyn Storage) {
        if let Some(making) = self.lock().making.take() {
            making.discard(storage);
        }
    }

    /// Tells up to where the segment made ahead is filled; `None` if there is none.
    pub(crate) fn filled(&self) -> Option<u64> {
        self.lock().making.as_ref().map(|making| making.filled)
    }

    /// Removes what was made ahead: the queue closes. Its blocks are free once what is returned is dropped.
    pub(crate) fn discard(&self, storage: &dyn Storage) -> Option<Arc<dyn File>> {
        let mut state = self.lock();
        state.closed = true;
        state.making.take().map(|making| making.discard(storage))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self, storage: &dyn Storage, queue: u128, capacity: u64, now: u64) -> Result<Making> {
        self.check_free(storage, capacity)?;
        let number = self.number;
        // Used up even if the attempt fails: no name ever means two contents.
        self.number += 1;
        make::begin(storage, queue, number, capacity, now)
    }

    /// Refuses a segment that would take of what is left to others.
    fn check_free(&self, storage: &dyn Storage, capacity: u64) -> Result<()> {
        if self.min_free == 0 {
            return Ok(());
        }
        let path = storage.root();
        let free = storage.free_bytes().map_err(|error| Error::io("count the free bytes of", path, error))?;
        if free >= self.min_free.saturating_add(capacity) {
            return Ok(());
        }
        let what = format!(
            "{free} bytes are free, the next segment takes {capacity}, and min_free_bytes leaves {} to others",
            self.min_free
        );
        let source = Arc::new(io::Error::new(io::ErrorKind::StorageFull, what));
        Err(Error::Full { path: path.to_path_buf(), source })
    }

    fn step(&mut self, storage: &dyn Storage, queue: u128, capacity: u64, now: u64) -> Result<bool> {
        if self.making.is_none() {
            self.making = Some(self.begin(storage, queue, capacity, now)?);
        }
        let Some(making) = &mut self.making else { return Ok(false) };
        if making.fill(storage, STEP)? {
            // Synced as it goes, so that no heap of dirty pages stands in the way of a push.
            making.sync(storage)?;
            return Ok(true);
        }
        making.finish(storage)?;
        Ok(false)
    }
}
