//! Sectors and pages of zeros and noise, sectors that went to another place, old batches.

use super::image::{Files, Image, closed, killed, torn};
use super::place::Changes;
use super::{Where, run, sample};
use crate::dice::Dice;

/// What lies in place of a stretch of a file.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Zeros,
    Ones,
    Noise,
    /// Another stretch of the same file.
    Elsewhere,
    /// The same stretch of another file of the same kind, of another group or segment.
    Other,
}

const KINDS: [Kind; 5] = [Kind::Zeros, Kind::Ones, Kind::Noise, Kind::Elsewhere, Kind::Other];

/// A file, a stretch, what lies there.
type Case = (String, usize, usize, Kind);

/// Each sector and each page in which something is, and some in which nothing is.
fn cases(image: &Image) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, parts) in &image.layout.parts {
        let bytes = &image.files[name];
        for size in [512, 4096] {
            for at in (0..bytes.len()).step_by(size) {
                let used = parts.iter().any(|(range, _)| range.start < at + size && at < range.end);
                if used || (at / size).is_multiple_of(11) {
                    cases.extend(KINDS.map(|kind| (name.clone(), at, size, kind)));
                }
            }
        }
    }
    cases
}

/// Returns another file of the same kind.
fn other<'a>(files: &'a Files, name: &str) -> &'a [u8] {
    let group = |name: &str| name.split('/').nth(1).map(str::to_owned);
    let alike = |other: &&String| {
        let ending = |name: &str| name.rsplit('.').next().map(str::to_owned);
        **other != name && ending(other) == ending(name) && group(other) != group(name)
    };
    files.keys().find(alike).map_or(&[][..], |name| &files[name])
}

fn damaged(image: &Image, (name, at, size, kind): &Case) -> (String, Changes) {
    let old = &image.files[name];
    let mut dice = Dice((*at + size) as u64);
    let end = (at + size).min(old.len());
    let mut bytes = old.clone();
    match kind {
        Kind::Zeros => bytes[*at..end].fill(0),
        Kind::Ones => bytes[*at..end].fill(0xff),
        Kind::Noise => bytes[*at..end].fill_with(|| dice.below(256) as u8),
        Kind::Elsewhere => {
            let from = dice.below((old.len() - (end - at)) as u64 / 512) as usize * 512;
            bytes.copy_within(from..from + end - at, *at);
        }
        Kind::Other => {
            let from = other(&image.files, name).get(*at..end).unwrap_or(&[]);
            bytes[*at..at + from.len()].copy_from_slice(from);
        }
    }
    (format!("{kind:?}, {size} bytes at {at} of {name}"), [(name.clone(), Some(bytes))].into())
}

fn every_sector(image: &Image, place: Where, seed: usize) {
    let count = match place {
        Where::Simulated => 700,
        Where::Real => 60,
    };
    let found = run(image, place, sample(cases(image), count, place, seed), |case| damaged(image, case));
    assert!(found.lost > 0 && found.groups > 0, "{found:?}");
}

#[test]
fn bad_sectors_of_a_closed_queue_take_what_lies_there_and_are_told() {
    every_sector(&closed(), Where::Simulated, 0);
}

#[test]
fn bad_sectors_of_a_killed_queue_take_what_lies_there_and_are_told() {
    every_sector(&killed(), Where::Simulated, 1);
    every_sector(&torn(), Where::Simulated, 2);
}

#[test]
fn bad_sectors_in_a_folder_take_what_lies_there_and_are_told() {
    every_sector(&closed(), Where::Real, 3);
    every_sector(&killed(), Where::Real, 4);
}

/// Puts bytes behind the end of the active segment; `None` where they do not fit.
fn behind(image: &Image, gap: usize, bytes: &[u8]) -> Option<Changes> {
    let (name, ..) = &image.layout.active;
    let mut file = image.files[name].clone();
    let batches = image.layout.batches.iter().filter(|batch| batch.file == *name);
    let end = batches.map(|batch| batch.bytes.end).max()? + gap;
    file.get_mut(end..end + bytes.len())?.copy_from_slice(bytes);
    Some([(name.clone(), Some(file))].into())
}

/// Returns a batch as it would lie at another position of the active segment, with another base.
fn moved(image: &Image, batch: &[u8], position: usize, base: u64) -> Vec<u8> {
    let mut bytes = batch.to_vec();
    bytes[16..22].copy_from_slice(&base.to_le_bytes()[..6]);
    let salt = &image.files[&image.layout.active.0][28..32];
    let mut seed = salt.to_vec();
    seed.extend_from_slice(&(position as u64).to_le_bytes());
    seed.extend_from_slice(&bytes[4..32]);
    let sum = crc32fast::hash(&seed);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// What a recycled file, a write that failed, or a copy to the wrong place leaves behind the end.
fn stale(image: &Image) -> Vec<(String, Changes)> {
    let active = &image.layout.active.0;
    let end = image.layout.batches.iter().map(|batch| batch.bytes.end).next_back().unwrap();
    let mut found = Vec::new();
    for (number, batch) in image.layout.batches.iter().enumerate() {
        let bytes = &image.files[&batch.file][batch.bytes.clone()];
        for gap in [0, 8, 64, 512, 1000] {
            let copy =
                behind(image, gap, bytes).map(|changes| (format!("batch {number} behind {gap}"), changes));
            // With all checksums good, as a write that was taken back: an offset that was given before.
            let good = moved(image, bytes, end + gap, batch.offsets.start);
            let good = behind(image, gap, &good)
                .map(|changes| (format!("good batch {number} behind {gap}"), changes));
            found.extend(copy.into_iter().chain(good));
        }
        // The same positions of the segment, full of another one's batches.
        let mut file = image.files[active].clone();
        if batch.file != *active && batch.bytes.end > end {
            let range = batch.bytes.start.max(end)..batch.bytes.end;
            file[range.clone()].copy_from_slice(&image.files[&batch.file][range]);
            found.push((format!("batch {number} in its old place"), [(active.clone(), Some(file))].into()));
        }
    }
    found
}

#[test]
fn old_batches_behind_the_end_are_nothing() {
    for (image, place) in [
        (closed(), Where::Simulated),
        (killed(), Where::Simulated),
        (closed(), Where::Real),
        (killed(), Where::Real),
    ] {
        let count = if matches!(place, Where::Real) { 20 } else { 1000 };
        let cases = sample(stale(&image), count, place, 0);
        let found = run(&image, place, cases, Clone::clone);
        assert!(found.cases > 10, "{found:?}");
        assert_eq!((found.lost, found.groups, found.refused, found.torn), (0, 0, 0, 0), "{found:?}");
    }
}
