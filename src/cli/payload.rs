//! How are messages shown: what is known of each, and its payload if that is asked for?

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use backlog::{Content, HeaderValue};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::exit::Failure;

/// Bytes of what a decoder says that are shown.
const MOST_DECODED: u64 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Show {
    /// Size and digest only
    None,
    /// As text; one that is no UTF-8 comes as base64
    Utf8,
    Hex,
    Base64,
}

/// How payloads are shown.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Payloads {
    /// Show payloads, too: utf8 (base64 where it is none), hex or base64; else their size and SHA-256
    #[arg(long, value_enum, default_value_t = Show::None, value_name = "none|utf8|hex|base64", hide_possible_values = true)]
    payload: Show,
    /// Show what this shell command makes of a payload on its stdin
    #[arg(long, value_name = "COMMAND", conflicts_with = "payload")]
    decode: Option<String>,
}

impl Payloads {
    /// Tells whether payloads are shown.
    pub(super) fn are_shown(&self) -> bool {
        self.decode.is_some() || self.payload != Show::None
    }

    /// Adds the payload to what is shown of a message.
    pub(super) fn add(&self, message: &Content, row: &mut Map<String, Value>) -> Result<(), Failure> {
        let bytes = message.payload();
        row.insert("bytes".into(), bytes.len().into());
        row.insert("digest".into(), format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(bytes))).into());
        let decoded;
        let (bytes, show) = match &self.decode {
            Some(command) => {
                decoded = decode(command, bytes)?;
                (&decoded[..], Show::Utf8)
            }
            None => (bytes, self.payload),
        };
        let (encoding, text) = match show {
            Show::None => return Ok(()),
            Show::Utf8 => text(bytes),
            Show::Hex => ("hex", HEXLOWER.encode(bytes)),
            Show::Base64 => ("base64", BASE64.encode(bytes)),
        };
        row.insert("payload".into(), text.into());
        row.insert("payload_encoding".into(), encoding.into());
        Ok(())
    }
}

/// Writes bytes as text, if they are; else as base64. Tells which.
pub(super) fn text(bytes: &[u8]) -> (&'static str, String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => ("utf-8", text.to_owned()),
        Err(_) => ("base64", BASE64.encode(bytes)),
    }
}

/// Tells what is known of a message, but for its payload.
pub(super) fn about(message: &Content) -> Map<String, Value> {
    let moment = |time: SystemTime| super::millis(time);
    let mut row = Map::new();
    row.insert("offset".into(), message.offset().get().into());
    row.insert("id".into(), message.id().into());
    row.insert("pushed_ms".into(), moment(message.pushed_at()).into());
    row.insert("priority".into(), message.priority().into());
    let key = |key: &[u8]| text(key).1;
    let optional = [
        ("kind", message.kind().map(Value::from)),
        ("encoding", message.encoding().map(|encoding| format!("{encoding:?}").to_lowercase().into())),
        ("due_ms", message.due().map(moment).map(Value::from)),
        ("expires_ms", message.expires_at().map(moment).map(Value::from)),
        ("ordering_key", message.ordering_key().map(key).map(Value::from)),
        ("key", message.key().map(key).map(Value::from)),
    ];
    for (name, value) in optional {
        row.extend(value.map(|value| (name.to_owned(), value)));
    }
    let headers: Vec<Value> = message.headers().map(|(name, value)| header(name, &value)).collect();
    if !headers.is_empty() {
        row.insert("headers".into(), headers.into());
    }
    row
}

fn header(name: &str, value: &HeaderValue<'_>) -> Value {
    let (kind, value) = match value {
        HeaderValue::Text(text) => ("text", Value::from(text.to_string())),
        HeaderValue::Int(number) => ("int", (*number).into()),
        HeaderValue::Float(number) => ("float", (*number).into()),
        HeaderValue::Bool(yes) => ("bool", (*yes).into()),
        HeaderValue::Bytes(bytes) => ("bytes", BASE64.encode(bytes).into()),
        other => ("other", format!("{other:?}").into()),
    };
    json!({ "name": name, "type": kind, "value": value })
}

/// Writes a header's value as text.
pub(super) fn header_text(value: &HeaderValue<'_>) -> String {
    match value {
        HeaderValue::Text(text) => text.to_string(),
        HeaderValue::Int(number) => number.to_string(),
        HeaderValue::Float(number) => number.to_string(),
        HeaderValue::Bool(yes) => yes.to_string(),
        HeaderValue::Bytes(bytes) => text(bytes).1,
        other => format!("{other:?}"),
    }
}

/// Lets a command make something readable of a payload.
fn decode(command: &str, payload: &[u8]) -> Result<Vec<u8>, Failure> {
    let doing = format!("run {command:?}");
    let failed = |error: std::io::Error| Failure::system(&doing, &error);
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut out = Vec::new();
    let read = std::thread::scope(|scope| {
        // It may say something before it has read everything, or end without reading.
        scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(payload)));
        stdout.map_or(Ok(0), |stdout| stdout.take(MOST_DECODED).read_to_end(&mut out))
    });
    read.map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    if !status.success() {
        return Err(Failure::input(&doing, &status));
    }
    Ok(out)
}
