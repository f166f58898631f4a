//! Is this still the process that it was?
//!
//! A forked child has all of the parent's memory and files, and none of its threads: a lock that one
//! of them held is never given back. A page that the kernel wipes in each child (`MADV_WIPEONFORK`)
//! tells so for the price of a load; asking for the process id is a system call, and done only where
//! there is no such page.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::MmapMut;
use rustix::mm::{Advice, madvise};

/// The page's first word: the number of this process, 0 in a child that has not asked yet.
static WORD: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();
/// The next number. A child goes on from its parent's, so no two of one line have the same.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A process, told from its forked children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// Returns this process.
    #[inline]
    pub(crate) fn this() -> Self {
        match WORD.get_or_init(word) {
            Some(word) => Self(number(word)),
            None => Self(std::process::id()),
        }
    }

    /// Tells whether this is that process, and no fork of it.
    #[inline]
    pub(crate) fn is_this(self) -> bool {
        self == Self::this()
    }
}

/// Something that each process has of its own, and each fork anew: a lock of its parent's may be held for ever
/// there, and the parent's threads are not there.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    process: OnceLock<Process>,
    value: OnceLock<T>,
    /// That of the child that was forked.
    child: OnceLock<Box<Self>>,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self { process: OnceLock::new(), value: OnceLock::new(), child: OnceLock::new() }
    }

    /// Returns that of this process; makes it the first time.
    pub(crate) fn get(&self, make: impl FnOnce() -> T) -> &T {
        let this = Process::this();
        let mut line = self;
        while *line.process.get_or_init(|| this) != this {
            line = line.child.get_or_init(|| Box::new(Self::new()));
        }
        line.value.get_or_init(make)
    }
}

#[inline]
fn number(word: &AtomicU32) -> u32 {
    match word.load(Ordering::Relaxed) {
        0 => name(word),
        number => number,
    }
}

#[cold]
fn name(word: &AtomicU32) -> u32 {
    let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
    // Another thread may have been faster.
    word.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed)
        .map_or_else(|there| there, |_| fresh)
}

/// Makes the page; `None` where the kernel cannot wipe it.
fn word() -> Option<&'static AtomicU32> {
    // For as long as the process lives.
    let map = Box::leak(Box::new(MmapMut::map_anon(size_of::<AtomicU32>()).ok()?));
    let start = map.as_mut_ptr();
    // SAFETY: the page is an anonymous private mapping of our own, and the advice changes nothing in
    // this process: in a child the page begins as zeros.
    unsafe { madvise(start.cast(), map.len(), Advice::LinuxWipeOnFork) }.ok()?;
    // SAFETY: a page is aligned for it, is never unmapped, and is accessed through this atomic alone.
    Some(unsafe { AtomicU32::from_ptr(start.cast()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_was_wiped_gets_a_number_that_no_process_before_had() {
        let word = AtomicU32::new(0);
        let parent = number(&word);

        assert_eq!(number(&word), parent);
        word.store(0, Ordering::Relaxed);
        let child = number(&word);

        assert!(child > parent, "{child} after {parent}");
        assert!(Process::this().is_this());
    }
}
