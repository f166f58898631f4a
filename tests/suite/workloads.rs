//! What do the crash tests do before the crash?

use crate::script::{SPY, Setup};
use crate::step::Step;

/// A named run of steps.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) setup: Setup,
    pub(crate) steps: Vec<Step>,
}

const SYNCED: &str = "synced";
const BUFFERED: &str = "buffered";

fn push(synced: bool, length: usize) -> Step {
    Step::Push { synced, length }
}

fn small() -> Setup {
    Setup { segment_bytes: 8 << 10, ..Setup::default() }
}

/// Everything once, at both levels.
pub(crate) fn everything() -> Workload {
    let mut steps = vec![
        Step::Create { group: SYNCED, synced: true },
        Step::Create { group: BUFFERED, synced: false },
        Step::Create { group: SPY, synced: true },
        push(true, 100),
        push(false, 700),
        Step::Batch { synced: true, count: 5, length: 300 },
    ];
    for group in [SYNCED, BUFFERED] {
        steps.extend([
            Step::Receive { group, count: 4 },
            Step::Ack { group, count: 1 },
            Step::Nack { group },
            Step::Reject { group },
            Step::Release { group },
            Step::Receive { group, count: 3 },
        ]);
    }
    steps.extend([
        Step::Deferred { count: 3, length: 200 },
        Step::Reopen,
        push(true, 600),
        Step::Batch { synced: false, count: 4, length: 500 },
        push(true, 10_000),
        Step::Receive { group: SYNCED, count: 5 },
        Step::AckAll { group: SYNCED },
        Step::Receive { group: BUFFERED, count: 5 },
        Step::AckAll { group: BUFFERED },
        Step::Sync,
        Step::Create { group: "short-lived", synced: true },
        Step::Receive { group: "short-lived", count: 2 },
        Step::Ack { group: "short-lived", count: 1 },
        Step::Remove { group: "short-lived" },
        Step::Create { group: "short-lived", synced: false },
        push(false, 40),
        Step::Advance { seconds: 3 },
        Step::Duties,
        Step::Receive { group: SYNCED, count: 9 },
        Step::Ack { group: SYNCED, count: 3 },
        Step::Reopen,
        Step::Receive { group: SYNCED, count: 9 },
        Step::Ack { group: SYNCED, count: 9 },
    ]);
    Workload { name: "everything", setup: small(), steps }
}

/// Messages that do not come in the order of their offsets: priorities and ordering keys, over several
/// segments; what is lent before its turn is settled in every way, and the group begins anew.
pub(crate) fn priorities() -> Workload {
    let mut steps = vec![
        Step::Create { group: SYNCED, synced: true },
        Step::Create { group: BUFFERED, synced: false },
        Step::Batch { synced: true, count: 9, length: 200 },
    ];
    for group in [SYNCED, BUFFERED] {
        steps.extend([
            Step::Receive { group, count: 5 },
            Step::Ack { group, count: 1 },
            Step::Nack { group },
            Step::Reject { group },
            Step::Release { group },
            push(true, 900),
            Step::Batch { synced: group == SYNCED, count: 7, length: 600 },
            Step::Receive { group, count: 4 },
            Step::AckAll { group },
        ]);
    }
    steps.extend([
        Step::Duties,
        Step::Reopen,
        push(true, 5_000),
        Step::Receive { group: SYNCED, count: 9 },
        Step::Ack { group: SYNCED, count: 6 },
        Step::Kill,
        Step::Batch { synced: true, count: 6, length: 400 },
        Step::Receive { group: BUFFERED, count: 9 },
        Step::AckAll { group: BUFFERED },
        Step::Advance { seconds: 3 },
        Step::Receive { group: SYNCED, count: 4 },
        Step::Ack { group: SYNCED, count: 4 },
    ]);
    Workload { name: "priorities", setup: Setup { special: true, ..small() }, steps }
}

/// The same where nothing can be mapped.
pub(crate) fn unmapped() -> Workload {
    let setup = Setup { no_mappings: true, ..small() };
    Workload { name: "unmapped", setup, ..everything() }
}

/// Rolls, with unsynced batches before them.
pub(crate) fn rolls() -> Workload {
    let mut steps = vec![Step::Create { group: SYNCED, synced: true }];
    for round in 0..12 {
        steps.extend([push(false, 900), push(false, 650), push(round % 3 == 0, 520)]);
        if round % 4 == 2 {
            steps.extend([Step::Receive { group: SYNCED, count: 3 }, Step::Ack { group: SYNCED, count: 2 }]);
        }
        if round % 5 == 4 {
            steps.push(Step::Duties);
        }
    }
    steps.extend([Step::Deferred { count: 6, length: 600 }, push(true, 20_000), push(true, 1)]);
    Workload { name: "rolls", setup: small(), steps }
}

/// Pushes that are written together.
pub(crate) fn deferred() -> Workload {
    let steps = vec![push(true, 100), Step::Deferred { count: 4, length: 200 }];
    Workload { name: "deferred", setup: small(), steps }
}

/// Openings after clean ends and after kills and power cuts, with little between them.
pub(crate) fn reopenings() -> Workload {
    let mut steps = vec![Step::Create { group: SYNCED, synced: true }, push(true, 600), push(false, 600)];
    for seed in 0..5 {
        steps.extend([
            Step::Receive { group: SYNCED, count: 2 },
            Step::Ack { group: SYNCED, count: 1 },
            push(false, 700),
            push(false, 300),
            match seed {
                0 | 3 => Step::Reopen,
                1 => Step::Kill,
                _ => Step::PowerCut { seed: seed + 5 },
            },
            push(seed % 2 == 0, 550),
        ]);
    }
    Workload { name: "reopenings", setup: small(), steps }
}

/// Enough entries for halves to be switched.
pub(crate) fn switches(synced: bool) -> Workload {
    let group = if synced { SYNCED } else { BUFFERED };
    let mut steps = vec![Step::Create { group, synced }];
    for _ in 0..2 {
        steps.push(Step::Batch { synced: true, count: 1000, length: 4 });
        steps.extend([Step::Receive { group, count: 1000 }, Step::AckAll { group }]);
        steps.extend([Step::Drop { group }, push(true, 10), Step::Advance { seconds: 4000 }]);
    }
    steps.extend([Step::Receive { group, count: 5 }, Step::Ack { group, count: 5 }]);
    let name = if synced { "synced-switches" } else { "buffered-switches" };
    Workload { name, setup: small(), steps }
}

/// Buffered pushes and acks, synced by somebody else's call and by duties.
pub(crate) fn lazily() -> Workload {
    let mut steps = vec![
        Step::Create { group: SYNCED, synced: true },
        Step::Create { group: BUFFERED, synced: false },
        push(true, 100),
    ];
    for lazy in [&[Step::Sync][..], &[Step::Advance { seconds: 3 }, Step::Duties], &[Step::Reopen]] {
        steps.extend([push(false, 300), push(false, 200)]);
        steps.extend([Step::Receive { group: BUFFERED, count: 2 }, Step::AckAll { group: BUFFERED }]);
        steps.extend([Step::Receive { group: SYNCED, count: 3 }, Step::Ack { group: SYNCED, count: 2 }]);
        // Twice, for duties wait until nothing has changed.
        steps.extend(lazy.iter().chain(lazy));
        steps.push(push(true, 50));
    }
    Workload { name: "lazily", setup: small(), steps }
}

/// Kills, and what the next opening finds is worked with.
pub(crate) fn kills() -> Workload {
    let mut steps = vec![Step::Create { group: SYNCED, synced: true }, push(true, 300)];
    for group in ["first", "second"] {
        steps.extend([
            Step::Receive { group: SYNCED, count: 1 },
            Step::Ack { group: SYNCED, count: 1 },
            push(true, 200),
            Step::Create { group, synced: true },
            Step::Kill,
            Step::Receive { group, count: 2 },
            Step::Ack { group, count: 1 },
            Step::Receive { group: SYNCED, count: 2 },
            Step::Ack { group: SYNCED, count: 1 },
            push(true, 6000),
            Step::Kill,
            push(true, 100),
        ]);
    }
    steps.extend([Step::Receive { group: SYNCED, count: 4 }, Step::Ack { group: SYNCED, count: 4 }]);
    Workload { name: "kills", setup: small(), steps }
}

/// Acks that a power cut keeps in part, so that entries lie behind a hole, and openings after it.
pub(crate) fn holes(synced: bool) -> Workload {
    let group = if synced { SYNCED } else { BUFFERED };
    let mut steps = vec![Step::Create { group, synced }, Step::Batch { synced: true, count: 90, length: 4 }];
    for seed in [5, 11, 17] {
        steps.extend([
            Step::Receive { group, count: 50 },
            Step::Ack { group, count: 40 },
            Step::PowerCut { seed },
            Step::Receive { group, count: 20 },
            Step::Ack { group, count: 3 },
            Step::Kill,
        ]);
    }
    Workload { name: if synced { "synced-holes" } else { "holes" }, setup: small(), steps }
}

/// One loan at a time, acked or nacked: entries of one slot and of two, each with an own mark, lie in
/// every way over sectors.
pub(crate) fn one_by_one() -> Workload {
    let group = SYNCED;
    let mut steps =
        vec![Step::Create { group, synced: true }, Step::Batch { synced: true, count: 40, length: 4 }];
    for _ in 0..16 {
        steps.extend([Step::Receive { group, count: 1 }, Step::Ack { group, count: 1 }]);
        steps.extend([Step::Receive { group, count: 1 }, Step::Nack { group }]);
    }
    Workload { name: "one-by-one", setup: small(), steps }
}

/// More offsets than one reserve has, none of them synced.
pub(crate) fn reserves() -> Workload {
    let batch = |count| Step::Batch { synced: false, count, length: 1 };
    let steps = vec![push(true, 10), batch(4090), batch(20), push(false, 10), push(false, 10)];
    Workload { name: "reserves", setup: Setup { segment_bytes: 1 << 20, ..small() }, steps }
}

/// Messages that are acked together with what came of them, in groups of each kind, over rolls, half
/// switches, seeks, groups that are made anew, and every kind of end.
pub(crate) fn chains() -> Workload {
    const MIXED: &str = "mixed";
    let with = |group, count| Step::AckWith { group, count };
    let mut steps = vec![
        Step::Create { group: SYNCED, synced: true },
        Step::Create { group: BUFFERED, synced: false },
        Step::Create { group: MIXED, synced: true },
        Step::Batch { synced: true, count: 6, length: 200 },
    ];
    for group in [SYNCED, BUFFERED, MIXED] {
        steps.extend([
            Step::Receive { group, count: 4 },
            with(group, 1),
            Step::Nack { group },
            with(group, 2),
            push(false, 50),
        ]);
    }
    for (end, group) in [(Step::Kill, SYNCED), (Step::PowerCut { seed: 5 }, BUFFERED), (Step::Reopen, MIXED)]
    {
        steps.extend([
            Step::Sync,
            end,
            Step::Receive { group, count: 3 },
            with(group, 1),
            // Into another segment.
            push(group == MIXED, 5000),
            with(group, 1),
            Step::Advance { seconds: 3 },
            Step::Duties,
            Step::Ack { group, count: 1 },
        ]);
    }
    steps.extend([
        Step::Seek { group: SYNCED },
        Step::Receive { group: SYNCED, count: 3 },
        with(SYNCED, 1),
        Step::Receive { group: BUFFERED, count: 2 },
        with(BUFFERED, 1),
        Step::Seek { group: BUFFERED },
        Step::Remove { group: MIXED },
        Step::Create { group: MIXED, synced: true },
        Step::Receive { group: MIXED, count: 2 },
        with(MIXED, 3),
        Step::Reopen,
        Step::Receive { group: SYNCED, count: 2 },
        with(SYNCED, 1),
        with(SYNCED, 1),
    ]);
    Workload { name: "chains", setup: small(), steps }
}

/// Acks in batches, over half switches.
pub(crate) fn chained_switches(synced: bool) -> Workload {
    let group = if synced { SYNCED } else { BUFFERED };
    let mut steps = vec![Step::Create { group, synced }, Step::Batch { synced: true, count: 30, length: 4 }];
    for _ in 0..3 {
        steps.extend([
            Step::Receive { group, count: 2 },
            Step::AckWith { group, count: 1 },
            Step::Fill { group, times: 30 },
            Step::AckWith { group, count: 1 },
            Step::Fill { group, times: 35 },
        ]);
    }
    steps.extend([Step::Sync, Step::Receive { group, count: 3 }, Step::AckWith { group, count: 2 }]);
    let name = if synced { "chained-switches" } else { "buffered-chained-switches" };
    Workload { name, setup: small(), steps }
}
