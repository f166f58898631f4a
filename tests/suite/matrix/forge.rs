//! How are bytes changed so that every checksum fits again?
//!
//! By `docs/FORMAT.md` alone: what is made here is what another program, or a hostile one, could
//! have written.

use backlog::testing::SimDisk;

/// CRC-32 as in zip and Ethernet, over several pieces.
fn crc32(pieces: &[&[u8]]) -> u32 {
    let bytes = pieces.iter().flat_map(|piece| piece.iter());
    !bytes.fold(!0, |sum: u32, &byte| {
        (0..8).fold(
            sum ^ u32::from(byte),
            |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 },
        )
    })
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}

/// Changes both copies of the slot that holds.
pub(crate) fn slot(disk: &SimDisk, change: impl Fn(&mut [u8])) {
    let mut manifest = disk.read_file("MANIFEST").unwrap();
    let queue: [u8; 4] = number(&manifest, 32);
    let length = usize::try_from(u64::from_le_bytes(number(&manifest, 56))).unwrap();
    let sequence = |at: usize| u64::from_le_bytes(number(&manifest, at + 8));
    let holds = (0..4).map(|copy| 4096 + copy * length).max_by_key(|&at| sequence(at)).unwrap();
    let first = 4096 + (holds - 4096) / (2 * length) * 2 * length;
    for at in [first, first + length] {
        let copy = &mut manifest[at..at + length];
        change(copy);
        let used = usize::try_from(u32::from_le_bytes(number(copy, 4))).unwrap().min(length);
        let sum = crc32(&[&queue, &(at as u64).to_le_bytes(), &copy[4..used]]);
        copy[..4].copy_from_slice(&sum.to_le_bytes());
    }
    disk.write_file("MANIFEST", &manifest);
}

/// Where the section of the log lies in a slot.
pub(crate) const LOG: usize = 16 + 8;

/// Changes the header of the batch at a position of a segment.
pub(crate) fn batch(disk: &SimDisk, segment: &str, at: usize, change: impl Fn(&mut [u8])) {
    let mut bytes = disk.read_file(segment).unwrap();
    let salt: [u8; 4] = number(&bytes, 28);
    let header = &mut bytes[at..at + 32];
    change(header);
    let sum = crc32(&[&salt, &(at as u64).to_le_bytes(), &header[4..]]);
    header[..4].copy_from_slice(&sum.to_le_bytes());
    disk.write_file(segment, &bytes);
}

/// Changes both copies of a header.
pub(crate) fn header(disk: &SimDisk, name: &str, change: impl Fn(&mut [u8])) {
    let mut bytes = disk.read_file(name).unwrap();
    for at in [0, 2048] {
        let copy = &mut bytes[at..at + 512];
        change(copy);
        let sum = crc32(&[&copy[..508]]);
        copy[508..].copy_from_slice(&sum.to_le_bytes());
    }
    disk.write_file(name, &bytes);
}

#[test]
fn what_is_forged_without_a_change_is_what_was_there() {
    let left = super::stage::Left::new();
    let before = super::stage::all(&left.disk);

    slot(&left.disk, |_| {});
    batch(&left.disk, "log/000000001.seg", 4096, |_| {});
    header(&left.disk, "log/000000001.seg", |_| {});
    header(&left.disk, "MANIFEST", |_| {});

    assert_eq!(super::stage::all(&left.disk), before);
}
