//! What is done with a queue while its device is recorded, failing or full: each call noted in a
//! ledger?

use std::path::Path;
use std::time::Duration;

use backlog::{Durability, Error, GroupOptions, Options, Queue};

use crate::dice::Dice;
use crate::ledger::{Ledger, number, payload};

/// A group with synced acks, and one with buffered ones.
pub(crate) const STRICT: &str = "strict";
pub(crate) const LOOSE: &str = "loose";

/// A queue, its ledger, and what tells the position in a record.
pub(crate) struct Workload<'a> {
    pub(crate) ledger: Ledger,
    pub(crate) queue: Queue,
    options: Options,
    dice: Dice,
    position: Box<dyn Fn() -> u64 + 'a>,
    extra: usize,
    /// What calls returned that failed.
    pub(crate) errors: Vec<Error>,
}

/// Small segments: each kind of step comes often. No mappings: a medium error below one ends the
/// process (P9), and this one has to go on.
pub(crate) fn options(folder: &Path) -> Options {
    let options = Options::new(folder).segment_bytes(64 << 10).mappings(false);
    // The ledger looks for all that was ever pushed.
    options.retain_bytes(1 << 40)
}

impl<'a> Workload<'a> {
    /// Creates a queue with two groups.
    pub(crate) fn new(folder: &Path, seed: u64, position: impl Fn() -> u64 + 'a) -> Self {
        Self::with(options(folder), seed, position)
    }

    pub(crate) fn with(options: Options, seed: u64, position: impl Fn() -> u64 + 'a) -> Self {
        let queue = options.clone().open().unwrap();
        let mut made = Self {
            ledger: Ledger::default(),
            queue,
            options,
            dice: Dice(seed),
            position: Box::new(position),
            extra: 0,
            errors: Vec::new(),
        };
        made.make(STRICT);
        made.make(LOOSE);
        made
    }

    /// Returns what is left when it has done enough.
    pub(crate) fn end(self) -> (Ledger, Queue) {
        (self.ledger, self.queue)
    }

    fn now(&self) -> u64 {
        (self.position)()
    }

    fn make(&mut self, group: &str) {
        let synced = if group == LOOSE { Durability::Buffered } else { Durability::Synced };
        let made = self.queue.create_group(group, GroupOptions::new().ack_durability(synced)).map(drop);
        if self.noted(made).is_some() {
            let whole = group == STRICT || group == LOOSE;
            self.ledger.made(group, whole, self.now());
        }
    }

    fn noted<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        if let Err(Error::Poisoned { .. }) = &result {
            self.ledger.buffered_is_in_doubt();
        }
        result.map_err(|error| self.errors.push(error)).ok()
    }

    /// Does one thing or another.
    pub(crate) fn step(&mut self) {
        match self.dice.below(40) {
            0..16 => self.push(1, Durability::Synced),
            16..22 => self.push(1, Durability::Buffered),
            22..25 => self.push(7, Durability::Synced),
            25..32 => self.settle(STRICT),
            32..36 => self.settle(LOOSE),
            36 => self.sync(),
            37 => self.come_and_go(),
            38 => {
                let done = self.queue.run_duties();
                self.noted(done);
            }
            _ => self.reopen(),
        }
    }

    /// Pushes messages as one batch.
    pub(crate) fn push(&mut self, count: usize, durability: Durability) {
        let lengths = [20, 300, 3000, 9000];
        let ids = self.ledger.begin(count, self.now());
        let payloads: Vec<_> = ids.clone().map(|id| payload(id, lengths[self.dice.size(4)])).collect();
        let pushed = self.queue.with_durability(durability).push_batch(&payloads);
        let pushed = pushed.map(|offsets| offsets.map(|offset| offset.get()).collect());
        let now = self.now();
        self.ledger.pushed(ids, &pushed, durability == Durability::Synced, now);
        self.noted(pushed);
    }

    /// Receives some messages of a group and acks most of them.
    pub(crate) fn settle(&mut self, group: &str) {
        let found = self.queue.group(group);
        let Some(consumer) = self.noted(found).map(|group| group.consumer()) else { return };
        let most = 1 + self.dice.size(6);
        let received = consumer.recv_batch(most, Duration::ZERO);
        for job in self.noted(received).unwrap_or_default() {
            let id = number(job.payload()).expect("a payload that was pushed");
            if self.dice.below(8) == 0 {
                let released = job.release();
                self.noted(released);
                continue;
            }
            self.ledger.acking(group, id, self.now());
            let acked = job.ack();
            if self.noted(acked).is_some() {
                self.ledger.acked(group, id, group != LOOSE, self.now());
            }
        }
    }

    fn sync(&mut self) {
        let synced = self.queue.sync();
        if self.noted(synced).is_some() {
            self.ledger.all_is_safe(self.now());
        }
    }

    /// Makes a group, or removes the one that was made.
    fn come_and_go(&mut self) {
        let name = format!("extra-{}", self.extra / 2);
        if self.extra.is_multiple_of(2) {
            self.make(&name);
        } else if self.queue.groups().contains(&name) {
            self.ledger.removing(&name, self.now());
            let removed = self.queue.remove_group(&name);
            self.noted(removed);
        }
        self.extra += 1;
    }

    /// Closes the queue and opens it again.
    pub(crate) fn reopen(&mut self) {
        let closed = self.queue.close();
        if self.noted(closed).is_some() {
            self.ledger.all_is_safe(self.now());
        }
        let opened = self.options.clone().open();
        if let Some(queue) = self.noted(opened) {
            self.queue = queue;
        }
    }
}
