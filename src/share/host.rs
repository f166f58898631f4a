//! What does the owner say to its guests? Without a socket: bytes in, bytes out.
//!
//! Each guest's calls are seen to as they come; answers go out as they are found, in any order. What waits is a
//! future whose waker puts it on a list; what may block has a thread for as long as it takes. Pushes are handed over:
//! once what has come is seen to, the caller leads for them, or has somebody lead ([`Host::pushed`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::frame;
use super::greeting::{Answer, Call, Found, Hello, Welcome, greet, greeted};
use super::retry::retry_of;
use super::slow::{self, SlowWork};
use super::unheard::Unheard;
use super::visitor::{Calling, Visitor};
use crate::codec;
use crate::engine::Engine;
use crate::engine::door::{Slow, Work};
use crate::engine::origin::Repeated;
use crate::engine::request::{Reply, Request, Which};
use crate::error::{Error, Result};

/// A guest whose connection ended is asked so often, at growing distances, whether it lives.
const DEPARTURES: [u64; 8] = [0, 1, 2, 4, 8, 16, 64, 256];

/// Names a guest's connection.
pub(crate) type Token = usize;

/// What is to be gone on with, and who is to be told that there is something.
pub(crate) struct Ready {
    list: Mutex<Vec<Event>>,
    ring: Box<dyn Fn() + Send + Sync>,
}

enum Event {
    Woken(Token, u64),
    Told(Token, u64, Reply),
    Greeted(Token, Box<Greeted>),
}

/// What came of a greeting.
type Greeted = Result<(Hello, Repeated)>;

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ready")
    }
}

impl Ready {
    pub(crate) fn new(ring: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { list: Mutex::default(), ring: Box::new(ring) })
    }

    fn add(&self, event: Event) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(event);
        let first = list.len() == 1;
        drop(list);
        // Whoever hears the ring takes all of them.
        if first {
            (self.ring)();
        }
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Woken {
    ready: Arc<Ready>,
    token: Token,
    call: u64,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.ready.add(Event::Woken(self.token, self.call));
    }
}

/// Those who are connected to one queue.
#[derive(Debug)]
pub(crate) struct Host {
    engine: Arc<Engine>,
    ready: Arc<Ready>,
    visitors: BTreeMap<Token, Visitor>,
    /// Work that may block, and that no thread has taken.
    slow: Arc<SlowWork>,
    /// Pushes that wait for room. Apart, for that may be made by what is among the other work.
    full: Arc<SlowWork>,
    /// Pushes were handed over, and nobody leads for them yet.
    pub(super) pushed: bool,
    /// Holders whose connection ended though they seemed to live: when to ask again, and how often that was done.
    departed: Vec<(u32, Duration, usize)>,
    /// No more requests are read.
    closing: bool,
}

impl Host {
    pub(crate) fn new(engine: Arc<Engine>, ready: Arc<Ready>) -> Self {
        let threads = engine.settings.threads;
        Self {
            engine,
            ready,
            visitors: BTreeMap::new(),
            slow: SlowWork::new(threads),
            full: SlowWork::new(threads),
            pushed: false,
            departed: Vec::new(),
            closing: false,
        }
    }

    /// Lets somebody speak.
    pub(crate) fn came(&mut self, token: Token) {
        self.visitors.insert(token, Visitor::default());
    }

    /// Takes bytes that somebody sent.
    pub(crate) fn received(&mut self, token: Token, bytes: &[u8]) {
        if let Some(visitor) = self.visitors.get_mut(&token) {
            visitor.incoming.add(bytes);
        }
        self.go_on(token);
    }

    /// Tells whether more of what somebody sends is to be read now.
    pub(crate) fn wants(&self, token: Token) -> bool {
        // While it is greeted nothing it sends is taken, so none may be read: it would pile up here.
        let may_speak = |visitor: &Visitor| !visitor.over && !visitor.greeting && visitor.has_room();
        !self.closing && self.visitors.get(&token).is_some_and(may_speak)
    }

    /// Returns what is to be sent.
    pub(crate) fn outgoing(&self, token: Token) -> &[u8] {
        self.visitors.get(&token).map_or(&[], |visitor| visitor.outgoing.waiting())
    }

    /// Notes that so many bytes of it were sent.
    pub(crate) fn sent(&mut self, token: Token, bytes: usize) {
        let Some(visitor) = self.visitors.get_mut(&token) else { return };
        visitor.outgoing.sent(bytes);
        self.go_on(token);
    }

    /// Tells whether a connection is to be ended, once what is to be sent was sent.
    pub(crate) fn is_over(&self, token: Token) -> bool {
        self.visitors.get(&token).is_none_or(|visitor| visitor.over)
    }

    /// Returns about how many bytes are kept for a connection.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn weight(&self, token: Token) -> usize {
        self.visitors.get(&token).map_or(0, Visitor::weight)
    }

    /// Notes that a connection has ended.
    pub(crate) fn went(&mut self, token: Token) {
        let Some(visitor) = self.visitors.remove(&token) else { return };
        self.end(&visitor);
        // As long as it is absent all is kept: that is known by now.
        self.pin(visitor.producer);
    }

    /// Sees to what somebody held who has gone.
    fn end(&mut self, visitor: &Visitor) {
        if self.closing || visitor.leaves {
            return;
        }
        if let Some(holder) = visitor.holder {
            // Of a process that was killed the kernel may close the connection before it frees the lock.
            self.lost(holder);
            let now = self.engine.clock.now();
            self.departed.extend(visitor.earlier.iter().map(|&holder| (holder, now, 0)));
        }
    }

    /// Notes that a connection is lost, and has its holder looked after.
    fn lost(&mut self, holder: u32) {
        self.engine.left(holder);
        self.departed.push((holder, self.engine.clock.now(), 0));
    }

    /// Looks after guests that may have died; returns when to come again.
    pub(crate) fn look_after_departed(&mut self) -> Option<Duration> {
        let now = self.engine.clock.now();
        let departed = std::mem::take(&mut self.departed);
        for (holder, due, asked) in departed {
            if due > now {
                self.departed.push((holder, due, asked));
                continue;
            }
            let engine = self.engine.clone();
            match engine.is_held(holder) {
                Ok(false) => self.slow.clone().work(move || drop(engine.gone(holder, true))),
                // It lives, and may come back; the background thread goes on asking.
                _ if asked + 1 == DEPARTURES.len() => {}
                _ => {
                    let again = now + Duration::from_millis(DEPARTURES[asked + 1]);
                    self.departed.push((holder, again, asked + 1));
                }
            }
        }
        self.departed.iter().map(|&(_, due, _)| due).min()
    }

    /// Goes on with what has become ready; returns whose connections have something new.
    pub(crate) fn run(&mut self) -> Vec<Token> {
        let mut touched = Vec::new();
        for event in self.ready.take() {
            let (Event::Woken(token, _) | Event::Told(token, ..) | Event::Greeted(token, _)) = event;
            touched.push(token);
            match event {
                Event::Woken(_, call) => self.poll(token, call),
                Event::Told(_, call, reply) => self.answer(token, call, reply),
                Event::Greeted(_, greeted) => self.let_in(token, *greeted),
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for &token in &touched {
            self.go_on(token);
        }
        touched
    }

    /// Reads no more requests.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    /// Takes what has come whole, as far as there is room for it.
    fn go_on(&mut self, token: Token) {
        loop {
            let Some(visitor) = self.visitors.get_mut(&token) else { return };
            if self.closing || visitor.over || visitor.greeting || !visitor.has_room() {
                return;
            }
            match visitor.incoming.next(frame::LIMIT) {
                Ok(None) => return,
                Ok(Some(body)) if visitor.holder.is_some() => self.call(token, &body),
                Ok(Some(body)) => self.greeted(token, &body),
                // Nothing it sends can be believed any more: it connects anew, and says again what is open.
                Err(_) => visitor.over = true,
            }
        }
    }

    /// Somebody says who he is.
    fn greeted(&mut self, token: Token, body: &[u8]) {
        let root = self.engine.storage.root().to_path_buf();
        let hello: Hello = match greeted(body) {
            Ok(hello) => hello,
            Err(strange) => return self.refuse(token, &strange.of_guest(root)),
        };
        if hello.queue.is_some_and(|queue| queue != self.engine.queue) {
            let problem = "is another queue than the one that was open here".into();
            return self.refuse(token, &Error::Refused { path: root, problem });
        }
        // Of a connection that it gave up nothing more is heard: it says all of it again by this one.
        let its = self.visitors.values_mut().filter(|other| other.producer == hello.producer);
        its.filter(|other| other.greeting || other.holder.is_some()).for_each(|other| other.over = true);
        if let Some(visitor) = self.visitors.get_mut(&token) {
            visitor.greeting = true;
            visitor.producer = hello.producer;
            visitor.unheard = Unheard::since(hello.since.map(|since| since.offset));
        }
        // Before its earlier holders are not absent any more: from here on what it has not heard of is kept, and
        // it is to be found once more should this owner end, too.
        self.pin(hello.producer);
        let (engine, ready) = (self.engine.clone(), self.ready.clone());
        self.slow.clone().work(move || {
            let known = slow::tried(|| know(&engine, &hello)).map(|repeated| (hello, repeated));
            ready.add(Event::Greeted(token, Box::new(known)));
        });
    }

    fn refuse(&mut self, token: Token, error: &Error) {
        let Some(visitor) = self.visitors.get_mut(&token) else { return };
        visitor.outgoing.put(&greet(&Welcome::Refused(error.into())));
        visitor.over = true;
        visitor.unheard = Unheard::default();
        let producer = visitor.producer;
        self.pin(producer);
    }

    /// Keeps the log from where on a producer's pushes may be looked for, by whichever connection.
    fn pin(&self, producer: u32) {
        let its = self.visitors.values().filter(|visitor| visitor.producer == producer);
        self.engine.pin(producer, its.filter_map(|visitor| visitor.unheard.from()).min());
    }

    fn let_in(&mut self, token: Token, greeted: Greeted) {
        let (hello, repeated) = match greeted {
            Ok(known) => known,
            Err(error) => return self.refuse(token, &error),
        };
        let engine = &self.engine;
        let Some(visitor) = self.visitors.get_mut(&token) else {
            // It went while it was greeted.
            self.lost(hello.holder);
            return self.pin(hello.producer);
        };
        let welcome = Welcome::In {
            process: std::process::id(),
            queue: engine.queue,
            end: engine.log_end(),
            max_message_bytes: engine.settings.max_message_bytes,
            recovery: Box::new(Found::of(&engine.recovery)),
        };
        visitor.outgoing.put(&greet(&welcome));
        visitor.greeting = false;
        visitor.holder = Some(hello.holder);
        visitor.earlier = hello.earlier.iter().map(|earlier| earlier.holder).collect();
        visitor.repeated = repeated;
    }

    /// Sees to a call.
    fn call(&mut self, token: Token, body: &[u8]) {
        let Some(visitor) = self.visitors.get_mut(&token) else { return };
        let (Ok(Call { id, again, heard, request }), Some(holder)) =
            (codec::decode::<Call>(body), visitor.holder)
        else {
            visitor.over = true;
            return;
        };
        if visitor.calls.contains_key(&id) && !matches!(request, Request::Cancel { .. }) {
            // Whose answer would be whose?
            visitor.over = true;
            return;
        }
        let kept_from = visitor.unheard.from();
        if !again {
            visitor.unheard.goes_on();
            visitor.repeated.clear();
        }
        visitor.unheard.heard(heard);
        let pushes = match &request {
            Request::Push { sequence, .. } | Request::AckWith { sequence, .. } => Some(*sequence),
            _ => None,
        };
        if let Some(sequence) = pushes {
            visitor.unheard.push(sequence, self.engine.log.next());
            self.pushed = true;
        }
        if visitor.unheard.from() != kept_from {
            self.engine.pin(visitor.producer, visitor.unheard.from());
        }
        match &request {
            Request::Leave => {
                visitor.leaves = true;
                visitor.calls.insert(id, Calling { later: None, bytes: 0, retry: None });
                let holders: Vec<u32> = visitor.earlier.iter().copied().chain([holder]).collect();
                let engine = self.engine.clone();
                let slow = move || {
                    // Should it fail, its group is stopped, and the next opening returns the loans.
                    holders.into_iter().for_each(|holder| drop(engine.gone(holder, false)));
                    Reply::Done
                };
                return self.slow(token, id, Box::new(slow));
            }
            Request::Cancel { call } => {
                // What it was about to be lent goes back with it. It is answered: a guest keeps what it asked for until
                // then, for what was lent before this came is to be given back.
                return self.answer(token, *call, Reply::Lent(Vec::new()));
            }
            _ => {}
        }
        if again
            && let Some(sequence) = pushes
            && let Some(&first) = visitor.repeated.get(&sequence)
        {
            let end = first + request.records();
            return self.answer_now(token, id, Reply::Offsets { first, end });
        }
        let retry = again.then(|| retry_of(&request)).flatten();
        let bytes = request.length();
        visitor.in_flight += bytes;
        visitor.calls.insert(id, Calling { later: None, bytes, retry });
        let work = self.engine.serve(holder, request);
        self.go_on_with(token, id, work);
    }

    fn go_on_with(&mut self, token: Token, id: u64, work: Work) {
        match work {
            Work::Told(reply) => self.answer(token, id, reply),
            Work::Slow(slow) => self.slow(token, id, slow),
            Work::Full(slow) => self.have_done(&self.full, token, id, slow),
            Work::Later(later) => {
                let waker = Waker::from(Arc::new(Woken { ready: self.ready.clone(), token, call: id }));
                let calling = self.visitors.get_mut(&token).and_then(|visitor| visitor.calls.get_mut(&id));
                let Some(calling) = calling else { return };
                calling.later = Some((later, waker));
                self.poll(token, id);
            }
        }
    }

    fn poll(&mut self, token: Token, id: u64) {
        let calling = self.visitors.get_mut(&token).and_then(|visitor| visitor.calls.get_mut(&id));
        let Some(Calling { later: Some((later, waker)), .. }) = calling else { return };
        let waker = waker.clone();
        if let Poll::Ready(work) = later.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.go_on_with(token, id, work);
        }
    }

    fn slow(&self, token: Token, id: u64, slow: Slow) {
        self.have_done(&self.slow, token, id, slow);
    }

    fn have_done(&self, by: &Arc<SlowWork>, token: Token, id: u64, slow: Slow) {
        let ready = self.ready.clone();
        by.clone().work(move || {
            let reply = slow::tried(|| Ok(slow())).unwrap_or_else(|error| Reply::failed(&error));
            ready.add(Event::Told(token, id, reply));
        });
    }

    fn answer(&mut self, token: Token, id: u64, reply: Reply) {
        let Some(visitor) = self.visitors.get_mut(&token) else { return };
        let Some(calling) = visitor.calls.remove(&id) else { return };
        visitor.in_flight -= calling.bytes;
        let engine = &self.engine;
        let reply = match calling.retry {
            Some(retry) => retry.understood(engine, reply),
            None => reply,
        };
        self.answer_now(token, id, reply);
    }

    fn answer_now(&mut self, token: Token, id: u64, reply: Reply) {
        let Some(visitor) = self.visitors.get_mut(&token) else { return };
        if self.closing && reply == Reply::closed() {
            // Not its queue is closed, but our part in it: the next owner answers.
            return;
        }
        let answer = Answer { id, end: self.engine.log_end(), reply };
        visitor.outgoing.put(&codec::encode(&answer));
    }
}

/// Takes a guest in: what it holds is known, and what it sends again and was stored before.
fn know(engine: &Engine, hello: &Hello) -> Result<Repeated> {
    engine.admit(hello.holder)?;
    let known = know_more(engine, hello);
    if known.is_err() {
        engine.left(hello.holder);
    }
    known
}

fn know_more(engine: &Engine, hello: &Hello) -> Result<Repeated> {
    for earlier in &hello.earlier {
        let named = |(group, (offset, delivery)): &(Which, _)| {
            (group.name.clone(), group.incarnation, *offset, *delivery)
        };
        engine.back(earlier.holder, &earlier.loans.iter().map(named).collect::<Vec<_>>())?;
    }
    match hello.since {
        Some(since) => engine.stored_since(hello.producer, since),
        None => Ok(Repeated::default()),
    }
}
