//! Mails from two producers, sent by a worker that may fail.
//!
//! ```text
//! cargo run --release --example email -- [--mails 100] [--fail 0.2] [--seed 7] [--smtp HOST[:PORT]] [FOLDER]
//! ```
//!
//! Two threads push sign-up and password-reset mails. A worker writes each as an RFC 5322 file into
//! `FOLDER/Maildir`, or sends it to `--smtp`. The file's name is the message's id, which is the same
//! at every delivery, so that a repeat overwrites and does no harm. `--fail` makes a part of the
//! attempts fail: they are tried again, and what fails too often is kept among the dead letters.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};

use backlog::{Delivery, Error, Group, GroupOptions, Queue, Retry};

mod smtp;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Why a mail was not sent, and so what becomes of its message.
enum Failure {
    /// It may work later.
    Retry(String),
    /// It never will.
    Never(String),
}

struct Arguments {
    mails: usize,
    fail: f64,
    seed: u64,
    smtp: Option<String>,
    folder: PathBuf,
}

fn main() -> Fallible<()> {
    let arguments = arguments()?;
    let maildir = arguments.folder.join("Maildir");
    for part in ["tmp", "new", "cur"] {
        fs::create_dir_all(maildir.join(part))?;
    }
    let queue = Queue::open(arguments.folder.join("jobs"))?;
    let mailer = mailer(&queue)?;

    thread::scope(|scope| -> Fallible<()> {
        let producers = [("sign-up", arguments.mails.div_ceil(2)), ("password-reset", arguments.mails / 2)]
            .map(|(kind, count)| (kind, count, queue.clone()))
            .map(|(kind, count, queue)| scope.spawn(move || produce(&queue, kind, count)));
        let worker = mailer.consumer();
        while !(producers.iter().all(|producer| producer.is_finished()) && is_idle(&mailer)) {
            // The wait ends as soon as something is there; its length matters only at the very end.
            if let Some(job) = worker.recv_timeout(Duration::from_millis(50))? {
                handle(job, &arguments, &maildir)?;
            }
        }
        for producer in producers {
            producer.join().map_err(|_| "a producer panicked")??;
        }
        Ok(())
    })?;

    let dead = mailer.stats().dead;
    let files = fs::read_dir(maildir.join("new"))?.count();
    println!("{} mails, {dead} dead letters, {files} files in {}", arguments.mails, maildir.display());
    queue.close()?;
    Ok(())
}

/// Finds the group, or makes it: three attempts, with waits that fit a demonstration.
fn mailer(queue: &Queue) -> backlog::Result<Group> {
    let waits = Retry::exponential(Duration::from_millis(20), Duration::from_millis(200));
    match queue.group("mailer") {
        Err(Error::NoSuchGroup { .. }) => {
            queue.create_group("mailer", GroupOptions::new().retry(waits).max_failures(3))
        }
        other => other,
    }
}

/// A mail to be sent is three lines: kind, address, name.
fn produce(queue: &Queue, kind: &str, count: usize) -> backlog::Result<()> {
    for number in 0..count {
        // The first address of each kind is no address: that mail can never be sent.
        let at = if number == 0 { " at " } else { "@" };
        queue.push(format!("{kind}\nuser-{number}{at}{kind}.example\nUser {number}"))?;
    }
    Ok(())
}

fn is_idle(group: &Group) -> bool {
    let stats = group.stats();
    stats.ready + stats.delayed + stats.on_loan == 0
}

fn handle(job: Delivery, arguments: &Arguments, maildir: &Path) -> backlog::Result<()> {
    let sent = if roll(arguments.seed, job.payload(), job.attempt()) < arguments.fail {
        Err(Failure::Retry("the mail server is busy (made up by --fail)".into()))
    } else {
        send(&job, arguments.smtp.as_deref(), maildir)
    };
    let (id, attempt) = (job.id(), job.attempt());
    match sent {
        Ok(()) => job.ack(),
        Err(Failure::Retry(reason)) => {
            println!("{id}: attempt {attempt} failed: {reason}");
            job.nack(reason)
        }
        Err(Failure::Never(reason)) => {
            println!("{id}: given up: {reason}");
            job.reject(reason)
        }
    }
}

fn send(job: &Delivery, smtp: Option<&str>, maildir: &Path) -> Result<(), Failure> {
    let mail = Mail::parse(job).map_err(Failure::Never)?;
    match smtp {
        Some(host) => smtp::send(host, SENDER, &mail.to, &mail.text),
        None => store(maildir, &job.id(), &mail.text)
            .map_err(|error| Failure::Retry(format!("cannot write to {}: {error}", maildir.display()))),
    }
}

/// Writes to `tmp`, then renames: nobody ever sees half a mail.
fn store(maildir: &Path, id: &str, text: &str) -> std::io::Result<()> {
    let written = maildir.join("tmp").join(id);
    fs::write(&written, text)?;
    fs::File::open(&written)?.sync_all()?;
    fs::rename(&written, maildir.join("new").join(id))?;
    // The ack follows: the name must be safe before it.
    fs::File::open(maildir.join("new"))?.sync_all()
}

const SENDER: &str = "no-reply@shop.example";

struct Mail {
    to: String,
    text: String,
}

impl Mail {
    /// Makes a mail of a message. What is in a queue was written by others: a line break in an
    /// address or a name would add headers, or commands, of its own.
    fn parse(job: &Delivery) -> Result<Self, String> {
        let text = std::str::from_utf8(job.payload()).map_err(|error| error.to_string())?;
        let parts: Vec<&str> = text.split('\n').collect();
        let [kind, to, name] = parts[..] else { return Err("not three lines".into()) };
        let (to, name) = (address(to)?, plain(name)?);
        let (subject, line) = match kind {
            "sign-up" => ("Welcome", "Your account is ready\r\n... and so are we."),
            "password-reset" => ("Your new password", "Somebody, maybe you, asked for a new password."),
            other => return Err(format!("no such kind of mail: {other:?}")),
        };
        let (id, date) = (job.id(), date(job.pushed_at()));
        let head = format!(
            "From: Shop <{SENDER}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nDate: {date}\r\nMessage-ID: <{id}@shop.example>\r\n"
        );
        let mime = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n";
        Ok(Self { to: to.into(), text: format!("{head}{mime}\r\nDear {name},\r\n\r\n{line}\r\n") })
    }
}

/// Lets printable ASCII of a sensible length pass, and so no line break.
fn plain(text: &str) -> Result<&str, String> {
    let good = text.len() <= 200 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if good { Ok(text) } else { Err(format!("{text:?} is not plain printable text")) }
}

fn address(text: &str) -> Result<&str, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte);
    match plain(text)?.split_once('@') {
        Some((user, host))
            if !user.is_empty()
                && user.bytes().all(allowed)
                && !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)) =>
        {
            Ok(text)
        }
        _ => Err(format!("{text:?} is no address")),
    }
}

/// Writes a time as RFC 5322 has it: `Tue, 14 Nov 2023 22:13:20 +0000`.
fn date(time: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let weekday = DAYS[usize::try_from(days % 7).unwrap_or(0)];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (day, month) = (day + 1, MONTHS[month]);
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} +0000")
}

/// Returns a number from 0 to below 1 that depends on nothing but these three: with the same seed the
/// same attempts fail, in whatever order the mails come.
fn roll(seed: u64, payload: &[u8], attempt: u32) -> f64 {
    // FNV-1a over all of it, then the finish of splitmix64.
    let bytes = payload.iter().copied().chain(attempt.to_le_bytes());
    let hash = bytes.fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let high = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(u32::MAX);
    f64::from(high) / (f64::from(u32::MAX) + 1.0)
}

fn arguments() -> Fallible<Arguments> {
    let mut found = Arguments {
        mails: 100,
        fail: 0.0,
        seed: 7,
        smtp: None,
        folder: env::temp_dir().join("backlog-email"),
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match &word[..] {
            "--mails" => found.mails = value()?.parse()?,
            "--fail" => found.fail = value()?.parse()?,
            "--seed" => found.seed = value()?.parse()?,
            "--smtp" => found.smtp = Some(value()?),
            option if option.starts_with('-') => return Err(format!("no such option: {option}").into()),
            folder => found.folder = folder.into(),
        }
    }
    Ok(found)
}
