//! Does an ack hit the loan it belongs to and no other, in whatever order things happen?

use std::time::Duration;

use super::decide::Next;
use super::holder::holder_of;
use super::state::State;
use super::tests::{START, after, again, apply_all, lend, new};
use crate::error::Error;
use crate::format::entry::{Entry, HELD, Kind};

type Ending = fn(&mut State, u64);

/// Each way in which a loan of message 0 can end without the one who holds it.
fn endings() -> Vec<(&'static str, Ending)> {
    vec![
        ("released", |state, number| {
            let entry = state.release(0, number).unwrap();
            state.apply(&entry, START);
        }),
        ("nacked", |state, number| {
            let entry = state.nack(0, number, None, Some(Duration::ZERO), START).unwrap();
            state.apply(&entry, START);
        }),
        ("rejected, revived", |state, number| {
            let entry = state.reject(0, number, "", START).unwrap();
            state.apply(&entry, START);
            let entry = state.revive(0, START).unwrap();
            state.apply(&entry, START);
        }),
        ("ran out", |state, number| {
            let entry = state.extend(0, number, 10, START).unwrap();
            state.apply(&entry, START);
            let entries = state.run_out(9, after(10));
            apply_all(state, entries, after(10));
        }),
        ("sought", |state, _| {
            let entry = state.seek(0, 0, 0, START);
            state.apply(&entry, START);
        }),
        ("acked, sought", |state, number| {
            let entry = state.ack(0, number).unwrap();
            state.apply(&entry, START);
            let entry = state.seek(0, 0, 0, START);
            state.apply(&entry, START);
        }),
        ("lost in a crash", |state, number| {
            *state = State::from_snapshot(&state.to_snapshot(), START);
            for holder in state.holders_out() {
                let entries = state.holder_gone(holder, true, START);
                apply_all(state, entries, START);
            }
            state.begin_holder(holder_of(number) + 1);
        }),
        ("released by a close", |state, number| {
            let entries = state.close_release(START);
            apply_all(state, entries, START);
            *state = State::from_snapshot(&state.to_snapshot(), START);
            state.begin_holder(holder_of(number) + 1);
        }),
    ]
}

fn lend_once_more(state: &mut State) -> u64 {
    state.ripen(after(9_000));
    match state.next(after(9_000), false, None) {
        Next::Again(offset) => again(state, offset, after(9_000)),
        _ => lend(state, 0, 1, HELD, after(9_000)),
    }
}

#[test]
fn a_late_ack_after_the_message_was_lent_again_changes_nothing() {
    for (name, end) in endings() {
        let mut state = new();
        let first = lend(&mut state, 0, 1, HELD, START);
        end(&mut state, first);
        let second = lend_once_more(&mut state);

        assert_ne!(first, second, "{name}");
        assert!(matches!(state.ack(0, first), Err(Error::LeaseLost { .. })), "{name}");
        assert!(matches!(state.nack(0, first, None, None, START), Err(Error::LeaseLost { .. })), "{name}");
        assert!(matches!(state.reject(0, first, "", START), Err(Error::LeaseLost { .. })), "{name}");
        assert!(matches!(state.release(0, first), Err(Error::LeaseLost { .. })), "{name}");
        assert!(matches!(state.extend(0, first, 1, START), Err(Error::LeaseLost { .. })), "{name}");
        assert!(state.ack(0, second).is_ok(), "{name}");
    }
}

#[test]
fn two_loans_of_one_message_can_never_both_be_acked() {
    for (name, end) in endings() {
        for (other, end_again) in endings() {
            let mut state = new();
            let first = lend(&mut state, 0, 1, HELD, START);
            end(&mut state, first);
            let second = lend_once_more(&mut state);
            end_again(&mut state, second);

            let mut acked = 0;
            for number in [first, second, first, second] {
                if let Ok(entry) = state.ack(0, number) {
                    state.apply(&entry, START);
                    acked += 1;
                }
            }

            let ran_out = u32::from(other == "ran out");
            assert_eq!(acked, ran_out, "{name}, then {other}");
        }
    }
}

#[test]
fn a_loan_that_ran_out_may_be_acked_until_it_is_discarded_and_after_a_restart() {
    let mut state = new();
    let receipt = lend(&mut state, 0, 3, 50, START);
    let entries = state.run_out(9, after(50));
    apply_all(&mut state, entries, after(50));
    state = State::from_snapshot(&state.to_snapshot(), after(50));
    state.apply(&state.discard(0, START).unwrap(), START);

    let acked = [0, 1, 2].map(|offset| state.ack(offset, receipt + offset).is_ok());

    assert_eq!(acked, [false, true, true]);
    assert!(state.release(1, receipt + 1).is_err());
}

#[test]
fn a_loan_counts_for_its_own_message_only() {
    let mut state = new();
    let number = lend(&mut state, 0, 4, HELD, START);
    let entry = state.release(2, number + 2).unwrap();
    state.apply(&entry, START);
    let second = again(&mut state, 2, START);

    assert!(state.ack(3, second).is_ok(), "it is held, and a number of this opening says so");
    assert!(state.ack(2, number + 2).is_err());
    assert!(state.ack(4, second + 1).is_err(), "it was never lent");
}

#[test]
fn a_used_up_count_takes_a_new_holder_and_old_loans_go_on() {
    let mut state = new();
    let number = lend(&mut state, 0, 2, HELD, START);
    let full = Entry { delivery: (7 << 32) | 0xffff_ffff, lease: HELD, ..Entry::new(Kind::Lent, 2) };
    state.apply(&full, START);
    assert_eq!(state.next_delivery(), None);

    state.begin_holder(8);
    let next = lend(&mut state, 3, 4, HELD, START);

    assert_eq!(next, 8 << 32);
    assert!(
        state.ack(0, number).is_ok() && state.ack(2, full.delivery).is_ok() && state.ack(3, next).is_ok()
    );
    assert!(state.names_holder(7) && state.names_holder(8) && !state.names_holder(9));
    let entries = state.close_release(START);
    apply_all(&mut state, entries, START);
    assert_eq!((state.stats().on_loan, state.stats().ready_again), (0, 4));
}

#[test]
fn a_seek_with_a_used_up_count_loses_all_loans() {
    let mut state = new();
    let full = Entry { delivery: (7 << 32) | 0xffff_ffff, lease: HELD, ..Entry::new(Kind::Lent, 0) };
    state.apply(&full, START);
    state.apply(&state.seek(0, 0, 0, START), START);
    assert_eq!(state.next_delivery(), None);

    state.begin_holder(8);
    lend(&mut state, 0, 1, HELD, START);

    assert!(state.ack(0, full.delivery).is_err());
}
