//! How is a file read on behind what its device cannot read?

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::storage::{File, Mapping};

/// Bytes that are given up together where the device reports a failure.
const PIECE: u64 = 4096;

/// A file whose unreadable pieces read as zeros: those pass no checksum.
#[derive(Debug)]
pub(super) struct Lenient {
    file: Arc<dyn File>,
    /// Behind the first piece that could not be read; 0 while all could.
    bad: AtomicU64,
}

impl Lenient {
    pub(super) fn new(file: Arc<dyn File>) -> Self {
        Self { file, bad: AtomicU64::new(0) }
    }

    /// Returns the first position that could not be read.
    pub(super) fn bad(&self) -> Option<u64> {
        self.bad.load(Ordering::Relaxed).checked_sub(1)
    }
}

impl File for Lenient {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match self.file.read_at(buffer, position) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {}
            other => return other,
        }
        // Up to the end of one piece: the next call goes on behind it.
        let piece = usize::try_from(PIECE - position % PIECE).unwrap_or(usize::MAX).min(buffer.len());
        let piece = &mut buffer[..piece];
        match self.file.read_at(piece, position) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                // A device that is gone fails for ever: the file ends where it is said to.
                let left = self.file.len()?.saturating_sub(position);
                let got = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                piece[..got].fill(0);
                if got > 0 {
                    let first = |known: u64| (known == 0).then_some(position + 1);
                    // Which of two is told makes no difference.
                    let _ = self.bad.fetch_update(Ordering::Relaxed, Ordering::Relaxed, first);
                }
                Ok(got)
            }
            other => other,
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(ErrorKind::PermissionDenied.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }

    fn check_name(&self) -> io::Result<()> {
        self.file.check_name()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, _: Range<u64>) -> io::Result<Option<Box<dyn Mapping>>> {
        Ok(None)
    }
}
