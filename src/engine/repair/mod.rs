//! How is a queue mended whose files have gone bad?
//!
//! 1. the lock; the plan, made anew under it: if it gives up more than was allowed, nothing is changed
//! 2. what refuses the opening is replaced by files with what can be read, so that the rest is plain damage
//!    (`openable`)
//! 3. the queue is opened, which makes good what stands twice, and sets torn bytes aside
//! 4. damage leaves the log: what can be read is copied, what cannot is given up in each group (`log`)
//! 5. the queue is closed
//!
//! Whatever is taken out of the queue is in `quarantine` before. Stopped anywhere, it is done again, and ends the same.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Engine, open};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::names;
use crate::inspect::Progress;
use crate::manifest;
use crate::options::Settings;
use crate::storage::Storage;

mod log;
mod openable;
mod step;

pub use step::{RepairKind, RepairPlan, RepairStep};

/// What a repair has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// The plan that was carried out.
    pub plan: RepairPlan,
    /// Files in the quarantine with what was taken out of the queue.
    pub set_aside: Vec<PathBuf>,
    /// Offsets that cannot be read any more, as ranges: the first, and the one behind the last.
    pub lost: Vec<(u64, u64)>,
    /// How many of these offsets became dead letters, in each group that had not done them.
    pub dead: Vec<(String, u64)>,
}

/// Says what a repair would do, and changes nothing.
///
/// # Errors
/// [`Error::Refused`] where no repair can go by what is there, and as [`super::look::verify`].
pub(crate) fn plan(
    storage: &Arc<dyn Storage>,
    clock: &dyn Clock,
    to: &mut dyn FnMut(Progress),
) -> Result<RepairPlan> {
    step::plan(storage, clock, to)
}

/// Mends the queue.
///
/// # Errors
/// [`Error::Locked`]; [`Error::WouldLose`] if more would be given up than what was never promised, and that is not
/// allowed; as [`plan`]; when the disk refuses: what was mended by then stays so.
pub(crate) fn repair(
    storage: &Arc<dyn Storage>,
    clock: &Arc<dyn Clock>,
    allow_loss: bool,
    to: &mut dyn FnMut(Progress),
) -> Result<Repaired> {
    // Before the lock, which would leave its file in a folder that is not ours.
    readable(storage)?;
    let settings = settings();
    let held = open::take_lock(storage, &**clock, settings.lock_timeout)?;
    openable::see_the_disk(storage)?;
    let plan = step::plan(storage, &**clock, to)?;
    let mut done = Repaired { plan, ..Repaired::default() };
    if done.plan.is_empty() {
        return Ok(done);
    }
    if let Some(step) = done.plan.steps.iter().find(|step| step.loses).filter(|_| !allow_loss) {
        let steps = done.plan.steps.iter().filter(|step| step.loses).count();
        let what = format!("{steps} of its steps, the first {step}");
        return Err(Error::WouldLose { path: storage.root().to_path_buf(), what });
    }
    openable::make_openable(storage, &**clock, &mut done)?;
    let engine = Engine::open_held(storage.clone(), clock.clone(), settings, held, false)?;
    let torn = engine.recovery.evidence.clone();
    let mended = engine.mend_log(&mut done);
    let closed = engine.close();
    mended.and(closed)?;
    done.set_aside.extend(torn);
    Ok(done)
}

/// Refuses where there is no manifest to go by.
fn readable(storage: &Arc<dyn Storage>) -> Result<manifest::Found> {
    let advice =
        "; a repair goes by it: put the right one back, or get out what is there with \"backlog salvage\"";
    match manifest::look(storage) {
        Err(Error::Refused { path, problem }) => {
            Err(Error::Refused { path, problem: format!("{problem}{advice}") })
        }
        Err(Error::NotAQueue { found, .. }) if storage.list(names::LOG).is_ok() => {
            let path = storage.root().join(names::MANIFEST);
            Err(Error::Refused { path, problem: format!("is missing or foreign ({found}){advice}") })
        }
        other => other,
    }
}

/// How a queue is opened to be mended: for nobody else, and with no thread that changes something beside.
fn settings() -> Settings {
    Settings {
        create: false,
        threads: false,
        mappings: false,
        // Whoever has it there has allowed that.
        network: true,
        exclusive: true,
        ..Settings::default()
    }
}
