//! What must, may and must not follow from damage? Told by what the damaged bytes belonged to.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::image::{GROUPS, Image};
use super::layout::{Half, Part};

/// How the opening may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Opens {
    Yes,
    Maybe,
    No,
}

/// What becomes of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Fine,
    /// Nothing proves that its last entries were durable: those messages may come again, told.
    /// Silent only where no entry behind them is left, and more than a bit is bad.
    Torn {
        again: BTreeSet<u64>,
        may_be_silent: bool,
    },
    /// Damaged, at a position in that range.
    Refused {
        file: String,
        at: Range<u64>,
    },
}

/// A batch of which something is bad.
#[derive(Clone, Debug)]
pub(crate) struct BadBatch {
    pub(crate) file: String,
    pub(crate) bytes: Range<u64>,
    pub(crate) offsets: Range<u64>,
}

/// What must, may and must not follow.
#[derive(Clone, Debug)]
pub(crate) struct Expect {
    pub(crate) opens: Opens,
    pub(crate) groups: BTreeMap<&'static str, Fate>,
    /// Promised messages that are gone, each told with its place.
    pub(crate) lost: BTreeSet<u64>,
    /// Messages of the last groups, gone with every later proof of them: told as torn.
    pub(crate) torn: BTreeSet<u64>,
    /// Of those nothing is left that a reader could know for a batch.
    pub(crate) may_be_silent: bool,
    pub(crate) bad: Vec<BadBatch>,
    /// The newest slot is gone in both copies.
    pub(crate) older_slot: bool,
}

/// Says what must follow when files have other contents, or are gone; names that the queue does not
/// know, or files of another length that is enough, change nothing.
pub(crate) fn expect(image: &Image, changes: &BTreeMap<String, Option<Vec<u8>>>) -> Expect {
    let mut expect = Expect {
        opens: Opens::Yes,
        groups: GROUPS.map(|group| (group, Fate::Fine)).into(),
        lost: BTreeSet::new(),
        torn: BTreeSet::new(),
        may_be_silent: false,
        bad: Vec::new(),
        older_slot: false,
    };
    let (mut bad_parts, mut bits) = (BTreeSet::new(), 0);
    for (name, new) in changes {
        let Some(old) = image.files.get(name).filter(|_| name != "LOCK") else { continue };
        let least = least(image, name, old);
        let Some(new) = new.as_ref().filter(|new| new.len() >= least) else {
            expect.opens = Opens::No;
            continue;
        };
        let mut same = new.clone();
        same.resize(old.len(), 0);
        let hit = image.layout.hit(name, old, &same);
        bits += differing(old, &same);
        expect.pages(image, name, &hit, &same);
        if let Some(half) = image.layout.halves.get(name).filter(|half| half.holds) {
            expect.half(name, half, &hit, bits);
        }
        bad_parts.extend(hit);
    }
    expect.log(image, &bad_parts);
    // One bit alone is always seen.
    expect.may_be_silent &= bits > 1;
    expect
}

/// Counts the bits in which two contents differ.
fn differing(old: &[u8], new: &[u8]) -> u32 {
    old.iter().zip(new).map(|(old, new)| (old ^ new).count_ones()).sum()
}

/// Tells whether a copy of a header is one, if perhaps of another file.
fn is_header(copy: &[u8]) -> bool {
    copy[508..512] == crc32fast::hash(&copy[..508]).to_le_bytes()
}

fn least(image: &Image, name: &str, old: &[u8]) -> usize {
    let layout = &image.layout;
    let half = || layout.halves.get(name).map(|half| half.length);
    match name {
        "MANIFEST" => layout.manifest_length,
        _ => layout.least.get(name).copied().or_else(half).unwrap_or(old.len()),
    }
}

impl Expect {
    fn pages(&mut self, image: &Image, name: &str, hit: &[Part], bytes: &[u8]) {
        let both = |part: fn(usize) -> Part| hit.contains(&part(0)) && hit.contains(&part(1));
        if both(Part::Header) {
            // A half without a header that counts is damage of its group; without its magic, it is
            // another file.
            let half = image.layout.halves.contains_key(name);
            self.opens = self.opens.max(if half { Opens::Maybe } else { Opens::No });
        }
        // The header of another file, in one of two places: which one is right, nobody can tell.
        let other = |copy: usize| hit.contains(&Part::Header(copy)) && is_header(&bytes[2048 * copy..]);
        if other(0) || other(1) {
            self.opens = self.opens.max(Opens::Maybe);
        }
        let slots = |holds| {
            let is = |copy| hit.contains(&Part::Slot { holds, copy });
            is(0) && is(1)
        };
        if slots(true) {
            self.older_slot = true;
            self.opens = self.opens.max(if slots(false) { Opens::No } else { Opens::Maybe });
        }
    }

    fn half(&mut self, name: &str, half: &Half, hit: &[Part], bits: u32) {
        let group = GROUPS.into_iter().find(|group| *group == half.group).unwrap();
        let refused = |at: Range<u64>| Fate::Refused { file: name.to_owned(), at };
        let headers = [0, 1].map(|copy| hit.contains(&Part::Header(copy)));
        let sector = hit.iter().find_map(|part| match part {
            Part::Snapshot(sector) => Some(4096 + *sector as u64 * 512),
            _ => None,
        });
        let bad: BTreeSet<usize> = hit
            .iter()
            .filter_map(|part| match part {
                Part::Entry(index) => Some(*index),
                _ => None,
            })
            .collect();
        let fate = if headers == [true; 2] {
            refused(0..1)
        } else if let Some(sector) = sector {
            refused(sector..sector + 1)
        } else if let Some(&first) = bad.first() {
            let start = half.entries[first].bytes.start;
            let left = half.entries.iter().enumerate().filter(|(index, _)| !bad.contains(index));
            let bound = left.map(|(_, entry)| entry.proves).max().unwrap_or(0).max(half.told);
            if bound > start {
                refused(start as u64..start as u64 + 1)
            } else {
                let again = half.entries[first..].iter().flat_map(|entry| entry.ended.clone()).collect();
                let may_be_silent = bits > 1 && bad.len() == half.entries.len() - first;
                Fate::Torn { again, may_be_silent }
            }
        } else {
            Fate::Fine
        };
        self.groups.insert(group, fate);
    }

    fn log(&mut self, image: &Image, hit: &BTreeSet<Part>) {
        let layout = &image.layout;
        let (active, mark, closed) = &layout.active;
        let is_bad = |index: usize| {
            let of = |part: &Part| match *part {
                Part::Head(batch) | Part::Table(batch) | Part::Record(batch, _) | Part::Padding(batch) => {
                    batch == index
                }
                _ => false,
            };
            hit.iter().any(of)
        };
        // Where the log was known durable, as far as what is left can tell.
        let last = layout.batches.len() - usize::from(image.torn);
        let above = |index: usize| {
            let batch = &layout.batches[index];
            !closed && batch.file == *active && batch.bytes.start >= *mark
        };
        let good = (0..last).filter(|&index| above(index) && !is_bad(index));
        let bound = good.map(|index| layout.batches[index].mark).max().unwrap_or(0).max(*mark);
        let mut silent = true;
        for index in 0..last {
            let batch = &layout.batches[index];
            if !is_bad(index) {
                continue;
            }
            let head = hit.contains(&Part::Head(index));
            self.bad.push(BadBatch {
                file: batch.file.clone(),
                bytes: batch.bytes.start as u64..batch.bytes.end as u64,
                offsets: batch.offsets.clone(),
            });
            if above(index) && batch.bytes.start >= bound {
                self.torn.extend(batch.offsets.clone());
                silent &= head;
            } else if head || hit.contains(&Part::Table(index)) {
                self.lost.extend(batch.offsets.clone());
            } else {
                let record = |offset: &u64| hit.contains(&Part::Record(index, *offset));
                self.lost.extend(batch.offsets.clone().filter(record));
            }
        }
        self.may_be_silent = silent && !self.torn.is_empty();
    }
}
