//! How is a command run for one message?

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use backlog::Delivery;
use rustix::process::{Pid, Signal, kill_process_group};

/// Bytes of stderr that become the reason of a failure.
const TAIL: usize = 1024;
/// How long stderr is listened to once the command has ended: something that it left behind in the
/// background may hold it open for ever.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// What goes into an empty pipe without anybody reading.
const AT_ONCE: usize = 4096;

/// The commands that run now.
#[derive(Debug, Default)]
pub(super) struct Children(Mutex<Vec<Pid>>);

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// The end of what it wrote to stderr.
    pub(super) tail: String,
}

impl Ended {
    /// Says why the command failed.
    pub(super) fn reason(&self) -> String {
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => self.status.to_string(),
        };
        let tail = self.tail.trim_end();
        if tail.is_empty() { how } else { format!("{how}: {tail}") }
    }
}

impl Children {
    /// Runs a command for a message and waits for its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn run(&self, command: &[OsString], delivery: &Delivery) -> io::Result<Ended> {
        let [program, arguments @ ..] = command else { return Err(io::ErrorKind::InvalidInput.into()) };
        let spawn = || {
            Command::new(program)
                .args(arguments)
                .env("BACKLOG_OFFSET", delivery.offset().to_string())
                .env("BACKLOG_ATTEMPT", delivery.attempt().to_string())
                .env("BACKLOG_GROUP", delivery.group())
                .env("BACKLOG_ID", delivery.id())
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                // Ctrl-C on a terminal goes to a whole process group: it must reach us alone, so that
                // the command can end its work.
                .process_group(0)
                .spawn()
        };
        let (mut child, running) = {
            let mut running = self.lock();
            let child = spawn()?;
            let pid = Pid::from_child(&child);
            running.push(pid);
            (child, Running { children: self, pid })
        };
        let stderr = child.stderr.take().map(listen);
        if let Some(stdin) = child.stdin.take() {
            feed(stdin, delivery);
        }
        let status = wait(&mut child)?;
        drop(running);
        Ok(Ended { status, tail: stderr.map_or_else(String::new, |stderr| stderr.tail()) })
    }

    /// Asks all that still run to end.
    pub(super) fn terminate(&self) {
        for &pid in self.lock().iter() {
            // Gone meanwhile: that is what was wanted.
            let _ = kill_process_group(pid, Signal::TERM);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a command off the list, however it ended.
struct Running<'a> {
    children: &'a Children,
    pid: Pid,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.children.lock().retain(|&pid| pid != self.pid);
    }
}

fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    loop {
        match child.wait() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Writes the payload to a command. One that does not read it is no error: its exit code says what
/// it thinks of the message.
fn feed(mut stdin: ChildStdin, delivery: &Delivery) {
    if delivery.payload().len() <= AT_ONCE {
        let _ = stdin.write_all(delivery.payload());
        return;
    }
    // In a thread of its own: the command may write before it reads, or leave the pipe unread to
    // something in the background.
    let payload = delivery.to_payload();
    thread::spawn(move || {
        let _ = stdin.write_all(&payload);
    });
}

/// What is heard from a command.
struct Listener {
    tail: Arc<Mutex<VecDeque<u8>>>,
    ended: Receiver<()>,
}

impl Listener {
    fn tail(self) -> String {
        let _ = self.ended.recv_timeout(LAST_WORDS);
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Passes on what a command writes to stderr, and keeps the end of it.
fn listen(mut stderr: ChildStderr) -> Listener {
    let tail = Arc::new(Mutex::new(VecDeque::new()));
    let (end, ended) = mpsc::channel();
    let kept = tail.clone();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        loop {
            let got = match stderr.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => break,
                Ok(got) => got,
            };
            let _ = io::stderr().write_all(&bytes[..got]);
            let mut kept: MutexGuard<'_, VecDeque<u8>> = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend(&bytes[..got]);
            let over = kept.len().saturating_sub(TAIL);
            kept.drain(..over);
        }
        let _ = end.send(());
    });
    Listener { tail, ended }
}
