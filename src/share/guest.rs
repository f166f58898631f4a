//! How does a process use a queue that another one has open?
//!
//! Its calls go through one connection, numbered, as many at a time as there are; one thread reads the answers. When
//! the owner is gone that thread looks for the next, or becomes it (`share/succession`), and what has no answer yet is
//! sent again: no call fails for it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::account::{Open, State};
use super::answer::{Calling, Slot};
use super::desk::Desk;
use super::frame::Outgoing;
use super::greeting::{Answer, Call, Earlier};
use super::reading::{Ears, Link};
use super::wire::Wire;
use crate::clock::{self, Clock};
use crate::codec::{self, Bytes};
use crate::engine::origin::LogEnd;
use crate::engine::recovery::Recovery;
use crate::engine::request::{Ending, Held, Reply, Request, Sent, Which};
use crate::engine::{Engine, check_length};
use crate::error::{Error, Result};
use crate::format::batch::{MAX_BODY, Record};
use crate::format::record::{self, Tag};
use crate::group::holder::holder_of;
use crate::options::Settings;
use crate::storage::{Lock, Process, Storage};

/// A guest that closes waits so long for the owner to give its loans back.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);
/// A call with a deadline is given so much longer than the owner was: it answers when the time is over.
pub(super) const SLACK: Duration = Duration::from_millis(500);

/// A queue that another process has open.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(super) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(super) settings: Settings,
    process: Process,
    /// Its pushes say that they come from there.
    pub(super) producer: u32,
    pub(super) state: Mutex<State>,
    changed: Condvar,
    /// Taken while the state is held, and never the other way round: so calls are sent in their order.
    pub(super) out: Mutex<Out>,
    pub(super) told: OnceLock<Told>,
    pub(super) desk: Desk<Link, Reply>,
    /// What whoever reads listens with; none where a test carries the bytes.
    pub(super) ears: OnceLock<Arc<Ears>>,
    /// This process became the owner itself. Set while the state is held.
    pub(super) own: OnceLock<Arc<Engine>>,
    /// And calls the queue itself; see `here`.
    pub(super) is_direct: AtomicBool,
}

/// What the first owner said of the queue.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) queue: u128,
    pub(crate) max_message_bytes: u64,
    pub(crate) recovery: Recovery,
}

/// What is to be sent.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) bytes: Outgoing,
    pub(super) stream: Option<Box<dyn Wire>>,
    /// The owner takes less than is to be sent.
    blocked: bool,
}

impl Guest {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        producer: u32,
    ) -> Self {
        Self {
            storage,
            clock,
            settings,
            process: Process::this(),
            producer,
            state: Mutex::default(),
            changed: Condvar::new(),
            out: Mutex::default(),
            told: OnceLock::new(),
            desk: Desk::default(),
            ears: OnceLock::new(),
            own: OnceLock::new(),
            is_direct: AtomicBool::new(false),
        }
    }

    /// Notes that this process has become the owner; `false` where it was closed meanwhile: nobody else would close it.
    #[must_use]
    pub(super) fn took_over(&self, engine: &Arc<Engine>) -> bool {
        let state = self.lock();
        !state.closed && self.own.set(engine.clone()).is_ok()
    }

    /// Refuses in a fork: the connection is the parent's.
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.process.is_this() {
            return Ok(());
        }
        Err(Error::Forked { path: self.storage.root().to_path_buf() })
    }

    pub(crate) fn root(&self) -> &Path {
        self.storage.root()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the queue's identity.
    pub(crate) fn told(&self) -> Result<&Told> {
        self.told.get().ok_or(Error::Closed)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        self.check_process()?;
        self.lock().check()
    }

    /// Makes a call and waits for its answer, for no longer than until `until` and a little more.
    ///
    /// # Errors
    /// What the owner says; [`Error::Timeout`], which names it; [`Error::Closed`].
    pub(crate) fn call(self: &Arc<Self>, request: Request, until: Option<Duration>) -> Result<Reply> {
        let until = until.map(|until| until.saturating_add(SLACK));
        let calling = self.begin(request, until)?;
        calling.wait(until).unwrap_or_else(|| Err(self.late())).and_then(Reply::result)
    }

    /// Refuses a message that is too long for the owner; it would not even be read.
    pub(crate) fn check_length(&self, records: &[Record<'_>]) -> Result<()> {
        let limit = self.told()?.max_message_bytes;
        records.iter().try_for_each(|record| check_length(record, limit))?;
        let length: usize = records.iter().map(|record| record.payload.len() + record.attributes.len()).sum();
        if length > MAX_BODY {
            let (length, limit) = (length as u64, MAX_BODY as u64);
            return Err(Error::TooLarge { what: "a batch".into(), length, limit });
        }
        Ok(())
    }

    /// Wakes those who wait for messages, to look whether they are to stop.
    pub(crate) fn wake(&self) {
        let state = self.lock();
        let waiting = state.calls.values().filter(|open| open.receives().is_some());
        let slots: Vec<Arc<Slot>> = waiting.map(|open| open.slot.clone()).collect();
        drop(state);
        slots.iter().for_each(|slot| slot.ring());
        self.ring();
    }

    /// Has whoever reads look whether he is to go on.
    fn ring(&self) {
        if let Some(ears) = self.ears.get() {
            ears.ring();
        }
    }

    /// Says that the owner did not answer in time.
    pub(crate) fn late(&self) -> Error {
        Error::Timeout { owner: Some(self.lock().owner) }
    }

    /// Makes a call; blocks while too much is on its way.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Forked`], [`Error::Timeout`], and why there is no owner any more.
    pub(crate) fn begin(self: &Arc<Self>, request: Request, until: Option<Duration>) -> Result<Calling> {
        self.check_process()?;
        let bytes = request.length();
        let state = self.lock();
        if state.has_room(bytes) {
            return self.begin_now(state, request);
        }
        drop(state);
        // Whoever waits here does not read.
        self.desk.need();
        let waited = self.wait_for_room(bytes, until);
        self.desk.no_need();
        self.begin_now(waited?, request)
    }

    /// Makes a call for somebody who may not block: it has little to say.
    ///
    /// # Errors
    /// As [`Guest::begin`].
    pub(super) fn begin_at_once(self: &Arc<Self>, request: Request) -> Result<Calling> {
        self.check_process()?;
        self.begin_now(self.lock(), request)
    }

    fn wait_for_room(&self, bytes: usize, until: Option<Duration>) -> Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        while !state.has_room(bytes) {
            state.check()?;
            if until.is_some_and(|until| self.clock.now() >= until) {
                return Err(Error::Timeout { owner: Some(state.owner) });
            }
            state = clock::wait(&*self.clock, &self.changed, state, until);
        }
        Ok(state)
    }

    /// Makes a call, whether there is room for it or not.
    fn begin_now(self: &Arc<Self>, state: MutexGuard<'_, State>, request: Request) -> Result<Calling> {
        state.check()?;
        self.send(state, request)
    }

    fn send(self: &Arc<Self>, mut state: MutexGuard<'_, State>, mut request: Request) -> Result<Calling> {
        let bytes = request.length();
        let sequence = request.sequence_mut().map(|told| {
            let sequence = state.next_sequence;
            state.next_sequence += 1;
            *told = sequence;
            sequence
        });
        if let Some(sequence) = sequence {
            self.sign(&mut request, sequence)?;
            let end = state.end;
            state.unheard.insert(sequence, end);
        }
        let id = state.next_call;
        state.next_call += 1;
        state.in_flight += bytes;
        let slot = Arc::new(Slot::default());
        let wait = if let Request::Receive { wait, .. } = &request { *wait } else { None };
        let until = wait.map(|wait| self.clock.now().saturating_add(wait));
        let open = Arc::new(Open { request, sequence, until, bytes, slot: slot.clone() });
        state.calls.insert(id, open.clone());
        if state.connected {
            let heard = state.heard();
            let mut out = self.lock_out();
            out.put(id, false, heard, &open.request);
            drop(state);
            self.flush(&mut out);
        }
        Ok(Calling::new(self.clone(), id, slot, open.receives().cloned()))
    }

    /// Says in the first record where it comes from.
    fn sign(&self, request: &mut Request, sequence: u64) -> Result<()> {
        let Some(first) = request.first_record_mut() else { return Ok(()) };
        let Sent { attributes: Bytes(attributes), tags, .. } = first;
        *tags |= Tag::Origin.bit();
        let value = record::origin_value(self.producer, sequence);
        if record::put(attributes, Tag::Origin, &value) { Ok(()) } else { Err(Error::Closed) }
    }

    pub(super) fn lock_out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits, as far as the owner takes it; whoever reads sends the rest.
    pub(super) fn flush(&self, out: &mut Out) {
        let Some(stream) = &mut out.stream else { return };
        let mut blocked = false;
        while !out.bytes.waiting().is_empty() {
            match stream.write(out.bytes.waiting()) {
                Ok(count) if count > 0 => out.bytes.sent(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Whoever reads learns that it is gone, if it is.
                answer => {
                    blocked = answer.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        if blocked != out.blocked {
            out.blocked = blocked;
            stream.hear_when_it_takes_more(blocked);
            self.desk.set_blocked(blocked);
        }
    }

    /// Nobody waits for the answer any more.
    pub(super) fn cancel(self: &Arc<Self>, id: u64) {
        if self.check_process().is_err() {
            return;
        }
        let state = self.lock();
        let Some(open) = state.calls.get(&id) else { return };
        if open.receives().is_some() && state.connected {
            let mut out = self.lock_out();
            out.put(id, false, state.heard(), &Request::Cancel { call: id });
            drop(state);
            self.flush(&mut out);
        }
    }

    /// Takes an answer.
    pub(super) fn answered(self: &Arc<Self>, answer: Answer) {
        let Answer { id, end, reply } = answer;
        let mut state = self.lock();
        state.end = state.end.max(end);
        let Some(open) = state.calls.get(&id).cloned() else { return };
        if reply.is_holder_over() && open.receives().is_some() {
            // Under another holder it may have loans: it connects anew, and asks again.
            drop(state);
            if let Some(stream) = &self.lock_out().stream {
                stream.hang_up();
            }
            return;
        }
        state.calls.remove(&id);
        state.in_flight -= open.bytes;
        if let Some(sequence) = open.sequence {
            state.unheard.remove(&sequence);
        }
        state.note_loans(&open, &reply);
        drop(state);
        self.changed.notify_all();
        if let (Some(Reply::Lent(lent)), Some(group)) = (open.slot.answer(reply), open.receives()) {
            for one in lent {
                self.give_back(group.clone(), (one.message.offset(), one.delivery));
            }
        }
    }

    /// Gives back a loan that nobody took. Waits for nothing: whoever does this may be the one who reads.
    pub(crate) fn give_back(self: &Arc<Self>, group: Which, loan: Held) {
        let _ = self.begin_at_once(Request::Settle { group, loan, ending: Ending::Release });
    }

    /// Answers everybody, and takes no more calls.
    pub(super) fn fail(&self, error: &Error) {
        let mut state = self.lock();
        state.failed.get_or_insert_with(|| error.clone());
        state.connected = false;
        let calls = std::mem::take(&mut state.calls);
        state.in_flight = 0;
        drop(state);
        self.changed.notify_all();
        for open in calls.into_values() {
            open.slot.answer(Reply::failed(error));
        }
    }

    /// Lists what is held by earlier holders, which the next owner is told; and from where on unanswered pushes are to
    /// be looked for.
    pub(super) fn earlier(&self) -> (Vec<Earlier>, Option<LogEnd>) {
        let state = self.lock();
        let loans = |holder: u32| {
            let mine = state.held.iter().filter(|((_, (_, delivery)), _)| holder_of(*delivery) == holder);
            let named =
                mine.map(|(&(incarnation, loan), name)| (Which { name: name.clone(), incarnation }, loan));
            named.collect()
        };
        let holders = state.holders.iter().map(|&(holder, _)| Earlier { holder, loans: loans(holder) });
        (holders.collect(), state.unheard.values().min().copied())
    }

    /// Goes on with an owner that let us in.
    pub(super) fn connected(
        &self,
        stream: Box<dyn Wire>,
        (owner, end): (u32, LogEnd),
        holder: (u32, Box<dyn Lock>),
    ) {
        let mut state = self.lock();
        (state.owner, state.end) = (owner, state.end.max(end));
        let named: BTreeSet<u32> = state.held.keys().map(|&(_, (_, delivery))| holder_of(delivery)).collect();
        // Those without loans need not be seen to live.
        state.holders.retain(|(holder, _)| named.contains(holder));
        state.holders.push(holder);
        let mut out = self.lock_out();
        *out = Out { stream: Some(stream), ..Out::default() };
        let (heard, now) = (state.heard(), self.clock.now());
        let State { calls, in_flight, .. } = &mut *state;
        calls.retain(|&id, open| {
            // What nobody waits for any more is not asked for again.
            let wanted = open.receives().is_none() || !open.slot.is_abandoned();
            if wanted {
                out.put(id, true, heard, &open.again(now));
            } else {
                *in_flight -= open.bytes;
            }
            wanted
        });
        state.connected = true;
        drop(state);
        self.flush(&mut out);
    }

    /// Notes that the owner is gone.
    pub(super) fn disconnected(&self) {
        let mut state = self.lock();
        state.connected = false;
        *self.lock_out() = Out::default();
        drop(state);
        self.desk.set_blocked(false);
    }

    /// Answers who waits, and says good-bye once all is answered that was pushed and settled.
    pub(super) fn leave(self: &Arc<Self>, mut state: MutexGuard<'_, State>) -> Option<Calling> {
        state.closing = true;
        // Who waits for a message is told at once; what was pushed and settled is answered first.
        let waiting: Vec<(u64, Arc<Slot>)> = state
            .calls
            .iter()
            .filter(|(_, open)| open.receives().is_some())
            .map(|(&id, open)| (id, open.slot.clone()))
            .collect();
        drop(state);
        self.changed.notify_all();
        for (id, slot) in waiting {
            slot.answer(Reply::closed());
            self.cancel(id);
        }
        self.desk.need();
        self.ring();
        let mut state = self.lock();
        while state.failed.is_none() && !state.only_receives() {
            state = clock::wait(&*self.clock, &self.changed, state, None);
        }
        // Where that failed there is nobody to be told.
        if state.failed.is_none() { self.send(state, Request::Leave).ok() } else { None }
    }

    /// Closes this process's part: what tickets wait for is answered, loans go back uncounted.
    ///
    /// # Errors
    /// What kept the queue from being closed cleanly, where this process had become its owner.
    pub(crate) fn close(self: &Arc<Self>) -> Result<()> {
        self.check_process()?;
        let mut state = self.lock();
        if state.closing {
            while !state.closed {
                state = clock::wait(&*self.clock, &self.changed, state, None);
            }
            drop(state);
            // Whoever closes second hears the same, and not before it is so.
            return self.close_own();
        }
        if let Some(leaving) = self.leave(state) {
            // Whoever opens the queue next finds the loans given back. An owner that is stopped is not waited for.
            leaving.wait(Some(self.clock.now().saturating_add(LAST_WORDS)));
        }
        self.lock().closed = true;
        self.changed.notify_all();
        self.desk.close();
        self.ring();
        self.close_own()
    }

    fn close_own(&self) -> Result<()> {
        self.own.get().map_or(Ok(()), super::owner::close)
    }
}

impl Out {
    fn put(&mut self, id: u64, again: bool, heard: u64, request: &Request) {
        self.bytes.put(&codec::encode(&Call { id, again, heard, request }));
    }
}
