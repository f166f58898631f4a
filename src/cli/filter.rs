//! Which messages are meant?

use std::time::{Duration, SystemTime};

use backlog::{Content, MessageState, Offset, View};

use super::exit::{CLEAN, Failure};
use super::look::{self, Named, word};
use super::payload::header_text;

/// What of the messages that are stored is meant: all that fits everything that is said.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Filter {
    /// In this group; else in any
    #[arg(long)]
    pub(super) group: Option<String>,
    /// Those in one of these states: ready, delayed, on-loan, dead, done; in some group, if none is named
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STATE", hide_possible_values = true)]
    pub(super) state: Vec<Named>,
    /// Pushed then or later: 2026-11-24T06:00:00Z, or a time until now: 2h
    #[arg(long, value_name = "MOMENT|TIME", value_parser = since)]
    pub(super) since: Option<SystemTime>,
    /// From this offset on
    #[arg(long, value_name = "OFFSET", value_parser = super::target::offset)]
    pub(super) from: Option<Offset>,
    /// With that dedup or unique key
    #[arg(long)]
    key: Option<String>,
    /// With that header, or with that text in it
    #[arg(long, value_name = "NAME[=TEXT]")]
    header: Vec<String>,
    /// Of that kind
    #[arg(long)]
    kind: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    pub(super) limit: Option<u64>,
    /// Those that some group has not done, or all while there is none.
    #[arg(skip)]
    pub(super) open: bool,
}

/// Parses a moment, or how long ago it was.
pub(super) fn since(text: &str) -> Result<SystemTime, String> {
    if let Ok(time) = super::duration(text) {
        return Ok(ago(time));
    }
    super::moment(text)
        .map_err(|_| "write a moment as 2026-11-24T06:00:00Z, or a time until now as 2h".into())
}

fn ago(time: Duration) -> SystemTime {
    SystemTime::now().checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What is done with a message: its content, and the state in each of the groups that are meant. Tells whether to
/// go on.
pub(super) type Each<'a> = &'a mut dyn FnMut(&Content, &[(String, MessageState)]) -> Result<bool, Failure>;

/// What was gone through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gone {
    /// Messages that fit.
    pub(super) found: u64,
    /// Stretches that have gone bad, and groups; each was told.
    pub(super) damaged: u64,
    /// Groups of which nobody knows what they have done.
    unknown: u64,
}

impl Filter {
    /// Goes through the messages that fit, in offset order. What has gone bad is told on stderr.
    pub(super) fn each(&self, view: &mut View, each: Each<'_>) -> Result<Gone, Failure> {
        let groups = self.groups(view)?;
        // What a group has not done nobody knows while its files are damaged: then all of it may be open.
        let seen = view.inspection();
        let unknown = self.group.is_none() && look::refused(&seen) != CLEAN;
        let first = self.first(view);
        let mut gone = Gone { damaged: u64::from(unknown), unknown: u64::from(unknown), ..Gone::default() };
        if self.limit == Some(0) {
            return Ok(gone);
        }
        // One state of one group is known without looking at every message.
        if let ([one], [group], false) = (&self.state[..], &groups[..], unknown) {
            let state = one.state();
            let states = [(group.clone(), state)];
            for message in view.messages_in(group, state, first)? {
                if !self.take(message, &|_| states.to_vec(), each, &mut gone)? {
                    return Ok(gone);
                }
            }
            return Ok(gone);
        }
        let mut from = first;
        loop {
            // A page at a time: the view is asked for states in between.
            let page: Vec<_> = page(view, from);
            let Some(next) = page.last().and_then(behind) else {
                for last in page {
                    self.take(last, &|_| Vec::new(), each, &mut gone)?;
                }
                return Ok(gone);
            };
            let states = |message: &Content| {
                let state = |name: &String| Some((name.clone(), view.state(name, message).ok()?));
                groups.iter().filter_map(state).collect::<Vec<_>>()
            };
            for message in page {
                if !self.take(message, &states, each, &mut gone)? {
                    return Ok(gone);
                }
            }
            from = next;
        }
    }

    /// Returns the groups that are meant.
    pub(super) fn groups(&self, view: &View) -> Result<Vec<String>, Failure> {
        let Some(group) = &self.group else {
            return Ok(view.inspection().groups.into_iter().map(|group| group.name).collect());
        };
        view.dead(group)?;
        Ok(vec![group.clone()])
    }

    fn first(&self, view: &View) -> Offset {
        let since = self.since.map_or(Offset::MIN, |time| view.since(time));
        since.max(self.from.unwrap_or_default())
    }

    fn take(
        &self,
        message: backlog::Result<Content>,
        states: &dyn Fn(&Content) -> Vec<(String, MessageState)>,
        each: Each<'_>,
        gone: &mut Gone,
    ) -> Result<bool, Failure> {
        let message = match message {
            Err(error @ backlog::Error::Damaged { .. }) => {
                super::exit::say(&error.to_string());
                gone.damaged += 1;
                return Ok(true);
            }
            other => other?,
        };
        if !self.fits(&message) {
            return Ok(true);
        }
        let states = states(&message);
        let wanted = |state: MessageState| self.state.iter().any(|named| named.state() == state);
        if !self.state.is_empty() && !states.iter().any(|(_, state)| wanted(*state)) {
            return Ok(true);
        }
        let is_open = |(_, state): &(String, MessageState)| *state != MessageState::Done;
        if self.open && gone.unknown == 0 && !states.is_empty() && !states.iter().any(is_open) {
            return Ok(true);
        }
        gone.found += 1;
        Ok(each(&message, &states)? && self.limit.is_none_or(|limit| gone.found < limit))
    }

    pub(super) fn fits(&self, message: &Content) -> bool {
        let header = |wanted: &String| {
            let (name, text) =
                wanted.split_once('=').map_or((&wanted[..], None), |(name, text)| (name, Some(text)));
            message
                .headers()
                .any(|(found, value)| found == name && text.is_none_or(|text| header_text(&value) == text))
        };
        self.since.is_none_or(|since| message.pushed_at() >= since)
            && self.key.as_ref().is_none_or(|key| message.key() == Some(key.as_bytes()))
            && self.kind.as_ref().is_none_or(|kind| message.kind() == Some(kind))
            && self.header.iter().all(header)
    }
}

/// Takes some messages out of a view, with what has gone bad between them.
fn page(view: &mut View, from: Offset) -> Vec<backlog::Result<Content>> {
    const MESSAGES: usize = 1000;
    const BYTES: usize = 8 << 20;
    let mut bytes = 0;
    let mut page = Vec::new();
    for message in view.messages(from) {
        bytes += message.as_ref().map_or(0, |message| message.payload().len());
        page.push(message);
        if page.len() >= MESSAGES || bytes >= BYTES {
            break;
        }
    }
    page
}

/// Returns where to go on behind what was read.
fn behind(last: &backlog::Result<Content>) -> Option<Offset> {
    match last {
        Ok(message) => Offset::new(message.offset().get() + 1),
        Err(backlog::Error::Damaged { offsets: Some(offsets), .. }) => {
            Offset::new(offsets.end.max(offsets.start + 1))
        }
        Err(_) => None,
    }
}

/// Writes the states of a message: the word, or which group says which.
pub(super) fn told(states: &[(String, MessageState)]) -> Option<String> {
    match states {
        [] => None,
        [(_, state)] => Some(word(*state).to_owned()),
        all if all.iter().all(|(_, state)| *state == all[0].1) => Some(word(all[0].1).to_owned()),
        all => {
            let each: Vec<String> =
                all.iter().map(|(name, state)| format!("{name}:{}", word(*state))).collect();
            Some(each.join(", "))
        }
    }
}
