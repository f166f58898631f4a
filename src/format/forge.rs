//! How are checksums made right over bytes that were changed on purpose? For fuzzers (feature
//! `testing`): random changes end at the first checksum, and what comes behind it stays untried.

use byteorder::{ByteOrder, LittleEndian};

use super::batch::{self, BatchHeader};
use super::entry::{MAX_SLOTS, SLOT};
use super::header::{COPIES, COPY, SUPERSEDED};
use super::snapshot::packed_len;
use super::{ALIGNMENT, PAGE, PAGE_POSITION, checksum, names, probe, seeded, u32_at, u64_at};

const CHECKSUM_AT: usize = COPY - 4;
const SECTOR: usize = 512;

/// Makes right every checksum of a file with that name in a queue's folder, as far as its bytes tell
/// where those stand. What each covers stays as it is.
pub fn forge(name: &str, bytes: &mut [u8]) {
    if name == names::MANIFEST {
        manifest(bytes);
    } else if name.ends_with(".seg") {
        segment(bytes);
    } else if name.ends_with(".offsets") {
        half(bytes);
    }
}

/// Makes right the checksums of a batch, as `batch` takes it.
pub fn forge_batch(bytes: &mut [u8]) {
    batch_at(bytes, 0, probe::SALT, PAGE_POSITION);
}

fn page(bytes: &mut [u8]) -> bool {
    let Some(page) = bytes.get_mut(..PAGE) else { return false };
    for at in COPIES {
        let sum = checksum(&page[at..at + CHECKSUM_AT]);
        LittleEndian::write_u32(&mut page[at + CHECKSUM_AT..], sum);
    }
    true
}

fn manifest(bytes: &mut [u8]) {
    if !page(bytes) {
        return;
    }
    let (queue, slot_bytes) = (u32_at(bytes, 32), u64_at(bytes, 56));
    for index in 0..4 {
        let position = slot_bytes.saturating_mul(index).saturating_add(PAGE_POSITION);
        let Some(slot) = usize::try_from(position).ok().and_then(|at| bytes.get_mut(at..)) else { continue };
        let Some(head) = slot.get(..8) else { continue };
        let length = u32_at(head, 4) as usize;
        if let Some(covered) = slot.get(4..length) {
            let sum = seeded(queue, position, covered);
            LittleEndian::write_u32(slot, sum);
        }
    }
}

fn segment(bytes: &mut [u8]) {
    if !page(bytes) {
        return;
    }
    let salt = u32_at(bytes, 28);
    let mut at = PAGE;
    // Where a batch says nothing of its length, the next may begin anywhere.
    while let Some(length) = batch_at(bytes, at, salt, at as u64) {
        at += length;
    }
}

/// Makes a batch right and returns its length; `None` at the end of the bytes.
fn batch_at(bytes: &mut [u8], at: usize, salt: u32, position: u64) -> Option<usize> {
    let batch = bytes.get_mut(at..)?;
    let head = batch.get(..batch::HEADER)?;
    let (body, records) = (u32_at(head, 8) as usize, LittleEndian::read_u24(&head[28..]) as usize);
    if head[31] == 0 {
        return Some(usize::try_from(ALIGNMENT).unwrap_or(8));
    }
    let table = if records == 1 { 0 } else { records * batch::ROW };
    if let Some(body) = batch.get_mut(batch::HEADER..batch::HEADER + body).filter(|body| body.len() >= table)
    {
        let (rows, mut rest) = body.split_at_mut(table);
        for row in rows.chunks_exact_mut(batch::ROW) {
            let length = (u32_at(row, 0) as usize).min(rest.len());
            let (record, behind) = rest.split_at_mut(length);
            LittleEndian::write_u32(&mut row[4..], checksum(record));
            rest = behind;
        }
        let sum = checksum(if table > 0 { rows } else { rest });
        LittleEndian::write_u32(&mut batch[4..], sum);
    }
    let sum = seeded(salt, position, &batch[4..batch::HEADER]);
    LittleEndian::write_u32(batch, sum);
    let length = BatchHeader::decode(batch, salt, position).map_or(ALIGNMENT, |header| header.length());
    usize::try_from(length).ok()
}

fn half(bytes: &mut [u8]) {
    if !page(bytes) {
        return;
    }
    let (salt, snapshot, entries) = (u32_at(bytes, 28), u64_at(bytes, 72), u64_at(bytes, 80));
    for at in SUPERSEDED {
        if u64_at(bytes, at) != 0 {
            let sum = seeded(salt, at as u64, &bytes[at..at + CHECKSUM_AT]);
            LittleEndian::write_u32(&mut bytes[at + CHECKSUM_AT..], sum);
        }
    }
    let packed = usize::try_from(packed_len(snapshot)).unwrap_or(usize::MAX).min(bytes.len() - PAGE);
    for (index, sector) in bytes[PAGE..PAGE + packed].chunks_exact_mut(SECTOR).enumerate() {
        let position = PAGE_POSITION + (index * SECTOR) as u64;
        let sum = seeded(salt, position, &sector[..SECTOR - 4]);
        LittleEndian::write_u32(&mut sector[SECTOR - 4..], sum);
    }
    let mut at = usize::try_from(entries).unwrap_or(usize::MAX);
    while let Some(entry) = bytes.get_mut(at..).filter(|rest| rest.len() >= SLOT) {
        let slots = 1 + usize::from(entry[5]);
        if entry[4] != 0
            && slots <= MAX_SLOTS
            && let Some(whole) = entry.get_mut(..slots * SLOT)
        {
            let sum = seeded(salt, at as u64, &whole[4..]);
            LittleEndian::write_u32(whole, sum);
            at += whole.len();
        } else {
            at += SLOT;
        }
    }
}
