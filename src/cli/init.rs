//! `backlog init`: how is a queue made before anybody uses it?

use std::path::PathBuf;

use backlog::{GroupOptions, Options, Start};

use super::exit::{self, CLEAN, Failure, Outcome};

/// Make a queue, and groups, before anybody uses it.
///
/// `push` makes a queue too; this is for groups that must be there before the first message, and for deployment
/// scripts: what is there already is left as it is.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The queue's folder
    dir: PathBuf,
    /// A group to make, at the beginning of the log; may repeat
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// Fail (exit 4) if the queue is there already
    #[arg(long)]
    new: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    if args.new && args.dir.join("MANIFEST").exists() {
        return Err(Failure::refused(format!("{} is a queue already", args.dir.display())));
    }
    let queue = Options::new(&args.dir).open()?;
    super::tell_recovery(queue.recovery());
    let made = args.groups.iter().try_for_each(|name| {
        match queue.create_group(name, GroupOptions::new().start(Start::Beginning)) {
            Ok(_) | Err(backlog::Error::GroupExists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    });
    let created = queue.recovery().created;
    let closed = queue.close();
    made?;
    closed?;
    if !created {
        exit::say(&format!("{} was a queue already", args.dir.display()));
    }
    Ok(CLEAN)
}
