//! `backlog dead`, `revive`, `discard`: what becomes of messages that were given up, or are not wanted?

use backlog::{DeadLetter, DeadReason, Offset, View};
use serde_json::{Value, json};

use super::exit::{self, CLEAN, FINDINGS, Outcome};
use super::look::Folder;
use super::out::{As, Column, Is, Rows, column};
use super::payload::Payloads;
use super::target::{DEFAULT, InGroup, Target, offset};

/// List the messages that were given up: why, how often they failed, what was said last.
///
/// Looks only: takes no lock and writes nothing, also beside a running `work` or `push`. Exit 1 if there are any.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// The group
    #[arg(long, default_value = DEFAULT)]
    group: String,
    #[command(flatten)]
    payloads: Payloads,
    #[command(flatten)]
    form: As,
}

const COLUMNS: [Column; 11] = [
    column("offset", "offset", Is::Number),
    column("length", "", Is::Number),
    column("reason", "reason", Is::State),
    column("failures", "failures", Is::Number),
    column("losses", "losses", Is::Number),
    column("pushed_ms", "pushed", Is::Time),
    column("since_ms", "given up", Is::Time),
    column("bytes", "bytes", Is::Bytes),
    column("kind", "kind", Is::Text),
    column("error", "said last", Is::Text),
    column("payload", "payload", Is::Text),
];

/// Make dead letters ready again, with their counters at zero.
///
/// Prints how many.
#[derive(Debug, clap::Args)]
pub(super) struct Revive {
    #[command(flatten)]
    at: InGroup,
    /// Which
    #[arg(value_parser = offset, required_unless_present = "all", conflicts_with = "all")]
    offsets: Vec<Offset>,
    /// All whose bytes have not gone bad
    #[arg(long)]
    all: bool,
}

/// Cancel messages: make them done without a delivery, wherever they are, on loan too.
///
/// Prints how many were not done. In every group, unless one is named.
#[derive(Debug, clap::Args)]
pub(super) struct Discard {
    #[command(flatten)]
    target: Target,
    /// Which
    #[arg(value_parser = offset, required_unless_present = "key", conflicts_with = "key")]
    offsets: Vec<Offset>,
    /// Those with that dedup or unique key
    #[arg(long)]
    key: Option<String>,
    /// In this group only
    #[arg(long)]
    group: Option<String>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let mut view = args.folder.view()?;
    let seen = view.inspection();
    let unborn = args.group == DEFAULT && seen.groups.is_empty() && seen.refused.is_empty();
    let dead = if unborn { Vec::new() } else { view.dead(&args.group)? };
    let columns: Vec<Column> =
        COLUMNS.into_iter().filter(|column| column.key != "payload" || args.payloads.are_shown()).collect();
    let mut rows = Rows::new(args.form, "dead", &columns);
    for letter in &dead {
        if !rows.push(row(&mut view, letter, &args.payloads)?)? {
            break;
        }
    }
    rows.end_if_any()?;
    Ok(if dead.is_empty() { CLEAN } else { FINDINGS })
}

pub(super) fn reason(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::Failures => "failures",
        DeadReason::Losses => "losses",
        DeadReason::Rejected => "rejected",
        DeadReason::Damaged => "damaged",
        DeadReason::Expired => "expired",
        _ => "other",
    }
}

fn row(view: &mut View, letter: &DeadLetter, payloads: &Payloads) -> Result<Value, exit::Failure> {
    let mut row = json!({
        "offset": letter.offset.get(),
        "length": letter.length,
        "reason": reason(letter.reason),
        "failures": letter.failures,
        "losses": letter.losses,
        "since_ms": super::millis(letter.since),
        "error": letter.error,
    });
    // What has gone bad cannot be read, and of a row the first stands for all.
    if let (Ok(Some(message)), Value::Object(fields)) = (view.get(letter.offset), &mut row) {
        let about = super::payload::about(&message);
        fields.extend(about.into_iter().filter(|(name, _)| name != "offset"));
        payloads.add(&message, fields)?;
    }
    Ok(row)
}

pub(super) fn revive(args: &Revive) -> Outcome {
    args.at.with(|group| {
        let revived =
            if args.all { group.revive_all()? } else { group.revive(args.offsets.iter().copied())? };
        exit::print(&format!("{revived}\n"))?;
        Ok(CLEAN)
    })
}

pub(super) fn discard(args: &Discard) -> Outcome {
    args.target.with(|queue| {
        let discarded = match (&args.group, &args.key) {
            (Some(group), Some(key)) => queue.group(group)?.discard_key(key)?,
            (Some(group), None) => queue.group(group)?.discard(args.offsets.iter().copied())?,
            (None, Some(key)) => queue.discard_key(key)?,
            (None, None) => {
                let mut count = 0;
                for &offset in &args.offsets {
                    count += u64::from(queue.discard(offset)?);
                }
                count
            }
        };
        exit::print(&format!("{discarded}\n"))?;
        Ok(CLEAN)
    })
}
