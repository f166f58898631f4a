//! Is a salvage that is cut short anywhere no queue, or all of it, and can it be done again?

use backlog::testing::SimDisk;
use backlog::{Error, Offset};

use crate::salvage::{Past, messages, options, past, told};

/// All that is unsynced lost, all kept, mixtures.
const SEEDS: [u64; 5] = [0, 1, 3, 4, 5];

/// Checks what an end has left; the source is as it was.
fn check(past: &Past, groups: &[String; 2], left: &SimDisk, what: &str) {
    let whole = match options(left).create(false).open() {
        Ok(queue) => {
            assert!(
                !queue.recovery().has_findings() && queue.recovery().clean,
                "{what}: {:?}",
                queue.recovery()
            );
            queue.close().unwrap();
            left.clone()
        }
        Err(Error::NotAQueue { .. }) => {
            options(&past.disk).salvage(&options(left)).unwrap_or_else(|error| panic!("{what}: {error}"));
            left.clone()
        }
        Err(error) => panic!("{what}: {error}"),
    };
    assert_eq!(messages(&whole), past.pushed, "{what}");
    let now = [told(&whole, "first"), told(&whole, "second")];
    assert_eq!(&now, groups, "{what}");
    assert_eq!(options(&whole).verify_deep().unwrap(), [], "{what}");
    let opened = options(&whole).open().unwrap();
    assert!(!whole.files().iter().any(|name| name == "SALVAGING"), "{what}: {:?}", whole.files());
    opened.close().unwrap();
}

#[test]
fn a_salvage_that_is_cut_short_anywhere_leaves_no_queue_or_all_of_it() {
    let past = past(false);
    let groups = [told(&past.disk, "first"), told(&past.disk, "second")];
    let out = SimDisk::new(2);
    out.keep_ends(&SEEDS);

    options(&past.disk).salvage(&options(&out)).unwrap();

    let ends = out.take_ends();
    assert!(ends.len() > 100, "{}", ends.len());
    for (op, seed, left) in ends {
        check(&past, &groups, &left, &format!("after {op} operations, seed {seed:?}"));
    }
    for seed in SEEDS {
        check(&past, &groups, &out.crash(seed), &format!("after all, seed {seed}"));
    }
}

#[test]
fn a_salvage_that_fails_anywhere_can_be_done_again() {
    let past = past(false);
    let groups = [told(&past.disk, "first"), told(&past.disk, "second")];
    let out = SimDisk::new(2);
    options(&past.disk).salvage(&options(&out)).unwrap();
    for op in 1..=out.ops() {
        for &fault in out.faults(op) {
            let disk = SimDisk::new(2);
            disk.fail(op, fault);
            let failed = options(&past.disk).salvage(&options(&disk));
            disk.heal();
            // What failed last may be what nobody needs any more.
            let left = disk.kill();
            if failed.is_ok() {
                assert!(options(&left).view().unwrap().messages(Offset::MIN).count() > 0);
            }
            check(&past, &groups, &left, &format!("{fault:?} in operation {op}: {failed:?}"));
        }
    }
}
