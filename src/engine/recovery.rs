//! What did opening find?

use std::path::PathBuf;

use crate::codec::{Deserialize, Serialize};
use crate::error::Error;

/// What was found when the queue was opened.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recovery {
    /// The queue was closed cleanly the last time, or has just been born.
    pub clean: bool,
    /// The queue has just been born.
    pub created: bool,
    /// Bytes at the end of the log that were never promised and are not delivered. They are copied
    /// to `evidence` before the first push. If the very last group was damaged after its sync and
    /// before any later proof of it, it looks like this too: so what is torn was *possibly*
    /// acknowledged.
    pub torn_bytes: u64,
    /// Messages in those bytes, as far as can be told.
    pub torn_messages: u64,
    /// Where torn bytes go before the first push.
    pub evidence: Option<PathBuf>,
    /// Promised bytes that have gone bad, as far as opening read.
    pub damaged: Vec<Damage>,
    /// Messages that a group had already come to, acked or not, and that the log does not have any
    /// more: proof of loss. Expected after a power cut for messages that were pushed `Buffered`, which
    /// are delivered before they are durable. Told until something is pushed.
    pub lost: Vec<Lost>,
    /// Loans that came back since those who held them are gone: the last process, and processes that reached the
    /// queue through it. They count as losses. What is held by one that lives stays out, and so do loans
    /// that end at a time.
    pub loans_returned: u64,
    /// Groups whose offset files are damaged, and how. The others work.
    #[serde(skip)]
    pub refused_groups: Vec<(String, Error)>,
    /// Bytes of entries in offset files that were never promised.
    pub torn_entries: u64,
    /// The manifest says "closed", and the log goes on behind it: somebody put an older one back.
    pub older_manifest: bool,
    /// Something had gone bad that was there twice; it was made good.
    pub mended: bool,
    /// Leftovers of earlier work that were removed.
    pub swept: Vec<PathBuf>,
}

/// Promised bytes that have gone bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// Where the bad bytes begin.
    pub position: u64,
    /// How many bytes are concerned.
    pub length: u64,
    /// The first offset that may lie there, and the one behind the last.
    pub offsets: (u64, u64),
}

/// Messages that are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lost {
    /// The group that knew of them.
    pub group: String,
    /// The first offset, and the one behind the last: messages in it are gone, gaps never were.
    pub offsets: (u64, u64),
}

impl Recovery {
    /// Tells whether anything was found that a person should look at.
    #[must_use]
    pub fn has_findings(&self) -> bool {
        self.torn_bytes > 0
            || !self.damaged.is_empty()
            || !self.lost.is_empty()
            || !self.refused_groups.is_empty()
            || self.older_manifest
            || self.mended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_that_a_person_should_look_at_is_a_finding_by_itself() {
        let path = PathBuf::from("jobs");
        let damage = Damage { path: path.clone(), position: 0, length: 8, offsets: (1, 2) };
        let lost = Lost { group: "g".into(), offsets: (1, 2) };
        let refused = Error::Refused { path, problem: "is missing".into() };
        type Find = fn(&mut Recovery, (Damage, Lost, Error));
        let findings: [Find; 6] = [
            |found, _| found.torn_bytes = 1,
            |found, (damage, ..)| found.damaged.push(damage),
            |found, (_, lost, _)| found.lost.push(lost),
            |found, (.., refused)| found.refused_groups.push(("g".into(), refused)),
            |found, _| found.older_manifest = true,
            |found, _| found.mended = true,
        ];
        for find in findings {
            let mut found = Recovery::default();
            find(&mut found, (damage.clone(), lost.clone(), refused.clone()));
            assert!(found.has_findings(), "{found:?}");
        }
        // What every kill leaves is nothing to look at.
        let swept = vec!["MANIFEST.new".into()];
        let killed = Recovery { loans_returned: 3, torn_entries: 32, swept, ..Recovery::default() };
        assert!(!killed.has_findings());
    }
}
