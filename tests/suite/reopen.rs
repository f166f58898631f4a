//! What does an opening leave behind that wrote nothing?
use backlog::testing::SimDisk;
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
