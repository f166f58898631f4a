//! Which half holds, as far as the header pages can tell? Pure.

use crate::format::header::Page;

/// What the pages tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The half that holds if its snapshot is good.
    pub(super) newest: usize,
    /// Whether the other one holds if it is not: then nothing proves that the newest half was ever
    /// whole, and it is a switch that was cut short.
    pub(super) may_be_torn: bool,
}

/// Why no half can hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The half was whole once.
    Damaged { half: usize, problem: String },
    /// The half is not the file that was there.
    Refused { half: usize, problem: String },
}

/// A header page, or what is wrong with it.
pub(super) type Read = Result<Page, String>;

/// Decides by the pages of both halves and the generation that the manifest tells: the newest whose
/// switch was complete when it was written.
pub(super) fn decide(pages: [&Read; 2], manifest: u64) -> Result<Verdict, Fault> {
    match pages {
        [Ok(first), Ok(second)] => both(first, second, manifest),
        [Ok(page), Err(problem)] => alone(0, page, problem, manifest),
        [Err(problem), Ok(page)] => alone(1, page, problem, manifest),
        [Err(problem), Err(_)] => Err(Fault::Damaged { half: 0, problem: problem.clone() }),
    }
}

/// Decides where the page of the other half cannot be read.
fn alone(half: usize, page: &Page, problem: &str, manifest: u64) -> Result<Verdict, Fault> {
    let generation = page.header.generation();
    // Only a half that nothing has superseded can hold, and only a switch that was never complete
    // leaves it so: then the manifest does not know of it either.
    let known = page.superseded.or((generation < manifest).then_some(manifest));
    match known {
        Some(newer) => {
            let problem =
                format!("{problem}; it held generation {newer}, which the other half does not have");
            Err(Fault::Damaged { half: 1 - half, problem })
        }
        None => Ok(Verdict { newest: half, may_be_torn: false }),
    }
}

fn both(first: &Page, second: &Page, manifest: u64) -> Result<Verdict, Fault> {
    let pages = [first, second];
    let [zero, one] = pages.map(|page| page.header.generation());
    let newest = usize::from(one > zero);
    let older = 1 - newest;
    let [new, old] = [newest, older].map(|half| pages[half].header.generation());
    let put_back = |half: usize, expected: u64| {
        let found = [zero, one][half];
        let problem =
            format!("is an older file that was put back: expected generation {expected}, found {found}");
        Err(Fault::Refused { half, problem })
    };
    if new == old {
        let problem = format!("has generation {new}, as the other half does: one is a copy of an older file");
        return Err(Fault::Refused { half: newest, problem });
    }
    if let Some(by) = pages[newest].superseded {
        return put_back(older, by);
    }
    if new < manifest {
        return put_back(newest, manifest);
    }
    match pages[older].superseded {
        Some(by) if by > new => put_back(newest, by),
        Some(by) if by < new => put_back(older, by),
        Some(_) => Ok(Verdict { newest, may_be_torn: false }),
        // What the manifest knows was complete, whatever has become of the older half since.
        None if new == manifest => Ok(Verdict { newest, may_be_torn: false }),
        // The newest half is one step ahead of the manifest or more; the one before it cannot be
        // behind the manifest.
        None if old < manifest => put_back(older, manifest),
        None => Ok(Verdict { newest, may_be_torn: true }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offsets::shape::{Owner, Shape};

    /// A page of a generation, and what it says supersedes it.
    fn page(generation: u64, superseded: Option<u64>) -> Read {
        let owner = Owner { queue: 1, name: "g".into(), incarnation: 2 };
        let shape = Shape { generation, snapshot: 100, entries: 8192, length: 1 << 17 };
        Ok(Page { header: owner.header(7, 0, shape), wounded: false, superseded })
    }

    fn bad() -> Read {
        Err("bad".into())
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Said {
        /// The half with that page holds.
        First,
        /// So it does, unless its snapshot is bad.
        FirstUnlessTorn,
        /// An older file was put back in place of the first, or of the second.
        FirstIsOlder,
        SecondIsOlder,
        /// The half that was there is bad.
        SecondIsBad,
    }

    fn say(verdict: Result<Verdict, Fault>, first: usize) -> Said {
        match verdict {
            Ok(Verdict { newest, may_be_torn }) => {
                assert_eq!(newest, first);
                if may_be_torn { Said::FirstUnlessTorn } else { Said::First }
            }
            Err(Fault::Refused { half, .. }) if half == first => Said::FirstIsOlder,
            Err(Fault::Refused { .. }) => Said::SecondIsOlder,
            Err(Fault::Damaged { half, .. }) => {
                assert_eq!(half, 1 - first);
                Said::SecondIsBad
            }
        }
    }

    #[test]
    fn the_newest_half_whose_switch_was_complete_holds() {
        use Said::{First, FirstIsOlder, FirstUnlessTorn, SecondIsBad, SecondIsOlder};
        let cases = [
            // As every switch leaves it, the manifest knowing of it or not.
            (page(5, None), page(4, Some(5)), 4, First),
            (page(5, None), page(4, Some(5)), 5, First),
            // Amid a switch: nothing says yet that the newer one was whole.
            (page(5, None), page(4, None), 4, FirstUnlessTorn),
            // The manifest says so.
            (page(5, None), page(4, None), 5, First),
            // Only half there at the birth of a group, or once its own page is bad.
            (page(5, None), bad(), 5, First),
            (page(5, None), bad(), 4, First),
            // The page that is bad is that of the half that held.
            (page(5, Some(6)), bad(), 5, SecondIsBad),
            (page(5, None), bad(), 6, SecondIsBad),
            // The manifest, or what the halves say of each other, knows of a newer file.
            (page(5, None), page(4, Some(5)), 6, FirstIsOlder),
            (page(5, None), page(4, Some(7)), 5, FirstIsOlder),
            (page(5, None), page(2, Some(3)), 5, SecondIsOlder),
            (page(5, Some(6)), page(4, Some(5)), 5, SecondIsOlder),
            (page(5, None), page(3, None), 4, SecondIsOlder),
        ];
        for (first, second, manifest, said) in cases {
            assert_eq!(say(decide([&first, &second], manifest), 0), said, "{first:?} {second:?} {manifest}");
            assert_eq!(say(decide([&second, &first], manifest), 1), said, "{first:?} {second:?} {manifest}");
        }
    }

    #[test]
    fn two_halves_of_one_generation_are_refused_and_two_bad_pages_are_damage() {
        let twice = decide([&page(5, None), &page(5, None)], 5);
        assert!(matches!(twice, Err(Fault::Refused { .. })), "{twice:?}");
        let bad = decide([&bad(), &bad()], 5);
        assert!(matches!(bad, Err(Fault::Damaged { .. })), "{bad:?}");
    }
}
