//! `backlog import`: how do messages come in that `export` wrote?

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backlog::{Encoding, Error, HeaderValue, Message, Options, Queue};
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::Value;

use super::exit::{self, CLEAN, Failure, Outcome};
use super::lines::Lines;
use super::out::SCHEMA;

/// Bytes of the longest line: the longest message as base64, or escaped, and its attributes.
const LONGEST: usize = 512 << 20;
/// Bytes of the longest payload.
const LONGEST_PAYLOAD: u64 = 64 << 20;
/// What one batch has at the most.
const BATCH_MESSAGES: usize = 1000;
const BATCH_BYTES: usize = 1 << 20;

/// Store messages that `export` wrote, in their order; the queue is created if there is none.
///
/// Payload, kind, headers, keys, priority, due time and expiry are kept; offsets and times of push are new. Prints
/// `FIRST..END`, a range of offsets (END not included), for what is on stable storage now. A message whose key is
/// taken is not stored again, so an import of messages that have one can be repeated. A line that is none ends it,
/// with its number: what was before it stays.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The queue's folder
    dir: PathBuf,
    /// What to read; `-` is stdin, and so is nothing
    file: Option<PathBuf>,
    /// How long to wait for a queue that is open elsewhere (500ms, 30s, 5m)
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "0s")]
    wait: Duration,
}

/// A message as text.
#[derive(Debug, Deserialize)]
struct Line {
    schema: u64,
    payload: Option<String>,
    payload_base64: Option<String>,
    kind: Option<String>,
    encoding: Option<String>,
    priority: Option<u8>,
    due_ms: Option<u64>,
    expires_ms: Option<u64>,
    ordering_key: Option<String>,
    ordering_key_base64: Option<String>,
    dedup_key: Option<String>,
    dedup_key_base64: Option<String>,
    unique_key: Option<String>,
    unique_key_base64: Option<String>,
    #[serde(default)]
    headers: Vec<Header>,
}

#[derive(Debug, Deserialize)]
struct Header {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    value: Value,
}

pub(super) fn run(args: &Args) -> Outcome {
    let input: Box<dyn Read> = match args.file.as_ref().filter(|file| file.as_os_str() != "-") {
        None => Box::new(io::stdin().lock()),
        Some(file) => Box::new(
            File::open(file).map_err(|error| Failure::system(&format!("read {}", file.display()), &error))?,
        ),
    };
    let options = Options::new(&args.dir).max_message_bytes(LONGEST_PAYLOAD).lock_timeout(args.wait);
    let queue = options.open()?;
    super::tell_recovery(queue.recovery());
    let next = backlog::inspect(&args.dir)?.next_offset;
    let mut import = Import { queue, batch: Vec::new(), bytes: 0, next, stored: 0, known: 0 };
    let read = import.read(input);
    // What was read before a line that is none stays, and is told.
    let pushed = import.push();
    let closed = import.queue.close();
    let Import { stored, known, .. } = import;
    exit::say(&format!("{} stored, {known} known by their keys already", exit::count(stored, "message")));
    read.and(pushed)?;
    closed?;
    Ok(CLEAN)
}

struct Import {
    queue: Queue,
    /// What is to be pushed, each with the number of its line.
    batch: Vec<(u64, Message<'static>)>,
    bytes: usize,
    /// No message that was stored by now has this offset or a higher one.
    next: u64,
    stored: u64,
    known: u64,
}

impl Import {
    fn read(&mut self, input: Box<dyn Read>) -> Result<(), Failure> {
        let mut lines = Lines::new(input, b'\n', LONGEST);
        let mut number = 0;
        let at =
            |number: u64, problem: &dyn std::fmt::Display| Failure::input(&format!("line {number}"), problem);
        loop {
            let Some(complete) = lines.read().map_err(|error| Failure::input(&"the input", &error))? else {
                return Ok(());
            };
            let complete: Vec<Vec<u8>> = complete.into_iter().map(<[u8]>::to_vec).collect();
            for line in complete {
                number += 1;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let line: Line = serde_json::from_slice(&line).map_err(|error| at(number, &error))?;
                let keyed = line.has_key();
                let message = line.message().map_err(|problem| at(number, &problem))?;
                self.take(number, message, keyed)?;
            }
            if lines.is_too_long() {
                return Err(at(number + 1, &"it is longer than any message is"));
            }
        }
    }

    fn take(&mut self, number: u64, message: Message<'static>, keyed: bool) -> Result<(), Failure> {
        if keyed {
            // A key is looked for one by one: its batch would be refused as a whole.
            self.push()?;
            let offset = self.queue.push(&message).map_err(|error| about(number, error))?.get();
            // Of a key that is taken it is the offset of the one that has it.
            if offset < self.next {
                self.known += 1;
                return Ok(());
            }
            (self.stored, self.next) = (self.stored + 1, offset + 1);
            exit::print(&format!("{offset}..{}\n", offset + 1))?;
            return Ok(());
        }
        self.bytes += message.payload().len();
        self.batch.push((number, message));
        if self.batch.len() >= BATCH_MESSAGES || self.bytes >= BATCH_BYTES { self.push() } else { Ok(()) }
    }

    fn push(&mut self) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let offsets = match self.queue.push_batch(self.batch.iter().map(|(_, message)| message)) {
            Ok(offsets) => offsets,
            // Nothing of it was stored: one by one, so that it is known which is to blame.
            Err(Error::Invalid { .. } | Error::TooLarge { .. }) => return self.push_singly(),
            Err(error) => return Err(error.into()),
        };
        self.stored += self.batch.len() as u64;
        self.next = self.next.max(offsets.clone().last().map_or(0, |last| last.get() + 1));
        self.batch.clear();
        self.bytes = 0;
        exit::print(&format!("{offsets}\n"))?;
        Ok(())
    }

    fn push_singly(&mut self) -> Result<(), Failure> {
        self.bytes = 0;
        for (number, message) in std::mem::take(&mut self.batch) {
            let offset = self.queue.push(&message).map_err(|error| about(number, error))?.get();
            (self.stored, self.next) = (self.stored + 1, offset + 1);
            exit::print(&format!("{offset}..{}\n", offset + 1))?;
        }
        Ok(())
    }
}

fn about(number: u64, error: Error) -> Failure {
    Failure::from(error).about(&format!("line {number}"))
}

impl Line {
    fn has_key(&self) -> bool {
        let keys = [&self.dedup_key, &self.dedup_key_base64, &self.unique_key, &self.unique_key_base64];
        keys.into_iter().any(Option::is_some)
    }

    fn message(self) -> Result<Message<'static>, String> {
        if self.schema > SCHEMA {
            return Err(format!("it is of schema {}, and this version knows {SCHEMA}", self.schema));
        }
        let payload = bytes("payload", self.payload, self.payload_base64)?.ok_or("it has no payload")?;
        let mut message = Message::from(payload);
        if let Some(kind) = self.kind {
            message = message.kind(kind);
        }
        message = match self.encoding.as_deref() {
            None => message,
            Some("json") => message.encoding(Encoding::Json),
            Some("bincode") => message.encoding(Encoding::Bincode),
            Some(other) => {
                return Err(format!("its encoding is {other:?}, and this version knows json and bincode"));
            }
        };
        if let Some(priority) = self.priority {
            message = message.priority(priority);
        }
        if let Some(due) = self.due_ms {
            message = message.at(moment(due)?);
        }
        if let Some(end) = self.expires_ms {
            message = message.expires_at(moment(end)?);
        }
        if let Some(key) = bytes("ordering_key", self.ordering_key, self.ordering_key_base64)? {
            message = message.ordering_key(key);
        }
        if let Some(key) = bytes("dedup_key", self.dedup_key, self.dedup_key_base64)? {
            message = message.dedup_key(key);
        }
        if let Some(key) = bytes("unique_key", self.unique_key, self.unique_key_base64)? {
            message = message.unique_key(key);
        }
        for Header { name, kind, value } in self.headers {
            let value = header(&kind, &value).ok_or_else(|| format!("its header {name:?} is no {kind}"))?;
            message = message.header(name, value);
        }
        Ok(message)
    }
}

fn moment(millis: u64) -> Result<SystemTime, String> {
    // Milliseconds have 48 bits.
    let time = (millis < 1 << 48).then(|| UNIX_EPOCH + Duration::from_millis(millis));
    time.ok_or_else(|| format!("{millis} ms since 1970 is no time"))
}

fn bytes(name: &str, text: Option<String>, base64: Option<String>) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("it has {name} twice: as text and as base64")),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(text)) => {
            let decoded = BASE64.decode(text.as_bytes());
            decoded.map(Some).map_err(|error| format!("its {name}_base64 is none: {error}"))
        }
        (None, None) => Ok(None),
    }
}

fn header(kind: &str, value: &Value) -> Option<HeaderValue<'static>> {
    Some(match kind {
        "text" => HeaderValue::Text(value.as_str()?.to_owned().into()),
        "int" => HeaderValue::Int(value.as_i64()?),
        "float" => HeaderValue::Float(f64::from_bits(u64::from_str_radix(value.as_str()?, 16).ok()?)),
        "bool" => HeaderValue::Bool(value.as_bool()?),
        "bytes" => HeaderValue::Bytes(BASE64.decode(value.as_str()?.as_bytes()).ok()?.into()),
        _ => return None,
    })
}
