//! `backlog pause`, `resume`, `seek`, `purge`: when and where does a group read?

use std::time::Duration;

use backlog::{Offset, Start};

use super::exit::{self, CLEAN, Outcome};
use super::target::InGroup;

/// Let a group hand out nothing until `resume`.
#[derive(Debug, clap::Args)]
pub(super) struct Pause {
    #[command(flatten)]
    at: InGroup,
    /// For so long only
    #[arg(long = "for", value_name = "TIME", value_parser = super::duration)]
    time: Option<Duration>,
    /// Give all loans back, uncounted
    #[arg(long)]
    release: bool,
}

/// End a pause.
#[derive(Debug, clap::Args)]
pub(super) struct Resume {
    #[command(flatten)]
    at: InGroup,
}

/// Let a group go on reading elsewhere: to see messages again, or to skip some.
///
/// All loans are lost, and what the group knew of single messages (retries, dead letters) is
/// forgotten. Prints the offset where it landed.
#[derive(Debug, clap::Args)]
pub(super) struct Seek {
    #[command(flatten)]
    at: InGroup,
    /// `beginning`, `end`, an offset, or a time: 2026-11-24T06:00:00Z
    #[arg(value_parser = start)]
    to: Start,
}

/// Make all messages done in a group that were pushed so far, loans and dead letters too.
///
/// Prints how many.
#[derive(Debug, clap::Args)]
pub(super) struct Purge {
    #[command(flatten)]
    at: InGroup,
}

pub(super) fn pause(args: &Pause) -> Outcome {
    args.at.with(|group| {
        match args.time {
            None => group.pause()?,
            Some(time) => group.pause_for(time)?,
        }
        if args.release {
            group.release_all()?;
        }
        Ok(CLEAN)
    })
}

pub(super) fn resume(args: &Resume) -> Outcome {
    args.at.with(|group| {
        group.resume()?;
        Ok(CLEAN)
    })
}

pub(super) fn seek(args: &Seek) -> Outcome {
    args.at.with(|group| {
        let landed = group.seek(args.to)?;
        exit::print(&format!("{landed}\n"))?;
        Ok(CLEAN)
    })
}

pub(super) fn purge(args: &Purge) -> Outcome {
    args.at.with(|group| {
        let purged = group.purge()?;
        exit::print(&format!("{purged}\n"))?;
        Ok(CLEAN)
    })
}

/// Parses where a group is to read.
pub(super) fn start(text: &str) -> Result<Start, String> {
    match text {
        "undone" => return Ok(Start::Undone),
        "beginning" | "start" => return Ok(Start::Beginning),
        "end" => return Ok(Start::End),
        _ => {}
    }
    if let Some(offset) = text.parse().ok().and_then(Offset::new) {
        return Ok(Start::At(offset));
    }
    super::moment(text)
        .map(Start::Since)
        .map_err(|_| "write `beginning`, `end`, an offset, or a moment like 2026-11-24T06:00:00Z".into())
}
