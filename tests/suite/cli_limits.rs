//! Limits from the command line: stored once, and kept by every program.

use crate::cli::Place;

fn run(place: &Place, args: &[&str]) -> String {
    let done = place.run(args);
    assert_eq!((done.code, &done.err[..]), (0, ""), "{args:?}: {done:?}");
    done.out
}

#[test]
fn limits_are_shown_changed_and_kept() {
    let place = Place::new();
    place.push("a\nb\n");
    let none = "max-bytes     -\nmax-messages  -\nwhen-full     refuse\nmin-free      -\nretain-for    -\nretain-bytes  -\n";
    assert_eq!(run(&place, &["limits", "jobs"]), none);

    let set = run(
        &place,
        &[
            "limits",
            "jobs",
            "--wait",
            "1m",
            "--max-messages",
            "2",
            "--when-full",
            "block:10ms",
            "--retain-for",
            "7d",
        ],
    );

    assert_eq!(run(&place, &["limits", "jobs"]), set);
    assert!(set.contains("max-messages  2\nwhen-full     block:10ms\n"), "{set}");
    assert!(set.contains("retain-for    7days\n"), "{set}");
    let full = place.run_with(&["push", "jobs", "--wait", "1m"], b"c\n");
    assert_eq!(full.code, 6);
    assert!(full.err.contains("max_messages"), "{full:?}");
    run(&place, &["limits", "jobs", "--wait", "1m", "--when-full", "discard-oldest"]);
    place.run(&["group", "add", "jobs", "default"]);
    place.push("c\n");
    assert_eq!(place.drain(), [b"b", b"c"]);
    run(
        &place,
        &[
            "limits",
            "jobs",
            "--wait",
            "1m",
            "--max-messages",
            "0",
            "--retain-for",
            "0s",
            "--when-full",
            "refuse",
        ],
    );
    assert_eq!(run(&place, &["limits", "jobs"]), none);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let place = Place::new();
    place.push("a\n");

    for args in [["--when-full", "later"], ["--when-full", "block:"], ["--max-bytes", "1000"]] {
        let done = place.run(&[&["limits", "jobs", "--wait", "1m"], &args[..]].concat());
        assert_eq!((done.code, &done.out[..]), (2, ""), "{args:?}: {done:?}");
    }
    assert_eq!(place.run(&["limits", "nowhere"]).code, 6);
}
