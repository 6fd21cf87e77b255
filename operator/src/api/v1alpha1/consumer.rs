//! Consumer: a durable JetStream consumer that the operator keeps as described.
//! Field names are NACK's (jetstream.nats.io); the connection is `clusterRef`.
use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{ClusterRef, GoDuration, StatusCondition, conditions_schema};

/// A durable JetStream consumer: a place in a stream, with the messages delivered and not yet acked.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "Consumer",
    plural = "consumers",
    shortname = "wco",
    category = "weir",
    doc = "A durable JetStream consumer, kept on a Cluster as described here.",
    namespaced,
    status = "ConsumerStatus",
    derive = "PartialEq",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Stream", type_ = "string", json_path = ".spec.streamName"),
    printcolumn(name = "Consumer", type_ = "string", json_path = ".status.consumerName"),
    printcolumn(name = "Deliver", type_ = "string", json_path = ".status.delivery"),
    printcolumn(name = "Ack", type_ = "string", json_path = ".spec.ackPolicy"),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("has(self.spec.durableName) || self.metadata.name.matches('^[^.*>]+$')")
        .message("spec.durableName is needed here: metadata.name holds a '.', which a consumer's name cannot")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.clusterRef == oldSelf.clusterRef").message("clusterRef cannot be changed").field_path(".clusterRef"),
    validation = Rule::new("self.streamName == oldSelf.streamName").message("streamName cannot be changed: a consumer belongs to one stream").field_path(".streamName"),
    validation = Rule::new("has(self.durableName) == has(oldSelf.durableName) && (!has(self.durableName) || self.durableName == oldSelf.durableName)").message("durableName cannot be changed: a consumer cannot be renamed").field_path(".durableName"),
    validation = Rule::new("self.deliverPolicy == oldSelf.deliverPolicy").message("deliverPolicy cannot be changed").field_path(".deliverPolicy"),
    validation = Rule::new("has(self.optStartSeq) == has(oldSelf.optStartSeq) && (!has(self.optStartSeq) || self.optStartSeq == oldSelf.optStartSeq)").message("optStartSeq cannot be changed").field_path(".optStartSeq"),
    validation = Rule::new("has(self.optStartTime) == has(oldSelf.optStartTime) && (!has(self.optStartTime) || self.optStartTime == oldSelf.optStartTime)").message("optStartTime cannot be changed").field_path(".optStartTime"),
    validation = Rule::new("self.ackPolicy == oldSelf.ackPolicy").message("ackPolicy cannot be changed").field_path(".ackPolicy"),
    validation = Rule::new("self.replayPolicy == oldSelf.replayPolicy").message("replayPolicy cannot be changed").field_path(".replayPolicy"),
    validation = Rule::new("has(self.deliverSubject) == has(oldSelf.deliverSubject)").message("a consumer cannot change between push (deliverSubject) and pull").field_path(".deliverSubject"),
    validation = Rule::new("!(has(self.filterSubject) && has(self.filterSubjects) && size(self.filterSubjects) > 0)").message("set filterSubject or filterSubjects, not both").field_path(".filterSubjects"),
    validation = Rule::new("self.deliverPolicy != 'byStartSequence' || has(self.optStartSeq)").message("deliverPolicy byStartSequence needs optStartSeq").field_path(".optStartSeq"),
    validation = Rule::new("self.deliverPolicy == 'byStartSequence' || !has(self.optStartSeq)").message("optStartSeq is for deliverPolicy byStartSequence only").field_path(".optStartSeq"),
    validation = Rule::new("self.deliverPolicy != 'byStartTime' || has(self.optStartTime)").message("deliverPolicy byStartTime needs optStartTime").field_path(".optStartTime"),
    validation = Rule::new("self.deliverPolicy == 'byStartTime' || !has(self.optStartTime)").message("optStartTime is for deliverPolicy byStartTime only").field_path(".optStartTime"),
    validation = Rule::new("!has(self.deliverGroup) || has(self.deliverSubject)").message("deliverGroup is for push consumers: set deliverSubject too").field_path(".deliverGroup"),
    validation = Rule::new("!has(self.heartbeatInterval) || has(self.deliverSubject)").message("heartbeatInterval is for push consumers: set deliverSubject too").field_path(".heartbeatInterval"),
    validation = Rule::new("!self.flowControl || has(self.deliverSubject)").message("flowControl is for push consumers: set deliverSubject too").field_path(".flowControl"),
    validation = Rule::new("!self.flowControl || has(self.heartbeatInterval)").message("flowControl needs heartbeatInterval").field_path(".flowControl"),
    validation = Rule::new("!has(self.rateLimitBps) || has(self.deliverSubject)").message("rateLimitBps is for push consumers: set deliverSubject too").field_path(".rateLimitBps"),
    validation = Rule::new("!has(self.maxWaiting) || !has(self.deliverSubject)").message("maxWaiting is for pull consumers: take deliverSubject away").field_path(".maxWaiting"),
    validation = Rule::new("!has(self.maxRequestBatch) || !has(self.deliverSubject)").message("maxRequestBatch is for pull consumers: take deliverSubject away").field_path(".maxRequestBatch"),
    validation = Rule::new("!has(self.backoff) || size(self.backoff) == 0 || (has(self.maxDeliver) && self.maxDeliver >= size(self.backoff))").message("backoff needs maxDeliver, at least as large as the number of its steps").field_path(".backoff")
)]
pub struct ConsumerSpec {
    /// The Cluster that holds the stream. Cannot be changed.
    pub cluster_ref: ClusterRef,
    /// Name of the stream in JetStream. Cannot be changed.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\s.*>/\\]+$"))]
    pub stream_name: String,
    /// Name of the consumer in JetStream; metadata.name when unset. Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\s.*>/\\]+$"))]
    pub durable_name: Option<String>,
    /// What the consumer is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// Where in the stream to begin. Cannot be changed.
    #[serde(default)]
    pub deliver_policy: DeliverPolicy,
    /// First message, for byStartSequence. Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub opt_start_seq: Option<i64>,
    /// First time (RFC 3339), for byStartTime. Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"), length(max = 40))]
    pub opt_start_time: Option<String>,
    /// Subject to send messages to: makes a push consumer. Without it, clients ask for messages (pull).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[^\s.*>]+(\.[^\s.*>]+)*$"))]
    pub deliver_subject: Option<String>,
    /// Queue group that shares the messages of a push consumer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub deliver_group: Option<String>,
    /// How clients confirm messages. (NACK's default is none; here it is explicit.) Cannot be changed.
    #[serde(default)]
    pub ack_policy: AckPolicy,
    /// How long to wait for an ack before a message is sent again; the broker's default is 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_wait: Option<GoDuration>,
    /// How often a message is sent at most; -1 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub max_deliver: Option<i64>,
    /// Waits between deliveries of one message, in place of ackWait. Needs maxDeliver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub backoff: Vec<GoDuration>,
    /// Only messages of this subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub filter_subject: Option<String>,
    /// Only messages of these subjects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 256)))]
    pub filter_subjects: Vec<String>,
    /// How fast to send what is there: at once, or at the pace it came in. Cannot be changed.
    #[serde(default)]
    pub replay_policy: ReplayPolicy,
    /// Share of messages to sample, in percent, e.g. "50%".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]{1,3}%?$"))]
    pub sample_freq: Option<String>,
    /// Most pull requests that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_waiting: Option<i64>,
    /// Most bits a second of a push consumer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub rate_limit_bps: Option<i64>,
    /// Most messages delivered and not acked; -1 is no limit, the broker's default is 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub max_ack_pending: Option<i64>,
    /// Let a push client slow the stream down.
    #[serde(default)]
    pub flow_control: bool,
    /// Send only headers.
    #[serde(default)]
    pub headers_only: bool,
    /// How often a push client hears from an idle consumer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<GoDuration>,
    /// Most messages of one pull request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_request_batch: Option<i64>,
    /// Longest wait of one pull request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_request_expires: Option<GoDuration>,
    /// Most bytes of one pull request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_request_max_bytes: Option<i64>,
    /// How long the consumer lives without a client; unset, for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inactive_threshold: Option<GoDuration>,
    /// Deliver nothing before this time (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"), length(max = 40))]
    pub pause_until: Option<String>,
    /// Copies of the consumer's state; 0 is as many as the stream has.
    #[serde(default)]
    #[schemars(range(min = 0, max = 5))]
    pub replicas: i64,
    /// Keep the consumer's state in memory.
    #[serde(default)]
    pub mem_storage: bool,
    /// Free labels kept with the consumer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new("!self.exists(k, k.startsWith('weir.dev/') || k.startsWith('_nats.'))").message("metadata under weir.dev/ and _nats. belongs to the operator and the broker"))]
    #[schemars(extend("maxProperties" = 64))]
    pub metadata: BTreeMap<String, String>,
    /// Take over a consumer of this name that exists already and that no other object manages.
    #[serde(default)]
    pub adopt: bool,
    /// Keep the consumer when this object is deleted.
    #[serde(default)]
    pub prevent_delete: bool,
    /// Create the consumer if it is missing, but never change it.
    #[serde(default)]
    pub prevent_update: bool,
}

/// Where in the stream to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DeliverPolicy {
    #[default]
    All,
    Last,
    New,
    ByStartSequence,
    ByStartTime,
    LastPerSubject,
}

/// How clients confirm messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AckPolicy {
    #[default]
    Explicit,
    All,
    None,
}

/// How fast to send what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReplayPolicy {
    #[default]
    Instant,
    Original,
}

/// What the operator last saw of a Consumer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Name of the consumer in JetStream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_name: Option<String>,
    /// `pull`, or `push`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    /// Ready, Reconciling, Stalled.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<StatusCondition>,
}

impl Consumer {
    /// Name of the consumer in JetStream.
    pub fn consumer_name(&self) -> String {
        self.spec.durable_name.clone().or_else(|| self.metadata.name.clone()).unwrap_or_default()
    }
}
