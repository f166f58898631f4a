//! What does a slot of the manifest say?
//!
//! Behind the header page lie two slots, each in two copies: slot `s`, copy `c` at
//! `4096 + (2 s + c) × bytes of a copy`. The newest slot with a good copy holds.
//!
//! ```text
//!      0 u32 checksum of bytes 4..length, seeded with the low half of the queue id and the position
//!      4 u32 length, header included
//!      8 u64 sequence: one more with each write, and slot = sequence mod 2
//!     16     sections, see `section`; zeros behind them
//!
//!   section 1, the log: u64 segment · u64 position · u64 next offset · u64 messages before it
//!              · u64 offset below which offsets are reserved · u32 1 = closed, else 0 · u32 zero
//!              · u64 the number behind the highest that a segment ever had
//!   section 2, segments in order, 72 bytes each: u64 number · u64 base offset · u64 messages before
//!              it · u64 length (0: active) · u64 first and u64 last time · u64 union of attribute
//!              tags · u64 offset behind its last message (active: 0) · u32 salt · u32 flags (1: rewritten)
//!   section 3, groups: u64 incarnation · u64 generation · u64 oldest segment with settles that are
//!              not in its synced file, all ones: none · u64 durable mark in the half of that generation, 0: untold
//!              · u8 length of the name, the name
//!   section 4, schedules, only if there are any: u64 last tick (milliseconds since 1970)
//!              · u8 length of the name, the name
//!   section 5, kept keys, only if there are any, 32 bytes each: u64 number of the segment they were of
//!              · u64 length that it had · u64 last time · u32 salt · u32 zero
//!   section 6, limits, only if there are any: u64 milliseconds and u64 bytes that are kept of what is
//!              done · u64 most bytes · u64 most messages · u64 bytes to leave free · u64 milliseconds
//!              to wait when full · u32 what then: 0 refuse, 1 wait, 2 discard the oldest · u32 zero
//!              · u64 messages and u64 milliseconds of the dedup window
//! ```
//!
//! Of the active segment, times and tags are those up to the mark in section 1.

use std::collections::BTreeSet;

use byteorder::{ByteOrder, LittleEndian};

use super::keep::{self, KeptRow, Limits};
use super::{
    COUNT_LIMIT, MAX_SEGMENT, Malformed, PAGE_POSITION, entry, is_zero, names, section, seeded, u32_at,
    u64_at,
};
use crate::offset::Offset;

const SLOT_HEADER: usize = 16;
const LOG_BYTES: usize = 56;
const SEGMENT_BYTES: usize = 72;
const GROUP_BYTES: usize = 32;
const LOG_TAG: u32 = 1;
const SEGMENTS_TAG: u32 = 2;
const GROUPS_TAG: u32 = 3;
const SCHEDULES_TAG: u32 = 4;
const KEPT_TAG: u32 = 5;
const LIMITS_TAG: u32 = 6;
/// In place of a segment's number: every settle that was there when this was written is in the synced file.
pub(crate) const NO_SETTLES: u64 = u64::MAX;

/// All that belongs to the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) sequence: u64,
    pub(crate) log: LogMark,
    /// No segment that was ever named had this number, or a higher one.
    pub(crate) numbers: u64,
    /// In offset order; the last is the active one.
    pub(crate) segments: Vec<SegmentRow>,
    pub(crate) groups: Vec<GroupRow>,
    pub(crate) schedules: Vec<ScheduleRow>,
    /// Side files of segments that are gone, kept for the dedup keys in them.
    pub(crate) kept: Vec<KeptRow>,
    pub(crate) limits: Limits,
    /// Sections of a later version, kept.
    pub(crate) unknown: Vec<(u32, Vec<u8>)>,
}

/// How far the log was known durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogMark {
    pub(crate) segment: u64,
    pub(crate) position: u64,
    /// The next offset; beyond burnt ones.
    pub(crate) next: u64,
    /// How many messages lie before the mark, from the log's beginning on.
    pub(crate) messages: u64,
    /// Offsets below it may have been told to somebody.
    pub(crate) reserved: u64,
    /// Whether nothing was written behind the mark.
    pub(crate) closed: bool,
}

/// A segment that belongs to the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentRow {
    pub(crate) number: u64,
    pub(crate) base: u64,
    /// The offset behind its last message; 0 of the active one.
    pub(crate) end: u64,
    /// How many messages there ever were, less those that still lie in it and behind it.
    pub(crate) messages_before: u64,
    /// Bytes up to the end of its last batch; 0 of the active one.
    pub(crate) length: u64,
    pub(crate) about: About,
    pub(crate) salt: u32,
    pub(crate) rewritten: bool,
}

/// What is known of the messages in a stretch of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// Milliseconds since 1970 of the first batch; 0 where there is none.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Bit `t`: some record has an attribute with tag `t`; bit 0: some batch settles loans.
    pub(crate) tags: u64,
}

impl About {
    /// Adds a batch.
    pub(crate) fn add(&mut self, time: u64, tags: u64) {
        if self.first == 0 {
            self.first = time;
        }
        self.last = self.last.max(time);
        self.tags |= tags;
    }
}

/// A group that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupRow {
    pub(crate) name: String,
    /// Random, new at every creation.
    pub(crate) incarnation: u64,
    /// The newest generation whose switch was complete when this was written.
    pub(crate) generation: u64,
    /// The oldest segment whose settles are not all in its synced file, or [`NO_SETTLES`].
    pub(crate) settles_from: u64,
    /// A position in the half of that generation, and of no other: the entries before it were known
    /// durable when this was written. 0 where nobody has told yet.
    pub(crate) mark: u64,
}

/// A schedule that some program has, or had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScheduleRow {
    pub(crate) name: String,
    /// Milliseconds since 1970, below 2⁴⁸: all ticks until then were pushed, or passed over.
    pub(crate) last: u64,
}

/// Returns where a copy (0 or 1) of the slot for a sequence lies.
pub(crate) fn position(sequence: u64, copy: u64, slot_bytes: u64) -> u64 {
    // A header whose checksum is good can still say nonsense: no overflow, just no such place.
    slot_bytes.saturating_mul(2 * (sequence % 2) + copy).saturating_add(PAGE_POSITION)
}

impl Slot {
    /// Returns where a segment stands among those that are named.
    pub(crate) fn index_of(&self, segment: u64) -> Option<usize> {
        self.segments.iter().position(|row| row.number == segment)
    }

    /// Returns the row of a segment if it is sealed: of the active one it tells only what lies before the mark.
    pub(crate) fn sealed(&self, segment: u64) -> Option<&SegmentRow> {
        self.segments.iter().find(|row| row.number == segment && row.length != 0)
    }

    /// Encodes both copies, each `slot_bytes` long; `None` if it does not fit.
    pub(crate) fn encode(&self, queue: u128, slot_bytes: u64) -> Option<Vec<u8>> {
        let mut one = vec![0; SLOT_HEADER];
        LittleEndian::write_u64(&mut one[8..], self.sequence);
        section::put(&mut one, LOG_TAG, &encode_log(&self.log, self.numbers));
        let segments: Vec<u8> = self.segments.iter().flat_map(encode_segment).collect();
        section::put(&mut one, SEGMENTS_TAG, &segments);
        let groups: Vec<u8> = self.groups.iter().flat_map(encode_group).collect();
        section::put(&mut one, GROUPS_TAG, &groups);
        if !self.schedules.is_empty() {
            let schedules: Vec<u8> = self.schedules.iter().flat_map(encode_schedule).collect();
            section::put(&mut one, SCHEDULES_TAG, &schedules);
        }
        if !self.kept.is_empty() {
            let kept: Vec<u8> = self.kept.iter().flat_map(keep::encode_row).collect();
            section::put(&mut one, KEPT_TAG, &kept);
        }
        if self.limits != Limits::default() {
            section::put(&mut one, LIMITS_TAG, &keep::encode_limits(&self.limits));
        }
        for (tag, bytes) in &self.unknown {
            section::put(&mut one, *tag, bytes);
        }
        let length = u32::try_from(one.len()).ok()?;
        let full = usize::try_from(slot_bytes).ok().filter(|&full| full >= one.len())?;
        LittleEndian::write_u32(&mut one[4..], length);
        let mut both = Vec::with_capacity(2 * full);
        for copy in 0..2 {
            let sum = seeded(low(queue), position(self.sequence, copy, slot_bytes), &one[4..]);
            LittleEndian::write_u32(&mut one, sum);
            both.extend_from_slice(&one);
            both.resize(full * (usize::from(copy == 1) + 1), 0);
        }
        Some(both)
    }

    /// Decodes one copy, read from `position`.
    pub(crate) fn decode(queue: u128, position: u64, bytes: &[u8]) -> Result<Self, Malformed> {
        let damaged = |what: &str| Malformed::Damaged(what.into());
        if bytes.len() < SLOT_HEADER {
            return Err(damaged("a slot is cut short"));
        }
        let length = usize::try_from(u32_at(bytes, 4)).unwrap_or(usize::MAX);
        let covered = bytes.get(4..length).filter(|covered| covered.len() >= SLOT_HEADER - 4);
        let Some(covered) =
            covered.filter(|covered| u32_at(bytes, 0) == seeded(low(queue), position, covered))
        else {
            return Err(damaged("checksum mismatch in a slot"));
        };
        if !is_zero(&bytes[length..]) {
            return Err(damaged("bytes behind a slot"));
        }
        let mut slot = Self { sequence: u64_at(bytes, 8), ..Self::default() };
        let mut seen = 0;
        for (tag, body) in section::split(&covered[SLOT_HEADER - 4..])? {
            match tag {
                LOG_TAG => {
                    (slot.log, slot.numbers) = decode_log(body).ok_or_else(|| damaged("bad log section"))?;
                }
                SEGMENTS_TAG => {
                    slot.segments = decode_segments(body).ok_or_else(|| damaged("bad segment section"))?;
                }
                GROUPS_TAG => {
                    slot.groups = decode_groups(body).ok_or_else(|| damaged("bad group section"))?;
                }
                SCHEDULES_TAG => {
                    slot.schedules = decode_schedules(body).ok_or_else(|| damaged("bad schedule section"))?;
                }
                KEPT_TAG => {
                    slot.kept = keep::decode_rows(body).ok_or_else(|| damaged("bad section of kept keys"))?;
                }
                LIMITS_TAG => {
                    slot.limits =
                        keep::decode_limits(body).ok_or_else(|| damaged("bad section of limits"))?;
                }
                tag => {
                    section::may_keep(tag)?;
                    slot.unknown.push((tag, body.to_vec()));
                    continue;
                }
            }
            if seen & 1 << tag != 0 {
                return Err(damaged("a section of a slot stands twice"));
            }
            seen |= 1 << tag;
        }
        if seen & 0b1110 == 0b1110 && slot.is_consistent() {
            Ok(slot)
        } else {
            Err(damaged("a slot contradicts itself"))
        }
    }

    /// Tells whether the slot could have been written by a sound program.
    fn is_consistent(&self) -> bool {
        let Some((active, sealed)) = self.segments.split_last() else {
            return false;
        };
        let grows = |pair: &[SegmentRow]| {
            pair[0].base <= pair[0].end
                && pair[0].end <= pair[1].base
                && pair[0].messages_before <= pair[1].messages_before
        };
        let lengths = PAGE_POSITION..=MAX_SEGMENT;
        active.length == 0
            && active.end == 0
            && self.sequence < COUNT_LIMIT
            && sealed.iter().all(|row| lengths.contains(&row.length))
            && self.numbers <= COUNT_LIMIT
            && self.segments.iter().all(|row| row.number < self.numbers)
            && self.segments.windows(2).all(grows)
            && all_differ(self.segments.iter().map(|row| row.number))
            && all_differ(self.groups.iter().map(|row| &row.name))
            && all_differ(self.schedules.iter().map(|row| &row.name))
            && self.kept.iter().all(|row| row.number < self.numbers && lengths.contains(&row.length))
            && all_differ(
                self.segments.iter().map(|row| row.number).chain(self.kept.iter().map(|row| row.number)),
            )
            && self.groups.iter().all(|row| row.mark.is_multiple_of(entry::SLOT_BYTES))
            && self.log.segment == active.number
            && lengths.contains(&self.log.position)
            && self.log.position.is_multiple_of(super::ALIGNMENT)
            && active.base <= self.log.next
            && self.log.next <= Offset::LIMIT
            && self.log.reserved <= Offset::LIMIT
            && active.messages_before <= self.log.messages
            && self.log.messages <= Offset::LIMIT
    }
}

fn all_differ<T: Ord>(things: impl Iterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    things.into_iter().all(|thing| seen.insert(thing))
}

/// Seeds a slot: 32 bits are plenty to tell two queues apart.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
const fn low(queue: u128) -> u32 {
    queue as u32
}

fn encode_log(log: &LogMark, numbers: u64) -> [u8; LOG_BYTES] {
    let mut out = [0; LOG_BYTES];
    let words = [log.segment, log.position, log.next, log.messages, log.reserved];
    LittleEndian::write_u64_into(&words, &mut out[..40]);
    LittleEndian::write_u32(&mut out[40..], u32::from(log.closed));
    LittleEndian::write_u64(&mut out[48..], numbers);
    out
}

fn decode_log(body: &[u8]) -> Option<(LogMark, u64)> {
    let body: &[u8; LOG_BYTES] = body.try_into().ok()?;
    let closed = match (u32_at(body, 40), u32_at(body, 44)) {
        (0, 0) => false,
        (1, 0) => true,
        _ => return None,
    };
    let mark = LogMark {
        segment: u64_at(body, 0),
        position: u64_at(body, 8),
        next: u64_at(body, 16),
        messages: u64_at(body, 24),
        reserved: u64_at(body, 32),
        closed,
    };
    Some((mark, u64_at(body, 48)))
}

fn encode_segment(row: &SegmentRow) -> [u8; SEGMENT_BYTES] {
    let mut out = [0; SEGMENT_BYTES];
    let About { first, last, tags } = row.about;
    let words = [row.number, row.base, row.messages_before, row.length, first, last, tags, row.end];
    LittleEndian::write_u64_into(&words, &mut out[..64]);
    LittleEndian::write_u32(&mut out[64..], row.salt);
    LittleEndian::write_u32(&mut out[68..], u32::from(row.rewritten));
    out
}

fn decode_segments(body: &[u8]) -> Option<Vec<SegmentRow>> {
    let rows = body.chunks_exact(SEGMENT_BYTES);
    if !rows.remainder().is_empty() {
        return None;
    }
    rows.map(|row| {
        Some(SegmentRow {
            number: u64_at(row, 0),
            base: Some(u64_at(row, 8)).filter(|&base| base <= Offset::LIMIT)?,
            messages_before: u64_at(row, 16),
            length: u64_at(row, 24),
            about: About { first: u64_at(row, 32), last: u64_at(row, 40), tags: u64_at(row, 48) },
            end: u64_at(row, 56),
            salt: u32_at(row, 64),
            rewritten: match u32_at(row, 68) {
                0 => false,
                1 => true,
                _ => return None,
            },
        })
    })
    .collect()
}

fn encode_group(row: &GroupRow) -> Vec<u8> {
    let mut out = vec![0; GROUP_BYTES];
    let words = [row.incarnation, row.generation, row.settles_from, row.mark];
    LittleEndian::write_u64_into(&words, &mut out);
    out.push(u8::try_from(row.name.len()).expect("a group's name has 64 bytes at most"));
    out.extend_from_slice(row.name.as_bytes());
    out
}

fn decode_groups(mut body: &[u8]) -> Option<Vec<GroupRow>> {
    let mut groups = Vec::new();
    while !body.is_empty() {
        let end = GROUP_BYTES + 1 + usize::from(*body.get(GROUP_BYTES)?);
        let name = std::str::from_utf8(body.get(GROUP_BYTES + 1..end)?).ok()?;
        if !names::is_group(name) {
            return None;
        }
        groups.push(GroupRow {
            name: name.to_owned(),
            incarnation: u64_at(body, 0),
            generation: u64_at(body, 8),
            settles_from: u64_at(body, 16),
            mark: u64_at(body, 24),
        });
        body = &body[end..];
    }
    Some(groups)
}

fn encode_schedule(row: &ScheduleRow) -> Vec<u8> {
    let mut out = row.last.min(Offset::LIMIT - 1).to_le_bytes().to_vec();
    out.push(u8::try_from(row.name.len()).expect("a schedule's name has 64 bytes at most"));
    out.extend_from_slice(row.name.as_bytes());
    out
}

fn decode_schedules(mut body: &[u8]) -> Option<Vec<ScheduleRow>> {
    let mut schedules = Vec::new();
    while !body.is_empty() {
        let end = 9 + usize::from(*body.get(8)?);
        let name = std::str::from_utf8(body.get(9..end)?).ok()?;
        let last = Some(u64_at(body, 0)).filter(|&last| last < Offset::LIMIT)?;
        if !names::is_group(name) {
            return None;
        }
        schedules.push(ScheduleRow { name: name.to_owned(), last });
        body = &body[end..];
    }
    // Without any there is no section.
    Some(schedules).filter(|schedules| !schedules.is_empty())
}
