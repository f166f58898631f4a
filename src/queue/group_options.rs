//! What can be chosen for a group?

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock;
use crate::consumer::millis;
use crate::engine::{From, NewGroup};
use crate::error::Result;
use crate::format::snapshot::{Policy, RETRY_STEPS};
use crate::group::kinds;
use crate::group::policy::{DEFAULT_POLICY, retry};
use crate::offset::Offset;
use crate::options::Durability;

/// What a new group is like. Stored with the group, so that every program and the CLI use the same.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    start: Start,
    policy: Policy,
    kinds: Vec<String>,
}

/// Where a new group starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the earliest message that some other group has not done; without another group, at the
    /// beginning.
    #[default]
    Undone,
    /// At the first message that is stored.
    Beginning,
    /// Behind the last message that is stored.
    End,
    /// At a message, or the next one there is.
    At(Offset),
    /// At the first message that was pushed at that time or later, by the wall clocks of then.
    Since(SystemTime),
}

impl Start {
    pub(super) fn place(self) -> From {
        match self {
            Self::Undone => From::Undone,
            Self::Beginning => From::Beginning,
            Self::End => From::End,
            Self::At(offset) => From::Offset(offset.get()),
            Self::Since(time) => {
                let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                From::Time(clock::millis(since))
            }
        }
    }
}

/// When a message that failed comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    kind: u8,
    first: Duration,
    cap: Duration,
    /// Milliseconds.
    steps: [u64; RETRY_STEPS],
    jitter: u32,
}

/// The longest wait unless told otherwise.
const CAP: Duration = Duration::from_secs(365 * 24 * 3600);

impl Retry {
    /// Waits `first` after the first failure, twice as long after each further one, `cap` at most.
    /// Each wait is varied by ± 20 %.
    #[must_use]
    pub const fn exponential(first: Duration, cap: Duration) -> Self {
        Self { kind: retry::DOUBLE, first, cap, steps: [0; RETRY_STEPS], jitter: 200 }
    }

    /// Waits `step` after the first failure, and by `step` longer after each further one, `cap` at
    /// most. Each wait is varied by ± 20 %.
    #[must_use]
    pub const fn linear(step: Duration, cap: Duration) -> Self {
        Self { kind: retry::LINEAR, first: step, cap, steps: [0; RETRY_STEPS], jitter: 200 }
    }

    /// Waits as long as is listed: after the first failure, the second, and so on; after further ones
    /// as long as the last says. Of more than 16 the first 16 count; waits are not varied unless
    /// [`jitter`](Retry::jitter) says so.
    ///
    /// What depends on why it failed is the handler's: [`Delivery::nack_after`](crate::Delivery::nack_after).
    #[must_use]
    pub fn steps(waits: &[Duration]) -> Self {
        let mut steps = [0; RETRY_STEPS];
        for (step, wait) in steps.iter_mut().zip(waits) {
            *step = clock::millis(*wait).max(1);
        }
        Self { kind: retry::STEPS, first: Duration::ZERO, cap: CAP, steps, jitter: 0 }
    }

    /// Varies each wait by up to so many thousandths, up and down (1,000 at most).
    #[must_use]
    pub const fn jitter(mut self, thousandths: u32) -> Self {
        self.jitter = if thousandths > 1000 { 1000 } else { thousandths };
        self
    }

    pub(super) fn of(policy: &Policy) -> Self {
        let &Policy { retry_kind, retry_first, retry_cap, retry_steps, retry_jitter, .. } = policy;
        let [first, cap] = [retry_first, retry_cap].map(Duration::from_millis);
        Self { kind: retry_kind, first, cap, steps: retry_steps, jitter: retry_jitter }
    }
}

/// Writes it as the command line takes it: `1s..1h` doubles, `1s+..1h` grows by a second, `1s,10s,5m` is a list.
impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, cap] = [self.first, self.cap].map(clock::millis);
        match self.kind {
            retry::STEPS => {
                for (index, step) in self.steps.iter().take_while(|&&step| step > 0).enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{}", short(*step))?;
                }
                Ok(())
            }
            retry::LINEAR => write!(f, "{}+..{}", short(first), short(cap)),
            _ => write!(f, "{}..{}", short(first), short(cap)),
        }
    }
}

/// Writes a time in the longest unit that tells it exactly.
fn short(millis: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let unit = units.into_iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{millis}ms"), |(unit, name)| format!("{}{name}", millis / unit))
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self { start: Start::default(), policy: DEFAULT_POLICY, kinds: Vec::new() }
    }
}

impl GroupOptions {
    /// Starts with the defaults: 20 failures, 5 losses, retries after 1 s doubling to 1 h, buffered
    /// acks, starting at the earliest message that is not done.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where the group starts.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Sets after how many failures (nacks) a message goes to the dead letters (1 to 255).
    #[must_use]
    pub fn max_failures(mut self, failures: u8) -> Self {
        self.policy.max_failures = failures.max(1);
        self
    }

    /// Sets after how many losses (a holder died) a message goes to the dead letters (1 to 255).
    #[must_use]
    pub fn max_losses(mut self, losses: u8) -> Self {
        self.policy.max_losses = losses.max(1);
        self
    }

    /// Sets when a message that failed comes again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.policy.retry_kind = retry.kind;
        self.policy.retry_steps = retry.steps;
        self.policy.retry_first = clock::millis(retry.first);
        self.policy.retry_cap = clock::millis(retry.cap);
        self.policy.retry_jitter = retry.jitter;
        self
    }

    /// Sets when an ack counts as done (default: [`Durability::Buffered`]: after a power cut, a
    /// message acked in the last second may come again).
    #[must_use]
    pub fn ack_durability(mut self, durability: Durability) -> Self {
        self.policy.synced = durability == Durability::Synced;
        self
    }

    /// Sets after how long a loan ends by itself, unless the receiver says otherwise
    /// ([`Consumer::with_lease`](crate::Consumer::with_lease)): 1 ms to 49 days. Zero, the default: when the
    /// process that holds it ends.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.policy.lease = if lease.is_zero() { 0 } else { millis(lease) };
        self
    }

    /// Sets what becomes of a message whose time is over ([`Message::expires_in`](crate::Message::expires_in))
    /// before it is lent: discarded, or (the default) a dead letter.
    #[must_use]
    pub fn discard_expired(mut self, discard: bool) -> Self {
        self.policy.discard_expired = discard;
        self
    }

    /// Takes only messages of these [kinds](crate::Message::kind); of none, the default, all of them.
    ///
    /// Others, and those without a kind, count as done for the group: they are passed over when reading
    /// comes to them, and do not come back when the kinds are changed later. Until then
    /// [`GroupStats::ready`](crate::GroupStats::ready) counts them, so it is the most that there can be.
    /// What was met before a change is lent all the same, should it come again. A message is looked at
    /// for what a group takes alone, so many groups of a kind each are cheaper than one that rejects.
    ///
    /// ```
    /// # fn main() -> backlog::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let queue = backlog::Queue::open(folder.path().join("jobs"))?;
    /// use backlog::{GroupOptions, Message};
    ///
    /// let mailer = queue.create_group("mailer", GroupOptions::new().kinds(["email/1", "email/2"]))?;
    /// queue.push(Message::new("cat.jpg").kind("thumbnail/1"))?;
    /// queue.push(Message::new("to ada").kind("email/2"))?;
    ///
    /// assert_eq!(mailer.consumer().recv()?.payload(), b"to ada");
    /// # queue.close()
    /// # }
    /// ```
    #[must_use]
    pub fn kinds<K: Into<String>>(mut self, kinds: impl IntoIterator<Item = K>) -> Self {
        self.kinds = kinds.into_iter().map(Into::into).collect();
        self
    }

    pub(super) fn new_group(&self) -> NewGroup {
        NewGroup { policy: self.policy, kinds: self.kinds.clone(), from: self.start.place() }
    }

    pub(super) fn kinds_in_order(&self) -> Result<Vec<String>> {
        kinds::in_order(&self.kinds)
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    /// Starts with what a group has now, to change some of it with [`Group::set`](super::Group::set).
    pub(super) fn of(policy: Policy, kinds: &[String]) -> Self {
        Self { start: Start::default(), policy, kinds: kinds.to_vec() }
    }
}
