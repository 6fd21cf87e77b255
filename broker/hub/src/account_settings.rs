//! What an account is configured to be: exports, imports, mappings, limits. Not how messages follow it.

use crate::permissions::Permissions;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
pub use weir_conf::{
    ExchangeKind, LatencyConfig, MappingConfig, MappingDestination, MessageTrace as MessageTraceSettings,
    ResponseType,
};

/// One account's whole configuration; `Hub::configure_account` replaces what was there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AccountSettings {
    /// What other accounts may import.
    pub exports: Vec<Export>,
    /// What this account takes from others.
    pub imports: Vec<Import>,
    /// Where publishes of clients go instead.
    pub mappings: Vec<MappingConfig>,
    /// Bounds on connections, subscriptions and payloads.
    pub limits: AccountLimits,
    /// Permissions of users that have none of their own.
    pub default_permissions: Option<Arc<Permissions>>,
    /// Where traces go that a `traceparent` header asks for.
    pub message_trace: Option<MessageTraceSettings>,
    /// The account's name for its users (operator mode); empty when it is the account's key.
    pub display_name: String,
}

/// Bounds of an account over the whole server; `None` is no bound, 0 allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// Client connections (leaf nodes included).
    pub max_connections: Option<usize>,
    /// Subscriptions over all of the account's connections.
    pub max_subscriptions: Option<usize>,
    /// The largest message in bytes.
    pub max_payload: Option<usize>,
    /// Leaf node connections.
    pub max_leafnodes: Option<usize>,
}

/// A subject offered to other accounts.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// What is offered.
    pub kind: ExchangeKind,
    /// The subject, wildcards included.
    pub subject: String,
    /// Who may import it.
    pub access: ExportAccess,
    /// How a service responds.
    pub response_type: ResponseType,
    /// How long a service may be silent; `None` is nats-server's 2 minutes.
    pub response_threshold: Option<Duration>,
    /// Where a service's latency is told.
    pub latency: Option<LatencyConfig>,
    /// Whether message traces of importers go on in this account.
    pub allow_trace: bool,
}

/// Who may import what is exported; everybody by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportAccess {
    /// The accounts that may; `None` is everybody.
    pub accounts: Option<BTreeSet<String>>,
    /// The place of the token that has to be the importer's name, counted from 1; 0 for none.
    pub account_token_position: usize,
    /// Whether an activation token is needed.
    pub token_required: bool,
    /// Accounts (or `*`) whose activations issued before that second (Unix time) are void.
    pub revocations: BTreeMap<String, i64>,
}

/// A subject taken from another account.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// What is taken.
    pub kind: ExchangeKind,
    /// The exporting account's name.
    pub account: String,
    /// The subject in the exporting account; may name tokens of the local one with `$1`.
    pub subject: String,
    /// The local subject, `None` when it is the same: of a service what requests are sent to, of a stream
    /// what its messages appear as.
    pub to: Option<String>,
    /// A prefix for the messages of a stream, instead of `to`.
    pub prefix: Option<String>,
    /// Whether requests say who asks (`Nats-Request-Info`).
    pub share: bool,
    /// Whether message traces of the exporter go on in this account (streams).
    pub allow_trace: bool,
    /// The activation token, for exports that need one.
    pub activation: Option<String>,
}

/// Why an account cannot be configured so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountError(pub String);

impl std::fmt::Display for AccountError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AccountError {}

/// Judges activation tokens; set by whoever knows the trusted keys.
pub trait ActivationCheck: Send + Sync {
    /// Whether `token` lets `importer` take `subject` of `exporter` at this time.
    fn is_valid(&self, request: &ActivationRequest<'_>) -> bool;
}

/// What an activation token has to stand for.
#[derive(Debug, Clone, Copy)]
pub struct ActivationRequest<'a> {
    /// The token, a JWT.
    pub token: &'a str,
    /// The account that imports.
    pub importer: &'a str,
    /// The account that exports.
    pub exporter: &'a str,
    /// What is imported.
    pub kind: ExchangeKind,
    /// The subject in the exporting account.
    pub subject: &'a str,
    /// See `ExportAccess::revocations`.
    pub revocations: &'a BTreeMap<String, i64>,
}
