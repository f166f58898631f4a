//! Do limits of a process (file size, descriptors) end in clean errors, and is all well when they are
//! lifted?

use std::path::Path;
use std::time::Duration;

use backlog::{Options, Queue};
use std::os::unix::process::ExitStatusExt;

use crate::child::{Said, ledger, run};

/// A shell that ignores SIGXFSZ, for itself and what it becomes.
const DEAF: [&str; 4] = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];
const SIGXFSZ: i32 = 25;

/// Opens a queue that no child has any more.
fn open(folder: &Path) -> Queue {
    Options::new(folder).lock_timeout(Duration::from_secs(10)).open().unwrap()
}

fn notes(said: &[Said]) -> Vec<&str> {
    said.iter()
        .filter_map(|said| if let Said::Note(text) = said { Some(text.as_str()) } else { None })
        .collect()
}

fn failures(said: &[Said]) -> Vec<&str> {
    said.iter()
        .filter_map(|said| if let Said::Failed(.., why) = said { Some(why.as_str()) } else { None })
        .collect()
}

#[test]
fn a_file_size_limit_is_a_full_disk_to_pushes_and_acks_go_on() {
    for kilobytes in [90, 230, 301, 477, 600, 900, 1000, 1023] {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("jobs");

        let (said, status) = run(&DEAF, "file-size", &folder, &(kilobytes << 10).to_string());

        assert!(status.success(), "{kilobytes} KiB: {status}");
        let failures = failures(&said);
        assert_eq!(failures.len(), 3, "{kilobytes} KiB: {failures:?}");
        for why in failures {
            assert!(why.starts_with("Full") || why.starts_with("InDoubt"), "{kilobytes} KiB: {why}");
        }
        let notes = notes(&said);
        assert_eq!(notes, ["limited: 3 failed, 10 acked", "lifted: 0 failed, 10 acked", "closed"]);
        ledger(&said).check(&open(&folder), None).unwrap_or_else(|why| panic!("{kilobytes} KiB: {why}"));
    }
}

#[test]
fn a_file_size_limit_whose_signal_kills_loses_nothing() {
    for kilobytes in [230, 477, 1023] {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("jobs");

        let (said, status) = run(&["env"], "file-size", &folder, &(kilobytes << 10).to_string());

        assert_eq!(status.signal(), Some(SIGXFSZ), "{kilobytes} KiB: {status}");
        let found = ledger(&said).check(&open(&folder), None);
        assert!(found.unwrap_or_else(|why| panic!("{kilobytes} KiB: {why}")).promised >= 20);
    }
}

#[test]
fn without_descriptors_pushes_fail_cleanly_and_go_on_when_there_are_some() {
    for more in 0..8 {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("jobs");

        let (said, status) = run(&["env"], "descriptors", &folder, &more.to_string());

        assert!(status.success(), "{more}: {status}");
        let failures = failures(&said);
        assert!(more > 0 || !failures.is_empty(), "no push has failed");
        for why in failures {
            assert!(why.starts_with("Io") && why.contains("Too many open files"), "{more}: {why}");
        }
        let notes = notes(&said);
        assert_eq!(notes[notes.len() - 2..], ["lifted: 0 failed, 10 acked", "closed"], "{more}: {notes:?}");
        ledger(&said).check(&open(&folder), None).unwrap_or_else(|why| panic!("{more}: {why}"));
    }
}

#[test]
fn an_opening_without_descriptors_says_so_and_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("jobs");
    let (said, _) = run(&["env"], "descriptors", &folder, "60");

    let (opened, status) = run(&["env"], "opening", &folder, "");

    assert!(status.success(), "{status}");
    let notes = notes(&opened);
    let (last, refused) = notes.split_last().unwrap();
    assert!(last.starts_with("opened"), "{notes:?}");
    assert!(refused.len() >= 3, "{notes:?}");
    for why in refused {
        assert!(why.contains("Too many open files"), "{why}");
    }
    ledger(&said).check(&open(&folder), None).unwrap();
}
