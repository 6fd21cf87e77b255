//! What this server's JetStream shows to the monitoring room: plain data, taken when asked. Nothing here serves HTTP.

use std::sync::atomic::Ordering;

use weir_jsapi::{ClusterInfo, ConsumerInfo, PeerInfo, StorageType, StreamInfo};
use weir_storage::JournalStats;

use crate::context::Context;

/// How much of it is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct SnapshotOptions {
    pub streams: bool,
    pub consumers: bool,
}

/// One stream with a replica here.
#[derive(Debug, Clone)]
pub struct StreamSnapshot {
    pub account: String,
    pub info: StreamInfo,
    pub is_leader: bool,
    /// Filled when asked for.
    pub consumers: Vec<ConsumerInfo>,
    /// Those that mirrors and sources made; filled when asked for.
    pub direct_consumers: Vec<ConsumerInfo>,
    /// Highest applied and committed entries of the stream's log here.
    pub applied: u64,
    pub committed: u64,
    /// Why the replica stopped, if it did.
    pub failure: Option<String>,
}

/// One account that JetStream serves.
#[derive(Debug, Clone, Default)]
pub struct AccountSnapshot {
    pub name: String,
    /// Bytes that it may use of memory and of disk, -1 without a limit; nothing where its limits are by tier.
    pub limits: Option<(i64, i64)>,
    /// Requests since the start, and those of them that failed.
    pub api_total: u64,
    pub api_errors: u64,
}

/// The meta group as this server sees it.
#[derive(Debug, Clone, Default)]
pub struct MetaSnapshot {
    pub cluster_name: String,
    /// Name of the leader; empty when there is none.
    pub leader: String,
    pub is_leader: bool,
    /// Number of voting members.
    pub size: usize,
    pub term: u64,
    pub applied: u64,
    pub committed: u64,
    /// The other members; only their names where this server does not lead.
    pub replicas: Vec<PeerInfo>,
    /// Why this server's copy takes no part in the group, while that is so.
    pub damage: Option<String>,
}

/// The whole.
#[derive(Debug, Clone)]
pub struct JetStreamSnapshot {
    pub store_dir: String,
    pub max_memory: u64,
    pub max_file: u64,
    pub memory: u64,
    pub storage: u64,
    pub reserved_memory: u64,
    pub reserved_storage: u64,
    /// The accounts that JetStream serves.
    pub accounts: Vec<AccountSnapshot>,
    /// Replicas here.
    pub stream_count: usize,
    pub consumer_count: usize,
    pub messages: u64,
    pub bytes: u64,
    pub api_total: u64,
    pub api_errors: u64,
    pub api_in_flight: u64,
    pub streams: Vec<StreamSnapshot>,
    /// Absent on a single server.
    pub meta: Option<MetaSnapshot>,
    pub journal: JournalStats,
    /// Streams that could not be opened, with the reason.
    pub offline: Vec<(String, String)>,
}

impl Context {
    pub(crate) fn snapshot(&self, options: SnapshotOptions) -> JetStreamSnapshot {
        let room = self.room();
        let mut snapshot = JetStreamSnapshot {
            store_dir: self.store_dir.display().to_string(),
            max_memory: room.max_memory,
            max_file: room.max_file,
            memory: 0,
            storage: 0,
            reserved_memory: 0,
            reserved_storage: 0,
            accounts: self.accounts.served().iter().map(|served| served.snapshot()).collect(),
            stream_count: 0,
            consumer_count: 0,
            messages: 0,
            bytes: 0,
            api_total: self.api.total.load(Ordering::Relaxed),
            api_errors: self.api.errors.load(Ordering::Relaxed),
            api_in_flight: self.api_load.in_flight(),
            streams: Vec::new(),
            meta: self.meta_snapshot(),
            journal: self.journal.stats(),
            offline: self.offline(),
        };
        for replica in self.all_replicas() {
            let leader = replica.leader();
            let status = replica.replicated.status();
            let assignment = replica.assignment();
            if assignment.restoring {
                continue;
            }
            let mut info = match &leader {
                Some(leader) => {
                    let mut info = leader.info();
                    leader.name_leader(&mut info);
                    info
                }
                None => replica.replicated.lock().machine().info(crate::clock::now()),
            };
            let reserved = u64::try_from(info.config.max_bytes).unwrap_or(0);
            match info.config.storage {
                StorageType::File => {
                    snapshot.storage += info.state.bytes;
                    snapshot.reserved_storage += reserved;
                }
                StorageType::Memory => {
                    snapshot.memory += info.state.bytes;
                    snapshot.reserved_memory += reserved;
                }
            }
            snapshot.stream_count += 1;
            snapshot.messages += info.state.messages;
            snapshot.bytes += info.state.bytes;
            // Those that mirrors and sources made are not counted.
            let names = |direct: bool| -> Vec<String> {
                let state = replica.replicated.lock();
                let shown =
                    state.machine().consumers().filter(|(_, consumer)| consumer.config.direct == direct);
                shown.map(|(name, _)| name.to_string()).collect()
            };
            let shown = names(false);
            snapshot.consumer_count += shown.len();
            if !options.streams {
                continue;
            }
            if info.cluster.is_none() {
                info.cluster = self.follower_cluster_info(&assignment.peers, status.leader);
            }
            let infos = |names: &[String]| -> Vec<ConsumerInfo> {
                let info = |name: &String| match &leader {
                    Some(leader) => leader.consumer_info(name),
                    None => replica.replicated.lock().machine().consumer_info(name, crate::clock::now()),
                };
                names.iter().filter_map(info).collect()
            };
            let (consumers, direct_consumers) =
                if options.consumers { (infos(&shown), infos(&names(true))) } else { Default::default() };
            snapshot.streams.push(StreamSnapshot {
                account: assignment.account.clone(),
                info,
                is_leader: leader.is_some(),
                consumers,
                direct_consumers,
                applied: status.applied,
                committed: status.committed,
                failure: replica.replicated.failure().map(str::to_owned),
            });
        }
        snapshot
    }

    fn follower_cluster_info(&self, peers: &[u64], leader: Option<weir_raft::PeerId>) -> Option<ClusterInfo> {
        let cluster = self.cluster.as_ref()?;
        let others = peers.iter().filter(|peer| leader.is_none_or(|leader| leader.0 != **peer));
        Some(ClusterInfo {
            name: cluster.name.clone(),
            leader: leader.map(|peer| self.peer_name(peer)).unwrap_or_default(),
            replicas: others
                .map(|peer| PeerInfo {
                    name: self.peer_name(weir_raft::PeerId(*peer)),
                    ..PeerInfo::default()
                })
                .collect(),
            ..ClusterInfo::default()
        })
    }

    pub(crate) fn meta_snapshot(&self) -> Option<MetaSnapshot> {
        let cluster = self.cluster.as_ref()?;
        let status = self.meta.status();
        let others = status.members.iter().filter(|peer| Some(**peer) != status.leader);
        let replicas = others.map(|peer| self.peer_info(*peer, &status.replicas));
        Some(MetaSnapshot {
            cluster_name: cluster.name.clone(),
            leader: status.leader.map(|peer| self.peer_name(peer)).unwrap_or_default(),
            is_leader: self.meta.is_leader(),
            size: status.members.len(),
            term: status.term,
            applied: status.applied,
            committed: status.committed,
            replicas: replicas.collect(),
            damage: self.meta_damage.lock().clone(),
        })
    }

    /// Streams assigned to this server that could not be opened.
    pub(crate) fn offline(&self) -> Vec<(String, String)> {
        let failures = self.open_failures.lock().clone();
        let meta = self.meta.lock();
        let named = failures.into_iter().filter_map(|(group, reason)| {
            let assignment = meta.machine().streams().find(|assignment| assignment.group == group)?;
            Some((format!("{} > {}", assignment.account, assignment.name()), reason))
        });
        named.collect()
    }

    /// What keeps this server from being caught up, one line each; empty when nothing does.
    pub(crate) fn behind(&self) -> Vec<String> {
        let mut behind = Vec::new();
        if let Some(reason) = self.space.reason() {
            behind.push(format!("no room on the disk, messages are refused: {reason}"));
        }
        if let Some(reason) = &*self.meta_damage.lock() {
            behind.push(format!("meta state: damaged, waits to be made anew: {reason}"));
        }
        if let Some(reason) = self.meta.failure() {
            behind.push(format!("meta state: {reason}"));
        }
        if self.cluster.is_some() {
            let status = self.meta.status();
            if !status.members.contains(&self.peer_id) {
                behind.push("not a member of the meta group yet".to_owned());
            } else if status.leader.is_none() {
                behind.push("the meta group has no leader".to_owned());
            } else if status.applied < status.committed {
                behind.push(format!("meta state: {} entries behind", status.committed - status.applied));
            }
        }
        let own = self.peer_id.0;
        let assigned: Vec<_> = {
            let meta = self.meta.lock();
            meta.machine().streams().filter(|stream| stream.peers.contains(&own)).cloned().collect()
        };
        let replicas = self.replicas.read().clone();
        for stream in assigned {
            let name = format!("stream {} > {}", stream.account, stream.name());
            let Some(replica) = replicas.get(&stream.group) else {
                behind.push(format!("{name}: not open yet"));
                continue;
            };
            if let Some(reason) = replica.replicated.failure() {
                behind.push(format!("{name}: {reason}"));
                continue;
            }
            let damage = replica.damage();
            if !damage.is_empty() {
                behind.push(format!("{name}: messages {damage} are unreadable"));
                continue;
            }
            let status = replica.replicated.status();
            if status.leader.is_none() && !status.is_leader {
                behind.push(format!("{name}: no leader"));
            } else if status.applied < status.committed {
                behind.push(format!("{name}: {} entries behind", status.committed - status.applied));
            }
        }
        behind
    }
}
