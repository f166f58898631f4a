//! How does a person see how far a command has come?

use std::io::{self, IsTerminal as _};

use backlog::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// Does some work with a bar of bytes, on a terminal; it is gone when the work is done.
pub(super) fn with<T>(work: impl FnOnce(&mut dyn FnMut(Progress)) -> T) -> T {
    let bar = if io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {eta} left") {
        bar.set_style(style);
    }
    let done = work(&mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    done
}
