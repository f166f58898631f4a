//! `backlog salvage`: how is everything readable of a broken queue put into a new one?

use std::path::PathBuf;

use serde_json::{Value, json};

use super::bar;
use super::exit::{self, CLEAN, FINDINGS, Outcome};
use super::out::{As, Column, Document, Format, Is, bytes, column};
use super::verify;

/// Save everything that can be read of a queue, from whatever is left of it, into a new one.
///
/// Writes nothing to SRC, and takes no lock there. Every message that passes its checksum is in NEW, under its old
/// offset; a group whose files can be read goes on where it was, others begin anew, so that messages may come again.
/// Lists what could not be read; exit 1 if there is anything.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder of the broken queue
    src: PathBuf,
    /// The folder of the new queue: empty, or not there yet
    #[arg(long, value_name = "NEW")]
    out: PathBuf,
    #[command(flatten)]
    form: As,
}

const SHOWN: [Column; 3] = [
    column("messages", "messages", Is::Number),
    column("bytes", "bytes", Is::Bytes),
    column("next_offset", "next offset", Is::Number),
];

const GROUPS: [Column; 3] = [
    column("group", "group", Is::Text),
    column("state", "is", Is::State),
    column("lost", "lost", Is::Number),
];

pub(super) fn run(args: &Args) -> Outcome {
    let salvaged = bar::with(|tell| backlog::salvage(&args.src, &args.out, tell))?;
    let findings = salvaged.findings.len() as u64 + salvaged.more_findings;
    let found = if findings == 0 { "all was readable".into() } else { exit::count(findings, "finding") };
    let saved = (exit::count(salvaged.messages, "message"), bytes(salvaged.bytes));
    exit::say(&format!("{} ({}) are in {}; {found}", saved.0, saved.1, args.out.display()));
    let groups: Vec<Value> = salvaged
        .groups
        .iter()
        .map(|group| {
            let state = if group.taken_over { "taken over" } else { "begins anew" };
            json!({ "group": group.name, "state": state, "lost": group.lost })
        })
        .collect();
    let facts = json!({
        "messages": salvaged.messages,
        "bytes": salvaged.bytes,
        "next_offset": salvaged.next_offset,
        "more_findings": salvaged.more_findings,
    });
    let found = salvaged.findings.iter().map(verify::row).collect();
    let mut lists = vec![("findings", &verify::COLUMNS[..], found), ("groups", &GROUPS[..], groups)];
    // People read the groups first; lines are the findings.
    if args.form.format == Format::Table {
        lists.reverse();
        lists.retain(|(_, _, rows)| !rows.is_empty());
    }
    Document { facts, shown: &SHOWN, lists }.write(args.form)?;
    Ok(if findings == 0 { CLEAN } else { FINDINGS })
}
