//! `repair`, `quarantine`, `undelete`: by people, and by scripts.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::cli::Place;

/// Each push of a line takes so many bytes of the segment: header, record, zeros.
const BATCH: u64 = 40;

fn pushed(lines: &[&str]) -> Place {
    let place = Place::new();
    for line in lines {
        place.push(&format!("{line}\n"));
    }
    let added = place.run(&["group", "add", "jobs", "default", "--start", "beginning"]);
    assert_eq!(added.code, 0, "{added:?}");
    place
}

fn flip(place: &Place, position: u64) {
    let path = place.path("jobs/log/000000001.seg");
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 1], position).unwrap();
}

#[test]
fn a_plan_is_printed_and_done_only_when_that_is_said() {
    let place = pushed(&["a", "b", "c"]);
    flip(&place, 4096 + BATCH + 32);

    let plan = place.run(&["repair", "jobs", "--format", "jsonl"]);
    let before = place.everything();
    let refused = place.run(&["repair", "jobs", "--apply"]);
    let untouched = place.everything() == before;
    let done = place.run(&["repair", "jobs", "--apply", "--allow-loss"]);
    let again = place.run(&["repair", "jobs"]);

    assert_eq!(
        (plan.code, refused.code, done.code, again.code),
        (1, 4, 0, 0),
        "{plan:?} {refused:?} {done:?}"
    );
    assert!(untouched, "a refusal changed something");
    let step: serde_json::Value = serde_json::from_str(plan.out.lines().next().unwrap()).unwrap();
    assert_eq!((&step["step"], &step["first"], &step["loses"]), (&"copy".into(), &1.into(), &true.into()));
    assert!(refused.err.contains("--allow-loss"), "{refused:?}");
    assert!(done.err.contains("offsets 1..2 cannot be read any more"), "{done:?}");
    assert_eq!(place.run(&["verify", "jobs", "--deep"]).code, 0);
    let worked = place.run(&["work", "jobs", "--until-empty", "--", "cat"]);
    assert_eq!(worked.out, "ac", "{worked:?}");
    assert!(place.run(&["dead", "jobs"]).out.contains("damaged"));
}

#[test]
fn what_was_set_aside_is_listed_and_shown_byte_for_byte() {
    let place = pushed(&["a", "b", "c"]);
    flip(&place, 4096 + BATCH + 32);
    let bad = fs::read(place.path("jobs/log/000000001.seg")).unwrap();
    assert_eq!(place.run(&["quarantine", "ls", "jobs"]).code, 0);
    assert_eq!(place.run(&["repair", "jobs", "--apply", "--allow-loss"]).code, 0);

    let listed = place.run(&["quarantine", "ls", "jobs", "--format", "jsonl"]);

    assert_eq!(listed.code, 1, "{listed:?}");
    let file: serde_json::Value = serde_json::from_str(listed.out.trim()).unwrap();
    let name = file["name"].as_str().unwrap();
    assert!(name.ends_with(".damaged") && file["bytes"] == BATCH, "{file}");
    assert!(file["what"].as_str().unwrap().contains("offsets that cannot be read: 1..2"), "{file}");
    let kept = fs::read(place.path(&format!("jobs/quarantine/{name}"))).unwrap();
    assert_eq!(kept, bad[4096 + 40..4096 + 80]);
    let shown = place.run(&["quarantine", "show", "jobs", name]);
    assert_eq!((shown.code, shown.out.len()), (0, String::from_utf8_lossy(&kept).len()), "{shown:?}");
    let other = place.run(&["quarantine", "show", "jobs", "../MANIFEST"]);
    assert_eq!((other.code, &other.out[..]), (2, ""), "{other:?}");
}

#[test]
fn a_queue_that_is_open_elsewhere_is_not_repaired() {
    let place = pushed(&["a", "b"]);
    let mut work = place.start(&["work", "jobs", "--", "sh", "-c", "echo started; exec sleep 1000"]);
    work.line();

    let plan = place.run(&["repair", "jobs"]);
    let done = place.run(&["repair", "jobs", "--apply"]);

    assert_eq!((plan.code, done.code), (0, 3), "{plan:?} {done:?}");
    work.signal("INT");
    work.signal("INT");
    work.end();
}

#[test]
fn what_was_acked_by_mistake_comes_again() {
    let place = pushed(&["a", "b", "c"]);
    assert_eq!(place.run(&["work", "jobs", "--until-empty", "--", "cat"]).out, "abc");

    let one = place.run(&["undelete", "jobs", "1"]);
    let unknown = place.run(&["undelete", "jobs", "1", "99"]);

    assert_eq!((one.code, &one.out[..]), (0, "1\n"), "{one:?}");
    assert_eq!((unknown.code, &unknown.out[..]), (1, "0\n"), "{unknown:?}");
    assert_eq!(place.run(&["work", "jobs", "--until-empty", "--", "cat"]).out, "b");
    let all = place.run(&["undelete", "jobs", "--since", "1h"]);
    assert_eq!((all.code, &all.out[..]), (0, "3\n"), "{all:?}");
    assert_eq!(place.run(&["undelete", "jobs", "--since", "1h"]).out, "0\n");
    assert_eq!(place.run(&["work", "jobs", "--until-empty", "--", "cat"]).out, "abc");
}
