//! Do the bytes that fuzzers were given, and those they found, keep every promise?
//!
//! Every file of `fuzz/corpus/TARGET` and `fuzz/regressions/TARGET` is run through the body of its
//! target. `BACKLOG_BLESS=1` writes the seeds of the corpora anew. `BACKLOG_INPUT=target:file` runs
//! one file, such as a find that a fuzzer has just written.

use std::fs;
use std::path::{Path, PathBuf};

use crate::dice::{Dice, times};
use crate::fuzzed::{FORGED, MIRRORED, TARGETS, deflate};
use crate::watch;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Returns the files of a folder, sorted; none if there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(names) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = names.map(|name| name.unwrap().path()).collect();
    files.sort();
    files
}

/// Runs all files of a target in one of the two places; returns how many there are.
fn replay(place: &str, target: &str) -> usize {
    let (_, body) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let files = files(&root().join(place).join(target));
    for file in &files {
        let bytes = fs::read(file).unwrap();
        let _watched = watch::over(format!("BACKLOG_INPUT={target}:{}", file.display()));
        let run = std::panic::catch_unwind(|| body(&bytes));
        assert!(run.is_ok(), "BACKLOG_INPUT={target}:{}", file.display());
    }
    files.len()
}

macro_rules! replays {
    ($($test:ident: $target:literal, $least:literal;)*) => {
        $(
            #[test]
            fn $test() {
                let replayed = replay("corpus", $target);

                assert!(replayed >= $least, "{replayed} files: the corpus is not there");
                replay("regressions", $target);
            }
        )*
    };
}

replays! {
    batches_of_any_bytes_are_what_they_say_or_nothing: "batch", 10;
    segment_headers_of_any_bytes_are_what_they_say_or_nothing: "segment_header", 4;
    manifests_of_any_bytes_are_what_they_say_or_nothing: "manifest", 4;
    offset_files_of_any_bytes_give_a_sound_state_or_none: "offsets", 8;
    a_folder_of_changed_files_gives_what_was_pushed_or_says_what_is_wrong: "folder", 20;
    steps_of_any_bytes_keep_every_promise: "operations", 20;
    an_owner_bears_whatever_a_guest_sends: "socket", 20;
    a_guest_bears_whatever_an_owner_answers: "answers", 20;
}

/// A number of a file is what no number should be, under a good checksum: `BACKLOG_TIMES=100` tries a
/// hundred times as many places.
#[test]
fn no_number_in_a_file_makes_a_queue_panic_hang_or_grow() {
    let (_, folder) = TARGETS.iter().find(|(name, _)| *name == "folder").unwrap();
    for seed in 0..40 * times() {
        let mut dice = Dice(seed);
        let mut below = |end: u64| u8::try_from(dice.below(end)).unwrap();
        // The manifest has most of them: it is drawn every second time.
        let file = if below(2) == 0 { 0 } else { below(9) };
        let input = [below(3), 1, file, 11, below(256), below(8), below(10), below(3), below(5)];

        let run = std::panic::catch_unwind(|| folder(&input));

        assert!(run.is_ok(), "seed {seed}: {input:?}");
    }
}

#[test]
fn one_input_can_be_run() {
    let Ok(input) = std::env::var("BACKLOG_INPUT") else { return };
    let (target, file) = input.split_once(':').unwrap();
    let (_, body) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();

    body(&fs::read(file).unwrap());
}

#[test]
fn a_seed_of_a_file_is_that_file_again() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    for name in ["MANIFEST", "groups/mailer/1.offsets"] {
        let bytes = fs::read(golden.join(name)).unwrap();

        assert!(crate::fuzzed::file(name, &deflate(0, &bytes)) == bytes, "{name}");
        assert!(crate::fuzzed::file(name, &deflate(FORGED, &bytes)) == bytes, "{name}, forged");
    }
}

/// Writes the seeds: the golden files, whole and in pieces, and what dice give.
#[test]
fn seeds_are_written_when_that_is_wanted() {
    if std::env::var("BACKLOG_BLESS").is_err() {
        return;
    }
    let write = |target: &str, name: String, bytes: &[u8]| {
        let folder = root().join("corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    };
    for queue in ["v1", "v1-crashed"] {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(queue);
        let read = |name: &str| fs::read(golden.join(name)).unwrap();
        for number in [1, 2] {
            let segment = read(&format!("log/00000000{number}.seg"));
            let mut at = 4096;
            while segment[at + 31] != 0 {
                let body = u32::from_le_bytes(segment[at + 8..at + 12].try_into().unwrap());
                let end = at + 32 + usize::try_from(body).unwrap().next_multiple_of(8);
                let batch = [&[FORGED], segment.get(at..end).unwrap_or(&segment[at..])].concat();
                write("batch", format!("{queue}-{number}-{at}"), &batch);
                at = end.min(segment.len() - 32);
            }
            write("segment_header", format!("{queue}-{number}"), &deflate(0, &segment[..4096]));
            write("segment_header", format!("{queue}-{number}-forged"), &deflate(3, &segment[..4096]));
        }
        let pieces = [("manifest", "MANIFEST", ""), ("offsets", "groups/mailer/0.offsets", "-0")];
        for (target, file, half) in pieces.into_iter().chain([("offsets", "groups/mailer/1.offsets", "-1")]) {
            for flags in [0, FORGED, FORGED | MIRRORED] {
                write(target, format!("{queue}{half}-{flags}"), &deflate(flags, &read(file)));
            }
        }
    }
    for seed in 0..32 {
        let mut dice = Dice(seed);
        let mut bytes = |length: usize| -> Vec<u8> {
            (0..length).map(|_| u8::try_from(dice.below(256)).unwrap()).collect()
        };
        write("folder", format!("seed-{seed:02}"), &bytes(60));
        write("operations", format!("seed-{seed:02}"), &bytes(300));
        write("socket", format!("seed-{seed:02}"), &bytes(300));
        write("answers", format!("seed-{seed:02}"), &bytes(300));
    }
}
