//! What does a process do whose system calls fail, one at a time, in the middle of a crowd? By strace.
//!
//! `when=` counts per thread. The calls fail above the file system, and what was not synced is taken
//! away by a power cut: so an acknowledgement too many is a message that is gone.

use std::os::unix::process::ExitStatusExt;

use crate::child::{Said, ledger, run};
use crate::ledger::NEVER;
use crate::recorder::Recorder;
use crate::roles::EACH;
use crate::volume::{Kind, home, needs, say, seeds};
use crate::workload::options;

const SIGKILL: i32 = 9;

struct Sum {
    runs: usize,
    failed: usize,
    pushed: usize,
    longest: u128,
}

/// Runs a crowd with a fault in it, then cuts the power and looks. Returns what it said, and the
/// verdict.
fn crowd(recorder: &Recorder, fault: &str, more: &str) -> (Vec<Said>, Option<i32>, Result<(), String>) {
    let mounted = recorder.mount();
    let folder = mounted.path("jobs");
    let _ = std::fs::remove_dir_all(&folder);
    rustix::fs::sync();
    recorder.record().begin();
    let call = fault.split(':').next().unwrap();
    let (trace, inject) = (format!("trace={call}"), format!("inject={fault}"));
    let by = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let (said, status) = run(&by, "crowd", &folder, more);
    // Nothing that is not synced by now survives.
    let cut = recorder.position();

    let ledger = ledger(&said);
    let look = |folder: &std::path::Path, power| {
        let queue = options(folder).lock_timeout(std::time::Duration::from_secs(10)).open();
        let queue = queue.map_err(|error| format!("{fault}: P6: {error}"))?;
        ledger.check(&queue, power).map(drop).map_err(|why| format!("{fault}: {why}"))
    };
    let after_cut = recorder.mount_after_cut(cut, 0);
    let verdict = look(&after_cut.path("jobs"), Some(NEVER)).and_then(|()| look(&folder, None));
    (said, status.signal(), verdict)
}

fn sweep(faults: &[String]) {
    let home = home();
    let recorder = Recorder::new(Kind::Ext4, home.path());
    let mut sum = Sum { runs: 0, failed: 0, pushed: 0, longest: 0 };
    for fault in faults {
        let (said, signal, verdict) = crowd(&recorder, fault, "");
        verdict.unwrap();
        sum.runs += 1;
        let killed = fault.contains("signal=KILL");
        for said in &said {
            match said {
                Said::Pushed(..) => sum.pushed += 1,
                Said::Failed(id, millis, ..) | Said::AckFailed(id, millis, _) => {
                    assert!(*millis < 1000, "{fault}: {id} was answered after {millis} ms");
                    sum.failed += 1;
                    sum.longest = sum.longest.max(*millis);
                }
                Said::Note(text) => sum.failed += usize::from(text != "done"),
                _ => {}
            }
        }
        let opened = !said.iter().any(|said| matches!(said, Said::Note(text) if text.starts_with("open")));
        let ended = said.last() == Some(&Said::Note("done".into()));
        assert!(ended || !opened || (killed && signal == Some(SIGKILL)), "{fault}: ended by {signal:?}");
    }
    assert!(sum.failed > 0 || faults[0].contains("KILL"), "nothing has failed");
    say(&format!(
        "{}: {} runs; {} pushes acknowledged, all there after a power cut; {} calls failed, the longest answered after {} ms",
        faults[0], sum.runs, sum.pushed, sum.failed, sum.longest
    ));
}

/// The same fault at one call after the other.
fn nth(call: &str, which: std::ops::RangeInclusive<usize>) -> Vec<String> {
    which.map(|n| format!("{call}:when={n}")).collect()
}

#[test]
#[ignore = "needs root, loop devices, FUSE and strace"]
fn after_a_failed_fdatasync_nothing_is_acknowledged_and_every_waiter_is_answered() {
    needs!(Kind::Ext4.tool(), "strace");
    // An opening makes about ten; the crowd comes behind it.
    sweep(&nth("fdatasync:error=EIO", 1..=seeds(32)));
    sweep(&[3, 6, 11, 12, 14, 18].map(|n| format!("fdatasync:error=EIO:when={n}+")));
}

#[test]
#[ignore = "needs root, loop devices, FUSE and strace"]
fn a_failed_sync_of_a_folder_breaks_no_promise() {
    needs!(Kind::Ext4.tool(), "strace");
    sweep(&nth("fsync:error=EIO", 1..=10));
}

#[test]
#[ignore = "needs root, loop devices, FUSE and strace"]
fn a_call_that_fails_is_answered_and_nothing_of_it_is_there() {
    needs!(Kind::Ext4.tool(), "strace");
    sweep(&nth("pwrite64:error=EIO", 1..=seeds(32)));
    sweep(&nth("pwrite64:error=ENOSPC", 1..=seeds(32)));
    sweep(&nth("fallocate:error=ENOSPC", 1..=4));
    // The first five may be the program's own start; a birth makes some 57.
    sweep(&nth("openat:error=EMFILE", 6..=60));
}

#[test]
#[ignore = "needs root, loop devices, FUSE and strace"]
fn a_call_that_a_signal_interrupts_is_made_again() {
    needs!(Kind::Ext4.tool(), "strace");
    let home = home();
    let recorder = Recorder::new(Kind::Ext4, home.path());
    for call in ["pwrite64", "fdatasync", "fsync", "pread64", "fallocate"] {
        // Each second one; the first three may be the program's own start.
        let (said, _, verdict) = crowd(&recorder, &format!("{call}:error=EINTR:when=4+2"), "");

        verdict.unwrap();
        let pushed = said.iter().filter(|said| matches!(said, Said::Pushed(..))).count();
        assert_eq!((pushed, said.last()), (3 * EACH, Some(&Said::Note("done".into()))), "{call}");
    }
}

#[test]
#[ignore = "needs root, loop devices, FUSE and strace"]
fn kill_9_at_any_system_call_loses_nothing() {
    needs!(Kind::Ext4.tool(), "strace");
    sweep(&nth("pwrite64:signal=KILL", 1..=seeds(32)));
    sweep(&nth("fdatasync:signal=KILL", 1..=seeds(32)));
    sweep(&nth("fsync:signal=KILL", 1..=8));
    sweep(&nth("fallocate:signal=KILL", 1..=3));
    sweep(&nth("openat:signal=KILL", 6..=60));
}

/// The machinery finds what it is for: a push that is answered before its sync. (The process is killed
/// before it can close the queue, which would sync.)
#[test]
#[ignore = "needs root, loop devices, FUSE and strace"]
fn a_push_that_is_answered_before_its_sync_is_found() {
    needs!(Kind::Ext4.tool(), "strace");
    let home = home();
    let recorder = Recorder::new(Kind::Ext4, home.path());

    let (.., verdict) = crowd(&recorder, "pwrite64:signal=KILL:when=20", "plant");

    assert!(verdict.is_err_and(|why| why.contains("P1")));
}
