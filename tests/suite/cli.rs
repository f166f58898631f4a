//! How do tests run the command line? Each as a process of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::SystemTime;

/// What a command has left.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A place of its own, with a queue `jobs` in it once something pushes.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backlog"));
        command.args(args).current_dir(self.0.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a command that goes on.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut child = self.command(args).spawn().unwrap();
        let stdin = child.stdin.take();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdin, out }
    }

    /// Runs a command to its end.
    pub(crate) fn run_with(&self, args: &[&str], input: &[u8]) -> Done {
        let mut child = self.command(args).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A command may end without reading everything.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        Done {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.run_with(args, b"")
    }

    /// Pushes lines, and insists that it worked.
    pub(crate) fn push(&self, input: &str) {
        let done = self.run_with(&["push", "jobs"], input.as_bytes());
        assert_eq!(done.code, 0, "{done:?}");
    }

    /// Runs a shell script for each message, until the queue is empty.
    pub(crate) fn work(&self, script: &str) -> Done {
        self.run(&["work", "jobs", "--until-empty", "--", "sh", "-c", script])
    }

    /// Returns the payloads that are ready, by taking them.
    pub(crate) fn drain(&self) -> Vec<Vec<u8>> {
        let queue = backlog::Options::new(self.path("jobs")).create(false).open().unwrap();
        let consumer = queue.consumer().unwrap();
        let mut payloads = Vec::new();
        while let Some(job) = consumer.try_recv().unwrap() {
            payloads.push(job.payload().to_vec());
            job.ack().unwrap();
        }
        payloads
    }

    /// Returns the counts of group `default`: ready, delayed, on loan, dead.
    pub(crate) fn counts(&self) -> [u64; 4] {
        let seen = backlog::inspect(self.path("jobs")).unwrap();
        let group = seen.groups.iter().find(|group| group.name == "default").unwrap();
        [group.ready, group.delayed, group.on_loan, group.dead]
    }

    /// Returns every file below the place: its bytes and when it was changed.
    pub(crate) fn everything(&self) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let mut all = BTreeMap::new();
        collect(self.0.path(), &mut all);
        all
    }
}

fn collect(folder: &Path, into: &mut BTreeMap<PathBuf, (Vec<u8>, SystemTime)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let about = entry.metadata().unwrap();
        // Neither a folder nor a socket has bytes.
        let bytes = if about.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        into.insert(entry.path(), (bytes, about.modified().unwrap()));
        if about.is_dir() {
            collect(&entry.path(), into);
        }
    }
}

/// A command that runs; killed when the test is over, or fails.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) out: BufReader<ChildStdout>,
}

impl Running {
    /// Waits for a line on stdout.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end; returns the exit code, -1 after a signal.
    pub(crate) fn end(mut self) -> i32 {
        drop(self.stdin.take());
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
