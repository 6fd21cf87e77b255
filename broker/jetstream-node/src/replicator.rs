//! How a log is kept: on this server's journal alone (`local`), or on a majority through Raft (`raft`).
//! What the entries mean is the business of `Replicated` and its machine.

pub(crate) mod known;
pub(crate) mod local;
pub(crate) mod raft;

use bytes::Bytes;
use weir_raft::PeerId;

/// Why a command did not make it, as far as this server knows.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ProposeError {
    /// Another server leads, or none does.
    #[error("not the leader{}", leader.map(|id| format!(" (the leader is peer {})", id.0)).unwrap_or_default())]
    NotLeader { leader: Option<PeerId> },
    /// Leadership was lost while the command was on its way: it may still be applied.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The log or the store failed; nothing more is accepted.
    #[error("{0}")]
    Failed(String),
    /// Too much is on its way already.
    #[error("too many commands in flight")]
    Backpressure,
}

/// Called once when a submitted entry will not be applied here by this submission.
pub(crate) type OnFailure = Box<dyn FnOnce(ProposeError) + Send>;

/// One replica of one peer set, as the group's leader sees it.
#[derive(Debug, Clone)]
pub(crate) struct ReplicaStatus {
    pub(crate) peer: PeerId,
    /// Votes, and has everything the leader has or is close behind: the leader may go.
    pub(crate) current: bool,
    /// Nanoseconds since it was last heard from.
    pub(crate) active_nanos: u64,
    /// Entries behind the leader's log.
    pub(crate) lag: u64,
    /// Heard from lately.
    pub(crate) online: bool,
}

/// What a log says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogStatus {
    pub(crate) is_leader: bool,
    pub(crate) leader: Option<PeerId>,
    pub(crate) term: u64,
    /// Highest index known committed.
    pub(crate) committed: u64,
    /// Highest index applied here.
    pub(crate) applied: u64,
    /// The voting members; empty for a local log.
    pub(crate) members: Vec<PeerId>,
    /// The other replicas; only a leader fills it.
    pub(crate) replicas: Vec<ReplicaStatus>,
}

/// A log that commands are put into.
pub(crate) trait Replicator: Send + Sync {
    /// Puts an entry into the log. It is applied in order on every replica; `on_failure` is called instead
    /// when it was not accepted or its fate is unknown.
    fn submit(&self, entry: Bytes, on_failure: OnFailure);
    fn status(&self) -> LogStatus;
    /// Entries up to `index` are in a checkpoint and need not be kept for this replica's own sake.
    fn compact(&self, index: u64);
    /// Gives up leadership, to `to` when it is named. False where there is nobody to hand it to.
    fn step_down(&self, to: Option<PeerId>) -> futures::future::BoxFuture<'static, Result<(), String>>;
    /// Takes nothing more, and waits until all that it took is applied.
    fn seal(&self) -> futures::future::BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
    /// The Raft group behind it, where there is one.
    fn group(&self) -> Option<weir_raft::Group> {
        None
    }
}
