//! Does the state bear what nobody should ever write?

use proptest::prelude::*;

use super::model::{START, World, op};
use super::sound::sound;
use crate::format::entry::{Entry, HELD, Kind, More, RAN_OUT};
use crate::offset::Offset;

/// Entries that no decision ever made, about offsets that may be anywhere.
fn hostile() -> impl Strategy<Value = Entry> {
    let offset = || prop_oneof![6 => 0u64..40, 1 => Offset::LIMIT - 9..Offset::LIMIT, 1 => 0..Offset::LIMIT];
    let more = prop_oneof![
        Just(More::Nothing),
        Just(More::Text("because".into())),
        (offset(), any::<u8>()).prop_map(|(end, n)| More::Range { end, messages: end.min(n.into()) }),
        (0u64..9).prop_map(|end| More::Range { end: Offset::LIMIT - end, messages: end }),
    ];
    let kinds = [
        Kind::Lent,
        Kind::Extended,
        Kind::Released,
        Kind::Done,
        Kind::Nacked,
        Kind::Dead,
        Kind::Revived,
        Kind::Discarded,
        Kind::Purged,
        Kind::Seek,
        Kind::HolderGone,
        Kind::Aside,
        Kind::Undeleted,
    ];
    let numbers = (0u64..3, prop_oneof![0u64..50, Just(u64::from(u32::MAX))]);
    let lease = prop_oneof![Just(HELD), Just(RAN_OUT), 0u32..900];
    let time = prop_oneof![START..START + 9_000, Just(0), Just(Offset::LIMIT - 1)];
    (prop::sample::select(kinds.to_vec()), offset(), more, numbers, lease, time, any::<(u8, u8)>()).prop_map(
        |(kind, offset, more, (holder, count), lease, time, (failures, losses))| {
            let delivery = (holder << 32) | count;
            Entry { kind, failures, losses, offset, time, lease, delivery, more }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn room_that_was_reserved_suffices_however_the_loans_end(
        ops in prop::collection::vec(op(), 1..70), ends in prop::collection::vec(0u8..4, 200),
    ) {
        let mut world = World::new((0..400).collect());
        ops.iter().for_each(|op| world.step(op));
        let (mut state, bound) = (world.state.clone(), world.state.snapshot_bound(0, true));
        let text = "x".repeat(2_000);

        for (&(offset, number), end) in world.loans.iter().zip(ends) {
            let entry = match end {
                0 => state.ack(offset, number),
                1 => state.release(offset, number),
                2 => state.reject(offset, number, &text, world.now),
                _ => state.nack(offset, number, Some(&text), None, world.now),
            };
            if let Ok(entry) = entry {
                state.apply(&entry, world.now);
            }
        }

        prop_assert!(state.to_snapshot().encode().len() as u64 <= bound);
    }

    #[test]
    fn entries_that_make_no_sense_leave_a_state_that_makes_sense(
        ops in prop::collection::vec(op(), 0..30), entries in prop::collection::vec(hostile(), 1..40),
    ) {
        let mut world = World::new((0..400).collect());
        ops.iter().for_each(|op| world.step(op));
        let (mut state, now) = (world.state, world.now);
        for entry in &entries {
            state.apply(entry, now);
            sound(&state, now);
            let _ = (state.next(now, true, None), state.run_out(9, now), state.close_release(now));
            let _ = (state.ack(entry.offset, entry.delivery), state.purge(entry.offset, 1, now));
        }
    }
}
