//! Clusters for tests.
use std::collections::BTreeMap;

use crate::api::v1alpha1::{Amount, Cluster, GoDuration, LogLevel, RetentionPolicy, ServiceType};
use crate::controllers::cluster::build::Credentials;

/// A Cluster as `kubectl apply` of three lines gives it.
pub(crate) fn cluster(name: &str, replicas: i32) -> Cluster {
    let spec = serde_json::from_value(serde_json::json!({ "replicas": replicas })).unwrap();
    let mut cluster = Cluster::new(name, spec);
    cluster.metadata.namespace = Some("shop".into());
    cluster.metadata.uid = Some("11111111-2222-3333-4444-555555555555".into());
    cluster.metadata.generation = Some(1);
    cluster
}

/// A Cluster with every field set.
pub(crate) fn rich_cluster() -> Cluster {
    let mut cluster = cluster("rich", 5);
    let spec = &mut cluster.spec;
    spec.image = Some("registry.example/weir:2".into());
    spec.storage.size = Amount("20Gi".into());
    spec.storage.storage_class_name = Some("fast".into());
    spec.storage.when_deleted = RetentionPolicy::Delete;
    spec.jetstream.max_file_store = Some(Amount("10Gi".into()));
    spec.resources.requests = BTreeMap::from([("cpu".into(), Amount("500m".into()))]);
    spec.resources.limits = BTreeMap::from([("memory".into(), Amount("1Gi".into()))]);
    spec.auth.anonymous = true;
    spec.config.max_payload = Some(8_388_608);
    spec.config.ping_interval = Some(GoDuration("30s".into()));
    spec.config.log_level = Some(LogLevel::Debug);
    spec.service.type_ = ServiceType::LoadBalancer;
    spec.service.annotations = BTreeMap::from([("example.com/internal".into(), "true".into())]);
    spec.pod = serde_json::from_value(serde_json::json!({
        "labels": { "team": "orders" },
        "annotations": { "example.com/scrape": "true" },
        "nodeSelector": { "disk": "ssd" },
        "tolerations": [{ "key": "broker", "operator": "Exists" }],
        "topologySpreadConstraints": [],
        "priorityClassName": "high",
        "imagePullSecrets": [{ "name": "pull" }],
    }))
    .unwrap();
    cluster
}

/// Passwords that are none.
pub(crate) fn credentials() -> Credentials {
    Credentials {
        app_password: "APP".into(),
        operator_password: "OPERATOR".into(),
        route_password: "ROUTE".into(),
        grpc_token: "TOKEN".into(),
    }
}
