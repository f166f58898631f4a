//! What becomes, in the model, of what is made ready again, and of what the log does not have any more?

use super::decide::Special;
use super::model::{Is, Message, NEW, Op, World};

impl World {
    pub(super) fn undelete(&mut self, &Op { pick, count, flag, .. }: &Op) {
        let offset = *self.log.iter().nth(pick % 40).unwrap();
        let (priority, key) = (u8::try_from(pick % 10).unwrap(), if flag { count % 3 } else { 0 });
        let due = if pick.is_multiple_of(4) { self.now.wall + count * 30 } else { 0 };
        let special = Special { priority, key, due, position: 8 * count };
        let done = |message: &Message| message.is == Is::Done;
        let known = self.met.get(&offset).map_or(offset < self.base, done);

        let entry = self.state.undelete(offset, &special);

        assert_eq!(entry.is_some(), known, "{offset}");
        let Some(entry) = entry else { return };
        if offset < self.state.head {
            let is = if due == 0 { Is::Ready } else { Is::Delayed { due } };
            *self.met(offset) = Message { is, priority, key, ..NEW };
            // What a seek passed over is done, and nothing else was known of it.
            for passed in self.log.range(offset..self.base.max(offset)).copied().collect::<Vec<_>>() {
                self.met.entry(passed).or_insert(Message { is: Is::Done, ..NEW });
            }
            self.base = self.base.min(offset);
        } else {
            self.met.remove(&offset);
        }
        self.apply(entry);
    }

    pub(super) fn strike(&mut self, &Op { pick, count, flag, .. }: &Op) {
        let head = self.state.head();
        let first = if flag { head + pick as u64 % 9 } else { head.saturating_sub(pick as u64 % 9) };
        let end = first + 2 * count;

        let entry = self.state.strike(first, end, self.now);

        for offset in first.max(self.base)..end {
            if offset >= head || self.met.contains_key(&offset) {
                // Nobody knows which of them were messages: each counts as one.
                if offset >= head {
                    self.log.insert(offset);
                }
                let message = self.met(offset);
                if message.is != Is::Done {
                    (message.is, message.late) = (Is::Dead, 0);
                }
            }
        }
        self.apply(entry);
        assert_eq!(self.state.head(), head);
    }
}
