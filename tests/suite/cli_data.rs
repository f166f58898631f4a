//! What do the commands say that show data, and can a program rely on it?

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cli::{Done, Place};

fn run(place: &Place, args: &[&str]) -> String {
    let done = place.run(args);
    assert_eq!(done.code, 0, "{args:?}: {done:?}");
    done.out
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The offsets that `ls` shows.
fn shown(place: &Place, args: &[&str]) -> Vec<u64> {
    let done = place.run(&[&["ls", "jobs", "--format", "jsonl"], args].concat());
    assert_eq!(done.code, i32::from(done.out.is_empty()), "{args:?}: {done:?}");
    lines(&done.out).iter().map(|row| row["offset"].as_u64().unwrap()).collect()
}

/// Messages with everything that a message can have.
fn varied() -> Place {
    let place = Place::new();
    place.write("plain", "plain");
    place.write("bytes", b"\xff\xfe\x00\n");
    place.write("cut", "said \"hi\", and\nmore");
    let push = |args: &[&str]| run(&place, &[&["push", "jobs", "--whole"], args].concat());
    push(&["plain"]);
    push(&["bytes", "--kind", "blob/1", "--header", "lang=en", "--header", "empty=", "--priority", "9"]);
    push(&["cut", "--unique-key", "k,1", "--ordering-key", "o", "--delay", "1h", "--expires-in", "2h"]);
    push(&["plain", "--dedup-key", "d", "--header", "lang=de"]);
    place
}

#[test]
fn what_export_writes_import_makes_the_same_messages_of() {
    let place = varied();
    let all = run(&place, &["export", "jobs"]);

    let imported = place.run_with(&["import", "copy"], all.as_bytes());

    assert_eq!(imported.code, 0, "{imported:?}");
    assert_eq!(imported.out, "0..2\n2..3\n3..4\n");
    let again = run(&place, &["export", "copy"]);
    let timeless = |text: &str| {
        let mut rows = lines(text);
        rows.iter_mut().for_each(|row| row["pushed_ms"] = json!(0));
        rows
    };
    assert_eq!(timeless(&again), timeless(&all));
    assert_eq!(lines(&all)[1]["payload_base64"], "//4ACg==");
    assert_eq!(
        lines(&all)[1]["headers"],
        json!([
            { "name": "lang", "type": "text", "value": "en" },
            { "name": "empty", "type": "text", "value": "" },
        ])
    );
    // Those with a key are known, the others are stored once more.
    let repeated = place.run_with(&["import", "copy"], all.as_bytes());
    assert!(repeated.err.contains("2 messages stored, 2 known"), "{repeated:?}");
}

#[test]
fn an_export_counts_what_it_writes() {
    let place = Place::new();
    place.push("a\nb\nc\n");
    run(&place, &["recv", "jobs", "--ack"]);
    let payloads = |args: &[&str]| -> Vec<String> {
        let rows = lines(&run(&place, &[&["export", "jobs"], args].concat()));
        rows.iter().map(|row| row["payload"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(payloads(&["--limit", "1"]), ["b"]);
    assert_eq!(payloads(&[]), ["b", "c"]);
    assert_eq!(payloads(&["--all"]), ["a", "b", "c"]);
    assert_eq!(payloads(&["--state", "done"]), ["a"]);
}

#[test]
fn an_export_leaves_nothing_out_that_a_damaged_group_may_not_have_done() {
    let place = Place::new();
    place.push("a\nb\n");
    run(&place, &["group", "add", "jobs", "other"]);
    run(&place, &["work", "jobs", "--until-empty", "--", "true"]);
    for half in [0, 1] {
        let path = place.path(&format!("jobs/groups/other/{half}.offsets"));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[..8192].fill(b'x');
        std::fs::write(path, bytes).unwrap();
    }

    let export = place.run(&["export", "jobs"]);
    let about = place.run(&["get", "jobs", "0", "--about"]);
    let listed = place.run(&["ls", "jobs"]);

    assert_eq!((export.code, export.out.lines().count()), (1, 2), "{export:?}");
    for done in [&export, &about, &listed] {
        assert!(done.code == 1 && done.err.contains("other"), "{done:?}");
    }
}

#[test]
fn what_waits_for_the_first_group_is_a_lag_too_and_what_is_delayed_does_not_come_next() {
    let place = Place::new();
    place.write("later", "later");
    run(&place, &["push", "jobs", "--whole", "later", "--delay", "1h"]);
    assert_eq!(place.run(&["peek", "jobs"]).code, 1);
    place.push("a\nb\n");
    assert!(run(&place, &["peek", "jobs", "--payload", "utf8"]).contains('a'));
    assert_eq!(place.run(&["check", "jobs", "--max-lag", "2"]).code, 1);
    assert_eq!(place.run(&["check", "jobs", "--max-lag", "3"]).code, 0);
}

#[test]
fn an_import_names_the_line_that_is_none_and_keeps_what_was_before_it() {
    for (bad, says) in [
        ("{", "line 2: EOF"),
        ("{\"schema\":2,\"payload\":\"x\"}", "line 2: it is of schema 2"),
        ("{\"schema\":1}", "line 2: it has no payload"),
        ("{\"schema\":1,\"payload\":\"x\",\"payload_base64\":\"eA==\"}", "line 2: it has payload twice"),
        ("{\"schema\":1,\"payload_base64\":\"!\"}", "line 2: its payload_base64 is none"),
        ("{\"schema\":1,\"payload\":\"x\",\"encoding\":\"xml\"}", "line 2: its encoding is \"xml\""),
        ("{\"schema\":1,\"payload\":\"x\",\"due_ms\":18446744073709551615}", "is no time"),
        (
            "{\"schema\":1,\"payload\":\"x\",\"headers\":[{\"name\":\"a\",\"type\":\"int\",\"value\":\"b\"}]}",
            "its header \"a\" is no int",
        ),
        ("{\"schema\":1,\"payload\":\"x\",\"priority\":10}", "priority of 10"),
        ("[]", "line 2: "),
    ] {
        let place = Place::new();
        let input =
            format!("{{\"schema\":1,\"payload\":\"good\"}}\n{bad}\n{{\"schema\":1,\"payload\":\"late\"}}\n");
        let done = place.run_with(&["import", "jobs"], input.as_bytes());

        assert!(done.code == 6 || done.code == 2, "{bad}: {done:?}");
        assert!(done.err.contains(says), "{bad}: {done:?}");
        let stored = lines(&run(&place, &["ls", "jobs", "--format", "jsonl", "--payload", "utf8"]));
        assert_eq!(stored.len(), 1, "{bad}");
        assert_eq!(stored[0]["payload"], "good");
    }
    let place = Place::new();
    let done = place.run(&["import", "jobs", "missing"]);
    assert_eq!(done.code, 6, "{done:?}");
    assert!(!place.path("jobs").exists());
}

#[test]
fn ls_shows_what_fits_all_that_is_said() {
    let place = varied();
    // Its priority is the highest.
    assert!(run(&place, &["recv", "jobs", "--ack"]).ends_with("\0\n"));
    assert_eq!(shown(&place, &[]), [0, 1, 2, 3]);
    assert_eq!(shown(&place, &["--state", "ready"]), [0, 3]);
    assert_eq!(shown(&place, &["--state", "ready,done"]), [0, 1, 3]);
    assert_eq!(shown(&place, &["--state", "delayed"]), [2]);
    assert_eq!(shown(&place, &["--header", "lang"]), [1, 3]);
    assert_eq!(shown(&place, &["--header", "lang=de"]), [3]);
    assert_eq!(shown(&place, &["--kind", "blob/1"]), [1]);
    assert_eq!(shown(&place, &["--key", "k,1"]), [2]);
    assert_eq!(shown(&place, &["--from", "1", "--limit", "2"]), [1, 2]);
    assert!(shown(&place, &["--limit", "0"]).is_empty());
    assert_eq!(shown(&place, &["--since", "1h"]), [0, 1, 2, 3]);
    assert!(shown(&place, &["--since", "2100-01-01T00:00:00Z"]).is_empty());
    assert_eq!(shown(&place, &["--header", "lang", "--state", "ready"]), [3]);
    for (bad, code) in [(&["--state", "gone"][..], 2), (&["--since", "soon"], 2), (&["--group", "x"], 2)] {
        assert_eq!(place.run(&[&["ls", "jobs"], bad].concat()).code, code, "{bad:?}");
    }
}

#[test]
fn ls_over_many_messages_shows_each_once() {
    let place = Place::new();
    let input: String = (0..5000).map(|number| format!("{number}\n")).collect();
    place.push(&input);
    run(&place, &["group", "add", "jobs", "default"]);
    run(&place, &["discard", "jobs", "1000", "2500", "4999"]);

    let all = shown(&place, &["--group", "default"]);
    let ready = shown(&place, &["--state", "ready"]);

    assert_eq!(all, (0..5000).collect::<Vec<_>>());
    let gone = BTreeSet::from([1000, 2500, 4999]);
    assert_eq!(ready, (0..5000).filter(|number| !gone.contains(number)).collect::<Vec<_>>());
    assert_eq!(shown(&place, &["--state", "ready", "--from", "4990"]).len(), 9);
}

#[test]
fn payloads_are_shown_as_they_are_asked_for() {
    let place = varied();
    let payload = |args: &[&str]| {
        let args = [&["ls", "jobs", "--from", "1", "--limit", "1", "--format", "jsonl"], args].concat();
        let row = lines(&run(&place, &args)).remove(0);
        (row["payload"].clone(), row["payload_encoding"].clone())
    };
    assert_eq!(payload(&[]), (Value::Null, Value::Null));
    assert_eq!(payload(&["--payload", "utf8"]), (json!("//4ACg=="), json!("base64")));
    assert_eq!(payload(&["--payload", "hex"]), (json!("fffe000a"), json!("hex")));
    assert_eq!(payload(&["--payload", "base64"]), (json!("//4ACg=="), json!("base64")));
    assert_eq!(payload(&["--decode", "wc -c | tr -d ' \\n'"]), (json!("4"), json!("utf-8")));
    let done = place.run(&["ls", "jobs", "--decode", "exit 3"]);
    assert!(done.code == 6 && done.err.contains("exit 3"), "{done:?}");
    // The digest is that of the payload alone, as other programs make it.
    let sum = std::process::Command::new("sha256sum").arg(place.path("bytes")).output().unwrap();
    let row = lines(&run(&place, &["get", "jobs", "1", "--about", "--format", "jsonl"])).remove(0);
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(row["digest"], format!("sha256:{}", sum.split(' ').next().unwrap()));
    // What is asked for by offset comes byte for byte.
    let raw = place.command(&["get", "jobs", "1"]).output().unwrap();
    assert_eq!(raw.stdout, b"\xff\xfe\x00\n");
}

#[test]
fn csv_is_quoted_and_a_table_stays_on_its_lines_whatever_a_message_says() {
    let place = varied();
    place.write("evil", "\x1b[2J\x1b]0;title\x07\r\u{202e}x\nsecond line");
    run(&place, &["push", "jobs", "--whole", "evil", "--kind", "a\x1b[31mb", "--header", "h=\x1b[0m"]);

    let csv =
        run(&place, &["ls", "jobs", "--from", "2", "--limit", "1", "--payload", "utf8", "--format", "csv"]);
    let table = run(&place, &["ls", "jobs", "--payload", "utf8"]);
    let why = run(&place, &["why", "jobs", "4", "--payload", "utf8"]);

    assert!(csv.contains("\"said \"\"hi\"\", and\nmore\""), "{csv}");
    assert!(csv.contains(",\"k,1\","), "{csv}");
    assert_eq!(table.lines().count(), 6, "{table}");
    for text in [&table, &why] {
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
        assert!(!text.contains('\u{202e}'), "{text:?}");
    }
}

#[test]
fn colours_are_for_terminals_and_for_those_who_like_them() {
    let place = varied();
    // `script` gives the command a terminal.
    let terminal = |environment: &str| {
        let command = format!("env {environment} {} ls jobs", env!("CARGO_BIN_EXE_backlog"));
        let output = std::process::Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .current_dir(place.path(""))
            .stdin(std::process::Stdio::null())
            .output();
        // A machine without it has nothing to be looked at.
        output.ok().map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    if let Some(text) = terminal("-u NO_COLOR TERM=xterm") {
        assert!(text.contains("\x1b[1m") && text.contains("offset"), "{text:?}");
        for plain in ["NO_COLOR=1 TERM=xterm", "-u NO_COLOR TERM=dumb"] {
            assert!(!terminal(plain).unwrap().contains("\x1b["), "{plain}");
        }
    }
    assert!(!run(&place, &["ls", "jobs"]).contains("\x1b["));
}

#[test]
fn tail_shows_the_last_and_then_what_comes() {
    let place = Place::new();
    let input: String = (0..300).map(|number| format!("{number}\n")).collect();
    place.push(&input);
    let last = |args: &[&str]| {
        let rows = lines(&run(
            &place,
            &[&["tail", "jobs", "--payload", "utf8", "--format", "jsonl"], args].concat(),
        ));
        rows.iter().map(|row| row["payload"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(last(&["-n", "3"]), ["297", "298", "299"]);
    assert_eq!(last(&[]).len(), 10);
    assert_eq!(last(&["-n", "1000"]).len(), 300);

    let args = ["tail", "jobs", "-n", "1", "-f", "--every", "10ms", "--payload", "utf8", "--format", "jsonl"];
    let mut tail = place.start(&args);
    let mut next = || {
        let row: Value = serde_json::from_str(&tail.line()).unwrap();
        row["payload"].as_str().unwrap().to_owned()
    };
    assert_eq!(next(), "299");
    place.push("new\n");
    assert_eq!(next(), "new");
    // Behind a roll, too.
    place.write("large", vec![b'x'; 700 << 10]);
    run(&place, &["push", "jobs", "--whole", "large", "large", "large"]);
    place.push("behind\n");
    for _ in 0..3 {
        assert_eq!(next().len(), 700 << 10);
    }
    assert_eq!(next(), "behind");
}

#[test]
fn check_compares_with_every_limit() {
    let place = varied();
    run(&place, &["group", "add", "jobs", "default"]);
    let check = |args: &[&str]| -> Done { place.run(&[&["check", "jobs"], args].concat()) };
    assert_eq!(check(&[]).code, 2);
    for (within, over) in [
        (["--max-lag", "4"], ["--max-lag", "3"]),
        (["--max-age", "1h"], ["--max-age", "0s"]),
        (["--max-pinned", "1000000"], ["--max-pinned", "1"]),
        (["--min-free", "1"], ["--min-free", "18446744073709551615"]),
    ] {
        assert_eq!(check(&within).code, 0, "{within:?}");
        if over[0] == "--max-age" {
            // A second must have passed, by clocks that may be set.
            continue;
        }
        let done = check(&over);
        assert!(done.code == 1 && done.out.contains("over"), "{over:?}: {done:?}");
        assert_eq!(check(&[over, ["--max-dead", "0"]].concat()).code, 1);
    }
    assert_eq!(check(&["--max-dead", "0", "--group", "nobody"]).code, 2);
}

#[test]
fn compact_gives_back_what_is_done() {
    let place = Place::new();
    place.write("large", vec![b'x'; 500 << 10]);
    let files = vec!["large"; 20];
    run(&place, &[&["push", "jobs", "--whole"], &files[..]].concat());
    run(&place, &["group", "add", "jobs", "default"]);
    run(&place, &["purge", "jobs"]);

    let done: Value = serde_json::from_str(&run(&place, &["compact", "jobs", "--format", "json"])).unwrap();

    assert!(done["bytes"].as_u64() < Some(2 << 20), "{done}");
    assert_eq!(place.run(&["verify", "jobs", "--deep"]).code, 0);
}

#[test]
fn a_watch_has_rates_and_ends_when_it_is_told() {
    let place = varied();
    run(&place, &["group", "add", "jobs", "default"]);
    let rows = lines(&run(
        &place,
        &["stats", "jobs", "--watch", "--every", "50ms", "--looks", "3", "--format", "jsonl"],
    ));
    assert_eq!(rows.len(), 3);
    for row in &rows {
        assert_eq!(
            (&row["done_per_s"], &row["ready"], &row["schema"]),
            (&json!(0), &json!(4), &json!(1)),
            "{row}"
        );
    }
}
