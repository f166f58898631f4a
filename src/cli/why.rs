//! `backlog why`: why is a message where it is?

use std::fmt::Write as _;
use std::time::SystemTime;

use backlog::{Event, Fate, Offset, Why, WhyInGroup};
use serde_json::{Value, json};

use super::exit::{self, CLEAN, FINDINGS, Outcome};
use super::look::{Folder, word};
use super::out::{As, Column, Document, Format, Is, column, harmless};
use super::payload::{self, Payloads};

/// Tell all that is known of one message: where it lies, and for each group where it stands and how it came there.
///
/// Attempts, the loan that is out (with its receipt), when it comes again, what was said last when it failed, and
/// its history, as far as that is still stored. Looks only: takes no lock and writes nothing, also beside a running
/// `work` or `push`. Exit 1 if no such message is stored.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Which
    #[arg(value_parser = super::target::offset)]
    offset: Offset,
    #[command(flatten)]
    payloads: Payloads,
    #[command(flatten)]
    form: As,
}

const SHOWN: [Column; 14] = [
    column("offset", "message", Is::Number),
    column("fate", "", Is::Text),
    column("told", "is", Is::Text),
    column("file", "file", Is::Text),
    column("position", "at byte", Is::Number),
    column("batch", "batch at", Is::Number),
    column("pushed_ms", "pushed", Is::Time),
    column("bytes", "bytes", Is::Bytes),
    column("digest", "digest", Is::Digest),
    column("kind", "kind", Is::Text),
    column("key", "key", Is::Text),
    column("ordering_key", "ordering key", Is::Text),
    column("priority", "priority", Is::Number),
    column("payload", "payload", Is::Text),
];

const GROUPS: [Column; 15] = [
    column("group", "group", Is::Text),
    column("state", "state", Is::State),
    column("attempt", "attempt", Is::Number),
    column("failures", "failures", Is::Number),
    column("losses", "losses", Is::Number),
    column("due_ms", "due", Is::Time),
    column("loan_since_ms", "on loan since", Is::Time),
    column("loan_ends_ms", "until", Is::Time),
    column("dead_reason", "given up for", Is::Text),
    column("dead_since_ms", "since", Is::Time),
    column("paused", "paused", Is::Text),
    column("error", "said last", Is::Text),
    column("receipt", "", Is::Text),
    column("problem", "", Is::Text),
    column("history", "", Is::Text),
];

pub(super) fn run(args: &Args) -> Outcome {
    let mut view = args.folder.view()?;
    let why = view.why(args.offset)?;
    let mut facts = why.message.as_ref().map(payload::about).unwrap_or_default();
    if let Some(message) = &why.message {
        args.payloads.add(message, &mut facts)?;
    }
    let (fate, told) = fate(&why);
    let (batch, position) = why.position.unzip();
    let more = [
        ("offset", why.offset.get().into()),
        ("fate", fate.into()),
        ("told", told.into()),
        ("file", json!(why.path.as_ref().map(|path| path.display().to_string()))),
        ("batch", json!(batch)),
        ("position", json!(position)),
        ("problem", json!(why.problem.as_ref().map(ToString::to_string))),
    ];
    facts.extend(more.map(|(name, value)| (name.to_owned(), value)));
    let mut code = if why.fate == Fate::Stored { CLEAN } else { FINDINGS };
    let mut rows = Vec::new();
    // Of what was never pushed there is nothing to tell.
    let groups = if why.fate == Fate::NotYet { &[][..] } else { &why.groups[..] };
    for (name, group) in groups {
        match group {
            Ok(group) => rows.push(row(name, group)),
            Err(error) => {
                exit::say(&error.to_string());
                code = FINDINGS;
                rows.push(json!({ "group": name, "problem": error.to_string() }));
            }
        }
    }
    let shown: Vec<Column> = SHOWN
        .into_iter()
        .filter(|column| facts.get(column.key).is_some_and(|value| !value.is_null()))
        .collect();
    let used =
        |column: &Column| rows.iter().any(|row| row.get(column.key).is_some_and(|value| !value.is_null()));
    let columns: Vec<Column> = match args.form.format {
        Format::Table => GROUPS.into_iter().filter(used).collect(),
        _ => GROUPS.to_vec(),
    };
    let people = args.form.format == Format::Table && rows.is_empty();
    let lists = if people { Vec::new() } else { vec![("groups", &columns[..], rows)] };
    let mut text = Document { facts: facts.into(), shown: &shown, lists }.text(args.form)?;
    if args.form.format == Format::Table {
        for (name, group) in groups {
            text.push_str(&history(name, group.as_ref().ok()));
        }
    }
    exit::print(&text)?;
    Ok(code)
}

fn fate(why: &Why) -> (&'static str, &'static str) {
    match why.fate {
        Fate::Stored => ("stored", "stored"),
        Fate::Damaged => ("damaged", "where bytes have gone bad: it is never delivered"),
        Fate::NotYet => ("not yet", "not pushed yet"),
        _ => ("gone", "not stored any more, done in every group; or it never was a message"),
    }
}

fn millis(time: Option<SystemTime>) -> Value {
    json!(time.map(super::millis))
}

fn row(name: &str, group: &WhyInGroup) -> Value {
    let mut row = json!({
        "group": name,
        "state": word(group.state),
        "attempt": u32::from(group.failures) + u32::from(group.losses) + 1,
        "failures": group.failures,
        "losses": group.losses,
        "due_ms": millis(group.due),
        "paused": group.paused,
        "error": group.error,
        "history": group.history.iter().map(event).collect::<Vec<_>>(),
    });
    if let Some(fields) = row.as_object_mut() {
        if let Some(loan) = &group.loan {
            fields.insert("receipt".into(), loan.receipt.to_string().into());
            fields.insert("loan_since_ms".into(), millis(loan.since));
            fields.insert("loan_ends_ms".into(), millis(loan.ends));
        }
        if let Some((reason, since)) = group.dead {
            fields.insert("dead_reason".into(), super::dead::reason(reason).into());
            fields.insert("dead_since_ms".into(), millis(Some(since)));
        }
    }
    row
}

fn event(event: &Event) -> Value {
    json!({
        "what": event.what,
        "at_ms": millis(event.at),
        "due_ms": millis(event.due),
        "failures": event.failures,
        "losses": event.losses,
        "delivery": event.delivery.map(|delivery| format!("{delivery:016x}")),
        "to": event.to.map(Offset::get),
        "error": event.error,
    })
}

/// Tells what happened, a line each.
fn history(name: &str, group: Option<&WhyInGroup>) -> String {
    let mut out = String::new();
    let Some(group) = group.filter(|group| !group.history.is_empty() || group.loan.is_some()) else {
        return out;
    };
    let _ = writeln!(out, "\n{name}, as far as it is still stored:");
    for event in &group.history {
        let at = event.at.map_or_else(|| "-".into(), |at| super::time(super::millis(at)));
        let mut line = format!("  {at:<24}  {}", event.what);
        if event.failures > 0 || event.losses > 0 {
            let _ = write!(line, ", failures {}, losses {}", event.failures, event.losses);
        }
        if let Some(due) = event.due {
            let _ = write!(line, ", due {}", super::time(super::millis(due)));
        }
        if let Some(to) = event.to {
            let _ = write!(line, " to {to}");
        }
        if let Some(delivery) = event.delivery {
            let _ = write!(line, ", loan {delivery:016x}");
        }
        if let Some(error) = &event.error {
            let _ = write!(line, ": {}", harmless(error));
        }
        let _ = writeln!(out, "{line}");
    }
    if let Some(loan) = &group.loan {
        let _ = writeln!(out, "  receipt of the loan: {}", loan.receipt);
    }
    out
}
