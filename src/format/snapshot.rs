//! How does a group's state lie in a half of its offset file?
//!
//! Sections (see `section`), each with a plain structure in bincode, cut into sectors of 512 bytes:
//! 508 of them, then their checksum, seeded with the half's salt and the sector's position.
//!
//! ```text
//!   section 1 reading · 2 done ranges · 3 exceptions · 4 policy · 5 paused (only while it is)
//!   · 6 waiting (only if something is) · 7 kinds (only if the group takes some alone)
//! ```

use byteorder::{ByteOrder, LittleEndian};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::record::MAX_KIND;
use super::{Malformed, PAGE_POSITION, section, seeded, u32_at};
use crate::codec;
use crate::offset::Offset;

const SECTOR: usize = 512;
const DATA: usize = SECTOR - 4;
const READING_TAG: u32 = 1;
const DONE_TAG: u32 = 2;
const EXCEPTIONS_TAG: u32 = 3;
const POLICY_TAG: u32 = 4;
const PAUSED_TAG: u32 = 5;
const WAITING_TAG: u32 = 6;
const KINDS_TAG: u32 = 7;
/// Until when a pause lasts that ends when somebody says so.
pub(crate) const UNTIL_RESUMED: u64 = u64::MAX;
/// How many waits a retry policy can list.
pub(crate) const RETRY_STEPS: usize = 16;

/// The whole state of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) reading: Reading,
    /// Ranges above the floor, half-open, in order, with gaps between. One that lies beyond the head
    /// was discarded before it was ever lent.
    pub(crate) done: Vec<(u64, u64)>,
    /// In offset order.
    pub(crate) exceptions: Vec<Exception>,
    pub(crate) policy: Policy,
    /// Messages that were never lent and wait for a moment that they name; in offset order.
    pub(crate) waiting: Vec<Waiting>,
    /// Nothing is lent until the wall clock shows this (milliseconds since 1970), or
    /// [`UNTIL_RESUMED`].
    pub(crate) paused: Option<u64>,
    /// The kinds of messages that the group takes, in order; none: all.
    pub(crate) kinds: Vec<String>,
    /// Sections of a later version, kept.
    pub(crate) unknown: Vec<(u32, Vec<u8>)>,
}

/// How far a group has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// Every offset below it is done.
    pub(crate) floor: u64,
    /// Every offset from here on was never lent.
    pub(crate) head: u64,
    /// How many messages lie before the head, from the log's beginning on.
    pub(crate) passed: u64,
    /// Segment and position of a batch at or before the floor: a hint, checked when used.
    pub(crate) hint: (u64, u64),
    /// The holder of those out for the first time; 0 before the first loan.
    pub(crate) holder: u32,
    /// Loans with a lower count are not among those out for the first time.
    pub(crate) first_count: u32,
    /// The durable next offset up to which settles of the log are in this snapshot.
    pub(crate) settled: u64,
}

/// A message that is in neither of the plain states; or a row of them that share their lot, so that
/// a damaged stretch or the loans of a dead holder take one of these and not one for each message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exception {
    pub(crate) offset: u64,
    /// The offset behind the last.
    pub(crate) end: u64,
    pub(crate) state: State,
    pub(crate) failures: u8,
    pub(crate) losses: u8,
    /// The number of a loan that ran out and may still be acked; 0 if there is none. Of the first
    /// in a row; it counts up, as that of a loan does.
    pub(crate) late: u64,
    /// Why it failed last; empty if nobody said. Only of a single message.
    pub(crate) error: String,
    /// 0 to 9. Only a single message has another one than [`NORMAL`].
    pub(crate) priority: u8,
    /// A hash of its ordering key; 0 if it has none. Only of a single message.
    pub(crate) key: u64,
}

/// The priority of a message that names none.
pub(crate) const NORMAL: u8 = 4;
/// The highest priority.
pub(crate) const HIGHEST: u8 = 9;

/// A message that was never lent and waits, for a moment that it names or since its priority is low: 16
/// bytes, since there may be millions. From the low end: `u32 position / 8 · u44 due · u4 priority,
/// exclusive or 4 · u48 offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting(u128);

impl Waiting {
    /// Bytes between two positions that can be told.
    pub(crate) const STEP: u64 = 8;
    const HOLE: u128 = (1 << 80) - 1;
    /// Milliseconds since 1970 from here on have no place in a row: from the year 2527.
    pub(crate) const DUE_LIMIT: u64 = 1 << 44;

    /// Makes a row; the offset has 48 bits, due (milliseconds since 1970) 44, the priority 4.
    pub(crate) const fn new(offset: u64, due: u64, position: u32, priority: u8) -> Self {
        let due = (priority ^ NORMAL) as u128 * Self::DUE_LIMIT as u128 + due as u128;
        Self((offset as u128) << 80 | due << 32 | position as u128)
    }

    /// Makes what is left of a row that was taken out. It is never stored.
    pub(crate) const fn hole(offset: u64) -> Self {
        Self((offset as u128) << 80 | Self::HOLE)
    }

    pub(crate) const fn is_hole(self) -> bool {
        self.0 & Self::HOLE == Self::HOLE
    }

    pub(crate) const fn offset(self) -> u64 {
        (self.0 >> 80) as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "44 bits of what is left are asked for")]
    pub(crate) const fn due(self) -> u64 {
        (self.0 >> 32) as u64 & (Self::DUE_LIMIT - 1)
    }

    #[expect(clippy::cast_possible_truncation, reason = "4 bits of what is left are asked for")]
    pub(crate) const fn priority(self) -> u8 {
        ((self.0 >> 76) as u8 & 15) ^ NORMAL
    }

    /// Returns the position of its batch in its segment, divided by [`Waiting::STEP`]; 0: not known.
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
    pub(crate) const fn position(self) -> u32 {
        self.0 as u32
    }
}

/// Where such a message is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// It was lent before and is ready again.
    Ready,
    /// It is ready when the wall clock shows `due` (milliseconds since 1970).
    Delayed { due: u64 },
    /// It is on loan, not for the first time.
    Lent { delivery: u64, lease: u32, since: u64 },
    /// It was given up.
    Dead { reason: u32, since: u64 },
}

/// How a group treats failures. Stored, so that every program uses the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Policy {
    pub(crate) max_failures: u8,
    pub(crate) max_losses: u8,
    /// How waits grow: 0 they double, 1 by the first with each failure, 2 as the steps say.
    pub(crate) retry_kind: u8,
    /// Milliseconds until the first retry.
    pub(crate) retry_first: u64,
    /// Milliseconds of the longest wait.
    pub(crate) retry_cap: u64,
    /// Milliseconds of each wait, of kind 2; the last but zeros is that of all further failures.
    pub(crate) retry_steps: [u64; RETRY_STEPS],
    /// By how much a wait varies, in thousandths.
    pub(crate) retry_jitter: u32,
    /// Whether an ack is on stable storage before it returns.
    pub(crate) synced: bool,
    /// Milliseconds that a loan lasts; 0: as long as its holder.
    pub(crate) lease: u32,
    /// Whether a message whose time is over is discarded; else it is given up.
    pub(crate) discard_expired: bool,
}

impl Snapshot {
    /// Encodes the sections, before they are cut into sectors.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        section::put(&mut out, READING_TAG, &codec::encode(&self.reading));
        section::put(&mut out, DONE_TAG, &codec::encode(&self.done));
        section::put(&mut out, EXCEPTIONS_TAG, &codec::encode(&self.exceptions));
        section::put(&mut out, POLICY_TAG, &codec::encode(&self.policy));
        if let Some(until) = self.paused {
            section::put(&mut out, PAUSED_TAG, &codec::encode(&until));
        }
        if !self.waiting.is_empty() {
            let rows: Vec<u8> = self.waiting.iter().flat_map(|row| row.0.to_le_bytes()).collect();
            section::put(&mut out, WAITING_TAG, &rows);
        }
        if !self.kinds.is_empty() {
            section::put(&mut out, KINDS_TAG, &codec::encode(&self.kinds));
        }
        for (tag, bytes) in &self.unknown {
            section::put(&mut out, *tag, bytes);
        }
        out
    }

    /// Decodes what [`unpack`] gave, and checks that it makes sense.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut snapshot = Self::default();
        let mut seen = 0;
        for (tag, body) in section::split(bytes)? {
            match tag {
                READING_TAG => snapshot.reading = part(body)?,
                DONE_TAG => snapshot.done = part(body)?,
                EXCEPTIONS_TAG => snapshot.exceptions = part(body)?,
                POLICY_TAG => snapshot.policy = part(body)?,
                PAUSED_TAG => snapshot.paused = Some(part(body)?),
                WAITING_TAG => snapshot.waiting = waiting(body)?,
                KINDS_TAG => snapshot.kinds = kinds(body)?,
                tag => {
                    section::may_keep(tag)?;
                    snapshot.unknown.push((tag, body.to_vec()));
                    continue;
                }
            }
            if seen & 1 << tag != 0 {
                return Err(Malformed::Damaged("a section of the snapshot stands twice".into()));
            }
            seen |= 1 << tag;
        }
        if seen & !(1 << PAUSED_TAG | 1 << WAITING_TAG | 1 << KINDS_TAG) == 0b11110
            && snapshot.is_consistent()
        {
            Ok(snapshot)
        } else {
            Err(Malformed::Damaged("the snapshot contradicts itself".into()))
        }
    }

    fn is_consistent(&self) -> bool {
        let Reading { floor, head, .. } = self.reading;
        let limit = Offset::LIMIT;
        let ranges = self.done.iter().all(|&(start, end)| {
            let spares_head = end <= head || start > head;
            floor < start && start < end && end <= limit && spares_head
        }) && self.done.windows(2).all(|pair| pair[0].1 < pair[1].0);
        let exceptions = self.exceptions.iter().all(|exception| {
            let Exception { offset, end, ref error, priority, key, .. } = *exception;
            let plain = error.is_empty() && priority == NORMAL && key == 0;
            let spares_head = end <= head || offset >= head;
            floor <= offset
                && offset < end
                && end <= limit
                && spares_head
                && (plain || end - offset == 1)
                && priority <= HIGHEST
        }) && self.exceptions.windows(2).all(|pair| pair[0].end <= pair[1].offset);
        let waiting = self.waiting.iter().all(|row| {
            floor <= row.offset() && row.offset() < head && !row.is_hole() && row.priority() <= HIGHEST
        }) && self.waiting.windows(2).all(|pair| pair[0].offset() < pair[1].offset());
        floor <= head && head <= limit && ranges && exceptions && waiting && self.is_disjoint()
    }

    /// Tells whether nothing is in two of: done, an exception, waiting; each is in order.
    fn is_disjoint(&self) -> bool {
        let mut done = self.done.iter().copied().peekable();
        let mut rows = self.exceptions.iter().map(|one| (one.offset, one.end)).peekable();
        let alone = self.waiting.iter().all(|row| {
            let at = row.offset();
            while done.next_if(|&(_, end)| end <= at).is_some() {}
            while rows.next_if(|&(_, end)| end <= at).is_some() {}
            done.peek().is_none_or(|&(start, _)| start > at)
                && rows.peek().is_none_or(|&(start, _)| start > at)
        });
        if !alone {
            return false;
        }
        let mut done = self.done.iter().peekable();
        self.exceptions.iter().all(|exception| {
            while done.next_if(|&&(_, end)| end <= exception.offset).is_some() {}
            done.peek().is_none_or(|&&(start, _)| start >= exception.end)
        })
    }
}

fn waiting(body: &[u8]) -> Result<Vec<Waiting>, Malformed> {
    if !body.len().is_multiple_of(16) {
        return Err(Malformed::Damaged("a section of the snapshot does not hold whole rows".into()));
    }
    let row = |bytes: &[u8]| Waiting(bytes.iter().rev().fold(0, |row, &byte| row << 8 | u128::from(byte)));
    Ok(body.chunks_exact(16).map(row).collect())
}

fn kinds(body: &[u8]) -> Result<Vec<String>, Malformed> {
    let kinds: Vec<String> = part(body)?;
    let allowed = |kind: &String| !kind.is_empty() && kind.len() <= MAX_KIND;
    let sound = !kinds.is_empty() && kinds.iter().all(allowed) && kinds.is_sorted_by(|one, next| one < next);
    if sound { Ok(kinds) } else { Err(Malformed::Damaged("the kinds of the snapshot are none".into())) }
}

fn part<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    codec::decode(body)
        .map_err(|error| Malformed::Damaged(format!("a section of the snapshot does not parse: {error}")))
}

/// Returns the bytes that a snapshot takes in the file; far too many for a length that cannot be.
pub(crate) const fn packed_len(bytes: u64) -> u64 {
    bytes.div_ceil(DATA as u64).saturating_mul(SECTOR as u64)
}

/// Cuts bytes into sectors with checksums, as they lie behind the header page.
pub(crate) fn pack(salt: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for data in bytes.chunks(DATA) {
        let start = out.len();
        out.extend_from_slice(data);
        out.resize(start + SECTOR, 0);
        let sum = seeded(salt, PAGE_POSITION + start as u64, &out[start..start + DATA]);
        LittleEndian::write_u32(&mut out[start + DATA..], sum);
    }
    out
}

/// Checks sectors and returns the first `length` bytes in them; `None` if one is bad.
pub(crate) fn unpack(salt: u32, sectors: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(sectors.len());
    for (index, sector) in sectors.chunks_exact(SECTOR).enumerate() {
        let position = PAGE_POSITION + (index * SECTOR) as u64;
        if u32_at(sector, DATA) != seeded(salt, position, &sector[..DATA]) {
            return None;
        }
        out.extend_from_slice(&sector[..DATA]);
    }
    if out.len() < length {
        return None;
    }
    out.truncate(length);
    Some(out)
}
