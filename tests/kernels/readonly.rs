//! What does a queue do on a file system that becomes read-only, shuts down or stalls, and with files
//! that may not be changed?

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use backlog::{Durability, Error, Options};

use crate::ledger::{NEVER, payload};
use crate::recorder::Recorder;
use crate::volume::{Kind, Volume, home, needs, run, say};
use crate::workload::{LOOSE, STRICT, Workload, options};

/// An error of a disk that refuses.
fn is_refusal(error: &Error) -> bool {
    use Error::{Full, InDoubt, Io, Poisoned};
    matches!(error, Io { .. } | Full { .. } | InDoubt { .. } | Poisoned { .. })
}

fn started(folder: &Path) -> Workload<'static> {
    let mut workload = Workload::new(folder, 5, || 0);
    for _ in 0..60 {
        workload.step();
    }
    assert!(workload.errors.is_empty(), "{:?}", workload.errors);
    workload
}

/// Does one thing after another that cannot work; each has to say so, soon.
fn refused(workload: &mut Workload<'_>) -> usize {
    let began = Instant::now();
    for _ in 0..20 {
        workload.push(1, Durability::Synced);
        workload.push(1, Durability::Buffered);
        workload.settle(STRICT);
        workload.settle(LOOSE);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let errors = std::mem::take(&mut workload.errors);
    assert!(errors.iter().all(is_refusal), "{errors:?}");
    assert!(errors.len() >= 20, "{errors:?}");
    errors.len()
}

/// The file system is remounted read-only while the queue is open: the kernel refuses that; while it
/// is closed: it cannot be opened, and can be looked at.
#[test]
#[ignore = "needs root and loop devices"]
fn a_read_only_file_system_refuses_openings_and_can_be_looked_at() {
    needs!(Kind::Ext4.tool(), Kind::Xfs.tool());
    for kind in [Kind::Ext4, Kind::Xfs] {
        let volume = Volume::new(kind);
        let folder = volume.mounted.path("jobs");
        let mut workload = started(&folder);
        assert!(!volume.mounted.remount("ro"), "the kernel takes it from under an open queue");
        workload.push(1, Durability::Synced);
        let (ledger, queue) = workload.end();
        let messages = queue.stats().messages;
        queue.close().unwrap();
        // Its files stay open for writing until the last handle is dropped.
        drop(queue);
        assert!(volume.mounted.remount("ro"));

        let opened = options(&folder).open();

        let error = opened.err().unwrap();
        assert!(error.to_string().contains("Read-only file system"), "{error}");
        let seen = backlog::inspect(&folder).unwrap();
        assert_eq!((seen.closed, seen.messages), (true, messages));
        assert_eq!(backlog::verify(&folder, &mut |_| {}).unwrap(), []);
        assert!(volume.mounted.remount("rw"));
        let queue = options(&folder).open().unwrap();
        ledger.check(&queue, None).unwrap();
        say(&format!("{}, read-only: opening is refused, looking works, all is there", kind.name()));
    }
}

/// The journal aborts, and ext4 goes read-only under the open queue.
#[test]
#[ignore = "needs root and loop devices"]
fn an_ext4_that_aborts_its_journal_ends_pushes_and_loses_nothing() {
    needs!(Kind::Ext4.tool());
    let home = home();
    let recorder = Recorder::new(Kind::Ext4, home.path());
    let mounted = recorder.mount();
    recorder.record().begin();
    let folder = mounted.path("jobs");
    let mut workload = started(&folder);
    assert!(mounted.remount("abort"));

    let errors = refused(&mut workload);

    assert!(backlog::inspect(&folder).is_ok());
    assert_eq!(backlog::verify(&folder, &mut |_| {}).unwrap(), []);
    let ledger = workload.ledger;
    let _ = workload.queue.close();
    drop(workload.queue);
    drop(mounted);
    let mounted = recorder.mount();
    let queue = options(&mounted.path("jobs")).create(false).open().unwrap();
    // What was buffered is in doubt: the file system gave it up.
    ledger.check(&queue, Some(NEVER)).unwrap();
    say(&format!("ext4, aborted: {errors} calls refused, all that was acknowledged is there"));
}

/// xfs is shut down under the open queue: each call on it says EIO, reads included.
#[test]
#[ignore = "needs root and loop devices"]
fn an_xfs_that_shuts_down_ends_everything_with_errors_and_loses_nothing() {
    needs!(Kind::Xfs.tool(), "xfs_io");
    let volume = Volume::new(Kind::Xfs);
    let folder = volume.mounted.path("jobs");
    let mut workload = started(&folder);
    let root = volume.mounted.path("");
    run("xfs_io", &["-x", "-c", "shutdown", root.to_str().unwrap()]);

    let errors = refused(&mut workload);

    assert!(backlog::inspect(&folder).is_err());
    let ledger = workload.ledger;
    let _ = workload.queue.close();
    drop(workload.queue);
    let volume = volume.again(Kind::Xfs);
    let queue = options(&volume.mounted.path("jobs")).create(false).open().unwrap();
    ledger.check(&queue, Some(NEVER)).unwrap();
    say(&format!("xfs, shut down: {errors} calls refused, all that was acknowledged is there"));
}

/// Files and folders that may not be changed (chattr +i), one after the other.
#[test]
#[ignore = "needs root and loop devices"]
fn immutable_files_and_folders_are_refused_and_all_is_well_when_they_change_again() {
    needs!(Kind::Ext4.tool(), "chattr");
    let volume = Volume::new(Kind::Ext4);
    let chattr = |how: &str, path: &Path| run("chattr", &[how, path.to_str().unwrap()]);
    let folder = volume.mounted.path("jobs");
    let mut workload = started(&folder);
    // A folder: no new segment; the active one goes on until it is full.
    chattr("+i", &folder.join("log"));
    for _ in 0..200 {
        workload.push(1, Durability::Synced);
    }
    chattr("-i", &folder.join("log"));
    assert!(!workload.errors.is_empty(), "no roll was refused");
    let io = |error: &Error| matches!(error, Error::Io { .. });
    assert!(workload.errors.drain(..).all(|error| io(&error)));
    // Without reopening.
    workload.push(1, Durability::Synced);
    assert!(workload.errors.is_empty(), "{:?}", workload.errors);

    // The active segment, under the open queue: what fails then cannot be taken back either.
    let segments = std::fs::read_dir(folder.join("log")).unwrap();
    let segments: Vec<_> = segments.map(|entry| entry.unwrap().path()).collect();
    segments.iter().for_each(|segment| drop(chattr("+i", segment)));
    workload.push(1, Durability::Synced);
    segments.iter().for_each(|segment| drop(chattr("-i", segment)));
    let error = workload.errors.pop().unwrap();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    workload.reopen();
    workload.errors.clear();
    workload.push(1, Durability::Synced);
    assert!(workload.errors.is_empty(), "{:?}", workload.errors);
    workload.queue.close().unwrap();

    // The manifest, before an opening.
    chattr("+i", &folder.join("MANIFEST"));
    let opened = options(&folder).open();
    let seen = backlog::inspect(&folder);
    chattr("-i", &folder.join("MANIFEST"));
    assert!(opened.is_err_and(|error| is_refusal(&error)));
    assert!(seen.unwrap().closed);
    let queue = options(&folder).open().unwrap();
    workload.ledger.check(&queue, None).unwrap();
}

/// The file system is frozen, as by a device that does not answer: who waits with a deadline gets
/// `Timeout`, the others wait; then all of it is done.
#[test]
#[ignore = "needs root and loop devices"]
fn on_a_stalled_file_system_deadlines_hold_and_everything_goes_on_afterwards() {
    needs!(Kind::Ext4.tool(), "fsfreeze");
    let volume = Volume::new(Kind::Ext4);
    let folder = volume.mounted.path("jobs");
    let root = volume.mounted.path("");
    let queue = Options::new(&folder).open().unwrap();
    queue.push(payload(0, 10)).unwrap();
    run("fsfreeze", &["-f", root.to_str().unwrap()]);
    let thaw = Thaw(root);
    // A push that waits without a deadline leads, and is stuck in the kernel.
    let (tell, told) = channel();
    let other = queue.clone();
    let pusher = std::thread::spawn(move || {
        tell.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
        other.push(payload(1, 10))
    });
    until_stuck(&Path::new("/proc").join(told.recv().unwrap()));

    let ticket = queue.push_deferred(payload(2, 10)).unwrap();
    let late = ticket.wait_timeout(Duration::from_millis(300));
    let still_late = ticket.wait_timeout(Duration::from_secs(2));
    let done = pusher.is_finished();
    drop(thaw);

    assert!(matches!(late, Err(Error::Timeout { .. })), "{late:?}");
    assert!(matches!(still_late, Err(Error::Timeout { .. })), "{still_late:?}");
    assert!(!done, "a push was acknowledged by a device that stood still");
    assert_eq!(pusher.join().unwrap().unwrap().get(), 1);
    assert_eq!(ticket.wait().unwrap().get(), 2);
    queue.close().unwrap();
    assert_eq!(backlog::verify(&folder, &mut |_| {}).unwrap(), []);
}

/// Waits until a thread sleeps in the kernel and cannot be interrupted.
fn until_stuck(thread: &Path) {
    let began = Instant::now();
    let is_stuck = || {
        let stat = std::fs::read_to_string(thread.join("stat")).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('D'))
    };
    while !is_stuck() {
        assert!(began.elapsed() < Duration::from_secs(20), "the file system does not stall");
        std::thread::yield_now();
    }
}

/// Lets a frozen file system go on, whatever happens.
struct Thaw(std::path::PathBuf);

impl Drop for Thaw {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0).status();
    }
}
