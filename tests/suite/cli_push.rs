//! Does `backlog push` store what it was given, and tell how far it got?

use std::io::Write;

use crate::cli::Place;

#[test]
fn a_line_is_a_message_verbatim_without_its_newline() {
    let place = Place::new();

    let done = place.run_with(&["push", "jobs"], b"one\ncr\r\n\n \xff\0\nlast");

    assert_eq!((done.code, &done.out[..], &done.err[..]), (0, "0..4\n4..5\n", ""));
    assert_eq!(place.drain(), [&b"one"[..], b"cr\r", b"", b" \xff\0", b"last"]);
}

#[test]
fn with_0_messages_end_at_a_zero_byte() {
    let place = Place::new();

    let done = place.run_with(&["push", "-0", "jobs"], b"a\nb\0\0c");

    assert_eq!(done.code, 0);
    assert_eq!(place.drain(), [&b"a\nb"[..], b"", b"c"]);
}

#[test]
fn with_whole_each_file_is_a_message_an_empty_one_too() {
    let place = Place::new();
    place.write("a", "1\n2\n");
    place.write("b", "");

    let done = place.run_with(&["push", "jobs", "--whole", "a", "-", "b"], b"in\nput");

    assert_eq!((done.code, &done.out[..]), (0, "0..1\n1..2\n2..3\n"));
    assert_eq!(place.drain(), [&b"1\n2\n"[..], b"in\nput", b""]);
}

#[test]
fn files_are_pushed_in_order() {
    let place = Place::new();
    place.write("a", "1\n2");
    place.write("b", "4\n");

    let done = place.run_with(&["push", "jobs", "a", "-", "b"], b"3\n");

    assert_eq!(done.code, 0);
    assert_eq!(place.drain(), [b"1", b"2", b"3", b"4"]);
}

#[test]
fn a_line_is_told_as_durable_before_the_next_one_comes() {
    let place = Place::new();
    let mut push = place.start(&["push", "jobs"]);
    let mut told = Vec::new();

    for line in ["a\n", "b\nc\nunfinished", "\n"] {
        push.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        told.push(push.line());
    }

    assert_eq!(told, ["0..1", "1..3", "3..4"]);
    assert_eq!(push.end(), 0);
}

#[test]
fn a_killed_push_has_stored_what_it_told() {
    let place = Place::new();
    let mut push = place.start(&["push", "jobs"]);
    push.stdin.as_mut().unwrap().write_all(b"a\nb\nc").unwrap();

    assert_eq!(push.line(), "0..2");
    push.signal("KILL");
    push.end();

    assert_eq!(place.drain(), [b"a", b"b"]);
}

#[test]
fn many_lines_are_batches_of_a_thousand_at_most_and_ranges_have_no_gap() {
    let place = Place::new();
    let input: String = (0..12_345).map(|number| format!("{number}\n")).collect();

    let done = place.run_with(&["push", "jobs"], input.as_bytes());

    let mut next = 0;
    for line in done.out.lines() {
        let (first, end) = line.split_once("..").unwrap();
        let (first, end): (u64, u64) = (first.parse().unwrap(), end.parse().unwrap());
        assert_eq!(first, next);
        assert!(end - first <= 1000);
        next = end;
    }
    assert_eq!((done.code, next), (0, 12_345));
    assert_eq!(place.drain().len(), 12_345);
}

#[test]
fn buffered_tells_one_range_after_the_last_sync() {
    let place = Place::new();
    let input: String = (0..5000).map(|number| format!("{number}\n")).collect();

    let done = place.run_with(&["push", "jobs", "--buffered"], input.as_bytes());

    assert_eq!((done.code, &done.out[..]), (0, "0..5000\n"));
    assert_eq!(place.drain().len(), 5000);
}

#[test]
fn an_empty_stdin_pushes_nothing_creates_the_queue_and_says_so() {
    let place = Place::new();

    for args in [&["push", "jobs"][..], &["push", "jobs", "--whole"]] {
        let done = place.run(args);

        assert_eq!((done.code, &done.out[..]), (0, ""));
        assert_eq!(done.err, "backlog: nothing was pushed: the input is empty\n");
    }
    assert_eq!(place.run(&["stats", "jobs"]).code, 0);
}

#[test]
fn nobody_reading_the_ranges_is_no_error_and_loses_nothing() {
    let place = Place::new();
    let mut push = place.start(&["push", "jobs"]);
    push.stdin.as_mut().unwrap().write_all(b"a\n").unwrap();
    push.line();
    let (reader, _) = std::io::pipe().unwrap();
    drop(std::mem::replace(
        &mut push.out,
        std::io::BufReader::new(std::process::ChildStdout::from(std::os::fd::OwnedFd::from(reader))),
    ));

    push.stdin.as_mut().unwrap().write_all(b"b\nc\n").unwrap();

    assert_eq!(push.end(), 0);
    assert_eq!(place.drain().len(), 3);
}

#[test]
fn an_endless_line_is_refused_in_bounded_memory_and_names_its_line() {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_backlog");
    // 1 GiB of zeros in 400 MB of address space, threads and all.
    let script =
        format!("ulimit -v 400000; (echo first; head -c 1073741824 /dev/zero) | {program} push jobs");
    let output =
        std::process::Command::new("sh").args(["-c", &script]).current_dir(place.path("")).output().unwrap();

    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{err}");
    assert!(err.starts_with("backlog: stdin, line 2: a message of "), "{err}");
    assert_eq!(err.lines().count(), 1);
    assert_eq!(output.stdout, b"0..1\n");
    assert_eq!(place.drain(), [b"first"]);
}

#[test]
fn what_is_said_of_messages_goes_with_each_of_them() {
    let place = Place::new();
    let args = [
        "push",
        "jobs",
        "--kind",
        "email/2",
        "--header",
        "trace=a=1",
        "--header",
        "empty=",
        "--expires-in",
        "1h",
    ];
    assert_eq!(place.run_with(&args, b"a\nb\n").code, 0);
    assert_eq!(place.run_with(&["push", "jobs", "--delay", "2h"], b"later\n").code, 0);
    assert_eq!(place.run_with(&["push", "jobs", "--at", "2020-01-01T00:00:00Z"], b"due\n").code, 0);

    let queue = backlog::Queue::open(place.path("jobs")).unwrap();
    let worker = queue.consumer().unwrap();
    for payload in [b"a", b"b"] {
        let job = worker.try_recv().unwrap().unwrap();
        assert_eq!((job.payload(), job.kind()), (&payload[..], Some("email/2")));
        let headers: Vec<_> =
            job.headers().map(|(name, value)| (name, value.as_str().unwrap().to_owned())).collect();
        assert_eq!(headers, [("trace", "a=1".to_owned()), ("empty", String::new())]);
        assert!(job.expires_at().is_some());
        job.ack().unwrap();
    }
    let due = worker.try_recv().unwrap().unwrap();
    assert_eq!(due.payload(), b"due");
    due.ack().unwrap();
    assert!(worker.try_recv().unwrap().is_none());
    assert_eq!(queue.stats().groups[0].delayed, 1);
    queue.close().unwrap();
    for bad in [&["--header", "x"][..], &["--at", "soon"], &["--delay", "1s", "--at", "2020-01-01T00:00:00Z"]]
    {
        let done = place.run(&[&["push", "jobs"], bad].concat());
        assert_eq!(done.code, 2, "{done:?}");
    }
}
