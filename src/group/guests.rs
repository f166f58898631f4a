//! How do holders begin and end in an open group: its own, and those of guests?

use super::holder::draw_holder;
use super::live::{Live, Locked};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, SLOT_BYTES};

impl Live {
    /// Makes sure that the next loans have numbers, and room as [`Live::with_room`] says. When the numbers of
    /// this opening's holder are used up, another one begins, and is in a synced snapshot before its first
    /// loan.
    ///
    /// # Errors
    /// [`Error::HolderOver`] for a guest that has ended, or has no numbers any more: it takes its next holder
    /// itself.
    pub(super) fn with_numbers<'a>(
        &'a self,
        mut guard: Locked<'a>,
        bytes: u64,
        loans: u64,
        holder: Option<u32>,
    ) -> Result<Locked<'a>> {
        let storage = &self.log.storage;
        loop {
            // Switching lets go of the lock: others take room and numbers then, or all loans away.
            guard = self.with_room(guard, bytes, loans)?;
            if let Some(holder) = holder {
                // Looked up under the lock under which it is lent to: who is gone holds nothing from then on.
                let numbers = guard.state.deliveries(Some(holder), loans);
                return numbers.map(|_| guard).ok_or(Error::HolderOver { holder });
            }
            while guard.state.deliveries(None, loans).is_none() {
                let holder = draw_holder(&**storage)?;
                if !guard.state.names_holder(holder) {
                    guard.state.begin_holder(holder);
                    guard.unsaved_holder = true;
                }
            }
            if !guard.unsaved_holder {
                return Ok(guard);
            }
            let need = bytes + guard.kept(loans);
            guard = self.switch(guard, need)?;
        }
    }

    /// Lets a guest have loans here; nothing where it has begun already.
    ///
    /// # Errors
    /// [`Error::HolderOver`] if it could be mistaken for a holder that the group names.
    pub(crate) fn begin_guest(&self, holder: u32) -> Result<()> {
        let mut guard = self.enter()?;
        if guard.state.is_guest(holder) || guard.state.begin_guest(holder) {
            return Ok(());
        }
        Err(Error::HolderOver { holder })
    }

    /// Lends a guest nothing more: its receivers are answered that it is over. What it holds stays out.
    pub(crate) fn end_guest(&self, holder: u32) -> Result<()> {
        let mut guard = self.enter()?;
        guard.state.end_guest(holder);
        // Whoever waits for it looks at the state before it sleeps, under this lock.
        self.commit.wake_changed(&mut guard);
        Ok(())
    }

    /// Takes back what a guest that is gone holds, and lends it nothing more; each loan is a loss if
    /// `counted`.
    ///
    /// # Errors
    /// When the disk refuses: its loans are still out then. In a group that was stopped nothing is done: the
    /// next opening finds by its lock that it is gone.
    pub(crate) fn guest_gone(&self, holder: u32, counted: bool) -> Result<()> {
        // First of all, or it could be lent something while room is made.
        self.end_guest(holder)?;
        self.end_loans(|live, guard| guard.state.guest_gone(holder, counted, live.now()))
    }

    /// Takes back, uncounted, what a guest holds and does not name (offset and delivery number).
    ///
    /// # Errors
    /// As [`Live::guest_gone`].
    pub(crate) fn keep_only(&self, holder: u32, named: &[(u64, u64)]) -> Result<()> {
        self.end_loans(|_, guard| guard.state.keep_only(holder, named))
    }

    /// Records how loans end that nobody settles.
    fn end_loans(&self, decide: impl Fn(&Self, &Locked<'_>) -> Vec<Entry>) -> Result<()> {
        let mut guard = self.enter()?;
        if guard.stopped.is_some() {
            return Ok(());
        }
        let bytes =
            |entries: &[Entry]| entries.iter().map(|one| one.slots() as u64 * SLOT_BYTES).sum::<u64>();
        let mut entries = decide(self, &guard);
        while !entries.is_empty() {
            let room = bytes(&entries);
            guard = self.with_settling_room(guard, room)?;
            // Making room lets go of the lock: an ack may have cut a row in two meanwhile.
            entries = decide(self, &guard);
            if bytes(&entries) > room {
                continue;
            }
            let now = self.now();
            for entry in &entries {
                self.put(&mut guard, entry, now)?;
            }
            // What came back may be what somebody sleeps for, and a loan less what others wait for.
            self.commit.wake_changed(&mut guard);
            return self.settle_down(guard, self.synced);
        }
        Ok(())
    }

    /// Makes durable that the group does not name `holder`; `false` if it does.
    ///
    /// `at_opening` says that the files did then: the state that took its loans back is saved, for nothing of
    /// that was written yet.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn forget_holder(&self, holder: u32, at_opening: bool) -> Result<bool> {
        if self.look(|state| state.names_holder(holder)) {
            return Ok(false);
        }
        if at_opening {
            self.save()?;
        }
        self.sync_lazily()?;
        Ok(true)
    }
}
