//! What holds of a state, whatever happened to it?

use super::state::{Now, State};
use crate::format::snapshot::{Snapshot, Waiting};

/// Forgets where messages lie that wait: of those that were put aside ahead of the head it is not stored.
pub(super) fn without_hints(mut snapshot: Snapshot) -> Snapshot {
    for row in &mut snapshot.waiting {
        *row = Waiting::new(row.offset(), row.due(), 0, row.priority());
    }
    snapshot
}

/// Checks what holds whatever entries were applied: it is stored and read back without a loss, and the
/// counts are those of a recount.
pub(super) fn sound(state: &State, now: Now) {
    let snapshot = state.to_snapshot();
    let bytes = snapshot.encode();
    assert_eq!(Snapshot::decode(&bytes).as_ref(), Ok(&snapshot));
    assert!(bytes.len() as u64 <= state.snapshot_bound(0, true));
    let (mut here, mut again) = (state.clone(), State::from_snapshot(&snapshot, now));
    here.ripen(now);
    again.ripen(now);
    assert_eq!(again.to_snapshot(), snapshot);
    assert_eq!(again.stats(), here.stats());
    assert_eq!((again.out_fresh, again.holders_out()), (here.out_fresh, here.holders_out()));
    assert!(state.floor <= state.head && state.done.end_of(state.floor.min(state.head)).is_none());
}
