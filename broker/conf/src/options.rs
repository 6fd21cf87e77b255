//! The typed options of a server, with nats-server's defaults.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::{error::ConfError, url::Url};

/// Everything a server is told by its file and its flags.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Where clients connect; `0.0.0.0` by default.
    pub host: String,
    /// Client port; -1 takes a free one.
    pub port: i32,
    /// Empty: the server makes one of its id.
    pub server_name: String,
    pub client_advertise: Option<String>,
    pub debug: bool,
    pub trace: bool,
    pub trace_verbose: bool,
    /// Timestamps in log lines.
    pub logtime: bool,
    pub logtime_utc: bool,
    pub log_file: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub ports_file_dir: Option<PathBuf>,
    /// Where monitoring listens; the client host when empty.
    pub http_host: String,
    /// Monitoring port; -1 takes a free one; `None` (or 0 in the file) is no monitoring.
    pub http_port: Option<i32>,
    /// Path in front of the monitoring endpoints, with a leading slash; empty for none.
    pub http_base_path: String,
    /// Bytes of one message.
    pub max_payload: u32,
    /// Bytes of one protocol line.
    pub max_control_line: u32,
    /// Bytes that may wait for one client.
    pub max_pending: u64,
    /// 0 or less is no limit.
    pub max_connections: i64,
    /// Subscriptions of one connection; 0 is no limit.
    pub max_subscriptions: u64,
    /// Bytes of a message shown when tracing; 0 is all.
    pub max_traced_msg_len: u64,
    pub ping_interval: Duration,
    /// Unanswered pings before a connection is stale.
    pub ping_max: u32,
    pub write_deadline: Duration,
    pub auth_timeout: Duration,
    pub lame_duck_duration: Duration,
    pub lame_duck_grace_period: Duration,
    pub no_auth_user: Option<String>,
    pub no_system_account: bool,
    pub system_account: Option<String>,
    /// The users of all accounts.
    pub users: Vec<UserConfig>,
    /// The one token that clients of $G present.
    pub auth_token: Option<String>,
    pub accounts: BTreeMap<String, AccountConfig>,
    pub cluster: Option<ClusterOptions>,
    pub jetstream: Option<JetStreamOptions>,
    pub weir: WeirOptions,
    pub server_tags: Vec<String>,
    pub server_metadata: BTreeMap<String, String>,
    /// Closed connections kept for `/connz?state=closed`.
    pub max_closed_clients: usize,
    /// `sha256:<hex>`; empty without a file.
    pub config_digest: String,
    /// The file the options came from.
    pub config_file: Option<PathBuf>,
    /// Options that nats-server has and that this version does not serve: said at start.
    pub unserved: Vec<Unserved>,
    /// What nats-server only warns of.
    pub warnings: Vec<ConfError>,
}

/// An option that is understood and has no effect yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unserved {
    /// The option's path, such as `leafnodes` or `cluster.compression`.
    pub key: String,
    /// `file:line:column`.
    pub place: String,
}

/// A user with a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserConfig {
    /// `$G` for users outside `accounts`.
    pub account: String,
    pub user: String,
    /// Plain, or a bcrypt hash (`$2a$...`).
    pub password: String,
    /// `None` permits everything.
    pub permissions: Option<Permissions>,
}

/// What a user may publish and subscribe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions {
    pub publish: Option<SubjectPermission>,
    pub subscribe: Option<SubjectPermission>,
    pub allow_responses: Option<ResponsePermission>,
}

/// Subjects allowed and denied; `allow` of `None` allows all that is not denied. A subscribe entry
/// may carry a queue name after a space.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubjectPermission {
    pub allow: Option<Vec<String>>,
    pub deny: Vec<String>,
}

/// Publishing allowed to the reply subjects of received messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponsePermission {
    /// Messages for each reply subject; below 0 is no limit.
    pub max_msgs: i64,
    pub expires: Duration,
}

/// An account of the `accounts` block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountConfig {
    pub name: String,
    /// Names of its users; their details are in [`Options::users`].
    pub users: Vec<String>,
    pub jetstream: Option<AccountJetStream>,
}

/// An account's share of JetStream; -1 is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountJetStream {
    /// Bytes.
    pub max_memory: i64,
    /// Bytes.
    pub max_store: i64,
    pub max_streams: i64,
    pub max_consumers: i64,
}

impl Default for AccountJetStream {
    fn default() -> Self {
        Self { max_memory: -1, max_store: -1, max_streams: -1, max_consumers: -1 }
    }
}

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
    /// The seed routes.
    pub routes: Vec<Url>,
    /// For routes learnt by gossip; 0 gives up after the first failure.
    pub connect_retries: u32,
    /// TCP connections a pair of servers; below 1 disables pooling.
    pub pool_size: i32,
    pub ping_interval: Option<Duration>,
    pub ping_max: Option<u32>,
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
            routes: Vec::new(),
            connect_retries: 0,
            pool_size: 3,
            ping_interval: None,
            ping_max: None,
        }
    }
}

/// When stored messages are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before they are acknowledged.
    Always,
    /// At least this often; what was acknowledged since may be lost with the machine.
    Interval(Duration),
}

/// The `jetstream` block.
#[derive(Debug, Clone, PartialEq)]
pub struct JetStreamOptions {
    /// As configured; JetStream keeps its files in a folder `jetstream` in it. `None`: a folder in
    /// the temporary directory.
    pub store_dir: Option<PathBuf>,
    /// Bytes; `None`: 75 % of the machine's memory.
    pub max_memory: Option<u64>,
    /// Bytes; `None`: 75 % of the free space of the store's disk.
    pub max_file: Option<u64>,
    pub sync: SyncPolicy,
    pub domain: Option<String>,
    /// Refuse unknown fields in API requests.
    pub strict: bool,
    /// Consumers of a stream that sets no limit of its own; 0 is no limit.
    pub default_max_consumers: u64,
}

impl Default for JetStreamOptions {
    fn default() -> Self {
        Self {
            store_dir: None,
            max_memory: None,
            max_file: None,
            sync: SyncPolicy::Always,
            domain: None,
            strict: true,
            default_max_consumers: 1000,
        }
    }
}

/// The `weir` block: what nats-server has no words for.
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

impl Default for Options {
    fn default() -> Self {
        Self {
            host: "0.0.0.0".to_owned(),
            port: 4222,
            server_name: String::new(),
            client_advertise: None,
            debug: false,
            trace: false,
            trace_verbose: false,
            logtime: true,
            logtime_utc: false,
            log_file: None,
            pid_file: None,
            ports_file_dir: None,
            http_host: String::new(),
            http_port: None,
            http_base_path: String::new(),
            max_payload: 1024 * 1024,
            max_control_line: 4096,
            max_pending: 64 * 1024 * 1024,
            max_connections: 64 * 1024,
            max_subscriptions: 0,
            max_traced_msg_len: 0,
            ping_interval: Duration::from_secs(120),
            ping_max: 2,
            write_deadline: Duration::from_secs(10),
            auth_timeout: Duration::from_secs(2),
            lame_duck_duration: Duration::from_secs(120),
            lame_duck_grace_period: Duration::from_secs(10),
            no_auth_user: None,
            no_system_account: false,
            system_account: None,
            users: Vec::new(),
            auth_token: None,
            accounts: BTreeMap::new(),
            cluster: None,
            jetstream: None,
            weir: WeirOptions::default(),
            server_tags: Vec::new(),
            server_metadata: BTreeMap::new(),
            max_closed_clients: 10_000,
            config_digest: String::new(),
            config_file: None,
            unserved: Vec::new(),
            warnings: Vec::new(),
        }
    }
}
