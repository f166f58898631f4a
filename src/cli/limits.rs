//! `backlog limits`: how much does a queue keep and take?

use std::time::Duration;

use backlog::{Limits, Options, WhenFull};
use serde_json::{Value, json};

use super::exit::{CLEAN, Outcome};
use super::out::{As, Column, Document, Is, column};
use super::target::Target;

/// Show the limits that are stored with a queue, or change some; every program goes by them.
///
/// Without an option it takes no lock and writes nothing. 0 takes a limit back.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// The most bytes of the log's segments, done or not (64 KiB at least)
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,
    /// The most messages that a group has not done
    #[arg(long, value_name = "COUNT")]
    max_messages: Option<u64>,
    /// What becomes of a push that finds no room: `refuse`, `block:TIME`, `discard-oldest`
    #[arg(long, value_parser = when_full, value_name = "POLICY")]
    when_full: Option<WhenFull>,
    /// Bytes of the file system that are left to others
    #[arg(long, value_name = "BYTES")]
    min_free: Option<u64>,
    /// Keep what is done in every group for so long (500ms, 30s, 5m, 2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    retain_for: Option<Duration>,
    /// Keep so many bytes of what is done in every group
    #[arg(long, value_name = "BYTES")]
    retain_bytes: Option<u64>,
    #[command(flatten)]
    form: As,
}

pub(super) fn run(args: &Args) -> Outcome {
    let limits = if args.changes() {
        args.target.with_options(|options| args.apply(options), |queue| Ok(queue.limits()))?
    } else {
        backlog::inspect(args.target.dir())?.limits
    };
    Document { facts: facts(&limits), shown: &SHOWN, lists: Vec::new() }.write(args.form)?;
    Ok(CLEAN)
}

impl Args {
    fn changes(&self) -> bool {
        let sizes = [self.max_bytes, self.max_messages, self.min_free, self.retain_bytes];
        sizes.iter().any(Option::is_some) || self.when_full.is_some() || self.retain_for.is_some()
    }

    fn apply(&self, mut options: Options) -> Options {
        if let Some(bytes) = self.max_bytes {
            options = options.max_bytes(bytes);
        }
        if let Some(messages) = self.max_messages {
            options = options.max_messages(messages);
        }
        if let Some(when_full) = self.when_full {
            options = options.when_full(when_full);
        }
        if let Some(bytes) = self.min_free {
            options = options.min_free_bytes(bytes);
        }
        if let Some(time) = self.retain_for {
            options = options.retain_for(time);
        }
        if let Some(bytes) = self.retain_bytes {
            options = options.retain_bytes(bytes);
        }
        options
    }
}

/// The limits, for programs: of those that are times, milliseconds.
pub(super) fn facts(limits: &Limits) -> Value {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let time = |time: Duration| humantime::format_duration(time).to_string().replace(' ', "");
    let policy = match limits.when_full {
        WhenFull::Block(wait) => format!("block:{}", time(wait)),
        WhenFull::DiscardOldest => "discard-oldest".into(),
        _ => "refuse".into(),
    };
    json!({
        "max_bytes": limits.max_bytes,
        "max_messages": limits.max_messages,
        "when_full": policy,
        "min_free_bytes": limits.min_free_bytes,
        "retain_for_ms": limits.retain_for.map(millis),
        "retain_for": limits.retain_for.map(time),
        "retain_bytes": limits.retain_bytes,
    })
}

const SHOWN: [Column; 7] = [
    column("max_bytes", "max-bytes", Is::Text),
    column("max_messages", "max-messages", Is::Text),
    column("when_full", "when-full", Is::Text),
    column("min_free_bytes", "min-free", Is::Text),
    column("retain_for", "retain-for", Is::Text),
    column("retain_bytes", "retain-bytes", Is::Text),
    column("retain_for_ms", "", Is::Number),
];

fn when_full(text: &str) -> Result<WhenFull, String> {
    match text {
        "refuse" => return Ok(WhenFull::Refuse),
        "discard-oldest" => return Ok(WhenFull::DiscardOldest),
        _ => {}
    }
    let Some(time) = text.strip_prefix("block:") else {
        return Err("write `refuse`, `block:5s` or `discard-oldest`".into());
    };
    super::duration(time).map(WhenFull::Block)
}
