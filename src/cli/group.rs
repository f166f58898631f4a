//! `backlog group`: which groups are there, and how do they treat failures?

use std::path::PathBuf;
use std::time::Duration;

use backlog::{Durability, GroupOptions, Retry, Start};
use serde_json::json;

use super::exit::{CLEAN, Outcome};
use super::look::refused;
use super::out::{As, Column, Is, Rows, column};
use super::target::Target;

/// Make, remove, change and list groups.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a group: a reading position of its own
    Add(Add),
    /// Remove a group and all it knows, dead letters included
    Rm(Rm),
    /// Change how a group treats failures and loans
    Set(Set),
    /// List the groups; takes no lock
    Ls(Ls),
}

#[derive(Debug, clap::Args)]
struct Add {
    #[command(flatten)]
    target: Target,
    /// Its name: 1 to 64 of a-z 0-9 . _ -
    name: String,
    /// Where it starts: `undone` (the earliest message that another group has not done),
    /// `beginning`, `end`, an offset, or a time
    #[arg(long, value_parser = super::control::start, default_value = "undone")]
    start: Start,
    #[command(flatten)]
    policy: Policy,
}

#[derive(Debug, clap::Args)]
struct Rm {
    #[command(flatten)]
    target: Target,
    /// Its name
    name: String,
}

#[derive(Debug, clap::Args)]
struct Set {
    #[command(flatten)]
    target: Target,
    /// Its name
    name: String,
    #[command(flatten)]
    policy: Policy,
}

#[derive(Debug, clap::Args)]
struct Ls {
    /// The queue's folder
    dir: PathBuf,
    #[command(flatten)]
    form: As,
}

#[derive(Debug, clap::Args)]
struct Policy {
    /// After so many failures a message is given up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    max_failures: Option<u8>,
    /// After so many dead workers a message is given up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    max_losses: Option<u8>,
    /// When a failed message comes again: `FIRST..CAP` doubles (1s..1h), `FIRST+..CAP` grows by FIRST,
    /// `T,T,T` as listed
    #[arg(long, value_name = "WAITS", value_parser = retry)]
    retry: Option<Retry>,
    /// After how long a loan ends by itself; 0: with the process that holds it
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    lease: Option<Duration>,
    /// Whether acks are on stable storage before they return; of a group that exists, from the next
    /// opening on
    #[arg(long, value_name = "YES|NO", value_parser = clap::builder::BoolishValueParser::new())]
    synced_acks: Option<bool>,
    /// Whether a message whose time is over before it is lent is discarded; else it is a dead letter
    #[arg(long, value_name = "YES|NO", value_parser = clap::builder::BoolishValueParser::new())]
    discard_expired: Option<bool>,
    /// Take only messages of this kind; may repeat. Others count as done
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Take messages of every kind
    #[arg(long, conflicts_with = "kinds")]
    any_kind: bool,
}

impl Policy {
    fn apply(&self, mut options: GroupOptions) -> GroupOptions {
        if let Some(failures) = self.max_failures {
            options = options.max_failures(failures);
        }
        if let Some(losses) = self.max_losses {
            options = options.max_losses(losses);
        }
        if let Some(retry) = self.retry {
            options = options.retry(retry);
        }
        if let Some(lease) = self.lease {
            options = options.lease(lease);
        }
        if let Some(discard) = self.discard_expired {
            options = options.discard_expired(discard);
        }
        if self.any_kind || !self.kinds.is_empty() {
            options = options.kinds(self.kinds.iter().cloned());
        }
        match self.synced_acks {
            Some(true) => options.ack_durability(Durability::Synced),
            Some(false) => options.ack_durability(Durability::Buffered),
            None => options,
        }
    }
}

/// Parses how waits grow.
fn retry(text: &str) -> Result<Retry, String> {
    let Some((first, cap)) = text.split_once("..") else {
        let waits: Result<Vec<Duration>, String> = text.split(',').map(super::duration).collect();
        let waits = waits?;
        return if waits.len() <= 16 { Ok(Retry::steps(&waits)) } else { Err("at most 16 waits".into()) };
    };
    let cap = super::duration(cap)?;
    match first.strip_suffix('+') {
        Some(step) => Ok(Retry::linear(super::duration(step)?, cap)),
        None => Ok(Retry::exponential(super::duration(first)?, cap)),
    }
}

pub(super) fn run(args: &Args) -> Outcome {
    match &args.command {
        Command::Add(add) => add.target.with(|queue| {
            queue.create_group(&add.name, add.policy.apply(GroupOptions::new().start(add.start)))?;
            Ok(CLEAN)
        }),
        Command::Rm(rm) => rm.target.with(|queue| {
            queue.remove_group(&rm.name)?;
            Ok(CLEAN)
        }),
        Command::Set(set) => set.target.with(|queue| {
            let group = queue.group(&set.name)?;
            group.set(set.policy.apply(group.options()?))?;
            Ok(CLEAN)
        }),
        Command::Ls(ls) => list(ls),
    }
}

const COLUMNS: [Column; 10] = [
    column("name", "group", Is::Text),
    column("state", "state", Is::State),
    column("kinds", "takes", Is::Text),
    column("max_failures", "failures", Is::Number),
    column("max_losses", "losses", Is::Number),
    column("retry", "retry", Is::Text),
    column("lease", "lease", Is::Text),
    column("synced_acks", "synced acks", Is::Text),
    column("discard_expired", "", Is::Text),
    column("problem", "", Is::Text),
];

fn list(args: &Ls) -> Outcome {
    let seen = backlog::inspect(&args.dir)?;
    let mut rows = Rows::new(args.form, "groups", &COLUMNS);
    for (group, policy) in seen.groups.iter().zip(&seen.policies) {
        let row = json!({
            "name": group.name,
            "state": if group.paused { "paused" } else { "ok" },
            "kinds": if group.kinds.is_empty() { json!("all") } else { json!(group.kinds) },
            "max_failures": policy.max_failures,
            "max_losses": policy.max_losses,
            "retry": policy.retry.to_string(),
            "lease": policy.lease.map_or_else(|| "held".to_owned(), |lease| format!("{}ms", lease.as_millis())),
            "synced_acks": policy.ack_durability == Durability::Synced,
            "discard_expired": policy.discard_expired,
        });
        if !rows.push(row)? {
            break;
        }
    }
    for (name, error) in &seen.refused {
        rows.push(json!({ "name": name, "state": "damaged", "problem": error.to_string() }))?;
    }
    rows.end()?;
    Ok(refused(&seen))
}
