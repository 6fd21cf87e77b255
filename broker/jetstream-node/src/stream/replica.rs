//! One stream's replica on this server: its files, its log, and what this server does while it leads. Which replicas
//! there are is the meta state's decision; the reconciler opens and closes them.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::task::AbortHandle;
use weir_jetstream::meta::{StreamAssignment, StreamLog};
use weir_jetstream::{StopReason, Store, StreamCommand};
use weir_raft::{GroupId, PeerId};
use weir_storage::Unsynced;

use super::growth;
use super::leader::StreamLeader;
use super::maintenance::Upkeep;
use super::quarantine::{self, OpenFailure};
use super::scrub;
use super::state::StreamState;
use crate::clock;
use crate::context::Context;
use crate::replicated::{Replicated, Role};
use crate::replicator::local::{Durability, LocalLog};
use crate::replicator::raft::{GroupMachine, RaftLog};

/// How long the other peers wait for the first one to start a new group.
const INITIALISE_PATIENCE: Duration = Duration::from_secs(3);

pub(crate) struct StreamReplica {
    pub(super) context: Arc<Context>,
    assignment: RwLock<Arc<StreamAssignment>>,
    pub(crate) replicated: Arc<Replicated<StreamState>>,
    leader: RwLock<Option<Arc<StreamLeader>>>,
    tasks: Mutex<Vec<AbortHandle>>,
    /// Messages whose bytes on disk are damaged, as far as is known.
    unreadable: Mutex<Vec<RangeInclusive<u64>>>,
    /// There was no room for the last checkpoint.
    checkpoint_refused: AtomicBool,
    pub(super) upkeep: Upkeep,
}

/// The folder of a stream's files: named by its group, never by user text.
pub(crate) fn folder(store_dir: &Path, group: u64) -> PathBuf {
    store_dir.join("streams").join(format!("{group:016x}"))
}

impl StreamReplica {
    /// Opens the replica with whatever its files and its log hold; `serve` makes it lead.
    pub(crate) async fn open(
        context: Arc<Context>,
        assignment: Arc<StreamAssignment>,
    ) -> Result<Arc<Self>, String> {
        let folder = folder(&context.store_dir, assignment.group);
        let doubt = context.journal.doubt(GroupId(assignment.group));
        if let Some(reason) = doubt.filter(|_| context.cluster.is_some() && assignment.is_replicated()) {
            quarantine::leave_and_empty(&context, &assignment, &folder, &reason).await?;
        }
        match Self::open_whole(&context, &assignment, &folder).await {
            Err(failure) if failure.damaged && assignment.is_replicated() => {
                quarantine::leave_and_empty(&context, &assignment, &folder, &failure.reason).await?;
                Ok(Self::open_whole(&context, &assignment, &folder).await?)
            }
            result => Ok(result?),
        }
    }

    async fn open_whole(
        context: &Arc<Context>,
        assignment: &Arc<StreamAssignment>,
        folder: &Path,
    ) -> Result<Arc<Self>, OpenFailure> {
        let (disk, options) = (&context.disk, &context.store_options);
        let mut state = StreamState::open(disk, &context.journal, options, folder, assignment)?;
        state.count_fast_batches(&context.batch_totals.fast);
        state.report_to(&context.space, assignment.group);
        let replicated = Replicated::new(state, context.origin);
        let replica = Arc::new(Self {
            context: Arc::clone(context),
            assignment: RwLock::new(Arc::clone(assignment)),
            replicated: Arc::clone(&replicated),
            leader: RwLock::new(None),
            tasks: Mutex::new(Vec::new()),
            unreadable: Mutex::default(),
            checkpoint_refused: AtomicBool::new(false),
            upkeep: Upkeep::default(),
        });
        // Who is asked for unknown accounts hears of this one by that.
        context.account(&assignment.account);
        replica.open_log(assignment).await?;
        Ok(replica)
    }

    /// Serves the stream whenever this server leads it. A request may come at once: the replica has to be among those of
    /// the context before.
    pub(crate) fn serve(self: &Arc<Self>) {
        self.sync_leadership();
        self.spawn(Arc::clone(self).follow_leadership());
        self.spawn(Arc::clone(self).checkpoint_when_due());
        self.spawn(scrub::run(Arc::clone(self)));
    }

    async fn open_log(self: &Arc<Self>, assignment: &Arc<StreamAssignment>) -> Result<(), OpenFailure> {
        let Some(cluster) = self.context.cluster.as_ref().filter(|_| assignment.is_replicated()) else {
            // An unreplicated memory stream is gone with the process: there is nothing to log it for.
            let is_memory = assignment.config.storage == weir_jsapi::StorageType::Memory;
            let journal = (!is_memory).then(|| self.context.journal.clone());
            let group = GroupId(assignment.group);
            let durability = match assignment.config.persist_mode {
                weir_jsapi::PersistMode::Default => Durability::Journal,
                weir_jsapi::PersistMode::Async => Durability::Early,
            };
            self.replicated.attach(LocalLog::open(journal, group, durability, &self.replicated)?);
            if let Some(reason) = self.replicated.failure() {
                let last = self.replicated.lock().machine().store().state().last_seq;
                tracing::error!(
                    "Stream '{} > {}' is stopped: {reason}. Its messages up to {last} are served, nothing is written",
                    assignment.account,
                    assignment.name()
                );
            }
            return Ok(());
        };
        growth::begin_group(&self.context, assignment, &self.replicated).await?;
        let machine = Arc::new(GroupMachine(Arc::clone(&self.replicated)));
        let group = cluster
            .raft
            .open_group(GroupId(assignment.group), machine, cluster.group_options.clone())
            .await
            .map_err(|error| OpenFailure {
                damaged: matches!(error, weir_raft::OpenError::StateLost { .. }),
                reason: error.to_string(),
            })?;
        self.replicated.attach(RaftLog::new(group));
        self.spawn(Arc::clone(self).start_group());
        Ok(())
    }

    /// A new group is started by the first of its peers, by another if that one does not come.
    async fn start_group(self: Arc<Self>) {
        let Some(group) = self.replicated.replicator().and_then(|log| log.group()) else { return };
        let assignment = self.assignment();
        if let StreamLog::GroupFrom(first) = assignment.log {
            if first == self.context.peer_id.0 {
                growth::lead_alone(&self.context, &group).await;
            }
            return;
        }
        let peers: Vec<PeerId> = assignment.peers.iter().map(|id| PeerId(*id)).collect();
        let place = peers.iter().position(|peer| *peer == self.context.peer_id).unwrap_or(peers.len());
        let patience = INITIALISE_PATIENCE * u32::try_from(place).unwrap_or(u32::MAX);
        tokio::time::sleep(patience).await;
        if !group.status().voters.is_empty() {
            return;
        }
        // A peer that joined later is added by the group's leader, never starts the group.
        if assignment.peers != self.assignment().peers || place == peers.len() {
            return;
        }
        if let Err(error) = group.initialize(peers).await {
            tracing::debug!("starting the group of stream {}: {error}", assignment.name());
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = tokio::spawn(task).abort_handle();
        self.tasks.lock().push(handle);
    }

    pub(crate) fn assignment(&self) -> Arc<StreamAssignment> {
        Arc::clone(&self.assignment.read())
    }

    /// The meta state changed this stream: the leader takes the change into the stream's own log.
    pub(crate) fn set_assignment(&self, assignment: Arc<StreamAssignment>) {
        *self.assignment.write() = assignment;
        if let Some(leader) = self.leader() {
            leader.assignment_changed();
        }
    }

    /// What runs while this server leads the stream.
    pub(crate) fn leader(&self) -> Option<Arc<StreamLeader>> {
        self.leader.read().clone()
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.leader.read().is_some()
    }

    async fn follow_leadership(self: Arc<Self>) {
        let mut role = self.replicated.role();
        loop {
            self.sync_leadership();
            if role.changed().await.is_err() {
                return;
            }
        }
    }

    /// Starts or stops what only the leader does, and only for an account that has JetStream.
    pub(crate) fn sync_leadership(self: &Arc<Self>) {
        let role = *self.replicated.role().borrow();
        let mut leader = self.leader.write();
        let assignment = self.assignment();
        if assignment.restoring || !self.context.accounts.is_served(&assignment.account) {
            stop(leader.take(), StopReason::ServerShutdown);
            return;
        }
        match role {
            Role::Leader { term } if leader.as_ref().is_some_and(|leader| leader.term() == term) => {}
            Role::Leader { term } => {
                stop(leader.take(), StopReason::LeadershipChange);
                *leader = StreamLeader::start(Arc::clone(&self.context), Arc::downgrade(self), term);
            }
            Role::Follower => stop(leader.take(), StopReason::LeadershipChange),
        }
    }

    /// Bytes stored here, unless the stream is busy.
    pub(crate) fn bytes(&self) -> Option<i64> {
        let state = self.replicated.try_lock()?;
        Some(i64::try_from(state.machine().state().bytes).unwrap_or(i64::MAX))
    }

    /// Takes over what a check of the files found, and says so.
    pub(crate) fn set_unreadable(self: &Arc<Self>, damaged: Vec<RangeInclusive<u64>>) {
        if !damaged.is_empty() {
            let assignment = self.assignment();
            tracing::error!(
                "Stream '{} > {}': messages {} are unreadable: their bytes on disk are damaged; the others are served",
                assignment.account,
                assignment.name(),
                scrub::name(&damaged)
            );
        }
        if !damaged.is_empty() && self.context.cluster.is_some() && self.assignment().is_replicated() {
            let reason = format!("messages {} are unreadable", scrub::name(&damaged));
            quarantine::renew(Arc::clone(&self.context), Arc::clone(self), reason);
        }
        *self.unreadable.lock() = damaged;
    }

    /// The damage known, for people; empty when there is none.
    pub(crate) fn damage(&self) -> String {
        scrub::name(&self.unreadable.lock())
    }

    /// Writes a checkpoint and lets the log before it go.
    pub(crate) async fn checkpoint(self: &Arc<Self>) {
        let replicated = Arc::clone(&self.replicated);
        let result = tokio::task::spawn_blocking(move || {
            let unsynced = replicated.lock().unsynced()?;
            unsynced.iter().try_for_each(Unsynced::sync)?;
            replicated.lock().checkpoint()
        })
        .await;
        match result {
            Ok(Ok(index)) => {
                if self.checkpoint_refused.swap(false, Ordering::AcqRel) {
                    self.context.space.clear(self.assignment().group);
                }
                if let Some(replicator) = self.replicated.replicator() {
                    replicator.compact(index);
                }
            }
            Ok(Err(error)) if error.is_retryable() => {
                self.checkpoint_refused.store(true, Ordering::Release);
                let assignment = self.assignment();
                let reason = format!("checkpoint of stream {}: {error}", assignment.name());
                self.context.space.note(assignment.group, reason);
            }
            Ok(Err(reason)) => {
                let name = self.assignment().name().to_owned();
                self.replicated.fail(format!("checkpoint of stream {name}: {reason}"));
            }
            Err(error) => tracing::error!("checkpoint task: {error}"),
        }
    }

    /// There was no room for the last checkpoint.
    pub(crate) fn is_checkpoint_refused(&self) -> bool {
        self.checkpoint_refused.load(Ordering::Acquire)
    }

    /// Proposes a command of the leader's own; its refusal is only logged.
    pub(crate) fn propose_quietly(self: &Arc<Self>, command: &StreamCommand, what: &'static str) {
        let name = self.assignment().name().to_owned();
        self.replicated.propose(command.encode(), move |result| {
            if let Err(error) = result {
                tracing::debug!("stream {name}: {what}: {error}");
            }
        });
    }

    /// Stops this replica's tasks, and nothing else.
    pub(crate) fn abandon(&self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        stop(self.leader.write().take(), StopReason::ServerShutdown);
    }

    /// Stops working; files and log stay.
    pub(crate) async fn close(&self, reason: StopReason) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        stop(self.leader.write().take(), reason);
        if let Some(cluster) = &self.context.cluster {
            cluster.raft.close_group(GroupId(self.assignment().group)).await;
        }
    }

    /// After a committed deletion: stops, and moves the files to the trash.
    pub(crate) async fn remove(&self) -> Result<(), String> {
        self.close(StopReason::Deleted).await;
        let assignment = self.assignment();
        let group = assignment.group;
        if let Some(cluster) = self.context.cluster.as_ref().filter(|_| assignment.is_replicated()) {
            cluster.raft.drop_group(GroupId(group)).await.map_err(|error| error.to_string())?;
        } else {
            let journal = self.context.journal.clone();
            journal.drop_group(
                GroupId(group),
                Box::new(move |result| {
                    if let Err(error) = result {
                        tracing::warn!("dropping journal group {group}: {error}");
                    }
                }),
            );
        }
        let folder = folder(&self.context.store_dir, group);
        if !self.context.disk.exists(&folder) {
            return Ok(());
        }
        self.context.trash.discard(&folder, clock::now()).map(|_| ()).map_err(|error| error.to_string())
    }
}

fn stop(leader: Option<Arc<StreamLeader>>, reason: StopReason) {
    if let Some(leader) = leader {
        leader.stop(reason);
    }
}
