//! Do the rows of a segment stay what they are, whatever becomes of its side file?

use super::*;
use crate::clock::ManualClock;
use crate::engine::Engine;
use crate::error::Error;
use crate::format::batch::Record;
use crate::format::record::{self, Tag};
use crate::options::{Durability, Settings};
use crate::storage::sim::{Fault, SimDisk};

const BEGUN: u64 = 1_700_000_000_000;

fn open(disk: &SimDisk) -> Arc<Engine> {
    let settings = Settings { threads: false, segment_bytes: 8192, ..Settings::default() };
    Engine::open(Arc::new(disk.clone()), Arc::new(ManualClock::new(BEGUN)), settings).unwrap()
}

/// Pushes a message with attributes; returns its offset.
fn push(engine: &Engine, attributes: &[(Tag, &[u8])]) -> Result<u64> {
    let mut list = Vec::new();
    assert!(attributes.iter().all(|(tag, value)| record::put(&mut list, *tag, value)));
    let tags = attributes.iter().fold(0, |tags, (tag, _)| tags | tag.bit());
    let record = Record { attributes: &list, payload: &[7; 100], tags };
    engine.push(&[record], Durability::Synced).map(|offsets| offsets.end() - 1)
}

/// Pushes `count` messages over some segments, every other one with something to remember.
fn fill(engine: &Engine, count: u64) {
    for at in 0..count {
        let key = at.to_le_bytes();
        match at % 4 {
            0 => push(engine, &[(Tag::DedupKey, &key)]),
            1 => push(engine, &[(Tag::Priority, &[9]), (Tag::OrderingKey, &key[..1])]),
            _ => push(engine, &[]),
        }
        .unwrap();
    }
}

fn rows_of(engine: &Engine, segment: &Arc<Segment>) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        let before = rows.len();
        engine.log.rows(segment, before as u64, &mut rows).unwrap();
        if rows.len() == before {
            return rows;
        }
    }
}

/// Reads the rows of all segments, and holds the counts against them.
fn all_rows(engine: &Engine) -> Vec<Row> {
    let mut all = Vec::new();
    for segment in engine.log.set().iter() {
        let rows = rows_of(engine, segment);
        assert_eq!(engine.log.summary(segment).unwrap(), Summary::of(&rows), "segment {}", segment.number);
        for (at, row) in rows.iter().enumerate() {
            assert_eq!(engine.log.first_row(segment, row.offset).unwrap(), at as u64);
            assert_eq!(engine.log.first_row(segment, row.offset + 1).unwrap(), at as u64 + 1);
        }
        all.extend(rows);
    }
    all
}

fn side_files(disk: &SimDisk) -> Vec<String> {
    disk.files().into_iter().filter(|name| name.ends_with(".idx")).collect()
}

/// A queue of several segments, side files written, and its rows.
fn filled() -> (SimDisk, Vec<Row>) {
    let disk = SimDisk::new(1);
    let engine = open(&disk);
    fill(&engine, 200);
    engine.run_duties().unwrap();
    let rows = all_rows(&engine);
    engine.run_duties().unwrap();
    engine.close().unwrap();
    assert!(side_files(&disk).len() > 2, "{:?}", disk.files());
    (disk, rows)
}

#[test]
fn rows_are_there_as_soon_as_their_messages() {
    let disk = SimDisk::new(1);
    let engine = open(&disk);
    let active = engine.log.set()[0].clone();

    assert!(!active.is_indexed());
    let plain = push(&engine, &[(Tag::Priority, &[4])]).unwrap();
    let first = push(&engine, &[(Tag::DedupKey, b"a")]).unwrap();
    let second = push(&engine, &[(Tag::DedupKey, b"b"), (Tag::Priority, &[0])]).unwrap();

    let rows = rows_of(&engine, &active);
    assert_eq!((plain, rows.len()), (0, 2));
    let expected = [
        Row {
            offset: first,
            position: 4096 + 144,
            time: BEGUN,
            dedup: rows[0].dedup,
            priority: 4,
            ..rows[0]
        },
        Row { offset: second, priority: 0, time: BEGUN, ..rows[1] },
    ];
    assert_eq!(rows, expected);
    assert_ne!(rows[0].dedup, rows[1].dedup);
    let counts = engine.log.summary(&active).unwrap();
    assert_eq!((counts.rows, counts.priorities[0], counts.priorities[4]), (2, 1, 1));
}

#[test]
fn each_message_of_a_batch_has_its_own_row() {
    let engine = open(&SimDisk::new(1));
    let mut urgent = Vec::new();
    assert!(record::put(&mut urgent, Tag::Priority, &[8]));
    let plain = Record { attributes: &[], payload: b"x", tags: 0 };
    let record = Record { attributes: &urgent, payload: b"y", tags: Tag::Priority.bit() };

    engine.push(&[plain], Durability::Synced).unwrap();
    engine.push(&[plain, record, plain, record], Durability::Synced).unwrap();

    let rows = all_rows(&engine);
    let expected = [(2, 4136), (4, 4136)];
    assert_eq!(rows.iter().map(|row| (row.offset, row.position)).collect::<Vec<_>>(), expected);
}

#[test]
fn a_push_that_failed_leaves_no_row() {
    let disk = SimDisk::new(1);
    let engine = open(&disk);
    push(&engine, &[(Tag::DedupKey, b"a")]).unwrap();

    disk.fail(disk.ops() + 1, Fault::Full);
    let refused = push(&engine, &[(Tag::DedupKey, b"b")]).unwrap_err();
    let third = push(&engine, &[(Tag::DedupKey, b"c")]).unwrap();

    assert!(refused.is_full(), "{refused}");
    assert_eq!(all_rows(&engine).iter().map(|row| row.offset).collect::<Vec<_>>(), [0, third]);
}

#[test]
fn a_poisoned_queue_shows_the_rows_of_what_is_durable() {
    let disk = SimDisk::new(1);
    let engine = open(&disk);
    push(&engine, &[(Tag::DedupKey, b"a")]).unwrap();
    let mut list = Vec::new();
    assert!(record::put(&mut list, Tag::DedupKey, b"b"));
    let record = Record { attributes: &list, payload: b"", tags: Tag::DedupKey.bit() };
    engine.push(&[record], Durability::Buffered).unwrap();
    assert_eq!(all_rows(&engine).len(), 2);

    disk.break_syncs(true);
    let poisoned = push(&engine, &[(Tag::DedupKey, b"c")]).unwrap_err();

    assert!(matches!(poisoned, Error::Poisoned { .. }), "{poisoned}");
    assert_eq!(all_rows(&engine).iter().map(|row| row.offset).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_queue_without_priorities_and_keys_has_no_side_files_and_reads_nothing_for_them() {
    let disk = SimDisk::new(1);
    let engine = open(&disk);
    for _ in 0..200 {
        push(&engine, &[(Tag::Kind, b"x")]).unwrap();
    }
    engine.run_duties().unwrap();
    engine.close().unwrap();
    let engine = open(&disk);
    let before = (disk.reads(), disk.ops());

    assert_eq!(all_rows(&engine), []);

    assert!(engine.log.set().len() > 2);
    assert_eq!((disk.reads(), disk.ops()), before);
    assert_eq!(side_files(&disk), [""; 0]);
}

#[test]
fn the_next_opening_finds_the_rows_of_the_last_one() {
    let (disk, rows) = filled();
    assert_eq!(rows.len(), 100);

    let engine = open(&disk);

    assert_eq!(all_rows(&engine), rows);
}

#[test]
fn a_side_file_that_is_missing_is_made_anew_with_the_same_bytes() {
    let (disk, rows) = filled();
    let files = side_files(&disk);
    let bytes: Vec<_> = files.iter().map(|name| disk.read_file(name)).collect();
    files.iter().for_each(|name| disk.remove(name).unwrap());

    let found = all_rows(&open(&disk));

    assert_eq!(found, rows);
    assert_eq!(side_files(&disk), files);
    assert_eq!(files.iter().map(|name| disk.read_file(name)).collect::<Vec<_>>(), bytes);
}

#[test]
fn a_side_file_in_which_anything_is_wrong_is_made_anew() {
    let (disk, rows) = filled();
    let files = side_files(&disk);
    let good = disk.read_file(&files[1]).unwrap();
    let mut longer = good.clone();
    longer.extend_from_slice(&[0; 512]);
    let zeros_behind_the_head = [&good[..512], &vec![0; good.len() - 512]].concat();
    let mut last_bit = good.clone();
    *last_bit.last_mut().unwrap() ^= 1;
    let foreign = disk.read_file(&files[2]).unwrap();
    let wrong = [
        Vec::new(),
        vec![0; good.len()],
        vec![0xFF; good.len()],
        good[..good.len() - 1].to_vec(),
        good[..600].to_vec(),
        longer,
        zeros_behind_the_head,
        last_bit,
        foreign,
    ];

    for (at, bytes) in wrong.iter().enumerate() {
        disk.remove(&files[1]).unwrap();
        disk.write_file(&files[1], bytes);
        let engine = open(&disk);
        assert_eq!(all_rows(&engine), rows, "{at}");
        engine.run_duties().unwrap();
        engine.close().unwrap();
        assert_eq!(disk.read_file(&files[1]).unwrap(), good, "{at}");
    }
}

#[test]
fn a_side_file_that_goes_bad_under_an_open_queue_is_made_anew() {
    let (disk, rows) = filled();
    let engine = open(&disk);
    assert_eq!(all_rows(&engine), rows);

    for name in side_files(&disk) {
        disk.flip(&name, 512 * 8 + 3);
    }

    assert_eq!(all_rows(&engine), rows);
}

#[test]
fn rows_are_found_where_no_file_can_be_written() {
    let (disk, rows) = filled();
    side_files(&disk).iter().for_each(|name| disk.remove(name).unwrap());
    let engine = open(&disk);
    disk.budget(Some(0));

    assert_eq!(all_rows(&engine), rows);
    assert_eq!(side_files(&disk), [""; 0]);

    disk.budget(None);
    engine.run_duties().unwrap();
    assert_eq!(all_rows(&engine), rows);
    assert!(!side_files(&disk).is_empty());
}

#[test]
fn sealed_segments_do_not_pile_up_in_memory() {
    let disk = SimDisk::new(1);
    let engine = open(&disk);

    fill(&engine, 200);

    let in_memory = |segment: &&Arc<Segment>| matches!(segment.held().source, Source::Memory { .. });
    assert_eq!(engine.log.set().iter().filter(in_memory).count(), KEPT + 1, "the active one is too");
    assert_eq!(side_files(&disk), [""; 0], "nobody asked");
    assert_eq!(all_rows(&engine).len(), 100);
}

#[test]
fn power_cuts_leave_the_rows_as_they_are() {
    let disk = SimDisk::new(1);
    let engine = open(&disk);
    fill(&engine, 150);
    engine.run_duties().unwrap();
    let rows = all_rows(&engine);

    for seed in 0..40 {
        let left = disk.crash(seed);
        let engine = open(&left);
        assert_eq!(all_rows(&engine), rows, "seed {seed}");
        engine.close().unwrap();
        assert_eq!(all_rows(&open(&left)), rows, "seed {seed}, closed");
    }
}

#[test]
fn side_files_go_with_their_segments_and_strangers_stay() {
    let (disk, rows) = filled();
    let kept = side_files(&disk);
    let bytes = disk.read_file(&kept[0]).unwrap();
    let active = open(&disk).log.set().last().unwrap().number;
    disk.write_file(&names::index(active), &bytes);
    disk.write_file(&names::index(99), &bytes);
    disk.write_file("log/notes.idx", b"mine");

    let engine = open(&disk);

    let mut expected = kept.clone();
    expected.push("log/notes.idx".into());
    assert_eq!(side_files(&disk), expected);
    assert_eq!(all_rows(&engine), rows);
}

#[test]
fn a_damaged_message_has_no_row_and_its_neighbours_have_theirs() {
    let disk = SimDisk::new(1);
    let engine = open(&disk);
    fill(&engine, 8);
    let rows = all_rows(&engine);
    engine.close().unwrap();
    // In the payload of the message at the second row.
    disk.flip(&names::segment(1), (rows[1].position + 100) * 8);

    let found = all_rows(&open(&disk));

    let expected: Vec<Row> = rows.iter().filter(|row| row.offset != rows[1].offset).copied().collect();
    assert_eq!(found, expected);
}

#[test]
fn many_rows_come_by_the_chunk() {
    let disk = SimDisk::new(1);
    let engine = open(&disk);
    let mut list = Vec::new();
    assert!(record::put(&mut list, Tag::Priority, &[1]));
    let record = Record { attributes: &list, payload: b"", tags: Tag::Priority.bit() };
    engine.push(&vec![record; 3 * CHUNK + 7], Durability::Synced).unwrap();
    fill(&engine, 100);
    engine.run_duties().unwrap();
    engine.close().unwrap();

    let engine = open(&disk);
    let first =
        engine.log.set().iter().find(|segment| engine.log.summary(segment).unwrap().rows > 100).cloned();
    let first = first.unwrap();

    assert!(side_files(&disk).contains(&names::index(first.number)), "{:?}", disk.files());
    let mut rows = Vec::new();
    engine.log.rows(&first, 5, &mut rows).unwrap();
    assert!(rows.len() <= CHUNK && rows.len() > CHUNK - SECTOR_ROWS, "{}", rows.len());
    assert_eq!(rows[0].offset, 5);
    for row in [0, 9, 10, CHUNK as u64 - 1, CHUNK as u64, 3 * CHUNK as u64 + 6] {
        assert_eq!(engine.log.first_row(&first, row).unwrap(), row);
    }
}
