//! What do several processes on one folder cost, and gain, and how long is nobody there when the owner goes?
//!
//! Sixteen processes have one folder open, another one has a folder for itself alone. Who is to push is told at the
//! beginning of a slice; all kinds of slices take turns, with `raw` among them, and what counts are ratios within one round.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use backlog::{Options, Queue};

use crate::raw::Raw;
use crate::{PAYLOAD, Plan, Spread};

const PROCESSES: usize = 16;
const SLICE: Duration = Duration::from_millis(100);
/// So long guests push while the owner goes; it goes in the middle.
const OUTAGE: Duration = Duration::from_millis(400);

pub(crate) fn run(plan: &Plan) {
    if plan.asks("guests") {
        rates(plan);
    }
    if plan.asks("takeover") {
        takeovers(plan);
    }
}

/// One of several processes; it does what it is told, line by line.
struct Process {
    child: Child,
    told: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(folder: &Path, alone: bool) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--child-guests".as_ref(), folder.as_os_str(), if alone { "1" } else { "0" }.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut process = Self { told: child.stdin.take().unwrap(), child, says };
        assert_eq!(process.hear(), "open");
        process
    }

    fn tell(&mut self, word: &str, time: Duration) {
        writeln!(self.told, "{word} {}", time.as_millis()).unwrap();
    }

    fn hear(&mut self) -> String {
        self.says.next().expect("a process ended by itself").unwrap()
    }

    fn number(&mut self) -> f64 {
        self.hear().parse().unwrap()
    }

    fn leave(mut self) {
        drop(self.told);
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The part of a process that was started for it.
pub(crate) fn child(folder: &Path, alone: bool) {
    let queue = Options::new(folder).exclusive(alone).open().unwrap();
    println!("open");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (word, millis) = line.split_once(' ').unwrap();
        let time = Duration::from_millis(millis.parse().unwrap());
        match word {
            "push" => println!("{}", rate(time, || push(&queue))),
            _ => println!("{}", longest(time, || push(&queue))),
        }
    }
    queue.close().unwrap();
}

fn push(queue: &Queue) {
    queue.push([7; PAYLOAD].as_slice()).unwrap();
}

/// Returns how often in a second.
fn rate(time: Duration, mut step: impl FnMut()) -> f64 {
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < time {
        step();
        count += 1;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

/// Returns the longest time from one answer to the next, in milliseconds.
fn longest(time: Duration, mut step: impl FnMut()) -> f64 {
    let begun = Instant::now();
    let (mut last, mut longest) = (begun, Duration::ZERO);
    while begun.elapsed() < time {
        step();
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
    }
    longest.as_secs_f64() * 1e3
}

/// Who pushes in a slice.
struct Kind {
    name: &'static str,
    first: usize,
    count: usize,
}

const KINDS: [Kind; 5] = [
    Kind { name: "owner", first: 0, count: 1 },
    Kind { name: "guest", first: 1, count: 1 },
    Kind { name: "owner and 3 guests", first: 0, count: 4 },
    Kind { name: "4 guests", first: 1, count: 4 },
    Kind { name: "owner and 15 guests", first: 0, count: PROCESSES },
];

fn rates(plan: &Plan) {
    let (shared, own, heir) =
        (plan.folder.join("guests"), plan.folder.join("alone"), plan.folder.join("heir"));
    let mut processes: Vec<Process> = (0..PROCESSES).map(|_| Process::start(&shared, false)).collect();
    let mut alone = Process::start(&own, true);
    // The owner by a takeover, not from the beginning.
    let first = Process::start(&heir, false);
    let mut heir_process = Process::start(&heir, false);
    first.leave();
    let mut raw = Raw::new(&plan.folder);
    let mut measured: Vec<[f64; 8]> = Vec::new();
    // The first round is not counted.
    for round in 0..=plan.pairs() {
        let mut rates = [0.0; 8];
        for turn in 0..8 {
            let kind = (turn + round) % 8;
            rates[kind] = match kind {
                0 => rate(SLICE, || {
                    raw.one(&[7; PAYLOAD]);
                    raw.sync();
                }),
                1 => together(std::slice::from_mut(&mut alone)),
                2 => together(std::slice::from_mut(&mut heir_process)),
                _ => {
                    let Kind { first, count, .. } = KINDS[kind - 3];
                    together(&mut processes[first..first + count])
                }
            };
        }
        if round > 0 {
            measured.push(rates);
        }
    }
    processes.into_iter().rev().for_each(Process::leave);
    alone.leave();
    heir_process.leave();
    println!("\n{:<32} {:>12} {:<24}", "durable pushes, one at a time", "per second", "in one round");
    let names =
        ["raw", "exclusive", "owner by a takeover"].into_iter().chain(KINDS.iter().map(|kind| kind.name));
    for (kind, name) in names.enumerate() {
        let median = Spread::of(measured.iter().map(|rates| rates[kind]).collect()).median;
        let against =
            |other: usize| Spread::of(measured.iter().map(|rates| rates[kind] / rates[other]).collect());
        let told = match kind {
            0 => String::new(),
            1 => format!("{} of raw", against(0).show()),
            2 | 3 => format!("{} of exclusive (goal 0.95)", against(1).show()),
            4 => {
                let slower = measured.iter().map(|rates| rates[3] / rates[4]).collect();
                format!("takes {} of the owner's time (goal 1.5)", Spread::of(slower).show())
            }
            _ => {
                let goal = if kind < 7 { 3 } else { 5 };
                format!("{} of the owner, {} of a guest (goal {goal})", against(3).show(), against(4).show())
            }
        };
        println!("{name:<32} {median:>12.0} {told}");
    }
    [shared, own, heir].iter().for_each(|folder| std::fs::remove_dir_all(folder).unwrap());
}

/// Returns how many messages a second these push together.
fn together(processes: &mut [Process]) -> f64 {
    for process in &mut *processes {
        process.tell("push", SLICE);
    }
    processes.iter_mut().map(Process::number).sum()
}

fn takeovers(plan: &Plan) {
    let folder = plan.folder.join("takeover");
    println!("\n{:<32} {:>12}", "longest wait of a pushing guest", "ms");
    for (name, kill, goal) in [("owner leaves", false, 10), ("owner is killed", true, 50)] {
        let mut waits = Vec::new();
        let mut processes: Vec<Process> = (0..4).map(|_| Process::start(&folder, false)).collect();
        for _ in 0..plan.pairs() {
            let owner = processes.remove(owner_of(&folder, &processes));
            for guest in &mut processes {
                guest.tell("outage", OUTAGE);
            }
            std::thread::sleep(OUTAGE / 2);
            if kill {
                owner.kill()
            } else {
                owner.leave()
            }
            waits.extend(processes.iter_mut().map(Process::number));
            processes.push(Process::start(&folder, false));
        }
        println!("{name:<32} {} (goal {goal})", Spread::of(waits).show());
        processes.into_iter().for_each(Process::leave);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

/// Returns which of them is the owner: whoever has the lock writes its process into it.
fn owner_of(folder: &Path, processes: &[Process]) -> usize {
    let note = std::fs::read_to_string(folder.join("LOCK")).unwrap();
    let is_owner =
        |process: &Process| note.split_whitespace().any(|word| word == process.child.id().to_string());
    processes.iter().position(is_owner).unwrap()
}
