//! Which random numbers does a seed give, and how often is a thing tried?

/// A generator of numbers (splitmix64): the same seed, the same numbers.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    pub(crate) fn size(&mut self, end: u64) -> usize {
        usize::try_from(self.below(end)).unwrap_or(0)
    }
}

/// `BACKLOG_TIMES=10` tries ten times as much.
pub(crate) fn times() -> u64 {
    std::env::var("BACKLOG_TIMES").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}
