//! `backlog recv`: how does a script get one message, to settle it later?

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backlog::{Delivery, Outcome as Settle, Queue};

use super::exit::{self, CLEAN, FINDINGS, Failure, Outcome};
use super::target::{DEFAULT, InGroup};

/// Receive one message, and print it.
///
/// The loan has a time limit and survives this process: settle it with `ack`, `nack` or `extend` and its
/// receipt, or it comes again when the time is over, which counts as a failure. The receipt goes to
/// the file that --receipt names; with --to, to stdout; else to stderr. Nothing there: exit 1.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    at: InGroup,
    /// How long the loan lasts
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "10m")]
    lease: Duration,
    /// How long to wait for a message
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "0s")]
    timeout: Duration,
    /// Ack it once it was printed: nothing is left to be settled
    #[arg(long, conflicts_with = "receipt")]
    ack: bool,
    /// Write the message to this file, and the receipt to stdout
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Write the receipt to this file
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Outcome {
    args.at.target.with(|queue| receive(args, queue))
}

fn receive(args: &Args, queue: &Queue) -> Outcome {
    let group = &args.at.group;
    let worker = if group == DEFAULT { queue.consumer()? } else { queue.group(group)?.consumer() };
    let Some(job) = worker.with_lease(args.lease).recv_timeout(args.timeout)? else {
        return Ok(FINDINGS);
    };
    match hand_over(args, &job) {
        Ok(true) => {}
        // Nobody has it: it is ready again, uncounted.
        Ok(false) => {
            job.release()?;
            return Ok(CLEAN);
        }
        Err(failure) => {
            job.release()?;
            return Err(failure);
        }
    }
    if args.ack {
        job.ack()?;
        return Ok(CLEAN);
    }
    if args.receipt.is_none() && args.to.is_none() {
        exit::say(&format!("message {}, receipt {}", job.offset(), job.receipt()));
    }
    // The loan stays, and this process need not.
    let _settled_by_its_receipt = job.leave();
    Ok(CLEAN)
}

/// Hands the message over, receipt first: who has the message can settle it. Tells whether somebody
/// took it.
fn hand_over(args: &Args, job: &Delivery) -> Result<bool, Failure> {
    let receipt = format!("{}\n", job.receipt());
    if let Some(file) = &args.receipt {
        write(file, receipt.as_bytes())?;
    }
    let Some(file) = &args.to else { return exit::print(job.payload()) };
    write(file, job.payload())?;
    if args.ack || args.receipt.is_some() { Ok(true) } else { exit::print(&receipt) }
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = File::create(file).and_then(|mut out| out.write_all(bytes));
    written.map_err(|error| Failure::system(&format!("write {}", file.display()), &error))
}

/// Say that a message is done, by its receipt.
///
/// Exit 4 if the loan is over: the message came, or comes, again.
#[derive(Debug, clap::Args)]
pub(super) struct Ack {
    #[command(flatten)]
    loan: Loan,
}

/// Say that a message failed, by its receipt: it comes again by the group's retry policy.
#[derive(Debug, clap::Args)]
pub(super) struct Nack {
    #[command(flatten)]
    loan: Loan,
    /// Why; the last 1,024 bytes are kept
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Again after so long, whatever the policy says
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    after: Option<Duration>,
    /// To the dead letters, now
    #[arg(long, conflicts_with_all = ["after", "release"])]
    reject: bool,
    /// Give it back, uncounted
    #[arg(long, conflicts_with = "after")]
    release: bool,
}

/// Let a loan end later, by its receipt: so much from now.
#[derive(Debug, clap::Args)]
pub(super) struct Extend {
    #[command(flatten)]
    loan: Loan,
    /// How long the loan lasts from now on
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "10m")]
    lease: Duration,
}

#[derive(Debug, clap::Args)]
struct Loan {
    #[command(flatten)]
    target: super::target::Target,
    /// The receipt, or @FILE that holds it
    receipt: String,
}

impl Loan {
    fn settle(&self, how: impl FnOnce(&Queue, &backlog::Receipt) -> backlog::Result<()>) -> Outcome {
        let text = match self.receipt.strip_prefix('@') {
            None => self.receipt.clone(),
            Some(file) => std::fs::read_to_string(file).map_err(|error| Failure::input(&file, &error))?,
        };
        let receipt = text.parse().map_err(Failure::from)?;
        self.target.with(|queue| Ok(how(queue, &receipt)?))?;
        Ok(CLEAN)
    }
}

pub(super) fn ack(args: &Ack) -> Outcome {
    args.loan.settle(|queue, receipt| queue.settle(receipt, &Settle::Ack))
}

pub(super) fn nack(args: &Nack) -> Outcome {
    let reason = args.reason.clone();
    let outcome = match args.after {
        _ if args.reject => Settle::Reject(reason),
        _ if args.release => Settle::Release,
        Some(after) => Settle::NackAfter(after, reason),
        None => Settle::Nack(reason),
    };
    args.loan.settle(|queue, receipt| queue.settle(receipt, &outcome))
}

pub(super) fn extend(args: &Extend) -> Outcome {
    args.loan.settle(|queue, receipt| queue.extend(receipt, args.lease))
}
