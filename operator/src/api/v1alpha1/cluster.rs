//! Cluster: a group of brokers that replicate streams among themselves.
//! Types and admission rules only; see controllers/cluster for what happens with them.
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, LocalObjectReference, Toleration, TopologySpreadConstraint};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Amount, GoDuration, StatusCondition, conditions_schema};

/// Most brokers a Cluster may have.
pub const REPLICAS_MAX: i32 = 9;

/// A group of brokers that speak the NATS protocol and replicate streams among themselves.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "Cluster",
    plural = "clusters",
    shortname = "wcl",
    category = "weir",
    doc = "A group of brokers that speak the NATS protocol and replicate streams among themselves.",
    namespaced,
    status = "ClusterStatus",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.metaLeader"),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 40")
        .message("metadata.name must start with a letter, hold only lower case letters, digits and '-', and have at most 40 characters: the names of pods and services are made from it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.storage.storageClassName) == has(oldSelf.storage.storageClassName) && (!has(self.storage.storageClassName) || self.storage.storageClassName == oldSelf.storage.storageClassName)")
        .message("storage.storageClassName cannot be changed: Kubernetes cannot move a volume to another class")
        .field_path(".storage.storageClassName"),
    validation = Rule::new("!has(self.jetstream.maxFileStore) || quantity(string(self.jetstream.maxFileStore)).compareTo(quantity(string(self.storage.size))) <= 0")
        .message("jetstream.maxFileStore must not be larger than storage.size")
        .field_path(".jetstream.maxFileStore")
)]
pub struct ClusterSpec {
    /// Brokers, 1 to 9. Three or five survive the loss of one or two. Fewer than before is done one broker at a
    /// time, and only while the leaving one holds no replica of a stream.
    #[serde(default = "default_replicas")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 9").message("replicas must be 1 to 9 (delete the Cluster to stop it; its volumes are kept)"))]
    pub replicas: i32,
    /// Container image of the broker. Unset: the operator's default at creation, kept until this is set, so that
    /// an upgrade of the operator restarts no broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// When to pull the image.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
    /// The volume of each broker.
    #[serde(default)]
    pub storage: Storage,
    /// How much streams may use on each broker.
    #[serde(default)]
    pub jetstream: JetStreamLimits,
    /// CPU and memory of each broker.
    #[serde(default, skip_serializing_if = "ResourceAmounts::is_empty")]
    pub resources: ResourceAmounts,
    /// Who may connect.
    #[serde(default)]
    pub auth: Auth,
    /// Settings of the broker itself. A change restarts the brokers one after the other.
    #[serde(default)]
    pub config: BrokerConfig,
    /// The Service that clients connect to.
    #[serde(default)]
    pub service: ClientService,
    /// How many brokers a voluntary disruption (a drain) may take at once.
    #[serde(default)]
    pub disruption_budget: DisruptionBudget,
    /// Where and how the pods run.
    #[serde(default)]
    pub pod: PodSettings,
    /// Namespaces besides this one whose Streams and Consumers may use this Cluster; `*` is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub allowed_namespaces: Vec<String>,
}

fn default_replicas() -> i32 {
    3
}

/// When the kubelet pulls an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    #[default]
    IfNotPresent,
    Always,
    Never,
}

/// The volume of each broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Size of the volume. May grow where the storage class allows it, never shrink.
    #[serde(default = "default_storage_size")]
    #[x_kube(
        validation = Rule::new("quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0").message("storage.size cannot shrink: Kubernetes cannot make a volume smaller"),
        validation = Rule::new("quantity(string(self)).compareTo(quantity('16Mi')) >= 0").message("storage.size must be at least 16Mi")
    )]
    pub size: Amount,
    /// Storage class; the default class of the Kubernetes cluster when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// What becomes of a broker's volume when the Cluster shrinks. `Retain` keeps it until that broker's number is
    /// used again: a broker that left for good starts with an empty volume when it comes back.
    #[serde(default)]
    pub when_scaled: RetentionPolicy,
    /// What becomes of the volumes when the Cluster is deleted.
    #[serde(default)]
    pub when_deleted: RetentionPolicy,
}

fn default_storage_size() -> Amount {
    Amount("10Gi".into())
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            size: default_storage_size(),
            storage_class_name: None,
            when_scaled: RetentionPolicy::Retain,
            when_deleted: RetentionPolicy::Retain,
        }
    }
}

/// Whether a volume outlives its broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetentionPolicy {
    #[default]
    Retain,
    Delete,
}

/// How much streams may use on each broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JetStreamLimits {
    /// Most bytes of streams kept in memory.
    #[serde(default = "default_memory_store")]
    pub max_memory_store: Amount,
    /// Most bytes of streams kept on the volume; nine tenths of it when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_file_store: Option<Amount>,
}

fn default_memory_store() -> Amount {
    Amount("256Mi".into())
}

impl Default for JetStreamLimits {
    fn default() -> Self {
        Self { max_memory_store: default_memory_store(), max_file_store: None }
    }
}

/// CPU and memory of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAmounts {
    /// What the scheduler sets aside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Amount>,
    /// What the container may not exceed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Amount>,
}

impl ResourceAmounts {
    /// Nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.limits.is_empty()
    }
}

/// Who may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Let clients in that show no credentials, with the rights of applications. Off, a client needs the
    /// user and password in the Secret `<name>-app`.
    #[serde(default)]
    pub anonymous: bool,
}

/// Settings of the broker itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerConfig {
    /// Largest message in bytes, headers included: 1024 to 67108864 (64 MiB). The broker's default is 1048576.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1024 && self <= 67108864").message("maxPayload must be 1024 to 67108864 bytes"))]
    pub max_payload: Option<i64>,
    /// Most client connections of one broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<i64>,
    /// Most bytes waiting for one slow client before it is cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 65536").message("maxPending must be at least 65536 bytes"))]
    pub max_pending: Option<i64>,
    /// How often an idle client is asked whether it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping_interval: Option<GoDuration>,
    /// How long a write to a client may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_deadline: Option<GoDuration>,
    /// How much the brokers log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
}

/// How much a broker logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    #[default]
    Info,
    Debug,
    Trace,
}

/// The Service that clients connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientService {
    /// Kind of the Service.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Annotations of the Service, as load balancers read them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Kind of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
}

/// The PodDisruptionBudget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudget {
    /// Whether there is one. It allows one broker at a time.
    #[serde(default = "default_true")]
    pub enabled: bool,
}

fn default_true() -> bool {
    true
}

impl Default for DisruptionBudget {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Where and how the pods run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// More labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new("!self.exists(k, k.startsWith('weir.dev/') || k.startsWith('app.kubernetes.io/'))").message("labels under weir.dev/ and app.kubernetes.io/ belong to the operator"))]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// More annotations of the pods. Changing one restarts the brokers one after the other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new("!self.exists(k, k.startsWith('weir.dev/'))").message("annotations under weir.dev/ belong to the operator"))]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods bear.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Affinity of the pods; unset, they prefer nodes and zones without another broker of the same Cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How the pods spread; unset, evenly over nodes as far as possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// Priority class of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Secrets to pull the image with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
}

/// What the operator last saw of a Cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Brokers that are there, ready or not.
    #[serde(default)]
    pub replicas: i32,
    /// Brokers that are ready: they serve clients and are caught up.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Selects the pods; for `kubectl scale` and autoscalers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Image that the pods are to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Where clients in this Kubernetes cluster connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The Secret with the user and password of applications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<String>,
    /// Name of the broker that leads the group that knows all streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_leader: Option<String>,
    /// Members of that group, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// Ready, Reconciling, Stalled, ScaleDownBlocked, StorageResizing.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<StatusCondition>,
}
