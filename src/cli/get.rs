//! `backlog get`: what does one message say?

use backlog::{MessageState, Offset};

use super::exit::{self, CLEAN, FINDINGS, Outcome};
use super::look::{self, Folder};
use super::ls;
use super::out::{As, Rows};
use super::payload::Payloads;

/// Write the payload of one message to stdout, byte for byte; with --about, what is known of it instead.
///
/// Whatever its state, as long as it is stored. Looks only: takes no lock and writes nothing, also beside a running
/// `work` or `push`. Exit 1 if it is not stored: `why` tells why.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Which
    #[arg(value_parser = super::target::offset)]
    offset: Offset,
    /// Tell what is known of it: state, times, size, digest, kind, keys, headers
    #[arg(long)]
    about: bool,
    #[command(flatten)]
    payloads: Payloads,
    #[command(flatten)]
    form: As,
}

pub(super) fn run(args: &Args) -> Outcome {
    let mut view = args.folder.view()?;
    let Some(message) = view.get(args.offset)? else {
        exit::say(&format!("message {} is not stored; `backlog why` tells why", args.offset));
        return Ok(FINDINGS);
    };
    if !args.about && !args.payloads.are_shown() {
        exit::print(message.payload())?;
        return Ok(CLEAN);
    }
    let seen = view.inspection();
    let code = look::refused(&seen);
    let groups = seen.groups.into_iter();
    let states: Vec<(String, MessageState)> = groups
        .filter_map(|group| {
            let state = view.state(&group.name, &message).ok()?;
            Some((group.name, state))
        })
        .collect();
    let columns = ls::columns(&args.payloads);
    let mut rows = Rows::new(args.form, "messages", &columns);
    rows.push(ls::row(&message, &states, &args.payloads)?)?;
    rows.end()?;
    Ok(code)
}
