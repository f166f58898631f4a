//! Is what was promised there after a crash, wherever it comes?

use super::*;

/// Every path of a switch: in place, with growth, mapped and written, three to each half, so that
/// entries of earlier generations lie where new ones go.
const SCRIPT: &[Act] = &[
    Switch(0, 0, false),
    Mark,
    Append(6),
    Sync,
    Append(20),
    Switch(0, 0, true),
    Append(30),
    Sync,
    Mark,
    Append(20),
    Sync,
    Append(3),
    Switch(3, 0, false),
    Append(5),
    Switch(40, 100 << 10, true),
    Append(4),
    Switch(2, 0, true),
    Append(3),
    Sync,
    Append(2),
    Switch(0, 0, false),
    Append(1),
    Mark,
    Sync,
];

/// Halves that grow, are cut, and grow again, in use and not, mapped and written.
const CUTS: &[Act] = &[
    Switch(0, 300 << 10, true),
    Append(5),
    Switch(40, 300 << 10, false),
    Append(4),
    Sync,
    Append(3),
    Cut(SMALL),
    Append(2),
    Switch(0, 0, true),
    Append(2),
    Cut(SMALL),
    Append(3),
    Sync,
    Cut(SMALL),
    Switch(0, 200 << 10, false),
    Append(3),
    Cut(SMALL),
    Switch(2, 0, false),
    Append(1),
    Cut(SMALL),
    Append(1),
    Sync,
];

/// What a half takes that has next to nothing in it.
const SMALL: u64 = 72 << 10;

/// Plays a script with a crash after that many operations; `None` when it was over before.
fn crashed(bug: Option<Plant>, ops: u64) -> Option<(SimDisk, Run)> {
    played(SCRIPT, bug, ops)
}

fn played(script: &[Act], bug: Option<Plant>, ops: u64) -> Option<(SimDisk, Run)> {
    let disk = new_disk();
    let mut run = Run::open(&disk, 1).unwrap();
    let _planted = bug.map(plant);
    run.stop_after(ops);
    let died = script.iter().any(|&act| run.act(act).is_err()) || run.act(Sync).is_err();
    died.then_some((disk, run))
}

/// Checks a disk that a crash left, and then that it can be worked with.
fn check(disk: &SimDisk, run: &Run, least: u64, manifest: u64) -> Result<(), String> {
    let found = reopen(disk, manifest)?;
    if !(least..=run.appended).contains(&found) {
        return Err(format!("expected {least} to {} steps, found {found}", run.appended));
    }
    let mut next = Run::open(disk, manifest).map_err(|error| error.to_string())?;
    for act in [Switch(0, 0, false), Append(2), Sync] {
        next.act(act).map_err(|error| error.to_string())?;
    }
    for seed in 0..2 {
        let found_then = reopen(&disk.crash(seed), manifest)?;
        if found_then != found + 2 {
            return Err(format!("expected {} steps after the next opening, found {found_then}", found + 2));
        }
    }
    Ok(())
}

/// Plays the script with a crash after each operation; stops at the first broken promise.
fn walk_through(script: &[Act], bug: Option<Plant>, seeds: u64) -> Result<u64, String> {
    for ops in 0.. {
        let Some((disk, run)) = played(script, bug, ops) else {
            return Ok(ops);
        };
        for seed in 0..seeds {
            let manifest = if seed % 2 == 0 { 1 } else { run.generation };
            check(&disk.crash(seed), &run, run.synced, manifest)
                .map_err(|error| format!("crash after {ops} operations, seed {seed}: {error}"))?;
        }
        // What a killed process wrote is durable once the next one has told anybody.
        let killed = disk.kill();
        let found = reopen(&killed, run.generation);
        if found != reopen(&killed.crash(0), run.generation) {
            return Err(format!("kill after {ops} operations: a crash took what was found, {found:?}"));
        }
        check(&killed, &run, run.written, run.generation)
            .map_err(|error| format!("kill after {ops} operations: {error}"))?;
    }
    unreachable!("every script ends")
}

#[test]
fn every_synced_entry_survives_a_crash_after_every_operation() {
    let ops = walk_through(SCRIPT, None, 24).unwrap();

    assert!(ops > 120, "{ops}");
}

#[test]
fn every_synced_entry_survives_a_crash_after_every_operation_of_a_cut() {
    let ops = walk_through(CUTS, None, 24).unwrap();

    assert!(ops > 60, "{ops}");
}

#[test]
fn a_half_that_is_cut_before_its_page_is_synced_is_noticed() {
    assert!(walk_through(CUTS, Some(Plant::CutUnsynced), 24).is_err());
}

#[test]
fn a_cut_on_a_full_disk_gives_room_back_and_leaves_the_next_switches_theirs() {
    for mapped in [false, true] {
        let disk = new_disk();
        let mut run = Run::open(&disk, 1).unwrap();
        for act in [Switch(0, 300 << 10, mapped), Append(5), Switch(0, 300 << 10, mapped), Append(5), Sync] {
            run.act(act).unwrap();
        }
        disk.budget(Some(0));

        for act in [Cut(SMALL), Switch(0, 0, mapped), Cut(SMALL)] {
            run.act(act).unwrap();
        }

        assert_eq!(bytes(&disk).map(|half| half.len() as u64), [SMALL; 2]);
        assert_eq!(run.halves.longest().unwrap(), SMALL);
        disk.budget(Some(0));
        for _ in 0..4 {
            for act in [Append(100), Switch(0, 4 << 20, mapped), Append(100), Sync] {
                run.act(act).unwrap();
            }
        }
        assert_eq!(reopen(&disk.crash(0), run.generation), Ok(810));
    }
}

#[test]
fn a_new_half_that_is_not_synced_before_its_entries_is_noticed() {
    assert!(walk_through(SCRIPT, Some(Plant::NewHalfUnsynced), 24).is_err());
}

#[test]
fn a_new_half_under_an_old_salt_is_noticed() {
    assert!(walk_through(SCRIPT, Some(Plant::SaltReused), 24).is_err());
}

/// Tells whether an opening ever went back to an older half, when the new one went bad.
fn goes_back(bug: Option<Plant>) -> bool {
    (0..40).any(|seed| {
        let disk = new_disk();
        let mut run = Run::open(&disk, 1).unwrap();
        let planted = bug.map(plant);
        for act in [Switch(0, 0, false), Append(1), Switch(0, 0, false), Append(4), Sync] {
            run.act(act).unwrap();
        }
        drop(planted);
        let left = disk.crash(seed);
        let newest = names::half(NAME, usize::from(run.generation.is_multiple_of(2)));
        left.flip(&newest, (4096 + 100) * 8);
        match load(&storage(&left), QUEUE, &row(1)) {
            Ok(_) => true,
            Err(Error::Damaged { position, .. }) => {
                assert_eq!(position, 4096);
                false
            }
            Err(error) => panic!("{error}"),
        }
    })
}

#[test]
fn a_bad_half_that_was_in_use_is_damage_and_never_torn() {
    assert!(!goes_back(None));
}

#[test]
fn an_old_half_that_is_not_superseded_is_noticed() {
    assert!(goes_back(Some(Plant::NotSuperseded)));
    assert!(goes_back(Some(Plant::SupersededUnsynced)));
}

#[test]
fn a_birth_that_was_cut_short_can_be_made_again_and_one_that_returned_stays() {
    for ops in 0.. {
        let disk = empty_disk();
        disk.stop_after(disk.ops() + ops);
        let born = birth(&storage(&disk)).is_ok();
        for seed in 0..12 {
            let left = disk.crash(seed);
            if born {
                assert_eq!(reopen(&left, 1), Ok(0), "{ops} operations, seed {seed}");
            }
            birth(&storage(&left)).unwrap();
            assert_eq!(reopen(&left.crash(seed), 1), Ok(0), "{ops} operations, seed {seed}");
        }
        if born {
            assert!(ops > 8);
            return;
        }
    }
}

#[test]
fn an_opening_that_is_cut_short_is_done_again() {
    // A switch that was cut short leaves the most to make good.
    for (ops, seed) in (0..60).flat_map(|ops| (0..6).map(move |seed| (ops, seed))) {
        let Some((disk, run)) = crashed(None, ops) else { continue };
        let left = disk.crash(seed);
        let expected = reopen(&left.crash(0), 1).unwrap();
        for inner in 0.. {
            let again = left.crash(0);
            again.stop_after(again.ops() + inner);
            let done = load(&storage(&again), QUEUE, &row(1)).is_ok();
            for crash in 0..6 {
                assert_eq!(reopen(&again.crash(crash), 1), Ok(expected), "{ops} {seed} {inner} {crash}");
            }
            if done {
                break;
            }
        }
        assert!((run.synced..=run.appended).contains(&expected));
    }
}

#[test]
fn a_growth_that_was_cut_short_does_not_keep_a_full_disk_from_opening() {
    for ops in 0.. {
        let disk = new_disk();
        let mut run = Run::open(&disk, 1).unwrap();
        for act in [Switch(0, 0, false), Append(5), Sync] {
            run.act(act).unwrap();
        }
        run.stop_after(ops);
        let done = run.act(Switch(30, 300 << 10, false)).is_ok();
        for (seed, mapped) in (0..12).flat_map(|seed| [(seed, false), (seed, true)]) {
            let left = disk.crash(seed);
            left.budget(Some(0));
            let mut next = Run::open(&left, 1).unwrap();
            for act in [Switch(0, 300 << 10, mapped), Append(5), Sync] {
                next.act(act).unwrap();
            }
            assert!(next.track.unwrap().room() > 60 << 10, "{ops} operations, seed {seed}");
            assert_eq!(reopen(&left.crash(seed), next.generation), Ok(10), "{ops} operations, seed {seed}");
        }
        if done {
            assert!(ops > 8);
            return;
        }
    }
}

#[test]
fn one_who_looks_sees_some_moment_of_a_group_that_switches() {
    let disk = new_disk();
    let mut run = Run::open(&disk, 1).unwrap();
    run.act(Switch(0, 0, false)).unwrap();

    let (looks, looked) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        for round in 0..300 {
            for act in [Append(3), Sync, Switch(round % 3, 0, round % 2 == 0)] {
                run.act(act).unwrap();
            }
            // Never so fast that one who looks could not see a thing.
            if round % 3 == 2 {
                looked.recv().unwrap();
                while looked.try_recv().is_ok() {}
            }
        }
    });
    let mut last = 0;
    while !writer.is_finished() {
        let looked = look(&storage(&disk), QUEUE, &row(1)).unwrap();
        let found = count(&looked.snapshot, &looked.entries).unwrap();
        assert!(found >= last, "{found} after {last}");
        last = found;
        // The last look finds nobody to tell.
        let _ = looks.send(());
    }

    writer.join().unwrap();
    assert_eq!(reopen(&disk, 1), Ok(900));
}
