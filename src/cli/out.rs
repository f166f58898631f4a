//! How is data written: for people as a table, for programs as JSON, JSON lines or CSV?
//!
//! Whatever the form, it is the same data: an object of facts, and lists of rows. Programs get every field, as
//! plain numbers (bytes, milliseconds since 1970), and the number of the schema; people get the columns.

use std::io::{self, IsTerminal as _};

use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr as _;

use super::exit::{self, Failure};

/// Grows when a field changes its meaning or goes; new fields do not count.
pub(super) const SCHEMA: u64 = 1;
/// Rows whose width decides that of a table's columns.
const SAMPLE: usize = 200;
/// Bytes that are put together before they are written.
const CHUNK: usize = 32 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// One object
    Json,
    /// An object a line
    Jsonl,
    /// Comma-separated, with a line of names
    Csv,
}

/// How data is to be written.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct As {
    /// How to write data: a table for people, json, jsonl or csv for programs
    #[arg(long, value_enum, default_value_t = Format::Table, value_name = "table|json|jsonl|csv", hide_possible_values = true)]
    pub(super) format: Format,
}

/// How a value is shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    Text,
    Number,
    /// With a unit.
    Bytes,
    /// Milliseconds since 1970.
    Time,
    /// A state, coloured.
    State,
    /// A digest: its first digits.
    Digest,
}

/// A column of a list, or a fact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// The field's name, for programs.
    pub(super) key: &'static str,
    /// Its name for people; empty: they are not shown it.
    pub(super) head: &'static str,
    pub(super) is: Is,
}

pub(super) const fn column(key: &'static str, head: &'static str, is: Is) -> Column {
    Column { key, head, is }
}

/// Writes rows of one list, as they come.
pub(super) struct Rows<'a> {
    format: Format,
    /// What the list is called in JSON.
    name: &'static str,
    columns: &'a [Column],
    /// Facts that stand beside the list in JSON.
    facts: Map<String, Value>,
    waiting: Vec<Value>,
    widths: Option<Vec<usize>>,
    out: String,
    count: u64,
    colour: bool,
    heard: bool,
    /// Each row is to be seen at once.
    live: bool,
}

impl<'a> Rows<'a> {
    pub(super) fn new(form: As, name: &'static str, columns: &'a [Column]) -> Self {
        Self {
            format: form.format,
            name,
            columns,
            facts: Map::new(),
            waiting: Vec::new(),
            widths: None,
            out: String::new(),
            count: 0,
            colour: colourful(),
            heard: true,
            live: false,
        }
    }

    /// Lets each row be seen at once.
    pub(super) fn live(mut self) -> Self {
        self.live = true;
        self
    }

    /// Writes a row, an object; tells whether anybody still reads.
    pub(super) fn push(&mut self, row: Value) -> Result<bool, Failure> {
        match self.format {
            Format::Table => {
                self.waiting.push(row);
                if self.widths.is_some() || self.live || self.waiting.len() >= SAMPLE {
                    self.lay_out();
                }
            }
            Format::Json => {
                if self.count == 0 {
                    self.open_json();
                }
                self.out.push_str(if self.count == 0 { "\n" } else { ",\n" });
                self.out.push_str(&row.to_string());
            }
            Format::Jsonl => self.out.push_str(&json_line(row)),
            Format::Csv => {
                if self.count == 0 {
                    self.out.push_str(&csv_head(self.columns)?);
                }
                self.out.push_str(&csv_row(self.columns, &row)?);
            }
        }
        self.count += 1;
        if self.live || self.out.len() >= CHUNK {
            self.flush()?;
        }
        Ok(self.heard)
    }

    /// Ends the list.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.lay_out(),
            Format::Json => {
                if self.count == 0 {
                    self.open_json();
                }
                self.out.push_str(if self.count == 0 { "]}\n" } else { "\n]}\n" });
            }
            Format::Csv if self.count == 0 => self.out.push_str(&csv_head(self.columns)?),
            Format::Jsonl | Format::Csv => {}
        }
        self.flush()
    }

    /// Ends the list; people see no table that has no rows.
    pub(super) fn end_if_any(self) -> Result<(), Failure> {
        if self.count == 0 && self.format == Format::Table { Ok(()) } else { self.end() }
    }

    /// Ends the list of a watch, which has none if it was drawn on a screen.
    pub(super) fn end_of_watch(self, drawn: bool) -> Result<(), Failure> {
        if drawn { Ok(()) } else { self.end() }
    }

    fn open_json(&mut self) {
        let mut head = Map::new();
        head.insert("schema".into(), SCHEMA.into());
        head.append(&mut self.facts);
        let head = Value::Object(head).to_string();
        self.out.push_str(&head[..head.len() - 1]);
        self.out.push_str(&format!(",{:?}:[", self.name));
    }

    fn lay_out(&mut self) {
        let columns: Vec<&Column> = self.columns.iter().filter(|column| !column.head.is_empty()).collect();
        let rows: Vec<Vec<String>> = std::mem::take(&mut self.waiting)
            .iter()
            .map(|row| columns.iter().map(|column| shown(column, row)).collect())
            .collect();
        let first = self.widths.is_none();
        let widths = self.widths.get_or_insert_with(|| {
            let width = |at: usize| rows.iter().map(|row| row[at].width()).max().unwrap_or(0);
            columns.iter().enumerate().map(|(at, column)| width(at).max(column.head.width())).collect()
        });
        if first {
            let heads: Vec<String> = columns.iter().map(|column| column.head.to_owned()).collect();
            let line = aligned(&columns, widths, &heads, None);
            self.out.push_str(&paint(self.colour, "1", line.trim_end()));
            self.out.push('\n');
        }
        for row in &rows {
            let line = aligned(&columns, widths, row, self.colour.then_some(()));
            self.out.push_str(line.trim_end());
            self.out.push('\n');
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.heard && !self.out.is_empty() {
            self.heard = exit::print(&self.out)?;
        }
        self.out.clear();
        Ok(())
    }
}

/// One object of facts, with lists beside it.
pub(super) struct Document<'a> {
    pub(super) facts: Value,
    /// Which of the facts people are shown, and how.
    pub(super) shown: &'a [Column],
    /// Each: its name, columns, rows. Lines and CSV have the first only.
    pub(super) lists: Vec<(&'static str, &'a [Column], Vec<Value>)>,
}

impl Document<'_> {
    /// Writes it.
    pub(super) fn write(self, form: As) -> Result<(), Failure> {
        exit::print(&self.text(form)?).map(drop)
    }

    /// Returns what is written.
    pub(super) fn text(self, form: As) -> Result<String, Failure> {
        let mut out = String::new();
        match form.format {
            Format::Json => {
                let mut all = with_schema(self.facts);
                if let Value::Object(fields) = &mut all {
                    for (name, _, rows) in self.lists {
                        fields.insert(name.into(), Value::Array(rows));
                    }
                }
                out = format!("{all}\n");
            }
            Format::Jsonl | Format::Csv => {
                let facts = (self.shown, vec![self.facts]);
                let (columns, rows) =
                    self.lists.into_iter().next().map_or(facts, |(_, columns, rows)| (columns, rows));
                if form.format == Format::Csv {
                    out = csv_head(columns)?;
                }
                for row in rows {
                    out.push_str(&if form.format == Format::Csv {
                        csv_row(columns, &row)?
                    } else {
                        json_line(row)
                    });
                }
            }
            Format::Table => {
                let head = self.shown.iter().map(|column| column.head.width()).max().unwrap_or(0);
                for column in self.shown.iter().filter(|column| !column.head.is_empty()) {
                    let value = shown(column, &self.facts);
                    out.push_str(&format!("{:<head$}  {}\n", column.head, coloured(column, value)));
                }
                for (_, columns, rows) in self.lists.into_iter().filter(|(.., rows)| !rows.is_empty()) {
                    if !out.is_empty() {
                        out.push('\n');
                    }
                    let mut list = Rows::new(form, "", columns);
                    list.waiting = rows;
                    list.lay_out();
                    out.push_str(&list.out);
                }
            }
        }
        Ok(out)
    }
}

fn with_schema(mut row: Value) -> Value {
    if let Value::Object(fields) = &mut row {
        fields.insert("schema".into(), SCHEMA.into());
    }
    row
}

fn json_line(row: Value) -> String {
    format!("{}\n", with_schema(row))
}

fn csv_head(columns: &[Column]) -> Result<String, Failure> {
    csv_line(std::iter::once("schema").chain(columns.iter().map(|column| column.key)).map(str::to_owned))
}

fn csv_row(columns: &[Column], row: &Value) -> Result<String, Failure> {
    let schema = Value::from(SCHEMA);
    let cells = columns.iter().map(|column| row.get(column.key).unwrap_or(&Value::Null));
    csv_line(std::iter::once(&schema).chain(cells).map(plain))
}

fn csv_line(cells: impl Iterator<Item = String>) -> Result<String, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: &dyn std::fmt::Display| Failure::input(&"csv", error);
    writer.write_record(cells).map_err(|error| failed(&error))?;
    let bytes = writer.into_inner().map_err(|error| failed(&error))?;
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

/// Writes a value as a program reads it; nothing for none.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Writes a value as people read it: one line, and nothing that moves their cursor.
fn shown(column: &Column, row: &Value) -> String {
    let value = row.get(column.key).unwrap_or(&Value::Null);
    match (column.is, value) {
        (_, Value::Null) => "-".into(),
        (_, Value::Array(all)) if all.is_empty() => "-".into(),
        (Is::Bytes, Value::Number(number)) => bytes(number.as_u64().unwrap_or(0)),
        (Is::Time, Value::Number(number)) => super::time(number.as_u64().unwrap_or(0)),
        (_, Value::Bool(yes)) => if *yes { "yes" } else { "no" }.into(),
        (Is::Digest, Value::String(text)) => text.chars().take("sha256:".len() + 16).collect(),
        (_, Value::String(text)) => harmless(text),
        (_, Value::Array(all)) => harmless(&all.iter().map(plain).collect::<Vec<_>>().join(" ")),
        (_, other) => harmless(&other.to_string()),
    }
}

/// Takes out of a text what would not stay on its line: a message must not write to a terminal.
pub(super) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    out
}

/// Writes a number of bytes with a unit: exact below ten thousand.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 10_000 {
        return format!("{number} B");
    }
    let (mut whole, mut rest, mut unit) = (number >> 10, number & 1023, 0);
    while whole >= 10_000 && unit + 1 < UNITS.len() {
        (rest, whole, unit) = (whole & 1023, whole >> 10, unit + 1);
    }
    if whole < 100 {
        return format!("{whole}.{} {}", rest * 10 / 1024, UNITS[unit]);
    }
    format!("{whole} {}", UNITS[unit])
}

fn aligned(columns: &[&Column], widths: &[usize], cells: &[String], colour: Option<()>) -> String {
    let mut line = String::new();
    for ((column, &width), cell) in columns.iter().zip(widths).zip(cells) {
        if !line.is_empty() {
            line.push_str("  ");
        }
        let pad = " ".repeat(width.saturating_sub(cell.width()));
        let cell = if colour.is_some() { coloured(column, cell.clone()) } else { cell.clone() };
        let right = matches!(column.is, Is::Number | Is::Bytes);
        line.push_str(&if right { format!("{pad}{cell}") } else { format!("{cell}{pad}") });
    }
    line
}

fn coloured(column: &Column, cell: String) -> String {
    if column.is != Is::State {
        return cell;
    }
    let code = match &cell[..] {
        "ready" | "live" | "active" | "good" | "ok" => "32",
        "on loan" | "delayed" | "paused" | "not closed" | "torn" | "wounded" => "33",
        "dead" | "damaged" | "refused" | "lost" | "unreadable" | "bad" | "over" => "31",
        _ => return cell,
    };
    paint(colourful(), code, &cell)
}

fn paint(colour: bool, code: &str, text: &str) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Tells whether data may have colours: on a terminal that knows them, unless `NO_COLOR` is set.
fn colourful() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_unit_once_they_are_many() {
        for (number, text) in [
            (0, "0 B"),
            (9_999, "9999 B"),
            (10_000, "9.7 KiB"),
            (1 << 20, "1024 KiB"),
            (64 << 20, "64.0 MiB"),
            (u64::MAX, "16383 PiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn a_text_cannot_write_to_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(harmless("grüße 日本"), "grüße 日本");
        assert_eq!(harmless("\u{202e}x"), "\\u{202e}x");
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        const COLUMNS: [Column; 3] =
            [column("name", "name", Is::Text), column("n", "n", Is::Number), column("x", "", Is::Text)];
        let rows =
            vec![serde_json::json!({"name": "日本", "n": 1}), serde_json::json!({"name": "a", "n": 100})];
        let lists = vec![("rows", &COLUMNS[..], rows)];
        let facts = serde_json::json!({});
        let form = |format| As { format };
        let document = Document { facts: facts.clone(), shown: &[], lists: lists.clone() };
        assert_eq!(document.text(form(Format::Table)).unwrap(), "name    n\n日本    1\na     100\n");
        let document = Document { facts: facts.clone(), shown: &[], lists: lists.clone() };
        assert_eq!(document.text(form(Format::Csv)).unwrap(), "schema,name,n,x\n1,日本,1,\n1,a,100,\n");
        let document = Document { facts, shown: &[], lists };
        assert_eq!(
            document.text(form(Format::Json)).unwrap(),
            "{\"rows\":[{\"n\":1,\"name\":\"日本\"},{\"n\":100,\"name\":\"a\"}],\"schema\":1}\n"
        );
    }
}
