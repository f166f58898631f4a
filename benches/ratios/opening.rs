//! How long does it take to open a queue with many stored messages, and how much memory?

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backlog::{Durability, Queue};

use crate::drain::fill;
use crate::{Plan, Spread};

pub(crate) fn run(plan: &Plan) {
    if !plan.wants("open") {
        return;
    }
    println!("\n{:<18} {:>12}  {:<28} {:>14}", "open", "messages", "ms to first message", "memory grew");
    let folder = plan.folder.join("open");
    let mut stored = 0;
    for more in [1000, plan.messages / 10 - 1000, plan.messages / 10 * 9] {
        let queue = Queue::open(&folder).unwrap();
        // The group is there before, as in a queue that is in use.
        drop(queue.consumer().unwrap());
        fill(&queue, 64, more);
        queue.close().unwrap();
        stored += more;
        let rounds = if plan.quick { 7 } else { 21 };
        show("open-closed", stored, open_in_child(&folder, rounds));
    }
    let rounds = if plan.quick { 3 } else { 9 };
    let killed: Vec<_> = (0..rounds)
        .map(|_| {
            kill_in_the_middle(&folder);
            open_in_child(&folder, 1)
        })
        .collect();
    let times = killed.iter().flat_map(|(times, _)| times.clone()).collect();
    let grown = killed.iter().map(|(_, grown)| *grown).max().unwrap();
    show("open-killed", stored, (times, grown));
    std::fs::remove_dir_all(&folder).unwrap();
}

fn show(name: &str, messages: u64, (times, grown): (Vec<f64>, u64)) {
    println!("{name:<18} {messages:>12}  {:<28} {:>10} KiB", Spread::of(times).show(), grown);
}

/// Opens in a fresh process; returns the milliseconds of each opening, and by how many KiB the
/// first one raised the peak of the memory in use.
fn open_in_child(folder: &Path, rounds: usize) -> (Vec<f64>, u64) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--child-open".as_ref(), folder.as_os_str(), rounds.to_string().as_ref()])
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let text = String::from_utf8(child.stdout).unwrap();
    let mut lines = text.lines();
    let grown = lines.next().unwrap().parse().unwrap();
    (lines.map(|line| line.parse().unwrap()).collect(), grown)
}

/// Has a process push until it is killed.
fn kill_in_the_middle(folder: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--child-push".as_ref(), folder.as_os_str(), "0".as_ref()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What the fresh process does.
pub(crate) fn child(what: &str, folder: &Path, rounds: usize) {
    if what == "--child-push" {
        push_for_ever(folder, rounds);
    }
    let before = peak();
    let mut times = Vec::new();
    let mut grown = 0;
    for round in 0..rounds {
        let start = Instant::now();
        let queue = Queue::open(folder).unwrap();
        let consumer = queue.consumer().unwrap();
        let job = consumer.recv().unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e3);
        if round == 0 {
            grown = peak() - before;
        }
        job.release().unwrap();
        drop(consumer);
        queue.close().unwrap();
    }
    println!("{grown}");
    for time in times {
        println!("{time}");
    }
}

/// Pushes one by one, or in batches.
fn push_for_ever(folder: &Path, batch: usize) -> ! {
    let queue = Queue::open(folder).unwrap();
    let pushing = queue.with_durability(Durability::Buffered);
    pushing.push("first").unwrap();
    println!("ready");
    std::io::stdout().flush().unwrap();
    loop {
        if batch > 1 {
            pushing.push_batch(std::iter::repeat_n(&[7; 256], batch)).unwrap();
        } else {
            pushing.push(&[7; 64]).unwrap();
        }
    }
}

/// Returns the most memory that was in use, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
