//! Stream: a JetStream stream that the operator keeps as described.
//! Field names are NACK's (jetstream.nats.io), so that a spec can be moved over; the connection is `clusterRef`.
use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{ClusterRef, GoDuration, StatusCondition, conditions_schema};

/// A JetStream stream: messages of some subjects, kept within limits, on one or more brokers.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "Stream",
    plural = "streams",
    shortname = "wst",
    category = "weir",
    doc = "A JetStream stream, kept on a Cluster as described here.",
    namespaced,
    status = "StreamStatus",
    derive = "PartialEq",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Stream", type_ = "string", json_path = ".status.streamName"),
    printcolumn(name = "Subjects", type_ = "string", json_path = ".spec.subjects"),
    printcolumn(name = "Storage", type_ = "string", json_path = ".spec.storage"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
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
    validation = Rule::new("has(self.spec.name) || self.metadata.name.matches('^[^.*>]+$')")
        .message("spec.name is needed here: metadata.name holds a '.', which a stream's name cannot")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.clusterRef == oldSelf.clusterRef").message("clusterRef cannot be changed: create another Stream for the other Cluster").field_path(".clusterRef"),
    validation = Rule::new("has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)").message("name cannot be changed: a stream cannot be renamed").field_path(".name"),
    validation = Rule::new("self.storage == oldSelf.storage").message("storage cannot be changed: a stream cannot move between file and memory").field_path(".storage"),
    validation = Rule::new("self.retention == oldSelf.retention || (self.retention != 'workqueue' && oldSelf.retention != 'workqueue')").message("retention cannot be changed to or from workqueue").field_path(".retention"),
    validation = Rule::new("self.maxConsumers == oldSelf.maxConsumers").message("maxConsumers cannot be changed").field_path(".maxConsumers"),
    validation = Rule::new("has(self.mirror) == has(oldSelf.mirror)").message("mirror cannot be added or taken away later").field_path(".mirror"),
    validation = Rule::new("self.allowMsgTtl || !oldSelf.allowMsgTtl").message("allowMsgTtl cannot be switched off").field_path(".allowMsgTtl"),
    validation = Rule::new("self.denyDelete || !oldSelf.denyDelete").message("denyDelete cannot be switched off").field_path(".denyDelete"),
    validation = Rule::new("self.denyPurge || !oldSelf.denyPurge").message("denyPurge cannot be switched off").field_path(".denyPurge"),
    validation = Rule::new("self.sealed || !oldSelf.sealed").message("sealed cannot be switched off").field_path(".sealed"),
    validation = Rule::new("!(has(self.mirror) && size(self.subjects) > 0)").message("a mirror has no subjects of its own").field_path(".subjects"),
    validation = Rule::new("!self.discardPerSubject || self.discard == 'new'").message("discardPerSubject needs discard: new").field_path(".discardPerSubject"),
    validation = Rule::new("!self.discardPerSubject || self.maxMsgsPerSubject > 0").message("discardPerSubject needs maxMsgsPerSubject").field_path(".discardPerSubject")
)]
pub struct StreamSpec {
    /// The Cluster that holds the stream. Cannot be changed.
    pub cluster_ref: ClusterRef,
    /// Name of the stream in JetStream; metadata.name when unset. Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\s.*>/\\]+$"))]
    pub name: Option<String>,
    /// What the stream is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// Subjects whose messages the stream keeps; its own name when there are none and it is no mirror.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self.all(s, s.matches('^([^ \\t\\r\\n.>]+)(\\\\.[^ \\t\\r\\n.>]+)*(\\\\.>)?$') || s == '>')").message("a subject is made of words separated by single dots, with '*' for one word and a last '>' for the rest, without spaces"))]
    #[schemars(length(max = 256), inner(length(min = 1, max = 256)))]
    pub subjects: Vec<String>,
    /// When messages go: by limits, when all interested consumers acked (interest), or when one did (workqueue).
    #[serde(default)]
    pub retention: Retention,
    /// Most consumers; -1 is no limit. Cannot be changed.
    #[serde(default = "minus_one")]
    #[schemars(range(min = -1))]
    pub max_consumers: i64,
    /// Most messages; -1 is no limit.
    #[serde(default = "minus_one")]
    #[schemars(range(min = -1))]
    pub max_msgs: i64,
    /// Most bytes; -1 is no limit.
    #[serde(default = "minus_one")]
    #[schemars(range(min = -1))]
    pub max_bytes: i64,
    /// Oldest age of a message; unset or 0 is no limit.
    #[serde(default)]
    #[x_kube(validation = Rule::new("!self.matches('^([0-9]+(\\\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$') || duration(self) == duration('0s') || duration(self) >= duration('100ms')").message("maxAge must be 0 or at least 100ms"))]
    pub max_age: GoDuration,
    /// Most messages of one subject; 0 or -1 is no limit.
    #[serde(default)]
    #[schemars(range(min = -1))]
    pub max_msgs_per_subject: i64,
    /// Largest message in bytes; -1 is the broker's own limit.
    #[serde(default = "minus_one")]
    #[schemars(range(min = -1, max = 2_147_483_647))]
    pub max_msg_size: i64,
    /// What goes when a limit is reached: the old messages, or the new one is refused.
    #[serde(default)]
    pub discard: Discard,
    /// Refuse new messages also at the limit of a subject. Needs discard: new and maxMsgsPerSubject.
    #[serde(default)]
    pub discard_per_subject: bool,
    /// Where messages are kept. (NACK's default is memory; here it is file.) Cannot be changed.
    #[serde(default)]
    pub storage: StreamStorage,
    /// Brokers that keep a copy: 1, 3 or 5 make sense.
    #[serde(default = "one")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 5").message("replicas of a stream must be 1 to 5"))]
    pub replicas: i64,
    /// Do not answer publishers.
    #[serde(default)]
    pub no_ack: bool,
    /// How long message ids are remembered to drop duplicates; the broker's default is the smaller of 2m and maxAge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_window: Option<GoDuration>,
    /// On which brokers replicas go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The stream that this one copies. Cannot be added or taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<StreamSource>,
    /// Streams whose messages this one gathers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub sources: Vec<StreamSource>,
    /// Takes no more messages and lets none go. Cannot be undone.
    #[serde(default)]
    pub sealed: bool,
    /// Refuse to delete single messages. Cannot be undone.
    #[serde(default)]
    pub deny_delete: bool,
    /// Refuse to purge. Cannot be undone.
    #[serde(default)]
    pub deny_purge: bool,
    /// Let a message's header replace earlier messages.
    #[serde(default)]
    pub allow_rollup: bool,
    /// Compression on disk.
    #[serde(default)]
    pub compression: Compression,
    /// Number of the first message; only read when the stream is created.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub first_sequence: i64,
    /// Rewrites subjects of stored messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_transform: Option<SubjectTransform>,
    /// Publishes stored messages again under another subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub republish: Option<Republish>,
    /// Let any replica answer reads of single messages.
    #[serde(default)]
    pub allow_direct: bool,
    /// Let a mirror answer such reads for its origin.
    #[serde(default)]
    pub mirror_direct: bool,
    /// Let messages carry their own age limit. Cannot be undone.
    #[serde(default)]
    pub allow_msg_ttl: bool,
    /// How long the markers of messages that aged out are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_delete_marker_ttl: Option<GoDuration>,
    /// Let messages count.
    #[serde(default)]
    pub allow_msg_counter: bool,
    /// Let batches be published that are stored whole or not at all.
    #[serde(default)]
    pub allow_atomic_publish: bool,
    /// Let messages be published at a set time.
    #[serde(default)]
    pub allow_msg_schedules: bool,
    /// Limits that consumers of this stream have when they set none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_limits: Option<ConsumerLimits>,
    /// Free labels kept with the stream.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new("!self.exists(k, k.startsWith('weir.dev/') || k.startsWith('_nats.'))").message("metadata under weir.dev/ and _nats. belongs to the operator and the broker"))]
    #[schemars(extend("maxProperties" = 64))]
    pub metadata: BTreeMap<String, String>,
    /// Take over a stream of this name that exists already and that no other object manages. Without it, such a
    /// stream is left alone and this object is not Ready.
    #[serde(default)]
    pub adopt: bool,
    /// Keep the stream and its messages when this object is deleted.
    #[serde(default)]
    pub prevent_delete: bool,
    /// Create the stream if it is missing, but never change it.
    #[serde(default)]
    pub prevent_update: bool,
}

fn minus_one() -> i64 {
    -1
}

fn one() -> i64 {
    1
}

/// When messages go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Retention {
    #[default]
    Limits,
    Interest,
    Workqueue,
}

/// What goes when a limit is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Discard {
    #[default]
    Old,
    New,
}

/// Where messages are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamStorage {
    #[default]
    File,
    Memory,
}

/// Compression on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    None,
    S2,
}

/// On which brokers replicas go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Name of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Tags that the brokers must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// A stream to copy from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamSource {
    /// Its name.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// First message to copy, by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opt_start_seq: Option<i64>,
    /// First message to copy, by time (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opt_start_time: Option<String>,
    /// Only messages of this subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_subject: Option<String>,
    /// Prefix of the JetStream API of the other account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_api_prefix: Option<String>,
    /// Prefix of the subject that messages are delivered on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_deliver_prefix: Option<String>,
    /// Subjects to rewrite.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_transforms: Vec<SubjectTransform>,
}

/// Rewrites subjects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubjectTransform {
    /// Subjects that are rewritten.
    pub source: String,
    /// What they become.
    pub dest: String,
}

/// Publishes stored messages again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Republish {
    /// Subjects that are published again.
    pub source: String,
    /// Under which subject.
    pub destination: String,
    /// Only their headers.
    #[serde(default)]
    pub headers_only: bool,
}

/// Limits that consumers have when they set none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerLimits {
    /// How long a consumer without a client lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inactive_threshold: Option<GoDuration>,
    /// Most messages delivered and not acked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ack_pending: Option<i64>,
}

/// What the operator last saw of a Stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Name of the stream in JetStream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_name: Option<String>,
    /// Ready, Reconciling, Stalled.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<StatusCondition>,
}

impl Stream {
    /// Name of the stream in JetStream.
    pub fn stream_name(&self) -> String {
        self.spec.name.clone().or_else(|| self.metadata.name.clone()).unwrap_or_default()
    }
}
