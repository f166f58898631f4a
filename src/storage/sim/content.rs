//! What is in a file: as programs see it, and as the disk has it?

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::dice::{Dice, Luck};
use super::ranges::Ranges;
use crate::storage::SECTOR;

const SECTOR_LEN: u64 = SECTOR as u64;

/// How many earlier states of an unsynced sector or length are remembered. The kernel may write
/// back any of them; a few are enough to show that nothing relies on the last one.
const EARLIER: usize = 4;

/// The bytes of a sector; `None` is zeros, so that filling with zeros takes no memory.
type Sector = Option<Arc<[u8; SECTOR]>>;

/// A sector whose cached bytes are not (known to be) on the disk.
#[derive(Clone, Debug)]
struct Unsynced {
    now: Sector,
    /// What it was between the last sync and now.
    before: Vec<Sector>,
    /// A failed sync has given it up: the cache shows it, and nothing will ever write it.
    lost: bool,
}

/// A file's bytes and length, cached and durable.
///
/// The durable sectors are shared between disks, so that a crash copies only what it changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    durable: Arc<BTreeMap<u64, Arc<[u8; SECTOR]>>>,
    unsynced: BTreeMap<u64, Unsynced>,
    len: u64,
    durable_len: u64,
    /// The lengths it had since the last sync, the last one being `len`; empty: nothing to sync.
    lens: Vec<u64>,
    /// Sectors that have blocks.
    pub(super) space: Ranges,
    /// Sectors that get blocks at the next sync only.
    pub(super) delayed: Ranges,
}

impl Content {
    /// Makes a file with content that is durable already.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(bytes, 0);
        content.space.insert(sectors(0..bytes.len() as u64));
        content.sync();
        content
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads what programs see; returns how many bytes there were.
    pub(super) fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let there = usize::try_from(self.len.saturating_sub(position)).unwrap_or(usize::MAX);
        let count = buffer.len().min(there);
        let buffer = &mut buffer[..count];
        if buffer.is_empty() {
            return 0;
        }
        buffer.fill(0);
        let range = sectors(position..position + count as u64);
        for (&sector, bytes) in self.durable.range(range.clone()) {
            overlay(buffer, position, sector, Some(bytes));
        }
        for (&sector, unsynced) in self.unsynced.range(range) {
            overlay(buffer, position, sector, unsynced.now.as_ref());
        }
        count
    }

    /// Writes into the cache.
    pub(super) fn write(&mut self, mut bytes: &[u8], mut position: u64) {
        let end = position + bytes.len() as u64;
        while !bytes.is_empty() {
            let (sector, at) = split(position);
            let count = bytes.len().min(SECTOR - at);
            let (part, rest) = bytes.split_at(count);
            if let Ok(whole) = <&[u8; SECTOR]>::try_from(part) {
                self.put(sector, pack(whole));
            } else {
                let mut whole = self.sector(sector);
                whole[at..at + count].copy_from_slice(part);
                self.put(sector, pack(&whole));
            }
            bytes = rest;
            position += count as u64;
        }
        if end > self.len {
            self.len = end;
        }
        // Beyond the durable length it counts again even if a failed sync had given it up.
        if end > self.durable_len {
            self.note_len();
        }
    }

    /// Cuts or grows, with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (first, at) = split(len);
            if at > 0 {
                let mut edge = self.sector(first);
                edge[at..].fill(0);
                self.put(first, pack(&edge));
            }
            let gone = len.div_ceil(SECTOR_LEN);
            let keys = self.durable.range(gone..).map(|(&sector, _)| sector);
            let keys = keys.chain(self.unsynced.range(gone..).map(|(&sector, _)| sector));
            for sector in keys.collect::<Vec<_>>() {
                self.put(sector, None);
            }
            self.space.cut(gone);
            self.delayed.cut(gone);
        }
        if len != self.len {
            self.len = len;
            self.note_len();
        }
    }

    /// Makes everything durable that is still to be written.
    pub(super) fn sync(&mut self) {
        self.space.insert_all(&std::mem::take(&mut self.delayed));
        let lost = |unsynced: &Unsynced| unsynced.lost;
        if self.unsynced.values().any(|unsynced| !lost(unsynced)) {
            let durable = Arc::make_mut(&mut self.durable);
            self.unsynced.retain(|&sector, unsynced| {
                if !unsynced.lost {
                    set(durable, sector, unsynced.now.take());
                }
                unsynced.lost
            });
        }
        if !self.lens.is_empty() {
            self.lens.clear();
            self.durable_len = self.len;
        }
    }

    /// Gives up what is to be written, as a failed sync does: the cache goes on showing it.
    pub(super) fn lose(&mut self) {
        for unsynced in self.unsynced.values_mut() {
            unsynced.lost = true;
            unsynced.before.clear();
        }
        self.lens.clear();
        self.delayed = Ranges::default();
    }

    /// Shows again what the disk has, where nothing is to be written.
    pub(super) fn drop_cache(&mut self) {
        self.unsynced.retain(|_, unsynced| !unsynced.lost);
    }

    /// Returns whether a power cut would change nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.unsynced.is_empty() && self.len == self.durable_len && self.lens.is_empty()
    }

    /// Returns what a power cut leaves.
    pub(super) fn crash(&self, dice: &mut Dice, luck: Luck) -> Self {
        let mut durable = Arc::clone(&self.durable);
        for (&sector, unsynced) in &self.unsynced {
            if unsynced.lost || !dice.chance(luck.sectors) {
                continue;
            }
            let left = match dice.earlier(unsynced.before.len(), luck) {
                Some(index) => &unsynced.before[index],
                None => &unsynced.now,
            };
            set(Arc::make_mut(&mut durable), sector, left.clone());
        }
        let mut len = self.durable_len;
        if let [earlier @ .., last] = self.lens.as_slice()
            && dice.chance(luck.lengths)
        {
            let index = dice.earlier(earlier.len(), luck);
            len = index.map_or(*last, |index| earlier[index]);
        }
        let mut left = Self { durable, len, durable_len: len, space: self.space.clone(), ..Self::default() };
        left.space.insert_all(&self.delayed);
        left.clip();
        left
    }

    /// Changes one bit, on the disk and in the cache.
    pub(super) fn flip(&mut self, bit: u64) {
        let (sector, at) = split(bit / 8);
        let mask = 1 << (bit % 8);
        let now = self.unsynced.get_mut(&sector).map(|unsynced| &mut unsynced.now);
        if let Some(now) = now {
            let mut bytes = unpack(now.as_ref());
            bytes[at] ^= mask;
            *now = pack(&bytes);
        }
        let durable = Arc::make_mut(&mut self.durable);
        let mut bytes = unpack(durable.get(&sector));
        bytes[at] ^= mask;
        set(durable, sector, pack(&bytes));
    }

    /// Puts a sector into the cache.
    fn put(&mut self, sector: u64, now: Sector) {
        if let Some(unsynced) = self.unsynced.get_mut(&sector) {
            if unsynced.lost {
                unsynced.lost = false;
            } else if unsynced.now != now {
                if unsynced.before.len() == EARLIER {
                    unsynced.before.remove(0);
                }
                unsynced.before.push(unsynced.now.take());
            }
            unsynced.now = now;
        } else if self.durable.get(&sector) != now.as_ref() {
            let before = Vec::new();
            let lost = false;
            self.unsynced.insert(sector, Unsynced { now, before, lost });
        }
    }

    fn sector(&self, sector: u64) -> [u8; SECTOR] {
        match self.unsynced.get(&sector) {
            Some(unsynced) => unpack(unsynced.now.as_ref()),
            None => unpack(self.durable.get(&sector)),
        }
    }

    fn note_len(&mut self) {
        if self.lens.last() != Some(&self.len) {
            if self.lens.len() > EARLIER {
                self.lens.remove(0);
            }
            self.lens.push(self.len);
        }
    }

    /// Clears what lies behind the length, or a later growth would bring it back.
    fn clip(&mut self) {
        let (last, at) = split(self.len);
        let gone = self.len.div_ceil(SECTOR_LEN);
        self.space.cut(gone);
        if self.durable.range(last..).next().is_none() {
            return;
        }
        let durable = Arc::make_mut(&mut self.durable);
        durable.split_off(&gone);
        if at > 0 {
            let mut edge = unpack(durable.get(&last));
            edge[at..].fill(0);
            set(durable, last, pack(&edge));
        }
    }
}

/// Returns the sectors that a range of bytes touches.
pub(super) fn sectors(bytes: Range<u64>) -> Range<u64> {
    bytes.start / SECTOR_LEN..bytes.end.div_ceil(SECTOR_LEN)
}

fn split(position: u64) -> (u64, usize) {
    let at = usize::try_from(position % SECTOR_LEN).expect("less than a sector");
    (position / SECTOR_LEN, at)
}

fn pack(bytes: &[u8; SECTOR]) -> Sector {
    (bytes != &[0; SECTOR]).then(|| Arc::new(*bytes))
}

fn unpack(sector: Option<&Arc<[u8; SECTOR]>>) -> [u8; SECTOR] {
    sector.map_or([0; SECTOR], |bytes| **bytes)
}

fn set(durable: &mut BTreeMap<u64, Arc<[u8; SECTOR]>>, sector: u64, now: Sector) {
    match now {
        Some(bytes) => durable.insert(sector, bytes),
        None => durable.remove(&sector),
    };
}

/// Copies the part of a sector that lies within `buffer`, which starts at `position` of the file.
fn overlay(buffer: &mut [u8], position: u64, sector: u64, bytes: Option<&Arc<[u8; SECTOR]>>) {
    let end = position + buffer.len() as u64;
    let from = position.max(sector * SECTOR_LEN);
    let to = end.min((sector + 1) * SECTOR_LEN);
    let place = |at: u64, base: u64| usize::try_from(at - base).expect("within the buffer");
    let target = &mut buffer[place(from, position)..place(to, position)];
    match bytes {
        None => target.fill(0),
        Some(bytes) => {
            let start = sector * SECTOR_LEN;
            target.copy_from_slice(&bytes[place(from, start)..place(to, start)]);
        }
    }
}
