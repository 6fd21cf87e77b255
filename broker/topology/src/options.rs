//! How a server takes part in its cluster. Not where that is configured.

use crate::address::RouteUrl;
use crate::tls::RouteTls;
use std::sync::Arc;
use std::time::Duration;
use weir_conf::{CompressionOptions, RoutePermissions, WriteTimeoutPolicy};

/// How a server takes part in its cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteOptions {
    /// The cluster's name.
    pub cluster: String,
    /// Whether that name was made up; then another server's configured name is taken over.
    pub cluster_is_dynamic: bool,
    /// The host that INFO names.
    pub host: String,
    /// `host:port` that other servers shall use instead of the address they see.
    pub advertise: Option<String>,
    /// Whether clients are not to be told of the cluster's other servers.
    pub no_advertise: bool,
    /// Clients are told of the address that INFO names alone, not of each interface.
    pub advertises_clients: bool,
    /// What WebSocket clients are told of this server, as `host:port` or a host alone; empty: each interface.
    pub websocket_urls: Vec<String>,
    /// The user that routes have to show, and that is shown to servers that gossip named.
    pub user: Option<String>,
    /// The password of that user, plain or bcrypt.
    pub password: Option<String>,
    /// How long CONNECT may take when a user is set.
    pub auth_timeout: Duration,
    /// TLS, which comes before anything else; `None` for none.
    pub tls: Option<Arc<RouteTls>>,
    /// Servers to connect to.
    pub seeds: Vec<RouteUrl>,
    /// Connections a route; below 1 there is no pooling. The larger of two servers' settings counts.
    pub pool_size: i32,
    /// Accounts with a connection of their own, the system account included.
    pub accounts: Vec<String>,
    /// What may come in and go out; `None` for everything.
    pub permissions: Option<RoutePermissions>,
    /// How connections are compressed.
    pub compression: CompressionOptions,
    /// How often a server that gossip named is tried again.
    pub connect_retries: u32,
    /// The first pause before a seed is tried again.
    pub reconnect_delay: Duration,
    /// The longest pause before a seed is tried again.
    pub max_reconnect_delay: Duration,
    /// Every so many failed attempts at a seed that was never reached are logged as errors.
    pub connect_error_reports: u64,
    /// The same for one that was reached before.
    pub reconnect_error_reports: u64,
    /// How often routes are pinged.
    pub ping_interval: Duration,
    /// How many PINGs may be unanswered.
    pub ping_max: u32,
    /// How long writes may make no progress; `None` for the clients' limit.
    pub write_deadline: Option<Duration>,
    /// What happens then.
    pub write_timeout: WriteTimeoutPolicy,
}

/// nats-server's default number of connections a route.
const DEFAULT_POOL_SIZE: i32 = 3;

impl Default for RouteOptions {
    fn default() -> Self {
        Self {
            cluster: String::new(),
            cluster_is_dynamic: false,
            host: "0.0.0.0".to_owned(),
            advertise: None,
            no_advertise: false,
            advertises_clients: false,
            websocket_urls: Vec::new(),
            user: None,
            password: None,
            auth_timeout: Duration::from_secs(2),
            tls: None,
            seeds: Vec::new(),
            pool_size: DEFAULT_POOL_SIZE,
            accounts: Vec::new(),
            permissions: None,
            compression: CompressionOptions::default(),
            connect_retries: 0,
            reconnect_delay: Duration::from_millis(250),
            max_reconnect_delay: Duration::from_secs(1),
            connect_error_reports: 3600,
            reconnect_error_reports: 1,
            ping_interval: Duration::from_secs(5),
            ping_max: 2,
            write_deadline: None,
            write_timeout: WriteTimeoutPolicy::Default,
        }
    }
}
