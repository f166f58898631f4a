//! Does an owner bear whatever a guest sends, and a guest whatever an owner sends?

use std::time::Duration;

use backlog::testing::{Called, Caller, Folder, Known, Loaned, ManualClock, Owner, SimDisk, Told, bytes};
use backlog::{GroupOptions, Options, Queue};

use crate::choices::{Bytes, Choices};

const HONEST: usize = 1;
const HOSTILE: usize = 2;
/// What a connection may take beside what was sent by it and what it has not read (`docs/PROTOCOL.md`): buffers
/// that are kept, and eight MiB of answers with the one that went past them.
const USUAL: usize = (64 << 10) + (9 << 20);
/// An honest guest is answered within so many rounds.
const ROUNDS: usize = 200;

/// An owner with an honest guest, and somebody else beside it.
struct Stage {
    _queue: Queue,
    clock: ManualClock,
    owner: Owner,
    honest: Caller,
    group: Option<Known>,
    /// Bytes that the other one sent.
    sent: usize,
}

impl Stage {
    fn new() -> (Self, Caller) {
        let clock = ManualClock::new(1_700_000_000_000);
        let disk = SimDisk::new(1);
        let options = Options::new("jobs").sim_disk(&disk).manual_clock(&clock).threads(false);
        let queue = options.segment_bytes(64 << 10).max_message_bytes(4096).open().unwrap();
        let folder = Folder::new(&disk);
        let owner = Owner::of(&queue).unwrap();
        let caller = || Caller::new(&folder, &clock).unwrap();
        let (honest, other) = (caller(), caller());
        let mut stage = Self { _queue: queue, clock: clock.clone(), owner, honest, group: None, sent: 0 };
        stage.connect();
        let called = stage.honest.create_group("work", &GroupOptions::new()).unwrap();
        if let Some(Ok(Told::Group(group))) = stage.answer(&called) {
            stage.group = Some(group);
        }
        (stage, other)
    }

    fn connect(&mut self) {
        let greeting = self.honest.greet().unwrap();
        self.owner.came(HONEST);
        self.owner.received(HONEST, &greeting);
        self.owner.work();
        self.hear();
    }

    /// Lets the honest guest hear what there is.
    fn hear(&mut self) {
        let bytes = self.owner.outgoing(HONEST).to_vec();
        self.owner.sent(HONEST, bytes.len());
        assert!(self.honest.hear(&bytes).unwrap(), "the honest guest lost its connection");
    }

    fn answer(&mut self, called: &Called) -> Option<backlog::Result<Told>> {
        for _ in 0..ROUNDS {
            if let Some(answer) = called.answer("work") {
                return Some(answer);
            }
            let said = self.honest.said();
            self.owner.received(HONEST, &said);
            self.owner.work();
            self.hear();
            self.clock.advance(Duration::from_millis(10));
        }
        None
    }

    /// Whatever others sent: it is answered. (What the answer is they may have changed: the group may be gone.)
    fn serves(&mut self) {
        let called = self.honest.push(&[b"mine".to_vec()], true).unwrap();
        assert!(self.answer(&called).is_some(), "a push is not answered");
        let Some(group) = self.group.clone() else { return };
        let called = self.honest.receive(&group, 1, Duration::ZERO).unwrap();
        assert!(self.answer(&called).is_some(), "a receive is not answered");
    }

    /// Has the other one send bytes, as far as they are read; cut where it likes.
    fn send(&mut self, bytes: &[u8], piece: usize) {
        for piece in bytes.chunks(piece.max(1)) {
            if !self.owner.wants(HOSTILE) {
                break;
            }
            self.sent += piece.len();
            self.owner.received(HOSTILE, piece);
            self.check();
        }
        self.owner.work();
        self.check();
        if self.owner.is_over(HOSTILE) {
            self.owner.went(HOSTILE);
            self.owner.came(HOSTILE);
            self.sent = 0;
        }
    }

    fn check(&self) {
        // A body is there twice while it is decoded; a buffer doubles as it grows; a call has a note.
        let (weight, most) = (self.owner.weight(HOSTILE), USUAL + 8 * self.sent);
        assert!(weight <= most, "{weight} bytes are kept for somebody who sent {}", self.sent);
    }
}

/// Changes a few bytes of a body.
fn garble(body: &mut Vec<u8>, input: &mut Bytes<'_>) {
    for _ in 0..input.below(4) {
        let at = input.size(body.len().max(1) as u64);
        let byte = u8::try_from(input.below(256)).unwrap_or(0);
        if let Some(place) = body.get_mut(at) {
            *place = byte;
        }
    }
    match input.below(8) {
        0 => body.truncate(input.size(body.len() as u64 + 1)),
        1 => body.extend_from_slice(input.take(9)),
        _ => {}
    }
}

/// Somebody greets, or not, and then sends calls that were changed, and bytes that are nothing.
pub(crate) fn socket(data: &[u8]) {
    let mut input = Bytes(data);
    let (mut stage, mut other) = Stage::new();
    stage.owner.came(HOSTILE);
    let called = stage.honest.push(&vec![b"before".to_vec(); 3], true).unwrap();
    stage.answer(&called);
    let mut loan = (0, 0);
    if let Some(group) = stage.group.clone() {
        let called = stage.honest.receive(&group, 1, Duration::ZERO).unwrap();
        if let Some(Ok(Told::Lent(loans))) = stage.answer(&called) {
            loan = loans.first().map_or(loan, |Loaned { offset, delivery, .. }| (*offset, *delivery));
        }
    }
    let specimens = stage.group.as_ref().map_or_else(Vec::new, |group| bytes::calls(group, loan));
    let mut numbers = 0_u64;
    while !input.is_empty() {
        let piece = input.size(600);
        match input.below(8) {
            0 => {
                let count = input.size(300);
                let raw = input.take(count).to_vec();
                stage.send(&raw, piece);
            }
            1 => {
                let count = input.size(300);
                let body = input.take(count);
                if !bytes::lets_pushes_wait(body) {
                    stage.send(&bytes::framed(body), piece);
                }
            }
            2 => {
                let greeting = other.greet().unwrap();
                let mut body = greeting[8..].to_vec();
                if input.below(3) == 0 {
                    garble(&mut body, &mut input);
                }
                stage.send(&bytes::framed(&body), piece);
            }
            3 => {
                // It reads, or never does.
                let count = input.size(stage.owner.outgoing(HOSTILE).len() as u64 + 1);
                stage.owner.sent(HOSTILE, count);
            }
            4 => stage.clock.advance(Duration::from_secs(1)),
            _ => {
                let mut body = specimens.get(input.size(64)).cloned().unwrap_or_default();
                if let Some(id) = body.first_chunk_mut() {
                    // Numbers of its own, most of the time.
                    numbers += 1;
                    *id = numbers.to_le_bytes();
                }
                if input.below(2) == 0 {
                    garble(&mut body, &mut input);
                }
                if !bytes::lets_pushes_wait(&body) {
                    stage.send(&bytes::framed(&body), piece);
                }
            }
        }
    }
    stage.serves();
}

/// An owner whose answers are changed, come twice, or are of another kind.
pub(crate) fn answers(data: &[u8]) {
    let mut input = Bytes(data);
    let (mut stage, _) = Stage::new();
    let Some(group) = stage.group.clone() else { return };
    let mut calls: Vec<Called> = Vec::new();
    let mut number = 1;
    while !input.is_empty() {
        let called = match input.below(4) {
            0 | 1 => stage.honest.push(&vec![vec![1; 20]; 1 + input.size(3)], true),
            2 => stage.honest.receive(&group, 1 + input.below(3), Duration::ZERO),
            _ => {
                let loan = (input.below(9), input.below(1 << 40));
                stage.honest.settle_blindly(&group, loan)
            }
        };
        let Ok(called) = called else { return };
        calls.push(called);
        let said = stage.honest.said();
        stage.owner.received(HONEST, &said);
        stage.owner.work();
        let outgoing = stage.owner.outgoing(HONEST).to_vec();
        stage.owner.sent(HONEST, outgoing.len());
        let mut rest = &outgoing[..];
        while let Some(length) = rest.first_chunk().map(|length| u32::from_le_bytes(*length) as usize) {
            let mut body = rest[8..8 + length].to_vec();
            rest = &rest[8 + length..];
            for _ in 0..=input.below(2) {
                garble(&mut body, &mut input);
                if !stage.honest.hear(&bytes::framed(&body)).unwrap_or(false) {
                    stage.honest.disconnected();
                    stage.owner.went(HONEST);
                    stage.connect();
                    rest = &[];
                }
            }
        }
        if input.below(4) == 0 {
            let all = bytes::answers(number);
            let body = &all[input.size(all.len() as u64)];
            if !stage.honest.hear(&bytes::framed(body)).unwrap_or(false) {
                stage.honest.disconnected();
                stage.owner.went(HONEST);
                stage.connect();
            }
        }
        number += 1;
        calls.retain(|called| called.answer("work").is_none());
    }
}
