//! How is one message told from the next on a stream of bytes?
//!
//! ```text
//!   u32 length of the body · u32 checksum over the length and the body · body
//! ```
//!
//! A length is compared with the limit before anything is kept for it, and memory grows with the bytes that
//! have come, never with the length that was told.

use crate::format::{checksum, u32_at};

/// Bytes in front of a body.
pub(crate) const HEAD: usize = 8;
/// Bytes of the longest body: the longest message, and what is said about it.
pub(crate) const LIMIT: usize = (512 << 20) + (1 << 20);
/// What a buffer keeps of its memory once it is empty.
const KEPT: usize = 64 << 10;

/// Appends a body with its head.
pub(crate) fn put(out: &mut Vec<u8>, body: &[u8]) {
    let length = u32::try_from(body.len()).expect("bodies are below the limit").to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum_of(&length, body).to_le_bytes());
    out.extend_from_slice(body);
}

fn checksum_of(length: &[u8], body: &[u8]) -> u32 {
    // Two checksums rather than a copy of both.
    checksum(body) ^ checksum(length)
}

/// Bytes that came and were not yet taken.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    taken: usize,
}

impl Incoming {
    /// Appends what came.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next body, once it is whole.
    ///
    /// # Errors
    /// What is wrong with it: nothing behind it can be believed either.
    pub(crate) fn next(&mut self, limit: usize) -> Result<Option<Vec<u8>>, String> {
        let waiting = &self.bytes[self.taken..];
        let Some(head) = waiting.get(..HEAD) else {
            self.tidy();
            return Ok(None);
        };
        let length = u32_at(head, 0) as usize;
        if length > limit {
            return Err(format!("a frame of {length} bytes, over the limit of {limit}"));
        }
        let Some(body) = waiting[HEAD..].get(..length) else {
            self.tidy();
            return Ok(None);
        };
        if checksum_of(&head[..4], body) != u32_at(head, 4) {
            return Err(format!("a frame of {length} bytes does not pass its checksum"));
        }
        let body = body.to_vec();
        self.taken += HEAD + length;
        Ok(Some(body))
    }

    /// Returns how many bytes it takes.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn weight(&self) -> usize {
        self.bytes.capacity()
    }

    /// Lets go of what was taken.
    fn tidy(&mut self) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEPT);
        }
    }
}

/// Bytes that are to be sent and were not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    taken: usize,
}

impl Outgoing {
    /// Appends a body with its head.
    pub(crate) fn put(&mut self, body: &[u8]) {
        put(&mut self.bytes, body);
    }

    /// Returns what is to be sent.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Returns how many bytes it takes.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn weight(&self) -> usize {
        self.bytes.capacity()
    }

    /// Notes that so many bytes of it were sent.
    pub(crate) fn sent(&mut self, count: usize) {
        self.taken += count;
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            self.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_out_as_they_went_in_however_the_stream_is_cut() {
        let bodies: [&[u8]; 3] = [b"", b"one", &[7; 3000]];
        let mut stream = Vec::new();
        bodies.iter().for_each(|body| put(&mut stream, body));
        for piece in [1, 2, 7, 4096] {
            let mut outgoing = Outgoing::default();
            bodies.iter().for_each(|body| outgoing.put(body));
            let mut sent = Vec::new();
            while let Some(next) = outgoing.waiting().chunks(piece).next().map(<[u8]>::to_vec) {
                outgoing.sent(next.len());
                sent.extend(next);
            }
            assert_eq!(sent, stream);
            let mut incoming = Incoming::default();
            let mut found = Vec::new();
            for part in stream.chunks(piece) {
                incoming.add(part);
                while let Some(body) = incoming.next(LIMIT).unwrap() {
                    found.push(body);
                }
            }
            assert_eq!(found, bodies);
            assert!(incoming.bytes.is_empty());
        }
    }

    #[test]
    fn a_flipped_bit_is_found_and_a_length_over_the_limit_refused() {
        let mut stream = Vec::new();
        put(&mut stream, b"body");
        for bit in 0..stream.len() * 8 {
            let mut bad = stream.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let mut incoming = Incoming::default();
            incoming.add(&bad);
            match incoming.next(64) {
                Ok(None) | Err(_) => {}
                Ok(Some(body)) => panic!("bit {bit}: {body:?}"),
            }
        }
        let mut incoming = Incoming::default();
        incoming.add(&u32::MAX.to_le_bytes());
        incoming.add(&[0; 4]);
        assert!(incoming.next(LIMIT).unwrap_err().contains("over the limit"));
    }
}
