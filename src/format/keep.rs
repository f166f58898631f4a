//! What does a slot of the manifest say of what is kept, and of how much may come?
//!
//! Its sections 5 and 6; how they lie is told with the others, in `manifest`.

use byteorder::{ByteOrder, LittleEndian};

use super::{is_zero, u32_at, u64_at};

const KEPT_BYTES: usize = 32;
const LIMIT_BYTES: usize = 72;

/// A side file that is kept though its segment is gone: some dedup key in it may still be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptRow {
    /// Of the segment.
    pub(crate) number: u64,
    /// That of the segment.
    pub(crate) length: u64,
    /// Milliseconds since 1970 of its newest message.
    pub(crate) last: u64,
    pub(crate) salt: u32,
}

/// How much the queue keeps and takes; 0 everywhere: as little as it can, and as much as comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Milliseconds for which messages are kept that are done in every group.
    pub(crate) retain_for: u64,
    /// Bytes of such messages that are kept.
    pub(crate) retain_bytes: u64,
    /// The most bytes of segments.
    pub(crate) max_bytes: u64,
    /// The most messages that a group has not done.
    pub(crate) max_messages: u64,
    /// Bytes of the file system that are left to others.
    pub(crate) min_free: u64,
    /// Milliseconds that a push waits for room, with [`WhenFull::Wait`].
    pub(crate) wait: u64,
    pub(crate) when_full: WhenFull,
    /// How many messages with a dedup key have it, and for how many milliseconds; 0: as many as usual.
    pub(crate) dedup_count: u64,
    pub(crate) dedup_for: u64,
}

impl Limits {
    /// Returns them as numbers, for another process.
    pub(crate) fn numbers(&self) -> [u64; 9] {
        let Self { retain_for, retain_bytes, max_bytes, max_messages, min_free, wait, .. } = *self;
        let when_full = self.when_full as u64;
        let (count, time) = (self.dedup_count, self.dedup_for);
        [retain_for, retain_bytes, max_bytes, max_messages, min_free, wait, when_full, count, time]
    }

    /// Takes them from numbers.
    pub(crate) fn from_numbers(numbers: [u64; 9]) -> Self {
        let [retain_for, retain_bytes, max_bytes, max_messages, min_free, wait, when_full, count, time] =
            numbers;
        let when_full = match when_full {
            1 => WhenFull::Wait,
            2 => WhenFull::DiscardOldest,
            _ => WhenFull::Refuse,
        };
        let (dedup_count, dedup_for) = (count, time);
        Self {
            retain_for,
            retain_bytes,
            max_bytes,
            max_messages,
            min_free,
            wait,
            when_full,
            dedup_count,
            dedup_for,
        }
    }
}

/// What becomes of a push that a limit leaves no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WhenFull {
    #[default]
    Refuse = 0,
    Wait = 1,
    DiscardOldest = 2,
}

/// Encodes a row of kept keys.
pub(super) fn encode_row(row: &KeptRow) -> [u8; KEPT_BYTES] {
    let mut out = [0; KEPT_BYTES];
    LittleEndian::write_u64_into(&[row.number, row.length, row.last], &mut out[..24]);
    LittleEndian::write_u32(&mut out[24..], row.salt);
    out
}

/// Decodes the section of kept keys; it has one row at least.
pub(super) fn decode_rows(body: &[u8]) -> Option<Vec<KeptRow>> {
    let row = |row: &[u8]| KeptRow {
        number: u64_at(row, 0),
        length: u64_at(row, 8),
        last: u64_at(row, 16),
        salt: u32_at(row, 24),
    };
    let rows = body.chunks_exact(KEPT_BYTES);
    let sound =
        !body.is_empty() && rows.remainder().is_empty() && rows.clone().all(|row| is_zero(&row[28..]));
    sound.then(|| rows.map(row).collect())
}

/// Encodes the section of limits.
pub(super) fn encode_limits(limits: &Limits) -> [u8; LIMIT_BYTES] {
    let &Limits { retain_for, retain_bytes, max_bytes, max_messages, min_free, wait, .. } = limits;
    let mut out = [0; LIMIT_BYTES];
    let words = [retain_for, retain_bytes, max_bytes, max_messages, min_free, wait];
    LittleEndian::write_u64_into(&words, &mut out[..48]);
    LittleEndian::write_u32(&mut out[48..], limits.when_full as u32);
    LittleEndian::write_u64_into(&[limits.dedup_count, limits.dedup_for], &mut out[56..]);
    out
}

/// Decodes the section of limits; some limit is set.
pub(super) fn decode_limits(body: &[u8]) -> Option<Limits> {
    let body: &[u8; LIMIT_BYTES] = body.try_into().ok()?;
    let limits = Limits {
        retain_for: u64_at(body, 0),
        retain_bytes: u64_at(body, 8),
        max_bytes: u64_at(body, 16),
        max_messages: u64_at(body, 24),
        min_free: u64_at(body, 32),
        wait: u64_at(body, 40),
        when_full: match u32_at(body, 48) {
            0 => WhenFull::Refuse,
            1 => WhenFull::Wait,
            2 => WhenFull::DiscardOldest,
            _ => return None,
        },
        dedup_count: u64_at(body, 56),
        dedup_for: u64_at(body, 64),
    };
    // Without any there is no section.
    (u32_at(body, 52) == 0 && limits != Limits::default()).then_some(limits)
}
