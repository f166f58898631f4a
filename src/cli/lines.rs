//! How is input cut into messages, while it comes?

use std::io::{self, ErrorKind, Read};

/// Bytes asked for in one read.
const CHUNK: usize = 256 << 10;

/// Input that is cut at a byte. Holds one unfinished message at the most, so memory is bounded by
/// the longest that is allowed.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    delimiter: u8,
    longest: usize,
    bytes: Vec<u8>,
    /// Bytes of complete messages, delimiters included, in front of the unfinished one.
    complete: usize,
    /// How far the bytes behind those were looked at.
    seen: usize,
    ended: bool,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R, delimiter: u8, longest: usize) -> Self {
        Self { input, delimiter, longest, bytes: Vec::new(), complete: 0, seen: 0, ended: false }
    }

    /// Reads what there is, and returns the messages that are complete by it: with none it has not
    /// waited for more. `None` at the end.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub(super) fn read(&mut self) -> io::Result<Option<Vec<&[u8]>>> {
        if self.ended {
            return Ok(None);
        }
        self.bytes.drain(..self.complete);
        self.seen -= self.complete;
        self.complete = 0;
        let before = self.bytes.len();
        self.bytes.resize(before + CHUNK, 0);
        let got = loop {
            match self.input.read(&mut self.bytes[before..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.bytes.truncate(before + got.as_ref().map_or(0, |got| *got));
        if got? == 0 {
            self.ended = true;
            // A last line without its newline is a line.
            let rest = &self.bytes[..];
            return Ok(if rest.is_empty() { None } else { Some(vec![rest]) });
        }
        let is_delimiter = |&byte: &u8| byte == self.delimiter;
        self.complete =
            self.bytes[self.seen..].iter().rposition(is_delimiter).map_or(0, |at| self.seen + at + 1);
        self.seen = self.bytes.len();
        let Some(complete) = self.complete.checked_sub(1) else { return Ok(Some(Vec::new())) };
        Ok(Some(self.bytes[..complete].split(is_delimiter).collect()))
    }

    /// Tells whether the unfinished message is too long already.
    pub(super) fn is_too_long(&self) -> bool {
        self.bytes.len() - self.complete > self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            let (now, later) = self.0.split_at(count);
            into[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn all(input: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(Slow(input, step), b'\n', 100);
        let mut all = Vec::new();
        while let Some(some) = lines.read().unwrap() {
            all.extend(some.into_iter().map(<[u8]>::to_vec));
        }
        all
    }

    #[test]
    fn lines_are_the_same_however_the_input_comes() {
        for step in [1, 2, 3, 7, 100] {
            assert_eq!(all(b"a\n\nbc\r\nlast", step), [&b"a"[..], b"", b"bc\r", b"last"], "{step}");
            assert_eq!(all(b"a\n", step), [b"a"], "{step}");
            assert_eq!(all(b"\n", step), [b""], "{step}");
            assert!(all(b"", step).is_empty());
        }
    }

    #[test]
    fn a_line_is_too_long_before_it_ends() {
        let mut lines = Lines::new(Slow(&[b'x'; 20], 6), b'\n', 10);

        assert_eq!(lines.read().unwrap().unwrap().len(), 0);
        assert!(!lines.is_too_long());
        assert_eq!(lines.read().unwrap().unwrap().len(), 0);
        assert!(lines.is_too_long());
    }
}
