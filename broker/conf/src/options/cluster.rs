//! Options of the `cluster` block.

use std::time::Duration;

use super::{SubjectPermission, TlsOptions};
use crate::url::Url;

/// The `cluster` block.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterOptions {
    /// Empty: one is made up.
    pub name: String,
    pub host: String,
    /// Route port; -1 takes a free one, 0 listens on none.
    pub port: i32,
    pub advertise: Option<String>,
    pub no_advertise: bool,
    pub user: Option<String>,
    pub password: Option<String>,
    pub auth_timeout: Duration,
    /// Routes present and verify certificates on both sides.
    pub tls: Option<TlsOptions>,
    /// What routes may bring in and take out.
    pub permissions: Option<RoutePermissions>,
    /// The seed routes.
    pub routes: Vec<Url>,
    /// For routes learnt by gossip; 0 gives up after the first failure.
    pub connect_retries: u32,
    /// The pause between attempts grows.
    pub connect_backoff: bool,
    /// TCP connections a pair of servers; below 1 disables pooling.
    pub pool_size: i32,
    /// Accounts with a route of their own.
    pub accounts: Vec<String>,
    pub compression: CompressionOptions,
    /// `None`: the server's.
    pub ping_interval: Option<Duration>,
    /// `None`: the server's.
    pub ping_max: Option<u32>,
    /// `None`: the server's.
    pub write_deadline: Option<Duration>,
    pub write_timeout: WriteTimeoutPolicy,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            host: "0.0.0.0".to_owned(),
            port: 0,
            advertise: None,
            no_advertise: false,
            user: None,
            password: None,
            auth_timeout: Duration::from_secs(2),
            tls: None,
            permissions: None,
            routes: Vec::new(),
            connect_retries: 0,
            connect_backoff: false,
            pool_size: 3,
            accounts: Vec::new(),
            compression: CompressionOptions::default(),
            ping_interval: None,
            ping_max: None,
            write_deadline: None,
            write_timeout: WriteTimeoutPolicy::Default,
        }
    }
}

/// `permissions` of routes; `None` permits everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoutePermissions {
    /// Subjects that the other servers may send us.
    pub import: Option<SubjectPermission>,
    /// Subjects that we send the other servers.
    pub export: Option<SubjectPermission>,
}

/// How a connection between servers is compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressionOptions {
    pub mode: CompressionMode,
    /// For [`CompressionMode::S2Auto`]: below the first none, then uncompressed, fast, better, best.
    pub rtt_thresholds: Vec<Duration>,
}

impl Default for CompressionOptions {
    fn default() -> Self {
        Self { mode: CompressionMode::Accept, rtt_thresholds: Vec::new() }
    }
}

/// The modes of compression, as nats-server has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionMode {
    /// As if this server knew nothing of compression.
    NotSupported,
    Off,
    /// As the other side wishes.
    Accept,
    S2Auto,
    S2Uncompressed,
    S2Fast,
    S2Better,
    S2Best,
}

impl CompressionMode {
    /// The name in configurations and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotSupported => "not supported",
            Self::Off => "off",
            Self::Accept => "accept",
            Self::S2Auto => "s2_auto",
            Self::S2Uncompressed => "s2_uncompressed",
            Self::S2Fast => "s2_fast",
            Self::S2Better => "s2_better",
            Self::S2Best => "s2_best",
        }
    }
}

/// What happens to a connection that takes too long to write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteTimeoutPolicy {
    /// `close` for clients, `retry` for other servers.
    #[default]
    Default,
    Close,
    Retry,
}

impl WriteTimeoutPolicy {
    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Close => "close",
            Self::Retry => "retry",
        }
    }
}
