//! What do the commands share that only look?

use std::path::{Path, PathBuf};

use backlog::{Inspection, MessageState, QueueState, View};
use serde_json::Value;

use super::exit::{self, CLEAN, FINDINGS, Failure};

/// A queue that is looked at, whoever has it open.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Folder {
    /// The queue's folder
    pub(super) dir: PathBuf,
}

impl Folder {
    pub(super) fn view(&self) -> Result<View, Failure> {
        Ok(View::open(&self.dir)?)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Says which groups cannot be told of, and returns the exit code that this asks for.
pub(super) fn refused(seen: &Inspection) -> u8 {
    for (_, error) in &seen.refused {
        exit::say(&error.to_string());
    }
    if seen.refused.is_empty() { CLEAN } else { FINDINGS }
}

/// The groups that are refused, for programs.
pub(super) fn refused_groups(seen: &Inspection) -> Value {
    let refused = seen.refused.iter();
    refused.map(|(name, error)| serde_json::json!({ "name": name, "problem": error.to_string() })).collect()
}

pub(super) fn state_of_queue(seen: &Inspection) -> &'static str {
    match seen.state {
        QueueState::Live => "live",
        QueueState::Closed => "closed",
        _ => "not closed",
    }
}

/// The word for a state, as `--state` takes it.
pub(super) fn word(state: MessageState) -> &'static str {
    match state {
        MessageState::Ready => "ready",
        MessageState::Delayed => "delayed",
        MessageState::OnLoan => "on loan",
        MessageState::Dead => "dead",
        _ => "done",
    }
}

/// A state, as a person names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Named {
    Ready,
    Delayed,
    OnLoan,
    Dead,
    Done,
}

impl Named {
    pub(super) fn state(self) -> MessageState {
        match self {
            Self::Ready => MessageState::Ready,
            Self::Delayed => MessageState::Delayed,
            Self::OnLoan => MessageState::OnLoan,
            Self::Dead => MessageState::Dead,
            Self::Done => MessageState::Done,
        }
    }
}
