//! How does a copy become a queue?
//!
//! One of its own: with an identity that no other queue ever had, so that nothing of the one can be taken for the
//! other's. Segments get new headers and keep their batches; groups get new files, in which nothing is on loan.
//!
//! ```text
//!   1 the folder, a file that says whose unfinished copy it is
//!   2 segments, synced · 3 groups, synced · the folder's names synced
//!   4 the manifest: temporary name, synced, renamed, folder and parent synced: there is a queue
//!   5 that file goes
//! ```

use std::sync::Arc;

use super::{files, slot_of};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, Kind, More};
use crate::format::manifest::{GroupRow, NO_SETTLES};
use crate::format::record::{self, Tag};
use crate::format::snapshot::Snapshot;
use crate::format::{index, names};
use crate::group::rule::MessageState;
use crate::group::state::State;
use crate::inspect::Progress;
use crate::manifest;
use crate::offsets;
use crate::storage::Storage;

use crate::engine::look::GroupSeen;
use crate::engine::view::View;

/// Makes a queue of a backup; returns its identity, and the groups that the backup has and that cannot be read.
///
/// # Errors
/// [`Error::Refused`] where the one is no backup, or in place of the other something lies; when the disk refuses.
pub(crate) fn restore(
    from: &Arc<dyn Storage>,
    to: &Arc<dyn Storage>,
    clock: &Arc<dyn Clock>,
    tell: &mut dyn FnMut(Progress),
) -> Result<(u128, Vec<(String, Error)>)> {
    let found = manifest::look(from)?;
    if !found.backup {
        let problem = "is a queue, not a backup: use it as it is, or a copy of the whole folder".into();
        return Err(Error::Refused { path: from.root().to_path_buf(), problem });
    }
    let mut view = View::new(from, clock)?;
    let (_, _lock) = files::begin(to, found.queue, false)?;
    let draw = || to.random().map_err(|error| Error::io("draw a queue id for", to.root(), error));
    let queue = u128::from(draw()?) << 64 | u128::from(draw()?);

    let total = view.seen.stretches.iter().map(|stretch| stretch.bytes).sum();
    let mut done = 0;
    for (row, stretch) in view.seen.segments.iter().zip(&view.seen.stretches) {
        let tell = &mut |bytes| tell(Progress { done: done + bytes, total });
        files::segment(&**from, &**to, (found.queue, row), (0, stretch.bytes), Some(queue), tell)?;
        done += stretch.bytes;
    }
    to.sync_dir(names::LOG)
        .map_err(|error| Error::io("sync the folder", to.root().join(names::LOG), error))?;

    let (mut groups, mut refused) = (Vec::new(), Vec::new());
    for (name, group) in std::mem::take(&mut view.seen.groups) {
        let GroupSeen { state, .. } = match group {
            Ok(group) => group,
            Err(error) => {
                refused.push((name, error));
                continue;
            }
        };
        let snapshot = at_rest(&mut view, state, queue)?;
        let incarnation = draw()?;
        offsets::create(to, queue, &name, incarnation, clock.wall(), &snapshot)?;
        groups.push(GroupRow { name, incarnation, generation: 1, settles_from: NO_SETTLES, mark: 0 });
    }
    let mut slot = slot_of(&view.seen, groups);
    // Keys are hashed under the queue's identity: those of segments that are gone are nobody's any more.
    slot.kept.clear();
    manifest::replace(to, queue, clock.wall(), &slot, false)?;
    files::sweep(to, &slot)?;
    Ok((queue, refused))
}

/// Returns a group's state with nothing on loan, and with what is hashed under the identity of its new queue.
fn at_rest(view: &mut View, mut state: State, queue: u128) -> Result<Snapshot> {
    let now = view.now();
    for (first, end) in state.rows(MessageState::OnLoan, view.seen.next, now) {
        let more = More::Range { end, messages: end - first };
        state.apply(&Entry { more, ..Entry::new(Kind::Released, first) }, now);
    }
    let mut snapshot = state.to_snapshot();
    for one in snapshot.exceptions.iter_mut().filter(|one| one.key != 0) {
        // One that cannot be read has no turn to wait for.
        one.key = 0;
        if let (Some(Ok(message)), _) = view.next(one.offset, one.end)?
            && let Some((attributes, _)) = message.parts()
            && let Some(key) = record::find(message.bytes(&attributes), Tag::OrderingKey)
        {
            one.key = index::ordering(queue, key);
        }
    }
    Ok(snapshot)
}
