//! The typed options of a server, with nats-server's defaults.

mod accounts;
mod auth;
mod cluster;
mod jetstream;
mod tls;
mod websocket;
mod weir;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

pub use accounts::{
    AccountConfig, AccountLimits, ExchangeKind, ExportConfig, ImportConfig, LatencyConfig, MappingConfig,
    MappingDestination, MessageTrace, ResponseType,
};
pub use auth::{
    AuthCallout, OperatorOptions, Permissions, Resolver, ResponsePermission, SubjectPermission, TrustedProxy,
    UserConfig,
};
pub use cluster::{
    ClusterOptions, CompressionMode, CompressionOptions, RoutePermissions, WriteTimeoutPolicy,
};
pub use jetstream::{
    AccountJetStream, BatchOptions, JetStreamOptions, Secret, StoreCipher, StoreEncryption, SyncPolicy,
};
pub use tls::{
    CertPair, HandshakeFirst, OcspCache, OcspMode, OcspOptions, OcspPeerOptions, TlsOptions, TlsVersion,
};
pub use websocket::WebSocketOptions;
pub use weir::WeirOptions;

use crate::error::ConfError;

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
    /// Bytes after which the log file is put aside; 0 is no limit.
    pub log_size_limit: u64,
    /// Log files kept, the current one included; 0 keeps all.
    pub log_max_num: u64,
    /// Log to the machine's syslog.
    pub syslog: bool,
    /// Log to this syslog (`udp://host:port`, `tcp://host:port`).
    pub remote_syslog: Option<String>,
    /// Show only headers, not payloads, when tracing.
    pub trace_headers: bool,
    pub pid_file: Option<PathBuf>,
    pub ports_file_dir: Option<PathBuf>,
    /// Where monitoring listens; the client host when empty.
    pub http_host: String,
    /// Monitoring port; -1 takes a free one; `None` (or 0 in the file) is no monitoring.
    pub http_port: Option<i32>,
    /// Monitoring by HTTPS, on [`Self::http_host`]; -1 takes a free one.
    pub https_port: Option<i32>,
    /// The port for profiles of nats-server's Go runtime: not served, since there is none.
    pub prof_port: i32,
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
    pub write_timeout: WriteTimeoutPolicy,
    /// Publishers are not slowed down for slow subscribers.
    pub no_fast_producer_stall: bool,
    /// Clients cannot use headers.
    pub no_header_support: bool,
    /// Tokens of a subscription's subject; 0 is no limit.
    pub max_sub_tokens: u8,
    pub disable_sublist_cache: bool,
    /// Failed attempts to connect (to routes and the like) between two reports of it.
    pub connect_error_reports: u64,
    /// The same, after a connection was lost.
    pub reconnect_error_reports: u64,
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
    /// The single user of the `authorization` block (or of `--user`), which is in [`Self::users`] too.
    pub single_user: Option<String>,
    /// The single user and token clients need a trusted proxy.
    pub proxy_required: bool,
    pub auth_callout: Option<AuthCallout>,
    /// Proxies that may present clients.
    pub proxies: Vec<TrustedProxy>,
    pub operator: OperatorOptions,
    pub accounts: BTreeMap<String, AccountConfig>,
    /// Mappings of the global account.
    pub mappings: Vec<MappingConfig>,
    pub tls: Option<TlsOptions>,
    /// Clients without TLS are let in too.
    pub allow_non_tls: bool,
    /// `store_dir` at the top of the file; that of JetStream is in its options.
    pub store_dir: Option<PathBuf>,
    pub ocsp: Option<OcspOptions>,
    pub ocsp_cache: Option<OcspCache>,
    /// Connections start with a PROXY protocol header.
    pub proxy_protocol: bool,
    pub websocket: Option<WebSocketOptions>,
    /// JetStream domain used for an account that has none of its own.
    pub default_js_domain: BTreeMap<String, String>,
    pub feature_flags: BTreeMap<String, bool>,
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
    /// What keeps a server from starting with options that are well-formed.
    pub problems: Vec<String>,
}

/// An option that is understood and has no effect yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unserved {
    /// The option's path, such as `leafnodes` or `cluster.compression`.
    pub key: String,
    /// `file:line:column`.
    pub place: String,
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
            log_size_limit: 0,
            log_max_num: 0,
            syslog: false,
            remote_syslog: None,
            trace_headers: false,
            pid_file: None,
            ports_file_dir: None,
            http_host: String::new(),
            http_port: None,
            https_port: None,
            prof_port: 0,
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
            write_timeout: WriteTimeoutPolicy::Default,
            no_fast_producer_stall: false,
            no_header_support: false,
            max_sub_tokens: 0,
            disable_sublist_cache: false,
            connect_error_reports: 3600,
            reconnect_error_reports: 1,
            auth_timeout: Duration::from_secs(2),
            lame_duck_duration: Duration::from_secs(120),
            lame_duck_grace_period: Duration::from_secs(10),
            no_auth_user: None,
            no_system_account: false,
            system_account: None,
            users: Vec::new(),
            auth_token: None,
            single_user: None,
            proxy_required: false,
            auth_callout: None,
            proxies: Vec::new(),
            operator: OperatorOptions::default(),
            accounts: BTreeMap::new(),
            mappings: Vec::new(),
            tls: None,
            allow_non_tls: false,
            store_dir: None,
            ocsp: None,
            ocsp_cache: None,
            proxy_protocol: false,
            websocket: None,
            default_js_domain: BTreeMap::new(),
            feature_flags: BTreeMap::new(),
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
            problems: Vec::new(),
        }
    }
}
