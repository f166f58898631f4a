//! Does one bad copy cost anything, after a crash? What is written twice may lose either copy.

use backlog::testing::SimDisk;

use crate::crash::{count, seeds, stopped_at};
use crate::ledger::{End, Verdict};
use crate::workloads::{self, Workload};

const PAGE: u64 = 4096;

/// Crashes after an operation and lets each copy of each thing go bad in turn; the same once an
/// opening has made good what the crash had left, and the power was cut again. Returns how many states
/// were checked.
pub(crate) fn wounded_at(workload: &Workload, op: u64, seed: u64) -> Verdict<u64> {
    let mut run = stopped_at(workload, op)?;
    run.close();
    let opened = run.disk.crash(seed);
    let options = run.options();
    let mut states = 0;
    // What was being written may be lost with its good copy; what was promised may not.
    for (file, position) in copies(&opened) {
        let bad = opened.crash(1);
        bad.flip(&file, position * 8 + 3);
        let verdict = run.ledger.check(&bad, &options, End::PowerCut);
        verdict.map_err(|broken| format!("{file} bad at {position} before the opening: {broken}"))?;
        states += 1;
    }
    let queue = options.clone().sim_disk(&opened).threads(false).open();
    let queue = queue.map_err(|error| format!("P6: the opening failed: {error}"))?;
    // Without a close, which would write the slot anew.
    let left = opened.kill().crash(0);
    drop(queue);
    let found = run.ledger.check(&left.crash(1), &options, End::PowerCut)?;

    for (file, position) in copies(&left) {
        let bad = left.crash(1);
        bad.flip(&file, position * 8 + 3);
        let again = run.ledger.check(&bad, &options, End::PowerCut);
        let again = again.map_err(|broken| format!("{file} bad at {position}: {broken}"))?;
        if again != found {
            return Err(format!("P6: {file} bad at {position}: first {found:?}, then {again:?}"));
        }
        states += 1;
    }
    for (_, _, file) in newest_halves(&left).into_iter().filter(|half| found.has_group(&half.0)) {
        let bad = left.crash(1);
        bad.flip(&file, (PAGE + 100) * 8);
        let again = run.ledger.check(&bad, &options, End::PowerCut);
        if !again.as_ref().is_err_and(|broken| broken.contains("refused_groups: [(")) {
            return Err(format!("P7: a bad snapshot in {file} is not named: {again:?}"));
        }
        states += 1;
    }
    Ok(states)
}

/// Returns a byte in each copy of each header, slot and note that there are two of.
fn copies(disk: &SimDisk) -> Vec<(String, u64)> {
    let mut places = Vec::new();
    for file in disk.files() {
        let bytes = disk.read_file(&file).unwrap_or_default();
        let length = bytes.len() as u64;
        let within: Vec<u64> = match &file[..] {
            "MANIFEST" => {
                let slot = u64_at(&bytes, 56);
                [0, PAGE / 2].into_iter().chain((0..4).map(|copy| PAGE + copy * slot)).collect()
            }
            name if name.ends_with(".offsets") => vec![0, PAGE / 4, PAGE / 2, 3 * PAGE / 4],
            name if name.ends_with(".seg") => vec![0, PAGE / 2],
            _ => continue,
        };
        // Files that were being made when the power went are of any length.
        places.extend(within.into_iter().filter(|at| at + 9 < length).map(|at| (file.clone(), at + 9)));
    }
    places
}

/// Returns the half of each group that has the highest generation: group, generation, file.
fn newest_halves(disk: &SimDisk) -> Vec<(String, u64, String)> {
    let mut halves: Vec<(String, u64, String)> = Vec::new();
    for file in disk.files().into_iter().filter(|name| name.ends_with(".offsets")) {
        let generation = disk.read_file(&file).map_or(0, |bytes| u64_at(&bytes, 64));
        let group = file.split('/').nth(1).unwrap_or_default().to_owned();
        match halves.iter_mut().find(|half| half.0 == group) {
            Some(half) if half.1 < generation => *half = (group, generation, file),
            Some(_) => {}
            None => halves.push((group, generation, file)),
        }
    }
    halves
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
}

fn any_one_copy_can_be_lost(workload: &Workload, most: u64, usual: u64) {
    let (ops, _) = count(workload).unwrap();
    let mut states = 0;
    for op in (1..=ops).step_by(usize::try_from(ops.div_ceil(most)).unwrap()) {
        for seed in 0..seeds(usual) {
            states += wounded_at(workload, op, seed)
                .unwrap_or_else(|broken| panic!("{}:{op}:{seed}: {broken}", workload.name));
        }
    }
    println!("{}: {states} wounds", workload.name);
}

#[test]
fn any_one_copy_can_be_lost_after_any_crash() {
    any_one_copy_can_be_lost(&workloads::kills(), 25, 3);
    any_one_copy_can_be_lost(&workloads::rolls(), 10, 2);
}
