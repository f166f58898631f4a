//! Which queue and which group does a command mean?

use std::path::{Path, PathBuf};
use std::time::Duration;

use backlog::{Group, Offset, Options, Queue};

use super::exit::Failure;

pub(super) const DEFAULT: &str = "default";

/// A queue that must be there.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// The queue's folder
    dir: PathBuf,
    /// How long to wait for a queue that is open elsewhere (500ms, 30s, 5m)
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "0s")]
    wait: Duration,
}

impl Target {
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn open_with(&self, change: impl FnOnce(Options) -> Options) -> Result<Queue, Failure> {
        let options = Options::new(&self.dir).create(false).lock_timeout(self.wait);
        let queue = change(options).open()?;
        super::tell_recovery(queue.recovery());
        Ok(queue)
    }

    /// Opens the queue, does something, and closes it; a failure of that counts, too.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Queue) -> Result<T, Failure>) -> Result<T, Failure> {
        self.with_options(|options| options, work)
    }

    /// Does the same, with other options.
    pub(super) fn with_options<T>(
        &self,
        change: impl FnOnce(Options) -> Options,
        work: impl FnOnce(&Queue) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let queue = self.open_with(change)?;
        let worked = work(&queue);
        let closed = queue.close();
        let done = worked?;
        closed?;
        Ok(done)
    }
}

/// A group of such a queue.
#[derive(Debug, clap::Args)]
pub(super) struct InGroup {
    #[command(flatten)]
    pub(super) target: Target,
    /// The group
    #[arg(long, default_value = DEFAULT)]
    pub(super) group: String,
}

impl InGroup {
    /// Opens the queue, does something with the group, and closes it.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Group) -> Result<T, Failure>) -> Result<T, Failure> {
        self.target.with(|queue| work(&queue.group(&self.group)?))
    }
}

/// Parses the number of a message.
pub(super) fn offset(text: &str) -> Result<Offset, String> {
    let number = text.parse().ok().and_then(Offset::new);
    number.ok_or_else(|| "an offset is a number below 2^48".into())
}
