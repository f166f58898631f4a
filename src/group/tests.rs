//! Do the arrows of the picture in DESIGN §3 lead where they say?

use std::time::Duration;

use super::decide::Next;
use super::policy::DEFAULT_POLICY;
use super::state::{Counts, Now, State};
use crate::format::entry::{Entry, HELD, Kind, More, RAN_OUT, reason};
use crate::format::snapshot::{Policy, Snapshot, UNTIL_RESUMED};
use crate::offset::Offset;

pub(super) const START: Now = Now { mono: Duration::from_secs(100), wall: 1_700_000_000_000 };

pub(super) fn after(millis: u64) -> Now {
    Now { mono: START.mono + Duration::from_millis(millis), wall: START.wall + millis }
}

pub(super) fn with(policy: Policy) -> State {
    let mut state = State::from_snapshot(&Snapshot { policy, ..Snapshot::default() }, START);
    state.begin_holder(7);
    state
}

pub(super) fn new() -> State {
    with(DEFAULT_POLICY)
}

pub(super) fn lend(state: &mut State, first: u64, end: u64, lease: u32, now: Now) -> u64 {
    let entry = state.lend_fresh(first, end, lease, now, None).unwrap();
    state.apply(&entry, now);
    entry.delivery
}

pub(super) fn again(state: &mut State, offset: u64, now: Now) -> u64 {
    let entry = state.lend_again(offset, HELD, now, None).unwrap();
    state.apply(&entry, now);
    entry.delivery
}

pub(super) fn apply_all(state: &mut State, entries: impl IntoIterator<Item = Entry>, now: Now) {
    entries.into_iter().for_each(|entry| state.apply(&entry, now));
}

/// Says in a word where message 0 is.
fn place_of(state: &State, now: Now) -> &'static str {
    let mut state = state.clone();
    state.ripen(now);
    let counts = state.stats();
    match counts {
        Counts { floor: 1.., .. } => "done",
        Counts { on_loan: 1, .. } => "on loan",
        Counts { ready_again: 1, .. } => "ready",
        Counts { delayed: 1, .. } => "delayed",
        Counts { dead: 1, .. } => "dead",
        _ => "ready",
    }
}

#[test]
fn every_arrow_of_the_picture_leads_where_it_says() {
    type Step = fn(&mut State) -> Vec<Entry>;
    let recv: Step = |state| match state.next(START, false, None) {
        Next::Again(offset) => vec![state.lend_again(offset, HELD, START, None).unwrap()],
        _ => vec![state.lend_fresh(0, 1, HELD, START, None).unwrap()],
    };
    let timed: Step = |state| vec![state.lend_fresh(0, 1, 50, START, None).unwrap()];
    let ack: Step = |state| vec![state.ack(0, state.next_delivery().unwrap() - 1).unwrap()];
    let nack: Step =
        |state| vec![state.nack(0, state.next_delivery().unwrap() - 1, Some("no"), None, START).unwrap()];
    let reject: Step =
        |state| vec![state.reject(0, state.next_delivery().unwrap() - 1, "no", START).unwrap()];
    let release: Step = |state| vec![state.release(0, state.next_delivery().unwrap() - 1).unwrap()];
    let holder_died: Step = |state| state.holder_gone(7, true, START);
    let time_over: Step = |state| state.run_out(9, after(60));
    let push_delayed: Step = |state| vec![state.delay(0, START.wall + 90)];
    let due: Step = |state| {
        state.ripen(after(5_000));
        Vec::new()
    };
    let revive: Step = |state| vec![state.revive(0, START).unwrap()];
    let discard: Step = |state| vec![state.discard(0, START).unwrap()];
    let purge: Step = |state| vec![state.purge(1, 1, START).unwrap()];
    let table: &[(&[Step], &str)] = &[
        (&[], "ready"),
        (&[recv], "on loan"),
        (&[recv, ack], "done"),
        (&[recv, nack], "delayed"),
        (&[recv, nack, due], "ready"),
        (&[recv, nack, due, recv], "on loan"),
        (&[recv, nack, due, recv, ack], "done"),
        (&[recv, reject], "dead"),
        (&[recv, reject, revive], "ready"),
        (&[recv, reject, revive, recv], "on loan"),
        (&[recv, release], "ready"),
        (&[recv, release, recv, ack], "done"),
        (&[recv, holder_died], "ready"),
        (&[timed, holder_died], "on loan"),
        (&[timed, time_over], "delayed"),
        (&[timed, time_over, due], "ready"),
        (&[timed, time_over, ack], "done"),
        (&[push_delayed], "delayed"),
        (&[push_delayed, due], "ready"),
        (&[push_delayed, due, recv, ack], "done"),
        (&[discard], "done"),
        (&[recv, discard], "done"),
        (&[recv, nack, discard], "done"),
        (&[recv, nack, due, discard], "done"),
        (&[recv, reject, discard], "done"),
        (&[purge], "done"),
        (&[recv, purge], "done"),
        (&[recv, reject, purge], "done"),
    ];
    for (index, (steps, expected)) in table.iter().enumerate() {
        let mut state = new();
        for step in *steps {
            let entries = step(&mut state);
            apply_all(&mut state, entries, START);
        }

        assert_eq!(place_of(&state, START), *expected, "row {index}");
    }
}

#[test]
fn a_message_lost_twice_is_handed_out_alone() {
    let mut state = new();
    for holder in [7, 8] {
        if holder == 7 {
            lend(&mut state, 0, 1, HELD, START)
        } else {
            again(&mut state, 0, START)
        };
        let entries = state.holder_gone(holder, true, START);
        apply_all(&mut state, entries, START);
        state.begin_holder(holder + 1);
    }
    let other = lend(&mut state, 1, 2, HELD, START);

    let (passed_over, waited_for) = (state.next(START, false, None), state.next(START, true, None));
    assert_eq!((passed_over, waited_for), (Next::Fresh { or: None }, Next::Nothing { until: None }));
    state.apply(&state.ack(1, other).unwrap(), START);
    assert_eq!(state.next(START, false, None), Next::Again(0));
    assert_eq!(state.attempt(0), 3);

    let alone = again(&mut state, 0, START);
    assert_eq!(state.next(START, false, None), Next::Nothing { until: None });
    state.apply(&state.ack(0, alone).unwrap(), START);
    assert_eq!(state.next(START, false, None), Next::Fresh { or: None });
}

#[test]
fn what_is_ready_before_a_message_to_be_alone_does_not_wait_for_it() {
    let mut state = new();
    let number = lend(&mut state, 0, 3, HELD, START);
    state.apply(&state.release(0, number).unwrap(), START);
    state.apply(&state.release(1, number + 1).unwrap(), START);
    let mut stored = state.to_snapshot();
    stored.exceptions[1].losses = 2;
    state = State::from_snapshot(&stored, START);

    let before = state.next(START, true, None);
    state.begin_holder(8);
    again(&mut state, 0, START);

    assert_eq!(before, Next::Again(0));
    assert_eq!(state.next(START, true, None), Next::Nothing { until: None });
}

#[test]
fn late_acks_in_the_middle_of_a_row_have_room() {
    let mut state = new();
    let number = lend(&mut state, 1, 200, 50, START);
    let entries = state.run_out(9, after(50));
    apply_all(&mut state, entries, after(50));
    let bound = state.snapshot_bound(0, true);

    for offset in (2..199).step_by(2) {
        state.apply(&state.ack(offset, number + offset - 1).unwrap(), START);
    }

    let stored = state.to_snapshot();
    assert_eq!((stored.exceptions.len(), stored.done.len()), (100, 99));
    assert!(stored.encode().len() as u64 <= bound);
}

#[test]
fn a_message_that_takes_its_holders_with_it_is_given_up() {
    let mut state = with(Policy { max_losses: 2, ..DEFAULT_POLICY });
    lend(&mut state, 0, 3, HELD, START);
    let first = state.holder_gone(7, true, START);
    apply_all(&mut state, first, START);
    state.begin_holder(8);
    again(&mut state, 1, START);

    let entries = state.holder_gone(8, true, START);
    apply_all(&mut state, entries.clone(), START);

    assert_eq!(entries.len(), 2);
    assert_eq!((entries[1].kind, entries[1].lease, entries[1].losses), (Kind::Dead, reason::LOSSES, 2));
    assert_eq!((state.stats().dead, state.stats().ready_again), (1, 2));
}

#[test]
fn a_close_costs_no_message_a_try() {
    let mut state = new();
    for holder in 7..100 {
        if holder == 7 {
            lend(&mut state, 0, 1, HELD, START)
        } else {
            again(&mut state, 0, START)
        };
        let entries = state.close_release(START);
        apply_all(&mut state, entries, START);
        assert_eq!((state.next_delivery(), state.names_holder(holder)), (None, false));
        state.begin_holder(holder + 1);
    }

    assert_eq!(state.attempt(0), 1);
    assert_eq!(state.next(START, false, None), Next::Again(0));
}

#[test]
fn retries_double_up_to_a_limit_and_end_among_the_dead() {
    let mut state = with(Policy { max_failures: 6, retry_cap: 5_000, ..DEFAULT_POLICY });
    let mut waits = Vec::new();
    let mut number = lend(&mut state, 0, 1, HELD, START);
    loop {
        let entry = state.nack(0, number, Some("no"), None, START).unwrap();
        state.apply(&entry, START);
        if entry.kind == Kind::Dead {
            assert_eq!((entry.lease, entry.failures), (reason::FAILURES, 6));
            break;
        }
        waits.push(entry.time - START.wall);
        number = again(&mut state, 0, after(10_000));
    }

    let around = [1_000, 2_000, 4_000, 5_000, 5_000];
    assert_eq!(waits.len(), around.len());
    for (wait, around) in waits.iter().zip(around) {
        assert!((around * 4 / 5..=around * 6 / 5).contains(wait), "{wait} is not about {around}");
    }
    assert_eq!(state.to_snapshot().exceptions[0].error, "no");
}

#[test]
fn a_jump_of_the_wall_clock_changes_no_wait() {
    let mut state = new();
    let number = lend(&mut state, 0, 1, HELD, START);
    let entry = state.nack(0, number, None, Some(Duration::from_secs(5)), START).unwrap();
    state.apply(&entry, START);
    let jumped = Now { wall: START.wall + 99_000_000, ..after(4_999) };
    let back = Now { wall: 0, ..after(5_000) };

    state.ripen(jumped);
    assert_eq!(state.next(jumped, false, None), Next::Fresh { or: None });
    assert_eq!(state.next_timer(jumped), Some(after(5_000).mono));
    state.ripen(back);
    assert_eq!(state.next(back, false, None), Next::Again(0));
    assert_eq!(state.next_timer(back), None);
}

#[test]
fn ready_messages_come_in_offset_order_and_before_new_ones() {
    let mut state = new();
    let number = lend(&mut state, 0, 10, HELD, START);
    for offset in [8, 3, 5] {
        let entry = state.release(offset, number + offset).unwrap();
        state.apply(&entry, START);
    }

    let mut order = Vec::new();
    while let Next::Again(offset) = state.next(START, false, None) {
        again(&mut state, offset, START);
        order.push(offset);
    }

    assert_eq!(order, [3, 5, 8]);
    assert_eq!(state.next(START, false, None), Next::Fresh { or: None });
}

#[test]
fn acks_of_a_batch_are_one_entry_for_each_row_and_cover_nothing_else() {
    let mut state = new();
    let first = lend(&mut state, 0, 4, HELD, START);
    let second = lend(&mut state, 7, 9, HELD, START);
    let loans = [(3, first + 3), (7, second), (0, first), (1, first + 1), (1, first + 1), (5, second)];

    let acked = state.ack_many(&loans);
    apply_all(&mut state, acked.entries.clone(), START);

    assert_eq!(acked.held, [true, true, true, true, false, false]);
    let rows: Vec<_> = acked.entries.iter().map(|entry| (entry.offset, entry.more.clone())).collect();
    let pair = More::Range { end: 2, messages: 2 };
    assert_eq!(rows, [(0, pair), (3, More::Nothing), (7, More::Nothing)]);
    assert_eq!((state.stats().floor, state.stats().on_loan), (2, 2));
    assert!(state.ack(2, first + 2).is_ok());
}

#[test]
fn a_damaged_stretch_of_millions_takes_one_exception() {
    let mut state = new();
    lend(&mut state, 0, 2, HELD, START);

    state.apply(&state.damaged(5, 5_000_000, 4_000_000, START), START);
    state.apply(&state.revive(6, START).unwrap(), START);

    let counts = state.stats();
    assert_eq!((counts.head, counts.passed, counts.dead), (5_000_000, 4_000_002, 4_999_994));
    assert_eq!(state.to_snapshot().exceptions.len(), 3);
    assert_eq!(state.next(START, false, None), Next::Again(6));
}

#[test]
fn a_holder_that_dies_with_a_million_loans_takes_one_exception() {
    let mut state = new();
    let number = lend(&mut state, 0, 1_000_000, HELD, START);
    state.apply(&state.ack(500, number + 500).unwrap(), START);

    let entries = state.holder_gone(7, true, START);
    apply_all(&mut state, entries, START);

    assert_eq!(state.to_snapshot().exceptions.len(), 2);
    assert_eq!(state.stats().ready_again, 999_999);
}

#[test]
fn a_message_discarded_before_its_turn_is_passed_over_and_counted() {
    let mut state = new();
    state.apply(&state.discard(1, START).unwrap(), START);
    assert_eq!((state.done_until(1), state.stats().head), (Some(2), 0));

    let number = lend(&mut state, 0, 1, HELD, START);
    state.apply(&state.ack(0, number).unwrap(), START);

    let counts = state.stats();
    assert_eq!((counts.floor, counts.head, counts.passed), (2, 2, 2));
}

#[test]
fn texts_stay_whole_until_they_are_a_megabyte() {
    let mut state = new();
    let number = lend(&mut state, 0, 3_000, HELD, START);
    let text = format!("{}last words", "x".repeat(2_000));
    for offset in 0..3_000 {
        let entry = state.nack(offset, number + offset, Some(&text), None, START).unwrap();
        state.apply(&entry, START);
    }

    let stored = state.to_snapshot().exceptions;
    assert_eq!((stored[0].error.len(), stored[2_999].error.len()), (1_024, 64));
    assert!(stored.iter().all(|exception| exception.error.ends_with("last words")));
}

#[test]
fn entries_about_offsets_far_away_cost_no_time() {
    let mut state = new();
    let far = Offset::LIMIT - 1;
    for kind in [Kind::Lent, Kind::Released, Kind::Nacked, Kind::Dead, Kind::Done, Kind::HolderGone] {
        let more = More::Range { end: far, messages: 3 };
        let entry = Entry { delivery: 7 << 32, lease: HELD, more, ..Entry::new(kind, 3) };
        state.apply(&entry, START);
    }
    state.apply(&Entry { lease: RAN_OUT, ..Entry::new(Kind::Nacked, far) }, START);

    assert_eq!(state.stats().head, Offset::LIMIT);
}

#[test]
fn sections_of_a_later_version_are_kept_and_have_room() {
    let stored = Snapshot { unknown: vec![(99, vec![7; 300])], ..Snapshot::default() };

    let state = State::from_snapshot(&stored, START);

    assert_eq!(state.to_snapshot(), stored);
    assert!(stored.encode().len() as u64 <= state.snapshot_bound(0, true));
}

/// A group that is paused said that no time changes anything: who waits for its last loan to run out,
/// as a pool does that works until all is done, waited for ever.
#[test]
fn issue_5_who_waits_at_a_paused_group_is_woken_when_a_loan_runs_out() {
    let mut state = new();
    lend(&mut state, 0, 1, 50, START);

    state.set_paused(Some(UNTIL_RESUMED), START);

    assert_eq!(state.next(START, false, None), Next::Nothing { until: Some(after(50).mono) });
}
