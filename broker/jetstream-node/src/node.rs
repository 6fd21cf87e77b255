//! One server's JetStream from start to stop: opens the journal and the meta state, brings up the streams assigned to
//! it, and is the handle that the server room holds.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::task::AbortHandle;
use weir_hub::{Hub, InternalSubscription};
use weir_jetstream::StopReason;
use weir_jetstream::meta::META_GROUP;
use weir_raft::{GroupId, NodeConfig, PeerId, PeerInfo, RaftNode};
use weir_stdx::rng::SeededRng;
use weir_storage::disk::{BudgetDisk, Disk, RealDisk, WatchedDisk};
use weir_storage::vault::{self, Vault};
use weir_storage::{FileStoreOptions, Journal, JournalOptions, NodeIdentity, Trash};

use crate::accounts::{AccountShare, Accounts, ApiCounters};
use crate::admin::Admin;
use crate::api_load::ApiLoad;
use crate::context::{Cluster, Context};
use crate::identity::{self, Mode};
use crate::limits::ServerRoom;
use crate::meta;
use crate::meta::state::MetaState;
use crate::options::{ClusterOptions, NodeOptions};
use crate::replicated::Replicated;
use crate::replicator::local::{Durability, LocalLog};
use crate::replicator::raft::{GroupMachine, RaftLog};
use crate::snapshot::{JetStreamSnapshot, MetaSnapshot, SnapshotOptions};

/// How often it is looked whether a meta checkpoint is due.
const META_LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How long a change of the meta state waits for its checkpoint at most.
const META_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);
/// How long handing over leadership may take at the stop.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Why JetStream could not start. Nothing was changed on disk that was there before.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("random numbers: {0}")]
    Random(String),
    #[error("{0}")]
    Store(String),
    #[error("{0}")]
    Storage(#[from] weir_storage::StorageError),
    #[error("Raft: {0}")]
    Raft(String),
    #[error("meta state: {0}")]
    Meta(String),
}

/// The running JetStream of one server.
pub struct JetStreamNode {
    pub(crate) context: Arc<Context>,
    tasks: Mutex<Vec<AbortHandle>>,
    /// The answers to requests in the system account, which has no JetStream.
    _of_system: [InternalSubscription; 2],
}

impl JetStreamNode {
    /// Opens the store and starts. On a single server all streams are served when this returns.
    pub async fn start(options: NodeOptions, hub: Arc<Hub>) -> Result<Arc<Self>, StartError> {
        let random = || getrandom::u64().map_err(|error| StartError::Random(error.to_string()));
        std::fs::create_dir_all(&options.store_dir)
            .map_err(|error| StartError::Store(format!("{}: {error}", options.store_dir.display())))?;
        let mode = if options.cluster.is_some() { Mode::Cluster } else { Mode::Standalone };
        identity::refuse_foreign(&RealDisk, &options.store_dir).map_err(StartError::Store)?;
        let disk = Arc::new(WatchedDisk::new(Arc::new(RealDisk)));
        let disk = vault::open_store(disk, &options.store_dir, options.encryption.as_ref())?;
        identity::claim(&*disk, &options.store_dir, mode).map_err(StartError::Store)?;
        let mut rng = SeededRng::new(random()?);
        let peer_id = PeerId(NodeIdentity::load_or_create_on(&*disk, &options.store_dir, &mut rng)?.peer_id);
        let journal = open_journal(&options, &disk)?;
        // The journal's few files stay open.
        let disk: Arc<dyn Disk> = Arc::new(BudgetDisk::for_process(disk));
        for line in crate::offline::past_losses(&options.store_dir) {
            tracing::warn!("{line}");
        }
        let meta_file = options.store_dir.join("meta").join("checkpoint");
        let (meta, meta_damage) =
            open_meta(Arc::clone(&disk), meta_file, &journal, options.cluster.is_some())?;
        let meta = Replicated::new(meta, random()?);
        let cluster = match options.cluster {
            Some(cluster) => {
                let spool = (options.store_dir.join("spool"), disk.vault().cloned());
                Some(start_cluster(cluster, peer_id, &options.server_name, spool, &journal).await?)
            }
            None => None,
        };
        let context = Arc::new(Context {
            server_name: options.server_name,
            peer_id,
            trash: Trash::open_on(Arc::clone(&disk), &options.store_dir.join("trash"))?,
            disk,
            store_dir: options.store_dir,
            store_options: FileStoreOptions::default(),
            room: RwLock::new(options.room),
            domain: options.domain.map(Arc::from),
            ingest_limits: options.ingest,
            batch_totals: Arc::default(),
            fast_batches_max: Arc::new(options.room.batches.fast_total().into()),
            origin: random()?,
            hub,
            journal,
            accounts: Accounts::default(),
            meta,
            meta_damage: Mutex::new(meta_damage),
            cluster,
            replicas: RwLock::default(),
            open_failures: Mutex::default(),
            offline_streams: Mutex::default(),
            restores: Mutex::default(),
            space: Arc::default(),
            exceeded: Arc::default(),
            rng: Mutex::new(rng),
            api: ApiCounters::default(),
            api_load: ApiLoad::new(options.api_requests_max),
            strict: options.strict,
            scoped_acks: options.scoped_acks,
        });
        for (name, share) in options.accounts {
            context.set_account(&name, share);
        }
        let of_system = context.serve_system_account();
        let node = Arc::new(Self { context, tasks: Mutex::new(Vec::new()), _of_system: of_system });
        node.start_meta().await?;
        Ok(node)
    }

    async fn start_meta(self: &Arc<Self>) -> Result<(), StartError> {
        let context = &self.context;
        match &context.cluster {
            Some(cluster) => {
                cluster.raft.set_admin(Some(Arc::new(Admin(Arc::clone(context)))));
                if context.meta_damage.lock().is_none() {
                    self.open_meta_group(cluster).await?;
                }
                if let Some(reason) = context.meta_damage.lock().clone() {
                    self.spawn(Arc::clone(self).renew_meta(reason));
                    return Ok(());
                }
            }
            None => {
                let group = GroupId(META_GROUP);
                let log =
                    LocalLog::open(Some(context.journal.clone()), group, Durability::Journal, &context.meta)
                        .map_err(StartError::Meta)?;
                context.meta.attach(log);
            }
        }
        self.follow_meta().await;
        Ok(())
    }

    /// Joins the meta group with what is here. A log that was cut beyond the checkpoint is damage.
    async fn open_meta_group(&self, cluster: &Cluster) -> Result<(), StartError> {
        let context = &self.context;
        let machine = Arc::new(GroupMachine(Arc::clone(&context.meta)));
        let opened =
            cluster.raft.open_group(GroupId(META_GROUP), machine, cluster.group_options.clone()).await;
        let group = match opened {
            Ok(group) => group,
            Err(error @ weir_raft::OpenError::StateLost { .. }) => {
                *context.meta_damage.lock() = Some(error.to_string());
                return Ok(());
            }
            Err(error) => return Err(StartError::Raft(error.to_string())),
        };
        context.meta.attach(RaftLog::new(group.clone()));
        self.spawn(meta::group::run(Arc::clone(context), group));
        Ok(())
    }

    /// Gets a copy of the meta state from the others in the place of the damaged one.
    async fn renew_meta(self: Arc<Self>, reason: String) {
        let context = &self.context;
        let Some(cluster) = &context.cluster else { return };
        meta::quarantine::leave_and_empty(context, &reason).await;
        if let Err(error) = self.open_meta_group(cluster).await {
            tracing::error!("Joining the meta group again: {error}");
            return;
        }
        meta::quarantine::caught_up(context).await;
        *context.meta_damage.lock() = None;
        self.follow_meta().await;
    }

    /// Does what the meta state says from now on.
    async fn follow_meta(&self) {
        let context = &self.context;
        let next_group = context.meta.lock().machine().next_group();
        context.journal.set_new_from(GroupId(next_group));
        meta::reconcile::reconcile(context).await;
        self.spawn(meta::reconcile::run(Arc::clone(context)));
        // A server that leads already answers before anybody can ask.
        context.lead_api(context.meta.is_leader());
        self.spawn(meta::leader::run(Arc::clone(context)));
        self.spawn(checkpoint_meta(Arc::clone(context)));
        self.spawn(crate::usage::run(Arc::clone(context)));
        self.spawn(crate::stream::maintenance::run(Arc::clone(context)));
        self.spawn(crate::space::run(Arc::clone(context)));
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = tokio::spawn(task).abort_handle();
        self.tasks.lock().push(handle);
    }

    /// Hands over what this server leads, so that a stop costs the clients no election.
    pub async fn hand_over(&self) {
        if self.context.cluster.is_none() {
            return;
        }
        let admin = Admin(Arc::clone(&self.context));
        let transfer = weir_raft::admin::AdminHandler::transfer_leadership(&admin);
        match tokio::time::timeout(HAND_OVER_TIMEOUT, transfer).await {
            Ok(Ok(reply)) => {
                for failed in reply.failed {
                    tracing::debug!("handing over: {failed}");
                }
            }
            Ok(Err(error)) => tracing::debug!("handing over: {error}"),
            Err(_) => tracing::warn!("Handing over leadership took longer than {HAND_OVER_TIMEOUT:?}"),
        }
    }

    /// Stops: streams end, checkpoints are written so that the next start has nothing to replay.
    pub async fn shutdown(&self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        let replicas = std::mem::take(&mut *self.context.replicas.write());
        for replica in replicas.into_values() {
            replica.close(StopReason::ServerShutdown).await;
            if replica.replicated.failure().is_none() {
                replica.checkpoint().await;
            }
        }
        write_meta_checkpoint(&self.context).await;
        if let Some(cluster) = &self.context.cluster {
            cluster.raft.shutdown().await;
        }
        let journal = self.context.journal.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || journal.close()).await {
            tracing::error!("Closing the journal: {error}");
        }
    }

    /// Stops without a checkpoint, as a crash would: what is not in the journal is lost.
    pub fn abandon(&self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        for replica in std::mem::take(&mut *self.context.replicas.write()).into_values() {
            replica.abandon();
        }
    }

    /// Serves an account within this share from now on, or refuses its requests (`None`). Streams it has stay as
    /// they are and are not served while it has no share.
    pub fn set_account(&self, name: &str, share: Option<AccountShare>) {
        self.context.set_account(name, share);
    }

    /// What all streams together may use now.
    pub fn room(&self) -> ServerRoom {
        self.context.room()
    }

    /// Takes over what a reload changed of what all streams together may use.
    pub fn set_room(&self, room: ServerRoom) {
        self.context.fast_batches_max.store(room.batches.fast_total(), Ordering::Relaxed);
        *self.context.room.write() = room;
        self.context.space.change();
    }

    /// What placements may ask of this server now; other servers hear of it soon.
    pub fn set_server_tags(&self, tags: &[String]) {
        if let Some(cluster) = &self.context.cluster {
            *cluster.tags.write() = tags.to_vec();
        }
    }

    /// Forgets an account that is gone; its streams stay.
    pub fn remove_account(&self, name: &str) {
        self.context.remove_account(name);
    }

    /// JetStream serves this account.
    pub fn serves(&self, account: &str) -> bool {
        self.context.accounts.is_served(account)
    }

    /// Whether somebody in the cluster answers this account's requests.
    pub fn is_answered(&self, account: &str) -> bool {
        self.context.account(account).has_interest(crate::api::INFO_SUBJECT.as_bytes())
    }

    /// The state for monitoring.
    pub fn snapshot(&self, options: SnapshotOptions) -> JetStreamSnapshot {
        self.context.snapshot(options)
    }

    /// The meta group as this server sees it; `None` on a single server.
    pub fn meta_snapshot(&self) -> Option<MetaSnapshot> {
        self.context.meta_snapshot()
    }

    /// What keeps this server from being caught up, one line each; empty when nothing does.
    pub fn behind(&self) -> Vec<String> {
        self.context.behind()
    }

    /// Where the gRPC service listens; `None` on a single server.
    pub fn grpc_address(&self) -> Option<std::net::SocketAddr> {
        self.context.cluster.as_ref().map(|cluster| cluster.raft.local_addr())
    }
}

/// The meta state, and why the copy here is not to be used: in a cluster the others have it.
fn open_meta(
    disk: Arc<dyn Disk>,
    file: PathBuf,
    journal: &Journal,
    is_clustered: bool,
) -> Result<(MetaState, Option<String>), StartError> {
    let doubt = journal.doubt(GroupId(META_GROUP)).filter(|_| is_clustered);
    if let Some(reason) = doubt {
        return Ok((MetaState::new(disk, file), Some(reason)));
    }
    match MetaState::open(Arc::clone(&disk), file.clone()) {
        Ok(state) => Ok((state, None)),
        Err(failure) if is_clustered && failure.damaged => {
            Ok((MetaState::new(disk, file), Some(failure.reason)))
        }
        Err(failure) => Err(StartError::Meta(failure.reason)),
    }
}

fn open_journal(options: &NodeOptions, disk: &Arc<dyn Disk>) -> Result<Journal, StartError> {
    crate::offline::refuse_unfinished(&options.store_dir).map_err(StartError::Store)?;
    let journal_options = JournalOptions { sync: options.sync, ..JournalOptions::default() };
    let (journal, recovery) =
        Journal::open_on(Arc::clone(disk), &options.store_dir.join("journal"), journal_options)?;
    if let Some(torn) = &recovery.torn_tail {
        tracing::warn!(
            "{} ends in a write that a crash cut off, at byte {}: it was not acknowledged and is discarded",
            torn.path.display(),
            torn.offset
        );
    }
    if let Some(reason) = &recovery.tail_lost {
        tracing::error!("The newest entries of the journal may be lost: {reason}");
    }
    for damage in &recovery.damages {
        tracing::error!(
            "{} is damaged at byte {} ({} bytes): {}",
            damage.path.display(),
            damage.offset,
            damage.length,
            damage.reason
        );
    }
    for (group, range) in &recovery.unreadable {
        tracing::error!(
            "Journal group {}: entries {} to {} are unreadable",
            group.0,
            range.start,
            range.end - 1
        );
    }
    Ok(journal)
}

async fn start_cluster(
    options: ClusterOptions,
    peer: PeerId,
    server_name: &str,
    (spool_dir, spool_vault): (PathBuf, Option<Arc<Vault>>),
    journal: &Journal,
) -> Result<Cluster, StartError> {
    let config = NodeConfig {
        peer,
        name: server_name.to_owned(),
        listener: options.grpc_listener,
        secret: options.secret.clone(),
        spool_dir,
        spool_vault,
        admin: None,
    };
    let log = Arc::new(journal.clone());
    let raft = RaftNode::start(config, log, Arc::new(|_| None))
        .await
        .map_err(|error| StartError::Raft(error.to_string()))?;
    let own = PeerInfo { name: server_name.to_owned(), endpoint: options.grpc_advertise.clone() };
    raft.set_peer(peer, own);
    Ok(Cluster {
        name: options.cluster_name,
        raft,
        neighbours: options.neighbours,
        group_options: options.group_options,
        grpc_advertise: options.grpc_advertise,
        secret: options.secret,
        tags: RwLock::new(options.server_tags),
        unique_tag: options.unique_tag,
    })
}

/// Writes the meta checkpoint when something was applied since the last one: after a while, or when the journal's oldest
/// file is kept for it, which a start would have to read.
async fn checkpoint_meta(context: Arc<Context>) {
    let mut written = 0;
    let mut since = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(META_LOOK_INTERVAL).await;
        let is_due = since.elapsed() >= META_CHECKPOINT_INTERVAL
            || context.journal.laggard(GroupId(META_GROUP)).is_some();
        let (_, applied) = crate::replicated::StateMachine::applied(&*context.meta.lock());
        if is_due && applied != written {
            write_meta_checkpoint(&context).await;
            written = applied;
            since = tokio::time::Instant::now();
        }
    }
}

async fn write_meta_checkpoint(context: &Arc<Context>) {
    let meta = Arc::clone(&context.meta);
    let result = tokio::task::spawn_blocking(move || meta.lock().checkpoint()).await;
    match result {
        Ok(Ok(index)) => {
            if let Some(log) = context.meta.replicator() {
                log.compact(index);
            }
        }
        Ok(Err(error)) => tracing::error!("Writing the checkpoint of the meta state: {error}"),
        Err(error) => tracing::error!("Checkpoint task of the meta state: {error}"),
    }
}
