//! The figures that a [`Source`](crate::Source) publishes, in plain types.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use weir_jsapi::{
    config::StreamConfig,
    consumer::ConsumerInfo,
    stream::{ClusterInfo, StreamSourceInfo, StreamState},
    time::Time,
};

/// A server's settings and counters at one moment.
#[derive(Debug, Clone, Default)]
pub struct Server {
    pub settings: ServerSettings,
    pub counters: Counters,
    pub now: Time,
    /// Resident bytes.
    pub memory_bytes: u64,
    /// Percent of one processor, since the last look.
    pub cpu_percent: f64,
    /// host:port of every server clients may connect to.
    pub connect_urls: Vec<String>,
    /// The `host:port` of the WebSocket ports of the cluster's servers.
    pub websocket_urls: Vec<String>,
    pub ocsp_peer_cache: Option<OcspPeerCache>,
}

/// What changes only by a reload.
#[derive(Debug, Clone, Default)]
pub struct ServerSettings {
    pub server_id: String,
    pub server_name: String,
    pub version: String,
    pub git_commit: String,
    /// What nats-server calls `go`: the tool chain.
    pub toolchain: String,
    pub host: String,
    pub port: u16,
    pub auth_required: bool,
    /// Of the clients' port.
    pub tls: Option<TlsSettings>,
    pub websocket: Option<WebSocketSettings>,
    /// Empty for the default.
    pub write_timeout: &'static str,
    /// Keys of trusted proxies.
    pub proxies: Vec<String>,
    /// JWTs of trusted operators.
    pub operators: Vec<String>,
    /// What those JWTs claim.
    pub operator_claims: Vec<serde_json::Value>,
    pub max_connections: i64,
    pub max_subscriptions: u64,
    pub ping_interval: Duration,
    pub ping_max: u32,
    pub http_host: String,
    pub http_port: u16,
    /// 0 without one.
    pub https_port: u16,
    pub http_base_path: String,
    pub auth_timeout: Duration,
    pub max_control_line: u32,
    pub max_payload: u32,
    pub max_pending: u64,
    pub write_deadline: Duration,
    pub cluster: Option<ClusterSettings>,
    pub start: Time,
    pub config_load_time: Time,
    pub config_digest: String,
    pub system_account: String,
    pub tags: Vec<String>,
    pub metadata: BTreeMap<String, String>,
    pub feature_flags: BTreeMap<String, bool>,
    pub cores: usize,
}

impl ServerSettings {
    /// Takes over what a reload does not change: where the server listens, under which names, and since when.
    pub fn keep_bound(&mut self, before: Self) {
        self.port = before.port;
        self.http_host = before.http_host;
        self.http_port = before.http_port;
        self.https_port = before.https_port;
        self.start = before.start;
        if let (Some(cluster), Some(before)) = (&mut self.cluster, before.cluster) {
            cluster.name = before.name;
            cluster.port = before.port;
        }
        if let (Some(websocket), Some(before)) = (&mut self.websocket, before.websocket) {
            websocket.port = before.port;
        }
    }
}

/// The cluster a server is part of.
#[derive(Debug, Clone, Default)]
pub struct ClusterSettings {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub auth_timeout: Duration,
    /// host:port of the configured seeds.
    pub urls: Vec<String>,
    pub pool_size: i32,
    pub tls: Option<TlsSettings>,
    pub write_deadline: Option<Duration>,
    /// Empty for the default.
    pub write_timeout: &'static str,
}

/// TLS of one port.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    pub timeout: Duration,
    /// Clients have to show a certificate.
    pub verify: bool,
    /// The certificate names the user.
    pub map: bool,
    pub pinned_certs: Vec<String>,
    /// Responders are asked about clients' certificates.
    pub ocsp_peer_verify: bool,
    /// When the server's own certificate ends.
    pub cert_not_after: Option<Time>,
}

/// Answers about clients' certificates that are kept.
#[derive(Debug, Clone, Default, Serialize)]
pub struct OcspPeerCache {
    pub cache_type: &'static str,
    #[serde(rename = "cache_hits", skip_serializing_if = "is_zero")]
    pub hits: i64,
    #[serde(rename = "cache_misses", skip_serializing_if = "is_zero")]
    pub misses: i64,
    #[serde(rename = "cached_responses", skip_serializing_if = "is_none")]
    pub responses: u64,
    #[serde(rename = "cached_revoked_responses", skip_serializing_if = "is_none")]
    pub revoked: u64,
    #[serde(rename = "cached_good_responses", skip_serializing_if = "is_none")]
    pub good: u64,
    #[serde(rename = "cached_unknown_responses", skip_serializing_if = "is_none")]
    pub unknown: u64,
}

fn is_zero(count: &i64) -> bool {
    *count == 0
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

/// The port for WebSocket clients.
#[derive(Debug, Clone, Default)]
pub struct WebSocketSettings {
    pub host: String,
    pub port: u16,
    pub advertise: String,
    pub no_auth_user: String,
    pub jwt_cookie: String,
    pub handshake_timeout: Duration,
    /// Zero for the server's.
    pub auth_timeout: Duration,
    pub no_tls: bool,
    pub tls: Option<TlsSettings>,
    pub same_origin: bool,
    pub allowed_origins: Vec<String>,
    pub compression: bool,
}

/// Counters of the whole server. Messages and bytes count each delivery once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub connections: u64,
    pub total_connections: u64,
    pub routes: u64,
    pub remotes: u64,
    pub in_msgs: u64,
    pub in_bytes: u64,
    pub in_client_msgs: u64,
    pub in_client_bytes: u64,
    pub out_msgs: u64,
    pub out_bytes: u64,
    pub out_client_msgs: u64,
    pub out_client_bytes: u64,
    pub slow_consumers: u64,
    pub slow_routes: u64,
    pub stale_connections: u64,
    pub stale_routes: u64,
    pub stalled_clients: u64,
    pub subscriptions: u64,
}

/// A client's connection, open or closed.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    pub cid: u64,
    pub ip: String,
    pub port: u16,
    pub start: Time,
    pub last_activity: Time,
    /// Set once it is closed.
    pub stop: Option<Time>,
    /// Why it was closed.
    pub reason: String,
    pub rtt: Option<Duration>,
    pub pending_bytes: u64,
    pub in_msgs: u64,
    pub out_msgs: u64,
    pub in_bytes: u64,
    pub out_bytes: u64,
    pub subscription_count: u64,
    pub name: String,
    pub lang: String,
    pub version: String,
    /// How often it had to wait for a receiver.
    pub stalls: u64,
    /// `nats` or `websocket`.
    pub client_type: &'static str,
    /// `1.2` or `1.3`; empty without TLS.
    pub tls_version: String,
    pub tls_cipher_suite: String,
    pub tls_peer_certs: Vec<PeerCertificate>,
    /// TLS began before INFO.
    pub tls_first: bool,
    pub authorized_user: String,
    pub account: String,
    /// The account's name for people.
    pub account_tag: String,
    pub jwt: String,
    pub issuer_key: String,
    pub tags: Vec<String>,
    /// The key of the trusted proxy it came through.
    pub proxy_key: String,
    pub subscriptions: Vec<Subscription>,
}

/// A certificate that a client showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PeerCertificate {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub spki_sha256: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert_sha256: String,
}

/// One subscription of one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    pub account: String,
    /// The account's name for people.
    pub account_tag: String,
    pub subject: String,
    pub queue: Option<String>,
    pub sid: String,
    /// Messages delivered.
    pub msgs: u64,
    /// Messages after which it ends; 0 is never.
    pub max: u64,
    pub cid: u64,
}

/// A queue inside the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    pub name: String,
    pub pending: u64,
    pub in_progress: u64,
}

/// A replica of a Raft group on this server.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct RaftGroup {
    #[serde(skip)]
    pub account: String,
    #[serde(skip)]
    pub name: String,
    /// This server's short id.
    pub id: String,
    /// `LEADER`, `CANDIDATE` or `FOLLOWER`.
    pub state: String,
    pub size: u64,
    pub quorum_needed: u64,
    pub committed: u64,
    pub applied: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub leader: String,
    /// Of this server, while it leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader_since: Option<Time>,
    pub ever_had_leader: bool,
    pub term: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub voted_for: String,
    pub pterm: u64,
    pub pindex: u64,
    pub system_account: bool,
    pub traffic_account: String,
    pub ipq_proposal_len: u64,
    pub ipq_entry_len: u64,
    pub ipq_resp_len: u64,
    pub ipq_apply_len: u64,
    /// The log: its entries as messages.
    pub wal: StreamState,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wal_error: String,
    pub peers: BTreeMap<String, RaftPeer>,
}

/// Another member of a Raft group.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct RaftPeer {
    pub name: String,
    /// It has a vote.
    pub known: bool,
    /// 0 where this server does not lead.
    #[serde(skip_serializing_if = "crate::json::is_zero")]
    pub last_replicated_index: u64,
    /// How long it has been silent; empty where this server does not know.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_seen: String,
}

/// A connection to another server.
#[derive(Debug, Clone, Default)]
pub struct Route {
    pub rid: u64,
    pub remote_id: String,
    pub remote_name: String,
    /// This side opened it.
    pub did_solicit: bool,
    /// The other server is one of the configured seeds.
    pub is_configured: bool,
    pub ip: String,
    pub port: u16,
    pub start: Time,
    pub last_activity: Time,
    pub rtt: Option<Duration>,
    pub pending_bytes: u64,
    pub in_msgs: u64,
    pub out_msgs: u64,
    pub in_bytes: u64,
    pub out_bytes: u64,
    pub subscription_count: u64,
    pub subscriptions: Vec<Subscription>,
    /// The one account this route carries, when it is dedicated to one.
    pub account: Option<String>,
    /// As nats-server names it.
    pub compression: &'static str,
    /// What the other server says it imports and exports.
    pub import: Option<SubjectRules>,
    pub export: Option<SubjectRules>,
}

/// Subjects that may pass and that may not.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct SubjectRules {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// An account's figures.
#[derive(Debug, Clone, Default)]
pub struct Account {
    pub name: String,
    /// The name for people; the same as `name` without another.
    pub name_tag: String,
    pub jetstream: bool,
    pub connections: u64,
    pub leafnodes: u64,
    pub subscriptions: u64,
    /// Subscriptions ever made, and ended.
    pub subscription_inserts: u64,
    pub subscription_removes: u64,
    /// When its settings were last changed.
    pub updated: Time,
    pub expired: bool,
    /// From its clients.
    pub received: Traffic,
    /// To its clients.
    pub sent: Traffic,
    pub received_by_routes: Traffic,
    pub sent_by_routes: Traffic,
    pub slow_consumers: u64,
    /// What it offers, takes and maps, as nats-server prints it.
    pub exports: Vec<serde_json::Value>,
    pub imports: Vec<serde_json::Value>,
    pub mappings: BTreeMap<String, Vec<serde_json::Value>>,
    pub jwt: String,
    pub issuer_key: String,
    pub tags: Vec<String>,
    pub decoded_jwt: Option<serde_json::Value>,
}

/// Messages and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Traffic {
    pub msgs: u64,
    pub bytes: u64,
}

impl std::ops::Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { msgs: self.msgs + other.msgs, bytes: self.bytes + other.bytes }
    }
}

/// JetStream on this server.
#[derive(Debug, Clone, Default)]
pub struct JetStream {
    pub config: JetStreamConfig,
    pub stats: JetStreamStats,
    /// `None` when the server is not clustered.
    pub meta: Option<MetaGroup>,
    pub default_max_consumers: u64,
    pub streams: u64,
    /// Streams led by this server.
    pub streams_leader: u64,
    pub consumers: u64,
    pub consumers_leader: u64,
    pub messages: u64,
    pub bytes: u64,
    pub accounts: Vec<JetStreamAccount>,
}

/// How JetStream is set up.
#[derive(Debug, Clone, Default)]
pub struct JetStreamConfig {
    pub max_memory: u64,
    pub max_storage: u64,
    pub store_dir: String,
    /// `None`: synced before each acknowledgement.
    pub sync_interval: Option<Duration>,
    pub domain: Option<String>,
    /// Limits are configured: what the reference shows as `compress_ok`.
    pub compress_ok: bool,
    pub strict: bool,
}

/// What JetStream uses.
#[derive(Debug, Clone, Copy, Default)]
pub struct JetStreamStats {
    pub memory: u64,
    pub storage: u64,
    pub reserved_memory: u64,
    pub reserved_storage: u64,
    pub accounts: u64,
    /// Raft groups.
    pub ha_assets: u64,
    pub api_total: u64,
    pub api_errors: u64,
}

/// The meta group as this server sees it.
#[derive(Debug, Clone, Default)]
pub struct MetaGroup {
    /// `leader` is empty while none is known; `replicas` holds the members but this one on the leader.
    pub cluster: ClusterInfo,
    /// Short id of the leader.
    pub leader_peer: String,
    pub is_leader: bool,
    pub cluster_size: u64,
    /// Log entries not applied yet.
    pub pending: u64,
}

/// An account's streams.
#[derive(Debug, Clone, Default)]
pub struct JetStreamAccount {
    pub name: String,
    pub memory: u64,
    pub storage: u64,
    pub api_total: u64,
    pub api_errors: u64,
    /// Bytes of memory and of disk, -1 without a limit; nothing where limits are by tier.
    pub limits: Option<(i64, i64)>,
    pub streams: Vec<JetStreamStream>,
}

/// A stream with a replica on this server.
#[derive(Debug, Clone)]
pub struct JetStreamStream {
    pub config: StreamConfig,
    pub created: Time,
    pub state: StreamState,
    pub cluster: Option<ClusterInfo>,
    pub mirror: Option<StreamSourceInfo>,
    pub sources: Vec<StreamSourceInfo>,
    pub is_leader: bool,
    pub consumers: Vec<ConsumerInfo>,
    /// Those that mirrors and sources made.
    pub direct_consumers: Vec<ConsumerInfo>,
}
