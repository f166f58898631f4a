//! Does a process that is stopped for a while keep its lock, and go on where it was?

use std::time::{Duration, Instant};

use backlog::{Error, Options};
use rustix::process::Signal;

use crate::child::{Child, ledger};
use crate::volume::seeds;

#[test]
fn a_stopped_process_keeps_its_lock_and_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("jobs");
    let mut child = Child::start(&["env"], "steady", &folder, "");
    for _ in 0..seeds(2) {
        child.listen(30);

        child.signal(Signal::STOP);

        // The time that other processes wait is the time that this one is stopped.
        let began = Instant::now();
        let patient = Options::new(&folder).lock_timeout(Duration::from_millis(1500));
        let waited = patient.clone().exclusive(true).open();
        assert!(waited.is_err_and(|error| error.is_locked()), "the lock was stolen");
        assert!(began.elapsed() >= Duration::from_millis(1500));
        let waited = patient.open().map(drop);
        assert!(matches!(waited, Err(Error::Timeout { owner: Some(id) }) if id == child.id()), "{waited:?}");
        let seen = backlog::inspect(&folder).unwrap();
        assert!(!seen.closed && seen.messages >= 30, "{seen:?}");
        assert!(backlog::verify(&folder, &mut |_| {}).unwrap().is_empty());

        child.signal(Signal::CONT);
        child.listen(30);
    }
    child.signal(Signal::KILL);
    let (said, _) = child.wait();
    let queue = Options::new(&folder).lock_timeout(Duration::from_secs(10)).open().unwrap();
    let found = ledger(&said).check(&queue, None).unwrap();
    assert!(found.promised >= 60 * seeds(2) && found.acked > 0, "{found:?}");
}
