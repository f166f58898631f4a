//! Do both disks keep the contract?
//!
//! Each rule is written once, and runs on the real and on the simulated disk.

use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::disk::Disk;
use super::sim::SimDisk;
use super::*;

/// Runs a rule on a folder of either kind, made and empty.
macro_rules! on_both_disks {
    ($($rule:ident),* $(,)?) => {
        mod real {
            $(#[test]
            fn $rule() {
                let home = tempfile::tempdir().unwrap();
                let disk = super::Disk::new(&home.path().join("jobs"));
                super::Storage::make_root(&disk).unwrap();
                super::$rule(&disk);
            })*
        }
        mod simulated {
            $(#[test]
            fn $rule() {
                let disk = super::SimDisk::new(1);
                super::Storage::make_root(&disk).unwrap();
                super::$rule(&disk);
            })*
        }
    };
}

on_both_disks![
    a_lock_excludes_until_it_is_dropped,
    a_lock_whose_file_was_removed_excludes_all_the_same,
    a_folder_with_something_in_it_is_not_removed,
    a_file_that_is_held_is_seen_and_not_removed_until_its_holder_ends,
    a_name_that_is_taken_is_not_held_again,
    a_mapped_store_is_read_back_before_and_after_a_sync,
    a_name_that_is_missing_is_not_found,
    a_name_that_is_taken_is_not_made_again,
    a_read_beyond_the_end_is_short,
    a_removed_file_cannot_be_made_durable,
    a_removed_file_lives_on_in_its_handles,
    a_rename_replaces_what_had_the_name,
    a_range_that_ends_behind_the_file_is_not_mapped,
    a_write_beyond_the_end_leaves_zeros_between,
    allocating_grows_and_never_shrinks,
    cutting_and_growing_again_brings_zeros,
    dropping_the_cache_spares_what_is_not_synced,
    listing_is_sorted_and_tells_kinds_and_lengths,
    making_the_root_twice_changes_nothing,
    random_numbers_differ,
    the_note_of_a_lock_replaces_the_one_before,
    what_is_no_file_is_not_opened,
    what_is_opened_for_looking_cannot_be_written,
    what_is_opened_for_looking_is_not_mapped,
];

fn file_of(disk: &dyn Storage, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.create_new(name).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
    file
}

fn content(disk: &dyn Storage, name: &str) -> Vec<u8> {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    bytes
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.kind(),
    }
}

fn a_lock_excludes_until_it_is_dropped(disk: &dyn Storage) {
    let held = disk.lock("LOCK").unwrap();

    let second = disk.lock("LOCK").unwrap();

    assert!(held.is_some());
    assert!(second.is_none());
    drop(held);
    assert!(disk.lock("LOCK").unwrap().is_some());
}

fn a_lock_whose_file_was_removed_excludes_all_the_same(disk: &dyn Storage) {
    let held = disk.lock("LOCK").unwrap().unwrap();
    disk.remove("LOCK").unwrap();

    assert!(disk.lock("LOCK").unwrap().is_none());

    drop(held);
    assert!(disk.lock("LOCK").unwrap().is_some());
}

fn a_file_that_is_held_is_seen_and_not_removed_until_its_holder_ends(disk: &dyn Storage) {
    disk.make_dir("holders").unwrap();
    assert!(!disk.is_held("holders/1").unwrap(), "there is none");
    let held = disk.hold("holders/1").unwrap().unwrap();
    held.note("pid 7").unwrap();

    assert!(disk.is_held("holders/1").unwrap() && !disk.is_held("holders/2").unwrap());
    assert!(disk.is_held("holders/1").unwrap(), "looking changes nothing");
    assert!(!disk.remove_unheld("holders/1").unwrap());
    assert_eq!(content(disk, "holders/1"), b"pid 7");
    assert!(disk.lock("LOCK").unwrap().is_some(), "the queue's lock is another");
    drop(held);

    assert!(!disk.is_held("holders/1").unwrap());
    assert!(disk.remove_unheld("holders/1").unwrap() && disk.remove_unheld("holders/1").unwrap());
    assert_eq!(kind(disk.open("holders/1", Access::Read)), ErrorKind::NotFound);
}

fn a_name_that_is_taken_is_not_held_again(disk: &dyn Storage) {
    file_of(disk, "a", b"mine");

    assert!(disk.hold("a").unwrap().is_none());
    let held = disk.hold("b").unwrap();
    assert!(disk.hold("b").unwrap().is_none());
    drop(held);
    assert!(disk.hold("b").unwrap().is_none(), "left over, until it is removed");
    assert_eq!(content(disk, "a"), b"mine");
}

fn the_note_of_a_lock_replaces_the_one_before(disk: &dyn Storage) {
    let lock = disk.lock("LOCK").unwrap().unwrap();

    lock.note("a long text").unwrap();
    lock.note("pid 7").unwrap();

    assert_eq!(content(disk, "LOCK"), b"pid 7");
}

fn a_folder_with_something_in_it_is_not_removed(disk: &dyn Storage) {
    disk.make_dir("log").unwrap();
    disk.create_new("log/a").unwrap();

    assert_eq!(kind(disk.remove_dir("log")), ErrorKind::DirectoryNotEmpty);
    disk.remove("log/a").unwrap();
    disk.remove_dir("log").unwrap();

    assert_eq!(disk.list("").unwrap(), []);
}

fn a_mapped_store_is_read_back_before_and_after_a_sync(disk: &dyn Storage) {
    let file = file_of(disk, "half", &[0; 3 * 4096]);
    file.sync().unwrap();
    // Only some file systems of the real disk can do it; there is nothing to test on the others.
    let Some(mut mapping) = file.map(4096..3 * 4096).unwrap() else {
        return;
    };
    let mut bytes = [0; 6];

    mapping.store(4094, b"across");

    read_exact_at(&*file, &mut bytes, 8190).unwrap();
    assert_eq!(&bytes, b"across");
    file.sync().unwrap();
    file.drop_cache().unwrap();
    read_exact_at(&*file, &mut bytes, 8190).unwrap();
    assert_eq!(&bytes, b"across");
}

fn a_range_that_ends_behind_the_file_is_not_mapped(disk: &dyn Storage) {
    let file = file_of(disk, "half", &[0; 4096]);

    let mapping = file.map(0..8192).unwrap();

    assert!(mapping.is_none());
    assert_eq!(kind(file.map(512..4096)), ErrorKind::InvalidInput);
}

fn what_is_opened_for_looking_is_not_mapped(disk: &dyn Storage) {
    file_of(disk, "half", &[0; 4096]);
    let file = disk.open("half", Access::Read).unwrap();

    let mapping = file.map(0..4096).unwrap();

    assert!(mapping.is_none());
}

fn a_name_that_is_missing_is_not_found(disk: &dyn Storage) {
    assert_eq!(kind(disk.open("a", Access::Read)), ErrorKind::NotFound);
    assert_eq!(kind(disk.open("a", Access::Write)), ErrorKind::NotFound);
    assert_eq!(kind(disk.remove("a")), ErrorKind::NotFound);
    assert_eq!(kind(disk.rename("a", "b")), ErrorKind::NotFound);
    assert_eq!(kind(disk.list("log")), ErrorKind::NotFound);
    assert_eq!(kind(disk.sync_dir("log")), ErrorKind::NotFound);
    assert_eq!(kind(disk.remove_dir("log")), ErrorKind::NotFound);
    assert_eq!(kind(disk.create_new("log/a")), ErrorKind::NotFound);
}

fn a_name_that_is_taken_is_not_made_again(disk: &dyn Storage) {
    file_of(disk, "a", b"first");
    disk.make_dir("log").unwrap();

    assert_eq!(kind(disk.create_new("a")), ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.create_new("log")), ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.make_dir("a")), ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.make_dir("log")), ErrorKind::AlreadyExists);
    assert_eq!(content(disk, "a"), b"first");
}

fn what_is_no_file_is_not_opened(disk: &dyn Storage) {
    disk.make_dir("log").unwrap();
    file_of(disk, "a", b"");

    assert_eq!(kind(disk.open("log", Access::Read)), ErrorKind::IsADirectory);
    assert_eq!(kind(disk.open("log", Access::Write)), ErrorKind::IsADirectory);
    assert_eq!(kind(disk.remove("log")), ErrorKind::IsADirectory);
    assert_eq!(kind(disk.list("a")), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.remove_dir("a")), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.open("a/b", Access::Read)), ErrorKind::NotADirectory);
}

fn a_read_beyond_the_end_is_short(disk: &dyn Storage) {
    let file = file_of(disk, "a", b"12345");
    let mut buffer = [9; 4];

    assert_eq!(file.read_at(&mut buffer, 3).unwrap(), 2);

    assert_eq!(&buffer, &[b'4', b'5', 9, 9]);
    assert_eq!(file.read_at(&mut buffer, 5).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
}

fn a_removed_file_lives_on_in_its_handles(disk: &dyn Storage) {
    let file = file_of(disk, "a", b"old");

    disk.remove("a").unwrap();
    file_of(disk, "a", b"new");
    disk.sync_dir("").unwrap();

    let mut bytes = [0; 3];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"old");
    assert_eq!(content(disk, "a"), b"new");
}

fn a_removed_file_cannot_be_made_durable(disk: &dyn Storage) {
    let (removed, replaced) = (file_of(disk, "a", b"old"), file_of(disk, "b", b"old"));
    let renamed = file_of(disk, "c", b"new");
    removed.sync().unwrap();

    disk.remove("a").unwrap();
    disk.rename("c", "b").unwrap();

    assert_eq!(kind(removed.sync()), ErrorKind::NotFound);
    assert_eq!(kind(replaced.sync()), ErrorKind::NotFound);
    renamed.sync().unwrap();
}

fn a_rename_replaces_what_had_the_name(disk: &dyn Storage) {
    file_of(disk, "MANIFEST", b"old");
    file_of(disk, "MANIFEST.tmp", b"new");

    disk.rename("MANIFEST.tmp", "MANIFEST").unwrap();

    assert_eq!(content(disk, "MANIFEST"), b"new");
    assert_eq!(disk.list("").unwrap().len(), 1);
}

fn a_write_beyond_the_end_leaves_zeros_between(disk: &dyn Storage) {
    let file = file_of(disk, "a", b"ab");

    write_all_at(&*file, b"cd", 1000).unwrap();

    let mut expected = vec![0; 1002];
    expected[..2].copy_from_slice(b"ab");
    expected[1000..].copy_from_slice(b"cd");
    assert_eq!(content(disk, "a"), expected);
}

fn allocating_grows_and_never_shrinks(disk: &dyn Storage) {
    let file = file_of(disk, "a", b"ab");

    file.allocate(5000).unwrap();
    assert_eq!(file.len().unwrap(), 5000);
    file.allocate(100).unwrap();
    file.allocate(0).unwrap();

    assert_eq!(file.len().unwrap(), 5000);
    assert_eq!(content(disk, "a")[..4], *b"ab\0\0");
}

fn cutting_and_growing_again_brings_zeros(disk: &dyn Storage) {
    let file = file_of(disk, "a", &[7; 2000]);
    file.sync().unwrap();

    file.set_len(700).unwrap();
    file.set_len(2000).unwrap();

    let mut expected = vec![7; 700];
    expected.resize(2000, 0);
    assert_eq!(content(disk, "a"), expected);
    file.sync().unwrap();
    file.drop_cache().unwrap();
    assert_eq!(content(disk, "a"), expected);
}

fn dropping_the_cache_spares_what_is_not_synced(disk: &dyn Storage) {
    let file = file_of(disk, "a", &[1; 9000]);
    file.sync().unwrap();
    write_all_at(&*file, &[2; 600], 100).unwrap();

    file.drop_cache().unwrap();

    let mut expected = vec![1; 9000];
    expected[100..700].fill(2);
    assert_eq!(content(disk, "a"), expected);
}

fn listing_is_sorted_and_tells_kinds_and_lengths(disk: &dyn Storage) {
    disk.make_dir("groups").unwrap();
    disk.make_dir("groups/mailer").unwrap();
    file_of(disk, "groups/b", b"12");
    file_of(disk, "groups/a", b"1");

    let entries = disk.list("groups").unwrap();

    let entry = |name: &str, kind, len| Entry { name: name.to_owned(), kind, len, linked: false };
    let expected = [entry("a", Kind::File, 1), entry("b", Kind::File, 2), entry("mailer", Kind::Folder, 0)];
    assert_eq!(entries, expected);
}

fn making_the_root_twice_changes_nothing(disk: &dyn Storage) {
    file_of(disk, "a", b"1");

    disk.make_root().unwrap();
    disk.sync_parent().unwrap();

    assert_eq!(content(disk, "a"), b"1");
}

fn random_numbers_differ(disk: &dyn Storage) {
    assert_ne!(disk.random().unwrap(), disk.random().unwrap());
}

fn what_is_opened_for_looking_cannot_be_written(disk: &dyn Storage) {
    file_of(disk, "a", b"1");

    let file = disk.open("a", Access::Read).unwrap();

    assert!(file.write_at(b"2", 0).is_err());
    assert!(file.set_len(0).is_err());
    assert_eq!(content(disk, "a"), b"1");
}

fn real() -> (tempfile::TempDir, Disk) {
    let home = tempfile::tempdir().unwrap();
    let disk = Disk::new(home.path());
    (home, disk)
}

#[test]
fn a_link_is_listed_and_never_followed() {
    let (home, disk) = real();
    std::fs::write(home.path().join("target"), b"x").unwrap();
    std::fs::create_dir(home.path().join("folder")).unwrap();
    symlink("target", home.path().join("link")).unwrap();
    symlink("folder", home.path().join("link-to-folder")).unwrap();

    let entries = disk.list("").unwrap();

    let kinds: Vec<_> = entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [Kind::Folder, Kind::Other, Kind::Other, Kind::File]);
    assert_eq!(kind(disk.open("link", Access::Read)), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.open("link", Access::Write)), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.lock("link")), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.create_new("link")), ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.list("link-to-folder")), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.sync_dir("link-to-folder")), ErrorKind::NotADirectory);
}

#[test]
fn no_part_of_a_name_is_a_link() {
    let (home, disk) = real();
    let elsewhere = tempfile::tempdir().unwrap();
    disk.make_dir("groups").unwrap();
    symlink(elsewhere.path(), home.path().join("log")).unwrap();
    symlink(elsewhere.path(), home.path().join("groups/g")).unwrap();
    std::fs::write(elsewhere.path().join("a"), b"x").unwrap();

    for folder in ["log", "groups/g"] {
        let name = format!("{folder}/a");
        assert_eq!(kind(disk.open(&name, Access::Read)), ErrorKind::NotADirectory);
        assert_eq!(kind(disk.open(&name, Access::Write)), ErrorKind::NotADirectory);
        assert_eq!(kind(disk.create_new(&format!("{folder}/b"))), ErrorKind::NotADirectory);
        assert_eq!(kind(disk.make_dir(&format!("{folder}/b"))), ErrorKind::NotADirectory);
        assert_eq!(kind(disk.rename(&name, &format!("{folder}/b"))), ErrorKind::NotADirectory);
        assert_eq!(kind(disk.remove(&name)), ErrorKind::NotADirectory);
        assert_eq!(kind(disk.remove_dir(folder)), ErrorKind::NotADirectory);
    }

    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[test]
fn a_file_with_a_second_name_is_read_and_not_written() {
    let (home, disk) = real();
    file_of(&disk, "a", b"x");
    std::fs::hard_link(home.path().join("a"), home.path().join("b")).unwrap();

    assert_eq!(content(&disk, "b"), b"x");
    assert!(disk.list("").unwrap().iter().all(|entry| entry.linked));
    assert_eq!(kind(disk.open("b", Access::Write)), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.lock("b")), ErrorKind::InvalidInput);
    std::fs::remove_file(home.path().join("a")).unwrap();
    disk.open("b", Access::Write).unwrap();
}

#[test]
fn a_folder_that_was_moved_is_the_same_folder() {
    let home = tempfile::tempdir().unwrap();
    let disk = Disk::new(&home.path().join("jobs"));
    disk.make_root().unwrap();
    let file = file_of(&disk, "a", b"x");

    std::fs::rename(home.path().join("jobs"), home.path().join("moved")).unwrap();
    std::fs::create_dir(home.path().join("jobs")).unwrap();

    file.sync().unwrap();
    file_of(&disk, "b", b"y");
    assert_eq!(std::fs::read(home.path().join("moved/b")).unwrap(), b"y");
    assert_eq!(std::fs::read_dir(home.path().join("jobs")).unwrap().count(), 0);
}

#[test]
fn a_fifo_or_a_socket_in_place_of_a_file_is_refused_at_once() {
    let (home, disk) = real();
    let fifo = home.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let socket = std::os::unix::net::UnixListener::bind(home.path().join("socket"));

    for name in ["fifo", "socket"] {
        assert_eq!(kind(disk.open(name, Access::Read)), ErrorKind::InvalidInput);
        assert_eq!(kind(disk.open(name, Access::Write)), ErrorKind::InvalidInput);
        assert_eq!(kind(disk.lock(name)), ErrorKind::InvalidInput);
    }

    drop(socket);
}

#[test]
fn files_and_folders_belong_to_their_owner_alone() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("over/there");
    let disk = Disk::new(&root);

    disk.make_root().unwrap();
    disk.make_dir("log").unwrap();
    disk.create_new("log/a").unwrap();
    drop(disk.lock("LOCK").unwrap());

    let mode = |name: &str| {
        let found = std::fs::metadata(root.join(name)).unwrap();
        found.permissions().mode() & 0o777
    };
    assert_eq!([mode(""), mode("log")], [0o700; 2]);
    assert_eq!([mode("log/a"), mode("LOCK")], [0o600; 2]);
}

#[test]
fn a_file_in_place_of_the_root_is_no_folder() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("jobs"), b"x").unwrap();

    let made = Disk::new(&home.path().join("jobs")).make_root();

    assert_eq!(kind(made), ErrorKind::NotADirectory);
    let below = Disk::new(&home.path().join("jobs/deep")).make_root();
    assert_eq!(kind(below), ErrorKind::NotADirectory);
}

#[test]
fn the_parent_of_a_relative_root_is_synced() {
    // Cargo runs tests in the package's folder: "src" stands for a queue named without a path.
    Disk::new(Path::new("src")).sync_parent().unwrap();
}

#[test]
fn the_text_of_a_lock_survives_those_who_try_in_vain() {
    let (_home, disk) = real();
    let lock = disk.lock("LOCK").unwrap().unwrap();
    lock.note("pid 7").unwrap();

    assert!(disk.lock("LOCK").unwrap().is_none());

    assert_eq!(content(&disk, "LOCK"), b"pid 7");
}
