//! How does an entry lie in an offset file?
//!
//! Slots of 32 bytes; an entry takes one, and further ones for what does not fit:
//!
//! ```text
//!      0 u32 checksum of the rest, further slots included, seeded with salt and position
//!      4 u8 kind · 5 u8 further slots · 6 u8 failures · 7 u8 losses
//!      8 u48 offset · 14 u48 milliseconds since 1970 · 20 u32 lease (milliseconds; all ones: held),
//!        of `dead` the reason, of `nacked` 1 if the loan ran out · 24 u64 delivery number
//!   Of `dead`, 24 is 1 if what lies ahead of the head is given up there, and the head stays
//!   Of `aside`: 6 priority · 7 1 if it lies ahead of the head · 14 when it is due, or 0
//!        · 20 position of its batch / 8, or 0 · 24 hash of its ordering key, or 0
//!   Of `undeleted` the same, but for 7.
//!
//!   further slots: u8 what (1 range, 2 text) · u8 zero · u16 length · bytes · zeros
//!   range: u64 end (offset behind the last) · u64 messages in it. Text: UTF-8, 1,024 bytes at most
//! ```

use byteorder::{ByteOrder, LittleEndian};

use super::{is_zero, seeded, u32_at, u64_at};
use crate::offset::Offset;

/// Bytes of a slot.
pub(crate) const SLOT: usize = 32;
/// [`SLOT`], as a distance in a file.
pub(crate) const SLOT_BYTES: u64 = 32;
/// Bytes of the longest text.
pub(crate) const MAX_TEXT: usize = 1024;
/// The most slots that an entry takes.
pub(crate) const MAX_SLOTS: usize = 1 + (4 + MAX_TEXT).div_ceil(SLOT);
/// The lease of a loan that ends with its holder.
pub(crate) const HELD: u32 = u32::MAX;
/// In place of the lease of `nacked`: nobody said so, the loan's time was over.
pub(crate) const RAN_OUT: u32 = 1;

/// In place of the delivery number of `dead`: also what lies ahead of the head, and that stays where it is.
pub(crate) const STRUCK: u64 = 1;

/// Why a message was given up: in place of the lease of `dead`.
pub(crate) mod reason {
    /// It failed as often as the policy allows.
    pub(crate) const FAILURES: u32 = 1;
    /// It took as many holders with it as the policy allows.
    pub(crate) const LOSSES: u32 = 2;
    /// A consumer said that it never will succeed.
    pub(crate) const REJECTED: u32 = 3;
    /// Its bytes have gone bad.
    pub(crate) const DAMAGED: u32 = 4;
    /// Its time was over before it was lent.
    pub(crate) const EXPIRED: u32 = 5;
}

const RANGE: u8 = 1;
const TEXT: u8 = 2;

/// What happened. The numbers are those on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    Lent = 1,
    Extended = 2,
    Released = 3,
    Done = 4,
    Nacked = 5,
    Dead = 6,
    Revived = 7,
    Discarded = 8,
    Purged = 9,
    Seek = 10,
    Paused = 11,
    Policy = 12,
    HolderGone = 13,
    OwnMark = 14,
    /// Met, and not lent as it came: it has a priority or an ordering key.
    Aside = 15,
    /// It was done and is still stored: ready again, or to be met again if it lies ahead of the head.
    Undeleted = 16,
}

impl Kind {
    /// Returns the word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Lent => "lent",
            Self::Extended => "extended",
            Self::Released => "released",
            Self::Done => "done",
            Self::Nacked => "nacked",
            Self::Dead => "dead",
            Self::Revived => "revived",
            Self::Discarded => "discarded",
            Self::Purged => "purged",
            Self::Seek => "seek",
            Self::Paused => "paused",
            Self::Policy => "policy",
            Self::HolderGone => "holder gone",
            Self::OwnMark => "own mark",
            Self::Aside => "aside",
            Self::Undeleted => "undeleted",
        }
    }

    const ALL: [Self; 16] = [
        Self::Lent,
        Self::Extended,
        Self::Released,
        Self::Done,
        Self::Nacked,
        Self::Dead,
        Self::Revived,
        Self::Discarded,
        Self::Purged,
        Self::Seek,
        Self::Paused,
        Self::Policy,
        Self::HolderGone,
        Self::OwnMark,
        Self::Aside,
        Self::Undeleted,
    ];
}

/// What an entry says beyond its first slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum More {
    #[default]
    Nothing,
    /// The entry is about all messages from its offset to `end`; delivery numbers count up.
    Range { end: u64, messages: u64 },
    /// Why, in somebody's words.
    Text(Box<str>),
}

/// Something that happened to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) failures: u8,
    pub(crate) losses: u8,
    pub(crate) offset: u64,
    /// When, or of `nacked` when it is due again; milliseconds since 1970.
    pub(crate) time: u64,
    /// Milliseconds; [`HELD`]; of `dead` the reason.
    pub(crate) lease: u32,
    pub(crate) delivery: u64,
    pub(crate) more: More,
}

impl Entry {
    /// Starts an entry with nothing but its kind and offset.
    pub(crate) const fn new(kind: Kind, offset: u64) -> Self {
        let more = More::Nothing;
        Self { kind, failures: 0, losses: 0, offset, time: 0, lease: 0, delivery: 0, more }
    }

    /// Returns the offsets that the entry is about: the first, and the one behind the last.
    pub(crate) const fn range(&self) -> (u64, u64) {
        match self.more {
            More::Range { end, .. } => (self.offset, end),
            More::Nothing | More::Text(_) => (self.offset, self.offset + 1),
        }
    }

    /// Returns how many slots the entry takes.
    pub(crate) fn slots(&self) -> usize {
        1 + match &self.more {
            More::Nothing => 0,
            More::Range { .. } => 1,
            More::Text(text) => (4 + cut(text).len()).div_ceil(SLOT),
        }
    }

    /// Appends the entry as it lies at `position`.
    pub(crate) fn encode(&self, salt: u32, position: u64, out: &mut Vec<u8>) {
        let start = out.len();
        let slots = self.slots();
        out.resize(start + slots * SLOT, 0);
        let bytes = &mut out[start..];
        bytes[4] = self.kind as u8;
        bytes[5] = u8::try_from(slots - 1).expect("a text of 1,024 bytes takes 33 slots");
        bytes[6] = self.failures;
        bytes[7] = self.losses;
        LittleEndian::write_u48(&mut bytes[8..], self.offset);
        LittleEndian::write_u48(&mut bytes[14..], self.time.min(Offset::LIMIT - 1));
        LittleEndian::write_u32(&mut bytes[20..], self.lease);
        LittleEndian::write_u64(&mut bytes[24..], self.delivery);
        match &self.more {
            More::Nothing => {}
            More::Range { end, messages } => {
                bytes[SLOT] = RANGE;
                bytes[SLOT + 2] = 16;
                LittleEndian::write_u64(&mut bytes[SLOT + 4..], *end);
                LittleEndian::write_u64(&mut bytes[SLOT + 12..], *messages);
            }
            More::Text(text) => {
                let text = cut(text).as_bytes();
                bytes[SLOT] = TEXT;
                let length = u16::try_from(text.len()).expect("a text was cut to 1,024 bytes");
                LittleEndian::write_u16(&mut bytes[SLOT + 2..], length);
                bytes[SLOT + 4..SLOT + 4 + text.len()].copy_from_slice(text);
            }
        }
        let sum = seeded(salt, position, &bytes[4..]);
        LittleEndian::write_u32(bytes, sum);
    }

    /// Decodes the entry at `position`, with all that follows it in the file; `None` if there is
    /// none. The second value is how many bytes it takes.
    pub(crate) fn decode(bytes: &[u8], salt: u32, position: u64) -> Option<(Self, usize)> {
        let first = bytes.get(..SLOT)?;
        let kind = *Kind::ALL.iter().find(|&&kind| kind as u8 == first[4])?;
        let slots = 1 + usize::from(first[5]);
        let whole = bytes.get(..slots * SLOT).filter(|_| slots <= MAX_SLOTS)?;
        if u32_at(whole, 0) != seeded(salt, position, &whole[4..]) {
            return None;
        }
        let entry = Self {
            kind,
            failures: whole[6],
            losses: whole[7],
            offset: LittleEndian::read_u48(&whole[8..]),
            time: LittleEndian::read_u48(&whole[14..]),
            lease: u32_at(whole, 20),
            delivery: u64_at(whole, 24),
            more: decode_more(&whole[SLOT..])?,
        };
        Some((entry, slots * SLOT))
    }
}

fn decode_more(bytes: &[u8]) -> Option<More> {
    if bytes.is_empty() {
        return Some(More::Nothing);
    }
    let length = usize::from(LittleEndian::read_u16(&bytes[2..]));
    let value = bytes.get(4..4 + length).filter(|_| is_zero(&bytes[4 + length..]))?;
    match (bytes[0], bytes[1]) {
        (RANGE, 0) if length == 16 => {
            let (end, messages) = (u64_at(value, 0), u64_at(value, 8));
            (end <= Offset::LIMIT && messages <= end).then_some(More::Range { end, messages })
        }
        (TEXT, 0) if length <= MAX_TEXT => Some(More::Text(std::str::from_utf8(value).ok()?.into())),
        _ => None,
    }
}

/// Returns the end of a text that is too long, from a character's start on: errors put what
/// matters last.
pub(crate) fn cut(text: &str) -> &str {
    let mut start = text.len().saturating_sub(MAX_TEXT);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Entry> {
        let texts = [
            More::Nothing,
            More::Range { end: 900, messages: 12 },
            More::Text("".into()),
            More::Text("no route to host".into()),
            More::Text("ü".repeat(512).into()),
        ];
        let entry = |(kind, more): (Kind, &More)| Entry {
            kind,
            failures: 3,
            losses: 1,
            offset: Offset::LIMIT - 1,
            time: 1_700_000_000_000,
            lease: HELD,
            delivery: u64::MAX - 1,
            more: more.clone(),
        };
        Kind::ALL.into_iter().flat_map(|kind| texts.iter().map(move |more| (kind, more))).map(entry).collect()
    }

    #[test]
    fn every_kind_of_entry_reads_back() {
        for entry in all() {
            let mut bytes = Vec::new();
            entry.encode(5, 8192, &mut bytes);

            assert_eq!(Entry::decode(&bytes, 5, 8192), Some((entry.clone(), entry.slots() * SLOT)));
            assert_eq!(Entry::decode(&bytes, 5, 8224), None);
            assert_eq!(Entry::decode(&bytes, 4, 8192), None);
        }
    }

    #[test]
    fn every_flipped_bit_of_an_entry_is_noticed() {
        for entry in all() {
            let mut bytes = Vec::new();
            entry.encode(5, 8192, &mut bytes);
            for bit in (0..bytes.len() * 8).step_by(crate::format::EVERY) {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Entry::decode(&flipped, 5, 8192), None, "bit {bit} of {entry:?}");
            }
        }
    }

    #[test]
    fn a_long_text_keeps_its_end() {
        let text = format!("{}ü last words", "x".repeat(2000));

        assert!(cut(&text).ends_with("ü last words"));
        assert!(cut(&text).len() <= MAX_TEXT);
    }
}
