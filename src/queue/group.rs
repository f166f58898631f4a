//! What can be done with a group?

use std::sync::Arc;
use std::time::Duration;

use super::dead::{Browse, DeadLetter, Peek};
use super::group_options::{GroupOptions, Start};
use crate::clock;
use crate::consumer::Consumer;
use crate::engine::stats::GroupStats;
use crate::error::Result;
use crate::format::snapshot::UNTIL_RESUMED;
use crate::group::rule::MessageState;
use crate::message::check_key;
use crate::offset::Offset;
use crate::options::Durability;
use crate::share::member::Member;
use crate::share::place::Handle;

/// The group that appears with its first consumer.
pub(super) const DEFAULT: &str = "default";

/// A group: a durable reading position whose consumers compete.
#[derive(Clone, Debug)]
pub struct Group {
    handle: Arc<Handle>,
    member: Member,
    /// Of the outputs of those who ack with them.
    durability: Durability,
}

impl Group {
    pub(super) fn new(handle: Arc<Handle>, member: Member, durability: Durability) -> Self {
        Self { handle, member, durability }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.member.name()
    }

    /// Returns a consumer; it competes with all others of the group.
    #[must_use]
    pub fn consumer(&self) -> Consumer {
        Consumer::new(self.handle.clone(), self.member.clone(), self.durability)
    }

    /// Counts the group's messages. Reads nothing from the disk; where another process has the queue open, it is
    /// asked, and there is nothing where it does not answer.
    #[must_use]
    pub fn stats(&self) -> GroupStats {
        self.member.stats().unwrap_or_else(|_| GroupStats::nothing(self.name()))
    }

    /// Lists the dead letters, in offset order. Reads nothing from the disk:
    /// [`browse`](Group::browse) shows the messages.
    #[must_use]
    pub fn dead(&self) -> Vec<DeadLetter> {
        self.member.dead().unwrap_or_default().into_iter().map(DeadLetter::new).collect()
    }

    /// Makes dead letters ready again, with their counters at zero; returns how many. Offsets that are
    /// no dead letters are passed over. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::Full`](crate::Error::Full), [`Error::Poisoned`](crate::Error::Poisoned),
    /// [`Error::Closed`](crate::Error::Closed), [`Error::NoSuchGroup`](crate::Error::NoSuchGroup).
    pub fn revive(&self, offsets: impl IntoIterator<Item = Offset>) -> Result<u64> {
        self.member.revive(Some(&numbers(offsets)))
    }

    /// Makes all dead letters ready again, but for those whose bytes have gone bad.
    ///
    /// # Errors
    /// As [`Group::revive`].
    pub fn revive_all(&self) -> Result<u64> {
        self.member.revive(None)
    }

    /// Makes messages ready again that are done in this group and still stored, with no past and in their old
    /// place; returns how many. Those that are not done, and those whose space was given up since, are passed
    /// over: what is done in every group goes sooner or later ([`Options::retain_for`](crate::Options::retain_for)
    /// keeps it for a while). Durable when it returns.
    ///
    /// # Errors
    /// As [`Group::discard`].
    pub fn undelete(&self, offsets: impl IntoIterator<Item = Offset>) -> Result<u64> {
        self.member.undelete(&numbers(offsets))
    }

    /// Makes messages done in this group without a delivery, wherever they are: ready, delayed, dead,
    /// or on loan (whose holder gets [`Error::LeaseLost`](crate::Error::LeaseLost)). Returns how many
    /// were not done before. Durable when it returns.
    ///
    /// [`Queue::discard`](crate::Queue::discard) does it in every group.
    ///
    /// # Errors
    /// As [`Group::revive`]; when the log cannot be read. While it is not known of an
    /// [`ack_with`](crate::Delivery::ack_with) whether it is stored, what that said: the next opening knows.
    pub fn discard(&self, offsets: impl IntoIterator<Item = Offset>) -> Result<u64> {
        self.member.discard(&numbers(offsets))
    }

    /// Makes the messages with that [dedup](crate::Message::dedup_key) or
    /// [unique key](crate::Message::unique_key) done in this group, as [`Group::discard`] does.
    ///
    /// # Errors
    /// As [`Group::discard`]; [`Error::Invalid`](crate::Error::Invalid) for what is no key.
    pub fn discard_key(&self, key: impl AsRef<[u8]>) -> Result<u64> {
        check_key(key.as_ref())?;
        self.member.discard_key(key.as_ref())
    }

    /// Makes everything done in this group that was pushed so far, loans and dead letters included;
    /// returns how many messages that were. Durable when it returns.
    ///
    /// # Errors
    /// As [`Group::discard`].
    pub fn purge(&self) -> Result<u64> {
        self.member.purge()
    }

    /// Goes on reading elsewhere, to see messages again or to skip some: at the beginning, the end, a
    /// message, a time. All loans are lost, and what the group knew of single messages (retries, dead
    /// letters) is forgotten. Returns the offset where it landed. Durable when it returns.
    ///
    /// # Errors
    /// As [`Group::discard`].
    pub fn seek(&self, to: Start) -> Result<Offset> {
        self.member.seek(to.place()).map(Offset::known)
    }

    /// Lends nothing until [`Group::resume`]: what is on loan can be settled, pushes go on. Survives
    /// closing and crashes.
    ///
    /// # Errors
    /// As [`Group::revive`].
    pub fn pause(&self) -> Result<()> {
        self.member.pause(Some(UNTIL_RESUMED))
    }

    /// Lends nothing for so long, or until [`Group::resume`]: the peer is away, and no tries are to be
    /// burnt on it. What is on loan stays so; [`Group::release_all`] gives it back.
    ///
    /// # Errors
    /// As [`Group::revive`].
    pub fn pause_for(&self, time: Duration) -> Result<()> {
        let until = self.member.clock().wall().saturating_add(clock::millis(time));
        self.member.pause(Some(until.min(UNTIL_RESUMED - 1)))
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// As [`Group::revive`].
    pub fn resume(&self) -> Result<()> {
        self.member.pause(None)
    }

    /// Gives every loan of the group back, uncounted, those of other processes too: the messages are ready
    /// again, and who had them gets [`Error::LeaseLost`](crate::Error::LeaseLost). Returns how many there
    /// were.
    ///
    /// # Errors
    /// As [`Group::discard`].
    pub fn release_all(&self) -> Result<u64> {
        self.member.release_all()
    }

    /// Returns the options that the group has, to be changed and [set](Group::set).
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), [`Error::NoSuchGroup`](crate::Error::NoSuchGroup).
    pub fn options(&self) -> Result<GroupOptions> {
        self.member.policy().map(|(policy, kinds)| GroupOptions::of(policy, &kinds))
    }

    /// Changes how the group treats failures and loans, and which kinds it takes, for all that is decided
    /// from now on; where it starts is past. Whether acks are synced changes with the next opening. Durable when it returns.
    ///
    /// # Errors
    /// As [`Group::revive`].
    #[expect(clippy::needless_pass_by_value, reason = "options are built in place and given away")]
    pub fn set(&self, options: GroupOptions) -> Result<()> {
        self.member.set_policy(options.policy(), options.kinds_in_order()?)
    }

    /// Looks at a message, without a loan; `None` if there is none of that number.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged), or when the disk refuses.
    pub fn peek(&self, offset: Offset) -> Result<Option<Peek>> {
        Browse::one(self.handle.clone(), self.member.clone(), offset.get()).next().transpose()
    }

    /// Looks at the messages that are in a state now, in offset order, without a loan: whatever happens
    /// to them while one browses. Damage is an item, and the browsing goes on behind it.
    #[must_use]
    pub fn browse(&self, state: MessageState) -> Browse {
        Browse::new(self.handle.clone(), self.member.clone(), state)
    }
}

fn numbers(offsets: impl IntoIterator<Item = Offset>) -> Vec<u64> {
    offsets.into_iter().map(Offset::get).collect()
}
