//! Are the bytes of version 1 still those of version 1?
//!
//! A small queue with something of everything is encoded from fixed values and held against the
//! files in `tests/golden/v1`, byte for byte. A difference is a change of the format: it needs a
//! new version, not a new golden file. `BACKLOG_BLESS=1` writes the files, for a new version only.

use std::{env, fs, path::PathBuf};

use super::batch::{self, BatchHeader, Encoded, Record, Settle, Stamp};
use super::entry::{Entry, HELD, Kind, More, RAN_OUT};
use super::header::{self, Features, Fields, FileKind, Header};
use super::index::{self, PRIORITIES, Row};
use super::keep::{KeptRow, Limits, WhenFull};
use super::manifest::{self, About, GroupRow, LogMark, ScheduleRow, SegmentRow, Slot};
use super::record::{self, Tag};
use super::snapshot::{self, Exception, NORMAL, Policy, Reading, Snapshot, State, Waiting};
use super::{PAGE, PAGE_POSITION, names, round_up};

const QUEUE: u128 = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;
const TIME: u64 = 1_700_000_000_000;
const SALTS: [u32; 2] = [0x5a17_c0de, 0x0bad_cafe];
const HALF_SALTS: [u32; 2] = [0x1111_0000, 0x2222_0001];
const CAPACITY: u64 = 8192;
const SLOT_BYTES: u64 = 512;
const INCARNATION: u64 = 0x1122_3344_5566_7788;
const HOLDER: u64 = 0x0000_beef;

fn delivery(count: u64) -> u64 {
    HOLDER << 32 | count
}

fn header(salt: u32, fields: Fields) -> Header {
    Header { queue: QUEUE, salt, created: TIME, features: Features::default(), fields }
}

/// One attribute list with every tag, and one that a later version might write.
fn attributes() -> (Vec<u8>, u64) {
    let values: [(Tag, &[u8]); 11] = [
        (Tag::Due, &(TIME + 60_000).to_le_bytes()),
        (Tag::Expiry, &(TIME + 3_600_000).to_le_bytes()),
        (Tag::Lease, &30_000_u64.to_le_bytes()),
        (Tag::Priority, &[9]),
        (Tag::DedupKey, b"signup-7"),
        (Tag::OrderingKey, &[0, 255]),
        (Tag::Kind, "e-mail/ü".as_bytes()),
        (Tag::Encoding, &[1]),
        (Tag::Header, b"\x05trace\x00a1"),
        (Tag::Origin, &[1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]),
        (Tag::Unique, &[1]),
    ];
    let mut list = Vec::new();
    let mut tags = 0;
    for (tag, value) in values {
        assert!(record::put(&mut list, tag, value));
        tags |= tag.bit();
    }
    list.extend_from_slice(&[100, 3, 0, 0, 1, 2, 3]);
    (list, tags)
}

/// The batches of the two segments, each with its base offset.
fn batches() -> [Vec<(u64, Encoded)>; 2] {
    fn plain(payload: &[u8]) -> Record<'_> {
        Record { attributes: &[], payload, tags: 0 }
    }
    let (list, tags) = attributes();
    let one = Encoded::new(&[plain(b"hello")]).unwrap();
    let several = Encoded::new(&[plain(b"one"), plain(b""), plain(&[0, 1, 0xfe, 0xff])]).unwrap();
    let rich = Record { attributes: &list, payload: b"{}", tags };
    let single = Encoded::new(&[Record { attributes: &list[..12], payload: b"later", tags: 2 }]).unwrap();
    let described = Encoded::new(&[rich, plain(b"beside it")]).unwrap();
    let loans = [4, 5].map(|offset| Settle { incarnation: INCARNATION, offset, delivery: delivery(offset) });
    let settling = Encoded::with_settles(&loans, &[plain(b"output one"), rich]).unwrap();
    let acking = Encoded::with_settles(&loans[..1], &[]).unwrap();
    [
        vec![(0, one), (1, several), (4, single), (10, described)],
        vec![(4096, settling), (4098, acking), (4100, Encoded::new(&[plain(b"last")]).unwrap())],
    ]
}

/// Where the entries end of the half that holds.
fn entries_end() -> u64 {
    let slots: usize = entries(1).iter().map(Entry::slots).sum();
    8192 + slots as u64 * 32
}

/// A segment file, and the position behind its last batch.
fn segment(which: usize, batches: Vec<(u64, Encoded)>) -> (Vec<u8>, u64) {
    let number = which as u64 + 1;
    let salt = SALTS[which];
    let mut bytes =
        header(salt, Fields::Segment { number, capacity: CAPACITY, rewritten: number == 1 }).encode();
    for (index, (base, mut encoded)) in (1..).zip(batches) {
        let position = bytes.len() as u64;
        let mark = if index < 3 { PAGE_POSITION } else { PAGE_POSITION + 40 };
        let stamp = Stamp { salt, position, base, time: TIME + index, mark: mark.min(position) };
        bytes.extend_from_slice(encoded.stamp(&stamp));
    }
    let end = bytes.len() as u64;
    bytes.resize(usize::try_from(CAPACITY).unwrap(), 0);
    (bytes, end)
}

/// The side file of the first segment: one of its messages has a row, that of its last batch.
fn side_file(segment: &[u8], end: u64) -> Vec<u8> {
    let (list, _) = attributes();
    let header = |at: usize| BatchHeader::decode(&segment[at..], SALTS[0], at as u64).unwrap();
    let mut at = PAGE;
    while header(at).base < 10 {
        at += usize::try_from(header(at).length()).unwrap();
    }
    let row =
        Row { offset: 10, position: at as u64, time: header(at).time, ..Row::of(QUEUE, &list).unwrap() };
    let mut priorities = [0; PRIORITIES];
    priorities[9] = 1;
    let head = index::Head { queue: QUEUE, number: 1, salt: SALTS[0], covers: end, rows: 1, priorities };
    [head.encode(), index::encode(&[row], SALTS[0], 512)].concat()
}

fn slots(ends: [u64; 2], mark: u64) -> [Slot; 2] {
    let row = |number: u64, base, messages_before, length, about| SegmentRow {
        number,
        base,
        end: if length == 0 { 0 } else { 11 },
        messages_before,
        length,
        about,
        salt: SALTS[usize::try_from(number).unwrap() - 1],
        rewritten: false,
    };
    let (_, tags) = attributes();
    let sealed = row(1, 0, 0, ends[0], About { first: TIME + 1, last: TIME + 4, tags: tags | 2 });
    let active = row(2, 4096, 7, 0, About { first: TIME + 1, last: TIME + 3, tags: tags | 1 });
    let group = |name: &str, generation| GroupRow {
        name: name.into(),
        incarnation: INCARNATION,
        generation,
        settles_from: 2,
        mark,
    };
    let older = Slot {
        sequence: 6,
        numbers: 2,
        log: LogMark { segment: 1, position: 4096, reserved: 4096, ..LogMark::default() },
        segments: vec![row(1, 0, 0, 0, About::default())],
        ..Slot::default()
    };
    let log =
        LogMark { segment: 2, position: ends[1], next: 4101, messages: 10, reserved: 8192, closed: true };
    let newer = Slot {
        sequence: 7,
        numbers: 4,
        log,
        segments: vec![SegmentRow { rewritten: true, ..sealed }, active],
        groups: vec![group("mailer", 2)],
        schedules: vec![ScheduleRow { name: "nightly".into(), last: TIME - TIME % 60_000 }],
        kept: vec![KeptRow { number: 3, length: 4448, last: TIME, salt: 0xface }],
        limits: Limits {
            retain_for: 86_400_000,
            retain_bytes: 1 << 30,
            max_bytes: 10 << 30,
            max_messages: 1_000_000,
            min_free: 1 << 20,
            wait: 5000,
            when_full: WhenFull::Wait,
            dedup_count: 1000,
            dedup_for: 60_000,
        },
        unknown: vec![(77, b"of a later version".to_vec())],
    };
    [older, newer]
}

fn manifest(slots: &[Slot; 2]) -> Vec<u8> {
    let mut bytes = header(0, Fields::Manifest { slot: SLOT_BYTES }).encode();
    for slot in slots {
        assert_eq!(bytes.len() as u64, manifest::position(slot.sequence, 0, SLOT_BYTES));
        bytes.extend(slot.encode(QUEUE, SLOT_BYTES).unwrap());
    }
    bytes
}

fn snapshots() -> [Snapshot; 2] {
    let exception = |(offset, end), late, state, error: &str| Exception {
        offset,
        end,
        state,
        failures: 1,
        losses: 2,
        late,
        error: error.into(),
        priority: NORMAL,
        key: 0,
    };
    let policy = Policy {
        max_failures: 20,
        max_losses: 5,
        retry_kind: 2,
        retry_first: 1000,
        retry_cap: 3_600_000,
        retry_steps: std::array::from_fn(|step| if step < 3 { 1000 << step } else { 0 }),
        retry_jitter: 200,
        synced: true,
        lease: 600_000,
        discard_expired: true,
    };
    let reading = Reading {
        floor: 2,
        head: 19,
        passed: 14,
        hint: (1, 4136),
        holder: 0xbeef,
        first_count: 3,
        settled: 4099,
    };
    // More than fits one sector, so that the cut between two is in the golden file.
    let long = "no route to host, ".repeat(30);
    let full = Snapshot {
        reading,
        done: vec![(3, 4), (5, 10)],
        exceptions: vec![
            exception((2, 3), delivery(1), State::Ready, ""),
            exception((4, 5), 0, State::Delayed { due: TIME + 9 }, &long),
            exception((10, 11), 0, State::Lent { delivery: delivery(8), lease: HELD, since: TIME }, "ü"),
            exception((11, 12), 0, State::Dead { reason: 3, since: TIME }, "rejected"),
            // Rows: the loans of a dead holder, and a damaged stretch.
            exception((12, 14), delivery(9), State::Ready, ""),
            exception((14, 17), 0, State::Dead { reason: 4, since: TIME }, ""),
            // Ahead of the head: of a high priority, and with an ordering key.
            Exception { priority: 9, key: 0x0123_4567_89ab_cdef, ..exception((20, 21), 0, State::Ready, "") },
        ],
        // Until a moment; and of a low priority.
        waiting: vec![Waiting::new(17, TIME + 9000, 4136 / 8, NORMAL), Waiting::new(18, 0, 4136 / 8, 0)],
        policy,
        paused: Some(TIME + 5000),
        kinds: vec!["e-mail/ü".into(), "email/2".into()],
        unknown: vec![(78, b"of a later version".to_vec())],
    };
    [Snapshot { policy, ..Snapshot::default() }, full]
}

/// Entries of every kind; those of the superseded half are few.
fn entries(which: usize) -> Vec<Entry> {
    let base = |kind, offset| Entry { time: TIME, ..Entry::new(kind, offset) };
    let range = |end, messages| More::Range { end, messages };
    let text = |text: &str| More::Text(text.into());
    let lent = Entry { lease: HELD, delivery: delivery(1), ..base(Kind::Lent, 0) };
    if which == 0 {
        return vec![lent, Entry { delivery: delivery(1), ..base(Kind::Done, 0) }];
    }
    let timed = Entry { lease: 30_000, failures: 2, losses: 1, delivery: delivery(2), ..base(Kind::Lent, 1) };
    let due = Entry { time: TIME + 1000, failures: 3, delivery: delivery(2), ..base(Kind::Nacked, 2) };
    let dead = |reason, offset, more| Entry { lease: reason, more, ..base(Kind::Dead, offset) };
    vec![
        base(Kind::OwnMark, 8192 / 32),
        lent.clone(),
        Entry { more: range(12, 5), ..lent },
        timed.clone(),
        Entry { kind: Kind::Extended, lease: 60_000, failures: 0, losses: 0, ..timed },
        Entry { delivery: delivery(2), ..base(Kind::Released, 1) },
        Entry { delivery: delivery(3), ..base(Kind::Done, 2) },
        Entry { more: range(12, 3), ..base(Kind::Done, 3) },
        due.clone(),
        Entry { lease: RAN_OUT, ..due.clone() },
        Entry { more: text("no route to host: ü"), ..due.clone() },
        Entry { more: text(&"x".repeat(1024)), ..due },
        dead(1, 10, text("")),
        dead(3, 10, More::Nothing),
        dead(4, 4096, range(4098, 2)),
        base(Kind::Revived, 10),
        base(Kind::Discarded, 11),
        Entry { more: range(12, 2), ..base(Kind::Discarded, 10) },
        Entry { more: range(4101, 10), ..base(Kind::Purged, 0) },
        // The acks of the batches up to 4098 are over.
        Entry { more: range(4098, 9), ..base(Kind::Seek, 4097) },
        Entry { lease: 1, ..base(Kind::Paused, 0) },
        base(Kind::Policy, 0),
        Entry { losses: 1, delivery: HOLDER << 32, ..base(Kind::HolderGone, 0) },
        Entry {
            failures: 9,
            losses: 1,
            lease: 4136 / 8,
            delivery: 0x0123_4567_89ab_cdef,
            ..base(Kind::Aside, 25)
        },
        Entry { time: 0, failures: 0, lease: 4136 / 8, ..base(Kind::Aside, 19) },
        Entry { time: 0, failures: 4, lease: 4136 / 8, ..base(Kind::Undeleted, 18) },
        base(Kind::OwnMark, (8192 + 64) / 32),
    ]
}

fn half(which: usize) -> Vec<u8> {
    let snapshot = snapshots()[which].encode();
    let start = round_up(PAGE_POSITION + snapshot::packed_len(snapshot.len() as u64), PAGE_POSITION);
    let fields = Fields::Half {
        group: "mailer".into(),
        incarnation: INCARNATION,
        generation: which as u64 + 1,
        snapshot: snapshot.len() as u64,
        entries: start,
        length: start + 4096,
    };
    let salt = HALF_SALTS[which];
    let mut bytes = header(salt, fields).encode();
    if which == 0 {
        for at in header::SUPERSEDED {
            bytes[at..at + header::COPY].copy_from_slice(&header::encode_superseded(salt, at, 2));
        }
    }
    bytes.extend(snapshot::pack(salt, &snapshot));
    bytes.resize(usize::try_from(start).unwrap(), 0);
    for entry in entries(which) {
        let position = bytes.len() as u64;
        entry.encode(salt, position, &mut bytes);
    }
    bytes.resize(usize::try_from(start + 4096).unwrap(), 0);
    bytes
}

fn files() -> Vec<(String, Vec<u8>)> {
    let [first, second] = batches();
    let (first, first_end) = segment(0, first);
    let (second, second_end) = segment(1, second);
    vec![
        (names::MANIFEST.to_owned(), manifest(&slots([first_end, second_end], entries_end()))),
        (names::index(1), side_file(&first, first_end)),
        (names::segment(1), first),
        (names::segment(2), second),
        (names::half("mailer", 0), half(0)),
        (names::half("mailer", 1), half(1)),
    ]
}

/// The same queue after a crash: behind the manifest's mark in segment 2 lie a batch with a bad
/// body and one with a bad header, both before a mark, then a good one, then a torn one, then a good
/// one that does not count. Beside it some single bits are bad that cost nothing.
fn crashed_files() -> Vec<(String, Vec<u8>)> {
    let [first, mut second] = batches();
    let (first, first_end) = segment(0, first);
    second.truncate(1);
    let (mut bytes, mark) = segment(1, second);
    bytes.truncate(usize::try_from(mark).unwrap());
    let mut places = Vec::new();
    for (base, payload) in (4098..).zip(["bad record", "bad header", "good", "torn", "behind it"]) {
        let position = bytes.len() as u64;
        places.push(position);
        let mark = places[places.len().min(3) - 1];
        let mut encoded =
            Encoded::new(&[Record { attributes: &[], payload: payload.as_bytes(), tags: 0 }]).unwrap();
        let stamp = Stamp { salt: SALTS[1], position, base, time: TIME + 9, mark };
        bytes.extend_from_slice(encoded.stamp(&stamp));
    }
    let at = |index: usize| usize::try_from(places[index]).unwrap();
    for bad in [at(0) + 33, at(1) + 16, at(3) + 33] {
        bytes[bad] ^= 1;
    }
    bytes.resize(usize::try_from(CAPACITY).unwrap(), 0);
    // What the manifest tells of the group's half ends before the bad entry.
    let [older, mut newer] = slots([first_end, mark], 8192 + 64);
    newer.log = LogMark { next: 4098, messages: 9, closed: false, ..newer.log };
    let mut manifest = manifest(&[older, newer]);
    manifest[PAGE + 2 * 512 + 20] ^= 1;
    let mut half_1 = half(1);
    half_1[40] ^= 1;
    half_1[8192 + 64] ^= 1;
    vec![
        (names::MANIFEST.to_owned(), manifest),
        (names::segment(1), first),
        (names::segment(2), bytes),
        (names::half("mailer", 0), half(0)),
        (names::half("mailer", 1), half_1),
    ]
}

fn folder(which: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(which)
}

fn read(name: &str) -> Vec<u8> {
    fs::read(folder("v1").join(name)).unwrap()
}

#[test]
fn version_1_is_written_byte_for_byte_as_it_always_was() {
    for (which, files) in [("v1", files()), ("v1-crashed", crashed_files())] {
        for (name, bytes) in files {
            let path = folder(which).join(&name);
            if env::var_os("BACKLOG_BLESS").is_some_and(|bless| bless == "1") {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &bytes).unwrap();
            }
            let golden = fs::read(&path).unwrap();
            let differs = golden.iter().zip(&bytes).position(|(one, other)| one != other);
            assert_eq!((golden.len(), differs), (bytes.len(), None), "{which}/{name}");
        }
    }
}

#[test]
fn the_golden_manifest_reads_as_what_was_written() {
    let bytes = read("MANIFEST");
    let slot = usize::try_from(SLOT_BYTES).unwrap();

    let page = header::decode(FileKind::Manifest, &bytes).unwrap();
    let read: Vec<Slot> = (0..4)
        .map(|place| PAGE + place * slot)
        .map(|at| Slot::decode(QUEUE, at as u64, &bytes[at..at + slot]).unwrap())
        .collect();

    assert_eq!(page.header, header(0, Fields::Manifest { slot: SLOT_BYTES }));
    assert!(!page.wounded);
    let [older, newer] =
        slots([segment(0, batches()[0].split_off(0)).1, read[2].log.position], entries_end());
    assert_eq!(read, [older.clone(), older, newer.clone(), newer]);
}

#[test]
fn the_golden_segments_read_as_what_was_written() {
    for (which, expected) in batches().into_iter().enumerate() {
        let bytes = read(&names::segment(which as u64 + 1));
        let mut at = PAGE;

        for (base, encoded) in expected {
            let head = BatchHeader::decode(&bytes[at..], SALTS[which], at as u64).unwrap();
            let body = at + batch::HEADER..at + batch::HEADER + head.body as usize;
            assert_eq!(
                (head.base, head.messages(), head.length()),
                (base, encoded.messages(), encoded.length())
            );
            assert!(head.body_is_good(&bytes[body.clone()]));
            assert!(batch::padding_is_good(&head, &bytes[body.end..]));
            at += usize::try_from(head.length()).unwrap();
        }
        assert!(batch::is_blank(&bytes[at..]));
    }
}

#[test]
fn the_golden_halves_read_as_what_was_written() {
    for which in [0, 1] {
        let bytes = read(&names::half("mailer", which));
        let page = header::decode(FileKind::Half, &bytes).unwrap();
        let Fields::Half { snapshot: length, entries: start, .. } = page.header.fields else { panic!() };
        let packed = usize::try_from(snapshot::packed_len(length)).unwrap();
        let packed = &bytes[PAGE..PAGE + packed];

        let data = snapshot::unpack(HALF_SALTS[which], packed, usize::try_from(length).unwrap()).unwrap();
        let mut at = usize::try_from(start).unwrap();
        let mut found = Vec::new();
        while let Some((entry, taken)) = Entry::decode(&bytes[at..], HALF_SALTS[which], at as u64) {
            found.push(entry);
            at += taken;
        }

        assert_eq!((page.wounded, page.superseded), (false, (which == 0).then_some(2)));
        assert_eq!(Snapshot::decode(&data).unwrap(), snapshots()[which]);
        assert_eq!(found, entries(which));
    }
}

#[test]
fn the_example_in_the_format_page_is_what_lies_on_the_disk() {
    let page = include_str!("../../docs/FORMAT.md");
    let hex = page.split("```hex").nth(1).and_then(|rest| rest.split("```").next()).unwrap();

    let example: Vec<u8> = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();

    assert_eq!(example, &read("log/000000001.seg")[PAGE..PAGE + 40]);
}
