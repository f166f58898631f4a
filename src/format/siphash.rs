//! Which 128 bits stand for a key?
//!
//! SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012): keyed, so that who chooses the
//! bytes cannot choose two that meet. `std` has none whose output is promised to stay the same.

use super::u64_at;

/// Hashes bytes under a key; the key's and the output's low half come first.
pub(crate) fn siphash(key: u128, bytes: &[u8]) -> u128 {
    let (low, high) = halves(key);
    let mut state = State([
        low ^ 0x736f_6d65_7073_6575,
        high ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        low ^ 0x6c79_6765_6e65_7261,
        high ^ 0x7465_6462_7974_6573,
    ]);
    let words = bytes.chunks_exact(8);
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    // The low byte of the length, as the function is defined.
    last[7] = bytes.len().to_le_bytes()[0];
    for word in words {
        state.take(u64_at(word, 0));
    }
    state.take(u64_at(&last, 0));
    state.0[2] ^= 0xee;
    let low = state.finish();
    state.0[1] ^= 0xdd;
    u128::from(state.finish()) << 64 | u128::from(low)
}

#[expect(clippy::cast_possible_truncation, reason = "halves are what is wanted")]
const fn halves(key: u128) -> (u64, u64) {
    (key as u64, (key >> 64) as u64)
}

struct State([u64; 4]);

impl State {
    fn take(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }

    fn finish(&mut self) -> u64 {
        for _ in 0..4 {
            self.round();
        }
        self.0.iter().fold(0, |sum, word| sum ^ word)
    }

    fn round(&mut self) {
        let [a, b, c, d] = &mut self.0;
        *a = a.wrapping_add(*b);
        *c = c.wrapping_add(*d);
        *b = b.rotate_left(13) ^ *a;
        *d = d.rotate_left(16) ^ *c;
        *a = a.rotate_left(32).wrapping_add(*d);
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *d = d.rotate_left(21) ^ *a;
        *c = c.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the authors' `vectors.h`: key 00 01 … 0f, input 00 01 … of the length in front.
    #[test]
    fn the_reference_vectors_come_out() {
        let key = u128::from_le_bytes(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        let expected: [(usize, u128); 6] = [
            (0, 0x9302_55c7_1472_f66d_e6a8_25ba_047f_81a3),
            (1, 0x45fc_229b_1159_7634_44af_996b_d8c1_87da),
            (2, 0xe4ff_0af6_de8b_a3fc_c75d_a4a4_8d22_7781),
            (3, 0x51ed_8529_b0b6_335f_4ea9_6752_0cb6_709c),
            (4, 0x7955_cd7b_7c6e_0f7d_af8f_9c2d_c164_81f8),
            (15, 0xd9c3_cf97_0fec_087e_11a8_b033_99e9_9354),
        ];

        for (length, sum) in expected {
            let input: Vec<u8> = (0..u8::try_from(length).unwrap()).collect();
            assert_eq!(siphash(key, &input), sum, "{length} bytes");
        }
    }

    #[test]
    fn another_key_gives_another_sum() {
        assert_ne!(siphash(1, b"signup-7"), siphash(2, b"signup-7"));
    }
}
