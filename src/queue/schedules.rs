//! How does a program have a message pushed again and again?

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Message, Queue};
use crate::engine::schedules::{MissedTicks, Told};
use crate::error::Result;

/// A schedule of an open queue, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Schedule {
    /// The name.
    pub name: String,
    /// The cron expression.
    pub expression: String,
    /// The last tick that was pushed; `None` if none was.
    pub last: Option<SystemTime>,
    /// The next tick that is to come.
    pub next: Option<SystemTime>,
}

impl Queue {
    /// Pushes a message at each tick of a cron expression: minute, hour, day of the month, month, day of
    /// the week, in UTC (`30 3 * * mon-fri`, `*/15 * * * *`). Each tick is one message, whoever runs the
    /// program again, or in turn; a crash changes nothing. Durable when it is there.
    ///
    /// The schedule holds as long as the queue is open: say it after each opening. (Where another process has it
    /// open, as long as that does.) The folder remembers
    /// the last tick of each name, so that ticks which came while nobody had the queue open are known as
    /// missed: the last of them is pushed ([`Queue::every_with`] for another policy). Saying it again replaces
    /// it; with another expression, from now on.
    ///
    /// The message has two headers more, `schedule` (the name) and `tick` (milliseconds since 1970), and a
    /// dedup key made of both in place of its own. Ticks are pushed by the background thread within a second
    /// or so, or by [`Queue::run_duties`]. Names are made as those of groups.
    ///
    /// ```
    /// # fn main() -> backlog::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let queue = backlog::Queue::open(folder.path().join("jobs"))?;
    /// use backlog::Message;
    ///
    /// queue.every("0 3 * * *", "nightly-report", Message::new("report").kind("report/1"))?;
    /// let schedule = &queue.schedules()[0];
    /// assert_eq!((&schedule.name[..], schedule.last), ("nightly-report", None));
    /// # queue.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a name or an expression that cannot be one, or that never
    /// ticks; as [`Queue::push`] for a message that can never be pushed;
    /// [`Error::Full`](crate::Error::Full), [`Error::Closed`](crate::Error::Closed),
    /// [`Error::Poisoned`](crate::Error::Poisoned).
    pub fn every<'a>(&self, cron: &str, name: &str, message: impl Into<Message<'a>>) -> Result<()> {
        self.every_with(cron, name, message, MissedTicks::default())
    }

    /// As [`Queue::every`], and says what becomes of ticks that were missed.
    ///
    /// # Errors
    /// As [`Queue::every`].
    pub fn every_with<'a>(
        &self,
        cron: &str,
        name: &str,
        message: impl Into<Message<'a>>,
        missed: MissedTicks,
    ) -> Result<()> {
        self.place().schedule(name, cron, missed, message.into().plan()?)
    }

    /// Ends a schedule, and forgets its last tick; tells whether there was one, or a last tick of one.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), [`Error::Poisoned`](crate::Error::Poisoned).
    pub fn unschedule(&self, name: &str) -> Result<bool> {
        self.place().unschedule(name)
    }

    /// Lists the schedules, in alphabetical order of names.
    #[must_use]
    pub fn schedules(&self) -> Vec<Schedule> {
        let time = |millis: u64| UNIX_EPOCH + Duration::from_millis(millis);
        let schedule = |told: Told| Schedule {
            name: told.name,
            expression: told.expression,
            last: told.last.map(time),
            next: told.next.map(time),
        };
        self.place().schedules().into_iter().map(schedule).collect()
    }
}
