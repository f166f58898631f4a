//! Is a batch believed only at its own place, and its length only under its checksum?

use std::collections::{BTreeMap, BTreeSet};

use backlog::testing::{ManualClock, SimDisk};
use backlog::{Durability, Error, Options};

use crate::ledger::Verdict;

const SEGMENT: &str = "log/000000001.seg";

/// The last offset.
const LAST: u64 = 11;

/// A batch of one message: its offset, its first byte, and the one behind its last.
pub(crate) type Batch = (u64, usize, usize);

/// A queue that was killed, and where its batches lie.
pub(crate) struct Past {
    disk: SimDisk,
    pushed: BTreeMap<u64, Vec<u8>>,
    batches: Vec<Batch>,
}

fn options(disk: &SimDisk) -> Options {
    Options::new("jobs").sim_disk(disk).manual_clock(&ManualClock::new(1_000)).threads(false)
}

/// Pushes messages of three lengths. All but the last are synced together, so that none of them
/// knows of a mark beyond its own place: that would tell by itself that it lies at a wrong one.
pub(crate) fn past() -> Past {
    let disk = SimDisk::new(1);
    let queue = options(&disk).open().unwrap();
    let (mut pushed, mut batches, mut at) = (BTreeMap::new(), Vec::new(), 4096);
    for number in 0..=usize::try_from(LAST).unwrap() {
        let payload = format!("{number:03}").repeat(1 + 9 * (number % 3)).into_bytes();
        let last = number as u64 == LAST;
        if last {
            queue.sync().unwrap();
        }
        let level = if last { Durability::Synced } else { Durability::Buffered };
        let offset = queue.with_durability(level).push(&payload[..]).unwrap().get();
        let end = at + (32 + payload.len()).next_multiple_of(8);
        batches.push((offset, at, end));
        at = end;
        pushed.insert(offset, payload);
    }
    let killed = disk.kill();
    drop(queue);
    Past { disk: killed, pushed, batches }
}

impl Past {
    /// The batches of the queue, as they lie in its first segment.
    pub(crate) fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// Changes bytes of the segment that belong to the batch of `victim`, opens, and reads it all: at
    /// most that message is missing, and it is named.
    pub(crate) fn spoiled(&self, victim: u64, spoil: impl FnOnce(&mut [u8])) -> Verdict {
        let disk = self.disk.crash(1);
        let mut bytes = disk.read_file(SEGMENT).unwrap();
        spoil(&mut bytes);
        disk.write_file(SEGMENT, &bytes);
        let queue = options(&disk).open().map_err(|error| format!("the opening failed: {error}"))?;
        let recovery = queue.recovery();
        let mut named: Vec<(u64, u64)> = recovery.damaged.iter().map(|damage| damage.offsets).collect();
        if recovery.torn_bytes > 0 {
            // Nothing was written behind the last one, so nothing proves that it was promised.
            named.extend(self.pushed.last_key_value().map(|(&last, _)| (last, last + 1)));
        }
        let consumer = queue.consumer().map_err(|error| error.to_string())?;
        let mut seen = BTreeSet::new();
        loop {
            match consumer.try_recv() {
                Ok(None) => break,
                Ok(Some(job)) => {
                    let offset = job.offset().get();
                    if self.pushed.get(&offset).is_none_or(|payload| payload != job.payload()) {
                        return Err(format!("P2: {offset} was never pushed so"));
                    }
                    seen.insert(offset);
                    job.ack().map_err(|error| error.to_string())?;
                }
                Err(Error::Damaged { offsets, .. }) => {
                    named.extend(offsets.map(|offsets| (offsets.start, offsets.end)));
                }
                Err(error) => return Err(format!("receive: {error}")),
            }
        }
        for &offset in self.pushed.keys().filter(|offset| !seen.contains(offset)) {
            if offset != victim {
                return Err(format!("P1: {offset} is missing, and its bytes are good"));
            }
            if !named.iter().any(|&(first, end)| (first..end).contains(&offset)) {
                return Err(format!("P7: {offset} is missing in silence"));
            }
        }
        Ok(())
    }
}

/// One bit of the length in the header of a batch goes bad.
pub(crate) fn flipped_length(past: &Past, (offset, start, _): Batch, bit: usize) -> Verdict {
    past.spoiled(offset, |bytes| bytes[start + 8 + bit / 8] ^= 1 << (bit % 8))
}

/// A write went to the wrong place: one batch lies over another one of the same length.
pub(crate) fn misdirected(past: &Past, from: Batch, to: Batch) -> Verdict {
    past.spoiled(to.0, |bytes| bytes.copy_within(from.1..from.2, to.1))
}

/// Tells whether one batch can lie in the other's place, and that one is known to have been there:
/// of the last one nobody can tell, for nothing was written since.
pub(crate) fn alike(from: Batch, to: Batch) -> bool {
    to.2 - to.1 == from.2 - from.1 && to.0 < LAST
}

#[test]
fn a_bad_bit_in_a_length_takes_its_own_batch_and_no_other() {
    let past = past();

    for &batch in past.batches() {
        for bit in 0..32 {
            flipped_length(&past, batch, bit)
                .unwrap_or_else(|broken| panic!("{batch:?} bit {bit}: {broken}"));
        }
    }
}

#[test]
fn a_batch_at_the_place_of_another_is_damage() {
    let past = past();

    for &from in past.batches() {
        for &to in past.batches().iter().filter(|&&to| alike(from, to)) {
            misdirected(&past, from, to).unwrap_or_else(|broken| panic!("{from:?} at {to:?}: {broken}"));
        }
    }
}
