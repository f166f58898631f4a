//! Does bad input get one clear line and a code, and change nothing?

use std::fs;
use std::os::unix::fs::FileExt;

use crate::cli::Place;

const COMMANDS: [&[&str]; 5] = [
    &["push", "jobs"],
    &["work", "jobs", "--", "cat"],
    &["stats", "jobs"],
    &["pins", "jobs"],
    &["verify", "jobs"],
];

/// Runs commands that must all fail alike.
fn refused(place: &Place, commands: &[&[&str]], code: i32, says: &str) {
    for args in commands {
        let before = place.everything();
        let done = place.run_with(args, b"x\n");

        assert_eq!((done.code, &done.out[..]), (code, ""), "{args:?} {done:?}");
        assert_eq!(done.err.lines().count(), 1, "{args:?} {done:?}");
        assert!(done.err.contains(says), "{args:?} {done:?}");
        assert!(before == place.everything(), "{args:?}");
    }
}

#[test]
fn no_queue_there() {
    let place = Place::new();

    refused(&place, &COMMANDS[1..], 6, "no queue at jobs: there is no such folder");
}

#[test]
fn a_folder_that_is_empty() {
    let place = Place::new();
    fs::create_dir(place.path("jobs")).unwrap();

    refused(&place, &COMMANDS[1..], 6, "no queue at jobs: the folder has no MANIFEST");
}

#[test]
fn a_file_in_place_of_the_folder() {
    let place = Place::new();
    place.write("jobs", "precious");

    refused(&place, &COMMANDS, 6, "no queue at jobs: it is a file, not a folder");
}

#[test]
fn a_folder_of_someone_else() {
    let place = Place::new();
    fs::create_dir(place.path("jobs")).unwrap();
    place.write("jobs/photo.jpg", "precious");

    refused(&place, &COMMANDS, 6, "no queue at jobs: ");
}

#[test]
fn a_manifest_of_someone_else() {
    let place = Place::new();
    fs::create_dir(place.path("jobs")).unwrap();
    place.write("jobs/MANIFEST", vec![b'x'; 1 << 16]);

    refused(&place, &COMMANDS, 6, "no queue at jobs: there is a file MANIFEST, but ");
}

#[test]
fn a_newer_version() {
    let place = Place::new();
    place.push("a\n");
    let manifest = fs::OpenOptions::new().write(true).open(place.path("jobs/MANIFEST")).unwrap();
    for copy in [0, 2048] {
        newer(&manifest, &place, copy);
    }

    refused(&place, &COMMANDS, 5, "newer version");
}

/// Sets a required feature that nobody knows, and the checksum to match.
fn newer(manifest: &fs::File, place: &Place, copy: usize) {
    let mut header = fs::read(place.path("jobs/MANIFEST")).unwrap()[copy..copy + 512].to_vec();
    header[23] = 0x80;
    let sum = crc32(&header[..508]);
    header[508..].copy_from_slice(&sum.to_le_bytes());
    manifest.write_all_at(&header, copy as u64).unwrap();
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}

#[test]
fn a_segment_that_is_missing() {
    let place = Place::new();
    place.push("a\n");
    fs::rename(place.path("jobs/log/000000001.seg"), place.path("elsewhere")).unwrap();

    refused(&place, &COMMANDS[..2], 4, "000000001.seg is missing");
    let verify = place.run(&["verify", "jobs", "--format", "csv"]);
    let found = verify.out.lines().nth(1);
    assert_eq!((verify.code, found), (1, Some("1,refused,jobs/log/000000001.seg,,,,is missing")));
}

#[test]
fn a_folder_that_cannot_be_written() {
    let place = Place::new();

    let done = place.run_with(&["push", "/proc/jobs"], b"x\n");

    assert_eq!((done.code, done.err.lines().count()), (6, 1), "{done:?}");
    assert!(done.err.starts_with("backlog: cannot "), "{done:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named_before_anything_is_pushed() {
    let place = Place::new();
    place.write("good", "a\n");
    fs::create_dir(place.path("folder")).unwrap();

    refused(&place, &[&["push", "jobs", "good", "missing"]], 6, "cannot read missing: ");
    refused(&place, &[&["push", "jobs", "good", "folder"]], 6, "cannot read folder: ");
}

#[test]
fn a_line_that_is_too_long_is_named_and_those_before_it_stay() {
    let place = Place::new();
    let mut input = b"first\n".to_vec();
    input.resize(6 + (64 << 20) + 1, b'x');
    input.extend_from_slice(b"\nlast\n");
    place.write("input", &input);

    let done = place.run(&["push", "jobs", "input"]);

    assert_eq!((done.code, &done.out[..]), (6, "0..1\n"), "{}", done.err);
    assert!(done.err.starts_with("backlog: input, line 2: a message of 6710886"), "{}", done.err);
    assert_eq!(place.drain(), [b"first"]);
}

#[test]
fn a_command_line_that_cannot_be_meant() {
    let place = Place::new();

    for args in [
        &["push"][..],
        &["work", "jobs"],
        &["work", "jobs", "-j", "0", "--", "cat"],
        &["work", "jobs", "--grace", "soon", "--", "cat"],
        &["stats", "jobs", "--format", "xml"],
        &["nonsense"],
    ] {
        let done = place.run(args);
        assert_eq!((done.code, &done.out[..]), (2, ""), "{args:?} {done:?}");
        assert!(!done.err.is_empty() && !done.err.contains('\x1b'), "{args:?} {done:?}");
    }
    assert!(place.everything().is_empty());
}
