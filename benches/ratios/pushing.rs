//! What does a push cost, beyond the write and the sync that it cannot do without?

use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backlog::{Durability, Queue, Ticket};

use crate::raw::Raw;
use crate::{PAYLOAD, Plan, Spread};

const SLICE: Duration = Duration::from_millis(25);
const THREADS: usize = 16;
const TICKETS: usize = 16;
const BATCH: usize = 100;

struct Workload {
    name: &'static str,
    goal: &'static str,
    ours: fn(&Queue, Instant) -> u64,
    raw: fn(&mut Raw, Instant) -> u64,
}

const WORKLOADS: [Workload; 7] = [
    Workload { name: "synced", goal: "0.9", ours: synced, raw: raw_one },
    Workload { name: "threads16", goal: "0.4", ours: threads, raw: raw_sixteen },
    Workload { name: "tickets16", goal: "0.8", ours: tickets, raw: raw_sixteen },
    Workload { name: "window16", goal: "", ours: window, raw: raw_sixteen },
    Workload { name: "batch100", goal: "", ours: batch, raw: raw_hundred },
    Workload { name: "buffered", goal: "", ours: buffered, raw: raw_unsynced },
    Workload { name: "buffered-batch100", goal: "", ours: buffered_batch, raw: raw_hundred_unsynced },
];

pub(crate) fn run(plan: &Plan) {
    if !WORKLOADS.iter().any(|workload| plan.wants(workload.name)) {
        return;
    }
    println!("{PAYLOAD} bytes each, {} pairs of slices of {} ms", plan.pairs(), SLICE.as_millis());
    println!(
        "{:<18} {:>5}  {:<22} {:>12} {:>12} {:>12} {:>12}",
        "push", "goal", "ratio (min..max)", "ours/s", "raw/s", "ours ns", "raw ns"
    );
    let mut raw = Raw::new(&plan.folder);
    for workload in WORKLOADS.iter().filter(|workload| plan.wants(workload.name)) {
        compare(plan, workload, &mut raw);
    }
}

fn compare(plan: &Plan, workload: &Workload, raw: &mut Raw) {
    let folder = plan.folder.join(workload.name);
    let queue = Queue::open(&folder).unwrap();
    let (mut ratios, mut mine, mut others) = (Vec::new(), Vec::new(), Vec::new());
    // The first pair is not counted: caches, clocks, the first segments.
    for pair in 0..=plan.pairs() {
        let (ours, theirs);
        if pair % 2 == 0 {
            ours = rate(|until| (workload.ours)(&queue, until));
            theirs = rate(|until| (workload.raw)(raw, until));
        } else {
            theirs = rate(|until| (workload.raw)(raw, until));
            ours = rate(|until| (workload.ours)(&queue, until));
        }
        if pair > 0 {
            ratios.push(ours / theirs);
            mine.push(ours);
            others.push(theirs);
        }
        // What a slice left unsynced is not in the way of the next.
        raw.sync();
        queue.sync().unwrap();
    }
    queue.close().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let (mine, others) = (Spread::of(mine).median, Spread::of(others).median);
    println!(
        "{:<18} {:>5}  {:<22} {mine:>12.0} {others:>12.0} {:>12.0} {:>12.0}",
        workload.name,
        workload.goal,
        Spread::of(ratios).show(),
        1e9 / mine,
        1e9 / others,
    );
}

/// Returns messages per second.
fn rate(work: impl FnOnce(Instant) -> u64) -> f64 {
    let start = Instant::now();
    let count = work(start + SLICE);
    count as f64 / start.elapsed().as_secs_f64()
}

/// Repeats until the time is over; returns how many messages that were.
fn repeat(until: Instant, each: u64, mut step: impl FnMut()) -> u64 {
    let mut count = 0;
    while Instant::now() < until {
        step();
        count += each;
    }
    count
}

fn synced(queue: &Queue, until: Instant) -> u64 {
    repeat(until, 1, || {
        queue.push(&[7; PAYLOAD][..]).unwrap();
    })
}

fn raw_one(raw: &mut Raw, until: Instant) -> u64 {
    repeat(until, 1, || {
        raw.one(&[7; PAYLOAD]);
        raw.sync();
    })
}

fn threads(queue: &Queue, until: Instant) -> u64 {
    let count = AtomicU64::new(0);
    // The threads are there before the slice begins to be of use: they start together.
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                count.fetch_add(synced(queue, until), Ordering::Relaxed);
            });
        }
    });
    count.into_inner()
}

fn raw_sixteen(raw: &mut Raw, until: Instant) -> u64 {
    repeat(until, 16, || {
        raw.many(&[7; PAYLOAD], 16);
        raw.sync();
    })
}

fn tickets(queue: &Queue, until: Instant) -> u64 {
    let mut tickets: Vec<Ticket> = Vec::new();
    repeat(until, TICKETS as u64, || {
        for _ in 0..TICKETS {
            tickets.push(queue.push_deferred(&[7; PAYLOAD][..]).unwrap());
        }
        for ticket in tickets.drain(..) {
            ticket.wait().unwrap();
        }
    })
}

/// Always 16 outstanding: the oldest is waited for, another one is pushed.
fn window(queue: &Queue, until: Instant) -> u64 {
    let mut tickets: VecDeque<Ticket> = VecDeque::new();
    let count = repeat(until, 1, || {
        if tickets.len() == TICKETS
            && let Some(oldest) = tickets.pop_front()
        {
            oldest.wait().unwrap();
        }
        tickets.push_back(queue.push_deferred(&[7; PAYLOAD][..]).unwrap());
    });
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    count
}

fn batch(queue: &Queue, until: Instant) -> u64 {
    let payload = [7; PAYLOAD];
    repeat(until, BATCH as u64, || {
        queue.push_batch([&payload[..]; BATCH]).unwrap();
    })
}

fn raw_hundred(raw: &mut Raw, until: Instant) -> u64 {
    repeat(until, BATCH as u64, || {
        raw.many(&[7; PAYLOAD], BATCH);
        raw.sync();
    })
}

fn buffered(queue: &Queue, until: Instant) -> u64 {
    synced(&queue.with_durability(Durability::Buffered), until)
}

fn raw_unsynced(raw: &mut Raw, until: Instant) -> u64 {
    repeat(until, 1, || raw.one(&[7; PAYLOAD]))
}

fn buffered_batch(queue: &Queue, until: Instant) -> u64 {
    batch(&queue.with_durability(Durability::Buffered), until)
}

fn raw_hundred_unsynced(raw: &mut Raw, until: Instant) -> u64 {
    repeat(until, BATCH as u64, || raw.many(&[7; PAYLOAD], BATCH))
}
