//! What is a message that was read, and does its record pass its checksum?

use std::ops::Range;
use std::sync::Arc;

use super::Log;
use crate::error::{Error, Result};
use crate::format::{batch, checksum, names};
use crate::storage::{Access, read_up_to};

/// Bytes of a segment, private to this process.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
}

/// A segment and a position in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) position: u64,
}

impl Place {
    pub(crate) fn pair(self) -> (u64, u64) {
        (self.segment, self.position)
    }
}

/// A message, not yet checked.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) offset: u64,
    /// Milliseconds since 1970.
    pub(crate) time: u64,
    /// Where its batch begins.
    pub(crate) place: Place,
    /// Where the record itself begins.
    pub(crate) position: u64,
    pub(super) block: Arc<Block>,
    pub(super) record: Range<usize>,
    pub(super) checksum: u32,
    pub(super) attributes: bool,
}

impl Message {
    /// Returns the record's bytes if they pass their checksum.
    pub(crate) fn record(&self) -> Option<&[u8]> {
        let bytes = self.block.bytes.get(self.record.clone())?;
        (checksum(bytes) == self.checksum).then_some(bytes)
    }

    /// Tells whether the record passes its checksum; reads it once more before it says no.
    ///
    /// # Errors
    /// When the disk refuses, and as [`Log::check_promised`].
    pub(crate) fn check(&mut self, log: &Log) -> Result<bool> {
        let good = self.record().is_some() || self.read_again(log)?;
        if !good {
            log.check_promised(self.offset, self.place.segment)?;
        }
        Ok(good)
    }

    /// Reads the record once more into a block of its own; tells whether it passes its checksum now:
    /// the cache may have healed, and its verdict is not kept.
    ///
    /// # Errors
    /// When the disk refuses.
    fn read_again(&mut self, log: &Log) -> Result<bool> {
        let name = names::segment(self.place.segment);
        let failed = |error| Error::io("read", log.storage.root().join(&name), error);
        let file = log.storage.open(&name, Access::Read).map_err(failed)?;
        let mut bytes = vec![0; self.record.len()];
        let got = read_up_to(&*file, &mut bytes, self.position).map_err(failed)?;
        bytes.truncate(got);
        self.record = 0..self.record.len();
        self.block = Arc::new(Block { bytes });
        Ok(self.record().is_some())
    }

    /// Returns the bytes of the record.
    pub(crate) fn length(&self) -> u64 {
        self.record.len() as u64
    }

    /// Returns the checksum that the record was born with.
    pub(crate) fn checksum(&self) -> u32 {
        self.checksum
    }

    /// Tells whether the record begins with a list of attributes.
    pub(crate) fn has_attributes(&self) -> bool {
        self.attributes
    }

    /// Says that the record does not pass its checksum.
    pub(crate) fn damaged(&self, log: &Log) -> Error {
        Error::Damaged {
            path: log.path(self.place.segment),
            position: self.position,
            offsets: Some(self.offset..self.offset + 1),
            problem: "the record does not pass its checksum".into(),
        }
    }

    /// Returns where payload and attributes lie in the block. Of a record that was not checked it is
    /// hearsay.
    pub(crate) fn parts(&self) -> Option<(Range<usize>, Range<usize>)> {
        let bytes = self.block.bytes.get(self.record.clone())?;
        let (list, payload) = batch::split_record(self.attributes, bytes)?;
        let payload = self.record.end - payload.len()..self.record.end;
        Some((payload.start - list.len()..payload.start, payload))
    }

    /// Returns bytes of the block.
    pub(crate) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.block.bytes[range.clone()]
    }
}

impl Message {
    /// Makes a message of what another process read. It is checked by whoever uses it.
    pub(crate) fn received(
        offset: u64,
        time: u64,
        place: Place,
        position: u64,
        record: Vec<u8>,
        checksum: u32,
        attributes: bool,
    ) -> Self {
        let block = Arc::new(Block { bytes: record });
        let record = 0..block.bytes.len();
        Self { offset, time, place, position, block, record, checksum, attributes }
    }
}
