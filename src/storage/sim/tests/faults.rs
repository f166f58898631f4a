//! Does the simulated disk fail as it is told to, and only then?

use super::*;

#[test]
fn a_killed_process_loses_its_handles_and_locks_and_no_bytes() {
    let disk = disk();
    let lock = disk.lock("LOCK").unwrap();
    let file = durable(&disk, "a", b"one");
    write_all_at(&*file, b"two", 0).unwrap();

    let next = disk.kill();

    assert!(file.read_at(&mut [0], 0).is_err());
    assert!(file.sync().is_err());
    assert!(disk.open("a", Access::Read).is_err());
    assert!(next.lock("LOCK").unwrap().is_some());
    assert_eq!(next.read_file("a").unwrap(), b"two");
    assert_eq!(next.crash(0).read_file("a").unwrap(), b"one");
    drop(lock);
}

#[test]
fn a_stopped_disk_fails_everything_and_loses_nothing_before_it() {
    let disk = disk();
    let file = durable(&disk, "a", &[0; 4096]);
    let mut mapping = file.map(0..4096).unwrap().unwrap();
    disk.stop_after(disk.ops() + 2);

    mapping.store(0, b"1");
    file.write_at(b"2", 1).unwrap();
    mapping.store(2, b"3");

    assert_eq!(file.write_at(b"3", 2).unwrap_err().to_string(), "the disk stopped");
    assert!(file.sync().is_err());
    assert!(file.read_at(&mut [0], 0).is_err());
    assert!(disk.list("").is_err());
    assert_eq!(disk.kill().read_file("a").unwrap()[..4], *b"12\0\0");
}

#[test]
fn a_lost_sync_shows_new_bytes_until_the_cache_is_dropped() {
    let disk = disk();
    let file = durable(&disk, "a", b"old");
    write_all_at(&*file, b"new", 0).unwrap();
    disk.fail(disk.ops() + 1, Fault::SyncLost);

    assert!(file.sync().is_err());

    file.sync().unwrap();
    assert_eq!(disk.read_file("a").unwrap(), b"new");
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from([Some(b"old".to_vec())]));
    file.drop_cache().unwrap();
    assert_eq!(disk.read_file("a").unwrap(), b"old");
}

#[test]
fn a_lost_sync_is_still_seen_by_the_next_process() {
    let disk = disk();
    let file = durable(&disk, "a", b"old");
    write_all_at(&*file, b"new", 0).unwrap();
    disk.break_syncs(true);
    assert!(file.sync().is_err());

    let next = disk.kill();

    assert_eq!(next.read_file("a").unwrap(), b"new");
    let file = next.open("a", Access::Write).unwrap();
    file.sync().unwrap();
    file.drop_cache().unwrap();
    assert_eq!(next.read_file("a").unwrap(), b"old");
}

#[test]
fn a_failed_sync_of_a_folder_leaves_its_names_to_the_next() {
    let disk = disk();
    disk.create_new("a").unwrap();
    disk.fail(disk.ops() + 1, Fault::SyncLost);
    assert!(disk.sync_dir("").is_err());

    disk.sync_dir("").unwrap();

    assert!(!outcomes(&disk, "a").contains(&None));
}

#[test]
fn a_write_over_written_blocks_needs_no_room() {
    let disk = disk();
    let file = durable(&disk, "a", &[1; 1024]);
    disk.budget(Some(0));

    write_all_at(&*file, &[2; 1024], 0).unwrap();

    assert_eq!(file.write_at(b"x", 1024).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.allocate(1025).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(disk.create_new("b").unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 1024);
}

#[test]
fn a_write_takes_what_room_there_is() {
    let disk = disk();
    let file = durable(&disk, "a", b"");
    disk.budget(Some(1024));

    assert_eq!(file.write_at(&[1; 2000], 100).unwrap(), 924);

    assert_eq!(file.write_at(&[1; 1], 1024).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(disk.used(), 1024);
}

#[test]
fn a_removed_file_gives_its_room_back_with_its_last_handle() {
    let disk = disk();
    disk.budget(Some(1024));
    let file = disk.create_new("a").unwrap();
    write_all_at(&*file, &[1; 1024], 0).unwrap();

    disk.remove("a").unwrap();
    assert_eq!(disk.used(), 1024);
    assert!(disk.create_new("b").is_err());
    drop(file);

    assert_eq!(disk.used(), 0);
    let file = disk.create_new("b").unwrap();
    write_all_at(&*file, &[1; 1024], 0).unwrap();
}

#[test]
fn room_that_is_missing_can_show_at_the_sync() {
    let disk = disk();
    let file = durable(&disk, "a", &[1; 512]);
    disk.budget(Some(0));
    disk.full_at_sync(true);

    write_all_at(&*file, &[2; 512], 512).unwrap();

    assert_eq!(file.sync().unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(disk.crash(1).read_file("a").unwrap(), [1; 512]);
}

#[test]
fn a_short_write_is_followed_by_a_full_disk() {
    let disk = disk();
    let file = durable(&disk, "a", b"");
    disk.fail(disk.ops() + 1, Fault::Short);

    assert_eq!(file.write_at(b"12345", 0).unwrap(), 2);

    assert_eq!(file.write_at(b"345", 2).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.write_at(b"345", 2).unwrap(), 3);
    assert_eq!(disk.read_file("a").unwrap(), b"12345");
}

#[test]
fn a_fault_hits_the_operation_of_its_number_alone() {
    let disk = disk();
    let file = durable(&disk, "a", b"x");
    disk.fail(disk.ops() + 2, Fault::Full);
    disk.fail_reads(disk.reads() + 1, Fault::ReadIo);

    file.write_at(b"1", 0).unwrap();

    assert_eq!(file.write_at(b"2", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_at(b"3", 0).unwrap();
    assert!(file.read_at(&mut [0], 0).is_err());
    assert_eq!(file.read_at(&mut [0], 0).unwrap(), 1);
}

#[test]
fn a_length_that_a_failed_sync_gave_up_is_not_synced_later() {
    let disk = disk();
    let file = durable(&disk, "a", &[1; 512]);
    write_all_at(&*file, &[2; 512], 512).unwrap();
    disk.fail(disk.ops() + 1, Fault::SyncLost);
    assert!(file.sync().is_err());

    write_all_at(&*file, &[3; 512], 0).unwrap();
    file.sync().unwrap();

    let left = outcomes(&disk, "a");
    assert_eq!(left, BTreeSet::from([Some(vec![3; 512])]));
    assert_eq!(file.len().unwrap(), 1024);
}

#[test]
fn a_cut_file_gives_its_room_back() {
    let disk = disk();
    disk.budget(Some(1024));
    let file = disk.create_new("a").unwrap();
    file.allocate(1024).unwrap();

    file.set_len(512).unwrap();

    assert_eq!(disk.used(), 512);
    assert_eq!(disk.create_new("b").unwrap().write_at(&[1; 1024], 0).unwrap(), 512);
}
