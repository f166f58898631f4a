//! Who holds what in the model, and what becomes of it when a holder ends?

use super::decide::Next;
use super::model::{Is, LEASE, Message, Op, POLICY, World};
use super::state::State;
use crate::format::entry::HELD;

/// Guests are named from here on, this opening's own holders below it.
const GUESTS: u32 = 1 << 20;

/// Tells whether a message is held by a guest, or by this opening itself.
pub(super) fn is_held_by(message: &Message, holder: Option<u32>) -> bool {
    let Is::Out { delivery, ends: None } = message.is else { return false };
    holder.map_or(delivery >> 32 < u64::from(GUESTS), |guest| delivery >> 32 == u64::from(guest))
}

impl World {
    pub(super) fn begin_holder(&mut self) {
        self.holders += 1;
        assert!(!self.state.names_holder(self.holders));
        self.state.begin_holder(self.holders);
        self.switch();
    }

    fn holder_gone(&mut self, holder: u32, counted: bool) {
        for message in self.met.values_mut() {
            if let Is::Out { delivery, ends: None } = message.is
                && delivery >> 32 == u64::from(holder)
            {
                message.losses += u8::from(counted);
                let dead = counted && message.losses >= POLICY.max_losses;
                message.is = if dead { Is::Dead } else { Is::Ready };
            }
        }
    }

    pub(super) fn guest_step(&mut self, op: &Op) {
        let Op { what, pick, count, flag } = *op;
        if what < 39 || self.guests.is_empty() {
            return self.begin_guest();
        }
        let index = pick % self.guests.len();
        let (guest, connected) = self.guests[index];
        let lease = if flag { HELD } else { LEASE };
        match what {
            39..=41 if connected => {
                let (first, end) = self.fresh(count);
                let lease = if what == 39 { lease } else { HELD };
                let entry = self.state.lend_fresh(first, end, lease, self.now, Some(guest));
                self.lend(entry.unwrap());
            }
            42..=43 if connected => {
                self.state.ripen(self.now);
                let next = self.state.next(self.now, flag, Some(guest));
                assert_eq!(next, self.expected_next(flag, Some(guest)));
                if let Next::Again(offset) | Next::Fresh { or: Some(offset) } = next {
                    let lease = if what == 42 { lease } else { HELD };
                    let entry = self.state.lend_again(offset, lease, self.now, Some(guest)).unwrap();
                    self.lend(entry);
                }
            }
            44 => self.keep_only(guest, pick),
            45 => {
                self.guests.remove(index);
                self.state.end_guest(guest);
                self.guest_gone(guest, flag);
            }
            // Its connection is lost, or was before: it lives, and has no more loans.
            _ => {
                self.guests[index].1 = false;
                self.state.end_guest(guest);
                assert_eq!(self.state.lend_again(0, HELD, self.now, Some(guest)), None);
            }
        }
    }

    fn begin_guest(&mut self) {
        let guest = GUESTS + u32::try_from(self.loans.len() + self.entries.len()).unwrap();
        let named = self.state.names_holder(guest);
        assert_eq!(self.state.begin_guest(guest), !named);
        assert!(self.state.is_guest(guest) || named);
        if !named && !self.guests.iter().any(|&(other, _)| other == guest) && !self.was_a_holder(guest) {
            self.guests.push((guest, true));
        } else if !named {
            // A random number is never drawn twice.
            self.state.end_guest(guest);
        }
    }

    fn was_a_holder(&self, holder: u32) -> bool {
        self.loans.iter().any(|&(_, delivery)| delivery >> 32 == u64::from(holder))
    }

    fn guest_gone(&mut self, guest: u32, counted: bool) {
        let held = self.met.values().any(|message| is_held_by(message, Some(guest)));
        let entries = self.state.guest_gone(guest, counted, self.now);
        assert_eq!(!entries.is_empty(), held);
        for entry in entries {
            self.apply(entry);
        }
        self.holder_gone(guest, counted);
    }

    fn keep_only(&mut self, guest: u32, pick: usize) {
        // Every loan there ever was of some messages, the guest's and others, and of some the wrong number.
        let named: Vec<_> =
            self.loans.iter().filter(|&&(offset, _)| offset % 3 != pick as u64 % 3).copied().collect();
        let named: Vec<_> =
            named.into_iter().map(|(offset, number)| (offset, number + u64::from(offset % 7 == 0))).collect();
        for entry in self.state.keep_only(guest, &named) {
            self.apply(entry);
        }
        for (&offset, message) in &mut self.met {
            if let Is::Out { delivery, .. } = message.is
                && is_held_by(message, Some(guest))
                && !named.contains(&(offset, delivery))
            {
                message.is = Is::Ready;
            }
        }
    }

    /// Opens anew, after a crash or a close; some guests live on.
    pub(super) fn reopen(&mut self, crashed: bool, pick: usize) {
        if crashed {
            self.state = self.replayed();
        } else {
            for entry in self.state.close_release(self.now) {
                self.apply(entry);
            }
            self.state = State::from_snapshot(&self.state.to_snapshot(), self.now);
        }
        (1..=self.holders).for_each(|holder| self.holder_gone(holder, crashed));
        let lives = |&(guest, _): &(u32, bool)| guest as usize % 3 != pick % 3;
        let (living, dead): (Vec<_>, Vec<_>) = self.guests.iter().copied().partition(lives);
        self.guests = living.into_iter().map(|(guest, _)| (guest, false)).collect();
        for holder in self.state.holders_out() {
            if self.guests.iter().any(|&(guest, _)| guest == holder) {
                continue;
            }
            assert!(crashed || holder >= GUESTS, "a close gives back what is its own");
            for entry in self.state.holder_gone(holder, true, self.now) {
                self.apply(entry);
            }
        }
        dead.iter().for_each(|&(guest, _)| self.holder_gone(guest, true));
        self.begin_holder();
    }

    pub(super) fn replayed(&self) -> State {
        let mut state = State::from_snapshot(&self.stored, self.entries[0].1);
        self.entries.iter().for_each(|(entry, now)| state.apply(entry, *now));
        state
    }
}
