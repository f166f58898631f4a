//! Do `stats` and `verify` tell the truth, and change nothing?

use std::fs;
use std::os::unix::fs::FileExt;

use crate::cli::Place;

fn segment(place: &Place) -> fs::File {
    fs::OpenOptions::new().read(true).write(true).open(place.path("jobs/log/000000001.seg")).unwrap()
}

fn flip(file: &fs::File, position: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 1], position).unwrap();
}

#[test]
fn stats_counts_by_group_for_people_and_for_programs() {
    let place = Place::new();
    place.push("ok\nbad\nlater\n");
    place.work("case $(cat) in bad) exit 65;; later) exit 7;; esac");
    place.push("new\n");

    let text = place.run(&["stats", "jobs"]);
    let json = place.run(&["stats", "jobs", "--format", "json"]);

    assert_eq!((text.code, json.code), (0, 0));
    let line = text.out.lines().find(|line| line.starts_with("default")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[4], "1", "{line}");
    assert_eq!(words[1].parse::<u64>().unwrap() + words[2].parse::<u64>().unwrap(), 2, "{line}");
    let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((&value["messages"], &value["closed"]), (&4.into(), &true.into()));
    assert_eq!(value["groups"][0]["dead"], 1);
    assert_eq!(value["segments"][0]["state"], "active");
}

#[test]
fn looking_beside_a_running_work_changes_no_byte_and_no_time() {
    let place = Place::new();
    place.push("a\nb\nc\n");
    let mut work = place.start(&["work", "jobs", "--", "sh", "-c", "echo started; exec sleep 1000"]);
    work.line();
    // The owner writes on its own only within a second of idleness: before and after are compared
    // with nothing but looks between them, and once more if it did.
    let (before, stats, verify, after) = (0..10)
        .find_map(|_| {
            let before = place.everything();
            let stats = place.run(&["stats", "jobs", "--format", "json"]);
            let verify = place.run(&["verify", "jobs"]);
            let after = place.everything();
            let sequence = |all: &std::collections::BTreeMap<_, (Vec<u8>, _)>| {
                all[&place.path("jobs/MANIFEST")].0.clone()
            };
            (sequence(&before) == sequence(&after)).then_some((before, stats, verify, after))
        })
        .unwrap();

    assert!(before == after);
    assert_eq!((stats.code, verify.code, &verify.out[..]), (0, 0, ""), "{verify:?}");
    let value: serde_json::Value = serde_json::from_str(&stats.out).unwrap();
    assert_eq!((&value["groups"][0]["on_loan"], &value["groups"][0]["ready"]), (&1.into(), &2.into()));
    work.signal("INT");
    work.signal("INT");
    work.end();
}

#[test]
fn verify_beside_a_busy_push_finds_nothing() {
    let place = Place::new();
    let mut push = place.start(&["push", "jobs", "/dev/fd/0"]);
    let mut stdin = push.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        let line = [&[b'x'; 3000][..], b"\n"].concat();
        while std::io::Write::write_all(&mut stdin, &line).is_ok() {}
    });
    push.line();
    let out = std::mem::replace(&mut push.out, std::io::BufReader::new(push_nothing()));
    let reader = std::thread::spawn(move || std::io::copy(&mut { out }, &mut std::io::sink()));

    for _ in 0..5 {
        let done = place.run(&["verify", "jobs"]);
        assert_eq!((done.code, &done.out[..]), (0, ""), "{done:?}");
    }

    drop(push);
    feeder.join().unwrap();
    reader.join().unwrap().unwrap();
}

fn push_nothing() -> std::process::ChildStdout {
    std::os::fd::OwnedFd::from(std::io::pipe().unwrap().0).into()
}

#[test]
fn verify_finds_nothing_in_a_sound_queue_of_several_segments() {
    let place = Place::new();
    place.write("large", vec![b'x'; 700 << 10]);
    place.run(&["push", "jobs", "--whole", "large", "large", "large", "large"]);
    place.work("cat >/dev/null");

    let done = place.run(&["verify", "jobs"]);

    assert_eq!((done.code, &done.out[..]), (0, ""));
    assert!(done.err.contains("all is well"), "{done:?}");
    assert!(backlog::inspect(place.path("jobs")).unwrap().segments.len() > 1);
}

#[test]
fn verify_names_file_byte_and_offsets_of_every_flipped_byte() {
    let place = Place::new();
    place.push("hello\nworld\n");
    let log = segment(&place);
    // The batch: a header of 32 bytes, a table of 16, the records, zeros up to a multiple of 8.
    for position in 4096..4096 + 64 {
        flip(&log, position);
        let done = place.run(&["verify", "jobs"]);
        flip(&log, position);

        assert_eq!(done.code, 1, "{position}: {done:?}");
        let line = done.out.lines().nth(1).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..2], ["damaged", "jobs/log/000000001.seg"], "{position}: {done:?}");
        let numbers: Vec<u64> = words[2..5].iter().map(|word| word.parse().unwrap()).collect();
        assert!((4096..4160).contains(&numbers[0]) && numbers[1] < numbers[2], "{position}: {done:?}");
    }
    assert_eq!(place.run(&["verify", "jobs"]).code, 0);
}

#[test]
fn verify_names_damage_in_the_file_of_a_group() {
    let place = Place::new();
    place.push("a\nb\n");
    place.work("cat");
    let halves = [0, 1].map(|half| {
        let path = place.path(&format!("jobs/groups/default/{half}.offsets"));
        fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
    });
    for half in &halves {
        flip(half, 4096 + 8);
    }

    let verify = place.run(&["verify", "jobs"]);
    let stats = place.run(&["stats", "jobs"]);

    assert_eq!((verify.code, stats.code), (1, 1), "{verify:?}");
    assert!(verify.out.lines().any(|line| line.starts_with("damaged  jobs/groups/default/")), "{verify:?}");
}

#[test]
fn a_torn_tail_is_a_finding_and_an_opening_sets_it_aside() {
    let place = Place::new();
    place.push("good\n");
    let mut push = place.start(&["push", "jobs"]);
    std::io::Write::write_all(push.stdin.as_mut().unwrap(), b"torn\n").unwrap();
    push.line();
    push.signal("KILL");
    push.end();
    // The last batch, whose durability nothing that follows proves.
    flip(&segment(&place), 4096 + 40 + 34);

    let verify = place.run(&["verify", "jobs"]);

    assert_eq!(verify.code, 1);
    let line = verify.out.lines().nth(1).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..3], ["torn", "jobs/log/000000001.seg", "4136"], "{verify:?}");
    let push = place.run_with(&["push", "jobs"], b"next\n");
    assert!(push.err.contains("never promised") && push.err.contains("jobs/quarantine/"), "{push:?}");
    assert_eq!(place.run(&["verify", "jobs"]).code, 0);
    assert_eq!(place.drain(), [b"good", b"next"]);
}

#[test]
fn nobody_reading_stdout_is_no_error() {
    let place = Place::new();
    place.push("a\n");
    for command in ["stats jobs", "verify jobs", "--help"] {
        let script = format!("({} {command}; echo $? >&2) | true", env!("CARGO_BIN_EXE_backlog"));
        let output = std::process::Command::new("bash")
            .args(["-c", &script])
            .current_dir(place.path(""))
            .output()
            .unwrap();
        assert!(output.stderr.ends_with(b"0\n"), "{command}: {output:?}");
    }
}

#[test]
fn an_older_manifest_that_was_put_back_is_a_finding() {
    let place = Place::new();
    place.push("a\n");
    fs::copy(place.path("jobs/MANIFEST"), place.path("older")).unwrap();
    place.push("b\n");
    fs::copy(place.path("older"), place.path("jobs/MANIFEST")).unwrap();

    let verify = place.run(&["verify", "jobs"]);

    assert_eq!(verify.code, 1);
    assert!(
        verify.out.contains("jobs/MANIFEST") && verify.out.contains("the log goes on behind"),
        "{verify:?}"
    );
    assert_eq!(place.drain(), [b"a", b"b"]);
}

#[test]
fn damage_that_work_comes_to_is_named_and_the_rest_is_handled() {
    let place = Place::new();
    for line in ["a\n", "b\n", "c\n"] {
        place.push(line);
    }
    // The record of the second batch: each takes 40 bytes.
    flip(&segment(&place), 4096 + 40 + 32);

    let done = place.work("cat");

    assert_eq!((done.code, &done.out[..]), (1, "ac"), "{done:?}");
    assert!(done.err.contains("000000001.seg is damaged at byte 4168"), "{done:?}");
    assert_eq!(place.counts(), [0, 0, 0, 1]);
    let verify = place.run(&["verify", "jobs", "--format", "csv"]);
    assert_eq!(
        verify.out,
        "schema,finding,file,position,first,end,problem\n\
         1,damaged,jobs/log/000000001.seg,4168,1,2,a record does not pass its checksum\n"
    );
}

#[test]
fn pins_tells_which_group_keeps_what_and_by_which_message() {
    let place = Place::new();
    place.push("ok\nbad\n");
    place.work("case $(cat) in bad) exit 65;; esac");

    let text = place.run(&["pins", "jobs"]);
    let json = place.run(&["pins", "jobs", "--format", "json"]);

    assert_eq!((text.code, json.code), (0, 0));
    let line = text.out.lines().last().unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((words[0], words[1], words[4], words[5]), ("default", "1", "1", "dead"), "{line}");
    let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let segment = &value["segments"][0];
    assert_eq!((&segment["first_offset"], &segment["first_state"]), (&1.into(), &"dead".into()));
    assert_eq!((&segment["group"], &value["groups"][0]["bytes"]), (&"default".into(), &segment["bytes"]));
    assert_eq!(place.run(&["pins", "nowhere"]).code, 6);
}
