//! What does a salvage tell of what it found?

use crate::inspect::Finding;

/// Findings that are kept; more are counted.
const MOST: usize = 10_000;

/// What was saved of a queue, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvaged {
    /// Messages that lie in the new queue.
    pub messages: u64,
    /// Bytes of their records: payloads and attributes.
    pub bytes: u64,
    /// The first offset that the new queue will give: beyond every one that was seen, or may have been told.
    pub next_offset: u64,
    /// The groups of the new queue.
    pub groups: Vec<SalvagedGroup>,
    /// What could not be read, or was not as it should be: ten thousand at the most.
    pub findings: Vec<Finding>,
    /// How many findings there are besides these.
    pub more_findings: u64,
}

/// A group of the new queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvagedGroup {
    /// Its name.
    pub name: String,
    /// Its state was taken over: what was done stays done. Else it begins anew at the first message that is there,
    /// and messages may come again.
    pub taken_over: bool,
    /// Offsets that it had come to and not done, and that are nowhere any more: dead letters now.
    pub lost: u64,
}

impl Salvaged {
    /// Tells whether all that should be there was read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty() && self.more_findings == 0
    }

    /// Adds what was found.
    pub(super) fn found(&mut self, finding: Finding) {
        if self.findings.len() < MOST {
            self.findings.push(finding);
        } else {
            self.more_findings += 1;
        }
    }
}
