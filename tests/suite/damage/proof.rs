//! What may go in silence, and what proves the rest? Nothing can tell a batch that was wiped whole from
//! one that was never written, unless something behind it, or elsewhere, says that it was there.

use std::ops::Range;

use backlog::FindingKind;

use super::expect::expect;
use super::image::{Image, clock, closed, idle, killed, torn};
use super::layout::Batch;
use super::place::{Changes, Place};
use super::{Where, run};

/// The batches of the active segment.
fn active(image: &Image) -> Vec<&Batch> {
    let name = &image.layout.active.0;
    image.layout.batches.iter().filter(|batch| batch.file == *name).collect()
}

fn wiped(image: &Image, name: &str, range: Range<usize>) -> Changes {
    let mut bytes = image.files[name].clone();
    bytes[range].fill(0);
    [(name.to_owned(), Some(bytes))].into()
}

/// Tells whether an opening, or one who looks, says anything.
fn is_told(image: &Image, changes: &Changes) -> bool {
    let place = Place::simulated(image, changes);
    let options = place.options(&clock());
    let found = !options.verify().unwrap().is_empty();
    let queue = options.open().unwrap();
    let recovery = queue.recovery();
    let opening = recovery.has_findings() || recovery.torn_entries > 0;
    // Opening does not read below the manifest's mark: there those who come to it are told.
    assert!(found || !opening, "verify finds nothing: {recovery:?}");
    found
}

#[test]
fn only_the_last_batch_of_a_killed_queue_can_be_wiped_in_silence() {
    let image = killed();
    let batches = active(&image);
    let above = batches.iter().filter(|batch| batch.bytes.start >= image.layout.active.1).count();
    assert!(above > 3, "{above}");

    for (index, batch) in batches.iter().enumerate() {
        let changes = wiped(&image, &batch.file, batch.bytes.clone());
        let last = index + 1 == batches.len();
        assert_eq!(is_told(&image, &changes), !last, "batch {index}");
        // Not a byte of it is needed but its header.
        let header = wiped(&image, &batch.file, batch.bytes.start..batch.bytes.start + 32);
        assert_eq!(is_told(&image, &header), !last, "header {index}");
        // Where the header is left, it tells.
        let body = wiped(&image, &batch.file, batch.bytes.start + 32..batch.bytes.end);
        assert!(is_told(&image, &body), "body {index}");
    }
    // Exactly its own messages are gone, and everything goes on; the same for the last few of them.
    let ranges = batches.iter().map(|batch| batch.bytes.start..batches.last().unwrap().bytes.end);
    let name = &image.layout.active.0;
    let found = run(&image, Where::Simulated, ranges.collect(), |range| {
        (format!("wiped {range:?}"), wiped(&image, name, range.clone()))
    });
    assert_eq!(found.cases, batches.len() as u64);
}

#[test]
fn what_the_manifest_knows_of_cannot_be_wiped_in_silence() {
    // After a second of idleness, and after a clean close.
    for image in [idle(), closed()] {
        for batch in active(&image) {
            let changes = wiped(&image, &batch.file, batch.bytes.clone());
            assert!(is_told(&image, &changes), "{}: {:?}", image.name, batch.bytes);
        }
        let name = &image.layout.active.0;
        let ends = active(&image).iter().map(|batch| batch.bytes.start..batch.bytes.end).collect();
        let found = run(&image, Where::Simulated, ends, |range| {
            (format!("wiped {range:?}"), wiped(&image, name, range.clone()))
        });
        assert!(found.lost > 0 && found.torn == 0, "{found:?}");
    }
}

#[test]
fn entries_of_a_closed_queue_cannot_be_wiped_in_silence_and_of_a_killed_one_only_the_last() {
    for image in [closed(), killed(), idle()] {
        for (name, half) in image.layout.halves.iter().filter(|(_, half)| half.holds) {
            let end = half.entries.last().unwrap().bytes.end;
            for (index, entry) in half.entries.iter().enumerate() {
                // That one, and all from there on: as a bad sector takes them.
                for range in [entry.bytes.clone(), entry.bytes.start..end] {
                    let changes = wiped(&image, name, range.clone());
                    let last = range.end == end;
                    let must = !last || image.layout.active.2;
                    let told = is_told(&image, &changes);
                    assert!(told || !must, "{}: {name}, entry {index}, {range:?}", image.name);
                    assert!(
                        !told || must || half.entries[..index].iter().any(|entry| entry.proves > range.start)
                    );
                    let found = super::examine::examine(
                        &image,
                        &Place::simulated(&image, &changes),
                        &expect(&image, &changes),
                    );
                    assert!(found.is_ok(), "{}: {name}, {range:?}: {found:?}", image.name);
                }
            }
        }
    }
}

/// Behind a clean end lay what was left of a torn batch; verify took any old byte for a header that had
/// gone bad, and told of millions of messages under way.
#[test]
fn issue_4_verify_finds_nothing_torn_behind_a_clean_end() {
    let image = torn();
    let place = Place::simulated(&image, &Changes::new());
    let options = place.options(&clock());
    assert!(options.verify().unwrap().iter().any(|finding| finding.kind == FindingKind::Torn));
    let queue = options.clone().open().unwrap();
    assert!(queue.recovery().torn_bytes > 0);
    queue.push("next").unwrap();
    queue.close().unwrap();

    assert_eq!(options.verify().unwrap(), []);
}
