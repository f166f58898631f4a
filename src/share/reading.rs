//! How is what the owner answers read, by whoever's turn it is?

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Poll, Registry, Token, Waker};

use super::answer::Slot;
use super::desk::Connection;
use super::edge::{Edge, interest};
use super::frame::{self, Incoming};
use super::greeting::Answer;
use super::guest::Guest;
use super::wire::Wire;
use crate::codec;

const WAKER: Token = Token(0);
const OWNER: Token = Token(1);
/// So much is read at once.
const PIECE: usize = 256 << 10;

/// A connection to an owner that let us in.
#[derive(Debug)]
pub(super) struct Link {
    poll: Poll,
    events: Events,
    stream: Arc<UnixStream>,
    incoming: Incoming,
    buffer: Vec<u8>,
    edge: Edge,
    over: bool,
}

/// What there is before somebody reads: who let us in, and what he said behind that.
pub(super) struct Met {
    pub(super) stream: Arc<UnixStream>,
    pub(super) incoming: Incoming,
}

/// What whoever reads listens to, besides the connection.
#[derive(Debug)]
pub(super) struct Ears {
    waker: Waker,
    registry: Registry,
}

impl Ears {
    /// Makes them, and what they listen with.
    ///
    /// # Errors
    /// When the system gives no more descriptors.
    pub(super) fn new() -> io::Result<(Self, Poll)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let registry = poll.registry().try_clone()?;
        Ok((Self { waker, registry }, poll))
    }

    /// Has whoever reads look whether he is to go on.
    pub(super) fn ring(&self) {
        // If it fails he looks at the next answer.
        let _ = self.waker.wake();
    }

    /// Has it told when something comes on a connection. Forgotten when that is closed.
    pub(super) fn register(&self, stream: &UnixStream) -> io::Result<()> {
        self.registry.register(&mut SourceFd(&stream.as_raw_fd()), OWNER, interest(false))
    }

    /// Has it told when the owner takes more, too.
    fn hear_when_it_takes_more(&self, stream: &UnixStream, wanted: bool) {
        // If the system refuses, the connection is over.
        let _ = self.registry.reregister(&mut SourceFd(&stream.as_raw_fd()), OWNER, interest(wanted));
    }
}

/// A connection, as far as somebody speaks into it.
#[derive(Debug)]
pub(super) struct Mouth {
    stream: Arc<UnixStream>,
    ears: Arc<Ears>,
}

impl Mouth {
    pub(super) fn new(stream: &Arc<UnixStream>, ears: &Arc<Ears>) -> Self {
        Self { stream: stream.clone(), ears: ears.clone() }
    }
}

impl Write for Mouth {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.stream).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire for Mouth {
    fn hang_up(&self) {
        // It may be over already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn hear_when_it_takes_more(&self, wanted: bool) {
        self.ears.hear_when_it_takes_more(&self.stream, wanted);
    }
}

impl Connection for Link {
    fn is_over(&self) -> bool {
        self.over
    }
}

impl Link {
    pub(super) fn new(poll: Poll, Met { stream, incoming }: Met) -> Self {
        let (events, buffer) = (Events::with_capacity(8), vec![0; PIECE]);
        Self { poll, events, stream, incoming, buffer, edge: Edge::default(), over: false }
    }

    /// Goes on with another connection.
    pub(super) fn renew(self, met: Met) -> Self {
        let Self { poll, events, buffer, .. } = self;
        Self { events, buffer, ..Self::new(poll, met) }
    }

    /// Reads once, and hands out the answers that are whole.
    fn read(&mut self, guest: &Arc<Guest>) -> io::Result<()> {
        self.hand_out(guest)?;
        match (&*self.stream).read(&mut self.buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.edge.read(count, self.buffer.len());
                self.incoming.add(&self.buffer[..count]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.edge.found_nothing(),
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
            self.edge.told(event);
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
            if link.edge.is_readable() && link.read(self).is_err() {
                link.over = true;
            }
            if link.over || done() {
                return;
            }
            if link.edge.is_readable() {
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
