//! Do the suites bite? Each planted bug must be found, by the promise that it breaks.
//!
//! The state that finds it must be clean without it. `--nocapture` shows what is found, and where.

use backlog::testing::{Plant, plant};

use crate::crash::{count, crash_at, crash_everywhere, fail_at, seeds, troubles};
use crate::ledger::Verdict;
use crate::misplaced::Batch;
use crate::script::Setup;
use crate::share_world::End;
use crate::workloads::{self, Workload};
use crate::{crash_share, evidence, misplaced, wounds};

/// One state of a suite: its name, as `docs/TESTING.md` has it, and its check.
struct State {
    name: String,
    check: Box<dyn Fn() -> Verdict<u64>>,
}

fn state(name: String, check: impl Fn() -> Verdict<u64> + 'static) -> State {
    State { name, check: Box::new(check) }
}

/// Crashes at every operation from one on.
fn crashes(workload: &Workload, from: u64, usual: u64) -> Vec<State> {
    each(workload, from, usual, crash_at)
}

/// Crashes at every operation from one on, and then one copy going bad.
fn wounds(workload: &Workload, from: u64, usual: u64) -> Vec<State> {
    each(workload, from, usual, wounds::wounded_at)
}

fn each(
    workload: &Workload,
    from: u64,
    usual: u64,
    check: fn(&Workload, u64, u64) -> Verdict<u64>,
) -> Vec<State> {
    let (ops, _) = count(workload).unwrap();
    let all = (from..=ops).flat_map(|op| (0..seeds(usual)).map(move |seed| (op, seed)));
    let one = |(op, seed)| {
        let workload = workload.clone();
        state(format!("{}:{op}:{seed}", workload.name), move || check(&workload, op, seed))
    };
    all.map(one).collect()
}

/// Failures of every operation from one on.
fn failures(workload: &Workload, from: u64) -> Vec<State> {
    let all = troubles(workload, u64::MAX).unwrap().into_iter().filter(|&(op, _)| op >= from);
    let one = |(op, trouble)| {
        let workload = workload.clone();
        state(format!("{}:{op}:0 {trouble:?}", workload.name), move || fail_at(&workload, trouble))
    };
    all.map(one).collect()
}

/// Checks that one of the states shows the bug, as one of the promises broken, and is clean without.
fn is_found(bug: Plant, states: &[State], promises: &[&str]) {
    let planted = plant(bug);
    let mut checked = states.iter().zip(1..).map(|(state, tried)| (state, tried, (state.check)()));
    let found = checked.find(|(_, _, outcome)| outcome.is_err());
    drop(planted);

    let (state, tried, outcome) = found.expect("the planted bug is not found");
    let broken = outcome.unwrap_err();
    println!("{bug:?} is found by {} after {tried} states: {broken}", state.name);
    assert!(promises.iter().any(|promise| broken.contains(promise)), "not what {bug:?} breaks: {broken}");
    (state.check)().unwrap_or_else(|broken| panic!("{} without {bug:?}: {broken}", state.name));
}

/// A disk that says "ok" to each sync of a folder, and does nothing.
#[test]
fn folders_that_are_never_synced_are_found() {
    let workload = workloads::everything();
    let setup = Setup { ignore_dir_syncs: true, ..workload.setup };

    let outcome = crash_everywhere(&Workload { setup, ..workload }, u64::MAX, 8);

    let broken = outcome.expect_err("names that were not synced are lost");
    assert!(["P1", "P4", "P6"].iter().any(|promise| broken.contains(promise)), "{broken}");
}

#[test]
fn a_manifest_named_before_its_folders_are_is_found() {
    is_found(Plant::NoFolderSyncAtBirth, &crashes(&workloads::deferred(), 10, 16), &["P6"]);
}

#[test]
fn a_queue_whose_own_name_is_not_synced_is_found() {
    is_found(Plant::NoParentSyncAtBirth, &crashes(&workloads::deferred(), 20, 4), &["P1", "P4"]);
}

#[test]
fn a_segment_whose_name_is_not_synced_is_found() {
    is_found(Plant::NoFolderSyncAtRoll, &crashes(&workloads::rolls(), 40, 8), &["P6", "P1"]);
}

#[test]
fn a_group_whose_folders_are_not_synced_is_found() {
    is_found(Plant::NoFolderSyncAtGroupBirth, &crashes(&workloads::reopenings(), 35, 8), &["P6"]);
}

#[test]
fn a_slot_before_the_segment_that_it_names_is_found() {
    is_found(Plant::SlotBeforeSegment, &crashes(&workloads::rolls(), 40, 8), &["P6", "P1"]);
}

#[test]
fn a_batch_before_the_slot_that_names_its_segment_is_found() {
    is_found(Plant::BatchBeforeSlot, &crashes(&workloads::rolls(), 40, 8), &["P6", "P1"]);
}

#[test]
fn a_manifest_that_is_named_before_its_sync_is_found() {
    is_found(Plant::RenamedBeforeSync, &crashes(&workloads::deferred(), 10, 8), &["P6"]);
}

#[test]
fn a_group_whose_files_go_before_the_slot_is_found() {
    is_found(Plant::RemovedBeforeSlot, &crashes(&workloads::everything(), 250, 4), &["P6"]);
}

#[test]
fn publishing_before_the_sync_is_found() {
    is_found(Plant::PublishBeforeSync, &crashes(&workloads::everything(), 90, 8), &["P1"]);
}

#[test]
fn answering_before_the_sync_is_found() {
    is_found(Plant::AnswerBeforeSync, &crashes(&workloads::rolls(), 40, 8), &["P1"]);
}

#[test]
fn an_ack_that_is_answered_before_its_sync_is_found() {
    is_found(Plant::AckBeforeSync, &crashes(&workloads::kills(), 45, 4), &["P5"]);
}

#[test]
fn acks_that_are_synced_before_their_messages_are_found() {
    is_found(Plant::AckBeforeMessage, &crashes(&workloads::lazily(), 60, 1), &["P5"]);
}

#[test]
fn a_mark_set_before_its_sync_has_returned_is_found() {
    is_found(Plant::MarkBeforeSync, &crashes(&workloads::rolls(), 40, 8), &["P7"]);
}

#[test]
fn an_own_mark_set_before_its_sync_has_returned_is_found() {
    is_found(Plant::OwnMarkBeforeSync, &crashes(&workloads::one_by_one(), 75, 60), &["P7"]);
}

#[test]
fn a_second_sync_of_a_half_that_is_trusted_is_found() {
    is_found(Plant::SecondHalfSyncTrusted, &failures(&workloads::kills(), 45), &["P5"]);
}

#[test]
fn a_second_sync_of_the_manifest_that_is_trusted_is_found() {
    is_found(Plant::SecondSlotSyncTrusted, &failures(&workloads::kills(), 75), &["P6"]);
}

#[test]
fn a_second_sync_that_is_trusted_is_found() {
    is_found(Plant::SecondSyncTrusted, &failures(&workloads::deferred(), 20), &["P1", "P7"]);
}

#[test]
fn a_log_that_two_of_us_sync_is_found() {
    is_found(Plant::SyncedByTwo, &failures(&workloads::lazily(), 100), &["P1", "P7"]);
}

#[test]
fn a_failed_write_that_is_not_zeroed_is_found() {
    is_found(Plant::NotZeroed, &failures(&workloads::deferred(), 20), &["had no effect"]);
}

#[test]
fn a_batch_written_before_the_manifest_says_not_closed_is_found() {
    is_found(Plant::WriteBeforeOpened, &crashes(&workloads::reopenings(), 35, 4), &["P1", "P4", "P7"]);
}

#[test]
fn evidence_that_is_set_aside_too_late_is_found() {
    let states: Vec<State> = (2..200)
        .map(|seed| state(format!("evidence seed {seed}"), move || evidence::sets_aside(seed).map(|()| 1)))
        .collect();

    is_found(Plant::EvidenceLate, &states, &["P7"]);
}

#[test]
fn a_reserve_that_is_told_before_it_is_synced_is_found() {
    is_found(Plant::ReserveUnsynced, &crashes(&workloads::reserves(), 40, 4), &["P4", "P1"]);
}

#[test]
fn a_base_within_the_reserve_is_found() {
    is_found(Plant::BaseWithinReserve, &crashes(&workloads::reserves(), 40, 4), &["P4"]);
}

#[test]
fn a_manifest_that_only_the_cache_holds_is_found() {
    is_found(Plant::CachedManifest, &failures(&workloads::kills(), 35), &["P6"]);
}

#[test]
fn a_log_that_only_the_cache_holds_is_found() {
    is_found(Plant::CachedLog, &failures(&workloads::kills(), 40), &["P1", "P7"]);
}

#[test]
fn halves_that_only_the_cache_holds_are_found() {
    is_found(Plant::CachedHalves, &failures(&workloads::kills(), 45), &["P1", "P7"]);
}

#[test]
fn a_bad_copy_that_is_left_so_is_found() {
    is_found(Plant::CopyNotMadeGood, &wounds(&workloads::kills(), 40, 8), &["P6"]);
}

#[test]
fn a_slot_in_one_copy_is_found() {
    is_found(Plant::OneCopy, &wounds(&workloads::kills(), 60, 2), &["P1", "P6", "P7"]);
}

#[test]
fn an_old_half_that_is_not_superseded_is_found() {
    is_found(Plant::NotSuperseded, &wounds(&workloads::kills(), 60, 2), &["P7"]);
}

#[test]
fn an_old_half_that_is_not_superseded_for_good_is_found() {
    is_found(Plant::SupersededUnsynced, &wounds(&workloads::kills(), 60, 2), &["P7"]);
}

#[test]
fn a_position_left_out_of_the_checksum_is_found() {
    let batches = misplaced::past().batches().to_vec();
    let pairs = batches.iter().flat_map(|&from| batches.iter().map(move |&to| (from, to)));
    let alike = pairs.filter(|&(from, to)| misplaced::alike(from, to));
    let one = |(from, to): (Batch, Batch)| {
        let name = format!("batch {} at the place of {}", from.0, to.0);
        state(name, move || misplaced::misdirected(&misplaced::past(), from, to).map(|()| 1))
    };

    is_found(Plant::PositionLeftOut, &alike.map(one).collect::<Vec<_>>(), &["P7"]);
}

#[test]
fn a_length_that_is_believed_before_its_checksum_is_found() {
    let batches = misplaced::past().batches().to_vec();
    let bits = batches.into_iter().flat_map(|batch| (0..32).map(move |bit| (batch, bit)));
    let one = |(batch, bit): (Batch, usize)| {
        let name = format!("batch {}, bit {bit} of its length", batch.0);
        state(name, move || misplaced::flipped_length(&misplaced::past(), batch, bit).map(|()| 1))
    };

    is_found(Plant::LengthBelieved, &bits.map(one).collect::<Vec<_>>(), &["P1"]);
}

#[test]
fn a_salt_that_is_used_again_is_found() {
    is_found(Plant::SaltReused, &crashes(&workloads::holes(false), 220, 4), &["P6", "P7"]);
}

#[test]
fn a_new_half_in_use_before_its_sync_is_found() {
    is_found(Plant::NewHalfUnsynced, &crashes(&workloads::reopenings(), 45, 8), &["P6"]);
}

#[test]
fn an_opening_that_goes_on_in_the_same_half_is_found() {
    is_found(Plant::SameHalf, &crashes(&workloads::holes(false), 170, 4), &["P1"]);
}

#[test]
fn a_message_that_is_done_before_its_batch_is_durable_is_found() {
    is_found(Plant::DoneBeforeBatch, &crashes(&workloads::chains(), 60, 4), &["P3", "P1"]);
}

#[test]
fn acks_that_are_applied_again_over_a_seek_are_found() {
    is_found(Plant::SettledOverSeek, &crashes(&workloads::chains(), 60, 3), &["P1"]);
}

#[test]
fn acks_that_the_manifest_says_too_early_are_in_the_files_are_found() {
    is_found(Plant::SettlesToldEarly, &crashes(&workloads::chains(), 60, 3), &["P3", "P5"]);
}

#[test]
fn acks_that_a_snapshot_claims_too_early_are_found() {
    is_found(Plant::SettledTooFar, &crashes(&workloads::chained_switches(false), 30, 3), &["P3"]);
}

/// Ends of an owner with guests from one on, and of the one after it.
fn shared(kinds: &[fn(u64) -> End], from: u64, twice: bool) -> Vec<State> {
    let second = if twice { 1..40 } else { 0..1 };
    let all = (from..160).flat_map(|at| second.clone().map(move |again| (at, again)));
    let all = all.flat_map(|(at, again)| kinds.iter().map(move |end| (end(at), twice.then(|| end(again)))));
    let one = |(first, second): (End, Option<End>)| {
        let ends: Vec<End> = std::iter::once(first).chain(second).collect();
        state(format!("{ends:?}"), move || crash_share::verdict(&ends, 0))
    };
    all.map(one).collect()
}

#[test]
fn a_push_that_is_not_looked_for_when_it_is_sent_again_is_found() {
    is_found(Plant::StoredNotSought, &shared(&[End::Lost], 1, false), &["P5"]);
}

#[test]
fn loans_that_nobody_was_told_of_and_that_stay_out_are_found() {
    is_found(Plant::UnnamedKept, &shared(&[End::Lost], 1, false), &["as lost"]);
}

#[test]
fn a_segment_that_goes_with_a_push_whose_answer_was_not_heard_is_found() {
    is_found(Plant::UnheardFreed, &shared(&[End::Lost], 70, false), &["P5"]);
}

#[test]
fn a_push_that_the_second_owner_found_and_let_go_is_found() {
    is_found(Plant::FoundForgotten, &shared(&[End::Lost], 75, true), &["P5"]);
}

#[test]
fn an_ack_that_is_refused_when_it_is_sent_again_is_found() {
    is_found(Plant::RetryRefused, &shared(&[End::Lost], 20, false), &["no call fails"]);
}

#[test]
fn a_living_guest_that_is_taken_for_gone_is_found() {
    is_found(Plant::HolderTakenForGone, &shared(&[End::Frame], 1, false), &["as lost"]);
}

#[test]
fn a_dead_guest_that_is_taken_for_living_is_found() {
    is_found(Plant::DeadTakenForLiving, &shared(&[End::Frame], 1, false), &["as lost"]);
}
