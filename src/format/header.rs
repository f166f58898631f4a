//! What stands in the first page of each file?
//!
//! A header of 512 bytes, twice, in sectors of its own, so that one bad sector costs nothing:
//!
//! ```text
//!      0  8  magic: backlogM (manifest) backlogS (segment) backlogO (half of an offset file)
//!      8 u32 format version
//!     12 u32 optional features: unknown ones are ignored
//!     16 u32 writing features: with an unknown one, look only
//!     20 u32 required features: with an unknown one, refuse
//!     24 u32 zero
//!     28 u32 salt (0 in a manifest)
//!     32 16  queue id
//!     48 u64 creation time, milliseconds since 1970
//!     56     fields of the kind, below; the rest zero
//!    508 u32 checksum of bytes 0..508, plain
//!
//!    manifest  56 u64 bytes of one copy of a slot
//!    segment   56 u64 number · 64 u64 capacity, bytes of the file · 72 u64 1: rewritten, else 0
//!    half      56 u64 incarnation of the group · 64 u64 generation · 72 u64 bytes of the snapshot
//!              80 u64 position of the first entry · 88 u64 bytes of the file
//!              96 u8 length of the group's name · 97 64 the name
//! ```
//!
//! The copies lie at 0 and 2048 of the page. In a half, the sectors at 1024 and 3072 say later
//! that it is superseded; everything else of the page is zero, and checked.

use byteorder::{ByteOrder, LittleEndian};

use super::{Malformed, PAGE, VERSION, checksum, is_zero, names, seeded, u32_at, u64_at};

/// Bytes of one copy.
pub(crate) const COPY: usize = 512;
/// Where the copies lie.
pub(crate) const COPIES: [usize; 2] = [0, 2048];
/// Where a half says that it is superseded.
pub(crate) const SUPERSEDED: [usize; 2] = [1024, 3072];

/// A writing feature: this is a copy of a queue, which is written by backups only.
pub(crate) const BACKUP: u32 = 1;

const CHECKSUM_AT: usize = 508;
const SUPERSEDED_MAGIC: &[u8; 8] = b"backlogX";

/// What is common to the headers of all files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) queue: u128,
    pub(crate) salt: u32,
    /// Milliseconds since 1970.
    pub(crate) created: u64,
    pub(crate) features: Features,
    pub(crate) fields: Fields,
}

/// The three feature words. This version knows none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) optional: u32,
    pub(crate) writing: u32,
    pub(crate) required: u32,
}

/// What a header says for its kind of file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fields {
    Manifest {
        /// Bytes of one copy of a slot.
        slot: u64,
    },
    Segment {
        number: u64,
        /// Bytes of the file.
        capacity: u64,
        /// Holds copies of messages, and never was the active one.
        rewritten: bool,
    },
    Half {
        group: String,
        incarnation: u64,
        generation: u64,
        /// Bytes of the snapshot, before it is cut into sectors.
        snapshot: u64,
        /// Position of the first entry.
        entries: u64,
        /// Bytes of the file.
        length: u64,
    },
}

/// Which file is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Manifest,
    Segment,
    Half,
}

impl FileKind {
    const fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Manifest => b"backlogM",
            Self::Segment => b"backlogS",
            Self::Half => b"backlogO",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Manifest => "a manifest",
            Self::Segment => "a segment",
            Self::Half => "an offset file",
        }
    }
}

/// A header page that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) header: Header,
    /// One of the two copies is bad, or bytes that must be zero are not.
    pub(crate) wounded: bool,
    /// The generation that supersedes this half; of other files `None`.
    pub(crate) superseded: Option<u64>,
}

impl Header {
    fn kind(&self) -> FileKind {
        match self.fields {
            Fields::Manifest { .. } => FileKind::Manifest,
            Fields::Segment { .. } => FileKind::Segment,
            Fields::Half { .. } => FileKind::Half,
        }
    }

    /// Returns the generation of a half; of other files 0.
    pub(crate) fn generation(&self) -> u64 {
        match self.fields {
            Fields::Half { generation, .. } => generation,
            Fields::Manifest { .. } | Fields::Segment { .. } => 0,
        }
    }

    /// Encodes the whole page, both copies.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut copy = [0; COPY];
        copy[..8].copy_from_slice(self.kind().magic());
        LittleEndian::write_u32(&mut copy[8..], VERSION);
        LittleEndian::write_u32(&mut copy[12..], self.features.optional);
        LittleEndian::write_u32(&mut copy[16..], self.features.writing);
        LittleEndian::write_u32(&mut copy[20..], self.features.required);
        LittleEndian::write_u32(&mut copy[28..], self.salt);
        LittleEndian::write_u128(&mut copy[32..], self.queue);
        LittleEndian::write_u64(&mut copy[48..], self.created);
        match &self.fields {
            Fields::Manifest { slot } => LittleEndian::write_u64(&mut copy[56..], *slot),
            Fields::Segment { number, capacity, rewritten } => {
                LittleEndian::write_u64(&mut copy[56..], *number);
                LittleEndian::write_u64(&mut copy[64..], *capacity);
                LittleEndian::write_u64(&mut copy[72..], u64::from(*rewritten));
            }
            Fields::Half { group, incarnation, generation, snapshot, entries, length } => {
                LittleEndian::write_u64(&mut copy[56..], *incarnation);
                LittleEndian::write_u64(&mut copy[64..], *generation);
                LittleEndian::write_u64(&mut copy[72..], *snapshot);
                LittleEndian::write_u64(&mut copy[80..], *entries);
                LittleEndian::write_u64(&mut copy[88..], *length);
                copy[96] = u8::try_from(group.len()).expect("a group's name has 64 bytes at most");
                copy[97..97 + group.len()].copy_from_slice(group.as_bytes());
            }
        }
        let sum = checksum(&copy[..CHECKSUM_AT]);
        LittleEndian::write_u32(&mut copy[CHECKSUM_AT..], sum);
        let mut page = vec![0; PAGE];
        for at in COPIES {
            page[at..at + COPY].copy_from_slice(&copy);
        }
        page
    }

    /// Tells whether this version may write to a file with this header.
    pub(crate) fn may_write(&self) -> Result<(), Malformed> {
        match self.features.writing {
            0 => Ok(()),
            BACKUP => Err(Malformed::Foreign(
                "it is that of a backup: make a queue of it (`backlog restore`)".into(),
            )),
            unknown => Err(Malformed::Newer(format!(
                "it uses writing features {unknown:#x}, which this version does not know: it can look, not write"
            ))),
        }
    }
}

/// Decodes a header page; one good copy is enough.
pub(crate) fn decode(kind: FileKind, page: &[u8]) -> Result<Page, Malformed> {
    let Some(page) = page.get(..PAGE) else {
        return Err(Malformed::Damaged(format!(
            "expected a header page of {PAGE} bytes, found {} bytes",
            page.len()
        )));
    };
    let [first, second] = COPIES.map(|at| decode_copy(kind, &page[at..at + COPY]));
    let (header, both) = match (first, second) {
        (Ok(header), Ok(other)) if header == other => (header, true),
        // A switch that was cut short: the newer copy is tried, its snapshot tells whether it holds.
        (Ok(header), Ok(other)) if kind == FileKind::Half => {
            (if other.generation() > header.generation() { other } else { header }, false)
        }
        (Ok(_), Ok(_)) => {
            return Err(Malformed::Damaged("its two headers say different things".into()));
        }
        (Ok(header), Err(_)) | (Err(_), Ok(header)) => (header, false),
        // A wounded file of a newer version must not look as if repair could help.
        (Err(_), Err(error @ Malformed::Newer(_))) | (Err(error), Err(_)) => return Err(error),
    };
    if header.features.required != 0 {
        return Err(Malformed::Newer(format!(
            "it requires features {:#x}, which this version does not know",
            header.features.required
        )));
    }
    let (superseded, both_superseded) = match kind {
        FileKind::Half => decode_superseded(header.salt, page),
        FileKind::Manifest | FileKind::Segment => (None, true),
    };
    let wounded = !both || !both_superseded || !rest_is_zero(kind, page);
    Ok(Page { header, wounded, superseded })
}

fn decode_copy(kind: FileKind, copy: &[u8]) -> Result<Header, Malformed> {
    if &copy[..8] != kind.magic() {
        return Err(if is_zero(copy) {
            Malformed::Damaged("its header is empty".into())
        } else {
            Malformed::Foreign(format!("it does not begin as {} of a backlog queue does", kind.name()))
        });
    }
    let good = u32_at(copy, CHECKSUM_AT) == checksum(&copy[..CHECKSUM_AT]);
    let version = u32_at(copy, 8);
    if version > VERSION {
        return Err(Malformed::Newer(format!(
            "it has format version {version}, and this program knows up to {VERSION}"
        )));
    }
    if !good || version != VERSION || u32_at(copy, 24) != 0 {
        return Err(Malformed::Damaged("checksum mismatch in its header".into()));
    }
    let (fields, end) = match kind {
        FileKind::Manifest => (Fields::Manifest { slot: u64_at(copy, 56) }, 64),
        FileKind::Segment => {
            let (number, capacity, rewritten) = (u64_at(copy, 56), u64_at(copy, 64), u64_at(copy, 72));
            if rewritten > 1 {
                return Err(Malformed::Newer(
                    "its header has a value that this version does not know".into(),
                ));
            }
            (Fields::Segment { number, capacity, rewritten: rewritten == 1 }, 80)
        }
        FileKind::Half => {
            let length = usize::from(copy[96]);
            let group = String::from_utf8_lossy(&copy[97..97 + length]).into_owned();
            if !names::is_group(&group) {
                return Err(Malformed::Damaged("its header names an impossible group".into()));
            }
            let fields = Fields::Half {
                group,
                incarnation: u64_at(copy, 56),
                generation: u64_at(copy, 64),
                snapshot: u64_at(copy, 72),
                entries: u64_at(copy, 80),
                length: u64_at(copy, 88),
            };
            (fields, 97 + length)
        }
    };
    if !is_zero(&copy[end..CHECKSUM_AT]) {
        return Err(Malformed::Newer("its header has fields that this version does not know".into()));
    }
    let features =
        Features { optional: u32_at(copy, 12), writing: u32_at(copy, 16), required: u32_at(copy, 20) };
    Ok(Header {
        queue: LittleEndian::read_u128(&copy[32..]),
        salt: u32_at(copy, 28),
        created: u64_at(copy, 48),
        features,
        fields,
    })
}

fn rest_is_zero(kind: FileKind, page: &[u8]) -> bool {
    page.chunks(COPY).enumerate().all(|(index, sector)| {
        let at = index * COPY;
        COPIES.contains(&at) || (kind == FileKind::Half && SUPERSEDED.contains(&at)) || is_zero(sector)
    })
}

/// Encodes the sector that says which generation supersedes a half:
/// magic `backlogX`, u64 generation, zeros, and at 508 the checksum, seeded with the half's salt
/// and the sector's position.
pub(crate) fn encode_superseded(salt: u32, at: usize, generation: u64) -> [u8; COPY] {
    let mut sector = [0; COPY];
    sector[..8].copy_from_slice(SUPERSEDED_MAGIC);
    LittleEndian::write_u64(&mut sector[8..], generation);
    let sum = seeded(salt, at as u64, &sector[..CHECKSUM_AT]);
    LittleEndian::write_u32(&mut sector[CHECKSUM_AT..], sum);
    sector
}

/// Returns the generation that either sector tells, and whether both are alike (or both empty).
fn decode_superseded(salt: u32, page: &[u8]) -> (Option<u64>, bool) {
    let [first, second] = SUPERSEDED.map(|at| {
        let sector = &page[at..at + COPY];
        let good = &sector[..8] == SUPERSEDED_MAGIC
            && u32_at(sector, CHECKSUM_AT) == seeded(salt, at as u64, &sector[..CHECKSUM_AT]);
        (good.then(|| u64_at(sector, 8)), good || is_zero(sector))
    });
    (first.0.or(second.0), first.0 == second.0 && first.1 && second.1)
}
