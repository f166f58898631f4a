//! `backlog ls`: which messages are there?

use backlog::{Content, MessageState};
use serde_json::{Map, Value};

use super::exit::{CLEAN, FINDINGS, Failure, Outcome};
use super::filter::{Filter, told};
use super::look::{Folder, word};
use super::out::{As, Column, Is, Rows, column};
use super::payload::{self, Payloads};

/// List messages: where each is in its life, when it was pushed, its size, kind and key.
///
/// All that are stored, done or not, in offset order; options leave some out. Looks only: takes no lock and writes
/// nothing, also beside a running `work` or `push`. Exit 1 if there is none, or if something has gone bad.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    payloads: Payloads,
    #[command(flatten)]
    form: As,
}

const COLUMNS: [Column; 16] = [
    column("offset", "offset", Is::Number),
    column("state", "state", Is::State),
    column("pushed_ms", "pushed", Is::Time),
    column("bytes", "bytes", Is::Bytes),
    column("kind", "kind", Is::Text),
    column("key", "key", Is::Text),
    column("payload", "payload", Is::Text),
    column("payload_encoding", "", Is::Text),
    column("digest", "", Is::Digest),
    column("priority", "", Is::Number),
    column("due_ms", "", Is::Time),
    column("expires_ms", "", Is::Time),
    column("ordering_key", "", Is::Text),
    column("encoding", "", Is::Text),
    column("headers", "", Is::Text),
    column("id", "", Is::Text),
];

/// The columns; where payloads are not shown, their digests are.
pub(super) fn columns(payloads: &Payloads) -> Vec<Column> {
    let mut columns = COLUMNS.to_vec();
    if !payloads.are_shown() {
        columns.retain(|column| !column.key.starts_with("payload"));
        columns.iter_mut().filter(|column| column.key == "digest").for_each(|column| column.head = "digest");
    }
    columns
}

/// Tells what is known of a message.
pub(super) fn row(
    message: &Content,
    states: &[(String, MessageState)],
    payloads: &Payloads,
) -> Result<Value, Failure> {
    let mut row = payload::about(message);
    payloads.add(message, &mut row)?;
    row.extend(told(states).map(|state| ("state".to_owned(), state.into())));
    let each: Map<String, Value> =
        states.iter().map(|(name, state)| (name.clone(), word(*state).into())).collect();
    row.insert("states".into(), each.into());
    Ok(row.into())
}

pub(super) fn run(args: &Args) -> Outcome {
    let mut view = args.folder.view()?;
    let columns = columns(&args.payloads);
    let mut rows = Rows::new(args.form, "messages", &columns);
    let gone = args
        .filter
        .each(&mut view, &mut |message, states| rows.push(row(message, states, &args.payloads)?))?;
    rows.end_if_any()?;
    Ok(if gone.found == 0 || gone.damaged > 0 { FINDINGS } else { CLEAN })
}
