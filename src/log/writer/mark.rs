//! What does the writer tell the manifest, and when?
//!
//! Before the first write that the log is open, with a reserve of offsets; later how far it is
//! durable; and at the end that it is closed.

use std::collections::BTreeMap;

use super::Writer;
use crate::error::{Error, Result};
use crate::format::manifest::{GroupRow, LogMark, NO_SETTLES};
use crate::offset::Offset;
use crate::plant::{Plant, planted};

/// How far a group's file is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupTold {
    /// That of the half that holds.
    pub(crate) generation: u64,
    /// A position in it before which all entries are durable.
    pub(crate) mark: u64,
    /// The oldest segment whose acks are not in it, or [`NO_SETTLES`].
    pub(crate) settles_from: u64,
}

/// The groups, by name.
pub(crate) type GroupMarks = BTreeMap<String, GroupTold>;

/// How many offsets are reserved at first; each reserve is twice the one before.
pub(super) const FIRST_RESERVE: u64 = 1 << 12;
pub(crate) const LAST_RESERVE: u64 = 1 << 20;

impl Writer {
    /// Sets torn bytes aside and tells the manifest that the log is open, with a reserve of
    /// offsets: both durable before the first write of this opening.
    pub(super) fn before_first_write(&mut self) -> Result<()> {
        if self.opened {
            return Ok(());
        }
        if let Some(evidence) = self.evidence.as_ref().filter(|_| !planted(Plant::EvidenceLate)) {
            evidence.set_aside(&*self.log.storage)?;
            self.evidence = None;
        }
        if planted(Plant::WriteBeforeOpened) {
            self.opened = true;
            self.reserved = self.next + FIRST_RESERVE;
            return Ok(());
        }
        self.reserve_up_to(self.next + FIRST_RESERVE)?;
        self.opened = true;
        Ok(())
    }

    /// Makes sure that the next `messages` offsets are reserved.
    pub(super) fn reserve(&mut self, messages: u64) -> Result<()> {
        let wanted = self.next + messages;
        if wanted <= self.reserved {
            return Ok(());
        }
        // Offsets end below 2⁴⁸, so that the one behind the last fits into 48 bits too.
        if wanted >= Offset::LIMIT {
            return Err(Error::Exhausted { path: self.log.storage.root().to_path_buf() });
        }
        self.reserve_step = (self.reserve_step * 2).min(LAST_RESERVE);
        self.reserve_up_to(wanted + self.reserve_step)
    }

    fn reserve_up_to(&mut self, end: u64) -> Result<()> {
        let end = end.min(Offset::LIMIT - 1).max(self.reserved);
        let mark = self.durable_mark(end, false);
        self.update_mark(mark)?;
        self.reserved = end;
        Ok(())
    }

    /// Tells the manifest how far the log is durable.
    pub(super) fn tell_mark(&mut self) -> Result<()> {
        if !self.opened || self.manifest.slot().log.position == self.durable.position {
            return Ok(());
        }
        let mark = self.durable_mark(self.reserved, false);
        self.update_mark(mark)
    }

    pub(super) fn durable_mark(&self, reserved: u64, closed: bool) -> LogMark {
        LogMark {
            segment: self.active.segment.number,
            position: self.durable.position,
            next: self.durable.next,
            messages: self.durable.messages,
            reserved,
            closed,
        }
    }

    fn update_mark(&mut self, mark: LogMark) -> Result<()> {
        self.tell(mark, &GroupMarks::new())
    }

    /// Writes a slot with this mark, and what is durable of the groups' files by now.
    fn tell(&mut self, mark: LogMark, groups: &GroupMarks) -> Result<()> {
        // Of what lies behind the mark the walk at opening tells; the row may know more already.
        let (about, number) = (self.active.about, self.active.segment.number);
        let updated = self.manifest.update(|slot| {
            slot.log = mark;
            if let Some(row) = slot.segments.last_mut() {
                row.about = about;
            }
            for row in &mut slot.groups {
                // One that nobody tells of keeps its own: that still holds, for the half it names.
                if let Some(newer) = news(row, groups) {
                    (row.generation, row.mark) = (newer.generation, newer.mark);
                }
                if let Some(told) = groups.get(&row.name).filter(|_| mark.closed) {
                    row.settles_from = told.settles_from;
                } else if !mark.closed && row.settles_from == NO_SETTLES {
                    // Batches with acks may come from now on.
                    row.settles_from = number;
                }
            }
        });
        updated.map_err(|error| match error {
            Error::Poisoned { .. } => self.poison(error),
            other => other,
        })
    }

    /// Ends the log cleanly: everything durable, and the manifest says so.
    ///
    /// # Errors
    /// When the disk refuses, or the writer was poisoned: the manifest stays as it is, and the next
    /// opening finds the end by itself.
    pub(crate) fn close(&mut self, groups: &GroupMarks) -> Result<()> {
        if let Some(poison) = &self.poisoned {
            return Err(poison.clone());
        }
        self.take_back_tainted()?;
        self.sync()?;
        if self.opened || self.walked {
            let mut mark = self.durable_mark(self.reserved, true);
            // Beyond burnt ones.
            mark.next = self.next;
            self.tell(mark, groups)?;
            self.opened = false;
            self.walked = false;
        } else if self.manifest.slot().groups.iter().any(|row| news(row, groups).is_some()) {
            let mark = self.manifest.slot().log;
            self.tell(mark, groups)?;
        }
        Ok(())
    }
}

/// Returns what a row of the manifest does not know yet. What it told once stays told: of a half that
/// was found to be shorter, nobody gets here.
fn news(row: &GroupRow, groups: &GroupMarks) -> Option<GroupTold> {
    let newer = |told: &GroupTold| (told.generation, told.mark) > (row.generation, row.mark);
    groups.get(&row.name).copied().filter(newer)
}
