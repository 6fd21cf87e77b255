//! Options of who may connect and what they may do.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

/// A user with a password, or with a public key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserConfig {
    /// `$G` for users outside `accounts`.
    pub account: String,
    /// Empty for a user with an nkey.
    pub user: String,
    /// Plain, or a bcrypt hash (`$2a$...`).
    pub password: String,
    /// The public key (`U...`).
    pub nkey: Option<String>,
    /// `None` permits everything.
    pub permissions: Option<Permissions>,
    /// Upper case (`STANDARD`, `WEBSOCKET`, ...); empty is every kind.
    pub allowed_connection_types: BTreeSet<String>,
    /// Only through a trusted proxy.
    pub proxy_required: bool,
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
    /// `None` is for ever.
    pub expires: Option<Duration>,
}

/// `auth_callout`: a service decides who gets in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuthCallout {
    /// The account key (`A...`) that signs answers.
    pub issuer: String,
    /// Where requests are sent; `$G` by default.
    pub account: String,
    /// Users (names or nkeys) that the service itself connects as: they need no callout.
    pub auth_users: Vec<String>,
    /// The service's curve key (`X...`): requests are encrypted to it.
    pub xkey: Option<String>,
    /// Accounts that answers may put users into; empty is all.
    pub allowed_accounts: Vec<String>,
}

/// A proxy whose word about its clients is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedProxy {
    /// Its public nkey.
    pub key: String,
}

/// Where account claims come from in operator mode.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolver {
    /// Only the preloaded ones.
    Memory,
    /// Asked by HTTP: the URL, to which an account's key is appended.
    Url(String),
    /// A folder that holds all accounts.
    Full {
        dir: PathBuf,
        allow_delete: bool,
        /// Deleted claims are removed rather than renamed.
        hard_delete: bool,
        /// Between synchronisations with the other servers.
        interval: Duration,
        /// Of a lookup.
        timeout: Duration,
        /// Accounts kept; 0 is no limit.
        limit: i64,
    },
    /// A folder that holds the accounts in use.
    Cache {
        dir: PathBuf,
        ttl: Duration,
        timeout: Duration,
        /// Accounts kept; 0 is no limit.
        limit: i64,
    },
}

/// What makes operator mode.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OperatorOptions {
    /// The operators' JWTs (their text, also when the configuration names files).
    pub jwts: Vec<String>,
    /// Operator keys trusted without a JWT.
    pub trusted_keys: Vec<String>,
    pub resolver: Option<Resolver>,
    pub resolver_tls: Option<super::TlsOptions>,
    /// Account key to its JWT.
    pub resolver_preload: BTreeMap<String, String>,
    /// The only accounts that may connect; empty is all.
    pub resolver_pinned_accounts: BTreeSet<String>,
    /// The user JWT that clients without one are taken to present.
    pub default_sentinel: Option<String>,
}
