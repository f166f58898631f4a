//! How much more than what is needed does the log take, when messages become done in no order at full speed?

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backlog::{Delivery, Durability, Queue};

use crate::sample::{self, Sample};
use crate::{PAYLOAD, Plan};

/// Bytes of a full-grown segment, unless told otherwise.
const SEGMENT: u64 = 64 << 20;
const YEAR: Duration = Duration::from_secs(300 * 86_400);
const BATCH: usize = 100;
/// Messages that the consumer holds, to ack some of them.
const WINDOW: usize = 2000;
/// So many wait at the most.
const WAITING: u64 = 200_000;

pub(crate) fn run(plan: &Plan) {
    if !plan.asks("space") {
        return;
    }
    let count: u64 = if plan.quick { 1_000_000 } else { 12_000_000 };
    let folder = plan.folder.join("space");
    let queue = Queue::open(&folder).unwrap();
    drop(queue.consumer().unwrap());
    let (pushed, done, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let stuck = AtomicU64::new(0);
    let begun = Instant::now();
    let look = || {
        let pushed = pushed.load(Ordering::Relaxed);
        let live = pushed.saturating_sub(done.load(Ordering::Relaxed)) * (PAYLOAD as u64 + 32);
        Sample::take(&folder, begun.elapsed().as_secs_f64(), pushed, live)
    };
    let (mut samples, mut working) = (Vec::new(), 0.0);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut samples = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                samples.push(look());
                std::thread::sleep(Duration::from_millis(100));
            }
            samples
        });
        scope.spawn(|| {
            let pushing = queue.with_durability(Durability::Buffered);
            while pushed.load(Ordering::Relaxed) < count {
                let settled = done.load(Ordering::Relaxed) + stuck.load(Ordering::Relaxed);
                if pushed.load(Ordering::Relaxed) > settled + WAITING {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                // Noted before: what is pushed is never more than what is known as live.
                pushed.fetch_add(BATCH as u64, Ordering::Relaxed);
                pushing.push_batch([&[7; PAYLOAD][..]; BATCH]).unwrap();
            }
        });
        consume(&queue, count, &done, &stuck);
        working = begun.elapsed().as_secs_f64();
        // It comes to rest.
        std::thread::sleep(Duration::from_secs(if plan.quick { 5 } else { 20 }));
        stop.store(true, Ordering::Relaxed);
        samples = watch.join().unwrap();
    });
    queue.close().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    println!("\nspace: {count} messages of {PAYLOAD} bytes in {working:.1} s, 1 % stuck, then at rest");
    sample::report(&samples, SEGMENT);
    let title = "Full speed: random acks, 1 % stuck for ever, then rest";
    sample::picture(&plan.plots, "space.svg", title, &samples, SEGMENT);
}

fn consume(queue: &Queue, count: u64, done: &AtomicU64, stuck: &AtomicU64) {
    let consumer = queue.consumer().unwrap();
    let mut held: Vec<Delivery> = Vec::new();
    let (mut received, mut random) = (0u64, 1u64);
    while received < count || !held.is_empty() {
        let wanted = usize::try_from(count - received).unwrap().min(BATCH);
        if wanted > 0 {
            for job in consumer.recv_batch(wanted, Duration::from_secs(1)).unwrap() {
                received += 1;
                if received % 100 == 13 {
                    job.nack_after(YEAR, "stuck").unwrap();
                    stuck.fetch_add(1, Ordering::Relaxed);
                } else {
                    held.push(job);
                }
            }
        }
        if held.len() < WINDOW && received < count {
            continue;
        }
        let mut settled = Vec::with_capacity(BATCH);
        while settled.len() < BATCH && !held.is_empty() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from((random >> 33) % held.len() as u64).unwrap();
            settled.push(held.swap_remove(at));
        }
        let acked = settled.len() as u64;
        for result in queue.ack_all(settled).unwrap() {
            result.unwrap();
        }
        done.fetch_add(acked, Ordering::Relaxed);
    }
}
