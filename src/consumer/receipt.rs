//! How is a loan named, so that another process can settle it?

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::format::names;
use crate::offset::Offset;

/// Names one loan for ever: queue, group, message and delivery number. Who has it, in this process
/// or another, can settle the loan with [`Queue::settle`](crate::Queue::settle) or prolong it with
/// [`Queue::extend`](crate::Queue::extend). It is worth something for timed loans: a loan without a
/// time ends with the process that received it.
///
/// Written as text (`Display`, `FromStr`) it is one word of letters, digits and `. _ - /`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    pub(crate) queue: u128,
    pub(crate) group: String,
    /// Of the group: another group of the same name has another.
    pub(crate) incarnation: u64,
    pub(crate) offset: u64,
    pub(crate) delivery: u64,
}

impl Receipt {
    /// Returns the offset of the message.
    #[must_use]
    pub fn offset(&self) -> Offset {
        Offset::known(self.offset)
    }

    /// Returns the name of the group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queue, group, incarnation, offset, delivery } = self;
        write!(f, "{queue:032x}/{group}/{incarnation:016x}/{offset}/{delivery:016x}")
    }
}

impl FromStr for Receipt {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text.trim()).ok_or_else(|| {
            let end = text.char_indices().nth(100).map_or(text.len(), |(end, _)| end);
            Error::Invalid {
                what: format!("{:?} is no receipt: it looks like ID/GROUP/ID/OFFSET/ID", &text[..end]),
            }
        })
    }
}

fn parse(text: &str) -> Option<Receipt> {
    let mut parts = text.split('/');
    let mut next = || parts.next();
    let receipt = Receipt {
        queue: u128::from_str_radix(next().filter(|part| part.len() == 32)?, 16).ok()?,
        group: next().filter(|name| names::is_group(name))?.to_owned(),
        incarnation: u64::from_str_radix(next().filter(|part| part.len() == 16)?, 16).ok()?,
        offset: next()?.parse().ok().filter(|&offset| offset < Offset::LIMIT)?,
        delivery: u64::from_str_radix(next().filter(|part| part.len() == 16)?, 16).ok()?,
    };
    // One way to write it, and nothing behind it.
    (receipt.to_string() == text).then_some(receipt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        Receipt { queue: 7, group: "mail-er.2".into(), incarnation: u64::MAX, offset: 12, delivery: 1 << 32 }
    }

    #[test]
    fn a_receipt_reads_back() {
        let text = receipt().to_string();

        assert_eq!(text, format!("{:032x}/mail-er.2/ffffffffffffffff/12/0000000100000000", 7));
        assert_eq!(format!("{text}\n").parse::<Receipt>().unwrap(), receipt());
    }

    #[test]
    fn what_is_no_receipt_is_refused_with_a_word_about_it() {
        let text = receipt().to_string();
        let long = "ü".repeat(500);
        for bad in [
            "",
            "x",
            &text[1..],
            &format!("{text}/1"),
            &text.replace("/12/", "/+12/"),
            &text.replace("mail", "Mail"),
            &long,
        ] {
            let error = bad.parse::<Receipt>().unwrap_err();

            assert!(error.to_string().contains("is no receipt"), "{error}");
        }
    }
}
