//! Permissions and limits of users, as claims write them. Not how they are enforced.

use super::validate::Issues;
use crate::{schedule, source};
use serde::{Deserialize, Deserializer, Serialize};

/// Subjects allowed and denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permission {
    /// Allowed; empty allows everything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Denied, even if allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// Publishing allowed to the reply subjects of received messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResponsePermission {
    /// Messages for each reply subject; below 0 is no limit, 0 the default.
    pub max: i64,
    /// Nanoseconds; 0 is the default.
    pub ttl: i64,
}

/// What may be published and subscribed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permissions {
    /// Publishing.
    #[serde(rename = "pub")]
    pub publish: Permission,
    /// Subscribing; a queue name may follow after a blank.
    #[serde(rename = "sub")]
    pub subscribe: Permission,
    /// Answering.
    #[serde(rename = "resp", skip_serializing_if = "Option::is_none")]
    pub responses: Option<ResponsePermission>,
}

/// From when to when, as `15:04:05`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeRange {
    /// The first moment.
    pub start: String,
    /// The last moment; before `start` when midnight lies in between.
    pub end: String,
}

/// Everything a user's claims, or the template of a scope, may say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserPermissionLimits {
    /// Publishing.
    #[serde(rename = "pub")]
    pub publish: Permission,
    /// Subscribing.
    #[serde(rename = "sub")]
    pub subscribe: Permission,
    /// Answering.
    #[serde(rename = "resp", skip_serializing_if = "Option::is_none")]
    pub responses: Option<ResponsePermission>,
    /// Networks it may come from; empty for any.
    #[serde(rename = "src", deserialize_with = "networks", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Times of day it may be connected; empty for any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<TimeRange>,
    /// The time zone of `times`; empty for the server's.
    #[serde(rename = "times_location", skip_serializing_if = "String::is_empty")]
    pub times_location: String,
    /// Subscriptions; -1 for any number.
    #[serde(rename = "subs")]
    pub subscriptions: i64,
    /// Bytes; nothing enforces it.
    pub data: i64,
    /// Bytes of a message; -1 for any.
    pub payload: i64,
    /// Whether no signature is needed.
    pub bearer_token: bool,
    /// Whether it must come through a trusted proxy.
    pub proxy_required: bool,
    /// How it may come in; empty for any way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_connection_types: Vec<String>,
}

impl UserPermissionLimits {
    /// The permissions alone.
    pub fn permissions(&self) -> Permissions {
        Permissions {
            publish: self.publish.clone(),
            subscribe: self.subscribe.clone(),
            responses: self.responses.clone(),
        }
    }

    pub(super) fn check(&self, issues: &mut Issues) {
        self.permissions().check(issues);
        for network in &self.sources {
            if source::Network::parse(network).is_none() {
                issues.error(format!("invalid cidr {network:?} in user src limits"));
            }
        }
        for range in &self.times {
            range.check(issues);
        }
        if !self.times_location.is_empty() && !schedule::is_zone(&self.times_location) {
            let name = &self.times_location;
            issues.error(format!("could not parse iana time zone by name: unknown time zone {name}"));
        }
    }
}

impl TimeRange {
    fn check(&self, issues: &mut Issues) {
        for (what, text) in [("start", &self.start), ("end", &self.end)] {
            if text.is_empty() {
                let article = if what == "start" { "a" } else { "an" };
                issues.error(format!("time ranges {what} must contain {article} {what}"));
            } else if schedule::parse_time_of_day(text).is_none() {
                issues.error(format!("{what} in time range is invalid {text:?}"));
            }
        }
    }
}

impl Permissions {
    pub(super) fn check(&self, issues: &mut Issues) {
        for (permission, queues) in [(&self.subscribe, true), (&self.publish, false)] {
            for subject in permission.allow.iter().chain(&permission.deny) {
                check_permission(subject, queues, issues);
            }
        }
    }
}

fn check_permission(text: &str, queues: bool, issues: &mut Issues) {
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        [subject] => check_subject(subject, issues),
        [subject, queue] => {
            check_subject(subject, issues);
            check_subject(queue, issues);
            if !queues {
                issues.error(format!("Permission Subject \"{text}\" is not allowed to contain queue"));
            }
        }
        _ => issues.error(format!("Permission Subject \"{text}\" contains too many spaces")),
    }
}

/// The rules claims have for a subject, weaker than those for subscribing.
pub(super) fn check_subject(subject: &str, issues: &mut Issues) {
    if subject.is_empty() {
        return issues.error("subject cannot be empty".to_owned());
    }
    if subject.contains(' ') {
        issues.error(format!("subject {subject:?} cannot have spaces"));
    }
    if subject.starts_with('.') || subject.ends_with('.') {
        issues.error(format!("subject {subject:?} cannot start or end with a `.`"));
    }
    if subject.contains("..") {
        issues.error(format!("subject {subject:?} cannot contain consecutive `.`"));
    }
}

/// A list, or one text with commas.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Networks {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Networks::deserialize(deserializer)? {
        Networks::List(list) => list,
        Networks::Text(text) => {
            let parts = text.split(',').map(|part| part.trim().to_lowercase());
            parts.filter(|part| !part.is_empty()).collect()
        }
    })
}
