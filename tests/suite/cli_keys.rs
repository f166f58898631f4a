//! Keys from the command line: one message however often it is pushed, and cancelled by its key.

use crate::cli::Place;

#[test]
fn issue_5_a_message_with_a_key_is_pushed_once_and_its_offset_is_told_each_time() {
    let place = Place::new();
    let push = |key: &[&str], payload: &str| {
        let args = [&["push", "jobs", "--whole", "--wait", "1m"], key].concat();
        let done = place.run_with(&args, payload.as_bytes());
        assert_eq!(done.code, 0, "{done:?}");
        done.out
    };

    assert_eq!(push(&["--dedup-key", "signup-7"], "welcome"), "0..1\n");
    assert_eq!(push(&["--unique-key", "signup-7"], "reindex"), "1..2\n");
    assert_eq!(push(&["--dedup-key", "signup-7"], "again"), "0..1\n");
    assert_eq!(push(&["--unique-key", "signup-7"], "again"), "1..2\n");
    assert_eq!(place.drain(), [&b"welcome"[..], b"reindex"]);
    assert_eq!(push(&["--dedup-key", "signup-7"], "again"), "0..1\n");
    assert_eq!(push(&["--unique-key", "signup-7"], "again"), "2..3\n");
}

#[test]
fn a_key_is_for_one_message() {
    let place = Place::new();
    place.write("a", "1");
    let wrong: [&[&str]; 3] = [
        &["push", "jobs", "--dedup-key", "k"],
        &["push", "jobs", "--whole", "--dedup-key", "k", "a", "a"],
        &["push", "jobs", "--whole", "--dedup-key", "k", "--unique-key", "k"],
    ];
    for args in wrong {
        assert_eq!(place.run_with(args, b"x\n").code, 2, "{args:?}");
    }
    let empty = place.run_with(&["push", "jobs", "--whole", "--unique-key", ""], b"x");
    assert_eq!(empty.code, 2, "{empty:?}");
    assert!(empty.err.contains("1 to 255 are allowed"), "{empty:?}");
}

#[test]
fn issue_5_messages_are_discarded_by_their_key() {
    let place = Place::new();
    for key in ["a", "b"] {
        let done = place.run_with(&["push", "jobs", "--whole", "--unique-key", key], key.as_bytes());
        assert_eq!(done.code, 0, "{done:?}");
    }
    assert_eq!(place.run(&["group", "add", "jobs", "mailer"]).code, 0);

    let one = place.run(&["discard", "jobs", "--key", "a"]);
    let none = place.run(&["discard", "jobs", "--key", "a", "--group", "mailer"]);
    let other = place.run(&["discard", "jobs", "--key", "b", "--group", "mailer"]);

    assert_eq!((one.code, &one.out[..]), (0, "1\n"), "{one:?}");
    assert_eq!((none.code, &none.out[..]), (0, "0\n"), "{none:?}");
    assert_eq!((other.code, &other.out[..]), (0, "1\n"), "{other:?}");
    assert_eq!(place.run(&["discard", "jobs"]).code, 2, "neither offsets nor a key");
    assert_eq!(place.run(&["discard", "jobs", "0", "--key", "a"]).code, 2, "both");
}
