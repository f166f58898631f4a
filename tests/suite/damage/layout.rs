//! What does each byte of a queue's files belong to? Read by `docs/FORMAT.md`, not by the code under
//! test; of a queue in which nothing is damaged.

use std::collections::BTreeMap;
use std::ops::Range;

use super::image::Files;

/// What a byte says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A copy of the header.
    Header(usize),
    /// A copy of what supersedes a half.
    Superseded(usize),
    /// A copy of the slot that holds, or of the other one.
    Slot {
        holds: bool,
        copy: usize,
    },
    /// Parts of a batch, by its number in [`Layout::batches`].
    Head(usize),
    Table(usize),
    Record(usize, u64),
    Padding(usize),
    /// A snapshot, and the sector of it.
    Snapshot(usize),
    /// An entry, by its number in [`Half::entries`].
    Entry(usize),
}

/// A batch in a segment.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) file: String,
    pub(crate) bytes: Range<usize>,
    pub(crate) offsets: Range<u64>,
    /// What it says was durable.
    pub(crate) mark: usize,
}

/// An entry in a half.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) bytes: Range<usize>,
    /// The messages that it ends for good: done or dead.
    pub(crate) ended: Range<u64>,
    /// Of an own mark: up to where it proves.
    pub(crate) proves: usize,
}

/// One half of a group's offset file.
#[derive(Clone, Debug)]
pub(crate) struct Half {
    pub(crate) group: String,
    pub(crate) holds: bool,
    /// Up to where the manifest proves its entries.
    pub(crate) told: usize,
    /// Bytes that the header claims.
    pub(crate) length: usize,
    pub(crate) entries: Vec<Entry>,
}

/// What lies where.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// By file: stretches, one behind the other. What lies in none of them is unused.
    pub(crate) parts: BTreeMap<String, Vec<(Range<usize>, Part)>>,
    pub(crate) batches: Vec<Batch>,
    pub(crate) halves: BTreeMap<String, Half>,
    /// By segment: the bytes that must be there.
    pub(crate) least: BTreeMap<String, usize>,
    /// Of the active segment: its name, the manifest's mark, and whether that is the end.
    pub(crate) active: (String, usize, bool),
    pub(crate) manifest_length: usize,
}

fn number(bytes: &[u8], at: usize, size: usize) -> usize {
    bytes[at..at + size].iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
}

fn seeded(salt: usize, position: usize, bytes: &[u8]) -> usize {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&u32::try_from(salt).unwrap().to_le_bytes());
    hasher.update(&(position as u64).to_le_bytes());
    hasher.update(bytes);
    hasher.finalize() as usize
}

/// What the slot that holds tells.
struct Slot {
    mark: usize,
    closed: bool,
    /// Number and length; 0 of the active one.
    segments: Vec<(usize, usize)>,
    /// Name, generation, mark.
    groups: Vec<(String, usize, usize)>,
}

impl Layout {
    pub(crate) fn of(files: &Files) -> Self {
        let mut layout = Self::default();
        let slot = layout.manifest(&files["MANIFEST"]);
        for &(number, length) in &slot.segments {
            let name = format!("log/{number:09}.seg");
            layout.segment(&name, &files[&name], length);
        }
        let (active, _) = slot.segments.last().unwrap();
        layout.active = (format!("log/{active:09}.seg"), slot.mark, slot.closed);
        for (group, generation, mark) in &slot.groups {
            let names = [0, 1].map(|half| format!("groups/{group}/{half}.offsets"));
            let generations = names.each_ref().map(|name| number(&files[name], 64, 8));
            for (half, name) in names.iter().enumerate() {
                let told = if generations[half] == *generation { *mark } else { 0 };
                let holds = generations[half] > generations[1 - half];
                layout.half(
                    name,
                    &files[name],
                    Half { group: group.clone(), holds, told, length: 0, entries: Vec::new() },
                );
            }
        }
        layout
    }

    /// Returns the parts in which two contents of a file differ.
    pub(crate) fn hit(&self, name: &str, old: &[u8], new: &[u8]) -> Vec<Part> {
        let parts = self.parts.get(name).map_or(&[][..], |parts| parts);
        let differ = |range: &Range<usize>| old[range.clone()] != new[range.clone()];
        parts.iter().filter(|(range, _)| differ(range)).map(|&(_, part)| part).collect()
    }

    /// Returns every byte that says something.
    pub(crate) fn used(&self) -> impl Iterator<Item = (&str, usize)> {
        let bytes = |(range, _): &(Range<usize>, Part)| range.clone();
        self.parts
            .iter()
            .flat_map(move |(name, parts)| parts.iter().flat_map(bytes).map(move |byte| (&name[..], byte)))
    }

    fn add(&mut self, name: &str, range: Range<usize>, part: Part) {
        if !range.is_empty() {
            self.parts.entry(name.to_owned()).or_default().push((range, part));
        }
    }

    fn manifest(&mut self, bytes: &[u8]) -> Slot {
        let size = number(bytes, 56, 8);
        self.manifest_length = 4096 + 4 * size;
        let place = |index: usize| 4096 + index * size;
        let sequence = |index: usize| number(bytes, place(index) + 8, 8);
        let best = (0..4).max_by_key(|&index| sequence(index)).unwrap() / 2;
        self.add("MANIFEST", 0..512, Part::Header(0));
        self.add("MANIFEST", 2048..2560, Part::Header(1));
        for index in 0..4 {
            let length = number(bytes, place(index) + 4, 4);
            let part = Part::Slot { holds: index / 2 == best, copy: index % 2 };
            self.add("MANIFEST", place(index)..place(index) + length, part);
        }
        let mut slot = Slot { mark: 0, closed: false, segments: Vec::new(), groups: Vec::new() };
        let mut at = place(2 * best) + 16;
        let end = place(2 * best) + number(bytes, place(2 * best) + 4, 4);
        while at < end {
            let (tag, body) = (number(bytes, at, 4), &bytes[at + 8..at + 8 + number(bytes, at + 4, 4)]);
            match tag {
                1 => (slot.mark, slot.closed) = (number(body, 8, 8), body[40] == 1),
                2 => {
                    let row = |row: &[u8]| (number(row, 0, 8), number(row, 24, 8));
                    slot.segments = body.chunks(72).map(row).collect();
                }
                _ => {
                    let mut rest = body;
                    while !rest.is_empty() {
                        let (name, behind) = rest[33..].split_at(usize::from(rest[32]));
                        let name = String::from_utf8(name.to_vec()).unwrap();
                        slot.groups.push((name, number(rest, 8, 8), number(rest, 24, 8)));
                        rest = behind;
                    }
                }
            }
            at += 8 + body.len();
        }
        slot
    }

    fn segment(&mut self, name: &str, bytes: &[u8], length: usize) {
        self.least.insert(name.to_owned(), if length == 0 { number(bytes, 64, 8) } else { length });
        self.add(name, 0..512, Part::Header(0));
        self.add(name, 2048..2560, Part::Header(1));
        let (salt, mut at) = (number(bytes, 28, 4), 4096);
        while at + 32 <= bytes.len() && number(bytes, at, 4) == seeded(salt, at, &bytes[at + 4..at + 32]) {
            let (body, base) = (number(bytes, at + 8, 4), number(bytes, at + 16, 6) as u64);
            let records = number(bytes, at + 28, 3);
            let index = self.batches.len();
            self.add(name, at..at + 32, Part::Head(index));
            let mut from = at + 32;
            let mut lengths = vec![body];
            if records > 1 {
                lengths = (0..records).map(|record| number(bytes, from + 8 * record, 4)).collect();
                self.add(name, from..from + 8 * records, Part::Table(index));
                from += 8 * records;
            }
            for (length, offset) in lengths.into_iter().zip(base..) {
                self.add(name, from..from + length, Part::Record(index, offset));
                from += length;
            }
            let next = from.next_multiple_of(8);
            self.add(name, from..next, Part::Padding(index));
            self.batches.push(Batch {
                file: name.to_owned(),
                bytes: at..next,
                offsets: base..base + records as u64,
                mark: 8 * number(bytes, at + 12, 4),
            });
            at = next;
        }
    }

    fn half(&mut self, name: &str, bytes: &[u8], mut half: Half) {
        self.add(name, 0..512, Part::Header(0));
        self.add(name, 1024..1536, Part::Superseded(0));
        self.add(name, 2048..2560, Part::Header(1));
        self.add(name, 3072..3584, Part::Superseded(1));
        half.length = number(bytes, 88, 8);
        for sector in 0..number(bytes, 72, 8).div_ceil(508) {
            let at = 4096 + sector * 512;
            self.add(name, at..at + 512, Part::Snapshot(sector));
        }
        let (salt, mut at) = (number(bytes, 28, 4), number(bytes, 80, 8));
        while at + 32 <= bytes.len() {
            let end = at + 32 * (1 + usize::from(bytes[at + 5]));
            if end > bytes.len() || number(bytes, at, 4) != seeded(salt, at, &bytes[at + 4..end]) {
                break;
            }
            let offset = number(bytes, at + 8, 6);
            let ended = match (bytes[at + 4], bytes.get(at + 32).filter(|_| end > at + 32)) {
                (4 | 6, Some(1)) => offset as u64..number(bytes, at + 36, 8) as u64,
                (4 | 6, _) => offset as u64..offset as u64 + 1,
                _ => 0..0,
            };
            let proves = if bytes[at + 4] == 14 { (32 * offset).min(at) } else { 0 };
            self.add(name, at..end, Part::Entry(half.entries.len()));
            half.entries.push(Entry { bytes: at..end, ended, proves });
            at = end;
        }
        self.halves.insert(name.to_owned(), half);
    }
}
