//! The words the public interface uses: peers, leadership, a group's status. No behaviour.

use std::fmt;
use std::time::Duration;

pub use weir_storage::GroupId;

/// A server's id in Raft: drawn once, kept with its store. Never an ordinal, never reused after the
/// store was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What is known of a peer: its server name and where its gRPC service listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerInfo {
    pub name: String,
    /// `host:port`; the host may be a DNS name, looked up again at every connection attempt.
    pub endpoint: String,
}

/// Whether this replica may act as its group's leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// This replica leads and has applied everything committed before its term.
    Leader { term: u64 },
    /// It does not lead, does not yet know its own state, or has lost contact with a majority.
    Follower { leader: Option<PeerId> },
}

impl Leadership {
    #[must_use]
    pub fn is_leader(self) -> bool {
        matches!(self, Self::Leader { .. })
    }
}

/// How far one follower is, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationStatus {
    pub peer: PeerId,
    /// Index of the last entry known to be on the follower's disk; 0 for none.
    pub matched: u64,
    /// Entries the follower lacks.
    pub lag: u64,
    /// Time since the follower last answered; `None` when it has not since this leader's term began.
    pub last_contact: Option<Duration>,
    /// Every configuration that a survivor of this leader may go by counts the follower as a voter.
    pub is_settled: bool,
}

/// What is only asked for by people who look into a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupInside {
    /// Term of the last entry in this replica's log; 0 when there is none.
    pub last_term: u64,
    /// Whom this replica gave its vote last.
    pub voted_for: Option<PeerId>,
    /// Bytes in this replica's log, of the entries written since the process began.
    pub log_bytes: u64,
    /// Proposals on their way from this replica.
    pub proposals: usize,
}

/// A group's state at one moment. Indexes are 0 when there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// This replica leads and may act as leader (see `Leadership`).
    pub is_leader: bool,
    /// Whoever is thought to lead, this replica included.
    pub leader: Option<PeerId>,
    pub term: u64,
    /// Index of the last entry in this replica's log.
    pub last: u64,
    /// Index of the last entry this replica knows to be committed.
    pub committed: u64,
    /// Index of the last entry this replica's machine has applied.
    pub applied: u64,
    /// Index up to which this replica's log is cut.
    pub purged: u64,
    pub voters: Vec<PeerId>,
    pub learners: Vec<PeerId>,
    /// A change of voters is in progress: decisions need both majorities.
    pub joint: bool,
    /// One for each other member; only on the leader, else empty.
    pub replication: Vec<ReplicationStatus>,
    /// Why the group stopped for good (a failing disk, a failing machine), if it did.
    pub failed: Option<String>,
}
