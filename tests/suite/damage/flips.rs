//! One bit of any file goes bad, or a few.

use super::image::{Image, closed, killed, torn};
use super::place::Changes;
use super::{Where, run, sample};
use crate::dice::{Dice, times};

/// A bit of a file.
type Bit = (String, usize);

fn flipped(image: &Image, (name, bit): &Bit) -> (String, Changes) {
    let mut bytes = image.files[name].clone();
    bytes[bit / 8] ^= 1 << (bit % 8);
    (format!("{name} bit {bit}"), [(name.clone(), Some(bytes))].into())
}

/// Every bit that says something.
fn used(image: &Image) -> Vec<Bit> {
    let bytes = image.layout.used().map(|(name, byte)| (name.to_owned(), byte));
    bytes.flat_map(|(name, byte)| (0..8).map(move |bit| (name.clone(), byte * 8 + bit))).collect()
}

/// Every 997th bit of all the rest: zeros that are checked, zeros that nobody reads, old bytes.
fn unused(image: &Image) -> Vec<Bit> {
    let used: std::collections::BTreeSet<Bit> =
        image.layout.used().map(|(name, byte)| (name.to_owned(), byte)).collect();
    let bits = |(name, bytes): (&String, &Vec<u8>)| {
        let name = name.clone();
        (0..bytes.len() * 8).step_by(997).map(move |bit| (name.clone(), bit)).collect::<Vec<_>>()
    };
    image.files.iter().flat_map(bits).filter(|(name, bit)| !used.contains(&(name.clone(), bit / 8))).collect()
}

fn several(image: &Image, seed: u64, bits: &[Bit]) -> (String, Changes) {
    let mut dice = Dice(seed);
    let mut changes = Changes::new();
    let mut story = format!("seed {seed}");
    for _ in 0..4 {
        let (name, bit) = &bits[dice.below(bits.len() as u64) as usize];
        // Where both sectors are bad that say "superseded", nothing tells a bad half that follows from a switch
        // that was cut short.
        let says_so = |bit: usize| [2, 6].contains(&(bit / 8 / 512)) && name.ends_with(".offsets");
        if says_so(*bit) && changes.contains_key(name) {
            continue;
        }
        let old = || Some(image.files[name].clone());
        let bytes = changes.entry(name.clone()).or_insert_with(old).as_mut().unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        story += &format!(", {name} bit {bit}");
    }
    (story, changes)
}

fn every_bit(image: &Image, place: Where, seed: usize) {
    let count = match place {
        Where::Simulated => 2500,
        Where::Real => 60,
    };
    let found = run(image, place, sample(used(image), count, place, seed), |bit| flipped(image, bit));
    assert!(found.lost > 0 && found.groups > 0, "{found:?}");
    assert_eq!(found.refused, 0, "one bit of one copy keeps no queue from being opened");
    let found = run(image, place, sample(unused(image), count / 5, place, seed), |bit| flipped(image, bit));
    assert_eq!((found.lost, found.groups, found.refused), (0, 0, 0), "{found:?}");
}

#[test]
fn a_bad_bit_in_a_closed_queue_takes_what_it_belongs_to_and_is_told() {
    every_bit(&closed(), Where::Simulated, 0);
}

#[test]
fn a_bad_bit_in_a_killed_queue_takes_what_it_belongs_to_and_is_told() {
    every_bit(&killed(), Where::Simulated, 1);
}

#[test]
fn a_bad_bit_in_a_torn_queue_takes_what_it_belongs_to_and_is_told() {
    every_bit(&torn(), Where::Simulated, 2);
}

#[test]
fn a_few_bad_bits_take_what_they_belong_to_and_are_told() {
    for image in [closed(), killed(), torn()] {
        let bits = used(&image);
        let seeds = (0..600 * times()).collect();
        let found = run(&image, Where::Simulated, seeds, |&seed| several(&image, seed, &bits));
        assert!(found.lost > 600 && found.groups > 100, "{found:?}");
    }
}

#[test]
fn a_bad_bit_in_a_folder_takes_what_it_belongs_to_and_is_told() {
    every_bit(&closed(), Where::Real, 3);
    every_bit(&killed(), Where::Real, 4);
}
