//! Settings of a node and of its groups, with their defaults and their ranges.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};
use weir_storage::vault::Vault;

use crate::admin::AdminHandler;
use crate::quiet::Timing;
use crate::types::PeerId;

/// Most bytes of entries in one append message.
pub const MAX_APPEND_BYTES: usize = 1024 * 1024;
/// Largest payload one entry may have.
pub const MAX_ENTRY_BYTES: usize = 64 * 1024 * 1024;
/// Largest gRPC message accepted: one entry of the largest size with its frame, or a batch.
pub const MAX_MESSAGE_BYTES: usize = MAX_ENTRY_BYTES + MAX_APPEND_BYTES;

/// Timing and bounds of a group.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// Between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// A follower that heard nothing of a leader for a random time between these two stands for election.
    /// The first half of `election_max` is the leader's lease, in which nobody is voted for; at least two
    /// heartbeats follow it.
    pub election_min: Duration,
    pub election_max: Duration,
    /// A group in which nothing happened for this long rests: its members are told of it in one message for all such
    /// groups of a server, a heartbeat apart, and nothing else is sent. `None` for never.
    pub quiet_after: Option<Duration>,
    /// Proposals that may wait for their result at once.
    pub max_proposals: usize,
    /// Bytes of payload that may wait for their result at once.
    pub max_proposal_bytes: usize,
    /// Bytes of log kept behind a compaction for followers that lag; beyond it they get a snapshot.
    pub lag_bytes: u64,
    /// Most entries in one append message.
    pub max_append_entries: u64,
    /// Time for one whole snapshot to be received and installed.
    pub snapshot_timeout: Duration,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(250),
            election_min: Duration::from_millis(1750),
            election_max: Duration::from_millis(2500),
            quiet_after: Some(Duration::from_secs(2)),
            max_proposals: 1024,
            max_proposal_bytes: 64 * 1024 * 1024,
            lag_bytes: 64 * 1024 * 1024,
            max_append_entries: 1024,
            snapshot_timeout: Duration::from_secs(600),
        }
    }
}

impl GroupOptions {
    /// Quick timing for tests on one machine.
    #[must_use]
    pub fn fast() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(800),
            quiet_after: Some(Duration::from_millis(200)),
            ..Self::default()
        }
    }

    /// How long a leader may act, and is not challenged, after a majority has answered it.
    pub(crate) fn lease(&self) -> Duration {
        self.election_max / 2
    }

    /// Shortest time between a lease's end and an election.
    fn wait_min(&self) -> Duration {
        self.election_min.saturating_sub(self.lease()).max(self.heartbeat * 2)
    }

    pub(crate) fn quiet_timing(&self) -> Timing {
        let wait_min = self.wait_min();
        let wait_max = self.lease().max(wait_min);
        Timing { after: self.quiet_after, lease: self.lease(), wait_min, wait_max }
    }

    pub(crate) fn config(&self, group: u64) -> Result<Config, String> {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        // openraft waits for the lease, then for a random time between these two.
        let lease_ms = millis(self.lease());
        let wait_min_ms = millis(self.wait_min());
        let config = Config {
            cluster_name: format!("group-{group}"),
            heartbeat_interval: millis(self.heartbeat),
            heartbeat_min_interval: Some(0),
            election_timeout_min: wait_min_ms,
            election_timeout_max: lease_ms,
            enable_pre_vote: Some(true),
            // `Watcher` has a leader without a majority fall silent: openraft's own clock stands still in a quiet group.
            quorum_loss_probe_interval: None,
            snapshot_policy: SnapshotPolicy::Never,
            // The log is cut by `compact` alone.
            max_in_snapshot_log_to_keep: u64::MAX,
            max_payload_entries: self.max_append_entries,
            install_snapshot_timeout: millis(self.snapshot_timeout),
            backoff: "50ms 200ms ..1s".to_owned(),
            // The state machine is behind the log after a restart: a leader must be elected to know.
            enable_leader_restore: Some(false),
            api_channel_size: Some(4096),
            notification_channel_size: Some(4096),
            ..Config::default()
        };
        config.validate().map_err(|e| e.to_string())
    }
}

/// What a node needs to start.
pub struct NodeConfig {
    pub peer: PeerId,
    /// The server's name, told to peers.
    pub name: String,
    /// Bound already, so that the port is known; served by the node.
    pub listener: TcpListener,
    /// Asked of every caller as `authorization: Bearer <secret>`, and sent to peers.
    pub secret: Option<String>,
    /// Where snapshots wait while they are sent or received. Emptied at start.
    pub spool_dir: PathBuf,
    /// The keys of an encrypted store: what waits in the spool is sealed with them.
    pub spool_vault: Option<Arc<Vault>>,
    /// Answers the admin service; without it the service refuses with UNAVAILABLE until
    /// `RaftNode::set_admin` is called.
    pub admin: Option<Arc<dyn AdminHandler>>,
}
