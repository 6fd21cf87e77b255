//! The StatefulSet. Its pod template depends on neither the number of replicas, nor secrets, nor the operator's
//! version: each of those would restart every broker for nothing.
use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapProjection, Container, ContainerPort, EnvVar, EnvVarSource,
    HTTPGetAction, KeyToPath, ObjectFieldSelector, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecretProjection, SecurityContext,
    TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection, VolumeResourceRequirements,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{config, metadata, secrets};
use crate::api::v1alpha1::{Amount, ImagePullPolicy};
use crate::controllers::cluster::names::{CLIENT_PORT, GRPC_PORT, MONITOR_PORT, ROUTE_PORT};
use crate::controllers::cluster::validate::ValidatedCluster;

/// Annotation of a pod with the hash of the settings it was started with.
pub const CONFIG_ANNOTATION: &str = "weir.dev/config";
/// Numeric user and group of the broker's image.
const USER: i64 = 65532;
/// A broker ends within a second of TERM; the rest is for a slow disk.
const TERMINATION_GRACE_S: i64 = 60;
/// How long a start may take, reading a large journal: 30 minutes.
const STARTUP_PROBES: i32 = 900;
const STARTUP_PERIOD_S: i32 = 2;

/// The StatefulSet with `replicas` brokers. `live` is the one that is there: its volume claim templates are kept,
/// since Kubernetes lets nobody change them (volumes grow one by one, see `storage`).
pub fn stateful_set(cluster: &ValidatedCluster, replicas: i32, live: Option<&StatefulSet>) -> StatefulSet {
    let live_claims = live.and_then(|live| live.spec.as_ref()?.volume_claim_templates.as_ref());
    let storage = live_claims.and_then(|claims| claims.first().and_then(claim_size));
    StatefulSet {
        metadata: metadata(cluster, cluster.names.cluster.clone()),
        spec: Some(StatefulSetSpec {
            replicas: Some(replicas),
            service_name: Some(cluster.names.headless()),
            pod_management_policy: Some("Parallel".into()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".into()),
                ..StatefulSetUpdateStrategy::default()
            }),
            // Volumes are the operator's own business: after a scale-down only it knows that the broker has left, and
            // the StatefulSet's way of deleting them disturbs the scheduler (see `storage::own`).
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".into()),
                when_scaled: Some("Retain".into()),
            }),
            selector: LabelSelector {
                match_labels: Some(cluster.names.selector()),
                ..LabelSelector::default()
            },
            template: pod_template(cluster),
            volume_claim_templates: Some(vec![volume_claim(cluster, storage)]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn claim_size(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage").cloned()
}

fn volume_claim(cluster: &ValidatedCluster, live_size: Option<Quantity>) -> PersistentVolumeClaim {
    let size = live_size.unwrap_or_else(|| Quantity(cluster.spec.storage.size.0.clone()));
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".into()),
            labels: Some(cluster.names.selector()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: cluster.spec.storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn pod_template(cluster: &ValidatedCluster) -> PodTemplateSpec {
    let wanted = &cluster.spec.pod;
    let mut labels = wanted.labels.clone();
    labels.extend(cluster.names.labels());
    let mut annotations = wanted.annotations.clone();
    annotations.insert(CONFIG_ANNOTATION.into(), config::restart_hash(cluster));
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(cluster.names.cluster.clone()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(TERMINATION_GRACE_S),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                fs_group_change_policy: Some("OnRootMismatch".into()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".into(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            node_selector: some_unless_empty(wanted.node_selector.clone()),
            tolerations: Some(wanted.tolerations.clone()).filter(|list| !list.is_empty()),
            affinity: Some(wanted.affinity.clone().unwrap_or_else(|| apart(cluster))),
            topology_spread_constraints: Some(
                wanted.topology_spread_constraints.clone().unwrap_or_else(|| spread(cluster)),
            )
            .filter(|list| !list.is_empty()),
            priority_class_name: wanted.priority_class_name.clone(),
            image_pull_secrets: Some(wanted.image_pull_secrets.clone()).filter(|list| !list.is_empty()),
            containers: vec![container(cluster)],
            volumes: Some(vec![config_volume(cluster)]),
            ..PodSpec::default()
        }),
    }
}

fn some_unless_empty(map: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    Some(map).filter(|map| !map.is_empty())
}

/// Prefer nodes, and zones, without another broker. Not required: brokers bound to their volumes must start again
/// wherever those are.
fn apart(cluster: &ValidatedCluster) -> Affinity {
    let from = |weight, key: &str| WeightedPodAffinityTerm {
        weight,
        pod_affinity_term: PodAffinityTerm {
            topology_key: key.into(),
            label_selector: Some(LabelSelector {
                match_labels: Some(cluster.names.selector()),
                ..LabelSelector::default()
            }),
            ..PodAffinityTerm::default()
        },
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                from(100, "kubernetes.io/hostname"),
                from(50, "topology.kubernetes.io/zone"),
            ]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// Evenly over nodes. Zones are left to the affinity: the scheduler passes over a node that lacks the label of any
/// constraint, and so over all constraints where nodes have no zone.
fn spread(cluster: &ValidatedCluster) -> Vec<TopologySpreadConstraint> {
    vec![TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(LabelSelector {
            match_labels: Some(cluster.names.selector()),
            ..LabelSelector::default()
        }),
        ..TopologySpreadConstraint::default()
    }]
}

fn container(cluster: &ValidatedCluster) -> Container {
    let pull_policy = match cluster.spec.image_pull_policy {
        ImagePullPolicy::IfNotPresent => "IfNotPresent",
        ImagePullPolicy::Always => "Always",
        ImagePullPolicy::Never => "Never",
    };
    let port = |name: &str, number| ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    Container {
        name: "weir".into(),
        image: Some(cluster.image.clone()),
        image_pull_policy: Some(pull_policy.into()),
        args: Some(vec!["-c".into(), "/etc/weir/weir.conf".into()]),
        env: Some(environment(cluster)),
        ports: Some(vec![
            port("client", CLIENT_PORT),
            port("cluster", ROUTE_PORT),
            port("monitor", MONITOR_PORT),
            port("grpc", GRPC_PORT),
        ]),
        // Starting looks at this server alone; being ready means to be caught up; a server that is only behind is
        // never killed for it.
        startup_probe: Some(probe("/healthz?js-server-only=true", STARTUP_PERIOD_S, STARTUP_PROBES)),
        readiness_probe: Some(probe("/healthz?weir-caught-up=true", 2, 2)),
        liveness_probe: Some(probe("/healthz?js-server-only=true", 10, 6)),
        resources: resources(cluster),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![mount("config", "/etc/weir", true), mount("data", "/data", false)]),
        ..Container::default()
    }
}

fn environment(cluster: &ValidatedCluster) -> Vec<EnvVar> {
    vec![
        EnvVar {
            name: "POD_NAME".into(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    api_version: Some("v1".into()),
                    field_path: "metadata.name".into(),
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        },
        EnvVar {
            name: "WEIR_GRPC_ADVERTISE".into(),
            value: Some(format!("$(POD_NAME).{}:{GRPC_PORT}", cluster.names.headless_address())),
            ..EnvVar::default()
        },
    ]
}

fn probe(path: &str, period_s: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("monitor".into()),
            scheme: Some("HTTP".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_s),
        timeout_seconds: Some(5.min(period_s.max(2))),
        failure_threshold: Some(failures),
        success_threshold: Some(1),
        ..Probe::default()
    }
}

fn resources(cluster: &ValidatedCluster) -> Option<ResourceRequirements> {
    let wanted = &cluster.spec.resources;
    let amounts = |amounts: &BTreeMap<String, Amount>| {
        let map: BTreeMap<String, Quantity> =
            amounts.iter().map(|(name, amount)| (name.clone(), Quantity(amount.0.clone()))).collect();
        Some(map).filter(|map| !map.is_empty())
    };
    (!wanted.is_empty()).then(|| ResourceRequirements {
        requests: amounts(&wanted.requests),
        limits: amounts(&wanted.limits),
        ..ResourceRequirements::default()
    })
}

/// Both configuration files side by side, so that one can include the other.
fn config_volume(cluster: &ValidatedCluster) -> Volume {
    let item = |file: &str| Some(vec![KeyToPath { key: file.into(), path: file.into(), mode: None }]);
    Volume {
        name: "config".into(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o440),
            sources: Some(vec![
                VolumeProjection {
                    config_map: Some(ConfigMapProjection {
                        name: cluster.names.cluster.clone(),
                        items: item(config::FILE),
                        ..ConfigMapProjection::default()
                    }),
                    ..VolumeProjection::default()
                },
                VolumeProjection {
                    secret: Some(SecretProjection {
                        name: cluster.names.cluster_secret(),
                        items: item(secrets::FILE),
                        ..SecretProjection::default()
                    }),
                    ..VolumeProjection::default()
                },
            ]),
        }),
        ..Volume::default()
    }
}
