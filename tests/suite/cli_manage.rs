//! `dead`, `revive`, `discard`, `pause`, `resume`, `seek`, `purge`, `group`: by people, and by scripts.

use crate::cli::Place;

fn run(place: &Place, args: &[&str]) -> String {
    let done = place.run(args);
    assert_eq!((done.code, &done.err[..]), (0, ""), "{args:?}: {done:?}");
    done.out
}

#[test]
fn dead_letters_are_listed_revived_and_discarded() {
    let place = Place::new();
    place.push("a\nb\nc\n");
    assert_eq!(run(&place, &["group", "add", "jobs", "other"]), "");
    place.work("echo 'no\tpaper' >&2; exit 65");

    let text = place.run(&["dead", "jobs"]);
    let json = place.run(&["dead", "jobs", "--format", "jsonl"]);

    assert_eq!((text.code, json.code, text.out.lines().count()), (1, 1, 4));
    let first: Vec<&str> = text.out.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(first[..4], ["0", "rejected", "0", "0"], "{text:?}");
    assert!(text.out.lines().skip(1).all(|line| line.ends_with("no\\tpaper")), "{text:?}");
    let lines: Vec<serde_json::Value> =
        json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[2]["offset"], &lines[2]["reason"]), (&2.into(), &"rejected".into()));
    assert!(lines[2]["pushed_ms"].as_u64() > Some(1_700_000_000_000), "{json:?}");
    assert_eq!(run(&place, &["revive", "jobs", "1", "99"]), "1\n");
    assert_eq!(run(&place, &["discard", "jobs", "2", "--group", "default"]), "1\n");
    assert_eq!(run(&place, &["discard", "jobs", "2", "0"]), "2\n");
    assert_eq!(place.counts(), [1, 0, 0, 0]);
    assert_eq!(run(&place, &["revive", "jobs", "--all"]), "0\n");
    assert_eq!(place.run(&["dead", "jobs"]).code, 0);
    assert_eq!(run(&place, &["recv", "jobs", "--group", "other", "--ack"]), "b");
    assert_eq!(place.drain(), [b"b"]);
}

#[test]
fn a_paused_group_stands_still_and_stats_say_so() {
    let place = Place::new();
    place.push("a\n");
    place.run(&["recv", "jobs", "--receipt", "receipt"]);

    run(&place, &["pause", "jobs", "--release"]);

    assert_eq!(place.run(&["recv", "jobs"]).code, 1);
    assert!(run(&place, &["stats", "jobs"]).contains("paused"));
    assert_eq!(place.run(&["ack", "jobs", "@receipt"]).code, 4);
    run(&place, &["resume", "jobs"]);
    assert!(!run(&place, &["stats", "jobs"]).contains("paused"));
    run(&place, &["pause", "jobs", "--for", "1ms"]);
    assert_eq!(run(&place, &["recv", "jobs", "--timeout", "10s", "--ack"]), "a");
}

#[test]
fn a_group_goes_where_it_is_told() {
    let place = Place::new();
    place.push("a\nb\nc\n");
    assert_eq!(place.drain().len(), 3);

    assert_eq!(run(&place, &["seek", "jobs", "1"]), "1\n");
    assert_eq!(place.drain(), [b"b", b"c"]);
    assert_eq!(run(&place, &["seek", "jobs", "beginning"]), "0\n");
    assert_eq!(run(&place, &["purge", "jobs"]), "3\n");
    assert_eq!(run(&place, &["seek", "jobs", "2020-01-01T00:00:00Z"]), "0\n");
    assert_eq!(run(&place, &["seek", "jobs", "2100-01-01T00:00:00Z"]), "3\n");
    assert_eq!(run(&place, &["seek", "jobs", "end"]), "3\n");
    for bad in ["yesterday", "-1", "1900-01-01T00:00:00Z"] {
        assert_eq!(place.run(&["seek", "jobs", "--", bad]).code, 2, "{bad}");
    }
}

#[test]
fn groups_are_made_changed_listed_and_removed() {
    let place = Place::new();
    place.push("a\nb\n");

    run(&place, &["group", "add", "jobs", "audit", "--start", "1", "--max-failures", "1", "--lease", "5m"]);
    run(
        &place,
        &["group", "add", "jobs", "late", "--start", "end", "--retry", "1s+..1h", "--synced-acks", "yes"],
    );

    let groups = || {
        let rows = run(&place, &["group", "ls", "jobs", "--format", "csv"]);
        rows.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(groups(), ["audit", "late"]);
    assert_eq!(run(&place, &["recv", "jobs", "--group", "audit", "--receipt", "r"]), "b");
    run(&place, &["nack", "jobs", "@r"]);
    assert_eq!(place.run(&["dead", "jobs", "--group", "audit"]).out.lines().count(), 2);
    run(&place, &["group", "set", "jobs", "audit", "--max-failures", "9", "--retry", "1s,2s,3s"]);
    run(&place, &["group", "rm", "jobs", "late"]);
    assert_eq!(groups(), ["audit"]);
    for (bad, code) in [
        (&["group", "add", "jobs", "audit"][..], 2),
        (&["group", "add", "jobs", "Bad Name"], 2),
        (&["group", "rm", "jobs", "late"], 2),
        (&["group", "set", "jobs", "audit", "--retry", "soon"], 2),
        (&["group", "set", "jobs", "audit", "--max-losses", "0"], 2),
        (&["group", "ls", "nowhere"], 6),
    ] {
        assert_eq!(place.run(bad).code, code, "{bad:?}");
    }
}

#[test]
fn issue_5_a_group_takes_the_kinds_that_it_is_told() {
    let place = Place::new();
    place.push("of no kind\n");
    run(&place, &["group", "add", "jobs", "mailer", "--kind", "email/2", "--kind", "email/1"]);
    for kind in ["email/1", "thumbnail/1", "email/2"] {
        assert_eq!(place.run_with(&["push", "jobs", "--kind", kind], kind.as_bytes()).code, 0);
    }

    let takes = || {
        let rows: serde_json::Value =
            serde_json::from_str(&run(&place, &["group", "ls", "jobs", "--format", "json"])).unwrap();
        rows["groups"][0]["kinds"].clone()
    };
    assert_eq!(takes(), serde_json::json!(["email/1", "email/2"]));
    assert_eq!(run(&place, &["recv", "jobs", "--group", "mailer", "--ack"]), "email/1");
    assert_eq!(run(&place, &["recv", "jobs", "--group", "mailer", "--ack"]), "email/2");
    run(&place, &["group", "set", "jobs", "mailer", "--any-kind"]);
    assert_eq!(takes(), "all");
    assert_eq!(place.run(&["group", "set", "jobs", "mailer", "--any-kind", "--kind", "x"]).code, 2);
    assert_eq!(place.run(&["group", "add", "jobs", "other", "--kind", ""]).code, 2);
}
