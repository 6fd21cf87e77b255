//! The block that names this server in events and in answers of the system account. Not what it is around.

use std::collections::BTreeMap;

use serde::Serialize;
use weir_jsapi::time::Time;

/// What other servers may rely on when JetStream runs here: it does, and snapshots are binary.
const FLAGS_WITH_JETSTREAM: u64 = 0b011;

/// The fields in nats-server's order.
#[derive(Serialize)]
pub(crate) struct ServerBlock {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) cluster: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) domain: String,
    #[serde(rename = "ver")]
    pub(crate) version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) feature_flags: BTreeMap<String, bool>,
    pub(crate) jetstream: bool,
    pub(crate) flags: u64,
    #[serde(rename = "seq")]
    pub(crate) sequence: u64,
    pub(crate) time: Time,
}

/// The `flags` of a server.
pub(crate) fn flags(jetstream: bool) -> u64 {
    if jetstream { FLAGS_WITH_JETSTREAM } else { 0 }
}
