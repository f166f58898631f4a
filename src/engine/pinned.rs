//! Which groups, and which messages, keep how many bytes?

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Engine;
use super::pins::{Firsts, Stretch, Weight, weigh};
use crate::codec::{Deserialize, Serialize};
use crate::error::Result;
use crate::group::rule::MessageState;
use crate::log::reader::Cursor;
use crate::offset::Offset;

/// What a group keeps of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pin {
    /// The group's name.
    pub group: String,
    /// Bytes of the segments in which it has something that is not done.
    pub bytes: u64,
    /// Of those, in sealed segments, what no other group keeps: so much comes back when this group is done
    /// with it, or is gone while others stay.
    pub alone_bytes: u64,
    /// Those segments, in offset order: the first one has the group's oldest message that is not done.
    pub segments: Vec<PinnedSegment>,
}

/// A segment that a group keeps, and the first message by which it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PinnedSegment {
    /// The segment's number.
    pub number: u64,
    /// Bytes of it that are used.
    pub bytes: u64,
    /// It never changes again, and can be given up. The active one stays in any case.
    pub sealed: bool,
    /// The first message in it that is not done in this group.
    pub offset: Offset,
    /// Where that is in its life.
    pub state: MessageState,
    /// When it was pushed. In an [`Inspection`](crate::Inspection), and where its bytes have gone bad, the
    /// time of the first message of its segment, which is no later; `None` where that is not known.
    pub pushed_at: Option<SystemTime>,
}

/// Lists what groups keep, as files or memory tell it.
pub(crate) fn pins(stretches: &[Stretch], groups: Vec<(String, Firsts)>, weights: &[Weight]) -> Vec<Pin> {
    let pin = |((group, firsts), weight): ((String, Firsts), &Weight)| Pin {
        group,
        bytes: weight.bytes,
        alone_bytes: weight.alone,
        segments: stretches
            .iter()
            .zip(firsts)
            .filter_map(|(stretch, first)| segment(stretch, first?))
            .collect(),
    };
    groups.into_iter().zip(weights).map(pin).collect()
}

fn segment(stretch: &Stretch, (offset, state): (u64, MessageState)) -> Option<PinnedSegment> {
    let since = (stretch.since > 0).then(|| UNIX_EPOCH + Duration::from_millis(stretch.since));
    let (number, bytes, sealed) = (stretch.number, stretch.bytes, stretch.sealed);
    Some(PinnedSegment { number, bytes, sealed, offset: Offset::known(offset), state, pushed_at: since })
}

/// Lists what the groups of an open queue keep; reads the messages for when they were pushed.
pub(crate) fn pins_of(engine: &Engine) -> Result<Vec<Pin>> {
    engine.check_open()?;
    let (stretches, groups, unknown) = engine.pinned();
    let weights = weigh(&stretches, &groups.iter().map(|(_, firsts)| firsts).collect::<Vec<_>>(), unknown);
    let mut pins = pins(&stretches, groups, &weights);
    let mut cursor = Cursor::new(engine.log.clone());
    for pin in &mut pins {
        for segment in &mut pin.segments {
            let offset = segment.offset.get();
            // One whose bytes have gone bad keeps its segment too.
            if let Ok((Some(Ok(message)), _)) = engine.look_on(&mut cursor, (offset, offset + 1)) {
                segment.pushed_at = Some(UNIX_EPOCH + Duration::from_millis(message.time));
            }
        }
    }
    Ok(pins)
}
