//! Options of accounts: what they exchange, map, and are limited to.

use std::time::Duration;

use super::{AccountJetStream, Permissions};

/// An account of the `accounts` block.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AccountConfig {
    pub name: String,
    /// The account's public key (`A...`).
    pub nkey: Option<String>,
    /// Names (or public keys) of its users; their details are in [`super::Options::users`].
    pub users: Vec<String>,
    pub imports: Vec<ImportConfig>,
    pub exports: Vec<ExportConfig>,
    pub mappings: Vec<MappingConfig>,
    pub limits: AccountLimits,
    /// Of users without permissions of their own (they have them in [`super::UserConfig`] already).
    pub default_permissions: Option<Permissions>,
    pub jetstream: Option<AccountJetStream>,
    pub msg_trace: Option<MessageTrace>,
}

/// The `limits` of an account; `None` or below 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountLimits {
    pub max_connections: Option<i64>,
    pub max_subscriptions: Option<i64>,
    /// Bytes.
    pub max_payload: Option<i64>,
    pub max_leafnodes: Option<i64>,
}

/// What accounts offer to each other and take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// Messages flow from the exporter to the importers.
    Stream,
    /// Requests flow from the importers to the exporter.
    Service,
}

/// An entry of `exports`.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportConfig {
    pub kind: ExchangeKind,
    pub subject: String,
    /// Who may import; `None` is everybody.
    pub accounts: Option<Vec<String>>,
    pub response_type: ResponseType,
    /// How long a response may take; `None` is nats-server's default.
    pub response_threshold: Option<Duration>,
    pub latency: Option<LatencyConfig>,
    /// The token (from 1) that has to be the importer's name; 0 for none.
    pub account_token_position: usize,
    pub allow_trace: bool,
}

/// How many responses a service gives to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResponseType {
    /// One.
    #[default]
    Singleton,
    /// Any number.
    Stream,
    /// One, in pieces, the last of them empty.
    Chunked,
}

/// `latency` of an exported service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyConfig {
    /// Percent of requests, 1 to 100; 0 is those whose headers ask for it.
    pub sampling: u8,
    /// Where the measurements go.
    pub subject: String,
}

/// An entry of `imports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportConfig {
    pub kind: ExchangeKind,
    /// The exporting account.
    pub account: String,
    /// The exporter's subject.
    pub subject: String,
    /// The subject here; `None`: the exporter's.
    pub to: Option<String>,
    /// Streams: put in front of the exporter's subject.
    pub prefix: Option<String>,
    /// Services: tell the exporter who asked.
    pub share: bool,
    pub allow_trace: bool,
}

/// An entry of `mappings`: where publishes of clients go instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingConfig {
    /// The subject published to, wildcards included.
    pub source: String,
    /// What the weights leave over goes nowhere, or to the source if that is literal.
    pub destinations: Vec<MappingDestination>,
}

/// Where a mapping leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingDestination {
    /// In the language of subject transforms.
    pub subject: String,
    /// Percent.
    pub weight: u8,
    /// The cluster for which it counts; `None` for all that have no destination of their own.
    pub cluster: Option<String>,
}

/// `msg_trace`: where messages with a sampled `traceparent` are traced to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageTrace {
    pub destination: String,
    /// Percent, 1 to 100.
    pub sampling: u8,
}
