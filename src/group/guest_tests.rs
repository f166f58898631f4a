//! What may be lent to guests, and what becomes of it when one of them ends?

use super::decide::Next;
use super::policy::DEFAULT_POLICY;
use super::state::State;
use super::tests::{START, again, apply_all, lend, new, with};
use crate::format::entry::{Entry, HELD, Kind};
use crate::format::snapshot::Policy;

const GUEST: u32 = 70;

fn lend_to(state: &mut State, guest: u32, first: u64, end: u64) -> u64 {
    let entry = state.lend_fresh(first, end, HELD, START, Some(guest)).unwrap();
    state.apply(&entry, START);
    entry.delivery
}

fn gone(state: &mut State, guest: u32) {
    state.end_guest(guest);
    let entries = state.guest_gone(guest, true, START);
    apply_all(state, entries, START);
}

/// A group whose message 0 was lost twice, and is ready; 1 to 9 are out or not yet met.
fn with_a_lonely_one() -> State {
    let mut state = new();
    for guest in [71, 72] {
        assert!(state.begin_guest(guest));
        let entry = match state.next(START, false, Some(guest)) {
            Next::Again(offset) => state.lend_again(offset, HELD, START, Some(guest)),
            _ => state.lend_fresh(0, 1, HELD, START, Some(guest)),
        };
        state.apply(&entry.unwrap(), START);
        gone(&mut state, guest);
    }
    assert!(state.begin_guest(GUEST));
    state
}

#[test]
fn a_message_that_was_lost_twice_waits_for_the_other_loans_of_its_receivers_holder_only() {
    let mut state = with_a_lonely_one();
    let own = lend(&mut state, 1, 3, HELD, START);

    assert_eq!(state.next(START, false, None), Next::Fresh { or: None }, "it holds two");
    assert_eq!(state.next(START, true, None), Next::Nothing { until: None });
    assert_eq!(state.next(START, true, Some(GUEST)), Next::Again(0), "it holds none");

    lend_to(&mut state, GUEST, 3, 4);
    assert_eq!(state.next(START, false, Some(GUEST)), Next::Fresh { or: None });
    for (offset, number) in [(1, own), (2, own + 1)] {
        state.apply(&state.ack(offset, number).unwrap(), START);
    }
    assert_eq!(state.next(START, false, None), Next::Again(0));
}

#[test]
fn while_it_is_out_nothing_else_is_lent_to_that_holder_and_others_go_on() {
    let mut state = with_a_lonely_one();
    let entry = state.lend_again(0, HELD, START, Some(GUEST)).unwrap();
    state.apply(&entry, START);

    assert_eq!(state.next(START, false, Some(GUEST)), Next::Nothing { until: None });
    assert_eq!(state.next(START, false, None), Next::Fresh { or: None });
    assert!(state.waits_for_loans(), "the guest's receivers are woken when it is settled");
}

#[test]
fn a_guest_that_is_gone_takes_no_loans_of_others_along() {
    let mut state = new();
    let own = lend(&mut state, 0, 2, HELD, START);
    assert!(state.begin_guest(GUEST) && state.begin_guest(71));
    let (one, other) = (lend_to(&mut state, GUEST, 2, 4), lend_to(&mut state, 71, 4, 5));
    state.apply(&state.extend(3, one + 1, 50, START).unwrap(), START);

    gone(&mut state, GUEST);

    assert_eq!([0, 1, 2, 4].map(|offset| state.attempt(offset)), [1, 1, 2, 1]);
    assert!(state.ack(0, own).is_ok() && state.ack(4, other).is_ok());
    assert!(state.ack(2, one).is_err());
    assert!(state.ack(3, one + 1).is_ok(), "a timed loan survives its holder");
}

#[test]
fn a_guest_that_is_lost_too_often_gives_its_message_up_and_a_clean_end_costs_nothing() {
    let mut state = with(Policy { max_losses: 2, ..DEFAULT_POLICY });
    assert!(state.begin_guest(GUEST) && state.begin_guest(71) && state.begin_guest(72));
    lend_to(&mut state, GUEST, 0, 1);
    let entries = state.guest_gone(GUEST, false, START);
    apply_all(&mut state, entries, START);
    assert_eq!(state.attempt(0), 1);

    for guest in [71, 72] {
        let entry = state.lend_again(0, HELD, START, Some(guest)).unwrap();
        state.apply(&entry, START);
        gone(&mut state, guest);
    }

    assert_eq!((state.stats().dead, state.stats().on_loan), (1, 0));
}

#[test]
fn a_holder_that_the_group_names_is_no_guest() {
    let mut state = new();
    assert!(!state.begin_guest(0) && !state.begin_guest(7));
    assert!(state.begin_guest(GUEST) && !state.begin_guest(GUEST));
    lend_to(&mut state, GUEST, 0, 1);
    state.end_guest(GUEST);

    assert!(!state.begin_guest(GUEST), "it would count from 0 again");
    assert!(state.guest_gone(7, true, START).is_empty() && state.keep_only(7, &[]).is_empty());
    gone(&mut state, GUEST);
    assert!(!state.names_holder(GUEST));
}

#[test]
fn a_guest_counts_on_over_a_seek_and_takes_a_new_holder_when_its_count_is_used_up() {
    let mut state = new();
    assert!(state.begin_guest(GUEST));
    let first = lend_to(&mut state, GUEST, 0, 2);
    state.apply(&state.seek(0, 0, 0, START), START);

    let second = lend_to(&mut state, GUEST, 0, 1);
    assert_eq!(second, first + 2);
    assert!(state.ack(0, first).is_err() && state.ack(0, second).is_ok());
    let number = (u64::from(GUEST) << 32) | 0xffff_fffe;
    state.apply(&Entry { delivery: number, lease: HELD, ..Entry::new(Kind::Lent, 1) }, START);

    assert!(state.lend_fresh(2, 4, HELD, START, Some(GUEST)).is_none(), "one number is left");
    lend_to(&mut state, GUEST, 2, 3);
    assert!(state.lend_fresh(3, 4, HELD, START, Some(GUEST)).is_none());
    assert!(state.ack(1, number).is_ok() && state.ack(2, number + 1).is_ok());
}

#[test]
fn what_a_guest_does_not_name_is_released_uncounted() {
    let mut state = new();
    assert!(state.begin_guest(GUEST));
    let number = lend_to(&mut state, GUEST, 0, 6);
    let own = lend(&mut state, 6, 7, HELD, START);
    state.apply(&state.extend(5, number + 5, 50, START).unwrap(), START);

    // 1 is named under another number; 6 is not the guest's to name.
    let entries = state.keep_only(GUEST, &[(1, number), (2, number + 2), (3, number + 3), (6, own)]);
    assert_eq!(entries.iter().map(Entry::range).collect::<Vec<_>>(), [(0, 2), (4, 5)]);
    apply_all(&mut state, entries, START);

    let held = (0..7).filter(|&offset| state.holds(offset, if offset == 6 { own } else { number + offset }));
    assert_eq!(held.collect::<Vec<_>>(), [2, 3, 5, 6]);
    assert_eq!(state.attempt(0), 1);
    assert!(
        state.keep_only(GUEST, &[(2, number + 2), (3, number + 3)]).is_empty(),
        "said twice is said once"
    );
}

#[test]
fn a_close_leaves_what_living_guests_hold_and_a_command_takes_back_all() {
    let mut state = new();
    lend(&mut state, 0, 2, HELD, START);
    assert!(state.begin_guest(GUEST));
    let number = lend_to(&mut state, GUEST, 2, 3);
    let mut all = state.clone();

    let entries = state.close_release(START);
    apply_all(&mut state, entries, START);
    let entries = all.release_held(START);
    apply_all(&mut all, entries, START);

    let mut next = State::from_snapshot(&state.to_snapshot(), START);
    assert_eq!(next.holders_out(), [GUEST]);
    next.begin_holder(8);
    again(&mut next, 0, START);
    assert!(next.ack(2, number).is_ok());
    assert_eq!((all.stats().on_loan, all.stats().ready_again), (0, 3));
}
