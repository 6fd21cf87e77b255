//! Watches a group's Raft and tells its machine whether it may act as leader: after its log is applied
//! up to its term's first entry, and only while a majority answers. It tells the log as well what nobody will read.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{ChangeMembers, RaftMetrics, ServerState};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::log_store::LogStore;
use crate::machine::Machine;
use crate::quiet::Acks;
use crate::quiet_group::{QuietGroup, majority_at, may_ask};
use crate::raft_types::TypeConfig;
use crate::registry::RaftHandle;
use crate::status::read_by_all;
use crate::types::{Leadership, PeerId};

/// A leader that lost its majority looks this often whether it is back.
const SHORTEST_LOOK: Duration = Duration::from_millis(20);
/// Whoever asks for a change of members finishes it within this time, or has given up.
const JOINT_GRACE: Duration = Duration::from_secs(2);
/// Between two attempts to finish an old change of members.
const JOINT_RETRY: Duration = Duration::from_millis(500);

pub(crate) struct Watcher {
    pub(crate) raft: RaftHandle,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) log: LogStore,
    pub(crate) told: watch::Sender<Leadership>,
    pub(crate) quiet: Arc<QuietGroup>,
    /// A leader that no majority has answered for this long does not act as one.
    pub(crate) lease: Duration,
}

/// A term as leader, and since when it is known here.
type Term = Option<(u64, Instant)>;

/// For how long a leader, known as such `since`, has not heard of a majority; it may act until that is a lease. Nothing
/// when it is alone.
fn silence(metrics: &RaftMetrics<TypeConfig>, acks: &Acks, since: Instant) -> Duration {
    let mut voters = metrics.membership_config.membership().voter_ids();
    let alone = voters.next() == Some(metrics.id) && voters.next().is_none();
    if alone {
        return Duration::ZERO;
    }
    let silent = majority_at(metrics, acks).map(|at| at.elapsed());
    silent.map_or(since.elapsed(), |silent| silent.min(since.elapsed()))
}

impl Watcher {
    pub(crate) async fn run(self) {
        let mut metrics = self.raft.metrics();
        let mut term: Term = None;
        let mut joint_seen = None;
        let mut finishing = None;
        let mut read_upto = 0;
        loop {
            read_upto = self.forget_read(&metrics.borrow_watched(), read_upto);
            self.quiet.notice();
            let acks = self.quiet.acks();
            let (now, silent) = self.judge(&metrics.borrow_watched(), &acks, &mut term);
            let until = self.lease.saturating_sub(silent);
            self.quiet.silence(!may_ask(silent, self.lease));
            self.tell(now);
            let joint_term = self.joint_term(&metrics.borrow_watched(), now, &mut joint_seen);
            match (joint_term, finishing) {
                (Some(term), None) => {
                    self.finish_joint(term);
                    finishing = Some(term);
                }
                (Some(term), Some(before)) if term == before => {}
                _ => finishing = None,
            }
            // A silent majority changes no metrics: look again by the clock while leading.
            let changed = metrics.changed();
            let ended = if term.is_some() {
                let changed = tokio::time::timeout(until.max(SHORTEST_LOOK), changed);
                matches!(changed.await, Ok(Err(_)))
            } else {
                changed.await.is_err()
            };
            if ended {
                self.tell(Leadership::Follower { leader: None });
                return;
            }
        }
    }

    /// What everybody has read leaves memory. Returns up to where that is.
    fn forget_read(&self, metrics: &RaftMetrics<TypeConfig>, before: u64) -> u64 {
        let upto = read_by_all(metrics);
        if upto != before {
            self.log.forget_payloads(upto);
        }
        upto
    }

    /// Whether this replica may act as leader, and for how long it has not heard of a majority.
    fn judge(
        &self,
        metrics: &RaftMetrics<TypeConfig>,
        acks: &Acks,
        term: &mut Term,
    ) -> (Leadership, Duration) {
        let stopped = metrics.running_state.is_err();
        if stopped || metrics.state != ServerState::Leader {
            *term = None;
            let leader = metrics.current_leader.filter(|_| !stopped).map(PeerId);
            // Its own old leadership is no news of a leader.
            let leader = leader.filter(|leader| leader.0 != metrics.id);
            return (Leadership::Follower { leader }, Duration::ZERO);
        }
        let current = metrics.current_term;
        let since = match *term {
            Some((known, since)) if known == current => since,
            _ => Instant::now(),
        };
        *term = Some((current, since));
        let applied_own_entry = metrics.last_applied.as_ref().is_some_and(|id| id.leader_id.term == current);
        let silent = silence(metrics, acks, since);
        if !applied_own_entry || silent >= self.lease {
            return (Leadership::Follower { leader: None }, silent);
        }
        (Leadership::Leader { term: current }, silent)
    }

    fn tell(&self, now: Leadership) {
        let before = *self.told.borrow();
        if before.is_leader() && now.is_leader() && before != now {
            // The loss in between went by unseen.
            self.tell(Leadership::Follower { leader: None });
        }
        let changed = self.told.send_if_modified(|told| {
            let changed = *told != now;
            *told = now;
            changed
        });
        if changed {
            self.machine.leadership(now);
        }
    }

    /// The term, when this replica leads and a change of members was left half done: by an earlier leader,
    /// or by an asker who gave up.
    fn joint_term(
        &self,
        metrics: &RaftMetrics<TypeConfig>,
        now: Leadership,
        seen: &mut Option<(u64, Instant)>,
    ) -> Option<u64> {
        let membership = &metrics.membership_config;
        let joint = membership.membership().get_joint_config().len() > 1;
        let (Leadership::Leader { term }, Some(id), true) = (now, membership.log_id(), joint) else {
            *seen = None;
            return None;
        };
        let since = match *seen {
            Some((index, since)) if index == id.index => since,
            _ => Instant::now(),
        };
        *seen = Some((id.index, since));
        let left_behind = id.leader_id.term < term || since.elapsed() > JOINT_GRACE;
        left_behind.then_some(term)
    }

    fn finish_joint(&self, term: u64) {
        let raft = self.raft.clone();
        let mut leadership = self.told.subscribe();
        tokio::spawn(async move {
            let no_change = ChangeMembers::AddVoterIds(std::collections::BTreeSet::new());
            let lost = leadership.wait_for(|now| *now != Leadership::Leader { term });
            let finish = async {
                while let Err(error) = raft.change_membership(no_change.clone(), false).await {
                    tracing::debug!(%error, "an old change of members is not finished yet");
                    tokio::time::sleep(JOINT_RETRY).await;
                }
            };
            tokio::select! {
                _ = lost => {}
                () = finish => {}
            }
        });
    }
}
