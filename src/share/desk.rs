//! Whose turn is it to read what the owner answers?
//!
//! Whoever waits for an answer and finds that nobody reads does so himself, and hands out what is for others: so an
//! answer wakes one thread, not two. He takes the connection from the desk *by value*, and puts it back when he has his
//! answer. The guest's thread has it while nobody waits like that (tasks do not), and once it is over: then it finds
//! the next owner.
//!
//! No turn is missed: whoever puts the connection back, or leaves without it, says whose turn it is, under the lock
//! under which everybody looks before he waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::slot::Slot;
use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::plant::{Plant, planted};

/// The thread takes the connection when nobody has read for so long, or twice that.
const LOOK: Duration = Duration::from_millis(250);

/// What lies on a desk.
pub(super) trait Connection {
    /// Tells whether nothing more comes.
    fn is_over(&self) -> bool;
}

/// Where the connection lies while nobody reads.
#[derive(Debug)]
pub(super) struct Desk<L, A> {
    state: Mutex<State<L, A>>,
    /// For the thread.
    called: Condvar,
}

#[derive(Debug)]
struct State<L, A> {
    link: Option<L>,
    /// Who waits while somebody else reads, by call.
    waiting: BTreeMap<u64, Arc<Slot<A>>>,
    /// Somebody waits while the thread reads: it is to leave the connection to those who wait.
    wanted: bool,
    /// So many do not read, and need somebody who does.
    needs: usize,
    /// More is to be sent than the owner takes now.
    blocked: bool,
    /// Somebody has read since the thread looked last.
    used: bool,
    closing: bool,
}

/// Whose turn it is.
enum Turn<A> {
    Nobodys,
    Threads,
    Waiters(Arc<Slot<A>>),
}

impl<L: Connection, A> State<L, A> {
    fn is_needed(&self) -> bool {
        self.needs > 0 || self.blocked
    }

    /// Tells whether nobody is to read any more.
    fn is_over(&self) -> bool {
        self.closing || self.link.as_ref().is_some_and(L::is_over)
    }

    fn turn(&self) -> Turn<A> {
        match self.waiting.values().next() {
            _ if self.link.is_none() => Turn::Nobodys,
            _ if self.is_over() => Turn::Threads,
            Some(slot) => Turn::Waiters(slot.clone()),
            None if self.is_needed() => Turn::Threads,
            None => Turn::Nobodys,
        }
    }
}

impl<L, A> Default for Desk<L, A> {
    fn default() -> Self {
        let state = State {
            link: None,
            waiting: BTreeMap::new(),
            wanted: false,
            needs: 0,
            blocked: false,
            used: false,
            closing: false,
        };
        Self { state: Mutex::new(state), called: Condvar::new() }
    }
}

impl<L: Connection, A> Desk<L, A> {
    fn lock(&self) -> MutexGuard<'_, State<L, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls whose turn it is, once the lock is free.
    fn call(&self, state: MutexGuard<'_, State<L, A>>) {
        let turn = state.turn();
        drop(state);
        match turn {
            Turn::Nobodys => {}
            Turn::Threads => self.called.notify_all(),
            Turn::Waiters(slot) => slot.ring(),
        }
    }

    /// Notes whether the owner takes less than is to be sent: somebody is to read, who hears when it takes more.
    pub(super) fn set_blocked(&self, blocked: bool) {
        let mut state = self.lock();
        state.blocked = blocked;
        self.call(state);
    }

    /// Has the thread read for somebody who does not, until [`Desk::no_need`].
    pub(super) fn need(&self) {
        let mut state = self.lock();
        state.needs += 1;
        if !planted(Plant::TaskNotTold) {
            self.call(state);
        }
    }

    pub(super) fn no_need(&self) {
        self.lock().needs -= 1;
    }

    /// Nobody is to read any more but the thread, which ends.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        self.call(state);
    }

    /// Takes the connection for somebody who waits for a call's answer; or notes that he waits.
    pub(super) fn come(&self, call: u64, slot: &Arc<Slot<A>>) -> Option<Seat<'_, L, A>> {
        let mut state = self.lock();
        if !state.is_over()
            && let Some(link) = state.link.take()
        {
            state.used = true;
            return Some(Seat { desk: self, link: Some(link) });
        }
        state.wanted = true;
        state.waiting.insert(call, slot.clone());
        None
    }

    /// Notes that somebody does not wait any more.
    pub(super) fn left(&self, call: u64) {
        let mut state = self.lock();
        state.waiting.remove(&call);
        if planted(Plant::TurnKept) {
            return;
        }
        // It may have been his turn.
        self.call(state);
    }

    /// Tells the thread whether it is to leave the connection to those who wait.
    pub(super) fn is_wanted(&self) -> bool {
        let state = self.lock();
        state.closing || (state.wanted && !state.is_needed())
    }

    /// Leaves the connection to those who wait, until it is the thread's turn.
    pub(super) fn leave_to_others(&self, link: L) -> L {
        let mut state = self.lock();
        (state.wanted, state.used) = (false, false);
        state.link = Some(link);
        self.call(state);
        let mut state = self.lock();
        loop {
            if matches!(state.turn(), Turn::Threads)
                && let Some(link) = state.link.take()
            {
                return link;
            }
            let (back, waited) =
                self.called.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner);
            state = back;
            if waited.timed_out() {
                if !state.used
                    && state.waiting.is_empty()
                    && let Some(link) = state.link.take()
                {
                    return link;
                }
                state.used = false;
            }
        }
    }
}

/// The connection in the hands of somebody who waits; on every way out, a panic too, it goes back.
pub(super) struct Seat<'a, L: Connection, A> {
    desk: &'a Desk<L, A>,
    pub(super) link: Option<L>,
}

impl<L: Connection, A> Drop for Seat<'_, L, A> {
    fn drop(&mut self) {
        let mut state = self.desk.lock();
        state.link = self.link.take();
        if !planted(Plant::LinkBackInSilence) {
            self.desk.call(state);
        }
    }
}
