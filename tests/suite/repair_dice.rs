//! Is a queue mended whatever of it has gone bad, by dice, and are acks kept that only the log has?

use std::collections::BTreeSet;
use std::time::Duration;

use backlog::testing::SimDisk;
use backlog::{DeadReason, Durability, Error, GroupOptions};

use crate::dice::{Dice, times};
use crate::repair::{MESSAGES, dead, drain, flip, options, payload, prepared};
use crate::watch;

const SECTOR: usize = 512;

/// Lets something go bad, of a file that is not the manifest, or of one copy of a thing in that.
fn harm(disk: &SimDisk, dice: &mut Dice) {
    let mut files: Vec<String> =
        disk.files().into_iter().filter(|name| name != "LOCK" && !name.starts_with("quarantine")).collect();
    files.sort();
    let name = files[dice.size(files.len() as u64)].clone();
    let Some(mut bytes) = disk.read_file(&name).filter(|bytes| !bytes.is_empty()) else { return };
    // Most of a file was never written: let half of the harm strike where something is.
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(1, |last| last + 1);
    let end = if dice.below(2) == 0 { used } else { bytes.len() };
    let at = dice.size(end as u64);
    match dice.below(8) {
        0 if name != "MANIFEST" => return disk.remove_file(&name),
        1 if name != "MANIFEST" => bytes.truncate(at),
        2 | 3 if name != "MANIFEST" => {
            let sector = at / SECTOR * SECTOR;
            let behind = bytes.len().min(sector + SECTOR * (1 + dice.size(12)));
            let fill = if dice.below(2) == 0 { 0 } else { 0xA5 };
            bytes[sector..behind].fill(fill);
        }
        _ => return disk.flip(&name, (at * 8) as u64 + dice.below(8)),
    }
    disk.remove_file(&name);
    disk.write_file(&name, &bytes);
}

#[test]
fn whatever_has_gone_bad_is_mended_and_no_message_goes_in_silence() {
    let (mut mended, mut refused) = (0, 0);
    for seed in 0..400 * times() {
        let _watched = watch::over(format!("seed {seed}"));
        let mut dice = Dice(seed);
        let closed = dice.below(2) == 0;
        let mut disk = prepared(closed);
        for _ in 0..1 + dice.below(4) {
            harm(&disk, &mut dice);
        }
        if dice.below(2) == 0 {
            // Cut short, once or twice, by the end of the power.
            for _ in 0..1 + dice.below(2) {
                disk.stop_after(disk.ops() + dice.below(120));
                let _ = options(&disk).repair(true);
                disk = disk.crash(dice.below(6));
            }
        }
        match options(&disk).repair(true) {
            Ok(_) => {}
            Err(Error::Refused { .. } | Error::NotAQueue { .. } | Error::Version { .. }) => {
                refused += 1;
                continue;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
        mended += 1;

        assert_eq!(options(&disk).verify().unwrap(), [], "seed {seed}");
        assert_eq!(options(&disk).verify_deep().unwrap(), [], "seed {seed}");
        assert!(options(&disk).plan_repair().unwrap().is_empty(), "seed {seed}");
        let queue = options(&disk).open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(!queue.recovery().has_findings(), "seed {seed}: {:?}", queue.recovery());
        let given_up: BTreeSet<u64> = dead(&queue, "fresh", DeadReason::Damaged).into_iter().collect();
        let last = queue.push(payload(999)).unwrap();
        let came = drain(&queue, "fresh");
        assert!(came.is_sorted_by(|one, other| one < other), "seed {seed}: {came:?}");
        let came: BTreeSet<u64> = came.into_iter().collect();
        let silent: Vec<u64> =
            (0..MESSAGES).filter(|number| !came.contains(number) && !given_up.contains(number)).collect();
        // Of what a queue that was not closed had behind the last proof nobody knows.
        let unproven = |number: &&u64| !closed && **number >= MESSAGES - 3;
        assert_eq!(
            silent.iter().find(|number| !unproven(number)),
            None,
            "seed {seed}: {silent:?} of {came:?}"
        );
        assert!(last.get() >= MESSAGES || !silent.is_empty(), "seed {seed}: {last} was given before");
        let reader: BTreeSet<u64> = drain(&queue, "reader").into_iter().collect();
        assert!(reader.is_superset(&came.range(12..).copied().collect()), "seed {seed}: {reader:?}");
        queue.close().unwrap();
        assert_eq!(options(&disk).verify().unwrap(), [], "seed {seed}: later");
    }
    assert!(mended > 20 * refused, "{mended} mended, {refused} refused");
}

#[test]
fn acks_that_only_the_log_has_are_kept_though_their_segment_is_copied() {
    let disk = SimDisk::new(1);
    let queue = options(&disk).open().unwrap();
    let synced = GroupOptions::new().ack_durability(Durability::Synced);
    let group = queue.create_group("reader", synced).unwrap();
    queue.create_group("fresh", GroupOptions::new()).unwrap();
    for number in 0..12 {
        queue.push(payload(number)).unwrap();
    }
    let jobs = group.consumer().recv_batch(3, Duration::ZERO).unwrap();
    for (job, number) in jobs.into_iter().zip(12..) {
        job.ack_with([payload(number)]).unwrap();
    }
    for number in 15..21 {
        queue.push(payload(number)).unwrap();
    }
    let killed = disk.kill().crash(0);
    // In the segments of the acks.
    flip(&killed, 12, 0);
    flip(&killed, 14, 0);

    options(&killed).repair(true).unwrap();

    assert_eq!(options(&killed).verify().unwrap(), []);
    let queue = options(&killed).open().unwrap();
    let readable =
        |first: u64| (first..21).filter(|&number| number != 12 && number != 14).collect::<Vec<_>>();
    assert_eq!(drain(&queue, "reader"), readable(3));
    assert_eq!(drain(&queue, "fresh"), readable(0));
}

#[test]
fn keys_and_priorities_are_kept_through_a_repair() {
    let disk = SimDisk::new(1);
    let queue = options(&disk).open().unwrap();
    queue.create_group("fresh", GroupOptions::new()).unwrap();
    for number in 0..12 {
        let message = payload(number);
        let message = backlog::Message::new(&message).unique_key(number.to_string());
        queue.push(message.priority(if number == 2 { 9 } else { 4 })).unwrap();
    }
    queue.close().unwrap();
    flip(&disk, 1, 0);

    options(&disk).repair(true).unwrap();

    let queue = options(&disk).open().unwrap();
    let again = queue.push(backlog::Message::new("again").unique_key("2")).unwrap();
    assert_eq!(again.get(), 2, "its key is taken");
    assert_eq!(drain(&queue, "fresh"), [2, 0, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
}
