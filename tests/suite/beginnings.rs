//! From where do short sequences of steps begin, and which steps are there?

use crate::ledger::{Ledger, Verdict};
use crate::script::{Run, Setup, Trouble};
use crate::step::Step;
use backlog::testing::SimDisk;

const SYNCED: &str = "synced";
const BUFFERED: &str = "buffered";
/// More than a sector, so that a push can be torn.
const LENGTH: usize = 600;

/// What a program can do with a queue; a state names them by their places here.
pub(crate) const STEPS: [Step; 25] = [
    Step::Push { synced: true, length: LENGTH },
    Step::Push { synced: false, length: LENGTH },
    // Gets a segment of its own.
    Step::Push { synced: true, length: 9000 },
    Step::Batch { synced: true, count: 3, length: 200 },
    Step::Deferred { count: 2, length: LENGTH },
    Step::Receive { group: SYNCED, count: 2 },
    Step::Receive { group: BUFFERED, count: 2 },
    Step::Ack { group: SYNCED, count: 1 },
    Step::Ack { group: BUFFERED, count: 1 },
    Step::AckAll { group: SYNCED },
    Step::Nack { group: SYNCED },
    Step::Reject { group: BUFFERED },
    Step::Release { group: SYNCED },
    Step::Drop { group: BUFFERED },
    Step::Create { group: SYNCED, synced: true },
    Step::Create { group: BUFFERED, synced: false },
    Step::Remove { group: BUFFERED },
    Step::Sync,
    Step::Duties,
    Step::Advance { seconds: 4000 },
    Step::Reopen,
    Step::Kill,
    Step::PowerCut { seed: 5 },
    Step::AckWith { group: SYNCED, count: 2 },
    Step::AckWith { group: BUFFERED, count: 1 },
];

/// A queue as some run has left it, and steps to be taken before anything is tried.
pub(crate) struct Beginning {
    pub(crate) name: &'static str,
    pub(crate) setup: Setup,
    disk: SimDisk,
    ledger: Ledger,
    first: Vec<Step>,
}

type Make = fn() -> Verdict<Beginning>;

/// How each beginning is made.
pub(crate) const BEGINNINGS: [(&str, Make); 6] = [
    ("fresh", fresh),
    ("used", used),
    ("killed", killed),
    ("torn", torn),
    ("rolling", rolling),
    ("switching", switching),
];

impl Beginning {
    /// Begins a run there.
    pub(crate) fn begin(&self, trouble: Trouble) -> Verdict<Run> {
        let mut run = Run::resumed(self.setup, trouble, self.disk.kill(), self.ledger.clone());
        for &step in &self.first {
            run.step(step).map_err(|broken| format!("at the beginning, {step:?}: {broken}"))?;
        }
        if run.failed { Err("a step of the beginning failed".into()) } else { Ok(run) }
    }
}

fn setup() -> Setup {
    Setup { segment_bytes: 8 << 10, ..Setup::default() }
}

/// Nothing at all, not even a folder.
fn fresh() -> Verdict<Beginning> {
    Ok(Beginning {
        name: "fresh",
        setup: setup(),
        disk: SimDisk::new(1),
        ledger: Ledger::default(),
        first: Vec::new(),
    })
}

/// Two groups that have each done one of six messages.
fn lived() -> Verdict<Run> {
    let mut run = Run::new(setup(), Trouble::None);
    let steps = [
        Step::Create { group: SYNCED, synced: true },
        Step::Create { group: BUFFERED, synced: false },
        Step::Push { synced: true, length: LENGTH },
        Step::Push { synced: false, length: 50 },
        Step::Batch { synced: true, count: 4, length: 50 },
        Step::Receive { group: SYNCED, count: 3 },
        Step::Ack { group: SYNCED, count: 1 },
        Step::Nack { group: SYNCED },
        Step::Receive { group: BUFFERED, count: 3 },
        Step::Ack { group: BUFFERED, count: 1 },
    ];
    for step in steps {
        run.step(step)?;
    }
    Ok(run)
}

fn left_by(name: &'static str, run: &Run, disk: SimDisk, first: Vec<Step>) -> Beginning {
    let mut ledger = run.ledger.clone();
    ledger.process_ended();
    Beginning { name, setup: setup(), disk, ledger, first }
}

/// An open queue, closed before: messages, a loan or two in each group, and a push in the cache only.
fn used() -> Verdict<Beginning> {
    let mut run = lived()?;
    run.close();
    let first = vec![
        Step::Receive { group: SYNCED, count: 2 },
        Step::Receive { group: BUFFERED, count: 2 },
        Step::Push { synced: false, length: LENGTH },
    ];
    Ok(left_by("used", &run, run.disk.clone(), first))
}

/// What a killed process has left: pushes and acks that are in the cache only.
fn killed() -> Verdict<Beginning> {
    let mut run = lived()?;
    run.step(Step::Push { synced: false, length: LENGTH })?;
    run.step(Step::Ack { group: BUFFERED, count: 1 })?;
    Ok(left_by("killed", &run, run.disk.kill(), Vec::new()))
}

/// What a power cut amid a push has left: bytes behind the end.
fn torn() -> Verdict<Beginning> {
    let mut run = lived()?;
    run.step(Step::Push { synced: false, length: 3 * LENGTH })?;
    for seed in 3..200 {
        let disk = run.disk.crash(seed);
        let queue = run.options().sim_disk(&disk.crash(1)).threads(false).open();
        if queue.is_ok_and(|queue| queue.recovery().torn_bytes > 0) {
            let mut beginning = left_by("torn", &run, disk, Vec::new());
            let left = beginning.disk.crash(1);
            let found = beginning.ledger.check(&left, &run.options(), crate::ledger::End::PowerCut)?;
            beginning.ledger.resolve(&found);
            return Ok(beginning);
        }
    }
    Err("no seed tears the push".into())
}

/// An open queue whose segment has no room for another push; the last ones are in the cache only.
fn rolling() -> Verdict<Beginning> {
    let Beginning { disk, ledger, mut first, .. } = used()?;
    let segments = |run: &Run| run.disk.files().iter().filter(|name| name.ends_with(".seg")).count();
    loop {
        let push = Step::Push { synced: false, length: LENGTH };
        let beginning = Beginning {
            name: "rolling",
            setup: setup(),
            disk: disk.kill(),
            ledger: ledger.clone(),
            first: first.clone(),
        };
        let mut run = beginning.begin(Trouble::None)?;
        let before = segments(&run);
        run.step(push)?;
        if segments(&run) > before {
            return Ok(beginning);
        }
        first.push(push);
    }
}

/// An open queue both of whose groups have to switch halves before they lend anything.
fn switching() -> Verdict<Beginning> {
    let Beginning { disk, ledger, .. } = used()?;
    let mut first = Vec::new();
    for group in [SYNCED, BUFFERED] {
        let mut times = 1;
        loop {
            let steps = [&first[..], &[Step::Fill { group, times }]].concat();
            let begun = Beginning {
                name: "switching",
                setup: setup(),
                disk: disk.kill(),
                ledger: ledger.clone(),
                first: steps,
            };
            let mut run = begun.begin(Trouble::None)?;
            let before = run.ops();
            run.step(Step::Receive { group, count: 2 })?;
            // An entry takes a write and a sync, or a store; a switch takes many more.
            if run.ops() > before + 4 {
                first = begun.first;
                break;
            }
            times += 1;
        }
    }
    Ok(Beginning { name: "switching", setup: setup(), disk, ledger, first })
}
