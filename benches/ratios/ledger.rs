//! What was pushed and settled, by number, so that it outlives a process that is killed?
//!
//! Two files of a byte for each message: one for who pushes, one for who receives. Each is written before a call and
//! after it, so what a killed process left half done is known as such.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Of a push.
pub(crate) const PUSHING: u8 = 1;
pub(crate) const PUSHED: u8 = 2;
/// Of a message that is done.
pub(crate) const ACKING: u8 = 1;
pub(crate) const ACKED: u8 = 2;
/// Of a message that is stuck.
pub(crate) const STICKING: u8 = 3;
pub(crate) const STUCK: u8 = 4;

/// Why a message never becomes done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// It was pushed for next year.
    Delayed,
    /// It failed, and comes again next year.
    Nacked,
    /// It is on loan for a month.
    Timed,
}

/// Returns whether a message is one that gets stuck: one in a hundred.
pub(crate) fn stuck(number: u64) -> Option<Stuck> {
    let kinds = [Stuck::Delayed, Stuck::Nacked, Stuck::Timed];
    (number % 100 == 13).then(|| kinds[usize::try_from(number / 100 % 3).unwrap()])
}

/// Writes a message's number at both ends of a payload; one in twenty is long.
pub(crate) fn payload(number: u64) -> Vec<u8> {
    let mut payload = vec![u8::try_from(number % 251).unwrap(); length(number)];
    let end = payload.len() - 8;
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload[end..].copy_from_slice(&number.to_le_bytes());
    payload
}

fn length(number: u64) -> usize {
    if number % 20 == 7 { 4096 } else { 256 }
}

/// Returns the number in a payload, all of which was looked at.
pub(crate) fn number(found: &[u8]) -> u64 {
    let number = u64::from_le_bytes(found[..8].try_into().unwrap());
    assert!(found == payload(number), "message {number} is not what was pushed");
    number
}

/// Bytes of a message and its header.
pub(crate) fn weight(number: u64) -> u64 {
    length(number) as u64 + 32
}

/// The two files.
pub(crate) struct Ledger {
    pushed: File,
    settled: File,
}

impl Ledger {
    pub(crate) fn open(folder: &Path) -> Self {
        let open = |name| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(folder.join(name)).unwrap()
        };
        Self { pushed: open("pushed"), settled: open("settled") }
    }

    /// Notes of `count` messages from `first` on how far their push is.
    pub(crate) fn pushed(&self, first: u64, count: usize, state: u8) {
        self.pushed.write_all_at(&vec![state; count], first).unwrap();
    }

    /// Notes how far a message's end is.
    pub(crate) fn settled(&self, number: u64, state: u8) {
        self.settled.write_all_at(&[state], number).unwrap();
    }

    /// Returns how far a message's end is.
    pub(crate) fn state(&self, number: u64) -> u8 {
        let mut state = [0];
        // Behind the end of the file lies what nobody has settled.
        let _ = self.settled.read_at(&mut state, number).unwrap();
        state[0]
    }

    /// Reads all: of each message how far its push is, and its end.
    pub(crate) fn all(&self) -> Vec<(u8, u8)> {
        let length = self.pushed.metadata().unwrap().len();
        let read = |file: &File| {
            let mut bytes = vec![0; usize::try_from(length).unwrap()];
            let there = usize::try_from(file.metadata().unwrap().len().min(length)).unwrap();
            file.read_exact_at(&mut bytes[..there], 0).unwrap();
            bytes
        };
        read(&self.pushed).into_iter().zip(read(&self.settled)).collect()
    }
}
