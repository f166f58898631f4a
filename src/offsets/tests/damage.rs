//! Is damage named, and never taken for something else?

use super::*;
use crate::format::PAGE_POSITION;
use crate::format::header::{COPIES, SUPERSEDED};

const PROVEN: u64 = 12;
const ALL: u64 = 18;

/// Returns a settled disk with 12 entries known durable behind a snapshot, and 6 that are not, the
/// names of the half that holds and of the other, and the position of the first entry.
fn settled() -> (SimDisk, [String; 2], u64) {
    let disk = new_disk();
    let mut run = Run::open(&disk, 1).unwrap();
    for act in
        [Switch(0, 0, false), Append(3), Sync, Switch(1, 0, false), Append(9), Sync, Mark, Append(6), Sync]
    {
        run.act(act).unwrap();
    }
    assert_eq!((run.appended, run.generation), (ALL, 3));
    let names = [0, 1].map(|half| names::half(NAME, half));
    let start = run.track.unwrap().start();
    (disk.crash(0), names, start)
}

/// Returns what is found with those bits flipped, and that a second opening finds the same.
fn flipped(disk: &SimDisk, name: &str, bits: &[u64]) -> Result<(u64, u64), Error> {
    let left = disk.crash(0);
    for &bit in bits {
        left.flip(name, bit);
    }
    let read = || {
        let loaded = load(&storage(&left), QUEUE, &row(1))?;
        let Ok(count) = count(&loaded.snapshot, &loaded.entries) else {
            panic!("wrong entries with {bits:?} flipped in {name}")
        };
        Ok((count, loaded.torn))
    };
    let first = read();
    let (left_by_first, second) = (bytes(&left), read());
    assert_eq!(format!("{first:?}"), format!("{second:?}"), "{bits:?} in {name}");
    assert_eq!(left_by_first, bytes(&left), "{bits:?} in {name}");
    first
}

/// Tests all bits where something is, and some where nothing is.
fn bits(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let used =
        |bit: u64| bytes[usize::try_from(bit / 512 / 8).unwrap() * 512..][..512].iter().any(|&b| b != 0);
    (0..bytes.len() as u64 * 8).filter(move |&bit| bit.is_multiple_of(331) || used(bit))
}

#[test]
fn every_flipped_bit_of_a_header_page_is_made_good() {
    let (disk, [holds, other], _) = settled();
    for name in [&holds, &other] {
        let page = disk.read_file(name).unwrap();
        for bit in bits(&page[..4096]) {
            assert_eq!(flipped(&disk, name, &[bit]).unwrap(), (ALL, 0), "bit {bit} of {name}");
        }
    }
}

#[test]
fn every_flipped_bit_of_the_snapshot_that_holds_is_damage() {
    let (disk, [holds, other], start) = settled();
    let bytes = disk.read_file(&holds).unwrap();
    let packed =
        bytes[4096..usize::try_from(start).unwrap()].rchunks(512).skip_while(|s| s.iter().all(|&b| b == 0));
    let packed = packed.count() as u64 * 512;
    for bit in PAGE_POSITION * 8..(PAGE_POSITION + packed) * 8 {
        let Err(Error::Damaged { path, position, .. }) = flipped(&disk, &holds, &[bit]) else {
            panic!("bit {bit}")
        };
        assert!(path.ends_with(&holds));
        assert_eq!(position, bit / 8 / 512 * 512);
    }
    for bit in PAGE_POSITION * 8..(PAGE_POSITION + packed) * 8 {
        assert_eq!(flipped(&disk, &other, &[bit]).unwrap(), (ALL, 0), "bit {bit}");
    }
}

#[test]
fn a_flipped_bit_in_an_entry_is_damage_below_the_mark_and_torn_above() {
    let (disk, [holds, _], start) = settled();
    let mut ends = Vec::new();
    let mut at = start;
    for index in 3..ALL {
        if index == PROVEN {
            at += 32;
        }
        ends.push((at, index));
        at += step(index).slots() as u64 * 32;
    }
    for bit in start * 8..at * 8 {
        let hit = ends.iter().rev().find(|&&(from, _)| from <= bit / 8).unwrap().1;
        match flipped(&disk, &holds, &[bit]) {
            Ok((found, torn)) => {
                // The mark itself proves what lies before it, and is lost with its own bits.
                let mark = bit / 8 >= ends[9].0 - 32;
                assert!(mark, "bit {bit}: {found}");
                assert_eq!(found, if bit / 8 < ends[9].0 { PROVEN } else { hit }, "bit {bit}");
                assert!(torn > 0 || hit == ALL - 1);
            }
            Err(Error::Damaged { position, .. }) => {
                assert!(hit < PROVEN, "bit {bit}");
                assert_eq!(position, ends[usize::try_from(hit - 3).unwrap()].0, "bit {bit}");
            }
            Err(error) => panic!("bit {bit}: {error}"),
        }
    }
}

#[test]
fn entries_behind_a_hole_do_not_come_back_when_it_fills() {
    let (disk, [holds, _], start) = settled();
    let left = disk.crash(0);
    // A hole where step 13 begins: steps 14 to 17 lie behind it.
    let bytes = left.read_file(&holds).unwrap();
    let position = (start..).step_by(32).find(|&at| {
        let at = usize::try_from(at).unwrap();
        bytes[at + 4] == Kind::Done as u8 && bytes[at + 8] == 13
    });
    left.flip(&holds, position.unwrap() * 8);
    let mut run = Run::open(&left, 1).unwrap();
    assert_eq!(run.appended, 13);

    // Twice, so that the new entries lie in the half that has the old ones.
    for act in [Switch(1, 0, false), Switch(1, 0, false), Append(1), Sync] {
        run.act(act).unwrap();
    }

    assert_eq!(reopen(&left.crash(0), 1), Ok(14));
}

#[test]
fn both_copies_of_a_header_gone_are_damage() {
    let (disk, [holds, other], _) = settled();
    let copies = COPIES.map(|at| (at as u64 + 70) * 8);

    let found = flipped(&disk, &holds, &copies);

    assert!(matches!(found, Err(Error::Damaged { path, position: 0, .. }) if path.ends_with(&holds)));
    // Of the other half nothing is needed.
    assert_eq!(flipped(&disk, &other, &copies).unwrap(), (ALL, 0));
    assert_eq!(flipped(&disk, &other, &SUPERSEDED.map(|at| at as u64 * 8)).unwrap(), (ALL, 0));
}

#[test]
fn what_the_manifest_knows_is_never_forgotten_for_an_older_half() {
    let (disk, [holds, other], _) = settled();
    // Nothing but the manifest tells that the half which cannot be read was in use.
    for at in COPIES {
        disk.flip(&holds, (at as u64 + 70) * 8);
    }
    for at in SUPERSEDED {
        disk.flip(&other, at as u64 * 8);
    }

    let loaded = load(&storage(&disk), QUEUE, &row(3));

    assert!(matches!(loaded, Err(Error::Damaged { path, .. }) if path.ends_with(&holds)));
}

#[test]
fn a_bad_sector_in_a_header_page_is_told_once() {
    let (disk, [holds, _], _) = settled();
    disk.flip(&holds, 80);

    assert!(look(&storage(&disk), QUEUE, &row(3)).unwrap().wounded);
    assert!(load(&storage(&disk), QUEUE, &row(3)).unwrap().wounded);
    assert!(!load(&storage(&disk), QUEUE, &row(3)).unwrap().wounded);
}

#[test]
fn a_bad_sector_over_the_last_entries_is_damage_where_the_manifest_tells_how_far_they_reach() {
    let (disk, [holds, _], start) = settled();
    let bytes = disk.read_file(&holds).unwrap();
    let entries = usize::try_from(start).unwrap()..bytes.len();
    let end = entries.rev().find(|&at| bytes[at] != 0).unwrap() as u64 / 32 * 32 + 32;
    let told = |generation, mark| GroupRow { mark, ..row(generation) };
    let found = |disk: &SimDisk, row: &GroupRow| {
        load(&storage(&disk.crash(0)), QUEUE, row).map(|loaded| (count_of(&loaded), loaded.end))
    };
    assert_eq!(found(&disk, &told(3, end)).unwrap(), (ALL, end));

    // Everything from there on is zeros, own marks too: a sector as a disk gives it back.
    for from in (start..end).step_by(32) {
        let left = disk.crash(0);
        let mut short = bytes.clone();
        short[usize::try_from(from).unwrap()..].fill(0);
        left.write_file(&holds, &short);

        // Behind half an entry of several slots nothing counts either.
        let Err(Error::Damaged { path, position, .. }) = found(&left, &told(3, end)) else {
            panic!("{from} passes")
        };
        assert!(path.ends_with(&holds) && position <= from && position + 5 * 32 > from, "{position}");
        // Of another generation the manifest says nothing, nor of one whose end it was not told.
        for row in [told(2, end), told(3, 0)] {
            assert_eq!(found(&left, &row).unwrap().1, position, "{from}");
        }
        let looked = look(&storage(&left), QUEUE, &told(3, end));
        assert!(matches!(looked, Err(Error::Damaged { .. })), "{from}");
    }
}

#[test]
fn random_bytes_in_place_of_anything_are_no_panic() {
    let (disk, names, _) = settled();
    let mut seed = 1_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap()
    };
    for _ in 0..2000 {
        let left = disk.crash(0);
        let name = &names[random() % 2];
        let mut bytes = left.read_file(name).unwrap();
        let from = random() % 9000;
        let count = 1 + random() % 3000;
        for byte in &mut bytes[from..from + count] {
            *byte = u8::try_from(random() % 256).unwrap();
        }
        left.write_file(name, &bytes);
        if let Ok(loaded) = load(&storage(&left), QUEUE, &row(1)) {
            let found = count_of(&loaded);
            // The mark may be among what was overwritten; then nothing proves the entries.
            assert!((3..=ALL).contains(&found), "{found} with {from} {count} of {name}");
        }
    }
}

fn count_of(loaded: &Loaded) -> u64 {
    count(&loaded.snapshot, &loaded.entries).unwrap()
}

#[test]
fn a_bad_sector_of_the_snapshot_is_named_by_its_place() {
    let disk = new_disk();
    let mut run = Run::open(&disk, 1).unwrap();
    run.act(Switch(60, 0, false)).unwrap();
    let name = names::half(NAME, 1);
    let bytes = disk.read_file(&name).unwrap();
    let sectors = (4096..bytes.len()).step_by(512);
    let used = sectors.take_while(|&at| bytes[at..at + 512].iter().any(|&byte| byte != 0)).count();
    assert!(used > 8);

    for bad in 0..used {
        let disk = disk.crash(0);
        disk.flip(&name, (4096 + bad as u64 * 512 + 100) * 8);

        let found = load(&storage(&disk), QUEUE, &row(2));

        let Err(Error::Damaged { path, position, .. }) = found else { panic!("{found:?}") };
        assert!(path.ends_with(&name), "{path:?}");
        assert_eq!(position, 4096 + bad as u64 * 512);
    }
}
