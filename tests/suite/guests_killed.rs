//! Is anything lost, repeated or stuck when processes that share a folder die, stop, or leave?
//!
//! Each process is this test binary, run again with `BACKLOG_GUEST` set. It says what was acknowledged to it, a line
//! each; the parent kills, stops or ends some, and then holds what was said against what the queue has.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use backlog::{Error, GroupOptions, Options, Queue};

use crate::watch;

const ROLE: &str = "BACKLOG_GUEST";
/// So much is to happen between one step of a test and the next.
const SOME: usize = 30;
/// So long an owner is stopped.
const STOPPED: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);

/// Does nothing unless it is run as a process of its own.
#[test]
fn process() {
    let Ok(text) = std::env::var(ROLE) else { return };
    let mut words = text.splitn(3, ':');
    let (role, name, folder) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let queue = Options::new(folder).exclusive(false).lock_timeout(PATIENCE).open().unwrap();
    say("open");
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    std::thread::spawn(move || {
        // The parent lets go of our input: that is how we are asked to end.
        let _ = std::io::stdin().read_line(&mut String::new());
        told.store(true, Ordering::Release);
    });
    match role {
        "push" => push_on(&queue, name, &stop),
        _ => work_on(&queue, &stop),
    }
    queue.close().unwrap();
    say("closed");
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "@{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

fn push_on(queue: &Queue, name: &str, stop: &AtomicBool) {
    for number in 0u64.. {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let offset = if number % 7 == 6 {
            let ticket = queue.push_deferred(format!("{name} {number}")).unwrap();
            ticket.wait().unwrap()
        } else {
            queue.push(format!("{name} {number}")).unwrap()
        };
        say(&format!("pushed {offset} {name} {number}"));
    }
}

fn work_on(queue: &Queue, stop: &AtomicBool) {
    let worker = queue.group("worker").unwrap().consumer();
    say("waits");
    while !stop.load(Ordering::Acquire) {
        let Some(job) = worker.recv_timeout(Duration::from_millis(50)).or_else(patient).unwrap() else {
            continue;
        };
        let text = String::from_utf8(job.payload().to_vec()).unwrap();
        say(&format!("got {text}"));
        match job.ack() {
            Ok(()) => say(&format!("acked {text}")),
            Err(Error::LeaseLost { .. }) => say(&format!("lost {text}")),
            Err(error) => panic!("{error}"),
        }
    }
}

/// An owner that is stopped makes a call with a deadline say so.
fn patient<T>(error: Error) -> Result<Option<T>, Error> {
    if matches!(error, Error::Timeout { owner: Some(_) }) { Ok(None) } else { Err(error) }
}

/// What a process has said so far, and how often by first words.
#[derive(Default)]
struct Said {
    lines: Mutex<(Vec<String>, BTreeMap<String, usize>)>,
    more: Condvar,
}

impl Said {
    fn add(&self, line: &str) {
        let mut lines = self.lines.lock().unwrap();
        let word = line.split(' ').next().unwrap();
        *lines.1.entry(word.to_owned()).or_default() += 1;
        lines.0.push(line.to_owned());
        self.more.notify_all();
    }
}

/// A process that shares the folder.
struct Process {
    role: String,
    child: Child,
    said: Arc<Said>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    fn start(role: &str, name: &str, folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["guests_killed::process", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, format!("{role}:{name}:{}", folder.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Said::default());
        let (lines, into) = (BufReader::new(child.stdout.take().unwrap()).lines(), said.clone());
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, text)) = line.rsplit_once('@') {
                    into.add(text);
                }
            }
        });
        let process = Self { role: role.to_owned(), child, said, reader: Some(reader) };
        process.waits_for("open", 1);
        process
    }

    fn count(&self, word: &str) -> usize {
        self.said.lines.lock().unwrap().1.get(word).copied().unwrap_or(0)
    }

    /// Waits until it has said a word so often in all.
    fn waits_for(&self, word: &str, times: usize) {
        let since = Instant::now();
        let mut lines = self.said.lines.lock().unwrap();
        while lines.1.get(word).is_none_or(|said| *said < times) {
            let left = PATIENCE.saturating_sub(since.elapsed());
            assert!(!left.is_zero(), "{} says no {word:?} any more", self.child.id());
            lines = self.said.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits until it has done so much more of what it is there for.
    fn goes_on(&self, more: usize) {
        let word = if self.role == "push" { "pushed" } else { "got" };
        self.waits_for(word, self.count(word) + more);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, signal).unwrap();
    }

    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.all()
    }

    fn end(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        let said = self.all();
        assert_eq!(said.last().map(String::as_str), Some("closed"));
        said
    }

    fn all(&mut self) -> Vec<String> {
        self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        std::mem::take(&mut self.said.lines.lock().unwrap().0)
    }
}

/// What all of them said.
#[derive(Default)]
struct Ledger {
    pushed: BTreeMap<u64, (String, u64)>,
    /// What was handed out to one that was killed: it may have acked it, and not said so.
    in_doubt: BTreeSet<String>,
    acked: BTreeMap<String, usize>,
}

impl Ledger {
    fn take(&mut self, said: &[String], killed: bool) {
        for line in said {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["pushed", offset, name, number] => {
                    let message = (name.to_owned(), number.parse().unwrap());
                    assert!(self.pushed.insert(offset.parse().unwrap(), message).is_none(), "{line}: twice");
                }
                ["got", name, number] if killed => drop(self.in_doubt.insert(format!("{name} {number}"))),
                ["acked", name, number] => *self.acked.entry(format!("{name} {number}")).or_default() += 1,
                _ => {}
            }
        }
    }

    /// Holds it against what is left in the queue.
    fn check(&self, folder: &Path) {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, number) in self.pushed.values() {
            let before = last.insert(name, *number);
            assert!(before.is_none_or(|before| before < *number), "{name} {number} lies before {before:?}");
        }
        for (message, times) in &self.acked {
            assert_eq!(*times, 1, "{message} was acked so often");
        }
        let queue = Options::new(folder).exclusive(false).lock_timeout(PATIENCE).open().unwrap();
        assert!(!queue.recovery().has_findings(), "{:?}", queue.recovery());
        let group = queue.group("worker").unwrap();
        assert_eq!(group.dead(), []);
        let worker = group.consumer();
        let mut left = BTreeSet::new();
        while let Some(job) = worker.try_recv().unwrap() {
            let text = String::from_utf8(job.payload().to_vec()).unwrap();
            assert!(!self.acked.contains_key(&text), "{text} was acked, and comes again");
            assert!(left.insert(text.clone()), "{text} is there twice");
            job.ack().unwrap();
        }
        assert_eq!(group.stats().on_loan + group.stats().delayed, 0);
        for (name, number) in self.pushed.values() {
            let text = format!("{name} {number}");
            let there =
                self.acked.contains_key(&text) || left.contains(&text) || self.in_doubt.contains(&text);
            assert!(there, "{text} was pushed, and is gone");
        }
        queue.close().unwrap();
    }
}

struct Folder {
    _home: tempfile::TempDir,
    path: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("jobs");
        let queue = Options::new(&path).open().unwrap();
        let options = GroupOptions::new().ack_durability(backlog::Durability::Synced);
        let options = options.max_losses(u8::MAX);
        queue.create_group("worker", options).unwrap();
        queue.close().unwrap();
        Self { _home: home, path }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Killed,
    Stopped,
    Leaves,
}

/// Four processes; the first is the owner. What happens to `who` harms nobody else.
///
/// Who is to `wait` works too, but there is nothing to be had until it is struck.
fn happens(fate: Fate, role: &str, owner: bool) {
    let _watched = watch::over(format!("{fate:?}, {role}, owner: {owner}"));
    let folder = Folder::new();
    let mut ledger = Ledger::default();
    let waits = role == "wait";
    let other = |number: usize| if number.is_multiple_of(2) && !waits { "push" } else { "work" };
    let first =
        Process::start(if owner { role } else { other(usize::from(role == "push")) }, "a", &folder.path);
    let struck = (!owner).then(|| Process::start(role, "b", &folder.path));
    let others: Vec<Process> =
        (0..3).map(|number| Process::start(other(number), &format!("c{number}"), &folder.path)).collect();
    let (struck, mut rest) = match struck {
        Some(struck) => (struck, vec![first]),
        None => (first, Vec::new()),
    };
    rest.extend(others);
    if waits {
        struck.waits_for("waits", 1);
    } else {
        struck.goes_on(SOME);
    }

    let back = match fate {
        Fate::Killed => {
            ledger.take(&struck.kill(), true);
            None
        }
        Fate::Leaves => {
            ledger.take(&struck.end(), false);
            None
        }
        Fate::Stopped => {
            struck.signal(rustix::process::Signal::STOP);
            Some(struck)
        }
    };
    let (stopped_owner, stopped_guest) = if owner { (back.as_ref(), None) } else { (None, back.as_ref()) };
    if let Some(struck) = stopped_owner {
        // Nothing goes on that could be waited for.
        std::thread::park_timeout(STOPPED);
        struck.signal(rustix::process::Signal::CONT);
    }
    if waits {
        rest.push(Process::start("push", "late", &folder.path));
    }
    if let Some(struck) = stopped_guest {
        rest.iter().for_each(|process| process.goes_on(SOME));
        struck.signal(rustix::process::Signal::CONT);
    }
    for process in rest.iter().chain(&back) {
        process.goes_on(SOME);
    }
    for process in rest.into_iter().chain(back) {
        ledger.take(&process.end(), false);
    }
    ledger.check(&folder.path);
}

#[test]
fn an_owner_that_is_killed_loses_nothing() {
    happens(Fate::Killed, "push", true);
    happens(Fate::Killed, "work", true);
    happens(Fate::Killed, "wait", true);
}

#[test]
fn an_owner_that_leaves_is_followed_by_a_guest() {
    happens(Fate::Leaves, "push", true);
    happens(Fate::Leaves, "work", true);
    happens(Fate::Leaves, "wait", true);
}

#[test]
fn an_owner_that_is_stopped_and_goes_on_loses_nothing() {
    happens(Fate::Stopped, "push", true);
    happens(Fate::Stopped, "work", true);
    happens(Fate::Stopped, "wait", true);
}

#[test]
fn a_guest_that_is_killed_harms_nobody() {
    happens(Fate::Killed, "push", false);
    happens(Fate::Killed, "work", false);
    happens(Fate::Killed, "wait", false);
}

#[test]
fn a_guest_that_leaves_harms_nobody() {
    happens(Fate::Leaves, "push", false);
    happens(Fate::Leaves, "work", false);
    happens(Fate::Leaves, "wait", false);
}

#[test]
fn a_guest_that_is_stopped_harms_nobody() {
    happens(Fate::Stopped, "push", false);
    happens(Fate::Stopped, "work", false);
    happens(Fate::Stopped, "wait", false);
}

/// Returns the process that has the lock, as it has noted.
fn owner_of(folder: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(folder.join("LOCK")).ok()?;
    text.split(' ').find_map(|word| word.parse().ok())
}

#[test]
fn takeover_after_takeover_under_load_loses_nothing() {
    let _watched = watch::within(2 * PATIENCE, "takeovers");
    let rounds = std::env::var("BACKLOG_TAKEOVERS").ok().map_or(50, |text| text.parse().unwrap());
    let folder = Folder::new();
    let mut ledger = Ledger::default();
    let role = |number: usize| if number.is_multiple_of(2) { "push" } else { "work" };
    let start = |role: &str, number: usize| Process::start(role, &format!("p{number}"), &folder.path);
    let mut processes: Vec<Process> = (0..4).map(|number| start(role(number), number)).collect();
    for round in 0..rounds {
        let owner = owner_of(&folder.path).unwrap();
        let at = processes.iter().position(|process| process.child.id() == owner).unwrap();
        let struck = processes.swap_remove(at);
        // Somebody of its kind comes in its place: who works needs those who push.
        let role = struck.role.clone();
        if round % 2 == 0 {
            ledger.take(&struck.kill(), true);
        } else {
            ledger.take(&struck.end(), false);
        }
        for process in &processes {
            process.goes_on(SOME);
        }
        processes.push(start(&role, 4 + round));
    }
    for process in processes {
        ledger.take(&process.end(), false);
    }
    ledger.check(&folder.path);
}
