//! How do owner and guest get to know each other?

use std::path::PathBuf;

use crate::codec::{self, Bytes, Deserialize, Serialize};
use crate::engine::origin::LogEnd;
use crate::engine::recovery::Recovery;
use crate::engine::request::{Fault, Held, Reply, Request, Which};
use crate::error::Error;

/// What this program speaks. Another number, and the two cannot talk.
pub(crate) const VERSION: u32 = 1;
/// In front of every greeting, in every version: what follows it is read by the version it tells.
const MAGIC: [u8; 8] = *b"backlog\n";

/// What the guest says first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Its process: told to people.
    pub(crate) process: u32,
    /// Names the loans of this connection.
    pub(crate) holder: u32,
    /// The queue that it knows, if it was connected before.
    pub(crate) queue: Option<u128>,
    /// Holders of earlier connections, and which loans it holds by them; all others go back.
    pub(crate) earlier: Vec<Earlier>,
    /// Its pushes say that they come from there, whatever connection they take.
    pub(crate) producer: u32,
    /// Where the log ended, as it heard before it sent the oldest push that it has no answer to.
    pub(crate) since: Option<LogEnd>,
}

/// A holder of an earlier connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Earlier {
    pub(crate) holder: u32,
    pub(crate) loans: Vec<(Which, Held)>,
}

/// What the owner answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Welcome {
    In {
        process: u32,
        queue: u128,
        /// Where the log ends.
        end: LogEnd,
        /// Bytes of the longest message.
        max_message_bytes: u64,
        recovery: Box<Found>,
    },
    /// It is of no use to ask again.
    Refused(Fault),
}

/// What the owner's opening found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    recovery: Bytes,
    refused_groups: Vec<(String, Fault)>,
}

impl Found {
    pub(crate) fn of(recovery: &Recovery) -> Self {
        let mut plain = recovery.clone();
        let refused_groups = plain.refused_groups.drain(..).map(|(name, error)| (name, (&error).into()));
        let refused_groups = refused_groups.collect();
        Self { recovery: Bytes(codec::encode(&plain)), refused_groups }
    }

    pub(crate) fn recovery(self) -> Result<Recovery, String> {
        let mut recovery: Recovery = codec::decode(&self.recovery.0)?;
        recovery.refused_groups =
            self.refused_groups.into_iter().map(|(name, fault)| (name, fault.into())).collect();
        Ok(recovery)
    }
}

/// A guest's call. (One that is sent borrows its request.)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Call<R = Request> {
    pub(crate) id: u64,
    /// It was sent before, to an owner that is gone: what it says may have been done.
    pub(crate) again: bool,
    /// All pushes with a lower number were answered.
    pub(crate) heard: u64,
    pub(crate) request: R,
}

/// The owner's answer to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) id: u64,
    /// Where the log ends.
    pub(crate) end: LogEnd,
    pub(crate) reply: Reply,
}

/// Writes a greeting, with the version in front.
pub(crate) fn greet<T: Serialize>(greeting: &T) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&codec::encode(greeting));
    out
}

/// Why a greeting was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Strange {
    /// The other one speaks that version.
    Version(u32),
    /// That is no greeting.
    Noise(String),
}

impl Strange {
    /// Says it of a guest's greeting, to the guest.
    pub(crate) fn of_guest(self, path: PathBuf) -> Error {
        self.error(path, |theirs| (VERSION, theirs))
    }

    /// Says it of the owner's.
    pub(crate) fn of_owner(self, path: PathBuf) -> Error {
        self.error(path, |theirs| (theirs, VERSION))
    }

    /// Says it, by the versions of owner and guest.
    fn error(self, path: PathBuf, versions: impl FnOnce(u32) -> (u32, u32)) -> Error {
        match self {
            Self::Version(theirs) => {
                let (owner, guest) = versions(theirs);
                let problem = format!(
                    "the process that has the queue open speaks version {owner} of the protocol, this one {guest}"
                );
                Error::Version { path, problem }
            }
            Self::Noise(what) => Error::Invalid { what },
        }
    }
}

/// Reads a greeting.
pub(crate) fn greeted<T: codec::DeserializeOwned>(bytes: &[u8]) -> Result<T, Strange> {
    let noise = |what: &str| Strange::Noise(what.to_owned());
    let rest = bytes.strip_prefix(&MAGIC).ok_or_else(|| noise("it does not begin as a greeting does"))?;
    let (version, rest) = rest.split_first_chunk().ok_or_else(|| noise("it ends before its version"))?;
    match u32::from_le_bytes(*version) {
        VERSION => codec::decode(rest).map_err(Strange::Noise),
        other => Err(Strange::Version(other)),
    }
}
