//! `backlog dump`: what lies in the files, piece by piece?

use backlog::{DumpOptions, Fact, Piece};
use data_encoding::HEXLOWER;
use serde_json::{Map, Value};

use super::exit::{CLEAN, FINDINGS, Outcome};
use super::look::Folder;
use super::out::{As, Column, Format, Is, Rows, column};

/// Show every header, batch, record and entry of the files, with the verdict of its checksums.
///
/// Of whatever is there, with or without a MANIFEST, and it reads on behind what has gone bad. Looks only: takes no
/// lock and writes nothing; beside a running `work` or `push` it shows a write that is under way as what it is now.
/// Exit 1 if anything is bad.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// This segment only, by its number
    segment: Option<u64>,
    /// Neither records nor entries; bodies are not read then
    #[arg(long)]
    headers_only: bool,
    /// The bytes too, in hexadecimal: of each piece the first 64 KiB
    #[arg(long)]
    hex: bool,
    /// Begin in each segment at the first batch from that byte on
    #[arg(long, value_name = "BYTE", default_value_t = 0)]
    from: u64,
    #[command(flatten)]
    form: As,
}

const COLUMNS: [Column; 8] = [
    column("file", "file", Is::Text),
    column("position", "at byte", Is::Number),
    column("bytes", "bytes", Is::Number),
    column("what", "piece", Is::Text),
    column("verdict", "is", Is::State),
    column("says", "says", Is::Text),
    column("problem", "", Is::Text),
    column("hex", "hex", Is::Text),
];

/// Bytes of a piece that are shown.
const MOST_HEX: usize = 64 << 10;

pub(super) fn run(args: &Args) -> Outcome {
    let mut options = DumpOptions::new().headers_only(args.headers_only).from(args.from);
    if let Some(number) = args.segment {
        options = options.segment(number);
    }
    if args.hex {
        options = options.content(MOST_HEX);
    }
    let shown = COLUMNS.into_iter().filter(|column| args.hex || column.key != "hex").collect::<Vec<_>>();
    let mut rows = Rows::new(args.form, "pieces", &shown);
    let (mut failure, mut code) = (None, CLEAN);
    backlog::dump(args.folder.dir(), &options, &mut |piece| {
        if piece.problem.is_some() {
            code = FINDINGS;
        }
        rows.push(row(args, &piece)).unwrap_or_else(|error| {
            failure = Some(error);
            false
        })
    })?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    rows.end()?;
    Ok(code)
}

fn row(args: &Args, piece: &Piece) -> Value {
    let mut row = Map::new();
    let file = piece.path.strip_prefix(args.folder.dir()).unwrap_or(&piece.path);
    row.insert("file".into(), file.display().to_string().into());
    row.insert("position".into(), piece.position.into());
    row.insert("bytes".into(), piece.bytes.into());
    row.insert("what".into(), piece.what.into());
    row.insert("verdict".into(), if piece.problem.is_some() { "bad" } else { "good" }.into());
    row.extend(piece.problem.as_ref().map(|problem| ("problem".to_owned(), problem.clone().into())));
    let facts = piece.facts.iter().map(|(name, fact)| ((*name).to_owned(), value(fact)));
    if matches!(args.form.format, Format::Table | Format::Csv) {
        let problem = piece.problem.iter().cloned();
        let says = piece.facts.iter().map(|(name, fact)| format!("{name} {}", text(fact)));
        row.insert("says".into(), problem.chain(says).collect::<Vec<_>>().join(", ").into());
    } else {
        row.insert("says".into(), facts.collect::<Map<_, _>>().into());
    }
    if args.hex {
        row.insert("hex".into(), HEXLOWER.encode(&piece.content).into());
    }
    row.into()
}

fn value(fact: &Fact) -> Value {
    match fact {
        Fact::Number(number) | Fact::Millis(number) => (*number).into(),
        Fact::Text(text) => text.clone().into(),
        _ => Value::Null,
    }
}

fn text(fact: &Fact) -> String {
    match fact {
        Fact::Number(number) => number.to_string(),
        Fact::Millis(millis) => super::time(*millis),
        Fact::Text(text) => text.clone(),
        _ => String::new(),
    }
}
