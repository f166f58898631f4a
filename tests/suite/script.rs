//! How is a queue worked with, step by step, so that each answer is noted in the ledger?

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backlog::testing::{Fault, ManualClock, SimDisk};
use backlog::{Delivery, Durability, Error, GroupOptions, Message, Options, Queue, Start};

use crate::ledger::{End, Found, Ledger, Verdict, payload, special};
use crate::step::Step;

/// On which disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) segment_bytes: u64,
    pub(crate) no_mappings: bool,
    pub(crate) ignore_dir_syncs: bool,
    /// Messages have priorities and ordering keys.
    pub(crate) special: bool,
}

/// What goes wrong, counted over all the disks of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    None,
    StopAfter(u64),
    Fail(u64, Fault),
    FailRead(u64, Fault),
}

/// A run of steps.
pub(crate) struct Run {
    setup: Setup,
    trouble: Trouble,
    pub(crate) disk: SimDisk,
    pub(crate) clock: ManualClock,
    queue: Option<Queue>,
    held: BTreeMap<&'static str, VecDeque<(usize, Delivery)>>,
    pub(crate) ledger: Ledger,
    /// Operations and reads of the disks before this one.
    before: (u64, u64),
    spying: Arc<AtomicBool>,
    spied: Arc<Mutex<Vec<Delivery>>>,
    /// What the opening after a kill will find.
    left: Option<Found>,
    /// Whether a call has failed.
    pub(crate) failed: bool,
    /// What ends at the operations so far would leave, if the disk keeps that.
    pub(crate) ends: Vec<Left>,
    /// What the last call that failed said.
    pub(crate) error: Option<Error>,
}

/// What an end would have left, and what was known then.
pub(crate) struct Left {
    pub(crate) op: u64,
    /// `None`: killed.
    pub(crate) seed: Option<u64>,
    pub(crate) disk: SimDisk,
    pub(crate) ledger: Arc<Ledger>,
}

/// The group whose consumer looks on while pushes are synced.
pub(crate) const SPY: &str = "spy";

impl Run {
    pub(crate) fn new(setup: Setup, trouble: Trouble) -> Self {
        let disk = SimDisk::new(1);
        disk.no_mappings(setup.no_mappings);
        disk.ignore_dir_syncs(setup.ignore_dir_syncs);
        let mut ledger = Ledger::default();
        ledger.special = setup.special;
        Self::resumed(setup, trouble, disk, ledger)
    }

    /// Goes on with a disk that an earlier run has left, and what is known of it.
    pub(crate) fn resumed(setup: Setup, trouble: Trouble, disk: SimDisk, ledger: Ledger) -> Self {
        let run = Self {
            setup,
            trouble,
            disk,
            clock: ManualClock::new(1_000_000),
            queue: None,
            held: BTreeMap::new(),
            ledger,
            before: (0, 0),
            spying: Arc::default(),
            spied: Arc::default(),
            left: None,
            failed: false,
            ends: Vec::new(),
            error: None,
        };
        run.arm();
        run
    }

    pub(crate) fn options(&self) -> Options {
        Options::new("simulated").segment_bytes(self.setup.segment_bytes)
    }

    pub(crate) fn ops(&self) -> u64 {
        self.before.0 + self.disk.ops()
    }

    pub(crate) fn reads(&self) -> u64 {
        self.before.1 + self.disk.reads()
    }

    pub(crate) fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }

    fn arm(&self) {
        match self.trouble {
            Trouble::None => {}
            Trouble::StopAfter(op) => self.disk.stop_after(op.saturating_sub(self.before.0)),
            Trouble::Fail(op, fault) if op > self.before.0 => self.disk.fail(op - self.before.0, fault),
            Trouble::FailRead(read, fault) if read > self.before.1 => {
                self.disk.fail_reads(read - self.before.1, fault);
            }
            Trouble::Fail(..) | Trouble::FailRead(..) => {}
        }
    }

    /// Tells whether the disk has stopped.
    pub(crate) fn stopped(&self) -> bool {
        matches!(self.trouble, Trouble::StopAfter(op) if self.ops() >= op)
    }

    /// Does one step; an error of the queue is noted, a broken promise is returned.
    pub(crate) fn step(&mut self, step: Step) -> Verdict {
        match step {
            Step::Kill => return self.end_process(End::Killed, 0),
            Step::PowerCut { seed } => return self.end_process(End::PowerCut, seed),
            Step::Advance { seconds } => {
                self.clock.advance(Duration::from_secs(seconds));
                return Ok(());
            }
            _ => {}
        }
        if self.queue.is_none() {
            self.open();
        }
        let Some(queue) = self.queue.clone() else { return Ok(()) };
        match step {
            Step::Push { synced, length } => {
                let id = self.ledger.begin(1, synced)[0];
                self.spying.store(true, Ordering::Release);
                let pushed = at(&queue, synced).push(self.message(id, length));
                self.spying.store(false, Ordering::Release);
                self.note(&pushed);
                self.ledger.pushed(&[id], &pushed.map(|offset| vec![offset.get()]))?;
                self.take_spied()?;
            }
            Step::Batch { synced, count, length } => {
                let ids = self.ledger.begin(count, synced);
                let messages: Vec<_> = ids.iter().map(|&id| self.message(id, length)).collect();
                let pushed = at(&queue, synced).push_batch(messages);
                self.note(&pushed);
                let pushed = pushed.map(|offsets| offsets.map(backlog::Offset::get).collect());
                self.ledger.pushed(&ids, &pushed)?;
            }
            Step::Deferred { count, length } => {
                let mut tickets = Vec::new();
                for _ in 0..count {
                    let id = self.ledger.begin(1, true)[0];
                    tickets.push((id, queue.push_deferred(self.message(id, length))));
                }
                for (id, ticket) in tickets {
                    let pushed = ticket.and_then(backlog::Ticket::wait);
                    self.note(&pushed);
                    self.ledger.pushed(&[id], &pushed.map(|offset| vec![offset.get()]))?;
                }
            }
            Step::Receive { group, count } => self.receive(&queue, group, count)?,
            Step::Ack { group, count } => {
                for _ in 0..count {
                    let Some((id, job)) = self.oldest(group) else { break };
                    let acked = job.ack();
                    self.collect(|ledger| ledger.settled(group, id, false));
                    self.note(&acked);
                    self.ledger.settled(group, id, acked.is_ok() && !self.stopped());
                }
            }
            Step::AckAll { group } => self.ack_all(&queue, group),
            Step::AckWith { group, count } => self.ack_with(group, count)?,
            Step::Seek { group } => {
                self.drop_all(group);
                let sought = queue.group(group).and_then(|group| group.seek(Start::Beginning));
                self.collect(|ledger| ledger.sought(group, Err(&Error::Timeout { owner: None })));
                self.note(&sought);
                self.ledger.sought(group, sought.as_ref().map(|_| ()));
            }
            Step::Nack { group } => {
                let Some((id, job)) = self.oldest(group) else { return Ok(()) };
                self.ledger.returned(group, id);
                let nacked = job.nack("try again");
                self.note(&nacked);
            }
            Step::Fill { group, times } => {
                for _ in 0..times {
                    self.receive(&queue, group, 1)?;
                    let Some((id, job)) = self.oldest(group) else { return Ok(()) };
                    self.ledger.returned(group, id);
                    let nacked = job.nack_after(Duration::ZERO, "word ".repeat(200));
                    self.note(&nacked);
                }
            }
            Step::Reject { group } => {
                let Some((id, job)) = self.oldest(group) else { return Ok(()) };
                let rejected = job.reject("never again");
                self.collect(|ledger| ledger.settled(group, id, false));
                self.note(&rejected);
                self.ledger.settled(group, id, rejected.is_ok() && !self.stopped());
            }
            Step::Release { group } => {
                let Some((id, job)) = self.oldest(group) else { return Ok(()) };
                self.ledger.returned(group, id);
                let released = job.release();
                self.note(&released);
            }
            Step::Drop { group } => {
                self.drop_all(group);
            }
            Step::Create { group, synced } => {
                let level = if synced { Durability::Synced } else { Durability::Buffered };
                let new = GroupOptions::new().start(Start::Beginning).ack_durability(level);
                let made = queue.create_group(group, new.max_losses(255).max_failures(255));
                self.collect(|ledger| ledger.created(group, synced, Err(&Error::Timeout { owner: None })));
                self.note(&made);
                self.ledger.created(group, synced, made.as_ref().map(|_| ()));
                if group == SPY && made.is_ok() {
                    self.spy(&queue);
                }
            }
            Step::Remove { group } => {
                self.drop_all(group);
                let removed = queue.remove_group(group);
                self.collect(|ledger| ledger.removed(group, Err(&Error::Timeout { owner: None })));
                self.note(&removed);
                self.ledger.removed(group, removed.as_ref().copied());
            }
            Step::Sync => {
                let synced = queue.sync();
                self.note(&synced);
                if synced.is_ok() {
                    self.ledger.all_is_durable();
                }
            }
            Step::Duties => {
                let done = queue.run_duties();
                self.note(&done);
            }
            Step::Reopen => {
                drop(queue);
                self.close();
                self.open();
            }
            Step::Advance { .. } | Step::Kill | Step::PowerCut { .. } => {}
        }
        Ok(())
    }

    fn drop_all(&mut self, group: &str) {
        for (id, job) in self.held.remove(group).unwrap_or_default() {
            self.ledger.returned(group, id);
            drop(job);
        }
    }

    fn message(&self, id: usize, length: usize) -> Message<'static> {
        let message = Message::from(payload(id, length));
        match special(id) {
            _ if !self.setup.special => message,
            (priority, None) => message.priority(priority),
            (priority, Some(key)) => message.priority(priority).ordering_key(vec![key]),
        }
    }

    fn receive(&mut self, queue: &Queue, group: &'static str, count: usize) -> Verdict {
        // What comes of its messages is pushed so, too.
        let queue = at(queue, has_synced_outputs(group));
        let received =
            queue.group(group).and_then(|found| found.consumer().recv_batch(count, Duration::ZERO));
        self.note(&received);
        for job in received.unwrap_or_default() {
            let id = self.ledger.lent(group, job.offset().get(), job.payload())?;
            self.held.entry(group).or_default().push_back((id, job));
        }
        Ok(())
    }

    fn ack_all(&mut self, queue: &Queue, group: &'static str) {
        let held = self.held.remove(group).unwrap_or_default();
        let (mut acked, mut kept) = (Vec::new(), VecDeque::new());
        for (index, loan) in held.into_iter().enumerate() {
            if index % 2 == 0 { acked.push(loan) } else { kept.push_back(loan) }
        }
        self.held.insert(group, kept);
        let (ids, jobs): (Vec<usize>, Vec<Delivery>) = acked.into_iter().unzip();
        let answers = queue.ack_all(jobs);
        self.collect(|ledger| ids.iter().for_each(|&id| ledger.settled(group, id, false)));
        self.note(&answers);
        for (index, id) in ids.into_iter().enumerate() {
            // A store into a mapping says nothing of a disk that has stopped.
            let ok = !self.stopped() && answers.as_ref().is_ok_and(|answers| answers[index].is_ok());
            self.ledger.settled(group, id, ok);
        }
    }

    fn ack_with(&mut self, group: &'static str, count: usize) -> Verdict {
        let Some((input, job)) = self.oldest(group) else { return Ok(()) };
        let outputs = self.ledger.begin(count, has_synced_outputs(group));
        let outputs_of: Vec<_> = outputs.iter().map(|&id| self.message(id, 150)).collect();
        let acked = job.ack_with(outputs_of);
        self.collect(|ledger| ledger.chained(group, input, &outputs, Err(&Error::Timeout { owner: None })));
        self.note(&acked);
        let told = acked.as_ref().map(|_| ());
        // A disk that has stopped stores nothing of it.
        let told = if self.stopped() {
            Err(acked.as_ref().err().unwrap_or(&Error::Timeout { owner: None }))
        } else {
            told
        };
        self.ledger.chained(group, input, &outputs, told);
        self.ledger.pushed(&outputs, &acked.map(|offsets| offsets.map(backlog::Offset::get).collect()))
    }

    /// Takes what the disk has kept of the ends during a call; before its answer is noted.
    /// `in_doubt` notes what the call may have done by then.
    fn collect(&mut self, in_doubt: impl FnOnce(&mut Ledger)) {
        let ends = self.disk.take_ends();
        if ends.is_empty() {
            return;
        }
        let mut ledger = self.ledger.clone();
        in_doubt(&mut ledger);
        let ledger = Arc::new(ledger);
        let before = self.before.0;
        self.ends.extend(ends.into_iter().map(|(op, seed, disk)| {
            let ledger = ledger.clone();
            Left { op: before + op, seed, disk, ledger }
        }));
    }

    fn note<T>(&mut self, result: &Result<T, Error>) {
        self.collect(|_| {});
        if std::env::var("BACKLOG_STATE").is_ok()
            && let Err(error) = result
        {
            eprintln!("operation {}: {error}", self.ops());
        }
        if let Err(error) = result {
            self.error = Some(error.clone());
        }
        self.ledger.deaf = self.stopped();
        let asked_wrongly =
            |error: &Error| matches!(error, Error::GroupExists { .. } | Error::NoSuchGroup { .. });
        self.failed |= result.as_ref().is_err_and(|error| !asked_wrongly(error));
    }

    fn oldest(&mut self, group: &str) -> Option<(usize, Delivery)> {
        self.held.get_mut(group)?.pop_front()
    }

    /// Looks on while pushes are synced, as a consumer on another thread may.
    fn spy(&self, queue: &Queue) {
        let Ok(group) = queue.group(SPY) else { return };
        let (consumer, spying, spied) = (group.consumer(), self.spying.clone(), self.spied.clone());
        self.disk.before_syncs(Some(Arc::new(move || {
            // Not while it receives itself.
            if spying.swap(false, Ordering::AcqRel) {
                if let Ok(Some(job)) = consumer.try_recv() {
                    spied.lock().unwrap().push(job);
                }
                spying.store(true, Ordering::Release);
            }
        })));
    }

    fn take_spied(&mut self) -> Verdict {
        let spied = std::mem::take(&mut *self.spied.lock().unwrap());
        for job in spied {
            let id = self.ledger.lent(SPY, job.offset().get(), job.payload())?;
            self.ledger.settled(SPY, id, job.ack().is_ok());
        }
        Ok(())
    }

    /// Opens the queue; after a failure, once more: an opening can be done again.
    fn open(&mut self) {
        let mut left = self.left.take();
        for _ in 0..2 {
            let options = self.options().sim_disk(&self.disk).manual_clock(&self.clock).threads(false);
            match options.open() {
                Ok(queue) => {
                    self.collect(|_| {});
                    self.spy(&queue);
                    self.queue = Some(queue);
                    if let Some(found) = left {
                        // P6: a killed process may have left it in the cache; now it is durable.
                        self.ledger.resolve(&found);
                    } else if self.failed {
                        // What a failed sync gave up is gone, though it was told as buffered.
                        self.ledger.buffered_is_in_doubt();
                    } else {
                        self.ledger.all_is_durable();
                    }
                    return;
                }
                failed @ Err(_) => {
                    self.note(&failed);
                    // What it has not synced may be lost by that failure.
                    left = None;
                }
            }
        }
    }

    /// Closes the queue and notes how that went.
    pub(crate) fn close(&mut self) {
        self.disk.before_syncs(None);
        if let Some(queue) = self.queue.take() {
            let closed = queue.close();
            self.note(&closed);
            if closed.is_ok() {
                self.ledger.all_is_durable();
            }
        }
        self.held.clear();
        self.ledger.process_ended();
    }

    /// Ends the process without a word, and goes on with what its end has left; checks a copy.
    fn end_process(&mut self, end: End, seed: u64) -> Verdict {
        if self.stopped() {
            return Ok(());
        }
        let next = match end {
            End::Killed => self.disk.kill(),
            End::PowerCut => {
                let next = self.disk.crash(seed);
                let _ = self.disk.kill();
                next
            }
        };
        self.before = (self.ops(), self.reads());
        self.disk.before_syncs(None);
        self.queue = None;
        self.held.clear();
        if self.failed {
            self.ledger.buffered_is_in_doubt();
        }
        let found = self.ledger.check(&next.crash(1), &self.options(), end)?;
        match end {
            // What is only in the cache yet becomes durable with the next opening.
            End::Killed => {
                self.ledger.process_ended();
                self.left = Some(found);
            }
            End::PowerCut => {
                self.ledger.resolve(&found);
                self.left = None;
            }
        }
        self.disk = next;
        self.arm();
        Ok(())
    }
}

fn at(queue: &Queue, synced: bool) -> Queue {
    queue.with_durability(if synced { Durability::Synced } else { Durability::Buffered })
}

/// Tells whether what comes of a group's messages is pushed synced. Of one of each kind it is, and of
/// one it is not.
fn has_synced_outputs(group: &str) -> bool {
    !["buffered", "mixed"].contains(&group)
}
