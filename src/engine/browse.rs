//! How is a message looked at that nobody is lent?

use std::sync::Arc;

use super::Engine;
use crate::codec::{Bytes, Deserialize, Serialize};
use crate::error::Result;
use crate::group::live::Live;
use crate::group::rule::MessageState;
use crate::log::reader::{Cursor, Message, Place, Step};

/// Of what is looked at for another process, so many bytes are told at a time, and one message more.
const MOST_BYTES: usize = 256 << 10;
const MOST: usize = 1000;

/// A message in its state, or what is wrong with it.
type Shown = Result<(Looked, MessageState)>;

/// A message with its record, as another process is shown it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Looked {
    offset: u64,
    time: u64,
    place: (u64, u64),
    position: u64,
    attributes: bool,
    /// That the record was born with: it is checked where it is used.
    checksum: u32,
    record: Bytes,
}

impl Looked {
    /// Takes a message whose record passed its checksum; `None` where it does not, after all.
    pub(crate) fn of(message: &Message) -> Option<Self> {
        Some(Self {
            offset: message.offset,
            time: message.time,
            place: message.place.pair(),
            position: message.position,
            attributes: message.has_attributes(),
            checksum: message.checksum(),
            record: Bytes(message.record()?.to_vec()),
        })
    }

    /// Returns the message, if what came is what was sent.
    pub(crate) fn message(self) -> Option<Message> {
        let Self { offset, time, place: (segment, position), .. } = self;
        let place = Place { segment, position };
        let message = Message::received(
            offset,
            time,
            place,
            self.position,
            self.record.0,
            self.checksum,
            self.attributes,
        );
        message.record().is_some().then_some(message)
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    fn length(&self) -> usize {
        self.record.0.len()
    }
}

impl Engine {
    /// Looks for the next message in a range; returns it, or what is wrong with it, and where to go on.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn look_on(
        &self,
        cursor: &mut Cursor,
        (first, end): (u64, u64),
    ) -> Result<(Option<Result<Message>>, u64)> {
        self.check_open()?;
        cursor.seek(first, None);
        Ok(match cursor.next()? {
            Step::Message(mut message) if message.offset < end => {
                let next = message.offset + 1;
                let good = message.check(&self.log)?;
                let found = if good { Ok(message) } else { Err(message.damaged(&self.log)) };
                (Some(found), next)
            }
            Step::Damaged(damaged) if damaged.first < end => {
                (Some(Err(damaged.error(&self.log))), damaged.end.min(end))
            }
            Step::Message(_) | Step::Damaged(_) | Step::End => (None, end),
        })
    }

    /// Looks at the messages in a range, as many as are told at a time. Their state is the one that was asked for,
    /// or what it is now.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn look_within(
        &self,
        live: &Arc<Live>,
        (first, end): (u64, u64),
        state: Option<MessageState>,
    ) -> Result<(Vec<Shown>, u64)> {
        let mut cursor = Cursor::new(live.log.clone());
        let (mut next, mut bytes, mut all) = (first, 0, Vec::new());
        while next < end && bytes < MOST_BYTES && all.len() < MOST {
            let (found, on) = self.look_on(&mut cursor, (next, end))?;
            next = on;
            match found {
                None => {}
                Some(Err(error)) => all.push(Err(error)),
                Some(Ok(message)) => match Looked::of(&message) {
                    Some(looked) => {
                        bytes += looked.length();
                        let state = state.unwrap_or_else(|| live.state_of(message.offset));
                        all.push(Ok((looked, state)));
                    }
                    None => all.push(Err(message.damaged(&self.log))),
                },
            }
        }
        Ok((all, next))
    }
}
