//! Which commands are there, and what do they share?
//!
//! A window on the library: commands call its public face and format; none knows the bytes of a file.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

mod child;
mod exit;
mod lines;
mod push;
mod stats;
mod verify;
mod work;

const ABOUT: &str = "A durable message queue that lives in a folder.

A message is stored before `push` says so, and comes again until a worker is done with it:
whatever is killed, crashes or loses power in between.";

const COURSE: &str = "Start here:
  seq 3 | backlog push jobs                   store three messages in ./jobs, one a line
  backlog work jobs --until-empty -- cat      run `cat` for each, the message on its stdin
  backlog stats jobs                          count what is ready, delayed, on loan, dead
  backlog verify jobs                         check every byte, change none

Exit codes:
  0 clean   1 findings, or something remains   2 usage   3 open elsewhere
  4 refused: it would lose data   5 a newer version wrote it   6 not a queue, or the system refused

Data goes to stdout, everything else to stderr. docs/CLI.md shows a session of each command.";

#[derive(Debug, Parser)]
#[command(name = "backlog", version, about = ABOUT, after_help = COURSE, color = clap::ColorChoice::Never)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Push(push::Args),
    Work(work::Args),
    Stats(stats::Args),
    Verify(verify::Args),
}

/// Runs the command that the command line names.
pub(crate) fn main() -> ExitCode {
    exit::end(match Cli::parse().command {
        Command::Push(args) => push::run(&args),
        Command::Work(args) => work::run(args),
        Command::Stats(args) => stats::run(&args),
        Command::Verify(args) => verify::run(&args),
    })
}

/// Says what opening found that a person should look at.
fn tell_recovery(found: &backlog::Recovery) {
    if found.torn_bytes > 0 {
        exit::say(&format!(
            "{} torn bytes ({} messages, as far as can be told) were never promised and are set aside{}",
            found.torn_bytes,
            found.torn_messages,
            found.evidence.as_ref().map_or_else(String::new, |path| format!(" in {}", path.display())),
        ));
    }
    for damage in &found.damaged {
        let (first, end) = damage.offsets;
        exit::say(&format!(
            "{} is damaged at byte {} (offsets {first}..{end}); run \"backlog verify\"",
            damage.path.display(),
            damage.position
        ));
    }
    for lost in &found.lost {
        let (first, end) = lost.offsets;
        exit::say(&format!("group {}: messages in {first}..{end} are gone from the log", lost.group));
    }
    for (_, error) in &found.refused_groups {
        exit::say(&error.to_string());
    }
    if found.older_manifest {
        exit::say("the log goes on behind a MANIFEST that says \"closed\": an older one was put back");
    }
    if found.mended {
        exit::say("something had gone bad that was stored twice; it was made good");
    }
}

/// Parses a time: `500ms`, `30s`, `5m`, `2h`; a bare number counts seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "write a time as 500ms, 30s, 5m or 2h".to_owned())?;
    let factor = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("write a time as 500ms, 30s, 5m or 2h".into()),
    };
    number.checked_mul(factor).map(Duration::from_secs).ok_or_else(|| "that is too long".into())
}

/// Writes a moment for people and programs: UTC, RFC 3339.
fn time(millis: u64) -> String {
    let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
    let (seconds, millis) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    // Years that begin in March, in eras of 400 years: leap days come last (Hinnant's algorithm).
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("7", 7_000), ("5m", 300_000), ("2h", 7_200_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "1 s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_moment_is_written_as_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(time(millis), text);
        }
    }
}
