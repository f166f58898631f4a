//! How does one look at messages without opening the queue?

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::dead::{DeadLetter, unread};
use super::inspect::{Inspection, of_seen};
use crate::clock::{Clock, SystemClock, millis};
use crate::consumer::Content;
use crate::engine::look::GroupSeen;
use crate::engine::view::View as Picture;
use crate::error::Result;
use crate::group::rule::MessageState;
use crate::offset::Offset;
use crate::storage::Storage;
use crate::storage::disk::Disk;

/// A queue as one sees it who only looks: without its lock, without a write, also while it is open elsewhere.
///
/// It is a picture of one moment; [`View::refresh`] takes the next. Messages are read from the disk as they are
/// asked for: what was freed since then is passed over. What the last process wrote and did not yet sync is
/// shown too; a power cut may take it.
///
/// ```
/// # fn main() -> backlog::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path().join("jobs");
/// use backlog::{MessageState, Offset, Queue, View};
///
/// let queue = Queue::open(&folder)?;
/// queue.push_batch(["one", "two"])?;
/// queue.consumer()?.recv()?.ack()?;
///
/// let mut view = View::open(&folder)?;
/// let payloads: Vec<_> = view.messages(Offset::MIN).map(|seen| seen.map(|seen| seen.payload().to_vec())).collect();
/// assert_eq!(payloads.len(), 2); // done, but still stored
/// let first = view.get(Offset::MIN)?.unwrap();
/// assert_eq!(view.state("default", &first)?, MessageState::Done);
/// # queue.close()
/// # }
/// ```
#[derive(Debug)]
pub struct View {
    pub(super) picture: Picture,
}

impl View {
    /// Looks at the queue in a folder.
    ///
    /// # Errors
    /// As [`inspect`](super::inspect()).
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let storage: Arc<dyn Storage> = Arc::new(Disk::new(folder.as_ref()));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        Self::of(&storage, &clock)
    }

    pub(super) fn of(storage: &Arc<dyn Storage>, clock: &Arc<dyn Clock>) -> Result<Self> {
        Picture::new(storage, clock).map(|picture| Self { picture })
    }

    /// Looks again.
    ///
    /// # Errors
    /// As [`View::open`]; the view stays as it was then.
    pub fn refresh(&mut self) -> Result<()> {
        self.picture.refresh()
    }

    /// Looks only how far the log goes by now: cheap, whatever there is. What groups have done since is not
    /// seen, unless segments came or went.
    ///
    /// # Errors
    /// As [`View::open`]; the view stays as it was then.
    pub fn follow(&mut self) -> Result<()> {
        self.picture.follow()
    }

    /// Tells what [`inspect`](super::inspect()) does, of the moment of the view.
    #[must_use]
    pub fn inspection(&self) -> Inspection {
        of_seen(&self.picture.seen)
    }

    /// Returns the offset behind the last message.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.picture.seen.next
    }

    /// Returns an offset at or before the first message that was pushed at a time or later, by the wall clocks
    /// of then: the begin of the segment that may have it.
    #[must_use]
    pub fn since(&self, time: SystemTime) -> Offset {
        let millis = millis(time.duration_since(UNIX_EPOCH).unwrap_or_default());
        let rows = &self.picture.seen.segments;
        let first = rows.iter().find(|row| row.length == 0 || row.about.last >= millis);
        Offset::new(first.map_or(0, |row| row.base)).unwrap_or_default()
    }

    /// Goes through the messages that are stored, done or not, from an offset on, in offset order, up to the end
    /// that the view shows.
    ///
    /// An item is an [`Error::Damaged`](crate::Error::Damaged) where bytes have gone bad: it goes on behind
    /// them. After any other error it has ended.
    pub fn messages(&mut self, from: Offset) -> impl Iterator<Item = Result<Content>> + '_ {
        let rows = vec![(from.get(), self.picture.seen.next)];
        Rows { picture: &mut self.picture, rows, only: None }
    }

    /// Goes through those that are in a state in a group, in the same way.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`](crate::Error::NoSuchGroup), and what is wrong with the group's files.
    pub fn messages_in(
        &mut self,
        group: &str,
        state: MessageState,
        from: Offset,
    ) -> Result<impl Iterator<Item = Result<Content>> + '_> {
        let (next, now) = (self.picture.seen.next, self.picture.now());
        let seen = self.picture.group(group)?;
        let mut rows = seen.rows(state, next, now);
        // What a message says itself is known only once it is read, where the group has not come to it.
        if state == MessageState::Delayed && self.picture.may_have_due()
            || state == MessageState::Done && !seen.kinds.is_empty()
        {
            let ahead = seen
                .rows(MessageState::Ready, next, now)
                .into_iter()
                .filter(|(_, end)| !seen.has_met(end - 1));
            rows.extend(ahead);
            rows.sort_unstable();
        }
        rows.retain_mut(|(first, end)| {
            (*first, *end) = ((*first).max(from.get()), (*end).min(next));
            first < end
        });
        rows.reverse();
        Ok(Rows { picture: &mut self.picture, rows, only: Some((group.to_owned(), state)) })
    }

    /// Returns a message; `None` if it is not stored: done and given up, or never pushed.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged), and when the disk refuses.
    pub fn get(&mut self, offset: Offset) -> Result<Option<Content>> {
        let rows = vec![(offset.get(), offset.get().saturating_add(1).min(self.picture.seen.next))];
        Rows { picture: &mut self.picture, rows, only: None }.next().transpose()
    }

    /// Tells where a message is in its life, in a group.
    ///
    /// # Errors
    /// As [`View::messages_in`].
    pub fn state(&self, group: &str, message: &Content) -> Result<MessageState> {
        Ok(state_of(&self.picture, self.picture.group(group)?, message))
    }

    /// Lists the dead letters of a group, in offset order.
    ///
    /// # Errors
    /// As [`View::messages_in`].
    pub fn dead(&self, group: &str) -> Result<Vec<DeadLetter>> {
        Ok(self.picture.group(group)?.state.dead().into_iter().map(DeadLetter::new).collect())
    }
}

/// Tells where a message is: as the group knows it, or, where that has not come to it, as the message says.
pub(super) fn state_of(picture: &Picture, seen: &GroupSeen, message: &Content) -> MessageState {
    let (offset, now) = (message.offset().get(), picture.now());
    let known = seen.state_of(offset, now);
    if known != MessageState::Ready || seen.has_met(offset) {
        return known;
    }
    let takes = |kind: &String| message.kind() == Some(kind);
    let wall = UNIX_EPOCH + Duration::from_millis(now.wall);
    match message.due() {
        _ if !seen.kinds.is_empty() && !seen.kinds.iter().any(takes) => MessageState::Done,
        Some(due) if due > wall => MessageState::Delayed,
        _ => MessageState::Ready,
    }
}

/// Goes through what lies in rows of offsets, the next one last.
struct Rows<'a> {
    picture: &'a mut Picture,
    rows: Vec<(u64, u64)>,
    /// Those that are in that state in that group.
    only: Option<(String, MessageState)>,
}

impl Rows<'_> {
    fn wants(&self, message: &Content) -> bool {
        self.only.as_ref().is_none_or(|(group, state)| {
            self.picture.group(group).is_ok_and(|seen| state_of(self.picture, seen, message) == *state)
        })
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Content>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (first, end) = self.rows.pop().filter(|(first, end)| first < end)?;
            match self.picture.next(first, end) {
                Err(error) => {
                    self.rows.clear();
                    return Some(Err(error));
                }
                Ok((found, on)) => {
                    if on < end {
                        self.rows.push((on, end));
                    }
                    let Some(found) = found else { continue };
                    let queue = self.picture.seen.queue;
                    let found = found
                        .and_then(|message| Content::new(queue, message).map_err(|message| unread(&message)));
                    if found.as_ref().is_ok_and(|message| !self.wants(message)) {
                        continue;
                    }
                    return Some(found);
                }
            }
        }
    }
}
