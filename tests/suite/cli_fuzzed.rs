//! Does every command end, soon and in little memory, whatever the files say?
//!
//! A queue's files are changed by dice: bits, numbers that no number should be, other lengths, other files in their
//! place, checksums made right over all that. Then each command is run on a copy, as a process that is killed
//! by the system if it takes more memory, and by the test if it takes longer. `BACKLOG_TIMES=10` throws ten times as often.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backlog::testing::bytes::forge;

use crate::cli::Place;
use crate::dice::{Dice, times};

/// Address space of a command, in KiB: programs and threads take half of it before they do anything.
const MEMORY: u64 = 1_500_000;
/// Seconds that a command has; on files that are sound none takes one.
const SECONDS: u64 = 30;
const FOLDERS: u64 = 6;

/// Every command that reads files of a queue; each ends by itself.
const COMMANDS: [&str; 31] = [
    "info jobs",
    "stats jobs",
    "segments jobs",
    "ls jobs --payload utf8",
    "ls jobs --state ready,done --group default --since 1h",
    "peek jobs -n 5",
    "get jobs 3",
    "tail jobs -n 5",
    "group ls jobs",
    "why jobs 1",
    "why jobs 281474976710655",
    "pins jobs",
    "dump jobs --hex",
    "check jobs --max-lag 1 --max-age 1h",
    "verify jobs --deep",
    "salvage jobs --out saved",
    "dead jobs --payload base64",
    "export jobs --all",
    "push jobs line",
    "recv jobs --ack",
    "work jobs -n 2 --until-empty -- true",
    "seek jobs beginning",
    "purge jobs",
    "compact jobs",
    "backup jobs copy",
    "group add jobs fresh",
    "undelete jobs 0 1 2",
    "undelete jobs --since 1h",
    "repair jobs",
    "repair jobs --apply --allow-loss",
    "quarantine ls jobs",
];

fn sound() -> Place {
    let place = Place::new();
    place.write("line", "line\n");
    for line in ["done", "fail", "bad", "next", "more", "last"] {
        place.push(&format!("{line}\n"));
    }
    assert_eq!(place.run(&["group", "add", "jobs", "default", "--retry", "1h..1h"]).code, 0);
    place.run(&["push", "jobs", "--whole", "line", "--unique-key", "k", "--priority", "9", "--kind", "a"]);
    place.run(&[
        "push",
        "jobs",
        "--whole",
        "line",
        "--ordering-key",
        "o",
        "--header",
        "a=b",
        "--delay",
        "1h",
    ]);
    let script = "case $(cat) in bad) exit 65;; fail) echo no paper >&2; exit 1;; esac";
    place.run(&["work", "jobs", "-n", "3", "--", "sh", "-c", script]);
    place
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), into);
        } else if entry.file_name() != "LOCK" {
            into.push(entry.path());
        }
    }
    into.sort();
}

/// Changes one file.
fn change(all: &[PathBuf], dice: &mut Dice) {
    let path = &all[dice.size(all.len() as u64)];
    let Ok(mut bytes) = fs::read(path) else { return };
    // Most of a file was never written.
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(1, |last| last + 1);
    let at = dice.size(used as u64);
    match dice.below(9) {
        0 | 1 => bytes[at] ^= 1 << dice.below(8),
        2 => {
            let number = [u64::MAX, 1 << 40, 1 << 31, 0, 1 << 63][dice.size(5)].to_le_bytes();
            let at = at & !7;
            if let Some(place) = bytes.get_mut(at..at + 8) {
                place.copy_from_slice(&number);
            }
        }
        3 => bytes.truncate(at),
        4 => {
            let end = (at + dice.size(4096)).min(bytes.len());
            bytes[at..end].fill(if dice.below(2) == 0 { 0 } else { 0xff });
        }
        5 => {
            let Ok(other) = fs::read(&all[dice.size(all.len() as u64)]) else { return };
            bytes = other;
        }
        6 => {
            // Sparse, and longer than any memory.
            drop(fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(1 << 40)));
            return;
        }
        7 => {
            fs::remove_file(path).unwrap();
            match dice.below(3) {
                0 => fs::create_dir(path).unwrap(),
                1 => symlink("/dev/zero", path).unwrap(),
                _ => {}
            }
            return;
        }
        _ => bytes.swap(at, used - 1),
    }
    if dice.below(2) == 0 && bytes.len() < 16 << 20 {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // A length that was made huge is not believed by whoever makes the checksum right.
        let forged = std::panic::catch_unwind(|| {
            let mut bytes = bytes.clone();
            forge(&name, &mut bytes);
            bytes
        });
        bytes = forged.unwrap_or(bytes);
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn every_command_ends_soon_and_in_little_memory_whatever_the_files_say() {
    let sound = sound();
    for seed in 0..FOLDERS * times() {
        let mut dice = Dice(seed);
        let changed = Place::new();
        copy(&sound.path("jobs"), &changed.path("jobs"));
        let mut all = Vec::new();
        files(&changed.path("jobs"), &mut all);
        for _ in 0..=dice.below(3) {
            change(&all, &mut dice);
        }
        for command in COMMANDS {
            let place = Place::new();
            place.write("line", "line\n");
            copy(&changed.path("jobs"), &place.path("jobs"));
            let code = run(&place, command);
            assert!((0..=6).contains(&code), "seed {seed}: {command}: exit {code}");
        }
    }
}

/// Runs a command with little memory; returns its code, or that of the signal which ended it.
fn run(place: &Place, command: &str) -> i32 {
    let script = format!(
        "ulimit -v {MEMORY}; exec timeout --signal=KILL {SECONDS} {} {command}",
        env!("CARGO_BIN_EXE_backlog")
    );
    let status = Command::new("bash")
        .args(["-c", &script])
        .current_dir(place.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(place.path("stderr")).unwrap())
        .status()
        .unwrap();
    let said = fs::read_to_string(place.path("stderr")).unwrap();
    assert!(!said.contains("panicked"), "{command}: {said}");
    status.code().unwrap_or(-1)
}

/// Copies a folder as it is: links as links, and holes as holes.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}
