//! `backlog push`: how do lines and files get into a queue?

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use backlog::{Durability, Offsets, Options, Queue};
use indicatif::{ProgressBar, ProgressStyle};

use super::attributes::Attributes;
use super::exit::{self, CLEAN, Failure, Outcome};
use super::lines::Lines;

/// Bytes of the longest message: what the library allows unless told otherwise.
const LONGEST: usize = 64 << 20;
/// What one batch has at the most.
const BATCH_MESSAGES: usize = 1000;
const BATCH_BYTES: usize = 1 << 20;
/// How much is pushed between two syncs with `--buffered`.
const SYNC_EVERY: usize = 64 << 20;

/// Store messages, one a line; the queue is created if there is none.
///
/// Each line is a message, verbatim, without its newline: a CR stays, an empty line is an empty
/// message. Prints `FIRST..END`, a range of offsets (END not included), for what is on stable
/// storage now: so a push that was killed tells how far it got. It never waits for more input to
/// fill a batch.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The queue's folder
    dir: PathBuf,
    /// What to read, in order; `-` is stdin, and so is nothing
    files: Vec<PathBuf>,
    /// Messages end with a zero byte, not with a newline
    #[arg(short = '0', long, conflicts_with = "whole")]
    null: bool,
    /// Each file is one message
    #[arg(long)]
    whole: bool,
    /// Sync every 64 MiB and at the end only: faster; prints ranges then
    #[arg(long)]
    buffered: bool,
    /// How long to wait for a queue that is open elsewhere (500ms, 30s, 5m)
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "0s")]
    wait: Duration,
    #[command(flatten)]
    attributes: Attributes,
}

pub(super) fn run(args: &Args) -> Outcome {
    let stdin = [PathBuf::from("-")];
    let files = if args.files.is_empty() { &stdin[..] } else { &args.files[..] };
    if files.len() > 1 && args.attributes.are_of_one() {
        return Err(Failure::usage("a key is for one message: give one file"));
    }
    // Before anything is changed: a name that was mistyped must not leave half a push behind.
    for file in files {
        check(file)?;
    }
    let durability = if args.buffered { Durability::Buffered } else { Durability::Synced };
    let queue = Options::new(&args.dir)
        .durability(durability)
        .max_message_bytes(LONGEST as u64)
        .lock_timeout(args.wait)
        .open()?;
    super::tell_recovery(queue.recovery());
    let mut pusher = Pusher::new(queue, args);
    let pushed = files.iter().try_for_each(|file| {
        if args.whole { pusher.whole(file) } else { pusher.lines(file, if args.null { 0 } else { b'\n' }) }
    });
    // What was pushed before a failure stays, and is told.
    let empty = pusher.messages == 0 && pushed.is_ok();
    let finished = pusher.finish();
    if empty && finished.is_ok() {
        exit::say("nothing was pushed: the input is empty");
    }
    pushed.and(finished)
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Finds out whether a file can be read, as far as that is possible without reading.
fn check(file: &Path) -> Result<(), Failure> {
    if is_stdin(file) {
        return Ok(());
    }
    let failed = |error: io::Error| Failure::system(&format!("read {}", file.display()), &error);
    let about = fs::metadata(file).map_err(failed)?;
    if about.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    // A pipe is opened once only: its writer would notice.
    if about.is_file() {
        File::open(file).map_err(failed)?;
    }
    Ok(())
}

fn open(file: &Path) -> Result<Box<dyn Read>, Failure> {
    if is_stdin(file) {
        return Ok(Box::new(io::stdin().lock()));
    }
    match File::open(file) {
        Ok(open) => Ok(Box::new(open)),
        Err(error) => Err(Failure::system(&format!("read {}", file.display()), &error)),
    }
}

fn name(file: &Path) -> String {
    if is_stdin(file) { "stdin".into() } else { file.display().to_string() }
}

fn too_large(what: &str, length: usize) -> Failure {
    let (length, limit) = (length as u64, LONGEST as u64);
    Failure::from(backlog::Error::TooLarge { what: "a message".into(), length, limit }).about(&what)
}

/// Pushes, and tells what is durable.
struct Pusher<'a> {
    queue: Queue,
    buffered: bool,
    attributes: &'a Attributes,
    /// Pushed and not yet told, rows put together where they touch: first and end.
    untold: Vec<(u64, u64)>,
    unsynced: usize,
    messages: u64,
    /// Whether anybody reads stdout.
    heard: bool,
    bar: ProgressBar,
}

impl<'a> Pusher<'a> {
    fn new(queue: Queue, args: &'a Args) -> Self {
        let (buffered, attributes) = (args.buffered, &args.attributes);
        // Where ranges appear on the terminal, they are the progress.
        let show = io::stderr().is_terminal() && !io::stdout().is_terminal();
        let bar = if show { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{human_pos} messages pushed, {per_sec}, {elapsed}") {
            bar.set_style(style);
        }
        Self { queue, buffered, attributes, untold: Vec::new(), unsynced: 0, messages: 0, heard: true, bar }
    }

    fn lines(&mut self, file: &Path, delimiter: u8) -> Result<(), Failure> {
        let mut lines = Lines::new(open(file)?, delimiter, LONGEST);
        let mut number = 0;
        loop {
            let read = lines.read();
            let Some(complete) = read.map_err(|error| Failure::input(&name(file), &error))? else {
                return Ok(());
            };
            let good = complete.iter().take_while(|line| line.len() <= LONGEST).count();
            self.batches(&complete[..good])?;
            number += good as u64;
            let long = complete.get(good).map(|line| line.len());
            if let Some(length) = long.or(lines.is_too_long().then_some(LONGEST + 1)) {
                return Err(too_large(&format!("{}, line {}", name(file), number + 1), length));
            }
        }
    }

    fn whole(&mut self, file: &Path) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        let read = open(file)?.take(LONGEST as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| Failure::input(&name(file), &error))?;
        if bytes.len() > LONGEST {
            return Err(too_large(&name(file), bytes.len()));
        }
        // An empty file is a message; an empty stdin is a command that failed before the pipe.
        if bytes.is_empty() && is_stdin(file) { Ok(()) } else { self.batches(&[&bytes]) }
    }

    /// Pushes messages that are there, in batches that are not too large.
    fn batches(&mut self, mut messages: &[&[u8]]) -> Result<(), Failure> {
        while !messages.is_empty() {
            let mut bytes = 0;
            let fits = messages.iter().take(BATCH_MESSAGES).take_while(|message| {
                bytes += message.len();
                bytes <= BATCH_BYTES
            });
            let (batch, rest) = messages.split_at(fits.count().max(1));
            messages = rest;
            let offsets =
                self.queue.push_batch(batch.iter().map(|payload| self.attributes.message(payload)))?;
            self.pushed(&offsets, batch.iter().map(|message| message.len()).sum())?;
        }
        Ok(())
    }

    fn pushed(&mut self, offsets: &Offsets, bytes: usize) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return Ok(()) };
        let (first, end) = (first.get(), last.get() + 1);
        match self.untold.last_mut() {
            Some(row) if row.1 == first => row.1 = end,
            _ => self.untold.push((first, end)),
        }
        self.messages += end - first;
        self.bar.inc(end - first);
        self.unsynced += bytes;
        if self.buffered && self.unsynced < SYNC_EVERY { Ok(()) } else { self.tell() }
    }

    /// Prints what is durable, once it is.
    fn tell(&mut self) -> Result<(), Failure> {
        if self.untold.is_empty() {
            return Ok(());
        }
        if self.buffered {
            self.queue.sync()?;
        }
        self.unsynced = 0;
        for (first, end) in std::mem::take(&mut self.untold) {
            // Nobody may read on, and the messages are wanted all the same.
            self.heard = self.heard && exit::print(&format!("{first}..{end}\n"))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Outcome {
        let told = self.tell();
        self.bar.finish_and_clear();
        let closed = self.queue.close();
        told?;
        closed?;
        Ok(CLEAN)
    }
}
