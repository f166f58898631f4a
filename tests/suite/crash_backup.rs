//! Is a copy that of one round or of the next, wherever it stops or fails; and is there a queue, or none?

use std::time::Duration;

use backlog::testing::{ManualClock, SimDisk};
use backlog::{GroupOptions, Offset, Options, Queue};

/// All that is unsynced lost, all kept, mixtures.
const SEEDS: [u64; 5] = [0, 1, 3, 4, 5];

fn options(disk: &SimDisk) -> Options {
    let clock = ManualClock::new(1_700_000_000_000);
    Options::new("jobs").sim_disk(disk).manual_clock(&clock).threads(false).segment_bytes(8192)
}

/// A queue that has come so far: rolls, acks, segments that were given up, a group that was made anew.
fn source(rounds: u64) -> (SimDisk, Queue) {
    let disk = SimDisk::new(1);
    let queue = options(&disk).open().unwrap();
    let group = queue.create_group("mailer", GroupOptions::new()).unwrap();
    queue.create_group("other", GroupOptions::new()).unwrap();
    for round in 0..rounds {
        for number in 0..8 {
            queue.push(format!("{:01000}", round * 8 + number)).unwrap();
        }
        for name in ["mailer", "other"] {
            let Ok(group) = queue.group(name) else { continue };
            let jobs = group.consumer().recv_batch(5, Duration::ZERO).unwrap();
            queue.ack_all(jobs).unwrap();
        }
        queue.sync().unwrap();
        queue.run_duties().unwrap();
        if round == 1 {
            queue.remove_group("other").unwrap();
            queue.create_group("other", GroupOptions::new()).unwrap();
        }
    }
    drop(group);
    (disk, queue)
}

/// What a copy, or a queue, shows: its messages, and how many are ready in each group.
type Shown = (Vec<u64>, Vec<(String, u64)>);

fn shown(options: &Options) -> Result<Shown, String> {
    let say = |error: backlog::Error| error.to_string();
    let findings = options.verify().map_err(say)?;
    if !findings.is_empty() {
        return Err(format!("found {findings:?}"));
    }
    let deep = options.verify_deep().map_err(say)?;
    if !deep.is_empty() {
        return Err(format!("they do not agree: {deep:?}"));
    }
    let mut view = options.view().map_err(say)?;
    let groups = view.inspection().groups.into_iter().map(|group| (group.name, group.ready)).collect();
    let mut messages = Vec::new();
    for message in view.messages(Offset::MIN) {
        let message = message.map_err(say)?;
        let number: u64 = std::str::from_utf8(message.payload()).unwrap().parse().unwrap();
        if number != message.offset().get() {
            return Err(format!("{number} under {}", message.offset()));
        }
        messages.push(number);
    }
    Ok((messages, groups))
}

fn round(from: &Options, to: &Options) -> backlog::Result<()> {
    from.backup(to)?.round(&mut |_| {}).map(drop)
}

/// A copy of an earlier moment, and what it shows.
fn former() -> (SimDisk, Shown) {
    let (disk, _queue) = source(2);
    let copy = SimDisk::new(2);
    round(&options(&disk), &options(&copy)).unwrap();
    let shows = shown(&options(&copy)).unwrap();
    (copy, shows)
}

#[test]
fn a_copy_is_that_of_one_round_or_of_the_next_at_a_crash_after_every_operation() {
    let (from, _queue) = source(4);
    let before_source: Vec<_> = from.files().iter().map(|name| from.read_file(name)).collect();
    let (whole, earlier) = former();
    round(&options(&from), &options(&whole)).unwrap();
    let later = shown(&options(&whole)).unwrap();
    assert_ne!(earlier, later);
    // Without a group that was made anew, for a moment.
    let without = |all: &[(String, u64)]| -> Vec<_> {
        all.iter().filter(|(name, _)| name != "other").cloned().collect()
    };
    let (copy, _) = former();
    let first = copy.ops();
    round(&options(&from), &options(&copy)).unwrap();
    let mut states = 0;
    for op in first..=copy.ops() {
        let (copy, _) = former();
        copy.stop_after(op);
        let _ = round(&options(&from), &options(&copy));
        for (crash, disk) in SEEDS.map(|seed| (seed, copy.crash(seed))).into_iter().chain([(99, copy.kill())])
        {
            let (messages, groups) =
                shown(&options(&disk)).unwrap_or_else(|broken| panic!("op {op}, crash {crash}: {broken}"));
            let is = |all: &Shown| messages == all.0 && (groups == all.1 || groups == without(&all.1));
            assert!(is(&earlier) || is(&later), "op {op}, crash {crash}: {messages:?} {groups:?}");
            // A queue can be made of it all the same.
            let again = SimDisk::new(5);
            options(&disk)
                .restore(&options(&again))
                .unwrap_or_else(|error| panic!("op {op}, crash {crash}: restore: {error}"));
            assert_eq!(shown(&options(&again)).unwrap().0, messages, "op {op}, crash {crash}");
            // The next round makes it whole.
            round(&options(&from), &options(&disk)).unwrap_or_else(|error| panic!("op {op}: {error}"));
            assert_eq!(shown(&options(&disk)).unwrap(), later, "op {op}, crash {crash}");
            states += 1;
        }
    }
    let after_source: Vec<_> = from.files().iter().map(|name| from.read_file(name)).collect();
    assert!(before_source == after_source, "the source was changed");
    println!("a round: {states} crash states");
    assert!(states > 200, "{states}");
}

#[test]
fn a_first_round_leaves_no_copy_or_a_whole_one_at_a_crash_after_every_operation() {
    let (from, _queue) = source(2);
    let copy = SimDisk::new(2);
    round(&options(&from), &options(&copy)).unwrap();
    let whole = shown(&options(&copy)).unwrap();
    for op in 0..=copy.ops() {
        let copy = SimDisk::new(2);
        copy.stop_after(op);
        let _ = round(&options(&from), &options(&copy));
        for seed in SEEDS {
            let disk = copy.crash(seed);
            if options(&disk).inspect().is_ok() {
                assert_eq!(shown(&options(&disk)).unwrap(), whole, "op {op}, seed {seed}");
            }
            round(&options(&from), &options(&disk))
                .unwrap_or_else(|error| panic!("op {op}, seed {seed}: {error}"));
            assert_eq!(shown(&options(&disk)).unwrap(), whole, "op {op}, seed {seed}");
        }
    }
}

#[test]
fn a_copy_is_as_it_was_when_any_operation_of_a_round_fails() {
    let (from, _queue) = source(4);
    let (copy, earlier) = former();
    let first = copy.ops();
    round(&options(&from), &options(&copy)).unwrap();
    let (last, later) = (copy.ops(), shown(&options(&copy)).unwrap());
    for op in first..last {
        for &fault in copy.faults(op) {
            let (copy, _) = former();
            copy.fail(op, fault);
            let failed = round(&options(&from), &options(&copy));
            copy.heal();
            let copy = copy.kill();
            let shows =
                shown(&options(&copy)).unwrap_or_else(|broken| panic!("op {op}, {fault:?}: {broken}"));
            let without: Vec<_> = earlier.1.iter().filter(|(name, _)| name != "other").cloned().collect();
            let is_one = shows == earlier || shows == later || (shows.0 == earlier.0 && shows.1 == without);
            assert!(is_one, "op {op}, {fault:?}: {shows:?}");
            if failed.is_ok() {
                assert_eq!(shows, later, "op {op}, {fault:?}: it said that it was done");
            }
            round(&options(&from), &options(&copy)).unwrap();
            assert_eq!(shown(&options(&copy)).unwrap(), later, "op {op}, {fault:?}");
        }
    }
}

#[test]
fn there_is_a_whole_queue_or_none_at_a_crash_after_every_operation_of_a_restore() {
    let (copy, shows) = former();
    let target = SimDisk::new(3);
    options(&copy).restore(&options(&target)).unwrap();
    assert_eq!(shown(&options(&target)).unwrap(), shows);
    for op in 0..=target.ops() {
        let target = SimDisk::new(3);
        target.stop_after(op);
        let _ = options(&copy).restore(&options(&target));
        for (crash, disk) in
            SEEDS.map(|seed| (seed, target.crash(seed))).into_iter().chain([(99, target.kill())])
        {
            match options(&disk).create(false).open() {
                Ok(queue) => {
                    assert!(
                        !queue.recovery().has_findings(),
                        "op {op}, crash {crash}: {:?}",
                        queue.recovery()
                    );
                    queue.close().unwrap();
                    let (messages, groups) = shown(&options(&disk)).unwrap();
                    assert_eq!((messages, groups), shows, "op {op}, crash {crash}");
                }
                Err(_) => {
                    options(&copy)
                        .restore(&options(&disk))
                        .unwrap_or_else(|error| panic!("op {op}, crash {crash}: {error}"));
                    assert_eq!(shown(&options(&disk)).unwrap(), shows, "op {op}, crash {crash}");
                }
            }
        }
    }
}
