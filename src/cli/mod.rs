//! Which commands are there, and what do they share?
//!
//! A window on the library: commands call its public face and format; none knows the bytes of a file.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};

mod attributes;
mod backup;
mod bar;
mod bench;
mod check;
mod child;
mod compact;
mod control;
mod dead;
mod dump;
mod exit;
mod export;
mod filter;
mod get;
mod group;
mod import;
mod info;
mod init;
mod limits;
mod lines;
mod look;
mod ls;
mod out;
mod payload;
mod peek;
mod pins;
mod push;
mod quarantine;
mod recv;
mod repair;
mod salvage;
mod segments;
mod shell;
mod stats;
mod tail;
mod target;
mod undelete;
mod verify;
mod why;
mod work;

const ABOUT: &str = "A durable message queue that lives in a folder.

A message is stored before `push` says so, and comes again until a worker is done with it:
whatever is killed, crashes or loses power in between.";

const COURSE: &str = "Start here:
  seq 3 | backlog push jobs                   store three messages in ./jobs, one a line
  backlog work jobs --until-empty -- cat      run `cat` for each, the message on its stdin
  backlog stats jobs                          count what is ready, delayed, on loan, dead
  backlog verify jobs                         check every byte, change none
  backlog salvage jobs --out new              save what can be read of a broken one

Exit codes:
  0 clean   1 findings, or something remains   2 usage   3 open elsewhere
  4 refused: it would lose data, or a stale receipt   5 a newer version wrote it   6 not a queue, or the system refused

Data goes to stdout, everything else to stderr. docs/CLI.md shows a session of each command.";

#[derive(Debug, Parser)]
#[command(name = "backlog", version, about = ABOUT, after_help = COURSE, color = clap::ColorChoice::Never)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Push(push::Args),
    Work(work::Args),
    Recv(recv::Args),
    Ack(recv::Ack),
    Nack(recv::Nack),
    Extend(recv::Extend),
    Dead(dead::Args),
    Revive(dead::Revive),
    Discard(dead::Discard),
    Undelete(undelete::Args),
    Purge(control::Purge),
    Pause(control::Pause),
    Resume(control::Resume),
    Seek(control::Seek),
    Group(group::Args),
    Limits(limits::Args),
    Info(info::Args),
    Stats(stats::Args),
    Segments(segments::Args),
    Ls(ls::Args),
    Peek(peek::Args),
    Get(get::Args),
    Tail(tail::Args),
    Why(why::Args),
    Pins(pins::Args),
    Dump(dump::Args),
    Check(check::Args),
    Verify(verify::Args),
    Repair(repair::Args),
    Quarantine(quarantine::Args),
    Salvage(salvage::Args),
    Compact(compact::Args),
    Backup(backup::Args),
    Restore(backup::Restore),
    Export(export::Args),
    Import(import::Args),
    Bench(bench::Args),
    Completions(shell::Completions),
    Man(shell::Man),
}

impl Command {
    /// Tells whether it takes no lock and writes nothing.
    fn looks(&self) -> bool {
        matches!(
            self,
            Self::Info(_)
                | Self::Stats(_)
                | Self::Segments(_)
                | Self::Ls(_)
                | Self::Peek(_)
                | Self::Get(_)
                | Self::Tail(_)
                | Self::Why(_)
                | Self::Pins(_)
                | Self::Dump(_)
                | Self::Check(_)
                | Self::Verify(_)
                | Self::Dead(_)
                | Self::Export(_)
        )
    }
}

/// Runs the command that the command line names.
pub(crate) fn main() -> ExitCode {
    let command = Cli::parse().command;
    let looks = command.looks();
    let outcome = match command {
        Command::Init(args) => init::run(&args),
        Command::Push(args) => push::run(&args),
        Command::Work(args) => work::run(args),
        Command::Recv(args) => recv::run(&args),
        Command::Ack(args) => recv::ack(&args),
        Command::Nack(args) => recv::nack(&args),
        Command::Extend(args) => recv::extend(&args),
        Command::Dead(args) => dead::run(&args),
        Command::Revive(args) => dead::revive(&args),
        Command::Discard(args) => dead::discard(&args),
        Command::Undelete(args) => undelete::run(&args),
        Command::Purge(args) => control::purge(&args),
        Command::Pause(args) => control::pause(&args),
        Command::Resume(args) => control::resume(&args),
        Command::Seek(args) => control::seek(&args),
        Command::Group(args) => group::run(&args),
        Command::Limits(args) => limits::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Segments(args) => segments::run(&args),
        Command::Ls(args) => ls::run(&args),
        Command::Peek(args) => peek::run(&args),
        Command::Get(args) => get::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Why(args) => why::run(&args),
        Command::Pins(args) => pins::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Quarantine(args) => quarantine::run(&args),
        Command::Salvage(args) => salvage::run(&args),
        Command::Compact(args) => compact::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
    };
    exit::end(outcome, looks)
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

/// Parses a time: `500ms`, `30s`, `5m`, `2h`, `7d`; a bare number counts seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "write a time as 500ms, 30s, 5m, 2h or 7d".to_owned())?;
    let factor = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("write a time as 500ms, 30s, 5m, 2h or 7d".into()),
    };
    number.checked_mul(factor).map(Duration::from_secs).ok_or_else(|| "that is too long".into())
}

/// Parses a moment: RFC 3339, seconds and zone may be missing.
fn moment(text: &str) -> Result<SystemTime, String> {
    let moment = humantime::parse_rfc3339_weak(text).ok().filter(|&time| time >= UNIX_EPOCH);
    moment.ok_or_else(|| "write a moment as 2026-11-24T06:00:00Z".into())
}

/// Writes a moment for people and programs: UTC, RFC 3339.
fn time(millis: u64) -> String {
    // The last moment that has four digits for the year.
    const LAST: u64 = 253_402_300_799_999;
    let time = UNIX_EPOCH + Duration::from_millis(millis.min(LAST));
    humantime::format_rfc3339_millis(time).to_string()
}

/// Tells how many a second there are, of so many in a time.
fn per_second(count: u64, time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    count.saturating_mul(1_000_000) / micros
}

/// Counts the milliseconds since 1970.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("7", 7_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "1 s", "1w", "99999999999999999999s", "18446744073709551615h"] {
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
