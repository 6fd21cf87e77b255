//! Changes of a group's members, on its leader: add (learner, caught up, voter), remove, hand over
//! leadership. Each is safe to repeat.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, RaftMetrics};
use tokio::time::Instant;

use crate::error::GroupError;
use crate::group::Group;
use crate::quiet::Acks;
use crate::quiet_group::heard_at;
use crate::raft_types::TypeConfig;
use crate::types::{Leadership, PeerId, PeerInfo};

/// A learner this many entries behind may become a voter.
const CAUGHT_UP_LAG: u64 = 1024;
/// Between two looks or attempts while waiting.
const RETRY: Duration = Duration::from_millis(20);
const CHANGE_RETRY: Duration = Duration::from_millis(100);

type WriteError = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

/// Whether a refused change is worth another attempt.
enum Refusal {
    Later,
    Final(GroupError),
}

fn refusal(error: WriteError) -> Refusal {
    let not_leader = |leader: Option<u64>| GroupError::NotLeader { leader: leader.map(PeerId) };
    let error = match error {
        RaftError::Fatal(fatal) => return Refusal::Final(GroupError::Stopped(fatal.to_string())),
        RaftError::APIError(error) => error,
    };
    match error {
        ClientWriteError::ForwardToLeader(to) | ClientWriteError::LogEntryDiscarded(to) => {
            Refusal::Final(not_leader(to.leader_id))
        }
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::EmptyMembership(_)) => {
            Refusal::Final(GroupError::NoVoterLeft)
        }
        // Another change, or the term's first entry, is not committed yet.
        ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_) => {
            Refusal::Later
        }
    }
}

fn voters(metrics: &RaftMetrics<TypeConfig>) -> BTreeSet<u64> {
    metrics.membership_config.membership().voter_ids().collect()
}

fn is_joint(metrics: &RaftMetrics<TypeConfig>) -> bool {
    metrics.membership_config.membership().get_joint_config().len() > 1
}

fn is_member(metrics: &RaftMetrics<TypeConfig>, peer: PeerId) -> bool {
    metrics.membership_config.membership().get_node(&peer.0).is_some()
}

impl Group {
    fn require_leader(&self) -> Result<(), GroupError> {
        match *self.leadership().borrow() {
            Leadership::Leader { .. } => Ok(()),
            Leadership::Follower { leader } => Err(GroupError::NotLeader { leader }),
        }
    }

    fn with_metrics<T>(&self, look: impl FnOnce(&RaftMetrics<TypeConfig>) -> T) -> T {
        look(&self.raft().metrics().borrow_watched())
    }

    /// Repeats a change until it is done, refused for good, or out of time.
    async fn change(
        &self,
        change: ChangeMembers<u64, PeerInfo>,
        keep_as_learner: bool,
    ) -> Result<(), GroupError> {
        loop {
            self.require_leader()?;
            self.quiet().before_write().await;
            let changing = self.raft().change_membership(change.clone(), keep_as_learner);
            match changing.await.map_err(refusal) {
                Ok(_) => return Ok(()),
                Err(Refusal::Final(error)) => return Err(error),
                Err(Refusal::Later) => tokio::time::sleep(CHANGE_RETRY).await,
            }
        }
    }

    /// Makes `peer` a voter: learner first, voter once caught up. On the leader only. Safe to repeat: an
    /// attempt that ran out of time leaves a learner behind, which the next one goes on with.
    pub async fn add_member(&self, peer: PeerId, timeout: Duration) -> Result<(), GroupError> {
        tokio::time::timeout(timeout, self.add_voter(peer)).await.unwrap_or(Err(GroupError::Timeout(timeout)))
    }

    async fn add_voter(&self, peer: PeerId) -> Result<(), GroupError> {
        self.require_leader()?;
        if self.with_metrics(|m| voters(m).contains(&peer.0) && !is_joint(m)) {
            return Ok(());
        }
        if !self.with_metrics(|m| is_member(m, peer)) {
            let info = self.peer_info(peer).ok_or(GroupError::UnknownPeer(peer))?;
            let nodes = BTreeMap::from([(peer.0, info)]);
            self.change(ChangeMembers::AddNodes(nodes), true).await?;
        }
        while !self.with_metrics(|m| caught_up(m, peer)) {
            self.require_leader()?;
            tokio::time::sleep(RETRY).await;
        }
        let promoted = BTreeSet::from([peer.0]);
        self.change(ChangeMembers::AddVoterIds(promoted), true).await
    }

    /// Takes `peer` out of the group. On the leader only; a leader may remove itself, and hands over.
    /// Safe to repeat.
    pub async fn remove_member(&self, peer: PeerId, timeout: Duration) -> Result<(), GroupError> {
        tokio::time::timeout(timeout, self.remove(peer)).await.unwrap_or(Err(GroupError::Timeout(timeout)))
    }

    async fn remove(&self, peer: PeerId) -> Result<(), GroupError> {
        self.require_leader()?;
        let gone = BTreeSet::from([peer.0]);
        if self.with_metrics(|m| voters(m).contains(&peer.0)) {
            if self.with_metrics(|m| voters(m) == gone) {
                return Err(GroupError::NoVoterLeft);
            }
            self.change(ChangeMembers::RemoveVoters(gone.clone()), false).await?;
        }
        if self.with_metrics(|m| is_member(m, peer) && !voters(m).contains(&peer.0)) {
            self.change(ChangeMembers::RemoveNodes(gone), true).await?;
        }
        Ok(())
    }

    /// Hands leadership to `to`, or to the voter whose log is furthest; returns once this replica no
    /// longer leads. Succeeds at once when it does not lead. A replica that has just been elected has not
    /// heard all voters yet, so one that is silent gets as long as a lease to answer.
    ///
    /// # Errors
    /// `NotVoter` when `to` is none, `Silent` when it has not answered lately, `NoVoterLeft` when there is
    /// no other voter, `Timeout` when nobody took over within twice the longest election time.
    pub async fn transfer_leader(&self, to: Option<PeerId>) -> Result<(), GroupError> {
        let timeout = self.options().election_max * 2;
        let attempt = self.options().election_min / 2;
        let lately = self.options().lease();
        let (deadline, silent_until) = (Instant::now() + timeout, Instant::now() + lately);
        while self.leadership().borrow().is_leader() {
            if Instant::now() >= deadline {
                return Err(GroupError::Timeout(timeout));
            }
            let acks = self.quiet().acks();
            let target = match self.with_metrics(|m| transfer_target(m, &acks, to, lately)) {
                Err(GroupError::Silent(_)) if Instant::now() < silent_until => {
                    tokio::time::sleep(self.options().heartbeat / 4).await;
                    continue;
                }
                other => other?,
            };
            let stopped = |e: openraft::error::Fatal<TypeConfig>| GroupError::Stopped(e.to_string());
            self.quiet().hand_over();
            self.raft().trigger().transfer_leader(target).await.map_err(stopped)?;
            let mut leadership = self.leadership();
            let lost = leadership.wait_for(|now| !now.is_leader());
            // Either it is lost, which the loop sees, or it is time for another attempt.
            let _ = tokio::time::timeout(attempt, lost).await;
        }
        Ok(())
    }
}

fn caught_up(metrics: &RaftMetrics<TypeConfig>, peer: PeerId) -> bool {
    let matched = metrics
        .replication
        .as_ref()
        .and_then(|replication| replication.get(&peer.0))
        .and_then(|id| id.as_ref())
        .map_or(0, |id| id.index.saturating_add(1));
    let last = metrics.last_log_index.map_or(0, |index| index.saturating_add(1));
    matched > 0 && last.saturating_sub(matched) <= CAUGHT_UP_LAG
}

/// Whether a member has answered the leader lately.
fn is_heard(metrics: &RaftMetrics<TypeConfig>, acks: &Acks, peer: u64, lately: Duration) -> bool {
    heard_at(metrics, acks, peer).is_some_and(|at| at.elapsed() < lately)
}

fn transfer_target(
    metrics: &RaftMetrics<TypeConfig>,
    acks: &Acks,
    to: Option<PeerId>,
    lately: Duration,
) -> Result<u64, GroupError> {
    let mut others = voters(metrics);
    others.remove(&metrics.id);
    if let Some(to) = to {
        return match (others.contains(&to.0), is_heard(metrics, acks, to.0, lately)) {
            (false, _) => Err(GroupError::NotVoter(to)),
            (true, false) => Err(GroupError::Silent(to)),
            (true, true) => Ok(to.0),
        };
    }
    let matched = |peer: &u64| *metrics.replication.as_ref()?.get(peer)?;
    let heard = others.iter().copied().filter(|peer| is_heard(metrics, acks, *peer, lately));
    let best = heard.max_by_key(|peer| matched(peer));
    let silent = others.first().map(|peer| GroupError::Silent(PeerId(*peer)));
    best.ok_or(silent.unwrap_or(GroupError::NoVoterLeft))
}
