//! `backlog export`: how do messages leave as text?

use backlog::{Content, Encoding, HeaderValue, MessageState};
use data_encoding::BASE64;
use serde_json::{Map, Value, json};

use super::exit::{self, CLEAN, FINDINGS, Outcome};
use super::filter::Filter;
use super::look::Folder;
use super::out::SCHEMA;
use super::payload::text;

/// Write messages with all that is known of them, a JSON object a line, for `import`.
///
/// Those that some group has not done (all, while there is no group); --all adds those that are done and still stored.
/// Texts are UTF-8; what is none is base64, under a name that ends in `_base64`. Looks only: takes no lock and writes
/// nothing, also beside a running `work` or `push`. What has gone bad is told on stderr, with exit 1 at the end.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Those that are done, too
    #[arg(long, conflicts_with = "state")]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

pub(super) fn run(args: &Args) -> Outcome {
    let mut view = args.folder.view()?;
    let mut filter = args.filter.clone();
    filter.open = !args.all && filter.state.is_empty();
    let mut out = String::new();
    let mut heard = true;
    let gone = filter.each(&mut view, &mut |message, states| {
        out.push_str(&line(message, states));
        if out.len() > 64 << 10 {
            heard = exit::print(&out)?;
            out.clear();
        }
        Ok(heard)
    })?;
    if heard {
        exit::print(&out)?;
    }
    exit::say(&format!("{} exported", exit::count(gone.found, "message")));
    Ok(if gone.damaged > 0 { FINDINGS } else { CLEAN })
}

/// Adds bytes as text, or under another name as base64.
fn put(row: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    let (encoding, text) = text(bytes);
    let name = if encoding == "base64" { format!("{name}_base64") } else { name.to_owned() };
    row.insert(name, text.into());
}

fn line(message: &Content, states: &[(String, MessageState)]) -> String {
    let mut row = Map::new();
    row.insert("schema".into(), SCHEMA.into());
    row.insert("offset".into(), message.offset().get().into());
    row.insert("pushed_ms".into(), super::millis(message.pushed_at()).into());
    put(&mut row, "payload", message.payload());
    let priority = Some(message.priority()).filter(|&priority| priority != 4);
    let encoding =
        message.encoding().map(|encoding| if encoding == Encoding::Json { "json" } else { "bincode" });
    let optional = [
        ("kind", message.kind().map(Value::from)),
        ("encoding", encoding.map(Value::from)),
        ("priority", priority.map(Value::from)),
        ("due_ms", message.due().map(super::millis).map(Value::from)),
        ("expires_ms", message.expires_at().map(super::millis).map(Value::from)),
    ];
    for (name, value) in optional {
        row.extend(value.map(|value| (name.to_owned(), value)));
    }
    if let Some(key) = message.ordering_key() {
        put(&mut row, "ordering_key", key);
    }
    if let Some(key) = message.key() {
        put(&mut row, if message.has_unique_key() { "unique_key" } else { "dedup_key" }, key);
    }
    let headers: Vec<Value> = message.headers().map(|(name, value)| header(name, &value)).collect();
    if !headers.is_empty() {
        row.insert("headers".into(), headers.into());
    }
    let states: Map<String, Value> =
        states.iter().map(|(name, state)| (name.clone(), super::look::word(*state).into())).collect();
    row.insert("states".into(), states.into());
    format!("{}\n", Value::Object(row))
}

/// A header that comes back as it was: a float as its bits, for JSON has no NaN.
fn header(name: &str, value: &HeaderValue<'_>) -> Value {
    let (kind, value) = match value {
        HeaderValue::Text(text) => ("text", Value::from(text.as_ref())),
        HeaderValue::Int(number) => ("int", (*number).into()),
        HeaderValue::Float(number) => ("float", format!("{:016x}", number.to_bits()).into()),
        HeaderValue::Bool(yes) => ("bool", (*yes).into()),
        HeaderValue::Bytes(bytes) => ("bytes", BASE64.encode(bytes).into()),
        // What only a later version knows it has as bytes here.
        _ => ("bytes", "".into()),
    };
    json!({ "name": name, "type": kind, "value": value })
}
