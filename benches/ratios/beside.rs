//! Does a push wait longer while segments are rewritten?
//!
//! Two queues that are alike, but for what of them is live: less than a quarter, so it is rewritten; or a little more,
//! so it is not. They take turns, and what counts is the ratio of each pair.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use backlog::{Durability, Message, Queue};

use crate::{PAYLOAD, Plan, Spread};

const YEAR: Duration = Duration::from_secs(300 * 86_400);
const FULL: u64 = 64 << 20;
const BATCH: u16 = 1000;
/// How many of a hundred messages are live.
const SPARSE: u64 = 22;
const DENSE: u64 = 30;
/// A turn lasts so long, or until nothing is left to rewrite.
const TURN: Duration = Duration::from_millis(2500);

pub(crate) fn run(plan: &Plan) {
    if !plan.asks("beside") {
        return;
    }
    let (rounds, count) = if plan.quick { (3, 400_000) } else { (7, 1_200_000) };
    let folder = plan.folder.join("beside");
    let plain = fill(&folder.join("plain"), count, DENSE);
    // Its own work has come to rest.
    std::thread::sleep(Duration::from_secs(5));
    println!("\nbeside: a durable push of {PAYLOAD} bytes, µs, without and with rewriting, {rounds} rounds");
    let mut all: Vec<[[f64; 3]; 2]> = Vec::new();
    for round in 0..rounds {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        let mut first = || without = push(&plain, || true);
        if round % 2 == 0 {
            first();
        }
        let path = folder.join(format!("sparse-{round}"));
        let sparse = fill(&path, count, SPARSE);
        let before = names(&path);
        let since = Instant::now();
        while copy(&path, &before).is_none() {
            assert!(since.elapsed() < Duration::from_secs(60), "nothing is rewritten");
            std::thread::sleep(Duration::from_millis(1));
        }
        let copied = copy(&path, &before).unwrap();
        // As long as it is there and its sources are: they go when it is whole.
        with.extend(push(&sparse, || before.iter().all(|name| path.join("log").join(name).exists())));
        let length = path.join("log").join(&copied).metadata().map_or(0, |about| about.len());
        sparse.close().unwrap();
        std::fs::remove_dir_all(&path).unwrap();
        if round % 2 == 1 {
            without = push(&plain, || true);
        }
        println!(
            "  without {}, with {}, {} pushes beside {:.1} MiB of copy",
            show(&without),
            show(&with),
            with.len(),
            length as f64 / f64::from(1 << 20)
        );
        all.push([points(&mut without), points(&mut with)]);
    }
    plain.close().unwrap();
    for (index, name) in ["p50", "p99", "p99.9"].iter().enumerate() {
        let of = |which: usize| Spread::of(all.iter().map(|pair| pair[which][index]).collect());
        let ratio = Spread::of(all.iter().map(|pair| pair[1][index] / pair[0][index]).collect());
        let goal = if index == 1 { "(goal: 2 at the most)" } else { "" };
        println!(
            "  {name:<6} without {}, with {}, ratio {} {goal}",
            of(0).show(),
            of(1).show(),
            ratio.show()
        );
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Stores messages, some of them for next year, and acks the others.
fn fill(path: &Path, count: u64, live: u64) -> Queue {
    let queue = Queue::open(path).unwrap();
    let pushing = queue.with_durability(Durability::Buffered);
    let consumer = queue.consumer().unwrap();
    let mut held = Vec::new();
    let batches = count / u64::from(BATCH);
    for batch in 0..batches {
        let messages = (0..BATCH).map(|number| {
            let message = Message::from(&[7; PAYLOAD]);
            if u64::from(number % 100) < live { message.delay(YEAR) } else { message }
        });
        pushing.push_batch(messages).unwrap();
        held.extend(consumer.recv_batch(BATCH.into(), Duration::ZERO).unwrap());
        // All but the last are acked at the end only: nothing is rewritten before.
        if batch + 1 == batches {
            queue.sync().unwrap();
        }
    }
    queue.ack_all(held).unwrap();
    queue
}

fn names(path: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(path.join("log")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".seg")).collect()
}

/// Returns the name of a copy that is being made: other segments have their full length from birth.
fn copy(path: &Path, before: &BTreeSet<String>) -> Option<String> {
    let is_copy = |name: &String| {
        let length = path.join("log").join(name).metadata().map_or(FULL, |about| about.len());
        !before.contains(name) && length != FULL
    };
    names(path).into_iter().find(is_copy)
}

/// Pushes one by one; returns how many µs each took.
fn push(queue: &Queue, goes_on: impl Fn() -> bool) -> Vec<f64> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while begun.elapsed() < TURN && (times.len() % 16 != 0 || goes_on()) {
        let start = Instant::now();
        queue.push(&[7; PAYLOAD][..]).unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times
}

fn points(times: &mut [f64]) -> [f64; 3] {
    times.sort_by(f64::total_cmp);
    let at = |thousandths: usize| times[(times.len() - 1) * thousandths / 1000];
    [at(500), at(990), at(999)]
}

fn show(times: &[f64]) -> String {
    let [middle, most, worst] = points(&mut times.to_vec());
    format!("{middle:.0} / {most:.0} / {worst:.0}")
}
