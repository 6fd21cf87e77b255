//! The `weir` block: the gRPC listener for Raft and administration, and the clock of elections.

use std::time::Duration;

use super::put;
use crate::{options::WeirOptions, read::Reader, value::Node};

pub(super) fn weir(reader: &mut Reader<'_>, weir: &mut WeirOptions, node: &Node) {
    for (key, node) in reader.map(node).into_iter().flatten() {
        match key.to_lowercase().as_str() {
            "grpc" => {
                if let Some((host, port)) = reader.listen(node) {
                    put(&mut weir.grpc_host, host);
                    weir.grpc_port = port;
                    weir.grpc_configured = true;
                }
            }
            "grpc_advertise" => weir.grpc_advertise = reader.string(node),
            "cluster_secret" => {
                let secret = reader.string(node);
                if secret.as_deref() == Some("") {
                    reader.error(node, "cluster_secret must not be empty");
                }
                weir.cluster_secret = secret;
            }
            "heartbeat_interval" => {
                interval(reader, &mut weir.heartbeat_interval, "heartbeat_interval", node);
            }
            "election_timeout" => {
                interval(reader, &mut weir.election_timeout, "election_timeout", node);
            }
            _ => reader.unknown(key, node),
        }
    }
    if weir.election_timeout < weir.heartbeat_interval * 3 {
        reader.error(node, "election_timeout must be at least three times heartbeat_interval");
    }
}

fn interval(reader: &mut Reader<'_>, place: &mut Duration, field: &str, node: &Node) {
    const MINIMUM: Duration = Duration::from_millis(10);
    match reader.duration(field, node) {
        Some(duration) if duration < MINIMUM => {
            reader.error(node, format!("{field} must be at least 10ms"));
        }
        Some(duration) => *place = duration,
        None => {}
    }
}
