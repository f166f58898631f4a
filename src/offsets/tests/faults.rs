//! Is what was promised there after a failure, and does a full disk let the group go on?

use super::*;
use crate::storage::sim::{Aim, Call, Fault};

const SCRIPT: &[Act] = &[
    Switch(0, 0, false),
    Append(6),
    Sync,
    Mark,
    Append(4),
    Switch(40, 100 << 10, true),
    Append(5),
    Sync,
    Switch(1, 100 << 10, false),
    Append(3),
    Sync,
    Cut(72 << 10),
    Append(1),
    Switch(0, 0, true),
    Append(2),
    Cut(72 << 10),
    Append(2),
    Sync,
];

#[test]
fn a_failure_of_any_operation_breaks_no_promise() {
    for fault in [Fault::Io, Fault::Full, Fault::Short, Fault::SyncLost] {
        for op in 1.. {
            let disk = new_disk();
            let mut run = Run::open(&disk, 1).unwrap();
            disk.fail(disk.ops() + op, fault);
            let first = disk.ops() + op;
            let mut failed = None;
            for &act in SCRIPT {
                if let Err(error) = run.act(act) {
                    failed = Some(error);
                    break;
                }
            }
            if let Some(error) = &failed {
                assert!(matches!(error, Error::Poisoned { .. }), "{fault:?} {op}: {error}");
                assert!(run.halves.sync().is_err(), "{fault:?} {op}: a sync after a failure");
                assert!(run.halves.write(8192, &[0; 32]).is_err());
            }
            let manifest = run.generation;
            for seed in 0..8 {
                let found = reopen(&disk.crash(seed), manifest)
                    .unwrap_or_else(|e| panic!("{fault:?} {op} {seed}: {e}"));
                assert!((run.synced..=run.appended).contains(&found), "{fault:?} {op} {seed}: {found}");
            }
            let found =
                reopen_unseen(&disk.kill(), manifest).unwrap_or_else(|e| panic!("{fault:?} {op}: {e}"));
            assert!((run.synced..=run.appended).contains(&found), "{fault:?} {op} killed: {found}");
            if disk.ops() < first {
                break;
            }
        }
    }
}

#[test]
fn a_failure_of_any_read_is_an_error_and_changes_nothing() {
    let disk = new_disk();
    let mut run = Run::open(&disk, 1).unwrap();
    for act in [Switch(0, 0, false), Append(3), Sync] {
        run.act(act).unwrap();
    }
    for (read, fault) in (1..8).flat_map(|read| [(read, Fault::ReadIo), (read, Fault::Short)]) {
        let left = disk.crash(0);
        left.fail_reads(left.reads() + read, fault);

        let loaded = load(&storage(&left), QUEUE, &row(1));

        if fault == Fault::Short || read > 6 {
            let loaded = loaded.unwrap();
            assert_eq!(count(&loaded.snapshot, &loaded.entries), Ok(3));
        } else {
            assert!(matches!(loaded, Err(Error::Io { .. })), "{read}");
        }
        assert_eq!(bytes(&left), bytes(&disk));
    }
}

#[test]
fn a_failed_operation_of_an_opening_is_done_by_the_next_one() {
    let disk = new_disk();
    // A switch without its last step.
    let mut run = Run::open(&disk, 1).unwrap();
    let planted = plant(Plant::NotSuperseded);
    run.act(Switch(0, 0, false)).unwrap();
    drop(planted);
    for (op, fault) in (1..=6).flat_map(|op| [(op, Fault::Io), (op, Fault::Full), (op, Fault::SyncLost)]) {
        let left = disk.crash(0);
        left.fail(left.ops() + op, fault);

        assert!(load(&storage(&left), QUEUE, &row(1)).is_err(), "{op} {fault:?}");

        for seed in 0..4 {
            assert_eq!(reopen(&left.crash(seed), 1), Ok(0));
        }
        assert_eq!(reopen_unseen(&left.kill(), 1), Ok(0));
    }
}

#[test]
fn a_full_disk_lets_a_group_switch_and_append_in_place() {
    for mapped in [false, true] {
        let disk = new_disk();
        disk.budget(Some(0));
        let mut run = Run::open(&disk, 1).unwrap();

        for _ in 0..5 {
            for act in [Switch(1, 4 << 20, mapped), Mark, Append(30), Sync] {
                run.act(act).unwrap();
            }
        }

        assert_eq!((run.generation, run.synced), (6, 150));
        assert_eq!(reopen(&disk.crash(0), 6), Ok(150));
    }
}

#[test]
fn a_snapshot_without_room_changes_nothing_until_there_is_room() {
    let disk = new_disk();
    let mut run = Run::open(&disk, 1).unwrap();
    run.act(Switch(0, 0, true)).unwrap();
    run.act(Append(3)).unwrap();
    disk.budget(Some(50 << 10));
    let snapshot = counted(3, 1000);

    let failed = run.halves.switch(&snapshot, 1024, 0, true, 1);

    assert!(matches!(failed, Err(SwitchFailed::Unchanged(error)) if error.is_full()));
    run.act(Append(3)).unwrap();
    run.act(Sync).unwrap();
    assert_eq!(reopen(&disk.crash(0), 2), Ok(6));
    disk.budget(None);
    run.act(Switch(1000, 0, true)).unwrap();
    run.act(Append(1)).unwrap();
    run.act(Sync).unwrap();
    assert_eq!((run.generation, reopen(&disk.crash(0), 3)), (3, Ok(7)));
}

#[test]
fn a_growth_that_gets_only_a_part_uses_what_there_is() {
    let disk = new_disk();
    let mut run = Run::open(&disk, 1).unwrap();
    let ballast = 300;
    let bytes = counted(0, ballast).encode().len() as u64;
    assert!(bytes < 64 << 10);
    disk.budget(Some(4096));

    let track = run.halves.switch(&counted(0, ballast), 16 << 10, 4 << 20, false, 1).unwrap();

    assert!(track.room() >= 16 << 10);
    assert!(track.room() < 64 << 10);
}

#[test]
fn a_disk_that_is_full_at_the_sync_only_is_final() {
    let disk = new_disk();
    let mut run = Run::open(&disk, 1).unwrap();
    disk.budget(Some(0));
    disk.full_at_sync(true);
    // Nothing new is needed in place, whatever the disk does about new blocks.
    run.act(Switch(0, 0, false)).unwrap();
    run.act(Append(3)).unwrap();
    run.act(Sync).unwrap();

    assert_eq!(reopen(&disk.crash(1), 2), Ok(3));
}

#[test]
fn a_switch_has_the_room_that_is_needed_whatever_is_wished_for() {
    const NEED: u64 = 1 << 20;
    for want in [0, NEED, 2 * NEED] {
        let disk = new_disk();
        let mut run = Run::open(&disk, 1).unwrap();
        disk.budget(Some(NEED / 2));
        disk.record();

        let failed = run.halves.switch(&counted(0, 0), NEED, want, false, 1);

        assert!(
            matches!(&failed, Err(SwitchFailed::Unchanged(error)) if error.is_full()),
            "{want}: {failed:?}"
        );
        assert!(disk.made().iter().all(|made| made.call != Call::Write), "it fails before it writes");
        disk.budget(None);
        let track = run.halves.switch(&counted(0, 0), NEED, want, false, 1).unwrap();
        assert!(track.room() >= NEED, "{want}: {}", track.room());
    }
}

#[test]
fn only_a_lack_of_room_is_got_round_when_a_half_grows() {
    let disk = new_disk();
    let mut run = Run::open(&disk, 1).unwrap();
    disk.aim(Aim::at(Call::Write, names::half(NAME, 1)), Fault::Io);

    let failed = run.halves.switch(&counted(0, 0), 1024, 4 << 20, false, 1);

    assert!(matches!(&failed, Err(SwitchFailed::Final(Error::Poisoned { .. }))), "{failed:?}");
}

#[test]
fn entries_wait_for_room_and_after_any_other_failure_for_the_next_opening() {
    let started = || {
        let disk = new_disk();
        let mut run = Run::open(&disk, 1).unwrap();
        run.act(Switch(0, 0, false)).unwrap();
        let track = run.track.as_mut().unwrap();
        track.append(&step(0)).unwrap();
        let (at, bytes) = track.take_waiting().unwrap();
        (disk, run, at, bytes)
    };
    let half = names::half(NAME, 1);

    let (disk, mut run, at, bytes) = started();
    disk.aim(Aim::at(Call::Write, &half), Fault::Full);
    assert!(run.halves.write(at, &bytes).unwrap_err().is_full());
    run.halves.write(at, &bytes).unwrap();
    run.halves.sync().unwrap();
    assert_eq!(reopen(&disk.crash(0), 2), Ok(1));

    let (disk, mut run, at, bytes) = started();
    disk.aim(Aim::at(Call::Write, &half), Fault::Io);
    let poisoned = |found: Result<()>| assert!(matches!(found, Err(Error::Poisoned { .. })), "{found:?}");
    poisoned(run.halves.write(at, &bytes));
    let ops = disk.ops();
    poisoned(run.halves.write(at, &bytes));
    poisoned(run.halves.sync());
    let switched = run.halves.switch(&counted(0, 0), 0, 0, false, 1);
    assert!(matches!(switched, Err(SwitchFailed::Final(Error::Poisoned { .. }))));
    assert_eq!(disk.ops(), ops, "nothing is tried again on these files");
}
