//! What happens to torn bytes before they are overwritten, and to a manifest that is too small?

use backlog::testing::{Fault, SimDisk};
use backlog::{Durability, GroupOptions, Options, Queue};

use crate::ledger::Verdict;

fn open(disk: &SimDisk) -> Queue {
    Options::new("jobs").sim_disk(disk).threads(false).open().unwrap()
}

/// Returns a disk whose log ends in a batch that reached it in part.
fn torn(seeds: std::ops::Range<u64>) -> Option<SimDisk> {
    let disk = SimDisk::new(7);
    let queue = open(&disk);
    queue.push("safe").unwrap();
    let batch = [vec![1; 3000], vec![2; 3000], vec![3; 3000]];
    queue.with_durability(Durability::Buffered).push_batch(&batch).unwrap();
    seeds.map(|seed| disk.crash(seed)).find(|crashed| {
        // Looked at on a copy: the disk that is returned was never opened.
        open(&crashed.crash(1)).recovery().torn_bytes > 0
    })
}

fn quarantine(disk: &SimDisk) -> Vec<String> {
    disk.files().into_iter().filter(|name| name.starts_with("quarantine/")).collect()
}

/// Opens a disk whose log is torn and pushes; checks that what is torn is kept as it was.
pub(crate) fn sets_aside(seed: u64) -> Verdict {
    let Some(disk) = torn(seed..seed + 1) else { return Ok(()) };
    let log = disk.read_file("log/000000001.seg").unwrap();

    let queue = open(&disk);
    let found = queue.recovery().clone();
    assert_eq!(quarantine(&disk), Vec::<String>::new());
    queue.push("next").unwrap();

    let evidence = found.evidence.unwrap();
    let name = evidence.file_name().unwrap().to_str().unwrap().to_owned();
    let kept = disk.read_file(&format!("quarantine/{name}"));
    let kept = kept.ok_or(format!("P7: {name} is promised, and there is {:?}", quarantine(&disk)))?;
    if kept.len() as u64 != found.torn_bytes || !log.windows(kept.len()).any(|bytes| bytes == kept) {
        return Err(format!("P7: {name} does not hold what was torn"));
    }
    let list = String::from_utf8(disk.read_file("quarantine/LIST").unwrap()).unwrap();
    assert_eq!(list.lines().count(), 1, "{list}");
    assert!(list.contains(&name));
    Ok(())
}

#[test]
fn torn_bytes_are_set_aside_before_the_first_push_and_not_before() {
    assert!(torn(2..200).is_some(), "a seed that tears the batch");

    (2..200).try_for_each(sets_aside).unwrap();
}

#[test]
fn setting_aside_can_be_cut_short_anywhere_and_is_done_once() {
    let disk = torn(2..200).expect("a seed that tears the batch");
    let whole = disk.crash(1);
    let queue = open(&whole);
    let before = whole.ops();
    queue.push("next").unwrap();
    let after = whole.ops();
    let expected = quarantine(&whole);
    assert_eq!(expected.len(), 2);

    for stop in before..=after {
        for seed in 0..6 {
            let cut = disk.crash(1);
            let queue = open(&cut);
            cut.stop_after(stop);
            let pushed = queue.push("next");
            let crashed = cut.crash(seed);

            let queue = open(&crashed);
            let again = queue.push("again").unwrap();
            queue.close().unwrap();

            let queue = open(&crashed);
            let worker = queue.consumer().unwrap();
            let payloads: Vec<Vec<u8>> =
                std::iter::from_fn(|| worker.try_recv().unwrap().map(|job| job.payload().to_vec())).collect();
            assert_eq!(payloads.first().unwrap(), b"safe", "op {stop}, seed {seed}");
            assert_eq!(payloads.last().unwrap(), b"again", "op {stop}, seed {seed}");
            assert!(payloads.len() <= 3, "op {stop}, seed {seed}");
            if let Ok(offset) = pushed {
                assert_eq!(payloads[1], b"next", "op {stop}, seed {seed}");
                assert!(offset < again);
            }
            let there = quarantine(&crashed);
            assert!(expected.iter().all(|name| there.contains(name)), "op {stop}, seed {seed}: {there:?}");
        }
    }
}

/// Makes groups with long names until the next one needs a larger manifest; returns its number.
fn almost_too_many(disk: &SimDisk) -> usize {
    let length = || disk.read_file("MANIFEST").unwrap().len();
    let queue = open(disk);
    let first = length();
    for number in 0..200 {
        let next = disk.crash(1);
        let trial = open(&next);
        trial.create_group(&name(number), GroupOptions::new()).unwrap();
        if next.read_file("MANIFEST").unwrap().len() > first {
            return number;
        }
        queue.create_group(&name(number), GroupOptions::new()).unwrap();
    }
    panic!("the manifest never grew");
}

fn name(number: usize) -> String {
    format!("{number:0>64}")
}

#[test]
fn a_manifest_grows_whole_or_not_at_all() {
    let disk = SimDisk::new(3);
    let number = almost_too_many(&disk);
    let full = disk.crash(1);
    let ops = {
        let trial = full.crash(1);
        let queue = open(&trial);
        let before = trial.ops();
        queue.create_group(&name(number), GroupOptions::new()).unwrap();
        before..=trial.ops()
    };

    for op in ops.clone() {
        for seed in 0..6 {
            let trial = full.crash(1);
            let queue = open(&trial);
            trial.stop_after(op);
            let made = queue.create_group(&name(number), GroupOptions::new()).is_ok();
            let crashed = trial.crash(seed);
            let groups = open(&crashed).groups();
            assert!(groups.len() == number || groups.len() == number + 1, "op {op}, seed {seed}");
            assert!(!made || groups.len() == number + 1, "op {op}, seed {seed}: a made group is gone");
        }
        for fault in [Fault::Io, Fault::Full, Fault::Short, Fault::SyncLost] {
            let trial = full.crash(1);
            let queue = open(&trial);
            trial.fail(op, fault);
            let made = queue.create_group(&name(number), GroupOptions::new());
            if made.as_ref().is_err_and(backlog::Error::is_full) {
                // Nothing changed: the same call works when there is room.
                queue.create_group(&name(number), GroupOptions::new()).unwrap();
            }
            drop(queue);
            let groups = open(&trial.crash(0)).groups();
            assert!(groups.len() >= number, "op {op}, {fault:?}");
            assert!(made.is_err() || groups.len() == number + 1, "op {op}, {fault:?}");
        }
    }
}
