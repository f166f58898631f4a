//! What would be left if the process, or the power, had ended there?
//!
//! A test that wants a crash after every operation can run its work once for each; or it lets the
//! disk keep what each of these ends would leave, and goes through its work once.

use super::calls::Call;
use super::state::State;
use super::{Fault, SimDisk};

/// The ends that are kept.
#[derive(Debug, Default)]
pub(super) struct Ends {
    seeds: Vec<u64>,
    kept: Vec<(u64, Option<u64>, State)>,
}

impl State {
    /// Keeps what ends would leave here, if a test wants that.
    pub(super) fn keep_ends(&mut self) {
        let Some(ends) = &self.ends else { return };
        let mut kept: Vec<_> =
            ends.seeds.iter().map(|&seed| (self.ops, Some(seed), self.crash(seed))).collect();
        kept.push((self.ops, None, self.left_by_kill()));
        if let Some(ends) = &mut self.ends {
            ends.kept.append(&mut kept);
        }
    }
}

impl SimDisk {
    /// Keeps, before each operation from now on, what a killed process would leave there, and what
    /// power cuts with these seeds would: as [`SimDisk::kill`] and [`SimDisk::crash`] return it.
    pub fn keep_ends(&self, seeds: &[u64]) {
        self.shared.lock().ends = Some(Ends { seeds: seeds.to_vec(), kept: Vec::new() });
    }

    /// Takes what was kept: how many operations were done, the seed (`None`: killed), the disk.
    #[must_use]
    pub fn take_ends(&self) -> Vec<(u64, Option<u64>, Self)> {
        let kept = self.shared.lock().ends.as_mut().map(|ends| std::mem::take(&mut ends.kept));
        let disks = kept.unwrap_or_default().into_iter();
        disks.map(|(ops, seed, state)| (ops, seed, Self::with(state))).collect()
    }

    /// Returns the faults that make a difference to an operation that was done, by its number.
    #[must_use]
    pub fn faults(&self, op: u64) -> &'static [Fault] {
        let state = self.shared.lock();
        let call = op.checked_sub(1).and_then(|index| state.kinds.get(usize::try_from(index).ok()?));
        match call {
            Some(Call::Write) => &[Fault::Io, Fault::Full, Fault::Short],
            Some(Call::Sync | Call::SyncDir) => &[Fault::Io, Fault::Full, Fault::SyncLost],
            // A store into a mapping cannot fail.
            Some(Call::Store) | None => &[],
            Some(_) => &[Fault::Io, Fault::Full],
        }
    }
}
