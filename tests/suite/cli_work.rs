//! Does `backlog work` run a command for each message, and settle by its exit code?

use std::collections::BTreeSet;
use std::io::Write;

use crate::cli::Place;

#[test]
fn a_command_gets_the_message_and_its_environment() {
    let place = Place::new();
    place.push("a\n\nb\n");

    let done =
        place.work("cat; echo \" $BACKLOG_OFFSET $BACKLOG_ATTEMPT $BACKLOG_GROUP ${BACKLOG_ID#????????????????????????????????}\"");

    assert_eq!(done.out, "a 0 1 default -0\n 1 1 default -1\nb 2 1 default -2\n");
    assert_eq!((done.code, place.counts()), (0, [0, 0, 0, 0]));
}

#[test]
fn exit_65_rejects_and_others_nack_with_the_end_of_stderr() {
    let place = Place::new();
    place.push("ok\nbad\nlater\n");

    let done = place.work("case $(cat) in bad) exit 65;; later) echo boom >&2; exit 7;; esac");

    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(place.counts(), [0, 1, 0, 1]);
    assert!(done.err.contains("boom\n"), "{done:?}");
    assert!(done.err.contains("1 acked, 1 nacked, 1 rejected, 0 released"), "{done:?}");
}

#[test]
fn until_empty_exits_1_with_the_next_due_time_while_retries_remain() {
    let place = Place::new();
    place.push("x\n");

    let done = place.work("exit 1");

    assert_eq!(done.code, 1);
    let due = done.err.split("the next is due ").nth(1).unwrap().trim();
    assert!(due.starts_with("20") && due.ends_with('Z') && due.len() == 24, "{due}");
}

#[test]
fn a_command_that_ignores_a_large_message_is_no_error() {
    let place = Place::new();
    place.write("large", vec![b'x'; 3 << 20]);
    assert_eq!(place.run(&["push", "jobs", "--whole", "large", "large"]).code, 0);

    let done = place.work("[ $BACKLOG_OFFSET = 0 ] || wc -c");

    assert_eq!((done.code, done.out.trim()), (0, "3145728"), "{}", done.err);
}

#[test]
fn what_a_command_leaves_in_the_background_does_not_hold_the_work_up() {
    let place = Place::new();
    place.push("x\n");

    let done =
        place.run(&["work", "jobs", "--until-empty", "--", "sh", "-c", "sleep 1000 >/dev/null & echo $!"]);

    let pid = done.out.trim();
    assert!(std::process::Command::new("kill").arg(pid).status().unwrap().success());
    assert_eq!((done.code, place.counts()), (0, [0, 0, 0, 0]));
}

#[test]
fn n_ends_after_so_many_messages() {
    let place = Place::new();
    place.push("a\nb\nc\n");

    let done = place.run(&["work", "jobs", "-n", "2", "--", "cat"]);

    assert_eq!((done.code, &done.out[..]), (0, "ab"));
    assert_eq!(place.counts(), [1, 0, 0, 0]);
}

#[test]
fn j_runs_so_many_at_a_time() {
    let place = Place::new();
    place.push("a\nb\nc\n");
    assert!(std::process::Command::new("mkfifo").arg(place.path("gate")).status().unwrap().success());
    let script = "echo $BACKLOG_OFFSET; cat gate";
    let mut work = place.start(&["work", "jobs", "-j", "3", "--until-empty", "--", "sh", "-c", script]);

    let started: BTreeSet<String> = (0..3).map(|_| work.line()).collect();
    // Open as long as any of them might still have to open its end.
    let gate = std::fs::OpenOptions::new().read(true).write(true).open(place.path("gate")).unwrap();
    drop(gate);

    assert_eq!(started, ["0", "1", "2"].map(String::from).into());
    work.signal("INT");
    work.signal("INT");
    work.end();
}

#[test]
fn a_command_that_is_not_there_ends_the_work_and_burns_no_try() {
    let place = Place::new();
    place.push("a\nb\n");

    let done = place.run(&["work", "jobs", "--", "no-such-command"]);

    assert_eq!((done.code, done.err.lines().count()), (2, 1), "{done:?}");
    assert!(done.err.contains("cannot run no-such-command"), "{done:?}");
    let attempts = place.work("echo $BACKLOG_ATTEMPT");
    assert_eq!(attempts.out, "1\n1\n");
}

#[test]
fn sigterm_waits_for_running_commands_and_takes_no_more() {
    let place = Place::new();
    place.push("a\nb\nc\n");
    let script = "echo started; read go < gate; echo finished";
    assert!(std::process::Command::new("mkfifo").arg(place.path("gate")).status().unwrap().success());
    let mut work = place.start(&["work", "jobs", "--", "sh", "-c", script]);

    assert_eq!(work.line(), "started");
    work.signal("TERM");
    let mut heard = std::io::BufReader::new(work.child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut heard, &mut line).unwrap();
    assert!(line.contains("stopping"), "{line}");
    std::fs::write(place.path("gate"), "go\n").unwrap();

    assert_eq!(work.line(), "finished");
    assert_eq!((work.line(), work.end()), (String::new(), 0));
    assert_eq!(place.work("echo $BACKLOG_OFFSET $BACKLOG_ATTEMPT").out, "1 1\n2 1\n");
}

#[test]
fn when_the_grace_is_over_commands_are_ended_and_no_try_is_burnt() {
    let place = Place::new();
    place.push("a\n");
    let mut work =
        place.start(&["work", "jobs", "--grace", "10ms", "--", "sh", "-c", "echo started; exec sleep 1000"]);

    assert_eq!(work.line(), "started");
    work.signal("INT");

    // The command held stdout: at its end nobody does.
    assert_eq!((work.line(), work.end()), (String::new(), 0));
    assert_eq!(place.work("echo $BACKLOG_ATTEMPT").out, "1\n");
}

#[test]
fn after_kill_9_every_message_is_handled_by_the_next_work() {
    let place = Place::new();
    place.push("a\nb\nc\n");
    let mut work = place.start(&[
        "work",
        "jobs",
        "--",
        "sh",
        "-c",
        "echo $$ $BACKLOG_OFFSET; [ $BACKLOG_OFFSET = 0 ] || exec sleep 1000",
    ]);
    let first = work.line();
    let second = work.line();
    assert!(first.ends_with(" 0") && second.ends_with(" 1"));

    work.signal("KILL");
    work.end();
    let left_behind = second.split(' ').next().unwrap();
    assert!(std::process::Command::new("kill").arg(left_behind).status().unwrap().success());

    let done = place.work("echo $BACKLOG_OFFSET $BACKLOG_ATTEMPT");
    let handled: Vec<&str> = done.out.lines().filter(|line| !line.starts_with('0')).collect();
    assert_eq!((done.code, handled), (0, vec!["1 2", "2 1"]), "{done:?}");
}

#[test]
fn work_never_creates_a_queue_nor_a_group() {
    let place = Place::new();

    let done = place.run(&["work", "jobs", "--", "cat"]);
    assert_eq!((done.code, done.err.lines().count()), (6, 1), "{done:?}");
    assert!(!place.path("jobs").exists());

    place.push("a\n");
    let done = place.run(&["work", "jobs", "--group", "mial", "--", "cat"]);
    assert_eq!((done.code, &done.err[..]), (2, "backlog: no group \"mial\" here; there are: none\n"));
}

#[test]
fn a_queue_that_somebody_has_for_himself_is_refused_or_waited_for() {
    let place = Place::new();
    place.push("a\n");
    let alone = backlog::Options::new(place.path("jobs")).exclusive(true);
    let alone = crate::harness::patiently(&alone);
    alone.push("b").unwrap();

    let done = place.run(&["work", "jobs", "--until-empty", "--", "cat"]);
    assert_eq!((done.code, done.err.lines().count()), (3, 1), "{done:?}");

    let mut work =
        place.start(&["work", "jobs", "--until-empty", "--wait", "1m", "--", "sh", "-c", "cat; echo"]);
    alone.close().unwrap();
    assert_eq!((work.line(), work.line(), work.end()), ("a".into(), "b".into(), 0));
}

#[test]
fn push_and_four_works_and_stats_and_revive_go_on_beside_each_other() {
    let place = Place::new();
    place.push("first\n");
    // So there is the group.
    assert_eq!(place.work("true").code, 0);
    let mut push = place.start(&["push", "jobs"]);
    let works: Vec<_> =
        (0..4).map(|_| place.start(&["work", "jobs", "--", "sh", "-c", "cat; echo"])).collect();
    let mut input = push.stdin.take().unwrap();
    for number in 0..40 {
        writeln!(input, "{number}").unwrap();
        push.line();
    }
    let stats = place.run(&["stats", "jobs"]);
    assert_eq!(stats.code, 0, "{stats:?}");
    let revived = place.run(&["revive", "jobs", "--all"]);
    assert_eq!(revived.code, 0, "{revived:?}");
    drop(input);
    assert_eq!(push.end(), 0);

    // What is left is done by one more; each message was handled by one of them.
    let rest = place.run(&["work", "jobs", "--until-empty", "--", "sh", "-c", "cat; echo"]);
    assert_eq!(rest.code, 0, "{rest:?}");
    let mut handled: Vec<String> = rest.out.lines().map(str::to_owned).collect();
    for mut work in works {
        work.signal("TERM");
        handled.extend(std::iter::from_fn(|| Some(work.line()).filter(|line| !line.is_empty())));
        assert_eq!(work.end(), 0);
    }
    handled.sort();
    let mut all: Vec<String> = (0..40).map(|number: u32| number.to_string()).collect();
    all.sort();
    assert_eq!(handled, all);
}
