//! Each command, as a process: on a healthy, a live, a torn, a damaged and an empty queue.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use crate::cli::{Place, Running};

/// What a queue is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    /// Closed; messages in every state, in two groups.
    Healthy,
    /// The same, while a `work` has it open and is at a message.
    Live,
    /// Killed, and the last write was cut short.
    Torn,
    /// Bytes in the middle have gone bad: of message 3.
    Damaged,
    /// Born, and nothing ever pushed.
    Empty,
}

const ALL: [Queue; 5] = [Queue::Healthy, Queue::Live, Queue::Torn, Queue::Damaged, Queue::Empty];

/// A queue, and who has it open.
struct Made {
    place: Place,
    owner: Option<Running>,
}

/// Each push of a line takes so many bytes of the segment: header, record, zeros.
const BATCH: u64 = 40;

impl Queue {
    /// Makes one by copying what was made once: a few hundred are wanted.
    fn make(self) -> Made {
        static ONCE: [OnceLock<Place>; 5] = [const { OnceLock::new() }; 5];
        let place = Place::new();
        let template = ONCE[self as usize].get_or_init(|| self.template());
        copy(&template.path("jobs"), &place.path("jobs"));
        let mut owner = None;
        if self == Self::Live {
            let mut work = place.start(&[
                "work",
                "jobs",
                "--",
                "sh",
                "-c",
                "echo started; exec tail --pid=$PPID -f /dev/null",
            ]);
            work.line();
            owner = Some(work);
        }
        Made { place, owner }
    }

    fn template(self) -> Place {
        let place = Place::new();
        if self == Self::Empty {
            assert_eq!(place.run(&["init", "jobs"]).code, 0);
            return place;
        }
        // Offsets 0 to 5: done, delayed, dead, on loan or ready, and two more.
        for line in ["done", "fail", "bad", "next", "more", "last"] {
            place.push(&format!("{line}\n"));
        }
        let add = |args: &[&str]| {
            let done = place.run(&[&["group", "add", "jobs"][..], args].concat());
            assert_eq!(done.code, 0, "{done:?}");
        };
        add(&["default", "--retry", "1h..1h"]);
        add(&["audit"]);
        let script = "case $(cat) in bad) exit 65;; fail) echo no paper >&2; exit 1;; esac";
        let work = place.run(&["work", "jobs", "-n", "3", "--", "sh", "-c", script]);
        assert_eq!(place.counts(), [3, 1, 0, 1], "{work:?}");
        match self {
            Self::Torn => {
                let mut push = place.start(&["push", "jobs"]);
                std::io::Write::write_all(push.stdin.as_mut().unwrap(), b"torn\n").unwrap();
                assert_eq!(push.line(), "6..7");
                push.signal("KILL");
                push.end();
                flip(&place, 4096 + 6 * BATCH + 34);
            }
            Self::Damaged => flip(&place, 4096 + 3 * BATCH + 33),
            Self::Healthy | Self::Live | Self::Empty => {}
        }
        place
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (about, to) = (entry.metadata().unwrap(), to.join(entry.file_name()));
        if about.is_dir() {
            copy(&entry.path(), &to);
        } else if about.is_file() {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn flip(place: &Place, position: u64) {
    let file =
        fs::OpenOptions::new().read(true).write(true).open(place.path("jobs/log/000000001.seg")).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 1], position).unwrap();
}

/// A command, the codes it ends with on each kind of queue, and what it says on the healthy one: on stdout.
struct Case(&'static [&'static str], [i32; 5], &'static str);

/// Those that take no lock and write nothing.
const LOOKS: [Case; 27] = [
    Case(&["info", "jobs"], [0, 0, 0, 0, 0], "not done"),
    Case(&["stats", "jobs"], [0, 0, 0, 0, 0], "default      3        1        0     1"),
    Case(&["stats", "jobs", "--watch", "--every", "50ms", "--looks", "2"], [0, 0, 0, 0, 0], "audit"),
    Case(&["segments", "jobs"], [0, 0, 0, 0, 0], "log/000000001.seg"),
    Case(&["ls", "jobs", "--group", "default"], [0, 0, 0, 1, 2], "delayed"),
    Case(&["ls", "jobs", "--payload", "utf8", "--state", "dead"], [0, 0, 0, 1, 1], "bad"),
    Case(&["ls", "jobs", "--since", "1h", "--limit", "1"], [0, 0, 0, 0, 1], "done"),
    Case(&["ls", "jobs", "--kind", "none"], [1, 1, 1, 1, 1], ""),
    Case(&["peek", "jobs"], [0, 0, 0, 1, 1], "sha256:"),
    Case(&["peek", "jobs", "--group", "nobody"], [2, 2, 2, 2, 2], ""),
    Case(&["get", "jobs", "3"], [0, 0, 0, 1, 1], "next"),
    Case(&["get", "jobs", "1", "--about"], [0, 0, 0, 0, 1], "default:delayed"),
    Case(&["tail", "jobs", "-n", "2"], [0, 0, 0, 0, 1], "sha256:"),
    Case(&["group", "ls", "jobs"], [0, 0, 0, 0, 0], "1h..1h"),
    Case(&["why", "jobs", "1"], [0, 0, 0, 0, 1], "exit 1: no paper"),
    Case(&["why", "jobs", "3"], [0, 0, 0, 1, 1], "ready"),
    // Without an option that changes something.
    Case(&["limits", "jobs"], [0, 0, 0, 0, 0], "max-bytes"),
    Case(&["pins", "jobs"], [0, 0, 0, 0, 0], "default"),
    Case(&["dump", "jobs"], [0, 0, 1, 1, 0], "kind nacked, offset 1"),
    Case(&["dump", "jobs", "1", "--headers-only", "--from", "4200"], [0, 0, 0, 0, 0], "base 3"),
    Case(&["check", "jobs", "--max-lag", "9", "--max-age", "1h", "--max-dead", "0"], [1, 1, 1, 1, 0], "over"),
    Case(&["verify", "jobs"], [0, 0, 1, 1, 0], ""),
    Case(&["verify", "jobs", "--deep"], [0, 0, 1, 1, 0], ""),
    Case(&["repair", "jobs"], [0, 0, 1, 1, 0], ""),
    Case(&["quarantine", "ls", "jobs"], [0, 0, 0, 0, 0], ""),
    Case(&["dead", "jobs"], [1, 1, 1, 1, 0], "rejected"),
    Case(&["export", "jobs", "--all"], [0, 0, 0, 1, 0], "\"payload\":\"next\""),
];

/// Those that change something.
const CHANGES: [Case; 24] = [
    Case(&["init", "jobs", "--group", "third"], [0, 0, 0, 0, 0], ""),
    Case(&["init", "jobs", "--new"], [4, 4, 4, 4, 4], ""),
    Case(&["push", "jobs", "new"], [0, 0, 0, 0, 0], "6..7"),
    Case(&["work", "jobs", "-n", "1", "--", "cat"], [0, 0, 0, 1, -1], "next"),
    Case(&["recv", "jobs", "--ack"], [0, 0, 0, 4, 1], "next"),
    Case(&["ack", "jobs", "nonsense"], [2, 2, 2, 2, 2], ""),
    Case(&["nack", "jobs", "nonsense"], [2, 2, 2, 2, 2], ""),
    Case(&["extend", "jobs", "nonsense"], [2, 2, 2, 2, 2], ""),
    Case(&["revive", "jobs", "2"], [0, 0, 0, 0, 2], "1\n"),
    Case(&["discard", "jobs", "4"], [0, 0, 0, 0, 0], "1\n"),
    Case(&["undelete", "jobs", "0"], [0, 0, 0, 0, 2], "1\n"),
    Case(&["repair", "jobs", "--apply"], [0, 3, 0, 4, 0], ""),
    Case(&["repair", "jobs", "--apply", "--allow-loss"], [0, 3, 0, 0, 0], ""),
    Case(&["purge", "jobs"], [0, 0, 0, 0, 2], "5\n"),
    Case(&["pause", "jobs"], [0, 0, 0, 0, 2], ""),
    Case(&["resume", "jobs"], [0, 0, 0, 0, 2], ""),
    Case(&["seek", "jobs", "beginning"], [0, 0, 0, 0, 2], "0\n"),
    Case(&["group", "add", "jobs", "third"], [0, 0, 0, 0, 0], ""),
    Case(&["group", "rm", "jobs", "audit"], [0, 0, 0, 0, 2], ""),
    Case(&["limits", "jobs", "--max-messages", "9"], [0, 0, 0, 0, 0], "max-messages  9"),
    Case(&["compact", "jobs"], [0, 0, 0, 0, 0], "segments before"),
    Case(&["backup", "jobs", "copy"], [0, 0, 0, 1, 0], "messages pushed"),
    // It is no backup.
    Case(&["restore", "jobs", "again"], [4, 4, 4, 4, 4], ""),
    Case(&["salvage", "jobs", "--out", "saved"], [0, 0, 1, 1, 0], "taken over"),
];

/// Those that have no queue.
const OTHERS: [Case; 2] =
    [Case(&["completions", "bash"], [0; 5], "_backlog"), Case(&["man"], [0; 5], ".TH backlog")];

fn everything(place: &Place) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    place.everything()
}

#[test]
fn who_only_looks_changes_no_byte_and_no_time_and_needs_nobody() {
    for (index, queue) in ALL.into_iter().enumerate() {
        let made = queue.make();
        // An owner that stands still writes nothing, and answers nobody: what changes now, a look did.
        if let Some(owner) = &made.owner {
            owner.signal("STOP");
        }
        let before = everything(&made.place);
        for Case(args, codes, says) in &LOOKS {
            let done = made.place.run(args);

            assert_eq!(done.code, codes[index], "{args:?} on {queue:?}: {done:?}");
            let shown = queue != Queue::Healthy || done.out.contains(says);
            assert!(shown, "{args:?} on {queue:?} says {says:?}: {done:?}");
            assert!(everything(&made.place) == before, "{args:?} on {queue:?} changed something");
        }
    }
}

#[test]
fn every_look_has_every_form_with_the_number_of_its_schema() {
    let made = Queue::Damaged.make();
    let with_a_form = |case: &&Case| case.0[0] != "export";
    for Case(args, codes, _) in LOOKS.iter().filter(with_a_form) {
        let run = |format: &str| {
            let done = made.place.run(&[args, &["--format", format][..]].concat());
            assert_eq!(done.code, codes[3], "{args:?} as {format}: {done:?}");
            done.out
        };
        if codes[3] == 2 {
            continue;
        }
        let (json, lines, csv) = (run("json"), run("jsonl"), run("csv"));
        // What cannot be read has nothing to show.
        if json.is_empty() {
            assert_eq!((&lines[..], &csv[..]), ("", ""), "{args:?}");
            continue;
        }
        let all: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(all["schema"], 1, "{args:?}: {json}");
        for line in lines.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(row["schema"], 1, "{args:?}: {line}");
        }
        assert!(csv.starts_with("schema,"), "{args:?}: {csv}");
    }
}

#[test]
fn whoever_changes_something_ends_as_documented() {
    for Case(args, codes, says) in &CHANGES {
        for (index, queue) in ALL.into_iter().enumerate() {
            // On an empty queue it would wait for ever.
            if codes[index] == -1 {
                continue;
            }
            let made = queue.make();
            made.place.write("new", "new\n");

            let done = made.place.run(args);

            assert_eq!(done.code, codes[index], "{args:?} on {queue:?}: {done:?}");
            if queue == Queue::Healthy {
                assert!(done.out.contains(says), "{args:?} says {says:?}: {done:?}");
            }
            assert!(done.code == 0 || !done.err.is_empty() || args[0] == "recv", "{args:?}: {done:?}");
            // Whatever was done, what was there is as sound as before.
            if matches!(queue, Queue::Healthy | Queue::Live | Queue::Empty) {
                let verify = made.place.run(&["verify", "jobs", "--deep"]);
                assert_eq!(verify.code, 0, "{args:?} on {queue:?}: {verify:?}");
            }
        }
    }
}

#[test]
fn loans_are_settled_by_their_receipts_whatever_else_has_gone_bad() {
    for queue in ALL {
        let made = queue.make();
        let place = &made.place;
        let recv = |file: &str| place.run(&["recv", "jobs", "--receipt", file]);
        let mut first = recv("first");
        if queue == Queue::Damaged {
            // Once for each stretch that has gone bad; then it goes on.
            assert_eq!(first.code, 4, "{first:?}");
            first = recv("first");
        }
        if queue == Queue::Empty {
            assert_eq!(first.code, 1, "{first:?}");
            continue;
        }
        assert_eq!(first.code, 0, "{queue:?}: {first:?}");
        for (args, code) in [
            (&["extend", "jobs", "@first", "--lease", "1h"][..], 0),
            (&["nack", "jobs", "@first", "--reason", "no paper", "--after", "0s"], 0),
            (&["nack", "jobs", "@first"], 4),
            (&["extend", "jobs", "@first"], 4),
            (&["recv", "jobs", "--receipt", "second", "--timeout", "10s"], 0),
            (&["ack", "jobs", "@second"], 0),
            (&["ack", "jobs", "@second"], 4),
        ] {
            let done = place.run(args);
            assert_eq!(done.code, code, "{args:?} on {queue:?}: {done:?}");
        }
    }
}

#[test]
fn what_comes_in_and_what_is_copied_is_there_whatever_else_has_gone_bad() {
    for (queue, damaged) in ALL.into_iter().map(|queue| (queue, i32::from(queue == Queue::Damaged))) {
        let made = queue.make();
        let place = &made.place;
        place.write("in.jsonl", "{\"schema\":1,\"payload\":\"from elsewhere\"}\n");

        let import = place.run(&["import", "jobs", "in.jsonl"]);
        let backup = place.run(&["backup", "jobs", "copy", "--follow", "--rounds", "2", "--every", "10ms"]);
        let restore = place.run(&["restore", "copy", "again"]);
        let found = place.run(&["ls", "again", "--limit", "1", "--payload", "utf8", "--format", "jsonl"]);

        assert_eq!(
            (import.code, backup.code, restore.code),
            (0, damaged, 0),
            "{queue:?}: {import:?} {backup:?}"
        );
        assert_eq!(restore.out.trim_end().len(), 32, "{restore:?}");
        assert_eq!(found.code, 0, "{queue:?}: {found:?}");
        let all = place.run(&["export", "again", "--all"]);
        assert!(all.out.contains("from elsewhere"), "{queue:?}: {all:?}");
        assert_eq!(place.run(&["verify", "again"]).code, damaged, "{queue:?}");
    }
}

#[test]
fn commands_without_a_queue_say_what_they_know() {
    let place = Place::new();
    for Case(args, codes, says) in &OTHERS {
        let done = place.run(args);
        assert_eq!(done.code, codes[0], "{args:?}: {done:?}");
        assert!(done.out.contains(says), "{args:?}: {done:?}");
    }
    fs::create_dir(place.path("man")).unwrap();
    assert_eq!(place.run(&["man", "--to", "man"]).code, 0);
    let pages = fs::read_dir(place.path("man")).unwrap().count();
    assert!(pages > 30, "{pages} pages");
}

#[test]
fn where_there_is_no_queue_every_command_says_so() {
    let place = Place::new();
    fs::create_dir(place.path("jobs")).unwrap();
    fs::write(place.path("jobs/letter"), "dear").unwrap();
    for Case(args, ..) in LOOKS.iter().chain(&CHANGES) {
        let makes = matches!(args[0], "init" | "push");
        let refused = matches!(args[0], "ack" | "nack" | "extend");
        if makes || refused {
            continue;
        }
        let done = place.run(args);
        assert_eq!((done.code, &done.out[..]), (6, ""), "{args:?}: {done:?}");
        assert_eq!(done.err.lines().count(), 1, "{args:?}: {done:?}");
    }
}

#[test]
fn bench_leaves_nothing_behind() {
    let place = Place::new();
    let done = place.run(&["bench", ".", "--time", "50ms", "--format", "jsonl"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.out.lines().count(), 4, "{done:?}");
    for line in done.out.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(row["queue_per_s"].as_u64() > Some(0) && row["ratio"].as_f64() > Some(0.0), "{line}");
    }
    assert_eq!(place.everything().len(), 0);
}
