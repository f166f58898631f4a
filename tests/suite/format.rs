//! Is `docs/FORMAT.md` enough to read a queue? `tests/reader.py` was written from that page alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs, io};

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs the reader; `None` where the environment says that there is no Python.
fn read(folder: &Path) -> Option<Output> {
    if env::var_os("BACKLOG_NO_PYTHON").is_some() {
        return None;
    }
    match Command::new("python3").arg("-B").arg(at("tests/reader.py")).arg(folder).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            panic!("python3 is not installed; install it, or set BACKLOG_NO_PYTHON=1 to go without this test")
        }
        Err(error) => panic!("cannot run python3: {error}"),
    }
}

fn assert_reads_as(folder: &str, expected: &str) {
    let Some(output) = read(&at(folder)) else { return };
    assert!(output.status.success(), "the reader failed: {}", String::from_utf8_lossy(&output.stderr));
    let found = String::from_utf8(output.stdout).unwrap();
    let expected = fs::read_to_string(at(expected)).unwrap();

    for (line, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of {folder}", line + 1);
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{folder}");
}

#[test]
fn a_reader_written_from_the_format_page_reads_the_golden_queue() {
    assert_reads_as("tests/golden/v1", "tests/golden/v1.jsonl");
}

#[test]
fn that_reader_finds_the_end_and_the_damage_of_a_queue_that_was_not_closed() {
    assert_reads_as("tests/golden/v1-crashed", "tests/golden/v1-crashed.jsonl");
}
