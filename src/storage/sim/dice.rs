//! What does chance decide, from one seed?

/// A small generator (splitmix64): the same seed gives the same crash on every machine.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    state: u64,
}

/// How likely a crash keeps something, in 256ths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Luck {
    pub(super) sectors: u64,
    pub(super) lengths: u64,
    pub(super) names: u64,
    /// How likely something kept is not the last state of it but one before.
    pub(super) earlier: u64,
}

const ALWAYS: u64 = 256;

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn chance(&mut self, of_256: u64) -> bool {
        self.next() % ALWAYS < of_256
    }

    /// Chooses one of `count` earlier states, or the last one.
    pub(super) fn earlier(&mut self, count: usize, luck: Luck) -> Option<usize> {
        if count == 0 || !self.chance(luck.earlier) {
            return None;
        }
        usize::try_from(self.next() % count as u64).ok()
    }

    /// Chooses the luck of one crash: 0 keeps nothing, 1 keeps all, any other seed mixes.
    pub(super) fn luck(&mut self, seed: u64) -> Luck {
        if seed < 2 {
            let all = seed * ALWAYS;
            return Luck { sectors: all, lengths: all, names: all, earlier: 0 };
        }
        Luck {
            sectors: self.likelihood(),
            lengths: self.likelihood(),
            names: self.likelihood(),
            earlier: self.next() % 128,
        }
    }

    /// Returns the luck of a crash that keeps all content or none, and all names or none.
    pub(super) fn apart(content: bool, names: bool) -> Luck {
        let all = |kept: bool| if kept { ALWAYS } else { 0 };
        Luck { sectors: all(content), lengths: all(content), names: all(names), earlier: 0 }
    }

    /// Goes to the extremes often: names without data and data without names are the worst cases.
    fn likelihood(&mut self) -> u64 {
        match self.next() % 4 {
            0 => 0,
            1 => ALWAYS,
            _ => self.next() % ALWAYS,
        }
    }
}
