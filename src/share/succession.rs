//! Who is the owner, and who is it next?
//!
//! A guest's thread reads answers until the owner is gone. Then, again and again: if the lock can be had it opens the
//! queue and serves it, itself too; else it connects to whoever has it. What was not answered is sent again.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::desk::Connection as _;
use super::frame::{self, Incoming};
use super::greeting::{Hello, Welcome, greet, greeted};
use super::guest::{Guest, LAST_WORDS, Told};
use super::owner;
use super::reading::{Ears, Link, Met, Mouth};
use crate::clock::Clock;
use crate::engine::origin::LogEnd;
use crate::engine::request::Request;
use crate::engine::{Engine, holders};
use crate::error::{Error, Result};
use crate::format::names;
use crate::group::holder::draw_holder;
use crate::options::{Settings, Wanted};
use crate::storage::{Storage, process_of};

/// Between two looks for an owner.
const AGAIN: Duration = Duration::from_millis(1);
/// So often somebody who waits for a greeting looks whether he is to go on waiting.
const GLANCE: Duration = Duration::from_millis(50);
/// An owner that does not greet within so long is stopped, or very busy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Missed {
    /// Nobody is there, for now.
    Nobody,
    /// It is of no use to try again.
    For(Error),
}

/// Opens a queue as its owner, and serves others.
///
/// # Errors
/// [`Error::Locked`], and as [`Engine::open`].
pub(super) fn open_and_serve(
    storage: &Arc<dyn Storage>,
    clock: &Arc<dyn Clock>,
    settings: &Settings,
) -> Result<Arc<Engine>> {
    let settings = Settings { lock_timeout: Duration::ZERO, ..settings.clone() };
    let engine = Engine::open(storage.clone(), clock.clone(), settings)?;
    let served = owner::listen(&**storage).and_then(|listener| match listener {
        Some(listener) => owner::serve(&engine, listener),
        None => Ok(()),
    });
    if let Err(error) = served {
        let _ = engine.close();
        return Err(error);
    }
    Ok(engine)
}

/// Becomes a guest of whoever has the queue open; `None` where nobody serves it just now.
///
/// # Errors
/// What the owner says against it; [`Error::Timeout`] if it says nothing.
pub(super) fn visit(
    storage: &Arc<dyn Storage>,
    clock: &Arc<dyn Clock>,
    settings: &Settings,
) -> Result<Option<Arc<Guest>>> {
    let producer = draw_holder(&**storage)?;
    let failed = |error| Error::io("wait for answers at", storage.root(), error);
    let (ears, poll) = Ears::new().map_err(failed)?;
    let guest = Arc::new(Guest::new(storage.clone(), clock.clone(), settings.clone(), producer));
    let _ = guest.ears.set(Arc::new(ears));
    let until = clock.now().saturating_add(PATIENCE.max(settings.lock_timeout));
    let link = match guest.connect(Some(until)) {
        Ok(met) => Link::new(poll, met),
        Err(Missed::Nobody) => return Ok(None),
        Err(Missed::For(error)) => return Err(error),
    };
    let failed = |error| Error::io("start a thread for", storage.root(), error);
    let thread = thread::Builder::new().name("backlog-guest".into());
    let this = guest.clone();
    thread.spawn(move || this.stay(link)).map_err(failed)?;
    if settings.limits != Wanted::default() {
        let changed = guest.call(Request::ChangeLimits { wanted: settings.limits }, None);
        if let Err(error) = changed {
            let _ = guest.close();
            return Err(error);
        }
    }
    Ok(Some(guest))
}

/// Tells whether something was missing that comes back by itself: room, descriptors, memory. Calls wait for it.
fn passes(error: &Error) -> bool {
    match error {
        Error::Full { .. } => true,
        Error::Io { source, .. } => source.kind() == ErrorKind::OutOfMemory || names_descriptors(source),
        _ => false,
    }
}

/// There is no kind for it.
fn names_descriptors(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

impl Guest {
    /// Reads answers while nobody does who waits for one, and finds the next owner, until this process's part is closed.
    fn stay(self: Arc<Self>, mut link: Link) {
        loop {
            self.read_until(&mut link, None, || self.desk.is_wanted());
            if self.lock().closed {
                self.say_last_words();
                return;
            }
            if !link.is_over() {
                link = self.desk.leave_to_others(link);
                continue;
            }
            self.disconnected();
            link = match self.find_owner() {
                Ok(met) => link.renew(met),
                Err(error) => return self.fail(&error),
            };
        }
    }

    /// Sends what was said before it closed.
    fn say_last_words(&self) {
        let until = self.clock.now().saturating_add(LAST_WORDS);
        loop {
            let mut out = self.lock_out();
            self.flush(&mut out);
            if out.bytes.waiting().is_empty() || self.clock.now() >= until {
                out.stream = None;
                return;
            }
            drop(out);
            self.clock.pause(AGAIN);
        }
    }

    /// Finds the next owner, or becomes it.
    fn find_owner(self: &Arc<Self>) -> Result<Met> {
        loop {
            if self.lock().closed {
                return Err(Error::Closed);
            }
            if self.own.get().is_none() {
                // What it wanted changed was changed when it came, and may have been since.
                let limits = Wanted::default();
                let settings = Settings { create: false, limits, ..self.settings.clone() };
                match open_and_serve(&self.storage, &self.clock, &settings) {
                    Ok(engine) if self.took_over(&engine) => {}
                    Ok(engine) => {
                        owner::close(&engine)?;
                        return Err(Error::Closed);
                    }
                    Err(Error::Locked { .. }) => {}
                    Err(error) if passes(&error) => self.clock.pause(GLANCE),
                    Err(error) => return Err(error),
                }
            }
            match self.connect(None) {
                Ok(met) => return Ok(met),
                Err(Missed::Nobody) => self.clock.pause(AGAIN),
                Err(Missed::For(error)) if passes(&error) => self.clock.pause(GLANCE),
                Err(Missed::For(error)) => return Err(error),
            }
        }
    }

    /// Connects, greets, and sends what was not answered; gives up at `until`, or when it is closed.
    fn connect(self: &Arc<Self>, until: Option<Duration>) -> std::result::Result<Met, Missed> {
        let path = self.storage.root().join(names::SOCKET);
        let failed = |error| Missed::For(Error::io("reach whoever has the queue open at", &path, error));
        let mut stream = match self.storage.connect(names::SOCKET) {
            Ok(stream) => stream,
            Err(error) => {
                return Err(match error.kind() {
                    ErrorKind::NotFound
                    | ErrorKind::ConnectionRefused
                    | ErrorKind::ConnectionReset
                    | ErrorKind::WouldBlock => Missed::Nobody,
                    _ => failed(error),
                });
            }
        };
        let owner = process_of(&stream).unwrap_or_default();
        let (holder, lock) = holders::hold(&*self.storage).map_err(Missed::For)?;
        let greeting = self.greeting(holder);
        stream.set_read_timeout(Some(GLANCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        if stream.write_all(&greeting).is_err() {
            return Err(Missed::Nobody);
        }
        let (body, incoming) = self.hear_greeting(&mut stream, owner, until)?;
        let owner = self.welcomed(&body)?;
        stream.set_nonblocking(true).map_err(failed)?;
        let Some(ears) = self.ears.get() else { return Err(Missed::Nobody) };
        // Before anything is sent: it may be more than is taken at once.
        ears.register(&stream).map_err(failed)?;
        let stream = Arc::new(stream);
        self.connected(Box::new(Mouth::new(&stream, ears)), owner, (holder, lock));
        Ok(Met { stream, incoming })
    }

    /// Makes what is said first to an owner, by a new holder.
    pub(super) fn greeting(&self, holder: u32) -> Vec<u8> {
        let (earlier, since) = self.earlier();
        let queue = self.told.get().map(|told| told.queue);
        let hello =
            Hello { process: std::process::id(), holder, queue, earlier, producer: self.producer, since };
        let mut greeting = Vec::new();
        frame::put(&mut greeting, &greet(&hello));
        greeting
    }

    /// Takes what an owner says to that: its process, and where the log ends.
    pub(super) fn welcomed(&self, body: &[u8]) -> std::result::Result<(u32, LogEnd), Missed> {
        let path = self.storage.root().join(names::SOCKET);
        let welcome = greeted(body).map_err(|strange| Missed::For(strange.of_owner(path)))?;
        match welcome {
            Welcome::Refused(fault) => match Error::from(fault) {
                // It is just closing: the next one lets us in.
                Error::Closed | Error::HolderOver { .. } => Err(Missed::Nobody),
                error => Err(Missed::For(error)),
            },
            Welcome::In { process, queue, end, max_message_bytes, recovery } => {
                let recovery = recovery.recovery().map_err(|what| Missed::For(Error::Invalid { what }))?;
                let _ = self.told.set(Told { queue, max_message_bytes, recovery });
                Ok((process, end))
            }
        }
    }

    fn hear_greeting(
        &self,
        stream: &mut UnixStream,
        owner: u32,
        until: Option<Duration>,
    ) -> std::result::Result<(Vec<u8>, Incoming), Missed> {
        let mut incoming = Incoming::default();
        let mut buffer = [0; 4096];
        loop {
            match incoming.next(frame::LIMIT) {
                Ok(Some(body)) => return Ok((body, incoming)),
                Ok(None) => {}
                Err(what) => return Err(Missed::For(Error::Invalid { what })),
            }
            match stream.read(&mut buffer) {
                Ok(0) => return Err(Missed::Nobody),
                Ok(count) => incoming.add(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if until.is_some_and(|until| self.clock.now() >= until) {
                        return Err(Missed::For(Error::Timeout { owner: Some(owner) }));
                    }
                    if self.lock().closed {
                        return Err(Missed::For(Error::Closed));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Missed::Nobody),
            }
        }
    }
}
