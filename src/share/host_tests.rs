//! Does the owner keep what a guest may ask for again, and stand whatever a guest says?

use std::sync::Arc;
use std::time::Duration;

use super::frame::{self, Incoming};
use super::greeting::{Answer, Call, Hello, Welcome, greet, greeted};
use super::host::{Host, Ready};
use crate::clock::ManualClock;
use crate::codec::{self, Bytes};
use crate::engine::origin::LogEnd;
use crate::engine::request::{Ending, Reply, Request, Sent, Which};
use crate::engine::{Engine, From, NewGroup, holders};
use crate::format::record::{self, Tag};
use crate::format::snapshot::Policy;
use crate::group::rule::MessageState;
use crate::options::Settings;
use crate::storage::Lock;
use crate::storage::sim::SimDisk;

/// A host with one guest, whose bytes go in and out by hand.
struct World {
    engine: Arc<Engine>,
    host: Host,
    disk: SimDisk,
    heard: Incoming,
    rings: std::sync::mpsc::Receiver<()>,
    /// Those whose locks are held.
    held: Vec<Box<dyn Lock>>,
}

const GUEST: usize = 7;
const PRODUCER: u32 = 5;

impl World {
    fn new() -> Self {
        let disk = SimDisk::new(1);
        let settings = Settings { threads: false, ..Settings::default() };
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let engine = Engine::open(Arc::new(disk.clone()), clock, settings).unwrap();
        let (ring, rings) = std::sync::mpsc::channel();
        let host = Host::new(engine.clone(), Ready::new(move || ring.send(()).unwrap_or_default()));
        Self { engine, host, disk, heard: Incoming::default(), rings, held: Vec::new() }
    }

    /// Lets a guest in that may send pushes again from there on.
    fn greet(&mut self, token: usize, since: Option<u64>) {
        let (holder, lock) = holders::hold(&self.disk).unwrap();
        self.held.push(lock);
        let hello = Hello {
            process: 1,
            holder,
            queue: None,
            earlier: Vec::new(),
            producer: PRODUCER,
            since: since.map(LogEnd::at),
        };
        self.host.came(token);
        self.say(token, &greet(&hello));
        let body = self.hear(token);
        assert!(matches!(greeted(&body), Ok(Welcome::In { .. })));
    }

    fn say(&mut self, token: usize, body: &[u8]) {
        let mut bytes = Vec::new();
        frame::put(&mut bytes, body);
        self.host.received(token, &bytes);
    }

    /// Returns what is said next.
    fn hear(&mut self, token: usize) -> Vec<u8> {
        loop {
            self.host.run();
            if self.host.pushed {
                self.host.pushed = false;
                assert!(self.engine.lead_now());
                continue;
            }
            let said = self.host.outgoing(token).to_vec();
            self.heard.add(&said);
            self.host.sent(token, said.len());
            if let Some(body) = self.heard.next(frame::LIMIT).unwrap() {
                return body;
            }
            self.rings.recv_timeout(Duration::from_secs(20)).expect("an answer");
        }
    }

    fn call(&mut self, id: u64, again: bool, request: Request) -> Reply {
        self.say(GUEST, &codec::encode(&Call { id, again, heard: 0, request }));
        let answer: Answer = codec::decode(&self.hear(GUEST)).unwrap();
        assert_eq!(answer.id, id);
        answer.reply
    }
}

fn push(sequence: u64) -> Request {
    let mut attributes = Vec::new();
    assert!(record::put(&mut attributes, Tag::Origin, &record::origin_value(PRODUCER, sequence)));
    let (attributes, payload) = (Bytes(attributes), Bytes(b"x".to_vec()));
    let records = vec![Sent { attributes, payload, tags: Tag::Origin.bit() }];
    Request::Push { records, synced: true, waits: true, sequence }
}

fn new(policy: Policy) -> NewGroup {
    NewGroup { policy, kinds: Vec::new(), from: From::Beginning }
}

/// An owner that stored them may go before it has told so; so may the one behind it.
#[test]
fn what_a_guest_may_send_again_is_kept_until_it_has_heard_the_answer() {
    let mut world = World::new();
    world.greet(GUEST, None);
    let first = world.call(1, false, push(0));
    assert_eq!(world.engine.pinned_for(PRODUCER), Some(0));

    // It comes back by another connection, before the end of the old one is seen.
    world.heard = Incoming::default();
    world.greet(GUEST + 1, Some(0));
    world.host.went(GUEST);
    assert_eq!(world.engine.pinned_for(PRODUCER), Some(0));
    world.engine.gone(1, true).unwrap();
    world.say(GUEST + 1, &codec::encode(&Call { id: 1, again: true, heard: 0, request: push(0) }));
    let answer: Answer = codec::decode(&world.hear(GUEST + 1)).unwrap();

    assert_eq!(answer.reply, first, "stored once");
    assert_eq!(world.engine.log.next(), 1);
    assert_eq!(world.engine.pinned_for(PRODUCER), Some(0));
    world.say(GUEST + 1, &codec::encode(&Call { id: 2, again: false, heard: 1, request: Request::Groups }));
    world.hear(GUEST + 1);
    assert_eq!(world.engine.pinned_for(PRODUCER), None);
}

#[test]
fn whatever_a_guest_asks_for_is_answered() {
    let mut world = World::new();
    world.greet(GUEST, None);
    world.call(0, false, push(0));
    let made = Request::Group { name: "default".into(), new: Some(new(Policy::default())) };
    let Reply::Group { incarnation } = world.call(1, false, made) else { panic!("no group") };
    let which = |incarnation| Which { name: "default".into(), incarnation };
    let numbers = [0, 1, 2, (1 << 48) - 1, 1 << 48, u64::MAX - 1, u64::MAX];
    let mut id = 2;
    let mut ask = |request: Request| {
        for again in [false, true] {
            id += 1;
            let reply = world.call(id, again, request.clone());
            assert!(!format!("{reply:?}").contains("panicked"), "{request:?}");
        }
    };
    for number in [0, 1, u8::MAX] {
        let (long, many) = (u64::from(number) << 56, u32::from(number) << 24);
        let policy = Policy {
            max_failures: number,
            max_losses: number,
            retry_kind: number,
            retry_first: long,
            retry_cap: long,
            retry_jitter: many,
            lease: many,
            ..Policy::default()
        };
        ask(Request::SetPolicy { group: which(incarnation), policy, kinds: vec!["x".repeat(300)] });
        ask(Request::CreateGroup { name: "x".repeat(number.into()), new: new(policy) });
        ask(Request::SetPolicy { group: which(incarnation), policy, kinds: Vec::new() });
        ask(Request::Seek { group: which(incarnation), to: From::Beginning });
    }
    for one in numbers {
        let group = || which(incarnation);
        ask(Request::Discard { offset: one });
        ask(Request::DiscardIn { group: group(), offsets: vec![one, 0, one] });
        ask(Request::Undelete { group: group(), offsets: vec![one, 0, one] });
        ask(Request::Revive { group: group(), offsets: Some(vec![one, one]) });
        ask(Request::Pause { group: group(), until: Some(one) });
        ask(Request::Pause { group: group(), until: None });
        let wait = Some(Duration::ZERO);
        let lease = u32::try_from(one).ok();
        let receive = |most, wait| Request::Receive {
            group: which(incarnation),
            most,
            lease,
            wait,
            drain: true,
            idle_ends: false,
        };
        ask(receive(one, wait));
        ask(Request::Seek { group: group(), to: From::Offset(one) });
        ask(Request::Seek { group: group(), to: From::Time(one) });
        ask(receive(0, Some(Duration::MAX)));
        for other in numbers {
            let loan = (one, other);
            for ending in [
                Ending::Ack,
                Ending::Release,
                Ending::Nack { reason: Some("x".repeat(5000)), after: Some(Duration::MAX) },
                Ending::Nack { reason: None, after: None },
                Ending::Reject { reason: "é".repeat(5000) },
            ] {
                ask(Request::Settle { group: group(), loan, ending });
            }
            ask(Request::AckAll { group: group(), loans: vec![loan, loan] });
            ask(Request::AckAll { group: which(one), loans: Vec::new() });
            for lease in [0, 1, u32::MAX - 1, u32::MAX] {
                ask(Request::Extend { group: group(), loan, lease });
            }
            ask(Request::Look { group: group(), first: one, end: other, state: None });
            ask(Request::Look { group: group(), first: one, end: other, state: Some(MessageState::Dead) });
            let strange = Sent { attributes: Bytes(vec![255; 9]), payload: Bytes(Vec::new()), tags: other };
            let records = vec![strange.clone(), strange];
            ask(Request::AckWith {
                group: group(),
                loan,
                records: records.clone(),
                synced: true,
                sequence: one,
            });
            ask(Request::Push { records, synced: false, waits: false, sequence: other });
            ask(Request::Push { records: Vec::new(), synced: true, waits: true, sequence: other });
        }
    }
    ask(Request::ReleaseAll { group: which(incarnation) });
    ask(Request::Purge { group: which(incarnation) });
    ask(Request::DiscardKey { key: Bytes(vec![0; 70_000]) });
    ask(Request::Stats);
    ask(Request::Pins);
    ask(Request::Sync);
    ask(Request::RemoveGroup { name: "../..".into() });
    ask(Request::RemoveGroup { name: "default".into() });

    assert!(matches!(world.call(0, false, push(1)), Reply::Offsets { .. }));
}
