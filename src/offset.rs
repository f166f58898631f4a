//! What is the number of a message, and how do numbers of one push go together?

use std::fmt;

/// Numbers a message within its queue: 48 bits, growing, with gaps.
///
/// A number that anybody was told is never given twice. Because of the gaps the distance of two
/// offsets says nothing about how many messages lie between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// The first number that is not an offset any more, 2⁴⁸.
    pub(crate) const LIMIT: u64 = 1 << 48;

    /// The lowest offset.
    pub const MIN: Self = Self(0);

    /// Makes an offset from its number; `None` from 2⁴⁸ on.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number < Self::LIMIT { Some(Self(number)) } else { None }
    }

    /// Wraps a number that was checked where it came from.
    pub(crate) const fn known(number: u64) -> Self {
        debug_assert!(number < Self::LIMIT);
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The offsets that one push was given, in order; an iterator.
///
/// Within one push there are no gaps. Prints as `FIRST..END`, the end not included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    next: u64,
    end: u64,
}

impl Offsets {
    pub(crate) const fn new(first: u64, end: u64) -> Self {
        debug_assert!(first <= end && end <= Offset::LIMIT);
        Self { next: first, end }
    }

    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// Returns the first offset that is left; `None` for an empty push.
    #[must_use]
    pub fn first(&self) -> Option<Offset> {
        (self.next < self.end).then_some(Offset(self.next))
    }

    /// Returns the last offset that is left; `None` for an empty push.
    #[must_use]
    pub fn last(&self) -> Option<Offset> {
        (self.next < self.end).then(|| Offset(self.end - 1))
    }
}

impl Iterator for Offsets {
    type Item = Offset;

    fn next(&mut self) -> Option<Offset> {
        let first = self.first()?;
        self.next += 1;
        Some(first)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Offsets {}

impl fmt::Display for Offsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.next, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_one_push_have_no_gaps() {
        let offsets = Offsets::new(7, 10);

        assert_eq!(offsets.to_string(), "7..10");
        assert_eq!(offsets.len(), 3);
        assert_eq!(offsets.map(Offset::get).collect::<Vec<_>>(), [7, 8, 9]);
    }

    #[test]
    fn an_offset_has_48_bits() {
        assert_eq!(Offset::new(Offset::LIMIT), None);
        assert_eq!(Offset::new(Offset::LIMIT - 1).map(Offset::get), Some(Offset::LIMIT - 1));
    }
}
