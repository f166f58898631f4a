//! `backlog backup`, `restore`: how is a queue copied while it is in use, and a queue made of the copy?

use std::path::PathBuf;
use std::time::Duration;

use backlog::{Backup, BackupRound};
use serde_json::json;

use super::bar;
use super::exit::{self, CLEAN, FINDINGS, Outcome};
use super::look::Folder;
use super::out::{As, Column, Document, Format, Is, Rows, column};

/// Copy a queue while it is in use; with --follow, keep the copy current.
///
/// The copy is one of a single moment. Sealed segments that are there already are not copied again. The queue is
/// neither locked nor written to. Until a round is whole, and after a crash, the copy is that of the round before. It
/// can be looked at like a queue (`info`, `ls`, `verify`), and not be opened: `restore` makes a queue of it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// The copy: a folder that is new or empty, or an earlier backup of the same queue
    to: PathBuf,
    /// Go on, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// How often
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "10s", requires = "follow")]
    every: Duration,
    /// End after so many rounds
    #[arg(long, value_name = "COUNT", requires = "follow")]
    rounds: Option<u64>,
    #[command(flatten)]
    form: As,
}

/// Make a queue of a backup, in a folder that is new or empty.
///
/// It gets an identity of its own, so receipts and message ids of the original are not valid there. What was on loan
/// is ready again, uncounted. The backup stays as it is. Prints the new identity.
#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    /// The backup
    backup: PathBuf,
    /// The folder of the queue
    to: PathBuf,
}

const ROUND: [Column; 5] = [
    column("at_ms", "at", Is::Time),
    column("messages", "messages pushed", Is::Number),
    column("next_offset", "next offset", Is::Number),
    column("segments", "segments", Is::Number),
    column("copied_bytes", "copied", Is::Bytes),
];

pub(super) fn run(args: &Args) -> Outcome {
    let mut backup = Backup::new(args.folder.dir(), &args.to)?;
    if !args.follow {
        let round = round(&mut backup)?;
        Document { facts: row(&round), shown: &ROUND, lists: Vec::new() }.write(args.form)?;
        return Ok(findings(&round));
    }
    let mut rows = Rows::new(args.form, "rounds", &ROUND).live();
    let mut rounds = 0;
    loop {
        let round = round(&mut backup)?;
        rounds += 1;
        let code = findings(&round);
        // People see what changed.
        let quiet = round.copied_bytes == 0 && args.form.format == Format::Table && rounds > 1;
        if !quiet && !rows.push(row(&round))? || args.rounds.is_some_and(|most| rounds >= most) {
            rows.end()?;
            return Ok(code);
        }
        std::thread::sleep(args.every.max(Duration::from_millis(10)));
    }
}

fn round(backup: &mut Backup) -> backlog::Result<BackupRound> {
    bar::with(|tell| backup.round(tell))
}

fn row(round: &BackupRound) -> serde_json::Value {
    json!({
        "at_ms": super::millis(std::time::SystemTime::now()),
        "messages": round.messages,
        "next_offset": round.next_offset,
        "segments": round.segments,
        "copied_bytes": round.copied_bytes,
        "refused_groups": round.refused.iter().map(|(name, _)| name).collect::<Vec<_>>(),
    })
}

/// What becomes of a group in the copy of a queue that cannot read it.
const KEPT: &str = "is in the copy as it was in the round before, if it was";

/// Says which groups cannot be read, and what became of them.
fn refused(groups: &[(String, backlog::Error)], are: &str) -> u8 {
    for (name, error) in groups {
        exit::say(&format!("group {name} {are}: {error}"));
    }
    if groups.is_empty() { CLEAN } else { FINDINGS }
}

/// Says what has gone bad in the queue.
fn findings(round: &BackupRound) -> u8 {
    let code = refused(&round.refused, KEPT);
    for path in &round.damaged {
        exit::say(&format!(
            "{}: bytes have gone bad; the copy keeps what it had of them, if it was good",
            path.display()
        ));
    }
    if round.damaged.is_empty() { code } else { FINDINGS }
}

pub(super) fn restore(args: &Restore) -> Outcome {
    let restored = bar::with(|tell| backlog::restore(&args.backup, &args.to, tell))?;
    exit::print(&format!("{}\n", restored.id))?;
    Ok(refused(&restored.refused, "is left out"))
}
