//! What holds of a state that comes from whatever files? For fuzzers (feature `testing`).

use std::time::Duration;

use super::state::{Now, State};
use crate::format::snapshot::Snapshot;
use crate::offsets::probe::half;

/// How much of the state's own advice is taken.
const STEPS: usize = 64;

/// Decodes a half of an offset file and takes up the group's state from it, works with that, and
/// holds it against the snapshot that it becomes.
///
/// # Panics
/// When what was accepted contradicts itself.
#[must_use]
pub fn offsets(bytes: &[u8]) -> bool {
    let Some((snapshot, entries)) = half(bytes) else { return false };
    let mut now = Now { mono: Duration::from_secs(7), wall: 1_700_000_000_000 };
    let mut state = State::recover(&snapshot, &entries, now);
    check(&state, now);
    for holder in state.holders_out().into_iter().take(STEPS) {
        for entry in state.holder_gone(holder, true, now) {
            state.apply(&entry, now);
        }
    }
    check(&state, now);
    now.mono += Duration::from_secs(3600);
    now.wall += 3_600_000;
    state.ripen(now);
    for entry in state.run_out(STEPS, now) {
        state.apply(&entry, now);
    }
    check(&state, now);
    if let Some(entry) = state.lost(state.stats().floor, now) {
        state.apply(&entry, now);
    }
    check(&state, now);
    true
}

fn check(state: &State, now: Now) {
    let counts = state.stats();
    assert!(counts.floor <= counts.head);
    let snapshot = state.to_snapshot();
    let bytes = snapshot.encode();
    assert!(bytes.len() as u64 <= state.snapshot_bound(0, false), "room to settle is reserved by it");
    assert_eq!(Snapshot::decode(&bytes).as_ref(), Ok(&snapshot));
    // An opening finds the same state in it.
    let again = State::from_snapshot(&snapshot, now);
    let same = |counts: super::state::Counts| (counts.floor, counts.head, counts.passed, counts.dead);
    assert_eq!(same(again.stats()), same(counts));
    assert_eq!(again.to_snapshot(), snapshot);
}
