//! Which attributes can a record have?
//!
//! A list of `u8 tag, u24 length, value`. Tags from 128 on must be known; others that are not are
//! passed over.
//!
//! ```text
//!    1 due           u64 milliseconds since 1970        6 ordering key  bytes
//!    2 expiry        u64 milliseconds since 1970        7 kind          UTF-8
//!    3 lease         u64 milliseconds                   8 encoding      u8: 1 JSON, 2 bincode
//!    4 priority      u8, 0 to 9                         9 header        u8 length of the name, name,
//!    5 dedup key     bytes                                              u8 type, value; may repeat
//!   10 origin        u32 holder, u64 sequence       11 unique        u8 1: the dedup key is taken as long as
//!                                                                   the message is not done, and no longer
//! ```

use byteorder::{ByteOrder, LittleEndian};

use super::Malformed;

/// Bytes in front of each value.
const HEAD: usize = 4;
/// Bytes of the longest value.
pub(crate) const MAX_VALUE: u32 = (1 << 24) - 1;
/// Bytes of the longest kind.
pub(crate) const MAX_KIND: usize = 255;
/// Bytes of a header's longest name.
pub(crate) const MAX_HEADER_NAME: usize = 255;
/// Tags from here on must be known.
const MUST_KNOW: u8 = 128;

/// What an attribute is about. The numbers are those on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    Due = 1,
    Expiry = 2,
    Lease = 3,
    Priority = 4,
    DedupKey = 5,
    OrderingKey = 6,
    Kind = 7,
    Encoding = 8,
    Header = 9,
    Origin = 10,
    Unique = 11,
}

impl Tag {
    const ALL: [Self; 11] = [
        Self::Due,
        Self::Expiry,
        Self::Lease,
        Self::Priority,
        Self::DedupKey,
        Self::OrderingKey,
        Self::Kind,
        Self::Encoding,
        Self::Header,
        Self::Origin,
        Self::Unique,
    ];

    /// Returns the tag's bit in a union of tags.
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// Tells whether a value of that length can belong to the tag.
    fn allows(self, value: &[u8]) -> bool {
        match self {
            Self::Due | Self::Expiry | Self::Lease => value.len() == 8,
            Self::Priority | Self::Encoding | Self::Unique => value.len() == 1,
            Self::Origin => value.len() == 12,
            Self::Kind => std::str::from_utf8(value).is_ok(),
            Self::Header => value.first().is_some_and(|&name| value.len() >= 2 + usize::from(name)),
            Self::DedupKey | Self::OrderingKey => true,
        }
    }
}

/// Appends an attribute; `false` (and nothing appended) if its value is longer than [`MAX_VALUE`].
pub(crate) fn put(out: &mut Vec<u8>, tag: Tag, value: &[u8]) -> bool {
    let Some(length) = u32::try_from(value.len()).ok().filter(|&length| length <= MAX_VALUE) else {
        return false;
    };
    let mut head = [tag as u8, 0, 0, 0];
    LittleEndian::write_u24(&mut head[1..], length);
    out.extend_from_slice(&head);
    out.extend_from_slice(value);
    true
}

/// Lays out an origin: a producer, and the number that it gave.
pub(crate) fn origin_value(producer: u32, sequence: u64) -> [u8; 12] {
    let mut value = [0; 12];
    LittleEndian::write_u32(&mut value, producer);
    LittleEndian::write_u64(&mut value[4..], sequence);
    value
}

/// Reads an origin.
pub(crate) fn origin(value: &[u8]) -> Option<(u32, u64)> {
    (value.len() == 12).then(|| (LittleEndian::read_u32(value), LittleEndian::read_u64(&value[4..])))
}

/// Lays out the value of a header; its name has [`MAX_HEADER_NAME`] bytes at most.
pub(crate) fn header(name: &str, kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("the name was checked");
    let mut out = Vec::with_capacity(2 + name.len() + value.len());
    out.push(length);
    out.extend_from_slice(name.as_bytes());
    out.push(kind);
    out.extend_from_slice(value);
    out
}

/// Takes the value of a header apart: name, type, value.
pub(crate) fn split_header(header: &[u8]) -> Option<(&str, u8, &[u8])> {
    let (&length, rest) = header.split_first()?;
    let (name, rest) = rest.split_at_checked(length.into())?;
    let (&kind, value) = rest.split_first()?;
    Some((std::str::from_utf8(name).ok()?, kind, value))
}

/// Finds an attribute in a list, whose checksum was good; the first, if it stands there twice.
pub(crate) fn find(list: &[u8], tag: Tag) -> Option<&[u8]> {
    each(list).find(|&(found, _)| found == tag as u8).map(|(_, value)| value)
}

/// Reads a number of milliseconds; 0 for what is none.
pub(crate) fn millis_of(value: &[u8]) -> u64 {
    if value.len() == 8 { LittleEndian::read_u64(value) } else { 0 }
}

/// Lays out a number of milliseconds.
pub(crate) fn millis(millis: u64) -> [u8; 8] {
    millis.to_le_bytes()
}

/// Goes through a list, whose checksum was good, to its end or to what does not fit.
pub(crate) fn each(mut list: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let length = list.get(1..HEAD).map(LittleEndian::read_u24)? as usize;
        let value = list.get(HEAD..HEAD.checked_add(length)?)?;
        let tag = list[0];
        list = &list[HEAD + length..];
        Some((tag, value))
    })
}

/// Reads a list, whose checksum was good, into the attributes that are known.
pub(crate) fn parse(mut list: &[u8]) -> Result<Vec<(Tag, &[u8])>, Malformed> {
    let damaged = || Malformed::Damaged("an attribute does not fit its record".into());
    let mut known = Vec::new();
    while !list.is_empty() {
        let length = list.get(1..HEAD).map(LittleEndian::read_u24).ok_or_else(damaged)? as usize;
        let value = list.get(HEAD..HEAD + length).ok_or_else(damaged)?;
        match Tag::ALL.iter().find(|&&tag| tag as u8 == list[0]) {
            Some(&tag) if tag.allows(value) => known.push((tag, value)),
            Some(_) => return Err(damaged()),
            None if list[0] >= MUST_KNOW => {
                return Err(Malformed::Newer(format!(
                    "an attribute {} that this version must know and does not",
                    list[0]
                )));
            }
            None => {}
        }
        list = &list[HEAD + length..];
    }
    Ok(known)
}
