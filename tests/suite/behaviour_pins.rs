//! Which groups, and which messages, keep how many bytes?

use std::time::Duration;

use backlog::{GroupOptions, MessageState, Options, Pin};

use crate::harness::{World, everywhere, patiently};

const SECOND: Duration = Duration::from_secs(1);

fn small(world: &World) -> Options {
    world.options().segment_bytes(8 << 10).retain_bytes(1 << 30)
}

/// Returns what a group keeps: bytes, bytes alone, and by segment the first message and where it is.
fn told(pins: &[Pin], group: &str) -> (u64, u64, Vec<(u64, MessageState)>) {
    let pin = pins.iter().find(|pin| pin.group == group).unwrap();
    let firsts = pin.segments.iter().map(|segment| (segment.offset.get(), segment.state)).collect();
    assert_eq!(pin.bytes, pin.segments.iter().map(|segment| segment.bytes).sum::<u64>());
    (pin.bytes, pin.alone_bytes, firsts)
}

everywhere! {
    fn each_group_keeps_the_segments_in_which_something_is_left_to_be_done(world: &World) {
        let queue = patiently(&small(world));
        let [slow, fast] = ["slow", "fast"].map(|name| {
            queue.create_group(name, GroupOptions::new()).unwrap()
        });
        // Two to a segment, and each a second later.
        for number in 0..9 {
            queue.push(vec![number; 2000]).unwrap();
            world.advance(SECOND);
        }
        let jobs = fast.consumer().recv_batch(9, Duration::ZERO).unwrap();
        queue.ack_all(jobs).unwrap();
        let mut jobs = slow.consumer().recv_batch(8, Duration::ZERO).unwrap();
        let stuck = jobs.remove(3);
        let (stuck_at, pushed_at) = (stuck.offset().get(), stuck.pushed_at());
        jobs.remove(0).reject("never").unwrap();
        queue.ack_all(jobs).unwrap();

        let pins = queue.pins().unwrap();

        let (bytes, alone, firsts) = told(&pins, "slow");
        let (dead, on_loan, ready) = (MessageState::Dead, MessageState::OnLoan, MessageState::Ready);
        assert_eq!(firsts, [(0, dead), (stuck_at, on_loan), (8, ready)]);
        assert_eq!(told(&pins, "fast"), (0, 0, vec![]));
        let pin = pins.iter().find(|pin| pin.group == "slow").unwrap();
        assert_eq!(pin.segments[1].pushed_at, Some(pushed_at));
        let active = pin.segments[2].bytes;
        assert!(!pin.segments[2].sealed && alone == bytes - active, "{pin:?}");
        let stats = slow.stats();
        assert_eq!((stats.pinned_bytes, stats.pinned_alone_bytes), (bytes, alone));
        // One who looks is told the same, but for when each was pushed.
        drop((stuck, slow, fast));
        queue.close().unwrap();
        let seen = small(world).inspect().unwrap();
        let (bytes_seen, alone_seen, firsts) = told(&seen.pins, "slow");
        assert_eq!((bytes_seen, alone_seen), (bytes, alone));
        assert_eq!(firsts.iter().map(|first| first.0).collect::<Vec<_>>(), [0, stuck_at, 8]);
        let group = seen.groups.iter().find(|group| group.name == "slow").unwrap();
        assert_eq!((group.pinned_bytes, group.pinned_alone_bytes), (bytes, alone));
        let pin = seen.pins.iter().find(|pin| pin.group == "slow").unwrap();
        assert!(pin.segments[1].pushed_at.is_some_and(|time| time <= pushed_at));
    }

    fn what_two_groups_keep_neither_keeps_alone(world: &World) {
        let queue = patiently(&small(world));
        let [one, other] = ["one", "other"].map(|name| {
            queue.create_group(name, GroupOptions::new()).unwrap()
        });
        for number in 0..9 {
            queue.push(vec![number; 2000]).unwrap();
        }
        let before = one.stats();
        assert_eq!((before.pinned_bytes, before.pinned_alone_bytes), (other.stats().pinned_bytes, 0));
        assert!(before.pinned_bytes > 9 * 2000);

        other.purge().unwrap();

        let [one, other] = [one.stats(), other.stats()];
        assert_eq!((one.pinned_bytes, other.pinned_bytes), (before.pinned_bytes, 0));
        assert!(one.pinned_alone_bytes > 4 * 2000 && one.pinned_alone_bytes < one.pinned_bytes);
    }
}
