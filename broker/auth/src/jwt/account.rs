//! The claims of an account. Not what they lead to.

use super::claims::Claims;
use super::decode::decode_activation;
use super::limits::{Permissions, UserPermissionLimits, check_subject};
use super::validate::Issues;
use crate::nkey::{Kind, is_public};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What an account's JWT says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// What it takes from others.
    pub imports: Vec<Import>,
    /// What it gives to others.
    pub exports: Vec<Export>,
    /// What the operator grants.
    pub limits: OperatorLimits,
    /// Keys that sign for it.
    pub signing_keys: SigningKeys,
    /// User keys (or `*`) and the seconds since 1970 until which what was issued to them is void.
    pub revocations: BTreeMap<String, i64>,
    /// For users without permissions of their own.
    pub default_permissions: Permissions,
    /// Subjects that become others.
    pub mappings: BTreeMap<String, Vec<WeightedMapping>>,
    /// Whether a service decides on its users.
    pub authorization: ExternalAuthorization,
    /// Where traces go.
    pub trace: Option<MessageTrace>,
    /// `system` or `owner`: whose account carries the traffic of its replicas.
    pub cluster_traffic: String,
    /// For people.
    pub description: String,
    /// For people.
    pub info_url: String,
    /// For people and templates.
    pub tags: Vec<String>,
    /// Always `account`.
    #[serde(rename = "type")]
    pub kind: String,
    /// 1 or 2.
    pub version: i64,
}

/// A stream or a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportType {
    /// Messages from the exporter.
    Stream,
    /// Requests to the exporter.
    Service,
}

impl ImportType {
    /// As claims write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Service => "service",
        }
    }
}

/// Something taken from another account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Import {
    /// For people.
    pub name: String,
    /// The exporter's subject of a stream; of a service, the importer's when `to` is used, else the exporter's.
    pub subject: String,
    /// The exporter's public key.
    pub account: String,
    /// The activation token, for private exports.
    pub token: String,
    /// The older way to give another subject.
    pub to: String,
    /// The importer's subject.
    pub local_subject: String,
    /// A stream or a service.
    #[serde(rename = "type")]
    pub kind: Option<ImportType>,
    /// Whether requests tell who asks.
    pub share: bool,
    /// Whether traces go on in the exporter.
    pub allow_trace: bool,
}

/// Something given to other accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Export {
    /// For people.
    pub name: String,
    /// The subject.
    pub subject: String,
    /// A stream or a service.
    #[serde(rename = "type")]
    pub kind: Option<ImportType>,
    /// Whether an activation token is needed.
    pub token_req: bool,
    /// Account keys (or `*`) and the seconds since 1970 until which activations are void.
    pub revocations: BTreeMap<String, i64>,
    /// `Singleton`, `Stream` or `Chunked`; empty is the first.
    pub response_type: String,
    /// Nanoseconds within which a response must come.
    pub response_threshold: i64,
    /// Whether latencies are measured.
    #[serde(rename = "service_latency")]
    pub latency: Option<ServiceLatency>,
    /// Which token of the subject must be the importer's key, from 1; 0 for none.
    pub account_token_position: u64,
    /// For tools.
    pub advertise: bool,
    /// Whether traces go on in this account.
    pub allow_trace: bool,
    /// For people.
    pub description: String,
    /// For people.
    pub info_url: String,
}

/// Percent of requests, or those whose headers say so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SamplingRate {
    /// Those with a header that asks for it.
    #[default]
    Headers,
    /// 1 to 100.
    Percent(i64),
}

impl<'de> Deserialize<'de> for SamplingRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if text.eq_ignore_ascii_case("headers") => Ok(Self::Headers),
            Value::Number(number) => match number.as_i64() {
                Some(0) => Ok(Self::Headers),
                Some(percent) => Ok(Self::Percent(percent)),
                None => Err(serde::de::Error::custom("unknown sampling rate")),
            },
            _ => Err(serde::de::Error::custom("unknown sampling rate")),
        }
    }
}

impl Serialize for SamplingRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Headers => serializer.serialize_str("headers"),
            Self::Percent(percent) => serializer.serialize_i64(*percent),
        }
    }
}

/// How latencies of a service are measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceLatency {
    /// How many.
    pub sampling: SamplingRate,
    /// Where the figures go.
    pub results: String,
}

/// One destination of a mapping.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightedMapping {
    /// The new subject.
    pub subject: String,
    /// Percent; 0 stands for 100.
    pub weight: u8,
    /// Only in this cluster; empty for all.
    pub cluster: String,
}

impl WeightedMapping {
    /// Percent.
    pub fn percent(&self) -> u8 {
        if self.weight == 0 { 100 } else { self.weight }
    }
}

/// Who decides on users in the account's place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExternalAuthorization {
    /// Users that get in without being asked about; with none, no service is asked.
    pub auth_users: Vec<String>,
    /// Accounts that users may be put into; `*` for all.
    pub allowed_accounts: Vec<String>,
    /// The curve key that questions are encrypted for.
    pub xkey: String,
}

impl ExternalAuthorization {
    /// Whether a service is asked.
    pub fn is_enabled(&self) -> bool {
        !self.auth_users.is_empty()
    }

    /// Whether users may be put into that account.
    pub fn allows(&self, account: &str) -> bool {
        self.allowed_accounts == ["*"] || self.allowed_accounts.iter().any(|allowed| allowed == account)
    }
}

/// Where traces of messages go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MessageTrace {
    /// The subject.
    #[serde(rename = "dest")]
    pub destination: String,
    /// Percent; 0 stands for 100.
    pub sampling: i64,
}

/// What an account may store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JetStreamLimits {
    /// Bytes in memory; 0 for none, -1 for any number.
    pub mem_storage: i64,
    /// Bytes on disk; 0 for none, -1 for any number.
    pub disk_storage: i64,
    /// Streams.
    pub streams: i64,
    /// Consumers.
    pub consumer: i64,
    /// Unacknowledged messages of a consumer.
    pub max_ack_pending: i64,
    /// Bytes of a stream in memory.
    pub mem_max_stream_bytes: i64,
    /// Bytes of a stream on disk.
    pub disk_max_stream_bytes: i64,
    /// Whether streams must say how large they may become.
    pub max_bytes_required: bool,
}

impl JetStreamLimits {
    fn is_enabled(&self) -> bool {
        self.mem_storage != 0 || self.disk_storage != 0
    }
}

/// What the operator grants an account; -1 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OperatorLimits {
    /// Subscriptions of a connection.
    #[serde(rename = "subs")]
    pub subscriptions: i64,
    /// Bytes; nothing enforces it.
    pub data: i64,
    /// Bytes of a message.
    pub payload: i64,
    /// Imports.
    pub imports: i64,
    /// Exports.
    pub exports: i64,
    /// Whether exports may have wildcards.
    pub wildcards: bool,
    /// Whether bearer tokens are refused.
    pub disallow_bearer: bool,
    /// Connections.
    #[serde(rename = "conn")]
    pub connections: i64,
    /// Leaf nodes.
    #[serde(rename = "leaf")]
    pub leaf_nodes: i64,
    /// What it may store, of any replication.
    #[serde(flatten)]
    pub jetstream: JetStreamLimits,
    /// What it may store, by replication (`R1`, `R3`).
    pub tiered_limits: BTreeMap<String, JetStreamLimits>,
}

impl OperatorLimits {
    /// Whether anything may be stored.
    pub fn is_jetstream_enabled(&self) -> bool {
        if self.tiered_limits.is_empty() {
            self.jetstream.is_enabled()
        } else {
            self.tiered_limits.values().any(JetStreamLimits::is_enabled)
        }
    }
}

/// What users signed by one key may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserScope {
    /// Always `user_scope`.
    pub kind: String,
    /// The signing key.
    pub key: String,
    /// For people.
    pub role: String,
    /// Their permissions and limits.
    pub template: UserPermissionLimits,
    /// For people.
    pub description: String,
}

/// An account's signing keys, with a scope where there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SigningKeys(pub BTreeMap<String, Option<UserScope>>);

impl<'de> Deserialize<'de> for SigningKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut keys = BTreeMap::new();
        for entry in Vec::<Value>::deserialize(deserializer)? {
            match entry {
                Value::String(key) => {
                    keys.insert(key, None);
                }
                Value::Object(mut scope) => {
                    if scope.get("kind").and_then(Value::as_str) != Some("user_scope") {
                        return Err(serde::de::Error::custom("unknown signing key scope"));
                    }
                    // What a scope's template does not limit is not limited.
                    if let Some(template) = scope
                        .entry("template")
                        .or_insert_with(|| Value::Object(Default::default()))
                        .as_object_mut()
                    {
                        for limit in ["subs", "data", "payload"] {
                            template.entry(limit).or_insert_with(|| Value::from(-1));
                        }
                    }
                    let scope: UserScope =
                        serde_json::from_value(Value::Object(scope)).map_err(serde::de::Error::custom)?;
                    keys.insert(scope.key.clone(), Some(scope));
                }
                _ => {}
            }
        }
        Ok(Self(keys))
    }
}

impl Serialize for SigningKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(key, scope)| match scope {
            Some(scope) => serde_json::to_value(scope).unwrap_or_default(),
            None => Value::from(key.as_str()),
        }))
    }
}

impl Account {
    /// Sets what the version leaves open: JetStream of version 1, and plain limits beside tiers.
    pub(super) fn settle(&mut self, version: i64) {
        if version == 1 || !self.limits.tiered_limits.is_empty() {
            self.limits.jetstream = JetStreamLimits::default();
        }
        if version == 1 {
            self.limits.tiered_limits.clear();
        }
    }

    fn check(&self, key: &str, issues: &mut Issues) {
        check_imports(&self.imports, key, issues);
        check_exports(&self.exports, issues);
        self.check_limits(issues);
        self.default_permissions.check(issues);
        check_mappings(&self.mappings, issues);
        self.authorization.check(issues);
        if let Some(trace) = &self.trace {
            trace.check(issues);
        }
        for (key, scope) in &self.signing_keys.0 {
            if !is_public(Kind::Account, key) {
                issues.error(match scope {
                    Some(_) => format!("{key} is not an account public key"),
                    None => format!("{key:?} is not a valid account signing key"),
                });
            }
        }
        if !matches!(self.cluster_traffic.as_str(), "" | "system" | "owner") {
            issues.error(format!("unknown cluster traffic option: {:?}", self.cluster_traffic));
        }
    }

    fn check_limits(&self, issues: &mut Issues) {
        let limits = &self.limits;
        if limits.tiered_limits.contains_key("") {
            issues.error("Tiered JetStream Limits can not contain a blank \"\" tier name".to_owned());
        }
        let count = |list: usize| i64::try_from(list).unwrap_or(i64::MAX);
        if limits.imports != -1 && count(self.imports.len()) > limits.imports {
            issues.error("the account contains more imports than allowed by the operator".to_owned());
        }
        if limits.exports == -1 {
            return;
        }
        if count(self.exports.len()) > limits.exports {
            issues.error("the account contains more exports than allowed by the operator".to_owned());
        }
        if !limits.wildcards {
            for _ in self.exports.iter().filter(|export| has_wildcards(&export.subject)) {
                let text = "the account contains wildcard exports that are not allowed by the operator";
                issues.error(text.to_owned());
            }
        }
    }
}

impl Claims<Account> {
    /// What is wrong with the claims at `now`, in seconds since 1970.
    pub fn issues(&self, now: i64) -> Issues {
        let mut issues = Issues::default();
        self.check_times(now, &mut issues);
        self.nats.check(&self.subject, &mut issues);
        if is_public(Kind::Account, &self.issuer) && self.nats.limits != OperatorLimits::default() {
            issues.warning("self-signed account JWTs shouldn't contain operator limits");
        }
        issues
    }
}

impl MessageTrace {
    fn check(&self, issues: &mut Issues) {
        let mut own = Issues::default();
        check_subject(&self.destination, &mut own);
        if let Some(text) = own.first() {
            issues.error(format!("the account Trace.Destination {text}"));
        }
        if has_wildcards(&self.destination) {
            let subject = &self.destination;
            issues.error(format!(
                "the account Trace.Destination subject {subject:?} is not a valid publish subject"
            ));
        }
        if !(0..=100).contains(&self.sampling) {
            let value = self.sampling;
            issues.error(format!(
                "the account Trace.Sampling value '{value}' is not valid, should be in the range [1..100]"
            ));
        }
    }
}

impl ExternalAuthorization {
    fn check(&self, issues: &mut Issues) {
        if !self.allowed_accounts.is_empty() && self.auth_users.is_empty() {
            let text = "External authorization cannot have accounts without users specified";
            issues.error(text.to_owned());
        }
        for user in self.auth_users.iter().filter(|user| !is_public(Kind::User, user)) {
            issues.error(format!("AuthUser {user:?} is not a valid user public key"));
        }
        for account in &self.allowed_accounts {
            if account == "*" {
                if self.allowed_accounts.len() > 1 {
                    issues.error(format!("AllowedAccounts can only be a list of accounts or {account:?}"));
                }
            } else if !is_public(Kind::Account, account) {
                issues.error(format!("Account {account:?} is not a valid account public key"));
            }
        }
        if !self.xkey.is_empty() && !is_public(Kind::Curve, &self.xkey) {
            issues.error(format!("XKey {:?} is not a valid public xkey", self.xkey));
        }
    }
}

fn check_mappings(mappings: &BTreeMap<String, Vec<WeightedMapping>>, issues: &mut Issues) {
    for (from, destinations) in mappings {
        check_subject(from, issues);
        let mut totals: BTreeMap<&str, u32> = BTreeMap::new();
        for destination in destinations {
            check_subject(&destination.subject, issues);
            let percent = destination.percent();
            if percent > 100 {
                issues.error(format!("Mapping {from:?} has a weight {percent} that exceeds 100"));
            }
            let total = totals.entry(&destination.cluster).or_default();
            *total += u32::from(percent);
            if *total > 100 && !destination.cluster.is_empty() {
                let cluster = &destination.cluster;
                issues.error(format!(
                    "Mapping {from:?} in cluster {cluster:?} exceeds 100% among all of it's weighted to mappings"
                ));
            }
        }
        if totals.get("").is_some_and(|total| *total > 100) {
            issues.error(format!("Mapping {from:?} exceeds 100% among all of it's weighted to mappings"));
        }
    }
}

fn check_imports(imports: &[Import], key: &str, issues: &mut Issues) {
    let mut taken: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for import in imports {
        if import.kind == Some(ImportType::Service) {
            let subject = import.local_service_subject();
            let others = taken.entry(&import.account).or_default();
            for other in others.iter() {
                if is_contained(&subject, other) || is_contained(other, &subject) {
                    let account = &import.account;
                    issues.error(format!(
                        "overlapping subject namespace for {subject:?} and {other:?} in same account {account:?}"
                    ));
                }
            }
            if !others.insert(subject.clone()) {
                let account = &import.account;
                issues.error(format!("overlapping subject namespace for {subject:?} in account {account:?}"));
            }
        }
        import.check(key, issues);
    }
}

impl Import {
    fn local_service_subject(&self) -> String {
        if !self.to.is_empty() {
            self.to.clone()
        } else if !self.local_subject.is_empty() {
            let token = |token: &str| match token.strip_prefix('$') {
                Some(number) if number.parse::<i64>().is_ok() => "*".to_owned(),
                _ => token.to_owned(),
            };
            self.local_subject.split('.').map(token).collect::<Vec<_>>().join(".")
        } else {
            self.subject.clone()
        }
    }

    fn check(&self, key: &str, issues: &mut Issues) {
        let Some(kind) = self.kind else {
            return issues.error("invalid import type: \"unknown\"".to_owned());
        };
        if kind == ImportType::Service && self.allow_trace {
            issues.error("AllowTrace only valid for stream import".to_owned());
        }
        if self.account.is_empty() {
            issues.error("account to import from is not specified".to_owned());
        }
        if !self.to.is_empty() {
            issues.warning("the field to has been deprecated (use LocalSubject instead)");
        }
        check_subject(&self.subject, issues);
        if !self.local_subject.is_empty() {
            check_renaming(&self.local_subject, &self.subject, issues);
            if !self.to.is_empty() {
                issues.error("Local Subject replaces To".to_owned());
            }
        }
        if self.share && kind != ImportType::Service {
            let subject = &self.subject;
            issues.error(format!(
                "sharing information (for latency tracking) is only valid for services: {subject:?}"
            ));
        }
        if !self.token.is_empty() {
            self.check_token(kind, key, issues);
        }
    }

    fn check_token(&self, kind: ImportType, key: &str, issues: &mut Issues) {
        let subject = &self.subject;
        let Ok(token) = decode_activation(&self.token) else {
            return issues.error(format!("import {subject:?} contains an invalid activation token"));
        };
        if token.issuer != self.account && token.nats.issuer_account != self.account {
            issues.error(format!("activation token doesn't match account for import {subject:?}"));
        }
        if token.subject != key {
            let text = "activation token doesn't match account it is being included in,";
            issues.error(format!("{text} {subject:?}"));
        }
        if token.nats.import_type != Some(kind) {
            let named = token.nats.import_type.map_or("unknown", ImportType::name);
            let kind = kind.name();
            issues.error(format!("mismatch between token import type {named} and type of import {kind}"));
        }
        issues.0.extend(token.issues(None).0);
        let wanted = if kind == ImportType::Service && !self.to.is_empty() { &self.to } else { subject };
        if !is_contained(wanted, &token.nats.import_subject) {
            let granted = &token.nats.import_subject;
            issues.error(format!(
                "activation token import subject {granted:?} doesn't match import {subject:?}"
            ));
        }
    }
}

fn check_renaming(to: &str, from: &str, issues: &mut Issues) {
    check_subject(to, issues);
    if from.is_empty() {
        issues.error("subject cannot be empty".to_owned());
    }
    if to.contains(' ') {
        issues.error(format!("subject {to:?} cannot have spaces"));
    }
    let has_tail = |subject: &str| subject == ">" || subject.ends_with(".>");
    if has_tail(to) != has_tail(from) {
        issues.error("both, renaming subject and subject, need to end or not end in >".to_owned());
    }
    let wildcards = from.split('.').filter(|token| *token == "*").count();
    let mut used = 0;
    for token in to.split('.') {
        if token == "*" {
            used += 1;
        }
        if let Some(number) = token.strip_prefix('$').and_then(|number| number.parse::<i64>().ok()) {
            if number > i64::try_from(wildcards).unwrap_or(i64::MAX) {
                issues
                    .error(format!("Reference ${number} in {to:?} reference * in {to:?} that do not exist"));
            } else {
                used += 1;
            }
        }
    }
    if used != wildcards {
        issues.error("subject does not contain enough * or reference wildcards $[0-9]".to_owned());
    }
}

fn check_exports(exports: &[Export], issues: &mut Issues) {
    for export in exports {
        export.check(issues);
    }
    for kind in [ImportType::Service, ImportType::Stream] {
        let subjects: Vec<&str> = exports
            .iter()
            .filter(|export| (export.kind == Some(ImportType::Service)) == (kind == ImportType::Service))
            .map(|export| export.subject.as_str())
            .collect();
        let mut found: BTreeMap<&str, &str> = BTreeMap::new();
        for (at, subject) in subjects.iter().enumerate() {
            for (other_at, other) in subjects.iter().enumerate() {
                if at != other_at && is_contained(subject, other) {
                    found.entry(other).or_insert(subject);
                }
            }
        }
        for (wide, narrow) in found {
            issues.error(format!("{} export subject {wide:?} already exports {narrow:?}", kind.name()));
        }
    }
}

impl Export {
    fn check(&self, issues: &mut Issues) {
        let Some(kind) = self.kind else {
            return issues.error("invalid export type: \"unknown\"".to_owned());
        };
        let is_service = kind == ImportType::Service;
        if is_service && !matches!(self.response_type.as_str(), "" | "Singleton" | "Stream" | "Chunked") {
            issues.error(format!("invalid response type for service: {:?}", self.response_type));
        }
        if !is_service && !self.response_type.is_empty() {
            issues.error(format!("invalid response type for stream: {:?}", self.response_type));
        }
        if !is_service && self.allow_trace {
            issues.error("AllowTrace only valid for service export".to_owned());
        }
        if let Some(latency) = &self.latency {
            if !is_service {
                issues.error("latency tracking only permitted for services".to_owned());
            }
            if matches!(latency.sampling, SamplingRate::Percent(percent) if !(1..=100).contains(&percent)) {
                issues.error("sampling percentage needs to be between 1-100".to_owned());
            }
            check_subject(&latency.results, issues);
            if has_wildcards(&latency.results) {
                issues.error("results subject can not contain wildcards".to_owned());
            }
        }
        if self.response_threshold < 0 {
            issues.error("negative response threshold is invalid".to_owned());
        }
        if self.response_threshold > 0 && !is_service {
            issues.error("response threshold only valid for services".to_owned());
        }
        check_subject(&self.subject, issues);
        self.check_token_position(issues);
    }

    fn check_token_position(&self, issues: &mut Issues) {
        let (position, subject) = (self.account_token_position, &self.subject);
        if position == 0 {
            return;
        }
        if !has_wildcards(subject) {
            return issues
                .error(format!("Account Token Position can only be used with wildcard subjects: {subject}"));
        }
        let at = usize::try_from(position - 1).unwrap_or(usize::MAX);
        match subject.split('.').nth(at) {
            None => issues
                .error(format!("Account Token Position {position} exceeds length of subject '{subject}'")),
            Some("*") => {}
            Some(token) => issues.error(format!(
                "Account Token Position {position} matches '{token}' but must match a * in: {subject}"
            )),
        }
    }
}

fn has_wildcards(subject: &str) -> bool {
    let mut tokens = subject.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token == "*" || (token == ">" && tokens.peek().is_none()) {
            return true;
        }
    }
    false
}

/// Whether all that `subject` matches `other` matches as well, token by token.
fn is_contained(subject: &str, other: &str) -> bool {
    let mine: Vec<&str> = subject.split('.').collect();
    let others: Vec<&str> = other.split('.').collect();
    if (mine.len() > others.len() && others.last() != Some(&">")) || mine.len() < others.len() {
        return false;
    }
    let last = others.len() - 1;
    for (at, (token, mine)) in others.iter().zip(&mine).enumerate() {
        if at == last && *token == ">" {
            return true;
        }
        if token != mine && *token != "*" {
            return false;
        }
    }
    true
}
