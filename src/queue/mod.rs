//! What does a user open, push to, and close?

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::consumer::{self, Consumer, Delivery, Outcome, Receipt, Ticket};
pub use crate::engine::dump::{DumpOptions, Fact, Piece};
pub use crate::engine::pinned::{Pin, PinnedSegment};
use crate::engine::recovery::Recovery;
pub use crate::engine::stats::{GroupStats, Stats};
use crate::engine::{Claim, NewGroup};
use crate::error::Result;
pub use crate::message::Message;
use crate::message::{self, Ready, check_key};
use crate::offset::{Offset, Offsets};
use crate::options::Durability;
use crate::share::place::{Handle, Place};

mod backup;
mod dead;
mod group;
mod group_options;
#[cfg(feature = "testing")]
pub(crate) mod guest;
mod inspect;
mod limits;
mod options;
mod repair;
mod salvage;
#[cfg(feature = "schedules")]
mod schedules;
mod view;
mod why;

pub use backup::{Backup, BackupRound, Restored, restore};
pub use dead::{Browse, DeadLetter, DeadReason, Peek};
pub use group::Group;
pub use group_options::{GroupOptions, Retry, Start};
pub use inspect::{Inspection, Policy, QueueState, SegmentStats, dump, inspect, verify, verify_deep};
pub use limits::Limits;
pub use options::Options;
pub use repair::{Quarantined, plan_repair, quarantine, repair};
pub use salvage::{Salvaged, SalvagedGroup, salvage};
#[cfg(feature = "schedules")]
pub use schedules::Schedule;
pub use view::View;
pub use why::{Event, Fate, Loan, Why, WhyInGroup};

/// A durable queue that lives in a folder.
///
/// Clones are handles on the same open queue; dropping the last handle (consumers, groups and pools
/// are handles too) closes it, in silence: call [`Queue::close`] to hear of a failure.
///
/// ```
/// # fn main() -> backlog::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path().join("jobs");
/// use backlog::Queue;
///
/// let queue = Queue::open(&folder)?;
/// queue.push("resize cat.jpg")?;
///
/// let worker = queue.consumer()?;
/// let job = worker.recv()?;
/// assert_eq!(job.payload(), b"resize cat.jpg");
/// job.ack()?;
/// queue.close()
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Queue {
    handle: Arc<Handle>,
    durability: Durability,
}

impl Queue {
    /// Opens the queue in a folder, and creates it if there is none; see [`Options`] for more.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Options::new(folder).open()
    }

    fn new(handle: Arc<Handle>, durability: Durability) -> Self {
        Self { handle, durability }
    }

    /// Stores a message; it is durable when this returns (at the queue's [`Durability`]).
    ///
    /// The message is borrowed: after a failure the caller still has it.
    ///
    /// # Errors
    /// [`Error::Full`](crate::Error::Full): nothing was stored, the same call works when there is
    /// room. [`Error::AtLimit`](crate::Error::AtLimit), by what the queue's [limits](Queue::limits) say.
    /// [`Error::TooLarge`](crate::Error::TooLarge).
    /// [`Error::Poisoned`](crate::Error::Poisoned) and [`Error::InDoubt`](crate::Error::InDoubt): the
    /// message may be there after the next opening, or not.
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn push<'a>(&self, message: impl Into<Message<'a>>) -> Result<Offset> {
        let message = message.into();
        let offsets = self.place().push(&[self.ready(&message)?.record()], self.durability)?;
        Ok(Offset::known(offsets.end() - 1))
    }

    /// Stores messages as one batch: all of them or, after a crash, none.
    ///
    /// An empty batch writes nothing.
    ///
    /// # Errors
    /// As [`Queue::push`].
    pub fn push_batch<'a, M>(&self, messages: impl IntoIterator<Item = M>) -> Result<Offsets>
    where
        M: Into<Message<'a>>,
    {
        let messages: Vec<Message<'a>> = messages.into_iter().map(Into::into).collect();
        let place = self.place();
        message::with_records(
            &messages,
            || place.clock().wall(),
            |records| place.push(records, self.durability),
        )
    }

    /// Hands a message over and returns at once; the [`Ticket`] tells when it is stored.
    ///
    /// So one thread can have thousands of durable pushes outstanding. A push that nobody waits for
    /// is written within 10 ms.
    ///
    /// It never waits for room: at a [limit](Queue::limits) the ticket says [`Error::AtLimit`](crate::Error::AtLimit), with
    /// [`WhenFull::Block`](crate::WhenFull::Block) too. With [`WhenFull::DiscardOldest`](crate::WhenFull::DiscardOldest) it is as
    /// slow as a push there.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge), [`Error::Closed`](crate::Error::Closed),
    /// [`Error::Poisoned`](crate::Error::Poisoned). Everything else is told by the ticket.
    pub fn push_deferred<'a>(&self, message: impl Into<Message<'a>>) -> Result<Ticket> {
        let message = message.into();
        self.place().push_deferred(&[self.ready(&message)?.record()], self.durability).map(Ticket::of_push)
    }

    fn place(&self) -> &Place {
        self.handle.place()
    }

    fn ready<'a>(&self, message: &'a Message<'_>) -> Result<Ready<'a>> {
        message.ready(|| self.place().clock().wall())
    }

    /// Returns a handle that pushes at another level; the queue and its other handles stay as they are.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self { handle: self.handle.clone(), durability }
    }

    /// Returns when everything pushed and acked before is on stable storage, at whatever level.
    ///
    /// # Errors
    /// [`Error::Poisoned`](crate::Error::Poisoned), [`Error::Closed`](crate::Error::Closed).
    pub fn sync(&self) -> Result<()> {
        self.place().sync()
    }

    /// Returns a consumer of the group `default`, which appears with its first consumer.
    ///
    /// # Errors
    /// As [`Queue::create_group`].
    pub fn consumer(&self) -> Result<Consumer> {
        let new: NewGroup = GroupOptions::default().new_group();
        let group = self.place().group_or_create(group::DEFAULT, new)?;
        Ok(Consumer::new(self.handle.clone(), group, self.durability))
    }

    /// Makes a group: a durable reading position of its own, which sees every message from its
    /// start on, whatever other groups do. It is durable when this returns.
    ///
    /// # Errors
    /// [`Error::GroupName`](crate::Error::GroupName), [`Error::GroupExists`](crate::Error::GroupExists),
    /// [`Error::Invalid`](crate::Error::Invalid) for kinds that no message can have,
    /// [`Error::Full`](crate::Error::Full), [`Error::Io`](crate::Error::Io): there is no such group
    /// then.
    #[expect(clippy::needless_pass_by_value, reason = "options are built in place and given away")]
    pub fn create_group(&self, name: &str, options: GroupOptions) -> Result<Group> {
        let member = self.place().create_group(name, options.new_group())?;
        Ok(Group::new(self.handle.clone(), member, self.durability))
    }

    /// Finds a group that was created before.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`](crate::Error::NoSuchGroup), which lists those there are;
    /// [`Error::Damaged`](crate::Error::Damaged) if its file is: the others work.
    pub fn group(&self, name: &str) -> Result<Group> {
        let member = self.place().group(name)?;
        Ok(Group::new(self.handle.clone(), member, self.durability))
    }

    /// Returns the names of the groups, in alphabetical order.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        self.place().groups()
    }

    /// Removes a group and all it knows, dead letters included. Its consumers get
    /// [`Error::NoSuchGroup`](crate::Error::NoSuchGroup).
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`](crate::Error::NoSuchGroup), or when the disk refuses.
    pub fn remove_group(&self, name: &str) -> Result<()> {
        self.place().remove_group(name)
    }

    /// Marks many deliveries as done, with one write and one sync for all of a group. The answers
    /// are in their order: of a loan that was over already, [`Error::LeaseLost`](crate::Error::LeaseLost).
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), [`Error::Poisoned`](crate::Error::Poisoned): any of
    /// the messages may come again.
    pub fn ack_all(&self, deliveries: impl IntoIterator<Item = Delivery>) -> Result<Vec<Result<()>>> {
        consumer::ack_all(deliveries.into_iter().collect())
    }

    /// Settles a loan by its receipt: of a delivery that this process received, or another one, before.
    /// After an error with [`Outcome::AckWith`] the loan goes on, unless it is in doubt.
    ///
    /// # Errors
    /// [`Error::LeaseLost`](crate::Error::LeaseLost) if the loan is over,
    /// [`Error::Invalid`](crate::Error::Invalid) for a receipt of another queue,
    /// [`Error::NoSuchGroup`](crate::Error::NoSuchGroup), [`Error::Closed`](crate::Error::Closed),
    /// [`Error::Poisoned`](crate::Error::Poisoned).
    pub fn settle(&self, receipt: &Receipt, outcome: &Outcome) -> Result<()> {
        let place = self.place();
        match outcome {
            Outcome::AckWith(outputs) if !outputs.is_empty() => {
                let wall = || place.clock().wall();
                message::with_records(outputs, wall, |records| {
                    place.settle_with(&claim(receipt), records, self.durability).map(drop)
                })
            }
            outcome => place.settle(&claim(receipt), outcome.end()),
        }
    }

    /// Lets a loan with a time limit end so much later than now, by its receipt.
    ///
    /// # Errors
    /// As [`Queue::settle`].
    pub fn extend(&self, receipt: &Receipt, lease: Duration) -> Result<()> {
        self.place().extend(&claim(receipt), consumer::millis(lease))
    }

    /// Makes a message done in every group, without a delivery, wherever it is; who has it on loan
    /// gets [`Error::LeaseLost`](crate::Error::LeaseLost). Tells whether it was not done in some group.
    /// Durable when it returns.
    ///
    /// # Errors
    /// [`Error::Full`](crate::Error::Full), [`Error::Poisoned`](crate::Error::Poisoned),
    /// [`Error::Closed`](crate::Error::Closed): it may be done in some groups and not in others.
    pub fn discard(&self, offset: Offset) -> Result<bool> {
        self.place().discard(offset.get()).map(|groups| groups > 0)
    }

    /// Makes the messages with that [dedup](Message::dedup_key) or [unique key](Message::unique_key) done in
    /// every group, as [`Queue::discard`] does; returns how many were not done in some group. Reads what the
    /// queue knows of keys. A unique key is free again then, and a dedup key stays taken.
    ///
    /// # Errors
    /// As [`Queue::discard`]; [`Error::Invalid`](crate::Error::Invalid) for what is no key.
    pub fn discard_key(&self, key: impl AsRef<[u8]>) -> Result<u64> {
        check_key(key.as_ref())?;
        self.place().discard_key(key.as_ref())
    }

    /// Tells what opening found.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        self.place().recovery()
    }

    /// Counts messages, by group. Reads nothing from the disk. In a forked child it tells of nothing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.place().stats()
    }

    /// Tells which limits hold: of what is kept, and of how much may come. They are stored with the queue, and
    /// changed by [`Options`].
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits::of(&self.place().limits())
    }

    /// Lists what each group keeps of the log, and by which messages: in alphabetical order of names. Reads
    /// a message for each segment that a group keeps, to tell when it was pushed.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn pins(&self) -> Result<Vec<Pin>> {
        self.place().pins()
    }

    /// Does what the background thread does, for those who opened with
    /// [`threads(false)`](Options::threads): writes deferred pushes and acks, does what tasks that receive
    /// wait for, makes the next segment ahead,
    /// syncs what was left unsynced for a second, gives back the space of what is done.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn run_duties(&self) -> Result<()> {
        self.place().run_duties()
    }

    /// Gives the room of what is done back to the disk now: whole segments, sparse ones copied together, and what a
    /// queue at rest does not need. An open queue does all that by itself, in time; this is for one who wants it
    /// small at once. Returns whether it was done: where another process has the files open it is that one's
    /// business, and nothing is done here.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn compact(&self) -> Result<bool> {
        self.place().compact()
    }

    /// Closes the queue, from any thread, however many handles there are: writes what tickets wait
    /// for, wakes everyone who waits, gives loans back uncounted, and frees the folder. Deliveries
    /// that live on can no longer be settled: [`Error::Closed`](crate::Error::Closed).
    ///
    /// Again and again, it returns what the first call did.
    ///
    /// # Errors
    /// What kept the queue from being closed cleanly. It is closed all the same, and nothing that
    /// was acknowledged is lost.
    pub fn close(&self) -> Result<()> {
        self.place().close()
    }
}

fn claim(receipt: &Receipt) -> Claim<'_> {
    let Receipt { queue, ref group, incarnation, offset, delivery } = *receipt;
    Claim { queue, group, incarnation, offset, delivery }
}
