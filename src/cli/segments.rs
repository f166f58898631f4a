//! `backlog segments`: what does the log consist of?

use backlog::SegmentStats;
use serde_json::{Value, json};

use super::exit::Outcome;
use super::look::{Folder, refused};
use super::out::{As, Column, Is, Rows, column};

/// List the segments of the log: their offsets, bytes, how much of each is not done, and how much of it is proven
/// to be on stable storage.
///
/// Looks only: takes no lock and writes nothing, also beside a running `work` or `push`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    form: As,
}

const COLUMNS: [Column; 12] = [
    column("segment", "segment", Is::Number),
    column("state", "state", Is::State),
    column("first", "offsets", Is::Number),
    column("end", "end", Is::Number),
    column("messages", "messages", Is::Number),
    column("live", "not done", Is::Number),
    column("live_percent", "%", Is::Number),
    column("bytes", "bytes", Is::Bytes),
    column("proven_bytes", "proven", Is::Bytes),
    column("pushed_from_ms", "pushed from", Is::Time),
    column("pushed_to_ms", "", Is::Time),
    column("file", "file", Is::Text),
];

pub(super) fn run(args: &Args) -> Outcome {
    let seen = args.folder.view()?.inspection();
    let mut rows = Rows::new(args.form, "segments", &COLUMNS);
    for segment in &seen.segments {
        if !rows.push(row(segment))? {
            break;
        }
    }
    rows.end()?;
    Ok(refused(&seen))
}

/// Tells what is known of a segment.
pub(super) fn row(segment: &SegmentStats) -> Value {
    let state = match (segment.sealed, segment.rewritten) {
        (false, _) => "active",
        (true, false) => "sealed",
        (true, true) => "rewritten",
    };
    json!({
        "segment": segment.number,
        "state": state,
        "first": segment.base,
        "end": segment.end,
        "messages": segment.messages,
        "live": segment.live,
        "live_percent": (segment.live * 100).checked_div(segment.messages),
        "bytes": segment.bytes,
        "proven_bytes": segment.proven_bytes,
        "pushed_from_ms": segment.pushed.map(|(first, _)| super::millis(first)),
        "pushed_to_ms": segment.pushed.map(|(_, last)| super::millis(last)),
        "file": format!("log/{:09}.seg", segment.number),
    })
}
