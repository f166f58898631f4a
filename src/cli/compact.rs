//! `backlog compact`: how is the room of what is done given back now, not later?

use serde_json::json;

use super::exit::{self, CLEAN, Outcome};
use super::out::{As, Column, Document, Is, column};
use super::target::Target;

/// Give the room of what is done back to the disk now: whole segments, and sparse ones copied together.
///
/// A queue that is open does this by itself; this is for one that nobody has open, before a backup or a move. Tells
/// how many bytes of the log there were and are.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    form: As,
}

const SHOWN: [Column; 4] = [
    column("segments_before", "segments before", Is::Number),
    column("bytes_before", "bytes before", Is::Bytes),
    column("segments", "segments", Is::Number),
    column("bytes", "bytes", Is::Bytes),
];

pub(super) fn run(args: &Args) -> Outcome {
    let before = backlog::inspect(args.target.dir())?;
    if !args.target.with(|queue| Ok(queue.compact()?))? {
        exit::say("the process that has it open gives room back by itself");
    }
    let after = backlog::inspect(args.target.dir())?;
    let facts = json!({
        "segments_before": before.segments.len(),
        "bytes_before": bytes(&before),
        "segments": after.segments.len(),
        "bytes": bytes(&after),
    });
    Document { facts, shown: &SHOWN, lists: Vec::new() }.write(args.form)?;
    Ok(CLEAN)
}

fn bytes(seen: &backlog::Inspection) -> u64 {
    seen.segments.iter().map(|segment| segment.bytes).sum()
}
