//! `backlog stats`: how many messages are where, and how fast do they come and go?

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use backlog::{GroupStats, Inspection};
use serde_json::{Value, json};

use super::exit::{self, Failure, Outcome};
use super::look::{Folder, refused, refused_groups, state_of_queue};
use super::out::{As, Column, Document, Format, Is, Rows, column, harmless};
use super::segments;

/// Count what is ready, delayed, on loan and dead, by group; with --watch again and again, with rates.
///
/// Looks only: takes no lock and writes nothing, also beside a running `work` or `push`. A watch on a terminal has a
/// graph of the last minute; elsewhere it writes a row for each group and look. It ends with Ctrl-C.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Look again and again
    #[arg(short, long)]
    watch: bool,
    /// How often
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "1s", requires = "watch")]
    every: Duration,
    /// End after so many looks
    #[arg(long, value_name = "COUNT", requires = "watch")]
    looks: Option<u64>,
    #[command(flatten)]
    form: As,
}

const SHOWN: [Column; 8] = [
    column("queue", "queue", Is::Text),
    column("id", "id", Is::Text),
    column("state", "state", Is::State),
    column("messages", "messages", Is::Number),
    column("next_offset", "next offset", Is::Number),
    column("pushed_per_s", "pushed per s", Is::Number),
    column("segment_count", "segments", Is::Number),
    column("bytes", "bytes used", Is::Bytes),
];

const GROUPS: [Column; 11] = [
    column("name", "group", Is::Text),
    column("ready", "ready", Is::Number),
    column("delayed", "delayed", Is::Number),
    column("on_loan", "on loan", Is::Number),
    column("dead", "dead", Is::Number),
    column("done_per_s", "done per s", Is::Number),
    column("pinned_bytes", "keeps", Is::Bytes),
    column("next_due_ms", "next due", Is::Time),
    column("state", "state", Is::State),
    column("pinned_alone_bytes", "", Is::Bytes),
    column("at_ms", "", Is::Time),
];

pub(super) fn run(args: &Args) -> Outcome {
    if args.watch {
        return watch(args);
    }
    let seen = backlog::inspect(args.folder.dir())?;
    document(args, &seen, None).write(args.form)?;
    if args.form.format == Format::Table && seen.groups.is_empty() && seen.refused.is_empty() {
        exit::say("there is no group yet: `default` appears with its first `work` or `recv`");
    }
    Ok(refused(&seen))
}

fn document<'a>(args: &Args, seen: &Inspection, rates: Option<&Rates>) -> Document<'a> {
    let bytes: u64 = seen.segments.iter().map(|segment| segment.bytes).sum();
    let facts = json!({
        "queue": args.folder.dir().to_string_lossy(),
        "id": seen.id,
        "created_ms": seen.created,
        "state": state_of_queue(seen),
        "closed": seen.closed,
        "messages": seen.messages,
        "next_offset": seen.next_offset,
        "pushed_per_s": rates.map(|rates| rates.pushed),
        "segment_count": seen.segments.len(),
        "bytes": bytes,
        "segments": seen.segments.iter().map(segments::row).collect::<Vec<_>>(),
        "refused_groups": refused_groups(seen),
    });
    let groups = seen.groups.iter().map(|group| row(group, rates)).collect();
    // What is not known yet is no column.
    let (shown, columns) = if rates.is_some() { (&SHOWN[..], &GROUPS[..]) } else { STILL };
    Document { facts, shown, lists: vec![("groups", columns, groups)] }
}

/// What is shown of one look.
const STILL: (&[Column], &[Column]) = (
    &[SHOWN[0], SHOWN[1], SHOWN[2], SHOWN[3], SHOWN[4], SHOWN[6], SHOWN[7]],
    &[GROUPS[0], GROUPS[1], GROUPS[2], GROUPS[3], GROUPS[4], GROUPS[6], GROUPS[7], GROUPS[8], GROUPS[9]],
);

fn row(group: &GroupStats, rates: Option<&Rates>) -> Value {
    let done = rates.map(|rates| rates.done.iter().find(|(name, _)| *name == group.name));
    json!({
        "name": group.name,
        "ready": group.ready,
        "delayed": group.delayed,
        "on_loan": group.on_loan,
        "dead": group.dead,
        "done_per_s": done.map(|done| done.map_or(0, |(_, rate)| *rate)),
        "next_due_ms": group.next_due,
        "paused": group.paused,
        "state": if group.paused { "paused" } else { "ok" },
        "pinned_bytes": group.pinned_bytes,
        "pinned_alone_bytes": group.pinned_alone_bytes,
        "at_ms": rates.map(|rates| rates.at),
    })
}

/// Messages a second, between two looks.
#[derive(Clone, Debug, Default)]
struct Rates {
    pushed: u64,
    done: Vec<(String, u64)>,
    /// Milliseconds since 1970.
    at: u64,
}

impl Rates {
    fn between(before: &Inspection, now: &Inspection, time: Duration) -> Self {
        let rate = |count: u64| super::per_second(count, time);
        let pushed = now.messages.saturating_sub(before.messages);
        let open = |group: &GroupStats| group.ready + group.delayed + group.on_loan + group.dead;
        let done = now.groups.iter().filter_map(|group| {
            let earlier = before.groups.iter().find(|earlier| earlier.name == group.name)?;
            Some((group.name.clone(), rate((open(earlier) + pushed).saturating_sub(open(group)))))
        });
        let at = super::millis(std::time::SystemTime::now());
        Self { pushed: rate(pushed), done: done.collect(), at }
    }
}

/// So many looks a graph shows.
const WIDTH: usize = 60;

fn watch(args: &Args) -> Outcome {
    let screen = args.form.format == Format::Table && io::stdout().is_terminal();
    let every = args.every.max(Duration::from_millis(50));
    let mut rows = Rows::new(args.form, "groups", &GROUPS).live();
    let (mut before, mut since) = (backlog::inspect(args.folder.dir())?, Instant::now());
    let (mut pushed, mut done) = (VecDeque::new(), VecDeque::new());
    let mut looks = 0;
    while args.looks.is_none_or(|most| looks < most) {
        std::thread::sleep(every);
        let now = backlog::inspect(args.folder.dir())?;
        let rates = Rates::between(&before, &now, since.elapsed());
        (before, since) = (now, Instant::now());
        looks += 1;
        if !screen {
            let mut heard = true;
            for group in &before.groups {
                heard &= rows.push(row(group, Some(&rates)))?;
            }
            if !heard {
                break;
            }
            continue;
        }
        keep(&mut pushed, rates.pushed);
        keep(&mut done, rates.done.iter().map(|(_, rate)| rate).sum());
        if !draw(args, &before, &rates, [&pushed, &done])? {
            break;
        }
    }
    rows.end_of_watch(screen)?;
    Ok(refused(&before))
}

fn keep(rates: &mut VecDeque<u64>, rate: u64) {
    rates.push_back(rate);
    if rates.len() > WIDTH {
        rates.pop_front();
    }
}

/// Draws everything anew, from the top of the screen.
fn draw(
    args: &Args,
    seen: &Inspection,
    rates: &Rates,
    [pushed, done]: [&VecDeque<u64>; 2],
) -> Result<bool, Failure> {
    let mut text = document(args, seen, Some(rates)).text(args.form)?;
    let most = pushed.iter().chain(done).copied().max().unwrap_or(0);
    let _ = writeln!(text, "\npushed  {}  {} per s", graph(pushed, most), rates.pushed);
    let _ = writeln!(text, "done    {}  {} per s", graph(done, most), done.back().copied().unwrap_or(0));
    for (_, error) in &seen.refused {
        let _ = writeln!(text, "{}", harmless(&error.to_string()));
    }
    // Each line is cleared behind what is new on it, and the rest of the screen: nothing flickers.
    exit::print(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))
}

/// Draws rates as bars, the newest last.
fn graph(rates: &VecDeque<u64>, most: u64) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |rate: u64| {
        let height = (rate * 8).div_ceil(most.max(1));
        BARS[usize::try_from(height).unwrap_or(8).min(8)]
    };
    let blank = WIDTH - rates.len().min(WIDTH);
    " ".repeat(blank) + &rates.iter().map(|&rate| bar(rate)).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_has_its_highest_bar_at_the_highest_rate() {
        let rates: VecDeque<u64> = [0, 1, 50, 100].into();
        assert_eq!(graph(&rates, 100).trim_start(), "▁▄█");
        assert_eq!(graph(&rates, 100).chars().count(), WIDTH);
        assert_eq!(graph(&[0; 3].into(), 0).trim(), "");
    }
}
