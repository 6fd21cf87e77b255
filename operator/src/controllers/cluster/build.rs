//! Builds every Kubernetes object of a Cluster. Pure: the same Cluster gives the same bytes, in any process.
mod budget;
mod config;
mod secrets;
mod service_account;
mod services;
mod stateful_set;

pub use budget::disruption_budget;
pub use config::config_map;
pub use secrets::{Credentials, app_secret, cluster_secret, operator_secret};
pub use service_account::service_account;
pub use services::{client_service, headless_service};
pub use stateful_set::{CONFIG_ANNOTATION, stateful_set};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::validate::ValidatedCluster;

/// Metadata of an object that belongs to a Cluster.
fn metadata(cluster: &ValidatedCluster, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.names.namespace.clone()),
        labels: Some(cluster.names.labels()),
        owner_references: Some(vec![cluster.owner.clone()]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::cluster::fixtures::{cluster, credentials, rich_cluster};
    use crate::controllers::cluster::validate::validate;

    fn everything(cluster: &crate::api::v1alpha1::Cluster) -> String {
        let valid = validate(cluster, None, Some("example/weir:1"), "cluster.local").unwrap();
        let keys = credentials();
        let objects = [
            serde_yaml::to_string(&service_account(&valid)),
            serde_yaml::to_string(&config_map(&valid)),
            serde_yaml::to_string(&app_secret(&valid, &keys)),
            serde_yaml::to_string(&operator_secret(&valid, &keys)),
            serde_yaml::to_string(&cluster_secret(&valid, &keys, valid.spec.replicas)),
            serde_yaml::to_string(&headless_service(&valid)),
            serde_yaml::to_string(&client_service(&valid)),
            serde_yaml::to_string(&disruption_budget(&valid)),
            serde_yaml::to_string(&stateful_set(&valid, valid.spec.replicas, None)),
        ];
        objects.map(Result::unwrap).join("---\n")
    }

    #[test]
    fn a_plain_cluster_builds_these_objects() {
        insta::assert_snapshot!(everything(&cluster("demo", 3)));
    }

    #[test]
    fn a_cluster_with_everything_set_builds_these_objects() {
        insta::assert_snapshot!(everything(&rich_cluster()));
    }

    #[test]
    fn the_pod_template_does_not_depend_on_the_number_of_replicas() {
        let template = |replicas| {
            let valid = validate(&cluster("demo", replicas), None, Some("weir:1"), "cluster.local").unwrap();
            serde_json::to_string(&stateful_set(&valid, replicas, None).spec.unwrap().template).unwrap()
        };
        assert_eq!(template(3), template(5));
        assert_eq!(template(1), template(9));
    }
}
