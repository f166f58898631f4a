//! Do the decoders hold against flipped bits, later versions and plain noise?

use proptest::prelude::*;

use super::batch::{self, BatchHeader};
use super::entry::Entry;
use super::header::{self, COPIES, Features, Fields, FileKind, Header, SUPERSEDED};
use super::keep::{KeptRow, Limits, WhenFull};
use super::manifest::{self, GroupRow, LogMark, ScheduleRow, SegmentRow, Slot};
use super::record::{self, Tag};
use super::snapshot::{self, Exception, NORMAL, Reading, Snapshot, State};
use super::{EVERY, Malformed, PAGE, checksum, section, seeded};
use crate::{codec, offset::Offset};

const QUEUE: u128 = 0xfeed_0000_1234_5678;
const KINDS: [FileKind; 3] = [FileKind::Manifest, FileKind::Segment, FileKind::Half];

fn header_of(kind: FileKind) -> Header {
    let fields = match kind {
        FileKind::Manifest => Fields::Manifest { slot: 4096 },
        FileKind::Segment => Fields::Segment { number: 3, capacity: 1 << 20, rewritten: true },
        FileKind::Half => Fields::Half {
            group: "mailer".into(),
            incarnation: 5,
            generation: 6,
            snapshot: 700,
            entries: 8192,
            length: 65536,
        },
    };
    Header { queue: QUEUE, salt: 77, created: 1_700_000_000_000, features: Features::default(), fields }
}

/// Changes both copies of a header and makes their checksums good again.
fn patched(kind: FileKind, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut page = header_of(kind).encode();
    for at in COPIES {
        change(&mut page[at..at + 508]);
        let sum = checksum(&page[at..at + 508]);
        page[at + 508..at + 512].copy_from_slice(&sum.to_le_bytes());
    }
    page
}

fn is_newer<T>(result: &Result<T, Malformed>) -> bool {
    matches!(result, Err(Malformed::Newer(_)))
}

fn is_damaged<T>(result: &Result<T, Malformed>) -> bool {
    matches!(result, Err(Malformed::Damaged(_)))
}

#[test]
fn checksums_are_those_of_the_format_page() {
    assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
    assert_eq!(seeded(0x1234_5678, 4096, b"123456789"), 0x2125_44af);
    assert_eq!(seeded(0, 0, b""), 0x7bd5_c66f);
}

#[test]
fn a_header_page_reads_back() {
    for kind in KINDS {
        let page = header::decode(kind, &header_of(kind).encode()).unwrap();

        assert_eq!((page.header, page.wounded, page.superseded), (header_of(kind), false, None));
    }
}

#[test]
fn a_flipped_bit_of_a_header_page_wounds_it_and_changes_nothing() {
    for kind in KINDS {
        let mut whole = header_of(kind).encode();
        if kind == FileKind::Half {
            for at in SUPERSEDED {
                whole[at..at + 512].copy_from_slice(&header::encode_superseded(77, at, 7));
            }
        }
        let good = header::decode(kind, &whole).unwrap();
        for bit in (0..whole.len() * 8).step_by(EVERY) {
            whole[bit / 8] ^= 1 << (bit % 8);
            let page = header::decode(kind, &whole).unwrap();
            assert_eq!(
                (&page.header, page.superseded),
                (&good.header, good.superseded),
                "bit {bit} of {kind:?}"
            );
            assert!(page.wounded, "bit {bit} of {kind:?} went unnoticed");
            whole[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn the_same_flipped_bit_in_both_copies_refuses_the_file() {
    for kind in KINDS {
        for bit in (0..512 * 8).step_by(EVERY) {
            let mut page = header_of(kind).encode();
            for at in COPIES {
                page[at + bit / 8] ^= 1 << (bit % 8);
            }
            assert!(header::decode(kind, &page).is_err(), "bit {bit} of {kind:?} went unnoticed");
        }
    }
}

#[test]
fn a_header_of_a_newer_version_is_called_newer() {
    for kind in KINDS {
        for at in [8, 20, 500] {
            let page = patched(kind, |copy| copy[at] = 2);
            assert!(is_newer(&header::decode(kind, &page)), "byte {at} of {kind:?}");
        }
    }
}

#[test]
fn a_wounded_header_of_a_newer_version_is_called_newer_still() {
    for damaged in COPIES {
        let mut page = patched(FileKind::Segment, |copy| copy[8] = 2);
        page[damaged..damaged + 512].fill(0);
        assert!(is_newer(&header::decode(FileKind::Segment, &page)), "{damaged}");
    }
}

#[test]
fn lengths_that_cannot_be_do_not_overflow() {
    assert!(snapshot::packed_len(u64::MAX) > 1 << 60);
    assert_eq!(manifest::position(1, 1, u64::MAX), u64::MAX);
    assert!(super::round_up(u64::MAX, 8) > 1 << 60);
}

#[test]
fn optional_features_are_ignored_and_writing_features_allow_a_look() {
    let optional =
        header::decode(FileKind::Segment, &patched(FileKind::Segment, |copy| copy[12] = 1)).unwrap();
    let writing =
        header::decode(FileKind::Segment, &patched(FileKind::Segment, |copy| copy[16] = 2)).unwrap();
    let copied = header::decode(FileKind::Segment, &patched(FileKind::Segment, |copy| copy[16] = 1)).unwrap();

    assert_eq!(optional.header.may_write(), Ok(()));
    assert!(is_newer(&writing.header.may_write()));
    assert!(matches!(copied.header.may_write(), Err(Malformed::Foreign(_))));
}

#[test]
fn what_is_no_header_is_refused_by_its_right_name() {
    for kind in KINDS {
        let others = KINDS.into_iter().filter(|&other| other != kind);
        for other in others {
            let found = header::decode(kind, &header_of(other).encode());
            assert!(matches!(found, Err(Malformed::Foreign(_))));
        }
        assert!(is_damaged(&header::decode(kind, &[0; PAGE])));
        assert!(is_damaged(&header::decode(kind, &header_of(kind).encode()[..PAGE - 1])));
        assert!(is_damaged(&header::decode(kind, &[])));
        assert!(is_damaged(&header::decode(kind, &patched(kind, |copy| copy[24] = 1))));
        assert!(is_damaged(&header::decode(kind, &patched(kind, |copy| copy[8] = 0))));
    }
    for length in [0, 65, 255] {
        let page = patched(FileKind::Half, |copy| copy[96] = length);
        assert!(is_damaged(&header::decode(FileKind::Half, &page)), "{length}");
    }
}

#[test]
fn two_headers_that_differ_are_damage_and_in_a_half_a_switch_cut_short() {
    let mut newer = header_of(FileKind::Half);
    let Fields::Half { generation, .. } = &mut newer.fields else { panic!() };
    *generation = 7;
    let mut half = header_of(FileKind::Half).encode();
    half[COPIES[1]..COPIES[1] + 512].copy_from_slice(&newer.encode()[..512]);
    let mut segment = header_of(FileKind::Segment).encode();
    let other = Header { salt: 78, ..header_of(FileKind::Segment) };
    segment[..512].copy_from_slice(&other.encode()[..512]);

    let page = header::decode(FileKind::Half, &half).unwrap();

    assert_eq!((page.header.generation(), page.wounded), (7, true));
    assert!(is_damaged(&header::decode(FileKind::Segment, &segment)));
}

fn slot() -> Slot {
    let row = |number, base, length| SegmentRow { number, base, length, ..SegmentRow::default() };
    let kept = |number| KeptRow { number, length: 8192, last: 1_700_000_000_000, salt: 5 };
    let group = |name: &str| GroupRow {
        name: name.into(),
        incarnation: 1,
        generation: 1,
        settles_from: 2,
        mark: 8192,
    };
    let schedule = |name: &str| ScheduleRow { name: name.into(), last: 1_700_000_000_000 };
    Slot {
        sequence: 9,
        numbers: 10,
        log: LogMark { segment: 2, position: 4096, next: 50, messages: 50, reserved: 100, closed: false },
        segments: vec![SegmentRow { end: 49, ..row(1, 0, 8192) }, row(2, 50, 0)],
        groups: vec![group("default"), group("mailer")],
        schedules: vec![schedule("hourly"), schedule("nightly")],
        kept: vec![kept(7), kept(8)],
        limits: Limits { max_bytes: 1 << 30, wait: 9, when_full: WhenFull::Wait, ..Limits::default() },
        unknown: vec![(99, vec![1, 2, 3])],
    }
}

#[test]
fn every_flipped_bit_of_a_slot_is_noticed() {
    let mut bytes = slot().encode(QUEUE, 1024).unwrap();
    for copy in [0, 1] {
        let at = manifest::position(9, copy, 1024);
        let one = &mut bytes[usize::from(copy == 1) * 1024..][..1024];
        assert_eq!(Slot::decode(QUEUE, at, one), Ok(slot()));
        for bit in (0..one.len() * 8).step_by(EVERY) {
            one[bit / 8] ^= 1 << (bit % 8);
            assert!(is_damaged(&Slot::decode(QUEUE, at, one)), "bit {bit} of copy {copy}");
            one[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_slot_passes_neither_elsewhere_nor_in_another_queue() {
    let bytes = slot().encode(QUEUE, 1024).unwrap();
    let at = manifest::position(9, 0, 1024);

    assert!(Slot::decode(QUEUE, at, &bytes[..1024]).is_ok());
    assert!(is_damaged(&Slot::decode(QUEUE, at + 1024, &bytes[..1024])));
    assert!(is_damaged(&Slot::decode(QUEUE ^ 1, at, &bytes[..1024])));
}

#[test]
fn a_slot_that_does_not_fit_is_not_written() {
    let bytes = slot().encode(QUEUE, 1024).unwrap();
    let length = super::u32_at(&bytes, 4);

    let fits = slot().encode(QUEUE, u64::from(length)).unwrap();

    assert_eq!(fits.len(), 2 * length as usize);
    assert_eq!(slot().encode(QUEUE, u64::from(length) - 1), None);
}

#[test]
fn a_slot_that_contradicts_itself_is_refused() {
    type Change = fn(&mut Slot);
    let changes: [(&str, Change); 27] = [
        ("a number that none had", |slot| slot.numbers = 2),
        ("a number of kept keys that none had", |slot| slot.kept[1].number = 10),
        ("no segment", |slot| slot.segments.clear()),
        ("the active one sealed", |slot| slot.segments[1].length = 4096),
        ("a sealed one without length", |slot| slot.segments[0].length = 0),
        ("a number twice", |slot| slot.segments[0].number = 2),
        ("falling bases", |slot| slot.segments[0].base = 51),
        ("an end below the base", |slot| (slot.segments[0].base, slot.segments[0].end) = (40, 39)),
        ("an end beyond the next base", |slot| slot.segments[0].end = 51),
        ("an end of the active one", |slot| slot.segments[1].end = 60),
        ("kept keys of a segment that is there", |slot| slot.kept[0].number = 1),
        ("falling counts", |slot| slot.segments[0].messages_before = 1),
        ("a base beyond all offsets", |slot| slot.segments[1].base = Offset::LIMIT + 1),
        ("another active segment", |slot| slot.log.segment = 1),
        ("a mark in the header", |slot| slot.log.position = 4088),
        ("a mark between batches", |slot| slot.log.position = 4100),
        ("a next offset below the base", |slot| slot.log.next = 49),
        ("a reserve beyond all offsets", |slot| slot.log.reserved = Offset::LIMIT + 1),
        ("more messages than offsets", |slot| slot.log.messages = Offset::LIMIT + 1),
        ("a sequence without end", |slot| slot.sequence = u64::MAX),
        ("a number without end", |slot| slot.segments[0].number = u64::MAX),
        ("a sealed one longer than any", |slot| slot.segments[0].length = 1 << 36),
        ("a mark beyond any segment", |slot| slot.log.position = 1 << 36),
        ("a group twice", |slot| slot.groups[0].name = "mailer".into()),
        ("a schedule twice", |slot| slot.schedules[0].name = "nightly".into()),
        ("a schedule that is a path", |slot| slot.schedules[1].name = "../x".into()),
        ("a group that is a path", |slot| slot.groups[0].name = "../x".into()),
    ];
    for (what, change) in changes {
        let mut bad = slot();
        change(&mut bad);
        let bytes = bad.encode(QUEUE, 1024).unwrap();
        let found = Slot::decode(QUEUE, manifest::position(9, 0, 1024), &bytes[..1024]);
        assert!(is_damaged(&found), "{what}");
    }
}

#[test]
fn a_section_of_a_later_version_is_kept_or_refused_as_its_tag_says() {
    let later = Slot { unknown: vec![(1 << 31, vec![])], ..slot() };
    let twice = Slot { unknown: vec![(3, vec![])], ..slot() };
    let mut snapshot = Snapshot { unknown: vec![(9, vec![7])], ..Snapshot::default() };
    let decode = |slot: &Slot| {
        let bytes = slot.encode(QUEUE, 1024).unwrap();
        Slot::decode(QUEUE, manifest::position(9, 0, 1024), &bytes[..1024])
    };

    assert!(is_newer(&decode(&later)));
    assert!(is_damaged(&decode(&twice)));
    assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot.clone()));
    snapshot.unknown = vec![(1 << 31 | 9, vec![7])];
    assert!(is_newer(&Snapshot::decode(&snapshot.encode())));
}

#[test]
fn a_section_that_reaches_beyond_its_end_is_damage() {
    let mut bytes = Vec::new();
    section::put(&mut bytes, 1, b"abc");
    section::put(&mut bytes, 2, b"");

    assert_eq!(section::split(&bytes), Ok(vec![(1, &b"abc"[..]), (2, &b""[..])]));
    for length in (1..bytes.len()).filter(|&length| length != 11) {
        assert!(is_damaged(&section::split(&bytes[..length])), "{length}");
    }
    bytes[4..8].copy_from_slice(&[0xff; 4]);
    assert!(is_damaged(&section::split(&bytes)));
}

fn snapshot_of(done: Vec<(u64, u64)>, offsets: &[u64]) -> Snapshot {
    let exception = |&offset: &u64| Exception {
        offset,
        end: offset + 1,
        state: State::Dead { reason: 1, since: 2 },
        failures: 1,
        losses: 0,
        late: 0,
        error: "no".into(),
        priority: NORMAL,
        key: 0,
    };
    let reading = Reading { floor: 10, head: 20, ..Reading::default() };
    Snapshot { reading, done, exceptions: offsets.iter().map(exception).collect(), ..Snapshot::default() }
}

#[test]
fn every_flipped_bit_of_a_packed_snapshot_is_noticed() {
    let data = snapshot_of((6..60).map(|n| (2 * n, 2 * n + 1)).collect(), &[10, 11]).encode();
    let mut packed = snapshot::pack(77, &data);

    assert_eq!(snapshot::packed_len(data.len() as u64), packed.len() as u64);
    assert_eq!(snapshot::unpack(77, &packed, data.len()), Some(data.clone()));
    assert_eq!(snapshot::unpack(78, &packed, data.len()), None);
    assert_eq!(snapshot::unpack(77, &packed[..512], data.len()), None);
    for bit in (0..packed.len() * 8).step_by(EVERY) {
        packed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(snapshot::unpack(77, &packed, data.len()), None, "bit {bit}");
        packed[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_snapshot_that_contradicts_itself_is_refused() {
    let good = snapshot_of(vec![(11, 12), (13, 15)], &[10, 12, 19]);
    let with = |change: fn(&mut Exception)| {
        let mut snapshot = snapshot_of(vec![], &[19]);
        change(&mut snapshot.exceptions[0]);
        snapshot
    };
    let bad = [
        // A row across the head; a row with a priority, or a key; a priority that is none.
        with(|one| (one.end, one.error) = (21, String::new())),
        with(|one| (one.offset, one.error, one.priority) = (18, String::new(), 5)),
        with(|one| (one.offset, one.error, one.key) = (18, String::new(), 5)),
        with(|one| one.priority = 10),
        snapshot_of(vec![(10, 12)], &[]),
        snapshot_of(vec![(12, 12)], &[]),
        snapshot_of(vec![(11, 13), (13, 14)], &[]),
        snapshot_of(vec![(13, 14), (11, 12)], &[]),
        snapshot_of(vec![(11, Offset::LIMIT + 1)], &[]),
        snapshot_of(vec![], &[9]),
        snapshot_of(vec![], &[11, 11]),
        snapshot_of(vec![], &[12, 11]),
        snapshot_of(vec![], &[Offset::LIMIT]),
        // Done too, and a range that reaches across the head.
        snapshot_of(vec![(11, 13)], &[12]),
        snapshot_of(vec![(19, 22)], &[]),
    ];

    assert_eq!(Snapshot::decode(&good.encode()), Ok(good));
    let ahead = snapshot_of(vec![], &[20]);
    assert_eq!(Snapshot::decode(&ahead.encode()), Ok(ahead));
    for snapshot in bad {
        assert!(is_damaged(&Snapshot::decode(&snapshot.encode())), "{snapshot:?}");
    }
    assert!(is_damaged(&Snapshot::decode(&[])));
}

#[test]
fn a_hostile_length_asks_for_no_memory() {
    for length in [u64::MAX, 1 << 60, 1 << 30, 2] {
        let mut list = length.to_le_bytes().to_vec();
        list.extend_from_slice(&[1; 24]);

        assert!(codec::decode::<Vec<(u64, u64)>>(&list).is_err(), "{length}");
        assert!(codec::decode::<Vec<Exception>>(&list).is_err(), "{length}");
        assert!(codec::decode::<String>(&list).is_err(), "{length}");
    }
}

#[test]
fn attributes_read_back_and_later_ones_are_passed_over() {
    let mut list = vec![127, 1, 0, 0, 9];
    assert!(record::put(&mut list, Tag::Priority, &[3]));
    assert!(record::put(&mut list, Tag::Kind, b"email/2"));
    assert!(record::put(&mut list, Tag::Header, b"\x01n\x00"));

    let expected: Vec<(Tag, &[u8])> =
        vec![(Tag::Priority, &[3]), (Tag::Kind, b"email/2"), (Tag::Header, b"\x01n\x00")];
    assert_eq!(record::parse(&list), Ok(expected));
    assert!(is_newer(&record::parse(&[128, 0, 0, 0])));
}

#[test]
fn an_attribute_that_does_not_fit_is_damage() {
    let bad: [&[u8]; 9] = [
        &[1],
        &[7, 0, 0],
        &[5, 4, 0, 0, 1, 2, 3],
        &[5, 255, 255, 255, 1],
        &[1, 7, 0, 0, 1, 2, 3, 4, 5, 6, 7],
        &[4, 0, 0, 0],
        &[7, 1, 0, 0, 0xff],
        &[9, 0, 0, 0],
        &[9, 2, 0, 0, 1, b'n'],
    ];
    for list in bad {
        assert!(is_damaged(&record::parse(list)), "{list:?}");
    }
    let mut list = Vec::new();
    assert!(!record::put(&mut list, Tag::DedupKey, &vec![0; 1 << 24]));
    assert!(list.is_empty());
}

/// Noise in all of the page, or in what stands behind a good start: both are asked of every decoder.
fn decode_all(noise: &[u8]) {
    for kind in KINDS {
        let _ = header::decode(kind, noise);
        let mut page = patched(kind, |copy| {
            let length = noise.len().min(400);
            copy[100..100 + length].copy_from_slice(&noise[..length]);
            copy[96] = noise.first().copied().unwrap_or(0);
        });
        let _ = header::decode(kind, &page);
        page.truncate(noise.len());
        let _ = header::decode(kind, &page);
    }
    let mut slot = noise.to_vec();
    if slot.len() >= 16 {
        let length = u32::try_from(slot.len()).unwrap();
        slot[4..8].copy_from_slice(&length.to_le_bytes());
        let sum = seeded(u32::try_from(QUEUE & 0xffff_ffff).unwrap(), 0, &slot[4..]);
        slot[..4].copy_from_slice(&sum.to_le_bytes());
    }
    let _ = Slot::decode(QUEUE, 0, &slot);
    let _ = Slot::decode(QUEUE, 0, noise);
    let _ = section::split(noise);
    for tag in 1..=4 {
        let mut data = Vec::new();
        section::put(&mut data, tag, noise);
        let _ = Snapshot::decode(&data);
    }
    let _ = snapshot::unpack(1, noise, 100);
    let _ = record::parse(noise);
    let _ = batch::settles(noise);
    let _ = batch::split_record(true, noise);
    let mut entry = noise.to_vec();
    if let Some(covered) = noise.len().checked_sub(4).map(|_| seeded(1, 0, &noise[4..])) {
        entry[..4].copy_from_slice(&covered.to_le_bytes());
    }
    let _ = Entry::decode(&entry, 1, 0);
    let mut header = noise.to_vec();
    if header.len() >= 32 {
        header[31] |= 1;
        let sum = seeded(1, 4096, &header[4..32]);
        header[..4].copy_from_slice(&sum.to_le_bytes());
        if let Some(header) = BatchHeader::decode(&header, 1, 4096) {
            let _ = header.table_is_good(&noise[32..]) && header.body_is_good(&noise[32..]);
            let _ = header.body_is_good(&noise[32..]) && batch::padding_is_good(&header, &noise[32..]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..5000)) {
        decode_all(&noise);
    }

    #[test]
    fn small_noise_never_panics(noise in prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..130)) {
        decode_all(&noise);
    }
}
