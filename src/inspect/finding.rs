//! What can be found by one who checks every byte?

use std::fmt;
use std::path::PathBuf;

use crate::error::Error;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// Bytes that were promised have gone bad.
    Damaged,
    /// Bytes that were never promised: a write was cut short. The next opening sets them aside. The
    /// very last push, damaged before any later proof of it, looks like this too.
    Torn,
    /// Something has gone bad that is stored twice: the next opening makes it good.
    Wounded,
    /// A file is missing, foreign, too short, or an older one that was put back: opening refuses.
    Refused,
    /// Messages that a group had already come to are gone from the log.
    Lost,
    /// The system would not let a file be read.
    Unreadable,
}

/// Something that is wrong with a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub position: Option<u64>,
    /// The first offset that is concerned, and the one behind the last.
    pub offsets: Option<(u64, u64)>,
    /// What was expected and found.
    pub what: String,
}

/// How far a verification has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes that were checked.
    pub done: u64,
    /// Bytes that there are to check.
    pub total: u64,
}

impl Finding {
    pub(crate) fn new(kind: FindingKind, path: PathBuf, what: impl Into<String>) -> Self {
        Self { kind, path, position: None, offsets: None, what: what.into() }
    }

    pub(crate) fn at(mut self, position: u64) -> Self {
        self.position = Some(position);
        self
    }

    pub(crate) fn offsets(mut self, first: u64, end: u64) -> Self {
        self.offsets = Some((first, end));
        self
    }

    /// Makes a finding of an error that names a file; other errors come back.
    pub(crate) fn of(error: Error) -> Result<Self, Error> {
        match error {
            Error::Damaged { path, position, offsets, problem } => {
                let finding = Self::new(FindingKind::Damaged, path, problem).at(position);
                Ok(Self { offsets: offsets.map(|offsets| (offsets.start, offsets.end)), ..finding })
            }
            Error::Refused { path, problem } => Ok(Self::new(FindingKind::Refused, path, problem)),
            Error::Io { path, source, doing } => {
                Ok(Self::new(FindingKind::Unreadable, path, format!("cannot {doing}: {source}")))
            }
            other => Err(other),
        }
    }
}

impl FindingKind {
    /// Returns the word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Torn => "torn",
            Self::Wounded => "wounded",
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.word(), self.path.display())?;
        if let Some(position) = self.position {
            write!(f, " at byte {position}")?;
        }
        if let Some((first, end)) = self.offsets {
            write!(f, ", offsets {first}..{end}")?;
        }
        write!(f, ": {}", self.what)
    }
}
