//! `backlog quarantine`: what was set aside by openings and repairs?

use std::fs::File;
use std::io;

use clap::Subcommand;
use serde_json::json;

use super::exit::{CLEAN, FINDINGS, Failure, Outcome};
use super::look::Folder;
use super::out::{As, Column, Is, Rows, column};

/// Look at what was set aside: torn bytes, damaged ones, files that a repair replaced.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the files, with their sizes and what is known of them; exit 1 if there are any
    Ls {
        #[command(flatten)]
        folder: Folder,
        #[command(flatten)]
        form: As,
    },
    /// Write the bytes of one to stdout
    Show {
        #[command(flatten)]
        folder: Folder,
        /// Its name, as `ls` lists it
        name: String,
    },
}

const COLUMNS: [Column; 3] =
    [column("name", "name", Is::Text), column("bytes", "bytes", Is::Bytes), column("what", "what", Is::Text)];

pub(super) fn run(args: &Args) -> Outcome {
    match &args.what {
        What::Ls { folder, form } => ls(folder, *form),
        What::Show { folder, name } => show(folder, name),
    }
}

fn ls(folder: &Folder, form: As) -> Outcome {
    let files = backlog::quarantine(folder.dir())?;
    let mut rows = Rows::new(form, "files", &COLUMNS);
    for file in &files {
        if !rows.push(json!({ "name": file.name, "bytes": file.bytes, "what": file.what }))? {
            break;
        }
    }
    rows.end_if_any()?;
    Ok(if files.is_empty() { CLEAN } else { FINDINGS })
}

fn show(folder: &Folder, name: &str) -> Outcome {
    let known = backlog::quarantine(folder.dir())?;
    if !known.iter().any(|file| file.name == name) {
        let names: Vec<&str> = known.iter().map(|file| &file.name[..]).collect();
        let there = if names.is_empty() { "none".into() } else { names.join(", ") };
        return Err(Failure::usage(format!(
            "nothing of the name {name:?} is in quarantine; there are: {there}"
        )));
    }
    let path = folder.dir().join("quarantine").join(name);
    let doing = format!("read {}", path.display());
    let mut file = File::open(&path).map_err(|error| Failure::system(&doing, &error))?;
    match io::copy(&mut file, &mut io::stdout().lock()) {
        Ok(_) => Ok(CLEAN),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(CLEAN),
        Err(error) => Err(Failure::system(&doing, &error)),
    }
}
