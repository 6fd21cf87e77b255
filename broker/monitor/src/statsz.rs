//! The figures a server publishes of itself at intervals, and tells when it is pinged.

use serde::Serialize;
use weir_jsapi::time::Time;

use crate::{
    Source,
    json::is_zero,
    jsz::{JetStreamVarz, shown_config},
    varz::{ByKind, percent},
    view::Traffic,
};

#[derive(Serialize)]
pub(crate) struct Statsz {
    start: Time,
    mem: u64,
    cores: usize,
    cpu: serde_json::Number,
    connections: u64,
    total_connections: u64,
    active_accounts: u64,
    subscriptions: u64,
    sent: Traffic,
    sent_to_clients: Traffic,
    received: Traffic,
    received_from_clients: Traffic,
    slow_consumers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_consumer_stats: Option<ByKind>,
    #[serde(skip_serializing_if = "is_zero")]
    stale_connections: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_connection_stats: Option<ByKind>,
    #[serde(skip_serializing_if = "is_zero")]
    stalled_clients: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<RouteStat>,
    active_servers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jetstream: Option<JetStreamVarz>,
    gomaxprocs: usize,
}

#[derive(Serialize)]
struct RouteStat {
    rid: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    sent: Traffic,
    received: Traffic,
    pending: u64,
}

pub(crate) fn statsz(source: &dyn Source) -> Statsz {
    let server = source.server();
    let (settings, counters) = (server.settings, server.counters);
    let slow = ByKind::slow(&counters);
    let stale = ByKind::stale(&counters);
    let routes = source.routes(false).into_iter().map(|route| RouteStat {
        rid: route.rid,
        name: route.remote_name,
        sent: Traffic { msgs: route.out_msgs, bytes: route.out_bytes },
        received: Traffic { msgs: route.in_msgs, bytes: route.in_bytes },
        pending: route.pending_bytes,
    });
    Statsz {
        start: settings.start,
        mem: server.memory_bytes,
        cores: settings.cores,
        cpu: percent(server.cpu_percent),
        connections: counters.connections,
        total_connections: counters.total_connections,
        active_accounts: source.accounts().iter().filter(|account| account.connections > 0).count() as u64,
        subscriptions: counters.subscriptions,
        sent: Traffic { msgs: counters.out_msgs, bytes: counters.out_bytes },
        sent_to_clients: Traffic { msgs: counters.out_client_msgs, bytes: counters.out_client_bytes },
        received: Traffic { msgs: counters.in_msgs, bytes: counters.in_bytes },
        received_from_clients: Traffic { msgs: counters.in_client_msgs, bytes: counters.in_client_bytes },
        slow_consumers: slow.total(),
        slow_consumer_stats: Some(slow).filter(|slow| slow.total() > 0),
        stale_connections: stale.total(),
        stale_connection_stats: Some(stale).filter(|stale| stale.total() > 0),
        stalled_clients: counters.stalled_clients,
        routes: routes.collect(),
        active_servers: counters.remotes + 1,
        jetstream: source.jetstream(false).map(|jetstream| JetStreamVarz::of(&shown_config(jetstream))),
        gomaxprocs: settings.cores,
    }
}
