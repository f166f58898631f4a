//! Where does the log end, and what is torn and what is damaged? The one place of that verdict.
//!
//! Bytes that were never promised are *torn*: they are set aside and reported. Promised bytes gone
//! bad are *damaged*: they are named, and stay. What tells the two apart is the durable mark in the
//! manifest and in every batch: below the highest one found everything was durable once, so what
//! does not check there has gone bad; above it the log ends at the first batch that is not good.
//! Neither "nothing valid follows" nor "all zeros" is a test: the sectors of an unsynced write reach
//! the disk in any order.

use std::sync::Arc;

use super::scan::{self, Expected, Here, Window};
use crate::format::batch::BatchHeader;
use crate::format::manifest::{About, LogMark};
use crate::offset::Offset;
use crate::storage::File;

/// From where on, and what is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) mark: LogMark,
    pub(crate) about: About,
    pub(crate) salt: u32,
    pub(crate) capacity: u64,
}

/// What was found in the active segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Where the next batch goes.
    pub(crate) position: u64,
    /// The offset behind the last message found.
    pub(crate) next: u64,
    /// How many messages lie before it, from the log's beginning on.
    pub(crate) messages: u64,
    pub(crate) about: About,
    /// How far it was known durable.
    pub(crate) bound: u64,
    pub(crate) damages: Vec<Damage>,
    pub(crate) torn: Option<Torn>,
}

/// Promised bytes that have gone bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) position: u64,
    /// Bytes.
    pub(crate) length: u64,
    /// The offsets that lie there.
    pub(crate) first: u64,
    pub(crate) end: u64,
    /// The header is bad, so the number of messages is only known to be at most `end - first`.
    pub(crate) header: bool,
}

/// Bytes behind the end that were once on their way to be promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Torn {
    pub(crate) position: u64,
    /// Bytes, from the first that was recognised to the end of the last.
    pub(crate) length: u64,
    /// How many messages were on their way, as far as headers tell.
    pub(crate) messages: u64,
}

impl Verdict {
    /// Says that the log ends at the mark.
    pub(crate) fn at_mark(start: &Start) -> Self {
        let LogMark { position, next, messages, .. } = start.mark;
        Self { position, next, messages, about: start.about, bound: position, ..Self::default() }
    }
}

/// Tells whether a valid batch stands where a closed log should end.
pub(crate) fn goes_on(file: &Arc<dyn File>, start: &Start) -> std::io::Result<bool> {
    let expected =
        Expected { salt: start.salt, base: start.mark.next, reserved: Offset::LIMIT, limit: start.capacity };
    let here = scan::look(&mut Window::new(file.clone()), start.mark.position, &expected)?;
    Ok(matches!(here, Here::Good(_)))
}

/// Walks the active segment from the mark to its end.
pub(crate) fn walk(file: &Arc<dyn File>, start: &Start) -> std::io::Result<Verdict> {
    let mut window = Window::new(file.clone());
    let mut walk = Walk {
        window: &mut window,
        expected: Expected {
            salt: start.salt,
            base: start.mark.next,
            reserved: start.mark.reserved,
            limit: start.capacity,
        },
        verdict: Verdict::at_mark(start),
    };
    walk.good_batches()?;
    walk.raise_bound()?;
    while walk.verdict.position < walk.verdict.bound {
        walk.pass_damage()?;
        walk.good_batches()?;
    }
    walk.look_behind()?;
    Ok(walk.verdict)
}

struct Walk<'a> {
    window: &'a mut Window,
    expected: Expected,
    verdict: Verdict,
}

impl Walk<'_> {
    /// Takes batches as long as each is good.
    fn good_batches(&mut self) -> std::io::Result<()> {
        while let Here::Good(header) = self.look()? {
            let tags = scan::tags(self.window, self.verdict.position, &header)?;
            self.verdict.about.add(header.time, tags);
            self.take(&header);
        }
        Ok(())
    }

    fn look(&mut self) -> std::io::Result<Here> {
        scan::look(self.window, self.verdict.position, &self.expected)
    }

    fn take(&mut self, header: &BatchHeader) {
        self.verdict.bound = self.verdict.bound.max(header.mark);
        self.verdict.position += header.length();
        self.verdict.messages += u64::from(header.messages());
        self.verdict.next = header.end();
        self.expected.base = header.end();
    }

    /// Looks at everything behind for a higher mark. Only batches that are good all through count.
    fn raise_bound(&mut self) -> std::io::Result<()> {
        let mut from = self.verdict.position;
        while let Some((at, _)) = scan::next_header(self.window, from, &self.expected)? {
            from = match scan::look(self.window, at, &self.expected)? {
                Here::Good(header) => {
                    self.verdict.bound = self.verdict.bound.max(header.mark);
                    at + header.length()
                }
                Here::BadBody(_) | Here::Nothing => at + crate::format::ALIGNMENT,
            };
        }
        Ok(())
    }

    /// Passes one piece of damage below the bound.
    fn pass_damage(&mut self) -> std::io::Result<()> {
        let position = self.verdict.position;
        let first = self.verdict.next;
        if let Here::BadBody(header) = self.look()? {
            self.verdict.damages.push(Damage {
                position,
                length: header.length(),
                first: header.base,
                end: header.end(),
                header: false,
            });
            self.take(&header);
            return Ok(());
        }
        let next = scan::next_header(self.window, position + crate::format::ALIGNMENT, &self.expected)?;
        // With nothing behind it below the bound, the messages that are gone are all that could have
        // been there: up to the batch that proves the bound, and never up to a reserve, which of an
        // older manifest nobody knows.
        let (behind, end) = next
            .map_or((self.verdict.bound, first), |(at, header)| (at.min(self.verdict.bound), header.base));
        self.verdict.damages.push(Damage { position, length: behind - position, first, end, header: true });
        self.verdict.position = behind;
        self.verdict.next = end;
        self.verdict.messages += end - first;
        self.expected.base = end;
        Ok(())
    }

    /// Finds what was on its way behind the end: a good header over a bad body, a valid batch
    /// behind an invalid one, a bad header right at the end that tells a base which was to come.
    /// Other bytes are what an earlier use of the blocks left: nothing.
    fn look_behind(&mut self) -> std::io::Result<()> {
        let mut from = self.verdict.position;
        if let Some(header) = scan::remains(self.window, from, &self.expected)? {
            self.verdict.torn = Some(Torn {
                position: from,
                length: header.length().min(self.expected.limit - from),
                messages: u64::from(header.records)
                    .min(self.expected.reserved.saturating_sub(self.expected.base)),
            });
        }
        while let Some((at, header)) = scan::next_header(self.window, from, &self.expected)? {
            let end = at + header.length();
            let torn = self.verdict.torn.get_or_insert(Torn { position: at, length: 0, messages: 0 });
            torn.length = torn.length.max(end - torn.position);
            torn.messages += u64::from(header.messages());
            from = match scan::look(self.window, at, &self.expected)? {
                Here::Good(_) => end,
                Here::BadBody(_) | Here::Nothing => at + crate::format::ALIGNMENT,
            };
        }
        Ok(())
    }
}
