//! The broker's configuration file, in nats-server's language. Holds no secret: those are in the file it includes.
use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::ConfigMap;
use sha2::{Digest, Sha256};

use super::metadata;
use crate::api::v1alpha1::LogLevel;
use crate::controllers::cluster::names::{CLIENT_PORT, MONITOR_PORT};
use crate::controllers::cluster::validate::ValidatedCluster;

/// Key of the file in the ConfigMap.
pub(super) const FILE: &str = "weir.conf";

/// The ConfigMap with the broker's configuration.
pub fn config_map(cluster: &ValidatedCluster) -> ConfigMap {
    ConfigMap {
        metadata: metadata(cluster, cluster.names.cluster.clone()),
        data: Some(BTreeMap::from([(FILE.to_owned(), config_file(cluster))])),
        ..ConfigMap::default()
    }
}

fn config_file(cluster: &ValidatedCluster) -> String {
    let mut file = String::from("# Written by weir-operator: edits are undone.\nserver_name: $POD_NAME\n");
    let _ = writeln!(file, "listen: \"0.0.0.0:{CLIENT_PORT}\"\nhttp: \"0.0.0.0:{MONITOR_PORT}\"");
    for (key, value) in settings(cluster) {
        let _ = writeln!(file, "{key}: {value}");
    }
    let _ = write!(
        file,
        "jetstream {{\n  store_dir: \"/data\"\n  max_memory_store: {}\n  max_file_store: {}\n}}\n",
        cluster.memory_store_bytes, cluster.file_store_bytes,
    );
    file.push_str("include './secret.conf'\n");
    file
}

/// What the spec sets, as keys and values of the file.
fn settings(cluster: &ValidatedCluster) -> BTreeMap<&'static str, String> {
    let config = &cluster.spec.config;
    let mut settings = BTreeMap::new();
    let mut number = |key, value: Option<i64>| {
        if let Some(value) = value {
            settings.insert(key, value.to_string());
        }
    };
    number("max_payload", config.max_payload);
    number("max_connections", config.max_connections);
    number("max_pending", config.max_pending);
    for (key, value) in [("ping_interval", &config.ping_interval), ("write_deadline", &config.write_deadline)]
    {
        if let Some(duration) = value.as_ref().filter(|duration| !duration.0.is_empty()) {
            settings.insert(key, format!("\"{}\"", duration.0));
        }
    }
    match config.log_level.unwrap_or_default() {
        LogLevel::Info => {}
        LogLevel::Debug => {
            settings.insert("debug", "true".into());
        }
        LogLevel::Trace => {
            settings.insert("debug", "true".into());
            settings.insert("trace", "true".into());
        }
    }
    if cluster.spec.auth.anonymous {
        settings.insert("no_auth_user", format!("\"{}\"", super::secrets::APP_USER));
    }
    settings
}

/// Changes when a broker has to restart to take up the spec. Made from the settings and not from the file's text:
/// neither routes nor another wording of a newer operator restart anything.
pub(super) fn restart_hash(cluster: &ValidatedCluster) -> String {
    let mut hash = Sha256::new();
    for (key, value) in settings(cluster) {
        hash.update(format!("{key}={value}\n"));
    }
    hash.update(format!("store={},{}", cluster.memory_store_bytes, cluster.file_store_bytes));
    hash.finalize()[..8].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
