//! Does one message that kills its process take its neighbours along? With processes that really die.

use std::process::{Command, Stdio};
use std::time::Duration;

use backlog::{DeadReason, GroupOptions, Options};

/// Names the folder in which this binary, started once more, is to work.
const FOLDER: &str = "BACKLOG_POISON_FOLDER";
const JOBS: usize = 16;
const POISON: &[u8] = b"poison";

/// Opens the queue as soon as the process before is gone for good.
fn open(folder: &str) -> backlog::Queue {
    Options::new(folder).lock_timeout(Duration::from_secs(30)).open().unwrap()
}

/// The worker: sixteen at a time. A poison message ends the process, once all the others are under way.
#[test]
#[ignore = "is started by the test below, as a process of its own"]
fn a_worker_that_poison_kills() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let queue = open(&folder);
    let worker = queue.consumer().unwrap();
    loop {
        let jobs = worker.recv_batch(JOBS, Duration::ZERO).unwrap();
        if jobs.is_empty() {
            break;
        }
        if jobs.iter().any(|job| job.payload() == POISON) {
            // As a segmentation fault would: nothing is released, nothing is said.
            std::process::abort();
        }
        for job in jobs {
            job.ack().unwrap();
        }
    }
    queue.close().unwrap();
}

#[test]
fn one_poison_message_among_sixteen_long_jobs_ends_in_the_dead_letters_and_no_neighbour_does() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("jobs").to_str().unwrap().to_owned();
    let queue = open(&folder);
    queue.create_group("default", GroupOptions::new().max_losses(4)).unwrap();
    let payloads =
        (0..JOBS).map(|number| if number == 5 { POISON.to_vec() } else { format!("job {number}").into() });
    let poison = queue.push_batch(payloads).unwrap().nth(5).unwrap();
    queue.close().unwrap();
    drop(queue);

    let mut deaths = 0;
    loop {
        let mut worker = Command::new(std::env::current_exe().unwrap());
        worker.args(["--exact", "poison::a_worker_that_poison_kills", "--ignored"]).env(FOLDER, &folder);
        let ended = worker.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        if ended.success() {
            break;
        }
        deaths += 1;
        assert!(deaths <= 10, "it never ends");
    }

    let queue = open(&folder);
    let group = queue.group("default").unwrap();
    let dead = group.dead();
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!((dead[0].offset, dead[0].reason, dead[0].losses), (poison, DeadReason::Losses, 4));
    assert_eq!(deaths, 4);
    let stats = group.stats();
    assert_eq!((stats.ready, stats.delayed, stats.on_loan), (0, 0, 0));
}
