//! `backlog work`: how does a command get the messages of a group, one at a time?

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use backlog::{Consumer, Delivery, GroupStats, Options, Outcome as Settle, PoolReport, Queue, Stopper};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::child::Children;
use super::exit::{self, CLEAN, FINDINGS, Failure, Outcome};
use super::target::DEFAULT;

/// The exit code (`EX_DATAERR`) by which a command says that a message will never do.
const REJECT: i32 = 65;

/// Run a command for each message: a durable xargs.
///
/// CMD gets the message on its stdin, and BACKLOG_OFFSET, BACKLOG_ATTEMPT, BACKLOG_GROUP and
/// BACKLOG_ID (the same at every attempt, unique in the world) in its environment. Exit 0: done.
/// Exit 65: to the dead letters. Anything else: again later, with the end of its stderr as the
/// reason. Ctrl-C or SIGTERM: no more messages are taken, running commands may end; a second one
/// ends at once.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The queue's folder
    dir: PathBuf,
    /// Whose messages; groups other than `default` must exist
    #[arg(long, default_value = DEFAULT)]
    group: String,
    /// How many commands run at a time
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// End after so many messages
    #[arg(short = 'n', long)]
    count: Option<u64>,
    /// End when nothing is ready or on loan; exit 1 if retries remain
    #[arg(long)]
    until_empty: bool,
    /// How long running commands may take once it is to stop; then they get SIGTERM, and their
    /// messages go back uncounted
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "30s")]
    grace: Duration,
    /// How long to wait for a queue that is open elsewhere
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "0s")]
    wait: Duration,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What the workers share.
struct Shop {
    command: Vec<OsString>,
    children: Children,
    stopping: AtomicBool,
    stopper: OnceLock<Stopper>,
    /// Why no command can be started.
    broken: Mutex<Option<Failure>>,
    bar: ProgressBar,
}

pub(super) fn run(args: Args) -> Outcome {
    let queue = Options::new(&args.dir).create(false).lock_timeout(args.wait).open()?;
    super::tell_recovery(queue.recovery());
    let shop = Arc::new(Shop {
        command: args.command.clone(),
        children: Children::default(),
        stopping: AtomicBool::new(false),
        stopper: OnceLock::new(),
        broken: Mutex::new(None),
        bar: bar(),
    });
    watch_signals(&shop)?;
    let worked = work(&args, &queue, &shop);
    shop.children.terminate();
    shop.bar.finish_and_clear();
    let left = stats_of(&queue, &args.group);
    let closed = queue.close();
    if let Some(failure) = shop.broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(failure);
    }
    let report = worked?;
    closed?;
    Ok(tell(&args, &report, left.as_ref()))
}

fn work(args: &Args, queue: &Queue, shop: &Arc<Shop>) -> Result<PoolReport, Failure> {
    let consumer: Consumer =
        if args.group == DEFAULT { queue.consumer()? } else { queue.group(&args.group)?.consumer() };
    let mut pool = consumer.pool(args.jobs.into()).grace(args.grace);
    if let Some(count) = args.count {
        pool = pool.limit(count);
    }
    if args.until_empty {
        pool = pool.until_idle();
    }
    let handler = shop.clone();
    let pool = pool.spawn(move |delivery| handler.handle(delivery))?;
    // A signal may have come before there was anything to stop.
    let stopper = shop.stopper.get_or_init(|| pool.stopper());
    if shop.stopping.load(Ordering::SeqCst) {
        stopper.stop();
    }
    Ok(pool.join_or_stop()?)
}

impl Shop {
    fn handle(&self, delivery: &Delivery) -> Result<Settle, String> {
        let ended = match self.children.run(&self.command, delivery) {
            Ok(ended) => ended,
            Err(error) => {
                self.give_up(&error);
                return Ok(Settle::Release);
            }
        };
        self.bar.inc(1);
        match ended.status.code() {
            Some(0) => Ok(Settle::Ack),
            Some(REJECT) => Ok(Settle::Reject(ended.reason())),
            // Who stops a service may signal all of its processes: the message is not to blame.
            None if self.stopping.load(Ordering::SeqCst) && ended.status.signal().is_some() => {
                Ok(Settle::Release)
            }
            _ => Err(ended.reason()),
        }
    }

    /// Stops everything: a command that cannot be started must not use up the tries of messages.
    fn give_up(&self, error: &io::Error) {
        let program = self.command.first().map(|program| program.to_string_lossy()).unwrap_or_default();
        let failure = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                Failure::usage(format!("cannot run {program}: {error}; its message was given back"))
            }
            _ => Failure::system(&format!("run {program}"), error),
        };
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        // The pool is being spawned by the thread that sets it.
        self.stop(self.stopper.wait());
    }

    fn stop(&self, stopper: &Stopper) {
        self.stopping.store(true, Ordering::SeqCst);
        stopper.stop();
    }
}

/// Stops at the first signal, and ends at the second.
fn watch_signals(shop: &Arc<Shop>) -> Result<(), Failure> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|error| Failure::system(&"listen to signals", &error))?;
    let shop = shop.clone();
    thread::spawn(move || {
        for (count, signal) in signals.forever().enumerate() {
            if count > 0 {
                shop.children.terminate();
                std::process::exit(128 + signal);
            }
            shop.stopping.store(true, Ordering::SeqCst);
            if let Some(stopper) = shop.stopper.get() {
                stopper.stop();
            }
            // Said once it is true: no message is taken after this line.
            exit::say("stopping: waiting for the commands that run; once more to end at once");
        }
    });
    Ok(())
}

fn bar() -> ProgressBar {
    // What the commands print on a terminal is progress enough.
    let show = io::stderr().is_terminal() && !io::stdout().is_terminal();
    let bar = if show { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{human_pos} commands run, {per_sec}, {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn stats_of(queue: &Queue, group: &str) -> Option<GroupStats> {
    queue.stats().groups.into_iter().find(|stats| stats.name == group)
}

/// Says what was done and what is left; returns the exit code.
fn tell(args: &Args, report: &PoolReport, left: Option<&GroupStats>) -> u8 {
    for damage in &report.damaged {
        exit::say(&damage.to_string());
    }
    let PoolReport { acked, nacked, rejected, released, .. } = report;
    exit::say(&format!("{acked} acked, {nacked} nacked, {rejected} rejected, {released} released"));
    let mut code = if report.damaged.is_empty() { CLEAN } else { FINDINGS };
    let Some(left) = left.filter(|_| args.until_empty) else { return code };
    let waiting = left.ready + left.delayed + left.on_loan;
    if waiting > 0 {
        let due =
            left.next_due.map_or_else(String::new, |due| format!("; the next is due {}", super::time(due)));
        exit::say(&format!("{} left ({} delayed){due}", exit::count(waiting, "message"), left.delayed));
        code = FINDINGS;
    }
    code
}
