//! Can it be so, what the owner says? Pure.
//!
//! It is another program, and may be another build: what cannot be is an error, and never a panic at whoever uses it.

use crate::engine::browse::Looked;
use crate::engine::request::Reply;
use crate::error::{Error, Result};
use crate::group::rule::Dead;
use crate::log::reader::Message;
use crate::offset::{Offset, Offsets};

pub(super) fn garbled() -> Error {
    Error::Invalid { what: "a record came garbled from the process that has the queue open".into() }
}

fn is_row(&(first, end): &(u64, u64)) -> bool {
    first <= end && end <= Offset::LIMIT
}

/// Takes a message with its record.
pub(super) fn message(looked: Looked) -> Result<Message> {
    looked.message().filter(|message| message.offset < Offset::LIMIT).ok_or_else(garbled)
}

/// Takes the offsets out of an answer.
pub(super) fn offsets(reply: Reply) -> Result<Offsets> {
    match reply.result()? {
        Reply::Offsets { first, end } if is_row(&(first, end)) => Ok(Offsets::new(first, end)),
        other => Err(other.unexpected()),
    }
}

/// Takes the dead letters out of an answer.
pub(super) fn dead(reply: Reply) -> Result<Vec<Dead>> {
    match reply.result()? {
        Reply::Dead(dead) if dead.iter().all(|dead| dead.first < dead.end && dead.end <= Offset::LIMIT) => {
            Ok(dead)
        }
        other => Err(other.unexpected()),
    }
}

/// Takes rows of messages out of an answer.
pub(super) fn rows(reply: Reply) -> Result<Vec<(u64, u64)>> {
    match reply.result()? {
        Reply::Rows(rows) if rows.iter().all(is_row) => Ok(rows),
        other => Err(other.unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u64 = Offset::LIMIT;

    #[test]
    fn offsets_that_cannot_be_are_an_error() {
        for (first, end) in [(9, 3), (0, LAST + 1), (u64::MAX, u64::MAX)] {
            assert!(offsets(Reply::Offsets { first, end }).is_err(), "{first}..{end}");
            assert!(rows(Reply::Rows(vec![(0, 1), (first, end)])).is_err(), "{first}..{end}");
        }
        assert_eq!(rows(Reply::Rows(vec![(0, 1), (3, LAST)])).unwrap().len(), 2);
        assert!(rows(Reply::Done).is_err());
    }

    #[test]
    fn dead_letters_that_cannot_be_are_an_error() {
        let letter =
            |first, end| Dead { first, end, reason: 1, since: 0, failures: 0, losses: 0, error: None };
        for (first, end) in [(9, 3), (3, 3), (0, LAST + 1), (u64::MAX - 1, u64::MAX)] {
            assert!(dead(Reply::Dead(vec![letter(0, 1), letter(first, end)])).is_err(), "{first}..{end}");
        }
        assert_eq!(dead(Reply::Dead(vec![letter(0, 1)])).unwrap().len(), 1);
    }
}
