//! What must, may and must not be in a queue after what happened to it? The model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backlog::testing::{ManualClock, SimDisk};
use backlog::{Error, GroupOptions, Options, Start};

pub(crate) use crate::payload::{number, payload};

/// `Err` says which promise was broken, and how.
pub(crate) type Verdict<T = ()> = Result<T, String>;

/// What is known of a message, by what its push returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing took effect, said the push, or an opening found that it is not there: for ever.
    Absent,
    Doubt,
    /// Survives a killed process.
    Buffered,
    /// Survives everything.
    Durable,
}

#[derive(Clone, Debug)]
struct Sent {
    batch: usize,
    synced: bool,
    offset: Option<u64>,
    fate: Fate,
    /// It was done in every group there was: its space may have come back since.
    free: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existence {
    No,
    Doubt,
    Yes,
}

#[derive(Clone, Debug)]
struct Reader {
    existence: Existence,
    synced: bool,
    /// Messages that were acked or rejected, and how safe that is.
    done: BTreeMap<usize, Fate>,
    lent: BTreeSet<usize>,
}

/// Tells what a message has where they are not all alike: a priority, and an ordering key if it has one.
pub(crate) fn special(id: usize) -> (u8, Option<u8>) {
    let key = u8::try_from(id % 8).unwrap_or(0);
    ([4, 9, 0, 6, 4, 2][id % 6], (key % 4 == 3).then_some(key))
}

/// A message that was acked together with the push of what came of it.
#[derive(Clone, Debug)]
struct Chain {
    group: String,
    input: usize,
    outputs: Vec<usize>,
}

/// What a queue was told, and what it answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    sent: Vec<Sent>,
    batches: usize,
    readers: BTreeMap<String, Reader>,
    told: BTreeMap<u64, usize>,
    chains: Vec<Chain>,
    /// The disk has stopped: nobody hears what calls return from now on.
    pub(crate) deaf: bool,
    /// Several threads push: the numbers of messages say nothing of their order, and a sync that one
    /// of them was told of says nothing of what another was told before.
    pub(crate) many_threads: bool,
    /// Messages have priorities and ordering keys.
    pub(crate) special: bool,
}

/// What an opening found: offsets and messages, of the log and as each group is delivered them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    log: Vec<(u64, usize)>,
    groups: BTreeMap<String, Vec<(u64, usize)>>,
    /// Which group knew of what the log does not have.
    lost: Vec<(String, (u64, u64))>,
}

impl Found {
    pub(crate) fn has_group(&self, name: &str) -> bool {
        self.groups.contains_key(name)
    }
}

/// What happened to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Killed,
    PowerCut,
}

impl Ledger {
    fn took_no_effect(&self, error: &Error) -> bool {
        use Error::{Closed, Exhausted, Full, Io, LeaseLost, TooLarge};
        let refused = matches!(error, TooLarge { .. } | Closed | Exhausted { .. } | LeaseLost { .. });
        !self.deaf && (refused || matches!(error, Io { .. } | Full { .. }))
    }

    /// Notes a push of `count` messages that is about to happen; returns their numbers.
    pub(crate) fn begin(&mut self, count: usize, synced: bool) -> Vec<usize> {
        let first = self.sent.len();
        let sent = Sent { batch: self.batches, synced, offset: None, fate: Fate::Doubt, free: false };
        self.batches += 1;
        self.sent.extend(std::iter::repeat_n(sent, count));
        (first..first + count).collect()
    }

    /// Notes what the push returned.
    pub(crate) fn pushed(&mut self, ids: &[usize], result: &Result<Vec<u64>, Error>) -> Verdict {
        let offsets = match result {
            Ok(offsets) => offsets,
            Err(error) => {
                let fate = if self.took_no_effect(error) { Fate::Absent } else { Fate::Doubt };
                ids.iter().for_each(|&id| self.sent[id].fate = fate);
                return Ok(());
            }
        };
        if offsets.len() != ids.len() {
            return Err(format!("{} offsets for {} messages", offsets.len(), ids.len()));
        }
        for (&id, &offset) in ids.iter().zip(offsets) {
            self.tell(id, offset)?;
            self.sent[id].fate = Fate::Buffered;
        }
        if ids.first().is_some_and(|&id| self.sent[id].synced) {
            if self.many_threads {
                ids.iter().for_each(|&id| self.sent[id].fate = Fate::Durable);
            } else {
                self.pushes_are_durable();
            }
        }
        Ok(())
    }

    /// Notes that somebody was told an offset.
    fn tell(&mut self, id: usize, offset: u64) -> Verdict {
        if let Some(&other) = self.told.get(&offset).filter(|&&other| other != id) {
            return Err(format!("P4: offset {offset} was told for message {other}, and now for {id}"));
        }
        if let Some(before) = self.sent[id].offset.filter(|&before| before != offset) {
            return Err(format!("P4: message {id} had offset {before}, and now {offset}"));
        }
        self.told.insert(offset, id);
        self.sent[id].offset = Some(offset);
        Ok(())
    }

    /// Notes that the log was synced: whatever was pushed before is safe.
    pub(crate) fn pushes_are_durable(&mut self) {
        let buffered = self.sent.iter_mut().filter(|sent| sent.fate == Fate::Buffered);
        buffered.for_each(|sent| sent.fate = Fate::Durable);
        // Acks that lie in the same batch are as safe.
        for chain in &self.chains {
            let durable = chain.outputs.iter().all(|&id| self.sent[id].fate == Fate::Durable);
            if let Some(reader) = self.readers.get_mut(&chain.group).filter(|_| durable) {
                reader.done.insert(chain.input, Fate::Durable);
            }
        }
    }

    /// Notes that everything was synced.
    pub(crate) fn all_is_durable(&mut self) {
        self.pushes_are_durable();
        for reader in self.readers.values_mut() {
            for fate in reader.done.values_mut().filter(|fate| **fate == Fate::Buffered) {
                *fate = Fate::Durable;
            }
        }
    }

    /// Notes that a sync has failed, or that the power was cut.
    pub(crate) fn buffered_is_in_doubt(&mut self) {
        let done = self.readers.values_mut().flat_map(|reader| reader.done.values_mut());
        let fates = self.sent.iter_mut().map(|sent| &mut sent.fate).chain(done);
        fates.filter(|fate| **fate == Fate::Buffered).for_each(|fate| *fate = Fate::Doubt);
    }

    /// Notes how a group's creation went.
    pub(crate) fn created(&mut self, name: &str, synced: bool, result: Result<(), &Error>) {
        let existence = match result {
            Ok(()) => Existence::Yes,
            // Whether the removal before is in doubt or not: this changes nothing.
            Err(Error::GroupExists { .. }) => return,
            Err(error) if self.took_no_effect(error) => return,
            Err(_) => Existence::Doubt,
        };
        let reader = Reader { existence, synced, done: BTreeMap::new(), lent: BTreeSet::new() };
        self.chains.retain(|chain| chain.group != name);
        self.readers.insert(name.to_owned(), reader);
    }

    pub(crate) fn removed(&mut self, name: &str, result: Result<(), &Error>) {
        let existence = match result {
            Ok(()) | Err(Error::NoSuchGroup { .. }) => Existence::No,
            Err(error) if self.took_no_effect(error) => return,
            Err(_) => Existence::Doubt,
        };
        self.chains.retain(|chain| chain.group != name);
        if let Some(reader) = self.readers.get_mut(name) {
            reader.existence = existence;
        }
        (0..self.sent.len()).for_each(|id| self.note_free(id));
    }

    /// Notes whether a message is done in every group there is, for all that is known.
    fn note_free(&mut self, id: usize) {
        let mut there = self.readers.values().filter(|reader| reader.existence != Existence::No).peekable();
        let some = there.peek().is_some();
        let done = |reader: &Reader| reader.done.contains_key(&id) || reader.existence == Existence::Doubt;
        self.sent[id].free |= some && there.all(done);
    }

    /// Checks a delivery; returns the message's number.
    pub(crate) fn lent(&mut self, group: &str, offset: u64, bytes: &[u8]) -> Verdict<usize> {
        let id = self.known(offset, bytes)?;
        self.tell(id, offset)?;
        if self.sent[id].synced {
            // What was handed out of a synced push is durable, whether or not the push returned.
            self.sent[id].fate = Fate::Durable;
        }
        let reader = self.readers.get_mut(group).ok_or(format!("a delivery of unknown group {group}"))?;
        if matches!(reader.done.get(&id), Some(Fate::Buffered | Fate::Durable)) {
            return Err(format!("P5: message {id} was acked in {group} and comes again"));
        }
        if !reader.lent.insert(id) {
            return Err(format!("message {id} was lent twice at a time in {group}"));
        }
        // It was in doubt whether it is done: it is not, and so nothing has come of it.
        for chain in self.chains.extract_if(.., |chain| chain.group == group && chain.input == id) {
            chain.outputs.iter().for_each(|&output| self.sent[output].fate = Fate::Absent);
        }
        Ok(id)
    }

    fn known(&self, offset: u64, bytes: &[u8]) -> Verdict<usize> {
        let id = number(bytes).ok_or(format!("P2: offset {offset} has a payload that nobody pushed"))?;
        match self.sent.get(id) {
            None => Err(format!("P2: message {id} was never pushed")),
            Some(sent) if sent.fate == Fate::Absent => {
                Err(format!("message {id} at {offset} is there, but its push had no effect"))
            }
            Some(_) => Ok(id),
        }
    }

    /// Notes that a loan ended without an ack.
    pub(crate) fn returned(&mut self, group: &str, id: usize) {
        if let Some(reader) = self.readers.get_mut(group) {
            reader.lent.remove(&id);
        }
    }

    /// Notes what an ack (or a reject) returned.
    pub(crate) fn settled(&mut self, group: &str, id: usize, ok: bool) {
        self.returned(group, id);
        if let Some(reader) = self.readers.get_mut(group) {
            let safe = if reader.synced { Fate::Durable } else { Fate::Buffered };
            reader.done.insert(id, if ok { safe } else { Fate::Doubt });
        }
        self.note_free(id);
    }

    /// Notes what an ack together with the pushes of outputs returned; before [`Ledger::pushed`].
    pub(crate) fn chained(&mut self, group: &str, input: usize, outputs: &[usize], told: Result<(), &Error>) {
        if self.many_threads && told.is_err() {
            // It may have come again by now, and be done by somebody else.
            if let Some(reader) = self.readers.get_mut(group) {
                reader.done.entry(input).or_insert(Fate::Doubt);
            }
            self.note_free(input);
            return;
        }
        self.returned(group, input);
        if told.is_err_and(|error| self.took_no_effect(error)) {
            return;
        }
        let synced = outputs.first().is_some_and(|&id| self.sent[id].synced);
        let fate = match told {
            Ok(()) if synced => Fate::Durable,
            Ok(()) => Fate::Buffered,
            Err(_) => Fate::Doubt,
        };
        if let Some(reader) = self.readers.get_mut(group) {
            reader.done.insert(input, fate);
        }
        self.note_free(input);
        self.chains.push(Chain { group: group.to_owned(), input, outputs: outputs.to_vec() });
    }

    /// Notes that a group was told to begin anew.
    pub(crate) fn sought(&mut self, group: &str, told: Result<(), &Error>) {
        let Some(reader) = self.readers.get_mut(group) else { return };
        match told {
            Err(Error::NoSuchGroup { .. }) => return,
            Ok(()) => reader.done.clear(),
            Err(_) => reader.done.values_mut().for_each(|fate| *fate = Fate::Doubt),
        }
        reader.lent.clear();
        self.chains.retain(|chain| chain.group != group);
    }

    /// Notes that all loans are over.
    pub(crate) fn process_ended(&mut self) {
        self.readers.values_mut().for_each(|reader| reader.lent.clear());
    }

    /// Opens a disk, reads everything in it and checks it. The disk is used up.
    pub(crate) fn check(&self, disk: &SimDisk, options: &Options, end: End) -> Verdict<Found> {
        let found = self.look(disk, options)?;
        self.judge(&found, end)?;
        Ok(found)
    }

    fn look(&self, disk: &SimDisk, options: &Options) -> Verdict<Found> {
        // Threads work by the clock of the system: what they nacked is due some time after that.
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
        let since = if self.many_threads { u64::try_from(since).unwrap_or(0) } else { 10_000_000 };
        let clock = ManualClock::new(since);
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: Error| format!("{what}: {error}")
        };
        let options = options.clone().sim_disk(disk).manual_clock(&clock).threads(false);
        let queue = options.open().map_err(failed("P6: the opening failed"))?;
        let recovery = queue.recovery();
        if !recovery.damaged.is_empty() || !recovery.refused_groups.is_empty() || recovery.older_manifest {
            return Err(format!("P7: what was torn is taken for damage: {recovery:?}"));
        }
        let lost = recovery.lost.iter().map(|lost| (lost.group.clone(), lost.offsets)).collect();
        let mut found = Found { lost, ..Found::default() };
        // Whatever was nacked is due.
        clock.advance(Duration::from_secs(48 * 3600));
        for name in queue.groups() {
            let consumer = queue.group(&name).map_err(failed("find a group"))?.consumer();
            let messages = self.drain(&consumer)?;
            found.groups.insert(name, messages);
        }
        let whole = GroupOptions::new().start(Start::Beginning);
        let whole = queue.create_group("whole", whole).map_err(failed("make a group after a crash"))?;
        found.log = self.drain(&whole.consumer())?;
        let next = queue.push("fresh").map_err(failed("push after a crash"))?.get();
        let last = self.told.last_key_value().map(|(&last, _)| last).max(found.log.last().map(|last| last.0));
        if last.is_some_and(|last| next <= last) {
            return Err(format!("P4: offset {next} is given again, {last:?} was told"));
        }
        let fresh = whole.consumer().try_recv().map_err(failed("receive a fresh message"))?;
        let fresh = fresh.ok_or("a fresh message is not delivered")?;
        if fresh.payload() != b"fresh" || fresh.offset().get() != next {
            return Err(format!("P2: a fresh message at {next} came as {fresh:?}"));
        }
        drop(fresh);
        queue.close().map_err(failed("close after a crash"))?;
        Ok(found)
    }

    fn drain(&self, consumer: &backlog::Consumer) -> Verdict<Vec<(u64, usize)>> {
        let name = consumer.group().to_owned();
        let mut messages: Vec<(u64, usize)> = Vec::new();
        loop {
            let job = consumer.try_recv().map_err(|error| format!("P7: receive in {name}: {error}"))?;
            let Some(job) = job else { return Ok(messages) };
            let (offset, id) = (job.offset().get(), self.known(job.offset().get(), job.payload())?);
            if let Some(last) = self.out_of_order(&messages, (offset, id)) {
                return Err(format!("order in {name}: {:?} after {last:?}", (offset, id)));
            }
            if self.sent[id].offset.is_some_and(|told| told != offset) {
                return Err(format!("P4: message {id} was told another offset than {offset}"));
            }
            messages.push((offset, id));
            job.ack().map_err(|error| format!("ack in {name}: {error}"))?;
        }
    }

    /// Returns the message before which another should have come, all of them being ready. Those of one
    /// ordering key come in their order, all that have none by priority.
    fn out_of_order(&self, came: &[(u64, usize)], next: (u64, usize)) -> Option<(u64, usize)> {
        if !self.special {
            let behind = |last: &&(u64, usize)| last.0 >= next.0 || (!self.many_threads && last.1 >= next.1);
            return came.last().filter(behind).copied();
        }
        let (priority, key) = special(next.1);
        let last = *came.iter().rev().find(|&&(_, id)| special(id).1 == key)?;
        let higher = key.is_none() && special(last.1).0 > priority;
        let lower = key.is_none() && special(last.1).0 < priority;
        (lower || (!higher && last.0 >= next.0)).then_some(last)
    }

    fn judge(&self, found: &Found, end: End) -> Verdict {
        let safe = |fate| fate == Fate::Durable || (fate == Fate::Buffered && end == End::Killed);
        let there: BTreeSet<usize> = found.log.iter().map(|&(_, id)| id).collect();
        let mut batches: BTreeMap<usize, BTreeSet<bool>> = BTreeMap::new();
        for (id, sent) in self.sent.iter().enumerate() {
            if sent.free && !there.contains(&id) {
                continue;
            }
            batches.entry(sent.batch).or_default().insert(there.contains(&id));
            if safe(sent.fate) && !there.contains(&id) {
                return Err(format!("P1: message {id} ({sent:?}) is gone"));
            }
            let lost = |offset| found.lost.iter().any(|(_, lost)| (lost.0..lost.1).contains(&offset));
            if safe(sent.fate) && sent.offset.is_some_and(lost) {
                return Err(format!("P1: message {id} ({sent:?}) is reported lost"));
            }
        }
        if let Some(batch) = batches.iter().find(|(_, kinds)| kinds.len() > 1) {
            return Err(format!("P3: batch {} is there in part", batch.0));
        }
        for (name, reader) in &self.readers {
            let Some(messages) = found.groups.get(name) else {
                if reader.existence == Existence::Yes {
                    return Err(format!("P6: group {name} is gone"));
                }
                continue;
            };
            if reader.existence == Existence::No {
                return Err(format!("P6: group {name} was removed and is there"));
            }
            let delivered: BTreeSet<usize> = messages.iter().map(|&(_, id)| id).collect();
            for &id in &there {
                match reader.done.get(&id) {
                    None if !delivered.contains(&id) => {
                        return Err(format!("P1: message {id} is not delivered to {name}"));
                    }
                    Some(&fate) if safe(fate) && delivered.contains(&id) => {
                        return Err(format!("P5: message {id} was acked in {name} and comes again"));
                    }
                    _ => {}
                }
            }
            if let Some(id) = delivered.difference(&there).next() {
                return Err(format!("P2: message {id} comes to {name}, but is not in the log"));
            }
        }
        for chain in &self.chains {
            let Some(messages) = found.groups.get(&chain.group) else { continue };
            let again = messages.iter().any(|&(_, id)| id == chain.input);
            let out = chain.outputs.iter().any(|&id| there.contains(&id) || self.sent[id].free);
            if there.contains(&chain.input) && again == out {
                let which =
                    if out { "its outputs are there, and it" } else { "it is done without outputs: it" };
                let again = if again { "comes again" } else { "does not come again" };
                return Err(format!("P3: {which} {again}: {chain:?}"));
            }
        }
        match found.groups.keys().find(|name| !self.readers.contains_key(*name)) {
            Some(name) => Err(format!("P6: group {name} is there, and nobody made it")),
            None => Ok(()),
        }
    }

    /// Checks what is left when nothing unsynced is: no buffered ack outlives its message.
    pub(crate) fn acks_follow(&self, found: &Found) -> Verdict {
        let buffered = |name: &str| self.readers.get(name).is_some_and(|reader| !reader.synced);
        match found.lost.iter().find(|(name, _)| buffered(name)) {
            Some((name, lost)) => {
                Err(format!("P5: {name} has synced acks of {lost:?}, which the log does not have"))
            }
            None => Ok(()),
        }
    }

    /// Takes what an opening found for what is: it stays so.
    pub(crate) fn resolve(&mut self, found: &Found) {
        self.process_ended();
        self.chains.clear();
        for sent in &mut self.sent {
            sent.fate = Fate::Absent;
        }
        for &(offset, id) in &found.log {
            self.sent[id].fate = Fate::Durable;
            self.sent[id].offset = Some(offset);
            self.told.insert(offset, id);
        }
        self.readers.retain(|name, _| found.groups.contains_key(name));
        for (name, reader) in &mut self.readers {
            reader.existence = Existence::Yes;
            let again: BTreeSet<usize> = found.groups[name].iter().map(|&(_, id)| id).collect();
            reader.done = (0..self.sent.len())
                .filter(|id| self.sent[*id].fate == Fate::Durable && !again.contains(id))
                .map(|id| (id, Fate::Durable))
                .collect();
        }
        (0..self.sent.len()).for_each(|id| self.note_free(id));
    }
}
