//! What is the least that has to be done to make a message durable?

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::PAYLOAD;

/// Bytes of a message: a header with a checksum, and the payload.
const MESSAGE: usize = 16 + PAYLOAD;
/// Bytes of a message among others, where each begins at a multiple of 32.
const SPACED: usize = 288;
const LENGTH: u64 = 64 << 20;

/// A file of written blocks, overwritten from one end to the other.
pub(crate) struct Raw {
    file: File,
    at: u64,
    buffer: Vec<u8>,
}

impl Raw {
    pub(crate) fn new(folder: &Path) -> Self {
        let path = folder.join("raw");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
        let zeros = vec![0; 64 << 10];
        for at in (0..LENGTH).step_by(zeros.len()) {
            file.write_all_at(&zeros, at).unwrap();
        }
        file.sync_all().unwrap();
        Self { file, at: 0, buffer: Vec::new() }
    }

    /// Writes one message.
    pub(crate) fn one(&mut self, payload: &[u8]) {
        self.buffer.clear();
        self.put(payload);
        self.write(MESSAGE);
    }

    /// Writes many messages at once.
    pub(crate) fn many(&mut self, payload: &[u8], count: usize) {
        self.buffer.clear();
        for index in 1..=count {
            self.put(payload);
            self.buffer.resize(index * SPACED, 0);
        }
        self.write(count * SPACED);
    }

    pub(crate) fn sync(&self) {
        self.file.sync_data().unwrap();
    }

    fn put(&mut self, payload: &[u8]) {
        self.buffer.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
        self.buffer.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        self.buffer.extend_from_slice(&self.at.to_le_bytes());
        self.buffer.extend_from_slice(payload);
    }

    fn write(&mut self, length: usize) {
        if self.at + length as u64 > LENGTH {
            self.at = 0;
        }
        self.file.write_all_at(&self.buffer, self.at).unwrap();
        self.at += length as u64;
    }
}
