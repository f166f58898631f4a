//! `backlog undelete`: how does a message come back that was acked or discarded by mistake?

use std::time::SystemTime;

use backlog::{Group, MessageState, Offset};

use super::exit::{self, CLEAN, FINDINGS, Failure, Outcome};
use super::filter::since;
use super::target::{InGroup, offset};

/// Make messages ready again that are done in a group and still stored.
///
/// Prints how many. What is done in every group is given up sooner or later, and cannot come back (`backlog limits
/// --retain-for 7d` keeps it); those are passed over, and exit 1 tells that there were some.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    at: InGroup,
    /// Which
    #[arg(value_parser = offset, required_unless_present = "since", conflicts_with = "since")]
    offsets: Vec<Offset>,
    /// All that are done, stored, and were pushed at that moment, or so long ago, or later
    #[arg(long, value_name = "MOMENT|TIME", value_parser = since)]
    since: Option<SystemTime>,
}

/// Messages made ready in one go.
const AT_ONCE: usize = 10_000;

pub(super) fn run(args: &Args) -> Outcome {
    args.at.with(|group| {
        let mut undeleted = 0;
        let Some(since) = args.since else {
            let mut wanted = args.offsets.clone();
            wanted.sort_unstable();
            wanted.dedup();
            undeleted = group.undelete(wanted.iter().copied())?;
            exit::print(&format!("{undeleted}\n"))?;
            return Ok(if undeleted < wanted.len() as u64 { FINDINGS } else { CLEAN });
        };
        let mut wanted = Vec::new();
        for peek in group.browse(MessageState::Done) {
            match peek {
                Ok(peek) if peek.pushed_at() >= since => wanted.push(peek.offset()),
                Ok(_) => {}
                // What cannot be read cannot come again either.
                Err(backlog::Error::Damaged { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            if wanted.len() == AT_ONCE {
                undeleted += bring_back(group, &mut wanted)?;
            }
        }
        undeleted += bring_back(group, &mut wanted)?;
        exit::print(&format!("{undeleted}\n"))?;
        Ok(CLEAN)
    })
}

fn bring_back(group: &Group, wanted: &mut Vec<Offset>) -> Result<u64, Failure> {
    Ok(group.undelete(wanted.drain(..))?)
}
