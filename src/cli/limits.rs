//! `backlog limits`: how much does a queue keep and take?

use std::fmt::Write as _;
use std::time::Duration;

use backlog::{Limits, Options, WhenFull};

use super::exit::{self, CLEAN, Outcome};
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
}

pub(super) fn run(args: &Args) -> Outcome {
    let limits = if args.changes() {
        args.target.with_options(|options| args.apply(options), |queue| Ok(queue.limits()))?
    } else {
        backlog::inspect(args.target.dir())?.limits
    };
    exit::print(&text(&limits))?;
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

fn text(limits: &Limits) -> String {
    let number = |limit: Option<u64>| limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
    let time = |time: Duration| humantime::format_duration(time).to_string().replace(' ', "");
    let policy = match limits.when_full {
        WhenFull::Block(wait) => format!("block:{}", time(wait)),
        WhenFull::DiscardOldest => "discard-oldest".into(),
        _ => "refuse".into(),
    };
    let rows = [
        ("max-bytes", number(limits.max_bytes)),
        ("max-messages", number(limits.max_messages)),
        ("when-full", policy),
        ("min-free", number(limits.min_free_bytes)),
        ("retain-for", limits.retain_for.map_or_else(|| "-".to_owned(), time)),
        ("retain-bytes", number(limits.retain_bytes)),
    ];
    let mut out = String::new();
    for (name, value) in rows {
        let _ = writeln!(out, "{name:<13} {value}");
    }
    out
}

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
