//! Does the simulated disk lose what it may, and nothing else?

mod faults;

use std::collections::BTreeSet;
use std::io::ErrorKind;

use super::*;
use crate::storage::{Access, File, Storage, write_all_at};

/// Enough crashes to see each outcome of a few choices.
const CRASHES: u64 = 200;

fn disk() -> SimDisk {
    let disk = SimDisk::new(7);
    disk.make_root().unwrap();
    disk.sync_parent().unwrap();
    disk
}

/// Makes a file whose name and content are durable.
fn durable(disk: &SimDisk, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    disk.write_file(name, bytes);
    disk.open(name, Access::Write).unwrap()
}

/// Returns what a file can hold after a crash.
fn outcomes(disk: &SimDisk, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    let crashed = (0..CRASHES).map(|seed| disk.crash(seed).read_file(name));
    crashed.collect()
}

fn sectors_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.chunks(512).map(|sector| vec![sector[0]; 512]).collect()
}

#[test]
fn what_was_synced_survives_every_crash() {
    let disk = disk();
    let file = disk.create_new("a").unwrap();
    write_all_at(&*file, &[3; 1500], 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir("").unwrap();

    let left = outcomes(&disk, "a");

    assert_eq!(left, BTreeSet::from([Some(vec![3; 1500])]));
}

#[test]
fn each_unsynced_sector_is_kept_or_lost_on_its_own() {
    let disk = disk();
    let file = durable(&disk, "a", &[1; 1024]);
    write_all_at(&*file, &[2; 1024], 0).unwrap();

    let left = outcomes(&disk, "a");

    let found: BTreeSet<_> = left.into_iter().map(|left| sectors_of(&left.unwrap())).collect();
    let sectors = |a: u8, b: u8| vec![vec![a; 512], vec![b; 512]];
    let expected = [sectors(1, 1), sectors(1, 2), sectors(2, 1), sectors(2, 2)];
    assert_eq!(found, BTreeSet::from(expected));
}

#[test]
fn an_unsynced_length_may_stay_without_its_bytes() {
    let disk = disk();
    let file = durable(&disk, "a", b"");
    write_all_at(&*file, &[2; 512], 0).unwrap();

    let left = outcomes(&disk, "a");

    let expected = [vec![], vec![0; 512], vec![2; 512]].map(Some);
    assert_eq!(left, BTreeSet::from(expected));
}

#[test]
fn bytes_behind_a_lost_length_never_come_back() {
    let disk = disk();
    let file = durable(&disk, "a", &[1; 100]);
    write_all_at(&*file, &[2; 900], 100).unwrap();

    for seed in 0..CRASHES {
        let crashed = disk.crash(seed);
        let file = crashed.open("a", Access::Write).unwrap();
        if file.len().unwrap() == 100 {
            file.set_len(1000).unwrap();
            assert_eq!(crashed.read_file("a").unwrap()[100..], [0; 900], "seed {seed}");
        }
    }
}

#[test]
fn a_state_between_two_syncs_may_be_the_one_that_stays() {
    let disk = disk();
    let file = durable(&disk, "a", &[1; 512]);
    write_all_at(&*file, &[2; 512], 0).unwrap();
    write_all_at(&*file, &[3; 512], 0).unwrap();

    let left = outcomes(&disk, "a");

    let expected = [1, 2, 3].map(|byte| Some(vec![byte; 512]));
    assert_eq!(left, BTreeSet::from(expected));
}

#[test]
fn a_name_that_was_not_synced_may_be_lost() {
    let disk = disk();
    let file = disk.create_new("a").unwrap();
    write_all_at(&*file, b"x", 0).unwrap();
    file.sync().unwrap();

    let left = outcomes(&disk, "a");

    assert_eq!(left, BTreeSet::from([None, Some(b"x".to_vec())]));
}

#[test]
fn a_name_may_stay_without_its_content() {
    let disk = disk();
    let file = disk.create_new("a").unwrap();
    write_all_at(&*file, b"x", 0).unwrap();
    disk.sync_dir("").unwrap();

    let left = outcomes(&disk, "a");

    let expected = [vec![], vec![0], b"x".to_vec()].map(Some);
    assert_eq!(left, BTreeSet::from(expected));
}

#[test]
fn an_unsynced_rename_leaves_the_old_state_or_the_new() {
    let disk = disk();
    disk.write_file("a", b"old");
    disk.write_file("b", b"new");
    disk.rename("b", "a").unwrap();

    let crashed = (0..CRASHES).map(|seed| disk.crash(seed));
    let left: BTreeSet<_> = crashed.map(|it| (it.read_file("a"), it.read_file("b"))).collect();

    let old = (Some(b"old".to_vec()), Some(b"new".to_vec()));
    let new = (Some(b"new".to_vec()), None);
    assert_eq!(left, BTreeSet::from([old, new]));
}

#[test]
fn a_removed_file_may_come_back_until_its_folder_is_synced() {
    let disk = disk();
    disk.write_file("a", b"x");
    disk.remove("a").unwrap();

    let before = outcomes(&disk, "a");
    disk.sync_dir("").unwrap();
    let after = outcomes(&disk, "a");

    assert_eq!(before, BTreeSet::from([None, Some(b"x".to_vec())]));
    assert_eq!(after, BTreeSet::from([None]));
}

#[test]
fn a_lost_folder_takes_all_that_was_synced_in_it() {
    let disk = disk();
    disk.make_dir("log").unwrap();
    disk.create_new("log/a").unwrap().sync().unwrap();
    disk.sync_dir("log").unwrap();

    let lost = disk.crash(0);

    assert_eq!(lost.list("").unwrap(), []);
    disk.sync_dir("").unwrap();
    assert_eq!(outcomes(&disk, "log/a"), BTreeSet::from([Some(vec![])]));
}

#[test]
fn a_root_that_was_not_synced_in_its_parent_may_be_lost() {
    let disk = SimDisk::new(1);
    disk.make_root().unwrap();
    disk.sync_dir("").unwrap();

    let lost = disk.crash(0).list("").unwrap_err();

    assert_eq!(lost.kind(), ErrorKind::NotFound);
    assert_eq!(disk.crash(1).list("").unwrap(), []);
}

#[test]
fn the_same_seed_gives_the_same_crash() {
    let disk = disk();
    let file = disk.create_new("a").unwrap();
    for position in 0..40 {
        write_all_at(&*file, &[position; 512], u64::from(position) * 512).unwrap();
    }

    let twice = |seed| [disk.crash(seed), disk.crash(seed)].map(|left| left.read_file("a"));

    for seed in 0..CRASHES {
        let [first, second] = twice(seed);
        assert_eq!(first, second, "seed {seed}");
    }
    assert!(outcomes(&disk, "a").len() > 20, "seeds make a difference");
}

#[test]
fn a_crashed_disk_and_its_origin_do_not_touch_each_other() {
    let disk = disk();
    let file = durable(&disk, "a", b"one");
    let crashed = disk.crash(1);

    write_all_at(&*file, b"two", 0).unwrap();
    crashed.flip("a", 0);

    assert_eq!(crashed.read_file("a").unwrap(), b"nne");
    assert_eq!(disk.read_file("a").unwrap(), b"two");
}

#[test]
fn a_store_is_lost_in_a_crash_until_it_is_synced() {
    let disk = disk();
    let file = durable(&disk, "a", &[0; 4096]);
    let mut mapping = file.map(0..4096).unwrap().unwrap();

    mapping.store(600, b"x");

    assert_eq!(disk.kill().crash(0).read_file("a").unwrap()[600], 0);
}

#[test]
fn a_synced_store_survives() {
    let disk = disk();
    let file = durable(&disk, "a", &[0; 4096]);
    let mut mapping = file.map(0..4096).unwrap().unwrap();

    mapping.store(600, b"x");
    file.sync().unwrap();

    assert_eq!(disk.crash(0).read_file("a").unwrap()[600], b'x');
}

#[test]
fn a_disk_without_mappings_stays_one() {
    let disk = disk();
    disk.write_file("a", &[0; 4096]);
    disk.no_mappings(true);

    let next = disk.crash(0);

    let file = next.open("a", Access::Write).unwrap();
    assert!(file.map(0..4096).unwrap().is_none());
}

#[test]
fn what_was_never_written_is_not_to_be_mapped() {
    let disk = disk();
    let file = disk.create_new("a").unwrap();
    file.set_len(4096).unwrap();

    let error = file.map(0..4096).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_folder_sync_that_is_ignored_loses_names() {
    let disk = disk();
    disk.ignore_dir_syncs(true);
    disk.create_new("a").unwrap();

    disk.sync_dir("").unwrap();

    assert_eq!(disk.crash(0).read_file("a"), None);
}

#[test]
fn helpers_are_durable_at_once_and_count_as_nothing() {
    let disk = SimDisk::new(1);

    disk.write_file("log/1.seg", b"a");
    disk.write_file("MANIFEST", b"b");
    disk.write_file("gone", b"c");
    disk.remove_file("gone");
    disk.flip("log/1.seg", 1);

    let left = disk.crash(0);
    assert_eq!((disk.ops(), disk.reads()), (0, 0));
    assert_eq!(left.files(), ["MANIFEST", "log/1.seg"]);
    assert_eq!(left.read_file("log/1.seg").unwrap(), b"c");
    assert_eq!(left.used(), 1024);
}

#[test]
fn a_thousand_crashes_of_zeroed_megabytes_are_cheap() {
    let disk = disk();
    for name in ["a", "b", "c", "d"] {
        let file = disk.create_new(name).unwrap();
        write_all_at(&*file, &vec![0; 1 << 20], 0).unwrap();
        write_all_at(&*file, &vec![1; 64 << 10], 4096).unwrap();
        file.sync().unwrap();
        write_all_at(&*file, &[2; 2048], 4096).unwrap();
    }
    disk.sync_dir("").unwrap();

    // No time is measured: a copy of every megabyte would take minutes, and be noticed.
    for seed in 0..1000 {
        let left = disk.crash(seed);
        let file = left.open("a", Access::Write).unwrap();
        write_all_at(&*file, &vec![0; 1 << 20], 0).unwrap();
        file.sync().unwrap();
        assert_eq!(left.used(), 4 << 20);
    }
}

#[test]
fn two_unsynced_renames_never_leave_a_file_two_names() {
    let disk = disk();
    disk.write_file("a", b"x");
    disk.rename("a", "b").unwrap();
    disk.rename("b", "c").unwrap();

    let left: BTreeSet<_> = (0..CRASHES).map(|seed| disk.crash(seed).files()).collect();

    let expected = ["a", "b", "c"].map(|name| vec![name.to_owned()]);
    assert_eq!(left, BTreeSet::from(expected));
}
