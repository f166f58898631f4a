//! `backlog check`: is all within the limits that somebody set for his monitoring?

use std::time::{Duration, SystemTime};

use backlog::{Inspection, Offset, View};
use serde_json::json;

use super::exit::{CLEAN, FINDINGS, Failure, Outcome};
use super::info::free_bytes;
use super::look::{Folder, refused};
use super::out::{As, Column, Is, Rows, column};

/// Compare what there is with limits, for monitoring: exit 0 if all is within them, 1 if not.
///
/// A line for each limit and group. Groups whose files are damaged are over every limit. Looks only: takes no lock
/// and writes nothing, also beside a running `work` or `push`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// This group only
    #[arg(long)]
    group: Option<String>,
    /// At most so many messages that are neither done nor dead
    #[arg(long, value_name = "COUNT")]
    max_lag: Option<u64>,
    /// The oldest of those was pushed at most so long ago
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    max_age: Option<Duration>,
    /// At most so many dead letters
    #[arg(long, value_name = "COUNT")]
    max_dead: Option<u64>,
    /// At most so many bytes are kept by a group
    #[arg(long, value_name = "BYTES")]
    max_pinned: Option<u64>,
    /// At least so many bytes are free on the disk
    #[arg(long, value_name = "BYTES")]
    min_free: Option<u64>,
    #[command(flatten)]
    form: As,
}

const COLUMNS: [Column; 5] = [
    column("check", "check", Is::Text),
    column("group", "group", Is::Text),
    column("value", "value", Is::Number),
    column("limit", "limit", Is::Number),
    column("verdict", "is", Is::State),
];

pub(super) fn run(args: &Args) -> Outcome {
    let groups =
        [args.max_lag.is_some(), args.max_age.is_some(), args.max_dead.is_some(), args.max_pinned.is_some()];
    if !groups.contains(&true) && args.min_free.is_none() {
        return Err(Failure::usage(
            "say what to check: --max-lag, --max-age, --max-dead, --max-pinned, --min-free",
        ));
    }
    let mut view = args.folder.view()?;
    let seen = view.inspection();
    if let Some(name) = &args.group {
        view.dead(name)?;
    }
    let mut rows = Rows::new(args.form, "checks", &COLUMNS);
    let mut over = false;
    let mut tell = |check: &str, group: Option<&str>, (value, limit): (Option<u64>, u64), good: bool| {
        over |= !good;
        let verdict = if good { "ok" } else { "over" };
        rows.push(
            json!({ "check": check, "group": group, "value": value, "limit": limit, "verdict": verdict }),
        )
    };
    for (index, group) in seen.groups.iter().enumerate() {
        if args.group.as_ref().is_some_and(|name| *name != group.name) {
            continue;
        }
        let name = Some(&group.name[..]);
        let lag = group.ready + group.delayed + group.on_loan;
        for (check, value, limit) in [
            ("lag", lag, args.max_lag),
            ("dead", group.dead, args.max_dead),
            ("pinned", group.pinned_bytes, args.max_pinned),
        ] {
            if let Some(limit) = limit {
                tell(check, name, (Some(value), limit), value <= limit)?;
            }
        }
        if let Some(most) = args.max_age {
            let age = oldest(&mut view, &seen, index)?.unwrap_or_default();
            tell("age_ms", name, (Some(millis(age)), millis(most)), age <= most)?;
        }
    }
    // Nobody reads yet: all of it waits for the first who comes.
    if seen.groups.is_empty() && seen.refused.is_empty() && args.group.is_none() {
        let waiting: u64 = seen.segments.iter().map(|segment| segment.live).sum();
        if let Some(limit) = args.max_lag {
            tell("lag", None, (Some(waiting), limit), waiting <= limit)?;
        }
        if let Some(most) = args.max_age {
            let first = view.messages(Offset::MIN).flatten().next().map(|message| message.pushed_at());
            let age =
                first.and_then(|first| SystemTime::now().duration_since(first).ok()).unwrap_or_default();
            tell("age_ms", None, (Some(millis(age)), millis(most)), age <= most)?;
        }
    }
    let checked = groups.contains(&true);
    for (name, _) in
        seen.refused.iter().filter(|(name, _)| checked && args.group.as_ref().is_none_or(|one| one == name))
    {
        tell("readable", Some(name), (None, 0), false)?;
    }
    if let Some(least) = args.min_free {
        let free = free_bytes(args.folder.dir())?;
        tell("free", None, (Some(free), least), free >= least)?;
    }
    rows.end()?;
    if checked && args.group.is_none() {
        refused(&seen);
    }
    Ok(if over { FINDINGS } else { CLEAN })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Tells how long ago the oldest message was pushed that a group has neither done nor given up.
fn oldest(view: &mut View, seen: &Inspection, index: usize) -> Result<Option<Duration>, Failure> {
    let name = &seen.groups[index].name;
    let mut first: Option<SystemTime> = None;
    for state in [backlog::MessageState::Ready, backlog::MessageState::OnLoan, backlog::MessageState::Delayed]
    {
        // In offset order, so the first that can be read is the oldest.
        let pushed =
            view.messages_in(name, state, Offset::MIN)?.flatten().next().map(|message| message.pushed_at());
        first = first.into_iter().chain(pushed).min();
    }
    Ok(first.map(|first| SystemTime::now().duration_since(first).unwrap_or_default()))
}
