//! Does the state agree with the simplest thing that could be it, one record for each message?

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::decide::{Next, Special};
use super::exceptions::{ALONE_FROM, Life};
use super::model_holders::is_held_by;
use super::policy::DEFAULT_POLICY;
use super::sound::{sound, without_hints};
use super::state::{Now, State};
use crate::format::entry::{Entry, HELD, Kind, More, RAN_OUT};
use crate::format::snapshot::{NORMAL, Policy, Snapshot};

pub(super) const START: u64 = 1_700_000_000_000;
pub(super) const LEASE: u32 = 500;
pub(super) const POLICY: Policy =
    Policy { max_failures: 3, max_losses: 3, retry_first: 100, retry_cap: 1_000, ..DEFAULT_POLICY };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    Ready,
    Delayed { due: u64 },
    Out { delivery: u64, ends: Option<u64> },
    Dead,
    Done,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) is: Is,
    pub(super) failures: u8,
    pub(super) losses: u8,
    pub(super) late: u64,
    pub(super) error: String,
    pub(super) priority: u8,
    pub(super) key: u64,
}

pub(super) const NEW: Message = Message {
    is: Is::Ready,
    failures: 0,
    losses: 0,
    late: 0,
    error: String::new(),
    priority: NORMAL,
    key: 0,
};

#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) what: u8,
    pub(super) pick: usize,
    pub(super) count: u64,
    pub(super) flag: bool,
}

pub(super) struct World {
    /// Which offsets are messages; the log has no end that matters here.
    pub(super) log: BTreeSet<u64>,
    /// Those that were met, or cancelled before.
    pub(super) met: BTreeMap<u64, Message>,
    /// Below it everything is done, since the last seek.
    pub(super) base: u64,
    pub(super) state: State,
    pub(super) now: Now,
    /// Every loan there ever was.
    pub(super) loans: Vec<(u64, u64)>,
    pub(super) holders: u32,
    /// Those that live, and whether they are connected to this opening.
    pub(super) guests: Vec<(u32, bool)>,
    pub(super) stored: Snapshot,
    pub(super) entries: Vec<(Entry, Now)>,
}

impl World {
    pub(super) fn new(log: BTreeSet<u64>) -> Self {
        let stored = Snapshot { policy: POLICY, ..Snapshot::default() };
        let now = Now { mono: Duration::from_secs(9), wall: START };
        let state = State::from_snapshot(&stored, now);
        let (met, loans, entries, guests) = (BTreeMap::new(), Vec::new(), Vec::new(), Vec::new());
        let mut world = Self { log, met, base: 0, state, now, loans, holders: 0, guests, stored, entries };
        world.begin_holder();
        world
    }

    pub(super) fn switch(&mut self) {
        self.stored = self.state.to_snapshot();
        self.entries = vec![(Entry::new(Kind::OwnMark, 0), self.now)];
    }

    pub(super) fn apply(&mut self, entry: Entry) {
        let mut bytes = Vec::new();
        entry.encode(1, 0, &mut bytes);
        assert_eq!(Entry::decode(&bytes, 1, 0), Some((entry.clone(), bytes.len())));
        self.state.apply(&entry, self.now);
        self.entries.push((entry, self.now));
    }

    pub(super) fn met(&mut self, offset: u64) -> &mut Message {
        self.met.entry(offset).or_insert(NEW)
    }

    fn holds(&self, (offset, number): (u64, u64)) -> bool {
        offset >= self.base
            && self
                .met
                .get(&offset)
                .is_some_and(|message| matches!(message.is, Is::Out { delivery, .. } if delivery == number))
    }

    fn may_ack(&self, (offset, number): (u64, u64)) -> bool {
        let late = |message: &Message| {
            message.late == number && matches!(message.is, Is::Ready | Is::Delayed { .. })
        };
        self.holds((offset, number)) || self.met.get(&offset).is_some_and(late)
    }

    pub(super) fn lend(&mut self, entry: Entry) {
        let end = if let More::Range { end, .. } = entry.more { end } else { entry.offset + 1 };
        let ends = (entry.lease != HELD).then_some(self.now.wall + u64::from(entry.lease));
        for (delivery, offset) in (entry.delivery..).zip(entry.offset..end) {
            let message = self.met(offset);
            (message.is, message.late) = (Is::Out { delivery, ends }, 0);
            assert!(self.loans.iter().all(|&(_, other)| other != delivery), "given twice");
            self.loans.push((offset, delivery));
        }
        self.apply(entry);
    }

    /// Returns the first message that was never met, and the end of a row that begins with it.
    pub(super) fn fresh(&self, count: u64) -> (u64, u64) {
        let first = *self.log.range(self.state.head..).find(|offset| !self.met.contains_key(offset)).unwrap();
        let fits = |offset: &u64| self.log.contains(offset) && !self.met.contains_key(offset);
        (first, (first..first + count).take_while(fits).last().unwrap() + 1)
    }

    fn failed(&mut self, entry: &Entry, offset: u64, why: &str, after: Option<u64>, late: u64) {
        let wall = self.now.wall;
        let message = self.met(offset);
        message.failures += 1;
        assert_eq!((entry.failures, entry.losses), (message.failures, message.losses));
        if message.failures < POLICY.max_failures {
            let wait = after.map_or(100 << (message.failures - 1), |after| after);
            let waits = if after.is_some() { wait..=wait } else { wait * 4 / 5..=wait * 6 / 5 };
            assert!(waits.contains(&(entry.time - wall)), "{entry:?} at {wall}");
            (message.is, message.late) = (Is::Delayed { due: entry.time }, late);
            message.error = why.into();
        } else {
            (message.is, message.late) = (Is::Dead, 0);
            if !why.is_empty() {
                message.error = why.into();
            }
        }
    }

    fn is_ready(&self, message: &Message) -> bool {
        match message.is {
            Is::Ready => true,
            Is::Delayed { due } => due <= self.now.wall,
            _ => false,
        }
    }

    /// Lists the messages of a key that are neither done nor dead.
    fn line(&self, key: u64) -> Vec<(u64, &Message)> {
        let alive = |one: &Message| one.key == key && !matches!(one.is, Is::Dead | Is::Done);
        self.met.iter().filter(|(_, one)| alive(one)).map(|(&offset, one)| (offset, one)).collect()
    }

    fn has_its_turn(&self, offset: u64, message: &Message) -> bool {
        let line = self.line(message.key);
        let none_out = !line.iter().any(|(_, one)| matches!(one.is, Is::Out { .. }));
        message.key == 0 || (none_out && line[0].0 == offset)
    }

    pub(super) fn expected_next(&self, drain: bool, holder: Option<u32>) -> Next {
        let held: Vec<_> = self.met.values().filter(|one| is_held_by(one, holder)).collect();
        let nothing = Next::Nothing { until: self.state.next_timer(self.now) };
        if held.iter().any(|message| message.losses >= ALONE_FROM) {
            return nothing;
        }
        let ready = self.met.iter().filter(|&(&at, one)| self.is_ready(one) && self.has_its_turn(at, one));
        let mut ready: Vec<_> = ready.collect();
        ready.sort_by_key(|&(&offset, message)| (Reverse(message.priority), offset));
        for (&offset, message) in ready {
            match message.losses >= ALONE_FROM && !held.is_empty() {
                false if message.priority < NORMAL => return Next::Fresh { or: Some(offset) },
                false => return Next::Again(offset),
                true if drain => return nothing,
                true => {}
            }
        }
        Next::Fresh { or: None }
    }

    /// What the receive that has the first `out` of a key's messages may have next.
    fn expected_of(&self, key: u64, out: usize) -> Option<u64> {
        let line = self.line(key);
        let lent = |one: &Message| matches!(one.is, Is::Out { .. });
        let all_out = line.iter().filter(|(_, one)| lent(one)).count() == out;
        let (offset, next) =
            line.get(out).filter(|_| all_out && line[..out].iter().all(|(_, one)| lent(one)))?;
        (self.is_ready(next) && next.losses < ALONE_FROM).then_some(*offset)
    }

    pub(super) fn step(&mut self, op: &Op) {
        let Op { what, pick, count, flag } = *op;
        let loan =
            (!self.loans.is_empty()).then(|| self.loans[self.loans.len() - 1 - pick % self.loans.len()]);
        let lease = if flag { HELD } else { LEASE };
        match (what, loan) {
            (0..=3, _) => {
                let (first, end) = self.fresh(count);
                let entry =
                    self.state.lend_fresh(first, end, if what == 0 { lease } else { HELD }, self.now, None);
                self.lend(entry.unwrap());
            }
            (4..=7, _) => {
                self.state.ripen(self.now);
                let next = self.state.next(self.now, flag, None);
                assert_eq!(next, self.expected_next(flag, None));
                if let Next::Again(offset) | Next::Fresh { or: Some(offset) } = next {
                    let lease = if what == 4 { lease } else { HELD };
                    let entry = self.state.lend_again(offset, lease, self.now, None).unwrap();
                    let message = &self.met[&offset];
                    assert_eq!((entry.failures, entry.losses), (message.failures, message.losses));
                    self.lend(entry);
                }
            }
            (8..=11, Some(loan)) => {
                let acked = self.state.ack(loan.0, loan.1);
                assert_eq!(acked.is_ok(), self.may_ack(loan), "{loan:?}");
                if let Ok(entry) = acked {
                    self.apply(entry);
                    self.met(loan.0).is = Is::Done;
                }
            }
            (12, Some(_)) => self.ack_many(pick),
            (13..=15, Some(loan)) => {
                let after = flag.then_some(count * 40);
                let why = if what == 13 { "" } else { "no route" };
                let entry =
                    self.state.nack(loan.0, loan.1, Some(why), after.map(Duration::from_millis), self.now);
                assert_eq!(entry.is_ok(), self.holds(loan), "{loan:?}");
                if let Ok(entry) = entry {
                    self.failed(&entry, loan.0, why, after, 0);
                    self.apply(entry);
                }
            }
            (16, Some(loan)) => {
                let entry = self.state.reject(loan.0, loan.1, "no", self.now);
                assert_eq!(entry.is_ok(), self.holds(loan), "{loan:?}");
                if let Ok(entry) = entry {
                    self.apply(entry);
                    let message = self.met(loan.0);
                    (message.is, message.error) = (Is::Dead, "no".into());
                }
            }
            (17, Some(loan)) => {
                let entry = self.state.release(loan.0, loan.1);
                assert_eq!(entry.is_ok(), self.holds(loan), "{loan:?}");
                if let Ok(entry) = entry {
                    self.apply(entry);
                    self.met(loan.0).is = Is::Ready;
                }
            }
            (18, Some(loan)) => {
                let entry = self.state.extend(loan.0, loan.1, LEASE, self.now);
                assert_eq!(entry.is_ok(), self.holds(loan), "{loan:?}");
                if let Ok(entry) = entry {
                    self.apply(entry);
                    let ends = Some(self.now.wall + u64::from(LEASE));
                    self.met(loan.0).is = Is::Out { delivery: loan.1, ends };
                }
            }
            (19..=21, _) => self.wait(count * 100),
            (22..=23, _) => self.reopen(flag, pick),
            (24, _) if flag => {
                let offset = *self.log.iter().nth(pick % 24).unwrap();
                let passed = self.log.range(..offset).count() as u64;
                let entry = self.state.seek(offset, passed, 0, self.now);
                self.apply(entry);
                self.met.clear();
                self.base = offset;
            }
            (25, _) => {
                let offset = self.met.keys().copied().nth(pick % 30).unwrap_or(0);
                let dead = self.met.get(&offset).is_some_and(|message| message.is == Is::Dead);
                let entry = self.state.revive(offset, self.now);
                assert_eq!(entry.is_some(), dead);
                if let Some(entry) = entry {
                    self.apply(entry);
                    let message = self.met(offset);
                    (message.is, message.failures, message.losses) = (Is::Ready, 0, 0);
                }
            }
            (26, _) => {
                let offset = *self.log.range(self.base..).nth(pick % 30).unwrap();
                let entry = self.state.discard(offset, self.now);
                let done = self.met.get(&offset).is_some_and(|message| message.is == Is::Done);
                assert_eq!(entry.is_none(), done, "{offset}");
                if let Some(entry) = entry {
                    self.apply(entry);
                    self.met(offset).is = Is::Done;
                }
            }
            (27, _) if flag => {
                let end = self.state.head + count;
                let messages = self.log.range(self.state.head..end).count() as u64;
                let entry = self.state.purge(end, messages, self.now).unwrap();
                self.apply(entry);
                for offset in self.log.range(..end) {
                    self.met.entry(*offset).or_insert(NEW).is = Is::Done;
                }
                self.met.range_mut(..end).for_each(|(_, message)| message.is = Is::Done);
            }
            (28, _) => {
                let first = if flag { self.state.head } else { self.state.head.saturating_sub(3) };
                let end = first + count;
                let head = self.state.head;
                let messages = self.log.range(head.min(end)..end).count() as u64;
                let entry = self.state.damaged(first, end, messages, self.now);
                self.apply(entry);
                for offset in first.max(self.base)..end {
                    if offset >= head || self.met.contains_key(&offset) {
                        let message = self.met(offset);
                        if message.is != Is::Done {
                            (message.is, message.late) = (Is::Dead, 0);
                        }
                    }
                }
            }
            (29, _) if flag => self.begin_holder(),
            (30, _) => {
                let (first, _) = self.fresh(1);
                let entry = self.state.delay(first, self.now.wall + count * 30);
                self.met(first).is = Is::Delayed { due: entry.time };
                self.apply(entry);
            }
            (31..=33, _) => {
                // Where reading has come to, or ahead of that.
                let ahead = what == 33;
                let open = |offset: &&u64| !self.met.contains_key(offset);
                let mut offsets = self.log.range(self.state.head..).filter(open);
                let offset = *offsets.nth(if ahead { pick % 20 } else { 0 }).unwrap();
                let (priority, key) = (u8::try_from(pick % 10).unwrap(), if flag { count % 3 } else { 0 });
                let due = if pick.is_multiple_of(4) { self.now.wall + count * 30 } else { 0 };
                let entry =
                    self.state.aside(offset, &Special { priority, key, due, position: 8 * count }, ahead);
                let is = if due == 0 { Is::Ready } else { Is::Delayed { due } };
                *self.met(offset) = Message { is, priority, key, ..NEW };
                self.apply(entry);
            }
            (34, _) => {
                for (key, out) in [(1, pick % 3), (2, pick % 2), (1, 0)] {
                    self.state.ripen(self.now);
                    assert_eq!(
                        self.state.next_of(key, out).map(|(_, offset)| offset),
                        self.expected_of(key, out)
                    );
                }
            }
            (35, _) => self.undelete(op),
            (36, _) => self.strike(op),
            (37.., _) => self.guest_step(op),
            _ => self.switch(),
        }
    }

    fn ack_many(&mut self, pick: usize) {
        let start = pick % self.loans.len();
        let many: Vec<_> = self.loans.iter().skip(start).take(pick % 13).rev().copied().collect();
        let acked = self.state.ack_many(&many);
        for (&loan, held) in many.iter().zip(&acked.held) {
            assert_eq!(*held, self.may_ack(loan), "{loan:?} of {many:?}");
        }
        for entry in acked.entries {
            self.apply(entry);
        }
        for (loan, _) in many.into_iter().zip(acked.held).filter(|(_, held)| *held) {
            self.met(loan.0).is = Is::Done;
        }
    }

    fn wait(&mut self, millis: u64) {
        self.now.mono += Duration::from_millis(millis);
        self.now.wall += millis;
        for entry in self.state.run_out(usize::MAX, self.now) {
            let end = if let More::Range { end, .. } = entry.more { end } else { entry.offset + 1 };
            for (late, offset) in (entry.delivery..).zip(entry.offset..end) {
                assert!(entry.kind == Kind::Dead || entry.lease == RAN_OUT);
                self.failed(&entry, offset, "", None, late);
            }
            self.apply(entry);
        }
        let over = |message: &Message| matches!(message.is, Is::Out { ends: Some(ends), .. } if ends <= self.now.wall);
        assert!(!self.met.values().any(over));
    }

    fn check(&self) {
        sound(&self.state, self.now);
        let snapshot = self.state.to_snapshot();
        assert_eq!(without_hints(self.replayed().to_snapshot()), without_hints(snapshot));
        let counts = self.state.stats();
        assert_eq!(counts.passed, self.log.range(..counts.head).count() as u64);
        let out = self.met.values().filter(|message| matches!(message.is, Is::Out { .. })).count();
        let dead = self.met.values().filter(|message| message.is == Is::Dead).count();
        let again = self.met.values().filter(|one| matches!(one.is, Is::Ready | Is::Delayed { .. })).count();
        assert_eq!((counts.on_loan, counts.dead), (out as u64, dead as u64));
        assert_eq!(counts.ready_again + counts.delayed, again as u64);
        for (&offset, message) in &self.met {
            let done = self.state.done_until(offset).is_some();
            assert_eq!(done, message.is == Is::Done, "{offset}");
            if let Some((_, one)) = self.state.exceptions.at(offset) {
                assert_eq!((one.failures, one.losses), (message.failures, message.losses), "{offset}");
                assert_eq!(one.error.as_deref().unwrap_or_default(), message.error, "{offset}");
                assert_eq!((one.priority, one.key), (message.priority, message.key), "{offset}");
                let due = if let Is::Delayed { due } = message.is { Some(due) } else { None };
                let told = if let Life::Delayed { due, .. } = one.life { Some(due) } else { None };
                assert_eq!(told, due, "{offset}");
            }
        }
        for offset in self.log.range(counts.floor..counts.head) {
            assert!(self.met.contains_key(offset), "{offset} was passed over");
        }
        for &loan in &self.loans {
            assert_eq!(self.state.holds(loan.0, loan.1), self.holds(loan), "{loan:?}");
            assert_eq!(self.state.ack(loan.0, loan.1).is_ok(), self.may_ack(loan), "{loan:?}");
        }
    }
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    (0u8..47, 0usize..90, 1u64..5, any::<bool>()).prop_map(|(what, pick, count, flag)| Op {
        what,
        pick,
        count,
        flag,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_state_agrees_with_one_record_for_each_message(
        gaps in prop::collection::vec(prop_oneof![4 => Just(0u64), 1 => 1u64..6], 400),
        ops in prop::collection::vec(op(), 1..70),
    ) {
        let log = gaps.iter().scan(0, |next, gap| { *next += gap + 1; Some(*next) }).collect();
        let mut world = World::new(log);
        for op in &ops {
            world.step(op);
            world.check();
        }
    }
}
