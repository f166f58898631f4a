//! Damage on real files: for whatever is done to a small queue, is what must follow what follows?
//!
//! A queue is made in a folder, once for each file of tests, and copied for each case, into a folder
//! or onto the simulated disk. What the damaged bytes belonged to says what must, may and must not
//! follow ([`expect`]); [`examine`] goes through a life of it and compares.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use examine::{Tally, examine};
use expect::{Expect, expect};
use image::Image;
use place::{Changes, Place};

/// The newest files, cut and zeroed from every position on.
mod cuts;
/// A life of a damaged queue.
mod examine;
/// What follows from damage.
mod expect;
/// Files missing, swapped, renamed, foreign, older, added.
mod files;
/// Every bit.
mod flips;
/// Sectors of zeros and garbage, stale batches.
mod garbage;
/// The queues.
mod image;
/// What each byte belongs to.
mod layout;
/// A folder, or the simulated disk.
mod place;
/// What may go in silence, and what proves the rest.
mod proof;

/// How much is tried: on the simulated disk, and in folders.
#[derive(Clone, Copy)]
pub(crate) enum Where {
    Simulated,
    Real,
}

/// Where all cases are tried, and not a sample: `BACKLOG_DAMAGE=all` on the simulated disk,
/// `BACKLOG_DAMAGE=real` in folders.
pub(crate) fn all(place: Where) -> bool {
    let wanted = match place {
        Where::Simulated => "all",
        Where::Real => "real",
    };
    std::env::var("BACKLOG_DAMAGE").is_ok_and(|said| said == wanted)
}

/// Takes every n-th case, so that about `count` are left, times `BACKLOG_TIMES`; all if that is wanted.
pub(crate) fn sample<T>(cases: Vec<T>, count: usize, place: Where, seed: usize) -> Vec<T> {
    if all(place) {
        return cases;
    }
    let count = count * usize::try_from(crate::dice::times()).unwrap_or(1);
    let step = cases.len().div_ceil(count).max(1);
    cases.into_iter().skip(seed % step).step_by(step).collect()
}

/// Goes through cases, several at a time; names the first that went wrong.
pub(crate) fn run<T: Send>(
    image: &Image,
    place: Where,
    cases: Vec<T>,
    damage: impl Fn(&T) -> (String, Changes) + Sync,
) -> Tally {
    run_expecting(image, place, cases, |case| {
        let (story, changes) = damage(case);
        let expect = expect(image, &changes);
        (story, changes, expect)
    })
}

/// The same, where the case says itself what must follow.
pub(crate) fn run_expecting<T: Send>(
    image: &Image,
    place: Where,
    cases: Vec<T>,
    damage: impl Fn(&T) -> (String, Changes, Expect) + Sync,
) -> Tally {
    let cases = Mutex::new(cases.into_iter());
    let (tally, broken) = (Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    // Whoever leads a group commit yields, and on a busy machine waits long for its next turn: more
    // threads than cores pass that time.
    let threads = 4 * std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(case) = cases.lock().unwrap().next() else { break };
                    let (story, changes, expect) = damage(&case);
                    let place = match place {
                        Where::Simulated => Place::simulated(image, &changes),
                        Where::Real => Place::real(image, &changes),
                    };
                    let life = || examine(image, &place, &expect);
                    let outcome = catch_unwind(AssertUnwindSafe(life)).unwrap_or(Err("panic".into()));
                    match outcome {
                        Ok(one) => tally.lock().unwrap().add(one),
                        Err(problem) => broken.lock().unwrap().push(format!("{story}: {problem}")),
                    }
                }
            });
        }
    });
    let (tally, broken) = (tally.into_inner().unwrap(), broken.into_inner().unwrap());
    let first: Vec<_> = broken.iter().take(10).collect();
    assert!(broken.is_empty(), "{}: {} of {} cases: {first:#?}", image.name, broken.len(), tally.cases);
    println!("{}: {tally:?}", image.name);
    tally
}
