//! What can go wrong, in words a caller can act upon.

use std::path::PathBuf;

use crate::types::PeerId;

/// Why a proposal has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not proposed: this replica does not lead. Ask `leader`.
    #[error("this server does not lead the group (leader: {})", name(*leader))]
    NotLeader { leader: Option<PeerId> },
    /// Not proposed: too many proposals, or bytes of them, are in flight. Wait for `ready()`.
    #[error("too many proposals in flight")]
    Backpressure,
    /// Not proposed: larger than one entry may be.
    #[error("proposal of {bytes} bytes exceeds the limit of {limit_bytes}")]
    TooLarge { bytes: usize, limit_bytes: usize },
    /// Proposed, then leadership was lost: it may or may not be committed.
    #[error("leadership was lost before the outcome was known (leader: {})", name(*leader))]
    Unknown { leader: Option<PeerId> },
    /// The group has stopped on this server.
    #[error("the group has stopped: {0}")]
    Stopped(String),
}

fn name(leader: Option<PeerId>) -> String {
    leader.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string())
}

/// Why a group's operation was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("this server does not lead the group (leader: {})", name(*leader))]
    NotLeader { leader: Option<PeerId> },
    #[error("the group is already initialised")]
    AlreadyInitialised,
    #[error("no server with id {0} is known")]
    UnknownPeer(PeerId),
    #[error("server {0} is not a voter of the group")]
    NotVoter(PeerId),
    #[error("server {0} has not answered lately")]
    Silent(PeerId),
    #[error("the group would be left without a voter")]
    NoVoterLeft,
    #[error("not done within {0:?}")]
    Timeout(std::time::Duration),
    #[error("a majority of the group's voters does not answer")]
    NoQuorum,
    #[error("the group has stopped: {0}")]
    Stopped(String),
}

/// Why a group could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("group {0} is already open")]
    AlreadyOpen(u64),
    #[error("group {0}: setting {1}")]
    Options(u64, String),
    /// The log no longer holds the entries after the machine's state: the state was lost. The replica
    /// must leave its group, have its log dropped and join anew.
    #[error("group {group}: the log starts after {purged}, but the state ends at {applied}: state lost")]
    StateLost { group: u64, applied: u64, purged: u64 },
    #[error("group {group}: {reason}")]
    Log { group: u64, reason: String },
    #[error("the node is shutting down")]
    ShuttingDown,
}

/// Why the node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("folder for snapshots {path}: {source}")]
    SpoolFolder { path: PathBuf, source: std::io::Error },
    #[error("gRPC listener: {0}")]
    Listener(std::io::Error),
    #[error("cluster secret cannot be sent in a header: only visible ASCII is allowed")]
    Secret,
}
