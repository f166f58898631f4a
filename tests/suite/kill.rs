//! Does a real kill -9 on a real disk lose, repeat or reorder anything that was acknowledged?
//!
//! The child is this test binary, run again for one test with `BACKLOG_CHILD` set; it prints a line
//! for each acknowledged operation, and the parent kills it after it has read enough of them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use backlog::{Durability, GroupOptions, Options, Queue, Start};

use crate::harness::patiently;
use crate::watch;

const ROUNDS: usize = 50;
const ENOUGH: usize = 100;
const CHILD: &str = "BACKLOG_CHILD";

fn open(folder: &Path) -> Queue {
    patiently(&Options::new(folder))
}

/// Does nothing unless it is run as the child.
#[test]
fn child() {
    let Ok(text) = std::env::var(CHILD) else { return };
    let (what, folder) = text.split_once(':').unwrap();
    let queue = open(Path::new(folder));
    if what == "push" { push_on(&queue) } else { consume_on(&queue) }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever reads is gone only when the test has failed.
    if writeln!(out, "@{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

fn push_on(queue: &Queue) {
    let buffered = queue.with_durability(Durability::Buffered);
    let from = queue.stats().messages;
    for number in from.. {
        let at = if number % 4 == 0 { queue } else { &buffered };
        let offset = at.push(format!("{number}")).unwrap();
        say(&format!("{offset} {number}"));
    }
}

fn consume_on(queue: &Queue) {
    let consumer = queue.group("worker").unwrap().consumer();
    loop {
        let job = consumer.recv().unwrap();
        let (offset, number) = (job.offset(), String::from_utf8(job.payload().to_vec()).unwrap());
        job.ack().unwrap();
        say(&format!("{offset} {number}"));
    }
}

/// Runs the child until it has acknowledged enough, kills it, and returns all it has said: offsets
/// and numbers.
fn killed(what: &str, folder: &Path) -> Vec<(u64, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["kill::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{what}:{}", folder.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    for line in lines.by_ref() {
        // A last line may be cut short: then nobody has heard of it.
        let line = line.unwrap_or_default();
        let parsed = line.rsplit_once('@').and_then(|(_, text)| {
            let (offset, number) = text.split_once(' ')?;
            Some((offset.parse().ok()?, number.parse().ok()?))
        });
        said.extend(parsed);
        if said.len() == ENOUGH {
            // SIGKILL; what it said until then is still in the pipe.
            child.kill().unwrap();
            break;
        }
    }
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    for line in &rest[..rest.len().saturating_sub(1)] {
        let parsed = line.strip_prefix('@').and_then(|text| text.split_once(' '));
        said.extend(parsed.map(|(offset, number)| (offset.parse().unwrap(), number.parse().unwrap())));
    }
    child.wait().unwrap();
    assert!(said.len() >= ENOUGH, "the child ended by itself after {}", said.len());
    said
}

#[test]
fn pushes_survive_kill_9() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("jobs");
    let mut told: Vec<(u64, u64)> = Vec::new();
    for round in 0..ROUNDS {
        let _watched = watch::over(format!("kill -9 amid pushes, round {round}"));
        told.extend(killed("push", &folder));
        let queue = open(&folder);
        assert!(!queue.recovery().has_findings(), "round {round}: {:?}", queue.recovery());
        let whole = GroupOptions::new().start(Start::Beginning);
        let consumer = queue.create_group("whole", whole).unwrap().consumer();
        let mut found = Vec::new();
        while let Some(job) = consumer.try_recv().unwrap() {
            found.push((job.offset().get(), std::str::from_utf8(job.payload()).unwrap().parse().unwrap()));
            job.ack().unwrap();
        }
        queue.remove_group("whole").unwrap();
        queue.close().unwrap();

        assert!(found.is_sorted() && found.iter().map(|pair| pair.1).eq(0..found.len() as u64));
        let there: BTreeSet<_> = found.into_iter().collect();
        let lost: Vec<_> = told.iter().filter(|pair| !there.contains(pair)).collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?}");
    }
    println!("{ROUNDS} rounds, {} pushes acknowledged", told.len());
}

#[test]
fn acks_survive_kill_9() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("jobs");
    let queue = open(&folder);
    let worker = GroupOptions::new().ack_durability(Durability::Synced);
    queue.create_group("worker", worker).unwrap();
    let mut acked = BTreeSet::new();
    let mut pushed = 0;
    let mut queue = Some(queue);
    for round in 0..ROUNDS {
        let _watched = watch::over(format!("kill -9 amid acks, round {round}"));
        let filler = queue.take().unwrap_or_else(|| open(&folder));
        let more = 5000 - filler.stats().groups[0].ready;
        filler.push_batch((pushed..pushed + more).map(|number| number.to_string())).unwrap();
        pushed += more;
        filler.close().unwrap();

        let said = killed("consume", &folder);

        // One message may come first again: the one that was on loan.
        assert!(said.is_sorted(), "round {round}: out of order: {said:?}");
        for pair in said {
            assert!(acked.insert(pair), "round {round}: {pair:?} was acked and came again");
        }
    }
    let queue = open(&folder);
    let consumer = queue.group("worker").unwrap().consumer();
    let mut unsaid = 0;
    let mut rest = BTreeSet::new();
    while let Some(job) = consumer.recv_timeout(Duration::ZERO).unwrap() {
        let number: u64 = std::str::from_utf8(job.payload()).unwrap().parse().unwrap();
        assert!(acked.iter().all(|pair| pair.0 != job.offset().get()), "{number} was acked and came again");
        rest.insert(number);
        job.ack().unwrap();
    }
    let numbers: BTreeSet<u64> = acked.iter().map(|pair| pair.1).collect();
    for number in 0..pushed {
        unsaid += u64::from(!numbers.contains(&number) && !rest.contains(&number));
    }
    // Acked right before the kill, and not said any more.
    assert!(unsaid <= 2 * ROUNDS as u64, "{unsaid} messages are neither acked nor there");
    println!("{ROUNDS} rounds, {} acks acknowledged", acked.len());
}
