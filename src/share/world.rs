//! What do owner and guests do without a process, a thread or a socket of their own? For tests (feature `testing`).
//!
//! Both sides are the real ones; between them a test carries the bytes, whole, in pieces, or not at all.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::answer::Calling;
use super::frame::{self, Incoming};
use super::greeting::Answer;
use super::guest::Guest;
use super::host::{Host, Ready};
use super::member::loans_of;
use super::succession::Missed;
use super::wire::Wire;
use crate::clock::{Clock, ManualClock};
use crate::codec::{self, Bytes};
use crate::engine::request::{Ending, Reply, Request, Sent, Which};
use crate::engine::{Engine, NewGroup};
use crate::error::Result;
use crate::format::names;
use crate::group::holder::draw_holder;
use crate::options::Settings;
use crate::storage::sim::SimDisk;
use crate::storage::{Lock, Storage};

/// A folder that outlives the process that has it open: which disk shows it now is told by the test.
#[derive(Clone, Debug)]
pub struct Folder(Arc<Mutex<SimDisk>>);

/// The owner's side of the protocol, over a queue that was opened without threads.
#[derive(Debug)]
pub struct Owner {
    engine: Arc<Engine>,
    host: Host,
}

/// A guest's side: the client itself, whose bytes the test carries.
#[derive(Debug)]
pub struct Caller {
    guest: Arc<Guest>,
    folder: Folder,
    said: Said,
    incoming: Incoming,
    /// The holder that it greeted with, until it is let in.
    greeted: Option<(u32, Box<dyn Lock>)>,
}

/// A call that a guest made.
#[derive(Debug)]
pub struct Called(Calling);

/// A group, as a guest knows it.
#[derive(Clone, Debug)]
pub struct Known(Which);

/// How a guest ends a loan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ends {
    /// Done.
    Ack,
    /// Failed: again at once.
    Nack,
    /// Given back.
    Release,
}

/// A loan that a guest was given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaned {
    /// Which message.
    pub offset: u64,
    /// Which loan of it.
    pub delivery: u64,
    /// Which try this is.
    pub attempt: u32,
    /// What was pushed.
    pub payload: Vec<u8>,
}

/// What a guest was told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Told {
    /// Messages from the first offset up to the second.
    Offsets(u64, u64),
    /// A group.
    Group(Known),
    /// Messages on loan.
    Lent(Vec<Loaned>),
    /// Anything else.
    Done,
}

impl Folder {
    /// Names the folder that a disk shows.
    #[must_use]
    pub fn new(disk: &SimDisk) -> Self {
        Self(Arc::new(Mutex::new(disk.clone())))
    }

    /// Returns the disk that shows it now.
    #[must_use]
    pub fn disk(&self) -> SimDisk {
        self.lock().clone()
    }

    /// Kills whoever has it open: what was written stays, and other processes keep their locks.
    pub fn kill(&self) {
        let mut disk = self.lock();
        *disk = disk.kill();
    }

    fn lock(&self) -> MutexGuard<'_, SimDisk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A holder's lock, held by another process than the owner.
#[derive(Debug)]
struct HeldElsewhere(Folder, String);

impl Lock for HeldElsewhere {
    fn note(&self, _text: &str) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for HeldElsewhere {
    fn drop(&mut self) {
        self.0.lock().hold_elsewhere(&self.1, false);
    }
}

/// What a guest has said, and nobody has carried on.
#[derive(Clone, Debug, Default)]
struct Said(Arc<Mutex<(Vec<u8>, bool)>>);

impl Said {
    fn lock(&self) -> MutexGuard<'_, (Vec<u8>, bool)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire for Said {
    fn hang_up(&self) {
        self.lock().1 = true;
    }

    // It takes all.
    fn hear_when_it_takes_more(&self, _wanted: bool) {}
}

impl Owner {
    /// Serves the guests of a queue that was opened without threads.
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        // Nobody sleeps: the test comes to see.
        let host = Host::new(engine.clone(), Ready::new(|| ()));
        Self { engine, host }
    }

    /// Lets somebody speak.
    pub fn came(&mut self, token: usize) {
        self.host.came(token);
    }

    /// Takes bytes that somebody sent.
    pub fn received(&mut self, token: usize, bytes: &[u8]) {
        self.host.received(token, bytes);
    }

    /// Tells whether more of what somebody sends is to be read now.
    #[must_use]
    pub fn wants(&self, token: usize) -> bool {
        self.host.wants(token)
    }

    /// Returns what is to be sent.
    #[must_use]
    pub fn outgoing(&self, token: usize) -> &[u8] {
        self.host.outgoing(token)
    }

    /// Notes that so many bytes of it were sent.
    pub fn sent(&mut self, token: usize, bytes: usize) {
        self.host.sent(token, bytes);
    }

    /// Tells whether a connection is to be ended, once what is to be sent was sent.
    #[must_use]
    pub fn is_over(&self, token: usize) -> bool {
        self.host.is_over(token)
    }

    /// Notes that a connection has ended.
    pub fn went(&mut self, token: usize) {
        self.host.went(token);
    }

    /// Does what its threads do, and goes on with what has become ready; tells whether anything had.
    pub fn work(&mut self) -> bool {
        // Who waits for it is told of a failure.
        let _ = self.engine.run_all_duties();
        let touched = !self.host.run().is_empty();
        self.host.look_after_departed();
        touched
    }

    /// Returns about how many bytes are kept for a connection.
    #[must_use]
    pub fn weight(&self, token: usize) -> usize {
        self.host.weight(token)
    }

    /// Leaves of its own will; what is to be sent is there then.
    ///
    /// # Errors
    /// What kept the queue from being closed cleanly.
    pub fn close(&mut self) -> Result<()> {
        self.host.close();
        let closed = self.engine.close();
        self.host.run();
        closed
    }
}

impl Caller {
    /// Is a process that has not greeted anybody yet.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn new(folder: &Folder, clock: &ManualClock) -> Result<Self> {
        let storage: Arc<dyn Storage> = Arc::new(folder.disk());
        let producer = draw_holder(&*storage)?;
        let clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let guest = Arc::new(Guest::new(storage, clock, Settings::default(), producer));
        let (folder, said) = (folder.clone(), Said::default());
        Ok(Self { guest, folder, said, incoming: Incoming::default(), greeted: None })
    }

    /// Takes a new holder, and its lock; returns what is said first to an owner.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn greet(&mut self) -> Result<Vec<u8>> {
        let holder = draw_holder(&*self.guest.storage)?;
        let name = names::holder(holder);
        self.folder.lock().hold_elsewhere(&name, true);
        let lock = Box::new(HeldElsewhere(self.folder.clone(), name));
        self.said = Said::default();
        self.incoming = Incoming::default();
        let greeting = self.guest.greeting(holder);
        self.greeted = Some((holder, lock));
        Ok(greeting)
    }

    /// Takes bytes that the owner sent; tells whether the connection is still good.
    ///
    /// # Errors
    /// Why it is of no use to come again: every call is answered so.
    pub fn hear(&mut self, bytes: &[u8]) -> Result<bool> {
        self.incoming.add(bytes);
        if let Some(holder) = self.greeted.take() {
            let body = match self.incoming.next(frame::LIMIT) {
                Ok(Some(body)) => body,
                Ok(None) => {
                    self.greeted = Some(holder);
                    return Ok(true);
                }
                Err(_) => return Ok(false),
            };
            match self.guest.welcomed(&body) {
                Ok(owner) => self.guest.connected(Box::new(self.said.clone()), owner, holder),
                Err(Missed::Nobody) => return Ok(false),
                Err(Missed::For(error)) => {
                    self.guest.fail(&error);
                    return Err(error);
                }
            }
        }
        loop {
            let Ok(body) = self.incoming.next(frame::LIMIT) else { return Ok(false) };
            let Some(body) = body else { return Ok(!self.said.lock().1) };
            let Ok(answer) = codec::decode::<Answer>(&body) else { return Ok(false) };
            self.guest.answered(answer);
        }
    }

    /// Takes what it has said.
    #[must_use]
    pub fn said(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.said.lock().0)
    }

    /// Notes that the owner is gone.
    pub fn disconnected(&mut self) {
        self.guest.disconnected();
        self.greeted = None;
    }

    /// Begins to close its part: says good-bye, which is answered. Nothing else may be without an answer, or this waits for
    /// it.
    #[must_use]
    pub fn leave(&self) -> Option<Called> {
        self.guest.leave(self.guest.lock()).map(Called)
    }

    /// Is killed: its locks are free.
    pub fn die(self) {
        self.guest.disconnected();
        self.guest.lock().holders.clear();
    }

    /// Pushes a batch.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn push(&self, payloads: &[Vec<u8>], synced: bool) -> Result<Called> {
        self.call(Request::Push { records: sent(payloads), synced, waits: true, sequence: 0 })
    }

    pub(crate) fn create(&self, name: &str, new: NewGroup) -> Result<Called> {
        self.call(Request::CreateGroup { name: name.to_owned(), new })
    }

    /// Receives up to so many messages, and waits for so long.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn receive(&self, group: &Known, most: u64, wait: Duration) -> Result<Called> {
        let (group, wait) = (group.0.clone(), Some(wait));
        self.call(Request::Receive { group, most, lease: None, wait, drain: false, idle_ends: false })
    }

    /// Ends a loan.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn settle(&self, group: &Known, loan: &Loaned, ends: Ends) -> Result<Called> {
        let ending = match ends {
            Ends::Ack => Ending::Ack,
            Ends::Nack => Ending::Nack { reason: None, after: Some(Duration::ZERO) },
            Ends::Release => Ending::Release,
        };
        let (group, loan) = (group.0.clone(), (loan.offset, loan.delivery));
        self.call(Request::Settle { group, loan, ending })
    }

    /// Acks what may be a loan: offset and delivery number.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn settle_blindly(&self, group: &Known, loan: (u64, u64)) -> Result<Called> {
        self.call(Request::Settle { group: group.0.clone(), loan, ending: Ending::Ack })
    }

    /// Acks a loan and pushes a batch.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn ack_with(&self, group: &Known, loan: &Loaned, payloads: &[Vec<u8>]) -> Result<Called> {
        let (group, loan) = (group.0.clone(), (loan.offset, loan.delivery));
        self.call(Request::AckWith { group, loan, records: sent(payloads), synced: true, sequence: 0 })
    }

    fn call(&self, request: Request) -> Result<Called> {
        self.guest.begin(request, None).map(Called)
    }
}

fn sent(payloads: &[Vec<u8>]) -> Vec<Sent> {
    let one =
        |payload: &Vec<u8>| Sent { payload: Bytes(payload.clone()), attributes: Bytes::default(), tags: 0 };
    payloads.iter().map(one).collect()
}

impl Known {
    pub(super) fn which(&self) -> &Which {
        &self.0
    }
}

impl Called {
    /// Takes the answer, once it is there: what the owner says. A group is called so.
    pub fn answer(&self, group: &str) -> Option<Result<Told>> {
        let reply = self.0.wait(Some(Duration::ZERO))?;
        Some(reply.and_then(|reply| told(reply, group)))
    }
}

fn told(reply: Reply, group: &str) -> Result<Told> {
    Ok(match reply.result()? {
        Reply::Offsets { first, end } => Told::Offsets(first, end),
        Reply::Group { incarnation } => Told::Group(Known(Which { name: group.to_owned(), incarnation })),
        reply @ Reply::Lent(_) => {
            let loans = loans_of(reply)?.into_iter().map(|loan| Loaned {
                offset: loan.message.offset,
                delivery: loan.delivery,
                attempt: loan.attempt,
                payload: loan
                    .message
                    .parts()
                    .map_or_else(Vec::new, |(_, payload)| loan.message.bytes(&payload).to_vec()),
            });
            Told::Lent(loans.collect())
        }
        _ => Told::Done,
    })
}

/// Wraps a body, as it travels.
#[must_use]
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put(&mut out, body);
    out
}
