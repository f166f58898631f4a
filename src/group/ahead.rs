//! Which messages of a high priority lie ahead of where a group reads?
//!
//! The rows of the segments tell (see `log::index`): of each high priority a lane goes through them, in
//! offset order, and has the next ones in memory. A message with an ordering key is left out: it may not
//! overtake those of its key that nobody has met.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::Result;
use crate::format::index::Row;
use crate::format::snapshot::{HIGHEST, NORMAL};
use crate::log::{Log, Segment};

/// Where a group looks ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The highest priority first; none before the first look.
    lanes: Vec<Lane>,
    /// How often messages of a high priority had come at the last look.
    seen: u64,
    /// How often segments had left the log then: their rows may stand elsewhere since.
    left: u64,
}

/// The messages of one priority.
#[derive(Debug)]
struct Lane {
    priority: u8,
    /// The place of the segment in which it is, and the number of the next row there.
    segment: (u64, u64),
    row: u64,
    next: VecDeque<Row>,
    /// There were no more rows behind these.
    ended: bool,
}

impl Ahead {
    /// Tells whether rows must be read before it is known what comes next.
    pub(super) fn is_behind(&self, log: &Log) -> bool {
        let more = self.seen != log.raised();
        let is_behind = |lane: &Lane| lane.next.is_empty() && (more || !lane.ended);
        (more && self.lanes.is_empty()) || self.lanes.iter().any(is_behind)
    }

    /// Reads on in every lane that is empty. Not to be called under a lock.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn read(&mut self, log: &Arc<Log>, head: u64) -> Result<()> {
        // Before the rows are read: what comes meanwhile is looked for again.
        let (seen, left) = (log.raised(), log.left());
        if self.left != left {
            self.lanes.clear();
        }
        if self.lanes.is_empty() {
            let (segment, row) = match log.segment_at(head) {
                Some(segment) => (segment.order(), log.first_row(&segment, head)?),
                None => Default::default(),
            };
            let lane = |priority| Lane { priority, segment, row, next: VecDeque::new(), ended: false };
            self.lanes = (NORMAL + 1..=HIGHEST).rev().map(lane).collect();
        }
        for lane in &mut self.lanes {
            lane.read(log, head)?;
        }
        (self.seen, self.left) = (seen, left);
        Ok(())
    }

    /// Passes over those that are `over` already; `end` is the offset behind the last that may be read.
    pub(super) fn pass(&mut self, end: u64, over: impl Fn(u64) -> bool) {
        for lane in &mut self.lanes {
            while lane.next.front().is_some_and(|row| row.offset < end && over(row.offset)) {
                lane.next.pop_front();
            }
        }
    }

    /// Returns the first message of the highest priority that lies ahead and may be read.
    pub(super) fn first(&self, end: u64) -> Option<Row> {
        self.lanes.iter().find_map(|lane| lane.next.front().filter(|row| row.offset < end).copied())
    }
}

impl Lane {
    fn read(&mut self, log: &Arc<Log>, head: u64) -> Result<()> {
        if !self.next.is_empty() {
            return Ok(());
        }
        let set = log.set();
        let mut rows = Vec::new();
        let mut at = set.partition_point(|segment| segment.order() < self.segment);
        while self.next.is_empty()
            && let Some(segment) = set.get(at)
        {
            if segment.order() != self.segment {
                (self.segment, self.row) = (segment.order(), 0);
            }
            // Asked first: once it is sealed there come no more.
            let (_, sealed) = segment.end();
            rows.clear();
            if self.has_some(log, segment)? {
                log.rows(segment, self.row, &mut rows)?;
            }
            self.row += rows.len() as u64;
            let mine = |row: &&Row| row.priority == self.priority && row.ordering == 0 && row.offset >= head;
            self.next.extend(rows.iter().filter(mine));
            if rows.is_empty() {
                if !sealed {
                    break;
                }
                at += 1;
            }
        }
        self.ended = self.next.is_empty();
        Ok(())
    }

    fn has_some(&self, log: &Arc<Log>, segment: &Arc<Segment>) -> Result<bool> {
        Ok(segment.is_indexed() && log.summary(segment)?.priorities[usize::from(self.priority)] > 0)
    }
}
