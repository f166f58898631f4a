//! What does the writer do about a write that failed?

use super::Writer;
use crate::error::{Error, Result};
use crate::format::batch;
use crate::plant::{Plant, planted};
use crate::storage::write_all_at;

impl Writer {
    /// Takes back a write that failed: its first header is zeroed, durable, before anyone is told.
    /// Its offsets are burnt, so the batches behind it have a base below the next one. Returns the
    /// answer for those who waited.
    pub(super) fn take_back(&mut self, position: u64, cause: &std::io::Error) -> Error {
        let path = self.log.path(self.active.segment.number);
        let repeated = std::io::Error::new(cause.kind(), cause.to_string());
        if planted(Plant::NotZeroed) {
            return Error::io("write", path, repeated);
        }
        match write_all_at(&*self.active.file, &[0; batch::HEADER], position) {
            Ok(()) => match self.active.file.sync() {
                Ok(()) => Error::io("write", path, repeated),
                Err(error) => self.poison(error),
            },
            Err(error) if crate::error::is_lack_of_room(&error) => {
                self.taint = Some(position);
                Error::InDoubt { path, cause: cause.to_string() }
            }
            Err(error) => self.poison(error),
        }
    }

    /// Does what an earlier failure left undone; as long as it cannot, there is no room.
    pub(super) fn take_back_tainted(&mut self) -> Result<()> {
        let Some(position) = self.taint else { return Ok(()) };
        let path = self.log.path(self.active.segment.number);
        write_all_at(&*self.active.file, &[0; batch::HEADER], position).map_err(|error| {
            if crate::error::is_lack_of_room(&error) {
                Error::io("write", &path, error)
            } else {
                self.poison(error)
            }
        })?;
        if let Err(error) = self.active.file.sync() {
            return Err(self.poison(error));
        }
        self.taint = None;
        Ok(())
    }
}
