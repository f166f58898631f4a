//! Who reads what the owner answers?
//!
//! Whoever waits for an answer and finds that nobody reads does so himself, and hands out what is for others: so an
//! answer wakes one thread, not two. He takes the connection from the desk *by value*, and puts it back when he has his
//! answer. The guest's thread has it while nobody waits like that (tasks do not), and once it is over: then it finds
//! the next owner.
//!
//! No turn is missed: whoever puts the connection back, or leaves without it, says whose turn it is, under the lock
//! under which everybody looks before he waits.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use super::answer::Slot;
use super::frame::{self, Incoming};
use super::greeting::Answer;
use super::guest::Guest;
use crate::codec;

const WAKER: Token = Token(0);
const OWNER: Token = Token(1);
/// So much is read at once.
const PIECE: usize = 256 << 10;
/// The thread takes the connection when nobody has read for so long, or twice that.
const LOOK: Duration = Duration::from_millis(250);

/// A connection to an owner that let us in.
#[derive(Debug)]
pub(super) struct Link {
    poll: Poll,
    events: Events,
    stream: Arc<UnixStream>,
    incoming: Incoming,
    buffer: Vec<u8>,
    /// All that had come was read: what comes now is told of.
    dry: bool,
    /// The owner sends no more than what has come.
    hung_up: bool,
    over: bool,
}

/// What there is before somebody reads: who let us in, and what he said behind that.
pub(super) struct Met {
    pub(super) stream: Arc<UnixStream>,
    pub(super) incoming: Incoming,
}

/// Where the connection lies while nobody reads.
#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// For the thread.
    called: Condvar,
    waker: Waker,
    registry: Registry,
}

#[derive(Debug, Default)]
struct State {
    link: Option<Link>,
    /// Who waits while somebody else reads, by call.
    waiting: BTreeMap<u64, Arc<Slot>>,
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
enum Turn {
    Nobodys,
    Threads,
    Waiters(Arc<Slot>),
}

impl State {
    fn is_needed(&self) -> bool {
        self.needs > 0 || self.blocked
    }

    /// Tells whether nobody is to read any more.
    fn is_over(&self) -> bool {
        self.closing || self.link.as_ref().is_some_and(|link| link.over)
    }

    fn turn(&self) -> Turn {
        match self.waiting.values().next() {
            _ if self.link.is_none() => Turn::Nobodys,
            _ if self.is_over() => Turn::Threads,
            Some(slot) => Turn::Waiters(slot.clone()),
            None if self.is_needed() => Turn::Threads,
            None => Turn::Nobodys,
        }
    }
}

impl Desk {
    /// Makes the desk of a guest, and what its connections are waited on with.
    ///
    /// # Errors
    /// When the system gives no more descriptors.
    pub(super) fn new() -> io::Result<(Self, Poll)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let registry = poll.registry().try_clone()?;
        Ok((Self { state: Mutex::default(), called: Condvar::new(), waker, registry }, poll))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls whose turn it is, once the lock is free.
    fn call(&self, state: MutexGuard<'_, State>) {
        let turn = state.turn();
        drop(state);
        match turn {
            Turn::Nobodys => {}
            Turn::Threads => self.called.notify_all(),
            Turn::Waiters(slot) => slot.ring(),
        }
    }

    /// Has it told when something comes on a connection. Forgotten when that is closed.
    pub(super) fn register(&self, stream: &UnixStream) -> io::Result<()> {
        self.registry.register(&mut SourceFd(&stream.as_raw_fd()), OWNER, Interest::READABLE)
    }

    /// Notes whether the owner takes less than is to be sent: whoever reads hears when it takes more. Not otherwise, or
    /// he would be woken by each request that the owner reads.
    pub(super) fn set_blocked(&self, stream: Option<&UnixStream>, blocked: bool) {
        if let Some(stream) = stream {
            let both = Interest::READABLE | Interest::WRITABLE;
            let interest = if blocked { both } else { Interest::READABLE };
            // Asked anew the system tells at once what is there already. If it refuses, the connection is over.
            let _ = self.registry.reregister(&mut SourceFd(&stream.as_raw_fd()), OWNER, interest);
        }
        let mut state = self.lock();
        state.blocked = blocked;
        self.call(state);
    }

    /// Has the thread read for somebody who does not, until [`Desk::no_need`].
    pub(super) fn need(&self) {
        let mut state = self.lock();
        state.needs += 1;
        self.call(state);
    }

    pub(super) fn no_need(&self) {
        self.lock().needs -= 1;
    }

    /// Has whoever reads look whether he is to go on.
    pub(super) fn ring(&self) {
        // If it fails he looks at the next answer.
        let _ = self.waker.wake();
    }

    /// Nobody is to read any more but the thread, which ends.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        self.call(state);
        self.ring();
    }

    /// Takes the connection for somebody who waits for a call's answer; or notes that he waits.
    fn come(&self, call: u64, slot: &Arc<Slot>) -> Option<Seat<'_>> {
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
    fn left(&self, call: u64) {
        let mut state = self.lock();
        state.waiting.remove(&call);
        // It may have been his turn.
        self.call(state);
    }

    /// Tells the thread whether it is to leave the connection to those who wait.
    pub(super) fn is_wanted(&self) -> bool {
        let state = self.lock();
        state.closing || (state.wanted && !state.is_needed())
    }

    /// Leaves the connection to those who wait, until it is the thread's turn.
    pub(super) fn leave_to_others(&self, link: Link) -> Link {
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
struct Seat<'a> {
    desk: &'a Desk,
    link: Option<Link>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = self.desk.lock();
        state.link = self.link.take();
        self.desk.call(state);
    }
}

impl Link {
    pub(super) fn new(poll: Poll, Met { stream, incoming }: Met) -> Self {
        let (events, buffer) = (Events::with_capacity(8), vec![0; PIECE]);
        Self { poll, events, stream, incoming, buffer, dry: false, hung_up: false, over: false }
    }

    /// Goes on with another connection.
    pub(super) fn renew(self, met: Met) -> Self {
        let Self { poll, events, buffer, .. } = self;
        Self { events, buffer, ..Self::new(poll, met) }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Reads once, and hands out the answers that are whole.
    fn read(&mut self, guest: &Arc<Guest>) -> io::Result<()> {
        self.hand_out(guest)?;
        match (&*self.stream).read(&mut self.buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                // Where less came than there was room for there is no more; but for the end, if that has come.
                self.dry = count < self.buffer.len() && !self.hung_up;
                self.incoming.add(&self.buffer[..count]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.dry = true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        self.hand_out(guest)
    }

    fn hand_out(&mut self, guest: &Arc<Guest>) -> io::Result<()> {
        while let Some(body) = self.incoming.next(frame::LIMIT).map_err(io::Error::other)? {
            let answer: Answer = codec::decode(&body).map_err(io::Error::other)?;
            guest.answered(answer);
        }
        Ok(())
    }

    /// Waits for something to come; tells whether the owner takes more.
    fn rest(&mut self, patience: Option<Duration>) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, patience) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let mut takes_more = false;
        for event in self.events.iter().filter(|event| event.token() == OWNER) {
            takes_more |= event.is_writable();
            self.hung_up |= event.is_read_closed() || event.is_error();
            self.dry &= !(event.is_readable() || self.hung_up);
        }
        Ok(takes_more)
    }
}

impl Guest {
    /// Reads answers until the connection is over, `done`, or `until` has come. Whatever ends a connection, what can be
    /// read of it was read: an answer that was given is heard.
    pub(super) fn read_until(
        self: &Arc<Self>,
        link: &mut Link,
        until: Option<Duration>,
        done: impl Fn() -> bool,
    ) {
        loop {
            if !link.dry && link.read(self).is_err() {
                link.over = true;
            }
            if link.over || done() {
                return;
            }
            if !link.dry {
                continue;
            }
            let now = self.clock.now();
            if until.is_some_and(|until| now >= until) {
                return;
            }
            match link.rest(until.and_then(|until| self.clock.patience(until))) {
                Ok(true) => self.flush(&mut self.lock_out()),
                Ok(false) => {}
                Err(_) => link.over = true,
            }
        }
    }

    /// Reads until a call is answered, or waits while somebody else reads; may come back for nothing.
    pub(super) fn read_or_wait(
        self: &Arc<Self>,
        call: u64,
        slot: &Arc<Slot>,
        until: Option<Duration>,
        stopped: impl Fn() -> bool,
    ) {
        if let Some(mut seat) = self.desk.come(call, slot) {
            if let Some(link) = &mut seat.link {
                self.read_until(link, until, || slot.is_answered() || stopped());
            }
            return;
        }
        slot.wait(&*self.clock, until, stopped);
        self.desk.left(call);
    }
}
