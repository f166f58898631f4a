//! A file ends too early, or in zeros.

use super::image::{Image, closed, killed, torn};
use super::place::Changes;
use super::{Where, run, sample};

/// A file, and from where on nothing is left of it.
type Cut = (String, usize);

fn cut((name, at): &Cut, bytes: &[u8]) -> (String, Changes) {
    (format!("{name} ends at {at}"), [(name.clone(), Some(bytes[..*at].to_vec()))].into())
}

fn zeroed((name, at): &Cut, bytes: &[u8]) -> (String, Changes) {
    let mut bytes = bytes.to_vec();
    bytes[*at..].fill(0);
    (format!("{name} is zero from {at} on"), [(name.clone(), Some(bytes))].into())
}

/// Every position of every file that has a format, up to a little behind its last used byte; behind
/// that some.
fn positions(image: &Image) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for (name, parts) in &image.layout.parts {
        let used = parts.iter().map(|(range, _)| range.end).max().unwrap_or(0);
        let length = image.files[name].len();
        let rest = (used + 64..length).step_by(509).chain([length - 1]);
        cuts.extend((0..(used + 64).min(length)).chain(rest).map(|at| (name.clone(), at)));
    }
    cuts
}

fn every_position(image: &Image, place: Where, seed: usize) {
    let count = match place {
        Where::Simulated => 900,
        Where::Real => 40,
    };
    let cuts = sample(positions(image), count, place, seed);
    let found = run(image, place, cuts, |case| cut(case, &image.files[&case.0]));
    // What a file may lack is what lies behind the end of a sealed segment.
    assert!(found.refused > found.cases * 3 / 4, "{found:?}");
    assert_eq!(
        (found.lost, found.groups, found.torn),
        (0, 0, u64::from(image.torn) * (found.cases - found.refused))
    );
    let cuts = sample(positions(image), count, place, seed + 7);
    let found = run(image, place, cuts, |case| zeroed(case, &image.files[&case.0]));
    assert!(found.lost > 0 && found.groups > 0 && found.refused > 0, "{found:?}");
}

#[test]
fn a_file_of_a_closed_queue_that_ends_anywhere_is_refused_or_its_loss_told() {
    every_position(&closed(), Where::Simulated, 0);
}

#[test]
fn a_file_of_a_killed_queue_that_ends_anywhere_is_refused_or_its_loss_told() {
    every_position(&killed(), Where::Simulated, 1);
    every_position(&torn(), Where::Simulated, 2);
}

#[test]
fn a_file_in_a_folder_that_ends_anywhere_is_refused_or_its_loss_told() {
    every_position(&closed(), Where::Real, 3);
    every_position(&killed(), Where::Real, 4);
}
