//! `backlog tail`: what was pushed last, and what is pushed now?

use std::collections::VecDeque;
use std::time::Duration;

use backlog::{Offset, View};

use super::exit::{self, CLEAN, FINDINGS, Failure, Outcome};
use super::look::Folder;
use super::ls;
use super::out::{As, Rows};
use super::payload::Payloads;

/// Show the messages that were pushed last, and with -f those that are pushed from now on.
///
/// Looks only: takes no lock and writes nothing, also beside a running `work` or `push`. With -f it ends with
/// Ctrl-C, or when nobody reads what it writes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// How many of those that are there
    #[arg(short = 'n', long, default_value_t = 10, value_name = "COUNT")]
    lines: usize,
    /// Go on with those that are pushed
    #[arg(short, long)]
    follow: bool,
    /// How often to look for them
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "200ms", requires = "follow")]
    every: Duration,
    /// Of that kind
    #[arg(long)]
    kind: Option<String>,
    #[command(flatten)]
    payloads: Payloads,
    #[command(flatten)]
    form: As,
}

pub(super) fn run(args: &Args) -> Outcome {
    let mut view = args.folder.view()?;
    let columns = ls::columns(&args.payloads);
    let columns: Vec<_> = columns.into_iter().filter(|column| column.key != "state").collect();
    let mut rows = Rows::new(args.form, "messages", &columns);
    if args.follow {
        rows = rows.live();
    }
    let (mut found, mut damaged) = (0, false);
    let mut next = last(&mut view, args)?;
    loop {
        let (heard, on) = show(&mut view, next, args, &mut rows, (&mut found, &mut damaged))?;
        next = on;
        if !args.follow || !heard {
            break;
        }
        std::thread::sleep(args.every.max(Duration::from_millis(10)));
        view.follow()?;
    }
    rows.end()?;
    Ok(if found == 0 && !args.follow || damaged { FINDINGS } else { CLEAN })
}

/// Finds the first of the last messages, segment by segment from the end.
fn last(view: &mut View, args: &Args) -> Result<Offset, Failure> {
    let end = Offset::new(view.next_offset()).unwrap_or_default();
    if args.lines == 0 {
        return Ok(end);
    }
    // Segment by segment, so that no more of the log is read than it takes.
    let (mut until, mut last) = (end.get(), VecDeque::new());
    let bases: Vec<u64> = view.inspection().segments.iter().map(|segment| segment.base).collect();
    for base in bases.into_iter().rev() {
        let missing = args.lines - last.len();
        let mut offsets = VecDeque::new();
        let messages = view.messages(Offset::new(base).unwrap_or_default()).flatten();
        for message in messages.take_while(|message| message.offset().get() < until) {
            if fits(args, &message) {
                offsets.push_back(message.offset());
                if offsets.len() > missing {
                    offsets.pop_front();
                }
            }
        }
        while let Some(offset) = offsets.pop_back() {
            last.push_front(offset);
        }
        if last.len() == args.lines {
            break;
        }
        until = base;
    }
    Ok(last.front().copied().unwrap_or(end))
}

fn fits(args: &Args, message: &backlog::Content) -> bool {
    args.kind.as_ref().is_none_or(|kind| message.kind() == Some(kind))
}

/// Shows what there is from an offset on; returns whether anybody reads, and where to go on.
fn show(
    view: &mut View,
    from: Offset,
    args: &Args,
    rows: &mut Rows<'_>,
    (found, damaged): (&mut u64, &mut bool),
) -> Result<(bool, Offset), Failure> {
    let end = Offset::new(view.next_offset()).unwrap_or(from);
    for message in view.messages(from) {
        match message {
            Ok(message) if !fits(args, &message) => {}
            Ok(message) => {
                *found += 1;
                if !rows.push(ls::row(&message, &[], &args.payloads)?)? {
                    return Ok((false, end));
                }
            }
            Err(error @ backlog::Error::Damaged { .. }) => {
                exit::say(&error.to_string());
                *damaged = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((true, end.max(from)))
}
