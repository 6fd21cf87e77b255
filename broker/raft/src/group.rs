//! One Raft group as its owner sees it: opened on what the journal has, proposed to, cut, asked.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{InitializeError, LinearizableReadError, RaftError};
use tokio::sync::watch;

use crate::error::{GroupError, OpenError, ProposeError};
use crate::group_log::GroupLog;
use crate::leadership::Watcher;
use crate::log_store::LogStore;
use crate::machine::Machine;
use crate::net::client::Network;
use crate::net::peers::Peers;
use crate::options::GroupOptions;
use crate::propose::{Proposals, Proposed};
use crate::quiet_group::QuietGroup;
use crate::raft_types::{TypeConfig, inner_index, outer_index, position};
use crate::registry::RaftHandle;
use crate::snapshot::Spool;
use crate::state_machine::{MachineState, StateMachine};
use crate::status::status_of;
use crate::types::{GroupId, GroupInside, GroupStatus, Leadership, PeerId, PeerInfo};

/// A handle to an open group; clones share it.
#[derive(Clone)]
pub struct Group {
    inner: Arc<GroupInner>,
}

struct GroupInner {
    id: GroupId,
    raft: RaftHandle,
    log: LogStore,
    state: Arc<MachineState>,
    peers: Arc<Peers>,
    options: GroupOptions,
    proposals: Proposals,
    leadership: watch::Receiver<Leadership>,
    quiet: Arc<QuietGroup>,
}

/// What opening a group needs of its node.
pub(crate) struct Opening {
    pub(crate) id: GroupId,
    pub(crate) log: Arc<dyn GroupLog>,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) spool: Spool,
    pub(crate) options: GroupOptions,
}

impl Opening {
    pub(crate) async fn open(self) -> Result<Group, OpenError> {
        let id = self.id;
        let log_error = |reason: String| OpenError::Log { group: id.0, reason };
        let config = self.options.config(id.0);
        let config = config.map_err(|reason| OpenError::Options(id.0, reason))?;
        let log = LogStore::open(Arc::clone(&self.log), id).map_err(|e| log_error(e.to_string()))?;
        self.check_state(&log)?;
        let state = MachineState::new(Arc::clone(&self.machine), log.clone())
            .map_err(|e| log_error(e.to_string()))?;
        let network = Network {
            peers: Arc::clone(&self.peers),
            group: id,
            spool: self.spool,
            append_timeout: self.options.election_min,
            vote_timeout: self.options.election_min / 2,
        };
        let adapter = StateMachine { state: Arc::clone(&state) };
        let this = self.peers.this.0;
        let raft = RaftHandle::new(this, Arc::new(config), network, log.clone(), adapter)
            .await
            .map_err(|e| log_error(e.to_string()))?;
        state.set_running();
        let (told, leadership) = watch::channel(Leadership::Follower { leader: None });
        let quiet = QuietGroup::new(raft.clone(), leadership.clone(), self.options.quiet_timing());
        let watcher = Watcher {
            raft: raft.clone(),
            machine: self.machine,
            log: log.clone(),
            told,
            quiet: Arc::clone(&quiet),
            lease: self.options.lease(),
        };
        tokio::spawn(watcher.run());
        let proposals = Proposals::start(raft.clone(), Arc::clone(&quiet), leadership.clone(), &self.options);
        Ok(Group {
            inner: Arc::new(GroupInner {
                id,
                raft,
                log,
                state,
                peers: self.peers,
                options: self.options,
                proposals,
                leadership,
                quiet,
            }),
        })
    }

    /// A machine that has less than what was cut off the log cannot be brought up to date from it.
    fn check_state(&self, log: &LogStore) -> Result<(), OpenError> {
        let purged = log.purged().map_err(|e| OpenError::Log { group: self.id.0, reason: e.to_string() })?;
        let purged = purged.map_or(0, |id| outer_index(id.index));
        let applied = self.machine.applied().map_or(0, |at| at.index);
        if applied < purged {
            return Err(OpenError::StateLost { group: self.id.0, applied, purged });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group({})", self.inner.id.0)
    }
}

impl Group {
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.inner.id
    }

    pub(crate) fn raft(&self) -> &RaftHandle {
        &self.inner.raft
    }

    pub(crate) fn quiet(&self) -> &Arc<QuietGroup> {
        &self.inner.quiet
    }

    pub(crate) fn options(&self) -> &GroupOptions {
        &self.inner.options
    }

    pub(crate) fn peer_info(&self, peer: PeerId) -> Option<PeerInfo> {
        self.inner.peers.info(peer)
    }

    /// True once the group has members: initialised here, or joined through its leader.
    #[must_use]
    pub fn is_initialized(&self) -> bool {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let mut voters = metrics.membership_config.membership().voter_ids();
        voters.next().is_some()
    }

    /// Makes the first configuration, on one member, once; the others only open the group. `members`
    /// must contain this server.
    ///
    /// # Errors
    /// `AlreadyInitialised` when the group has a log or has voted.
    pub async fn initialize(&self, members: Vec<PeerId>) -> Result<(), GroupError> {
        let mut nodes = BTreeMap::new();
        for peer in members {
            let known = self.inner.peers.info(peer);
            let this = peer == self.inner.peers.this;
            let info = match known {
                Some(info) => info,
                None if this => PeerInfo::default(),
                None => return Err(GroupError::UnknownPeer(peer)),
            };
            nodes.insert(peer.0, info);
        }
        match self.inner.raft.initialize(nodes).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Err(GroupError::AlreadyInitialised),
            Err(RaftError::APIError(InitializeError::NotInMembers(_))) => {
                Err(GroupError::NotVoter(self.inner.peers.this))
            }
            Err(RaftError::Fatal(fatal)) => Err(GroupError::Stopped(fatal.to_string())),
        }
    }

    /// Proposes one entry. The order of calls is the order in the log; the future only waits, and may be
    /// dropped. Many calls in a row travel together.
    pub fn propose(
        &self,
        payload: Bytes,
    ) -> impl Future<Output = Result<Proposed, ProposeError>> + Send + 'static + use<> {
        self.inner.proposals.propose(&payload)
    }

    /// Waits until a proposal would not be refused for `Backpressure`.
    pub async fn ready(&self) {
        self.inner.proposals.ready().await;
    }

    /// The replica's leadership, as `Machine::leadership` is told it.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    #[must_use]
    pub fn status(&self) -> GroupStatus {
        let leadership = *self.inner.leadership.borrow();
        let acks = self.inner.quiet.acks();
        let metrics = self.inner.raft.metrics();
        status_of(&metrics.borrow_watched(), leadership, &acks)
    }

    /// What `status` leaves out; it may read the log's last entry.
    #[must_use]
    pub fn inside(&self) -> GroupInside {
        let log = &self.inner.log;
        let extent = log.extent();
        let last = extent.present.map_or(extent.purged_to, |(_, last)| last);
        // An entry that cannot be read shows elsewhere.
        let last_term = log.id_at(last).ok().flatten().map_or(0, |id| position(&id).term);
        GroupInside {
            last_term,
            voted_for: log.vote().map(|vote| PeerId(vote.leader_id.voted_for)),
            log_bytes: log.bytes_after(extent.purged_to),
            proposals: self.inner.proposals.in_flight(),
        }
    }

    /// Tells the group that the machine's state up to `index` is durable: the log may be cut there. A
    /// leader keeps up to `lag_bytes` more for members that lag. Does nothing when already cut.
    pub async fn compact(&self, index: u64) -> Result<(), GroupError> {
        let stopped = |reason: String| GroupError::Stopped(reason);
        let applied = self.inner.state.applied().map_or(0, |id| outer_index(id.index));
        let index = index.min(applied);
        let found = self.inner.log.id_at(index).map_err(|e| stopped(e.to_string()))?;
        let Some(target) = found else {
            return Ok(());
        };
        self.inner.state.set_durable(target);
        let raft = &self.inner.raft;
        let fatal = |e: openraft::error::Fatal<TypeConfig>| stopped(e.to_string());
        raft.trigger().snapshot().await.map_err(fatal)?;
        let noted = raft.wait(Some(Duration::from_secs(10)));
        let noted = noted.metrics(|m| m.snapshot >= Some(target), "checkpoint noted");
        noted.await.map_err(|e| stopped(e.to_string()))?;
        let keep_after = self.keep_after(index);
        if keep_after == 0 {
            return Ok(());
        }
        raft.trigger().purge_log(inner_index(keep_after)).await.map_err(fatal)
    }

    /// How far the log may be cut: `index`, or less for a member that lags not too many bytes.
    fn keep_after(&self, index: u64) -> u64 {
        let status = self.status();
        let slowest = status.replication.iter().map(|r| r.matched).min();
        match slowest {
            Some(matched) if matched < index => {
                let behind = self.inner.log.bytes_between(matched, index);
                let keep = behind.is_some_and(|bytes| bytes <= self.inner.options.lag_bytes);
                if keep { matched } else { index }
            }
            _ => index,
        }
    }

    /// Waits until everything committed when it was called is applied here, confirmed by a majority.
    /// On the leader only. Returns the index.
    pub async fn read_barrier(&self) -> Result<u64, GroupError> {
        // It would renew the promises of those that are to be free to elect another.
        if self.inner.quiet.is_silenced() {
            return Err(GroupError::NoQuorum);
        }
        match self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(read) => Ok(outer_index(read.index())),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                let leader = to.leader_id.map(PeerId);
                Err(GroupError::NotLeader { leader })
            }
            Err(RaftError::APIError(_)) => Err(GroupError::NoQuorum),
            Err(RaftError::Fatal(fatal)) => Err(GroupError::Stopped(fatal.to_string())),
        }
    }

    /// Waits until the machine has applied `index`.
    pub async fn wait_applied(&self, index: u64, timeout: Duration) -> Result<(), GroupError> {
        if index == 0 {
            return Ok(());
        }
        let wait = self.inner.raft.wait(Some(timeout));
        let wait = wait.applied_index_at_least(Some(inner_index(index)), "wait_applied");
        match wait.await {
            Ok(_) => Ok(()),
            Err(openraft::metrics::WaitError::Timeout(..)) => Err(GroupError::Timeout(timeout)),
            Err(error) => Err(GroupError::Stopped(error.to_string())),
        }
    }

    /// Tries members again at once that were not reachable.
    pub(crate) async fn reset_backoff(&self, peer: PeerId) {
        // A stopped group needs none.
        let _ = self.inner.raft.trigger().reset_backoff([peer.0]).await;
    }

    /// Stops Raft; the log keeps what it has.
    pub(crate) async fn stop(&self) {
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::error!(group = self.inner.id.0, %error, "stopping a group");
        }
        if let Err(error) = self.inner.log.flush().await {
            tracing::warn!(group = self.inner.id.0, %error, "stopping a group");
        }
    }
}
