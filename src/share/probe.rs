//! What can a guest say, and an owner answer? A specimen of each, for fuzzers (feature `testing`).

use std::time::Duration;

use super::greeting::{Answer, Call};
use super::world::Known;
use crate::codec::{self, Bytes};
use crate::engine::From;
use crate::engine::origin::LogEnd;
use crate::engine::request::{Ending, Fault, Held, Reply, Request, Sent, Which};
use crate::format::snapshot::Policy;
use crate::group::rule::MessageState;
use crate::options::{Wanted, WhenFull};

/// Returns the bodies of calls, one of each request, about a group and a loan.
#[must_use]
pub fn calls(group: &Known, loan: (u64, u64)) -> Vec<Vec<u8>> {
    let requests = requests(group.which(), loan);
    let call = |(id, request)| codec::encode(&Call { id, again: false, heard: 0, request });
    (1 << 40..).zip(requests).map(call).collect()
}

fn requests(group: &Which, loan: Held) -> Vec<Request> {
    let group = || group.clone();
    let record = Sent { payload: Bytes(vec![7; 9]), attributes: Bytes::default(), tags: 0 };
    let receive = |wait| Request::Receive {
        group: group(),
        most: 2,
        lease: None,
        wait,
        drain: false,
        idle_ends: false,
    };
    let nack = Ending::Nack { reason: Some("why".into()), after: Some(Duration::from_secs(1)) };
    vec![
        Request::Push { records: vec![record.clone(); 2], synced: true, waits: true, sequence: 1 },
        Request::Sync,
        Request::Group { name: "work".into(), new: None },
        Request::RemoveGroup { name: "other".into() },
        Request::Groups,
        receive(Some(Duration::ZERO)),
        receive(None),
        Request::Cancel { call: (1 << 40) + 6 },
        Request::Leave,
        Request::Settle { group: group(), loan, ending: Ending::Ack },
        Request::Settle { group: group(), loan, ending: nack },
        Request::Settle { group: group(), loan, ending: Ending::Reject { reason: "no".into() } },
        Request::Settle { group: group(), loan, ending: Ending::Release },
        Request::AckAll { group: group(), loans: vec![loan; 3] },
        Request::Extend { group: group(), loan, lease: 1000 },
        Request::AckWith { group: group(), loan, records: vec![record], synced: false, sequence: 2 },
        Request::Discard { offset: loan.0 },
        Request::DiscardKey { key: Bytes(b"key".to_vec()) },
        Request::DiscardIn { group: group(), offsets: vec![0, 1, 2] },
        Request::DiscardKeyIn { group: group(), key: Bytes(b"key".to_vec()) },
        Request::Purge { group: group() },
        Request::Seek { group: group(), to: From::Offset(1) },
        Request::Seek { group: group(), to: From::Time(5) },
        Request::Revive { group: group(), offsets: Some(vec![0]) },
        Request::Pause { group: group(), until: Some(9) },
        Request::Pause { group: group(), until: None },
        Request::ReleaseAll { group: group() },
        Request::Policy { group: group() },
        Request::SetPolicy { group: group(), policy: Policy::default(), kinds: vec!["a".into()] },
        Request::Dead { group: group() },
        Request::Rows { group: group(), state: MessageState::Ready },
        Request::Look { group: group(), first: 0, end: 10, state: None },
        Request::Stats,
        Request::GroupStats { group: group() },
        Request::Pins,
        Request::Limits,
        Request::ChangeLimits { wanted: Wanted::default() },
        Request::Unschedule { name: "tick".into() },
        Request::Schedules,
        Request::Undelete { group: group(), offsets: vec![0, 1] },
    ]
}

/// Tells whether a call has pushes wait for room: where one thread does all, nobody would make it.
#[must_use]
pub fn lets_pushes_wait(body: &[u8]) -> bool {
    let Ok(call) = codec::decode::<Call>(body) else { return false };
    matches!(
        call.request,
        Request::ChangeLimits { wanted: Wanted { when_full: Some(WhenFull::Block(_)), .. } }
    )
}

/// Returns the bodies of answers to a call of that number, one of each but loans.
#[must_use]
pub fn answers(id: u64) -> Vec<Vec<u8>> {
    let replies = vec![
        Reply::Failed(Fault::HolderOver { holder: 7 }),
        Reply::Failed(Fault::Closed),
        Reply::Failed(Fault::Damaged {
            path: "x".into(),
            position: 1,
            offsets: Some((9, 3)),
            problem: "p".into(),
        }),
        Reply::Done,
        Reply::Offsets { first: 3, end: 1 << 50 },
        Reply::Offsets { first: 9, end: 3 },
        Reply::Group { incarnation: 1 },
        Reply::Names(vec!["a".into()]),
        Reply::Lent(Vec::new()),
        Reply::Acked(vec![true; 9]),
        Reply::Acked(Vec::new()),
        Reply::Count(u64::MAX),
        Reply::Flag(true),
        Reply::Policy { policy: Policy::default(), kinds: Vec::new() },
        Reply::Dead(Vec::new()),
        Reply::Rows(vec![(9, 3), (0, u64::MAX)]),
        Reply::Looked { found: Vec::new(), next: u64::MAX },
        Reply::Told(Bytes(vec![1; 9])),
    ];
    replies.into_iter().map(|reply| codec::encode(&Answer { id, end: LogEnd::at(u64::MAX), reply })).collect()
}
