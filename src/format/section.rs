//! How are things laid in a row so that later versions can add to them?
//!
//! A section is `u32 tag, u32 length, bytes`. A tag that a reader does not know is kept as it is;
//! with the highest bit set it is refused instead.

use byteorder::{ByteOrder, LittleEndian};

use super::{Malformed, u32_at};

/// Set in a tag that must not be ignored.
const MUST_KNOW: u32 = 1 << 31;

/// A section that was read.
pub(crate) type Section<'a> = (u32, &'a [u8]);

/// Appends a section.
pub(crate) fn put(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    let mut head = [0; 8];
    LittleEndian::write_u32(&mut head, tag);
    let length =
        u32::try_from(bytes.len()).expect("a section stays below 4 GiB: its parts are counted in u32");
    LittleEndian::write_u32(&mut head[4..], length);
    out.extend_from_slice(&head);
    out.extend_from_slice(bytes);
}

/// Cuts bytes, whose checksum was good, into sections.
pub(crate) fn split(mut bytes: &[u8]) -> Result<Vec<Section<'_>>, Malformed> {
    let mut sections = Vec::new();
    while !bytes.is_empty() {
        let cut = || Malformed::Damaged("a section is longer than what holds it".into());
        if bytes.len() < 8 {
            return Err(cut());
        }
        let length = usize::try_from(u32_at(bytes, 4)).map_err(|_| cut())?;
        let body = bytes.get(8..8 + length).ok_or_else(cut)?;
        sections.push((u32_at(bytes, 0), body));
        bytes = &bytes[8 + length..];
    }
    Ok(sections)
}

/// Refuses a tag that is not known and must be.
pub(crate) fn may_keep(tag: u32) -> Result<(), Malformed> {
    if tag & MUST_KNOW == 0 {
        Ok(())
    } else {
        Err(Malformed::Newer(format!("it has a section {tag:#x}, which this version must know and does not")))
    }
}
