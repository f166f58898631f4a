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
use crate::format::index::PERHAPS;
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
    /// Up to where it was known durable when it was written.
    pub(crate) durable: u64,
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
        Self { position, next, messages, about: start.about, durable: position, ..Self::default() }
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
        bound: start.mark.position,
        verdict: Verdict::at_mark(start),
    };
    walk.good_batches()?;
    walk.raise_bound()?;
    while walk.verdict.position < walk.bound {
        walk.pass_damage()?;
        walk.good_batches()?;
    }
    walk.look_behind()?;
    walk.verdict.durable = walk.bound;
    Ok(walk.verdict)
}

struct Walk<'a> {
    window: &'a mut Window,
    expected: Expected,
    /// How far the segment was known durable: the highest mark found so far.
    bound: u64,
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
        self.bound = self.bound.max(header.mark);
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
                    self.bound = self.bound.max(header.mark);
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
            let (length, first, end) = (header.length(), header.base, header.end());
            self.verdict.damages.push(Damage { position, length, first, end, header: false });
            if header.attributes() {
                // Of its records some may be good, and have any of these.
                self.verdict.about.tags |= PERHAPS;
            }
            self.take(&header);
            return Ok(());
        }
        let next = scan::next_header(self.window, position + crate::format::ALIGNMENT, &self.expected)?;
        // With nothing behind it below the bound, the messages that are gone are all that could have
        // been there: up to the batch that proves the bound, and never up to a reserve, which of an
        // older manifest nobody knows.
        let (behind, end) =
            next.map_or((self.bound, first), |(at, header)| (at.min(self.bound), header.base));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::PAGE_POSITION;
    use crate::format::batch::{Encoded, HEADER, Record, Stamp};
    use crate::format::record::{Tag, put};
    use crate::storage::sim::SimDisk;
    use crate::storage::{Access, Storage};

    const SALT: u32 = 7;
    const RESERVED: u64 = 1000;
    const CAPACITY: usize = 64 << 10;

    /// A segment, as bytes, into which batches are laid one behind the other.
    struct Image {
        bytes: Vec<u8>,
        end: u64,
    }

    impl Image {
        fn new() -> Self {
            Self { bytes: vec![0; CAPACITY], end: PAGE_POSITION }
        }

        /// Lays a batch behind the last one, of `count` messages of 100 bytes; returns where it begins.
        fn lay(&mut self, base: u64, count: usize, mark: u64) -> u64 {
            let records = vec![Record { attributes: &[], payload: &[1; 100], tags: 0 }; count];
            self.lay_records(base, &records, base, mark)
        }

        fn lay_records(&mut self, base: u64, records: &[Record<'_>], time: u64, mark: u64) -> u64 {
            let position = self.end;
            let mut batch = Encoded::new(records).unwrap();
            let bytes = batch.stamp(&Stamp { salt: SALT, position, base, time, mark });
            self.bytes[at(position)..][..bytes.len()].copy_from_slice(bytes);
            self.end += bytes.len() as u64;
            position
        }

        /// Makes a batch's header bad, so that nothing of it can be told.
        fn spoil_header(&mut self, position: u64) {
            self.bytes[at(position)..][..HEADER].fill(0xFF);
        }

        fn spoil_body(&mut self, position: u64) {
            self.bytes[at(position) + HEADER + 40] ^= 1;
        }

        fn file(&self) -> Arc<dyn File> {
            let disk = SimDisk::new(1);
            disk.write_file("segment", &self.bytes);
            disk.open("segment", Access::Read).unwrap()
        }

        /// Walks from the first batch on: five offsets and two messages came before it.
        fn walk(&self) -> Verdict {
            walk(&self.file(), &start()).unwrap()
        }
    }

    fn at(position: u64) -> usize {
        usize::try_from(position).unwrap()
    }

    fn start() -> Start {
        let mark = LogMark {
            segment: 1,
            position: PAGE_POSITION,
            next: 5,
            messages: 2,
            reserved: RESERVED,
            closed: false,
        };
        Start { mark, about: About::default(), salt: SALT, capacity: CAPACITY as u64 }
    }

    fn damage(position: u64, end: u64, offsets: std::ops::Range<u64>, header: bool) -> Damage {
        let (first, behind) = (offsets.start, offsets.end);
        Damage { position, length: end - position, first, end: behind, header }
    }

    #[test]
    fn the_log_ends_behind_the_last_good_batch() {
        let mut image = Image::new();
        image.lay(5, 1, PAGE_POSITION);
        image.lay(6, 3, PAGE_POSITION);
        // Offsets between batches were burnt: they are no messages.
        image.lay(20, 2, PAGE_POSITION);

        let found = image.walk();

        let about = About { first: 5, last: 20, tags: 0 };
        let (position, durable) = (image.end, PAGE_POSITION);
        let expected = Verdict { position, next: 22, messages: 8, about, durable, ..Verdict::default() };
        assert_eq!(found, expected);
    }

    #[test]
    fn times_and_tags_are_those_before_the_mark_and_behind_it() {
        let mut kind = Vec::new();
        assert!(put(&mut kind, Tag::Kind, b"email"));
        let record = Record { attributes: &kind, payload: b"x", tags: 0 };
        let mut image = Image::new();
        image.lay_records(5, &[record], 70, PAGE_POSITION);
        let about = About { first: 30, last: 60, tags: Tag::Due.bit() };
        let start = Start { about, ..start() };

        let found = walk(&image.file(), &start).unwrap();

        let expected = About { first: 30, last: 70, tags: Tag::Due.bit() | Tag::Kind.bit() };
        assert_eq!(found.about, expected);
        assert_eq!(Verdict::at_mark(&start).about, about);
    }

    #[test]
    fn a_batch_with_offsets_that_were_given_before_or_never_is_not_of_this_log() {
        for (base, counts) in [(4, false), (5, true), (RESERVED - 1, true), (RESERVED, false)] {
            let mut image = Image::new();
            image.lay(base, 1, PAGE_POSITION);

            let found = image.walk();

            assert_eq!(found.messages == 2 + 1, counts, "{base}");
            assert_eq!(goes_on(&image.file(), &start()).unwrap(), base >= 5, "{base}");
        }
    }

    #[test]
    fn a_bad_body_below_a_later_mark_is_damage_and_what_follows_counts() {
        let mut image = Image::new();
        let bad = image.lay(5, 3, PAGE_POSITION);
        let behind = image.lay(8, 1, PAGE_POSITION);
        image.lay(9, 1, behind);
        image.spoil_body(bad);

        let found = image.walk();

        assert_eq!(found.damages, [damage(bad, behind, 5..8, false)]);
        assert_eq!((found.position, found.next, found.messages), (image.end, 10, 2 + 5));
        assert_eq!(found.torn, None);
    }

    #[test]
    fn a_bad_header_below_a_later_mark_is_damage_up_to_the_next_batch() {
        let mut image = Image::new();
        image.lay(5, 1, PAGE_POSITION);
        let bad = image.lay(6, 3, PAGE_POSITION);
        let behind = image.lay(9, 1, PAGE_POSITION);
        image.lay(10, 1, behind);
        image.spoil_header(bad);

        let found = image.walk();

        assert_eq!(found.damages, [damage(bad, behind, 6..9, true)]);
        assert_eq!((found.position, found.next, found.messages), (image.end, 11, 2 + 6));
        assert_eq!(found.torn, None);
    }

    #[test]
    fn damage_with_nothing_behind_it_reaches_to_the_bound_and_to_the_batch_that_proves_it() {
        let mut image = Image::new();
        let bad = image.lay(5, 3, PAGE_POSITION);
        let bound = image.end;
        // One more, which tells how far all was durable, lies above that itself.
        image.lay(8, 1, bound);
        image.lay(9, 1, PAGE_POSITION);
        image.spoil_header(bad);
        let found = image.walk();
        assert_eq!(found.damages, [damage(bad, bound, 5..8, true)], "a batch right at the bound counts");

        // The one that tells it lies further on, over a second bad one.
        let mut image = Image::new();
        let bad = image.lay(5, 3, PAGE_POSITION);
        let bound = image.end;
        let torn = image.lay(8, 1, PAGE_POSITION);
        image.lay(9, 1, bound);
        image.spoil_header(bad);
        image.spoil_header(torn);
        let found = image.walk();

        assert_eq!(found.damages, [damage(bad, bound, 5..9, true)]);
        assert_eq!((found.position, found.next), (bound, 9));
        assert_eq!(found.messages, 2 + (9 - 5));
    }

    #[test]
    fn a_mark_counts_wherever_a_good_batch_tells_it_and_only_there() {
        // Behind a hole: a good batch, a bad one, a good one with the highest mark.
        let lay = |mark_of_bad, mark_of_last| {
            let mut image = Image::new();
            let hole = image.lay(5, 1, PAGE_POSITION);
            let second = image.lay(6, 1, PAGE_POSITION);
            let bad = image.lay(7, 1, mark_of_bad);
            image.lay(8, 1, mark_of_last);
            image.spoil_header(hole);
            image.spoil_body(bad);
            (image, hole, second, bad)
        };
        let (image, hole, second, bad) = lay(PAGE_POSITION, PAGE_POSITION);
        assert_eq!(image.walk().damages, []);
        let (image, ..) = lay(second, PAGE_POSITION);
        assert_eq!(image.walk().damages, [], "a mark is not believed that a bad body comes with");
        let (image, ..) = lay(PAGE_POSITION, second);
        let found = image.walk();
        assert_eq!(found.damages, [damage(hole, second, 5..6, true)]);
        assert_eq!(found.position, bad, "above the bound the log ends at the first bad batch");
        let (image, ..) = lay(PAGE_POSITION, bad + 136);
        let found = image.walk();
        assert_eq!(found.damages, [damage(hole, second, 5..6, true), damage(bad, bad + 136, 7..8, false)]);
        assert_eq!(found.position, image.end);
    }

    #[test]
    fn a_closed_log_goes_on_only_where_a_whole_batch_lies_at_its_end() {
        let mut image = Image::new();
        assert!(!goes_on(&image.file(), &start()).unwrap());
        let batch = image.lay(5, 1, PAGE_POSITION);
        assert!(goes_on(&image.file(), &start()).unwrap());
        image.spoil_body(batch);
        assert!(!goes_on(&image.file(), &start()).unwrap());
    }

    #[test]
    fn what_was_on_its_way_is_torn_from_its_first_byte_to_its_last() {
        let torn = |position, end: u64, messages| Some(Torn { position, length: end - position, messages });
        let mut image = Image::new();
        image.lay(5, 1, PAGE_POSITION);
        let second = image.lay(6, 3, PAGE_POSITION);
        let third = image.lay(9, 2, PAGE_POSITION);
        let end = image.end;
        let spoiled = |spoil: &dyn Fn(&mut Image)| {
            let mut image = Image { bytes: image.bytes.clone(), end };
            spoil(&mut image);
            image.walk()
        };

        // The last one.
        let found = spoiled(&|image| image.spoil_body(third));
        assert_eq!((found.position, found.torn), (third, torn(third, end, 2)));
        // One with a valid one behind it: that one goes with it.
        let found = spoiled(&|image| image.spoil_body(second));
        assert_eq!((found.position, found.torn), (second, torn(second, end, 5)));
        // A hole, then a valid one, and how many messages the hole had nobody can tell.
        let found = spoiled(&|image| image.bytes[at(second)..at(third)].fill(0));
        assert_eq!((found.position, found.torn), (second, torn(third, end, 2)));
        // Two bad bodies.
        let found = spoiled(&|image| {
            image.spoil_body(second);
            image.spoil_body(third);
        });
        assert_eq!((found.position, found.torn), (second, torn(second, end, 5)));
        // A header that tells its base still, and no more that can be believed.
        let found = spoiled(&|image| {
            image.bytes[at(third)] ^= 1;
        });
        assert_eq!((found.position, found.torn), (third, torn(third, end, 2)));
        let found = spoiled(&|image| {
            image.bytes[at(second)] ^= 1;
        });
        assert_eq!((found.position, found.torn), (second, torn(second, end, 3 + 2)));
        // Its length and its number of messages are cut to what there can be.
        let found = spoiled(&|image| {
            image.bytes[at(third) + 8..][..4].fill(0x7F);
            image.bytes[at(third) + 28..][..3].fill(0x7F);
        });
        assert_eq!(found.torn, torn(third, CAPACITY as u64, RESERVED - 9));
        // Bytes that nothing tells of are those of an earlier use: nothing.
        let found = spoiled(&|image| {
            image.spoil_header(third);
        });
        assert_eq!((found.position, found.torn), (third, None));
    }

    #[test]
    fn a_batch_inside_of_a_torn_one_does_not_make_the_torn_bytes_fewer() {
        let mut inner = Image::new();
        inner.end = PAGE_POSITION + 48;
        inner.lay(6, 1, PAGE_POSITION);
        let payload = inner.bytes[at(PAGE_POSITION) + HEADER..at(PAGE_POSITION) + 400].to_vec();
        let mut image = Image::new();
        let record = Record { attributes: &[], payload: &payload, tags: 0 };
        let outer = image.lay_records(5, &[record], 1, PAGE_POSITION);
        image.bytes[at(image.end) - 9] ^= 1;

        let found = image.walk();

        let length = image.end - outer;
        assert_eq!(found.torn, Some(Torn { position: outer, length, messages: 2 }));
    }
}
