//! How does an error reach another process?

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::codec::{Deserialize, Serialize};
use crate::error::Error;
use crate::offset::Offset;

/// An [`Error`] as it is sent: the texts that a person reads come out the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fault {
    Io { doing: String, path: PathBuf, source: System },
    Full { path: PathBuf, source: System },
    AtLimit { what: String, limit: u64, path: PathBuf },
    Exhausted { path: PathBuf },
    TooLarge { what: String, length: u64, limit: u64 },
    Closed,
    Forked { path: PathBuf },
    Poisoned { path: PathBuf, cause: String },
    InDoubt { path: PathBuf, cause: String },
    Locked { path: PathBuf, note: String },
    NetworkFileSystem { path: PathBuf, kind: String },
    NotAQueue { path: PathBuf, found: String },
    Refused { path: PathBuf, problem: String },
    Damaged { path: PathBuf, position: u64, offsets: Option<(u64, u64)>, problem: String },
    Version { path: PathBuf, problem: String },
    NoSuchGroup { name: String, existing: Vec<String> },
    GroupExists { name: String },
    GroupName { name: String },
    LeaseLost { offset: u64 },
    HolderOver { holder: u32 },
    Duplicate { index: u64, offset: Option<u64> },
    Encode { problem: String },
    Decode { offset: u64, kind: Option<String>, problem: String },
    Timeout,
    Invalid { what: String },
}

/// What the system said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct System {
    number: Option<i32>,
    text: String,
}

impl From<&io::Error> for System {
    fn from(error: &io::Error) -> Self {
        Self { number: error.raw_os_error(), text: error.to_string() }
    }
}

impl From<System> for Arc<io::Error> {
    fn from(System { number, text }: System) -> Self {
        Self::new(number.map_or_else(|| io::Error::other(text), io::Error::from_raw_os_error))
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let path = |path: &PathBuf| path.clone();
        match error {
            Error::Io { doing, path: at, source } => {
                Self::Io { doing: doing.to_string(), path: path(at), source: (&**source).into() }
            }
            Error::Full { path: at, source } => Self::Full { path: path(at), source: (&**source).into() },
            Error::AtLimit { what, limit, path: at } => {
                Self::AtLimit { what: what.to_string(), limit: *limit, path: path(at) }
            }
            Error::Exhausted { path: at } => Self::Exhausted { path: path(at) },
            Error::TooLarge { what, length, limit } => {
                Self::TooLarge { what: what.to_string(), length: *length, limit: *limit }
            }
            // No guest asks for a repair.
            Error::WouldLose { .. } => Self::Invalid { what: error.to_string() },
            Error::Closed => Self::Closed,
            Error::Forked { path: at } => Self::Forked { path: path(at) },
            Error::Poisoned { path: at, cause } => Self::Poisoned { path: path(at), cause: cause.clone() },
            Error::InDoubt { path: at, cause } => Self::InDoubt { path: path(at), cause: cause.clone() },
            Error::Locked { path: at, note } => Self::Locked { path: path(at), note: note.clone() },
            Error::NetworkFileSystem { path: at, kind } => {
                Self::NetworkFileSystem { path: path(at), kind: kind.to_string() }
            }
            Error::NotAQueue { path: at, found } => Self::NotAQueue { path: path(at), found: found.clone() },
            Error::Refused { path: at, problem } => {
                Self::Refused { path: path(at), problem: problem.clone() }
            }
            Error::Damaged { path: at, position, offsets, problem } => Self::Damaged {
                path: path(at),
                position: *position,
                offsets: offsets.as_ref().map(|offsets| (offsets.start, offsets.end)),
                problem: problem.clone(),
            },
            Error::Version { path: at, problem } => {
                Self::Version { path: path(at), problem: problem.clone() }
            }
            Error::NoSuchGroup { name, existing } => {
                Self::NoSuchGroup { name: name.clone(), existing: existing.clone() }
            }
            Error::GroupExists { name } => Self::GroupExists { name: name.clone() },
            Error::GroupName { name } => Self::GroupName { name: name.clone() },
            Error::LeaseLost { offset } => Self::LeaseLost { offset: offset.get() },
            Error::HolderOver { holder } => Self::HolderOver { holder: *holder },
            Error::Duplicate { index, offset } => {
                Self::Duplicate { index: *index as u64, offset: offset.map(Offset::get) }
            }
            Error::Encode { problem } => Self::Encode { problem: problem.clone() },
            Error::Decode { offset, kind, problem } => {
                Self::Decode { offset: offset.get(), kind: kind.clone(), problem: problem.clone() }
            }
            Error::Timeout { .. } => Self::Timeout,
            Error::Invalid { what } => Self::Invalid { what: what.clone() },
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let at = |offset: u64| Offset::known(offset.min(Offset::LIMIT - 1));
        match fault {
            Fault::Io { doing, path, source } => {
                Self::Io { doing: doing.into(), path, source: source.into() }
            }
            Fault::Full { path, source } => Self::Full { path, source: source.into() },
            Fault::AtLimit { what, limit, path } => Self::AtLimit { what: what.into(), limit, path },
            Fault::Exhausted { path } => Self::Exhausted { path },
            Fault::TooLarge { what, length, limit } => Self::TooLarge { what: what.into(), length, limit },
            Fault::Closed => Self::Closed,
            Fault::Forked { path } => Self::Forked { path },
            Fault::Poisoned { path, cause } => Self::Poisoned { path, cause },
            Fault::InDoubt { path, cause } => Self::InDoubt { path, cause },
            Fault::Locked { path, note } => Self::Locked { path, note },
            Fault::NetworkFileSystem { path, kind } => Self::NetworkFileSystem { path, kind: kind.into() },
            Fault::NotAQueue { path, found } => Self::NotAQueue { path, found },
            Fault::Refused { path, problem } => Self::Refused { path, problem },
            Fault::Damaged { path, position, offsets, problem } => {
                Self::Damaged { path, position, offsets: offsets.map(|(first, end)| first..end), problem }
            }
            Fault::Version { path, problem } => Self::Version { path, problem },
            Fault::NoSuchGroup { name, existing } => Self::NoSuchGroup { name, existing },
            Fault::GroupExists { name } => Self::GroupExists { name },
            Fault::GroupName { name } => Self::GroupName { name },
            Fault::LeaseLost { offset } => Self::lease_lost(offset),
            Fault::HolderOver { holder } => Self::HolderOver { holder },
            Fault::Duplicate { index, offset } => Self::Duplicate {
                index: usize::try_from(index).unwrap_or(usize::MAX),
                offset: offset.map(at),
            },
            Fault::Encode { problem } => Self::Encode { problem },
            Fault::Decode { offset, kind, problem } => Self::Decode { offset: at(offset), kind, problem },
            Fault::Timeout => Self::Timeout { owner: None },
            Fault::Invalid { what } => Self::Invalid { what },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn an_error_says_the_same_on_the_other_side() {
        let path = PathBuf::from("jobs/log/000000001.seg");
        let io = Error::io("read", &path, io::Error::from_raw_os_error(5));
        let full = Error::io("write", &path, io::Error::from_raw_os_error(28));
        let damaged = Error::Damaged {
            path,
            position: 4096,
            offsets: Some(3..5),
            problem: "the record does not pass its checksum".into(),
        };
        let missing = Error::NoSuchGroup { name: "mailr".into(), existing: vec!["mailer".into()] };
        let taken = Error::Duplicate { index: 3, offset: Offset::new(7) };
        let large = Error::TooLarge { what: "a batch".into(), length: 9, limit: 8 };
        for error in [io, full, damaged, missing, taken, large, Error::lease_lost(7), Error::Closed] {
            let sent = codec::encode(&Fault::from(&error));
            let back: Error = codec::decode::<Fault>(&sent).unwrap().into();

            assert_eq!((back.to_string(), back.is_full()), (error.to_string(), error.is_full()));
        }
    }
}
