//! Does each kind of wound cost a salvage what lies in it, and nothing else?

use crate::salvage::{MANIFEST, Past, messages, options, past, past_of, push, spans, synced, told};

/// Whoever has lost the middle of a segment, or any part of it, has all the rest.
#[test]
fn a_wound_costs_what_lies_in_it_and_nothing_else() {
    type Wound = fn(&mut Vec<u8>, usize);
    let wounds: [(&str, Wound); 3] = [
        ("flip", |bytes, at| bytes[at] ^= 1),
        ("zeros", |bytes, at| {
            let end = bytes.len().min(at + 700);
            bytes[at..end].fill(0);
        }),
        ("cut", Vec::truncate),
    ];
    let sound = past(false);
    let spans = spans(&sound.disk);
    for (segment, name) in sound.segments().iter().enumerate().take(3) {
        for (wound, act) in wounds {
            for at in (8..8192).step_by(449) {
                for manifest in [true, false] {
                    let past = past_of(&sound);
                    past.change(name, |bytes| act(bytes, at));
                    if !manifest {
                        past.disk.remove_file(MANIFEST);
                    }

                    let (salvaged, out) = past.salvage();

                    let what = format!("{wound} at {at} of {name}, manifest {manifest}: {salvaged:?}");
                    let there = messages(&out);
                    assert!(
                        there.iter().all(|(offset, text)| sound.pushed.get(offset) == Some(text)),
                        "P2: {what}"
                    );
                    let lost: Vec<u64> =
                        sound.pushed.keys().filter(|&offset| !there.contains_key(offset)).copied().collect();
                    let (base, end) = spans[segment];
                    assert!(lost.iter().all(|offset| (base..end).contains(offset)), "{lost:?}: {what}");
                    assert!(wound != "flip" || lost.len() < 3, "{lost:?}: {what}");
                    let named = |offset: &u64| {
                        let ranges = salvaged.findings.iter().filter_map(|finding| finding.offsets);
                        ranges.into_iter().any(|(first, end)| (first..end).contains(offset))
                    };
                    // Without a manifest nobody knows how far a segment went.
                    assert!(!manifest || lost.iter().all(named), "{lost:?} is not told: {what}");
                }
            }
        }
    }
}

#[test]
fn a_group_whose_files_cannot_be_read_begins_anew_and_the_others_go_on() {
    let sound = past(true);
    let second = told(&sound.disk, "second");
    type Break = fn(&Past);
    let breaks: [Break; 4] = [
        |past| past.disk.remove_file("groups/first/0.offsets"),
        |past| past.change("groups/first/1.offsets", |bytes| bytes.truncate(5000)),
        |past| {
            for half in ["groups/first/0.offsets", "groups/first/1.offsets"] {
                past.change(half, |bytes| bytes[..4096].fill(0));
            }
        },
        |past| {
            for half in ["groups/first/0.offsets", "groups/first/1.offsets"] {
                past.disk.remove_file(half);
            }
            past.disk.write_file("groups/first/stranger", b"x");
        },
    ];
    for (index, act) in breaks.into_iter().enumerate() {
        for manifest in [true, false] {
            let past = past_of(&sound);
            act(&past);
            if !manifest {
                past.disk.remove_file(MANIFEST);
            }

            let (salvaged, out) = past.salvage();

            let taken: Vec<bool> = salvaged.groups.iter().map(|group| group.taken_over).collect();
            assert_eq!(taken, [false, true], "{index}: {salvaged:?}");
            assert!(!salvaged.is_whole());
            assert_eq!(told(&out, "second"), second, "{index}");
            let queue = options(&out).open().unwrap();
            let ready = queue.group("first").unwrap().stats().ready;
            assert_eq!(ready, past.pushed.len() as u64, "{index}");
        }
    }
}

#[test]
fn of_a_newer_log_beside_an_older_manifest_everything_is_there() {
    let older = past(false);
    let queue = options(&older.disk).open().unwrap();
    let mut pushed = older.pushed.clone();
    let manifest = older.disk.read_file(MANIFEST).unwrap();
    push(&queue, &mut pushed, 2);
    push(&queue, &mut pushed, 3);
    queue.create_group("third", synced()).unwrap();
    queue.close().unwrap();
    let newer = Past { disk: older.disk.kill(), pushed };
    newer.disk.write_file(MANIFEST, &manifest);

    let (salvaged, out) = newer.salvage();

    assert_eq!(messages(&out), newer.pushed);
    assert!(!salvaged.is_whole());
    let groups: Vec<&str> = salvaged.groups.iter().map(|group| &group.name[..]).collect();
    assert_eq!(groups, ["first", "second", "third"]);
}
