//! How are messages acked together with the pushes of what came of them, whole or not at all?
//!
//! The acks travel in the batch of the outputs, which is there whole or not at all. Step by step:
//! `docs/DURABILITY.md` §2.16.

use std::sync::Arc;

use super::Engine;
use super::recovery::{Damage, Recovery};
use crate::error::{Error, Result};
use crate::format::batch::{self, Record};
use crate::format::manifest::{GroupRow, NO_SETTLES, SegmentRow, Slot};
use crate::format::names;
use crate::group::live::Live;
use crate::group::settle::Settle;
use crate::group::settle_with::Hush;
use crate::group::settling::settled_in;
use crate::group::state::{Now, State};
use crate::log::recovery::Verdict;
use crate::log::room::Pass;
use crate::log::settles::{self, Found, Settled};
use crate::log::writer::{GroupTold, Wish, size_of};
use crate::manifest;
use crate::offset::Offsets;
use crate::offsets::Surveyed;
use crate::options::Durability;
use crate::plant::{Plant, planted};
use crate::storage::{Access, Storage};

/// So many acks of a group wait for their batches to be durable at the most: each takes memory.
const MOST_UNRECORDED: u64 = 1024;

impl Engine {
    /// Acks loans and stores records as one batch; returns when it is as safe as was asked for.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] of a loan that was over, and what a push says. Unless it is in doubt
    /// ([`Error::Poisoned`], [`Error::InDoubt`]) the loans go on. [`Error::Duplicate`] when the key of a record
    /// is taken, as for a batch of several.
    pub(crate) fn ack_with(
        &self,
        loans: &[(Arc<Live>, Settle)],
        records: &[Record<'_>],
        durability: Durability,
    ) -> Result<Offsets> {
        self.check_open()?;
        let row = |(group, loan): &(Arc<Live>, Settle)| batch::Settle {
            incarnation: group.incarnation,
            offset: loan.offset,
            delivery: loan.delivery,
        };
        let rows: Vec<batch::Settle> = loans.iter().map(row).collect();
        let batch = self.encode_settling(&rows, records)?;
        let size = size_of(&batch);
        // Who makes as much done as he adds is let through: a chain within a full queue would stand still.
        let exempt = records.len() <= loans.len();
        if !exempt {
            self.check_fits(size)?;
            self.look_before(size.messages);
            if self.lacks(size).is_some() {
                self.make_room(size, false)?;
            }
        }
        let pass = if exempt { Pass::Exempt } else { Pass::Limited };
        // Before a loan is set aside: who waits for those may hold the lock that this takes.
        self.save_losses()?;
        let mut settling = Vec::with_capacity(loans.len());
        for (group, loan) in loans {
            match group.begin_settling(*loan) {
                Ok(settlement) => settling.push(settlement),
                Err(error) => {
                    settling.into_iter().for_each(|settlement| settlement.took_no_effect());
                    return Err(error);
                }
            }
        }
        if planted(Plant::DoneBeforeBatch) {
            for (group, _) in loans {
                group.record_settled()?;
            }
        }
        let (indexed, synced) = (self.rows(records), durability == Durability::Synced);
        let handed = if indexed.iter().any(|row| row.dedup != 0) {
            self.hand_over(batch, indexed, (synced, pass), true).map(|handed| self.answer_of(&handed))
        } else {
            self.try_ask(Wish::Push { batch, rows: indexed, synced, pass })
        };
        let answer = match handed {
            Ok(answer) => answer,
            Err(error) => {
                settling.into_iter().for_each(|settlement| settlement.took_no_effect());
                return Err(error);
            }
        };
        match &answer {
            Ok(offsets) => settling.into_iter().for_each(|settlement| settlement.stored(offsets.end())),
            Err(error) if error.stored_nothing() => {
                settling.into_iter().for_each(|settlement| settlement.took_no_effect());
            }
            Err(error) => settling.into_iter().for_each(|settlement| settlement.in_doubt(error)),
        }
        if answer.is_ok() && loans.iter().any(|(group, _)| group.unrecorded() >= MOST_UNRECORDED) {
            // Should it fail, the batch is as safe as it was asked to be all the same.
            let _ = self.ask(Wish::Sync { mark: false }).and_then(|_| self.record_settled());
        }
        answer
    }

    /// Waits until no ack of a group is on its way in a batch, and lets none begin while the answer lives.
    ///
    /// # Errors
    /// When the disk refuses, or it is not known of some batch whether it is in the log.
    pub(crate) fn quiet<'a>(&self, group: &'a Live) -> Result<Hush<'a>> {
        let hush = group.hush()?;
        if group.unrecorded() > 0 {
            self.ask(Wish::Sync { mark: false })?;
            if group.record_settled()? > 0 {
                // Its batch is not durable though all is: the log was poisoned meanwhile.
                return Err(self.log.failure().cloned().unwrap_or(Error::Timeout { owner: None }));
            }
        }
        Ok(hush)
    }

    /// Records the acks whose batches are durable by now.
    pub(super) fn record_settled(&self) -> Result<()> {
        self.all_groups().iter().try_for_each(|group| match group.record_settled() {
            // Stopped: there is nothing to be recorded any more.
            Err(Error::Closed | Error::NoSuchGroup { .. }) => Ok(()),
            other => other.map(drop),
        })
    }

    /// Tells the manifest from which segment on acks are not in the groups' synced files, if that is
    /// another one by now.
    ///
    /// # Errors
    /// When the disk refuses: nothing can be changed in the manifest any more, as [`Error::Poisoned`]
    /// says.
    pub(super) fn tell_settles(&self) -> Result<()> {
        let Ok(_changing) = self.changing_groups.try_lock() else {
            // A group is made or removed, or all end; this comes again.
            return Ok(());
        };
        let told: Vec<(u64, u64)> = self
            .all_groups()
            .iter()
            .map(|group| (group.incarnation, self.log.segment_of(self.settled_of(group))))
            .collect();
        let slot = self.manifest.slot();
        let news = |slot: &Slot, row: &GroupRow| {
            let told = told.iter().find(|(incarnation, _)| *incarnation == row.incarnation)?.1;
            let later = slot.index_of(told) > slot.index_of(row.settles_from);
            (row.settles_from != NO_SETTLES && later).then_some(told)
        };
        if !slot.groups.iter().any(|row| news(&slot, row).is_some()) {
            return Ok(());
        }
        self.manifest.update(|slot| {
            let newer: Vec<Option<u64>> = slot.groups.iter().map(|row| news(slot, row)).collect();
            for (row, newer) in slot.groups.iter_mut().zip(newer) {
                row.settles_from = newer.unwrap_or(row.settles_from);
            }
        })
    }

    /// Returns what a clean close tells of a group that has stopped.
    pub(super) fn told_at_close(&self, group: &Live) -> GroupTold {
        let (generation, mark) = group.durable();
        let settled = self.settled_of(group);
        let settles_from = if settled >= self.log.next() { NO_SETTLES } else { self.log.segment_of(settled) };
        GroupTold { generation, mark, settles_from }
    }

    fn settled_of(&self, group: &Live) -> u64 {
        if planted(Plant::SettlesToldEarly) { self.log.next() } else { group.settled() }
    }
}

/// Finds what an opening is to apply to the groups that were surveyed, and reports damage on the way.
///
/// # Errors
/// When the disk refuses.
pub(super) fn at_opening(
    storage: &Arc<dyn Storage>,
    found: &manifest::Found,
    verdict: &Verdict,
    surveyed: &[(GroupRow, Result<Surveyed>)],
    report: &mut Recovery,
) -> Result<Vec<Settled>> {
    let known = surveyed.iter().filter_map(|(row, surveyed)| {
        let (snapshot, entries) = surveyed.as_ref().ok()?.told();
        Some((row, settled_in(snapshot, entries)))
    });
    let (settled, damages) = find(storage, &found.slot, verdict, &known.collect::<Vec<_>>())?;
    for damage in damages {
        // What the end of the log told already is there once.
        let known = |other: &Damage| other.path == damage.path && other.position == damage.position;
        if !report.damaged.iter().any(known) {
            report.damaged.push(damage);
        }
    }
    Ok(settled)
}

/// Finds the acks in batches of the log that may not be in the files of groups; of each of these it is
/// given up to which offset they are. Reads the segments that the manifest names for them and in which
/// there are acks, and no others.
///
/// # Errors
/// When the disk refuses.
pub(super) fn find(
    storage: &Arc<dyn Storage>,
    slot: &Slot,
    verdict: &Verdict,
    groups: &[(&GroupRow, u64)],
) -> Result<(Vec<Settled>, Vec<Damage>)> {
    let mut settled = Vec::new();
    let mut damages = Vec::new();
    let wanted = || groups.iter().filter(|(row, _)| row.settles_from != NO_SETTLES);
    let Some(from) = wanted().map(|&(_, settled)| settled).min() else { return Ok((settled, damages)) };
    // One that is not there was given up; all that are there lie behind it.
    let first = wanted().map(|(row, _)| slot.index_of(row.settles_from).unwrap_or(0)).min().unwrap_or(0);
    for (index, row) in slot.segments.iter().enumerate().skip(first) {
        let next = slot.segments.get(index + 1);
        let (end, tags) = match next {
            Some(_) => (row.length, row.about.tags),
            None => (verdict.position, verdict.about.tags | row.about.tags),
        };
        let behind = next.map_or(verdict.next, |next| next.base);
        if tags & batch::settles_bit(true) == 0 || behind <= from {
            continue;
        }
        let mut found = Found::default();
        read(storage, row, end, from, &mut found)?;
        let missing = |one: &Settled| {
            wanted().any(|(row, upto)| {
                let behind = one.end > *upto || planted(Plant::SettledOverSeek);
                row.incarnation == one.settle.incarnation && behind
            })
        };
        settled.extend(found.settled.into_iter().filter(missing));
        let path = storage.root().join(names::segment(row.number));
        damages.extend(found.damages.iter().map(|damage| Damage {
            path: path.clone(),
            position: damage.position,
            length: damage.length,
            offsets: (damage.first, damage.end),
        }));
    }
    Ok((settled, damages))
}

fn read(storage: &Arc<dyn Storage>, row: &SegmentRow, end: u64, from: u64, found: &mut Found) -> Result<()> {
    let name = names::segment(row.number);
    let file = storage.open(&name, Access::Read);
    let file = file.map_err(|error| Error::io("open", storage.root().join(&name), error))?;
    settles::read(&file, row, end, from, found)
        .map_err(|error| Error::io("read", storage.root().join(&name), error))
}

/// Marks as done in a group what batches of the log ack.
pub(super) fn apply(state: &mut State, incarnation: u64, settled: &[Settled], now: Now) {
    for one in settled.iter().filter(|one| one.settle.incarnation == incarnation) {
        state.settle(one.settle.offset, one.end, now);
    }
}
