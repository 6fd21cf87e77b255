//! What the system account tells of this server in its events and answers.

use weir_hub::HubOptions;

use super::System;
use crate::monitoring::{self, ServerSource};
use crate::server_block::{self, ServerBlock};

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

impl System {
    /// The block with the next sequence number.
    pub(super) fn server_info(&self) -> ServerBlock {
        let identity = &self.identity;
        let settings = self.source.settings();
        ServerBlock {
            name: identity.name.clone(),
            host: identity.host.clone(),
            id: identity.id.clone(),
            cluster: self.hub.cluster_name(),
            domain: identity.domain.clone(),
            version: identity.version.clone(),
            tags: settings.tags,
            metadata: settings.metadata,
            feature_flags: settings.feature_flags,
            jetstream: identity.jetstream,
            flags: server_block::flags(identity.jetstream),
            sequence: self.next_sequence(),
            time: monitoring::now(),
        }
    }
}
