//! Starts JetStream from the options, and shows it to the monitor.

pub(crate) mod domain;
mod groups;
pub(crate) mod shares;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use parking_lot::RwLock;
use tracing::{info, warn};
use weir_conf::{
    JetStreamOptions, Options, Secret, StoreCipher, StoreEncryption, SyncPolicy, format_duration,
};
use weir_hub::Hub;
use weir_jetstream_node::{
    BatchLimits, ClusterOptions, IngestLimits, JetStreamNode, JetStreamSnapshot, NodeOptions, ServerLimits,
    ServerRoom, SnapshotOptions, StreamSnapshot,
};
use weir_jsapi::{ConsumerInfo, StorageType, stream::ClusterInfo};
use weir_monitor::{
    JetStream, JetStreamAccount, JetStreamConfig, JetStreamStats, JetStreamStream, MetaGroup, Presence,
};
use weir_storage::{Cipher, EncryptionOptions, StoreKey};

use crate::{identity::short_hash, io_reason, machine, settings::feature_flags, startup};

/// The share of the machine's memory and of the disk's free space that JetStream takes when it is not
/// told, in percent.
const DEFAULT_SHARE_PERCENT: u64 = 75;

/// A running JetStream and how it was set up.
pub(crate) struct RunningJetStream {
    pub(crate) node: Arc<JetStreamNode>,
    options: RwLock<JetStreamOptions>,
}

/// The folder of the store.
fn store_dir(options: &JetStreamOptions) -> PathBuf {
    let parent = options.store_dir.clone().unwrap_or_else(|| {
        let temporary = std::env::temp_dir().join("weir");
        warn!("Temporary storage directory used, data could be lost on system reboot");
        temporary
    });
    parent.join("jetstream")
}

/// Opens the store and starts. The error is what the last line of the log says.
pub(crate) async fn start(
    options: &Options,
    server_name: &str,
    hub: &Arc<Hub>,
    cluster: Option<ClusterOptions>,
) -> Result<Option<RunningJetStream>, String> {
    let Some(jetstream) = &options.jetstream else { return Ok(None) };
    let began = Instant::now();
    info!("Starting JetStream");
    let directory = store_dir(jetstream);
    create(&directory).map_err(|reason| format!("Can't start JetStream: {reason}"))?;
    let share = |bytes: u64| bytes / 100 * DEFAULT_SHARE_PERCENT;
    let max_memory = jetstream.max_memory.unwrap_or_else(|| share(machine::memory_limit_bytes()));
    let max_file =
        jetstream.max_file.unwrap_or_else(|| share(machine::free_disk_bytes(&directory).unwrap_or(0)));
    let encryption = encryption(jetstream);
    startup::jetstream(
        jetstream.domain.as_deref(),
        jetstream.strict,
        max_memory,
        max_file,
        &directory,
        encryption.as_ref(),
    );
    let node = NodeOptions {
        server_name: server_name.to_owned(),
        store_dir: directory,
        sync: match jetstream.sync {
            SyncPolicy::Always => weir_storage::SyncPolicy::Always,
            SyncPolicy::Interval(interval) => weir_storage::SyncPolicy::Interval(interval),
        },
        encryption,
        room: room(jetstream, max_memory, max_file),
        domain: jetstream.domain.clone(),
        strict: jetstream.strict,
        scoped_acks: feature_flags(options).get("js_ack_fc_v2") == Some(&true),
        api_requests_max: jetstream.request_queue_limit,
        ingest: IngestLimits {
            messages: jetstream.buffered_messages_max,
            bytes: jetstream.buffered_bytes_max,
        },
        accounts: shares::configured(options),
        cluster,
    };
    let node = JetStreamNode::start(node, Arc::clone(hub))
        .await
        .map_err(|error| format!("Can't start JetStream: {error}"))?;
    info!("Took {} to start JetStream", format_duration(began.elapsed()));
    Ok(Some(RunningJetStream { node, options: RwLock::new(jetstream.clone()) }))
}

/// How the store is encrypted; `None` without a key.
pub(crate) fn encryption(options: &JetStreamOptions) -> Option<EncryptionOptions> {
    let StoreEncryption { key, previous_key, cipher } = &options.encryption;
    let key_of = |secret: &Secret| StoreKey::new(secret.reveal());
    Some(EncryptionOptions {
        key: key.as_ref().map(key_of)?,
        previous_key: previous_key.as_ref().map(key_of),
        cipher: match cipher.unwrap_or_default() {
            StoreCipher::ChaCha20Poly1305 => Cipher::ChaCha20Poly1305,
            StoreCipher::Aes256Gcm => Cipher::Aes256Gcm,
        },
    })
}

/// What a reload may change.
fn room(options: &JetStreamOptions, max_memory: u64, max_file: u64) -> ServerRoom {
    let batches = BatchLimits {
        inflight_per_stream: options.batches.inflight_per_stream,
        inflight_total: options.batches.inflight_total,
        messages: options.batches.messages,
        timeout: u64::try_from(options.batches.timeout.as_nanos()).unwrap_or(u64::MAX),
    };
    ServerRoom { max_memory, max_file, limits: limits(options), batches }
}

fn limits(options: &JetStreamOptions) -> ServerLimits {
    ServerLimits {
        default_max_consumers: i64::try_from(options.default_max_consumers).unwrap_or(i64::MAX),
        max_ack_pending: options.max_ack_pending.max(0),
        max_request_batch: options.max_request_batch.max(0),
        max_ha_assets: options.max_ha_assets.max(0),
        duplicate_window: options
            .duplicate_window
            .map_or(0, |window| i64::try_from(window.as_nanos()).unwrap_or(i64::MAX)),
    }
}

fn create(directory: &Path) -> Result<(), String> {
    std::fs::create_dir_all(directory).map_err(|error| {
        let (path, reason) = (directory.display(), io_reason(&error));
        format!("could not create storage directory - mkdir {path}: {reason}")
    })
}

impl RunningJetStream {
    /// JetStream serves this account.
    pub(crate) fn serves(&self, account: &str) -> bool {
        self.node.serves(account)
    }

    /// Takes over what a changed configuration says of limits and accounts.
    pub(crate) fn reload(&self, before: &Options, options: &Options) {
        if let Some(jetstream) = &options.jetstream {
            // Where the configuration says nothing it stays what it was found to be at the start.
            let now = self.node.room();
            let (max_memory, max_file) =
                (jetstream.max_memory.unwrap_or(now.max_memory), jetstream.max_file.unwrap_or(now.max_file));
            self.node.set_room(room(jetstream, max_memory, max_file));
            self.node.set_server_tags(&options.server_tags);
            self.options.write().clone_from(jetstream);
        }
        let shares = shares::configured(options);
        for gone in shares::configured(before).into_keys().filter(|name| !shares.contains_key(name)) {
            self.node.remove_account(&gone);
        }
        for (name, share) in shares {
            self.node.set_account(&name, share);
        }
    }

    /// What the monitor shows.
    pub(crate) fn view(&self, details: bool) -> JetStream {
        let wanted = SnapshotOptions { streams: true, consumers: details };
        let snapshot = self.node.snapshot(wanted);
        let (accounts, led) = by_account(&snapshot);
        JetStream {
            config: self.config(&snapshot),
            stats: JetStreamStats {
                memory: snapshot.memory,
                storage: snapshot.storage,
                reserved_memory: snapshot.reserved_memory,
                reserved_storage: snapshot.reserved_storage,
                accounts: snapshot.accounts.len() as u64,
                ha_assets: ha_assets(&snapshot),
                api_total: snapshot.api_total,
                api_errors: snapshot.api_errors,
            },
            meta: self.meta(),
            default_max_consumers: self.options.read().default_max_consumers,
            streams: snapshot.stream_count as u64,
            streams_leader: if snapshot.meta.is_some() { led.streams } else { snapshot.stream_count as u64 },
            consumers: snapshot.consumer_count as u64,
            consumers_leader: if snapshot.meta.is_some() {
                led.consumers
            } else {
                snapshot.consumer_count as u64
            },
            messages: snapshot.messages,
            bytes: snapshot.bytes,
            accounts,
        }
    }

    fn config(&self, snapshot: &JetStreamSnapshot) -> JetStreamConfig {
        let options = self.options.read();
        JetStreamConfig {
            max_memory: snapshot.max_memory,
            max_storage: snapshot.max_file,
            store_dir: snapshot.store_dir.clone(),
            sync_interval: match options.sync {
                SyncPolicy::Always => None,
                SyncPolicy::Interval(interval) => Some(interval),
            },
            domain: options.domain.clone(),
            compress_ok: options.max_memory.is_some() || options.max_file.is_some(),
            strict: options.strict,
        }
    }

    fn meta(&self) -> Option<MetaGroup> {
        let meta = self.node.meta_snapshot()?;
        let leader_peer = if meta.leader.is_empty() { String::new() } else { short_hash(&meta.leader) };
        Some(MetaGroup {
            leader_peer,
            is_leader: meta.is_leader,
            cluster_size: meta.size as u64,
            pending: meta.committed.saturating_sub(meta.applied),
            cluster: ClusterInfo {
                name: meta.cluster_name,
                leader: meta.leader,
                replicas: meta.replicas,
                ..ClusterInfo::default()
            },
        })
    }

    /// What keeps the meta group from serving, in nats-server's words.
    pub(crate) fn meta_problem(&self) -> Option<String> {
        let meta = self.node.meta_snapshot()?;
        if let Some(reason) = &meta.damage {
            return Some(format!("JetStream meta layer is damaged and waits to be made anew: {reason}"));
        }
        if meta.size == 0 {
            return Some("JetStream is still recovering meta layer".to_owned());
        }
        if meta.leader.is_empty() {
            return Some("JetStream has not established contact with a meta leader".to_owned());
        }
        None
    }

    /// Whether a stream, and one of its consumers, is here and in order.
    pub(crate) fn presence(&self, account: &str, stream: &str, consumer: Option<&str>) -> Presence {
        let wanted = SnapshotOptions { streams: true, consumers: consumer.is_some() };
        let snapshot = self.node.snapshot(wanted);
        // An account is known by its streams, as in the reference.
        if !snapshot.streams.iter().any(|held| held.account == account) {
            return Presence::NoAccount;
        }
        let found =
            snapshot.streams.iter().find(|held| held.account == account && held.info.config.name == stream);
        let Some(found) = found else { return Presence::NoStream };
        if let Some(reason) = &found.failure {
            return Presence::Unhealthy(reason.clone());
        }
        if found.applied < found.committed {
            return Presence::Unhealthy(format!("JetStream stream {stream:?} is not current"));
        }
        match consumer {
            Some(name) if !found.consumers.iter().any(|known| known.name == name) => Presence::NoConsumer,
            _ => Presence::Healthy,
        }
    }
}

/// Groups that are replicated: the meta group and the streams with more than one replica.
fn ha_assets(snapshot: &JetStreamSnapshot) -> u64 {
    let replicated = |held: &&StreamSnapshot| held.info.config.num_replicas > 1;
    let streams = snapshot.streams.iter().filter(replicated).count() as u64;
    streams + u64::from(snapshot.meta.is_some())
}

#[derive(Default)]
struct Led {
    streams: u64,
    consumers: u64,
}

fn by_account(snapshot: &JetStreamSnapshot) -> (Vec<JetStreamAccount>, Led) {
    let mut accounts: BTreeMap<&str, JetStreamAccount> = BTreeMap::new();
    for served in &snapshot.accounts {
        let account = JetStreamAccount {
            name: served.name.clone(),
            limits: served.limits,
            api_total: served.api_total,
            api_errors: served.api_errors,
            ..JetStreamAccount::default()
        };
        accounts.insert(&served.name, account);
    }
    let mut led = Led::default();
    for held in &snapshot.streams {
        let Some(account) = accounts.get_mut(held.account.as_str()) else { continue };
        match held.info.config.storage {
            StorageType::File => account.storage += held.info.state.bytes,
            StorageType::Memory => account.memory += held.info.state.bytes,
        }
        if held.is_leader {
            led.streams += 1;
            led.consumers += held.info.state.consumer_count;
        }
        account.streams.push(JetStreamStream {
            config: held.info.config.clone(),
            created: held.info.created,
            state: held.info.state.clone(),
            cluster: held.info.cluster.clone(),
            mirror: held.info.mirror.clone(),
            sources: held.info.sources.clone(),
            is_leader: held.is_leader,
            consumers: consumers(&held.consumers, snapshot.meta.is_some()),
            direct_consumers: consumers(&held.direct_consumers, snapshot.meta.is_some()),
        });
    }
    (accounts.into_values().collect(), led)
}

/// A single server shows no leader beside its consumers, as the reference.
fn consumers(held: &[ConsumerInfo], clustered: bool) -> Vec<ConsumerInfo> {
    let mut infos = held.to_vec();
    if !clustered {
        infos.iter_mut().for_each(|info| info.cluster = None);
    }
    infos
}
