//! Which ticks of which schedules have come, and are they pushed?
//!
//! 1. the message of a tick is pushed, with a key made of name and tick: durable
//! 2. a slot of the manifest says that it was
//!
//! Stopped between the two, the next opening that has the schedule finds the message by its key, however
//! long that took, before it pushes the first tick. Schedules themselves are said anew by each program;
//! the folder knows only their last ticks.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::{Engine, lock};
use crate::codec::{Deserialize, Serialize};
use crate::cron::{Cron, MINUTE};
use crate::error::{Error, Result};
use crate::format::batch::Record;
use crate::format::index;
use crate::format::manifest::ScheduleRow;
use crate::format::names;
use crate::format::record::Tag;
use crate::message::Plan;
use crate::options::Durability;

/// The header of a scheduled message that names its schedule.
const NAME: &str = "schedule";
/// The header of a scheduled message that tells its tick, in milliseconds since 1970.
const TICK: &str = "tick";
/// The most ticks that are made up for.
const MOST: usize = 1000;
/// A tick that came so long ago was not missed: it is about to be pushed.
const FRESH: u64 = MINUTE;

/// What becomes of ticks that came while no process had the queue open, or was too busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTicks {
    /// However many there were, the last one is pushed.
    #[default]
    One,
    /// Each is pushed, in order; of more than 1,000 the last 1,000.
    All,
    /// None is pushed.
    None,
}

/// A message as it goes into the log.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) attributes: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) tags: u64,
}

/// Makes the message of a tick, by the tick and by what the wall clock shows.
pub(crate) type Make = Arc<dyn Fn(u64, u64) -> Result<Made> + Send + Sync>;

/// The schedules of this opening, by name.
#[derive(Debug, Default)]
pub(crate) struct Schedules(BTreeMap<String, Schedule>);

#[derive(Clone)]
struct Schedule {
    cron: Cron,
    missed: MissedTicks,
    make: Make,
    /// All ticks until then are pushed, or passed over. A tick, or the moment of the first registration.
    last: u64,
    /// What the manifest says of `last`.
    saved: u64,
    /// No tick behind `last` can have been pushed by an earlier opening.
    checked: bool,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schedule").field(&self.cron.text()).field(&self.last).finish()
    }
}

/// What is told of a schedule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) name: String,
    pub(crate) expression: String,
    /// Milliseconds since 1970, of the last tick that was pushed.
    pub(crate) last: Option<u64>,
    pub(crate) next: Option<u64>,
}

impl Schedule {
    /// Returns the ticks that have come and are to be pushed, and up to where all are dealt with then.
    fn due(&self, now: u64) -> (VecDeque<u64>, u64) {
        let mut due = VecDeque::new();
        let Some(latest) = self.cron.until(now).filter(|&tick| tick > self.last) else {
            return (due, self.last);
        };
        match self.missed {
            MissedTicks::One => due.push_back(latest),
            MissedTicks::None if now - latest < FRESH => due.push_back(latest),
            MissedTicks::None => {}
            MissedTicks::All => {
                let mut tick = Some(latest);
                while let Some(at) = tick.filter(|&at| at > self.last && due.len() < MOST) {
                    due.push_front(at);
                    tick = at.checked_sub(1).and_then(|before| self.cron.until(before));
                }
            }
        }
        (due, latest)
    }
}

impl MissedTicks {
    /// Returns its number, for another process.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// Returns the one of that number.
    pub(crate) fn of(number: u8) -> Option<Self> {
        [Self::One, Self::All, Self::None].into_iter().find(|one| one.number() == number)
    }
}

impl Engine {
    /// Does what [`Engine::schedule`] does with messages that are made by a plan.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn schedule_planned(
        &self,
        name: &str,
        text: &str,
        missed: MissedTicks,
        plan: Plan,
    ) -> Result<()> {
        let named = name.to_owned();
        let make: Make = Arc::new(move |tick, wall| {
            let told = i64::try_from(tick).unwrap_or(i64::MAX);
            let headers = [(NAME, (&named[..]).into()), (TICK, told.into())];
            let (attributes, payload, tags) = plan.message(&headers, &tick_key(&named, tick), wall)?;
            Ok(Made { attributes, payload, tags })
        });
        self.schedule(name, text, missed, make)
    }

    /// Pushes a message at each tick from now on, and those that were missed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name or an expression that cannot be one; what makes the message; when the
    /// disk refuses.
    fn schedule(&self, name: &str, text: &str, missed: MissedTicks, make: Make) -> Result<()> {
        self.check_open()?;
        if !names::is_group(name) {
            let what = format!(
                "{name:?} is no name for a schedule: 1 to 64 of a-z 0-9 . _ - with a letter or digit first"
            );
            return Err(Error::Invalid { what });
        }
        let cron = Cron::parse(text)?;
        let now = self.clock.wall();
        if cron.after(now).is_none() {
            return Err(Error::Invalid { what: format!("{text:?} never ticks") });
        }
        // Whatever is wrong with the message is told now, and not by the first tick.
        let made = make(now, now)?;
        self.check_length(&made.record())?;
        let _changing = lock(&self.changing_schedules);
        let known = lock(&self.schedules).0.get(name).cloned();
        let stored = self.manifest.slot().schedules.into_iter().find(|row| row.name == name);
        let (last, saved) = match (&known, stored) {
            // Another expression begins now: its ticks of the past are nobody's.
            (Some(known), _) if known.cron.text() != text => (known.last.max(beginning(now)), known.saved),
            (Some(known), _) => (known.last, known.saved),
            (None, Some(row)) => (row.last, row.last),
            (None, None) => (beginning(now), 0),
        };
        if saved == 0 {
            // Before the first tick, so that whoever opens the queue after it knows that it was missed.
            self.save_ticks(&[ScheduleRow { name: name.to_owned(), last }])?;
        }
        let saved = if saved == 0 { last } else { saved };
        let checked = known.is_some_and(|known| known.checked);
        let schedule = Schedule { cron, missed, make, last, saved, checked };
        lock(&self.schedules).0.insert(name.to_owned(), schedule);
        Ok(())
    }

    /// Ends a schedule and forgets its last tick; tells whether there was one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn unschedule(&self, name: &str) -> Result<bool> {
        self.check_open()?;
        let _changing = lock(&self.changing_schedules);
        let stored = self.manifest.slot().schedules.iter().any(|row| row.name == name);
        if stored {
            self.manifest.update(|slot| slot.schedules.retain(|row| row.name != name))?;
        }
        Ok(lock(&self.schedules).0.remove(name).is_some() || stored)
    }

    /// Lists the schedules of this opening, by name.
    pub(crate) fn schedules(&self) -> Vec<Told> {
        if !self.log.is_ours() {
            return Vec::new();
        }
        let now = self.clock.wall();
        let told = |(name, schedule): (&String, &Schedule)| Told {
            name: name.clone(),
            expression: schedule.cron.text().to_owned(),
            last: Some(schedule.last).filter(|last| last.is_multiple_of(MINUTE)),
            next: schedule.cron.after(now.max(schedule.last)),
        };
        lock(&self.schedules).0.iter().map(told).collect()
    }

    /// Pushes the ticks that have come. A duty.
    ///
    /// # Errors
    /// The first failure; other schedules go on all the same, and what failed is tried again by the next
    /// duty.
    pub(super) fn push_ticks(&self) -> Result<()> {
        if lock(&self.schedules).0.is_empty() {
            return Ok(());
        }
        let _changing = lock(&self.changing_schedules);
        let schedules = lock(&self.schedules).0.clone();
        let mut outcome = Ok(());
        for (name, schedule) in schedules {
            outcome = outcome.and(self.push_ticks_of(&name, &schedule));
        }
        let unsaved: Vec<ScheduleRow> = lock(&self.schedules)
            .0
            .iter()
            .filter(|(_, schedule)| schedule.last != schedule.saved)
            .map(|(name, schedule)| ScheduleRow { name: name.clone(), last: schedule.last })
            .collect();
        outcome.and(self.save_ticks(&unsaved))
    }

    fn push_ticks_of(&self, name: &str, schedule: &Schedule) -> Result<()> {
        let now = self.clock.wall();
        let (due, last) = schedule.due(now);
        let Some(&first) = due.front() else {
            if last > schedule.last {
                self.passed(name, last, schedule.checked);
            }
            return Ok(());
        };
        let pushed = if schedule.checked { HashSet::new() } else { self.pushed_ticks(name, &due, first)? };
        for tick in due {
            if !pushed.contains(&tick) {
                let made = (schedule.make)(tick, now)?;
                match self.push_now(&[made.record()], Durability::Synced) {
                    // It stays missed, and comes later by its rule.
                    Err(Error::AtLimit { .. }) => return Ok(()),
                    pushed => pushed?,
                };
            }
            // Should the next one fail, those behind it are looked for again.
            self.passed(name, tick, schedule.checked);
        }
        self.passed(name, last, true);
        Ok(())
    }

    /// Notes up to where the ticks of a schedule are dealt with.
    fn passed(&self, name: &str, last: u64, checked: bool) {
        if let Some(schedule) = lock(&self.schedules).0.get_mut(name) {
            schedule.last = last;
            schedule.checked = checked;
        }
    }

    /// Finds the ticks whose message is in the log: an earlier opening pushed them, and was stopped before
    /// the manifest said so. The window of dedup keys may be over by now.
    fn pushed_ticks(&self, name: &str, due: &VecDeque<u64>, first: u64) -> Result<HashSet<u64>> {
        let key = |&tick: &u64| (index::hash(self.queue, Tag::DedupKey, &tick_key(name, tick)), tick);
        let wanted: BTreeMap<u128, u64> = due.iter().map(key).collect();
        let found = self.hashes_since(first, &|hash| wanted.contains_key(&hash))?;
        Ok(found.into_iter().filter_map(|hash| wanted.get(&hash).copied()).collect())
    }

    /// Has the manifest say which ticks were pushed.
    fn save_ticks(&self, rows: &[ScheduleRow]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.manifest.update(|slot| {
            for row in rows {
                match slot.schedules.iter_mut().find(|old| old.name == row.name) {
                    Some(old) => old.last = row.last,
                    None => slot.schedules.push(row.clone()),
                }
            }
        })?;
        let mut schedules = lock(&self.schedules);
        for row in rows {
            if let Some(schedule) = schedules.0.get_mut(&row.name) {
                schedule.saved = row.last;
            }
        }
        Ok(())
    }
}

impl Made {
    fn record(&self) -> Record<'_> {
        Record { attributes: &self.attributes, payload: &self.payload, tags: self.tags }
    }
}

/// Returns what stands for the moment of a first registration: never a tick, and before one that
/// comes right now.
fn beginning(now: u64) -> u64 {
    let now = now.max(1);
    if now.is_multiple_of(MINUTE) { now - 1 } else { now }
}

/// Returns the dedup key of a tick: no key of a user begins so by chance.
fn tick_key(name: &str, tick: u64) -> Vec<u8> {
    format!("\0schedule\0{name}\0{tick}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 60 * MINUTE;
    /// A midnight.
    const BEGUN: u64 = 1_795_478_400_000;

    fn hourly(missed: MissedTicks) -> Schedule {
        let make: Make = Arc::new(|_, _| Err(Error::Timeout { owner: None }));
        let cron = Cron::parse("0 * * * *").unwrap();
        Schedule { cron, missed, make, last: BEGUN, saved: BEGUN, checked: true }
    }

    #[test]
    fn which_ticks_are_due_goes_by_the_policy() {
        let second = 1000;
        let table: [(u64, MissedTicks, &[u64], u64); 9] = [
            (HOUR - 1, MissedTicks::One, &[], 0),
            (HOUR, MissedTicks::One, &[HOUR], HOUR),
            (HOUR + second, MissedTicks::None, &[HOUR], HOUR),
            (2 * HOUR - 1, MissedTicks::None, &[], HOUR),
            (3 * HOUR + second, MissedTicks::None, &[3 * HOUR], 3 * HOUR),
            (3 * HOUR + 9, MissedTicks::One, &[3 * HOUR], 3 * HOUR),
            (3 * HOUR + 9, MissedTicks::All, &[HOUR, 2 * HOUR, 3 * HOUR], 3 * HOUR),
            (HOUR, MissedTicks::All, &[HOUR], HOUR),
            (0, MissedTicks::All, &[], 0),
        ];
        for (after, missed, ticks, last) in table {
            let (due, passed) = hourly(missed).due(BEGUN + after);
            let due: Vec<u64> = due.into_iter().map(|tick| tick - BEGUN).collect();
            assert_eq!((&due[..], passed - BEGUN), (ticks, last), "{after} {missed:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_has_no_tick_twice() {
        for missed in [MissedTicks::One, MissedTicks::All, MissedTicks::None] {
            assert_eq!(hourly(missed).due(BEGUN - 5 * HOUR), (VecDeque::new(), BEGUN));
        }
    }

    #[test]
    fn of_very_many_missed_ticks_the_last_ones_are_made_up_for() {
        let (due, last) = hourly(MissedTicks::All).due(BEGUN + 5000 * HOUR);

        assert_eq!((due.len(), due[0], last), (MOST, BEGUN + 4001 * HOUR, BEGUN + 5000 * HOUR));
    }

    #[test]
    fn the_beginning_of_a_schedule_is_no_tick_and_passes_none() {
        for now in [0, BEGUN, BEGUN + 1] {
            assert!(!beginning(now).is_multiple_of(MINUTE), "{now}");
            assert!(beginning(now) <= now.max(1));
        }
        assert_eq!((beginning(BEGUN), beginning(BEGUN + 1)), (BEGUN - 1, BEGUN + 1));
    }
}
