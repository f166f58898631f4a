//! `backlog pins`: which groups and which messages keep how many bytes?

use backlog::{Inspection, Pin, PinnedSegment};
use serde_json::{Value, json};

use super::exit::Outcome;
use super::look::{Folder, refused, refused_groups, word};
use super::out::{As, Column, Document, Format, Is, column};

/// Tell which groups, and which messages, keep how many bytes.
///
/// Of each group: the bytes of the segments in which it has something that is not done; of those, what no
/// other group keeps; and the first such message of each segment, which is the one to look at. Looks only:
/// takes no lock and writes nothing, also beside a running `work` or `push`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Segments that are shown of each group in a table, the oldest first
    #[arg(long, default_value_t = 10)]
    limit: usize,
    #[command(flatten)]
    form: As,
}

const GROUPS: [Column; 4] = [
    column("group", "group", Is::Text),
    column("bytes", "keeps", Is::Bytes),
    column("segment_count", "segments", Is::Number),
    column("alone_bytes", "of them alone", Is::Bytes),
];

const SEGMENTS: [Column; 7] = [
    column("group", "group", Is::Text),
    column("segment", "segment", Is::Number),
    column("bytes", "bytes", Is::Bytes),
    column("state", "", Is::State),
    column("first_offset", "first message", Is::Number),
    column("first_state", "is", Is::State),
    column("pushed_from_ms", "pushed at or after", Is::Time),
];

pub(super) fn run(args: &Args) -> Outcome {
    let seen = backlog::inspect(args.folder.dir())?;
    let limit = if args.form.format == Format::Table { args.limit } else { usize::MAX };
    let groups = seen.pins.iter().map(group).collect();
    let segments = seen.pins.iter().flat_map(|pin| pin.segments.iter().take(limit).map(|one| row(pin, one)));
    let mut lists = vec![("segments", &SEGMENTS[..], segments.collect()), ("groups", &GROUPS[..], groups)];
    // People read the sums first; lines are the segments.
    if args.form.format == Format::Table {
        lists.reverse();
    }
    let facts = json!({ "refused_groups": refused_groups(&seen) });
    Document { facts, shown: &[], lists }.write(args.form)?;
    tell_more(&seen, limit);
    Ok(refused(&seen))
}

fn tell_more(seen: &Inspection, limit: usize) {
    for pin in seen.pins.iter().filter(|pin| pin.segments.len() > limit) {
        let more = pin.segments.len() - limit;
        super::exit::say(&format!("{}: {more} more segments; --limit shows them", pin.group));
    }
    if seen.pins.is_empty() && seen.refused.is_empty() {
        super::exit::say("there is no group yet: everything stays until there is one");
    }
}

fn group(pin: &Pin) -> Value {
    json!({
        "group": pin.group,
        "bytes": pin.bytes,
        "segment_count": pin.segments.len(),
        "alone_bytes": pin.alone_bytes,
    })
}

fn row(pin: &Pin, segment: &PinnedSegment) -> Value {
    json!({
        "group": pin.group,
        "segment": segment.number,
        "bytes": segment.bytes,
        "state": if segment.sealed { "sealed" } else { "active" },
        "first_offset": segment.offset.get(),
        "first_state": word(segment.state),
        "pushed_from_ms": segment.pushed_at.map(super::millis),
    })
}
