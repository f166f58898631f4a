//! `backlog verify`: is every byte that was promised as it was written?

use backlog::{Finding, Progress};
use serde_json::{Value, json};

use super::bar;
use super::exit::{self, CLEAN, FINDINGS, Outcome};
use super::look::Folder;
use super::out::{As, Column, Is, Rows, column};

/// Check every byte that was promised, and change none.
///
/// Takes no lock, also beside a running `work` or `push`. Lists each finding, with file, byte and offsets; exit 1 if
/// there are any. `backlog repair` tells what can be done about them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Read every message, too: whether its attributes can be understood, and whether each that a group has not
    /// done is there
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    form: As,
}

pub(super) const COLUMNS: [Column; 6] = [
    column("finding", "finding", Is::State),
    column("file", "file", Is::Text),
    column("position", "at byte", Is::Number),
    column("first", "offsets", Is::Number),
    column("end", "end", Is::Number),
    column("problem", "problem", Is::Text),
];

pub(super) fn run(args: &Args) -> Outcome {
    let mut checked = 0;
    let found = bar::with(|tell| {
        let mut tell = |progress: Progress| {
            checked = progress.total;
            tell(progress);
        };
        let mut found = backlog::verify(args.folder.dir(), &mut tell)?;
        if args.deep {
            match backlog::verify_deep(args.folder.dir(), &mut tell) {
                Ok(deeper) => found.extend(deeper),
                // What refuses the opening leaves nothing to agree with.
                Err(_) if !found.is_empty() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    });
    let findings = found?;
    if findings.is_empty() {
        let deep = if args.deep { ", and they agree with each other" } else { "" };
        exit::say(&format!("all is well: {checked} bytes of segments, and every group{deep}"));
    } else {
        exit::say(&exit::count(findings.len() as u64, "finding"));
    }
    let mut rows = Rows::new(args.form, "findings", &COLUMNS);
    for finding in &findings {
        if !rows.push(row(finding))? {
            break;
        }
    }
    rows.end_if_any()?;
    Ok(if findings.is_empty() { CLEAN } else { FINDINGS })
}

/// Tells of a finding.
pub(super) fn row(finding: &Finding) -> Value {
    json!({
        "finding": finding.kind.word(),
        "file": finding.path.display().to_string(),
        "position": finding.position,
        "first": finding.offsets.map(|(first, _)| first),
        "end": finding.offsets.map(|(_, end)| end),
        "problem": finding.what,
    })
}
