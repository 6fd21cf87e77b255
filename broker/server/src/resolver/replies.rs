//! The JSON that answers requests about account claims, in nats-server's order of fields. Not the requests.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::Serialize;
use tracing::{debug, error};
use weir_hub::Hub;

use crate::server_block::{self, ServerBlock};

static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// What answers say about the server beyond INFO.
#[derive(Default)]
pub(super) struct About {
    pub(super) tags: Vec<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) feature_flags: BTreeMap<String, bool>,
}

#[derive(Serialize)]
struct Update<'a> {
    server: ServerBlock,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Done<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failed<'a>>,
}

#[derive(Serialize)]
struct Done<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    account: &'a str,
    code: u16,
    message: &'a str,
}

#[derive(Serialize)]
struct Failed<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    account: &'a str,
    code: u16,
    description: String,
}

#[derive(Serialize)]
struct List<'a> {
    data: &'a [String],
    server: ServerBlock,
}

fn server(hub: &Hub, about: &About) -> ServerBlock {
    let info = hub.info();
    ServerBlock {
        name: info.server_name,
        host: info.host,
        id: info.server_id,
        cluster: info.cluster,
        domain: info.domain,
        version: info.version,
        tags: about.tags.clone(),
        metadata: about.metadata.clone(),
        feature_flags: about.feature_flags.clone(),
        jetstream: info.jetstream,
        flags: server_block::flags(info.jetstream),
        sequence: SEQUENCE.fetch_add(1, Ordering::Relaxed) + 1,
        time: crate::monitoring::now(),
    }
}

/// The answer to a request that changes an account (empty for several), and its line in the log.
pub(super) fn outcome(
    hub: &Hub,
    about: &About,
    account: &str,
    message: &str,
    outcome: Result<(), String>,
) -> Vec<u8> {
    let named = if account.is_empty() { String::new() } else { format!(" - {account}") };
    let mut answer = Update { server: server(hub, about), data: None, error: None };
    match outcome {
        Ok(()) => {
            debug!("{message}{named}");
            answer.data = Some(Done { account, code: 200, message });
        }
        Err(reason) => {
            error!("{message}{named} - {reason}");
            let description = format!("{message} - {reason}");
            answer.error = Some(Failed { account, code: 500, description });
        }
    }
    serde_json::to_vec(&answer).unwrap_or_default()
}

/// The answer to a request for all keys.
pub(super) fn list(hub: &Hub, about: &About, keys: &[String]) -> Vec<u8> {
    serde_json::to_vec(&List { data: keys, server: server(hub, about) }).unwrap_or_default()
}
