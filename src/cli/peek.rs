//! `backlog peek`: what comes next?

use std::time::SystemTime;

use backlog::{MessageState, Offset};

use super::exit::{self, CLEAN, FINDINGS, Outcome};
use super::look::Folder;
use super::ls;
use super::out::{As, Rows};
use super::payload::Payloads;
use super::target::DEFAULT;

/// Show the messages that a group is handed out next, without taking them.
///
/// Those that are ready, the oldest first; priorities, ordering keys and a pause may have others come before them.
/// Looks only: takes no lock and writes nothing, also beside a running `work` or `push`. Exit 1 if nothing is ready.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// The group
    #[arg(long, default_value = DEFAULT)]
    group: String,
    /// How many
    #[arg(short = 'n', long, default_value_t = 1)]
    count: usize,
    #[command(flatten)]
    payloads: Payloads,
    #[command(flatten)]
    form: As,
}

pub(super) fn run(args: &Args) -> Outcome {
    let mut view = args.folder.view()?;
    let columns = ls::columns(&args.payloads);
    let mut rows = Rows::new(args.form, "messages", &columns);
    let seen = view.inspection();
    // `default` appears with its first consumer: until then it would get everything.
    let known = args.group != DEFAULT || seen.groups.iter().chain(&[]).any(|group| group.name == DEFAULT);
    let known = known || seen.refused.iter().any(|(name, _)| name == DEFAULT);
    let states = [(args.group.clone(), MessageState::Ready)];
    let (mut shown, mut code, mut damaged) = (0, FINDINGS, false);
    let mut messages: Box<dyn Iterator<Item = _>> = if known {
        Box::new(view.messages_in(&args.group, MessageState::Ready, Offset::MIN)?)
    } else {
        Box::new(view.messages(Offset::MIN))
    };
    while shown < args.count {
        let Some(message) = messages.next() else { break };
        match message {
            // Whoever comes first is not handed out what waits for its time.
            Ok(message) if !known && message.due().is_some_and(|due| due > SystemTime::now()) => {}
            Ok(message) => {
                (shown, code) = (shown + 1, CLEAN);
                if !rows.push(ls::row(&message, &states, &args.payloads)?)? {
                    break;
                }
            }
            Err(error @ backlog::Error::Damaged { .. }) => {
                exit::say(&error.to_string());
                damaged = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
    drop(messages);
    rows.end_if_any()?;
    Ok(if damaged { FINDINGS } else { code })
}
