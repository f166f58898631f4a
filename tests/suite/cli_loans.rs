//! `recv`, `ack`, `nack`, `extend`: one message at a time, from a script.

use std::fs;

use crate::cli::Place;

fn receipt(place: &Place) -> String {
    let done = place.run(&["recv", "jobs", "--to", "payload"]);
    assert_eq!((done.code, &done.err[..]), (0, ""), "{done:?}");
    done.out.trim().to_owned()
}

#[test]
fn a_message_is_received_by_one_process_and_acked_by_another() {
    let place = Place::new();
    place.push("first\nsecond\n");

    let done = place.run(&["recv", "jobs", "--receipt", "receipt"]);
    assert_eq!((done.code, &done.out[..], &done.err[..]), (0, "first", ""));
    assert_eq!(place.counts(), [1, 0, 1, 0]);
    let acked = place.run(&["ack", "jobs", "@receipt"]);
    let again = place.run(&["ack", "jobs", "@receipt"]);

    assert_eq!((acked.code, again.code), (0, 4), "{again:?}");
    assert!(again.err.contains("the loan of message 0 is over"), "{again:?}");
    assert_eq!(place.drain(), [b"second"]);
}

#[test]
fn payload_and_receipt_go_where_they_are_told() {
    let place = Place::new();
    place.push("to a file\nto stdout\nacked\n");

    let to_file = receipt(&place);
    assert_eq!(fs::read(place.path("payload")).unwrap(), b"to a file");
    let to_stdout = place.run(&["recv", "jobs"]);
    assert_eq!((to_stdout.code, &to_stdout.out[..]), (0, "to stdout"));
    let told = to_stdout.err.trim().rsplit(' ').next().unwrap();
    let acked = place.run(&["recv", "jobs", "--ack"]);

    assert_eq!((acked.code, &acked.out[..], &acked.err[..]), (0, "acked", ""));
    assert_eq!(place.run(&["ack", "jobs", &to_file]).code, 0);
    assert_eq!(place.run(&["ack", "jobs", told]).code, 0);
    assert_eq!(place.run(&["recv", "jobs"]).code, 1);
    assert_eq!(place.counts(), [0, 0, 0, 0]);
}

#[test]
fn a_nack_says_what_is_to_become_of_the_message() {
    let place = Place::new();
    place.push("a\nb\nc\nd\n");
    let receipts: Vec<String> = (0..4).map(|_| receipt(&place)).collect();

    assert_eq!(place.run(&["nack", "jobs", &receipts[0], "--reason", "no paper"]).code, 0);
    assert_eq!(place.run(&["nack", "jobs", &receipts[1], "--reject", "--reason", "never"]).code, 0);
    assert_eq!(place.run(&["nack", "jobs", &receipts[2], "--release"]).code, 0);
    assert_eq!(place.run(&["nack", "jobs", &receipts[3], "--after", "5h"]).code, 0);

    assert_eq!(place.counts(), [1, 2, 0, 1]);
    let dead = place.run(&["dead", "jobs"]);
    assert_eq!(dead.code, 1);
    let words: Vec<&str> = dead.out.lines().last().unwrap().split_whitespace().collect();
    assert_eq!((&words[..4], words.last()), (&["1", "rejected", "0", "0"][..], Some(&"never")));
}

#[test]
fn a_loan_that_ran_out_comes_again_unless_it_was_extended() {
    let place = Place::new();
    place.push("short\n");
    let recv = |file: &str| {
        let done = place.run(&["recv", "jobs", "--lease", "1ms", "--receipt", file]);
        assert_eq!(done.code, 0, "{done:?}");
    };
    recv("short");
    // The retry policy of the group: at once.
    assert_eq!(place.run(&["group", "set", "jobs", "default", "--retry", "0s"]).code, 0);

    let again = place.run(&["recv", "jobs", "--timeout", "10s", "--lease", "1ms", "--receipt", "again"]);
    assert_eq!((again.code, &again.out[..]), (0, "short"), "{again:?}");
    assert_eq!(place.run(&["ack", "jobs", "@short"]).code, 4);
    place.push("long\n");
    let extended = place.run(&["extend", "jobs", "@again", "--lease", "10m"]);

    assert_eq!(extended.code, 0, "{extended:?}");
    assert_eq!(place.run(&["recv", "jobs", "--ack"]).out, "long");
    assert_eq!(place.run(&["ack", "jobs", "@again"]).code, 0);
}

#[test]
fn what_nobody_takes_goes_back() {
    let place = Place::new();
    place.push("a\n");

    let done = place.run(&["recv", "jobs", "--to", "no/such/folder/file"]);

    assert_eq!(done.code, 6, "{done:?}");
    assert!(done.err.contains("cannot write no/such/folder/file"), "{done:?}");
    assert_eq!(place.counts(), [1, 0, 0, 0]);
}

#[test]
fn a_receipt_that_is_none_is_a_matter_of_usage() {
    let place = Place::new();
    place.push("a\n");
    let stale = receipt(&place);
    for (bad, code) in [("nonsense", 2), ("@missing", 6), (&stale.replace("/0/", "/7/"), 4), (&stale[1..], 2)]
    {
        let done = place.run(&["ack", "jobs", bad]);
        assert_eq!((done.code, done.err.lines().count()), (code, 1), "{bad}: {done:?}");
    }
    let elsewhere = format!("{:032x}{}", 1, &stale[32..]);
    let done = place.run(&["ack", "jobs", &elsewhere]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("of another queue"), "{done:?}");
    assert_eq!(place.counts(), [0, 0, 1, 0]);
}

#[test]
fn recv_makes_no_queue_and_no_group_but_default() {
    let place = Place::new();
    assert_eq!(place.run(&["recv", "jobs"]).code, 6);
    assert!(!place.path("jobs").exists());
    place.push("a\n");
    let done = place.run(&["recv", "jobs", "--group", "maler"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("no group \"maler\" here"), "{done:?}");
}
