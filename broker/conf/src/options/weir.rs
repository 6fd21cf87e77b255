//! Options that nats-server has no words for.

use std::time::Duration;

/// The `weir` block.
#[derive(Debug, Clone, PartialEq)]
pub struct WeirOptions {
    pub grpc_host: String,
    /// gRPC port (Raft and administration); -1 takes a free one.
    pub grpc_port: i32,
    /// True when the file or a flag names the gRPC address.
    pub grpc_configured: bool,
    /// `host:port` that other servers use to reach us, when it is not the listen address.
    pub grpc_advertise: Option<String>,
    /// Bearer token of every call between servers.
    pub cluster_secret: Option<String>,
    pub heartbeat_interval: Duration,
    /// Elections start between this and twice this without a heartbeat.
    pub election_timeout: Duration,
}

impl Default for WeirOptions {
    fn default() -> Self {
        Self {
            grpc_host: "0.0.0.0".to_owned(),
            grpc_port: 4333,
            grpc_configured: false,
            grpc_advertise: None,
            cluster_secret: None,
            heartbeat_interval: Duration::from_millis(250),
            election_timeout: Duration::from_millis(1500),
        }
    }
}
