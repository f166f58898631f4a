//! What is to be known about the messages that are pushed?

use std::time::{Duration, SystemTime};

use backlog::Message;

/// Said of every message of this push.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Attributes {
    /// Hand the messages out only after so long
    #[arg(long, value_name = "TIME", value_parser = super::duration, conflicts_with = "at")]
    delay: Option<Duration>,
    /// Hand the messages out from that moment on: 2026-11-24T06:00:00Z
    #[arg(long, value_name = "MOMENT", value_parser = super::moment)]
    at: Option<SystemTime>,
    /// End messages that were not handed out within that time
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    expires_in: Option<Duration>,
    /// Hand messages of a higher priority out first: 0 to 9, 4 is normal
    #[arg(long, value_name = "0..9", value_parser = clap::value_parser!(u8).range(..=9))]
    priority: Option<u8>,
    /// Hand the messages of a key out one after the other, in their order
    #[arg(long, value_name = "KEY")]
    ordering_key: Option<String>,
    /// What kind of messages they are: `email/2`
    #[arg(long)]
    kind: Option<String>,
    /// A key by which a second push of the same message is told: nothing is stored then, and the offset
    /// of the first is printed. For one message: with `--whole`
    #[arg(long, value_name = "KEY", requires = "whole", conflicts_with = "unique_key")]
    dedup_key: Option<String>,
    /// A key of which there is one message at a time, until it is done. For one message: with `--whole`
    #[arg(long, value_name = "KEY", requires = "whole")]
    unique_key: Option<String>,
    /// A header: text. May be given more than once
    #[arg(long = "header", value_name = "NAME=TEXT", value_parser = header)]
    headers: Vec<(String, String)>,
}

impl Attributes {
    /// Tells whether they can be those of one message only.
    pub(super) fn are_of_one(&self) -> bool {
        self.dedup_key.is_some() || self.unique_key.is_some()
    }

    /// Makes a message of a payload.
    pub(super) fn message<'a>(&'a self, payload: &'a [u8]) -> Message<'a> {
        let mut message = Message::new(payload);
        if let Some(delay) = self.delay {
            message = message.delay(delay);
        }
        if let Some(moment) = self.at {
            message = message.at(moment);
        }
        if let Some(time) = self.expires_in {
            message = message.expires_in(time);
        }
        if let Some(priority) = self.priority {
            message = message.priority(priority);
        }
        if let Some(key) = &self.ordering_key {
            message = message.ordering_key(key);
        }
        if let Some(kind) = &self.kind {
            message = message.kind(&kind[..]);
        }
        if let Some(key) = &self.dedup_key {
            message = message.dedup_key(key);
        }
        if let Some(key) = &self.unique_key {
            message = message.unique_key(key);
        }
        for (name, text) in &self.headers {
            message = message.header(&name[..], &text[..]);
        }
        message
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write a header as NAME=TEXT")?;
    Ok((name.to_owned(), value.to_owned()))
}
