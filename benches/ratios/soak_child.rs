//! What does the process do that has the queue open for a minute of the soak?
//!
//! It compares what the queue has with the ledger, works until it is killed or told to close, and prints what it sees: a
//! sample each second, and notes. It stops at the first thing that is wrong.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backlog::{Consumer, Delivery, Durability, Message, MessageState, Options, Queue};

use crate::ledger::{self, ACKED, ACKING, Ledger, PUSHED, PUSHING, STICKING, STUCK, Stuck, stuck};
use crate::sample::Sample;

/// Bytes of a full-grown segment.
pub(crate) const SEGMENT: u64 = 4 << 20;
const YEAR: Duration = Duration::from_secs(300 * 86_400);
const MONTH: Duration = Duration::from_secs(40 * 86_400);
/// How long the timed loans last.
const LEASE: Duration = Duration::from_secs(60);
/// Messages that each consumer holds, to ack one of them.
const WINDOW: usize = 300;
/// Messages per second, of the one who pushes buffered and the one who pushes synced.
const BUFFERED: u64 = 6000;
const SYNCED: u64 = 1000;
/// So many wait at the most.
const WAITING: i64 = 150_000;

struct Work {
    folder: PathBuf,
    queue: Queue,
    ledger: Ledger,
    next: AtomicU64,
    stop: AtomicBool,
    drained: AtomicBool,
    pushed: AtomicU64,
    /// Messages that can be lent and are not settled.
    waiting: AtomicI64,
    live: AtomicI64,
    lent: Mutex<HashSet<u64>>,
    begun: Instant,
}

pub(crate) fn run(folder: &Path, drain: bool) {
    let ledger = Ledger::open(folder);
    let opening = Instant::now();
    let jobs = folder.join("jobs");
    let queue = Options::new(&jobs).segment_bytes(SEGMENT).open().unwrap();
    let _ = queue.consumer().unwrap();
    let opened = opening.elapsed();
    let recovery = queue.recovery();
    let is_whole =
        recovery.lost.is_empty() && recovery.damaged.is_empty() && recovery.refused_groups.is_empty();
    assert!(is_whole, "{recovery:?}");
    let known = ledger.all();
    let checking = Instant::now();
    let found = compare(&queue, &known);
    println!("note opened in {opened:.1?}, compared in {:.1?}: {found}", checking.elapsed());
    let left = known.iter().enumerate().filter(|(_, state)| state.0 != 0 && state.1 != ACKED);
    let left: Vec<u64> = left.map(|(number, _)| number as u64).collect();
    let waiting = left.iter().filter(|&&number| stuck(number).is_none()).count();
    let work = Work {
        folder: jobs,
        queue,
        ledger,
        next: AtomicU64::new(known.len() as u64),
        stop: AtomicBool::new(false),
        drained: AtomicBool::new(false),
        pushed: AtomicU64::new(known.iter().filter(|state| state.0 == PUSHED).count() as u64),
        waiting: AtomicI64::new(i64::try_from(waiting).unwrap()),
        live: AtomicI64::new(left.iter().map(|&number| ledger::weight(number) as i64).sum()),
        lent: Mutex::default(),
        begun: Instant::now(),
    };
    work.all(drain);
    if drain {
        let known = work.ledger.all();
        let lost = lost(&known);
        assert!(
            lost.is_empty(),
            "{} were pushed and never came: {:?}",
            lost.len(),
            &lost[..lost.len().min(9)]
        );
        println!("note at the end: {}", compare(&work.queue, &known));
    }
    work.queue.close().unwrap();
    if drain {
        let findings = backlog::verify(&work.folder, &mut |_| {}).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        println!("note verified");
    }
}

/// Lists what was pushed and has not come to its end.
fn lost(known: &[(u8, u8)]) -> Vec<usize> {
    let ended = |&number: &usize| known[number].0 != PUSHED || is_ended(number, known[number].1);
    (0..known.len()).filter(|number| !ended(number)).collect()
}

fn is_ended(number: usize, settled: u8) -> bool {
    match stuck(number as u64) {
        Some(Stuck::Delayed) => settled == 0,
        Some(_) => settled == STUCK,
        None => settled == ACKED,
    }
}

/// Holds what the queue has against what the ledger knows.
fn compare(queue: &Queue, known: &[(u8, u8)]) -> String {
    let stats = queue.stats();
    let group = &stats.groups[0];
    assert_eq!(group.dead, 0);
    let pending = group.ready + group.delayed + group.on_loan;
    let count = |of: &dyn Fn(&(u8, u8)) -> bool| known.iter().filter(|state| of(state)).count() as u64;
    let least = count(&|state| state.0 == PUSHED && state.1 != ACKING && state.1 != ACKED);
    let most = count(&|state| state.0 != 0 && state.1 != ACKED);
    assert!((least..=most).contains(&pending), "{least} to {most} are not done, the queue has {pending}");
    let group = queue.group("default").unwrap();
    let seen = |state| -> HashSet<u64> {
        let numbers = group.browse(state).map(|peek| ledger::number(peek.unwrap().payload()));
        let all: Vec<u64> = numbers.collect();
        let set: HashSet<u64> = all.iter().copied().collect();
        assert_eq!(set.len(), all.len(), "some are there twice");
        set
    };
    let (delayed, lent) = (seen(MessageState::Delayed), seen(MessageState::OnLoan));
    let mut there = 0;
    for (number, state) in known.iter().enumerate().filter(|(_, state)| state.0 == PUSHED) {
        let number = number as u64;
        let is_there = match stuck(number) {
            Some(Stuck::Delayed) => delayed.contains(&number),
            Some(Stuck::Nacked) if state.1 == STUCK => delayed.contains(&number),
            Some(Stuck::Timed) if state.1 == STUCK => lent.contains(&number) || delayed.contains(&number),
            _ => continue,
        };
        assert!(is_there, "{number} was stuck, and is gone: {state:?}");
        there += 1;
    }
    let done = count(&|state| state.1 == ACKED);
    assert!(
        delayed.union(&lent).all(|&number| known[usize::try_from(number).unwrap()].1 != ACKED),
        "some are done, and there"
    );
    format!("{done} done, {pending} not ({least}..={most}), of these {there} stuck, all there")
}

impl Work {
    fn all(&self, drain: bool) {
        std::thread::scope(|scope| {
            scope.spawn(|| self.watch());
            scope.spawn(|| self.consume(&self.queue.consumer().unwrap(), 1));
            scope.spawn(|| self.consume(&self.queue.consumer().unwrap().with_lease(LEASE), 2));
            if drain {
                self.drain();
                return;
            }
            scope.spawn(|| self.push(Durability::Buffered, BUFFERED, 3));
            scope.spawn(|| self.push(Durability::Synced, SYNCED, 4));
            // Told to close, or whoever started this is gone.
            let _ = std::io::stdin().read_line(&mut String::new()).unwrap();
            self.stop.store(true, Ordering::Relaxed);
        });
    }

    /// Waits until all is done that can be, and the queue has come to rest.
    fn drain(&self) {
        let group = self.queue.group("default").unwrap();
        let mut quiet = 0;
        while quiet < 15 {
            std::thread::sleep(Duration::from_secs(1));
            let stats = group.stats();
            // A loan that was open at a kill runs out first.
            let is_done = stats.ready == 0 && lost(&self.ledger.all()).is_empty();
            quiet = if is_done { quiet + 1 } else { 0 };
            self.drained.store(quiet > 0, Ordering::Relaxed);
            assert!(self.begun.elapsed() < Duration::from_secs(300), "it does not come to rest: {stats:?}");
        }
        self.stop.store(true, Ordering::Relaxed);
    }

    fn watch(&self) {
        let mut next = Duration::ZERO;
        while !self.stops() {
            std::thread::sleep(Duration::from_millis(20));
            if self.begun.elapsed() < next {
                continue;
            }
            next += Duration::from_secs(1);
            let live = u64::try_from(self.live.load(Ordering::Relaxed)).unwrap_or(0);
            let pushed = self.pushed.load(Ordering::Relaxed);
            println!("sample {}", Sample::take(&self.folder, 0.0, pushed, live).show());
        }
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn push(&self, durability: Durability, rate: u64, seed: u64) {
        let queue = self.queue.with_durability(durability);
        let mut random = Random(seed + self.next.load(Ordering::Relaxed));
        let mut count = 0;
        while !self.stops() {
            let early = count as f64 > rate as f64 * self.begun.elapsed().as_secs_f64();
            if early || self.waiting.load(Ordering::Relaxed) > WAITING {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            let batch = if random.below(3) == 0 { 1 } else { 1 + random.below(40) };
            let first = self.next.fetch_add(batch, Ordering::Relaxed);
            let numbers = first..first + batch;
            let length = usize::try_from(batch).unwrap();
            self.ledger.pushed(first, length, PUSHING);
            let weight: u64 = numbers.clone().map(ledger::weight).sum();
            let waiting = numbers.clone().filter(|&number| stuck(number).is_none()).count();
            self.live.fetch_add(weight.cast_signed(), Ordering::Relaxed);
            self.waiting.fetch_add(i64::try_from(waiting).unwrap(), Ordering::Relaxed);
            let payloads: Vec<Vec<u8>> = numbers.clone().map(ledger::payload).collect();
            let messages = payloads.iter().zip(numbers).map(|(payload, number)| {
                let message = Message::from(payload);
                if stuck(number) == Some(Stuck::Delayed) { message.delay(YEAR) } else { message }
            });
            queue.push_batch(messages).unwrap();
            self.ledger.pushed(first, length, PUSHED);
            self.pushed.fetch_add(batch, Ordering::Relaxed);
            count += batch;
        }
    }

    fn consume(&self, consumer: &Consumer, seed: u64) {
        let mut random = Random(seed + self.next.load(Ordering::Relaxed));
        let mut held: Vec<Delivery> = Vec::new();
        while !self.stops() {
            // It rests now and then, so that much waits, and then little.
            let second = self.begun.elapsed().as_secs() % 60;
            if (20..28).contains(&second) && !self.drained.load(Ordering::Relaxed) {
                for job in held.drain(..) {
                    self.settle(job);
                }
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            let jobs = consumer.recv_batch(30, Duration::from_millis(100)).unwrap();
            let is_idle = jobs.is_empty();
            for job in jobs {
                let number = ledger::number(job.payload());
                assert!(self.lent.lock().unwrap().insert(number), "{number} is on loan twice");
                let state = self.ledger.state(number);
                assert!(![ACKED, STUCK].contains(&state), "{number} comes again, and was settled: {state}");
                assert_ne!(stuck(number), Some(Stuck::Delayed), "{number} came before its time");
                held.push(job);
            }
            while held.len() > WINDOW || is_idle && !held.is_empty() {
                let at = usize::try_from(random.below(held.len() as u64)).unwrap();
                self.settle(held.swap_remove(at));
            }
        }
        for job in held {
            // The other one may have it at once.
            self.lent.lock().unwrap().remove(&ledger::number(job.payload()));
            job.release().unwrap();
        }
    }

    fn settle(&self, job: Delivery) {
        let number = ledger::number(job.payload());
        let kind = stuck(number);
        self.ledger.settled(number, if kind.is_none() { ACKING } else { STICKING });
        match kind {
            None => {
                job.ack().unwrap();
                self.live.fetch_sub(ledger::weight(number).cast_signed(), Ordering::Relaxed);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            // One that ends with its holder would come back.
            Some(Stuck::Timed) if job.lease().is_some() => {
                job.extend(MONTH).unwrap();
                let _receipt = job.leave();
            }
            Some(_) => job.nack_after(YEAR, "stuck").unwrap(),
        }
        self.ledger.settled(number, if kind.is_none() { ACKED } else { STUCK });
        assert!(self.lent.lock().unwrap().remove(&number));
    }
}

/// Numbers in no order, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
