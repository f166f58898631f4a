//! How fast are stored messages received and acked?

use std::time::{Duration, Instant};

use backlog::{Durability, GroupOptions, Queue, Start};

use crate::{PAYLOAD, Plan, Spread};

pub(crate) fn run(plan: &Plan) {
    if !plan.wants("drain") {
        return;
    }
    let count: u64 = if plan.quick { 200_000 } else { 1_000_000 };
    let rounds = if plan.quick { 3 } else { 7 };
    println!("\n{:<18} {:>5}  {:<22} {:>12}", "drain", "goal", "M/s (min..max)", "ns");
    let folder = plan.folder.join("drain");
    let queue = Queue::open(&folder).unwrap();
    fill(&queue, PAYLOAD, count);
    let one = (0..rounds).map(|round| one_by_one(&queue, count, round)).collect();
    show("drain-1", "1", Spread::of(one));
    let many = (0..rounds).map(|round| by_hundred(&queue, count, round)).collect();
    show("drain-100", "", Spread::of(many));
    queue.close().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Stores so many messages, in batches, buffered.
pub(crate) fn fill(queue: &Queue, length: usize, count: u64) {
    const EACH: usize = 1000;
    let payload = vec![7; length];
    let pushing = queue.with_durability(Durability::Buffered);
    for _ in 0..count / EACH as u64 {
        pushing.push_batch([&payload[..]; EACH]).unwrap();
    }
    queue.sync().unwrap();
}

fn show(name: &str, goal: &str, spread: Spread) {
    println!("{name:<18} {goal:>5}  {:<22} {:>12.0}", spread.show(), 1e3 / spread.median);
}

/// Returns millions of messages per second.
fn one_by_one(queue: &Queue, count: u64, round: usize) -> f64 {
    let options = GroupOptions::new().start(Start::Beginning);
    let consumer = queue.create_group(&format!("one-{round}"), options).unwrap().consumer();
    let start = Instant::now();
    for _ in 0..count {
        consumer.recv().unwrap().ack().unwrap();
    }
    count as f64 / start.elapsed().as_secs_f64() / 1e6
}

fn by_hundred(queue: &Queue, count: u64, round: usize) -> f64 {
    let options = GroupOptions::new().start(Start::Beginning);
    let consumer = queue.create_group(&format!("many-{round}"), options).unwrap().consumer();
    let start = Instant::now();
    let mut left = count;
    while left > 0 {
        let jobs = consumer.recv_batch(100, Duration::ZERO).unwrap();
        assert!(!jobs.is_empty());
        left -= jobs.len() as u64;
        for acked in queue.ack_all(jobs).unwrap() {
            acked.unwrap();
        }
    }
    count as f64 / start.elapsed().as_secs_f64() / 1e6
}
