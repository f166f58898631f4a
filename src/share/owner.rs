//! Who listens at the socket?
//!
//! One thread serves all guests of all queues that this process has open. It does no work that may block for long: what
//! is said is decided in `host`. For the pushes of one queue it leads itself, as long as syncs are short: waking the
//! committer, and being woken by it, takes as long as a sync of a good disk.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixListener as StdListener;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::edge::{Edge, interest};
use super::host::{Host, Ready};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::names;
use crate::storage::{PerProcess, Storage, other_user};

const WAKER: Token = Token(0);
/// Of one guest so much is read before others have their turn.
const PIECE: usize = 256 << 10;
/// So many guests of one queue at the most: each takes a descriptor.
const MOST_GUESTS: usize = 4096;
/// What is not sent by then, when the queue is closed, is asked for again at the next owner.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// A sync that takes longer is led by the committer: other guests, and those of other queues, are not to wait for it.
const SHORT: Duration = Duration::from_millis(1);
/// After one that took longer, this thread leads no more for so many times as long: so much of its time at the most goes
/// into long ones.
const PAUSE: u32 = 16;

/// What the thread is asked to do.
enum Command {
    Serve(Arc<Engine>, StdListener),
    /// Reads no more; tells when it does not.
    Hush(Arc<Engine>, Sender<()>),
    /// Sends what is left, and ends the connections.
    End(Arc<Engine>, Sender<()>),
}

/// The thread of this process.
#[derive(Default)]
struct Server {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    commands: VecDeque<Command>,
    /// Wakes the thread; `None`: there is none.
    waker: Option<Arc<Waker>>,
}

/// Takes the place where guests come to. The lock is ours: whatever has its name there is left over.
///
/// # Errors
/// When the socket cannot be made. `None` where there can be none.
pub(crate) fn listen(storage: &dyn Storage) -> Result<Option<StdListener>> {
    let failed = |error| Error::io("make the socket", storage.root().join(names::SOCKET), error);
    clear(storage).map_err(failed)?;
    storage.listen(names::SOCKET).map_err(failed)
}

/// Removes a socket that nobody listens at any more: the lock is ours.
pub(crate) fn clear(storage: &dyn Storage) -> io::Result<()> {
    match storage.remove(names::SOCKET) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Serves the guests of a queue.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn serve(engine: &Arc<Engine>, listener: StdListener) -> Result<()> {
    let failed = |error| Error::io("serve others at", engine.storage.root().join(names::SOCKET), error);
    listener.set_nonblocking(true).map_err(failed)?;
    Server::of_this_process().ask(Command::Serve(engine.clone(), listener)).map_err(failed)
}

/// Closes a queue that has guests: everything they were promised is kept, and one of them takes over.
///
/// # Errors
/// What kept the queue from being closed cleanly.
pub(crate) fn close(engine: &Arc<Engine>) -> Result<()> {
    engine.log.check_process()?;
    if engine.settings.exclusive {
        return engine.close();
    }
    let server = Server::of_this_process();
    server.ask_and_wait(|told| Command::Hush(engine.clone(), told));
    let closed = engine.close();
    server.ask_and_wait(|told| Command::End(engine.clone(), told));
    closed
}

impl Server {
    fn of_this_process() -> &'static Arc<Self> {
        static SERVER: PerProcess<Arc<Server>> = PerProcess::new();
        SERVER.get(Arc::default)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(self: &Arc<Self>, command: Command) -> io::Result<()> {
        let mut state = self.lock();
        let waker = match &state.waker {
            Some(waker) => waker.clone(),
            None => {
                let poll = Poll::new()?;
                let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
                let (server, woken) = (self.clone(), waker.clone());
                let thread = thread::Builder::new().name("backlog-guests".into());
                thread.spawn(move || {
                    // If it panics, nobody is served any more, and who closes a queue does not wait for it.
                    let _ending = Ending(server.clone());
                    Thread::new(server, poll, woken).run();
                })?;
                state.waker.insert(waker).clone()
            }
        };
        state.commands.push_back(command);
        drop(state);
        waker.wake()
    }

    /// Asks, and waits until it is done; at once where nobody is served.
    fn ask_and_wait(self: &Arc<Self>, command: impl FnOnce(Sender<()>) -> Command) {
        let (told, hears) = channel();
        if self.lock().waker.is_none() || self.ask(command(told)).is_err() {
            return;
        }
        // Also when the thread ends without a word: then nobody is served any more.
        let _ = hears.recv();
    }
}

/// The end of the thread by a panic.
struct Ending(Arc<Server>);

impl Drop for Ending {
    fn drop(&mut self) {
        if !thread::panicking() {
            // There may be another thread by now.
            return;
        }
        let mut state = self.0.lock();
        state.waker = None;
        // With them go the ends of those who wait.
        let commands = std::mem::take(&mut state.commands);
        drop(state);
        drop(commands);
    }
}

/// What the thread has in its hands.
struct Thread {
    server: Arc<Server>,
    poll: Poll,
    waker: Arc<Waker>,
    queues: Vec<Served>,
    guests: BTreeMap<usize, Guest>,
    next: usize,
    buffer: Vec<u8>,
}

struct Served {
    engine: Arc<Engine>,
    host: Host,
    listener: Option<UnixListener>,
    token: usize,
    /// Before that the committer leads.
    leads_from: Duration,
}

/// A connection; `queue` is the token of its listener.
struct Guest {
    stream: UnixStream,
    queue: usize,
    edge: Edge,
    /// It took less than was to be sent: the thread hears when it takes more.
    blocked: bool,
    /// There is something to be done with it.
    touched: bool,
}

impl Served {
    /// Has the committer lead for what guests have pushed.
    fn have_led(&mut self) {
        self.host.pushed = false;
        self.engine.have_led();
    }
}

impl Thread {
    fn new(server: Arc<Server>, poll: Poll, waker: Arc<Waker>) -> Self {
        let buffer = vec![0; PIECE];
        Self { server, poll, waker, queues: Vec::new(), guests: BTreeMap::new(), next: 1, buffer }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(256);
        loop {
            self.take_commands();
            if self.queues.is_empty() {
                let mut state = self.server.lock();
                if state.commands.is_empty() {
                    state.waker = None;
                    return;
                }
                continue;
            }
            let mut wait = None;
            for served in &mut self.queues {
                if let Some(due) = served.host.look_after_departed() {
                    let left = due.saturating_sub(served.engine.clock.now());
                    wait = Some(wait.map_or(left, |wait: Duration| wait.min(left)));
                }
            }
            let pushed = self.queues.iter().any(|served| served.host.pushed);
            if pushed || self.guests.values().any(|guest| guest.touched) {
                wait = Some(Duration::ZERO);
            }
            self.listen(&mut events, wait);
            self.go_on(&mut events);
        }
    }

    /// Waits for something to happen, and notes where.
    fn listen(&mut self, events: &mut Events, wait: Option<Duration>) {
        if self.poll.poll(events, wait).is_err() {
            // Interrupted: the loop looks again.
            return;
        }
        for event in &*events {
            let Token(token) = event.token();
            if let Some(guest) = self.guests.get_mut(&token) {
                guest.edge.told(event);
                guest.touched = true;
            } else {
                self.accept(token);
            }
        }
    }

    fn accept(&mut self, queue: usize) {
        let Some(served) = self.queues.iter_mut().find(|served| served.token == queue) else { return };
        let Some(listener) = &served.listener else { return };
        loop {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let connected = self.guests.values().filter(|guest| guest.queue == queue).count();
            if connected == MOST_GUESTS || !matches!(other_user(&stream), Ok(false)) {
                continue;
            }
            let token = self.next;
            self.next += 1;
            if self.poll.registry().register(&mut stream, Token(token), interest(false)).is_ok() {
                served.host.came(token);
                let guest = Guest { stream, queue, edge: Edge::default(), blocked: false, touched: true };
                self.guests.insert(token, guest);
            }
        }
    }

    fn take_commands(&mut self) {
        loop {
            // Not in the loop's head: the lock would be held over the work.
            let Some(command) = self.server.lock().commands.pop_front() else { return };
            match command {
                Command::Serve(engine, listener) => {
                    let mut listener = UnixListener::from_std(listener);
                    let token = self.next;
                    self.next += 1;
                    let waker = self.waker.clone();
                    // A waker that fails leaves the answer for the next event.
                    let ready = Ready::new(move || drop(waker.wake()));
                    let host = Host::new(engine.clone(), ready);
                    let _ = self.poll.registry().register(&mut listener, Token(token), Interest::READABLE);
                    let listener = Some(listener);
                    let leads_from = Duration::ZERO;
                    self.queues.push(Served { engine, host, listener, token, leads_from });
                    // Those who came before it was listened for.
                    self.accept(token);
                }
                Command::Hush(engine, told) => {
                    for served in self.queues.iter_mut().filter(|served| Arc::ptr_eq(&served.engine, &engine))
                    {
                        served.host.close();
                        if let Some(mut listener) = served.listener.take() {
                            let _ = self.poll.registry().deregister(&mut listener);
                            // By the first who closes, and before anybody frees the lock: then another one's lies there.
                            let _ = clear(&*engine.storage);
                        }
                    }
                    drop(engine);
                    let _ = told.send(());
                }
                Command::End(engine, told) => {
                    self.end(&engine);
                    // Before it is told: with the last hold on the queue its files are closed, and whoever closed it may go on
                    // to unmount them.
                    drop(engine);
                    let _ = told.send(());
                }
            }
        }
    }

    /// Sends what is left to be said, and ends the connections.
    fn end(&mut self, engine: &Arc<Engine>) {
        let Some(at) = self.queues.iter().position(|served| Arc::ptr_eq(&served.engine, engine)) else {
            return;
        };
        let queue = self.queues[at].token;
        let clock = engine.clock.clone();
        let until = clock.now() + LAST_WORDS;
        let mut events = Events::with_capacity(256);
        loop {
            self.go_on(&mut events);
            let host = &self.queues[at].host;
            let mine = self.guests.iter().filter(|(_, guest)| guest.queue == queue);
            let left = mine.filter(|(token, _)| !host.outgoing(**token).is_empty()).count();
            if left == 0 || clock.now() >= until {
                break;
            }
            self.listen(&mut events, Some(Duration::from_millis(1)));
        }
        self.guests.retain(|_, guest| guest.queue != queue);
        self.queues.remove(at);
    }

    /// Reads, answers and writes where something is to be done, and sees to it that somebody leads for pushes.
    fn go_on(&mut self, events: &mut Events) {
        self.read_and_answer();
        let pushed = |served: &Served| served.host.pushed;
        let mut busy = (0..self.queues.len()).filter(|&at| pushed(&self.queues[at]));
        match (busy.next(), busy.next()) {
            (None, _) => {}
            (Some(one), None) => self.lead(one, events),
            // Their committers lead side by side.
            (Some(_), Some(_)) => {
                self.queues.iter_mut().filter(|served| pushed(served)).for_each(Served::have_led)
            }
        }
    }

    /// Leads for the guests of a queue, if that takes no longer than to have it done.
    fn lead(&mut self, at: usize, events: &mut Events) {
        let clock = self.queues[at].engine.clock.clone();
        let begun = clock.now();
        if begun < self.queues[at].leads_from {
            return self.queues[at].have_led();
        }
        while self.queues[at].engine.is_patient() {
            // A poll can wait for milliseconds only; and whoever is about to push may need this processor.
            std::thread::yield_now();
            self.listen(events, Some(Duration::ZERO));
            self.read_and_answer();
        }
        let served = &mut self.queues[at];
        let leading = clock.now();
        if !served.engine.lead_now() {
            return served.have_led();
        }
        served.host.pushed = false;
        let took = clock.now().saturating_sub(leading);
        if took > SHORT {
            served.leads_from = clock.now().saturating_add(took.saturating_mul(PAUSE));
        }
        self.read_and_answer();
    }

    fn read_and_answer(&mut self) {
        for served in &mut self.queues {
            for token in served.host.run() {
                if let Some(guest) = self.guests.get_mut(&token) {
                    guest.touched = true;
                }
            }
        }
        let touched: Vec<usize> =
            self.guests.iter().filter(|(_, guest)| guest.touched).map(|(&token, _)| token).collect();
        for token in touched {
            self.pump(token);
        }
    }

    fn pump(&mut self, token: usize) {
        let Some(guest) = self.guests.get_mut(&token) else { return };
        guest.touched = false;
        let Some(served) = self.queues.iter_mut().find(|served| served.token == guest.queue) else { return };
        let host = &mut served.host;
        let mut ended = false;
        if guest.edge.is_readable() && host.wants(token) {
            match guest.stream.read(&mut self.buffer) {
                Ok(0) => ended = true,
                Ok(count) => {
                    // There may be more; others have their turn first.
                    guest.edge.read(count, self.buffer.len());
                    host.received(token, &self.buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => guest.edge.found_nothing(),
                Err(error) if error.kind() == ErrorKind::Interrupted => guest.touched = true,
                Err(_) => ended = true,
            }
        }
        let mut blocked = false;
        while !ended && !host.outgoing(token).is_empty() {
            match guest.stream.write(host.outgoing(token)) {
                Ok(0) => ended = true,
                Ok(count) => host.sent(token, count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    blocked = true;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => ended = true,
            }
        }
        if blocked != guest.blocked {
            ended |=
                self.poll.registry().reregister(&mut guest.stream, Token(token), interest(blocked)).is_err();
            guest.blocked = blocked;
        }
        // What was let in since there was no room for more is read on.
        guest.touched |= guest.edge.is_readable() && host.wants(token);
        if ended || (host.is_over(token) && host.outgoing(token).is_empty()) {
            host.went(token);
            if let Some(mut guest) = self.guests.remove(&token) {
                let _ = self.poll.registry().deregister(&mut guest.stream);
            }
        }
    }
}
