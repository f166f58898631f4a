//! What do a million messages cost that wait, delayed or of a low priority: memory, opening, and those who push and
//! receive beside them?

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use backlog::{Durability, Message, Queue};

use crate::{Plan, Spread};

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn run(plan: &Plan) {
    if !plan.wants("delayed") {
        return;
    }
    let count = plan.messages / 10;
    println!("\n{:<18} {:>12}  memory, opening, and pushes and receives beside them", "delayed", "messages");
    for (child, count) in [("--child-delayed", 0), ("--child-delayed", count), ("--child-low", count)] {
        let folder = plan.folder.join("delayed");
        println!("{}", child.trim_start_matches("--child-"));
        let child = Command::new(std::env::current_exe().unwrap())
            .args([child.as_ref(), folder.as_os_str(), count.to_string().as_ref()])
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        print!("{}", String::from_utf8_lossy(&child.stdout));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

/// What the fresh process does.
pub(crate) fn child(child: &str, folder: &Path, count: usize) {
    let low = child == "--child-low";
    let waits = |message: Message<'static>| if low { message.priority(0) } else { message.delay(DAY) };
    let queue = Queue::open(folder).unwrap();
    let worker = queue.consumer().unwrap();
    let pushing = queue.with_durability(Durability::Buffered);
    for first in (0..count).step_by(1000) {
        let some = (first..count.min(first + 1000)).map(|_| waits(Message::new(&[7; 64][..])));
        pushing.push_batch(some).unwrap();
    }
    let before = in_use();
    let met = Instant::now();
    // The first of a low priority, once all are met.
    let first = worker.try_recv().unwrap();
    let met = met.elapsed();
    assert_eq!(first.is_some(), low);
    first.map_or(Ok(()), backlog::Delivery::release).unwrap();
    let grown = in_use() - before;
    let stats = &queue.stats().groups[0];
    assert_eq!(if low { stats.ready } else { stats.delayed }, count as u64);
    println!(
        "{:<18} {count:>12}  {} bytes each, {:.0} ns each to be met",
        "  memory",
        grown * 1024 / count.max(1) as u64,
        met.as_nanos() as f64 / count.max(1) as f64
    );
    let (pushes, receives) = beside(&pushing, &worker);
    println!(
        "{:<18} {count:>12}  push µs p50 {:.1} p99 {:.1} max {:.0}",
        "  buffered", pushes.0, pushes.1, pushes.2
    );
    println!(
        "{:<18} {count:>12}  receive and ack µs p50 {:.1} p99 {:.1} max {:.0}",
        "  buffered", receives.0, receives.1, receives.2
    );
    drop(worker);
    queue.close().unwrap();
    drop((pushing, queue));

    let mut times = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let queue = Queue::open(folder).unwrap();
        let opened = begun.elapsed();
        queue.push("plain").unwrap();
        let job = queue.consumer().unwrap().recv().unwrap();
        times.push((opened.as_secs_f64() * 1e3, begun.elapsed().as_secs_f64() * 1e3));
        job.ack().unwrap();
        queue.close().unwrap();
    }
    let (opened, first) = times.into_iter().unzip();
    println!(
        "{:<18} {count:>12}  opened in {} ms, a plain message pushed and received after {} ms",
        "  opening",
        Spread::of(opened).show(),
        Spread::of(first).show()
    );
}

/// Pushes and receives plain messages; returns the median, p99 and worst of each, in µs.
fn beside(queue: &Queue, worker: &backlog::Consumer) -> ((f64, f64, f64), (f64, f64, f64)) {
    let (mut pushes, mut receives) = (Vec::new(), Vec::new());
    for _ in 0..200_000 {
        let begun = Instant::now();
        queue.push(&[7; 64]).unwrap();
        pushes.push(begun.elapsed().as_secs_f64() * 1e6);
        let begun = Instant::now();
        worker.try_recv().unwrap().unwrap().ack().unwrap();
        receives.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    (spread(pushes), spread(receives))
}

fn spread(mut times: Vec<f64>) -> (f64, f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100], times[times.len() - 1])
}

/// Returns the memory in use now, in KiB, of the heap's pages.
fn in_use() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
