//! Are the promises kept when several threads work on a queue that ends, or fails, at any moment?
//!
//! What comes when is up to the machine, so a seed here repeats the plan and not the schedule; for
//! schedules that can be repeated see `src/shuttled`. `BACKLOG_SEEDS=1000` tries more.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use backlog::testing::{Aim, Call, Fault, ManualClock, SimDisk};
use backlog::{Durability, Error, GroupOptions, Offset, Options, Queue, Start, Ticket};

use crate::crash::seeds;
use crate::dice::Dice;
use crate::harness::drain;
use crate::ledger::{End, Ledger, Verdict, payload};
use crate::watch;

const PRODUCERS: u64 = 4;
const CONSUMERS: usize = 2;
/// Pushes of each producer.
const PUSHES: u64 = 12;
const GROUP: &str = "workers";

/// What the threads share.
struct Stage {
    queue: Queue,
    disk: SimDisk,
    /// After so many operations the disk has stopped.
    stops: Option<u64>,
    ledger: Mutex<Ledger>,
    committer: bool,
    pushed: AtomicBool,
}

impl Stage {
    fn stopped(&self) -> bool {
        self.stops.is_some_and(|op| self.disk.ops() >= op)
    }

    /// Changes the ledger, which learns whether calls are still heard.
    fn note<R>(&self, change: impl FnOnce(&mut Ledger) -> R) -> R {
        let mut ledger = self.ledger.lock().unwrap();
        ledger.deaf = self.stopped();
        change(&mut ledger)
    }

    fn produce(&self, thread: u64, seed: u64) -> Verdict {
        let mut dice = Dice(seed * 100 + thread);
        for _ in 0..PUSHES {
            let synced = dice.below(4) > 0;
            let level = if synced { Durability::Synced } else { Durability::Buffered };
            let queue = self.queue.with_durability(level);
            let length = usize::try_from(dice.below(900)).unwrap_or(0);
            let count = if dice.below(3) == 0 { 3 } else { 1 };
            let ids = self.note(|ledger| ledger.begin(count, synced));
            let told = if count > 1 {
                let batch = queue.push_batch(ids.iter().map(|&id| payload(id, length)));
                batch.map(|offsets| offsets.map(Offset::get).collect())
            } else {
                let bytes = payload(ids[0], length);
                let told = match dice.below(3) {
                    0 => queue.push(bytes),
                    1 => queue.push_deferred(bytes).and_then(Ticket::wait),
                    // Nobody else may come to lead: only with a committer can one poll and do nothing.
                    _ if self.committer => queue.push_deferred(bytes).and_then(block_on),
                    _ => queue.push_deferred(bytes).and_then(|ticket| ticket.wait_timeout(Duration::MAX)),
                };
                told.map(|offset| vec![offset.get()])
            };
            self.note(|ledger| ledger.pushed(&ids, &told))?;
            if matches!(told, Err(Error::Closed | Error::Poisoned { .. })) {
                break;
            }
        }
        Ok(())
    }

    fn consume(&self, seed: u64) -> Verdict {
        let mut dice = Dice(seed);
        let Ok(group) = self.queue.group(GROUP) else { return Ok(()) };
        let consumer = group.consumer();
        loop {
            let over = self.pushed.load(Ordering::Acquire);
            let job = match consumer.try_recv() {
                Ok(Some(job)) => job,
                Ok(None) if over => return Ok(()),
                Ok(None) => {
                    thread::yield_now();
                    continue;
                }
                Err(Error::Closed | Error::Poisoned { .. }) => return Ok(()),
                Err(_) if over || self.stopped() => return Ok(()),
                Err(_) => continue,
            };
            let id = self.note(|ledger| ledger.lent(GROUP, job.offset().get(), job.payload()))?;
            if dice.below(8) == 0 {
                self.note(|ledger| ledger.returned(GROUP, id));
                let _ = job.release();
                continue;
            }
            if dice.below(4) == 0 {
                let outputs = self.note(|ledger| {
                    ledger.returned(GROUP, id);
                    ledger.begin(2, true)
                });
                let acked = job.ack_with(outputs.iter().map(|&id| payload(id, 40)));
                self.note(|ledger| {
                    let told = if ledger.deaf {
                        Err(&Error::Timeout { owner: None })
                    } else {
                        acked.as_ref().map(|_| ())
                    };
                    ledger.chained(GROUP, id, &outputs, told);
                    ledger.pushed(&outputs, &acked.clone().map(|offsets| offsets.map(Offset::get).collect()))
                })?;
                continue;
            }
            let acked = job.ack();
            let heard = acked.is_ok() && !self.stopped();
            self.note(|ledger| ledger.settled(GROUP, id, heard));
        }
    }

    /// Lets everybody work, until all is done or nothing can be.
    fn play(&self, seed: u64) -> Verdict {
        thread::scope(|scope| {
            let producers = (0..PRODUCERS).map(|thread| scope.spawn(move || self.produce(thread, seed)));
            let producers: Vec<_> = producers.collect();
            let consumers = (0..CONSUMERS).map(|_| scope.spawn(move || self.consume(seed)));
            let consumers: Vec<_> = consumers.collect();
            let produced: Vec<Verdict> = producers.into_iter().map(|thread| thread.join().unwrap()).collect();
            self.pushed.store(true, Ordering::Release);
            let consumed = consumers.into_iter().map(|thread| thread.join().unwrap());
            produced.into_iter().chain(consumed).collect()
        })
    }
}

/// Polls a ticket as an executor of one thread does.
fn block_on(ticket: Ticket) -> backlog::Result<Offset> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut ticket = std::pin::pin!(ticket);
    loop {
        match ticket.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(told) => return told,
            Poll::Pending => thread::park(),
        }
    }
}

fn options() -> Options {
    Options::new("simulated").segment_bytes(8 << 10)
}

/// A queue with one group, whose disk will stop, or fail once.
fn stage(seed: u64, dice: &mut Dice, fault: Option<Fault>) -> Stage {
    let disk = SimDisk::new(seed);
    disk.no_mappings(dice.below(2) == 0);
    let committer = dice.below(2) == 0;
    let queue = options().sim_disk(&disk).threads(committer).open().unwrap();
    let synced = dice.below(2) == 0;
    let level = if synced { Durability::Synced } else { Durability::Buffered };
    let group = GroupOptions::new().start(Start::Beginning).ack_durability(level);
    let made = queue.create_group(GROUP, group.max_failures(255).max_losses(255));
    let mut ledger = Ledger::default();
    ledger.many_threads = true;
    ledger.created(GROUP, synced, made.as_ref().map(|_| ()));
    let op = disk.ops() + 1 + dice.below(150);
    match fault {
        None => disk.stop_after(op),
        Some(fault) => disk.fail(op, fault),
    }
    let stops = fault.is_none().then_some(op);
    Stage { queue, disk, stops, ledger: Mutex::new(ledger), committer, pushed: AtomicBool::new(false) }
}

fn end(stage: Stage, end: End, seeds: &[u64]) -> Verdict {
    let left: Vec<SimDisk> = match end {
        End::PowerCut => seeds.iter().map(|&seed| stage.disk.crash(seed)).collect(),
        End::Killed => vec![stage.disk.kill()],
    };
    let mut ledger = stage.ledger.into_inner().unwrap();
    ledger.process_ended();
    drop(stage.queue);
    left.iter().try_for_each(|disk| ledger.check(disk, &options(), end).map(|_| ()))
}

fn all(usual: u64, play: impl Fn(u64) -> Verdict) {
    let begun = Instant::now();
    let count = seeds(usual);
    for seed in 0..count {
        let _watched = watch::over(format!("threads, seed {seed}"));
        play(seed).unwrap_or_else(|broken| panic!("threads, seed {seed}: {broken}"));
    }
    println!("{count} runs of {PRODUCERS} producers and {CONSUMERS} consumers in {:?}", begun.elapsed());
}

#[test]
fn many_threads_lose_and_repeat_nothing_when_all_stops() {
    all(300, |seed| {
        let mut dice = Dice(seed);
        let stage = stage(seed, &mut dice, None);
        stage.play(seed)?;
        let how = if seed % 3 == 2 { End::Killed } else { End::PowerCut };
        end(stage, how, &[0, 1, 3 + seed])
    });
}

#[test]
fn many_threads_lose_and_repeat_nothing_when_an_operation_fails() {
    let faults = [Fault::Io, Fault::Full, Fault::Short, Fault::SyncLost];
    all(300, |seed| {
        let mut dice = Dice(seed);
        let fault = faults[usize::try_from(dice.below(4)).unwrap_or(0)];
        let stage = stage(seed, &mut dice, Some(fault));
        stage.play(seed)?;
        let _ = stage.queue.close();
        end(stage, End::PowerCut, &[0, 1, 3 + seed])
    });
}

/// One ack's sync failed while others waited for the next: one of them was woken to lead, saw that the
/// group was poisoned, and left without a word. The others waited until the queue was closed.
#[test]
fn issue_4_every_ack_that_waits_behind_a_failed_sync_is_answered() {
    const ACKS: usize = 5;
    for round in 0..50 {
        let _watched = watch::over(format!("acks behind a failed sync, round {round}"));
        let disk = SimDisk::new(round);
        let queue = options().sim_disk(&disk).threads(false).open().unwrap();
        let group = GroupOptions::new().ack_durability(Durability::Synced);
        let consumer = queue.create_group(GROUP, group).unwrap().consumer();
        queue.push_batch((0..ACKS).map(|number| number.to_string())).unwrap();
        let jobs = consumer.recv_batch(ACKS, Duration::ZERO).unwrap();
        disk.break_syncs(true);
        let begun = Arc::new(AtomicUsize::new(0));
        let others = begun.clone();
        disk.before_syncs(Some(Arc::new(move || {
            // A sync that takes until the others have come, and some turns more.
            let waits = |turn: &u64| others.load(Ordering::Acquire) < ACKS || *turn < 200;
            (0..100_000).take_while(waits).for_each(|_| thread::yield_now());
        })));

        let acked = thread::scope(|scope| {
            let acks = jobs.into_iter().map(|job| {
                let begun = begun.clone();
                scope.spawn(move || {
                    begun.fetch_add(1, Ordering::AcqRel);
                    job.ack()
                })
            });
            let acks: Vec<_> = acks.collect();
            acks.into_iter().map(|ack| ack.join().unwrap()).collect::<Vec<_>>()
        });

        assert_eq!(acked.iter().filter(|acked| acked.is_ok()).count(), 0, "round {round}: {acked:?}");
    }
}

/// A device stalls, and somebody else's push is on its way to it.
#[test]
fn a_wait_for_a_ticket_ends_at_its_time_and_not_before() {
    let _watched = watch::over("a ticket behind a device that stalls");
    let (disk, clock) = (SimDisk::new(2), ManualClock::new(1_000));
    let queue = Options::new("jobs").sim_disk(&disk).manual_clock(&clock).threads(false).open().unwrap();
    queue.push("before").unwrap();
    let (stalled, device) = mpsc::channel();
    let (go_on, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let stall = move || {
        stalled.send(()).unwrap();
        told.lock().unwrap().recv().unwrap();
    };
    disk.before(Aim::at(Call::Sync, "log/"), Arc::new(stall));

    thread::scope(|scope| {
        scope.spawn(|| queue.push("on its way").unwrap());
        device.recv().unwrap();
        let ticket = queue.push_deferred("behind it").unwrap();
        assert!(matches!(ticket.wait_timeout(Duration::ZERO), Err(Error::Timeout { .. })));
        let ended = thread::scope(|scope| {
            let waits = scope.spawn(|| ticket.wait_timeout(Duration::from_secs(5)));
            while !waits.is_finished() {
                clock.advance(Duration::from_secs(1));
                thread::yield_now();
            }
            waits.join().unwrap()
        });
        assert!(matches!(ended, Err(Error::Timeout { .. })), "{ended:?}");

        // From here on no time passes.
        let stored = thread::scope(|scope| {
            let waits = scope.spawn(|| ticket.wait_timeout(Duration::from_secs(5)));
            go_on.send(()).unwrap();
            waits.join().unwrap()
        });
        stored.unwrap();
    });
    assert_eq!(drain(&queue.consumer().unwrap()), ["before", "on its way", "behind it"]);
}
