//! What comes next, drawn from a seed or from the bytes of a fuzzer?

use backlog::testing::Fault;

use crate::dice::Dice;
use crate::script::{SPY, Setup, Trouble};
use crate::step::Step;

/// Whatever numbers are drawn from.
pub(crate) trait Choices {
    /// Draws a number below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64;

    fn size(&mut self, end: u64) -> usize {
        usize::try_from(self.below(end)).unwrap_or(0)
    }
}

impl Choices for Dice {
    fn below(&mut self, end: u64) -> u64 {
        Dice::below(self, end)
    }

    fn size(&mut self, end: u64) -> usize {
        Dice::size(self, end)
    }
}

/// Numbers read from bytes; 0 where these have ended. Small ones take one byte, so that a change of
/// it is a change of one choice.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes so many bytes, or as many as there are.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

impl Choices for Bytes<'_> {
    fn below(&mut self, end: u64) -> u64 {
        let width = match end - 1 {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            _ => 8,
        };
        let mut number = [0; 8];
        let taken = self.take(width);
        number[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(number) % end
    }
}

/// Draws the size of segments and whether there are mappings.
pub(crate) fn setup(choices: &mut impl Choices) -> Setup {
    Setup {
        segment_bytes: 4096 << (1 + choices.below(3)),
        no_mappings: choices.below(2) == 0,
        special: choices.below(3) == 0,
        ..Setup::default()
    }
}

/// Draws a fault of one operation.
pub(crate) fn fault(choices: &mut impl Choices) -> Trouble {
    let faults = [Fault::Io, Fault::Full, Fault::Short, Fault::SyncLost];
    Trouble::Fail(1 + choices.below(600), faults[choices.size(4)])
}

/// Draws a step.
pub(crate) fn step(choices: &mut impl Choices) -> Step {
    let group = ["synced", "buffered", "other"][choices.size(3)];
    let synced = choices.below(2) == 0;
    let length = match choices.below(8) {
        0 => 0,
        1 => choices.size(20_000),
        _ => choices.size(900),
    };
    match choices.below(45) {
        0..10 => Step::Push { synced, length },
        10..13 => Step::Batch { synced, count: 1 + choices.size(9), length: length.min(2000) },
        13..15 => Step::Deferred { count: 1 + choices.size(5), length: length.min(2000) },
        15..20 => Step::Receive { group, count: 1 + choices.size(6) },
        20..24 => Step::Ack { group, count: 1 + choices.size(4) },
        24..26 => Step::AckAll { group },
        26 => Step::Nack { group },
        27 => Step::Reject { group },
        28 => Step::Release { group },
        29 => Step::Drop { group },
        30 => Step::Create { group, synced: group == "synced" },
        31 => {
            if choices.below(3) == 0 {
                Step::Remove { group }
            } else {
                Step::Create { group: SPY, synced: true }
            }
        }
        32 => Step::Sync,
        33 => Step::Duties,
        34 | 35 => Step::Advance { seconds: choices.below(30) },
        36 => Step::Reopen,
        37 => Step::Kill,
        38 | 39 => Step::PowerCut { seed: choices.below(1000) },
        40..44 => Step::AckWith { group, count: 1 + choices.size(3) },
        _ => Step::Seek { group },
    }
}
