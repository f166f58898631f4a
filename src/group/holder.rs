//! Whose is a loan? A delivery number names its holder and counts within it.
//!
//! Two kinds of holders. *This opening's own* keep no registry: what is out for the first time is theirs,
//! so which they are must be in a synced snapshot before the first of their loans. A *guest* is another
//! process, with a holder of its own that the state knows only while it is connected; each of its loans
//! is an exception, which names it.

use std::collections::BTreeSet;

use super::exceptions::{Exception, Held, Life};
use super::state::{Now, State};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, HELD, Kind};
use crate::group::decide::more_of;
use crate::storage::Storage;

/// How many loans a holder can have: as many as 32 bits count.
const LOANS_OF_A_HOLDER: u64 = 1 << 32;

/// Draws what names the loans of an opening; not 0, which names none.
pub(crate) fn draw_holder(storage: &dyn Storage) -> Result<u32> {
    let random = storage.random().map_err(|error| Error::io("draw a holder for", storage.root(), error))?;
    #[expect(clippy::cast_possible_truncation, reason = "any 32 of the random bits will do")]
    let holder = (random as u32).max(1);
    Ok(holder)
}

/// Returns the holder that a delivery number names.
pub(crate) const fn holder_of(delivery: u64) -> u32 {
    (delivery >> 32) as u32
}

/// Returns how many loans of its holder came before.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
pub(crate) const fn count_of(delivery: u64) -> u32 {
    delivery as u32
}

impl State {
    /// Takes a new holder for the loans to come. It must be in a synced snapshot before the first of
    /// them is recorded, as at an opening: that is how recovery knows whose loans are out.
    pub(crate) fn begin_holder(&mut self, holder: u32) {
        debug_assert!(holder != 0 && !self.names_holder(holder));
        self.holders.push((holder, 0));
        self.count = 0;
    }

    /// Lets a guest have loans, under numbers that count from 0; `false` if it could be mistaken for a holder
    /// that the state names.
    ///
    /// Nothing of this is stored, and no snapshot need be synced before the first loan. Of this opening's own
    /// loans recovery must be told whose they are, for those that are out for the first time are what the
    /// state does *not* list. A guest's are all listed: the entry names holder and number, `apply` makes an
    /// exception of it whether or not the guest is known, and a snapshot stores the exception with its
    /// number. So recovery, which knows no guests, comes to the same exceptions; what it does not have, the
    /// count of the next loan, it needs not, for a guest that comes to another owner takes a new holder
    /// for its loans to come, and its old one only ends.
    pub(crate) fn begin_guest(&mut self, holder: u32) -> bool {
        let free = holder != 0 && !self.names_holder(holder);
        if free {
            self.guests.push((holder, 0));
        }
        free
    }

    /// Lends a guest nothing more. What it holds stays out.
    pub(crate) fn end_guest(&mut self, holder: u32) {
        self.guests.retain(|&(guest, _)| guest != holder);
    }

    /// Tells whether a guest has begun and not ended.
    pub(crate) fn is_guest(&self, holder: u32) -> bool {
        self.guests.iter().any(|&(guest, _)| guest == holder)
    }

    /// Counts a guest's loans on, if `delivery` begins a row of them.
    pub(super) fn count_guest(&mut self, delivery: u64, loans: u64) {
        let guest = self.guests.iter_mut().find(|(guest, _)| *guest == holder_of(delivery));
        if let Some((_, count)) = guest {
            *count = (*count).max(u64::from(count_of(delivery)) + loans);
        }
    }

    /// Tells whether a holder can be mistaken for one that the state names.
    pub(crate) fn names_holder(&self, holder: u32) -> bool {
        self.holders.iter().any(|&(id, _)| id == holder)
            || self.is_guest(holder)
            || self.exceptions.iter().any(|(_, one)| holders_named(one).any(|named| named == holder))
    }

    /// Lists the holders that loans in the state name, those that ran out too.
    pub(crate) fn holders_named(&self) -> BTreeSet<u32> {
        let own = self.holders.iter().map(|&(id, _)| id);
        self.exceptions.iter().flat_map(|(_, one)| holders_named(one)).chain(own).collect()
    }

    /// Returns the number of the first of so many loans, to a guest or this opening itself.
    pub(super) fn deliveries(&self, holder: Option<u32>, loans: u64) -> Option<u64> {
        let (holder, count) = match holder {
            None => (self.holders.last()?.0, self.count),
            Some(guest) => *self.guests.iter().find(|&&(id, _)| id == guest)?,
        };
        let fits = count.checked_add(loans)? <= LOANS_OF_A_HOLDER;
        fits.then_some((u64::from(holder) << 32) | count)
    }

    /// Returns what a guest, or this opening itself, holds.
    pub(super) fn held(&self, holder: Option<u32>) -> Held {
        if let Some(guest) = holder {
            return self.exceptions.held_by(guest);
        }
        let mut held = Held { loans: self.out_fresh, alone: 0 };
        for &(holder, _) in &self.holders {
            let more = self.exceptions.held_by(holder);
            held.loans += more.loans;
            held.alone += more.alone;
        }
        held
    }

    /// Tells whether the loans that are out for the first time are those of that holder.
    pub(super) fn is_of_this_opening(&self, holder: u32) -> bool {
        let none = holder == 0 && self.holders.is_empty();
        none || self.holders.iter().any(|&(id, _)| id == holder)
    }

    /// Ends the held loans of a guest that is gone; no entry if there are none. Never touches this
    /// opening's own.
    pub(crate) fn guest_gone(&self, holder: u32, counted: bool, now: Now) -> Vec<Entry> {
        let held = |(_, one): (u64, &Exception)| held_from(one, holder).is_some();
        let any = self.exceptions.held_by(holder).loans > 0
            || (!self.settling.is_empty() && self.exceptions.iter().any(held));
        if !any || self.is_of_this_opening(holder) {
            return Vec::new();
        }
        self.holder_gone(holder, counted, now)
    }

    /// Gives back, uncounted, the held loans of a guest that are not `named` (offset and delivery number): it
    /// does not know of them.
    pub(crate) fn keep_only(&self, holder: u32, named: &[(u64, u64)]) -> Vec<Entry> {
        let mut entries = Vec::new();
        if self.is_of_this_opening(holder) {
            return entries;
        }
        let named: BTreeSet<(u64, u64)> = named.iter().copied().collect();
        for (start, one) in self.exceptions.iter() {
            let Some(number) = held_from(one, holder) else { continue };
            let mut release = |from: u64, to: u64| {
                if from < to {
                    let delivery = number.wrapping_add(from - start);
                    let more = more_of(from, to, to - from);
                    entries.push(Entry { delivery, more, ..Entry::new(Kind::Released, from) });
                }
            };
            let mut from = start;
            let kept = named.range((start, 0)..(one.end, 0));
            for &(offset, _) in kept.filter(|&&(offset, named)| number.wrapping_add(offset - start) == named)
            {
                release(from, offset);
                from = offset + 1;
            }
            release(from, one.end);
        }
        entries
    }
}

/// Returns the number of a row's first loan, if it is held by that holder.
fn held_from(one: &Exception, holder: u32) -> Option<u64> {
    match one.life {
        Life::Lent { delivery, lease: HELD, .. } => (holder_of(delivery) == holder).then_some(delivery),
        _ => None,
    }
}

/// Lists whom a row names.
fn holders_named(one: &Exception) -> impl Iterator<Item = u32> + use<> {
    let lent = if let Life::Lent { delivery, .. } = one.life { Some(holder_of(delivery)) } else { None };
    let late = (one.late != 0).then(|| holder_of(one.late));
    lent.into_iter().chain(late)
}
