//! `backlog verify`: is every byte that was promised as it was written?

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use super::exit::{self, CLEAN, FINDINGS, Outcome};

/// Check every byte that was promised, and change none.
///
/// Takes no lock, also beside a running `work` or `push`. Prints a line for each finding, with file,
/// byte and offsets; exit 1 if there are any.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The queue's folder
    dir: PathBuf,
}

pub(super) fn run(args: &Args) -> Outcome {
    let bar = if io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {eta} left") {
        bar.set_style(style);
    }
    let mut checked = 0;
    let found = backlog::verify(&args.dir, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        checked = progress.total;
    });
    bar.finish_and_clear();
    let findings = found?;
    let lines: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    exit::print(&lines)?;
    if findings.is_empty() {
        exit::say(&format!("all is well: {checked} bytes of segments, and every group"));
        return Ok(CLEAN);
    }
    exit::say(&format!("{} findings", findings.len()));
    Ok(FINDINGS)
}
