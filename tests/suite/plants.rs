//! Do the crash tests bite? Each planted bug must be found, by the promise it breaks.

use backlog::testing::Plants;

use crate::crash::{crash_everywhere, fail_everywhere};
use crate::ledger::Verdict;
use crate::script::Setup;
use crate::workloads::{self, Workload};

fn planted(workload: Workload, plants: Plants) -> Workload {
    let setup = Setup { plants, ..workload.setup };
    Workload { setup, ..workload }
}

fn crashes(workload: Workload, plants: Plants) -> Verdict<u64> {
    crash_everywhere(&planted(workload, plants), u64::MAX, 8)
}

fn is_found(outcome: Verdict<u64>, promises: &[&str]) {
    let found = outcome.expect_err("the planted bug is not found");
    println!("found: {found}");
    assert!(promises.iter().any(|promise| found.contains(promise)), "not what the bug breaks: {found}");
}

#[test]
fn a_folder_that_is_not_synced_is_found() {
    let workload = workloads::everything();
    let setup = Setup { ignore_dir_syncs: true, ..workload.setup };

    let outcome = crash_everywhere(&Workload { setup, ..workload }, u64::MAX, 8);

    is_found(outcome, &["P1", "P4", "P6"]);
}

#[test]
fn publishing_before_the_sync_is_found() {
    let mut plants = Plants::default();
    plants.publish_before_sync = true;

    is_found(crashes(workloads::everything(), plants), &["P1"]);
}

#[test]
fn a_mark_set_before_its_sync_has_returned_is_found() {
    let mut plants = Plants::default();
    plants.mark_before_sync = true;

    is_found(crashes(workloads::rolls(), plants), &["P7", "P6"]);
}

#[test]
fn a_batch_written_before_the_manifest_says_not_closed_is_found() {
    let mut plants = Plants::default();
    plants.write_before_opened = true;

    is_found(crashes(workloads::reopenings(), plants), &["P1", "P4", "P7"]);
}

#[test]
fn a_failed_write_that_is_not_zeroed_is_found() {
    let mut plants = Plants::default();
    plants.no_zeroing = true;

    is_found(fail_everywhere(&planted(workloads::deferred(), plants), u64::MAX), &["had no effect"]);
}

#[test]
fn answering_before_the_sync_is_found() {
    let mut plants = Plants::default();
    plants.answer_before_sync = true;

    is_found(crashes(workloads::rolls(), plants), &["P1"]);
}
