//! How do groups come, go, and get found?

use std::sync::Arc;

use super::{Engine, lock, open};
use crate::codec::{Deserialize, Serialize};
use crate::error::{Error, Result};
use crate::format::manifest::{GroupRow, SegmentRow};
use crate::format::names;
use crate::format::snapshot::{Policy, Reading, Snapshot};
use crate::group::kinds;
use crate::group::live::Live;
use crate::group::state::{Now, State};
use crate::log::reader::{Cursor, Step};
use crate::offsets;
use crate::plant::{Plant, planted};

/// Where a new group starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum From {
    /// At the earliest message that some other group has not done, or the log's beginning.
    #[default]
    Undone,
    Beginning,
    End,
    Offset(u64),
    /// At the first message that was pushed at that time or later (milliseconds since 1970).
    Time(u64),
}

/// What a new group is like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewGroup {
    pub(crate) policy: Policy,
    /// None: all.
    pub(crate) kinds: Vec<String>,
    pub(crate) from: From,
}

impl Engine {
    /// Finds a group.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`], [`Error::Damaged`] if its files are, [`Error::Closed`].
    pub(crate) fn group(&self, name: &str) -> Result<Arc<Live>> {
        self.check_open()?;
        let groups = self.groups();
        if let Some(group) = groups.open.get(name) {
            return Ok(group.clone());
        }
        if let Some(error) = groups.refused.get(name) {
            return Err(error.clone());
        }
        let existing = groups.open.keys().chain(groups.refused.keys()).cloned().collect();
        Err(Error::NoSuchGroup { name: name.to_owned(), existing })
    }

    /// Returns the groups that work, by name; none in a fork.
    pub(crate) fn all_groups(&self) -> Vec<Arc<Live>> {
        if !self.log.is_ours() {
            return Vec::new();
        }
        self.groups().open.values().cloned().collect()
    }

    /// Returns the names of the groups that work, in alphabetical order.
    pub(crate) fn group_names(&self) -> Vec<String> {
        self.all_groups().iter().map(|group| group.name.clone()).collect()
    }

    /// Makes a group: files first, synced; then the manifest names it; then it is there.
    ///
    /// # Errors
    /// [`Error::GroupName`], [`Error::GroupExists`], or when the disk refuses: there is no such
    /// group then.
    pub(crate) fn create_group(&self, name: &str, new: &NewGroup) -> Result<Arc<Live>> {
        self.check_open()?;
        if !names::is_group(name) {
            return Err(Error::GroupName { name: name.to_owned() });
        }
        let _changing = lock(&self.changing_groups);
        match self.group(name) {
            Err(Error::NoSuchGroup { .. }) => {}
            Err(error @ Error::Closed) => return Err(error),
            Ok(_) | Err(_) => return Err(Error::GroupExists { name: name.to_owned() }),
        }
        self.manifest.check()?;
        self.moved_back();
        let random = self.storage.random();
        let incarnation =
            random.map_err(|error| Error::io("draw a number for", self.storage.root(), error))?;
        // Whatever the log acks by now is of other groups.
        let reading = Reading { settled: self.log.next(), ..self.start_at(new.from)? };
        let kinds = kinds::in_order(&new.kinds)?;
        let snapshot = Snapshot { reading, policy: new.policy, kinds, ..Snapshot::default() };
        let wall = self.clock.wall();
        offsets::create(&self.storage, self.queue, name, incarnation, wall, &snapshot)?;
        let row = GroupRow {
            name: name.to_owned(),
            incarnation,
            generation: 1,
            settles_from: self.log.set().last().map_or(0, |segment| segment.number),
            mark: 0,
        };
        // Before the manifest names it: behind that nothing may fail any more, or there would be a
        // group although its maker was told that there is none.
        let loaded = offsets::load(&self.storage, self.queue, &row)?;
        self.check_open()?;
        let now = Now { mono: self.clock.now(), wall };
        let state = State::from_snapshot(&loaded.snapshot, now);
        let live = open::open_group(
            &self.log,
            &self.helper,
            &self.settings,
            &row,
            state,
            (loaded.halves, loaded.end),
            self.holder,
        )?;
        self.manifest.update(|slot| slot.groups.push(row.clone()))?;
        self.groups().open.insert(row.name, live.clone());
        self.begin_guests_in(&live);
        self.look_at_room();
        Ok(live)
    }

    /// Finds a group, or makes it as `default` is made with its first consumer.
    ///
    /// # Errors
    /// As [`Engine::create_group`].
    pub(crate) fn group_or_create(&self, name: &str, new: &NewGroup) -> Result<Arc<Live>> {
        match self.group(name) {
            Err(Error::NoSuchGroup { .. }) => match self.create_group(name, new) {
                // Another thread was faster.
                Err(Error::GroupExists { .. }) => self.group(name),
                other => other,
            },
            other => other,
        }
    }

    /// Ends a group: the manifest forgets it, then its files go.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`], or when the disk refuses.
    pub(crate) fn remove_group(&self, name: &str) -> Result<()> {
        self.log.check_process()?;
        let _changing = lock(&self.changing_groups);
        let group = match self.group(name) {
            Ok(group) => Some(group),
            // A group whose files are damaged can be removed too.
            Err(Error::Damaged { .. }) => None,
            Err(error) => {
                // A creation that failed may have left one all the same: who asks is not told that
                // there is none.
                self.manifest.check()?;
                return Err(error);
            }
        };
        if planted(Plant::RemovedBeforeSlot) {
            offsets::remove(&self.storage, name)?;
        }
        self.manifest.update(|slot| slot.groups.retain(|row| row.name != name))?;
        {
            let mut groups = self.groups();
            groups.open.remove(name);
            groups.refused.remove(name);
        }
        if let Some(group) = group {
            let existing = self.groups().open.keys().cloned().collect();
            // What its files miss now is nobody's any more.
            let _ = group.stop(&Error::NoSuchGroup { name: name.to_owned(), existing });
        }
        // The manifest does not name them: should this fail, the next opening sweeps them.
        let _ = offsets::remove(&self.storage, name);
        self.log.room.ring();
        Ok(())
    }

    /// Works out where a new group stands.
    pub(super) fn start_at(&self, from: From) -> Result<Reading> {
        let set = self.log.set();
        let (first, before) = set.first().map_or((0, 0), |first| (first.base, first.messages_before()));
        let at =
            |offset: u64, passed: u64| Reading { floor: offset, head: offset, passed, ..Reading::default() };
        match from {
            From::Beginning => Ok(at(first, before)),
            From::End => {
                // Counted, for what is pushed between two looks must not count as passed.
                let next = self.log.next();
                Ok(at(next, self.messages_before(next)?.min(self.log.messages())))
            }
            // Not where nothing is yet: what comes there would be taken for done, or not be met.
            From::Offset(offset) => {
                let offset = offset.clamp(first, self.log.next());
                Ok(at(offset, self.messages_before(offset)?))
            }
            From::Time(time) => {
                let offset = self.first_since(time)?;
                Ok(at(offset, self.messages_before(offset)?))
            }
            From::Undone => {
                let floors = self.all_groups();
                let least = floors.iter().map(|group| group.look(State::floor)).min();
                match least {
                    Some(floor) if floor > first => Ok(at(floor, self.messages_before(floor)?)),
                    _ => Ok(at(first, before)),
                }
            }
        }
    }

    /// Finds the first message that was pushed at a time or later, by the wall clocks of then; the end
    /// of the log if there is none. The manifest tells which segment to look into.
    fn first_since(&self, time: u64) -> Result<u64> {
        let rows = self.manifest.slot().segments;
        let early = |row: &&SegmentRow| row.length != 0 && row.about.last < time;
        let skipped = rows.iter().take_while(early).count();
        let Some(row) = rows.get(skipped) else { return Ok(self.log.next()) };
        let mut cursor = Cursor::new(self.log.clone());
        cursor.seek(row.base, None);
        loop {
            match cursor.next()? {
                Step::Message(message) if message.time >= time => return Ok(message.offset),
                Step::Message(_) | Step::Damaged(_) => {}
                Step::End => return Ok(self.log.next()),
            }
        }
    }

    /// Counts the messages before an offset: by the manifest up to its segment, by walking there.
    pub(super) fn messages_before(&self, offset: u64) -> Result<u64> {
        let set = self.log.set();
        let index = set.partition_point(|segment| segment.base <= offset).saturating_sub(1);
        let Some(segment) = set.get(index) else { return Ok(0) };
        let mut count = segment.messages_before();
        let mut cursor = Cursor::new(self.log.clone());
        cursor.seek(segment.base, None);
        loop {
            match cursor.next()? {
                Step::Message(message) if message.offset < offset => count += 1,
                Step::Damaged(damaged) if damaged.first < offset => count += damaged.messages,
                Step::Message(_) | Step::Damaged(_) | Step::End => return Ok(count),
            }
        }
    }
}
