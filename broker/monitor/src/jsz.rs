//! `/jsz`: JetStream, as far into accounts, streams and consumers as asked.

use serde::Serialize;
use weir_jsapi::{
    config::StreamConfig,
    consumer::ConsumerInfo,
    stream::{ClusterInfo, PeerInfo, StreamSourceInfo, StreamState},
    time::Time,
};

use crate::{
    Source,
    json::{is_false, is_zero, nanos},
    query::{Query, Refused},
    view::{JetStream, JetStreamAccount, JetStreamStream, MetaGroup},
};

#[derive(Serialize)]
pub(crate) struct Jsz {
    #[serde(flatten)]
    stats: Stats,
    server_id: String,
    now: Time,
    #[serde(skip_serializing_if = "is_false")]
    disabled: bool,
    config: Config,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
    streams: u64,
    #[serde(skip_serializing_if = "is_zero")]
    streams_leader: u64,
    consumers: u64,
    #[serde(skip_serializing_if = "is_zero")]
    consumers_leader: u64,
    messages: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta_cluster: Option<Meta>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    account_details: Vec<AccountDetail>,
    total: usize,
}

#[derive(Serialize, Default)]
pub(crate) struct Config {
    max_memory: u64,
    max_storage: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    store_dir: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_interval: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    sync_always: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    compress_ok: bool,
    #[serde(skip_serializing_if = "is_false")]
    strict: bool,
}

impl Config {
    pub(crate) fn of(jetstream: &JetStream) -> Self {
        let config = &jetstream.config;
        // The reference keeps its interval beside `always`.
        const SYNC_INTERVAL_DEFAULT_NS: u64 = 120_000_000_000;
        Self {
            max_memory: config.max_memory,
            max_storage: config.max_storage,
            store_dir: config.store_dir.clone(),
            sync_interval: Some(config.sync_interval.map_or(SYNC_INTERVAL_DEFAULT_NS, nanos)),
            sync_always: config.sync_interval.is_none(),
            domain: config.domain.clone(),
            compress_ok: config.compress_ok,
            strict: config.strict,
        }
    }
}

#[derive(Serialize, Default)]
pub(crate) struct Stats {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    accounts: u64,
    ha_assets: u64,
    api: Api,
}

#[derive(Serialize, Default)]
struct Api {
    level: u64,
    total: u64,
    errors: u64,
}

/// JetStream as `/varz` and the server's own statistics show it.
#[derive(Serialize, Default)]
pub(crate) struct JetStreamVarz {
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Config>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Stats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Meta>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
}

impl JetStreamVarz {
    pub(crate) fn of(jetstream: &JetStream) -> Self {
        Self {
            config: Some(Config::of(jetstream)),
            stats: Some(Stats::of(jetstream)),
            meta: jetstream.meta.as_ref().map(Meta::of),
            limits: Some(Limits::of(jetstream)),
        }
    }
}

/// What other servers are shown: without the store's folder, and from others than the leader without the peers.
pub(crate) fn shown_config(mut jetstream: JetStream) -> JetStream {
    jetstream.config.store_dir.clear();
    if let Some(meta) = jetstream.meta.as_mut().filter(|meta| !meta.is_leader) {
        meta.cluster.replicas.clear();
    }
    jetstream
}

/// The level of the JetStream API that is spoken.
const API_LEVEL: u64 = 5;

impl Stats {
    pub(crate) fn of(jetstream: &JetStream) -> Self {
        let stats = &jetstream.stats;
        Self {
            memory: stats.memory,
            storage: stats.storage,
            reserved_memory: stats.reserved_memory,
            reserved_storage: stats.reserved_storage,
            accounts: stats.accounts,
            ha_assets: stats.ha_assets,
            api: Api { level: API_LEVEL, total: stats.api_total, errors: stats.api_errors },
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Limits {
    default_max_consumers: u64,
}

impl Limits {
    pub(crate) fn of(jetstream: &JetStream) -> Self {
        Self { default_max_consumers: jetstream.default_max_consumers }
    }
}

/// The meta group.
#[derive(Serialize)]
pub(crate) struct Meta {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    leader: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    peer: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replicas: Vec<PeerInfo>,
    cluster_size: u64,
    quorum_needed: u64,
    pending: u64,
    pending_requests: u64,
    pending_infos: u64,
}

impl Meta {
    pub(crate) fn of(meta: &MetaGroup) -> Self {
        Self {
            name: meta.cluster.name.clone(),
            leader: meta.cluster.leader.clone(),
            peer: meta.leader_peer.clone(),
            replicas: meta.cluster.replicas.clone(),
            cluster_size: meta.cluster_size,
            quorum_needed: meta.cluster_size / 2 + 1,
            pending: meta.pending,
            pending_requests: 0,
            pending_infos: 0,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct AccountDetail {
    name: String,
    id: String,
    #[serde(flatten)]
    stats: Stats,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stream_detail: Vec<StreamDetail>,
}

#[derive(Serialize)]
struct StreamDetail {
    name: String,
    created: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<StreamConfig>,
    state: StreamState,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    consumer_detail: Vec<ConsumerInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    direct_consumer_detail: Vec<ConsumerInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<StreamSourceInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<StreamSourceInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    stream_raft_group: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    consumer_raft_groups: Vec<ConsumerGroup>,
}

/// Which Raft group a consumer is in.
#[derive(Serialize)]
struct ConsumerGroup {
    name: String,
    raft_group: String,
}

/// How far to go.
struct Depth {
    account: Option<String>,
    accounts: bool,
    streams: bool,
    consumers: bool,
    direct_consumers: bool,
    config: bool,
    raft: bool,
    stream_leader_only: bool,
}

impl Depth {
    fn of(query: &Query) -> Result<Self, Refused> {
        let consumers = query.boolean("consumers")?;
        Ok(Self {
            direct_consumers: query.boolean("direct-consumers")?,
            account: query.text("acc").map(str::to_owned),
            accounts: query.boolean("accounts")?,
            streams: query.boolean("streams")? || consumers,
            consumers,
            config: query.boolean("config")?,
            raft: query.boolean("raft")?,
            stream_leader_only: query.boolean("stream-leader-only")?,
        })
    }
}

pub(crate) fn jsz(source: &dyn Source, query: &Query) -> Result<Jsz, Refused> {
    let depth = Depth::of(query)?;
    let leader_only = query.boolean("leader-only")?;
    let page = query.page()?;
    let details = depth.accounts || depth.streams || depth.account.is_some();
    let server = source.server();
    let (server_id, now) = (server.settings.server_id, server.now);
    let Some(jetstream) = source.jetstream(details) else {
        return Ok(disabled(server_id, now));
    };
    let leads = jetstream.meta.as_ref().is_none_or(|meta| meta.is_leader);
    if leader_only && !leads {
        return Err("filtered response: not leader".to_owned());
    }
    let total = usize::try_from(jetstream.stats.accounts).unwrap_or(usize::MAX);
    let shown = Jsz {
        stats: Stats::of(&jetstream),
        server_id,
        now,
        disabled: false,
        config: Config::of(&jetstream),
        limits: Some(Limits::of(&jetstream)),
        streams: jetstream.streams,
        streams_leader: if depth.raft { jetstream.streams_leader } else { 0 },
        consumers: jetstream.consumers,
        consumers_leader: if depth.raft { jetstream.consumers_leader } else { 0 },
        messages: jetstream.messages,
        bytes: jetstream.bytes,
        meta_cluster: jetstream.meta.as_ref().map(Meta::of),
        account_details: Vec::new(),
        total,
    };
    if !details {
        return Ok(shown);
    }
    let mut accounts = jetstream.accounts;
    if let Some(name) = &depth.account {
        accounts.retain(|account| account.name == *name);
    }
    accounts.sort_by(|a, b| a.name.cmp(&b.name));
    let accounts = page.of(accounts).into_iter();
    Ok(Jsz { account_details: accounts.map(|a| account(a, &depth)).collect(), ..shown })
}

/// One account's JetStream.
pub(crate) fn account_jsz(source: &dyn Source, query: &Query) -> Result<AccountDetail, Refused> {
    let depth = Depth::of(query)?;
    let name = query.text("acc").unwrap_or_default();
    let jetstream = source.jetstream(true).ok_or("jetstream not enabled")?;
    if !source.accounts().iter().any(|account| account.name == name) {
        return Err(format!("account {name:?} not found"));
    }
    let found = jetstream.accounts.into_iter().find(|account| account.name == name);
    // Consumers alone do not ask for streams here, as in the reference.
    let depth = Depth { streams: query.boolean("streams")?, ..depth };
    found.map(|found| account(found, &depth)).ok_or_else(|| format!("account {name:?} not jetstream enabled"))
}

fn disabled(server_id: String, now: Time) -> Jsz {
    Jsz {
        stats: Stats::default(),
        server_id,
        now,
        disabled: true,
        config: Config::default(),
        limits: None,
        streams: 0,
        streams_leader: 0,
        consumers: 0,
        consumers_leader: 0,
        messages: 0,
        bytes: 0,
        meta_cluster: None,
        account_details: Vec::new(),
        total: 0,
    }
}

fn account(account: JetStreamAccount, depth: &Depth) -> AccountDetail {
    let mut streams = account.streams;
    streams.retain(|stream| stream.is_leader || !depth.stream_leader_only);
    streams.sort_by(|a, b| a.config.name.cmp(&b.config.name));
    if !depth.streams {
        streams.clear();
    }
    // The reference prints "no limit" as the largest number.
    let unsigned = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    let limits = account.limits.unwrap_or_default();
    let (reserved_memory, reserved_storage) = (unsigned(limits.0), unsigned(limits.1));
    let api = Api { level: 0, total: account.api_total, errors: account.api_errors };
    AccountDetail {
        id: account.name.clone(),
        name: account.name,
        stats: Stats {
            memory: account.memory,
            storage: account.storage,
            reserved_memory,
            reserved_storage,
            api,
            ..Stats::default()
        },
        stream_detail: streams.into_iter().map(|s| stream(s, depth)).collect(),
    }
}

fn stream(stream: JetStreamStream, depth: &Depth) -> StreamDetail {
    let raft_group = stream.cluster.as_ref().map(|cluster| cluster.raft_group.clone());
    let consumer_raft_groups = if depth.raft { raft_groups(&stream.consumers, depth) } else { Vec::new() };
    let direct = if depth.direct_consumers { stream.direct_consumers } else { Vec::new() };
    StreamDetail {
        name: stream.config.name.clone(),
        created: stream.created,
        cluster: stream.cluster,
        config: depth.config.then_some(stream.config),
        state: stream.state,
        consumer_detail: consumers(stream.consumers, depth),
        direct_consumer_detail: consumers(direct, depth),
        mirror: stream.mirror,
        sources: stream.sources,
        stream_raft_group: if depth.raft { raft_group.unwrap_or_default() } else { String::new() },
        consumer_raft_groups,
    }
}

fn raft_groups(infos: &[ConsumerInfo], depth: &Depth) -> Vec<ConsumerGroup> {
    let shown = infos.iter().filter(|_| depth.consumers).filter_map(|info| {
        let cluster = info.cluster.as_ref()?;
        Some(ConsumerGroup { name: info.name.clone(), raft_group: cluster.raft_group.clone() })
    });
    shown.collect()
}

/// The consumers, their configurations only when asked for.
fn consumers(mut infos: Vec<ConsumerInfo>, depth: &Depth) -> Vec<ConsumerInfo> {
    if !depth.consumers {
        return Vec::new();
    }
    if !depth.config {
        infos.iter_mut().for_each(|info| info.config = None);
    }
    infos
}
