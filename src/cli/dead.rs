//! `backlog dead`, `revive`, `discard`: what becomes of messages that were given up, or are not wanted?

use backlog::{DeadLetter, DeadReason, Group, MessageState, Offset};
use serde_json::json;

use super::exit::{self, CLEAN, FINDINGS, Outcome};
use super::target::{InGroup, Target, offset};

/// List the messages that were given up.
///
/// A line for each: offset, reason, failures, losses, when it was pushed, when it was given up, what was
/// said last. Exit 1 if there are any.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    at: InGroup,
    /// For people, or for programs: an object a line
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Format {
    Text,
    Jsonl,
}

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
    args.at.with(|group| {
        let dead = group.dead();
        let mut pushed = pushed(group);
        for letter in &dead {
            let first = pushed.next_if(|(offset, _)| *offset == letter.offset).map(|(_, time)| time);
            while pushed.next_if(|(offset, _)| offset.get() < letter.offset.get() + letter.length).is_some() {
            }
            let line = if args.format == Format::Text { text(letter, first) } else { json(letter, first) };
            if !exit::print(&line)? {
                break;
            }
        }
        Ok(if dead.is_empty() { CLEAN } else { FINDINGS })
    })
}

/// When each dead letter was pushed, as far as it can be read.
fn pushed(group: &Group) -> std::iter::Peekable<impl Iterator<Item = (Offset, u64)>> {
    let browse = group.browse(MessageState::Dead).filter_map(Result::ok);
    browse.map(|peek| (peek.offset(), super::millis(peek.pushed_at()))).peekable()
}

fn reason(letter: &DeadLetter) -> &'static str {
    match letter.reason {
        DeadReason::Failures => "failures",
        DeadReason::Losses => "losses",
        DeadReason::Rejected => "rejected",
        DeadReason::Damaged => "damaged",
        DeadReason::Expired => "expired",
        _ => "other",
    }
}

fn text(letter: &DeadLetter, pushed: Option<u64>) -> String {
    let first = letter.offset.get();
    let offsets =
        if letter.length == 1 { first.to_string() } else { format!("{first}..{}", first + letter.length) };
    let pushed = pushed.map_or_else(|| "-".into(), super::time);
    let since = super::time(super::millis(letter.since));
    // One line each, whatever was said.
    let said = letter.error.as_deref().unwrap_or_default().escape_debug().to_string();
    let (reason, failures, losses) = (reason(letter), letter.failures, letter.losses);
    let line = format!("{offsets}\t{reason}\t{failures}\t{losses}\t{pushed}\t{since}\t{said}");
    format!("{}\n", line.trim_end())
}

fn json(letter: &DeadLetter, pushed: Option<u64>) -> String {
    let line = json!({
        "offset": letter.offset.get(),
        "length": letter.length,
        "reason": reason(letter),
        "failures": letter.failures,
        "losses": letter.losses,
        "pushed_ms": pushed,
        "since_ms": super::millis(letter.since),
        "error": letter.error,
    });
    format!("{line}\n")
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
