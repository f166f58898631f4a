//! Does the whole path work?
use backlog::*;
use std::time::Duration;

#[test]
fn push_receive_ack_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs");
    let queue = Queue::open(&path).unwrap();
    for i in 0..1000 {
        queue.push(format!("message {i}")).unwrap();
    }
    let worker = queue.consumer().unwrap();
    for i in 0..500 {
        let job = worker.recv().unwrap();
        assert_eq!(job.payload(), format!("message {i}").as_bytes());
        job.ack().unwrap();
    }
    println!("{:?}", queue.stats());
    drop(worker);
    queue.close().unwrap();
    let queue = Queue::open(&path).unwrap();
    println!("{:?} {:?}", queue.recovery(), queue.stats());
    let worker = queue.consumer().unwrap();
    for i in 500..1000 {
        let job = worker.recv_timeout(Duration::from_secs(1)).unwrap().unwrap();
        assert_eq!(job.payload(), format!("message {i}").as_bytes());
        job.ack().unwrap();
    }
    assert!(worker.try_recv().unwrap().is_none());
    println!("{:?}", queue.stats());
    let t = queue.push_deferred("x").unwrap();
    t.wait().unwrap();
}

#[test]
fn speed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs");
    let queue = Queue::open(&path).unwrap();
    let n = 1_000_000u64;
    let fast = queue.with_durability(Durability::Buffered);
    let payload = [7u8; 256];
    let t = std::time::Instant::now();
    for _ in 0..n {
        fast.push(&payload).unwrap();
    }
    println!("buffered push {:.0} ns", t.elapsed().as_nanos() as f64 / n as f64);
    let worker = queue.consumer().unwrap();
    let t = std::time::Instant::now();
    for _ in 0..n {
        worker.recv().unwrap().ack().unwrap();
    }
    println!("drain {:.0} ns", t.elapsed().as_nanos() as f64 / n as f64);
    let t = std::time::Instant::now();
    for _ in 0..2000 {
        queue.push(&payload).unwrap();
    }
    println!("synced push {:.1} us", t.elapsed().as_micros() as f64 / 2000.0);
    queue.close().unwrap();
    let t = std::time::Instant::now();
    let queue = Queue::open(&path).unwrap();
    println!("open {:?} {:?}", t.elapsed(), queue.recovery());
}
