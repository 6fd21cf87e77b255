//! Options of the `websocket` block.

use std::{collections::BTreeMap, time::Duration};

use super::TlsOptions;

/// The `websocket` block.
#[derive(Debug, Clone, PartialEq)]
pub struct WebSocketOptions {
    pub host: String,
    /// -1 takes a free one.
    pub port: i32,
    /// `host:port` told to clients of the cluster.
    pub advertise: Option<String>,
    /// Serve without TLS; without this and without `tls` the server does not start.
    pub no_tls: bool,
    pub tls: Option<TlsOptions>,
    /// The Origin has to be the request's host.
    pub same_origin: bool,
    /// Origins accepted; empty is all.
    pub allowed_origins: Vec<String>,
    /// For TLS and the upgrade together.
    pub handshake_timeout: Duration,
    /// Offer permessage-deflate.
    pub compression: bool,
    /// The one user of WebSocket clients, in place of the server's users.
    pub username: Option<String>,
    pub password: Option<String>,
    pub token: Option<String>,
    /// `None`: the server's.
    pub auth_timeout: Option<Duration>,
    /// Names of cookies that carry credentials.
    pub jwt_cookie: Option<String>,
    pub user_cookie: Option<String>,
    pub pass_cookie: Option<String>,
    pub token_cookie: Option<String>,
    pub no_auth_user: Option<String>,
    /// Sent with the answer to the upgrade.
    pub headers: BTreeMap<String, String>,
    /// `None`: the server's.
    pub ping_interval: Option<Duration>,
}

impl Default for WebSocketOptions {
    fn default() -> Self {
        Self {
            host: "0.0.0.0".to_owned(),
            port: 0,
            advertise: None,
            no_tls: false,
            tls: None,
            same_origin: false,
            allowed_origins: Vec::new(),
            handshake_timeout: Duration::from_secs(2),
            compression: false,
            username: None,
            password: None,
            token: None,
            auth_timeout: None,
            jwt_cookie: None,
            user_cookie: None,
            pass_cookie: None,
            token_cookie: None,
            no_auth_user: None,
            headers: BTreeMap::new(),
            ping_interval: None,
        }
    }
}
