//! Advisories: events that the server publishes about streams, consumers and its API, as nats-server prints them
//! (schemas `io.nats.jetstream.advisory.v1.*`). When they are sent is not decided here.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::stream::{PeerInfo, StreamState};

/// The subject of API audits.
pub const API_AUDIT: &str = "$JS.EVENT.ADVISORY.API";
/// The subject that tells of API requests that were dropped.
pub const API_LIMIT_REACHED: &str = "$JS.EVENT.ADVISORY.API.LIMIT_REACHED";
/// The subject that tells of a new meta leader.
pub const DOMAIN_LEADER_ELECTED: &str = "$JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED";
/// The subject that tells of a store that is full or broken.
pub const OUT_OF_STORAGE: &str = "$JS.EVENT.ADVISORY.SERVER.OUT_OF_STORAGE";
/// The subject that tells of a server that left for good.
pub const SERVER_REMOVED: &str = "$JS.EVENT.ADVISORY.SERVER.REMOVED";

/// What every advisory begins with, then the fields of `body`.
#[derive(Debug, Serialize)]
pub struct Advisory<'a, T> {
    #[serde(rename = "type")]
    kind: String,
    id: &'a str,
    /// RFC 3339, UTC.
    timestamp: &'a str,
    #[serde(flatten)]
    body: T,
}

impl<'a, T: Serialize> Advisory<'a, T> {
    /// `kind` is the last part of the schema's name; `timestamp` RFC 3339.
    pub fn new(kind: &str, id: &'a str, timestamp: &'a str, body: T) -> Self {
        Self { kind: format!("io.nats.jetstream.advisory.v1.{kind}"), id, timestamp, body }
    }

    /// The JSON to send.
    pub fn to_json(&self) -> Vec<u8> {
        crate::json::encode(self)
    }
}

/// `api_audit`: a request and its response.
#[derive(Debug, Serialize)]
pub struct ApiAudit<'a> {
    pub server: &'a str,
    /// Who asked, as `Nats-Request-Info` tells it; `null` for nobody known.
    pub client: Option<&'a RawValue>,
    pub subject: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub request: &'a str,
    pub response: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}

/// `stream_action`: `action` is `create`, `modify` or `delete`.
#[derive(Debug, Serialize)]
pub struct StreamAction<'a> {
    pub stream: &'a str,
    pub action: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}

/// `consumer_action`: `action` is `create` or `delete`.
#[derive(Debug, Serialize)]
pub struct ConsumerAction<'a> {
    pub stream: &'a str,
    pub consumer: &'a str,
    pub action: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}

/// `stream_leader_elected`, and with `consumer` `consumer_leader_elected`. `account` is said to the system account
/// only.
#[derive(Debug, Serialize)]
pub struct LeaderElected<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub account: &'a str,
    pub stream: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub consumer: &'a str,
    pub leader: &'a str,
    pub replicas: &'a [PeerInfo],
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}

/// `stream_quorum_lost`, and with `consumer` `consumer_quorum_lost`.
#[derive(Debug, Serialize)]
pub struct QuorumLost<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub account: &'a str,
    pub stream: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub consumer: &'a str,
    pub replicas: &'a [PeerInfo],
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}

/// `domain_leader_elected`: the meta group has a leader.
#[derive(Debug, Serialize)]
pub struct DomainLeaderElected<'a> {
    /// The leader's id.
    pub leader: &'a str,
    pub replicas: &'a [PeerInfo],
    pub cluster: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}

/// `server_out_of_space`, and without a stream `server_removed`.
#[derive(Debug, Serialize)]
pub struct ServerEvent<'a> {
    pub server: &'a str,
    pub server_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub stream: &'a str,
    pub cluster: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}

/// `snapshot_create`: a backup of a stream begins.
#[derive(Debug, Serialize)]
pub struct SnapshotCreate<'a> {
    pub stream: &'a str,
    pub state: &'a StreamState,
    /// Who asked; `null` for nobody known.
    pub client: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}

/// `snapshot_complete`: a backup of a stream is over; `error` says why it is not whole.
#[derive(Debug, Serialize)]
pub struct SnapshotComplete<'a> {
    pub stream: &'a str,
    /// RFC 3339, as `end`.
    pub start: &'a str,
    pub end: &'a str,
    pub client: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub error: &'a str,
}

/// `restore_create`: a stream is being restored.
#[derive(Debug, Serialize)]
pub struct RestoreCreate<'a> {
    pub stream: &'a str,
    pub client: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}

/// `restore_complete`: the restore of a stream is over, whether it was one or not.
#[derive(Debug, Serialize)]
pub struct RestoreComplete<'a> {
    pub stream: &'a str,
    /// RFC 3339, as `end`.
    pub start: &'a str,
    pub end: &'a str,
    /// Of all chunks.
    pub bytes: u64,
    pub client: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}

/// `api_limit_reached`: so many requests were dropped.
#[derive(Debug, Serialize)]
pub struct ApiLimitReached<'a> {
    pub server: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
    pub dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_prints_its_fields_in_the_order_of_the_schema() {
        let client = RawValue::from_string(r#"{"acc":"A","id":7}"#.to_owned()).expect("JSON");
        let audit = ApiAudit {
            server: "s",
            client: Some(&client),
            subject: "$JS.API.STREAM.LIST",
            request: "",
            response: "{\"a\":\">\"}",
            domain: "",
        };
        let json = Advisory::new("api_audit", "ID", "2026-01-02T03:04:05Z", audit).to_json();
        assert_eq!(
            String::from_utf8(json).expect("text"),
            r#"{"type":"io.nats.jetstream.advisory.v1.api_audit","id":"ID","timestamp":"2026-01-02T03:04:05Z","server":"s","client":{"acc":"A","id":7},"subject":"$JS.API.STREAM.LIST","response":"{\"a\":\"\u003e\"}"}"#
        );
    }
}
