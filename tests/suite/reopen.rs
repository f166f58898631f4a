//! What does an opening leave behind that wrote nothing, and a batch that met an error?
use std::time::Duration;

use backlog::testing::{Fault, SimDisk};
use backlog::{Durability, Options, Queue};

fn open(disk: &SimDisk) -> Queue {
    Options::new("jobs").sim_disk(disk).threads(false).open().unwrap()
}

#[test]
fn a_log_found_not_closed_is_closed_by_an_opening_that_pushes_nothing() {
    let disk = SimDisk::new(1);
    let queue = open(&disk);
    let worker = queue.consumer().unwrap();
    let mut last = None;
    for number in 0..100 {
        last = Some(queue.with_durability(Durability::Buffered).push(format!("{number}")).unwrap());
    }
    for _ in 0..40 {
        worker.recv().unwrap().ack().unwrap();
    }
    let disk = disk.kill();
    drop((worker, queue));

    let second = open(&disk);
    assert!(!second.recovery().clean);
    let before = second.stats();
    second.close().unwrap();
    let third = open(&disk);

    assert!(third.recovery().clean);
    assert_eq!(format!("{before:?}"), format!("{:?}", third.stats()));
    let worker = third.consumer().unwrap();
    for number in 40..100 {
        let job = worker.try_recv().unwrap().unwrap();
        assert_eq!(job.payload(), format!("{number}").as_bytes());
        job.ack().unwrap();
    }
    assert!(worker.try_recv().unwrap().is_none());
    assert!(Some(third.push("next").unwrap()) > last);
    assert_eq!(worker.try_recv().unwrap().unwrap().payload(), b"next");
}

#[test]
fn a_batch_that_meets_an_error_keeps_what_it_has_lent() {
    for read in 1..6 {
        let disk = SimDisk::new(2);
        let queue = open(&disk);
        let payloads: Vec<Vec<u8>> = (0..900).map(|_| vec![7; 1000]).collect();
        for payload in &payloads {
            queue.with_durability(Durability::Buffered).push(payload).unwrap();
        }
        let worker = queue.consumer().unwrap();
        disk.fail_reads(disk.reads() + read, Fault::ReadIo);
        let mut lent = Vec::new();
        for _ in 0..3 {
            // An error is told, and takes nothing along.
            lent.extend(worker.recv_batch(payloads.len(), Duration::ZERO).unwrap_or_default());
        }
        assert_eq!(lent.len(), payloads.len(), "read {read}");
        assert!(lent.iter().zip(0..).all(|(job, number)| job.offset().get() == number && job.attempt() == 1));
        for answer in queue.ack_all(lent).unwrap() {
            answer.unwrap();
        }
    }
}
