//! Files that are missing, swapped, renamed, of another queue or another time, or too many.

use super::expect::{Expect, Opens, expect};
use super::image::{Files, Image, clock, closed, killed, torn};
use super::layout::Part;
use super::place::{Changes, Place};
use super::{Where, run_expecting};

type Case = (String, Changes, Opens);

/// Every file gone, empty, or only half there.
fn missing(image: &Image) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, bytes) in &image.files {
        let needed = if name == "LOCK" { Opens::Yes } else { Opens::No };
        let half = bytes[..bytes.len() / 2].to_vec();
        for (what, new) in [("is gone", None), ("is empty", Some(Vec::new())), ("is half there", Some(half))]
        {
            cases.push((format!("{name} {what}"), [(name.clone(), new)].into(), needed));
        }
    }
    cases
}

/// Every two files with each other's names.
fn swapped(image: &Image) -> Vec<Case> {
    let names: Vec<&String> = image.layout.parts.keys().collect();
    let mut cases = Vec::new();
    for (index, one) in names.iter().enumerate() {
        for other in &names[index + 1..] {
            let group = |name: &str| {
                name.strip_prefix("groups/").map(|rest| rest.split('/').next().unwrap().to_owned())
            };
            // The halves of a group say themselves which is which.
            let same = group(one).is_some() && group(one) == group(other);
            let of = |name: &str| Some(image.files[name].clone());
            let changes = [((*one).clone(), of(other)), ((*other).clone(), of(one))].into();
            let opens = if same { Opens::Yes } else { Opens::No };
            cases.push((format!("{one} and {other} swapped"), changes, opens));
        }
    }
    cases
}

/// Every file under a name that nobody knows.
fn renamed(image: &Image) -> Vec<Case> {
    let mut cases = Vec::new();
    for name in image.layout.parts.keys() {
        let elsewhere: &[&str] = match name.rsplit('.').next().unwrap() {
            "seg" => &["log/000000099.seg", "log/99.seg", "000000001.seg"],
            "offsets" => &["groups/buffered/2.offsets", "groups/other/0.offsets", "0.offsets"],
            _ => &["MANIFEST.old", "MANIFEST.new", "log/MANIFEST"],
        };
        for new in elsewhere {
            let changes = [(name.clone(), None), ((*new).to_owned(), Some(image.files[name].clone()))].into();
            cases.push((format!("{name} is {new}"), changes, Opens::No));
        }
    }
    cases
}

/// Every file of another queue that had the same life.
fn foreign(image: &Image, other: &Image) -> Vec<Case> {
    let replaced = |name: &String| {
        let changes = [(name.clone(), Some(other.files[name].clone()))].into();
        (format!("{name} of another queue"), changes, Opens::No)
    };
    image.layout.parts.keys().map(replaced).collect()
}

fn go(image: &Image, place: Where, cases: Vec<Case>) {
    let step = if matches!(place, Where::Real) && !super::all(place) { 5 } else { 1 };
    let cases: Vec<Case> = cases.into_iter().step_by(step).collect();
    let count = cases.len() as u64;
    let wanted = cases.iter().filter(|(_, _, opens)| *opens == Opens::No).count() as u64;
    let found = run_expecting(image, place, cases, |(story, changes, opens)| {
        (story.clone(), changes.clone(), Expect { opens: *opens, ..expect(image, &Changes::new()) })
    });
    assert_eq!((found.cases, found.refused, found.lost), (count, wanted, 0), "{found:?}");
}

#[test]
fn a_file_that_is_missing_swapped_renamed_or_of_another_queue_refuses_and_changes_nothing() {
    for image in [closed(), killed(), torn()] {
        let others = foreign(&image, &closed());
        for cases in [missing(&image), swapped(&image), renamed(&image), others] {
            go(&image, Where::Simulated, cases);
        }
    }
}

#[test]
fn such_a_file_in_a_folder_refuses_and_changes_nothing() {
    let image = closed();
    let others = foreign(&image, &closed());
    for cases in [missing(&image), swapped(&image), renamed(&image), others] {
        go(&image, Where::Real, cases);
    }
}

/// Returns changes that put files of an earlier moment back.
fn put_back(earlier: &Files, names: &[&str]) -> Changes {
    names.iter().map(|name| ((*name).to_owned(), earlier.get(*name).cloned())).collect()
}

#[test]
fn an_older_half_that_was_put_back_refuses_and_so_do_both() {
    for image in [closed(), killed()] {
        for (moment, earlier) in image.earlier.iter().enumerate() {
            for group in ["buffered", "synced"] {
                let halves = [0, 1].map(|half| format!("groups/{group}/{half}.offsets"));
                let halves = halves.each_ref().map(|half| &half[..]);
                let cases = [&halves[..1], &halves[1..], &halves[..]]
                    .into_iter()
                    .map(|names| (format!("{names:?} of moment {moment}"), put_back(earlier, names)));
                // One that is the same to the byte is not older; nor is one that only lacks the word of
                // what superseded it, which the next opening writes. And in a queue that was killed the
                // manifest does not know of the last switch: both halves from before it pass.
                let last = moment + 1 == image.earlier.len() && !image.layout.active.2;
                let cases = cases.filter_map(|(story, changes)| {
                    let newest = |(name, bytes): (&String, &Option<Vec<u8>>)| {
                        image.layout.halves[name].holds && bytes.as_ref() != Some(&image.files[name])
                    };
                    let told = !(last && changes.len() == 2);
                    (told && changes.iter().any(newest)).then_some((story, changes, Opens::No))
                });
                go(&image, Where::Simulated, cases.collect());
            }
        }
    }
}

#[test]
fn an_older_segment_that_was_put_back_is_the_loss_of_what_came_since() {
    let image = closed();
    for earlier in &image.earlier {
        let older: Vec<String> = earlier.keys().filter(|name| name.ends_with(".seg")).cloned().collect();
        let changed: Vec<String> =
            older.into_iter().filter(|name| earlier[name] != image.files[name]).collect();
        assert!(!changed.is_empty());
        let found = super::run(&image, Where::Simulated, changed, |name| {
            (format!("an older {name}"), put_back(earlier, &[name]))
        });
        assert!(found.lost > 0, "{found:?}");
    }
}

#[test]
fn an_older_manifest_that_was_put_back_loses_nothing() {
    for image in [closed(), killed()] {
        let cases = image.earlier.iter().map(|earlier| put_back(earlier, &["MANIFEST"]));
        let found = run_expecting(&image, Where::Simulated, cases.collect(), |changes| {
            let expect = expect(&image, &Changes::new());
            (
                "an older manifest".into(),
                changes.clone(),
                Expect { opens: Opens::Maybe, older_slot: true, ..expect },
            )
        });
        assert_eq!((found.lost, found.groups), (0, 0), "{found:?}");
    }
}

/// What nobody names: our own leftovers, and strangers, which stay.
#[test]
fn files_that_nobody_names_cost_nothing_and_strangers_stay() {
    let image = closed();
    let foreign = closed();
    let segment = &foreign.files["log/000000001.seg"];
    let half = &foreign.files["groups/synced/1.offsets"];
    let strangers = [
        "notes.txt",
        "log/notes.txt",
        "log/0000000001.seg",
        "log/1.seg",
        "groups/Mail/0.offsets",
        "groups/notes",
        "quarantine/000000001-4096-00000000.torn",
        "quarantine/mine",
        "MANIFEST.old",
    ];
    let leftovers = [
        ("MANIFEST.new", &image.files["MANIFEST"]),
        ("groups/other/0.offsets", half),
        ("groups/other/1.offsets", half),
    ];
    let mut changes: Changes = leftovers.map(|(name, bytes)| (name.to_owned(), Some(bytes.clone()))).into();
    for name in strangers {
        changes.insert(name.to_owned(), Some(segment.clone()));
    }
    for real in [true, false] {
        let place = if real { Place::real(&image, &changes) } else { Place::simulated(&image, &changes) };

        let found = super::examine::examine(&image, &place, &expect(&image, &Changes::new())).unwrap();

        assert_eq!((found.refused, found.lost), (0, 0));
        let left = place.contents();
        for name in strangers {
            assert_eq!(left.get(name), Some(segment), "{name}");
        }
        for (name, _) in leftovers {
            assert_eq!(left.get(name), None, "{name}");
        }
    }
}

/// An opening refuses for a segment that holds messages and that the manifest does not name; verify
/// had nothing to say about it.
#[test]
fn issue_4_a_segment_that_nobody_names_and_that_holds_messages_refuses_and_verify_tells() {
    let image = closed();
    let other = closed();
    let name = |number: usize| format!("log/{number:09}.seg");
    let copies = [&image, &other].map(|from| {
        let changes = [(name(99), Some(from.files[&name(1)].clone()))].into();
        ("a segment more".to_owned(), changes, Opens::No)
    });

    go(&image, Where::Simulated, copies.to_vec());
    go(&image, Where::Real, copies.to_vec());
}

/// One of the two copies of the slot that holds was an older slot, as a crash between the two leaves it,
/// and was taken for good: nothing mended it, and once the other copy went bad too, the queue forgot
/// what it had acted on.
#[test]
fn issue_4_an_older_copy_of_the_slot_that_holds_is_made_good() {
    let image = closed();
    let places: Vec<_> = image.layout.parts["MANIFEST"]
        .iter()
        .filter(|(_, part)| matches!(part, Part::Slot { holds: true, .. }))
        .map(|(range, _)| range.start..range.start + 4096)
        .collect();
    let older = image.earlier.last().unwrap();
    for (stale, other) in [(0, 1), (1, 0)] {
        let mut bytes = image.files["MANIFEST"].clone();
        bytes[places[stale].clone()].copy_from_slice(&older["MANIFEST"][places[stale].clone()]);
        assert_ne!(bytes, image.files["MANIFEST"]);
        let disk = image.disk.crash(1);
        disk.write_file("MANIFEST", &bytes);
        let options = || Place::Simulated(disk.clone()).options(&clock());

        let queue = options().open().unwrap();
        assert!(queue.recovery().clean && !queue.recovery().mended);
        queue.close().unwrap();
        disk.flip("MANIFEST", places[other].start as u64 * 8 + 77);

        // The slot before it does not know that the queue was closed.
        let queue = Place::Simulated(disk.crash(1)).options(&clock()).open().unwrap();
        assert!(queue.recovery().clean);
        let place = Place::Simulated(disk.clone());
        let found = super::examine::examine(&image, &place, &expect(&image, &Changes::new()));
        assert!(found.is_ok(), "{found:?}");
    }
}
