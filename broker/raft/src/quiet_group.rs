//! A group's quiet (see `quiet`) bound to its Raft: reads what Raft says, and starts and stops its clock.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::alias::InstantOf;
use openraft::{Instant as _, RaftMetrics, ReadPolicy, ServerState};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::quiet::{Acks, Listing, Other, Quiet, Role, Timing, View};
use crate::raft_types::{LogId, TypeConfig, outer_index};
use crate::registry::RaftHandle;
use crate::types::Leadership;

/// One replica's quiet.
///
/// Its lock is taken before what Raft says is read and after the leadership is, never the other way round.
pub(crate) struct QuietGroup {
    raft: RaftHandle,
    leadership: watch::Receiver<Leadership>,
    state: Mutex<Quiet>,
    lease: Duration,
    /// Raft's clock has stood still since a majority answered Raft last.
    rested: AtomicBool,
    /// A leader that lost its majority says nothing for a while.
    silenced: AtomicBool,
}

/// A request for a vote on its way through Raft.
pub(crate) struct VoteUnderWay(Arc<QuietGroup>);

impl Drop for VoteUnderWay {
    fn drop(&mut self) {
        self.0.state.lock().vote_answered();
    }
}

/// openraft keeps its time to itself but for how long ago it is; never later than it was.
fn instant(at: &InstantOf<TypeConfig>) -> Option<Instant> {
    let now = Instant::now();
    now.checked_sub(at.elapsed())
}

/// When what `peer` answered last was sent, heartbeat or list.
pub(crate) fn heard_at(metrics: &RaftMetrics<TypeConfig>, acks: &Acks, peer: u64) -> Option<Instant> {
    let heartbeats = metrics.heartbeat.as_ref();
    let heartbeat = heartbeats.and_then(|heartbeats| heartbeats.get(&peer)?.as_ref());
    heartbeat.and_then(|at| instant(at)).max(acks.at(metrics.current_term, peer))
}

/// When a leader sent what a majority of each configuration has answered, heartbeat or list. `None` when a majority
/// has not answered yet, or it needs nobody else.
pub(crate) fn majority_at(metrics: &RaftMetrics<TypeConfig>, acks: &Acks) -> Option<Instant> {
    let configurations = metrics.membership_config.membership().get_joint_config().iter();
    let mut oldest: Option<Option<Instant>> = None;
    for voters in configurations {
        let majority = voters.len() / 2 + 1;
        let needed = majority - usize::from(voters.contains(&metrics.id));
        let Some(rank) = needed.checked_sub(1) else {
            continue;
        };
        let others = voters.iter().filter(|peer| **peer != metrics.id);
        let mut answered = others.map(|peer| heard_at(metrics, acks, *peer)).collect::<Vec<_>>();
        answered.sort_unstable_by(|a, b| b.cmp(a));
        let at = answered.get(rank).copied().flatten();
        oldest = Some(oldest.map_or(at, |oldest| oldest.min(at)));
    }
    oldest.flatten().max(metrics.last_quorum_acked.as_ref().and_then(|at| instant(at)))
}

fn others(metrics: &RaftMetrics<TypeConfig>, acks: &Acks) -> Vec<Other> {
    let members = metrics.membership_config.membership().nodes().map(|(peer, _)| *peer);
    let matched = |peer: u64| {
        let matched = metrics.replication.as_ref()?.get(&peer)?.as_ref()?;
        Some(outer_index(matched.index))
    };
    let other =
        |peer| Other { peer, matched: matched(peer).unwrap_or(0), heard: heard_at(metrics, acks, peer) };
    members.filter(|peer| *peer != metrics.id).map(other).collect()
}

fn view_of(metrics: &RaftMetrics<TypeConfig>, leadership: Leadership, acks: &Acks) -> View {
    let index = |id: &Option<LogId>| id.as_ref().map_or(0, |id| outer_index(id.index));
    let role = match metrics.state {
        _ if metrics.running_state.is_err() => Role::Other,
        ServerState::Leader => Role::Leader,
        ServerState::Follower | ServerState::Learner => Role::Follower,
        ServerState::Candidate | ServerState::Shutdown => Role::Other,
    };
    let membership = &metrics.membership_config;
    let is_settled = membership.log_id() == metrics.committed_membership_config.log_id()
        && membership.membership().get_joint_config().len() == 1;
    View {
        role,
        term: metrics.current_term,
        leader: metrics.current_leader,
        last: metrics.last_log_index.map_or(0, outer_index),
        applied: index(&metrics.last_applied),
        acting: leadership == (Leadership::Leader { term: metrics.current_term }) && is_settled,
        others: if role == Role::Leader { others(metrics, acks) } else { Vec::new() },
    }
}

/// Between 0 and 1; two servers stand for election at different times.
fn chance() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

impl QuietGroup {
    pub(crate) fn new(
        raft: RaftHandle,
        leadership: watch::Receiver<Leadership>,
        timing: Timing,
    ) -> Arc<Self> {
        let state = Mutex::new(Quiet::new(timing));
        let (rested, silenced) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { raft, leadership, state, lease: timing.lease, rested, silenced })
    }

    /// Does something with the state, and has Raft's clock go or stand accordingly. Standing, it takes no part in
    /// elections either: a tick may be on its way already.
    fn with<T>(&self, act: impl FnOnce(&mut Quiet, &View) -> T) -> T {
        let leadership = *self.leadership.borrow();
        let mut state = self.state.lock();
        let before = state.ticks();
        let view = view_of(&self.raft.metrics().borrow_watched(), leadership, state.acks());
        let done = act(&mut state, &view);
        let after = state.ticks();
        if before != after {
            if !after {
                self.rested.store(true, Ordering::Relaxed);
            }
            self.raft.runtime_config().elect(after);
            self.raft.runtime_config().tick(after);
        }
        done
    }

    /// Ends the quiet if Raft has moved on. The beat finds whatever moved just before the quiet began.
    pub(crate) fn notice(&self) {
        if !self.state.lock().is_quiet() {
            return;
        }
        self.with(|state, view| state.notice(Instant::now(), view));
    }

    /// The look at each heartbeat: what is to be listed, and to whom.
    pub(crate) fn beat(&self, now: Instant) -> Option<(Listing, Vec<u64>)> {
        self.with(|state, view| {
            let listing = state.beat(now, view)?;
            Some((listing, view.others.iter().map(|other| other.peer).collect()))
        })
    }

    pub(crate) fn agreed(&self, peer: u64, listing: Listing, sent: Instant) {
        self.with(|state, view| state.agreed(peer, listing, sent, view));
    }

    pub(crate) fn refused(&self, listing: Listing) {
        self.with(|state, _| state.refused(listing));
    }

    pub(crate) fn listed(&self, from: u64, listing: Listing) -> bool {
        self.with(|state, view| state.listed(Instant::now(), from, listing, view, chance()))
    }

    pub(crate) fn heard(&self, leader: u64, term: u64, at: Instant) {
        self.with(|state, _| state.heard(leader, term, at));
    }

    /// Lets a request for a vote pass to Raft, unless it is to be refused.
    pub(crate) fn pass_vote(self: &Arc<Self>) -> Option<VoteUnderWay> {
        let now = Instant::now();
        let leadership = *self.leadership.borrow();
        let mut state = self.state.lock();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let view = view_of(&metrics, leadership, state.acks());
        let majority_at = majority_at(&metrics, state.acks());
        if state.refuses_votes(now, &view, majority_at) {
            return None;
        }
        state.vote_passed_on();
        Some(VoteUnderWay(Arc::clone(self)))
    }

    /// The leader of `term`, or of one before it, has ordered an election.
    pub(crate) fn released(&self, term: u64) {
        self.with(|state, _| state.released(term));
    }

    /// This replica begins to hand over what it leads.
    pub(crate) fn hand_over(&self) {
        self.with(|state, view| state.hand_over(view.term));
    }

    /// Before something is written. Raft takes nothing in while a majority has not answered it within a lease, and in a
    /// group at rest nobody has; so it asks once, which takes as long as a heartbeat. What it then answers itself tells
    /// if that was in vain.
    pub(crate) async fn before_write(&self) {
        if !self.rested.load(Ordering::Relaxed) {
            return;
        }
        let is_fresh = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.last_quorum_acked.as_ref().is_some_and(|at| at.elapsed() < self.lease / 2)
        };
        if !is_fresh && self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await.is_err() {
            return;
        }
        let state = self.state.lock();
        if state.ticks() {
            self.rested.store(false, Ordering::Relaxed);
        }
    }

    /// When the lists were sent that the others agreed to.
    pub(crate) fn acks(&self) -> Acks {
        self.state.lock().acks().clone()
    }

    /// Has a leader that lost its majority fall silent, or ask again.
    pub(crate) fn silence(&self, silenced: bool) {
        self.silenced.store(silenced, Ordering::Relaxed);
        self.raft.runtime_config().heartbeat(!silenced);
    }

    pub(crate) fn is_silenced(&self) -> bool {
        self.silenced.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn is_quiet(&self) -> bool {
        self.state.lock().is_quiet()
    }
}

/// Whether a leader that has not heard of a majority for so long asks at all: after its lease it is silent for two,
/// so that those it reaches may elect another, then asks for two, and so on.
pub(crate) fn may_ask(silent: Duration, lease: Duration) -> bool {
    let period_nanos = lease.as_nanos().saturating_mul(2).max(1);
    match silent.checked_sub(lease) {
        None => true,
        Some(over) => (over.as_nanos() / period_nanos) % 2 == 1,
    }
}
