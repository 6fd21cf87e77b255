//! `/varz`: the server's settings and counters.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Number;
use weir_jsapi::time::Time;

use crate::{
    OcspPeerCache, Source,
    json::{is_false, is_zero, nanos, seconds},
    jsz::JetStreamVarz,
    view::{ClusterSettings, Counters, Server, WebSocketSettings},
};

#[derive(Serialize)]
pub(crate) struct Varz {
    server_id: String,
    server_name: String,
    version: String,
    proto: u8,
    git_commit: String,
    go: String,
    host: String,
    port: u16,
    #[serde(skip_serializing_if = "is_false")]
    auth_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_verify: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    connect_urls: Vec<String>,
    #[serde(rename = "ws_connect_urls", skip_serializing_if = "Vec::is_empty")]
    websocket_urls: Vec<String>,
    max_connections: i64,
    #[serde(skip_serializing_if = "is_zero")]
    max_subscriptions: u64,
    ping_interval: u64,
    ping_max: u32,
    http_host: String,
    http_port: u16,
    http_base_path: String,
    https_port: u16,
    auth_timeout: Number,
    max_control_line: u32,
    max_payload: u32,
    max_pending: u64,
    cluster: Cluster,
    gateway: RouteLimits,
    leaf: RouteLimits,
    mqtt: Empty,
    websocket: WebSocket,
    jetstream: JetStreamVarz,
    tls_timeout: Number,
    #[serde(skip_serializing_if = "is_false")]
    tls_ocsp_peer_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert_not_after: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ocsp_peer_cache: Option<OcspPeerCache>,
    write_deadline: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    write_timeout: &'static str,
    start: Time,
    now: Time,
    uptime: String,
    mem: u64,
    cores: usize,
    gomaxprocs: usize,
    cpu: Number,
    connections: u64,
    total_connections: u64,
    routes: u64,
    remotes: u64,
    leafnodes: u64,
    in_msgs: u64,
    in_bytes: u64,
    in_client_msgs: u64,
    in_client_bytes: u64,
    out_msgs: u64,
    out_bytes: u64,
    out_client_msgs: u64,
    out_client_bytes: u64,
    slow_consumers: u64,
    stale_connections: u64,
    stalled_clients: u64,
    subscriptions: u64,
    http_req_stats: BTreeMap<String, u64>,
    config_load_time: Time,
    config_digest: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    feature_flags: BTreeMap<String, bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trusted_operators_jwt: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trusted_operators_claim: Vec<serde_json::Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    system_account: String,
    slow_consumer_stats: ByKind,
    stale_connection_stats: ByKind,
    disk_io_wait_stats: DiskWaits,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxies: Option<Proxies>,
}

#[derive(Serialize)]
struct Proxies {
    trusted: Vec<Proxy>,
}

#[derive(Serialize)]
struct Proxy {
    key: String,
}

/// What gateways and leaf nodes are shown with even when there are none: the routes' limits.
#[derive(Serialize, Default)]
struct RouteLimits {
    #[serde(skip_serializing_if = "is_zero")]
    write_deadline: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    write_timeout: &'static str,
}

#[derive(Serialize, Default)]
struct WebSocket {
    #[serde(skip_serializing_if = "String::is_empty")]
    host: String,
    #[serde(skip_serializing_if = "is_no_port")]
    port: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    advertise: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    no_auth_user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    jwt_cookie: String,
    #[serde(skip_serializing_if = "is_zero")]
    handshake_timeout: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_timeout: Option<Number>,
    #[serde(skip_serializing_if = "is_false")]
    no_tls: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_map: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls_pinned_certs: Vec<String>,
    #[serde(skip_serializing_if = "is_false")]
    tls_ocsp_peer_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert_not_after: Option<Time>,
    #[serde(skip_serializing_if = "is_false")]
    same_origin: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_origins: Vec<String>,
    #[serde(skip_serializing_if = "is_false")]
    compression: bool,
}

fn is_no_port(port: &u16) -> bool {
    *port == 0
}

#[derive(Serialize, Default)]
struct Empty {}

#[derive(Serialize, Default)]
struct Cluster {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    addr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_timeout: Option<Number>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_timeout: Option<Number>,
    #[serde(skip_serializing_if = "is_false")]
    tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert_not_after: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_size: Option<i32>,
    #[serde(skip_serializing_if = "is_zero")]
    write_deadline: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    write_timeout: &'static str,
}

/// A count by what kind of connection it concerns.
#[derive(Serialize, Default, Clone, Copy)]
pub(crate) struct ByKind {
    clients: u64,
    routes: u64,
    gateways: u64,
    leafs: u64,
}

impl ByKind {
    pub(crate) fn slow(counters: &Counters) -> Self {
        Self { clients: counters.slow_consumers, routes: counters.slow_routes, ..Self::default() }
    }

    pub(crate) fn stale(counters: &Counters) -> Self {
        Self { clients: counters.stale_connections, routes: counters.stale_routes, ..Self::default() }
    }

    pub(crate) fn total(self) -> u64 {
        self.clients + self.routes + self.gateways + self.leafs
    }
}

/// The reference shows whole percents without a fraction.
pub(crate) fn percent(percent: f64) -> Number {
    let rounded = Number::from_f64((percent * 10.0).round() / 10.0).unwrap_or_else(|| 0.into());
    match rounded.as_f64() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage")]
        Some(whole) if whole.fract() == 0.0 && whole >= 0.0 => (whole as u64).into(),
        _ => rounded,
    }
}

#[derive(Serialize, Default)]
struct DiskWaits {
    waiters: u64,
    waits: u64,
    wait_time: u64,
    max_wait_time: u64,
}

pub(crate) fn varz(source: &dyn Source, requests: BTreeMap<String, u64>) -> Varz {
    let server = source.server();
    let jetstream = source.jetstream(false).as_ref().map(JetStreamVarz::of);
    render(server, requests, jetstream.unwrap_or_default())
}

fn render(server: Server, requests: BTreeMap<String, u64>, jetstream: JetStreamVarz) -> Varz {
    let Server {
        settings,
        counters,
        now,
        memory_bytes,
        cpu_percent,
        connect_urls,
        websocket_urls,
        ocsp_peer_cache,
    } = server;
    let cpu = percent(cpu_percent);
    let (slow, stale) = (ByKind::slow(&counters), ByKind::stale(&counters));
    Varz {
        server_id: settings.server_id,
        server_name: settings.server_name,
        version: settings.version,
        proto: 1,
        git_commit: settings.git_commit,
        go: settings.toolchain,
        host: settings.host,
        port: settings.port,
        auth_required: settings.auth_required,
        tls_required: settings.tls.is_some(),
        tls_verify: settings.tls.as_ref().is_some_and(|tls| tls.verify),
        connect_urls,
        websocket_urls,
        max_connections: settings.max_connections,
        max_subscriptions: settings.max_subscriptions,
        ping_interval: nanos(settings.ping_interval),
        ping_max: settings.ping_max,
        http_host: settings.http_host,
        http_port: settings.http_port,
        http_base_path: settings.http_base_path,
        https_port: settings.https_port,
        auth_timeout: seconds(settings.auth_timeout),
        max_control_line: settings.max_control_line,
        max_payload: settings.max_payload,
        max_pending: settings.max_pending,
        gateway: route_limits(settings.cluster.as_ref()),
        leaf: route_limits(settings.cluster.as_ref()),
        cluster: settings.cluster.map(cluster).unwrap_or_default(),
        mqtt: Empty {},
        websocket: settings.websocket.map(websocket).unwrap_or_default(),
        jetstream,
        tls_timeout: settings.tls.as_ref().map_or_else(|| 2.into(), |tls| seconds(tls.timeout)),
        tls_ocsp_peer_verify: settings.tls.as_ref().is_some_and(|tls| tls.ocsp_peer_verify),
        tls_cert_not_after: settings.tls.as_ref().and_then(|tls| tls.cert_not_after),
        ocsp_peer_cache,
        write_deadline: nanos(settings.write_deadline),
        write_timeout: settings.write_timeout,
        uptime: uptime(settings.start, now),
        start: settings.start,
        now,
        mem: memory_bytes,
        cores: settings.cores,
        gomaxprocs: settings.cores,
        cpu,
        connections: counters.connections,
        total_connections: counters.total_connections,
        routes: counters.routes,
        remotes: counters.remotes,
        leafnodes: 0,
        in_msgs: counters.in_msgs,
        in_bytes: counters.in_bytes,
        in_client_msgs: counters.in_client_msgs,
        in_client_bytes: counters.in_client_bytes,
        out_msgs: counters.out_msgs,
        out_bytes: counters.out_bytes,
        out_client_msgs: counters.out_client_msgs,
        out_client_bytes: counters.out_client_bytes,
        slow_consumers: slow.total(),
        stale_connections: stale.total(),
        stalled_clients: counters.stalled_clients,
        subscriptions: counters.subscriptions,
        http_req_stats: requests,
        config_load_time: settings.config_load_time,
        config_digest: settings.config_digest,
        tags: settings.tags,
        metadata: settings.metadata,
        feature_flags: settings.feature_flags,
        system_account: settings.system_account,
        slow_consumer_stats: slow,
        stale_connection_stats: stale,
        disk_io_wait_stats: DiskWaits::default(),
        trusted_operators_claim: settings.operator_claims,
        trusted_operators_jwt: settings.operators,
        proxies: (!settings.proxies.is_empty())
            .then(|| Proxies { trusted: settings.proxies.into_iter().map(|key| Proxy { key }).collect() }),
    }
}

fn cluster(settings: ClusterSettings) -> Cluster {
    Cluster {
        name: settings.name,
        addr: settings.host,
        cluster_port: Some(settings.port),
        auth_timeout: Some(seconds(settings.auth_timeout)),
        urls: settings.urls,
        tls_timeout: Some(settings.tls.as_ref().map_or_else(|| 2.into(), |tls| seconds(tls.timeout))),
        tls_required: settings.tls.is_some(),
        tls_verify: settings.tls.is_some(),
        tls_cert_not_after: settings.tls.as_ref().and_then(|tls| tls.cert_not_after),
        pool_size: Some(settings.pool_size),
        write_deadline: settings.write_deadline.map_or(0, nanos),
        write_timeout: settings.write_timeout,
    }
}

fn route_limits(cluster: Option<&ClusterSettings>) -> RouteLimits {
    cluster.map_or_else(RouteLimits::default, |cluster| RouteLimits {
        write_deadline: cluster.write_deadline.map_or(0, nanos),
        write_timeout: cluster.write_timeout,
    })
}

fn websocket(settings: WebSocketSettings) -> WebSocket {
    let tls = settings.tls.unwrap_or_default();
    WebSocket {
        host: settings.host,
        port: settings.port,
        advertise: settings.advertise,
        no_auth_user: settings.no_auth_user,
        jwt_cookie: settings.jwt_cookie,
        handshake_timeout: nanos(settings.handshake_timeout),
        auth_timeout: (!settings.auth_timeout.is_zero()).then(|| seconds(settings.auth_timeout)),
        no_tls: settings.no_tls,
        tls_map: tls.map,
        tls_pinned_certs: tls.pinned_certs,
        tls_ocsp_peer_verify: tls.ocsp_peer_verify,
        tls_cert_not_after: tls.cert_not_after,
        same_origin: settings.same_origin,
        allowed_origins: settings.allowed_origins,
        compression: settings.compression,
    }
}

/// The time between two moments as nats-server words it: `3d4h5m6s`, with years first.
pub(crate) fn uptime(from: Time, to: Time) -> String {
    let nanos = to.unix_nanos().unwrap_or(0) - from.unix_nanos().unwrap_or(0);
    let total = u64::try_from(nanos).unwrap_or(0) / 1_000_000_000;
    let (minutes, hours, days) = (total / 60, total / 3600, total / 86_400);
    let (years, seconds) = (days / 365, total % 60);
    match (years, days, hours, minutes) {
        (1.., ..) => {
            format!("{years}y{}d{}h{}m{seconds}s", days % 365, hours % 24, minutes % 60)
        }
        (_, 1.., ..) => format!("{days}d{}h{}m{seconds}s", hours % 24, minutes % 60),
        (_, _, 1.., _) => format!("{hours}h{}m{seconds}s", minutes % 60),
        (_, _, _, 1..) => format!("{minutes}m{seconds}s"),
        _ => format!("{seconds}s"),
    }
}
