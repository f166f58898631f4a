//! What must, may and must not be in a queue after what happened to it, by the position in the
//! device's record at which each call was made and answered?
//!
//! Where there is no record, every position is 0, and nothing is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use backlog::{Consumer, Error, GroupOptions, Queue, Start};
use serde::{Deserialize, Serialize};

pub(crate) use crate::payload::{number, payload};

/// A cut behind everything.
pub(crate) const NEVER: u64 = u64::MAX;

/// A push, as far as anybody was told.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sent {
    batch: usize,
    began: u64,
    /// The offset that was told, and when.
    told: Option<(u64, u64)>,
    /// From when on it survives a power cut.
    safe: Option<u64>,
    /// It took no effect, its push said.
    refused: bool,
    /// It was buffered when a sync failed: it may be there, or not.
    doubt: bool,
}

/// An ack.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ack {
    began: u64,
    answered: bool,
    safe: Option<u64>,
    doubt: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Reader {
    made: Option<u64>,
    removing: Option<u64>,
    /// It starts at the first message.
    whole: bool,
    acks: BTreeMap<usize, Ack>,
}

/// What a queue was told, and what it answered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    sent: BTreeMap<usize, Sent>,
    batches: usize,
    readers: BTreeMap<String, Reader>,
    next: usize,
}

/// What was found, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) messages: usize,
    /// How many of them had to be there.
    pub(crate) promised: usize,
    /// How many acks had to hold.
    pub(crate) acked: usize,
}

impl Ledger {
    /// Returns what was begun and told before a cut.
    pub(crate) fn until(&self, cut: u64) -> Self {
        let mut before = self.clone();
        before.sent.retain(|_, sent| sent.began < cut);
        for sent in before.sent.values_mut() {
            sent.told = sent.told.filter(|told| told.1 <= cut);
        }
        before
    }

    /// Notes that a push of `count` messages is about to happen; returns their numbers.
    pub(crate) fn begin(&mut self, count: usize, now: u64) -> Range<usize> {
        let ids = self.next..self.next + count;
        self.begin_as(ids.clone(), now);
        ids
    }

    /// Notes a push of messages that have numbers.
    pub(crate) fn begin_as(&mut self, ids: Range<usize>, now: u64) {
        let sent =
            Sent { batch: self.batches, began: now, told: None, safe: None, refused: false, doubt: false };
        self.batches += 1;
        self.next = self.next.max(ids.end);
        self.sent.extend(ids.map(|id| (id, sent.clone())));
    }

    /// Notes what the push returned: offsets, or that it took no effect, or that it is in doubt.
    pub(crate) fn pushed(
        &mut self,
        ids: Range<usize>,
        result: &Result<Vec<u64>, Error>,
        synced: bool,
        now: u64,
    ) {
        match result {
            Ok(offsets) => {
                assert_eq!(ids.len(), offsets.len());
                ids.zip(offsets).for_each(|(id, &offset)| self.told(id, offset, synced, now));
            }
            Err(error) => {
                use Error::{Closed, Full, Io, TooLarge};
                let refused = matches!(error, Io { .. } | Full { .. } | TooLarge { .. } | Closed);
                ids.for_each(|id| self.failed(id, refused));
            }
        }
    }

    /// Notes a push that failed: it took no effect, or it is in doubt.
    pub(crate) fn failed(&mut self, id: usize, refused: bool) {
        self.sent.get_mut(&id).unwrap().refused = refused;
    }

    /// Notes an acknowledged push.
    pub(crate) fn told(&mut self, id: usize, offset: u64, synced: bool, now: u64) {
        let other = self.sent.values().find(|sent| sent.told.is_some_and(|told| told.0 == offset));
        assert!(other.is_none(), "P4: offset {offset} was told before: {other:?}");
        self.sent.get_mut(&id).unwrap().told = Some((offset, now));
        if synced {
            self.pushes_are_safe(now);
        }
    }

    /// Notes an acknowledged push that says nothing of those before it.
    pub(crate) fn told_alone(&mut self, id: usize, offset: u64) {
        self.told(id, offset, false, 0);
        self.sent.get_mut(&id).unwrap().safe = Some(0);
    }

    /// Notes that the log was synced.
    pub(crate) fn pushes_are_safe(&mut self, now: u64) {
        for sent in self.sent.values_mut().filter(|sent| sent.told.is_some() && !sent.doubt) {
            sent.safe.get_or_insert(now);
        }
    }

    /// Notes that everything was synced.
    pub(crate) fn all_is_safe(&mut self, now: u64) {
        self.pushes_are_safe(now);
        for ack in self.readers.values_mut().flat_map(|reader| reader.acks.values_mut()) {
            if ack.answered && !ack.doubt {
                ack.safe.get_or_insert(now);
            }
        }
    }

    /// Notes that a sync has failed: what was buffered until now may be there, or not.
    pub(crate) fn buffered_is_in_doubt(&mut self) {
        for sent in self.sent.values_mut().filter(|sent| sent.safe.is_none()) {
            sent.doubt = sent.told.is_some();
        }
        for ack in self.readers.values_mut().flat_map(|reader| reader.acks.values_mut()) {
            ack.doubt = ack.answered && ack.safe.is_none();
        }
    }

    /// Notes that a group was made; `whole` if every message is to come to it.
    pub(crate) fn made(&mut self, group: &str, whole: bool, now: u64) {
        self.readers.insert(group.into(), Reader { made: Some(now), whole, ..Reader::default() });
    }

    pub(crate) fn removing(&mut self, group: &str, now: u64) {
        self.readers.get_mut(group).unwrap().removing = Some(now);
    }

    /// Notes that an ack is about to happen. A message that was acked must not have come.
    pub(crate) fn acking(&mut self, group: &str, id: usize, now: u64) {
        let ack = Ack { began: now, answered: false, safe: None, doubt: false };
        let before = self.readers.entry(group.into()).or_default().acks.insert(id, ack);
        let came = before.is_some_and(|ack| ack.answered && !ack.doubt);
        assert!(!came, "P5: {id} was acked in {group} and came again");
    }

    pub(crate) fn acked(&mut self, group: &str, id: usize, synced: bool, now: u64) {
        let ack = self.readers.get_mut(group).unwrap().acks.get_mut(&id).unwrap();
        ack.answered = true;
        ack.safe = synced.then_some(now);
    }

    /// Returns how many pushes and acks were acknowledged.
    pub(crate) fn acknowledged(&self) -> (usize, usize) {
        let acks = self.readers.values().flat_map(|reader| reader.acks.values());
        let pushes = self.sent.values().filter(|sent| sent.told.is_some()).count();
        (pushes, acks.filter(|ack| ack.answered).count())
    }

    /// Reads all that a queue has, and checks it. `power` says whether the power was cut before event
    /// `cut`, or no more than a process ended.
    pub(crate) fn check(&self, queue: &Queue, power: Option<u64>) -> Result<Found, String> {
        let cut = power.unwrap_or(NEVER);
        let recovery = queue.recovery();
        if !recovery.damaged.is_empty() || !recovery.refused_groups.is_empty() {
            return Err(format!("P7: what was torn is taken for damage: {recovery:?}"));
        }
        let mut groups = BTreeMap::new();
        for name in queue.groups() {
            let consumer = queue.group(&name).map_err(|error| format!("find {name}: {error}"))?.consumer();
            groups.insert(name.clone(), self.drain(queue, &consumer, cut)?);
        }
        let whole = GroupOptions::new().start(Start::Beginning);
        let whole = queue.create_group("whole", whole).map_err(|error| format!("make a group: {error}"))?;
        let log = self.drain(queue, &whole.consumer(), cut)?;
        let told = self.sent.values().filter_map(|sent| sent.told).filter(|told| told.1 <= cut);
        let last = told.map(|told| told.0).chain(log.values().copied()).max();
        let fresh = queue.push("fresh").map_err(|error| format!("push: {error}"))?.get();
        if last.is_some_and(|last| fresh <= last) {
            return Err(format!("P4: offset {fresh} is given again, {last:?} was told"));
        }
        let lost: Vec<_> = recovery.lost.iter().map(|lost| lost.offsets).collect();
        self.judge(&log, &groups, &lost, power)
    }

    fn drain(&self, queue: &Queue, consumer: &Consumer, cut: u64) -> Result<BTreeMap<usize, u64>, String> {
        let group = consumer.group().to_owned();
        let mut found = BTreeMap::new();
        let mut last = None;
        loop {
            let jobs = consumer.recv_batch(512, Duration::ZERO);
            let jobs = jobs.map_err(|error| format!("receive in {group}: {error}"))?;
            if jobs.is_empty() {
                return Ok(found);
            }
            for job in &jobs {
                let offset = job.offset().get();
                let id = number(job.payload()).ok_or(format!("P2: {offset} has a payload nobody pushed"))?;
                let sent = self.sent.get(&id).ok_or(format!("P2: message {id} was never pushed"))?;
                if sent.refused || sent.began >= cut {
                    return Err(format!("P2: message {id} is there, but had no effect: {sent:?}"));
                }
                if sent.told.is_some_and(|told| told.0 != offset) {
                    return Err(format!("P4: message {id} is at {offset}: {sent:?}"));
                }
                if last.replace(offset).is_some_and(|last| last >= offset) {
                    return Err(format!("order: {offset} behind a later one in {group}"));
                }
                if found.insert(id, offset).is_some() {
                    return Err(format!("message {id} is there twice"));
                }
            }
            queue.ack_all(jobs).map_err(|error| format!("ack in {group}: {error}"))?;
        }
    }

    fn judge(
        &self,
        log: &BTreeMap<usize, u64>,
        groups: &BTreeMap<String, BTreeMap<usize, u64>>,
        lost: &[(u64, u64)],
        power: Option<u64>,
    ) -> Result<Found, String> {
        let cut = power.unwrap_or(NEVER);
        let mut found = Found { messages: log.len(), ..Found::default() };
        let mut batches: BTreeMap<usize, BTreeSet<bool>> = BTreeMap::new();
        for (id, sent) in &self.sent {
            batches.entry(sent.batch).or_default().insert(log.contains_key(id));
            let survives = match power {
                Some(cut) => sent.safe.is_some_and(|safe| safe <= cut),
                None => sent.told.is_some() && !sent.doubt,
            };
            found.promised += usize::from(survives);
            let lost = |offset| lost.iter().any(|range| (range.0..range.1).contains(&offset));
            if survives && sent.told.is_some_and(|told| lost(told.0)) {
                return Err(format!("P1: message {id} is reported lost: {sent:?}, cut {power:?}"));
            }
            if survives && !log.contains_key(id) {
                return Err(format!("P1: message {id} is gone: {sent:?}, cut {power:?}"));
            }
        }
        if let Some((batch, _)) = batches.iter().find(|(_, kinds)| kinds.len() > 1) {
            return Err(format!("P3: batch {batch} is there in part"));
        }
        for (name, reader) in &self.readers {
            let removing = reader.removing.is_some_and(|at| at <= cut);
            let Some(delivered) = groups.get(name) else {
                if reader.made.is_some_and(|made| made <= cut) && !removing {
                    return Err(format!("group {name} is gone"));
                }
                continue;
            };
            for id in log.keys() {
                let ack = reader.acks.get(id).filter(|ack| ack.began < cut);
                let holds = ack.is_some_and(|ack| match power {
                    Some(cut) => ack.safe.is_some_and(|safe| safe <= cut),
                    None => ack.answered && !ack.doubt,
                });
                found.acked += usize::from(holds);
                if holds && delivered.contains_key(id) {
                    return Err(format!("P5: {id} was acked in {name} and comes again: {ack:?}"));
                }
                if reader.whole && ack.is_none() && !delivered.contains_key(id) {
                    return Err(format!("P1: message {id} is not delivered to {name}"));
                }
            }
        }
        Ok(found)
    }
}
