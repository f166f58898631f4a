//! `backlog pins`: which groups and which messages keep how many bytes?

use std::fmt::Write as _;
use std::path::PathBuf;

use backlog::{Inspection, MessageState, PinnedSegment};
use serde_json::{Value, json};

use super::exit::{self, CLEAN, FINDINGS, Outcome};
use super::stats::Format;

/// Tell which groups, and which messages, keep how many bytes.
///
/// Of each group: the bytes of the segments in which it has something that is not done; of those, what no
/// other group keeps; and the first such message of each segment, which is the one to look at. Looks only:
/// takes no lock and writes nothing, also beside a running `work` or `push`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The queue's folder
    dir: PathBuf,
    /// Segments that are shown of each group, the oldest first; all of them with json
    #[arg(long, default_value_t = 10)]
    limit: usize,
    /// For people, or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(args: &Args) -> Outcome {
    let seen = backlog::inspect(&args.dir)?;
    let out = match args.format {
        Format::Text => text(&seen, args.limit),
        Format::Json => format!("{}\n", json(&seen)),
    };
    exit::print(&out)?;
    for (_, error) in &seen.refused {
        exit::say(&error.to_string());
    }
    Ok(if seen.refused.is_empty() { CLEAN } else { FINDINGS })
}

fn state(segment: &PinnedSegment) -> &'static str {
    match segment.state {
        MessageState::Ready => "ready",
        MessageState::Delayed => "delayed",
        MessageState::OnLoan => "on loan",
        MessageState::Dead => "dead",
        _ => "done",
    }
}

fn since(segment: &PinnedSegment) -> Option<String> {
    segment.pushed_at.map(|time| super::time(super::millis(time)))
}

fn text(seen: &Inspection, limit: usize) -> String {
    let mut out = String::new();
    for pin in &seen.pins {
        let (bytes, alone, count) = (pin.bytes, pin.alone_bytes, pin.segments.len());
        let _ = writeln!(out, "{}: {bytes} bytes in {count} segments, {alone} of them alone", pin.group);
        if count > 0 {
            let _ = writeln!(
                out,
                "  {:>9} {:>12}  {:<6} {:>14}  {:<8} pushed at or after",
                "segment", "bytes", "", "first message", "is"
            );
        }
        for segment in pin.segments.iter().take(limit) {
            let PinnedSegment { number, bytes, offset, sealed, .. } = segment;
            let sealed = if *sealed { "sealed" } else { "active" };
            let (state, since) = (state(segment), since(segment).unwrap_or_else(|| "-".into()));
            let _ = writeln!(
                out,
                "  {number:>9} {bytes:>12}  {sealed:<6} {:>14}  {state:<8} {since}",
                offset.get()
            );
        }
        if count > limit {
            let _ = writeln!(out, "  ... and {} more", count - limit);
        }
    }
    if seen.pins.is_empty() && seen.refused.is_empty() {
        let _ = writeln!(out, "(no group yet: everything stays until there is one)");
    }
    out
}

fn json(seen: &Inspection) -> Value {
    let segment = |segment: &PinnedSegment| {
        json!({
            "number": segment.number,
            "bytes": segment.bytes,
            "state": if segment.sealed { "sealed" } else { "active" },
            "first_offset": segment.offset.get(),
            "first_state": state(segment),
            "pushed_from_ms": segment.pushed_at.map(super::millis),
        })
    };
    let pins = seen.pins.iter().map(|pin| {
        json!({
            "group": pin.group,
            "bytes": pin.bytes,
            "alone_bytes": pin.alone_bytes,
            "segments": pin.segments.iter().map(segment).collect::<Vec<_>>(),
        })
    });
    let refused =
        seen.refused.iter().map(|(name, error)| json!({ "name": name, "problem": error.to_string() }));
    json!({ "pins": pins.collect::<Vec<_>>(), "refused_groups": refused.collect::<Vec<_>>() })
}
