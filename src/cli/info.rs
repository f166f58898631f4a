//! `backlog info`: which queue is this, and how is it?

use std::path::Path;

use serde_json::json;

use super::exit::{Failure, Outcome};
use super::look::{Folder, refused, refused_groups, state_of_queue};
use super::out::{As, Column, Document, Is, column};

/// Tell which queue this is, whether it is open, how much it holds, and its limits.
///
/// Looks only: takes no lock and writes nothing, also beside a running `work` or `push`. `live` is a queue that a
/// process has open, `closed` one that was closed cleanly; `not closed` means that its last owner died, or runs
/// where this system does not show it: nothing is lost, and the next opening says what it finds.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    form: As,
}

const SHOWN: [Column; 13] = [
    column("queue", "queue", Is::Text),
    column("id", "id", Is::Text),
    column("created_ms", "created", Is::Time),
    column("state", "state", Is::State),
    column("messages", "messages pushed", Is::Number),
    column("live", "not done", Is::Number),
    column("next_offset", "next offset", Is::Number),
    column("first_offset", "stored from", Is::Number),
    column("segments", "segments", Is::Number),
    column("bytes", "bytes used", Is::Bytes),
    column("free_bytes", "disk free", Is::Bytes),
    column("groups", "groups", Is::Text),
    column("quarantined", "quarantined", Is::Number),
];

pub(super) fn run(args: &Args) -> Outcome {
    let seen = args.folder.view()?.inspection();
    let names: Vec<&str> = seen.groups.iter().map(|group| &group.name[..]).collect();
    let facts = json!({
        "queue": args.folder.dir().to_string_lossy(),
        "id": seen.id,
        "created_ms": seen.created,
        "state": state_of_queue(&seen),
        "messages": seen.messages,
        "live": seen.segments.iter().map(|segment| segment.live).sum::<u64>(),
        "next_offset": seen.next_offset,
        "first_offset": seen.segments.first().map(|segment| segment.base),
        "segments": seen.segments.len(),
        "bytes": seen.segments.iter().map(|segment| segment.bytes).sum::<u64>(),
        "free_bytes": free_bytes(args.folder.dir())?,
        "groups": names,
        "refused_groups": refused_groups(&seen),
        "quarantined": seen.quarantined,
        "limits": super::limits::facts(&seen.limits),
    });
    Document { facts, shown: &SHOWN, lists: Vec::new() }.write(args.form)?;
    Ok(refused(&seen))
}

/// Counts the bytes of the file system that are free for us.
pub(super) fn free_bytes(dir: &Path) -> Result<u64, Failure> {
    match rustix::fs::statvfs(dir) {
        Ok(about) => Ok(about.f_bavail.saturating_mul(about.f_frsize)),
        Err(error) => Err(Failure::system(&format!("measure {}", dir.display()), &error.into())),
    }
}
