//! The block that names this server in events and answers. Not what it is around.

use std::collections::BTreeMap;

use serde::Serialize;
use weir_hub::HubOptions;
use weir_jsapi::time::Time;

use super::System;
use crate::monitoring::{self, ServerSource};

/// What other servers may rely on when JetStream runs here: it does, and snapshots are binary.
const FLAGS_WITH_JETSTREAM: u64 = 0b011;

/// What stays the same while the server runs.
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) host: String,
    pub(super) id: String,
    domain: String,
    version: String,
    jetstream: bool,
}

impl Identity {
    pub(super) fn of(options: &HubOptions, _: &ServerSource) -> Self {
        Self {
            name: options.server_name.clone(),
            host: options.host.clone(),
            id: options.server_id.clone(),
            domain: options.domain.clone().unwrap_or_default(),
            version: options.version.clone(),
            jetstream: options.jetstream,
        }
    }

    pub(super) fn domain(&self) -> &str {
        &self.domain
    }
}

#[derive(Serialize)]
pub(super) struct ServerInfo<'a> {
    name: &'a str,
    host: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    cluster: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    domain: &'a str,
    ver: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    feature_flags: BTreeMap<String, bool>,
    jetstream: bool,
    flags: u64,
    seq: u64,
    time: Time,
}

impl System {
    /// The block with the next sequence number.
    pub(super) fn server_info(&self) -> ServerInfo<'_> {
        let identity = &self.identity;
        let settings = self.source.settings();
        ServerInfo {
            name: &identity.name,
            host: &identity.host,
            id: &identity.id,
            cluster: self.hub.cluster_name(),
            domain: &identity.domain,
            ver: &identity.version,
            tags: settings.tags,
            metadata: settings.metadata,
            feature_flags: settings.feature_flags,
            jetstream: identity.jetstream,
            flags: if identity.jetstream { FLAGS_WITH_JETSTREAM } else { 0 },
            seq: self.next_sequence(),
            time: monitoring::now(),
        }
    }
}
