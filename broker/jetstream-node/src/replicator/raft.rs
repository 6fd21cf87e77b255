//! A log kept by a Raft group. It translates between `weir-raft`'s group and this room's `Replicated`:
//! entries in one direction, committed entries and leadership in the other.

use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use parking_lot::Mutex;
use weir_raft::{
    Committed, Group, Leadership, LogPosition, Machine, MachineError, PeerId, Response, SnapshotSource,
};

use super::{LogStatus, OnFailure, ProposeError, ReplicaStatus, Replicator};
use crate::replicated::{LogEntry, Replicated, Role, SnapshotView, StateMachine};

/// A follower whose log is this close to the leader's counts as current.
const CURRENT_LAG_MAX: u64 = 1_000;
/// A follower silent for longer is not current.
const CURRENT_SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(3);

/// A handle of an open group.
pub(crate) struct RaftLog {
    group: Group,
    runtime: tokio::runtime::Handle,
}

impl RaftLog {
    pub(crate) fn new(group: Group) -> Arc<Self> {
        Arc::new(Self { group, runtime: tokio::runtime::Handle::current() })
    }
}

impl Replicator for RaftLog {
    fn submit(&self, entry: Bytes, on_failure: OnFailure) {
        let proposal = self.group.propose(entry);
        self.runtime.spawn(async move {
            // The outcome reaches the proposer through `Replicated`, from the apply itself.
            if let Err(error) = proposal.await {
                on_failure(translate(error));
            }
        });
    }

    fn status(&self) -> LogStatus {
        let status = self.group.status();
        LogStatus {
            is_leader: status.is_leader,
            leader: status.leader,
            term: status.term,
            committed: status.committed,
            applied: status.applied,
            replicas: status.replication.iter().map(replica_status).collect(),
            members: status.voters,
        }
    }

    fn compact(&self, index: u64) {
        let group = self.group.clone();
        self.runtime.spawn(async move {
            if let Err(error) = group.compact(index).await {
                tracing::warn!("compacting a group's log up to entry {index} failed: {error}");
            }
        });
    }

    fn step_down(&self, to: Option<PeerId>) -> futures::future::BoxFuture<'static, Result<(), String>> {
        let group = self.group.clone();
        async move { group.transfer_leader(to).await.map(|_| ()).map_err(|error| error.to_string()) }.boxed()
    }

    fn group(&self) -> Option<Group> {
        Some(self.group.clone())
    }
}

fn translate(error: weir_raft::ProposeError) -> ProposeError {
    match error {
        weir_raft::ProposeError::NotLeader { leader } => ProposeError::NotLeader { leader },
        weir_raft::ProposeError::Backpressure => ProposeError::Backpressure,
        other => ProposeError::Unknown(other.to_string()),
    }
}

fn replica_status(status: &weir_raft::ReplicationStatus) -> ReplicaStatus {
    // One that has no vote for sure does not keep the stream alive.
    let current = status.is_settled
        && status.lag <= CURRENT_LAG_MAX
        && status.last_contact.is_some_and(|silence| silence <= CURRENT_SILENCE_MAX);
    ReplicaStatus {
        peer: status.peer,
        current,
        active_nanos: status
            .last_contact
            .map_or(0, |silence| u64::try_from(silence.as_nanos()).unwrap_or(u64::MAX)),
        lag: status.lag,
        online: status.last_contact.is_some_and(|silence| silence <= CURRENT_SILENCE_MAX),
    }
}

/// What a Raft group applies to: a `Replicated` and its machine.
pub(crate) struct GroupMachine<M: StateMachine>(pub(crate) Arc<Replicated<M>>);

impl<M: StateMachine> Machine for GroupMachine<M> {
    fn applied(&self) -> Option<LogPosition> {
        let (term, index) = self.0.lock().applied();
        (index > 0 || term > 0).then_some(LogPosition { term, index })
    }

    fn apply(&self, entries: Vec<Committed>) -> Result<Vec<Response>, MachineError> {
        let responses = entries.iter().map(|_| None).collect();
        self.0.apply(
            entries
                .into_iter()
                .map(|entry| LogEntry { term: entry.term, index: entry.index, payload: entry.payload })
                .collect(),
        );
        match self.0.failure() {
            Some(reason) => Err(reason.into()),
            None => Ok(responses),
        }
    }

    fn snapshot(&self) -> Result<Box<dyn SnapshotSource>, MachineError> {
        let mut machine = self.0.lock();
        let (term, index) = machine.applied();
        let view = machine.snapshot()?;
        Ok(Box::new(Source { position: LogPosition { term, index }, view: Mutex::new(view) }))
    }

    fn install(&self, position: LogPosition, content: &mut dyn Read) -> Result<(), MachineError> {
        self.0.lock().snapshot_install(position.term, position.index, content)?;
        self.0.installed();
        Ok(())
    }

    fn leadership(&self, state: Leadership) {
        self.0.set_role(match state {
            Leadership::Leader { term } => Role::Leader { term },
            Leadership::Follower { .. } => Role::Follower,
        });
    }
}

/// A view of the state at its position.
struct Source {
    position: LogPosition,
    /// The lock only makes it shareable; it is taken once, to write.
    view: Mutex<SnapshotView>,
}

impl SnapshotSource for Source {
    fn position(&self) -> LogPosition {
        self.position
    }

    fn write_to(self: Box<Self>, out: &mut dyn Write) -> std::io::Result<()> {
        self.view.into_inner()(out)
    }
}
