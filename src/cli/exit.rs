//! How does a command end: with which code, and with which line on stderr?

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use backlog::Error;

use super::out::harmless;

/// All went well.
pub(super) const CLEAN: u8 = 0;
/// Something was found, or something remains to be done.
pub(super) const FINDINGS: u8 = 1;
/// The command line cannot be meant.
pub(super) const USAGE: u8 = 2;
const LOCKED: u8 = 3;
const WOULD_LOSE: u8 = 4;
const VERSION: u8 = 5;
const OTHER: u8 = 6;

/// Why a command ended early.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    text: String,
    /// Bytes have gone bad: to one who only looks, something that he found.
    is_find: bool,
}

/// What a command returns: its exit code.
pub(super) type Outcome = Result<u8, Failure>;

impl Failure {
    pub(super) fn usage(text: impl Display) -> Self {
        Self { code: USAGE, text: text.to_string(), is_find: false }
    }

    /// Says what would be lost.
    pub(super) fn refused(text: impl Display) -> Self {
        Self { code: WOULD_LOSE, text: text.to_string(), is_find: false }
    }

    /// Says which input could not be read or pushed.
    pub(super) fn input(name: &dyn Display, error: &dyn Display) -> Self {
        Self { code: OTHER, text: format!("{name}: {error}"), is_find: false }
    }

    /// Says what the system refused.
    pub(super) fn system(doing: &dyn Display, error: &io::Error) -> Self {
        Self { code: OTHER, text: format!("cannot {doing}: {error}"), is_find: false }
    }

    /// Adds, in front, what the failure is about.
    pub(super) fn about(mut self, what: &dyn Display) -> Self {
        self.text = format!("{what}: {}", self.text);
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let is_find = matches!(error, Error::Damaged { .. });
        let code = match error {
            Error::Invalid { .. } | Error::NoSuchGroup { .. } | Error::GroupName { .. } => USAGE,
            Error::GroupExists { .. } => USAGE,
            Error::Locked { .. } => LOCKED,
            Error::Refused { .. }
            | Error::Damaged { .. }
            | Error::LeaseLost { .. }
            | Error::WouldLose { .. } => WOULD_LOSE,
            Error::Version { .. } => VERSION,
            _ => OTHER,
        };
        // The library's text names the option of the library.
        let text = match &error {
            Error::Locked { path, note } if note.is_empty() => {
                format!("{} is open elsewhere; wait for it (--wait 1m), or stop it", path.display())
            }
            Error::Locked { path, note } if note.starts_with("another") => {
                format!("{}: {note}; stop it first", path.display())
            }
            Error::Locked { path, note } => {
                format!("{} is open elsewhere ({note}); wait for it (--wait 1m), or stop it", path.display())
            }
            Error::WouldLose { path, what } => format!(
                "repairing {} would give up what cannot be read any more ({what}); nothing was changed: look at the whole plan (without --apply), and allow it (--allow-loss)",
                path.display()
            ),
            _ => error.to_string(),
        };
        Self { code, text, is_find }
    }
}

/// Writes one line about a failure, and returns the code to exit with: of a command that only looks, bytes that have
/// gone bad are a finding.
pub(super) fn end(outcome: Outcome, looks: bool) -> ExitCode {
    let code = outcome.unwrap_or_else(|failure| {
        say(&failure.text);
        if looks && failure.is_find { FINDINGS } else { failure.code }
    });
    ExitCode::from(code)
}

/// Counts things in words.
pub(super) fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Writes a line to stderr; where nobody reads it there is nobody to tell.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "backlog: {}", harmless(text));
}

/// Writes data to stdout. That nobody reads on is no error: tells whether somebody does.
pub(super) fn print(data: &(impl AsRef<[u8]> + ?Sized)) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(data.as_ref()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::system(&"write to stdout", &error)),
    }
}
