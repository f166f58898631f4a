//! `backlog stats`: how many messages are where?

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use backlog::{GroupStats, Inspection};
use serde_json::{Value, json};

use super::exit::{self, CLEAN, FINDINGS, Outcome};

/// Count what is ready, delayed, on loan and dead, by group.
///
/// Looks only: takes no lock and writes nothing, also beside a running `work` or `push`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The queue's folder
    dir: PathBuf,
    /// For people, or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

pub(super) fn run(args: &Args) -> Outcome {
    let seen = backlog::inspect(&args.dir)?;
    let out = match args.format {
        Format::Text => text(&args.dir, &seen),
        Format::Json => format!("{}\n", json(&args.dir, &seen)),
    };
    exit::print(&out)?;
    for (_, error) in &seen.refused {
        exit::say(&error.to_string());
    }
    Ok(if seen.refused.is_empty() { CLEAN } else { FINDINGS })
}

fn bytes(seen: &Inspection) -> u64 {
    seen.segments.iter().map(|segment| segment.bytes).sum()
}

fn text(dir: &Path, seen: &Inspection) -> String {
    let mut out = String::new();
    let state = if seen.closed { "closed" } else { "open, or its last owner died" };
    let rows = [
        ("queue", dir.display().to_string()),
        ("id", seen.id.clone()),
        ("state", state.into()),
        ("messages", format!("{} pushed, next offset {}", seen.messages, seen.next_offset)),
        ("segments", format!("{}, {} bytes used", seen.segments.len(), bytes(seen))),
    ];
    for (name, value) in rows {
        let _ = writeln!(out, "{name:<9} {value}");
    }
    let width = seen.groups.iter().map(|group| group.name.len()).max().unwrap_or(0).max(5);
    let _ = writeln!(
        out,
        "\n{:<width$} {:>10} {:>10} {:>10} {:>10} {:>12}  next due",
        "group", "ready", "delayed", "on loan", "dead", "keeps bytes"
    );
    for group in &seen.groups {
        let GroupStats { name, ready, delayed, on_loan, dead, next_due, paused, pinned_bytes, .. } = group;
        let due = next_due.map_or_else(|| "-".to_owned(), super::time);
        let paused = if *paused { "  paused" } else { "" };
        let _ = writeln!(
            out,
            "{name:<width$} {ready:>10} {delayed:>10} {on_loan:>10} {dead:>10} {pinned_bytes:>12}  {due}{paused}"
        );
    }
    if seen.groups.is_empty() && seen.refused.is_empty() {
        let _ = writeln!(out, "(none yet: `default` appears with its first `work`)");
    }
    out
}

fn json(dir: &Path, seen: &Inspection) -> Value {
    let segments: Vec<Value> = seen
        .segments
        .iter()
        .map(|segment| {
            json!({
                "number": segment.number,
                "base": segment.base,
                "messages": segment.messages,
                "bytes": segment.bytes,
                "state": if segment.sealed { "sealed" } else { "active" },
            })
        })
        .collect();
    let groups: Vec<Value> = seen
        .groups
        .iter()
        .map(|group| {
            json!({
                "name": group.name,
                "ready": group.ready,
                "delayed": group.delayed,
                "on_loan": group.on_loan,
                "dead": group.dead,
                "next_due_ms": group.next_due,
                "paused": group.paused,
                "pinned_bytes": group.pinned_bytes,
                "pinned_alone_bytes": group.pinned_alone_bytes,
            })
        })
        .collect();
    let refused: Vec<Value> = seen
        .refused
        .iter()
        .map(|(name, error)| json!({ "name": name, "problem": error.to_string() }))
        .collect();
    json!({
        "queue": dir.to_string_lossy(),
        "id": seen.id,
        "created_ms": seen.created,
        "closed": seen.closed,
        "messages": seen.messages,
        "next_offset": seen.next_offset,
        "bytes": bytes(seen),
        "segments": segments,
        "groups": groups,
        "refused_groups": refused,
    })
}
