//! How is a process run that may be stopped, limited, traced or killed, and what did it say?
//!
//! The child is this test binary, run again for one test with `BACKLOG_KERNELS_CHILD` set. It says a
//! line for each call that begins, is acknowledged or fails; a watchdog kills it if it never ends.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use backlog::Error;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::ledger::Ledger;
use crate::workload::STRICT;

const CHILD: &str = "BACKLOG_KERNELS_CHILD";
/// After so long a child hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a child said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A push begins.
    Begins(usize),
    Pushed(usize, u64),
    /// A push failed after so many milliseconds; whether it took no effect for sure.
    Failed(usize, u128, bool, String),
    Acking(usize),
    Acked(usize),
    AckFailed(usize, u128, String),
    /// Something else.
    Note(String),
}

impl Said {
    /// Says it: one line, one write.
    pub(crate) fn say(&self) {
        let text = match self {
            Self::Begins(id) => format!("B {id}"),
            Self::Pushed(id, offset) => format!("P {id} {offset}"),
            Self::Failed(id, millis, refused, why) => format!("F {id} {millis} {refused} {why}"),
            Self::Acking(id) => format!("b {id}"),
            Self::Acked(id) => format!("A {id}"),
            Self::AckFailed(id, millis, why) => format!("f {id} {millis} {why}"),
            Self::Note(text) => format!("N {text}"),
        };
        let mut out = std::io::stdout().lock();
        if out.write_all(format!("@{text}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
            // Whoever reads is gone only when the test has failed.
            std::process::exit(1);
        }
    }

    pub(crate) fn failed(id: usize, took: Duration, error: &Error) -> Self {
        let refused = matches!(error, Error::Io { .. } | Error::Full { .. } | Error::Closed);
        Self::Failed(id, took.as_millis(), refused, kind(error))
    }

    fn parse(line: &str) -> Option<Self> {
        let (_, text) = line.rsplit_once('@')?;
        let (what, rest) = text.split_once(' ')?;
        let mut words = rest.splitn(if what == "F" { 4 } else { 3 }, ' ');
        let mut word = || words.next();
        Some(match what {
            "B" => Self::Begins(word()?.parse().ok()?),
            "P" => Self::Pushed(word()?.parse().ok()?, word()?.parse().ok()?),
            "F" => Self::Failed(
                word()?.parse().ok()?,
                word()?.parse().ok()?,
                word()?.parse().ok()?,
                word()?.into(),
            ),
            "b" => Self::Acking(word()?.parse().ok()?),
            "A" => Self::Acked(word()?.parse().ok()?),
            "f" => Self::AckFailed(word()?.parse().ok()?, word()?.parse().ok()?, word()?.into()),
            "N" => Self::Note(rest.into()),
            _ => return None,
        })
    }
}

/// Returns an error's kind and text.
pub(crate) fn kind(error: &Error) -> String {
    let text = format!("{error:?}");
    let kind = text.split([' ', '(', '{']).next().unwrap_or_default();
    format!("{kind}: {error}").replace(['@', '\n'], " ")
}

/// A child that runs.
pub(crate) struct Child {
    process: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    ended: Sender<()>,
    pub(crate) said: Vec<Said>,
}

impl Child {
    /// Starts a child by way of other programs (`strace …`), which run it.
    pub(crate) fn start(by: &[&str], role: &str, folder: &Path, more: &str) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut words: Vec<_> = by.iter().map(std::ffi::OsString::from).collect();
        words.push(own.into());
        words.extend(["roles::child", "--exact", "--nocapture", "--test-threads=1"].map(Into::into));
        let mut process = Command::new(&words[0])
            .args(&words[1..])
            .env(CHILD, format!("{role}|{}|{more}", folder.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (ended, hangs) = channel();
        let group = Pid::from_child(&process);
        std::thread::spawn(move || {
            if hangs.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                // The whole group: a tracer that is killed lets its child go on.
                let _ = kill_process_group(group, Signal::KILL);
            }
        });
        Self { process, lines, ended, said: Vec::new() }
    }

    /// Reads on until it has said so many more acknowledgements of pushes.
    pub(crate) fn listen(&mut self, pushes: usize) {
        let mut heard = 0;
        while heard < pushes {
            let line = self.lines.next().expect("the child ended by itself").unwrap();
            heard += usize::from(matches!(self.hear(&line), Some(Said::Pushed(..))));
        }
    }

    fn hear(&mut self, line: &str) -> Option<&Said> {
        let said = Said::parse(line)?;
        self.said.push(said);
        self.said.last()
    }

    /// Returns the number of the process: of what it is run by, which becomes it.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Reads all that it says, waits for its end, and returns both.
    pub(crate) fn wait(mut self) -> (Vec<Said>, ExitStatus) {
        while let Some(Ok(line)) = self.lines.next() {
            self.hear(&line);
        }
        let status = self.process.wait().unwrap();
        // Gone if the watchdog has already killed it: then the status tells.
        let _ = self.ended.send(());
        (std::mem::take(&mut self.said), status)
    }
}

/// Runs a child to its end.
pub(crate) fn run(by: &[&str], role: &str, folder: &Path, more: &str) -> (Vec<Said>, ExitStatus) {
    Child::start(by, role, folder, more).wait()
}

/// Returns the role, the folder and the rest, in a child.
pub(crate) fn told() -> Option<(String, std::path::PathBuf, String)> {
    let text = std::env::var(CHILD).ok()?;
    let mut parts = text.splitn(3, '|');
    Some((parts.next()?.into(), parts.next()?.into(), parts.next()?.into()))
}

/// Makes a ledger of what a child said: its pushes and acks were synced ones.
pub(crate) fn ledger(said: &[Said]) -> Ledger {
    let mut ledger = Ledger::default();
    for said in said {
        match *said {
            Said::Begins(id) => ledger.begin_as(id..id + 1, 0),
            Said::Pushed(id, offset) => ledger.told(id, offset, true, 0),
            Said::Failed(id, _, refused, _) => ledger.failed(id, refused),
            Said::Acking(id) => ledger.acking(STRICT, id, 0),
            Said::Acked(id) => ledger.acked(STRICT, id, true, 0),
            Said::AckFailed(..) | Said::Note(_) => {}
        }
    }
    ledger
}
