//! Is every guest's call answered once, and done once, wherever the owner ends, killed or by itself?
//!
//! The owner is the real one and so are the guests: only the socket is not there (`share_world`).

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backlog::testing::{Called, Ends, Known, Loaned, Told};
use backlog::{Durability, Error, GroupOptions};

use crate::dice;
use crate::harness::drain;
use crate::ledger::Verdict;
use crate::share_world::{End, Who, World};
use crate::watch;

const NOW: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(61);
/// Works, and reads nothing for a while.
const ANN: Who = 0;
const BEN: Who = 1;
/// Is killed while it holds messages.
const CEM: Who = 2;

/// What the guests were told.
#[derive(Debug, Default)]
struct Ledger {
    /// Where each message lies, as was told by whoever stored it or lent it.
    offsets: BTreeMap<Vec<u8>, u64>,
    /// Messages whose push was answered.
    pushed: BTreeSet<Vec<u8>>,
    /// The last offset that each guest was told, by the order of its calls.
    last: [u64; 3],
    /// What is on loan, and where.
    held: BTreeMap<u64, Who>,
    acked: BTreeSet<Vec<u8>>,
}

/// The guests at work.
struct Scene {
    world: World,
    group: Option<Known>,
    ledger: Ledger,
    next: [u32; 3],
}

impl Ledger {
    fn lies_at(&mut self, payload: &[u8], offset: u64) {
        let known = *self.offsets.entry(payload.to_vec()).or_insert(offset);
        assert_eq!(known, offset, "P5: {} is there twice", name(payload));
    }

    fn pushed(&mut self, who: Who, payloads: &[Vec<u8>], told: (u64, u64)) {
        assert_eq!(told.1 - told.0, payloads.len() as u64, "P1: another number of messages was stored");
        for (payload, offset) in payloads.iter().zip(told.0..) {
            assert!(self.last[who] <= offset, "order: {} is before the push before it", name(payload));
            self.last[who] = offset + 1;
            self.lies_at(payload, offset);
            self.pushed.insert(payload.clone());
        }
    }

    fn lent(&mut self, who: Who, loan: &Loaned) {
        let name = name(&loan.payload);
        assert!(!self.acked.contains(&loan.payload), "P5: {name} came again after its ack");
        let holder = self.held.insert(loan.offset, who);
        assert!(holder.is_none(), "P5: {name} was lent to {who} beside {holder:?}, who lives");
        self.lies_at(&loan.payload, loan.offset);
    }
}

/// A payload's name, which it begins with.
fn name(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).trim_end_matches('.').to_owned()
}

impl Scene {
    fn new(ends: &[End], seed: u64) -> Self {
        let world = World::new(3, ends, seed);
        Self { world, group: None, ledger: Ledger::default(), next: [0; 3] }
    }

    fn group(&self) -> &Known {
        self.group.as_ref().expect("it was made")
    }

    fn payloads(&mut self, who: Who, count: usize, length: usize) -> Vec<Vec<u8>> {
        let mut one = || {
            let mut payload = format!("{}{}", ["ann", "ben", "cem"][who], self.next[who]).into_bytes();
            self.next[who] += 1;
            payload.resize(length, b'.');
            payload
        };
        (0..count).map(|_| one()).collect()
    }

    fn pushed(&mut self, who: Who, payloads: &[Vec<u8>], called: &Called) {
        match self.world.answer(called) {
            Ok(Told::Offsets(first, end)) => self.ledger.pushed(who, payloads, (first, end)),
            other => panic!("no call fails for the succession: {other:?}"),
        }
    }

    fn push(&mut self, who: Who, (count, length): (usize, usize), synced: bool) {
        let payloads = self.payloads(who, count, length);
        let called = self.world.guest(who).push(&payloads, synced).unwrap();
        self.pushed(who, &payloads, &called);
    }

    fn lent(&mut self, who: Who, called: &Called) -> Vec<Loaned> {
        match self.world.answer(called) {
            Ok(Told::Lent(loans)) => {
                loans.iter().for_each(|loan| self.ledger.lent(who, loan));
                loans
            }
            other => panic!("no call fails for the succession: {other:?}"),
        }
    }

    fn receive(&mut self, who: Who, most: u64) -> Vec<Loaned> {
        let called = self.world.guest(who).receive(self.group(), most, NOW).unwrap();
        self.lent(who, &called)
    }

    fn end(&mut self, who: Who, loan: &Loaned, ends: Ends) {
        // From here on it may be lent to others: the answer comes later.
        assert_eq!(self.ledger.held.remove(&loan.offset), Some(who));
        let called = self.world.guest(who).settle(self.group(), loan, ends).unwrap();
        let answer = self.world.answer(&called);
        assert!(matches!(answer, Ok(Told::Done)), "no call fails for the succession: {answer:?}");
        if ends == Ends::Ack {
            self.ledger.acked.insert(loan.payload.clone());
        }
    }

    fn ack_with(&mut self, who: Who, loan: &Loaned) {
        self.ledger.held.remove(&loan.offset);
        let payloads = self.payloads(who, 1, 1000);
        let called = self.world.guest(who).ack_with(self.group(), loan, &payloads).unwrap();
        self.pushed(who, &payloads, &called);
        self.ledger.acked.insert(loan.payload.clone());
    }

    /// Acks whatever there is.
    fn drain(&mut self, who: Who) {
        loop {
            let loans = self.receive(who, 3);
            loans.iter().for_each(|loan| self.end(who, loan, Ends::Ack));
            if loans.is_empty() {
                return;
            }
        }
    }

    /// Plays it to its end; returns how many owners ended before theirs.
    fn play(mut self) -> usize {
        let options = GroupOptions::new().ack_durability(Durability::Synced).max_losses(1);
        let called = self.world.guest(ANN).create_group("work", &options).unwrap();
        match self.world.answer(&called) {
            Ok(Told::Group(group)) => self.group = Some(group),
            other => panic!("no call fails for the succession: {other:?}"),
        }
        self.push(ANN, (1, 900), true);
        self.push(BEN, (2, 900), false);
        self.push_deferred();
        // It goes down with these.
        let dies_with = self.receive(CEM, 2);
        assert_eq!(dies_with.len(), 2);
        let loans = self.receive(ANN, 2);
        self.end(ANN, &loans[0], Ends::Nack);
        self.end(ANN, &loans[1], Ends::Ack);
        let loan = self.receive(BEN, 1).remove(0);
        self.ack_with(BEN, &loan);
        let held = self.receive(ANN, 1).remove(0);
        self.drain(BEN);

        let waiting = self.world.guest(BEN).receive(self.group(), 1, HOUR).unwrap();
        self.world.settle();
        self.push(CEM, (1, 900), true);
        let awaited = self.lent(BEN, &waiting).remove(0);
        self.end(BEN, &awaited, Ends::Release);
        self.unheard();
        self.world.die(CEM);
        self.ledger.held.retain(|_, who| *who != CEM);
        self.push(BEN, (1, 900), true);
        self.drain(BEN);
        self.end(ANN, &held, Ends::Ack);
        self.check(&dies_with)
    }

    /// Several in flight, one of which fails.
    fn push_deferred(&mut self) {
        let all: Vec<Vec<Vec<u8>>> =
            [900, 900, 5000, 900, 900].map(|length| self.payloads(CEM, 1, length)).into();
        let calls: Vec<Called> =
            all.iter().map(|one| self.world.guest(CEM).push(one, true).unwrap()).collect();
        for (payloads, called) in all.iter().zip(&calls) {
            if payloads[0].len() > 4096 {
                let refused = self.world.answer(called);
                assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
            } else {
                self.pushed(CEM, payloads, called);
            }
        }
    }

    /// Ben's answer lies there unheard, while others ack his message and the log rolls on behind it.
    fn unheard(&mut self) {
        self.world.sleep(BEN, true);
        let payloads = self.payloads(BEN, 1, 3000);
        let called = self.world.guest(BEN).push(&payloads, true).unwrap();
        self.world.settle();
        for _ in 0..4 {
            self.push(ANN, (1, 3000), true);
        }
        self.drain(ANN);
        self.world.advance(Duration::from_secs(2));
        self.world.advance(Duration::from_secs(2));
        self.push(ANN, (1, 3000), true);
        self.world.sleep(BEN, false);
        self.pushed(BEN, &payloads, &called);
    }

    fn check(mut self, dies_with: &[Loaned]) -> usize {
        self.drain(ANN);
        self.world.leave(ANN);
        self.world.leave(BEN);
        let clock = self.world.clock.clone();
        let Self { world, ledger, .. } = self;
        assert!(ledger.held.is_empty(), "{:?}", ledger.held);
        let (queue, ended) = world.ends();
        clock.advance(MINUTE);
        queue.run_duties().unwrap();
        let found = queue.recovery();
        assert!(found.damaged.is_empty() && found.lost.is_empty(), "{found:?}");
        let group = queue.group("work").unwrap();
        let left = drain(&group.consumer());
        let left: Vec<String> = left.iter().map(|text| name(text.as_bytes())).collect();
        assert!(left.is_empty(), "P5: left over: {left:?}");
        // Lost once is dead here: so it shows who was lost, and that nobody who lives was counted.
        let dead: BTreeSet<u64> = {
            let rows = group.dead().into_iter().map(|row| (row.offset.get(), row.length));
            rows.flat_map(|(first, length)| first..first + length).collect()
        };
        let lost: BTreeSet<u64> = dies_with.iter().map(|loan| loan.offset).collect();
        assert_eq!(dead, lost, "what the dead held comes back as lost, and nothing else");
        for payload in &ledger.pushed {
            let offset = ledger.offsets[payload];
            let is_there = ledger.acked.contains(payload) || dead.contains(&offset);
            assert!(is_there, "P1: {} is gone", name(payload));
        }
        assert_eq!(group.stats().on_loan, 0, "held by nobody who lives");
        queue.close().unwrap();
        ended
    }
}

/// Plays it with such ends, and returns how many came.
fn play(ends: &[End], seed: u64) -> usize {
    let _watched = watch::over(format!("ends {ends:?}, seed {seed}"));
    Scene::new(ends, seed).play()
}

#[test]
fn guests_are_served_by_an_owner_that_stays() {
    for seed in 0..20 {
        assert_eq!(play(&[], seed), 0);
    }
}

/// Plays it with such ends, and says what was broken.
pub(crate) fn verdict(ends: &[End], seed: u64) -> Verdict<u64> {
    let played = std::panic::catch_unwind(|| play(ends, seed));
    let told = |broken: Box<dyn Any + Send>| {
        let text = broken.downcast_ref::<String>().cloned();
        text.or_else(|| broken.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    };
    played.map(|came| came as u64).map_err(told)
}

/// Plays it with each end of a kind, until it is none any more; returns how often.
fn each(end: fn(u64) -> End, seed: u64) -> u64 {
    let ends = (1..).map(|at| play(&[end(at)], seed));
    ends.take_while(|&came| came == 1).count() as u64
}

/// Plays it with each end of a kind for the first owner, and for each of those with each end for the second.
fn each_twice(first: fn(u64) -> End, second: fn(u64) -> End, seed: u64) -> u64 {
    // All of them take an hour; what the second owner does first is what differs.
    let (step, most) = if dice::times() > 1 { (1, u64::MAX) } else { (11, 80) };
    let mut played = 0;
    for at in (1 + seed % step..).step_by(usize::try_from(step).expect("small")) {
        for again in 1..=most {
            let came = play(&[first(at), second(again)], seed);
            if came == 0 {
                return played;
            }
            played += 1;
            if came == 1 {
                break;
            }
        }
    }
    played
}

/// By how many orders of what happens at a time each end is tried.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    0..usual * dice::times()
}

#[test]
fn no_call_fails_and_nothing_is_done_twice_when_the_owner_is_killed_after_any_operation() {
    let states: u64 = seeds(3).map(|seed| each(End::Operation, seed)).sum();
    println!("{states} states");
}

#[test]
fn no_call_fails_and_nothing_is_done_twice_when_the_owner_is_killed_after_any_frame() {
    let states: u64 = seeds(3).map(|seed| each(End::Frame, seed)).sum();
    println!("{states} states");
}

#[test]
fn no_call_fails_and_nothing_is_done_twice_when_answers_are_lost_with_the_owner() {
    let states: u64 = seeds(5).map(|seed| each(End::Lost, seed)).sum();
    println!("{states} states");
}

#[test]
fn no_call_fails_and_nothing_is_done_twice_when_the_owner_leaves_after_any_frame() {
    let states: u64 = seeds(3).map(|seed| each(End::Leaves, seed)).sum();
    println!("{states} states");
}

#[test]
fn the_third_owner_goes_on_when_the_second_is_killed_at_any_operation_while_it_takes_over() {
    let mut states = each_twice(End::Frame, End::Operation, 1);
    states += each_twice(End::Operation, End::Operation, 0);
    states += each_twice(End::Leaves, End::Operation, 2);
    println!("{states} states");
}

#[test]
fn the_third_owner_goes_on_when_answers_to_greetings_and_to_what_is_sent_again_are_lost() {
    let states = each_twice(End::Lost, End::Lost, 1) + each_twice(End::Lost, End::Leaves, 2);
    println!("{states} states");
}

#[test]
fn no_call_fails_and_nothing_is_done_twice_when_connections_end_and_the_owner_stays() {
    let states: u64 = seeds(5).map(|seed| each(End::Cut, seed)).sum();
    println!("{states} states");
}

/// The owner forgot it, the guest did not: after 65,536 of them it had 8 MiB in flight, and called nobody any more.
#[test]
fn issue_7_receives_that_are_given_up_do_not_add_up_at_the_guest() {
    let _watched = watch::over("receives that are given up".to_owned());
    let mut scene = Scene::new(&[], 0);
    let called = scene.world.guest(ANN).create_group("work", &GroupOptions::new()).unwrap();
    let Ok(Told::Group(group)) = scene.world.answer(&called) else { panic!("no group") };
    for number in 0..70_000 {
        drop(scene.world.guest(ANN).receive(&group, 1, HOUR).unwrap());
        if number % 1000 == 0 {
            scene.world.settle();
        }
    }

    scene.push(ANN, (1, 10), true);

    let called = scene.world.guest(ANN).receive(&group, 1, NOW).unwrap();
    assert_eq!(scene.lent(ANN, &called).len(), 1);
}
