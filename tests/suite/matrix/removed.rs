//! Is nobody promised anything of a file that was removed while it was open?

use std::fs;

use backlog::testing::SimDisk;
use backlog::{Error, FindingKind, verify as verify_folder};

use super::damage::reports;
use super::folder::{ACTIVE, Jobs};
use super::stage::*;
use super::table::Point;
use crate::harness::drain;
use crate::script::{Setup, Trouble};
use crate::step::Step;

const PUSH: Step = Step::Push { synced: true, length: 100 };

/// What is removed, and what comes of the point's step.
fn cases(point: Point, active: &str) -> Vec<(Vec<String>, Then)> {
    let files = |names: &[&str], then| (names.iter().map(|&name| name.to_owned()).collect(), then);
    let halves = &["groups/g/0.offsets", "groups/g/1.offsets"];
    match point {
        Point::Append | Point::Batch | Point::Sync => vec![
            files(&[active], Then::X),
            // Nothing is written there: whoever comes to it is told.
            files(&["MANIFEST"], Then::Same),
            files(halves, Then::Same),
        ],
        Point::Roll => vec![files(&[active], Then::X), files(&["MANIFEST"], Then::X)],
        Point::Ack => vec![files(halves, Then::Q), files(&[active], Then::Same)],
        _ => vec![files(halves, Then::Q), files(&["MANIFEST"], Then::Same)],
    }
}

pub(crate) fn removed(point: Point) {
    match point {
        Point::Open | Point::Inspect => left_without(point),
        _ => while_it_is_open(point),
    }
    if point == Point::Roll {
        a_folder_that_was_moved_goes_on();
        a_roll_without_its_folder();
    }
    if point == Point::Append {
        a_folder_that_was_removed_is_not_promised_anything();
    }
}

fn while_it_is_open(point: Point) {
    for with_fresh_name in [false, true] {
        for (names, then) in cases(point, "log/000000001.seg") {
            let mut stage = Stage::at(point);
            for name in &names {
                let bytes = stage.run.disk.read_file(name).unwrap();
                stage.run.disk.remove_file(name);
                if with_fresh_name {
                    // A copy in its place is another file, and not the one that is written to.
                    stage.run.disk.write_file(name, &bytes);
                }
            }

            let error = stage.act();

            println!("{point:?} without {names:?}: {error:?}");
            match then {
                Then::Same => assert!(error.is_none(), "{names:?}: {error:?}"),
                _ => assert!(matches!(error, Some(Error::Poisoned { .. })), "{names:?}: {error:?}"),
            }
            if then == Then::X {
                let again = stage.step(PUSH);
                assert!(matches!(again, Some(Error::Poisoned { .. })), "a push later: {again:?}");
            }
            if then == Then::Q {
                let again = stage.step(Step::Receive { group: GROUP, count: 1 });
                assert!(matches!(again, Some(Error::Poisoned { .. })), "a later loan: {again:?}");
                assert!(stage.step(PUSH).is_none());
            }
            stage.goes_on(OTHER);
            if !with_fresh_name {
                refused_by_name(&stage.run.disk.kill(), &names);
            }
        }
    }
}

/// The next opening, and one who looks, name what is missing.
fn refused_by_name(disk: &SimDisk, names: &[String]) {
    let before = all(disk);
    let refused = backlog::Options::new("jobs").sim_disk(disk).threads(false).open().map(drop).unwrap_err();
    match &refused {
        Error::Refused { path, .. } => {
            assert!(names.iter().any(|name| path.ends_with(name)), "{names:?}: {refused:?}");
        }
        Error::NotAQueue { found, .. } => assert!(found.contains("MANIFEST"), "{refused:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(all(disk), before, "a refusal changes nothing");
}

fn left_without(point: Point) {
    let left = Left::new();
    let files = left.disk.files().into_iter().filter(|name| name != "LOCK");
    for name in files.collect::<Vec<_>>() {
        let disk = left.copy();
        disk.remove_file(&name);
        if point == Point::Open {
            refused_by_name(&disk, std::slice::from_ref(&name));
            disk.write_file(&name, &left.disk.read_file(&name).unwrap());
            left.check(&disk);
        } else if name == "MANIFEST" {
            assert!(matches!(verify(&disk), Err(Error::NotAQueue { .. })));
        } else {
            reports(&disk, FindingKind::Refused, &name);
        }
    }
    for name in ["log", "groups", "groups/g", "groups/other"] {
        let jobs = Jobs::new();
        fs::remove_dir_all(jobs.path(name)).unwrap();
        let before = jobs.content();
        if point == Point::Open {
            let refused = jobs.refused();
            let Error::Refused { path, .. } = &refused else { panic!("{name}: {refused:?}") };
            assert!(path.starts_with(jobs.path(name)), "{refused:?}");
        } else {
            match verify_folder(jobs.path(""), &mut |_| {}) {
                Ok(findings) => assert!(
                    findings.iter().any(|finding| {
                        finding.kind == FindingKind::Refused && finding.path.starts_with(jobs.path(name))
                    }),
                    "{name}: {findings:?}"
                ),
                Err(error) => assert!(matches!(error, Error::Refused { .. }), "{name}: {error:?}"),
            }
        }
        assert_eq!(jobs.content(), before, "nothing is changed");
    }
}

/// `rm -r` of the whole folder, and a new queue in its place.
fn a_folder_that_was_removed_is_not_promised_anything() {
    let jobs = Jobs::new();
    let queue = jobs.open();
    let consumer = queue.group("g").unwrap().consumer();
    consumer.recv().unwrap().ack().unwrap();
    let held = consumer.recv().unwrap();
    fs::remove_dir_all(jobs.path("")).unwrap();

    let (pushed, acked) = (queue.push("gone"), held.ack());
    let other = jobs.open();
    other.push("of the new one").unwrap();
    let (later, closed) = (queue.push("gone too"), queue.close());

    assert!(matches!(pushed, Err(Error::Poisoned { .. })), "{pushed:?}");
    assert!(matches!(acked, Err(Error::Poisoned { .. })), "{acked:?}");
    assert!(matches!(later, Err(Error::Poisoned { .. })), "{later:?}");
    assert!(closed.is_err());
    assert_eq!(drain(&other.consumer().unwrap()), ["of the new one"]);
    other.close().unwrap();
    jobs.open().close().unwrap();
}

/// What is written goes where the folder is, whatever has its old name.
fn a_folder_that_was_moved_goes_on() {
    let jobs = Jobs::new();
    let queue = jobs.open();
    fs::rename(jobs.path(""), jobs.elsewhere()).unwrap();
    let other = jobs.open();

    queue.push([7; 6000].as_slice()).unwrap();
    queue.create_group("late", backlog::GroupOptions::new()).unwrap();
    queue.close().unwrap();

    assert_eq!(other.groups(), [""; 0]);
    assert_eq!(drain(&other.consumer().unwrap()), [""; 0]);
    other.close().unwrap();
    let moved = crate::harness::patiently(&backlog::Options::new(jobs.elsewhere()).create(false));
    assert_eq!(moved.groups(), ["g", "late", "other"]);
    assert_eq!(moved.stats().messages, 4);
}

fn a_roll_without_its_folder() {
    let jobs = Jobs::new();
    let queue = jobs.open();
    let away = jobs.elsewhere();
    fs::rename(jobs.path("log"), &away).unwrap();

    let refused = queue.push([7; 6000].as_slice()).unwrap_err();

    assert!(matches!(refused, Error::Io { .. }), "{refused:?}");
    // What still fits goes where it always went.
    queue.push("small").unwrap();
    fs::rename(&away, jobs.path("log")).unwrap();
    queue.push([8; 6000].as_slice()).unwrap();
    queue.close().unwrap();
    assert!(jobs.path(ACTIVE).exists());
    assert_eq!(drain(&jobs.open().group("other").unwrap().consumer()).len(), 5);
}

/// A segment, a group's file or the whole folder was removed, or an older one put in its place, while
/// the queue was open: pushes and acks went on into a file without a name, and were told as synced.
#[test]
fn issue_4_what_is_written_to_a_removed_file_is_not_promised() {
    let mut stage = Stage::at(Point::Append);
    stage.run.disk.remove_file("log/000000001.seg");
    assert!(stage.act().is_some(), "a push");

    let mut stage = Stage::at(Point::Ack);
    for half in ["groups/g/0.offsets", "groups/g/1.offsets"] {
        stage.run.disk.remove_file(half);
    }
    assert!(stage.act().is_some(), "an ack");

    // Buffered, through a mapping or not: at the next sync.
    let setup = Setup { segment_bytes: 8 << 10, ..Setup::default() };
    let mut stage = Stage::with(Point::Ack, setup, Trouble::None, false);
    for half in ["groups/g/0.offsets", "groups/g/1.offsets"] {
        stage.run.disk.remove_file(half);
    }
    assert!(stage.act().is_none());
    assert!(matches!(stage.step(Step::Sync), Some(Error::Poisoned { .. })), "a sync");
}
