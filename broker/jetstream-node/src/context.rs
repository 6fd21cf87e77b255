//! What every part of this room shares: the hub, the journal, the meta state, the replicas held here. It owns no
//! task and decides nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::{Mutex, RwLock};
use weir_hub::{Account, Hub};
use weir_jetstream::BatchTotals;
use weir_jetstream::meta::{MetaPeer, StreamAssignment};
use weir_jsapi::PeerInfo;
use weir_raft::{GroupOptions, PeerId, RaftNode};
use weir_stdx::rng::SeededRng;
use weir_storage::disk::Disk;
use weir_storage::{FileStoreOptions, Journal, Trash};

use crate::accounts::{Accounts, ApiCounters};
use crate::api_load::ApiLoad;
use crate::exceeded::Exceeded;
use crate::limits::ServerRoom;
use crate::meta::state::MetaState;
use crate::neighbours::Neighbours;
use crate::replicated::Replicated;
use crate::replicator::ReplicaStatus;
use crate::space::Space;
use crate::stream::ingest::IngestLimits;
use crate::stream::replica::StreamReplica;
use crate::unsupported::OfflineStreams;

/// The clustered part.
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) raft: RaftNode,
    pub(crate) neighbours: Arc<dyn Neighbours>,
    pub(crate) group_options: GroupOptions,
    pub(crate) grpc_advertise: String,
    pub(crate) secret: Option<String>,
    /// What placements may ask for; a reload may change it.
    pub(crate) tags: RwLock<Vec<String>>,
    /// Replicas of a stream go to servers whose tags with this prefix differ; empty: to any.
    pub(crate) unique_tag: String,
}

pub(crate) struct Context {
    pub(crate) server_name: String,
    pub(crate) peer_id: PeerId,
    /// Where `store_dir` is.
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) store_dir: PathBuf,
    pub(crate) store_options: FileStoreOptions,
    /// What the configuration allows: a reload may change it.
    pub(crate) room: RwLock<ServerRoom>,
    pub(crate) domain: Option<Arc<str>>,
    pub(crate) ingest_limits: IngestLimits,
    pub(crate) batch_totals: Arc<BatchTotals>,
    /// Of `room`, for the way of every publish.
    pub(crate) fast_batches_max: Arc<AtomicUsize>,
    /// New at every start; see `Envelope::origin`.
    pub(crate) origin: u64,
    pub(crate) hub: Arc<Hub>,
    pub(crate) journal: Journal,
    /// Where the files of deleted streams wait.
    pub(crate) trash: Trash,
    pub(crate) accounts: Accounts,
    pub(crate) meta: Arc<Replicated<MetaState>>,
    /// Why this server's copy of the meta state takes no part in its group, while that is so.
    pub(crate) meta_damage: Mutex<Option<String>>,
    pub(crate) cluster: Option<Cluster>,
    /// Replicas held here, by group.
    pub(crate) replicas: RwLock<BTreeMap<u64, Arc<StreamReplica>>>,
    /// Groups whose replica here could not be opened, with the reason.
    pub(crate) open_failures: Mutex<BTreeMap<u64, String>>,
    /// Streams that need a newer server.
    pub(crate) offline_streams: OfflineStreams,
    /// Restores that run here, by account and stream.
    pub(crate) restores: Mutex<BTreeMap<(String, String), usize>>,
    /// Room on the disk.
    pub(crate) space: Arc<Space>,
    pub(crate) exceeded: Arc<Exceeded>,
    pub(crate) rng: Mutex<SeededRng>,
    pub(crate) api: ApiCounters,
    pub(crate) api_load: ApiLoad,
    /// API requests with unknown fields are refused.
    pub(crate) strict: bool,
    /// The subjects that acknowledge name domain and account.
    pub(crate) scoped_acks: bool,
}

impl Context {
    pub(crate) fn account(&self, name: &str) -> Arc<Account> {
        self.hub.ensure_account(name)
    }

    pub(crate) fn assignment(&self, account: &str, stream: &str) -> Option<Arc<StreamAssignment>> {
        self.meta.lock().machine().stream(account, stream).cloned()
    }

    /// The replica of that stream held here, if there is one.
    pub(crate) fn replica(&self, account: &str, stream: &str) -> Option<Arc<StreamReplica>> {
        let group = self.assignment(account, stream)?.group;
        self.replicas.read().get(&group).cloned()
    }

    pub(crate) fn all_replicas(&self) -> Vec<Arc<StreamReplica>> {
        self.replicas.read().values().cloned().collect()
    }

    pub(crate) fn members(&self) -> Vec<MetaPeer> {
        self.meta.lock().machine().peers().cloned().collect()
    }

    /// A member of a group as clients are shown it, with what the group's leader knows of the others.
    pub(crate) fn peer_info(&self, peer: PeerId, known: &[ReplicaStatus]) -> PeerInfo {
        let shown = PeerInfo { name: self.peer_name(peer), peer: peer.to_string(), ..PeerInfo::default() };
        let Some(replica) = known.iter().find(|replica| replica.peer == peer) else { return shown };
        PeerInfo {
            current: replica.current,
            offline: !replica.online,
            active: i64::try_from(replica.active_nanos).unwrap_or(i64::MAX),
            lag: replica.lag,
            ..shown
        }
    }

    /// The name of a peer, or its number when nothing is known of it.
    pub(crate) fn peer_name(&self, peer: PeerId) -> String {
        if peer == self.peer_id {
            return self.server_name.clone();
        }
        self.meta
            .lock()
            .machine()
            .peer(peer.0)
            .map(|member| member.name.clone())
            .or_else(|| self.cluster.as_ref()?.raft.peer_info(peer).map(|info| info.name))
            .unwrap_or_else(|| peer.to_string())
    }

    /// What the subjects of acknowledgements have before a stream's name.
    pub(crate) fn subject_scope(&self, account: &str) -> Box<str> {
        if self.scoped_acks {
            weir_jetstream::subject_scope(self.domain.as_deref(), account)
        } else {
            Box::default()
        }
    }

    pub(crate) fn room(&self) -> ServerRoom {
        *self.room.read()
    }

    pub(crate) fn open_failure(&self, group: u64) -> Option<String> {
        self.open_failures.lock().get(&group).cloned()
    }

    /// The leader of a stream's group, as its replica here knows it.
    pub(crate) fn stream_leader(&self, group: u64) -> Option<PeerId> {
        let replica = self.replicas.read().get(&group).cloned()?;
        if replica.is_leader() { Some(self.peer_id) } else { replica.replicated.status().leader }
    }

    /// Publishes an advisory, if anybody listens: `body` with an id and a time.
    pub(crate) fn advisory(
        &self,
        account: &Arc<Account>,
        subject: &str,
        body: serde_json::Map<String, serde_json::Value>,
    ) {
        if !account.has_interest(subject.as_bytes()) {
            return;
        }
        let mut full = serde_json::Map::new();
        // nats-server prints type, id, timestamp, then the rest.
        full.extend(body.get("type").map(|kind| ("type".to_owned(), kind.clone())));
        full.insert("id".to_owned(), self.random_id().into());
        full.insert("timestamp".to_owned(), crate::clock::now().to_rfc3339().into());
        full.extend(body);
        if let Some(domain) = &self.domain {
            full.insert("domain".to_owned(), (**domain).into());
        }
        if let Ok(text) = serde_json::to_vec(&full) {
            account.publish(subject.as_bytes(), None, b"", &text);
        }
    }

    /// Whether a server could take a replica now, as the meta leader sees it.
    pub(crate) fn is_available(&self, peer: u64) -> bool {
        if peer == self.peer_id.0 {
            return true;
        }
        let status = self.meta.status();
        status.replicas.iter().any(|replica| replica.peer.0 == peer && replica.online)
    }

    pub(crate) fn random_text(&self, length: usize) -> String {
        weir_stdx::id::random_text(&mut self.rng.lock(), length)
    }

    pub(crate) fn random_id(&self) -> String {
        weir_stdx::id::random_id(&mut self.rng.lock())
    }
}
