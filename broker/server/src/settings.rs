//! From the options to what the hub and the monitor are told.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use weir_conf::{Options, TlsOptions, WebSocketOptions, WriteTimeoutPolicy, advertised};
use weir_hub::{HubOptions, Limits};
use weir_jsapi::time::Time;
use weir_monitor::{ClusterSettings, ServerSettings, TlsSettings, WebSocketSettings};

use weir_net::ocsp::Certificate;

use crate::{
    COMPATIBLE_VERSION,
    authenticator::{ServerKeys, is_required},
    identity::short_hash,
    monitoring, resolver, startup,
};

/// Who the hub is.
pub(crate) fn hub_options(
    options: &Options,
    keys: &ServerKeys,
    name: &str,
    port: u16,
    cluster_name: Option<&(String, bool)>,
) -> HubOptions {
    HubOptions {
        server_id: keys.server_id(),
        xkey: keys.xkey(),
        server_name: name.to_owned(),
        version: COMPATIBLE_VERSION.to_owned(),
        git_commit: startup::git_commit().to_owned(),
        language: "rust".to_owned(),
        host: options.host.clone(),
        port,
        jetstream: options.jetstream.is_some(),
        domain: options.jetstream.as_ref().and_then(|jetstream| jetstream.domain.clone()),
        cluster: cluster_name.map(|(name, _)| name.clone()),
        system_account: system_account(options),
        node: if options.no_system_account { String::new() } else { short_hash(name) },
        caches_interest: !options.disable_sublist_cache,
        ..HubOptions::default()
    }
}

/// The system account's name, configured or not.
pub(crate) fn system_account(options: &Options) -> String {
    resolver::system_account(options).unwrap_or_else(|| weir_hub::SYSTEM_ACCOUNT.to_owned())
}

/// The flags that nats-server knows, as it defaults them.
pub(crate) const FEATURE_FLAGS: [(&str, bool); 4] = [
    ("js_ack_fc_v2", false),
    ("js_api_reply_v2", false),
    ("js_raft_delete_range", true),
    ("js_snapshot_sources", false),
];

/// nats-server's flags, and what the configuration says of them. It shows its own only.
pub(crate) fn feature_flags(options: &Options) -> BTreeMap<String, bool> {
    let mut flags: BTreeMap<_, _> =
        FEATURE_FLAGS.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    for (name, value) in &options.feature_flags {
        if let Some(flag) = flags.get_mut(name) {
            *flag = *value;
        }
    }
    flags
}

/// What clients may use.
pub(crate) fn limits(options: &Options) -> Limits {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Limits {
        max_payload: size(options.max_payload.into()),
        max_control_line: size(options.max_control_line.into()),
        max_pending: size(options.max_pending),
        max_connections: usize::try_from(options.max_connections).unwrap_or(0),
        max_subscriptions: size(options.max_subscriptions),
        max_sub_tokens: usize::from(options.max_sub_tokens),
        headers: !options.no_header_support,
        advertised: options.client_advertise.as_deref().and_then(|text| advertised(text).ok()),
        ping_interval: options.ping_interval,
        ping_max: options.ping_max,
        write_deadline: options.write_deadline,
        closes_slow_writers: options.write_timeout != WriteTimeoutPolicy::Retry,
        holds_publishers: !options.no_fast_producer_stall,
        max_closed_clients: options.max_closed_clients,
        auth_timeout: options.auth_timeout,
    }
}

/// A policy's name; the default has none.
fn write_timeout(policy: WriteTimeoutPolicy) -> &'static str {
    match policy {
        WriteTimeoutPolicy::Default => "",
        other => other.name(),
    }
}

/// Whether clients have to show credentials, or are taken for somebody without.
fn auth_required(options: &Options) -> bool {
    !options.users.is_empty()
        || options.accounts.values().any(|account| !account.users.is_empty())
        || is_required(options)
}

fn tls(options: &TlsOptions) -> TlsSettings {
    TlsSettings {
        timeout: options.timeout,
        verify: options.verify || options.verify_and_map || options.verify_cert_and_check_known_urls,
        map: options.verify_and_map,
        pinned_certs: options.pinned_certs.iter().cloned().collect(),
        ocsp_peer_verify: options.ocsp_peer.as_ref().is_some_and(|peer| peer.verify),
        cert_not_after: cert_not_after(options),
    }
}

/// When the first certificate ends; files that cannot be read were refused before.
fn cert_not_after(options: &TlsOptions) -> Option<Time> {
    let chains = weir_net::tls::own_chains(options).ok()?;
    let certificate = Certificate::parse(chains.first()?.1.first()?).ok()?;
    Some(Time::from_unix_nanos(certificate.not_after.saturating_mul(1_000_000_000)))
}

fn websocket(options: &WebSocketOptions) -> WebSocketSettings {
    WebSocketSettings {
        host: options.host.clone(),
        port: u16::try_from(options.port).unwrap_or(0),
        advertise: options.advertise.clone().unwrap_or_default(),
        no_auth_user: options.no_auth_user.clone().unwrap_or_default(),
        jwt_cookie: options.jwt_cookie.clone().unwrap_or_default(),
        handshake_timeout: options.handshake_timeout,
        auth_timeout: options.auth_timeout.unwrap_or_default(),
        no_tls: options.no_tls,
        tls: options.tls.as_ref().map(tls),
        same_origin: options.same_origin,
        allowed_origins: options.allowed_origins.clone(),
        compression: options.compression,
    }
}

/// What a JWT says, unchecked.
fn claims_of(token: &str) -> Option<serde_json::Value> {
    let claims = URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// What `/varz` shows of the options; the ports are known later.
pub(crate) fn settings(options: &Options, server_id: &str, name: &str) -> ServerSettings {
    let now = monitoring::now();
    let cluster = options.cluster.as_ref().map(|cluster| ClusterSettings {
        name: cluster.name.clone(),
        host: cluster.host.clone(),
        port: u16::try_from(cluster.port).unwrap_or(0),
        auth_timeout: cluster.auth_timeout,
        urls: cluster.routes.iter().map(|url| url.authority(6222)).collect(),
        pool_size: cluster.pool_size,
        tls: cluster.tls.as_ref().map(tls),
        write_deadline: cluster.write_deadline,
        write_timeout: write_timeout(cluster.write_timeout),
    });
    ServerSettings {
        server_id: server_id.to_owned(),
        server_name: name.to_owned(),
        version: COMPATIBLE_VERSION.to_owned(),
        git_commit: startup::git_commit().to_owned(),
        toolchain: "rust".to_owned(),
        host: options.host.clone(),
        port: u16::try_from(options.port).unwrap_or(0),
        auth_required: auth_required(options),
        tls: options.tls.as_ref().map(tls),
        websocket: options.websocket.as_ref().map(websocket),
        write_timeout: write_timeout(options.write_timeout),
        proxies: options.proxies.iter().map(|proxy| proxy.key.clone()).collect(),
        operators: options.operator.jwts.clone(),
        operator_claims: options.operator.jwts.iter().filter_map(|token| claims_of(token)).collect(),
        max_connections: options.max_connections,
        max_subscriptions: options.max_subscriptions,
        ping_interval: options.ping_interval,
        ping_max: options.ping_max,
        http_host: options.http_host.clone(),
        http_port: 0,
        https_port: 0,
        http_base_path: options.http_base_path.clone(),
        auth_timeout: options.auth_timeout,
        max_control_line: options.max_control_line,
        max_payload: options.max_payload,
        max_pending: options.max_pending,
        write_deadline: options.write_deadline,
        cluster,
        start: now,
        config_load_time: now,
        config_digest: options.config_digest.clone(),
        system_account: match (&options.system_account, options.no_system_account) {
            (_, true) => String::new(),
            (Some(name), _) => name.clone(),
            (None, _) => weir_hub::SYSTEM_ACCOUNT.to_owned(),
        },
        tags: options.server_tags.clone(),
        metadata: options.server_metadata.clone(),
        feature_flags: feature_flags(options),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    }
}
