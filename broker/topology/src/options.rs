//! How a server takes part in its cluster. Not where that is configured.

use crate::address::RouteUrl;
use std::time::Duration;

/// How a server takes part in its cluster.
#[derive(Debug, Clone)]
pub struct RouteOptions {
    /// The cluster's name.
    pub cluster: String,
    /// Whether that name was made up; then another server's configured name is taken over in INFO checks.
    pub cluster_is_dynamic: bool,
    /// The host that INFO names.
    pub host: String,
    /// `host:port` that other servers shall use instead of the address they see.
    pub advertise: Option<String>,
    /// Whether clients are not to be told of the cluster's other servers.
    pub no_advertise: bool,
    /// What clients are told of this server, as `host:port`; empty: derived from the hub and the routes' addresses.
    pub client_urls: Vec<String>,
    /// The user that routes have to show, and that is shown to others.
    pub user: Option<String>,
    /// The password of that user, plain or bcrypt.
    pub password: Option<String>,
    /// How long CONNECT and INFO may take.
    pub auth_timeout: Duration,
    /// Servers to connect to.
    pub seeds: Vec<RouteUrl>,
    /// Connections a route, 1 to 16. All servers of a cluster must have the same; nats-server's default is 3.
    pub pool_size: usize,
    /// The first pause before a seed is tried again.
    pub reconnect_delay: Duration,
    /// The longest pause before a seed is tried again.
    pub max_reconnect_delay: Duration,
}

/// nats-server's default number of connections a route.
pub(crate) const DEFAULT_POOL_SIZE: usize = 3;
/// More connections a route are refused.
pub(crate) const MAX_POOL_SIZE: usize = 16;

impl Default for RouteOptions {
    fn default() -> Self {
        Self {
            cluster: String::new(),
            cluster_is_dynamic: false,
            host: "0.0.0.0".to_owned(),
            advertise: None,
            no_advertise: false,
            client_urls: Vec::new(),
            user: None,
            password: None,
            auth_timeout: Duration::from_secs(2),
            seeds: Vec::new(),
            pool_size: DEFAULT_POOL_SIZE,
            reconnect_delay: Duration::from_millis(250),
            max_reconnect_delay: Duration::from_secs(5),
        }
    }
}
