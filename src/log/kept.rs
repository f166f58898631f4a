//! What do side files tell whose segments are gone?
//!
//! As long as the segment is there its side file is derived, and nobody misses it. Once that is gone it is all that
//! tells of the dedup keys in it: synced before the segment goes, named by the manifest, checked as all else.

use std::sync::Arc;

use super::index::{read_head, read_rows};
use super::{Log, Segment};
use crate::error::{Error, Result};
use crate::format::index::{INDEXED, Row};
use crate::format::keep::KeptRow;
use crate::format::manifest::{About, SegmentRow};
use crate::format::names;
use crate::storage::{Access, Storage};

impl Log {
    /// Makes the side file of a sealed segment durable: what stands in it is needed when the segment is gone.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn save_side_file(self: &Arc<Self>, segment: &Arc<Segment>) -> Result<()> {
        // All of it is read: one of which a power cut took some sectors is made anew.
        self.each_row(segment, 0, |_| {})?;
        self.write_rows(segment);
        // Nobody writes it anew while it is made durable, or when others rely on it.
        self.save(segment.number, true);
        let failed = |error| Error::io("keep", self.storage.root().join(names::index(segment.number)), error);
        if self.rows_of(segment).is_none() {
            // Nothing has changed: it is tried again.
            self.save(segment.number, false);
            return Err(failed(std::io::ErrorKind::NotFound.into()));
        }
        let file = self.storage.open(&names::index(segment.number), Access::Write);
        let synced = file.and_then(|file| file.sync()).and_then(|()| self.storage.sync_dir(names::LOG));
        let synced = synced.map_err(failed);
        if synced.is_err() {
            // A second sync of it may say "ok" for bytes that are gone: the next attempt makes another file.
            self.throw_away_side_file(segment);
        }
        synced
    }

    /// Reads a side file whose segment is gone.
    ///
    /// # Errors
    /// [`Error::Damaged`], or when the disk refuses.
    pub(crate) fn kept_rows(&self, row: &KeptRow) -> Result<Vec<Row>> {
        let bad = || damaged(self.storage.root().join(names::index(row.number)));
        self.rows_of(&stand_in(row)).ok_or_else(bad)
    }

    /// Reads all rows from a side file; `None` if it is not whole.
    fn rows_of(&self, segment: &Segment) -> Option<Vec<Row>> {
        let summary = read_head(&*self.storage, self.queue, segment)?;
        let mut rows = Vec::new();
        while (rows.len() as u64) < summary.rows {
            read_rows(&*self.storage, segment, summary.rows, rows.len() as u64, &mut rows)?;
        }
        Some(rows)
    }
}

/// Checks that a side file is there that the manifest names, and is that of the segment that is gone.
///
/// # Errors
/// [`Error::Refused`], or when the disk refuses.
pub(crate) fn check(storage: &dyn Storage, queue: u128, row: &KeptRow) -> Result<()> {
    let name = names::index(row.number);
    let path = storage.root().join(&name);
    let refused = |problem: &str| Error::Refused { path: path.clone(), problem: problem.into() };
    match storage.open(&name, Access::Read) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(refused("is missing")),
        other => other.map_err(|error| Error::io("open", &path, error))?,
    };
    match read_head(storage, queue, &stand_in(row)) {
        Some(_) => Ok(()),
        None => {
            Err(refused("is not the side file it should be: its header does not fit, or it is cut short"))
        }
    }
}

/// Stands for a segment that is gone.
fn stand_in(row: &KeptRow) -> Segment {
    let about = About { first: 0, last: row.last, tags: INDEXED };
    let of =
        SegmentRow { number: row.number, length: row.length, salt: row.salt, about, ..SegmentRow::default() };
    Segment::new(&of, row.length, 0)
}

fn damaged(path: std::path::PathBuf) -> Error {
    let problem = "dedup keys that may still be taken cannot be read; they are free from now on".into();
    Error::Damaged { path, position: 0, offsets: None, problem }
}
